//! A configured next hop on the wire: whose certificate counts, AUTH, TLS from the first octet, sessions kept apart.

use std::sync::Arc;

use sealpost::delivery::attempt::AttemptSettings;
use sealpost::mail::Origin;
use sealpost::queue::Outcome;
use sealpost::queue::outcome::Stage;
use sealpost::queue::unmet::Fixed;
use sealpost::route::smart_host::{Rule, SmartHost};
use sealpost::route::source::Source;
use sealpost::route::{Host, Route, RouteKind};
use sealpost::security::Level;
use sealpost::security::decide::{Demand, Reason};
use sealpost::smtp::sasl::Credentials;

use crate::authority::{Authority, tlsa};
use crate::server::{Ears, Manners, connections, count, serve};
use crate::world::{World, domain, enhanced, host, lease, words};

const RELAY: &str = "relay.example.net";

/// A rule that sends everything to `RELAY` on `port`; `here`: as if it were on this machine.
fn rule(port: u16, here: bool) -> Rule {
    let next_hop = SmartHost { here, ..SmartHost::new(RELAY, port, false, &[]).unwrap() };
    Rule { number: 1, pattern: "*".into(), next_hop: Some(next_hop), ..Rule::default() }
}

fn credentials() -> Option<Credentials> {
    Some(Credentials { user: "u".into(), password: "secret".into() })
}

/// Mail for `name` goes by this rule, to 127.0.0.1.
fn routed(w: &World, name: &str, rule: &Rule) {
    let hosts = vec![host(RELAY, 0, &["127.0.0.1"])];
    w.resolves(
        name,
        Ok(Route {
            next_hop: domain(RELAY),
            kind: RouteKind::SmartHost,
            mx_secure: false,
            expanded: None,
            hosts,
            rule: Some(Arc::new(rule.clone())),
        }),
    );
}

async fn relay(manners: Manners) -> (u16, Ears) {
    serve("127.0.0.1", 0, manners).await
}

fn said(ears: &Ears) -> Vec<String> {
    ears.lock().unwrap().lines.clone()
}

// STS-60, RTLS-54, RPT-11: without a word about TLS, a next hop's certificate is verified for its name, whatever the
// message; on this machine nothing is demanded, and what is written counts.
#[tokio::test]
async fn a_self_signed_next_hop_gets_nothing_unless_the_operator_says_so() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (port, ears) = relay(Manners { tls: Some(theirs.server(RELAY, false)), ..Manners::default() }).await;
    let w = World::new(1, ours.tls());
    for (name, minimum, here, origin, want) in [
        ("nothing written", None, false, Origin::Submitted, "deferred"),
        ("our own report", None, false, Origin::TlsReport, "deferred"),
        ("verify written", Some(Demand::VERIFIED), true, Origin::Submitted, "deferred"),
        ("encrypt written", Some(Demand::ENCRYPTED), false, Origin::Submitted, "delivered"),
        ("none written", Some(Demand::NOTHING), false, Origin::Submitted, "delivered"),
        ("on this machine", None, true, Origin::Submitted, "delivered"),
    ] {
        routed(&w, "a.example", &Rule { minimum, ..rule(port, here) });
        let mut mail = lease("a.example", 1);
        Arc::make_mut(&mut mail.message).origin = origin;
        let (_, outcomes) = w.run(&mail).await;
        assert_eq!(words(&outcomes), [want], "{name}");
        if want == "deferred" {
            assert_eq!(enhanced(&outcomes[0]), "4.7.5", "{name}");
            assert!(outcomes[0].diagnosis().text.contains("not acceptable"), "{name}");
        }
    }
    assert_eq!(count(&ears, "MAIL"), 3);
    let records = w.notes.records.lock().unwrap();
    assert!(!records.is_empty() && records.iter().all(|r| r.report_domain.as_str() == RELAY));
}

