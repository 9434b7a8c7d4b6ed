//! What an operator's exception does not reach.

use std::sync::Arc;

use sealpost::dane::TlsaAnswer;
use sealpost::mail::Domain;
use sealpost::security::decide::{Asked, Demand, Gate, MessageKind, Sources, decide};
use sealpost::security::exception::{Allow, Exception};
use sealpost::security::verdict::{Evidence, judge};

use super::columns::*;
use super::judging::*;

// An operator's exception speaks for the operator and the recipient's domain, never for the sender.
#[test]
fn no_exception_lets_a_host_off_what_the_sender_requires() {
    let host = Domain::parse("mx.example.net").unwrap();
    let exception = Arc::new(Exception {
        domain: host.clone(),
        allow: Allow::Plain,
        until: NOW,
        reason: "x".into(),
        by: "ops".into(),
    });
    let demanded = |message, name_assured| {
        let gate = decide(&Sources {
            next_hop: &host,
            host: &host,
            name_assured,
            identified: name_assured,
            tlsa: &TlsaAnswer::None,
            references: &[],
            require_both: false,
            policy: None,
            fetch_failure: None,
            operator: Demand::VERIFIED,
            floor: Demand::NOTHING,
            exception: Some(&exception),
            message,
            asked: Asked::All,
        });
        match gate {
            Gate::Contact(policy) => Some((policy.demand, policy.waiver.is_some())),
            Gate::Refuse(..) => None,
        }
    };
    let let_off = Some((Demand::NOTHING, true));
    assert_eq!(demanded(MessageKind::Normal, false), let_off);
    assert_eq!(demanded(MessageKind::RequireTlsNotice, false), let_off);
    assert_eq!(demanded(MessageKind::RequireTls, true), Some((Demand::PKIX, false)));
    assert_eq!(demanded(MessageKind::RequireTls, false), None);
}

// A password goes to hosts that prove by DANE who they are, where the rule says so: no exception reaches that.
#[test]
fn no_exception_reaches_below_the_floor() {
    let host = Domain::parse("mx.example.net").unwrap();
    let (domain, until) = (host.clone(), NOW);
    let allow = Allow::Encrypt;
    let exception = Arc::new(Exception { domain, allow, until, reason: "x".into(), by: "ops".into() });
    for tlsa in [Tlsa::None, Tlsa::Unusable, Tlsa::Failed, DOK] {
        let gate = decide(&Sources {
            next_hop: &host,
            host: &host,
            name_assured: true,
            identified: true,
            tlsa: &dane_column(tlsa).0,
            references: &[],
            require_both: false,
            policy: None,
            fetch_failure: None,
            operator: Demand::DANE,
            floor: Demand::DANE,
            exception: Some(&exception),
            message: MessageKind::Normal,
            asked: Asked::All,
        });
        assert_eq!(matches!(gate, Gate::Contact(_)), tlsa == DOK, "{tlsa:?}");
    }
}

// A promise that cannot be seen now may be broken all the same: the next session in which it is seen would find no exception.
#[test]
fn an_exception_ends_only_where_all_promises_were_looked_for() {
    let host = Domain::parse("mx.example.net").unwrap();
    let (domain, until) = (host.clone(), NOW);
    let exception = Exception { domain, allow: Allow::Encrypt, until, reason: "x".into(), by: "ops".into() };
    for (asked, ends) in
        [(Asked::All, true), (Asked::AllForNames, true), (Asked::AsConfigured, true), (Asked::Fewer, false)]
    {
        let Gate::Contact(policy) = decide(&Sources {
            next_hop: &host,
            host: &host,
            name_assured: false,
            identified: false,
            tlsa: &TlsaAnswer::None,
            references: &[],
            require_both: false,
            policy: None,
            fetch_failure: None,
            // A rule of the operator's own, for every domain, that the session meets.
            operator: Demand::ENCRYPTED,
            floor: Demand::NOTHING,
            exception: Some(&Arc::new(exception.clone())),
            message: MessageKind::Normal,
            asked,
        }) else {
            panic!("nothing stands against a connection");
        };
        let evidence =
            Evidence { host: host.clone(), tls: session(UNT, &host, Vec::new()), requiretls: false };
        assert_eq!(judge(&policy, &evidence).exception_unneeded, ends, "{asked:?}");
    }
}
