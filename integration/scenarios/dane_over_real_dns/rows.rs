//! The domains: rows of the decision table that can be staged with real programs. Here: what hosts do and what is demanded.

use super::row::{DANE, NO_MATCH, Row, Stage, row};
use super::rows_dns::{dns, wildcards};
use crate::world::ca::{Flaw, Leaf};
use crate::world::mx::StartTls;

pub(super) fn all() -> Vec<Row> {
    let mut rows = matches();
    rows.extend(demands());
    rows.extend(dns());
    rows.extend(wildcards());
    rows
}

/// What a certificate must be.
fn matches() -> Vec<Row> {
    vec![
        row("d50.example", "D50, DANE-22", |s| s.pinned(Flaw::WrongName), DANE, &["tlsa +1 -0"]),
        row("d50-expired.example", "D50, DANE-22", |s| s.pinned(Flaw::Expired), DANE, &["tlsa +1 -0"]),
        row("d50-self.example", "D50", |s| s.pinned(Flaw::SelfSigned), DANE, &["tlsa +1 -0"]),
        row(
            "d50-short.example",
            "D50, DANE-22, RSA of 1024 bits",
            |s| {
                let leaf = Leaf::short();
                s.put("@", "MX 10 mx.@.");
                s.shows("mx.@", &leaf);
                s.tlsa("mx.@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "ta-short.example",
            "DANE-24, RSA of 1024 bits",
            |s| {
                let leaf = s.world.ca.issue_short(&s.name("mx.@"));
                s.put("@", "MX 10 mx.@.");
                s.shows("mx.@", &leaf);
                s.tlsa("mx.@", "2 1 1", leaf.key_digest(1));
            },
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 certificate-not-trusted/weak-key"],
        )
        .saying("untrusted (weak-key)"),
        row("ta.example", "DANE-24", |s| s.below(Flaw::UntrustedIssuer), DANE, &["tlsa +1 -0"]),
        row(
            "d51.example",
            "D51",
            |s| {
                s.mx("mx.@", Flaw::None);
                s.tlsa("mx.@", "3 1 1", [7; 32]);
            },
            ("deferred", "4.7.5"),
            NO_MATCH,
        )
        .saying("matches no TLSA record"),
        row(
            "d52.example",
            "D52",
            |s| s.below(Flaw::WrongName),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 certificate-host-mismatch"],
        ),
        row(
            "d53.example",
            "D53",
            |s| s.below(Flaw::Expired),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 certificate-expired"],
        ),
        row(
            "stale-and-good.example",
            "DANE-30",
            |s| {
                s.pinned(Flaw::None);
                s.tlsa("mx.@", "3 1 1", [7; 32]);
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "agility.example",
            "DANE-31",
            |s| {
                s.pinned(Flaw::None);
                let owner = format!("_{}._tcp.mx.@", s.world.port);
                s.put(&owner, &format!("TLSA 3 1 2 {}", "07".repeat(64)));
            },
            ("deferred", "4.7.5"),
            NO_MATCH,
        ),
        row(
            "preferred.example",
            "DANE-13, DANE-14",
            |s| {
                s.mx("mx1.@", Flaw::SelfSigned);
                let leaf = s.mx("mx2.@", Flaw::None);
                s.tlsa("mx2.@", "3 1 1", leaf.key_digest(0));
            },
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "m4.example",
            "M4, DANE-33",
            |s| {
                s.mx("mx1.@", Flaw::None);
                s.tlsa("mx1.@", "3 1 1", [7; 32]);
                let leaf = s.mx("mx2.@", Flaw::None);
                s.tlsa("mx2.@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -1 validation-failure/dane-no-match"],
        )
        .by(1),
    ]
}

/// What a session must be.
fn demands() -> Vec<Row> {
    let unusable: fn(&mut Stage<'_>) = |s| {
        let leaf = s.mx("mx.@", Flaw::SelfSigned);
        s.tlsa("mx.@", "1 1 1", leaf.key_digest(0));
    };
    vec![
        row(
            "d54.example",
            "D54",
            |s| {
                s.pinned(Flaw::None);
                s.stripped();
            },
            ("deferred", "4.7.4"),
            &["tlsa +0 -1 starttls-not-supported"],
        )
        .saying("TLS is required by dane policy for d54.example"),
        row(
            "d55.example",
            "D55, DANE-37",
            |s| {
                s.pinned(Flaw::None);
                s.hosts[0].behave(|b| b.starttls = StartTls::Octets(b"no handshake\r\n"));
            },
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 validation-failure/tls-invalid-message"],
        )
        .connections(1),
        row(
            "d56.example",
            "D56, DANE-21",
            unusable,
            ("delivered", "encrypted"),
            &["tlsa +0 -1 tlsa-invalid/all-unusable"],
        ),
        row(
            "d57.example",
            "D57",
            |s| {
                s.mx("mx.@", Flaw::None);
                s.tlsa("mx.@", "1 1 1", [7; 32]);
                s.stripped();
            },
            ("deferred", "4.7.4"),
            &["tlsa +0 -1 starttls-not-supported tlsa-invalid/all-unusable"],
        ),
        row(
            "d58.example",
            "D58",
            |s| {
                s.mx("mx.@", Flaw::None);
                s.stripped();
            },
            ("delivered", "plain"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        ),
        row(
            "d63.example",
            "D63, DANE-34",
            // Where there are no records, posttls-finger goes by authorities instead.
            |s| drop(s.mx("mx.@", Flaw::SelfSigned)),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dane-required"],
        )
        .dane_only()
        .saying("DANE is required by local policy for d63.example")
        .connections(0),
        row(
            "d63-unusable.example",
            "D63, DANE-34",
            unusable,
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dane-required"],
        )
        .dane_only()
        .saying("mx.d63-unusable.example has no usable TLSA records")
        .connections(0),
        row("d63-matches.example", "DANE-34", |s| s.pinned(Flaw::SelfSigned), DANE, &["tlsa +1 -0"])
            .dane_only(),
        row(
            "d72.example",
            "D72",
            |s| {
                s.pinned(Flaw::SelfSigned);
                s.world.publish_policy("d72.example", "1", "enforce", &["mx.elsewhere.example"]);
                s.put("_mta-sts.@", "TXT \"v=STSv1; id=1;\"");
                let at = s.world.address(3).ip();
                s.put("mta-sts.@", &format!("A {at}"));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
    ]
}