// DANE-17, DANE-10, DANE-34: the records of a next hop count as those of any host whose name is certain, at the port in use.
#[tokio::test]
async fn a_next_hop_with_tlsa_records_is_held_to_them() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let leaf = theirs.leaf(RELAY, |_| {});
    let (port, ears) =
        relay(Manners { tls: Some(leaf.server(rustls::DEFAULT_VERSIONS)), ..Manners::default() }).await;
    for (what, records, minimum, want) in [
        ("they match, and DANE is written", vec![leaf.tlsa()], Some(Demand::DANE), Ok(Level::Dane)),
        ("they match, and nothing is asked for", vec![leaf.tlsa()], Some(Demand::NOTHING), Ok(Level::Dane)),
        ("the chain counts where nothing is written", vec![leaf.tlsa()], None, Err("4.7.5")),
        ("they do not match", vec![tlsa(3, &ours.certificate())], Some(Demand::NOTHING), Err("4.7.5")),
        ("there are none, and DANE is written", vec![], Some(Demand::DANE), Err("4.7.5")),
    ] {
        let w = World::new(1, ours.tls());
        for record in records {
            w.zone.add(&format!("secure {RELAY}\n_{port}._tcp.{RELAY} TLSA {record}")).unwrap();
        }
        let hosts = vec![Host { addresses_secure: true, ..host(RELAY, 0, &["127.0.0.1"]) }];
        let rule = Some(Arc::new(Rule { minimum, ..rule(port, false) }));
        let (next_hop, kind) = (domain(RELAY), RouteKind::SmartHost);
        w.resolves("a.example", Ok(Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule }));
        let before = count(&ears, "MAIL");
        let (_, outcomes) = w.deliver("a.example", 1).await;
        let diagnosis = outcomes[0].diagnosis();
        match want {
            Ok(level) => {
                assert_eq!(
                    (words(&outcomes), diagnosis.security),
                    (vec!["delivered"], Some(level)),
                    "{what}"
                );
                // DANE-16: nobody could have put another name there.
                assert!(diagnosis.session.as_ref().unwrap().mx_secure, "{what}");
            }
            Err(code) => {
                assert_eq!((words(&outcomes), &*enhanced(&outcomes[0])), (vec!["deferred"], code), "{what}");
                assert_eq!(count(&ears, "MAIL"), before, "{what}");
            }
        }
    }
}

// STS-67: the next hop's name is what the certificate must be for.
#[tokio::test]
async fn a_next_hop_with_the_certificate_of_another_name_gets_nothing() {
    let authority = Authority::new();
    let (port, ears) =
        relay(Manners { tls: Some(authority.server("a.example", false)), ..Manners::default() }).await;
    let w = World::new(1, authority.tls());
    routed(&w, "a.example", &rule(port, false));
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), count(&ears, "MAIL")), (vec!["deferred"], 0));
}

// OUT-56
#[tokio::test]
async fn a_password_is_given_inside_verified_tls_and_once_per_session() {
    let authority = Authority::new();
    for (offer, want) in [
        ("AUTH CRAM-MD5 PLAIN LOGIN", vec!["AUTH PLAIN AHUAc2VjcmV0"]),
        ("AUTH LOGIN", vec!["AUTH LOGIN", "dQ==", "c2VjcmV0"]),
    ] {
        let manners =
            Manners { tls: Some(authority.server(RELAY, false)), offers: vec![offer], ..Manners::default() };
        let (port, ears) = relay(manners).await;
        let w = World::new(1, authority.tls());
        let with = Rule { credentials: credentials(), ..rule(port, false) };
        for name in ["a.example", "b.example"] {
            routed(&w, name, &with);
            let (_, outcomes) = w.deliver(name, 1).await;
            assert_eq!(words(&outcomes), ["delivered"], "{offer}");
            assert_eq!(outcomes[0].diagnosis().security, Some(Level::Verified));
        }
        let lines = said(&ears);
        let tls = lines.iter().position(|l| l.starts_with("<tls")).unwrap();
        let auth: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|l| l.starts_with("AUTH") || l.ends_with("==") || *l == "c2VjcmV0")
            .collect();
        assert_eq!(auth, want, "{offer}: once, for two messages");
        assert!(lines.iter().position(|l| l.starts_with("AUTH")).unwrap() > tls, "{lines:?}");
        assert_eq!((connections(&ears), count(&ears, "MAIL")), (1, 2));
    }
}

