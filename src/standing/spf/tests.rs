//! SPF on a zone.

use std::time::Duration;

use super::*;
use crate::dns::zone::ZoneResolver;
use crate::standing::look;

const ZONE: &str = "
plain.example    TXT \"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all\"
case.example     TXT \"V=SPF1 IP4:192.0.2.1 -ALL\"
soft.example     TXT \"v=spf1 ~all\"
neutral.example  TXT \"v=spf1 ?all\"
silent.example   TXT \"v=spf1 a:other.example\"
other.example    A 198.51.100.1
a.example        TXT \"v=spf1 a -all\"
a.example        A 192.0.2.1
acidr.example    TXT \"v=spf1 a:other.example/8//64 a:near.example/24 -all\"
near.example     A 192.0.2.200
mx.example       TXT \"v=spf1 mx -all\"
mx.example       MX 10 h1.example
mx.example       MX 20 h2.example
h1.example       A 198.51.100.7
h2.example       A 192.0.2.1
h2.example       AAAA 2001:db8::1
inc.example      TXT \"v=spf1 include:plain.example ~all\"
incfail.example  TXT \"v=spf1 include:deny.example ip4:192.0.2.1 -all\"
deny.example     TXT \"v=spf1 -all\"
incnone.example  TXT \"v=spf1 include:nothing.example -all\"
redir.example    TXT \"v=spf1 redirect=plain.example\"
redirall.example TXT \"v=spf1 ?all redirect=plain.example\"
redirnone.example TXT \"v=spf1 redirect=nothing.example\"
loop.example     TXT \"v=spf1 include:loop.example -all\"
redirloop.example TXT \"v=spf1 redirect=redirloop.example\"
two.example      TXT \"v=spf1 -all\"
two.example      TXT \"v=spf1 +all\"
others.example   TXT \"google-site-verification=x\"
others.example   TXT \"v=spf10 -all\"
others.example   TXT \"v=spf1 +all\"
bad.example      TXT \"v=spf1 +all ipv4:192.0.2.1\"
badnet.example   TXT \"v=spf1 ip4:192.0.2.1/33 -all\"
badlen.example   TXT \"v=spf1 a/+4 -all\"
tworedir.example TXT \"v=spf1 redirect=a.example redirect=b.example\"
mod.example      TXT \"v=spf1 x-new=%{i} exp=why.example ip4:192.0.2.1 -all\"
exists.example   TXT \"v=spf1 exists:%{i}.x.example -all\"
ptr.example      TXT \"v=spf1 ptr a:h2.example -all\"
ptrfail.example  TXT \"v=spf1 -ptr a:h2.example -all\"
macro.example    TXT \"v=spf1 include:%{d}.x.example -all\"
inmacro.example  TXT \"v=spf1 include:exists.example ip4:192.0.2.1 -all\"
dead.example     TXT SERVFAIL
incdead.example  TXT \"v=spf1 include:dead.example -all\"
void.example     TXT \"v=spf1 a:no1.example a:no2.example a:no3.example +all\"
ten.example      TXT \"v=spf1 a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example +all\"
eleven.example   TXT \"v=spf1 a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example a:other.example +all\"
";

/// The verdict's name.
fn word(spf: &Spf) -> String {
    spf.to_string().split([',', ':', ' ']).next().unwrap_or_default().to_owned()
}

