//! What an operator's exception does not reach.

use std::sync::Arc;

use sealpost::dane::TlsaAnswer;
use sealpost::mail::Domain;
use sealpost::security::decide::{Demand, Gate, MessageKind, Sources, decide};
use sealpost::security::exception::{Allow, Exception};

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
            dnssec: true,
        });
        match gate {
            Gate::Contact(policy) => Some((policy.demand, policy.waiver.is_some())),
            Gate::Refuse(..) => None,
        }
    };
    let let_off = Some((Demand::NOTHING, true));
    assert_eq!(demanded(MessageKind::Normal, false), let_off);
    assert_eq!(demanded(MessageKind::RequireTlsNotice, false), let_off);
    assert_eq!(demanded(MessageKind::RequireTls, true), Some((Demand::VERIFIED, false)));
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
            dnssec: true,
        });
        assert_eq!(matches!(gate, Gate::Contact(_)), tlsa == DOK, "{tlsa:?}");
    }
}
