//! MX records, addresses, loops, and answers that look signed (RFC 5321 §5.1, RFC 7505).

use hickory_resolver::proto::rr::RecordType;

use super::row::{FREE, Row, delivered, returned, row, unless, waits};
use crate::world::dns::Fault;

pub(super) fn rows() -> Vec<Row> {
    [lookups(), addresses(), ourselves()].into_iter().flatten().collect()
}

fn lookups() -> Vec<Row> {
    vec![
        row(
            "mx-servfail.example",
            "D01, OUT-03",
            |s| {
                s.host("@");
                s.dns().fault_for(s.domain, RecordType::MX, Fault::ServFail);
            },
            waits("4.4.3"),
            &[],
        )
        .connections(&[0]),
        row(
            "mx-refused.example",
            "OUT-03",
            |s| {
                s.host("@");
                s.dns().fault_for(s.domain, RecordType::MX, Fault::Refused);
            },
            waits("4.4.3"),
            &[],
        )
        .connections(&[0]),
        row(
            "mx-silent.example",
            "OUT-03",
            |s| {
                s.host("@");
                s.dns().fault_for(s.domain, RecordType::MX, Fault::Silent);
            },
            waits("4.4.3"),
            &[],
        )
        .connections(&[0]),
        row("nothing-there.example", "D02, OUT-04", |_| {}, returned("5.1.2"), &[])
            .more(|s| unless(s.asked_txt("_mta-sts.@") == 0, "a policy was looked for")),
        row(
            "implicit.example",
            // A certificate for the very domain that the sender wrote (R9).
            "OUT-01, RTLS-22",
            |s| {
                s.host("@");
            },
            delivered("verified"),
            FREE,
        ),
        row("text-only.example", "table 2.1", |s| s.dns().txt(s.domain, "hello"), returned("5.1.2"), &[]),
        row(
            "implicit-servfail.example",
            "table 2.1",
            |s| {
                s.dns().txt(s.domain, "hello");
                s.dns().fault_for(s.domain, RecordType::A, Fault::ServFail);
            },
            waits("4.4.3"),
            &[],
        ),
        row(
            "null-mx.example",
            "D03, NMX-01, NMX-07",
            |s| {
                s.host("@");
                s.dns().mx(s.domain, &[(0, ".")]);
                s.policy("enforce", &["@"]);
            },
            returned("5.1.10"),
            &[],
        )
        .connections(&[0])
        .more(|s| {
            unless(
                s.asked_txt("_mta-sts.@") == 0 && s.dns().asked(s.domain, RecordType::A) == 0,
                "something was asked about a domain that takes no mail",
            )
        }),
        row(
            "null-mx-10.example",
            "NMX-02",
            |s| {
                s.host("@");
                s.dns().mx(s.domain, &[(10, ".")]);
            },
            returned("5.1.10"),
            &[],
        )
        .connections(&[0]),
        row(
            "null-mx-among.example",
            "NMX-03",
            |s| {
                let host = s.mx();
                s.dns().mx(s.domain, &[(0, "."), (10, host.name())]);
            },
            delivered("encrypted"),
            FREE,
        ),
        row(
            "mx-alias-loop.example",
            "OUT-06",
            |s| {
                s.record(10, "mx.@");
                s.dns().cname("mx.mx-alias-loop.example", "b.mx-alias-loop.example");
                s.dns().cname("b.mx-alias-loop.example", "mx.mx-alias-loop.example");
            },
            waits("4.4.3"),
            &[],
        ),
        row(
            "mx-no-address.example",
            "OUT-11",
            |s| {
                s.host("@");
                s.record(10, "mx.@");
                s.dns().txt("mx.mx-no-address.example", "x");
            },
            returned("5.4.4"),
            &[],
        )
        .connections(&[0]),
        row(
            "mx-host-nxdomain.example",
            "OUT-11",
            |s| {
                s.host("@");
                s.record(10, "mx.gone.@");
            },
            returned("5.4.4"),
            &[],
        )
        .connections(&[0]),
        row(
            "mx-host-servfail.example",
            "OUT-11",
            |s| {
                s.record(10, "mx.gone.@");
                s.record(20, "mx2.@");
                s.dns().fault("mx2.mx-host-servfail.example", Some(Fault::ServFail));
            },
            waits("4.4.3"),
            &[],
        ),
        row(
            "mx-host-servfail-next.example",
            "DANE-05",
            |s| {
                s.record(10, "gone.@");
                s.dns().fault("gone.mx-host-servfail-next.example", Some(Fault::ServFail));
                s.mx_at(20, "mx.@");
            },
            delivered("encrypted"),
            FREE,
        ),
        row(
            "one-family-fails.example",
            "OUT-07",
            |s| {
                s.mx();
                s.dns().fault_for("mx.one-family-fails.example", RecordType::AAAA, Fault::ServFail);
            },
            delivered("encrypted"),
            FREE,
        ),
    ]
}

