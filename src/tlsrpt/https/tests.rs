//! The poster against a receiver of reports on loopback.

use rcgen::{CertificateParams, date_time_ymd};

use super::*;
use crate::clock::ManualClock;
use crate::config::network::nets_of;
use crate::dns::zone::ZoneResolver;
use crate::https::double::{Server, answer, closed_port};

const HOST: &str = "reports.c.example";
const REPORT: &[u8] = b"\x1f\x8b octets of a report";
const NOW: &str = "2026-11-22T08:00:00Z";

fn poster(server: &Server, zone: &str, settings: PosterSettings) -> HttpsPoster {
    let settings = PosterSettings { port: server.port, roots: Arc::clone(&server.roots), ..settings };
    let clock = ManualClock::new(Timestamp::parse_rfc3339(NOW).unwrap());
    HttpsPoster::new(settings, Arc::new(ZoneResolver::new(zone).unwrap()), Arc::new(clock)).unwrap()
}

async fn post_with(server: &Server, url: &str, settings: PosterSettings) -> Posted {
    let zone = format!("{HOST} A 127.0.0.1");
    poster(server, &zone, settings).post(url, Bytes::from_static(REPORT)).await
}

async fn post(server: &Server) -> Posted {
    post_with(server, &format!("https://{HOST}/v1/tlsrpt?id=abc&token=x=y"), PosterSettings::default()).await
}

fn later(reply: &str, after: Option<u64>) -> Posted {
    Posted::Later { reply: reply.to_owned(), after: after.map(Duration::from_secs) }
}

// RPT-88, RPT-91
#[tokio::test]
async fn one_post_carries_the_octets_and_nothing_about_us() {
    let server = Server::start(HOST, answer("201 Created\r\nSet-Cookie: a=b", b"thanks")).await;
    for _ in 0..2 {
        assert_eq!(post(&server).await, Posted::Accepted { reply: "HTTP 201 Created".to_owned() });
    }
    let requests = server.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let lower = request.to_ascii_lowercase();
        assert!(request.starts_with("POST /v1/tlsrpt?id=abc&token=x=y HTTP/1.1\r\n"), "{request}");
        for wanted in [
            "content-type: application/tlsrpt+gzip\r\n".to_owned(),
            format!("content-length: {}\r\n", REPORT.len()),
            format!("host: {HOST}:{}\r\n", server.port),
        ] {
            assert!(lower.contains(&wanted), "{wanted}: {request}");
        }
        for header in ["cookie", "authorization", "referer", "content-encoding", "transfer-encoding"] {
            assert!(!lower.contains(header), "{request}");
        }
    }
    assert_eq!(*server.bodies.lock().unwrap(), [REPORT, REPORT]);
    assert_eq!(*server.server_names.lock().unwrap(), [Some(HOST.to_owned()), Some(HOST.to_owned())]);
}

// RPT-89
#[tokio::test]
async fn every_status_means_one_thing() {
    let accepted = |reply: &str| Posted::Accepted { reply: reply.to_owned() };
    let refused = |reply: &str| Posted::Refused { reply: reply.to_owned() };
    for (head, body, want) in [
        ("200 OK", "", accepted("HTTP 200 OK")),
        ("202 Accepted", "queued", accepted("HTTP 202 Accepted")),
        ("299 Odd", "", accepted("HTTP 299 <unknown status code>")),
        (
            "301 Moved\r\nLocation: /elsewhere",
            "",
            later("HTTP 301 Moved Permanently: redirects are not followed", None),
        ),
        ("304 Not Modified", "", later("HTTP 304 Not Modified: redirects are not followed", None)),
        ("400 Bad", "not a\x1b report\nsecond", refused("HTTP 400 Bad Request: not a? report")),
        ("401 No", "", refused("HTTP 401 Unauthorized")),
        ("404 No", "<html>no</html>", refused("HTTP 404 Not Found")),
        ("413 Big", "\n\n too big ", refused("HTTP 413 Payload Too Large: too big")),
        ("408 Slow", "", later("HTTP 408 Request Timeout", None)),
        ("429 Often\r\nRetry-After: 120", "", later("HTTP 429 Too Many Requests", Some(120))),
        ("500 Oops", "try later", later("HTTP 500 Internal Server Error: try later", None)),
        (
            "503 Busy\r\nRetry-After: Sun, 22 Nov 2026 08:30:00 GMT",
            "",
            later("HTTP 503 Service Unavailable", Some(1800)),
        ),
        ("503 Busy\r\nRetry-After: 999999", "", later("HTTP 503 Service Unavailable", Some(86400))),
        ("503 Busy\r\nRetry-After: soon", "", later("HTTP 503 Service Unavailable", None)),
        ("600 What", "", later("HTTP 600 <unknown status code>", None)),
    ] {
        let server = Server::start(HOST, answer(head, body.as_bytes())).await;
        assert_eq!(post(&server).await, want, "{head}");
        assert_eq!(server.requests.lock().unwrap().len(), 1, "{head}: asked once");
    }
}

