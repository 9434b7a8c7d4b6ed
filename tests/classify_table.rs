//! What each reply, fault and answer means for a recipient: the outcome table of the SMTP requirements, row by row.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use sealpost::dane::TlsaAnswer;
use sealpost::delivery::classify::{
    Context, Decision, HostFailure, Next, after_last_host, host, recipient, route,
};
use sealpost::delivery::transcript::{Fault, Transcript};
use sealpost::dns::{DnsError, DnsErrorKind};
use sealpost::mail::{Domain, Reply};
use sealpost::queue::outcome::{DeferReason, FailReason, Stage};
use sealpost::route::{NoAddress, RouteFailure};
use sealpost::security::decide::{Asked, Demand, MessageKind, TlsPolicy};
use sealpost::security::pkix::PkixFault;
use sealpost::security::verdict::{HandshakeFault, TlsFailure};
use sealpost::tlsrpt::ResultType;

fn reply(text: &str) -> Reply {
    let (code, words) = text.split_once(' ').unwrap();
    Reply::from_lines(code.parse().unwrap(), &[words.as_bytes()])
}

/// A transaction of two recipients as it was said; empty: no reply. The second recipient is the one judged.
/// A session in which nothing is special.
fn context(host: &Domain) -> Context<'_> {
    Context { host, clear: None, ipv4_left: false, in_the_clear_if_need_be: false }
}

fn transcript(mail: &str, first: &str, second: &str, data: &str, dot: &str) -> Transcript {
    let said = |text: &str| (!text.is_empty()).then(|| reply(text));
    let dot = said(dot);
    Transcript {
        mail: said(mail),
        rcpt: vec![said(first), said(second)],
        data: said(data),
        terminator_sent: dot.is_some(),
        dot,
        fault: None,
    }
}

// OUT-22, OUT-40, OUT-41, OUT-43, OUT-46, OUT-47
#[test]
fn every_reply_of_a_transaction() {
    use Decision::{Deferred, Delivered, Failed};
    use DeferReason::{Protocol, TlsMissing};
    let host = Domain::parse("mx.example.net").unwrap();
    let (later, no) = (Deferred(DeferReason::Reply), Failed(FailReason::Rejected));
    let ok = "250 2.0.0 ok";
    let go = "354 go";
    for (row, t, next, decision, enhanced) in [
        ("dot 2xx", transcript(ok, ok, ok, go, "250 2.6.0 queued"), Next::Settled, Delivered, "2.6.0"),
        ("MAIL 4xx", transcript("451 try later", "", "", "", ""), Next::NextHost, later, "4.0.0"),
        ("MAIL 452", transcript("452 full", "", "", "", ""), Next::NextHost, later, "4.3.1"),
        ("MAIL 5xx", transcript("550 no", "", "", "", ""), Next::Settled, no, "5.0.0"),
        (
            "MAIL 552",
            transcript("552 too big", "", "", "", ""),
            Next::Settled,
            Failed(FailReason::TooLarge),
            "5.3.4",
        ),
        (
            "MAIL 530 in the clear",
            transcript("530 5.7.0 TLS first", "", "", "", ""),
            Next::NextHost,
            Deferred(TlsMissing),
            "4.7.4",
        ),
        (
            "RCPT 530 in the clear",
            transcript(ok, ok, "530 5.7.0 TLS first", go, ok),
            Next::NextHost,
            Deferred(TlsMissing),
            "4.7.4",
        ),
        (
            "MAIL 550 5.7.10 in the clear",
            transcript("550 5.7.10 encryption needed", "", "", "", ""),
            Next::NextHost,
            Deferred(TlsMissing),
            "4.7.4",
        ),
        ("RCPT 251", transcript(ok, ok, "251 forwards", go, ok), Next::Settled, Delivered, "2.0.0"),
        ("RCPT 4xx", transcript(ok, ok, "450 4.2.1 later", go, ok), Next::NextHost, later, "4.2.1"),
        ("RCPT 452 later", transcript(ok, ok, "452 many", go, ok), Next::SameConnection, later, "4.5.3"),
        ("RCPT 552 later", transcript(ok, ok, "552 many", go, ok), Next::SameConnection, later, "4.5.3"),
        ("RCPT 552 5.2.2", transcript(ok, ok, "552 5.2.2 full", go, ok), Next::Settled, no, "5.2.2"),
        ("RCPT 552 5.3.4", transcript(ok, ok, "552 5.3.4 big", go, ok), Next::Settled, no, "5.3.4"),
        (
            "RCPT 452 first",
            transcript(ok, "550 no", "452 many", "503 no", ""),
            Next::NextHost,
            later,
            "4.0.0",
        ),
        ("RCPT 552 first", transcript(ok, "550 no", "552 many", "503 no", ""), Next::Settled, no, "5.0.0"),
        ("RCPT 5xx", transcript(ok, ok, "550 5.1.1 nobody", go, ok), Next::Settled, no, "5.1.1"),
        // OUT-47: the basic code decides, never an enhanced code that contradicts it.
        ("RCPT 450 5.1.1", transcript(ok, ok, "450 5.1.1 odd", go, ok), Next::NextHost, later, "4.0.0"),
        ("RCPT 550 4.2.0", transcript(ok, ok, "550 4.2.0 odd", go, ok), Next::Settled, no, "5.0.0"),
        ("DATA 4xx", transcript(ok, ok, ok, "451 4.3.0 later", ""), Next::NextHost, later, "4.3.0"),
        ("DATA 5xx", transcript(ok, ok, ok, "554 no", ""), Next::Settled, no, "5.0.0"),
        ("DATA 2xx", transcript(ok, ok, ok, "250 what", ""), Next::NextHost, Deferred(Protocol), "4.5.0"),
        ("dot 4xx", transcript(ok, ok, ok, go, "451 4.7.1 grey"), Next::NextHost, later, "4.7.1"),
        ("dot 421", transcript(ok, ok, ok, go, "421 4.3.2 down"), Next::NextHost, later, "4.3.2"),
        ("dot 5xx", transcript(ok, ok, ok, go, "554 5.7.1 spam"), Next::Settled, no, "5.7.1"),
    ] {
        let context = Context { clear: Some(ResultType::StarttlsNotSupported), ..context(&host) };
        let (got, ruling) = recipient(&t, 1, context);
        assert_eq!((got, ruling.decision), (next, decision), "{row}: {}", ruling.text);
        assert_eq!(ruling.enhanced.to_string(), enhanced, "{row}");
        assert!(!ruling.maybe_delivered, "{row}");
    }
}

