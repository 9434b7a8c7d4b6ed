//! What a host says in the SMTP dialogue (requirements, table 2.1).

use super::row::{FREE, Row, delivered, returned, row, unless, waits};
use crate::SENDER;
use crate::world::mx::Behaviour;

/// A host that says something else than 250 at some point; TLS is sound.
macro_rules! said {
    ($domain:literal, $ids:literal, $change:expr, $want:expr) => {
        row(
            $domain,
            $ids,
            |s| {
                let change: fn(&mut Behaviour) = $change;
                s.behaving(change);
            },
            $want,
            FREE,
        )
        .dialogue()
    };
}

fn greeting(b: &mut Behaviour, reply: &str) {
    b.greeting = Some(reply.to_owned());
}

fn mail(b: &mut Behaviour, reply: &str) {
    b.mail = [(SENDER.to_owned(), reply.to_owned())].into();
}

/// The reply to the recipient of this letter.
fn rcpt(b: &mut Behaviour, recipient: &str, reply: &str) {
    b.rcpt.insert(recipient.to_owned(), reply.to_owned());
}

pub(super) fn rows() -> Vec<Row> {
    [greetings(), replies(), recipients(), oddities(), extensions()].into_iter().flatten().collect()
}

fn greetings() -> Vec<Row> {
    vec![
        row(
            "greeting-554.example",
            "OUT-22",
            |s| s.behaving(|b| greeting(b, "554 no")),
            returned("5.7.1"),
            &[],
        )
        .connections(&[1]),
        row(
            "greeting-521.example",
            "table 2.1",
            |s| s.behaving(|b| greeting(b, "521 no mail here")),
            returned("5.3.2"),
            &[],
        ),
        row(
            "greeting-554-next.example",
            "M6",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| greeting(b, "554 no"));
                s.mx_at(20, "mx2.@");
            },
            delivered("encrypted").by(1),
            FREE,
        ),
        row(
            "greeting-554-both.example",
            "OUT-22",
            |s| {
                for (p, n) in [(10, "mx1.@"), (20, "mx2.@")] {
                    s.mx_at(p, n).behave(|b| greeting(b, "554 5.7.1 no"));
                }
            },
            returned("5.7.1"),
            &[],
        )
        .connections(&[1, 1]),
        row(
            "greeting-554-dead.example",
            "OUT-22",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| greeting(b, "554 no"));
                s.dead_mx(20, "dead.@");
            },
            waits("4.4.1"),
            &[],
        ),
        row(
            "greeting-421.example",
            "table 2.1",
            |s| s.behaving(|b| greeting(b, "421 too busy")),
            waits("4.3.2"),
            &[],
        ),
        row(
            "greeting-450.example",
            "table 2.1",
            |s| s.behaving(|b| greeting(b, "450 not now")),
            waits("4.3.2"),
            &[],
        ),
        row(
            "greeting-421-next.example",
            "QUE-09",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| greeting(b, "421 4.7.0 busy"));
                s.mx_at(20, "mx2.@");
            },
            delivered("encrypted").by(1),
            FREE,
        ),
        row("greeting-lost.example", "table 2.1", |s| s.behaving(|b| greeting(b, "")), waits("4.4.2"), &[]),
        row(
            "greeting-http.example",
            "table 2.1",
            |s| s.behaving(|b| greeting(b, "HTTP/1.1 400 Bad Request")),
            waits("4.5.0"),
            &[],
        ),
        row(
            "greeting-our-name.example",
            "OUT-08",
            |s| s.behaving(|b| greeting(b, "220 relay.lab.example ESMTP")),
            delivered("encrypted"),
            FREE,
        ),
        row(
            "ehlo-554.example",
            "table 2.1",
            |s| s.behaving(|b| b.ehlo = Some("554 5.7.1 no".to_owned())),
            returned("5.7.1"),
            &[],
        ),
        row(
            "ehlo-451.example",
            "table 2.1",
            |s| s.behaving(|b| b.ehlo = Some("451 4.3.0 later".to_owned())),
            waits("4.3.0"),
            &[],
        ),
    ]
}

