//! An outcome's codes and words in one line, each code once.
//!
//! The stored text quotes a remote's reply as it came, code and all, inside words of ours:
//! `mx.example said: 550 5.1.1 no such user (in reply to RCPT TO)`.

use super::Diagnosis;

impl Diagnosis {
    /// For people: `550 5.1.1 no such user`, and what of the codes the text does not say itself.
    pub fn line(&self) -> String {
        let (e, text) = (self.enhanced, self.text.as_str());
        let quoted = self.code.is_some_and(|code| find_word(text, &code.to_string()).is_some());
        let code = self.code.filter(|_| !quoted).map(|code| code.to_string());
        // Beside a reply `x.0.0` says nothing: it is what we fill in where a remote gives no enhanced code.
        let filled_in = quoted && (e.subject, e.detail) == (0, 0);
        let enhanced = Some(e.to_string()).filter(|e| !filled_in && find_word(text, e).is_none());
        let said = Some(text.to_owned()).filter(|t| !t.is_empty());
        let parts: Vec<String> = [code, enhanced, said].into_iter().flatten().collect();
        parts.join(" ")
    }

    /// The remote's reply from its code on, where the text quotes one.
    pub fn quoted_reply(&self) -> Option<&str> {
        let at = find_word(&self.text, &self.code?.to_string())?;
        self.text.get(at..)
    }
}

/// Where `word` stands by itself in `text`.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let alone = |at: usize| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let mut after = text.get(at + word.len()..).unwrap_or_default().chars();
        // A full stop ends a sentence, but for where it goes on.
        let next = match after.next() {
            Some('.') => after.next(),
            c => c,
        };
        !part(before) && !part(next)
    };
    text.match_indices(word).map(|(at, _)| at).find(|at| alone(*at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::mail::EnhancedCode;

    // DSN-21
    #[test]
    fn no_code_is_said_twice() {
        for (code, enhanced, text, line, reply) in [
            (Some(250), "2.0.0", "250 2.0.0 ok", "250 2.0.0 ok", Some("250 2.0.0 ok")),
            (Some(250), "2.0.0", "250 ok", "250 ok", Some("250 ok")),
            (
                Some(550),
                "5.1.1",
                "mx.example said: 550 5.1.1 nobody (in reply to RCPT TO)",
                "mx.example said: 550 5.1.1 nobody (in reply to RCPT TO)",
                Some("550 5.1.1 nobody (in reply to RCPT TO)"),
            ),
            (
                Some(535),
                "4.7.8",
                "mx.example refused our user and password: 535 5.7.8 bad",
                "4.7.8 mx.example refused our user and password: 535 5.7.8 bad",
                Some("535 5.7.8 bad"),
            ),
            (Some(550), "5.1.1", "no such user", "550 5.1.1 no such user", None),
            (Some(550), "5.0.0", "", "550 5.0.0", None),
            (Some(250), "2.0.0", "a250.example: 250", "a250.example: 250", Some("250")),
            (Some(250), "2.0.0", "mx-250 has 250.5", "250 2.0.0 mx-250 has 250.5", None),
            (None, "4.4.1", "timed out", "4.4.1 timed out", None),
        ] {
            let now = Timestamp::from_millis(0);
            let enhanced = EnhancedCode::parse(enhanced).unwrap();
            let d = Diagnosis { code, enhanced, ..Diagnosis::local(now, text.to_owned()) };
            assert_eq!((d.line().as_str(), d.quoted_reply()), (line, reply), "{text}");
        }
    }
}
