//! Everything at one glance.

use DestinationState::{Accepted, Failed};

use super::reports::{destinations, plan, report, session};
use super::*;
use crate::mtasts::{Backoff, DomainMemory, FetchFailure, Mode};
use crate::queue::outcome::{CertificateFacts, Promise};
use crate::status::queue::Count;
use crate::tlsrpt::{Day, DestinationState, Tried};

const HOUR: Duration = Duration::from_secs(3600);

/// A host that was to show a good certificate and showed an old one.
fn expired() -> Outcome {
    let certificate = CertificateFacts {
        names: ["a", "b", "c", "d"].map(|n| format!("{n}.example.org")).to_vec(),
        issuer: String::new(),
        not_before: NOON,
        not_after: NOON,
        sha256: String::new(),
    };
    let promise = Promise {
        kind: "mta-sts".to_owned(),
        mode: "enforce".to_owned(),
        id: "1".to_owned(),
        mx: vec![],
        fetched: None,
        expires: None,
        broken: Some("it has expired".to_owned()),
        certificate: Some(certificate),
        would_match: Vec::new(),
    };
    let d = Diagnosis { code: None, promise: Some(promise), ..diagnosis("it has expired") };
    Outcome::Deferred(DeferReason::TlsCertificate, d)
}

pub(in crate::store) async fn what_waits_is_counted_with_its_causes<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    assert_eq!(store.overview(NOON).await.unwrap().queue, Default::default());
    for n in 1..=4 {
        let mut new = message(n, &["a@x.example", "b@x.example", "c@y.example"]);
        new.arrived = NOON.before(u32::try_from(n).unwrap() * HOUR);
        store.enqueue(new, None).await.unwrap();
    }
    store.enqueue(message(9, &["a@dead.example"]), None).await.unwrap();
    for lease in claim(&store, "x.example", 3).await {
        store.finish(all_of(&lease, &expired())).await.unwrap();
    }
    let leases = claim(&store, "y.example", 3).await;
    store.finish(all_of(&leases[0], &deferred())).await.unwrap();
    store.finish(all_of(&leases[1], &delivered())).await.unwrap();
    let until = NOON.after(2 * HOUR);
    let suspension = Suspension { until, step: 2, last: diagnosis("no route") };
    store.suspend(domain("dead.example"), Some(suspension)).await.unwrap();

    let q = store.overview(NOON).await.unwrap().queue;
    let ago = |hours: u32| Some(NOON.before(hours * HOUR));
    let states = &q.states;
    // Which transaction of a domain comes first is the store's choice where they are due at the same moment.
    assert_eq!((states.queued.recipients, states.deferred.recipients), (4, 7));
    assert_eq!((states.delivering.recipients, states.held), (1, Count::default()));
    assert_eq!((q.domains, q.suspended, q.damaged, q.more), (3, 1, 0, false));
    assert_eq!((q.oldest, q.next_attempt), (ago(4), Some(NOON)));
    let causes: Vec<_> = q.causes.iter().map(|c| (&*c.cause, c.recipients, c.domains)).collect();
    assert_eq!(causes, [("tls_certificate", 6, 1), ("connect", 1, 1), ("reply", 1, 1)]);
    assert_eq!(q.causes[1].next_attempt, until, "the suspension's end");
    assert!((NOON.after(9 * MINUTE)..=NOON.after(11 * MINUTE)).contains(&q.causes[2].next_attempt));
    let shown = q.causes[0].example.as_ref().unwrap();
    assert_eq!((shown.domain.as_str(), &*shown.text), ("x.example", "it has expired"));
    assert_eq!(shown.host, Some(domain("mx.example.org")));
    assert_eq!(shown.certificate.as_ref().map(|c| (c.names.len(), c.not_after)), Some((3, NOON)));
    assert!(store.show(shown.id).await.unwrap().is_some());
    let probe = q.causes[1].example.as_ref().unwrap();
    assert_eq!((probe.domain.as_str(), &*probe.text), ("dead.example", "no route"), "its domain's probe");
    let busiest: Vec<_> =
        q.busiest.iter().map(|b| (b.domain.as_str(), b.recipients, b.suspended_until)).collect();
    assert_eq!(busiest[0], ("x.example", 8, None));
    assert!(busiest.contains(&("dead.example", 1, Some(until))));
    assert_eq!(q.last_finished, None, "no message is done with");

    clock.advance(MINUTE);
    let lease = store.enqueue(message(10, &["z@z.example"]), Some(terms(Some("z.example")))).await.unwrap();
    store.finish(all_of(&lease.lease.unwrap(), &delivered())).await.unwrap();
    assert_eq!(store.overview(NOON).await.unwrap().queue.last_finished, Some(NOON.after(MINUTE)));
    site.close(store).await;
}

