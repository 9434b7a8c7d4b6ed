//! The service over the real store, with doubles for the DNS, the receivers and the time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::clock::ManualClock;
use crate::mail::Origin;
use crate::queue::{Filter, ListedRecipient, QueueStore};
use crate::store::sqlite::SqliteStore;
use crate::tlsrpt::report::Body;
use crate::tlsrpt::{DestinationState, ListedReport, Posted, ReportFilter, ReportState};

mod faults;
mod operators;
mod receivers;
mod world;

use world::{DAY, HOUR, MINUTE, World, domain};

/// A machine under load is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(120);

// RPT-29, RPT-42, RPT-70, RPT-72, RPT-73
#[tokio::test(flavor = "multi_thread")]
async fn a_week_gives_one_report_for_each_day_and_domain() {
    let w = World::new();
    w.asks("a.example", "https://reports.example/a");
    w.asks("b.example", "https://reports.example/b");
    let relay = w.open();
    let first = Day::of(w.clock.now());
    let mut dues = Vec::new();
    for n in 0..7u32 {
        relay.session("a.example", true).await;
        // A quiet day of one of them.
        if n != 3 {
            relay.session("b.example", false).await;
            relay.session("b.example", true).await;
        }
        for _ in 0..24 {
            w.clock.advance(HOUR);
            let before = w.posts.bodies().len();
            relay.step().await;
            if w.posts.bodies().len() > before {
                dues.push(w.clock.now());
            }
        }
    }
    // The last day's reports.
    w.clock.advance(6 * HOUR);
    relay.step().await;
    let mut sent = BTreeMap::new();
    for body in w.posts.bodies() {
        let of: Day = body.date_range.start_datetime[..10].parse().unwrap();
        assert_eq!(body.date_range.start_datetime, format!("{of}T00:00:00Z"));
        assert_eq!(body.date_range.end_datetime, format!("{of}T23:59:59Z"));
        let about = body.policies[0].policy.policy_domain.clone();
        let expected = if about == "a.example" { (1, 0) } else { (1, 1) };
        assert_eq!(body.sessions(), expected, "{about} {of}");
        assert!(sent.insert((of, about), body.report_id).is_none(), "one report a day");
    }
    let mut day = first;
    for n in 0..7 {
        assert!(sent.contains_key(&(day, "a.example".to_owned())), "{day}");
        assert_eq!(sent.contains_key(&(day, "b.example".to_owned())), n != 3, "{day}");
        day = day.next();
    }
    assert_eq!(sent.len(), 13);
    let ids: std::collections::BTreeSet<_> = sent.values().collect();
    assert_eq!(ids.len(), 13, "every report has an id of its own (RPT-44)");
    for at in dues {
        let into = at.since(Day::of(at).begin());
        assert!(into >= 5 * MINUTE && into <= 5 * HOUR + 5 * MINUTE, "{at}");
    }
    relay.close().await;
}

// RPT-71
#[tokio::test(flavor = "multi_thread")]
async fn after_downtime_a_day_is_reported_with_its_own_range_and_old_days_are_not() {
    let w = World::new();
    w.asks("a.example", "https://reports.example/a");
    let relay = w.open();
    let first = Day::of(w.clock.now());
    relay.session("a.example", true).await;
    w.clock.advance(DAY);
    relay.session("a.example", false).await;
    relay.close().await;
    // Down for long enough that the first day is three days old.
    w.clock.advance(2 * DAY);
    let relay = w.open();
    relay.step().await;
    let bodies = w.posts.bodies();
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0].date_range.start_datetime, format!("{}T00:00:00Z", first.next()));
    let states: Vec<_> = relay.reports().await.into_iter().map(|r| (r.day, r.state)).collect();
    assert_eq!(states, [(first.next(), ReportState::Delivered), (first, ReportState::Dropped)]);
    relay.close().await;
}

