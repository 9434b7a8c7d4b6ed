//! What holds of all rows that there could be.

use proptest::prelude::*;
use sealpost::security::decide::{Asked, Demand, MessageKind};
use sealpost::security::pkix::PkixFault;
use sealpost::tlsrpt::ResultType;
use sealpost::tlsrpt::aggregate::may_carry;

use super::columns::*;
use super::judging::*;
use super::report::*;

fn any_tlsa() -> impl Strategy<Value = Tlsa> {
    prop_oneof![
        Just(Tlsa::None),
        Just(DOK),
        Just(DNO),
        Just(Tlsa::Unusable),
        Just(Tlsa::Failed),
        Just(Tlsa::Authority(PkixFault::Name)),
    ]
}

fn any_sts() -> impl Strategy<Value = Sts> {
    prop_oneof![
        Just(Sts::None),
        Just(Sts::OptedOut),
        (any::<bool>(), any::<bool>()).prop_map(|(listed, stale)| Sts::Enforce { listed, stale }),
        any::<bool>().prop_map(|listed| Sts::Testing { listed }),
        Just(Sts::Failed(ResultType::StsPolicyFetchError)),
        Just(Sts::Failed(ResultType::StsPolicyInvalid)),
        Just(Sts::Failed(ResultType::StsWebpkiInvalid)),
    ]
}

fn any_server() -> impl Strategy<Value = Server> {
    prop_oneof![
        Just(Server::NoStarttls),
        Just(Server::Refused),
        Just(Server::Handshake),
        Just(OK),
        Just(EXP),
        Just(NAME),
        Just(UNT),
        Just(Server::Unproven),
    ]
}

fn any_demand() -> impl Strategy<Value = Demand> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(tls, verified, pkix, dane)| {
        Demand { tls: tls || verified || pkix || dane, verified: verified || pkix, pkix, dane }
    })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    prop_oneof![Just(Asked::All), Just(Asked::AllForNames), Just(Asked::AsConfigured), Just(Asked::Fewer)]
}