// OUT-20, OUT-23, OUT-44, OUT-45
#[test]
fn every_fault_of_a_transaction() {
    use DeferReason::{Damaged, Local, Lost, Protocol, Uncertain};
    let host = Domain::parse("mx.example.net").unwrap();
    let closing = || Fault::Closing(reply("421 4.3.2 bye"));
    for (row, stage, fault, past_dot, next, reason, enhanced) in [
        ("lost at MAIL", Stage::Mail, Fault::Lost, false, Next::NextHost, Lost, "4.4.2"),
        ("timeout at RCPT", Stage::Rcpt, Fault::Timeout, false, Next::NextHost, Lost, "4.4.2"),
        ("421 at RCPT", Stage::Rcpt, closing(), false, Next::NextHost, DeferReason::Reply, "4.3.2"),
        ("lost in content", Stage::Data, Fault::Lost, false, Next::NextHost, Lost, "4.4.2"),
        ("lost after the dot", Stage::Dot, Fault::Lost, true, Next::Settled, Uncertain, "4.4.2"),
        ("timeout after the dot", Stage::Dot, Fault::Timeout, true, Next::Settled, Uncertain, "4.4.2"),
        ("not SMTP", Stage::Rcpt, Fault::Protocol("x"), false, Next::NextHost, Protocol, "4.5.0"),
        ("not SMTP after the dot", Stage::Dot, Fault::Protocol("x"), true, Next::Settled, Uncertain, "4.5.0"),
        ("ours", Stage::Data, Fault::Local("x".into()), false, Next::Settled, Local, "4.3.0"),
        ("damaged", Stage::Data, Fault::Damaged("x".into()), false, Next::Settled, Damaged, "4.3.0"),
    ] {
        let mut t = transcript("", "", "", "", "");
        if matches!(stage, Stage::Data | Stage::Dot) {
            t = transcript("250 ok", "250 ok", "250 ok", "354 go", "");
        }
        (t.fault, t.terminator_sent) = (Some((stage, fault)), past_dot);
        let (got, ruling) = recipient(&t, 1, context(&host));
        assert_eq!((got, ruling.decision), (next, Decision::Deferred(reason)), "{row}");
        assert_eq!(
            (ruling.enhanced.to_string().as_str(), ruling.maybe_delivered),
            (enhanced, past_dot),
            "{row}"
        );
    }
    // A 5xx that came before the connection broke stands; a 2xx is void.
    let mut t = transcript("250 ok", "550 5.1.1 nobody", "250 ok", "", "");
    t.fault = Some((Stage::Data, Fault::Lost));
    let context = context(&host);
    assert_eq!(recipient(&t, 0, context).1.decision, Decision::Failed(FailReason::Rejected));
    assert_eq!(recipient(&t, 1, context).1.decision, Decision::Deferred(Lost));
}