// OUT-56: never in the clear, never to somebody else, never where it is not asked for.
#[tokio::test]
async fn a_password_is_shown_to_nobody_who_has_not_proven_who_he_is() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (name, tls, minimum, here, cause) in [
        ("in the clear", None, None, false, "tls_missing"),
        ("in the clear on this machine", None, Some(Demand::NOTHING), true, "tls_missing"),
        ("self-signed", Some(theirs.server(RELAY, false)), Some(Demand::ENCRYPTED), false, "tls_certificate"),
        ("expired", Some(ours.server(RELAY, true)), None, false, "tls_certificate"),
        ("another name", Some(ours.server("x.example", false)), None, true, "tls_certificate"),
        ("copied certificate", Some(ours.replaying(RELAY)), None, false, "tls_handshake"),
    ] {
        let manners = Manners { tls, offers: vec!["AUTH PLAIN LOGIN"], ..Manners::default() };
        let (port, ears) = relay(manners).await;
        let w = World::new(1, ours.tls());
        routed(&w, "a.example", &Rule { minimum, credentials: credentials(), ..rule(port, here) });
        let (_, outcomes) = w.deliver("a.example", 1).await;
        let Outcome::Deferred(reason, d) = &outcomes[0] else { panic!("{name}: {outcomes:?}") };
        assert_eq!(reason.as_str(), cause, "{name}");
        // The operator reads whose rule it is, that nothing lowers it, and which certificate was shown.
        let unmet = d.unmet.as_ref().unwrap();
        assert_eq!((&*unmet.by, unmet.next_hop), (&[Reason::Operator][..], true), "{name}");
        assert_eq!(unmet.fixed, Some(Fixed::Password), "{name}");
        assert_eq!(d.certificate().is_some(), cause == "tls_certificate", "{name}");
        assert!(!d.promised() && !d.advice(*reason).contains("lower minimum_tls"), "{name}");
        assert_eq!(count(&ears, "AUTH") + count(&ears, "MAIL"), 0, "{name}");
    }
}

// OUT-56: our configuration is wrong, not the mail.
#[tokio::test]
async fn a_refused_password_makes_mail_wait_and_never_bounces_it() {
    let authority = Authority::new();
    let refusals = [
        (vec!["AUTH PLAIN"], "535 5.7.8 wrong", "auth", "4.7.8"),
        (vec!["AUTH PLAIN"], "534 5.7.9 too weak", "auth", "4.7.8"),
        (vec!["AUTH PLAIN"], "454 4.7.0 later", "reply", "4.7.0"),
        (vec!["AUTH CRAM-MD5"], "", "auth", "4.7.8"),
        (vec![], "", "auth", "4.7.8"),
    ];
    for (offers, reply, cause, code) in refusals {
        let manners = Manners {
            tls: Some(authority.server(RELAY, false)),
            instead: vec![("AUTH", reply)],
            offers,
            ..Manners::default()
        };
        let (port, ears) = relay(manners).await;
        let w = World::new(1, authority.tls());
        routed(&w, "a.example", &Rule { credentials: credentials(), ..rule(port, false) });
        let (_, outcomes) = w.deliver("a.example", 2).await;
        let Outcome::Deferred(reason, d) = &outcomes[1] else { panic!("{reply}: {outcomes:?}") };
        assert_eq!((reason.as_str(), d.enhanced.to_string()), (cause, code.to_owned()), "{reply}");
        assert_eq!(count(&ears, "MAIL"), 0, "{reply}");
        assert!(!d.text.contains("secret") && !d.text.contains("c2VjcmV0"));
        // Other mail for the next hop does not show the password again at once: that would lock the account.
        routed(&w, "b.example", &Rule { credentials: credentials(), ..rule(port, false) });
        let asked = count(&ears, "AUTH");
        let (report, outcomes) = w.deliver("b.example", 1).await;
        let again = usize::from(reply.starts_with("454"));
        let Outcome::Deferred(reason, d) = &outcomes[0] else { panic!("{reply}: {outcomes:?}") };
        assert_eq!((reason.as_str(), d.enhanced.to_string()), (cause, code.to_owned()), "{reply}");
        assert_eq!((report.hand_back.is_some(), count(&ears, "AUTH")), (false, asked + again), "{reply}");
    }
}

// OUT-56, What always holds 10: who has another password, or none, waits for nobody's.
#[tokio::test]
async fn a_refused_password_keeps_nobody_else_from_the_next_hop() {
    let authority = Authority::new();
    let manners = Manners {
        tls: Some(authority.server(RELAY, false)),
        offers: vec!["AUTH PLAIN"],
        // alice and a wrong password
        instead: vec![("AUTH PLAIN AGFsaWNlAHg=", "535 5.7.8 wrong")],
        ..Manners::default()
    };
    let (port, ears) = relay(manners).await;
    let w = World::new(1, authority.tls());
    let of = |number, credentials| Rule { number, credentials, ..rule(port, false) };
    let alice = Some(Credentials { user: "alice".into(), password: "x".into() });
    for (name, rule, want) in [
        ("a.example", of(1, alice.clone()), "deferred"),
        ("b.example", of(2, credentials()), "delivered"),
        ("c.example", of(3, None), "delivered"),
        // The same account by another rule is the same account.
        ("d.example", of(4, alice.clone()), "deferred"),
        ("a.example", of(1, alice), "deferred"),
    ] {
        routed(&w, name, &rule);
        let (report, outcomes) = w.deliver(name, 1).await;
        assert_eq!((words(&outcomes), report.hand_back.is_some()), (vec![want], false), "{name}");
        assert_eq!(outcomes[0].diagnosis().stage == Stage::Auth, want == "deferred", "{name}");
    }
    assert_eq!((count(&ears, "AUTH PLAIN AGFsaWNlAHg="), count(&ears, "MAIL")), (1, 2));
}

