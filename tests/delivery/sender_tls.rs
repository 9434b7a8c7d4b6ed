//! What a sender says about TLS, on the wire: REQUIRETLS and `TLS-Required: No` (RFC 8689).

use std::sync::Arc;

use sealpost::delivery::attempt::{Asking, AttemptSettings};
use sealpost::dns::{DnsError, DnsErrorKind, Dnssec};
use sealpost::mail::{Origin, ReversePath, SenderTls};
use sealpost::mtasts::{Applicable, Discovery, FetchFailure, Mode};
use sealpost::queue::{DeferReason, FailReason, MessageMeta, Outcome};
use sealpost::route::smart_host::{Rule, SmartHost};
use sealpost::route::{Route, RouteFailure, RouteKind};
use sealpost::security::Level;
use sealpost::security::decide::Demand;
use sealpost::tlsrpt::ResultType;

use crate::authority::Authority;
use crate::server::{Ears, Manners, connections, count, serve};
use crate::world::{World, domain, enhanced, host, lease};

const OFFERED: &[&str] = &["REQUIRETLS", "PIPELINING"];

fn manners(authority: &Authority, name: &str, offers: &[&'static str]) -> Manners {
    Manners { tls: Some(authority.server(name, false)), offers: offers.to_vec(), ..Manners::default() }
}

fn expired(authority: &Authority, name: &str) -> Manners {
    let tls = Some(authority.server(name, true));
    Manners { tls, offers: OFFERED.to_vec(), ..Manners::default() }
}

/// A relay that can ask DNSSEC.
fn world(port: u16, authority: &Authority) -> World {
    let settings = AttemptSettings {
        port,
        asking: Asking { mta_sts: true, dane: true, dnssec: Some(Dnssec::new(true)) },
        ..AttemptSettings::new(domain("relay.example.org"))
    };
    World::with(settings, authority.tls())
}

/// One message to `name`, with what its sender says.
async fn send(w: &World, name: &str, sender_tls: SenderTls) -> Outcome {
    send_as(w, name, sender_tls, false).await
}

async fn send_as(w: &World, name: &str, sender_tls: SenderTls, notification: bool) -> Outcome {
    let mut lease = lease(name, 1);
    let mut message = MessageMeta { sender_tls, ..(*lease.message).clone() };
    if notification {
        (message.origin, message.reverse_path) = (Origin::Dsn, ReversePath::Null);
    }
    lease.message = Arc::new(message);
    let mut outcomes = w.run(&lease).await.1;
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn mails(ears: &Ears) -> Vec<String> {
    let lines = &ears.lock().unwrap().lines;
    lines.iter().filter(|l| l.starts_with("MAIL")).cloned().collect()
}

fn dns_error(kind: DnsErrorKind) -> DnsError {
    DnsError { kind, name: domain("a.example"), record: "TXT", server: None }
}

// RTLS-26, RTLS-27, RTLS-20, RTLS-23
#[tokio::test]
async fn each_host_that_does_not_qualify_is_left_with_quit_until_one_does() {
    let authority = Authority::new();
    let (port, one) = serve("127.0.0.1", 0, expired(&authority, "mx1.example.net")).await;
    let (_, two) = serve("127.0.0.2", port, manners(&authority, "mx2.example.net", &["PIPELINING"])).await;
    let (_, three) = serve("127.0.0.3", port, manners(&authority, "mx3.example.net", OFFERED)).await;
    let w = world(port, &authority);
    w.route(
        "a.example",
        &[
            ("mx1.example.net", &["127.0.0.1"]),
            ("mx2.example.net", &["127.0.0.2"]),
            ("mx3.example.net", &["127.0.0.3"]),
        ],
    );
    w.promises("a.example", Mode::Testing, &["*.example.net"]);
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert_eq!(outcome.word(), "delivered", "{outcome:?}");
    assert_eq!(outcome.diagnosis().security, Some(Level::Verified));
    assert!(outcome.diagnosis().session.as_ref().unwrap().requiretls);
    assert_eq!(mails(&three), ["MAIL FROM:<app@example.org> REQUIRETLS"]);
    for left in [&one, &two] {
        assert_eq!((mails(left).len(), count(left, "RCPT")), (0, 0));
        while count(left, "QUIT") == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Mail that asks for nothing asks for nothing.
    let outcome = send(&w, "a.example", SenderTls::Unsaid).await;
    assert_eq!((outcome.word(), mails(&one)), ("delivered", vec!["MAIL FROM:<app@example.org>".to_owned()]));
}

// RTLS-25, RTLS-28, RTLS-29, D93: what was offered before TLS does not count.
#[tokio::test]
async fn requiretls_in_the_clear_only_is_no_offer() {
    let authority = Authority::new();
    let plain =
        Manners { offers_in_the_clear: vec!["REQUIRETLS"], ..manners(&authority, "mx.example.net", &[]) };
    let (port, ears) = serve("127.0.0.1", 0, plain).await;
    let w = world(port, &authority);
    w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
    w.enforce("a.example", &["mx.example.net"]);
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert!(matches!(outcome, Outcome::Failed(FailReason::RequireTls, _)), "{outcome:?}");
    assert_eq!((enhanced(&outcome), mails(&ears).len()), ("5.7.30".to_owned(), 0));
    let records = w.notes.records.lock().unwrap();
    assert!(records.len() == 1 && records[0].verdicts[0].success, "RPT-66: {records:?}");
}

// RTLS-29, D102
#[tokio::test]
async fn d102_one_host_that_cannot_be_asked_keeps_the_mail_waiting() {
    let authority = Authority::new();
    let (port, ears) = serve("127.0.0.2", 0, manners(&authority, "mx2.example.net", &[])).await;
    let w = world(port, &authority);
    w.route("a.example", &[("mx1.example.net", &["127.0.0.9"]), ("mx2.example.net", &["127.0.0.2"])]);
    w.enforce("a.example", &["*.example.net"]);
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("deferred", "4.4.1".to_owned()));
    assert_eq!(mails(&ears).len(), 0);
}

// D90, RTLS-20, RTLS-29: nobody is asked whose name nothing vouches for; without DNSSEC that is not the last word.
#[tokio::test]
async fn d90_a_host_without_an_assured_name_is_not_contacted() {
    let authority = Authority::new();
    let (port, ears) = serve("127.0.0.1", 0, manners(&authority, "mx.example.net", OFFERED)).await;
    let off = AttemptSettings { port, ..AttemptSettings::new(domain("relay.example.org")) };
    for (w, word, code) in [
        (world(port, &authority), "bounced", "5.7.30"),
        (World::with(off, authority.tls()), "deferred", "4.7.0"),
    ] {
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let outcome = send(&w, "a.example", SenderTls::Required).await;
        assert_eq!((outcome.word(), enhanced(&outcome)), (word, code.to_owned()), "{outcome:?}");
        assert_eq!(connections(&ears), 0);
        assert!(w.notes.records.lock().unwrap().is_empty());
    }
}

/// The route of a domain whose MX set DNSSEC vouches for.
fn secure_route(w: &World, name: &str, hosts: Vec<sealpost::route::Host>) {
    let (next_hop, kind) = (domain(name), RouteKind::Mx);
    w.resolves(name, Ok(Route { next_hop, kind, mx_secure: true, expanded: None, hosts, rule: None }));
}

// D97, D99, RTLS-28
#[tokio::test]
async fn d99_a_host_without_tls_whose_domain_promised_none_lacks_it_for_good() {
    let authority = Authority::new();
    for (manners, word, code) in [
        (manners(&authority, "mx.example.net", OFFERED), "delivered", "2.0.0"),
        (Manners { offers: OFFERED.to_vec(), ..Manners::default() }, "bounced", "5.7.10"),
        (expired(&authority, "mx.example.net"), "deferred", "4.7.5"),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, &authority);
        secure_route(&w, "a.example", vec![host("mx.example.net", 10, &["127.0.0.1"])]);
        let outcome = send(&w, "a.example", SenderTls::Required).await;
        assert_eq!((outcome.word(), enhanced(&outcome)), (word, code.to_owned()), "{outcome:?}");
        assert_eq!(mails(&ears).len(), usize::from(word == "delivered"));
    }
}

// RTLS-29: a route found in doubt is no proof once the doubt has ended; the next attempt has one.
#[tokio::test]
async fn a_route_found_before_dnssec_was_proven_is_not_conclusive() {
    let authority = Authority::new();
    let (port, ears) = serve("127.0.0.1", 0, manners(&authority, "mx.example.net", OFFERED)).await;
    let dnssec = Dnssec::default();
    let settings = AttemptSettings {
        port,
        asking: Asking { mta_sts: true, dane: true, dnssec: Some(dnssec.clone()) },
        ..AttemptSettings::new(domain("relay.example.org"))
    };
    let w = World::with(settings, authority.tls());
    w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
    w.proves_meanwhile(dnssec);
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("deferred", "4.7.0".to_owned()));
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("bounced", "5.7.30".to_owned()));
    assert_eq!(mails(&ears).len(), 0);
}