fn dns_error(kind: DnsErrorKind) -> DnsError {
    DnsError { kind, name: Domain::parse("example.net").unwrap(), record: "MX", server: None }
}

/// What is demanded of `mx.example.net`: nothing, or what an enforce policy demands.
fn demanded(enforce: bool) -> TlsPolicy {
    TlsPolicy {
        next_hop: Domain::parse("example.net").unwrap(),
        host: Domain::parse("mx.example.net").unwrap(),
        demand: if enforce { Demand::VERIFIED } else { Demand::NOTHING },
        reasons: Vec::new(),
        operator: Demand::NOTHING,
        floor: Demand::NOTHING,
        sts: None,
        fetch_failure: None,
        name_assured: false,
        dane_stands: false,
        asked: Asked::All,
        recorded: true,
        tlsa: TlsaAnswer::None,
        references: Vec::new(),
        message: MessageKind::Normal,
        waiver: None,
    }
}

/// How a host's failure counts alone, and what it comes to when it is the only host.
type Judged = (DeferReason, &'static str, Option<(FailReason, &'static str)>);

// OUT-03, OUT-08, OUT-11, OUT-20…26, OUT-29, STS-76
#[test]
fn every_failure_of_a_host() {
    use DeferReason::{
        Connect, Dns, Forbidden, Local, Loop, Lost, PolicyMx, Protocol, TlsCertificate, TlsHandshake,
        TlsMissing,
    };
    use FailReason::{AllHostsRefused, Smtputf8, TooLarge};
    let said = DeferReason::Reply;
    let at = "192.0.2.1:25".parse().unwrap();
    let connect = |words: &str, local| HostFailure::Connect { at, words: words.to_owned(), local };
    let nobody = || HostFailure::Nobody { at, words: "refused".to_owned() };
    let handshake = TlsFailure::Handshake(HandshakeFault { token: "tls-alert-40".into(), words: "x".into() });
    let (later, gone, no, closing) =
        (reply("450 not now"), reply("521 no mail"), reply("554 go away"), reply("421 4.3.2 bye"));
    let (private, servfail) = (
        NoAddress::Denied { address: "10.0.0.1".parse().unwrap(), loopback: false },
        NoAddress::Failed(dns_error(DnsErrorKind::Servfail)),
    );
    let refused = TlsFailure::Refused(reply("454 4.7.0 no"));
    let certificate = TlsFailure::Certificate(vec![PkixFault::Expired]);
    let (lost, timeout, no_smtp, bye) =
        (Fault::Lost, Fault::Timeout, Fault::Protocol("x"), Fault::Closing(reply("421 4.3.2 bye")));
    let rows: Vec<(&str, HostFailure<'_>, bool, Judged)> = vec![
        ("no address", HostFailure::NoAddress(&NoAddress::None), false, (Dns, "4.4.4", None)),
        ("address lookup failed", HostFailure::NoAddress(&servfail), false, (Dns, "4.4.3", None)),
        ("forbidden address", HostFailure::NoAddress(&private), false, (Forbidden, "4.4.4", None)),
        ("refused connection", connect("refused", false), false, (Connect, "4.4.1", None)),
        ("no descriptor", connect("EMFILE", true), false, (Local, "4.3.0", None)),
        ("greeting lost", HostFailure::Fault(Stage::Greeting, &lost), false, (Lost, "4.4.2", None)),
        ("greeting timeout", HostFailure::Fault(Stage::Greeting, &timeout), false, (Lost, "4.4.2", None)),
        ("no SMTP", HostFailure::Fault(Stage::Greeting, &no_smtp), false, (Protocol, "4.5.0", None)),
        ("421 at EHLO", HostFailure::Fault(Stage::Ehlo, &bye), false, (said, "4.3.2", None)),
        ("greeting 4xx", HostFailure::Refused(Stage::Greeting, &later), false, (said, "4.3.2", None)),
        ("greeting 421", HostFailure::Refused(Stage::Greeting, &closing), false, (said, "4.3.2", None)),
        (
            "greeting 521",
            HostFailure::Refused(Stage::Greeting, &gone),
            false,
            (said, "4.3.2", Some((AllHostsRefused, "5.3.2"))),
        ),
        (
            "greeting 554",
            HostFailure::Refused(Stage::Greeting, &no),
            false,
            (said, "4.7.1", Some((AllHostsRefused, "5.7.1"))),
        ),
        (
            "HELO 5xx",
            HostFailure::Refused(Stage::Ehlo, &no),
            false,
            (said, "4.0.0", Some((AllHostsRefused, "5.0.0"))),
        ),
        // Anybody may have said it, before TLS proved who speaks.
        ("greeting 554, TLS owed", HostFailure::Refused(Stage::Greeting, &no), true, (said, "4.7.1", None)),
        ("our own greeting", HostFailure::Ourselves, false, (Loop, "4.4.6", None)),
        ("nobody at our own name", nobody(), false, (Loop, "4.4.6", Some((FailReason::Loop, "5.4.6")))),
        ("nobody at our own name, TLS owed", nobody(), true, (Loop, "4.4.6", None)),
        ("not in the policy", HostFailure::Tls(&TlsFailure::NotListed), true, (PolicyMx, "4.7.0", None)),
        ("no STARTTLS", HostFailure::Tls(&TlsFailure::NotOffered), true, (TlsMissing, "4.7.4", None)),
        ("STARTTLS refused", HostFailure::Tls(&refused), true, (TlsMissing, "4.7.4", None)),
        ("handshake", HostFailure::Tls(&handshake), true, (TlsHandshake, "4.7.5", None)),
        ("certificate", HostFailure::Tls(&certificate), true, (TlsCertificate, "4.7.5", None)),
        (
            "SIZE",
            HostFailure::TooLarge { size: 2, max: 1 },
            false,
            (said, "4.3.4", Some((TooLarge, "5.3.4"))),
        ),
        (
            "SMTPUTF8 for an address",
            HostFailure::Smtputf8 { address: true },
            false,
            (said, "4.6.7", Some((Smtputf8, "5.6.7"))),
        ),
        (
            "SMTPUTF8 for the header",
            HostFailure::Smtputf8 { address: false },
            false,
            (said, "4.6.9", Some((Smtputf8, "5.6.9"))),
        ),
    ];
    for (row, failure, enforce, (reason, enhanced, permanent)) in rows {
        let policy = demanded(enforce);
        let ruling = host(&failure, &policy.host, &policy);
        let (t, p) = (&ruling.transient, ruling.permanent.as_ref());
        assert_eq!((t.decision, &*t.enhanced.to_string()), (Decision::Deferred(reason), enhanced), "{row}");
        let p = p.map(|p| (p.decision, p.enhanced.to_string()));
        assert_eq!(p, permanent.map(|(r, e)| (Decision::Failed(r), e.to_owned())), "{row}");
        assert_eq!(t.tls_failure.is_some(), matches!(failure, HostFailure::Tls(_)), "{row}");
        assert!(!t.maybe_delivered && t.text.contains("example.net"), "{row}: {}", t.text);
    }
}