// RPT-09
#[tokio::test(flavor = "multi_thread")]
async fn a_dns_failure_keeps_the_data_and_no_record_lets_it_go() {
    let w = World::new();
    w.zone.add("_smtp._tls.a.example TXT SERVFAIL").unwrap();
    w.zone.add("_smtp._tls.two.example TXT \"v=TLSRPTv1; rua=mailto:a@x.example\"").unwrap();
    w.zone.add("_smtp._tls.two.example TXT \"v=TLSRPTv1; rua=mailto:b@x.example\"").unwrap();
    let relay = w.open();
    for name in ["a.example", "none.example", "two.example"] {
        relay.session(name, true).await;
    }
    w.clock.advance(DAY);
    relay.step().await;
    let states = |listed: Vec<ListedReport>| -> Vec<_> {
        listed.into_iter().map(|r| (r.domain.to_string(), r.state, r.why)).collect()
    };
    let listed = states(relay.reports().await);
    assert_eq!((listed[0].1, listed[0].2.contains("SERVFAIL")), (ReportState::Due, true), "{listed:?}");
    assert_eq!(
        listed[1],
        ("none.example".to_owned(), ReportState::Unwanted, "no TLSRPTv1 record".to_owned())
    );
    assert_eq!(listed[2].1, ReportState::Unwanted);
    // Nothing is left of what nobody asked for; the other is asked for again, and not without pause.
    let counted = relay.store.counted(Day::of(w.clock.now()).earlier(1), None, 9).await.unwrap();
    assert_eq!(counted, [domain("a.example")]);
    let asked = w.zone.queries().len();
    relay.step().await;
    assert_eq!(w.zone.queries().len(), asked);
    w.zone.remove(&domain("_smtp._tls.a.example"));
    w.asks("a.example", "https://reports.example/a");
    w.clock.advance(HOUR);
    relay.step().await;
    assert_eq!(w.posts.bodies().len(), 1);
    assert_eq!(
        ["unwanted", "put_off", "made", "dropped"].map(|r| w.reports_counted(r)),
        [2.0, 1.0, 1.0, 0.0]
    );
    relay.close().await;
}

// RPT-71, RPT-80
#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_reports_wait_with_one_warning_a_day_until_they_are_two_days_old() {
    for (without, obstacle) in [("from", "tls_rpt.from is not set"), ("key", "no [[dkim]] entry signs for")] {
        let mut w = World::new();
        w.asks("a.example", "mailto:tlsrpt@a.example");
        let (from, signers) = (w.settings.from.clone(), w.signers.clone());
        match without {
            "from" => w.settings.from = None,
            _ => w.signers = Signers::default(),
        }
        let relay = w.open();
        relay.session("a.example", true).await;
        w.clock.advance(DAY);
        relay.step().await;
        assert!(relay.service.inner.obstacle().unwrap().starts_with(obstacle));
        let today = Day::of(w.clock.now());
        assert_eq!(relay.service.inner.memory().warned, Some(today));
        relay.step().await;
        w.clock.advance(DAY);
        relay.step().await;
        assert_eq!(relay.service.inner.memory().warned, Some(today.next()), "again on the next day");
        assert_eq!(relay.reports().await[0].state, ReportState::Due);
        // The key comes in time.
        relay.close().await;
        (w.settings.from, w.signers) = (from, signers);
        let relay = w.open();
        relay.step().await;
        assert_eq!(relay.mails().await.len(), 1);
        relay.close().await;
        // Or too late.
        match without {
            "from" => w.settings.from = None,
            _ => w.signers = Signers::default(),
        }
        let relay = w.open();
        relay.session("a.example", true).await;
        let of = Day::of(w.clock.now());
        w.clock.jump_to(of.next().next().next().begin().before(MINUTE));
        relay.service.inner.memory().watch = ClockWatch::new(w.clock.now(), w.clock.monotonic());
        relay.step().await;
        assert_eq!(relay.report_of(of, "a.example").await.state, ReportState::Due);
        w.clock.advance(2 * MINUTE);
        relay.step().await;
        assert_eq!(relay.report_of(of, "a.example").await.state, ReportState::Dropped);
        relay.close().await;
    }
}