// TLS from the first octet: no STARTTLS, no greeting in the clear, and no fall-back to it.
#[tokio::test]
async fn smtps_speaks_tls_first_and_never_the_clear() {
    let authority = Authority::new();
    let smtps = |port| {
        let mut rule = rule(port, false);
        rule.next_hop.as_mut().unwrap().implicit_tls = true;
        rule
    };
    let tls = Some(authority.server(RELAY, false));
    let (port, ears) = relay(Manners { tls, implicit: true, ..Manners::default() }).await;
    let w = World::new(1, authority.tls());
    routed(&w, "a.example", &smtps(port));
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Verified));
    assert_eq!(count(&ears, "STARTTLS"), 0);

    let (port, ears) = relay(Manners { greeting: Some("220 no TLS here"), ..Manners::default() }).await;
    routed(&w, "b.example", &Rule { minimum: Some(Demand::NOTHING), ..smtps(port) });
    let (_, outcomes) = w.deliver("b.example", 1).await;
    assert_eq!((words(&outcomes), count(&ears, "MAIL"), count(&ears, "EHLO")), (vec!["deferred"], 0, 0));
    assert_eq!(connections(&ears), 1, "not once more in the clear");
}

// OUT-51: a session that is logged in, or was judged by other authorities, serves its own rule alone.
#[tokio::test]
async fn sessions_of_different_identity_are_kept_apart() {
    let authority = Authority::new();
    let manners = Manners {
        tls: Some(authority.server(RELAY, false)),
        offers: vec!["AUTH PLAIN"],
        ..Manners::default()
    };
    let (port, ears) = relay(manners).await;
    let w = World::new(1, authority.tls());
    let other = Some(Credentials { user: "v".into(), password: "other".into() });
    let rules = [
        ("a.example", rule(port, false)),
        ("b.example", Rule { credentials: credentials(), ..rule(port, false) }),
        ("c.example", Rule { number: 2, credentials: other, ..rule(port, false) }),
    ];
    for (i, (name, rule)) in rules.iter().enumerate() {
        routed(&w, name, rule);
        let (_, outcomes) = w.deliver(name, 1).await;
        assert_eq!((words(&outcomes), connections(&ears)), (vec!["delivered"], i + 1), "{name}");
    }
    assert_eq!(count(&ears, "AUTH"), 2);
}

// `roots` takes the place of [trust]: what that trusts is not trusted here.
#[tokio::test]
async fn roots_of_a_rule_replace_the_others() {
    let (trusted, own) = (Authority::new(), Authority::new());
    for (server, want) in [(&own, "delivered"), (&trusted, "deferred")] {
        let (port, _) = relay(Manners { tls: Some(server.server(RELAY, false)), ..Manners::default() }).await;
        let w = World::new(1, trusted.tls().with_roots_of_rules([(1, own.roots())]));
        routed(&w, "a.example", &Rule { own_roots: true, ..rule(port, false) });
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(words(&outcomes), [want]);
    }
}

// OUT-57
#[tokio::test]
async fn mail_leaves_from_its_source_address_under_the_name_that_goes_with_it() {
    let (port, ears) = relay(Manners::default()).await;
    let sources =
        vec![Source { address: "127.0.0.9".parse().unwrap(), ehlo: Some(domain("out9.example.org")) }];
    let settings = AttemptSettings { port, sources, ..AttemptSettings::new(domain("relay.example.org")) };
    let w = World::with(settings, Authority::new().tls());
    w.route("a.example", &[("mx.a.example", &["127.0.0.1"])]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(outcomes[0].diagnosis().source_ip, Some("127.0.0.9".parse().unwrap()));
    assert_eq!(said(&ears)[0], "EHLO out9.example.org");
}
