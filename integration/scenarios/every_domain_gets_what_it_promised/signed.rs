//! Answers with the AD flag, and TLSA records.

use super::row::{FREE, Row, delivered, row, waits};
use crate::world::ca::Flaw;
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
            "D51",
            |s| {
                s.dane(Flaw::None);
                s.dns().tlsa(&s.tlsa_name(), [7; 32]);
            },
            waits("4.7.5").because("validation-failure"),
            &["tlsa +0 -1 validation-failure/dane-no-match"],
        )
        .connections(&[1]),
        row("dane.example", "D50", |s| drop(s.dane(Flaw::WrongName)), delivered("dane"), &["tlsa +1 -0"]),
        row(
            "dane-stripped.example",
            "D54",
            |s| s.dane(Flaw::None).behave(|b| b.starttls = StartTls::Stripped),
            waits("4.7.4").because("starttls-not-supported"),
            &["tlsa +0 -1 starttls-not-supported"],
        )
        .connections(&[1]),
        row(
            "dane-servfail.example",
            "D59, DANE-06",
            |s| {
                s.dane(Flaw::None);
                s.dns().fault(&s.tlsa_name(), Some(Fault::ServFail));
            },
            waits("4.7.5").because("dnssec-invalid"),
            &["tlsa +0 -1 dnssec-invalid/servfail"],
        )
        .connections(&[0]),
        row(
            "dane-unlisted.example",
            "D72",
            |s| {
                s.dane(Flaw::SelfSigned);
                s.policy("enforce", &["other.@"]);
            },
            delivered("dane"),
            &["tlsa +1 -0"],
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
                s.flawed(Flaw::Expired);
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
