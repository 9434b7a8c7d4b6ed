//! The modes of a policy, and which hosts it lists (RFC 8461 §4, §5).

use super::row::{Row, delivered, row, waits};
use crate::world::ca::Flaw;
use crate::world::mx::StartTls;

const MISMATCH: &str = "validation-failure";

pub(super) fn rows() -> Vec<Row> {
    [modes(), listed()].into_iter().flatten().collect()
}

fn modes() -> Vec<Row> {
    vec![
        row(
            "enforce-sound.example",
            "D20",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .connections(&[1]),
        row(
            "testing-sound.example",
            "D40",
            |s| {
                s.mx();
                s.policy("testing", &["mx.@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "none-sound.example",
            "STS-51",
            |s| {
                s.mx();
                s.policy("none", &["mx.@"]);
            },
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "none-stripped.example",
            "D38, RPT-64",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Stripped);
                s.policy("none", &["mx.@"]);
            },
            delivered("plain"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        ),
        row(
            "none-without-mx.example",
            "STS-35",
            |s| {
                s.mx();
                s.policy("none", &[]);
            },
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "none-unlisted.example",
            "RPT-64",
            |s| {
                s.mx();
                s.policy("none", &["mx.elsewhere.example"]);
            },
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "testing-expired.example",
            "D41",
            |s| {
                s.flawed(Flaw::Expired);
                s.policy("testing", &["mx.@"]);
            },
            delivered("encrypted"),
            &["sts +0 -1 certificate-expired"],
        ),
        row(
            "testing-name.example",
            "D41",
            |s| {
                s.flawed(Flaw::WrongName);
                s.policy("testing", &["mx.@"]);
            },
            delivered("encrypted"),
            &["sts +0 -1 certificate-host-mismatch"],
        ),
        row(
            "testing-self-signed.example",
            "D41",
            |s| {
                s.flawed(Flaw::SelfSigned);
                s.policy("testing", &["mx.@"]);
            },
            delivered("encrypted"),
            &["sts +0 -1 certificate-not-trusted/self-signed"],
        ),
        row(
            "testing-stripped.example",
            "D42",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Stripped);
                s.policy("testing", &["mx.@"]);
            },
            delivered("plain"),
            &["sts +0 -1 starttls-not-supported"],
        )
        .connections(&[1]),
        row(
            "testing-refused.example",
            "D42",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Refused);
                s.policy("testing", &["mx.@"]);
            },
            delivered("plain"),
            &["sts +0 -1 starttls-not-supported/starttls-reply-454"],
        )
        .connections(&[1]),
        row(
            "testing-alert.example",
            "D43, RPT-25",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Octets(b"\x15\x03\x03\0\x02\x02\x28"));
                s.policy("testing", &["mx.@"]);
            },
            delivered("plain"),
            &["sts +0 -1 validation-failure/tls-alert-40"],
        )
        .connections(&[2]),
        row(
            "testing-unlisted.example",
            "D44",
            |s| {
                s.mx();
                s.policy("testing", &["mx.elsewhere.example"]);
            },
            delivered("encrypted"),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        ),
        row(
            "testing-unlisted-expired.example",
            "D44, RPT-22",
            |s| {
                s.flawed(Flaw::Expired);
                s.policy("testing", &["mx.elsewhere.example"]);
            },
            delivered("encrypted"),
            &["sts +0 -1 certificate-expired validation-failure/sts-mx-mismatch"],
        ),
        row(
            "testing-refuses-5xx.example",
            "OUT-22, STS-76",
            |s| {
                s.behaving(|b| {
                    b.rcpt =
                        [("a@testing-refuses-5xx.example".to_owned(), "550 5.1.1 nobody".to_owned())].into()
                });
                s.policy("testing", &["mx.@"]);
            },
            super::row::returned("5.1.1"),
            &["sts +1 -0"],
        )
        .dialogue(),
    ]
}

fn listed() -> Vec<Row> {
    vec![
        row(
            "unlisted.example",
            "D27, STS-72",
            |s| {
                s.mx();
                s.policy("enforce", &["mx.elsewhere.example"]);
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "wildcard.example",
            "STS-64",
            |s| {
                s.mx();
                s.policy("enforce", &["*.@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "wildcard-two.example",
            "STS-64",
            |s| {
                s.mx_at(10, "a.b.@");
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "wildcard-bare.example",
            "STS-64",
            |s| {
                s.mx_at(10, "@");
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "mixed-case.example",
            "STS-64, NAME-01",
            |s| {
                s.mx_at(10, "Mx.MIXED-case.Example");
                s.policy("enforce", &["mX.Mixed-Case.eXample"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "trailing-dot.example",
            "STS-42",
            |s| {
                s.mx();
                s.policy("enforce", &["mx.@."]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "underscore.example",
            "STS-42, NAME-07",
            |s| {
                s.mx_at(10, "mx_1.@");
                s.policy("enforce", &["mx_1.@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "suffix.example",
            "STS-64",
            |s| {
                s.mx_at(10, "evilmx.@");
                s.policy("enforce", &["mx.@"]);
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "one-bad-first.example",
            "M1, STS-71",
            |s| {
                s.mx_at(10, "other.@");
                s.mx_at(20, "mx.@");
                s.enforce();
            },
            delivered("verified").by(1),
            &["sts +1 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0, 1]),
        row(
            "one-bad-last.example",
            "STS-71",
            |s| {
                s.mx_at(10, "mx.@");
                s.mx_at(20, "other.@");
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .connections(&[1, 0]),
        row(
            "expired-then-sound.example",
            "M1",
            |s| {
                let first = s.mx_at(10, "mx1.@");
                s.certify(&first, Flaw::Expired, &["mx1.@"]);
                s.mx_at(20, "mx2.@");
                s.policy("enforce", &["*.@"]);
            },
            delivered("verified").by(1),
            &["sts +1 -1 certificate-expired"],
        )
        .connections(&[1, 1]),
        row(
            "unlisted-then-stripped.example",
            "M2",
            |s| {
                s.mx_at(10, "other.@");
                s.behaving(|b| b.starttls = StartTls::Stripped);
                s.enforce();
            },
            waits("4.7.4").because("starttls-not-supported"),
            &["sts +0 -2 starttls-not-supported validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0, 1]),
        row(
            "all-bad.example",
            "R10",
            |s| {
                s.dead_mx(5, "dead.@");
                s.mx_at(10, "a.other.@");
                s.mx_at(20, "b.@").behave(|b| b.starttls = StartTls::Stripped);
                let expired = s.mx_at(30, "c.@");
                s.certify(&expired, Flaw::Expired, &["c.@"]);
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -3 certificate-expired starttls-not-supported validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0, 1, 1]),
        row(
            "two-bad-of-two-kinds.example",
            "R10, OUT-22",
            |s| {
                s.mx_at(10, "mx.@").behave(|b| b.greeting = Some("554 5.7.1 go away".to_owned()));
                s.mx_at(20, "other.@");
                s.enforce();
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[1, 0]),
        row(
            "implicit-listed.example",
            "D45, STS-66",
            |s| {
                s.host("@");
                s.policy("enforce", &["@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "implicit-unlisted.example",
            "STS-66",
            |s| {
                s.host("@");
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.0").because(MISMATCH),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
    ]
}
