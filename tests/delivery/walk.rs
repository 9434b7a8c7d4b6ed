//! The walk over the hosts of an attempt, with servers that keep to the protocol: which host is tried, over which
//! session, and what may be said there.

use std::sync::Arc;
use std::time::Duration;

use sealpost::delivery::attempt::AttemptSettings;
use sealpost::dns::{DnsError, DnsErrorKind};
use sealpost::mail::Origin;
use sealpost::queue::{DeferReason, Lease, MessageMeta, Outcome};
use sealpost::route::{Host, NoAddress, Route, RouteKind};
use sealpost::security::Level;
use sealpost::tlsrpt::ResultType;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::server::{Ears, Manners, connections, count, serve, serve_two};
use crate::world::{World, all_entries, domain, enhanced, host, lease, words};

// RFC 5321 §4.1.4, RFC 9422: the second transaction of a session begins with RSET when the first was left open.
#[tokio::test]
async fn a_refused_recipient_does_not_return_the_mail_of_the_next_transaction() {
    let manners = Manners {
        offers: vec!["LIMITS RCPTMAX=1"],
        instead: vec![("RCPT TO:<r0@", "550 5.1.1 nobody")],
        ..Manners::default()
    };
    for pipelining in [false, true] {
        let mut manners = manners.clone();
        if pipelining {
            manners.offers.push("PIPELINING");
        }
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = World::new(port, Authority::new().tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let (_, outcomes) = w.deliver("a.example", 3).await;
        assert_eq!(words(&outcomes), ["bounced", "delivered", "delivered"], "{outcomes:?}");
        assert_eq!((connections(&ears), count(&ears, "RSET")), (1, 1));
    }
}

// OUT-08
#[tokio::test]
async fn a_host_of_our_own_name_where_nobody_answers_is_us() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let name = domain("relay.example.org");
    let settings = || AttemptSettings {
        port,
        own_name_pause: Duration::from_millis(200),
        ..AttemptSettings::new(name.clone())
    };
    let said = |outcomes: &[Outcome]| (outcomes[0].word(), enhanced(&outcomes[0]));
    let waits = |code: &str| ("deferred", code.to_owned());
    let w = World::with(settings(), Authority::new().tls());
    w.route("a.example", &[(name.as_str(), &["127.0.0.2"])]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(said(&outcomes), ("bounced", "5.4.6".to_owned()), "{outcomes:?}");
    let text = &outcomes[0].diagnosis().text;
    assert!(text.contains("relay.example.org is the name of this relay itself"), "{text}");
    assert!(report.unreachable.is_none(), "there is no host to wait for");

    // Who has promised something, a better host that is away, and a host of another name: mail waits.
    w.enforce("b.example", &[name.as_str()]);
    w.route("b.example", &[(name.as_str(), &["127.0.0.2"])]);
    w.route("c.example", &[("mx.c.example", &["127.0.0.3"]), (name.as_str(), &["127.0.0.5"])]);
    w.route("d.example", &[("mx.d.example", &["127.0.0.6"])]);
    for (of, want) in [("b.example", "4.4.1"), ("c.example", "4.4.1"), ("d.example", "4.4.1")] {
        let (_, outcomes) = w.deliver(of, 1).await;
        assert_eq!(said(&outcomes), waits(want), "{of}");
    }
    assert_eq!(connections(&ears), 0);

    // Another server under our name has been seen, and is away: mail waits for it.
    w.route("e.example", &[(name.as_str(), &["127.0.0.1"])]);
    assert_eq!(words(&w.deliver("e.example", 1).await.1), ["delivered"]);
    w.route("a.example", &[(name.as_str(), &["127.0.0.4"])]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(said(&outcomes), waits("4.4.1"));

    // Or it starts a moment after us.
    let w = World::with(settings(), Authority::new().tls());
    w.route("a.example", &[(name.as_str(), &["127.0.0.2"])]);
    let ((_, outcomes), late) =
        tokio::join!(w.deliver("a.example", 1), serve("127.0.0.2", port, Manners::default()));
    assert_eq!((said(&outcomes).0, connections(&late.1)), ("delivered", 1), "{outcomes:?}");
}

// OUT-45, DUR-18
#[tokio::test]
async fn a_cancelled_attempt_is_uncertain_only_past_the_dot() {
    for past_dot in [false, true] {
        let manners = Manners { silent_at_data: !past_dot, silent_after_dot: past_dot, ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = World::new(port, Authority::new().tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let (lease, cancel) = (lease("a.example", 2), CancellationToken::new());
        let watch = async {
            let mark = if past_dot { "<content>" } else { "DATA" };
            while count(&ears, mark) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (report, ()) = tokio::join!(w.attempts.run(&lease, &*w.notes, &cancel), watch);
        let outcomes = w.taken();
        if past_dot {
            assert_eq!(words(&outcomes), ["deferred", "deferred"]);
            assert!(outcomes.iter().all(|o| o.diagnosis().maybe_delivered));
            assert!(report.hand_back.is_none());
        } else {
            assert!(outcomes.is_empty(), "{outcomes:?}");
            assert_eq!(report.hand_back.unwrap().recipients, [0, 1]);
        }
    }
}

// OUT-51, STS-77, QUE-36: one host, two domains, one of which demands PKIX.
#[tokio::test]
async fn a_session_serves_another_domain_only_if_its_evidence_meets_that_domains_demand() {
    let authority = Authority::new();
    for (case, expired, enforce_first) in [
        ("good, opportunistic first", false, false),
        ("good, enforce first", false, true),
        ("bad, opportunistic first", true, false),
        ("bad, enforce first", true, true),
    ] {
        let manners =
            Manners { tls: Some(authority.server("mx.example.net", expired)), ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = World::new(port, authority.tls());
        for name in ["free.example", "bound.example"] {
            w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
        }
        w.enforce("bound.example", &["mx.example.net"]);
        let order =
            if enforce_first { ["bound.example", "free.example"] } else { ["free.example", "bound.example"] };
        for name in order {
            let (_, outcomes) = w.deliver(name, 1).await;
            let kept = !expired || name == "free.example";
            assert_eq!(words(&outcomes), [if kept { "delivered" } else { "deferred" }], "{case}: {name}");
            if !kept {
                assert_eq!(enhanced(&outcomes[0]), "4.7.5", "{case}");
            }
            if name == "bound.example" && kept {
                assert_eq!(outcomes[0].diagnosis().security, Some(Level::Verified), "{case}");
            }
        }
        assert_eq!(connections(&ears), if expired { 2 } else { 1 }, "{case}: sessions");
        let rcpts = count(&ears, "RCPT TO:<r0@bound.example>");
        assert_eq!(rcpts, usize::from(!expired), "{case}: nothing of the envelope may leak");
        let records = w.notes.records.lock().unwrap();
        let mut domains: Vec<_> = records.iter().map(|r| r.report_domain.to_string()).collect();
        domains.sort();
        assert_eq!(domains, ["bound.example", "free.example"], "{case}: one verdict for each");
    }
}

// STS-62: one machine under two names, with a certificate for the second.
#[tokio::test]
async fn one_address_under_two_names_is_tried_under_each() {
    let authority = Authority::new();
    let manners = Manners { tls: Some(authority.server("b.example.net", false)), ..Manners::default() };
    let (port, _) = serve("127.0.0.1", 0, manners).await;
    let w = World::new(port, authority.tls());
    w.route("a.example", &[("a.example.net", &["127.0.0.1"]), ("b.example.net", &["127.0.0.1"])]);
    w.enforce("a.example", &["*.example.net"]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
}

/// Two hosts on one port, a route over both.
async fn pair(authority: &Authority, first: Manners, second: Manners) -> (World, Ears, Ears) {
    let (port, one, two) = serve_two(("127.0.0.1", first), ("127.0.0.2", second));
    let w = World::new(port, authority.tls());
    w.route("a.example", &[("mx1.example.net", &["127.0.0.1"]), ("mx2.example.net", &["127.0.0.2"])]);
    (w, one, two)
}

// M1
#[tokio::test]
async fn m1_a_bad_certificate_leads_to_the_next_host_and_both_are_recorded() {
    let authority = Authority::new();
    let shown = |name, expired| Manners { tls: Some(authority.server(name, expired)), ..Manners::default() };
    let (w, one, _) = pair(&authority, shown("mx1.example.net", true), shown("mx2.example.net", false)).await;
    w.enforce("a.example", &["*.example.net"]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
    assert_eq!(count(&one, "MAIL"), 0);
    assert!(!report.policy_failed);
    let records = w.notes.records.lock().unwrap();
    let verdicts: Vec<_> = records.iter().map(|r| r.verdicts[0].success).collect();
    assert_eq!(verdicts, [false, true]);
    assert_eq!(records[0].verdicts[0].details[0].result, ResultType::CertificateExpired);
}

// M2
#[tokio::test]
async fn m2_an_unlisted_host_and_one_without_tls_make_the_mail_wait() {
    let authority = Authority::new();
    let (w, one, two) = pair(&authority, Manners::default(), Manners::default()).await;
    w.enforce("a.example", &["mx2.example.net"]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.4".to_owned()));
    assert_eq!((connections(&one), count(&two, "MAIL")), (0, 0));
    assert!(report.policy_failed);
    let records = w.notes.records.lock().unwrap();
    assert!(records.len() == 2 && records.iter().all(|r| !r.verdicts[0].success));
}

// M5, OUT-40
#[tokio::test]
async fn m5_a_refused_recipient_is_returned_and_no_other_host_is_asked() {
    let refusing = Manners { instead: vec![("RCPT", "550 5.1.1 nobody")], ..Manners::default() };
    let (w, _, two) = pair(&Authority::new(), refusing, Manners::default()).await;
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["bounced"]);
    assert_eq!(connections(&two), 0);
}

// M6, OUT-22
#[tokio::test]
async fn m6_a_host_that_greets_with_5xx_is_passed_over() {
    let closed = Manners { greeting: Some("554 5.7.1 go away"), ..Manners::default() };
    let (w, _, _) = pair(&Authority::new(), closed.clone(), Manners::default()).await;
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    let (w, ..) = pair(&Authority::new(), closed.clone(), closed.clone()).await;
    assert_eq!(
        words(&w.deliver("a.example", 1).await.1),
        ["bounced"],
        "all hosts say so, and owe us nothing"
    );
    let (w, ..) = pair(&Authority::new(), closed.clone(), closed).await;
    w.enforce("a.example", &["*.example.net"]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["deferred"], "anybody may have said that");
}

// OUT-40
#[tokio::test]
async fn a_refusal_of_ipv6_is_tried_again_over_ipv4_which_then_comes_first() {
    let refusing = Manners { instead: vec![("MAIL", "550 5.7.25 no PTR")], ..Manners::default() };
    let (port, six, four) = serve_two(("::1", refusing), ("127.0.0.1", Manners::default()));
    let w = World::new(port, Authority::new().tls());
    w.route("a.example", &[("mx.example.net", &["::1", "127.0.0.1"])]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    assert_eq!((connections(&six), count(&four, "<content>")), (1, 2));
    // Without an IPv4 address the refusal stands.
    let w = World::new(port, Authority::new().tls());
    w.route("a.example", &[("mx.example.net", &["::1"])]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["bounced"]);
}

// D28
#[tokio::test]
async fn d28_a_listed_host_that_cannot_be_reached_leaves_no_record() {
    let authority = Authority::new();
    let (port, _) = serve("127.0.0.1", 0, Manners::default()).await;
    let w = World::new(port, authority.tls());
    w.route("a.example", &[("mx.example.net", &["127.0.0.3"])]);
    w.enforce("a.example", &["mx.example.net"]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.4.1".to_owned()));
    assert!(report.unreachable.is_some() && !report.policy_failed);
    assert!(w.notes.records.lock().unwrap().is_empty());
}

// TLS-07: what only speaks old TLS gets opportunistic mail in the clear over a new connection, and none under enforce.
#[tokio::test]
async fn a_server_of_old_tls_gets_nothing_that_is_owed_tls() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", false));
    let (port, ears) = serve("127.0.0.1", 0, Manners { tls, alert: true, ..Manners::default() }).await;
    let w = World::new(port, authority.tls());
    for name in ["bound.example", "free.example"] {
        w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
    }
    w.enforce("bound.example", &["mx.example.net"]);
    let (_, outcomes) = w.deliver("bound.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5".to_owned()));
    assert_eq!((connections(&ears), count(&ears, "MAIL")), (1, 0));
    let (_, outcomes) = w.deliver("free.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Plain));
    assert_eq!(connections(&ears), 3);
    assert_eq!(w.notes.records.lock().unwrap().len(), 2, "one verdict for each domain (RPT-25)");
}

// RFC 8461 §7.1, `What always holds` 5
#[tokio::test]
async fn sni_is_the_name_of_the_mx_and_no_session_of_tls_is_resumed() {
    let authority = Authority::new();
    let manners = Manners { tls: Some(authority.server("mx.example.net", true)), ..Manners::default() };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let w = World::new(port, authority.tls());
    w.route("bound.example", &[("mx.example.net", &["127.0.0.1"])]);
    w.enforce("bound.example", &["mx.example.net"]);
    for _ in 0..2 {
        w.deliver("bound.example", 1).await;
    }
    let lines = ears.lock().unwrap().lines.clone();
    let handshakes: Vec<_> = lines.iter().filter(|l| l.starts_with("<tls")).collect();
    assert_eq!(handshakes, ["<tls (Some(\"mx.example.net\"), Some(Full))>"; 2]);
}

/// A message of this origin.
async fn deliver_from(w: &World, origin: Origin, name: &str) -> Vec<Outcome> {
    let mut lease = lease(name, 1);
    lease.message = Arc::new(MessageMeta { origin, ..(*lease.message).clone() });
    w.run(&lease).await.1
}

// RPT-27, RPT-84, RPT-86, OUT-49: a report goes out however the session is secured, leaves no record, and asks for no
// notification; a DSN asks for none either, but keeps the promises.
#[tokio::test]
async fn a_report_passes_broken_promises_unrecorded_and_asks_for_no_notification() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", true));
    let (port, ears) =
        serve("127.0.0.1", 0, Manners { tls, offers: vec!["DSN"], ..Manners::default() }).await;
    let w = World::new(port, authority.tls());
    w.route("bound.example", &[("mx.example.net", &["127.0.0.1"])]);
    w.enforce("bound.example", &["mx.example.net"]);
    let outcomes = deliver_from(&w, Origin::TlsReport, "bound.example").await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
    let lines = ears.lock().unwrap().lines.clone();
    assert_eq!(count(&ears, "RCPT TO:<r0@bound.example> NOTIFY=NEVER"), 1, "{lines:?}");
    assert!(w.notes.records.lock().unwrap().is_empty());
    let outcomes = deliver_from(&w, Origin::Dsn, "bound.example").await;
    assert_eq!(words(&outcomes), ["deferred"], "{outcomes:?}");
    assert_eq!(w.notes.records.lock().unwrap().len(), 1);
    w.route("free.example", &[("mx.example.net", &["127.0.0.1"])]);
    assert_eq!(words(&deliver_from(&w, Origin::Dsn, "free.example").await), ["delivered"]);
    assert_eq!(count(&ears, "RCPT TO:<r0@free.example> NOTIFY=NEVER"), 1);
}

// DUR-02, `What always holds` 1: what is left of damaged content is never sent as if it were the message.
#[tokio::test]
async fn content_that_is_not_whole_is_never_ended_with_a_dot() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let w = World::new(port, Authority::new().tls());
    w.route("free.example", &[("mx.example.net", &["127.0.0.1"])]);
    // The store knows nothing of it: all its rows are gone.
    let lease = Lease { content: None, ..lease("free.example", 1) };
    let (report, outcomes) = w.run(&lease).await;
    assert!(matches!(outcomes[..], [Outcome::Deferred(DeferReason::Damaged, _)]), "{outcomes:?}");
    assert!(report.hand_back.is_none());
    assert_eq!((count(&ears, "DATA"), count(&ears, "<content>")), (1, 0));
}

// D46: the promise is the relay's, and so is the report; the recipients' domain has no say.
#[tokio::test]
async fn d46_mail_through_a_relay_is_under_the_policy_of_the_relay() {
    let authority = Authority::new();
    for expired in [false, true] {
        let tls = Some(authority.server("relay.example.net", expired));
        let (port, _) = serve("127.0.0.1", 0, Manners { tls, ..Manners::default() }).await;
        let w = World::new(port, authority.tls());
        let hosts = vec![host("relay.example.net", 0, &["127.0.0.1"])];
        let (next_hop, kind) = (domain("relay.example.net"), RouteKind::SmartHost);
        w.resolves(
            "a.example",
            Ok(Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule: None }),
        );
        w.enforce("relay.example.net", &["relay.example.net"]);
        w.enforce("a.example", &["mx.a.example"]);
        let (_, outcomes) = w.deliver("a.example", 1).await;
        let records = w.notes.records.lock().unwrap();
        let reported: Vec<_> =
            records.iter().map(|r| (r.report_domain.as_str(), r.verdicts[0].success)).collect();
        assert_eq!(reported, [("relay.example.net", !expired)]);
        if expired {
            assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5".to_owned()));
        } else {
            assert_eq!(words(&outcomes), ["delivered"]);
            assert_eq!(outcomes[0].diagnosis().security, Some(Level::Verified));
        }
    }
}

// R3 before R5, D05: of a host whose address cannot be found out nothing else is said, to nobody.
#[tokio::test]
async fn an_unlisted_host_without_an_address_waits_for_its_address() {
    let w = World::new(1, Authority::new().tls());
    for (why, want) in [
        (
            NoAddress::Failed(DnsError {
                kind: DnsErrorKind::Servfail,
                name: domain("mx.example.net"),
                record: "A",
                server: None,
            }),
            "4.4.3",
        ),
        (NoAddress::None, "4.4.4"),
    ] {
        let hosts = vec![Host { addresses: Err(why), ..host("mx.example.net", 10, &[]) }];
        let (next_hop, kind) = (domain("a.example"), RouteKind::Mx);
        w.resolves(
            "a.example",
            Ok(Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule: None }),
        );
        w.enforce("a.example", &["other.example.net"]);
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!((words(&outcomes), &*enhanced(&outcomes[0])), (vec!["deferred"], want));
        assert_eq!(all_entries(&w), Vec::<String>::new());
    }
}

// RPT-20, RPT-27: a report that opened the session leaves the first verdict to the mail that comes after it.
#[tokio::test]
async fn a_report_takes_no_record_from_the_mail_that_uses_its_session() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let w = World::new(port, Authority::new().tls());
    w.route("free.example", &[("mx.example.net", &["127.0.0.1"])]);
    assert_eq!(words(&deliver_from(&w, Origin::TlsReport, "free.example").await), ["delivered"]);
    assert!(w.notes.records.lock().unwrap().is_empty());
    for _ in 0..2 {
        assert_eq!(words(&deliver_from(&w, Origin::Submitted, "free.example").await), ["delivered"]);
    }
    assert_eq!((connections(&ears), w.notes.records.lock().unwrap().len()), (1, 1));
}