// OUT-22, R10
#[test]
fn hosts_that_disagree_come_to_the_most_telling_deferral() {
    let policy = demanded(false);
    let at = "192.0.2.1:25".parse().unwrap();
    let no = reply("554 go away");
    let later = reply("450 4.2.1 not now");
    let certificate = TlsFailure::Certificate(vec![PkixFault::Expired]);
    let judged = |failure: &str| {
        let failure = match failure {
            "5xx" => HostFailure::Refused(Stage::Greeting, &no),
            "4xx" => HostFailure::Refused(Stage::Greeting, &later),
            "connect" => HostFailure::Connect { at, words: "refused".into(), local: false },
            "size" => HostFailure::TooLarge { size: 2, max: 1 },
            "unlisted" => HostFailure::Tls(&TlsFailure::NotListed),
            "no tls" => HostFailure::Tls(&TlsFailure::NotOffered),
            _ => HostFailure::Tls(&certificate),
        };
        host(&failure, &policy.host, &policy)
    };
    for (hosts, want) in [
        (&["5xx"][..], (0, "5.7.1")),
        (&["5xx", "5xx"], (0, "5.7.1")),
        (&["size", "5xx"], (0, "5.3.4")),
        (&["5xx", "connect"], (1, "4.4.1")),
        (&["connect", "5xx"], (0, "4.4.1")),
        (&["connect", "4xx"], (1, "4.2.1")),
        (&["4xx", "unlisted"], (1, "4.7.0")),
        (&["unlisted", "no tls"], (1, "4.7.4")),
        (&["no tls", "certificate", "unlisted"], (1, "4.7.5")),
        (&["certificate", "5xx"], (0, "4.7.5")),
        (&["connect", "connect"], (0, "4.4.1")),
    ] {
        let rulings: Vec<_> = hosts.iter().map(|h| judged(h)).collect();
        let (place, ruling) = after_last_host(&rulings).unwrap();
        assert_eq!((place, &*ruling.enhanced.to_string()), want, "{hosts:?}");
    }
    assert!(after_last_host(&[]).is_none());
}

