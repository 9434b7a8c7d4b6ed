//! What the answers to the self-test show about resolvers whose AD bit is to be believed, or whose answers are to be
//! validated here (DANE-02). Pure.
//!
//! Only one thing switches DANE off: data with the AD bit for a name whose signatures are known to be broken; or, where this
//! process validates, answers without signatures. Whoever can drop or spoil our packets brings about silence and SERVFAIL,
//! and these prove nothing and change nothing. A resolver that sets no AD bit at all makes everything insecure by itself, so
//! that it is only told.

use std::net::SocketAddr;

use super::DnsErrorKind;

/// What one resolver said to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Records, with the AD bit or without.
    Data(bool),
    /// That there are none, with the AD bit or without.
    Denial(bool),
    /// Records without any signature, where this process validates.
    Unsigned,
    /// No answer; [`DnsErrorKind::Bogus`] where there is one without checking.
    Nothing(DnsErrorKind),
}

/// What one resolver said; `None` where nothing is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Who was asked.
    pub server: SocketAddr,
    /// About the name that is signed.
    pub secure: Option<Said>,
    /// About the name whose signatures are broken.
    pub bogus: Option<Said>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the AD bit is to be believed from now on; `None`: as before.
    pub believe: Option<bool>,
    /// Whether it has shown that what is signed is told from what is not; `None`: as before. Only then does an answer without
    /// the AD bit say something about its domain (RTLS-29).
    pub proven: Option<bool>,
    /// Whether an operator should look at it.
    pub warn: bool,
    /// Whether anything was answered at all: until then it is asked again soon.
    pub answered: bool,
    /// What was found, in a clause.
    pub text: String,
}

/// Whether it was an answer, be it that what there is cannot be believed.
const fn answers(said: Said) -> bool {
    !matches!(said, Said::Nothing(kind) if !matches!(kind, DnsErrorKind::Bogus))
}

fn answered(looks: &[Look]) -> bool {
    looks.iter().flat_map(|l| [l.secure, l.bogus]).flatten().any(answers)
}

/// The verdict on resolvers that are believed, all together: one that lies spoils every answer, since any of them may be
/// asked.
pub fn judge(looks: &[Look]) -> Verdict {
    let verdict =
        |believe, proven, warn, text| Verdict { believe, proven, warn, answered: answered(looks), text };
    if let Some(liar) = looks.iter().find(|l| l.bogus == Some(Said::Data(true))) {
        let text = format!(
            "{} calls a name authenticated whose signatures are broken: its AD bit means nothing, and DANE is off",
            liar.server
        );
        return verdict(Some(false), Some(false), true, text);
    }
    // Every resolver has shown that it does not call everything authenticated.
    let shown = |l: &Look| l.bogus.is_some_and(answers);
    let believe = (!looks.is_empty() && looks.iter().all(shown)).then_some(true);
    if let Some(liar) = looks.iter().find(|l| l.secure == Some(Said::Denial(false))) {
        let text = format!("{} denies dns.self_test.secure, a name that exists", liar.server);
        return verdict(believe, Some(false), true, text);
    }
    let authenticates = |l: &Look| matches!(l.secure, Some(Said::Data(true) | Said::Denial(true)));
    if let Some(plain) = looks.iter().find(|l| l.secure.is_some_and(answers) && !authenticates(l)) {
        let text = format!("{} authenticates nothing, so that no domain counts as signed", plain.server);
        return verdict(believe, Some(false), true, text);
    }
    if let Some(silent) = looks.iter().find(|l| l.secure.is_some() && !authenticates(l)) {
        let why = match silent.secure {
            Some(Said::Nothing(kind)) => kind.to_string(),
            _ => String::new(),
        };
        let text = format!("{} gave no answer to the self-test: {why}", silent.server);
        return verdict(believe, None, true, text);
    }
    let text = match believe {
        Some(_) => "the self-test found that it validates",
        None if looks.iter().any(authenticates) => "the self-test found that it authenticates answers",
        None => "there is no self-test",
    };
    // Who is not asked is taken at the operator's word.
    verdict(believe, Some(true), false, text.to_owned())
}

