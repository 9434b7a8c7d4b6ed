//! What a policy file says, and which hosts it lists (RFC 8461 §3.2, §4, §5).

use super::row::{Row, delivered, row, unless, waits};
use crate::world::ca::Flaw;
use crate::world::mx::StartTls;
use crate::world::policy_text;

const MISMATCH: &str = "validation-failure";

/// A policy that differs from a sound one in this text only, over a host that would break it: who obeys the
/// policy lets the mail wait, who drops it delivers.
macro_rules! obeyed {
    ($domain:literal, $ids:literal, $text:expr) => {
        row(
            $domain,
            $ids,
            |s| {
                s.flawed(Flaw::Expired);
                s.publish($text);
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        )
    };
}

/// A policy file that is none: delivered as if there were no policy, and reported.
macro_rules! invalid {
    ($domain:literal, $ids:literal, $text:expr, $record:literal) => {
        row(
            $domain,
            $ids,
            |s| {
                s.flawed(Flaw::SelfSigned);
                s.publish($text);
            },
            delivered("encrypted"),
            &[$record],
        )
    };
}

pub(super) fn rows() -> Vec<Row> {
    [modes(), listed(), texts()].into_iter().flatten().collect()
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

const BIG: usize = 64 << 10;

/// An enforce policy padded with an unknown key to this size.
fn padded(size: usize) -> String {
    let start = "version: STSv1\nmode: enforce\nmx: mx.exactly-64k.example\nmax_age: 604800\n";
    let mut text = start.to_owned();
    while text.len() < size {
        let left = size - text.len();
        // Lines of 100 octets; the last takes what is left, which is always enough for a key.
        let line = if left < 200 { left } else { 100 };
        text.push_str(&format!("x: {}\n", "y".repeat(line - 4)));
    }
    text
}

fn texts() -> Vec<Row> {
    vec![
        obeyed!("lf.example", "STS-31", "version: STSv1\nmode: enforce\nmx: mx.@\nmax_age: 86400\n"),
        obeyed!(
            "mixed-ends.example",
            "STS-31",
            "version: STSv1\r\nmode: enforce\nmx: mx.@\r\nmax_age: 86400"
        ),
        obeyed!("no-blank.example", "STS-33", "version:STSv1\nmode:enforce\nmx:mx.@\nmax_age:\t86400  \n"),
        obeyed!("any-order.example", "STS-34", "max_age: 86400\nmx: mx.@\nmode: enforce\nversion: STSv1\n"),
        obeyed!(
            "empty-lines.example",
            "STS-32",
            "version: STSv1\n\nmode: enforce\nmx: mx.@\nmax_age: 86400\n\n"
        ),
        obeyed!(
            "duplicate-keys.example",
            "STS-36",
            "version: STSv1\nmode: enforce\nmode: none\nmx: mx.@\nmax_age: 86400\nmax_age: x\n"
        ),
        obeyed!(
            "unknown-keys.example",
            "STS-37",
            "version: STSv1\nnote: grüße, 日本\nmode: enforce\nmx: mx.@\nmax_age: 86400\n"
        ),
        obeyed!("age-zero.example", "STS-39", "version: STSv1\nmode: enforce\nmx: mx.@\nmax_age: 0\n"),
        obeyed!(
            "age-over.example",
            "STS-39",
            "version: STSv1\nmode: enforce\nmx: mx.@\nmax_age: 9999999999\n"
        ),
        row(
            "testing-twice.example",
            "STS-36",
            |s| {
                s.flawed(Flaw::Expired);
                s.publish("version: STSv1\nmode: testing\nmode: enforce\nmx: mx.@\nmax_age: 86400\n");
            },
            delivered("encrypted"),
            &["sts +0 -1 certificate-expired"],
        ),
        row(
            "exactly-64k.example",
            "STS-22",
            |s| {
                s.mx();
                s.publish(&padded(BIG));
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .more(|s| unless(s.requests() == 1, "not one request")),
        row(
            "over-64k.example",
            "STS-22",
            |s| {
                s.mx();
                s.publish(&padded(BIG + 1));
            },
            delivered("encrypted"),
            &["sts +0 -1 sts-policy-fetch-error/too-large"],
        ),
        invalid!(
            "age-11-digits.example",
            "STS-39",
            "version: STSv1\nmode: enforce\nmx: mx.@\nmax_age: 10000000000\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "age-unit.example",
            "STS-39",
            "version: STSv1\nmode: enforce\nmx: mx.@\nmax_age: 86400s\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "no-age.example",
            "STS-34, D32",
            "version: STSv1\nmode: enforce\nmx: mx.@\n",
            "sts +0 -1 sts-policy-invalid/missing-max_age"
        ),
        invalid!(
            "mode-typo.example",
            "STS-38",
            "version: STSv1\nmode: Enforce\nmx: mx.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "mode-unknown.example",
            "STS-38",
            "version: STSv1\nmode: report\nmx: mx.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "key-in-capitals.example",
            "STS-33",
            "version: STSv1\nMode: enforce\nmx: mx.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "version-two.example",
            "STS-34",
            "version: STSv2\nmode: enforce\nmx: mx.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "enforce-without-mx.example",
            "STS-35",
            "version: STSv1\nmode: enforce\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "two-mx-in-a-line.example",
            "STS-35",
            "version: STSv1\nmode: enforce\nmx: mx.@, mx2.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "mx-u-label.example",
            "STS-41",
            "version: STSv1\nmode: enforce\nmx: mx.bücher.example\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "mx-literal.example",
            "STS-40",
            "version: STSv1\nmode: enforce\nmx: [192.0.2.1]\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "bom.example",
            "STS-43",
            "\u{feff}version: STSv1\nmode: enforce\nmx: mx.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/policy-bom"
        ),
        invalid!(
            "cr-only.example",
            "STS-31",
            "version: STSv1\rmode: enforce\rmx: mx.@\rmax_age: 86400\r",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "garbage-line.example",
            "STS-32",
            "version: STSv1\ngarbage\nmode: enforce\nmx: mx.@\nmax_age: 86400\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!(
            "html-in-plain.example",
            "STS-32",
            "<html>not here</html>\n",
            "sts +0 -1 sts-policy-invalid/*"
        ),
        invalid!("empty-file.example", "STS-34", "", "sts +0 -1 sts-policy-invalid/*"),
        row(
            "two-modes-of-life.example",
            "STS-20",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
                s.serve(crate::world::policy_host::Page {
                    headers: "Cache-Control: no-store, max-age=0\r\nExpires: 0\r\n".to_owned(),
                    ..crate::world::policy_host::Page::policy(&policy_text(
                        "enforce",
                        &["mx.two-modes-of-life.example".to_owned()],
                    ))
                });
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        ),
    ]
}