// RFC 7208 §4 to §6, as far as an address and a domain go.
#[tokio::test]
async fn records_are_judged_as_a_receiver_would() {
    for (domain, ip, want) in [
        ("nothing", "192.0.2.1", "none"),
        ("plain", "192.0.2.1", "pass"),
        ("plain", "::ffff:192.0.2.1", "pass"),
        ("plain", "192.0.3.1", "fail"),
        ("plain", "2001:db8::1", "pass"),
        ("plain", "2001:db9::1", "fail"),
        ("case", "192.0.2.1", "pass"),
        ("soft", "192.0.2.1", "softfail"),
        ("neutral", "192.0.2.1", "neutral"),
        ("silent", "192.0.2.1", "neutral"),
        ("a", "192.0.2.1", "pass"),
        ("a", "192.0.2.2", "fail"),
        ("a", "2001:db8::1", "fail"),
        ("acidr", "198.0.2.1", "pass"),
        ("acidr", "192.0.2.1", "pass"),
        ("acidr", "192.0.3.1", "fail"),
        ("mx", "192.0.2.1", "pass"),
        ("mx", "2001:db8::1", "pass"),
        ("mx", "192.0.2.9", "fail"),
        ("inc", "192.0.2.1", "pass"),
        ("inc", "192.0.3.1", "softfail"),
        ("incfail", "192.0.2.1", "pass"),
        ("incnone", "192.0.2.1", "permerror"),
        ("redir", "192.0.2.1", "pass"),
        ("redir", "192.0.3.1", "fail"),
        ("redirall", "192.0.2.1", "neutral"),
        ("redirnone", "192.0.2.1", "permerror"),
        ("loop", "192.0.2.1", "permerror"),
        ("redirloop", "192.0.2.1", "permerror"),
        ("two", "192.0.2.1", "permerror"),
        ("others", "192.0.2.1", "pass"),
        ("bad", "192.0.2.1", "permerror"),
        ("badnet", "192.0.2.1", "permerror"),
        ("badlen", "192.0.2.1", "permerror"),
        ("tworedir", "192.0.2.1", "permerror"),
        ("mod", "192.0.2.1", "pass"),
        ("exists", "192.0.2.1", "it"),
        ("ptr", "192.0.2.1", "pass"),
        ("ptr", "192.0.2.9", "it"),
        ("ptrfail", "192.0.2.1", "it"),
        ("macro", "192.0.2.1", "it"),
        ("inmacro", "192.0.2.1", "pass"),
        ("inmacro", "192.0.2.2", "it"),
        ("dead", "192.0.2.1", "temperror"),
        ("incdead", "192.0.2.1", "temperror"),
        ("void", "192.0.2.1", "permerror"),
        ("ten", "192.0.2.1", "pass"),
        ("eleven", "192.0.2.1", "permerror"),
    ] {
        let zone = ZoneResolver::new(ZONE).unwrap();
        let name = Domain::parse_host(&format!("{domain}.example")).unwrap();
        let asked = look::spf(&zone, &name, ip.parse().unwrap());
        let spf = tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
        assert_eq!(word(&spf), want, "{domain} {ip}: {spf}");
    }
}

#[test]
fn many_mx_hosts_are_an_error_and_not_work_without_end() {
    let d = Domain::parse_host("d.example").unwrap();
    let hosts = (0..11).map(|n| Domain::parse_host(&format!("h{n}.example")).unwrap()).collect();
    let facts = Facts::from([
        (Question::Txt(d.clone()), Fact::Texts(vec![b"v=spf1 mx +all".to_vec()])),
        (Question::Mx(d.clone()), Fact::Hosts(hosts)),
    ]);
    let verdict = evaluate(&d, "192.0.2.1".parse().unwrap(), &facts).unwrap();
    assert!(matches!(verdict, Spf::PermError(_)), "{verdict}");
}

proptest::proptest! {
    // Nothing that stands in a record makes the evaluation panic or ask for ever.
    #[test]
    fn any_text_is_judged(text in "v=spf1 ([+~?-]?(a|mx|all|ptr|ip4|ip6|include|exists|redirect=|x)[:/%.0-9a-z]{0,12} ){0,14}") {
        let d = Domain::parse_host("d.example").unwrap();
        let mut facts = Facts::from([(Question::Txt(d.clone()), Fact::Texts(vec![text.into_bytes()]))]);
        let mut asked = 0;
        while let Err(question) = evaluate(&d, "192.0.2.1".parse().unwrap(), &facts) {
            let fact = match &question {
                Question::Txt(_) => Fact::Texts(Vec::new()),
                Question::Mx(_) => Fact::Hosts(Vec::new()),
                Question::Addresses(..) => Fact::Addresses(Vec::new()),
            };
            proptest::prop_assert!(facts.insert(question, fact).is_none());
            asked += 1;
            proptest::prop_assert!(asked <= MOST_LOOKUPS);
        }
    }
}
