//! What the answers to the self-test show about resolvers whose AD bit is to be believed, or whose answers are to be
//! validated here (DANE-02). Pure.
//!
//! Only one thing switches DANE off: data with the AD bit for a name whose signatures are known to be broken; or, where this
//! process validates, answers without signatures. Whoever can drop or spoil our packets brings about silence and SERVFAIL,
//! and these prove nothing and change nothing. A resolver that sets no AD bit at all makes everything insecure by itself, so
//! that it is only told.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

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

/// What is wrong, as far as what is to be done about it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// No resolver gives an answer to anything.
    NoAnswer,
    /// What is signed does not hold, by the keys of the root that are believed or by the clock.
    DoesNotHold,
    /// Answers come without the signatures that this process would validate.
    NoSignatures,
    /// A resolver calls nothing authenticated.
    Unauthenticated,
    /// A resolver says what is certainly wrong.
    Lies,
    /// A name of the self-test is not what it should be.
    Names,
    /// One of several resolvers, or one of several questions, came to nothing.
    Partial,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the AD bit is to be believed from now on; `None`: as before.
    pub believe: Option<bool>,
    /// Whether it has shown that what is signed is told from what is not; `None`: as before. Only then does an answer without
    /// the AD bit say something about its domain (RTLS-29).
    pub proven: Option<bool>,
    /// What an operator should look at.
    pub trouble: Option<Trouble>,
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
/// asked. `secure`: the signed name, "." for the root.
pub fn judge(looks: &[Look], secure: &str) -> Verdict {
    let answered = answered(looks);
    let verdict = |believe, proven, trouble, text| Verdict { believe, proven, trouble, answered, text };
    if let Some(liar) = looks.iter().find(|l| l.bogus == Some(Said::Data(true))) {
        let text = format!(
            "{} calls a name authenticated whose signatures are broken: its AD bit means nothing, and DANE is off",
            liar.server
        );
        return verdict(Some(false), Some(false), Some(Trouble::Lies), text);
    }
    // Every resolver has shown that it does not call everything authenticated.
    let shown = |l: &Look| l.bogus.is_some_and(answers);
    let believe = (!looks.is_empty() && looks.iter().all(shown)).then_some(true);
    if let Some(liar) = looks.iter().find(|l| l.secure == Some(Said::Denial(false))) {
        let text = format!("{} denies dns.self_test.secure, a name that exists", liar.server);
        return verdict(believe, Some(false), Some(Trouble::Lies), text);
    }
    let authenticates = |l: &Look| matches!(l.secure, Some(Said::Data(true) | Said::Denial(true)));
    let stale = |l: &Look| l.secure == Some(Said::Nothing(DnsErrorKind::Bogus));
    let heard = || looks.iter().filter(|l| l.secure.is_some_and(answers));
    if let Some(first) = heard().next()
        && heard().all(stale)
    {
        let text = format!(
            "{} finds no valid signature at dns.self_test.secure: its root keys or its clock are wrong, or that name is \
             broken",
            first.server
        );
        return verdict(believe, Some(false), Some(Trouble::DoesNotHold), text);
    }
    if let Some(plain) = heard().find(|l| !authenticates(l) && !stale(l)) {
        let whose = if heard().any(authenticates) { " by its answers" } else { "" };
        let text =
            format!("{} authenticates nothing, so that no domain counts as signed{whose}", plain.server);
        return verdict(believe, Some(false), Some(Trouble::Unauthenticated), text);
    }
    // It spoils nothing: what it calls bogus is asked of the others too.
    if let Some(stale) = looks.iter().find(|l| stale(l)) {
        let text = format!(
            "{} finds no valid signature where another resolver does: its root keys or its clock are wrong",
            stale.server
        );
        let proven = looks.iter().all(|l| l.secure.is_none_or(answers)).then_some(true);
        return verdict(believe, proven, Some(Trouble::Partial), text);
    }
    if let Some(silent) = looks.iter().find(|l| l.secure.is_some() && !authenticates(l)) {
        let (trouble, text) = no_answer(silent, looks, secure);
        return verdict(believe, None, Some(trouble), text);
    }
    let text = match believe {
        Some(_) => "the self-test found that it validates",
        None if looks.iter().any(authenticates) => "the self-test found that it authenticates answers",
        None => "there is no self-test",
    };
    // Who is not asked is taken at the operator's word.
    verdict(believe, Some(true), None, text.to_owned())
}

/// Nobody of those asked has shown that it is sound; this is what the first of them said about `secure`.
fn no_answer(first: &Look, looks: &[Look], secure: &str) -> (Trouble, String) {
    let (server, why) = match (first.server, first.secure) {
        (server, Some(Said::Nothing(kind))) => (server, kind.to_string()),
        (server, _) => (server, String::new()),
    };
    if dead(looks, secure) {
        (
            Trouble::NoAnswer,
            format!("no resolver answers, so that mail to every domain waits ({server}: {why})"),
        )
    } else {
        (Trouble::Partial, format!("{server} gave no answer to the self-test: {why}"))
    }
}

