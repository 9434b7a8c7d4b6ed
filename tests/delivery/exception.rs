//! A dated exception on the wire: it lets mail through, tells the truth, and ends when it is not needed.

use std::sync::Arc;

use sealpost::clock::Timestamp;
use sealpost::delivery::attempt::AttemptSettings;
use sealpost::mail::SenderTls;
use sealpost::route::smart_host::Rule;
use sealpost::security::Level;
use sealpost::security::decide::Demand;
use sealpost::security::exception::{Allow, Exception, Exceptions};
use sealpost::smtp::sasl::Credentials;
use sealpost::tlsrpt::ResultType;

use crate::authority::Authority;
use crate::server::{Manners, count, serve};
use crate::world::{World, domain, lease, words};

fn exception(allow: Allow, until: &str) -> Exception {
    Exception {
        domain: domain("a.example"),
        allow,
        until: Timestamp::parse_rfc3339(until).unwrap(),
        reason: "ticket 4711".into(),
        by: "ops".into(),
    }
}

const AHEAD: &str = "2999-12-24T23:59:59Z";

/// Mail for a.example and b.example goes to one host, which both list in enforce policies.
fn world(port: u16, authority: &Authority, exceptions: &Arc<Exceptions>) -> World {
    let settings = AttemptSettings { port, ..AttemptSettings::new(domain("relay.example.org")) };
    let w = World::excepting(settings, authority.tls(), Arc::clone(exceptions));
    for name in ["a.example", "b.example"] {
        w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
        w.enforce(name, &["mx.example.net"]);
    }
    w
}

#[tokio::test]
async fn an_exception_delivers_over_a_broken_certificate_and_reports_it() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", true));
    let (port, ears) = serve("127.0.0.1", 0, Manners { tls, ..Manners::default() }).await;
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Encrypt, AHEAD)], &[]));
    let w = world(port, &authority, &exceptions);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    let d = outcomes[0].diagnosis();
    assert_eq!(d.security, Some(Level::Encrypted));
    let waived = d.waived.as_ref().unwrap();
    assert_eq!((waived.allow, &*waived.reason, &*waived.by), (Allow::Encrypt, "ticket 4711", "ops"));
    assert!(waived.failure.contains("expired"), "{}", waived.failure);
    assert!(d.promise.as_ref().unwrap().broken.is_some());
    assert_eq!(d.tls_failure, Some(ResultType::CertificateExpired), "the log names what was let pass");
    // RFC 8460 §4.3: what the domain is told is what happened.
    let entries: Vec<_> = {
        let records = w.notes.records.lock().unwrap();
        records.iter().flat_map(|r| r.verdicts.clone()).collect()
    };
    assert_eq!(entries.len(), 1);
    assert!(!entries[0].success && entries[0].details[0].result.as_str() == "certificate-expired");
    // It is for one domain: another on the same host is kept its promise, open session or not.
    let (_, outcomes) = w.deliver("b.example", 1).await;
    assert_eq!((words(&outcomes), count(&ears, "MAIL")), (vec!["deferred"], 1));
    assert!(outcomes[0].diagnosis().waived.is_none());
}

#[tokio::test]
async fn an_exception_allows_what_it_says_and_no_more() {
    let authority = Authority::new();
    for (name, tls, alert, allow, until, want) in [
        ("no TLS, encrypt", false, false, Allow::Encrypt, AHEAD, "deferred"),
        ("no TLS, plain", false, false, Allow::Plain, AHEAD, "delivered"),
        ("no handshake, encrypt", true, true, Allow::Encrypt, AHEAD, "deferred"),
        ("no handshake, plain", true, true, Allow::Plain, AHEAD, "delivered"),
        ("over", false, false, Allow::Plain, "2026-01-01T23:59:59Z", "deferred"),
    ] {
        let tls = tls.then(|| authority.server("mx.example.net", true));
        let (port, _) = serve("127.0.0.1", 0, Manners { tls, alert, ..Manners::default() }).await;
        let exceptions = Arc::new(Exceptions::new([exception(allow, until)], &[]));
        let w = world(port, &authority, &exceptions);
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(words(&outcomes), [want], "{name}");
        // What waits all the same was let off nothing.
        assert_eq!(outcomes[0].diagnosis().waived.is_some(), want == "delivered", "{name}");
    }
}

