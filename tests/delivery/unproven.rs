//! Sessions whose handshake signature is wrong: the peer shows a certificate that need not be its own (`What always holds`,
//! sentence 5; RFC 8446 §4.4.3).

use std::sync::Arc;

use sealpost::clock::Timestamp;
use sealpost::delivery::attempt::AttemptSettings;
use sealpost::route::smart_host::Rule;
use sealpost::security::Level;
use sealpost::security::decide::Demand;
use sealpost::security::exception::{Allow, Exception, Exceptions};

use crate::authority::Authority;
use crate::server::{Ears, Manners, connections, count, serve};
use crate::world::{World, all_entries, domain, enhanced, words};

const HOST: &str = "mx.example.net";

/// `free.example` and `bound.example` with one host, which shows a certificate whose key it does not have. The second domain
/// may have an exception.
async fn world(allow: Option<Allow>) -> (World, Ears, u16) {
    let authority = Authority::new();
    let manners = Manners { tls: Some(authority.replaying(HOST)), ..Manners::default() };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let exception = allow.map(|allow| Exception {
        domain: domain("bound.example"),
        allow,
        until: Timestamp::parse_rfc3339("2999-12-24T23:59:59Z").unwrap(),
        reason: "ticket 4711".into(),
        by: "ops".into(),
    });
    let settings = AttemptSettings { port, ..AttemptSettings::new(domain("relay.example.org")) };
    let w = World::excepting(settings, authority.tls(), Arc::new(Exceptions::new(exception, &[])));
    for name in ["free.example", "bound.example"] {
        w.signed_route(name, true, &[(HOST, &["127.0.0.1"])]);
    }
    (w, ears, port)
}

/// What asks for TLS with `bound.example`, and what its report says of it.
enum Asks {
    Policy,
    Operator,
    UnusableRecords,
}

impl Asks {
    fn of(&self, w: &World, port: u16) -> &'static str {
        let name = "bound.example";
        match self {
            Self::Policy => {
                w.enforce(name, &[HOST]);
                "sts bound.example -validation-failure/bad-signature"
            }
            Self::Operator => {
                let minimum = Some(Demand::ENCRYPTED);
                w.ruled(name, Rule { pattern: name.into(), minimum, ..Rule::default() });
                "none bound.example -validation-failure/bad-signature"
            }
            Self::UnusableRecords => {
                // For this domain alone: the other one's addresses are not signed.
                w.route("free.example", &[(HOST, &["127.0.0.1"])]);
                w.zone
                    .add(&format!("secure {HOST}\n_{port}._tcp.{HOST} TLSA 1 1 1 {}", "00".repeat(32)))
                    .unwrap();
                "tlsa mx.example.net -tlsa-invalid/all-unusable,validation-failure/bad-signature"
            }
        }
    }
}

// DANE-19, DANE-23, OUT-51, STS-72: whoever asks for TLS waits, whether the session is new or another domain has it open.
#[tokio::test]
async fn no_demand_of_tls_is_met_by_a_session_without_proof() {
    for asks in [Asks::Policy, Asks::Operator, Asks::UnusableRecords] {
        for pooled in [false, true] {
            for allow in [None, Some(Allow::Encrypt)] {
                let (w, ears, port) = world(allow).await;
                let entry = asks.of(&w, port);
                let case = format!("{entry}, pooled: {pooled}, {allow:?}");
                if pooled {
                    let (_, outcomes) = w.deliver("free.example", 1).await;
                    assert_eq!(words(&outcomes), ["delivered"], "{case}");
                    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Encrypted), "{case}");
                    assert_eq!(all_entries(&w), ["none free.example +"], "{case}");
                    w.notes.records.lock().unwrap().clear();
                }
                let (report, outcomes) = w.deliver("bound.example", 1).await;
                assert_eq!(
                    (words(&outcomes), enhanced(&outcomes[0])),
                    (vec!["deferred"], "4.7.5".to_owned()),
                    "{case}"
                );
                let text = &outcomes[0].diagnosis().text;
                assert!(text.contains("did not prove that it has the certificate's key"), "{case}: {text}");
                // One connection for the other domain, and one for this, whose handshake was not gone on with.
                let sessions = (connections(&ears), count(&ears, "<tls"));
                assert_eq!(sessions, (1 + usize::from(pooled), usize::from(pooled)), "{case}");
                assert_eq!(count(&ears, "RCPT TO:<r0@bound.example>"), 0, "{case}");
                assert_eq!(all_entries(&w), [entry], "{case}");
                assert!(report.reached, "{case}");
            }
        }
    }
}

// An exception that allows the clear allows this too: it stays encrypted, is named, and is reported as what it is.
#[tokio::test]
async fn an_exception_for_the_clear_lets_such_a_session_pass_encrypted() {
    let proof = "did not prove that it has the";
    for (asks, entry) in [
        (Asks::Policy, "sts bound.example -certificate-not-trusted/bad-signature"),
        (Asks::Operator, "none bound.example -validation-failure/bad-signature"),
        (
            Asks::UnusableRecords,
            "tlsa mx.example.net -tlsa-invalid/all-unusable,validation-failure/bad-signature",
        ),
    ] {
        let (w, ears, port) = world(Some(Allow::Plain)).await;
        asks.of(&w, port);
        // Twice: what needs the exception does not end it.
        for _ in 0..2 {
            let (_, outcomes) = w.deliver("bound.example", 1).await;
            let d = outcomes[0].diagnosis();
            assert_eq!(
                (words(&outcomes), d.security),
                (vec!["delivered"], Some(Level::Encrypted)),
                "{entry}"
            );
            let waived = d.waived.as_ref().unwrap();
            assert!(waived.failure.contains(proof) || waived.failure.contains("bad-signature"), "{waived}");
        }
        assert_eq!((connections(&ears), all_entries(&w)), (1, vec![entry.to_owned()]));
    }
}
