//! Rows with TLSA records.

use sealpost::security::decide::{Demand, MessageKind};
use sealpost::security::pkix::PkixFault;

use super::columns::*;
use super::judging::*;
use super::report::*;

/// Every row with a TLSA column: the host of a secure (`S`) or insecure (`I`) MX set.
#[test]
fn every_row_with_tlsa() {
    const S: bool = true;
    const I: bool = false;
    let x = Tlsa::Unusable;
    for (id, identified, tlsa, sts, server, outcome, report) in [
        ("D50 exp", S, DOK, Sts::None, EXP, "DANE", "tlsa S()"),
        ("D50 name", S, DOK, Sts::None, NAME, "DANE", "tlsa S()"),
        ("D50 unt", S, DOK, Sts::None, UNT, "DANE", "tlsa S()"),
        ("D51", S, DNO, Sts::None, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
        (
            "D52",
            S,
            Tlsa::Authority(PkixFault::Name),
            Sts::None,
            NAME,
            "NEXT 4.7.5",
            "tlsa F(certificate-host-mismatch)",
        ),
        (
            "D53",
            S,
            Tlsa::Authority(PkixFault::Expired),
            Sts::None,
            EXP,
            "NEXT 4.7.5",
            "tlsa F(certificate-expired)",
        ),
        ("D54 P", S, DOK, Sts::None, Server::NoStarttls, "NEXT 4.7.4", "tlsa F(starttls-not-supported)"),
        (
            "D54 F",
            S,
            DOK,
            Sts::None,
            Server::Refused,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported/starttls-reply-454)",
        ),
        (
            "D55",
            S,
            DOK,
            Sts::None,
            Server::Handshake,
            "NEXT 4.7.5",
            "tlsa F(validation-failure/tls-alert-40)",
        ),
        ("D56 ok", S, x, Sts::None, OK, "ENC", "tlsa F(tlsa-invalid/all-unusable)"),
        ("D56 unt", S, x, Sts::None, UNT, "ENC", "tlsa F(tlsa-invalid/all-unusable)"),
        (
            "D57",
            S,
            x,
            Sts::None,
            Server::NoStarttls,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported+tlsa-invalid/all-unusable)",
        ),
        ("D58", S, Tlsa::None, Sts::None, Server::NoStarttls, "PLAIN", "none F(starttls-not-supported)"),
        ("D59", S, Tlsa::Failed, Sts::None, OK, "NEXT 4.7.5", "tlsa F(dnssec-invalid/servfail)"),
        ("D59 E", S, Tlsa::Failed, EM, OK, "NEXT 4.7.5", "tlsa F(dnssec-invalid/servfail)"),
        ("D60", S, Tlsa::None, Sts::None, OK, "ENC", "none S()"),
        ("D70", S, DOK, EM, EXP, "DANE", "tlsa S()"),
        ("D71", S, DNO, EM, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
        ("D72", S, DOK, EX, OK, "DANE", "tlsa S()"),
        ("D73", I, DOK, EM, OK, "BOTH", "tlsa S() sts S()"),
        ("D74", I, DOK, EM, NAME, "NEXT 4.7.5", "tlsa S() sts F(certificate-host-mismatch)"),
        ("D75", I, DNO, EM, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match) sts S()"),
        ("D76", I, DOK, EX, OK, "NEXT 4.7.0", "sts F(validation-failure/sts-mx-mismatch)"),
        ("D77", I, DOK, Sts::None, UNT, "DANE", "tlsa S()"),
        ("D78", I, DOK, TM, UNT, "DANE", "tlsa S() sts F(certificate-not-trusted/unknown-issuer)"),
        ("D79", S, x, EM, OK, "PKIX", "tlsa F(tlsa-invalid/all-unusable) sts S()"),
        (
            "D80",
            S,
            x,
            EM,
            UNT,
            "NEXT 4.7.5",
            "tlsa F(tlsa-invalid/all-unusable) sts F(certificate-not-trusted/unknown-issuer)",
        ),
        (
            "D81",
            S,
            x,
            TM,
            Server::NoStarttls,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported+tlsa-invalid/all-unusable) sts F(starttls-not-supported)",
        ),
    ] {
        let case = Case { identified, tlsa, ..Case::new(sts, server, MessageKind::Normal) };
        let (got, verdicts) = judged(case);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// D63, DANE-34: what the operator demands.
#[test]
fn dane_demanded_by_the_operator_needs_usable_records() {
    let n =
        Case { identified: true, operator: Demand::DANE, ..Case::new(Sts::None, OK, MessageKind::Normal) };
    for (tlsa, outcome, report) in [
        (Tlsa::None, "NEXT 4.7.5", "tlsa F(dane-required)"),
        (Tlsa::Unusable, "NEXT 4.7.5", "tlsa F(dane-required)"),
        (DOK, "DANE", "tlsa S()"),
        (DNO, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
    ] {
        let (got, verdicts) = judged(Case { tlsa, ..n });
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{tlsa:?}");
    }
    // Whoever forges the MX set has a signed host of his own (RFC 7672 §2.2.1).
    let (got, verdicts) = judged(Case { tlsa: DOK, identified: false, ..n });
    assert_eq!(
        (&*got, &*entry(&reported(&[verdicts]))),
        ("NEXT 4.7.5", "tlsa F(dane-required)"),
        "unsigned MX"
    );
}

// R6: what replaces an enforce policy is enough for `minimum_tls = "verify"` as well, under the same conditions.
#[test]
fn dane_is_enough_where_the_operator_wants_a_verified_host() {
    use MessageKind::{Normal, TlsOptional};
    let (v, p) = (Demand::VERIFIED, Demand::PKIX);
    for (what, operator, identified, require_both, tlsa, server, message, outcome) in [
        ("it stands for PKIX", v, true, false, DOK, UNT, Normal, "DANE"),
        ("not where the MX set is unsigned", v, false, false, DOK, UNT, Normal, "NEXT 4.7.5"),
        ("then both are wanted", v, false, false, DOK, OK, Normal, "BOTH"),
        ("not with require_both", v, true, true, DOK, UNT, Normal, "NEXT 4.7.5"),
        (
            "not for a next hop, which is verified by chain and name",
            p,
            true,
            false,
            DOK,
            UNT,
            Normal,
            "NEXT 4.7.5",
        ),
        ("records that match nothing are never rescued", v, true, false, DNO, OK, Normal, "NEXT 4.7.5"),
        (
            "records that cannot be used prove nothing",
            v,
            true,
            false,
            Tlsa::Unusable,
            UNT,
            Normal,
            "NEXT 4.7.5",
        ),
        ("no records", v, true, false, Tlsa::None, UNT, Normal, "NEXT 4.7.5"),
        ("the sender looks away: DANE is enough", v, true, false, DOK, UNT, TlsOptional, "DANE"),
        ("the sender looks away: PKIX is enough", v, true, false, DNO, OK, TlsOptional, "PKIX"),
        ("the sender looks away: one of them it is", v, true, false, DNO, UNT, TlsOptional, "NEXT 4.7.5"),
        ("no TLS", v, true, false, DOK, Server::NoStarttls, Normal, "NEXT 4.7.4"),
    ] {
        let case = Case { operator, identified, require_both, tlsa, ..Case::new(Sts::None, server, message) };
        assert_eq!(judged(case).0, outcome, "{what}");
    }
}

// `dane.require_both`.
#[test]
fn require_both_asks_for_the_policy_beside_dane() {
    let both = |tlsa, sts, server| {
        let case = Case::new(sts, server, MessageKind::Normal);
        judged(Case { identified: true, require_both: true, tlsa, ..case }).0
    };
    assert_eq!(both(DOK, EM, OK), "BOTH");
    assert_eq!(both(DOK, EM, EXP), "NEXT 4.7.5");
    assert_eq!(both(DNO, EM, OK), "NEXT 4.7.5");
    assert_eq!(both(DOK, EX, OK), "NEXT 4.7.0");
    assert_eq!(both(DOK, Sts::None, EXP), "DANE");
}
