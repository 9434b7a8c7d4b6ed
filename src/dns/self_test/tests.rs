//! What each answer of a self-test comes to.

use DnsErrorKind::{Bogus, Refused, Servfail, Timeout, Undecided, Unreachable};
use Said::{Data, Denial, Nothing};
use Trouble::{DoesNotHold, Lies, Names, NoAnswer, NoSignatures, Partial, Unauthenticated};

use super::*;

fn look(secure: impl Into<Option<Said>>, bogus: impl Into<Option<Said>>) -> Look {
    Look { server: "127.0.0.1:53".parse().unwrap(), secure: secure.into(), bogus: bogus.into() }
}

// DANE-02, RTLS-29
#[test]
fn only_data_with_ad_for_a_broken_name_switches_dane_off() {
    let good = Data(true);
    let (yes, no) = (Some(true), Some(false));
    for (case, looks, believe, proven, trouble, answered) in [
        ("validates", vec![look(good, Nothing(Bogus))], Some(true), yes, None, true),
        ("AD on everything", vec![look(good, Data(true))], Some(false), no, Some(Lies), true),
        ("a denial with AD is no data", vec![look(good, Denial(true))], Some(true), yes, None, true),
        (
            "does not validate",
            vec![look(Data(false), Data(false))],
            Some(true),
            no,
            Some(Unauthenticated),
            true,
        ),
        ("denies what exists", vec![look(Denial(false), None)], None, no, Some(Lies), true),
        (
            "packets dropped",
            vec![look(Nothing(Timeout), Nothing(Timeout))],
            None,
            None,
            Some(NoAnswer),
            false,
        ),
        (
            "everything fails",
            vec![look(Nothing(Servfail), Nothing(Servfail))],
            None,
            None,
            Some(NoAnswer),
            false,
        ),
        ("the broken name is dropped", vec![look(good, Nothing(Timeout))], None, yes, None, true),
        (
            "the secure name is dropped",
            vec![look(Nothing(Timeout), Nothing(Bogus))],
            Some(true),
            None,
            Some(Partial),
            true,
        ),
        (
            "one of two is silent",
            vec![look(Nothing(Timeout), Nothing(Timeout)), look(good, Nothing(Bogus))],
            None,
            None,
            Some(Partial),
            true,
        ),
        (
            "its own root keys are wrong",
            vec![look(Nothing(Bogus), Nothing(Bogus))],
            Some(true),
            no,
            Some(DoesNotHold),
            true,
        ),
        (
            "a sound one and a liar",
            vec![look(good, Nothing(Bogus)), look(good, Data(true))],
            Some(false),
            no,
            Some(Lies),
            true,
        ),
        (
            "a sound one and a silent one",
            vec![look(good, Nothing(Bogus)), look(good, Nothing(Timeout))],
            None,
            yes,
            None,
            true,
        ),
        (
            "the root keys of one of two are wrong",
            vec![look(Nothing(Bogus), Nothing(Bogus)), look(good, Nothing(Bogus))],
            Some(true),
            yes,
            Some(Partial),
            true,
        ),
        (
            "the root keys of one are wrong, and one is silent",
            vec![
                look(Nothing(Bogus), Nothing(Bogus)),
                look(good, Nothing(Bogus)),
                look(Nothing(Timeout), None),
            ],
            None,
            None,
            Some(Partial),
            true,
        ),
        (
            "the root keys of all that answer are wrong",
            vec![look(Nothing(Timeout), Nothing(Timeout)), look(Nothing(Bogus), Nothing(Bogus))],
            None,
            no,
            Some(DoesNotHold),
            true,
        ),
        (
            "one of two does not validate",
            vec![look(good, Nothing(Bogus)), look(Data(false), Data(false))],
            Some(true),
            no,
            Some(Unauthenticated),
            true,
        ),
        (
            "one of two does not validate, and the other has wrong root keys",
            vec![look(Nothing(Bogus), Nothing(Bogus)), look(Data(false), Data(false))],
            Some(true),
            no,
            Some(Unauthenticated),
            true,
        ),
        ("no broken name", vec![look(good, None)], None, yes, None, true),
        ("nothing is asked", vec![look(None, None)], None, yes, None, false),
        ("nobody", vec![], None, yes, None, false),
    ] {
        let got = judge(&looks, ".");
        assert_eq!(
            (got.believe, got.proven, got.trouble, got.answered),
            (believe, proven, trouble, answered),
            "{case}: {}",
            got.text
        );
    }
}

// What is wrong with one resolver is not said of the others.
#[test]
fn the_text_says_which_resolver_is_meant() {
    let at = |server: &str, secure| Look { server: server.parse().unwrap(), ..look(secure, Nothing(Bogus)) };
    let (a, b) = (|said| at("192.0.2.1:53", said), |said| at("192.0.2.2:53", said));
    for (looks, text) in [
        (
            vec![a(Nothing(Bogus)), b(Data(true))],
            "192.0.2.1:53 finds no valid signature where another resolver does: its root keys or its clock are wrong",
        ),
        (
            vec![a(Data(true)), b(Data(false))],
            "192.0.2.2:53 authenticates nothing, so that no domain counts as signed by its answers",
        ),
        (
            vec![a(Data(false)), b(Data(false))],
            "192.0.2.1:53 authenticates nothing, so that no domain counts as signed",
        ),
    ] {
        assert_eq!(judge(&looks, ".").text, text);
    }
}

