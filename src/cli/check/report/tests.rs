//! What `check` says, apart from the asking.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cli::System;
use crate::config::Tls;
use crate::dns::belief;
use crate::mtasts::policy::Policy;
use crate::mtasts::{Backoff, DomainMemory};

// STS-13, STS-25: what a delivery does not fetch is shown, and does not apply.
#[test]
fn the_live_policy_applies_only_where_a_delivery_fetches_it() {
    let policy = |id: &str, mode: &str| {
        let body = format!("version: STSv1\nmode: {mode}\nmx: mx.d.example\nmax_age: 86400\n");
        Arc::new(StoredPolicy {
            domain: Domain::parse("d.example").unwrap(),
            id: id.to_owned(),
            policy: Policy::parse(body.as_bytes()).unwrap(),
            fetched: Timestamp::from_millis(0),
            expires: Timestamp::from_millis(0),
            last_used: Timestamp::from_millis(0),
        })
    };
    let (stored, live) = (policy("1", "testing"), policy("1", "enforce"));
    let backoff = Backoff {
        id: "1".to_owned(),
        until: Timestamp::from_millis(60_000),
        step: Duration::from_secs(60),
        failure: FetchFailure::fetch_error("http-500", ""),
    };
    let later = Some("when the id changes, or at the next refresh");
    let stopped =
        Some("when the id changes, at the next refresh, or after an attempt that the cached one stopped");
    let waits = Some("when the wait after a fetch that failed is over, at 1970-01-01T00:01:00Z");
    for (step, live, used, applied, mode, applies) in [
        (Step::UseStored, &live, Some(&stored), Some("cached"), Some(Mode::Testing), later),
        (Step::UseStored, &stored, Some(&stored), Some("cached"), Some(Mode::Testing), None),
        (Step::UseStored, &stored, Some(&live), Some("cached"), Some(Mode::Enforce), stopped),
        (Step::BackedOff, &live, Some(&stored), Some("cached"), Some(Mode::Testing), waits),
        (Step::BackedOff, &live, None, None, None, waits),
        (Step::Fetch { id: "1".to_owned() }, &live, Some(&live), Some("live"), Some(Mode::Enforce), None),
    ] {
        let applicable = Applicable { policy: used.cloned(), ..Applicable::default() };
        let look = LiveLook {
            txt: Txt::Id("1".to_owned()),
            dns_error: None,
            step,
            live: Some(Ok(Arc::clone(live))),
            stored: Some(Arc::clone(&stored)),
            memory: DomainMemory { backoff: Some(backoff.clone()), ..DomainMemory::default() },
            applicable: applicable.clone(),
        };
        let got = PolicyReport::new(&look, Some(&applicable), false);
        assert_eq!(
            (got.applied, got.applied_mode, got.live_applies.as_deref()),
            (applied, mode, applies),
            "{:?}",
            look.step
        );
    }
}

// RTLS-01, RTLS-29: `check` says what EHLO says.
#[test]
fn requiretls_is_accepted_only_where_the_listener_offers_it() {
    let proven = Belief::new(belief::Mode::TrustAd, String::new());
    proven.proven().set(true);
    let accepted = |keys: &str, tls: bool, belief: &Belief| {
        let text = format!("hostname = \"relay.example.net\"\n{keys}\n");
        let mut config = Config::parse(&text, Path::new("sealpost.toml"), &System::RELAY).unwrap();
        config.tls = tls.then(|| Tls { certificate: "c".into(), private_key: "k".into() });
        RequireTlsReport::new(&config, belief).accepted
    };
    assert!(accepted("", true, &proven));
    assert!(!accepted("", false, &proven));
    assert!(!accepted("[mta_sts]\nenabled = false", true, &proven));
    assert!(!accepted("", true, &Belief::new(belief::Mode::TrustAd, String::new())));
}
