//! Sessions whose handshake signature is wrong.

use sealpost::security::decide::{Demand, MessageKind};

use super::columns::*;
use super::judging::*;
use super::report::*;

// What always holds, sentence 5; RFC 8446 §4.4.3, DANE-19, DANE-23: a session without proof of the key serves mail that
// demands nothing. The report says the like, and any handshake is a success for who asked for none (RPT-24).
#[test]
fn a_session_without_proof_serves_only_mail_that_demands_nothing() {
    let (n, x, no) = (MessageKind::Normal, Tlsa::Unusable, MessageKind::TlsOptional);
    let (nothing, encrypt) = (Demand::NOTHING, Demand::ENCRYPTED);
    for (id, tlsa, sts, operator, message, outcome, report) in [
        ("D10", Tlsa::None, Sts::None, nothing, n, "ENC", "none S()"),
        ("D41", Tlsa::None, TM, nothing, n, "ENC", "sts F(certificate-not-trusted/bad-signature)"),
        ("D23", Tlsa::None, EM, nothing, n, "NEXT 4.7.5", "sts F(certificate-not-trusted/bad-signature)"),
        (
            "encrypt",
            Tlsa::None,
            Sts::None,
            encrypt,
            n,
            "NEXT 4.7.5",
            "none F(validation-failure/bad-signature)",
        ),
        (
            "encrypt, No",
            Tlsa::None,
            Sts::None,
            encrypt,
            no,
            "NEXT 4.7.5",
            "none F(validation-failure/bad-signature)",
        ),
        (
            "encrypt, Tm",
            Tlsa::None,
            TM,
            encrypt,
            n,
            "NEXT 4.7.5",
            "sts F(certificate-not-trusted/bad-signature)",
        ),
        (
            "D56",
            x,
            Sts::None,
            nothing,
            n,
            "NEXT 4.7.5",
            "tlsa F(tlsa-invalid/all-unusable+validation-failure/bad-signature)",
        ),
        (
            "D56 No",
            x,
            Sts::None,
            nothing,
            no,
            "ENC",
            "tlsa F(tlsa-invalid/all-unusable+validation-failure/bad-signature)",
        ),
        ("D50", DOK, Sts::None, nothing, n, "NEXT 4.7.5", "tlsa F(validation-failure/bad-signature)"),
    ] {
        let case = Case { tlsa, operator, identified: true, ..Case::new(sts, Server::Unproven, message) };
        let (got, verdicts) = judged(case);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}
