//! One thing wrong at a time: what is said, how loudly, and that nothing else is.

use std::sync::Arc;

use super::*;
use crate::dns::belief::Mode as Believed;
use crate::dns::self_test::Trouble;
use crate::mail::QueueId;
use crate::route::smart_host::{Rule, SmartHost};
use crate::status::queue::{Count, Example, Share};
use crate::status::sample::{Sample, at, cause, domain, example, exception, now, ordinary, quiet};
use crate::status::{FailingPolicy, ReportFailure};
use crate::tlsrpt::{Day, ReportNo};

/// Mark, kind and subject of each finding.
fn marks(found: &[Finding]) -> Vec<(Mark, &str, &str)> {
    found.iter().map(|f| (f.mark, f.check.as_str(), &*f.subject)).collect()
}

/// What is believed about DNSSEC, and what was found.
fn dnssec(s: &mut Sample, mode: Believed, believed: bool, trouble: Option<Trouble>) {
    s.running.dnssec = crate::status::Dnssec {
        mode,
        believed,
        trouble,
        words: "in words".to_owned(),
        ..s.running.dnssec.clone()
    };
}

/// 16 domains whose mail waits for one cause, under a rule for all of them.
fn under(s: &mut Sample, word: &str, hours: u64, promised: bool, rule: Rule) {
    let rule = Rule { pattern: "*".to_owned(), ..rule };
    s.place.rules = Arc::new(Rules::new([rule]));
    let example = Example { promised, ..example("a.example", "in words") };
    s.stored.queue.causes.push(Cause { example: Some(example), ..cause(word, 16, 16, hours) });
}

fn by_next_hop(s: &mut Sample, word: &str, hours: u64) {
    let next_hop = SmartHost::new("smart.example", 587, false, &[]);
    under(s, word, hours, false, Rule { next_hop, ..Rule::default() });
}

fn by_rule(s: &mut Sample, word: &str, minimum: Demand, promised: bool) {
    under(s, word, 1, promised, Rule { minimum: Some(minimum), ..Rule::default() });
}

#[test]
fn a_quiet_relay_leaves_people_alone() {
    let status = quiet().status();
    assert!(status.sound && status.look_at.is_empty(), "{:?}", status.look_at);
}