// R3 before R9: an address that cannot be found out is no answer about the host.
#[tokio::test]
async fn a_host_whose_address_is_not_known_lacks_nothing_for_good() {
    let authority = Authority::new();
    let w = world(1, &authority);
    let mut mx = host("mx.example.net", 10, &[]);
    mx.addresses = Err(sealpost::route::NoAddress::Failed(dns_error(DnsErrorKind::Timeout)));
    let (next_hop, kind) = (domain("a.example"), RouteKind::Mx);
    let hosts = vec![mx];
    w.resolves(
        "a.example",
        Ok(Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule: None }),
    );
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("deferred", "4.4.3".to_owned()));
}

// D103, RPT-20
#[tokio::test]
async fn d103_a_policy_that_cannot_be_fetched_is_waited_for() {
    let authority = Authority::new();
    let (port, ears) = serve("127.0.0.1", 0, manners(&authority, "mx.example.net", OFFERED)).await;
    let w = world(port, &authority);
    w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
    let failure = FetchFailure::fetch_error("http-500", "the policy host answered 500");
    let known = Applicable { fetch_failure: Some(failure), ..Applicable::default() };
    w.discovers("a.example", Discovery::Known(known));
    let outcome = send(&w, "a.example", SenderTls::Required).await;
    assert!(matches!(outcome, Outcome::Deferred(DeferReason::RequireTls, _)), "{outcome:?}");
    assert_eq!((enhanced(&outcome), connections(&ears)), ("4.7.0".to_owned(), 0));
    assert!(
        outcome.diagnosis().text.starts_with("REQUIRETLS: MTA-STS policy of a.example could not be fetched")
    );
    {
        let records = w.notes.records.lock().unwrap();
        let details = &records[0].verdicts[0].details;
        assert!(records.len() == 1 && !records[0].verdicts[0].success, "an attempted session");
        assert_eq!(details[0].result, ResultType::StsPolicyFetchError);
    }
    assert_eq!(send(&w, "a.example", SenderTls::Unsaid).await.word(), "delivered");
}

