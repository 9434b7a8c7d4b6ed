//! Counters that become reports, and reports that wait for those who asked for them.

use DestinationState::{Accepted, Failed, Queued, Waiting};

use super::*;
use crate::tlsrpt::{
    AppliedPolicy, Day, DestinationState, DueDestination, FailureDetail, Kept, ListedReport, NewDestination,
    NewReport, PlannedReport, PolicyVerdict, ReportFilter, ReportNo, ReportState, ReportStore,
    ReportStoreError, ResultType, SessionRecord, SessionStore, Tried, Way,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const WINDOW: Duration = Duration::from_secs(4 * 3600);
const CAP: u32 = 100;

fn today() -> Day {
    Day::of(NOON)
}

fn policy(name: &str) -> AppliedPolicy {
    AppliedPolicy::NoPolicyFound { domain: domain(name) }
}

/// A session of `name` at `at`, counted when this returns.
pub(super) async fn session(
    store: &(impl SessionStore + ReportStore + QueueStore),
    name: &str,
    at: Timestamp,
    failed: Option<(&str, &str)>,
) {
    let details = failed.map(|(host, _)| FailureDetail {
        result: ResultType::CertificateExpired,
        reason: Some(format!("of-{host}")),
    });
    store.record(SessionRecord {
        at,
        report_domain: domain(name),
        sending_ip: failed.map(|_| [192, 0, 2, 1].into()),
        mx_host: failed.map(|(host, _)| domain(host)),
        mx_helo: failed.map(|(_, helo)| helo.to_owned()),
        receiving_ip: None,
        verdicts: vec![PolicyVerdict {
            policy: policy(name),
            success: failed.is_none(),
            details: details.into_iter().collect(),
        }],
    });
    // Records are written behind everything else; what comes later is committed with them, or after.
    for _ in 0..2 {
        store.heartbeat().await.unwrap();
    }
    while store.fold().await.unwrap() {}
}

pub(super) fn report(name: &str, sessions: (u64, u64), to: &[&str]) -> NewReport {
    NewReport {
        day: today(),
        domain: domain(name),
        report_id: format!("20261122.{name}@example.net"),
        file_name: "f.json.gz".to_owned(),
        packed: Bytes::from_static(b"\x1f\x8b"),
        partial: false,
        sessions,
        made: NOON.after(DAY),
        destinations: to
            .iter()
            .map(|uri| NewDestination {
                uri: (*uri).to_owned(),
                receiver: uri.rsplit(['@', '/']).next().unwrap().to_owned(),
            })
            .collect(),
    }
}

async fn listed(store: &impl ReportStore) -> Vec<ListedReport> {
    store.reports(ReportFilter::default(), 100).await.unwrap()
}

async fn planned(store: &impl ReportStore, name: &str) -> Option<PlannedReport> {
    store.planned(today(), domain(name)).await.unwrap()
}

pub(super) async fn plan(store: &impl ReportStore, today: Day) -> usize {
    let mut all = 0;
    loop {
        let did = store.plan(today, WINDOW).await.unwrap();
        all += did.planned;
        if !did.more {
            return all;
        }
    }
}

/// Those by mail, then the others.
pub(super) async fn destinations(store: &impl ReportStore, now: Timestamp) -> Vec<DueDestination> {
    let mut due = store.destinations(Way::Mail, now, 9).await.unwrap();
    assert!(due.iter().all(|d| d.uri.starts_with("mailto:")));
    due.extend(store.destinations(Way::Https, now, 9).await.unwrap());
    due
}

/// Leaves a planned report, and one with a destination of each way, that by mail in the queue.
pub(super) async fn one_of_each(store: &(impl SessionStore + ReportStore + QueueStore)) {
    for name in ["a.example", "b.example"] {
        session(store, name, NOON, None).await;
    }
    assert_eq!(plan(store, today().next()).await, 2);
    store
        .keep(report("a.example", (1, 0), &["mailto:r@a.example", "https://a.example/"]), CAP)
        .await
        .unwrap();
    let due = destinations(store, NOON.after(DAY)).await;
    let queued = Tried { at: NOON, state: Queued, reply: String::new(), next: None, counted: true };
    store.tried(due[0].id, queued).await.unwrap();
}

// RPT-11, RPT-22, RPT-29
pub(in crate::store) async fn sessions_add_up_by_day_domain_and_policy<S: Site>(site: S) {
    let store = site.open(clock());
    let last = today().next().begin().before(Duration::from_millis(1));
    session(&store, "a.example", last, None).await;
    session(&store, "a.example", last.after(Duration::from_millis(1)), None).await;
    for helo in ["one", "one", "two"] {
        session(&store, "a.example", NOON, Some(("mx.a.example", helo))).await;
    }
    session(&store, "b.example", NOON, None).await;
    let counted = store.counters(today(), domain("a.example")).await.unwrap().unwrap();
    assert_eq!((counted.day, counted.domain.as_str(), counted.policies.len()), (today(), "a.example", 1));
    let of = &counted.policies[0];
    assert_eq!((&of.policy, of.success, of.failure), (&policy("a.example"), 1, 3));
    let details: Vec<_> =
        of.details.iter().map(|d| (d.mx_helo.as_deref(), d.sending_ip.is_some(), d.count)).collect();
    assert_eq!(details, [(Some("one"), true, 2), (Some("two"), true, 1)]);
    assert_eq!(of.details[0].receiving_ip, None);
    assert_eq!(of.details[0].reason.as_deref(), Some("of-mx.a.example"));
    let names = store.counted(today(), None, 1).await.unwrap();
    assert_eq!(names, [domain("a.example")]);
    assert_eq!(store.counted(today(), names.last().cloned(), 9).await.unwrap(), [domain("b.example")]);
    assert_eq!(store.counted(today().next(), None, 9).await.unwrap(), [domain("a.example")]);
    assert_eq!(store.counters(today(), domain("c.example")).await.unwrap(), None);
    site.close(store).await;
}

// RPT-70
pub(in crate::store) async fn a_report_is_planned_once_at_a_moment_of_its_own<S: Site>(site: S) {
    let store = site.open(clock());
    for n in 0..20 {
        session(&store, &format!("d{n}.example"), NOON, None).await;
    }
    assert_eq!(plan(&store, today()).await, 0, "the day is not over");
    assert_eq!(plan(&store, today().next()).await, 20);
    assert_eq!(plan(&store, today().next()).await, 0);
    let (first, end) =
        (today().next().begin().after(5 * MINUTE), today().next().begin().after(5 * MINUTE + WINDOW));
    let mut before = Vec::new();
    for n in 0..20 {
        before.push(planned(&store, &format!("d{n}.example")).await.unwrap());
    }
    assert!(before.iter().all(|p| p.due >= first && p.due < end), "{before:?}");
    let mut moments: Vec<_> = before.iter().map(|p| p.due).collect();
    moments.sort_unstable();
    moments.dedup();
    assert!(moments.len() > 15, "drawn one by one: {moments:?}");
    site.kill(store);
    let store = site.open(clock());
    plan(&store, today().next()).await;
    for p in &before {
        assert_eq!(planned(&store, p.domain.as_str()).await.as_ref(), Some(p), "stored, not drawn anew");
    }
    // The oldest first, and none before its moment.
    assert_eq!(store.next_due().await.unwrap().report, moments.first().copied());
    assert!(store.due_reports(first.before(MINUTE), 99).await.unwrap().is_empty());
    let due = store.due_reports(end, 99).await.unwrap();
    assert_eq!(due.iter().map(|p| p.due).collect::<Vec<_>>().len(), 20);
    assert!(due.is_sorted_by_key(|p| p.due));
    site.close(store).await;
}

// RPT-93, RPT-70
pub(in crate::store) async fn a_report_is_kept_once_and_takes_its_counters<S: Site>(site: S) {
    let store = site.open(clock());
    session(&store, "a.example", NOON, Some(("mx.a.example", "one"))).await;
    let whole = || report("a.example", (0, 1), &["https://r.example"]);
    assert_eq!(store.keep(whole(), CAP).await, Err(ReportStoreError::Unknown), "not planned");
    plan(&store, today().next()).await;
    // A part takes nothing away.
    let mut part = report("a.example", (0, 1), &["https://r.example"]);
    (part.partial, part.report_id) = (true, "part@example.net".to_owned());
    store.keep(part, CAP).await.unwrap();
    assert!(store.counters(today(), domain("a.example")).await.unwrap().is_some());
    // What was counted after the report was written is not lost.
    session(&store, "a.example", NOON, None).await;
    assert_eq!(store.keep(whole(), CAP).await, Err(ReportStoreError::Changed));
    assert!(planned(&store, "a.example").await.is_some());
    let no = store.keep(report("a.example", (1, 1), &["https://r.example"]), CAP).await.unwrap().no;
    assert_eq!(store.counters(today(), domain("a.example")).await.unwrap(), None);
    assert_eq!(store.keep(whole(), CAP).await, Err(ReportStoreError::Unknown), "kept already");
    // Counted late: no second report, also after a restart.
    session(&store, "a.example", NOON, None).await;
    site.kill(store);
    let store = site.open(clock());
    assert_eq!(plan(&store, today().next()).await, 0);
    assert_eq!(planned(&store, "a.example").await, None);
    let late = store.drop_old(today().next()).await.unwrap().days;
    assert_eq!(late, [(today(), domain("a.example"), "counted after its report was made".to_owned())]);
    let all = listed(&store).await;
    assert_eq!(
        all.iter().map(|r| (r.partial, r.sessions)).collect::<Vec<_>>(),
        [(false, (1, 1)), (true, (0, 1))]
    );
    assert_eq!(store.octets(no).await.unwrap().as_deref(), Some(&b"\x1f\x8b"[..]));
    assert_eq!(store.octets(ReportNo(999)).await.unwrap(), None);
    site.close(store).await;
}

// RPT-09, RPT-71
pub(in crate::store) async fn a_plan_is_put_off_or_ends_without_a_report<S: Site>(site: S) {
    let store = site.open(clock());
    for name in ["late.example", "mute.example", "old.example"] {
        session(&store, name, NOON, None).await;
    }
    plan(&store, today().next()).await;
    let (then, until) = (NOON.after(DAY), NOON.after(DAY + 10 * MINUTE));
    let late = planned(&store, "late.example").await.unwrap();
    store.put_off(late.clone(), until, "SERVFAIL".to_owned()).await.unwrap();
    let mute = planned(&store, "mute.example").await.unwrap();
    store.unwanted(mute.clone(), "nobody asks".to_owned()).await.unwrap();
    assert_eq!(store.unwanted(mute, String::new()).await, Err(ReportStoreError::Unknown));
    let due: Vec<_> = store.due_reports(then, 9).await.unwrap().into_iter().map(|p| p.domain).collect();
    assert_eq!(due, [domain("old.example")]);
    let due = store.due_reports(until, 9).await.unwrap();
    let again = due.iter().find(|p| p.domain == late.domain).unwrap();
    assert_eq!((again.put_off, again.due), (1, late.due));
    // A clock set back: what lies days ahead is due.
    store.put_off(late, until.after(30 * DAY), "SERVFAIL".to_owned()).await.unwrap();
    assert_eq!(store.due_reports(then, 9).await.unwrap().len(), 2);
    // Not yet too old, then too old; what was found unwanted is not named.
    let none = store.drop_old(today()).await.unwrap();
    assert!(none.days.is_empty() && !none.more);
    let dropped = store.drop_old(today().next()).await.unwrap().days;
    let dropped: Vec<_> = dropped.iter().map(|(d, n, why)| (*d, n.as_str(), why.as_str())).collect();
    assert_eq!(dropped, [(today(), "late.example", "SERVFAIL"), (today(), "old.example", "")]);
    assert!(store.counted(today(), None, 9).await.unwrap().is_empty());
    let states: Vec<_> = listed(&store).await.into_iter().map(|r| (r.domain.to_string(), r.state)).collect();
    let expected =
        [("late", ReportState::Dropped), ("mute", ReportState::Unwanted), ("old", ReportState::Dropped)];
    assert_eq!(states, expected.map(|(n, s)| (format!("{n}.example"), s)));
    site.close(store).await;
}

// RPT-08, RPT-10, RPT-87
pub(in crate::store) async fn destinations_are_tried_until_they_end<S: Site>(site: S) {
    let store = site.open(clock());
    session(&store, "a.example", NOON, None).await;
    plan(&store, today().next()).await;
    let to = ["mailto:t@a.example", "https://r.example", "https://r.example"];
    let Kept { no, over_cap } = store.keep(report("a.example", (1, 0), &to), 1).await.unwrap();
    assert_eq!(over_cap, to[2..]);
    let now = NOON.after(DAY);
    let due = destinations(&store, now).await;
    assert_eq!(due.iter().map(|d| d.uri.as_str()).collect::<Vec<_>>(), to[..2], "the third is over the cap");
    assert_eq!((due[0].attempts, due[0].first, due[0].run, due[0].report), (0, None, 0, no));
    assert_ne!(due[0].mail, due[1].mail);
    let tried = |state, next: Option<Timestamp>, counted| Tried {
        at: now,
        state,
        reply: "no".to_owned(),
        next,
        counted,
    };
    store.tried(due[1].id, tried(Waiting, Some(now.after(MINUTE)), false)).await.unwrap();
    store.tried(due[1].id, tried(Waiting, Some(now.after(MINUTE)), true)).await.unwrap();
    store.tried(due[0].id, tried(Queued, None, true)).await.unwrap();
    assert_eq!(store.tried(due[0].id, tried(Failed, None, true)).await, Err(ReportStoreError::Unknown));
    assert!(destinations(&store, now).await.is_empty());
    assert_eq!(store.next_due().await.unwrap().https, Some(now.after(MINUTE)));
    site.kill(store);
    let store = site.open(clock());
    let later = destinations(&store, now.after(MINUTE)).await;
    assert_eq!((later.len(), later[0].attempts, later[0].first), (1, 1, Some(now)));
    assert_eq!((later[0].id, later[0].mail, later[0].reply.as_str()), (due[1].id, due[1].mail, "no"));
    store.tried(later[0].id, tried(Failed, None, true)).await.unwrap();
    let shown = listed(&store).await.remove(0);
    assert_eq!(shown.state, ReportState::Sending);
    let states: Vec<_> = shown.destinations.iter().map(|d| (d.state, d.attempts, d.mail.is_some())).collect();
    assert_eq!(states, [(Queued, 1, true), (Failed, 2, false), (Failed, 0, false)]);
    // Once more: the same octets under numbers of its own.
    assert_eq!(store.again(no, now.after(DAY), CAP).await.unwrap(), 1);
    let again = destinations(&store, now.after(DAY)).await;
    assert_eq!(again.iter().map(|d| (d.run, d.uri.as_str())).collect::<Vec<_>>(), to.map(|uri| (1, uri)));
    assert!(again.iter().all(|d| d.report == no && d.mail != due[0].mail && d.report_id == due[0].report_id));
    store.tried(again[1].id, tried(Accepted, None, true)).await.unwrap();
    assert_eq!(listed(&store).await[0].state, ReportState::Delivered, "one is enough");
    assert_eq!(store.again(ReportNo(999), now, CAP).await, Err(ReportStoreError::Unknown));
    // Nothing that is under way is purged.
    assert!(!store.purge_reports(today().next()).await.unwrap());
    assert_eq!(listed(&store).await.len(), 1);
    for one in [&again[0], &again[2]] {
        store.tried(one.id, tried(Failed, None, true)).await.unwrap();
    }
    // The mail that the queue never saw has ended for all that anybody can know.
    let settled = store.settle_mail().await.unwrap();
    assert_eq!((settled.len(), settled[0].accepted, settled[0].uri.as_str()), (1, false, to[0]));
    assert!(store.settle_mail().await.unwrap().is_empty());
    store.purge_reports(today()).await.unwrap();
    assert_eq!(listed(&store).await.len(), 1);
    store.purge_reports(today().next()).await.unwrap();
    assert!(listed(&store).await.is_empty());
    site.close(store).await;
}

pub(in crate::store) async fn reports_are_listed_by_id_day_and_domain<S: Site>(site: S) {
    let store = site.open(clock());
    for (name, at) in [("a.example", NOON), ("b.example", NOON), ("b.example", NOON.after(DAY))] {
        session(&store, name, at, None).await;
    }
    plan(&store, today().next().next()).await;
    let no = store.keep(report("a.example", (1, 0), &["https://r.example"]), CAP).await.unwrap().no;
    let list = async |filter| -> Vec<String> {
        let found = store.reports(filter, 9).await.unwrap();
        found.into_iter().map(|r| format!("{} {}", r.day, r.domain)).collect()
    };
    let (one, two) = (today(), today().next());
    let none = ReportFilter::default;
    assert_eq!(
        list(none()).await,
        [format!("{two} b.example"), format!("{one} a.example"), format!("{one} b.example")]
    );
    for id in [no.0.to_string(), "20261122.a.example@example.net".to_owned()] {
        assert_eq!(list(ReportFilter { id: Some(id), ..none() }).await, [format!("{one} a.example")]);
    }
    assert_eq!(list(ReportFilter { day: Some(two), ..none() }).await, [format!("{two} b.example")]);
    let b = ReportFilter { domain: Some(domain("b.example")), day: Some(one), ..none() };
    let due = store.reports(b, 9).await.unwrap().remove(0);
    assert_eq!((due.state, due.sessions, due.report_id.as_str()), (ReportState::Due, (1, 0), ""));
    assert_eq!(store.reports(none(), 1).await.unwrap().len(), 1);
    site.close(store).await;
}
