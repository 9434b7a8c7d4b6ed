//! Who gets a place, and who has to wait for one.

use std::time::Duration;

use super::*;
use crate::route::smart_host::Rule;

fn lease() -> Lease {
    let message = crate::queue::MessageMeta {
        id: crate::mail::QueueId::from_bytes([1; 16]),
        origin: crate::mail::Origin::Submitted,
        reverse_path: crate::mail::ReversePath::Null,
        ret: None,
        envid: None,
        sender_tls: crate::mail::SenderTls::Unsaid,
        smtputf8: false,
        has_8bit: false,
        size: 1,
        arrived: Timestamp::from_millis(0),
        message_id: String::new(),
    };
    let (id, domain) = (crate::queue::LeaseId(1), d("a.example"));
    Lease { id, message: Arc::new(message), domain, recipients: Vec::new(), content: None }
}

fn d(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

// QUE-31
#[test]
fn a_domain_has_its_own_limit_and_all_have_one() {
    let now = Timestamp::from_millis(0);
    let places = Places::new(3, 2, 1000);
    let a1 = places.take(&d("a.example"), now);
    let a2 = places.take(&d("a.example"), now);
    assert!(a1.is_some() && a2.is_some());
    assert!(places.take(&d("a.example"), now).is_none());
    let b = places.take(&d("b.example"), now);
    assert!(b.is_some());
    assert!(places.take(&d("c.example"), now).is_none(), "three in all");
    drop(b);
    assert!(places.take(&d("c.example"), now).is_some());
}

#[test]
fn a_paused_domain_gets_no_place_until_its_pause_ends() {
    let now = Timestamp::from_millis(0);
    let later = Timestamp::from_millis(60_000);
    let places = Places::new(3, 2, 1000);
    places.close(&d("a.example"), Some(later));
    assert!(places.take(&d("a.example"), now).is_none());
    assert_eq!(places.room(&d("a.example"), now), 0);
    assert_eq!(places.expire_pauses(now), Some(later));
    assert_eq!(places.expire_pauses(later), None);
    assert_eq!(places.room(&d("a.example"), later), 2);
}

// DUR-17
#[test]
fn a_pause_does_not_outlast_a_clock_that_was_set_back() {
    let places = Places::new(3, 2, 1000);
    let noon = Timestamp::from_millis(86_400_000);
    places.close(&d("a.example"), Some(noon.after(Duration::from_secs(600))));
    let yesterday = Timestamp::from_millis(0);
    assert_eq!(places.expire_pauses(yesterday), None);
    assert_eq!(places.room(&d("a.example"), yesterday), 2);
}

// QUE-34
#[test]
fn a_domain_closed_while_it_is_claimed_for_gets_no_worker() {
    let now = Timestamp::from_millis(0);
    let places = Places::new(3, 2, 1000);
    assert_eq!(places.begin_claim(&d("a.example"), 1, now), Some(1));
    assert_eq!(places.room(&d("a.example"), now), 0, "one claim at a time");
    places.close(&d("a.example"), Some(Timestamp::from_millis(60_000)));
    let claimed = places.end_claim(&d("a.example"), vec![lease()], 1, true, now);
    assert_eq!((claimed.mine.is_some(), claimed.others.len(), claimed.back.len()), (false, 0, 1));
    assert_eq!(places.free(), 3);
}

fn limited(rule: Rule) -> Places {
    let rule = Rule { pattern: "*.example".into(), ..rule };
    Places::new(10, 5, 1000).under(Arc::new(Rules::new([rule])))
}

// A wildcard's limits are of each domain that it matches.
#[test]
fn a_rule_has_its_own_number_of_connections_for_each_domain() {
    let now = Timestamp::from_millis(0);
    let places = limited(Rule { max_connections: Some(1), ..Rule::default() });
    let (a, b) = (places.take(&d("a.example"), now), places.take(&d("b.example"), now));
    assert!(a.is_some() && b.is_some());
    assert!(places.take(&d("a.example"), now).is_none());
    assert_eq!((places.room(&d("a.example"), now), places.room(&d("c.example"), now)), (0, 1));
    assert_eq!(places.room(&d("example.net"), now), 5);
}

#[test]
fn mail_of_a_domain_leaves_no_faster_than_its_rate() {
    let (now, name) = (Timestamp::from_millis(0), d("a.example"));
    let later = |ms| Timestamp::from_millis(ms);
    let places = limited(Rule { rate: crate::config::Rate::parse("60/m"), ..Rule::default() });
    assert!(places.take(&name, now).is_some(), "the first");
    assert!(places.take(&name, now).is_none() && places.room(&name, now) == 0);
    assert!(places.take(&d("b.example"), now).is_some(), "another domain has a bucket of its own");
    assert_eq!(places.next_by_rate(now), Some(later(1000)), "what waits is looked for then");
    assert_eq!(places.begin_claim(&name, 5, now), None);
    assert_eq!(places.begin_claim(&name, 5, later(1000)), Some(1));
    let claimed = places.end_claim(&name, Vec::new(), 1, false, later(1000));
    assert!(claimed.others.is_empty());
    assert_eq!(places.room(&name, later(1000)), 1, "nothing was there to be sent");
    // A bucket that is full again says nothing, and is forgotten with its domain.
    places.expire_pauses(later(60_000));
    assert!(places.lock().domains.is_empty());
}

#[test]
fn content_in_memory_is_bounded_and_given_back() {
    let now = Timestamp::from_millis(0);
    let places = Places::new(3, 2, 1000);
    let mut a = places.take(&d("a.example"), now).unwrap();
    let mut b = places.take(&d("b.example"), now).unwrap();
    assert!(a.reserve_content(900));
    assert!(!b.reserve_content(200));
    drop(a);
    assert!(b.reserve_content(200));
}