/// Whether no resolver is good for anything: none answers to anything. Who refuses or fails at a name of the operator's
/// choice may do so for that name's sake; at the root there is no such excuse.
fn dead(looks: &[Look], secure: &str) -> bool {
    let mut all = looks.iter().flat_map(|l| [l.secure, l.bogus]).flatten().peekable();
    let silent = |said| {
        matches!(said, Said::Nothing(DnsErrorKind::Timeout | DnsErrorKind::Unreachable)) || secure == "."
    };
    all.peek().is_some() && all.all(|said| !answers(said) && silent(said))
}

/// The verdict on resolvers of which nothing is believed: only whether they answer at all.
pub fn judge_reach(looks: &[Look], secure: &str) -> Verdict {
    let answered = answered(looks);
    let first = looks.iter().find(|l| l.secure.is_some()).filter(|_| dead(looks, secure));
    let (trouble, text) = first.map(|first| no_answer(first, looks, secure)).unzip();
    Verdict { believe: None, proven: None, trouble, answered, text: text.unwrap_or_default() }
}

/// The verdict on resolvers whose answers this process validates. They need only hand out signatures: one that does is
/// enough, since a name that is bogus by one of them is asked of the others too. `secure`: as for [`judge`].
///
/// Answers without signatures switch it off only before it was `proven`: whoever can strip one answer later must not be able
/// to switch DANE off. Then nothing can be proven, not even that a name is unsigned, and mail waits.
pub fn judge_validation(looks: &[Look], secure: &str, proven: bool) -> Verdict {
    let answered = answered(looks);
    let verdict = |believe, proven, trouble, text| Verdict { believe, proven, trouble, answered, text };
    let who = |is: fn(Said) -> bool| looks.iter().find(|l| l.secure.is_some_and(is)).map(|l| l.server);
    let stripped = who(|said| said == Said::Unsigned);
    if who(|said| said == Said::Data(true)).is_some() {
        let mended = looks.iter().find(|l| l.bogus == Some(Said::Data(true))).map(|l| l.server);
        let (trouble, text) = match (stripped, mended) {
            (Some(server), _) => {
                (Some(Trouble::Partial), format!("{server} hands out no signatures; the other resolvers do"))
            }
            // Whoever owns that name can sign it well: no reason to believe nobody any more.
            (None, Some(server)) => (
                Some(Trouble::Names),
                format!(
                    "what {server} says about dns.self_test.bogus is validly signed: that name is not broken any more"
                ),
            ),
            (None, None) => (None, "the self-test found that it validates".to_owned()),
        };
        return verdict(Some(true), Some(true), trouble, text);
    }
    if let Some(server) = stripped {
        let (believe, text) = if proven {
            (None, format!("{server} hands out no signatures any more, so that mail to every domain waits"))
        } else {
            let text =
                format!("{server} hands out no signatures: there is nothing to validate, and DANE is off");
            (Some(false), text)
        };
        return verdict(believe, believe, Some(Trouble::NoSignatures), text);
    }
    if let Some(server) = who(|said| matches!(said, Said::Data(_) | Said::Denial(_))) {
        let text = format!("dns.self_test.secure is not signed, says {server}");
        return verdict(None, None, Some(Trouble::Names), text);
    }
    if let Some(server) = who(|said| said == Said::Nothing(DnsErrorKind::Bogus)) {
        let text = if secure == "." {
            format!(
                "the root keys (dns.trust_anchor) do not match the root that {server} serves, or the clock is wrong; mail to \
                 every domain waits"
            )
        } else {
            format!(
                "what {server} says about dns.self_test.secure does not hold: that name is broken, or the root keys \
                 (dns.trust_anchor) do not match the root that it serves, or the clock is wrong, and then mail to every \
                 domain waits"
            )
        };
        return verdict(None, None, Some(Trouble::DoesNotHold), text);
    }
    match looks.iter().find(|l| l.secure.is_some()) {
        // Who is not asked is taken at the operator's word.
        None => verdict(None, Some(true), None, "there is no self-test".to_owned()),
        Some(first) => {
            let (trouble, text) = no_answer(first, looks, secure);
            verdict(None, None, Some(trouble), text)
        }
    }
}

#[cfg(test)]
mod tests {
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
        let at =
            |server: &str, secure| Look { server: server.parse().unwrap(), ..look(secure, Nothing(Bogus)) };
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
            (
                "stripped by one of two",
                vec![good(), look(Said::Unsigned, None)],
                yes,
                yes,
                Some(Partial),
                true,
            ),
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
            (
                "wrong root keys",
                vec![look(Nothing(Bogus), Nothing(Bogus))],
                None,
                None,
                Some(DoesNotHold),
                true,
            ),
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
            (
                "s.example",
                Nothing(Bogus),
                false,
                &["that name is broken, or the root keys (dns.trust_anchor)"],
            ),
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
}
