//! The service over a zone, a scripted policy host, a store in memory, and a clock that stands still.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::mtasts::PolicyRow;
use futures_util::future::join_all;

mod world;

use world::*;

// STS-01, STS-61
#[tokio::test]
async fn one_question_at_exactly_the_discovery_name() {
    let w = world();
    assert_eq!(w.look().await, "nothing");
    assert_eq!(w.dns.queries(), ["TXT _mta-sts.d.example"]);
    assert_eq!(w.host.gets(), 0);
}

// STS-03
#[tokio::test]
async fn an_alias_of_the_record_moves_the_id_and_not_the_policy_host() {
    let w = world();
    w.dns
        .add("_mta-sts.d.example CNAME _mta-sts.prov.example\n _mta-sts.prov.example TXT \"v=STSv1; id=p;\"")
        .unwrap();
    w.host.serve(&Host::policy("testing", "mx.d.example", 60));
    assert_eq!(w.look().await, "testing p");
    assert_eq!(*w.host.gets.lock().unwrap(), ["d.example"]);
}

// STS-12, STS-48
#[tokio::test]
async fn a_cached_policy_outlives_its_record_and_a_restart() {
    let mut w = World::enforced().await;
    for _ in 0..2 {
        w.unpublish();
        assert_eq!(w.look().await, "enforce 1 (txt-missing)");
        w.dns
            .add("_mta-sts.d.example TXT \"v=STSv1; id=1;\"\n _mta-sts.d.example TXT \"v=STSv1; id=2;\"")
            .unwrap();
        assert_eq!(w.look().await, "enforce 1 (txt-missing)");
        w.break_dns();
        assert_eq!(w.look().await, "enforce 1 (txt-error)");
        w.restart();
    }
    assert_eq!(w.host.gets(), 1);
}

// STS-13, STS-47
#[tokio::test]
async fn another_id_of_any_spelling_is_fetched_and_the_same_one_is_not() {
    let w = World::enforced().await;
    assert_eq!(w.look().await, "enforce 1");
    for (n, id) in ["abc", "ABC", "0"].into_iter().enumerate() {
        w.publish(id);
        assert_eq!(w.look().await, format!("enforce {id}"));
        assert_eq!(w.host.gets(), n + 2);
    }
}

// STS-14
#[tokio::test]
async fn a_first_failed_discovery_waits_a_quarter_of_an_hour_once_a_day() {
    let mut w = world();
    w.break_dns();
    assert_eq!(w.look().await, "wait Servfail");
    w.clock.advance(5 * MINUTE);
    w.restart();
    assert_eq!(w.look().await, "wait Servfail", "the grace belongs to the domain and survives a restart");
    w.clock.advance(15 * MINUTE);
    assert_eq!(w.look().await, "nothing");
    assert_eq!(w.look().await, "nothing", "the next message goes at once");
    w.clock.advance(DAY);
    assert_eq!(w.look().await, "wait Servfail");
}

// STS-25
#[tokio::test]
async fn a_failed_fetch_is_not_repeated_for_its_id_before_the_back_off_ends() {
    let mut w = world();
    w.publish("1");
    w.host.fail("http-404");
    for _ in 0..10 {
        assert_eq!(w.look().await, "nothing (http-404)");
        w.clock.advance(Duration::from_secs(24));
    }
    assert_eq!(w.host.gets(), 1);
    w.restart();
    assert_eq!(w.look().await, "nothing (http-404)");
    assert_eq!(w.host.gets(), 1, "the back-off survives a restart");
    w.publish("2");
    w.look().await;
    assert_eq!(w.host.gets(), 2, "a new id is fetched at once");
    w.clock.advance(5 * MINUTE);
    w.look().await;
    w.clock.advance(5 * MINUTE);
    w.look().await;
    assert_eq!(w.host.gets(), 3, "the second wait is ten minutes");
    w.clock.advance(5 * MINUTE);
    w.host.serve(&Host::policy("enforce", "mx.d.example", 60));
    assert_eq!(w.look().await, "enforce 2");
    assert_eq!(w.store.row(&w.domain).memory.backoff, None);
}

