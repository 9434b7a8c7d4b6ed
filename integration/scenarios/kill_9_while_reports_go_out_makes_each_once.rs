//! RPT-70, RPT-93: kill -9 while the reports of a closed day are counted, planned, made and sent, looked at from
//! where they arrive.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sealpost::clock::Timestamp;
use sealpost::mail::Domain;
use sealpost::tlsrpt::read::read;
use sealpost::tlsrpt::{AppliedPolicy, Day, FailureDetail, PolicyVerdict, ResultType, SessionRecord};

use crate::world::relay::Relay;
use crate::world::{PATIENCE, World, clear_of_midnight, eventually};
use crate::{count, relay_with};

/// Report domains with a day behind them at each start.
const DOMAINS: usize = 8;
/// Destinations of each: one by HTTPS, one by mail.
const WAYS: usize = 2;

/// Sessions of that moment with `domain`, two good and one that failed, as a relay that ended before it counted them
/// leaves them behind.
fn sessions(relay: &Relay, domain: &str, at: Timestamp) {
    let domain = Domain::parse(domain).unwrap();
    let database = rusqlite::Connection::open(relay.data_dir().join("queue.db")).unwrap();
    for success in [true, true, false] {
        let details = vec![FailureDetail { result: ResultType::StarttlsNotSupported, reason: None }];
        let verdict = PolicyVerdict {
            policy: AppliedPolicy::NoPolicyFound { domain: domain.clone() },
            success,
            details: if success { vec![] } else { details },
        };
        let record = SessionRecord {
            at,
            report_domain: domain.clone(),
            sending_ip: None,
            mx_host: None,
            mx_helo: None,
            receiving_ip: None,
            verdicts: vec![verdict],
        };
        let body = serde_json::to_string(&record).unwrap();
        database.execute("INSERT INTO session_record (body) VALUES (?1)", [body]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_report_id_for_each_domain_and_none_lost() {
    let kills = count(100);
    clear_of_midnight().await;
    let world = World::start().await;
    world.domain("sender.example").await;
    let host = world.domain("receiver.example").await;
    host.behave(|b| b.dot_delay = Duration::from_millis(10));
    let collector = world.collector("reports.receiver.example").await;
    collector.delay(Duration::from_millis(10));
    let url = format!("https://reports.receiver.example:{}", world.port);
    let arrived = || collector.posts().len() + host.seen().messages.len();

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap() - 86_400_000);
    let day = Day::of(at).to_string();
    let send = ["report", "send", "--day", &day];
    let mut relay = relay_with(&world, world.reporting("sender.example")).await;
    let (mut domains, mut deaths, mut starts) = (BTreeSet::new(), Vec::new(), Vec::new());
    relay.stop().await;
    for kill in 0..kills {
        for n in 0..DOMAINS {
            let domain = format!("d{n}.k{kill}.example");
            let rua = format!("{url}/{domain},mailto:tlsrpt@receiver.example");
            world.dns.txt(&format!("_smtp._tls.{domain}"), &format!("v=TLSRPTv1; rua={rua}"));
            sessions(&relay, &domain, at);
            domains.insert(domain);
        }
        relay.run().await;
        starts.push(Instant::now());
        let before = arrived();
        let dying = async {
            // Which of these steps it dies in is to differ from kill to kill.
            let flowing = async || (arrived() >= before + kill % (DOMAINS * WAYS)).then_some(());
            eventually(PATIENCE, flowing).await.expect("reports arrive");
            tokio::time::sleep(Duration::from_millis(u64::try_from(kill * 13 % 47).unwrap())).await;
            let from = Instant::now();
            relay.signal("KILL").await;
            from
        };
        // The command ends with the relay, or before it.
        let (_, from) = tokio::join!(relay.cli(&send), dying);
        relay.kill().await;
        deaths.push(from);
    }
    relay.run().await;
    starts.push(Instant::now());
    let done = async || {
        relay.cli(&send).await.unwrap();
        relay.cli(&["queue", "retry", "--all", "--yes"]).await.unwrap();
        let list = relay.json(&["report", "list", "--day", &day]).await;
        let list = list.as_array().unwrap();
        // What lies in the queue is noted as accepted at the next look only.
        let mut left = list.iter().flat_map(|r| r["destinations"].as_array().unwrap());
        let sent = list.len() == domains.len() && left.all(|d| d["state"] != "waiting");
        (sent && list.iter().all(|r| r["state"] != "due") && relay.queue().await.is_empty()).then_some(())
    };
    if eventually(PATIENCE, done).await.is_none() {
        panic!("{}\n{}", relay.json(&["report", "list"]).await, relay.log_text());
    }

    let mut copies: HashMap<String, Vec<(String, Instant)>> = HashMap::new();
    let (posts, mails) = (collector.posts(), host.seen().messages.clone());
    let posts = posts.iter().map(|p| ("HTTPS", &p.body, p.at));
    for (way, octets, at) in posts.chain(mails.iter().map(|m| ("mail", &m.content, m.at))) {
        let report = read(octets).remove(0).unwrap();
        assert_eq!(report.date_range.start_datetime, format!("{day}T00:00:00Z"));
        assert_eq!(report.sessions(), (2, 1), "{report:?}");
        let of = format!("{} by {way}", report.policies[0].policy.policy_domain);
        copies.entry(of).or_default().push((report.report_id.clone(), at));
    }
    for domain in &domains {
        let ids = ["HTTPS", "mail"].map(|way| {
            let copies = copies.get(&format!("{domain} by {way}"));
            copies.into_iter().flatten().map(|(id, _)| id).collect::<BTreeSet<_>>()
        });
        assert!(ids[0].len() == 1 && ids[0] == ids[1], "{domain}: {ids:?}");
    }
    assert_eq!(copies.len(), domains.len() * WAYS, "of nobody else");
    // A copy is repeated only when the relay died before it noted the answer. What the dead one has written may be read
    // until the next one has started, and longer by nobody.
    let deaths: Vec<_> = deaths.into_iter().zip(starts.into_iter().skip(1)).collect();
    let mut repeated = 0;
    for (of, copies) in &copies {
        for pair in copies.windows(2) {
            let died = deaths.iter().any(|(from, to)| pair[0].1 <= *to && *from <= pair[1].1);
            assert!(died, "{of} was repeated by a relay that lived");
            repeated += 1;
        }
    }
    eprintln!("{kills} kills, {} reports, 0 lost, {repeated} repeated under their ids", domains.len());
    assert_eq!(relay.session_counts("receiver.example"), (0, 0), "reports leave no trace");
}
