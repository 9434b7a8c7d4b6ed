//! A dated permission to deliver although a promise is broken (`[[exception]]`): the one source that lowers a demand.
//!
//! Pure. It holds until the end of its last day, and ends early when a session shows that it is not needed any more.
//! What it let pass is recorded as the failure that it is, and named wherever the message is spoken of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::security::decide::Demand;

/// One `[[exception]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The recipient domain.
    pub domain: Domain,
    /// What is allowed.
    pub allow: Allow,
    /// The last moment: the end of the day given, UTC.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
}

/// `exception.allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// Any certificate.
    Encrypt,
    /// In the clear too.
    Plain,
}

impl Allow {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Plain => "plain",
        }
    }

    /// What is demanded all the same.
    pub const fn demand(self) -> Demand {
        match self {
            Self::Encrypt => Demand::ENCRYPTED,
            Self::Plain => Demand::NOTHING,
        }
    }
}

impl Exception {
    /// What distinguishes it from another one for the same domain: a new date makes it a new exception.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.domain, self.allow.as_str(), self.until.utc_day())
    }
}

/// An exception that ends within this time is warned of.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// How an exception stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Mail is delivered although the promise may be broken.
    InForce,
    /// The same, and its last week has begun.
    EndsSoon,
    /// Its day is over.
    Over,
    /// It ended before its day, because the domain was found sound.
    NotNeeded,
}

impl Standing {
    /// Of an exception that has `ended` early or not.
    fn of(exception: &Exception, ended: bool, now: Timestamp) -> Self {
        if now > exception.until {
            Self::Over
        } else if ended {
            Self::NotNeeded
        } else if exception.until.since(now) <= SOON {
            Self::EndsSoon
        } else {
            Self::InForce
        }
    }

    /// Whether it lets mail pass.
    pub const fn holds(self) -> bool {
        matches!(self, Self::InForce | Self::EndsSoon)
    }

    /// What follows from it, in a clause; empty while there is nothing to say.
    pub const fn words(self) -> &'static str {
        match self {
            Self::InForce => "",
            Self::EndsSoon => {
                "it ends soon, and after that day mail for a domain that breaks its promise waits again"
            }
            Self::Over => "it is over and has no effect; remove it",
            Self::NotNeeded => {
                "the domain was found sound and it has ended; remove it, or write a later day if the domain is broken again"
            }
        }
    }
}

/// What an exception let pass, as log, timeline, DSN and `queue show` tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// What was allowed.
    pub allow: Allow,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// What would have kept the message back.
    pub failure: String,
}

impl Waived {
    /// What `exception` let pass.
    pub fn new(exception: &Exception, failure: String) -> Self {
        let Exception { allow, until, reason, by, .. } = exception.clone();
        Self { allow, until, reason, by, failure }
    }
}

impl fmt::Display for Waived {
    /// `encrypt until 2026-12-24, by ops: ticket 4711; without it mail would wait: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allow, until, reason, by, failure } = self;
        let (allow, day) = (allow.as_str(), until.utc_day());
        write!(f, "{allow} until {day}, by {by}: {reason}; without it mail would wait: {failure}")
    }
}

/// Where it is kept that an exception has ended early, so that a restart does not bring it back.
pub trait ExceptionMemory: Send + Sync {
    /// Keeps the key of an exception that ended at `at`. A failure to write is logged by the memory: the exception is
    /// ended for this process all the same.
    fn remember(&self, key: String, at: Timestamp) -> BoxFuture<'_, ()>;
}

/// The exceptions of the configuration, and which of them have ended early.
#[derive(Default)]
pub struct Exceptions {
    list: Vec<(Arc<Exception>, AtomicBool)>,
    memory: Option<Arc<dyn ExceptionMemory>>,
}

impl fmt::Debug for Exceptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl Exceptions {
    /// All exceptions; `ended` are the keys of those that were found to be of no more need before.
    pub fn new(exceptions: impl IntoIterator<Item = Exception>, ended: &[String]) -> Self {
        let entry = |e: Exception| {
            let over = ended.contains(&e.key());
            (Arc::new(e), AtomicBool::new(over))
        };
        Self { list: exceptions.into_iter().map(entry).collect(), memory: None }
    }

