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
mod tests;