// RTLS-29, STS-51: of a cached policy of mode none nothing is reported, but the one that took its place may list the host.
#[tokio::test]
async fn a_policy_that_may_have_been_replaced_is_no_proof_that_nobody_vouches_for_a_host() {
    let authority = Authority::new();
    let w = world(1, &authority);
    for (outdated, want) in [(true, ("deferred", "4.7.0")), (false, ("bounced", "5.7.30"))] {
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        w.discovers("a.example", Discovery::Known(Applicable { outdated, ..Applicable::default() }));
        let outcome = send(&w, "a.example", SenderTls::Required).await;
        assert_eq!((outcome.word(), &*enhanced(&outcome)), want);
    }
}

// R2, RTLS-29, RTLS-50: the lookup of the policy fails, before and after the grace of the domain.
#[tokio::test]
async fn only_requiretls_waits_for_a_lookup_after_the_grace_and_only_no_goes_on_within_it() {
    let authority = Authority::new();
    let (port, _) = serve("127.0.0.1", 0, manners(&authority, "mx.example.net", OFFERED)).await;
    let w = world(port, &authority);
    let error = dns_error(DnsErrorKind::Timeout);
    let after = Applicable { lookup_failed: Some(error.clone()), ..Applicable::default() };
    for (discovery, required, unsaid, optional) in [
        (Discovery::Wait(error), "deferred", "deferred", "delivered"),
        (Discovery::Known(after), "deferred", "delivered", "delivered"),
    ] {
        secure_route(&w, "a.example", vec![host("mx.example.net", 10, &["127.0.0.1"])]);
        w.discovers("a.example", discovery);
        for (sender_tls, word) in
            [(SenderTls::Required, required), (SenderTls::Unsaid, unsaid), (SenderTls::Optional, optional)]
        {
            let outcome = send(&w, "a.example", sender_tls).await;
            assert_eq!(outcome.word(), word, "{sender_tls:?}");
            if word == "deferred" {
                assert_eq!(enhanced(&outcome), "4.4.3");
            }
        }
    }
}