proptest! {
    // (a): enforce never yields an unauthenticated delivery.
    #[test]
    fn enforce_never_delivers_unauthenticated(listed: bool, stale: bool, server in any_server()) {
        let (got, _) = row(Sts::Enforce { listed, stale }, server, MessageKind::Normal);
        prop_assert!(got == "PKIX" || got.starts_with("NEXT"), "{}", got);
    }

    // (d): fresh or cached makes no difference to the outcome.
    #[test]
    fn a_stale_policy_decides_like_a_fresh_one(listed: bool, server in any_server()) {
        let at = |stale| row(Sts::Enforce { listed, stale }, server, MessageKind::Normal).0;
        prop_assert_eq!(at(true), at(false));
    }

    // (e): a policy never turns a non-delivery into a delivery.
    #[test]
    fn a_policy_never_helps_delivery(
        sts in any_sts(), server in any_server(), tlsa in any_tlsa(), identified: bool, operator in any_demand(), no: bool
    ) {
        let message = if no { MessageKind::TlsOptional } else { MessageKind::Normal };
        let of = |sts| judged(Case { identified, tlsa, operator, ..Case::new(sts, server, message) }).0;
        prop_assert!(!of(Sts::None).starts_with("NEXT") || of(sts).starts_with("NEXT"));
    }

    // RTLS-20 to RTLS-26: mail with REQUIRETLS goes to an authenticated host with an assured name, with the parameter, or not
    // at all.
    #[test]
    fn requiretls_is_all_or_nothing(
        sts in any_sts(), server in any_server(), tlsa in any_tlsa(), identified: bool, implicit: bool, offered: bool, asked in any_asked()
    ) {
        let case = Case { identified, implicit, tlsa, offered, asked, ..Case::requiretls(sts, server) };
        let (got, _) = judged(case);
        let listed = matches!(sts, Sts::Enforce { listed: true, .. } | Sts::Testing { listed: true });
        let assured = identified || implicit || listed;
        let sent = ["DANE +R", "BOTH +R", "PKIX +R"].contains(&&*got);
        prop_assert!(sent || got.starts_with("NEXT") || got.starts_with("ABSENT"), "{}", got);
        prop_assert!(!sent || (assured && offered && matches!(server, Server::Cert(_))), "{}", got);
        // What the recipient's domain promised, or what failed, is never the reason for a bounce.
        if got == "ABSENT 5.7.10" {
            prop_assert!(server == Server::NoStarttls && matches!(sts, Sts::None | Sts::OptedOut));
            prop_assert!(asked == Asked::All);
        }
        // Wherever it goes, ordinary mail goes too.
        let ordinary = judged(Case { message: MessageKind::Normal, ..case }).0;
        prop_assert!(!sent || !ordinary.starts_with("NEXT"), "{}", ordinary);
        prop_assert!(!ordinary.contains("+R"));
    }

    // RTLS-50, D118: nothing that a recipient's domain publishes stops mail that asks for no TLS.
    #[test]
    fn no_policy_stops_mail_with_tls_required_no(sts in any_sts(), server in any_server(), tlsa in any_tlsa(), identified: bool) {
        for message in [MessageKind::TlsOptional, MessageKind::TlsReport] {
            let (got, verdicts) = judged(Case { identified, tlsa, ..Case::new(sts, server, message) });
            prop_assert!(!got.starts_with("NEXT"), "{}", got);
            prop_assert_eq!(verdicts.is_empty(), message == MessageKind::TlsReport);
        }
    }

    // What always holds, sentence 5.
    #[test]
    fn who_demands_tls_gets_a_proven_handshake(
        sts in any_sts(), tlsa in any_tlsa(), identified: bool, operator in any_demand(), no: bool, require_both: bool
    ) {
        let message = if no { MessageKind::TlsOptional } else { MessageKind::Normal };
        let at = |server| judged(Case { identified, tlsa, operator, require_both, ..Case::new(sts, server, message) }).0;
        // Nothing is demanded where mail would go in the clear.
        let demands_nothing = at(Server::NoStarttls) == "PLAIN";
        let unproven = at(Server::Unproven);
        prop_assert_eq!(&*unproven == "ENC", demands_nothing, "{}", unproven);
        prop_assert!(demands_nothing || unproven.starts_with("NEXT 4.7."), "{}", unproven);
    }

    // (b), DANE-37: usable TLSA records never yield less than DANE.
    #[test]
    fn usable_records_never_yield_less_than_dane(matches: bool, identified: bool, sts in any_sts(), server in any_server()) {
        let case = Case::new(sts, server, MessageKind::Normal);
        let (got, _) = judged(Case { identified, tlsa: Tlsa::Server { matches }, ..case });
        prop_assert!(["DANE", "BOTH"].contains(&&*got) || got.starts_with("NEXT"), "{}", got);
    }

    // (a) beside records that cannot be used, (c): an enforce policy holds, and `judged` asserts that nothing is a bounce.
    #[test]
    fn unusable_records_take_nothing_from_a_policy(listed: bool, identified: bool, server in any_server()) {
        let case = Case::new(Sts::Enforce { listed, stale: false }, server, MessageKind::Normal);
        let (got, _) = judged(Case { identified, tlsa: Tlsa::Unusable, ..case });
        prop_assert!(got == "PKIX" || got.starts_with("NEXT"), "{}", got);
    }

    // (f), RPT-60: with TLSA records too.
    #[test]
    fn entries_carry_only_what_is_legal_for_them(tlsa in any_tlsa(), identified: bool, sts in any_sts(), server in any_server()) {
        let case = Case::new(sts, server, MessageKind::Normal);
        let verdicts = judged(Case { identified, tlsa, ..case }).1;
        prop_assert!(!verdicts.is_empty());
        let _ = reported(&[verdicts]);
    }

    // (f), (c): every failure names a type that is legal for its entry (RPT-60, RPT-61; `reported` checks it of
    // the report too), and `row` asserts that none is a bounce.
    #[test]
    fn every_failure_names_a_legal_result_type(sts in any_sts(), server in any_server(), assured: bool) {
        let (_, verdicts) = row_at("mx.example.net", assured, sts, server, MessageKind::Normal);
        prop_assert!(!verdicts.is_empty());
        for verdict in &verdicts {
            prop_assert!(verdict.success || !verdict.details.is_empty());
            prop_assert!(verdict.details.iter().all(|d| may_carry(&verdict.policy, d.result)));
        }
        let said = reported(std::slice::from_ref(&verdicts));
        for (verdict, entry) in verdicts.iter().zip(&said.policies) {
            // Nothing was renamed on the way.
            let told: Vec<_> = entry.failure_details.iter().map(|d| d.result_type.clone()).collect();
            prop_assert!(verdict.details.iter().all(|d| told.contains(&d.result.to_string())));
            prop_assert_eq!(entry.summary.total_successful_session_count, u64::from(verdict.success));
        }
        // RPT-27: our own reports leave nothing.
        prop_assert!(row_at("mx.example.net", assured, sts, server, MessageKind::TlsReport).1.is_empty());
    }

    // STS-74
    #[test]
    fn joining_never_weakens(a in any_demand(), b in any_demand()) {
        let joined = a.join(b);
        prop_assert_eq!(joined, b.join(a));
        prop_assert_eq!(joined.join(a), joined);
        prop_assert!((joined.tls || !a.tls) && (joined.pkix || !a.pkix) && (joined.dane || !a.dane));
    }
}