// STS-26
#[tokio::test(start_paused = true)]
async fn no_more_fetches_run_at_a_time_than_permitted() {
    let w = world();
    let settings = ServiceSettings { max_fetches: 5, ..ServiceSettings::default() };
    let service = start(&w.dns, &w.host, &w.store, &w.clock, settings);
    w.host.serve(&Host::policy("enforce", "mx.d.example", 60));
    let domains: Vec<_> = (0..500).map(|i| Domain::parse(&format!("d{i}.example")).unwrap()).collect();
    for d in &domains {
        w.dns.add(&format!("_mta-sts.{d} TXT \"v=STSv1; id=1;\"")).unwrap();
    }
    join_all(domains.iter().map(|d| service.discover(d))).await;
    assert_eq!((w.host.gets(), w.host.most_in_flight.load(Ordering::SeqCst)), (500, 5));
}

// STS-26: being busy ourselves never sends a first message unprotected.
#[tokio::test(start_paused = true)]
async fn without_a_free_fetch_the_first_message_waits() {
    let w = world();
    let settings = ServiceSettings { max_fetches: 0, ..ServiceSettings::default() };
    let service = start(&w.dns, &w.host, &w.store, &w.clock, settings);
    w.publish("1");
    assert!(matches!(service.discover(&w.domain).await, Discovery::Wait(_)));
    assert_eq!(w.store.row(&w.domain), PolicyRow::default(), "and nothing is held against the domain");
    // With a policy at hand mail goes by that, which is perhaps not the last word.
    let w = World::enforced().await;
    let settings = ServiceSettings { max_fetches: 0, ..ServiceSettings::default() };
    let service = start(&w.dns, &w.host, &w.store, &w.clock, settings);
    w.publish("2");
    let Discovery::Known(a) = service.discover(&w.domain).await else { panic!("it waits") };
    assert!(a.policy.is_some_and(|p| p.id == "1") && a.outdated);
}

// STS-27
#[tokio::test]
async fn without_a_cached_policy_a_failed_fetch_leaves_none() {
    let w = world();
    w.publish("1");
    w.host.fail("http-404");
    assert_eq!(w.look().await, "nothing (http-404)");
}

// STS-28, STS-44
#[tokio::test]
async fn a_cached_policy_outlives_a_broken_successor() {
    let w = World::enforced().await;
    w.publish("2");
    w.host.fail("http-500");
    assert_eq!(w.look().await, "enforce 1 (http-500)");
    w.host.serve("garbage");
    w.clock.advance(6 * MINUTE);
    assert_eq!(w.look().await, "enforce 1 (bad-line)");
    let row = w.store.row(&w.domain);
    assert_eq!(row.policy.unwrap().id, "1", "the next record is still news");
    assert_eq!(row.memory.backoff.unwrap().failure.lines, ["garbage"]);
}

// STS-29
#[tokio::test(start_paused = true)]
async fn the_first_delivery_waits_for_the_fetch_up_to_its_limit() {
    let w = world();
    w.publish("1");
    w.host.serve(&Host::policy("enforce", "mx.d.example", 60));
    w.host.stalls.store(true, Ordering::SeqCst);
    let started = tokio::time::Instant::now();
    assert_eq!(w.look().await, "nothing (timeout)");
    assert_eq!(started.elapsed(), MINUTE);
    w.publish("2");
    let (seen, ()) = tokio::join!(w.look(), async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        w.host.go.notify_one();
    });
    assert_eq!(seen, "enforce 2");
}

// STS-39
#[tokio::test]
async fn a_policy_of_no_age_serves_the_attempts_that_fetched_it() {
    let w = world();
    w.publish("1");
    w.host.serve(&Host::policy("enforce", "mx.d.example", 0));
    for n in 1..4 {
        assert_eq!(w.look().await, "enforce 1");
        assert_eq!(w.host.gets(), n);
        w.clock.advance(MINUTE);
    }
    w.host.fail("http-500");
    assert_eq!(w.look().await, "nothing (http-500)");
}

// STS-45, STS-46, STS-57
#[tokio::test]
async fn a_policy_ends_a_max_age_after_its_fetch_however_often_its_id_is_seen() {
    let w = World::enforced().await;
    let expires = w.stored().expires;
    assert_eq!(expires, T0.after(7 * DAY));
    w.host.fail("http-500");
    for _ in 0..6 {
        w.clock.advance(DAY);
        assert_eq!(w.look().await, "enforce 1");
        assert_eq!(w.stored().expires, expires);
    }
    w.clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(w.look().await, "enforce 1");
    w.clock.advance(Duration::from_millis(1));
    assert_eq!(w.look().await, "nothing (http-500)", "and only after one more fetch failed");
    assert_eq!(w.host.gets(), 2);
}

