//! Checks of what deals with promises: MTA-STS, DANE, exceptions, DKIM and TLS reports.

use std::path::PathBuf;
use std::time::Duration;

use super::{Check, domain, lasting, mailbox, optional, port, positive_size, word};
use crate::clock::Timestamp;
use crate::config::raw::{Field, Section, Wrong};
use crate::config::{Allow, Dane, Dkim, Exception, MtaSts, TlsRpt, defaults};
use crate::dkim::{KeyError, SigningKey};
use crate::mail::Domain;

/// Longer than any certificate takes to mend.
const LONG: Duration = Duration::from_secs(366 * 86_400);

impl Check<'_> {
    pub(super) fn mta_sts(&self, section: Section<'_>) -> MtaSts {
        let enabled = section.get("enabled", true, Field::boolean);
        if !enabled {
            self.warn("mta_sts.enabled: false: what recipient domains promise by MTA-STS is not kept");
        }
        let port = section.get("port", defaults::POLICY_PORT, port);
        let fetch_timeout = section.get("fetch_timeout", defaults::FETCH_TIMEOUT, lasting);
        let max_policy_size = section.get("max_policy_size", defaults::MAX_POLICY_SIZE, positive_size);
        section.finish();
        MtaSts { enabled, port, fetch_timeout, max_policy_size }
    }

    pub(super) fn dane(&self, section: Section<'_>) -> Dane {
        let enabled = section.get("enabled", true, Field::boolean);
        if !enabled {
            self.warn("dane.enabled: false: what recipient domains promise by TLSA records is not kept");
        }
        let require_both = section.get("require_both", false, Field::boolean);
        section.finish();
        Dane { enabled, require_both }
    }

    pub(super) fn exceptions(&self, sections: Vec<Section<'_>>) -> Vec<Exception> {
        let mut out: Vec<Exception> = Vec::new();
        for section in sections {
            let domain = section.need("domain", "write a recipient domain", |f| {
                let text = f.string()?;
                if text.contains('*') {
                    return Err(Wrong::new("has a wildcard", "write one [[exception]] per domain"));
                }
                // Names below it are not covered, and a top-level domain has no mail of its own to speak of.
                if !text.trim_end_matches('.').contains('.') {
                    return Err(Wrong::new(
                        format!("\"{text}\" is a whole top-level domain"),
                        "write one [[exception]] per recipient domain",
                    ));
                }
                domain(text, "broken.example")
            });
            let allow = section.need("allow", "write \"encrypt\" or \"plain\"", |f| {
                word(f, &[("encrypt", Allow::Encrypt), ("plain", Allow::Plain)])
            });
            let until =
                section.need("until", "write the last day, as in \"2026-12-24\"", |f| self.last_day(f));
            let text = |f: &Field<'_>| match f.string()?.trim() {
                "" => Err(Wrong::new("is empty", "write a few words for whoever reads the log")),
                text => Ok(text.to_owned()),
            };
            let reason = section.need("reason", "write why, as in \"ticket 4711\"", text);
            let by = section.need("by", "write who decided it", text);
            if let (Some(domain), Some(allow), Some(until), Some(reason), Some(by)) =
                (domain, allow, until, reason, by)
            {
                self.standing_of_exception(&domain, until);
                if out.iter().any(|e| e.domain == domain) {
                    let wrong = format!("\"{domain}\" occurs twice");
                    section.report("domain", Wrong::new(wrong, "write one [[exception]] for it"));
                }
                out.push(Exception { domain, allow, until, reason, by });
            }
            section.finish();
        }
        out
    }

    /// Warns of an exception that is over, and of one that somebody may have meant for ever.
    fn standing_of_exception(&self, domain: &Domain, until: Timestamp) {
        let (now, day) = (self.around.now(), until.utc_day());
        if until < now {
            self.warn(format!(
                "exception.until: {day} is over: the exception for {domain} has no effect, and `config check` refuses it; \
                 remove it"
            ));
        } else if until.since(now) > LONG {
            self.warn(format!(
                "exception.until: the exception for {domain} lasts until {day}, more than a year from now"
            ));
        }
    }

    /// The end of a day that is not over yet, UTC.
    fn last_day(&self, f: &Field<'_>) -> Result<Timestamp, Wrong> {
        const RIGHT: &str = "write the last day in quotes, as in \"2026-12-24\"";
        let text = f.string().map_err(|w| Wrong::new(w.wrong, RIGHT))?;
        let end = (text.len() == 10)
            .then(|| Timestamp::parse_rfc3339(&format!("{text}T23:59:59Z")))
            .flatten()
            .ok_or_else(|| Wrong::new(format!("\"{text}\" is not a date"), RIGHT))?;
        if end < self.around.now() && self.around.refuses_past_dates() {
            return Err(Wrong::new(
                format!("{text} is over"),
                "write a day that lies ahead, or remove the exception",
            ));
        }
        Ok(end)
    }

    pub(super) fn dkim(&self, sections: Vec<Section<'_>>) -> Vec<Dkim> {
        let mut out: Vec<Dkim> = Vec::new();
        for section in sections {
            let domain =
                section.need("domain", "write the signing domain", |f| domain(f.string()?, "example.net"));
            let selector = section.need("selector", "write the selector, as in \"s1\"", |f| {
                let text = f.string()?;
                Domain::parse_host(text).map(|d| d.as_str().to_owned()).map_err(|e| {
                    Wrong::new(format!("\"{text}\" is not a selector ({e})"), "write one such as \"s1\"")
                })
            });
            let private_key = section.need("private_key", "write a PEM file", |f| {
                self.signing_key(f, domain.as_ref(), selector.as_ref())
            });
            if let (Some(domain), Some(selector), Some(private_key)) = (domain, selector, private_key) {
                if out.iter().any(|d| d.domain == domain && d.selector == selector) {
                    section.report(
                        "selector",
                        Wrong::new("occurs twice for this domain", "give each key its own selector"),
                    );
                }
                out.push(Dkim { domain, selector, private_key });
            }
            section.finish();
        }
        out
    }

    /// A PEM file with a key that can sign.
    fn signing_key(
        &self,
        f: &Field<'_>,
        domain: Option<&Domain>,
        selector: Option<&String>,
    ) -> Result<PathBuf, Wrong> {
        if !self.around.needs_keys() {
            return self.path(f);
        }
        let (path, pem) = self.file(f)?;
        let pem = String::from_utf8_lossy(&pem);
        // What is wrong with domain or selector is said by them.
        if let (Some(domain), Some(selector)) = (domain, selector) {
            SigningKey::from_pem(domain.clone(), selector.clone(), &pem).map_err(|e| match e {
                KeyError::Selector => Wrong::new(e.to_string(), "write a shorter selector"),
                KeyError::NoKey | KeyError::Unfit => Wrong::new(
                    format!("{} {e}", path.display()),
                    "write a PEM file as `sealpost dkim keygen` makes it",
                ),
            })?;
        }
        // SIG-14
        if let Some(mode) = self.around.mode(&path).filter(|mode| mode & 0o077 != 0) {
            self.warn(format!(
                "dkim.private_key: {} has mode {mode:04o}, so that others than its owner may use it; chmod 600",
                path.display()
            ));
        }
        Ok(path)
    }

    pub(super) fn tls_rpt(&self, section: Section<'_>, dkim: &[Dkim]) -> TlsRpt {
        let enabled = section.get("enabled", true, Field::boolean);
        let organization = section.get("organization", String::new(), |f| f.string().map(str::to_owned));
        let from = section.get("from", None, |f| optional(f, mailbox));
        let contact = section.get("contact", None, |f| optional(f, mailbox));
        if let (Some(from), Some(contact)) = (&from, &contact)
            && from.domain() != contact.domain()
        {
            section.report(
                "contact",
                Wrong::new(
                    format!("its domain {} is not that of from", contact.domain()),
                    format!("write an address at {}", from.domain()),
                ),
            );
        }
        if let Some(from) = from.as_ref().filter(|f| !dkim.iter().any(|d| d.domain == *f.domain())) {
            self.warn(format!(
                "tls_rpt.from: no [[dkim]] entry signs for {}, so no report is sent",
                from.domain()
            ));
        }
        let send_window = section.get("send_window", defaults::SEND_WINDOW, |f| {
            // The data of a day waits for two days only (RPT-71).
            lasting(f).and_then(|window| match window <= Duration::from_secs(86_400) {
                true => Ok(window),
                false => Err(Wrong::new("is longer than a day", "write at most \"24h\", as in \"4h\"")),
            })
        });
        section.finish();
        TlsRpt { enabled, organization, from, contact, send_window }
    }
}