/// The verdict on resolvers whose answers this process validates. They need only hand out signatures: one that does is
/// enough, since a name that is bogus by one of them is asked of the others too.
///
/// Answers without signatures switch it off only before it was `proven`: whoever can strip one answer later must not be able
/// to switch DANE off. Then signed names are bogus, and their mail waits.
pub fn judge_validation(looks: &[Look], proven: bool) -> Verdict {
    let verdict =
        |believe, proven, warn, text| Verdict { believe, proven, warn, answered: answered(looks), text };
    if let Some(broken) = looks.iter().find(|l| l.bogus == Some(Said::Data(true))) {
        let text = format!(
            "the answer of {} about dns.self_test.bogus is validly signed: that name is not broken, or this process does \
             not validate as it should, and DANE is off",
            broken.server
        );
        return verdict(Some(false), Some(false), true, text);
    }
    let asked = || looks.iter().filter_map(|l| l.secure.map(|said| (l.server, said)));
    let sound = asked().any(|(_, said)| matches!(said, Said::Data(true)));
    let stripped = asked().find(|(_, said)| matches!(said, Said::Unsigned)).map(|(server, _)| server);
    match (sound, stripped) {
        (true, None) => {
            verdict(Some(true), Some(true), false, "the self-test found that it validates".to_owned())
        }
        (true, Some(server)) => {
            let text = format!("{server} hands out no signatures; the other resolvers do");
            verdict(Some(true), Some(true), true, text)
        }
        (false, Some(server)) if proven => {
            let text =
                format!("{server} hands out no signatures any more, so that mail to signed domains waits");
            verdict(None, None, true, text)
        }
        (false, Some(server)) => {
            let text = format!(
                "{server} hands out no signatures, so that there is nothing to validate, and DANE is off; ask a resolver \
                 that passes DNSSEC records on"
            );
            verdict(Some(false), Some(false), true, text)
        }
        (false, None) => match asked().next() {
            // Who is not asked is taken at the operator's word.
            None => verdict(None, Some(true), false, "there is no self-test".to_owned()),
            Some((server, Said::Nothing(kind))) if kind != DnsErrorKind::Bogus => {
                let text = format!("{server} gave no answer to the self-test: {kind}");
                verdict(None, None, true, text)
            }
            Some((server, Said::Nothing(_))) => {
                let text = format!(
                    "what {server} says about dns.self_test.secure does not hold, so that mail to signed domains waits: \
                     are the root keys (dns.trust_anchor) the right ones, and is the clock?"
                );
                verdict(None, None, true, text)
            }
            Some((server, _)) => {
                let text = format!("dns.self_test.secure is not signed, says {server}: name one that is");
                verdict(None, None, true, text)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use DnsErrorKind::{Bogus, Servfail, Timeout, Undecided};
    use Said::{Data, Denial, Nothing};

    use super::*;

    fn look(secure: impl Into<Option<Said>>, bogus: impl Into<Option<Said>>) -> Look {
        Look { server: "127.0.0.1:53".parse().unwrap(), secure: secure.into(), bogus: bogus.into() }
    }

    // DANE-02, RTLS-29
    #[test]
    fn only_data_with_ad_for_a_broken_name_switches_dane_off() {
        let good = Data(true);
        let (yes, no) = (Some(true), Some(false));
        for (case, looks, believe, proven, warn, answered) in [
            ("validates", vec![look(good, Nothing(Bogus))], Some(true), yes, false, true),
            ("AD on everything", vec![look(good, Data(true))], Some(false), no, true, true),
            ("a denial with AD is no data", vec![look(good, Denial(true))], Some(true), yes, false, true),
            ("does not validate", vec![look(Data(false), Data(false))], Some(true), no, true, true),
            ("denies what exists", vec![look(Denial(false), None)], None, no, true, true),
            ("packets dropped", vec![look(Nothing(Timeout), Nothing(Timeout))], None, None, true, false),
            ("everything fails", vec![look(Nothing(Servfail), Nothing(Servfail))], None, None, true, false),
            ("the broken name is dropped", vec![look(good, Nothing(Timeout))], None, yes, false, true),
            (
                "the secure name is dropped",
                vec![look(Nothing(Timeout), Nothing(Bogus))],
                Some(true),
                None,
                true,
                true,
            ),
            (
                "a sound one and a liar",
                vec![look(good, Nothing(Bogus)), look(good, Data(true))],
                Some(false),
                no,
                true,
                true,
            ),
            (
                "a sound one and a silent one",
                vec![look(good, Nothing(Bogus)), look(good, Nothing(Timeout))],
                None,
                yes,
                false,
                true,
            ),
            ("no broken name", vec![look(good, None)], None, yes, false, true),
            ("nothing is asked", vec![look(None, None)], None, yes, false, false),
            ("nobody", vec![], None, yes, false, false),
        ] {
            let got = judge(&looks);
            assert_eq!(
                (got.believe, got.proven, got.warn, got.answered),
                (believe, proven, warn, answered),
                "{case}: {}",
                got.text
            );
        }
    }

    // DANE-02: with validation in this process only answers without signatures, or a broken name that holds, switch it off.
    #[test]
    fn only_answers_without_signatures_switch_validation_off() {
        let (yes, no) = (Some(true), Some(false));
        let good = || look(Data(true), None);
        for (case, looks, believe, proven, warn, answered) in [
            ("signed", vec![good()], yes, yes, false, true),
            ("and the broken name is broken", vec![look(Data(true), Nothing(Bogus))], yes, yes, false, true),
            ("the broken name holds", vec![look(Data(true), Data(true))], no, no, true, true),
            ("the broken name is not signed", vec![look(Data(true), Data(false))], yes, yes, false, true),
            ("stripped", vec![look(Said::Unsigned, Nothing(Bogus))], no, no, true, true),
            ("stripped by one of two", vec![good(), look(Said::Unsigned, None)], yes, yes, true, true),
            (
                "stripped and silent",
                vec![look(Nothing(Timeout), None), look(Said::Unsigned, None)],
                no,
                no,
                true,
                true,
            ),
            ("dropped", vec![look(Nothing(Timeout), Nothing(Timeout))], None, None, true, false),
            ("everything fails", vec![look(Nothing(Servfail), Nothing(Servfail))], None, None, true, false),
            ("wrong root keys", vec![look(Nothing(Bogus), Nothing(Bogus))], None, None, true, true),
            ("the library gave up", vec![look(Nothing(Undecided), None)], None, None, true, false),
            ("not a signed name", vec![look(Data(false), None)], None, None, true, true),
            ("nothing is asked", vec![look(None, None)], None, yes, false, false),
        ] {
            let got = judge_validation(&looks, false);
            assert_eq!(
                (got.believe, got.proven, got.warn, got.answered),
                (believe, proven, warn, answered),
                "{case}: {}",
                got.text
            );
        }
        let later = judge_validation(&[look(Said::Unsigned, None)], true);
        assert_eq!((later.believe, later.proven, later.warn), (None, None, true), "{}", later.text);
    }
}