// STS-57: nobody who hides the record for as long as the policy lives gains anything while HTTPS answers.
#[tokio::test]
async fn an_expired_policy_is_renewed_over_https_even_without_a_record() {
    let w = World::enforced().await;
    for hide in [World::unpublish, World::break_dns] {
        hide(&w);
        w.clock.advance(8 * DAY);
        assert_eq!(w.look().await, "enforce 1");
        assert_eq!(w.stored().fetched, w.clock.now());
    }
}

// STS-49
#[tokio::test]
async fn policies_are_refreshed_daily_without_asking_for_the_record() {
    let w = World::enforced().await;
    w.unpublish();
    w.dns.clear_queries();
    w.clock.advance(20 * HOUR);
    w.service.upkeep(&mut None).await;
    assert_eq!(w.host.gets(), 1);
    w.clock.advance(4 * HOUR);
    w.service.upkeep(&mut None).await;
    assert_eq!(w.stored().fetched, T0.after(DAY));
    assert_eq!(w.stored().expires, T0.after(8 * DAY));
    assert!(w.dns.queries().is_empty());
}

// STS-50
#[tokio::test]
async fn a_failed_refresh_is_tried_again_hourly_and_remembered() {
    let w = World::enforced().await;
    w.host.fail("http-500");
    w.clock.advance(DAY);
    for _ in 0..4 {
        w.service.upkeep(&mut None).await;
        w.clock.advance(30 * MINUTE + Duration::from_secs(1));
    }
    assert_eq!(w.host.gets(), 1 + 2);
    assert_eq!(w.store.row(&w.domain).memory.refresh_failing_since, Some(T0.after(DAY)));
    let failed = |severity: &str| {
        w.counted.value(&format!("sealpost_policy_refreshes_failed_total{{severity=\"{severity}\"}}"))
    };
    assert_eq!((failed("warning"), failed("urgent")), (2.0, 0.0));
    let fetches =
        |result: &str| w.counted.value(&format!("sealpost_policy_fetches_total{{result=\"{result}\"}}"));
    assert_eq!((fetches("success"), fetches("sts-policy-fetch-error"), fetches("busy")), (1.0, 2.0, 0.0));
    // Two days before its end nobody may sleep any more.
    w.clock.advance(4 * DAY);
    w.service.upkeep(&mut None).await;
    assert_eq!((failed("warning"), failed("urgent")), (2.0, 1.0));
    assert_eq!(w.counted.value("sealpost_policy_fetch_duration_seconds_count"), 4.0);
}

// RTLS-29, STS-51: nothing is reported beside a policy of mode none, but what may have taken its place is not forgotten.
#[tokio::test]
async fn a_policy_that_could_not_be_had_again_may_be_outdated() {
    let w = World::enforced().await;
    w.publish("2");
    w.host.serve("version: STSv1\nmode: none\nmax_age: 86400\n");
    let outdated = async || match w.service.discover(&w.domain).await {
        Discovery::Known(a) => (a.fetch_failure.is_some(), a.outdated),
        Discovery::Wait(e) => panic!("{e}"),
    };
    assert_eq!(outdated().await, (false, false));
    w.unpublish();
    assert_eq!(outdated().await, (false, false), "without a record there is no other policy");
    w.publish("3");
    w.host.fail("http-500");
    assert_eq!(outdated().await, (false, true));
    assert_eq!(outdated().await, (false, true), "while the back-off runs");
    w.break_dns();
    assert_eq!(outdated().await, (false, true), "a lookup that failed");
}

// STS-51
#[tokio::test]
async fn mode_none_ends_an_enforce_policy_at_once_and_then_lapses_in_silence() {
    let w = World::enforced().await;
    w.publish("2");
    w.host.serve("version: STSv1\nmode: none\nmax_age: 86400\n");
    assert_eq!(w.look().await, "none 2");
    assert!(!w.service.has_enforce(&w.domain).await);
    assert_eq!(w.counted.value("sealpost_policy_downgrades_total{cause=\"withdrawn\"}"), 1.0);
    w.unpublish();
    assert_eq!(w.look().await, "none 2", "and nothing is reported");
    w.clock.advance(2 * DAY);
    assert_eq!(w.look().await, "nothing");
    // STS-50: of mode none nothing is told.
    w.host.fail("http-500");
    w.service.upkeep(&mut None).await;
    assert_eq!(w.counted.value("sealpost_policy_refreshes_failed_total{severity=\"warning\"}"), 0.0);
    assert_eq!(w.counted.value("sealpost_policy_downgrades_total{cause=\"expired\"}"), 0.0);
    assert_eq!(w.host.gets(), 2);
    assert_eq!(*w.store.history.lock().unwrap(), ["first policy: enforce, id 1", "enforce -> none, id 2"]);
}