// RPT-89
#[test]
fn retry_after_is_read_in_all_its_forms() {
    let now = Timestamp::parse_rfc3339(NOW).unwrap();
    for (text, want) in [
        ("0", Some(0)),
        (" 3600 ", Some(3600)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Sun, 22 Nov 2026 08:00:30 GMT", Some(30)),
        ("Sunday, 22-Nov-26 08:00:30 GMT", Some(30)),
        ("Sun Nov 22 08:00:30 2026", Some(30)),
        ("Sat, 21 Nov 2026 08:00:30 GMT", Some(0)),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("Sun, 99 Nov 2026 08:00:30 GMT", None),
    ] {
        assert_eq!(retry_after(text, now), want.map(Duration::from_secs), "{text}");
    }
}

// RPT-90
#[tokio::test]
async fn a_certificate_that_does_not_hold_is_a_failed_try_and_nothing_is_sent() {
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let mut expired = named(HOST);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    for (what, params, trusted) in [
        ("unknown root", named(HOST), false),
        ("expired", expired, true),
        ("another name", named("c.example"), true),
    ] {
        let server = Server::with_certificate(answer("200 OK", b""), params, trusted).await;
        match post(&server).await {
            Posted::Later { reply, after: None } => {
                assert!(reply.starts_with("the certificate does not hold: "), "{what}: {reply}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert!(server.requests.lock().unwrap().is_empty(), "{what}");
    }
}

// RPT-91
#[tokio::test]
async fn urls_that_may_not_be_asked_are_refused_without_a_connection() {
    let server = Server::start(HOST, answer("200 OK", b"")).await;
    for url in [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "http://reports.c.example/",
        "ftp://reports.c.example/",
        "file:///etc/passwd",
        "mailto:a@c.example",
        "https://user@reports.c.example/",
        "https://user:secret@reports.c.example/",
        "https://:secret@reports.c.example/",
        "https://localhost/",
        "https:///",
        "https://re_ports.c.example/",
        "reports.c.example",
        "",
    ] {
        let posted = post_with(&server, url, PosterSettings::default()).await;
        assert!(matches!(posted, Posted::Refused { .. }), "{url}: {posted:?}");
    }
    assert!(server.server_names.lock().unwrap().is_empty());
}

// RPT-91
#[tokio::test]
async fn denied_addresses_are_not_dialled() {
    let server = Server::start(HOST, answer("200 OK", b"")).await;
    let deny = ["loopback", "private"].iter().flat_map(|w| nets_of(w).unwrap()).collect::<Vec<_>>();
    for addresses in [&["127.0.0.1"][..], &["127.0.0.1", "10.0.0.1"], &["0.0.0.0"]] {
        let zone: String = addresses.iter().map(|a| format!("{HOST} A {a}\n")).collect();
        let settings = PosterSettings { deny: deny.clone(), ..PosterSettings::default() };
        let posted = poster(&server, &zone, settings).post(&format!("https://{HOST}/"), Bytes::new()).await;
        match posted {
            Posted::Refused { reply } => assert!(reply.contains("deny_networks"), "{reply}"),
            other => panic!("{addresses:?}: {other:?}"),
        }
    }
    assert!(server.server_names.lock().unwrap().is_empty());
}

// RPT-89
#[tokio::test]
async fn what_the_network_does_is_tried_again() {
    let server = Server::start(HOST, answer("200 OK", b"")).await;
    for (zone, want) in [
        ("x.example A 192.0.2.1".to_owned(), "the host has no address"),
        (format!("{HOST} ANY SERVFAIL"), "SERVFAIL"),
    ] {
        let poster = poster(&server, &zone, PosterSettings::default());
        match poster.post(&format!("https://{HOST}/"), Bytes::new()).await {
            Posted::Later { reply, after: None } => assert!(reply.contains(want), "{reply}"),
            other => panic!("{zone}: {other:?}"),
        }
    }
    let closed = closed_port();
    let url = format!("https://{HOST}:{}/", closed.local_addr().unwrap().port());
    let posted = post_with(&server, &url, PosterSettings::default()).await;
    match posted {
        Posted::Later { reply, .. } => assert!(reply.starts_with("no connection: "), "{reply}"),
        other => panic!("{other:?}"),
    }
    let silent = Server::start(HOST, b"220 mail.example ESMTP\r\n".to_vec()).await;
    assert!(matches!(post(&silent).await, Posted::Later { .. }));
}

// RPT-91: stalls, endless bodies and monstrous headers.
#[tokio::test]
async fn nothing_a_receiver_sends_holds_the_poster_or_fills_memory() {
    let url = format!("https://{HOST}/");
    let header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(5 << 20)).into_bytes();
    let server = Server::start(HOST, header).await;
    assert!(matches!(post(&server).await, Posted::Later { .. }), "5 MB of header are no answer");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(800_000)).into_bytes();
    assert!(matches!(post(&Server::start(HOST, many).await).await, Posted::Later { .. }));
    // The deadline is of the whole post: what is to end by its own bounds has all the time, what is to be accepted at the
    // deadline enough to come so far.
    for (octets, millis, accepted) in [
        ("HTTP/1.1 200 OK\r\n\r\nendless", 60_000, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstall", 5000, true),
        ("HTTP/1.1 500 Oops\r\n\r\nendless", 60_000, false),
        ("HTTP/1.1 200 OK\r\nX: stall", 500, false),
        ("stall", 500, false),
    ] {
        let server = Server::start(HOST, octets.as_bytes().to_vec()).await;
        let settings = PosterSettings { timeout: Duration::from_millis(millis), ..PosterSettings::default() };
        let posted = post_with(&server, &url, settings).await;
        assert_eq!(matches!(posted, Posted::Accepted { .. }), accepted, "{octets:?}: {posted:?}");
        assert!(!matches!(posted, Posted::Refused { .. }), "{octets:?}");
    }
}
