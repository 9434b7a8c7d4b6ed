//! The certificate of an MX host, with a policy and without (RFC 8461 §4.2, RFC 6125).

use super::row::{Row, delivered, row, waits};
use crate::world::ca::Flaw;

/// A certificate that breaks an enforce policy: no MAIL, and the mail waits.
macro_rules! broken {
    ($domain:literal, $ids:literal, $flaw:ident, $names:expr, $failure:literal, $record:literal) => {
        row(
            $domain,
            $ids,
            |s| {
                let host = s.mx();
                s.certify(&host, Flaw::$flaw, $names);
                s.enforce();
            },
            waits("4.7.5").because($failure),
            &[$record],
        )
        .connections(&[1])
    };
}

/// The same without a policy: encrypted, and nothing to report (TLS-24, RPT-61).
macro_rules! unjudged {
    ($domain:literal, $flaw:ident) => {
        row(
            $domain,
            "D10, RPT-61",
            |s| s.flawed(Flaw::$flaw),
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        )
        .connections(&[1])
    };
}

/// A certificate that keeps the policy.
macro_rules! kept {
    ($domain:literal, $ids:literal, $names:expr) => {
        row(
            $domain,
            $ids,
            |s| {
                let host = s.mx();
                s.certify(&host, Flaw::None, $names);
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
    };
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        broken!(
            "cert-expired.example",
            "D21",
            Expired,
            &["mx.@"],
            "certificate-expired",
            "sts +0 -1 certificate-expired"
        ),
        broken!(
            "cert-not-yet.example",
            "D23",
            NotYetValid,
            &["mx.@"],
            "certificate-not-trusted",
            "sts +0 -1 certificate-not-trusted/not-yet-valid"
        ),
        broken!(
            "cert-wrong-name.example",
            "D22",
            WrongName,
            &["mx.@"],
            "certificate-host-mismatch",
            "sts +0 -1 certificate-host-mismatch"
        ),
        broken!(
            "cert-self-signed.example",
            "D23",
            SelfSigned,
            &["mx.@"],
            "certificate-not-trusted",
            "sts +0 -1 certificate-not-trusted/self-signed"
        ),
        broken!(
            "cert-unknown-authority.example",
            "D23",
            UntrustedIssuer,
            &["mx.@"],
            "certificate-not-trusted",
            "sts +0 -1 certificate-not-trusted/unknown-issuer"
        ),
        broken!(
            "cert-no-intermediate.example",
            "D23",
            MissingIntermediate,
            &["mx.@"],
            "certificate-not-trusted",
            "sts +0 -1 certificate-not-trusted/unknown-issuer"
        ),
        broken!(
            "cert-common-name.example",
            "STS-69",
            CommonNameOnly,
            &["mx.@"],
            "certificate-host-mismatch",
            "sts +0 -1 certificate-host-mismatch"
        ),
        broken!(
            "cert-domain-only.example",
            "STS-68",
            None,
            &["@"],
            "certificate-host-mismatch",
            "sts +0 -1 certificate-host-mismatch"
        ),
        broken!(
            "cert-wildcard-two.example",
            "NAME-03",
            None,
            &["*.example"],
            "certificate-host-mismatch",
            "sts +0 -1 certificate-host-mismatch"
        ),
        broken!(
            "cert-address.example",
            "NAME-06",
            AddressOnly,
            &["mx.@"],
            "certificate-host-mismatch",
            "sts +0 -1 certificate-host-mismatch"
        ),
        broken!(
            "cert-client-only.example",
            "D23",
            ClientOnly,
            &["mx.@"],
            "certificate-not-trusted",
            "sts +0 -1 certificate-not-trusted/*"
        ),
        broken!(
            "cert-expired-and-name.example",
            "RPT-22",
            Expired,
            &["other.@"],
            "certificate-expired",
            "sts +0 -1 certificate-expired certificate-host-mismatch"
        ),
        kept!("cert-wildcard.example", "STS-68", &["*.@"]),
        kept!("cert-many-names.example", "STS-68", &["other.example", "@", "MX.@"]),
        unjudged!("free-cert-expired.example", Expired),
        unjudged!("free-cert-not-yet.example", NotYetValid),
        unjudged!("free-cert-wrong-name.example", WrongName),
        unjudged!("free-cert-self-signed.example", SelfSigned),
        unjudged!("free-cert-unknown-authority.example", UntrustedIssuer),
        unjudged!("free-cert-no-intermediate.example", MissingIntermediate),
        unjudged!("free-cert-common-name.example", CommonNameOnly),
        unjudged!("free-cert-address.example", AddressOnly),
        unjudged!("free-cert-client-only.example", ClientOnly),
        unjudged!("free-cert-sound.example", None),
    ]
}