// OUT-03…11, NMX-01…07, STS-76
#[test]
fn every_answer_of_the_dns_that_ends_a_route() {
    use DeferReason::{Dns, Forbidden, Loop, PolicyContradiction};
    use FailReason::{NoAddress, NoSuchDomain, NullMx};
    let next_hop = Domain::parse("example.net").unwrap();
    let host = Domain::parse("mx.example.net").unwrap();
    let address = "127.0.0.1".parse().unwrap();
    let failed = |reason, enhanced: &'static str| (Decision::Failed(reason), enhanced);
    let deferred = |reason, enhanced: &'static str| (Decision::Deferred(reason), enhanced);
    let contradicted = deferred(PolicyContradiction, "4.4.4");
    let (missing, null) =
        (|secure| RouteFailure::NoSuchDomain { secure }, |secure| RouteFailure::NullMx { secure });
    let looped = || RouteFailure::Loop { host: host.clone() };
    let loopback = || RouteFailure::LoopbackOnly { host: host.clone(), address };
    let nowhere = || RouteFailure::NoHostHasAddress { host: host.clone() };
    // Failure; an enforce policy holds; the contradiction has lasted.
    for (row, failure, enforce, persisted, (decision, enhanced)) in [
        (
            "SERVFAIL",
            RouteFailure::Dns(dns_error(DnsErrorKind::Servfail)),
            false,
            false,
            deferred(Dns, "4.4.3"),
        ),
        ("timeout", RouteFailure::Dns(dns_error(DnsErrorKind::Timeout)), true, false, deferred(Dns, "4.4.3")),
        (
            "a host's lookup failed",
            RouteFailure::HostLookupFailed(dns_error(DnsErrorKind::Refused)),
            false,
            false,
            deferred(Dns, "4.4.3"),
        ),
        ("NXDOMAIN", missing(false), false, false, failed(NoSuchDomain, "5.1.2")),
        ("NXDOMAIN, enforce", missing(false), true, false, deferred(PolicyContradiction, "4.7.0")),
        ("NXDOMAIN, enforce, lasting", missing(false), true, true, failed(NoSuchDomain, "5.1.2")),
        ("NXDOMAIN, enforce, signed", missing(true), true, false, failed(NoSuchDomain, "5.1.2")),
        ("null MX", null(false), false, false, failed(NullMx, "5.1.10")),
        ("null MX, enforce", null(false), true, false, deferred(PolicyContradiction, "4.7.0")),
        ("null MX, enforce, lasting", null(false), true, true, failed(NullMx, "5.1.10")),
        ("null MX, enforce, signed", null(true), true, false, failed(NullMx, "5.1.10")),
        ("no MX, no address", RouteFailure::NoMxNoAddress, false, false, failed(NoAddress, "5.1.2")),
        ("no MX, no address, enforce", RouteFailure::NoMxNoAddress, true, true, contradicted),
        ("no host has an address", nowhere(), false, false, failed(NoAddress, "5.4.4")),
        ("no host has an address, enforce", nowhere(), true, true, contradicted),
        ("loop", looped(), false, false, failed(FailReason::Loop, "5.4.6")),
        ("loop, enforce", looped(), true, true, contradicted),
        ("loopback only", loopback(), false, false, failed(FailReason::Loop, "5.4.6")),
        ("loopback only, enforce", loopback(), true, true, contradicted),
        (
            "perhaps a loop",
            RouteFailure::LoopUnproven { host: host.clone() },
            false,
            false,
            deferred(Loop, "4.4.4"),
        ),
        (
            "private only",
            RouteFailure::DeniedOnly { host: host.clone(), address: "10.0.0.1".parse().unwrap() },
            false,
            false,
            deferred(Forbidden, "4.4.4"),
        ),
    ] {
        let ruling = route(&failure, &next_hop, enforce, persisted);
        assert_eq!((ruling.decision, &*ruling.enhanced.to_string()), (decision, enhanced), "{row}");
        assert_eq!(ruling.stage, Stage::Dns, "{row}");
        assert!(ruling.text.contains("example.net") && ruling.code.is_none(), "{row}: {}", ruling.text);
    }
}