// STS-53
#[tokio::test]
async fn the_last_look_passes_every_cache_and_tells_of_a_new_policy() {
    let w = World::enforced().await;
    assert!(!w.service.final_look(&w.domain).await);
    assert_eq!(w.dns.forgotten(), [Domain::parse_host("_mta-sts.d.example").unwrap()]);
    w.publish("2");
    w.host.serve(&Host::policy("enforce", "*.d.example", 60));
    assert!(w.service.final_look(&w.domain).await);
    assert_eq!(w.look().await, "enforce 2");
    w.break_dns();
    assert!(!w.service.final_look(&w.domain).await);
}

// STS-55
#[tokio::test]
async fn an_enforce_failure_fetches_again_once_an_hour_although_the_id_stays() {
    let w = World::enforced().await;
    assert!(!w.service.after_enforce_failure(&w.domain).await, "the body is still the old one");
    w.host.serve(&Host::policy("enforce", "new.d.example", 7 * 86400));
    w.clock.advance(30 * MINUTE);
    assert!(!w.service.after_enforce_failure(&w.domain).await);
    assert_eq!(w.host.gets(), 2);
    w.clock.advance(31 * MINUTE);
    assert!(w.service.after_enforce_failure(&w.domain).await);
    assert_eq!(
        (w.look().await.as_str(), w.stored().policy.mx),
        ("enforce 1", vec!["new.d.example".to_owned()])
    );
}

// STS-56
#[tokio::test]
async fn a_policy_is_purged_a_month_after_its_end_and_last_use() {
    let w = World::enforced().await;
    w.host.fail("http-500");
    for (days, kept) in [(7, true), (29, true), (2, false)] {
        w.clock.advance(days * DAY);
        w.service.upkeep(&mut None).await;
        assert_eq!(w.store.row(&w.domain).policy.is_some(), kept, "after {days} more days");
    }
}

// STS-57
#[tokio::test]
async fn a_clock_that_jumps_a_year_expires_nothing_and_deletes_nothing() {
    let w = World::enforced().await;
    w.host.fail("http-500");
    w.unpublish();
    w.clock.jump_to(T0.after(365 * DAY));
    w.service.upkeep(&mut None).await;
    assert_eq!(w.host.gets(), 2, "everything is due for refresh");
    assert_eq!(w.look().await, "enforce 1 (txt-missing)");
    w.clock.advance(MINUTE);
    w.clock.jump_to(T0.after(MINUTE));
    assert_eq!(w.look().await, "enforce 1 (txt-missing)");
    w.service.upkeep(&mut None).await;
    w.clock.advance(DAY + MINUTE);
    assert_eq!(w.look().await, "enforce 1 (txt-missing)", "after the doubt it lives to its day");
}

// STS-57
#[tokio::test]
async fn a_start_with_a_strange_clock_expires_nothing_for_a_day() {
    let mut w = World::enforced().await;
    w.host.fail("http-500");
    w.clock.advance(30 * DAY);
    w.restart();
    w.service.note_start(Some(T0));
    assert_eq!(w.look().await, "enforce 1");
    w.clock.advance(DAY);
    assert_eq!(w.look().await, "nothing (http-500)");
    w.restart();
    w.service.note_start(Some(w.clock.now().before(HOUR)));
    assert_eq!(w.look().await, "nothing (http-500)");
}

// STS-58
#[tokio::test(start_paused = true)]
async fn fifty_messages_at_once_cost_one_question_and_one_fetch() {
    let w = world();
    w.publish("1");
    w.host.serve(&Host::policy("enforce", "mx.d.example", 60));
    w.host.stalls.store(true, Ordering::SeqCst);
    let (seen, ()) = tokio::join!(join_all((0..50).map(|_| w.look())), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        w.host.go.notify_one();
    });
    assert!(seen.iter().all(|s| s == "enforce 1"), "{seen:?}");
    assert_eq!((w.dns.queries().len(), w.host.gets()), (1, 1));
}