fn replies() -> Vec<Row> {
    vec![
        said!("mail-451.example", "OUT-40", |b| mail(b, "451 4.3.0 later"), waits("4.3.0")),
        said!("mail-550.example", "OUT-40", |b| mail(b, "550 5.7.1 not from you"), returned("5.7.1")),
        said!("mail-530-inside.example", "OUT-40", |b| mail(b, "530 5.7.0 authenticate"), returned("5.7.0")),
        said!("mail-421.example", "table 2.1", |b| mail(b, "421 4.3.2 closing"), waits("4.3.2")),
        said!("mail-lost.example", "table 2.1", |b| mail(b, ""), waits("4.4.2")),
        said!("mail-552-size.example", "table 2.1", |b| mail(b, "552 5.3.4 too big"), returned("5.3.4")),
        said!("mail-452.example", "table 2.1", |b| mail(b, "452 no room"), waits("4.3.1")),
        said!(
            "rcpt-450.example",
            "OUT-40",
            |b| rcpt(b, "a@rcpt-450.example", "450 4.2.1 busy"),
            waits("4.2.1")
        ),
        said!(
            "rcpt-550.example",
            "OUT-40",
            |b| rcpt(b, "a@rcpt-550.example", "550 5.1.1 nobody"),
            returned("5.1.1")
        ),
        said!(
            "rcpt-421.example",
            "table 2.1",
            |b| rcpt(b, "a@rcpt-421.example", "421 4.7.0 go"),
            waits("4.7.0")
        ),
        said!("rcpt-lost.example", "table 2.1", |b| rcpt(b, "a@rcpt-lost.example", ""), waits("4.4.2")),
        said!("data-451.example", "OUT-40", |b| b.data = "451 4.3.0 later".to_owned(), waits("4.3.0")),
        said!("data-554.example", "OUT-40", |b| b.data = "554 5.6.0 no".to_owned(), returned("5.6.0")),
        said!("data-250.example", "OUT-43", |b| b.data = "250 2.0.0 taken".to_owned(), waits("4.5.0")),
        said!("data-354-twice.example", "OUT-23", |b| b.data = "354 go\r\n354 go".to_owned(), waits("4.5.0")),
        said!("data-lost.example", "table 2.1", |b| b.data = String::new(), waits("4.4.2")),
        said!("dot-451.example", "OUT-46", |b| b.dot = "451 4.3.0 later".to_owned(), waits("4.3.0")),
        said!("dot-421.example", "OUT-46", |b| b.dot = "421 4.3.2 later".to_owned(), waits("4.3.2")),
        said!("dot-554.example", "OUT-46", |b| b.dot = "554 5.7.1 spam".to_owned(), returned("5.7.1")),
        said!(
            "dot-650.example",
            "OUT-43, OUT-45",
            |b| b.dot = "650 what".to_owned(),
            waits("4.5.0").uncertain()
        )
        .connections(&[1]),
        said!("dot-lost.example", "OUT-45", |b| b.drop_after_dot = 1, waits("4.4.2").uncertain())
            .connections(&[1]),
        row(
            "dot-lost-two-hosts.example",
            "OUT-45",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| b.drop_after_dot = 1);
                s.mx_at(20, "mx2.@");
            },
            waits("4.4.2").uncertain(),
            FREE,
        )
        .dialogue()
        .connections(&[1, 0]),
        said!("no-enhanced.example", "OUT-47", |b| mail(b, "550 no"), returned("5.0.0")),
        said!("other-class.example", "OUT-47", |b| mail(b, "451 5.1.1 no"), waits("4.0.0")),
        said!("other-class-5.example", "OUT-47", |b| mail(b, "550 4.1.1 no"), returned("5.0.0")),
        row(
            "mail-451-next.example",
            "OUT-40",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| mail(b, "451 4.3.0 later"));
                s.mx_at(20, "mx2.@");
            },
            delivered("encrypted").by(1),
            &["no-policy-found +2 -0"],
        )
        .dialogue(),
        row(
            "rcpt-550-no-next.example",
            "M5",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| rcpt(b, "a@rcpt-550-no-next.example", "550 5.1.1 nobody"));
                s.mx_at(20, "mx2.@");
            },
            returned("5.1.1"),
            FREE,
        )
        .dialogue()
        .connections(&[1, 0]),
        said!("greylisted.example", "table 2.1", |b| b.greylist = true, waits("4.7.1")).delivered_on_retry(),
    ]
}

fn recipients() -> Vec<Row> {
    const OK: super::row::Want = delivered("encrypted");
    vec![
        said!(
            "rcpt-452-after-two.example",
            "OUT-41",
            |b| b.rcpt_limit = Some((2, "452 4.5.3 too many".to_owned())),
            OK
        )
        .and(&[OK, OK, OK, OK])
        .connections(&[1])
        .more(|s| unless(s.messages() == 3, "not three transactions")),
        said!(
            "rcpt-552-after-two.example",
            "OUT-41",
            |b| b.rcpt_limit = Some((2, "552 too many".to_owned())),
            OK
        )
        .and(&[OK, OK])
        .connections(&[1])
        .more(|s| unless(s.messages() == 2, "not two transactions")),
        said!(
            "rcpt-552-full.example",
            "OUT-41",
            |b| rcpt(b, "b@rcpt-552-full.example", "552 5.2.2 full"),
            OK
        )
        .and(&[returned("5.2.2"), OK]),
        said!(
            "rcpt-all-550.example",
            "OUT-42",
            |b| for r in ["a", "b"] {
                rcpt(b, &format!("{r}@rcpt-all-550.example"), "550 5.1.1 nobody");
            },
            returned("5.1.1")
        )
        .and(&[returned("5.1.1")])
        .more(|s| unless(s.messages() == 0, "content for nobody")),
        said!(
            "rcpt-mixed.example",
            "table 2.1",
            |b| {
                rcpt(b, "b@rcpt-mixed.example", "550 5.1.1 nobody");
                rcpt(b, "c@rcpt-mixed.example", "450 4.2.2 full");
            },
            OK
        )
        .and(&[returned("5.1.1"), waits("4.2.2"), OK])
        .more(|s| unless(s.messages() == 1, "not one message")),
        said!("rcpt-251.example", "table 2.1", |b| rcpt(b, "z@rcpt-251.example", "251 2.1.5 elsewhere"), OK),
    ]
}

