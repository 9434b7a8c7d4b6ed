//! STARTTLS that is missing, refused or broken, with a policy and without (RFC 3207, RFC 8461 §5).

use super::row::{Row, delivered, row, unless, waits};
use crate::world::mx::{Behaviour, StartTls};

/// A server hello of TLS 1.1: what a host answers that knows nothing newer.
const TLS_1_1: &[u8] = b"\x16\x03\x02\0\x2a\x02\0\0\x26\x03\x020123456789abcdef0123456789abcdef\0\0\x2f\0";
const ALERT_40: &[u8] = b"\x15\x03\x03\0\x02\x02\x28";
const ALERT_70: &[u8] = b"\x15\x03\x01\0\x02\x02\x46";

/// A host that never gets to TLS, under an enforce policy: no MAIL, and the mail waits.
macro_rules! owed {
    ($domain:literal, $ids:literal, $change:expr, $code:literal, $failure:literal, $record:literal) => {
        row(
            $domain,
            $ids,
            |s| {
                let change: fn(&mut Behaviour) = $change;
                s.behaving(change);
                s.enforce();
            },
            waits($code).because($failure),
            &[$record],
        )
        .connections(&[1])
    };
}

/// The same without a policy: in the clear, over the same connection or one more.
macro_rules! free {
    ($domain:literal, $ids:literal, $change:expr, $connections:literal, $record:literal) => {
        row(
            $domain,
            $ids,
            |s| {
                let change: fn(&mut Behaviour) = $change;
                s.behaving(change);
            },
            delivered("plain"),
            &[$record],
        )
        .connections(&[$connections])
    };
}

const STRIPPED: fn(&mut Behaviour) = |b| b.starttls = StartTls::Stripped;

fn helo_only(b: &mut Behaviour) {
    b.ehlo = Some("502 5.5.1 what is that".to_owned());
}

pub(super) fn rows() -> Vec<Row> {
    [under_policy(), without_policy(), inside()].into_iter().flatten().collect()
}

fn under_policy() -> Vec<Row> {
    vec![
        owed!(
            "tls-stripped.example",
            "D24",
            STRIPPED,
            "4.7.4",
            "starttls-not-supported",
            "sts +0 -1 starttls-not-supported"
        ),
        owed!(
            "tls-454.example",
            "D25",
            |b| b.starttls = StartTls::Refused,
            "4.7.4",
            "starttls-not-supported",
            "sts +0 -1 starttls-not-supported/starttls-reply-454"
        ),
        owed!(
            "tls-501.example",
            "D25, STS-76",
            |b| b.starttls = StartTls::Reply("501 5.5.4 no"),
            "4.7.4",
            "starttls-not-supported",
            "sts +0 -1 starttls-not-supported/starttls-reply-501"
        ),
        owed!(
            "tls-554.example",
            "D25, STS-76",
            |b| b.starttls = StartTls::Reply("554 5.7.3 no"),
            "4.7.4",
            "starttls-not-supported",
            "sts +0 -1 starttls-not-supported/starttls-reply-554"
        ),
        owed!(
            "tls-injection.example",
            "TLS-02, D26",
            |b| b.starttls = StartTls::Reply("220 go\r\n250 injected"),
            "4.7.5",
            "validation-failure",
            "sts +0 -1 validation-failure/*"
        ),
        owed!(
            "tls-alert.example",
            "D26",
            |b| b.starttls = StartTls::Octets(ALERT_40),
            "4.7.5",
            "validation-failure",
            "sts +0 -1 validation-failure/tls-alert-40"
        ),
        owed!(
            "tls-alert-version.example",
            "TLS-20",
            |b| b.starttls = StartTls::Octets(ALERT_70),
            "4.7.5",
            "validation-failure",
            "sts +0 -1 validation-failure/tls-alert-70"
        ),
        owed!(
            "tls-1-1.example",
            "TLS-20",
            |b| b.starttls = StartTls::Octets(TLS_1_1),
            "4.7.5",
            "validation-failure",
            "sts +0 -1 validation-failure/*"
        ),
        owed!(
            "tls-plaintext.example",
            "D26",
            |b| b.starttls = StartTls::Octets(b"250 now in the clear\r\n"),
            "4.7.5",
            "validation-failure",
            "sts +0 -1 validation-failure/*"
        ),
        owed!(
            "tls-eof.example",
            "D26",
            |b| b.starttls = StartTls::Octets(b""),
            "4.7.5",
            "validation-failure",
            "sts +0 -1 validation-failure/handshake-eof"
        ),
        owed!(
            "tls-helo.example",
            "TLS-09, OUT-25",
            helo_only,
            "4.7.4",
            "starttls-not-supported",
            "sts +0 -1 starttls-not-supported"
        ),
        row(
            "tls-greeting-554.example",
            "STS-76, OUT-22",
            |s| {
                s.behaving(|b| b.greeting = Some("554 5.7.1 go away".to_owned()));
                s.enforce();
            },
            waits("4.7.1"),
            &[],
        )
        .connections(&[1]),
        row(
            "tls-greeting-554-both.example",
            "STS-76, OUT-22",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| b.greeting = Some("554 no".to_owned()));
                s.mx_at(20, "mx2.@").behave(|b| b.greeting = Some("521 no".to_owned()));
                s.policy("enforce", &["*.@"]);
            },
            waits("4.7.1"),
            &[],
        ),
        row(
            "tls-ehlo-421.example",
            "STS-76",
            |s| {
                s.behaving(|b| b.ehlo = Some("421 4.3.2 later".to_owned()));
                s.enforce();
            },
            waits("4.3.2"),
            &[],
        ),
        row(
            "tls-lost-at-starttls.example",
            "RPT-21",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Reply(""));
                s.enforce();
            },
            waits("4.7.5").because("validation-failure"),
            &["sts +0 -1 validation-failure/handshake-eof"],
        )
        .connections(&[1]),
    ]
}