// RPT-70, RPT-93: the wall clock is wrong for a while, a day ahead or a day behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_a_day_sends_no_day_twice_and_loses_none() {
    let w = World::new();
    w.asks("a.example", "https://reports.example/a");
    let relay = w.open();
    let first = Day::of(w.clock.now());
    relay.session("a.example", true).await;
    relay.step().await;
    // Ahead, for ten minutes: today is no closed day yet.
    w.clock.jump_to(w.clock.now().after(DAY));
    relay.step().await;
    w.clock.advance(10 * MINUTE);
    relay.step().await;
    assert!(w.posts.bodies().is_empty(), "{:?}", w.posts.bodies());
    w.clock.jump_to(w.clock.now().before(DAY));
    relay.session("a.example", true).await;
    relay.step().await;
    w.clock.advance(DAY);
    w.settle_clock(&relay);
    relay.step().await;
    assert_eq!(w.posts.bodies().iter().map(Body::sessions).collect::<Vec<_>>(), [(2, 0)]);
    // Behind: the day that has its report gets no other.
    relay.session("a.example", true).await;
    w.clock.jump_to(w.clock.now().before(DAY));
    relay.session("a.example", true).await;
    for _ in 0..30 {
        w.clock.advance(HOUR);
        relay.step().await;
    }
    w.clock.advance(2 * DAY);
    w.settle_clock(&relay);
    for _ in 0..30 {
        w.clock.advance(HOUR);
        relay.step().await;
    }
    let days: Vec<_> =
        w.posts.bodies().into_iter().map(|b| b.date_range.start_datetime[..10].to_owned()).collect();
    assert_eq!(days, [first.to_string(), first.next().to_string()]);
    // Far ahead: what was counted is not dropped as old while the clock is doubted.
    relay.session("a.example", true).await;
    let right = w.clock.now();
    w.clock.jump_to(right.after(30 * DAY));
    relay.step().await;
    w.clock.jump_to(right);
    relay.step().await;
    assert_eq!(relay.store.counted(Day::of(right), None, 9).await.unwrap().len(), 1);
    relay.close().await;
}

// Switched off, counters still go when they are old, and nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn switched_off_nothing_is_planned_and_nothing_is_kept_for_ever() {
    let mut w = World::new();
    w.settings.enabled = false;
    w.asks("a.example", "https://reports.example/a");
    let relay = w.open();
    let of = Day::of(w.clock.now());
    relay.session("a.example", true).await;
    w.clock.advance(2 * DAY);
    relay.step().await;
    assert_eq!(relay.store.counted(of, None, 9).await.unwrap().len(), 1);
    w.clock.advance(DAY);
    relay.step().await;
    assert!(relay.store.counted(of, None, 9).await.unwrap().is_empty());
    assert!(w.posts.bodies().is_empty());
    relay.close().await;
}