#[test]
fn what_only_a_person_can_mend_here_is_bad_and_the_rest_is_a_note() {
    /// Mark, kind, subject, and some of the words.
    type Want = (Mark, &'static str, &'static str, &'static str);
    type Row = (&'static str, fn(&mut Sample), &'static [Want]);
    let rows: &[Row] = &[
        (
            "no commits",
            |s| s.running.readiness.store_writable = false,
            &[(Mark::Bad, "store", "", "takes no commits")],
        ),
        (
            "a listener is missing",
            |s| s.running.readiness.listeners_up = false,
            &[(Mark::Bad, "relay", "listener", "not every listener")],
        ),
        (
            "draining",
            |s| {
                s.running.relay.draining = true;
                s.running.readiness.listeners_up = false;
            },
            &[(Mark::Note, "relay", "", "was told to stop")],
        ),
        (
            "disk full",
            |s| s.place.disk.as_mut().unwrap().free = 256 << 20,
            &[(Mark::Bad, "disk", "queue.reserve", "refused (452) until it is more than 256 MiB")],
        ),
        (
            "certificate ends",
            |s| s.place.certificate.as_mut().unwrap().expires = at("2026-12-01T00:00:00Z"),
            &[(Mark::Note, "certificate", "tls.certificate", "expires on 2026-12-01")],
        ),
        (
            "certificate ended",
            |s| s.place.certificate.as_mut().unwrap().expires = at("2026-11-22T07:59:59Z"),
            &[(Mark::Bad, "certificate", "tls.certificate", "expired on 2026-11-22")],
        ),
        (
            "the new certificate is none",
            |s| s.place.certificate.as_mut().unwrap().refused = Some("no key".to_owned()),
            &[(Mark::Bad, "certificate", "tls.certificate", "cannot be used: no key")],
        ),
        (
            "another's certificate",
            |s| s.stored.queue.causes.push(cause("tls_certificate", 2, 1, 4)),
            &[(Mark::Note, "queue", "tls_certificate", "2 recipients at 1 domain wait, the oldest for 4h")],
        ),
        ("not for long", |s| s.stored.queue.causes.push(cause("tls_certificate", 2, 1, 3)), &[]),
        (
            "our password",
            |s| s.stored.queue.causes.push(cause("auth", 1, 1, 1)),
            &[(Mark::Bad, "queue", "auth", "1 recipient at 1 domain")],
        ),
        ("our password, just now", |s| s.stored.queue.causes.push(cause("auth", 1, 1, 0)), &[]),
        (
            "the certificate of our next hop",
            |s| by_next_hop(s, "tls_certificate", 1),
            &[(
                Mark::Bad,
                "queue",
                "tls_certificate",
                "16 recipients at 16 domains wait, the oldest for 60m",
            )],
        ),
        ("the certificate of our next hop, just now", |s| by_next_hop(s, "tls_certificate", 0), &[]),
        (
            "our next hop is dead",
            |s| by_next_hop(s, "connect", 1),
            &[(Mark::Bad, "queue", "connect", "16 recipients")],
        ),
        ("our next hop asks us to try later", |s| by_next_hop(s, "reply", 1), &[]),
        (
            "what a minimum_tls of ours demands",
            |s| by_rule(s, "tls_missing", Demand::ENCRYPTED, false),
            &[(Mark::Bad, "queue", "tls_missing", "16 recipients")],
        ),
        (
            "what a rule of ours demands and the domain promised",
            |s| by_rule(s, "tls_missing", Demand::ENCRYPTED, true),
            &[],
        ),
        ("what the sender demands", |s| by_rule(s, "tls_missing", Demand::NOTHING, false), &[]),
        ("a domain with a rule of ours is dead", |s| by_rule(s, "connect", Demand::ENCRYPTED, false), &[]),
        (
            "the configuration was changed",
            |s| s.running.configuration.changed = Some(at("2026-11-21T17:00:00Z")),
            &[(
                Mark::Note,
                "configuration",
                "",
                "/etc/sealpost/sealpost.toml changed at 2026-11-21T17:00:00Z; the relay runs with that of its start",
            )],
        ),
        (
            "the configuration is gone",
            |s| s.running.configuration.unreadable = Some("no such file".to_owned()),
            &[(Mark::Note, "configuration", "", "cannot be read any more: no such file")],
        ),
        (
            "soon returned, and suspended",
            |s| {
                s.stored.queue.causes.push(cause("connect", 1, 1, 110));
                s.stored.queue.suspended = 1;
            },
            &[(Mark::Note, "queue", "connect", "goes back to its sender in 10h; 1 domain left alone")],
        ),
        (
            "held",
            |s| s.stored.queue.states.held = Count { recipients: 7, oldest: Some(now()) },
            &[(Mark::Note, "queue", "held", "7 recipients held")],
        ),
        (
            "damaged",
            |s| {
                s.stored.queue.states.held = Count { recipients: 2, oldest: Some(now()) };
                s.stored.queue.damaged = 2;
            },
            &[(Mark::Bad, "queue", "held", "rows cannot be read")],
        ),
        (
            "DNSSEC off",
            |s| dnssec(s, Believed::NotLocal, false, None),
            &[(Mark::Note, "dnssec", "", "in words")],
        ),
        // DANE-02
        (
            "the resolver lies",
            |s| dnssec(s, Believed::TrustAd, false, Some(Trouble::Lies)),
            &[(Mark::Bad, "dnssec", "", "in words")],
        ),
        (
            "the resolver is dead",
            |s| dnssec(s, Believed::Validate, true, Some(Trouble::NoAnswer)),
            &[(Mark::Bad, "dnssec", "", "in words")],
        ),
        (
            "the resolver is dead, and nothing is believed anyway",
            |s| dnssec(s, Believed::NotLocal, false, Some(Trouble::NoAnswer)),
            &[(Mark::Bad, "dnssec", "", "in words")],
        ),
        (
            "wrong root keys",
            |s| dnssec(s, Believed::Validate, true, Some(Trouble::DoesNotHold)),
            &[(Mark::Bad, "dnssec", "", "in words")],
        ),
        (
            "reports would not be believed",
            |s| {
                s.running.standing = vec![
                    Check::Configuration.bad("tls_rpt.from", "there is no sender", ""),
                    Check::Spf.note("example.net", "softfail", ""),
                    Check::DkimKey.bad("s1._domainkey.example.net", "not published", "publish it"),
                ];
            },
            &[(Mark::Bad, "dkim-key", "s1._domainkey.example.net", "not published")],
        ),
        (
            "no sender of reports",
            |s| {
                s.running.reports_wait = Some("tls_rpt.from is not set".to_owned());
                s.stored.reports.dropped = 9;
            },
            &[(Mark::Note, "reports", "tls_rpt", "tls_rpt.from is not set")],
        ),
        (
            "a report was not taken",
            |s| {
                s.stored.reports.failed = 2;
                s.stored.reports.failures.push(ReportFailure {
                    no: ReportNo(12),
                    day: Day::of(now()).earlier(1),
                    domain: domain("a.example"),
                    uri: "https://r.example/".to_owned(),
                    reply: "410 Gone".to_owned(),
                });
            },
            &[(
                Mark::Note,
                "reports",
                "receivers",
                "2 receivers took none since 2026-11-20; https://r.example/ said",
            )],
        ),
        (
            "reports dropped",
            |s| s.stored.reports.dropped = 1,
            &[(Mark::Note, "reports", "dropped", "1 report dropped unsent")],
        ),
        (
            "an exception ends",
            |s| s.place.exceptions.push(exception("a.example", Standing::EndsSoon)),
            &[(
                Mark::Note,
                "exception",
                "a.example",
                "until 2026-12-24, by ops (their certificate ran out, ticket 4711): it ends soon",
            )],
        ),
        (
            "an exception is over",
            |s| s.place.exceptions.push(exception("a.example", Standing::Over)),
            &[(Mark::Note, "exception", "a.example", "no effect; remove it")],
        ),
        (
            "an exception was not needed",
            |s| s.place.exceptions.push(exception("a.example", Standing::NotNeeded)),
            &[(Mark::Note, "exception", "a.example", "found sound and it has ended")],
        ),
        ("an exception runs", |s| s.place.exceptions.push(exception("a.example", Standing::InForce)), &[]),
    ];
    for (name, change, want) in rows {
        let mut sample = quiet();
        change(&mut sample);
        let status = sample.status();
        let wanted: Vec<_> = want.iter().map(|(mark, check, subject, _)| (*mark, *check, *subject)).collect();
        assert_eq!(marks(&status.look_at), wanted, "{name}");
        for (finding, (.., words)) in status.look_at.iter().zip(*want) {
            assert!(finding.text.contains(words), "{name}: {}", finding.text);
        }
        assert_eq!(status.sound, want.iter().all(|(mark, ..)| *mark == Mark::Note), "{name}");
    }
}

#[test]
fn what_to_do_names_the_message_and_whom_to_tell() {
    let mut s = quiet();
    let waiting = cause("tls_missing", 2, 1, 5);
    let own = Example { promised: false, ..example("rule.example", "self-signed") };
    s.stored.queue.causes = vec![
        Cause { example: Some(example("bank.example", "no STARTTLS")), ..waiting },
        cause("dns", 1, 1, 5),
        Cause { example: Some(own), ..cause("tls_certificate", 1, 1, 5) },
        cause("of-tomorrow", 1, 1, 5),
    ];
    let advice: Vec<String> = s.status().look_at.into_iter().map(|f| f.advice).collect();
    let id = QueueId::from_bytes([7; 16]);
    assert!(
        advice[0]
            .contains(&format!("tell the postmaster of bank.example what `sealpost queue show {id}` says"))
    );
    assert_eq!(advice[1], DeferReason::Dns.advice(true));
    assert!(advice[2].contains("[[destination]] of yours"), "{}", advice[2]);
    assert_eq!(advice[3], "`sealpost queue list --cause of-tomorrow`");
}

#[test]
fn when_nothing_gets_through_at_more_than_one_domain_it_is_our_own_trouble() {
    let hours = |h: u64| Some(now().before(Duration::from_secs(h * 3600)));
    let minutes = |m: u64| now().before(Duration::from_secs(m * 60));
    // What has waited for an hour, and what of it came since the last success: recipients and domains.
    for (name, long, since, last_finished, up, bad) in [
        ("all is still", (16, 16), (16, 16), hours(2), 600, true),
        ("nothing ever got through", (3, 2), (3, 2), None, 600, true),
        ("old mail to many domains", (10, 10), (0, 0), hours(2), 600, true),
        ("others get through", (50, 50), (50, 50), hours(0), 600, false),
        ("one domain is broken", (50, 1), (50, 1), hours(2), 600, false),
        ("a typo or two", (2, 2), (2, 2), hours(2), 600, false),
        ("a night without mail and with some broken domains", (40, 9), (2, 2), hours(9), 600, false),
        ("the relay has just started", (16, 16), (16, 16), hours(2), 14, false),
        ("the relay has had its time", (16, 16), (16, 16), hours(2), 15, true),
    ] {
        let mut s = quiet();
        let share = |(recipients, domains)| Share { recipients, domains };
        s.running.relay.started = minutes(up);
        s.stored.queue.long = share(long);
        s.stored.queue.long_since = share(since);
        s.stored.queue.last_finished = last_finished;
        let found = s.status().look_at;
        let want: &[_] = if bad { &[(Mark::Bad, "queue", "standstill")] } else { &[] };
        assert_eq!(marks(&found), want, "{name}");
    }
}

// STS-50
#[test]
fn a_policy_is_spoken_of_when_it_runs_out_unrefreshed() {
    let day = Duration::from_secs(86_400);
    for (name, mode, since, left, named) in [
        ("soon", crate::mtasts::Mode::Enforce, 8, day, true),
        ("later", crate::mtasts::Mode::Enforce, 1, 6 * day, false),
        ("promises nothing", crate::mtasts::Mode::None, 8, day, false),
        ("is over", crate::mtasts::Mode::Enforce, 8, Duration::ZERO, false),
    ] {
        let mut s = quiet();
        let policy = FailingPolicy {
            domain: domain("a.example"),
            mode,
            since: now().before(since * day),
            expires: now().after(left),
            urgent: false,
            why: "404".to_owned(),
        };
        s.stored.policies.fails(policy, 7 * day, now());
        let found = s.status().look_at;
        assert_eq!(found.len(), usize::from(named), "{name}");
        if let Some(f) = found.first() {
            assert_eq!((f.mark, &*f.subject), (Mark::Note, "a.example"));
            assert!(f.text.contains("ends in 24h, and with it the promise: 404"), "{}", f.text);
            assert!(f.advice.contains("sealpost policy refresh a.example"), "{}", f.advice);
        }
    }
}

#[test]
fn the_first_policies_to_run_out_are_named_in_order() {
    let mut s = quiet();
    for n in [3, 9, 1, 7, 5, 8, 2] {
        let policy = FailingPolicy {
            domain: domain(&format!("d{n}.example")),
            mode: crate::mtasts::Mode::Testing,
            since: now(),
            expires: now().after(Duration::from_secs(n * 86_400)),
            urgent: true,
            why: String::new(),
        };
        s.stored.policies.fails(policy, Duration::from_secs(86_400), now());
    }
    let names: Vec<_> = s.stored.policies.failing_first.iter().map(|p| p.domain.as_str()).collect();
    assert_eq!(names, ["d1.example", "d2.example", "d3.example", "d5.example", "d7.example"]);
    assert_eq!(s.stored.policies.failing, 7);
    assert!(s.stored.policies.failing_first.iter().all(|p| !p.urgent), "they fail only since now");
}

#[test]
fn without_the_relay_that_is_the_first_thing() {
    let s = ordinary();
    let dnssec = crate::status::Dnssec { configured: true, ..Default::default() };
    let silence = Silence::Unexpected("the relay does not answer at 127.0.0.1:8025".to_owned());
    let status = Status::new(now(), s.place, Err((silence, dnssec)), Ok(s.stored));
    assert_eq!(marks(&status.look_at)[0], (Mark::Bad, "relay", "admin.listen"));
    assert!(!status.sound && status.look_at.iter().all(|f| f.check != Check::Dnssec));
    let s = quiet();
    let silence = Silence::Configured;
    let status = Status::new(now(), s.place, Err((silence, Default::default())), Ok(s.stored));
    assert_eq!(marks(&status.look_at), [(Mark::Note, "relay", "admin.listen"), (Mark::Note, "dnssec", "")]);
    assert!(status.sound);
}

// DUR-13: when the database is the trouble, the rest is told all the same.
#[test]
fn a_database_that_cannot_be_read_is_bad_and_hides_nothing_else() {
    let mut s = quiet();
    s.place.disk.as_mut().unwrap().free = 0;
    let status = Status::new(now(), s.place, Ok(s.running), Err("the database failed: malformed".to_owned()));
    assert_eq!(marks(&status.look_at), [(Mark::Bad, "store", ""), (Mark::Bad, "disk", "queue.reserve")]);
    assert!(status.look_at[0].text.contains("malformed") && !status.sound && status.stored.is_none());
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}