fn addresses() -> Vec<Row> {
    vec![
        row("mx-dead.example", "D28, RPT-21", |s| s.dead_mx(10, "mx.@"), waits("4.4.1"), &[]),
        row(
            "mx-dead-enforce.example",
            "D28",
            |s| {
                s.dead_mx(10, "mx.@");
                s.enforce();
            },
            waits("4.4.1"),
            &[],
        ),
        row(
            "mx-dead-next.example",
            "OUT-02",
            |s| {
                s.dead_mx(10, "dead.@");
                s.mx_at(20, "mx.@");
                s.policy("enforce", &["*.@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .connections(&[1]),
        row(
            "mx-preference.example",
            "OUT-02",
            |s| {
                s.mx_at(20, "mx2.@");
                s.mx_at(10, "mx1.@");
            },
            delivered("encrypted").by(1),
            FREE,
        )
        .connections(&[0, 1]),
        row(
            "mx-equal.example",
            "OUT-02",
            |s| {
                s.mx_at(10, "mx1.@");
                s.mx_at(10, "mx2.@");
            },
            delivered("encrypted").by_any(),
            FREE,
        ),
        row(
            "mx-twenty.example",
            "OUT-02",
            |s| {
                for (preference, name) in [
                    (1, "a.@"),
                    (2, "b.@"),
                    (3, "c.@"),
                    (4, "d.@"),
                    (5, "e.@"),
                    (6, "f.@"),
                    (7, "g.@"),
                    (8, "h.@"),
                    (9, "i.@"),
                    (10, "j.@"),
                    (11, "k.@"),
                    (12, "l.@"),
                    (13, "m.@"),
                    (14, "n.@"),
                    (15, "o.@"),
                ] {
                    s.record(preference, name);
                }
                s.mx_at(16, "p.@");
                for (preference, name) in [(17, "q.@"), (18, "r.@"), (19, "s.@"), (20, "t.@")] {
                    s.record(preference, name);
                }
            },
            delivered("encrypted"),
            FREE,
        ),
        row(
            "mx-loopback.example",
            "OUT-09",
            |s| s.mx_pointing_to(10, "mx.@", "127.0.0.1"),
            returned("5.4.6"),
            &[],
        ),
        row(
            "mx-unspecified.example",
            "OUT-09",
            |s| s.mx_pointing_to(10, "mx.@", "0.0.0.0"),
            returned("5.4.6"),
            &[],
        ),
        row(
            "mx-private.example",
            "OUT-09",
            |s| s.mx_pointing_to(10, "mx.@", "10.0.0.1"),
            waits("4.4.4"),
            &[],
        ),
        row(
            "mx-mapped.example",
            "OUT-09",
            |s| s.mx_pointing_to(10, "mx.@", "::ffff:192.168.0.1"),
            waits("4.4.4"),
            &[],
        ),
        row(
            "mx-private-next.example",
            "OUT-09",
            |s| {
                s.mx_pointing_to(10, "inner.@", "10.0.0.1");
                s.mx_at(20, "mx.@");
            },
            delivered("encrypted"),
            FREE,
        ),
        row(
            "mx-loopback-enforce.example",
            "OUT-09",
            |s| {
                s.mx_pointing_to(10, "mx.@", "127.0.0.1");
                s.enforce();
            },
            waits("4.4.4"),
            &[],
        ),
        row(
            "mx-private-enforce.example",
            "OUT-09",
            |s| {
                s.mx_pointing_to(10, "mx.@", "172.16.0.1");
                s.enforce();
            },
            waits("4.4.4"),
            &[],
        ),
        row(
            "mx-no-address-enforce.example",
            "R10",
            |s| {
                s.record(10, "mx.@");
                s.dns().txt("mx.mx-no-address-enforce.example", "x");
                s.enforce();
            },
            waits("4.4.4"),
            &[],
        ),
        row(
            "implicit-no-address-enforce.example",
            "R10",
            |s| s.policy("enforce", &["@"]),
            waits("4.4.4"),
            &[],
        ),
        row(
            "mx-no-address-testing.example",
            "OUT-11",
            |s| {
                s.record(10, "mx.@");
                s.dns().txt("mx.mx-no-address-testing.example", "x");
                s.policy("testing", &["mx.@"]);
            },
            returned("5.4.4"),
            &[],
        ),
    ]
}

fn ourselves() -> Vec<Row> {
    vec![
        row(
            "mx-is-our-name.example",
            "OUT-08",
            |s| s.record(10, "relay.lab.example"),
            returned("5.4.6"),
            &[],
        ),
        row(
            "mx-is-our-listener.example",
            "OUT-08",
            |s| {
                let at = s.world.address(1).ip().to_string();
                s.mx_pointing_to(10, "mx.@", &at);
            },
            returned("5.4.6"),
            &[],
        ),
        row(
            "mx-is-us-enforce.example",
            "OUT-09",
            |s| {
                s.record(10, "relay.lab.example");
                s.policy("enforce", &["relay.lab.example"]);
            },
            waits("4.4.4"),
            &[],
        ),
        row(
            "we-are-backup.example",
            "OUT-08",
            |s| {
                s.mx();
                s.record(20, "relay.lab.example");
                s.record(30, "worse.@");
            },
            delivered("encrypted"),
            FREE,
        ),
        row(
            "we-are-backup-of-the-lost.example",
            "OUT-08",
            |s| {
                s.record(10, "mx.@");
                s.dns().fault("mx.we-are-backup-of-the-lost.example", Some(Fault::ServFail));
                s.record(20, "relay.lab.example");
            },
            waits("4.4.4"),
            &[],
        ),
        row(
            "mx-equal-one-bad.example",
            "STS-71",
            |s| {
                s.mx_at(10, "mx.@");
                let bad = s.mx_at(10, "bad.@");
                s.certify(&bad, crate::world::ca::Flaw::Expired, &["bad.@"]);
                s.policy("enforce", &["mx.@"]);
            },
            delivered("verified"),
            &["*"],
        ),
        row(
            "shared-free.example",
            "STS-77",
            |s| {
                s.flawed(crate::world::ca::Flaw::Expired);
            },
            delivered("encrypted"),
            FREE,
        ),
        row(
            "shared-enforce.example",
            "STS-77",
            |s| {
                s.record(10, "mx.shared-free.example");
                s.policy("enforce", &["mx.shared-free.example"]);
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        ),
        row(
            "shared-none.example",
            "STS-77",
            |s| {
                s.record(10, "mx.shared-host.example");
                s.policy("none", &[]);
            },
            delivered("encrypted").by_any(),
            FREE,
        ),
        row(
            "shared-host.example",
            "STS-77, OUT-51",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        ),
        row(
            "alias-loop.example",
            "OUT-06",
            |s| {
                s.dns().cname("alias-loop.example", "b.alias-loop.example");
                s.dns().cname("b.alias-loop.example", "alias-loop.example");
            },
            waits("4.4.3"),
            &[],
        ),
        row(
            "alias-to-nothing.example",
            "OUT-04",
            |s| s.dns().cname("alias-to-nothing.example", "gone.example"),
            returned("5.1.2"),
            &[],
        ),
    ]
}
