//! TLSA records without end: a set far beyond what a message of the DNS holds costs time, and decides as a small one does.

use crate::authority::{Authority, Leaf, tlsa};
use crate::server::{Manners, count, serve};
use crate::world::{World, enhanced, words};

const HOST: &str = "mx.example.net";

/// What becomes of mail to a host with this certificate and these records.
async fn fate(leaf: &Leaf, records: &[String]) -> (Vec<&'static str>, String, usize) {
    let tls = leaf.server(&[&rustls::version::TLS13]);
    let (port, ears) = serve("127.0.0.1", 0, Manners { tls: Some(tls), ..Manners::default() }).await;
    let w = World::new(port, Authority::new().tls());
    w.signed_route("a.example", true, &[(HOST, &["127.0.0.1"])]);
    let lines: Vec<String> = records.iter().map(|r| format!("_{port}._tcp.{HOST} TLSA {r}")).collect();
    w.zone.add(&format!("secure {HOST}\n{}", lines.join("\n"))).unwrap();
    let (_, outcomes) = w.deliver("a.example", 1).await;
    (words(&outcomes), enhanced(&outcomes[0]), count(&ears, "MAIL"))
}

// DANE-20, DANE-30: 2 MB of records, none of which may be left out.
#[tokio::test]
async fn two_megabytes_of_records_decide_as_one_does() {
    let authority = Authority::new();
    let leaf = authority.leaf(HOST, |_| {});
    let unusable = (0..1000_u32).map(|n| format!("3 1 77 {}", format!("{n:08x}").repeat(500)));
    let usable = (0..1000_u32).map(|n| format!("3 1 1 {n:064x}"));
    let mut records: Vec<String> = unusable.chain(usable).collect();
    assert!(records.iter().map(|r| r.len() / 2).sum::<usize>() > 2_000_000);
    assert_eq!(fate(&leaf, &records).await, (vec!["deferred"], "4.7.5".to_owned(), 0));
    records.push(leaf.tlsa());
    assert_eq!(fate(&leaf, &records).await.0, ["delivered"]);
    // As many authorities that issued nothing here; each would cost signatures to follow.
    let other = tlsa(2, &Authority::new().certificate());
    let full = vec![other; 1000];
    assert_eq!(fate(&leaf, &full).await, (vec!["deferred"], "4.7.5".to_owned(), 0));
}
