//! Answers with the AD flag, and TLSA records, which mean nothing yet beyond the name of the host.

use super::row::{FREE, Row, delivered, row, waits};
use crate::world::dns::Fault;
use crate::world::mx::StartTls;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "signed.example",
            "D97, levels",
            |s| {
                s.mx();
                s.dns().sign(s.domain);
                s.dns().sign("mx.signed.example");
            },
            delivered("verified"),
            FREE,
        ),
        row(
            "signed-tlsa-mismatch.example",
            "RPT-65",
            |s| {
                s.mx();
                let name = format!("_{}._tcp.mx.signed-tlsa-mismatch.example", s.world.port);
                s.dns().tlsa(&name, [7; 32]);
                for name in [s.domain, "mx.signed-tlsa-mismatch.example", &name] {
                    s.dns().sign(name);
                }
            },
            delivered("verified"),
            FREE,
        ),
        row(
            "unsigned-tlsa.example",
            "RPT-65",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Stripped);
                s.dns().tlsa(&format!("_{}._tcp.mx.unsigned-tlsa.example", s.world.port), [7; 32]);
            },
            delivered("plain"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        ),
        row(
            "signed-enforce-expired.example",
            "STS-72",
            |s| {
                s.flawed(crate::world::ca::Flaw::Expired);
                s.enforce();
                s.dns().sign(s.domain);
                s.dns().sign("mx.signed-enforce-expired.example");
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        ),
        row(
            "signed-enforce-unlisted.example",
            "STS-72",
            |s| {
                s.mx_at(10, "other.@");
                s.enforce();
                s.dns().sign(s.domain);
            },
            waits("4.7.0").because("validation-failure"),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .connections(&[0]),
        row(
            "tlsa-servfail.example",
            "DANE-07",
            |s| {
                s.mx();
                s.dns().fault(
                    &format!("_{}._tcp.mx.tlsa-servfail.example", s.world.port),
                    Some(Fault::ServFail),
                );
            },
            delivered("encrypted"),
            FREE,
        ),
    ]
}