fn oddities() -> Vec<Row> {
    const OK: super::row::Want = delivered("encrypted");
    vec![
        said!(
            "bare-codes.example",
            "OUT-24",
            |b| {
                b.dot = "250".to_owned();
                b.data = "354".to_owned();
                mail(b, "250");
                b.mail.clear();
            },
            OK
        ),
        said!("lf-only.example", "OUT-24", |b| b.line_end = "\n", OK),
        said!(
            "eight-bit-reply.example",
            "RPT-55",
            |b| {
                greeting(b, "220 möller grüßt");
                b.dot = "250 2.0.0 schön".to_owned();
            },
            OK
        ),
        said!(
            "eight-bit-refusal.example",
            "OUT-47",
            |b| mail(b, "550 5.7.1 schön \u{1b}[2J"),
            returned("5.7.1")
        ),
        said!(
            "mismatched-lines.example",
            "OUT-21",
            |b| mail(b, "250-2.1.0 yes\r\n550 5.0.0 no"),
            waits("4.5.0")
        ),
        said!("many-lines.example", "OUT-21", |b| greeting(b, "220-a\r\n220-b\r\n220-c\r\n220 %h"), OK),
        row(
            "ipv6-refused.example",
            "OUT-40",
            |s| {
                s.mx();
                let refuses = s.world.open_mx_host_v6("mx.ipv6-refused.example");
                refuses.behave(|b| mail(b, "550 5.7.1 no PTR"));
                s.hosts.push(refuses);
            },
            OK,
            &["no-policy-found +2 -0"],
        )
        .dialogue()
        .connections(&[1, 1]),
    ]
}

fn extensions() -> Vec<Row> {
    const OK: super::row::Want = delivered("encrypted");
    vec![
        row("size-small.example", "OUT-26", |s| s.behaving(|b| b.size = Some(100)), returned("5.3.4"), FREE),
        row(
            "size-small-next.example",
            "OUT-26",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| b.size = Some(100));
                s.mx_at(20, "mx2.@");
            },
            OK.by(1),
            &["no-policy-found +2 -0"],
        ),
        row(
            "size-small-dead.example",
            "OUT-22",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| b.size = Some(100));
                s.dead_mx(20, "dead.@");
            },
            waits("4.4.1"),
            FREE,
        ),
        row(
            "size-small-enforce.example",
            "OUT-26",
            |s| {
                s.behaving(|b| b.size = Some(100));
                s.enforce();
            },
            returned("5.3.4"),
            &["sts +1 -0"],
        ),
        said!("no-size.example", "OUT-27", |b| b.size = None, OK).more(|s| {
            unless(s.hosts[0].seen().messages.iter().all(|m| !m.mail.contains("SIZE")), "SIZE sent unasked")
        }),
        said!("no-pipelining.example", "OUT-53", |b| b.pipelining = false, OK).and(&[OK, OK]),
        said!("no-8bit.example", "OUT-28", |b| b.eight_bit = false, OK)
            .parameters(" BODY=8BITMIME")
            .body("Grüße".to_owned())
            .more(|s| {
                let seen = s.hosts[0].seen();
                unless(
                    seen.messages.iter().all(|m| m.text().contains("Grüße") && !m.mail.contains("BODY=")),
                    "the content or an unoffered parameter",
                )
            }),
        row(
            "utf8-address.example",
            "OUT-29",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .to("ü@utf8-address.example", " SMTPUTF8"),
        row(
            "utf8-missing.example",
            "OUT-29",
            |s| s.behaving(|b| b.smtputf8 = false),
            returned("5.6.7"),
            FREE,
        )
        .to("ü@utf8-missing.example", " SMTPUTF8"),
        row(
            "utf8-missing-next.example",
            "OUT-29",
            |s| {
                s.mx_at(10, "mx1.@").behave(|b| b.smtputf8 = false);
                s.mx_at(20, "mx2.@");
            },
            OK.by(1),
            &["no-policy-found +2 -0"],
        )
        .to("ü@utf8-missing-next.example", " SMTPUTF8"),
    ]
}