// DANE-02: with validation in this process only answers without signatures switch it off.
#[test]
fn only_answers_without_signatures_switch_validation_off() {
    let (yes, no) = (Some(true), Some(false));
    let good = || look(Data(true), None);
    for (case, looks, believe, proven, trouble, answered) in [
        ("signed", vec![good()], yes, yes, None, true),
        ("and the broken name is broken", vec![look(Data(true), Nothing(Bogus))], yes, yes, None, true),
        ("the broken name holds", vec![look(Data(true), Data(true))], yes, yes, Some(Names), true),
        (
            "and nothing else is heard",
            vec![look(Nothing(Timeout), Data(true))],
            None,
            None,
            Some(Partial),
            true,
        ),
        ("the broken name is not signed", vec![look(Data(true), Data(false))], yes, yes, None, true),
        ("stripped", vec![look(Said::Unsigned, Nothing(Bogus))], no, no, Some(NoSignatures), true),
        ("stripped by one of two", vec![good(), look(Said::Unsigned, None)], yes, yes, Some(Partial), true),
        (
            "stripped and silent",
            vec![look(Nothing(Timeout), None), look(Said::Unsigned, None)],
            no,
            no,
            Some(NoSignatures),
            true,
        ),
        (
            "silent and wrong root keys",
            vec![look(Nothing(Timeout), None), look(Nothing(Bogus), None)],
            None,
            None,
            Some(DoesNotHold),
            true,
        ),
        (
            "one silent, and the other says that the name is not signed",
            vec![look(Nothing(Timeout), None), look(Data(false), None)],
            None,
            None,
            Some(Names),
            true,
        ),
        ("dropped", vec![look(Nothing(Timeout), Nothing(Timeout))], None, None, Some(NoAnswer), false),
        (
            "everything fails",
            vec![look(Nothing(Servfail), Nothing(Servfail))],
            None,
            None,
            Some(NoAnswer),
            false,
        ),
        ("wrong root keys", vec![look(Nothing(Bogus), Nothing(Bogus))], None, None, Some(DoesNotHold), true),
        ("the library gave up", vec![look(Nothing(Undecided), None)], None, None, Some(NoAnswer), false),
        ("not a signed name", vec![look(Data(false), None)], None, None, Some(Names), true),
        ("nothing is asked", vec![look(None, None)], None, yes, None, false),
    ] {
        let got = judge_validation(&looks, ".", false);
        assert_eq!(
            (got.believe, got.proven, got.trouble, got.answered),
            (believe, proven, trouble, answered),
            "{case}: {}",
            got.text
        );
    }
    let later = judge_validation(&[look(Said::Unsigned, None)], ".", true);
    assert_eq!(
        (later.believe, later.proven, later.trouble),
        (None, None, Some(NoSignatures)),
        "{}",
        later.text
    );
}

// Under a wrong trust anchor nothing can be proven, not even that a domain is unsigned.
#[test]
fn the_text_says_whose_mail_waits() {
    let said = |secure, said, proven| judge_validation(&[look(said, None)], secure, proven).text;
    for (secure, what, proven, words) in [
        (
            ".",
            Nothing(Bogus),
            false,
            &[
                "the root keys (dns.trust_anchor) do not match the root that 127.0.0.1:53 serves",
                "; mail to every domain waits",
            ][..],
        ),
        ("s.example", Nothing(Bogus), false, &["that name is broken, or the root keys (dns.trust_anchor)"]),
        (".", Said::Unsigned, true, &["mail to every domain waits"]),
        (".", Said::Unsigned, false, &["DANE is off"]),
        (".", Nothing(Timeout), false, &["mail to every domain waits (127.0.0.1:53: no answer in time)"]),
        ("s.example", Nothing(Timeout), false, &["mail to every domain waits (127"]),
        (".", Nothing(Refused), false, &["mail to every domain waits (127"]),
        ("s.example", Nothing(Refused), false, &["127.0.0.1:53 gave no answer to the self-test"]),
        ("s.example", Nothing(Servfail), false, &["127.0.0.1:53 gave no answer to the self-test"]),
    ] {
        let text = said(secure, what, proven);
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
        assert!(!text.contains("signed domains"), "{text}");
    }
}

// DANE-01: where nothing is believed, a resolver is good for mail while it answers, whatever it says.
#[test]
fn who_is_not_believed_need_only_answer() {
    for (case, looks, trouble) in [
        ("answers", vec![look(Data(false), None)], None),
        ("denies", vec![look(Denial(false), None)], None),
        ("is dead", vec![look(Nothing(Unreachable), None)], Some(NoAnswer)),
        ("refuses us", vec![look(Nothing(Refused), None)], Some(NoAnswer)),
        ("one of two is dead", vec![look(Nothing(Timeout), None), look(Data(false), None)], None),
        ("nothing is asked", vec![look(None, None)], None),
    ] {
        let got = judge_reach(&looks, ".");
        assert_eq!((got.believe, got.proven, got.trouble), (None, None, trouble), "{case}");
        assert_eq!(got.text.is_empty(), trouble.is_none(), "{case}: {}", got.text);
    }
}