// RPT-93: rows that cannot be read back keep no other domain from its report, and are not looked at for ever.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_keep_nobody_else_from_a_report() {
    for (when, damage) in [
        ("counted", "UPDATE counted_policy SET policy = '{' WHERE id = 1"),
        ("counted", "UPDATE counted_detail SET result = 'nonsense'"),
        ("counted", "UPDATE counted_day SET domain = 'a b' WHERE domain = 'a.example'"),
        ("counted", "UPDATE counted_day SET day = '' WHERE domain = 'a.example'"),
        ("planned", "UPDATE report SET domain = 'a b' WHERE domain = 'a.example'"),
        ("planned", "UPDATE report SET domain = CAST(x'62ff' AS TEXT) WHERE domain = 'a.example'"),
        ("planned", "UPDATE report SET day = 'today' WHERE domain = 'a.example'"),
        ("made", "UPDATE report SET domain = 'a b' WHERE domain = 'a.example'"),
        ("made", "UPDATE report SET report_id = CAST(x'62ff' AS TEXT) WHERE domain = 'a.example'"),
        ("made", "UPDATE report SET packed = x'62ff' WHERE domain = 'a.example'"),
        ("made", "UPDATE report_destination SET uri = CAST(x'62ff' AS TEXT) WHERE report = 1"),
        ("made", "UPDATE report_destination SET uri = 'nonsense' WHERE report = 1"),
        ("made", "UPDATE report_destination SET attempts = -1 WHERE report = 1"),
        ("mailed", "UPDATE report SET domain = 'a b' WHERE domain = 'a.example'"),
        ("mailed", "UPDATE report_destination SET uri = CAST(x'62ff' AS TEXT) WHERE report = 1"),
    ] {
        let w = World::new();
        for name in ["a.example", "b.example"] {
            w.asks(name, &format!("mailto:tlsrpt@{name},https://reports.{name}/"));
        }
        let relay = w.open();
        let of = Day::of(w.clock.now());
        relay.session("a.example", false).await;
        relay.service.inner.fold().await.unwrap();
        relay.session("b.example", true).await;
        relay.service.inner.fold().await.unwrap();
        w.clock.advance(DAY);
        for reached in ["counted", "planned", "made", "mailed"] {
            match reached {
                "planned" => drop(relay.store.plan(of.next(), Duration::from_secs(1)).await.unwrap()),
                "made" => drop(relay.service.inner.make_round().await),
                "mailed" => drop(relay.service.inner.mail_round().await),
                _ => {}
            }
            if reached == when {
                w.meddle(damage);
                break;
            }
        }
        relay.step().await;
        relay.deliver("b.example", true).await;
        for _ in 0..2 {
            w.clock.advance(MINUTE);
            relay.step().await;
        }
        let report = relay.report_of(of, "b.example").await;
        let states: Vec<_> = report.destinations.iter().map(|d| d.state).collect();
        assert_eq!(states, [DestinationState::Accepted; 2], "{when}, {damage}");
        // Nothing asks for the next look at once.
        let (next, now) = (relay.store.next_due().await.unwrap(), w.clock.now());
        assert!(
            [next.report, next.mail, next.https].into_iter().flatten().all(|n| n > now),
            "{when}, {damage}: {next:?}"
        );
        w.clock.advance(4 * DAY);
        relay.step().await;
        let left: Vec<_> = relay.store.counted(of, None, 9).await.unwrap();
        assert!(left.is_empty(), "{when}, {damage}: {left:?}");
        relay.close().await;
    }
}

// The loops themselves: woken by what is due, stopped by the token.
#[tokio::test(flavor = "multi_thread")]
async fn the_running_service_sends_what_is_due_and_ends_when_told() {
    let mut w = World::new();
    w.settings.tick = Duration::from_millis(20);
    w.asks("a.example", "https://reports.example/a");
    let relay = w.open();
    relay.session("a.example", true).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.service.clone().run(stop.clone()));
    w.clock.advance(DAY);
    let begun = std::time::Instant::now();
    while w.posts.bodies().is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    relay.close().await;
}

// RPT-91: a receiver that says nothing holds up neither mail nor the making of reports.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_receiver_of_posts_holds_up_no_mail() {
    let mut w = World::new();
    w.settings.tick = Duration::from_millis(20);
    w.asks("a.example", "https://silent.example/r");
    w.asks("b.example", "mailto:tlsrpt@b.example");
    let relay = w.open();
    relay.session("a.example", true).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.service.clone().run(stop.clone()));
    w.clock.advance(DAY);
    let begun = std::time::Instant::now();
    let waits = || {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2))
    };
    while w.posts.asked("silent.example") == 0 {
        waits().await;
    }
    relay.session("b.example", true).await;
    w.clock.advance(DAY);
    while relay.mails().await.is_empty() {
        waits().await;
    }
    stop.cancel();
    running.await.unwrap();
    assert_eq!(
        relay.report_of(Day::of(w.clock.now()).earlier(2), "a.example").await.state,
        ReportState::Sending
    );
    relay.close().await;
}

// What a day came to is not called nothing, whichever of its domains is named or comes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_which_nothing_is_left_says_what_became_of_it() {
    let w = World::new();
    w.asks("b.example", "https://reports.example/b");
    let relay = w.open();
    let day = Day::of(w.clock.now());
    for name in ["a.example", "b.example"] {
        relay.session(name, true).await;
    }
    w.clock.advance(DAY);
    relay.step().await;
    let preview = async |name: Option<&str>| relay.service.preview(Some(day), name.map(domain)).await;
    assert!(preview(None).await.unwrap_err().contains("were made already"));
    let unwanted = preview(Some("a.example")).await.unwrap_err();
    assert!(unwanted.contains("no report of") && unwanted.contains("a.example: "), "{unwanted}");
    assert!(preview(Some("c.example")).await.unwrap().reports.is_empty());
    relay.close().await;
}