// RTLS-30, RTLS-31: one session for both, as far as its own facts go.
#[tokio::test]
async fn an_open_session_serves_requiretls_only_with_everything_that_it_needs() {
    let authority = Authority::new();
    for (case, manners, kept) in [
        ("all is met", manners(&authority, "mx.example.net", OFFERED), true),
        ("not offered", manners(&authority, "mx.example.net", &[]), false),
        ("not authenticated", expired(&authority, "mx.example.net"), false),
        (
            "without the key",
            Manners {
                tls: Some(authority.replaying("mx.example.net")),
                offers: OFFERED.to_vec(),
                ..Manners::default()
            },
            false,
        ),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, &authority);
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        w.promises("a.example", Mode::Testing, &["mx.example.net"]);
        assert_eq!(send(&w, "a.example", SenderTls::Unsaid).await.word(), "delivered", "{case}");
        let outcome = send(&w, "a.example", SenderTls::Required).await;
        assert_eq!(outcome.word() == "delivered", kept, "{case}: {outcome:?}");
        assert_eq!(connections(&ears), if kept { 1 } else { 2 }, "{case}");
        assert_eq!(send(&w, "a.example", SenderTls::Unsaid).await.word(), "delivered", "{case}");
        let ours = "MAIL FROM:<app@example.org>";
        let with = format!("{ours} REQUIRETLS");
        let want = if kept { vec![ours, &with, ours] } else { vec![ours, ours] };
        assert_eq!(mails(&ears), want, "{case}");
    }
}

// D104, RTLS-32, RTLS-42: a notification does not end at a host that lacks what its message needed.
#[tokio::test]
async fn d104_a_notification_is_delivered_with_the_parameter_or_without() {
    let authority = Authority::new();
    for (case, manners, listed, mail, level) in [
        ("no TLS", Manners::default(), false, "MAIL FROM:<>", Level::Plain),
        ("not offered", manners(&authority, "mx.example.net", &[]), true, "MAIL FROM:<>", Level::Verified),
        (
            "no assured name",
            manners(&authority, "mx.example.net", OFFERED),
            false,
            "MAIL FROM:<>",
            Level::Encrypted,
        ),
        ("expired", expired(&authority, "mx.example.net"), false, "MAIL FROM:<>", Level::Encrypted),
        (
            "all is met",
            manners(&authority, "mx.example.net", OFFERED),
            true,
            "MAIL FROM:<> REQUIRETLS",
            Level::Verified,
        ),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, &authority);
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        if listed {
            w.promises("a.example", Mode::Testing, &["mx.example.net"]);
        }
        let outcome = send_as(&w, "a.example", SenderTls::Required, true).await;
        assert_eq!((outcome.word(), mails(&ears)), ("delivered", vec![mail.to_owned()]), "{case}");
        assert_eq!(outcome.diagnosis().security, Some(level), "{case}");
    }
}

