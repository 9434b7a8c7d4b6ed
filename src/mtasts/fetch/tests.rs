//! The fetcher against a policy host on loopback.

use rcgen::{CertificateParams, DnType, date_time_ymd};

use super::*;
use crate::config::network::nets_of;
use crate::dns::zone::ZoneResolver;
use crate::https::double::{Server, answer, closed_port};

const HOST: &str = "mta-sts.d.example";
const BODY: &str = "version: STSv1\nmode: none\nmax_age: 86400\n";

impl Server {
    async fn fetch(&self) -> Result<Vec<u8>, FetchFailure> {
        self.fetch_with(&["127.0.0.1"], FetchSettings::default()).await
    }

    async fn fetch_with(&self, addresses: &[&str], settings: FetchSettings) -> Result<Vec<u8>, FetchFailure> {
        let zone: String = addresses.iter().map(|a| format!("{HOST} A {a}\n")).collect();
        let zone = Arc::new(ZoneResolver::new(&zone).unwrap());
        let settings = FetchSettings { port: self.port, roots: Arc::clone(&self.roots), ..settings };
        let fetcher = HttpsFetcher::new(settings, zone).unwrap();
        fetcher.fetch(&Domain::parse("D.example.").unwrap()).await
    }
}

// STS-15, STS-16, STS-20, STS-21, STS-23
#[tokio::test]
async fn one_plain_get_with_the_policy_hosts_name_brings_the_body() {
    let head =
        "200 OK\r\nContent-Type: Text/Plain; charset=iso-8859-1; x=y\r\nCache-Control: no-store, max-age=0";
    let server = Server::start(HOST, answer(head, BODY.as_bytes())).await;
    for _ in 0..2 {
        assert_eq!(server.fetch().await.unwrap(), BODY.as_bytes());
    }
    let requests = server.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let lower = request.to_ascii_lowercase();
        assert!(request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{request}");
        assert!(lower.contains(&format!("host: {HOST}:{}\r\n", server.port)), "{request}");
        assert!(lower.contains("accept-encoding: identity\r\n"), "{request}");
        for header in ["if-none-match", "if-modified-since", "cookie", "authorization", "referer"] {
            assert!(!lower.contains(header), "{request}");
        }
    }
    assert_eq!(*server.server_names.lock().unwrap(), [Some(HOST.to_owned()), Some(HOST.to_owned())]);
}

// STS-18, STS-19, STS-21, STS-23
#[tokio::test]
async fn any_other_answer_is_a_fetch_error_and_is_not_followed() {
    let text = "Content-Type: text/plain";
    for (head, want) in [
        (format!("201 Created\r\n{text}"), "http-201"),
        (format!("204 No Content\r\n{text}"), "http-204"),
        (format!("206 Partial Content\r\n{text}"), "http-206"),
        (format!("304 Not Modified\r\n{text}"), "http-304"),
        (format!("404 Not Found\r\n{text}"), "http-404"),
        (format!("410 Gone\r\n{text}"), "http-410"),
        (format!("500 Oops\r\n{text}"), "http-500"),
        (format!("301 Moved\r\n{text}\r\nLocation: /policy"), "redirect"),
        (format!("302 Found\r\n{text}\r\nLocation: https://{HOST}/"), "redirect"),
        ("200 OK\r\nContent-Type: text/html".to_owned(), "media-type"),
        ("200 OK\r\nX: y".to_owned(), "media-type"),
        (format!("200 OK\r\n{text}\r\nContent-Encoding: gzip"), "content-encoding"),
    ] {
        let server = Server::start(HOST, answer(&head, BODY.as_bytes())).await;
        let failure = server.fetch().await.unwrap_err();
        assert_eq!(
            (failure.result, failure.reason.as_str()),
            (ResultType::StsPolicyFetchError, want),
            "{head}"
        );
        assert_eq!(server.requests.lock().unwrap().len(), 1, "{head}");
    }
}

// STS-22
#[tokio::test]
async fn a_body_may_have_65536_octets_and_not_one_more() {
    let head = "200 OK\r\nContent-Type: text/plain";
    let exact = vec![b'x'; 65536];
    assert_eq!(Server::start(HOST, answer(head, &exact)).await.fetch().await.unwrap().len(), 65536);
    let announced = answer(head, &[&exact[..], b"x"].concat());
    assert_eq!(Server::start(HOST, announced).await.fetch().await.unwrap_err().reason, "too-large");
    let mut unannounced = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").into_bytes();
    unannounced.extend_from_slice(&exact);
    unannounced.push(b'x');
    assert_eq!(Server::start(HOST, unannounced).await.fetch().await.unwrap_err().reason, "too-large");
}