pub(in crate::store) async fn policies_and_reports_are_counted<S: Site>(site: S) {
    let store = site.open(clock());
    let now = NOON.after(24 * HOUR);
    for (name, mode, days) in [
        ("a.example", Mode::Enforce, 0),
        ("b.example", Mode::Enforce, 6),
        ("c.example", Mode::Testing, 1),
        ("d.example", Mode::None, 1),
        ("e.example", Mode::Enforce, 9),
    ] {
        let mut policy = policies::stored(name, now.before(days * 24 * HOUR));
        policy.policy.mode = mode;
        store.save(policy, None).await.unwrap();
        let failure = FetchFailure::fetch_error("http-404", "it answers 404");
        let backoff = Backoff { id: "1".to_owned(), until: now, step: MINUTE, failure };
        let memory = DomainMemory {
            refresh_failing_since: (name != "a.example").then(|| now.before(2 * HOUR)),
            backoff: (name == "b.example").then_some(backoff),
            ..DomainMemory::default()
        };
        store.remember(domain(name), memory).await.unwrap();
    }
    let p = store.overview(now).await.unwrap().policies;
    assert_eq!((p.enforce, p.testing, p.none, p.expired), (2, 1, 1, 1));
    let failing: Vec<_> = p.failing_first.iter().map(|p| (p.domain.as_str(), p.urgent, &*p.why)).collect();
    assert_eq!(failing, [("b.example", true, "it answers 404"), ("c.example", false, "")]);
    assert_eq!(p.failing, 2, "what is over or promises nothing is nobody's trouble");

    assert_eq!(store.overview(now).await.unwrap().reports.made, 0);
    for name in ["a.example", "b.example", "c.example"] {
        session(&store, name, NOON, None).await;
    }
    session(&store, "a.example", now, None).await;
    plan(&store, Day::of(now)).await;
    let to = ["https://good.example", "https://bad.example"];
    let no = store.keep(report("a.example", (1, 0), &to), 99).await.unwrap().no;
    for (to, state, reply) in destinations(&store, now)
        .await
        .iter()
        .zip([Accepted, Failed])
        .map(|(d, s)| (d.id, s, if s == Failed { "410 Gone" } else { "200 OK" }))
    {
        let tried = Tried { at: now, state, reply: reply.to_owned(), next: None, counted: true };
        store.tried(to, tried).await.unwrap();
    }
    store.keep(report("b.example", (1, 0), &to[..1]), 99).await.unwrap();
    let r = store.overview(now).await.unwrap().reports;
    assert_eq!((r.counted_today, r.due, r.on_the_way, r.made, r.failed, r.dropped), (1, 1, 1, 2, 1, 0));
    assert!(r.next.is_some_and(|next| Day::of(next) == Day::of(now)), "{:?}", r.next);
    let f = &r.failures[0];
    assert_eq!((f.no, f.domain.as_str(), &*f.uri, &*f.reply), (no, "a.example", to[1], "410 Gone"));
    store.drop_old(Day::of(now)).await.unwrap();
    assert_eq!(store.overview(now).await.unwrap().reports.dropped, 1);
    // Days later it is no news.
    let r = store.overview(now.after(72 * HOUR)).await.unwrap().reports;
    assert_eq!((r.made, r.failed, r.dropped, r.failures.len()), (0, 0, 0, 0));
    site.close(store).await;
}