// RTLS-50, RTLS-53, D110, D111, D112, D114: broken promises are reported, and in nobody's way.
#[tokio::test]
async fn mail_with_tls_required_no_passes_broken_promises_that_are_still_reported() {
    let authority = Authority::new();
    for (row, manners, listed, level, result) in [
        (
            "D110",
            expired(&authority, "mx.example.net"),
            "mx.example.net",
            Level::Encrypted,
            ResultType::CertificateExpired,
        ),
        ("D111", Manners::default(), "mx.example.net", Level::Plain, ResultType::StarttlsNotSupported),
        (
            "D112",
            manners(&authority, "mx.example.net", &[]),
            "other.example.net",
            Level::Encrypted,
            ResultType::ValidationFailure,
        ),
        (
            "D114",
            Manners { alert: true, ..manners(&authority, "mx.example.net", &[]) },
            "mx.example.net",
            Level::Plain,
            ResultType::ValidationFailure,
        ),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, &authority);
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        w.enforce("a.example", &[listed]);
        let outcome = send(&w, "a.example", SenderTls::Optional).await;
        assert_eq!(outcome.word(), "delivered", "{row}: {outcome:?}");
        assert_eq!(outcome.diagnosis().security, Some(level), "{row}");
        assert_eq!(mails(&ears), ["MAIL FROM:<app@example.org>"], "{row}");
        let records = std::mem::take(&mut *w.notes.records.lock().unwrap());
        assert_eq!(records.len(), 1, "{row}: {records:?}");
        assert_eq!(records[0].verdicts[0].details[0].result, result, "{row}");
        assert_eq!(outcome.diagnosis().tls_failure, Some(result), "{row}: the log names what was let pass");
        w.promises("a.example", Mode::Testing, &[listed]);
        let outcome = send(&w, "a.example", SenderTls::Optional).await;
        assert_eq!(outcome.diagnosis().tls_failure, None, "{row}: nobody was asked to look away");
        w.enforce("a.example", &[listed]);
        assert_eq!(send(&w, "a.example", SenderTls::Unsaid).await.word(), "deferred", "{row}");
    }
}

// D116, RTLS-51
#[tokio::test]
async fn d116_a_host_that_insists_on_tls_it_cannot_do_returns_mail_with_tls_required_no() {
    let authority = Authority::new();
    let insists = Manners {
        alert: true,
        instead: vec![("MAIL", "530 5.7.0 Must issue a STARTTLS command first")],
        ..manners(&authority, "mx.example.net", &[])
    };
    let (port, _) = serve("127.0.0.1", 0, insists).await;
    let w = world(port, &authority);
    w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
    let outcome = send(&w, "a.example", SenderTls::Optional).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("bounced", "5.7.0".to_owned()), "{outcome:?}");
    assert!(outcome.diagnosis().text.contains("Must issue a STARTTLS command first"));
    let outcome = send(&w, "a.example", SenderTls::Unsaid).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("deferred", "4.7.4".to_owned()));
}

// RTLS-51, R10: "the server" is every server of the domain.
#[tokio::test]
async fn a_host_that_insists_on_tls_is_no_reason_to_leave_the_next_one_out() {
    let authority = Authority::new();
    let insists = |name| Manners {
        alert: true,
        instead: vec![("MAIL", "530 5.7.0 Must issue a STARTTLS command first")],
        ..manners(&authority, name, &[])
    };
    let busy = Manners { instead: vec![("MAIL", "451 4.3.0 later")], ..Manners::default() };
    for (first, second, want) in [
        (insists("mx1.example.net"), Manners::default(), "delivered"),
        (insists("mx1.example.net"), busy.clone(), "deferred"),
        (busy, insists("mx2.example.net"), "deferred"),
        (insists("mx1.example.net"), insists("mx2.example.net"), "bounced"),
    ] {
        let (port, _) = serve("127.0.0.1", 0, first).await;
        let (_, two) = serve("127.0.0.2", port, second).await;
        let w = world(port, &authority);
        w.route("a.example", &[("mx1.example.net", &["127.0.0.1"]), ("mx2.example.net", &["127.0.0.2"])]);
        let outcome = send(&w, "a.example", SenderTls::Optional).await;
        assert_eq!((outcome.word(), mails(&two).len()), (want, 1), "{outcome:?}");
    }
}