    /// With a memory for what ends early.
    #[must_use]
    pub fn with_memory(self, memory: Arc<dyn ExceptionMemory>) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// Keeps in memory that `exception` has ended.
    pub async fn remember(&self, exception: &Exception, at: Timestamp) {
        if let Some(memory) = &self.memory {
            memory.remember(exception.key(), at).await;
        }
    }

    /// The exception in force for a recipient domain.
    pub fn of(&self, domain: &Domain, now: Timestamp) -> Option<&Arc<Exception>> {
        let holds = |e: &Exception, ended: &AtomicBool| {
            e.domain == *domain && now <= e.until && !ended.load(Ordering::Acquire)
        };
        self.list.iter().find(|(e, ended)| holds(e, ended)).map(|(e, _)| e)
    }

    /// Ends an exception early; `true` for whoever ends it.
    pub fn end(&self, exception: &Exception) -> bool {
        let entry = self.list.iter().find(|(e, _)| **e == *exception);
        entry.is_some_and(|(_, ended)| !ended.swap(true, Ordering::AcqRel))
    }

    /// Every exception, and how it stands.
    pub fn standing(&self, now: Timestamp) -> impl Iterator<Item = (&Arc<Exception>, Standing)> {
        self.iter().map(move |(e, ended)| (e, Standing::of(e, ended, now)))
    }

    /// Every exception, and whether it has ended early.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Exception>, bool)> {
        self.list.iter().map(|(e, ended)| (e, ended.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(domain: &str) -> Exception {
        Exception {
            domain: Domain::parse(domain).unwrap(),
            allow: Allow::Encrypt,
            until: Timestamp::parse_rfc3339("2026-12-24T23:59:59Z").unwrap(),
            reason: "ticket 4711".into(),
            by: "ops".into(),
        }
    }

    #[test]
    fn an_exception_holds_for_its_own_domain_to_the_end_of_its_day() {
        let all = Exceptions::new([exception("a.example")], &[]);
        let at = |t: &str| Timestamp::parse_rfc3339(t).unwrap();
        for (domain, when, holds) in [
            ("a.example", "2026-11-22T08:00:00Z", true),
            ("a.example", "2026-12-24T23:59:59Z", true),
            ("a.example", "2026-12-25T00:00:00Z", false),
            ("mail.a.example", "2026-11-22T08:00:00Z", false),
            ("example", "2026-11-22T08:00:00Z", false),
        ] {
            let found = all.of(&Domain::parse_host(domain).unwrap(), at(when)).is_some();
            assert_eq!(found, holds, "{domain} {when}");
        }
    }

    #[test]
    fn an_exception_is_warned_of_in_its_last_week_and_when_it_is_over() {
        for (now, ended, want) in [
            ("2026-12-17T23:59:58Z", false, Standing::InForce),
            ("2026-12-17T23:59:59Z", false, Standing::EndsSoon),
            ("2026-12-24T23:59:59Z", false, Standing::EndsSoon),
            ("2026-12-25T00:00:00Z", false, Standing::Over),
            ("2026-12-25T00:00:00Z", true, Standing::Over),
            ("2026-12-01T00:00:00Z", true, Standing::NotNeeded),
        ] {
            let (e, now) = (exception("a.example"), Timestamp::parse_rfc3339(now).unwrap());
            let all = Exceptions::new([e.clone()], &[]);
            if ended {
                all.end(&e);
            }
            let standing: Vec<_> = all.standing(now).map(|(_, s)| s).collect();
            assert_eq!(standing, [want], "{now}");
            assert_eq!(want.holds(), all.of(&e.domain, now).is_some(), "{now}");
        }
    }

    #[test]
    fn it_ends_once_and_stays_ended_until_it_is_granted_anew() {
        let (e, now) = (exception("a.example"), Timestamp::from_millis(0));
        let all = Exceptions::new([e.clone()], &[]);
        assert!(all.of(&e.domain, now).is_some());
        assert!(all.end(&e) && !all.end(&e), "one tells of it");
        assert!(all.of(&e.domain, now).is_none());
        let again = Exceptions::new([e.clone()], &[e.key()]);
        assert!(again.of(&e.domain, now).is_none(), "after a restart");
        let later =
            Exception { until: Timestamp::parse_rfc3339("2027-01-31T23:59:59Z").unwrap(), ..e.clone() };
        let renewed = Exceptions::new([later], &[e.key()]);
        assert!(renewed.of(&e.domain, now).is_some(), "a new date is a new permission");
    }
}
