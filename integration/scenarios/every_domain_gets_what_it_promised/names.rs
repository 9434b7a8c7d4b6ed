//! Aliases and international names: which name the policy, the certificate and the report go by.

use super::row::{Row, delivered, row, unless, waits};
use crate::world::ca::Flaw;

const MISMATCH: &str = "validation-failure";

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "mx-alias.example",
            "STS-65, OUT-06",
            |s| {
                s.record(10, "mx.@");
                let host = s.host("real.@");
                s.dns().cname(&s.name("mx.@"), &s.name("real.@"));
                s.certify(&host, Flaw::None, &["mx.@"]);
                s.enforce();
            },
            delivered("verified").by_any(),
            &["sts +1 -0"],
        )
        .more(|s| {
            unless(
                s.hosts[0].seen().connections.iter().all(|c| c.sni.as_deref() == Some("mx.mx-alias.example")),
                "SNI",
            )
        }),
        row(
            "mx-alias-listed-by-target.example",
            "STS-65",
            |s| {
                s.record(10, "mx.@");
                s.host("real.@");
                s.dns().cname(&s.name("mx.@"), &s.name("real.@"));
                s.policy("enforce", &["real.@"]);
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "mx-alias-cert-of-target.example",
            "STS-65, STS-68",
            |s| {
                s.record(10, "mx.@");
                s.host("real.@");
                s.dns().cname(&s.name("mx.@"), &s.name("real.@"));
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.5").because("certificate-host-mismatch"),
            &["sts +0 -1 certificate-host-mismatch"],
        )
        .connections(&[1]),
        row(
            "alias.example",
            "STS-63, OUT-01",
            |s| {
                let host = s.host("mx.target-of.alias.example");
                s.dns().cname("alias.example", "target-of.alias.example");
                s.dns().mx("target-of.alias.example", &[(10, host.name())]);
                s.policy("enforce", &["mx.target-of.alias.example"]);
                s.world.publish_policy("target-of.alias.example", "9", "enforce", &["mx.nowhere.example"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .more(|s| {
            unless(
                s.asked_txt("_mta-sts.target-of.alias.example") == 0,
                "the policy of the alias's target was looked up",
            )
        }),
        row(
            "alias-unlisted.example",
            "STS-63",
            |s| {
                let host = s.host("mx.target-of.alias-unlisted.example");
                s.dns().cname("alias-unlisted.example", "target-of.alias-unlisted.example");
                s.dns().mx("target-of.alias-unlisted.example", &[(10, host.name())]);
                s.policy("enforce", &["mx.alias-unlisted.example"]);
                s.world.publish_policy(
                    "target-of.alias-unlisted.example",
                    "9",
                    "enforce",
                    &["mx.target-of.alias-unlisted.example"],
                );
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "xn--bcher-kva.example",
            "STS-01, OUT-29",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .to("a@bücher.example", " SMTPUTF8")
        .more(|s| {
            unless(
                s.asked_txt("_mta-sts.xn--bcher-kva.example") >= 1 && s.requests() == 1,
                "the policy of the A-label was not asked for",
            )
        }),
        row(
            "xn--grn-ioa.example",
            "STS-01",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        ),
        row(
            "xn--strae-oqa.example",
            "STS-41",
            |s| {
                s.flawed(Flaw::Expired);
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        )
        .to("a@straße.example", " SMTPUTF8"),
        row(
            "xn--hst-0na.example",
            "OUT-29",
            |s| {
                s.behaving(|b| b.smtputf8 = false);
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .to("a@høst.example", " SMTPUTF8"),
        row(
            "cased-domain.example",
            "NAME-01",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .to("A@Cased-DOMAIN.example", ""),
    ]
}
