//! The like: what DNSSEC vouches for, aliases, zones that are not signed, wildcards.

use super::row::{DANE, NO_MATCH, Row, Stage, row};
use crate::world::ca::Flaw;

/// How far DNSSEC vouches.
pub(super) fn dns() -> Vec<Row> {
    vec![
        row(
            "tlsa-bogus.example",
            "D59, DANE-06",
            |s| s.pinned(Flaw::None),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dnssec-invalid/bogus"],
        )
        .saying("TLSA lookup for mx.tlsa-bogus.example failed")
        .connections(0),
        row(
            "mx-bogus.example",
            "D01, DANE-04",
            |s| s.pinned(Flaw::None),
            ("deferred", "4.4.3"),
            &["tlsa +0 -1 dnssec-invalid/bogus"],
        )
        .connections(0),
        row(
            "expired.example",
            "D01, expired signatures",
            |s| {
                s.pinned(Flaw::None);
                // The name that the self-test asks about.
                s.put("@", "A 127.0.0.1");
            },
            ("deferred", "4.4.3"),
            &["tlsa +0 -1 dnssec-invalid/bogus"],
        )
        .connections(0),
        row(
            "d60.example",
            "D60, DANE-07",
            |s| {
                s.mx("mx.d60.unsigned.example", Flaw::None);
                s.tlsa("mx.d60.unsigned.example", "3 1 1", [7; 32]);
            },
            ("delivered", "verified"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "d61.example",
            "D61, DANE-09",
            |s| {
                s.put("@", "MX 10 mx.@.");
                s.put("mx.@", "CNAME h.d61.unsigned.example.");
                let leaf = s.host("h.d61.unsigned.example", Flaw::WrongName);
                s.tlsa("mx.@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        )
        .sni("mx.d61.example"),
        row(
            "alias.example",
            "DANE-09, DANE-32",
            |s| {
                s.put("@", "MX 10 mx.@.");
                s.put("mx.@", "CNAME h.provider.example.");
                let leaf = s.host("h.provider.example", Flaw::WrongName);
                s.tlsa("h.provider.example", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        )
        .sni("h.provider.example"),
        row(
            "tlsa-alias.example",
            "DANE-11",
            |s| {
                let leaf = s.mx("mx.@", Flaw::WrongName);
                let owner = format!("_{}._tcp.mx.@", s.world.port);
                s.put(&owner, "CNAME tlsa._dane.@.");
                let hex: String = leaf.key_digest(0).iter().map(|b| format!("{b:02x}")).collect();
                s.put("tlsa._dane.@", &format!("TLSA 3 1 1 {hex}"));
            },
            DANE,
            &["tlsa +1 -0"],
        )
        .sni("mx.tlsa-alias.example"),
        row(
            "d62.example",
            "D62, DANE-17",
            |s| {
                let leaf = s.host("@", Flaw::SelfSigned);
                s.tlsa("@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "d77.unsigned.example",
            "D77, DANE-15",
            |s| {
                s.put("@", "MX 10 mx.d77.example.");
                let leaf = s.host("mx.d77.example", Flaw::SelfSigned);
                s.tlsa("mx.d77.example", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        // Whoever forges an unsigned MX set has a signed host of his own.
        row(
            "d34.unsigned.example",
            "DANE-34",
            |s| {
                s.put("@", "MX 10 mx.d34.example.");
                let leaf = s.host("mx.d34.example", Flaw::SelfSigned);
                s.tlsa("mx.d34.example", "3 1 1", leaf.key_digest(0));
            },
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dane-required"],
        )
        .dane_only()
        .saying("its MX records are not signed")
        .connections(0),
        row(
            "mismatch.unsigned.example",
            "DANE-15",
            |s| {
                s.put("@", "MX 10 mx.mismatch.example.");
                s.host("mx.mismatch.example", Flaw::None);
                s.tlsa("mx.mismatch.example", "3 1 1", [7; 32]);
            },
            ("deferred", "4.7.5"),
            NO_MATCH,
        ),
        row(
            "unsigned.example",
            "D10, DANE-14",
            |s| s.pinned(Flaw::SelfSigned),
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "insecure.optout",
            "DANE-03, opt-out delegation",
            |s| s.pinned(Flaw::SelfSigned),
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "denied.optout",
            "DANE-03, opt-out denial",
            |s| {
                s.mx("mx.@", Flaw::SelfSigned);
            },
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
    ]
}

/// Answers made by wildcards, proven by NSEC and by NSEC3.
pub(super) fn wildcards() -> Vec<Row> {
    let for_all_ports: fn(&mut Stage<'_>) = |s| {
        let leaf = s.mx("mx.@", Flaw::WrongName);
        let hex: String = leaf.key_digest(0).iter().map(|b| format!("{b:02x}")).collect();
        s.put("*._tcp.mx.@", &format!("TLSA 3 1 1 {hex}"));
    };
    vec![
        row("wild-tlsa.example", "DANE-03, wildcard and NSEC", for_all_ports, DANE, &["tlsa +1 -0"]),
        row("wild-tlsa.hashed", "DANE-03, wildcard and NSEC3", for_all_ports, DANE, &["tlsa +1 -0"]),
        row(
            "any.wild-mx.example",
            "DANE-03, wildcard and NSEC",
            |s| {
                s.put("*.wild-mx.example", "MX 10 mx.of-wild.example.");
                let leaf = s.host("mx.of-wild.example", Flaw::WrongName);
                s.tlsa("mx.of-wild.example", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "far.any.wild-mx.hashed",
            "DANE-03, wildcard and NSEC3",
            |s| {
                s.put("*.wild-mx.hashed", "MX 10 mx.of-wild.hashed.");
                let leaf = s.host("mx.of-wild.hashed", Flaw::WrongName);
                s.tlsa("mx.of-wild.hashed", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "denied.hashed",
            "D58, denied by NSEC3",
            |s| {
                s.mx("mx.@", Flaw::SelfSigned);
            },
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
    ]
}
