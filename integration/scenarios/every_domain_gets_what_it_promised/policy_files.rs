//! What a policy file may look like (RFC 8461 §3.2).

use super::row::{Row, delivered, row, unless, waits};
use crate::world::ca::Flaw;
use crate::world::policy_text;

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

pub(super) fn rows() -> Vec<Row> {
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