#[tokio::test]
async fn an_operator_refreshes_past_back_off_and_dns_cache() {
    let w = world();
    assert_eq!(w.service.refresh(&w.domain).await.unwrap_err().reason, "txt-missing");
    w.publish("1");
    w.host.fail("http-500");
    w.look().await;
    assert_eq!(w.service.refresh(&w.domain).await.unwrap_err().reason, "http-500");
    w.host.serve(&Host::policy("enforce", "mx.d.example", 60));
    assert_eq!(w.service.refresh(&w.domain).await.unwrap().id, "1");
    assert!(w.dns.forgotten().contains(&w.domain));
    w.unpublish();
    w.service.refresh(&w.domain).await.expect("a stored policy is refreshed without a record");
}

#[tokio::test]
async fn looking_live_leaves_no_trace() {
    let w = World::enforced().await;
    let before = w.store.row(&w.domain);
    w.publish("2");
    w.host.fail("http-500");
    let look = w.service.look_live(&w.domain).await;
    assert_eq!(look.live.unwrap().unwrap_err().reason, "http-500");
    assert_eq!(look.applicable.policy.unwrap().id, "1");
    assert_eq!(w.store.row(&w.domain), before);
    w.look().await;
    assert_eq!(w.host.gets(), 3, "no back-off was used up");
}

// STS-13, STS-25, STS-57: what `check` goes by is what the next delivery goes by.
#[tokio::test]
async fn looking_live_goes_by_the_policy_that_a_delivery_would_use() {
    let agree = async |w: &World, want: &str, case: &str| {
        let live = w.look_live().await;
        assert_eq!((live.as_str(), w.look().await.as_str()), (want, want), "{case}");
    };
    let week = 7 * 86400;
    let w = World::enforced().await;
    w.host.serve(&Host::policy("testing", "other.d.example", week));
    let look = w.service.look_live(&w.domain).await;
    assert_eq!((look.step, look.live.unwrap().unwrap().policy.mode), (Step::UseStored, Mode::Testing));
    agree(&w, "enforce 1", "another file under the same id").await;
    w.host.fail("http-500");
    agree(&w, "enforce 1", "a policy host that fails, and nobody asks").await;
    w.publish("2");
    agree(&w, "enforce 1 (http-500)", "a new id, and its fetch fails").await;
    w.host.serve(&Host::policy("testing", "mx.d.example", week));
    agree(&w, "enforce 1 (http-500)", "the file is there, and the back-off of its fetch runs").await;
    w.clock.advance(5 * MINUTE);
    agree(&w, "testing 2", "the back-off is over").await;
    w.unpublish();
    agree(&w, "testing 2 (txt-missing)", "no record").await;

    let w = World::enforced().await;
    w.clock.advance(8 * DAY);
    w.unpublish();
    assert_eq!(w.look_live().await, "enforce 1", "past its day it is fetched, record or not");
    w.host.fail("http-500");
    agree(&w, "nothing", "past its day, and it cannot be had again").await;
    w.publish("1");
    w.clock.advance(HOUR);
    agree(&w, "nothing (http-500)", "the like, with a record").await;
}

#[tokio::test]
async fn a_failing_store_loses_no_policy_and_guesses_nothing() {
    let w = world();
    w.publish("1");
    w.host.serve(&Host::policy("enforce", "mx.d.example", 7 * 86400));
    w.store.broken.store(true, Ordering::SeqCst);
    assert_eq!(w.look().await, "wait Timeout", "an enforce policy may be stored");
    assert!(w.service.has_enforce(&w.domain).await);
    w.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(w.look().await, "enforce 1");
    w.publish("2");
    w.store.broken.store(true, Ordering::SeqCst);
    assert_eq!(w.look().await, "enforce 2");
    assert_eq!(w.look().await, "enforce 2");
    w.store.broken.store(false, Ordering::SeqCst);
    w.service.upkeep(&mut None).await;
    assert_eq!(w.stored().id, "2");
}

#[tokio::test]
async fn switched_off_the_service_asks_nobody() {
    let w = world();
    let settings = ServiceSettings { enabled: false, ..ServiceSettings::default() };
    let service = start(&w.dns, &w.host, &w.store, &w.clock, settings);
    assert!(matches!(service.discover(&w.domain).await, Discovery::Known(a) if a.policy.is_none()));
    assert!(w.dns.queries().is_empty());
}