fn without_policy() -> Vec<Row> {
    vec![
        free!("free-stripped.example", "D11", STRIPPED, 1, "no-policy-found +0 -1 starttls-not-supported"),
        free!(
            "free-454.example",
            "D12, TLS-05",
            |b| b.starttls = StartTls::Refused,
            1,
            "no-policy-found +0 -1 starttls-not-supported/starttls-reply-454"
        ),
        free!(
            "free-501.example",
            "D12, TLS-05",
            |b| b.starttls = StartTls::Reply("501 5.5.4 no"),
            1,
            "no-policy-found +0 -1 starttls-not-supported/starttls-reply-501"
        ),
        free!(
            "free-injection.example",
            "TLS-02, TLS-07",
            |b| b.starttls = StartTls::Reply("220 go\r\n250 injected"),
            2,
            "no-policy-found +0 -1 validation-failure/*"
        ),
        free!(
            "free-alert.example",
            "D13, TLS-07",
            |b| b.starttls = StartTls::Octets(ALERT_40),
            2,
            "no-policy-found +0 -1 validation-failure/tls-alert-40"
        ),
        free!(
            "free-1-1.example",
            "TLS-20, TLS-25",
            |b| b.starttls = StartTls::Octets(TLS_1_1),
            2,
            "no-policy-found +0 -1 validation-failure/*"
        ),
        free!(
            "free-plaintext.example",
            "D13",
            |b| b.starttls = StartTls::Octets(b"250 now in the clear\r\n"),
            2,
            "no-policy-found +0 -1 validation-failure/*"
        ),
        free!(
            "free-eof.example",
            "D13",
            |b| b.starttls = StartTls::Octets(b""),
            2,
            "no-policy-found +0 -1 validation-failure/handshake-eof"
        ),
        free!(
            "free-helo.example",
            "OUT-25, TLS-09",
            helo_only,
            1,
            "no-policy-found +0 -1 starttls-not-supported"
        ),
        row(
            "free-530.example",
            "table 2.1",
            |s| {
                s.behaving(|b| {
                    b.starttls = StartTls::Stripped;
                    b.mail_clear = Some("530 5.7.0 must issue STARTTLS first".to_owned());
                })
            },
            waits("4.7.4").because("starttls-not-supported"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        )
        .dialogue()
        .connections(&[1]),
        row(
            "free-alert-530.example",
            "table 2.1",
            |s| {
                s.behaving(|b| {
                    b.starttls = StartTls::Octets(ALERT_40);
                    b.mail_clear = Some("530 5.7.0 must issue STARTTLS first".to_owned());
                })
            },
            waits("4.7.4").because("validation-failure"),
            &["no-policy-found +0 -1 validation-failure/tls-alert-40"],
        )
        .dialogue()
        .connections(&[2]),
    ]
}

/// TLS is up, and something goes wrong in it.
fn inside() -> Vec<Row> {
    vec![
        row(
            "inside-ehlo-refused.example",
            "OUT-32",
            |s| {
                s.behaving(|b| b.ehlo_tls = Some("550 5.5.1 no".to_owned()));
                s.enforce();
            },
            waits("4.5.0"),
            &["sts +1 -0"],
        )
        .connections(&[1]),
        row(
            "inside-ehlo-refused-free.example",
            "OUT-32",
            |s| s.behaving(|b| b.ehlo_tls = Some("502 5.5.1 no".to_owned())),
            waits("4.5.0"),
            &["no-policy-found +1 -0"],
        )
        .connections(&[1]),
        row(
            "inside-ehlo-next.example",
            "OUT-32",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| b.ehlo_tls = Some("502 5.5.1 no".to_owned()));
                s.mx_at(20, "mx2.@");
                s.policy("enforce", &["*.@"]);
            },
            delivered("verified").by(1),
            &["sts +2 -0"],
        ),
        row(
            "inside-ehlo-lost.example",
            "OUT-32",
            |s| {
                s.behaving(|b| b.ehlo_tls = Some(String::new()));
                s.enforce();
            },
            waits("4.4.2"),
            &["sts +1 -0"],
        ),
        row(
            "inside-other-size.example",
            "TLS-03",
            |s| {
                s.behaving(|b| b.ehlo = Some("250-mx\r\n250-SIZE 10\r\n250 STARTTLS".to_owned()));
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "inside-sni.example",
            "STS-70",
            |s| {
                s.mx_at(10, "MX.Inside-SNI.example");
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .more(|s| {
            unless(
                s.hosts[0]
                    .seen()
                    .connections
                    .iter()
                    .all(|c| c.sni.as_deref() == Some("mx.inside-sni.example")),
                "SNI",
            )
        }),
        row(
            "inside-lower-case.example",
            "5321 §2.4",
            |s| {
                s.behaving(|b| b.ehlo = Some("250-mx\r\n250 starttls".to_owned()));
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "inside-extra-line.example",
            "OUT-23",
            |s| {
                s.behaving(|b| b.ehlo_tls = Some("250 mx\r\n250 surplus".to_owned()));
                s.enforce();
            },
            waits("4.5.0"),
            &["sts +1 -0"],
        ),
    ]
}
