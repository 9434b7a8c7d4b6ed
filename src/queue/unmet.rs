//! Whose demand a host did not meet: the recipient domain's, the sender's, or this relay's own.

use serde::{Deserialize, Serialize};

use super::Diagnosis;
use super::outcome::{CertificateFacts, Promise};
use crate::security::decide::Reason;
use crate::tlsrpt::ResultType;

/// What a session was to be and was not, and who asks for it. Stored as part of a [`Diagnosis`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// Who asks for what is missing; never empty.
    pub by: Vec<Reason>,
    /// The host is the next hop of a `[[destination]]`.
    #[serde(default)]
    pub next_hop: bool,
    /// Why no `minimum_tls` takes the operator's part away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Fixed>,
    /// The reason token of the failure (RFC 8460 §4.3), such as `unknown-issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The certificate that was shown, where no promise of the domain brings it ([`Promise::certificate`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFacts>,
}

/// What of a `[[destination]]` asks for TLS whatever `minimum_tls` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fixed {
    /// A password is given to an authenticated host only (OUT-56).
    Password,
    /// `smtps` means TLS.
    Smtps,
}

impl Unmet {
    /// Whether the recipient's domain asks for it too.
    pub fn is_promised(&self) -> bool {
        self.by.iter().any(|r| matches!(r, Reason::MtaSts | Reason::Dane))
    }

    /// Whether a rule of this relay's operator asks for it, and nothing that the domain published.
    pub fn is_own_rule(&self) -> bool {
        self.by.contains(&Reason::Operator) && !self.is_promised()
    }
}

impl Diagnosis {
    /// What the recipient's domain promised, where that is what is missing.
    ///
    /// A policy in testing mode asks for nothing (RFC 8461 §5); what the operator or the sender alone ask for is no promise
    /// of the domain, though one may be broken beside it.
    pub fn broken_promise(&self) -> Option<&Promise> {
        let domains = match &self.unmet {
            Some(unmet) => unmet.is_promised(),
            // Rows that were stored without it: only the operator asks for records that do not exist.
            None => self.tls_failure != Some(ResultType::DaneRequired),
        };
        let binds = |p: &&Promise| p.broken.is_some() && !matches!(p.mode.as_str(), "testing" | "none");
        self.promise.as_ref().filter(binds).filter(|_| domains)
    }

    /// Whether what is missing was promised by the recipient's domain.
    pub fn promised(&self) -> bool {
        self.broken_promise().is_some()
    }

    /// The certificate that was shown, where one was of importance.
    pub fn certificate(&self) -> Option<&CertificateFacts> {
        let promised = self.promise.as_ref().and_then(|p| p.certificate.as_ref());
        promised.or_else(|| self.unmet.as_ref()?.certificate.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    // Rows of earlier releases lack what is new, and the words of the others are those of the texts.
    #[test]
    fn old_rows_read_back_and_reasons_have_the_words_of_the_texts() {
        let d = Diagnosis::local(Timestamp::from_millis(0), "no".to_owned());
        let mut row = serde_json::to_value(&d).unwrap();
        assert!(row.get("unmet").is_none(), "{row}");
        row["promise"] = serde_json::json!({
            "kind": "dane", "mode": "", "id": "mx.example", "mx": ["3 1 1 ab"], "fetched": null, "expires": null,
            "broken": "it matches none", "certificate": null,
        });
        let read: Diagnosis = serde_json::from_value(row).unwrap();
        assert!(read.promised() && read.promise.unwrap().would_match.is_empty());
        for reason in [Reason::MtaSts, Reason::Dane, Reason::Sender, Reason::Operator] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
