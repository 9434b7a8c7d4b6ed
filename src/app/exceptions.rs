//! Exceptions in the running relay: said at start and daily, so that none is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::security::exception::{Exception, Exceptions};

const DAILY: Duration = Duration::from_secs(86_400);
/// An exception that ends within this time is warned of.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// How an exception stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    InForce,
    EndsSoon,
    Over,
    NotNeeded,
}

fn standing(exception: &Exception, ended: bool, now: Timestamp) -> Standing {
    if now > exception.until {
        Standing::Over
    } else if ended {
        Standing::NotNeeded
    } else if exception.until.since(now) <= SOON {
        Standing::EndsSoon
    } else {
        Standing::InForce
    }
}

/// Says how every exception stands, now and once a day.
pub(super) async fn watch(exceptions: Arc<Exceptions>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        for (e, ended) in exceptions.iter() {
            say(e, standing(e, ended, clock.now()));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(DAILY) => {}
        }
    }
}

fn say(e: &Exception, standing: Standing) {
    let (domain, allow, until, by, reason) =
        (&e.domain, e.allow.as_str(), e.until.utc_day(), &e.by, &e.reason);
    match standing {
        Standing::InForce => {
            tracing::info!(event = "exception-in-force", %domain, allow, until, by, reason, "mail is delivered although a promise may be broken");
        }
        Standing::EndsSoon => {
            tracing::warn!(event = "exception-ends-soon", %domain, allow, until, by, reason, "after that day mail for a domain that breaks its promise waits again");
        }
        Standing::Over => {
            tracing::warn!(event = "exception-over", %domain, allow, until, by, reason, "it has no effect; remove it");
        }
        Standing::NotNeeded => {
            tracing::warn!(event = "exception-not-needed", %domain, allow, until, by, reason, "the domain was found sound and it has ended; remove it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Domain;
    use crate::security::exception::Allow;

    #[test]
    fn an_exception_is_warned_of_in_its_last_week_and_when_it_is_over() {
        let exception = Exception {
            domain: Domain::parse("a.example").unwrap(),
            allow: Allow::Plain,
            until: Timestamp::parse_rfc3339("2026-12-24T23:59:59Z").unwrap(),
            reason: "r".into(),
            by: "b".into(),
        };
        for (now, ended, want) in [
            ("2026-12-17T23:59:58Z", false, Standing::InForce),
            ("2026-12-17T23:59:59Z", false, Standing::EndsSoon),
            ("2026-12-24T23:59:59Z", false, Standing::EndsSoon),
            ("2026-12-25T00:00:00Z", false, Standing::Over),
            ("2026-12-25T00:00:00Z", true, Standing::Over),
            ("2026-12-01T00:00:00Z", true, Standing::NotNeeded),
        ] {
            let now = Timestamp::parse_rfc3339(now).unwrap();
            assert_eq!(standing(&exception, ended, now), want, "{now}");
        }
    }
}
