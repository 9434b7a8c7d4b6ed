//! Exceptions in the running relay: said at start, daily, and as they end, so that none is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::security::exception::{Exception, Exceptions, Standing};

const DAILY: Duration = Duration::from_secs(86_400);
/// The first moment at which an exception is over comes so long after its last.
const TICK: Duration = Duration::from_millis(1);

/// Says how every exception stands: now, once a day, and when the day of one is over.
pub(super) async fn watch(exceptions: Arc<Exceptions>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let now = clock.now();
        for (e, standing) in exceptions.standing(now) {
            say(e, standing);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause(&exceptions, now)) => {}
        }
    }
}

/// Until the next word is due.
fn pause(exceptions: &Exceptions, now: Timestamp) -> Duration {
    let holding = exceptions.standing(now).filter(|(_, standing)| standing.holds());
    holding.map(|(e, _)| e.until.since(now).saturating_add(TICK)).min().unwrap_or(DAILY).min(DAILY)
}

fn say(e: &Exception, standing: Standing) {
    let (domain, allow, until, by, reason) =
        (&e.domain, e.allow.as_str(), e.until.utc_day(), &e.by, &e.reason);
    let words = standing.words();
    match standing {
        Standing::InForce => {
            tracing::info!(event = "exception-in-force", %domain, allow, until, by, reason, "mail is delivered although a promise may be broken");
        }
        Standing::EndsSoon => {
            tracing::warn!(event = "exception-ends-soon", %domain, allow, until, by, reason, "{words}");
        }
        Standing::Over => {
            tracing::warn!(event = "exception-over", %domain, allow, until, by, reason, "{words}");
        }
        Standing::NotNeeded => {
            tracing::warn!(event = "exception-not-needed", %domain, allow, until, by, reason, "{words}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use tracing::Subscriber;
    use tracing::field::{Field, Visit};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;
    use crate::mail::Domain;
    use crate::security::exception::Allow;

    fn exception(domain: &str, until: &str) -> Exception {
        Exception {
            domain: Domain::parse(domain).unwrap(),
            allow: Allow::Plain,
            until: at(until),
            reason: "ticket 4711".into(),
            by: "ops".into(),
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    /// A wall clock that goes with the paused time of the runtime.
    struct Paused(Timestamp, tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            self.0.after(self.monotonic())
        }

        fn monotonic(&self) -> Duration {
            self.1.elapsed()
        }
    }

    /// Level and fields of every event, as one line each.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Said {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            struct Line(String);
            impl Visit for Line {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    if field.name() != "message" {
                        self.0.push_str(&format!(" {value:?}").replace('"', ""));
                    }
                }
            }
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        }
    }

    // Issue: warned about before it ends. At start, each day of its last week, and once it is over.
    #[test]
    fn every_exception_is_said_at_start_daily_and_when_it_ends() {
        let lasting = exception("a.example", "2026-12-24T23:59:59Z");
        let short = exception("b.example", "2026-12-18T23:59:59Z");
        let sound = exception("c.example", "2026-12-24T23:59:59Z");
        let all = Exceptions::new([lasting, short, sound.clone()], &[sound.key()]);
        let (said, stop) = (Said::default(), CancellationToken::new());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(said.clone()), || {
            runtime.block_on(async {
                let clock = Paused(at("2026-12-17T08:00:00Z"), tokio::time::Instant::now());
                let watch = watch(Arc::new(all), Arc::new(clock), stop.clone());
                let days = async {
                    tokio::time::sleep(2 * DAILY).await;
                    stop.cancel();
                };
                tokio::join!(watch, days);
            });
        });
        let said = said.0.lock().unwrap().clone();
        let about = |domain: &str| -> Vec<&str> {
            let of = said.iter().filter(|line| line.contains(domain));
            of.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ").leak() as &str).collect()
        };
        // At 08:00 of the 17th and 18th, and at midnight, when the second is over.
        assert_eq!(
            about("a.example"),
            ["INFO exception-in-force", "WARN exception-ends-soon", "WARN exception-ends-soon"]
        );
        assert_eq!(
            about("b.example"),
            ["WARN exception-ends-soon", "WARN exception-ends-soon", "WARN exception-over"]
        );
        assert_eq!(about("c.example"), ["WARN exception-not-needed"; 3]);
        let line = said.iter().find(|line| line.contains("b.example")).unwrap();
        assert!(line.contains("plain 2026-12-18 ops ticket 4711"), "{line}");
    }

    #[test]
    fn the_next_word_comes_within_a_day() {
        for (now, want) in [
            ("2026-12-01T08:00:00Z", DAILY),
            ("2026-12-24T22:59:59Z", Duration::from_secs(3600) + TICK),
            ("2026-12-24T23:59:59Z", TICK),
            ("2026-12-25T08:00:00Z", DAILY),
        ] {
            let all = Exceptions::new([exception("a.example", "2026-12-24T23:59:59Z")], &[]);
            assert_eq!(pause(&all, at(now)), want, "{now}");
        }
        assert_eq!(pause(&Exceptions::default(), at("2026-12-01T08:00:00Z")), DAILY);
    }
}