// RTLS-22: a configured host needs nobody to vouch for its name.
#[tokio::test]
async fn a_next_hop_gets_mail_with_requiretls_over_verified_tls_or_not_at_all() {
    let authority = Authority::new();
    for (certificate, want, said) in [
        ("relay.example.net", "delivered", vec!["MAIL FROM:<app@example.org> REQUIRETLS"]),
        ("other.example.net", "deferred", vec![]),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, manners(&authority, certificate, OFFERED)).await;
        let w = world(port, &authority);
        let hosts = vec![host("relay.example.net", 0, &["127.0.0.1"])];
        let next_hop = SmartHost::new("relay.example.net", port, false, &[]);
        // Written, so that it is the sender alone who asks.
        let minimum = Some(Demand::NOTHING);
        let rule = Arc::new(Rule { number: 1, pattern: "*".into(), next_hop, minimum, ..Rule::default() });
        let (next_hop, kind) = (domain("relay.example.net"), RouteKind::SmartHost);
        let route = Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule: Some(rule) };
        w.resolves("a.example", Ok(route));
        let outcome = send(&w, "a.example", SenderTls::Required).await;
        assert_eq!((outcome.word(), mails(&ears)), (want, said.iter().map(|s| (*s).to_owned()).collect()));
    }
}

// D117, RTLS-52
#[tokio::test]
async fn d117_without_a_host_there_is_nothing_to_send_to_whatever_the_header_says() {
    let authority = Authority::new();
    let w = world(1, &authority);
    w.resolves("a.example", Err(RouteFailure::Dns(dns_error(DnsErrorKind::Bogus))));
    for sender_tls in [SenderTls::Optional, SenderTls::Required, SenderTls::Unsaid] {
        let outcome = send(&w, "a.example", sender_tls).await;
        assert_eq!((outcome.word(), enhanced(&outcome)), ("deferred", "4.4.3".to_owned()));
        let records = std::mem::take(&mut *w.notes.records.lock().unwrap());
        assert_eq!(records[0].verdicts[0].details[0].result, ResultType::DnssecInvalid, "D01");
    }
}

// RTLS-10, RTLS-54
#[tokio::test]
async fn what_the_operator_demands_outranks_the_header() {
    let authority = Authority::new();
    let (port, ears) = serve("127.0.0.1", 0, expired(&authority, "mx.example.net")).await;
    let w = World::new(port, authority.tls());
    let rule = Rule { minimum: Some(Demand::VERIFIED), ..Rule::default() };
    let hosts = vec![host("mx.example.net", 10, &["127.0.0.1"])];
    let (next_hop, kind) = (domain("a.example"), RouteKind::Mx);
    let rule = Some(Arc::new(rule));
    w.resolves("a.example", Ok(Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule }));
    let outcome = send(&w, "a.example", SenderTls::Optional).await;
    assert_eq!((outcome.word(), enhanced(&outcome)), ("deferred", "4.7.5".to_owned()));
    assert_eq!(mails(&ears).len(), 0);
    let d = outcome.diagnosis();
    let unmet = d.unmet.as_ref().unwrap();
    assert!(unmet.is_own_rule() && !unmet.next_hop && unmet.fixed.is_none(), "{unmet:?}");
    assert!(d.certificate().is_some_and(|c| c.names == ["mx.example.net"]), "what was shown is told");
}