// STS-22: a policy host that stalls.
#[tokio::test]
async fn a_host_that_stops_in_the_middle_ends_at_the_limit() {
    for sent in [
        "HTTP/1.1 200 OK\r\nX: stall",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nstall",
    ] {
        let server = Server::start(HOST, sent.as_bytes().to_vec()).await;
        let short = FetchSettings { timeout: Duration::from_millis(300), ..FetchSettings::default() };
        assert_eq!(server.fetch_with(&["127.0.0.1"], short).await.unwrap_err().reason, "timeout", "{sent}");
    }
}

// STS-17
#[tokio::test]
async fn the_certificate_must_hold_for_the_policy_host() {
    let good = answer("200 OK\r\nContent-Type: text/plain", BODY.as_bytes());
    let named = |names: &[&str]| {
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
    };
    let mut expired = named(&[HOST]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut future = named(&[HOST]);
    future.not_before = date_time_ymd(2090, 1, 1);
    future.not_after = date_time_ymd(2091, 1, 1);
    let mut common_name = named(&[]);
    common_name.distinguished_name.push(DnType::CommonName, HOST);
    for (what, params, trusted, want) in [
        ("unknown root", named(&[HOST]), false, Some("unknown-issuer")),
        ("expired", expired, true, Some("expired")),
        ("not yet valid", future, true, Some("not-yet-valid")),
        ("the domain's name", named(&["d.example"]), true, Some("host-mismatch")),
        ("common name only", common_name, true, Some("host-mismatch")),
        ("partial wildcard", named(&["mta*.d.example"]), true, Some("host-mismatch")),
        ("wildcard", named(&["*.d.example"]), true, None),
    ] {
        let server = Server::with_certificate(good.clone(), params, trusted).await;
        match (server.fetch().await, want) {
            (Ok(_), None) => {}
            (Err(e), Some(reason)) => {
                assert_eq!(
                    (e.result, e.reason.as_str()),
                    (ResultType::StsWebpkiInvalid, reason),
                    "{what}: {}",
                    e.detail
                );
                assert!(server.requests.lock().unwrap().is_empty(), "{what}");
            }
            (other, _) => panic!("{what}: {other:?}"),
        }
    }
}

// STS-30
#[tokio::test]
async fn denied_addresses_are_not_dialled() {
    let server = Server::start(HOST, answer("200 OK\r\nContent-Type: text/plain", BODY.as_bytes())).await;
    let deny = ["loopback", "private"].iter().flat_map(|w| nets_of(w).unwrap()).collect::<Vec<_>>();
    for addresses in [&["127.0.0.1"][..], &["127.0.0.1", "10.0.0.1"], &["0.0.0.0"]] {
        let settings = FetchSettings { deny: deny.clone(), ..FetchSettings::default() };
        let failure = server.fetch_with(addresses, settings).await.unwrap_err();
        assert_eq!(failure.reason, "policy-host-address-forbidden", "{}", failure.detail);
    }
    let failure = server.fetch_with(&["0.0.0.0"], FetchSettings::default()).await.unwrap_err();
    assert_eq!(failure.reason, "policy-host-address-forbidden", "whatever is configured");
    assert!(server.server_names.lock().unwrap().is_empty());
}

#[tokio::test]
async fn hosts_that_cannot_be_found_or_reached_say_so() {
    let server = Server::start(HOST, Vec::new()).await;
    assert_eq!(server.fetch_with(&[], FetchSettings::default()).await.unwrap_err().reason, "dns");
    let closed = closed_port();
    let nobody = Server { port: closed.local_addr().unwrap().port(), ..server };
    assert_eq!(nobody.fetch().await.unwrap_err().reason, "connect");
}

/// The environment variable that makes a process of this test the one behind the proxy.
const BEHIND_PROXY: &str = "SEALPOST_TEST_BEHIND_PROXY";

// STS-24: the environment is read by a process once, so the fetch runs in one of its own.
#[test]
fn a_proxy_in_the_environment_is_not_asked() {
    if std::env::var_os(BEHIND_PROXY).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fetch = async {
            let server =
                Server::start(HOST, answer("200 OK\r\nContent-Type: text/plain", BODY.as_bytes())).await;
            server.fetch().await
        };
        assert_eq!(runtime.block_on(fetch).unwrap(), BODY.as_bytes());
        return;
    }
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "mtasts::fetch::tests::a_proxy_in_the_environment_is_not_asked"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &url);
    }
    let ran = child.env_remove("no_proxy").env_remove("NO_PROXY").env(BEHIND_PROXY, "1").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "the child ran this test");
    proxy.set_nonblocking(true).unwrap();
    assert_eq!(
        proxy.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "somebody came to the proxy"
    );
}