// STS-76: before TLS anybody may have said it; an exception delivers mail, it does not return it.
#[tokio::test]
async fn a_refusal_in_the_clear_is_no_bounce_under_an_exception() {
    let authority = Authority::new();
    let manners = Manners { greeting: Some("554 5.7.1 go away"), ..Manners::default() };
    let (port, _) = serve("127.0.0.1", 0, manners).await;
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Plain, AHEAD)], &[]));
    let w = world(port, &authority, &exceptions);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["deferred"]);
}

#[tokio::test]
async fn an_exception_ends_early_with_the_first_session_that_does_not_need_it() {
    let authority = Authority::new();
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Plain, AHEAD)], &[]));
    let sound = Some(authority.server("mx.example.net", false));
    let (port, _) = serve("127.0.0.1", 0, Manners { tls: sound, ..Manners::default() }).await;
    let w = world(port, &authority, &exceptions);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Verified));
    assert!(outcomes[0].diagnosis().waived.is_none());
    assert!(exceptions.iter().all(|(_, ended)| ended));

    // Broken again: the permission is gone.
    let broken = Some(authority.server("mx.example.net", true));
    let (port, ears) = serve("127.0.0.1", 0, Manners { tls: broken, ..Manners::default() }).await;
    let w = world(port, &authority, &exceptions);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), count(&ears, "MAIL")), (vec!["deferred"], 0));
}

// Nothing is promised that could be found sound: a policy that cannot be seen now is no reason to end a permission.
#[tokio::test]
async fn an_exception_does_not_end_while_nothing_is_asked_for() {
    let authority = Authority::new();
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Plain, AHEAD)], &[]));
    let sound = Some(authority.server("mx.example.net", false));
    let (port, _) = serve("127.0.0.1", 0, Manners { tls: sound, ..Manners::default() }).await;
    let settings = AttemptSettings { port, ..AttemptSettings::new(domain("relay.example.org")) };
    let w = World::excepting(settings, authority.tls(), Arc::clone(&exceptions));
    w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    assert!(exceptions.iter().all(|(_, ended)| !ended) && outcomes[0].diagnosis().waived.is_none());
}

// RFC 8689 §4.2.1: what the sender asked for is not the operator's to let off; RTLS-54 the other way round.
#[tokio::test]
async fn an_exception_lets_nothing_off_that_the_sender_asked_for() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", true));
    let (port, ears) =
        serve("127.0.0.1", 0, Manners { tls, offers: vec!["REQUIRETLS"], ..Manners::default() }).await;
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Encrypt, AHEAD)], &[]));
    let w = world(port, &authority, &exceptions);
    for (sender_tls, want) in [(SenderTls::Required, "deferred"), (SenderTls::Optional, "delivered")] {
        let mut mail = lease("a.example", 1);
        Arc::make_mut(&mut mail.message).sender_tls = sender_tls;
        let (_, outcomes) = w.run(&mail).await;
        assert_eq!(words(&outcomes), [want]);
    }
    assert_eq!(count(&ears, "MAIL"), 1);
}

// A message that looks away from promises says nothing about whether they are kept.
#[tokio::test]
async fn an_exception_does_not_end_by_mail_that_heeds_no_policy() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", true));
    let (port, _) = serve("127.0.0.1", 0, Manners { tls, ..Manners::default() }).await;
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Encrypt, AHEAD)], &[]));
    let w = world(port, &authority, &exceptions);
    let minimum = Some(Demand::ENCRYPTED);
    w.ruled("a.example", Rule { pattern: "*".into(), minimum, ..Rule::default() });
    let mut mail = lease("a.example", 1);
    Arc::make_mut(&mut mail.message).sender_tls = SenderTls::Optional;
    let (_, outcomes) = w.run(&mail).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    assert!(exceptions.iter().all(|(_, ended)| !ended));
}

// OUT-56: a password is worth more than a message; smtps stays TLS.
#[tokio::test]
async fn an_exception_shows_no_password_and_opens_no_smtps() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", true));
    let offers = vec!["AUTH PLAIN"];
    let (port, ears) = serve("127.0.0.1", 0, Manners { tls, offers, ..Manners::default() }).await;
    let exceptions = Arc::new(Exceptions::new([exception(Allow::Plain, AHEAD)], &[]));
    let w = world(port, &authority, &exceptions);
    let credentials = Some(Credentials { user: "u".into(), password: "p".into() });
    w.ruled("a.example", Rule { number: 1, pattern: "*".into(), credentials, ..Rule::default() });
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), count(&ears, "AUTH")), (vec!["deferred"], 0));
}
