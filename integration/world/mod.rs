//! The private internet: an authority, DNS, policy hosts, MX hosts and receivers of reports, all on loopback and without root.
//!
//! A [`World`] owns one port number and one network 127.x.y.0/24 that nobody else uses: the port is held on
//! 127.0.0.1, TCP and UDP, as long as the world lives, and x.y is made from it. So any number of worlds run side by
//! side, and one number serves as `delivery.port`, `mta_sts.port` and the port of everything else.
//!
//! | address | what |
//! | --- | --- |
//! | .1 | the relay's submission listener |
//! | .2 | the relay's admin listener |
//! | .3 | the policy hosts, told apart by SNI |
//! | .4 | DNS |
//! | .5 to .9 | real daemons of a scenario |
//! | .10 and up | MX hosts |
//! | .254 | nothing: connections are refused |
//! | ::1 | an MX host, where a scenario wants one |

pub mod ca;
pub mod client;
pub mod collector;
pub mod daemon;
pub mod dns;
pub mod mx;
pub mod policy_host;
pub mod postfix;
pub mod relay;
pub mod scrape;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use tempfile::TempDir;

use ca::{Authority, Flaw};
use collector::Collector;
use dns::Dns;
use mx::MxHost;
use policy_host::PolicyHost;
use relay::{HOSTNAME, Setup};
use sealpost::dkim::{Algorithm, SigningKey, keygen};
use sealpost::mail::Domain;

/// How long anything may take that has to come. It is there to end a test that fails; on a machine that is slow and
/// loaded everything takes its time, and whoever waits for what comes goes on at once.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The last octet of the first MX host.
const FIRST_HOST: u8 = 10;
/// How many MX hosts a network has room for.
const HOSTS: u16 = 244;

/// A private internet of its own.
pub struct World {
    /// The authority that the relay is told to trust.
    pub ca: Authority,
    /// The name server.
    pub dns: Dns,
    /// All policy hosts.
    pub policies: PolicyHost,
    /// The one port of this world.
    pub port: u16,
    /// Scratch space; holds `ca.pem` and whatever a relay or daemon writes.
    pub dir: TempDir,
    next_host: AtomicU16,
    more_networks: Mutex<Vec<TcpListener>>,
    held: Held,
}

/// What keeps the port of a world from everybody else. A socket on all addresses cannot have it while it is held on one.
struct Held {
    tcp: TcpListener,
    _udp: UdpSocket,
    /// That of ::1, until a host takes it; nothing where the machine has no IPv6.
    v6: Mutex<Option<TcpListener>>,
}

impl Held {
    /// A port that is free on all of them.
    fn take() -> Self {
        // Kept until the end, so that no number is tried twice.
        let mut partly_free = Vec::new();
        for _ in 0..100 {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = tcp.local_addr().unwrap().port();
            let udp = free(UdpSocket::bind((Ipv4Addr::LOCALHOST, port)));
            let v6 = free(TcpListener::bind((Ipv6Addr::LOCALHOST, port)));
            if let (Some(udp), Some(v6)) = (udp, v6) {
                return Self { tcp, _udp: udp.unwrap(), v6: Mutex::new(v6.ok()) };
            }
            partly_free.push(tcp);
        }
        panic!("no port is free for TCP and UDP on 127.0.0.1 and for TCP on ::1");
    }
}

/// `None` when somebody else has the port.
fn free<T>(bound: std::io::Result<T>) -> Option<std::io::Result<T>> {
    let in_use = bound.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse);
    (!in_use).then_some(bound)
}

impl World {
    /// Makes a certificate for the listeners of the relay; the keys of its section `[tls]`.
    pub fn certificate_of_relay(&self) -> String {
        let leaf = self.ca.issue(Flaw::None, &["relay.lab.example"]);
        for (file, pem) in [("chain.pem", &leaf.chain_pem), ("key.pem", &leaf.key_pem)] {
            std::fs::write(self.dir.path().join(file), pem).unwrap();
        }
        "certificate = \"chain.pem\"\nprivate_key = \"key.pem\"".to_owned()
    }

    /// Starts DNS and the policy hosts; there is no domain yet.
    pub async fn start() -> Self {
        let held = Held::take();
        let port = held.tcp.local_addr().unwrap().port();
        let ca = Authority::new("Lab authority");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Self {
            dns: Dns::start(address(port, 4)).await,
            policies: PolicyHost::start(address(port, 3)).await,
            ca,
            port,
            dir,
            next_host: AtomicU16::new(0),
            more_networks: Mutex::default(),
            held,
        }
    }

    /// The address with this last octet, with the world's port.
    pub fn address(&self, last: u8) -> SocketAddr {
        address(self.port, last)
    }

    /// A new MX host of this name, sound in every way, with an address in DNS.
    pub async fn mx_host(&self, name: &str) -> MxHost {
        self.open_mx_host(name)
    }

    /// The like, for those who cannot wait; inside a runtime all the same.
    pub fn open_mx_host(&self, name: &str) -> MxHost {
        let at = self.next_address();
        self.dns.a(name, at.ip());
        MxHost::open(name, at, &self.ca.issue(Flaw::None, &[name]))
    }

    /// A sound MX host of this name on ::1, with an address in DNS. There is one such place in a world.
    pub fn open_mx_host_v6(&self, name: &str) -> MxHost {
        let free = self.held.v6.lock().unwrap().take();
        let listener =
            free.expect("::1 is free: no other host has it, and this machine has IPv6 on its loopback");
        let host = MxHost::on(name, listener, &self.ca.issue(Flaw::None, &[name]));
        self.dns.a(name, host.address().ip());
        host
    }

    /// An address that no host has yet. When those of the world's own network are used up it takes another
    /// network, in the same way as the first: by holding the port that the network is made from.
    pub fn next_address(&self) -> SocketAddr {
        let count = self.next_host.fetch_add(1, Ordering::Relaxed);
        let (network, place) = (count / HOSTS, count % HOSTS);
        let last = FIRST_HOST + u8::try_from(place).unwrap();
        if network == 0 {
            return self.address(last);
        }
        let mut more = self.more_networks.lock().unwrap();
        while more.len() < usize::from(network) {
            more.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        }
        let made_from = more[usize::from(network) - 1].local_addr().unwrap().port();
        SocketAddr::new(address(made_from, last).ip(), self.port)
    }

    /// A domain with the one MX host `mx.<domain>`.
    pub async fn domain(&self, domain: &str) -> MxHost {
        let host = self.mx_host(&format!("mx.{domain}")).await;
        self.dns.mx(domain, &[(10, host.name())]);
        host
    }

    /// Publishes an MTA-STS policy for `domain`: record, policy host with a sound certificate, text.
    pub fn publish_policy(&self, domain: &str, id: &str, mode: &str, mx: &[&str]) {
        let host = format!("mta-sts.{domain}");
        self.dns.txt(&format!("_mta-sts.{domain}"), &format!("v=STSv1; id={id};"));
        self.dns.a(&host, self.address(3).ip());
        self.policies.certificate(&host, &self.ca.issue(Flaw::None, &[&host]));
        self.policies.serve(&host, &policy_text(mode, mx));
    }

    /// Makes `domain`, which has an MX host already, a sound sender of TLS reports: a key, and the records that
    /// others look for, those of the address it sends from among them. The answer is the configuration of its relay.
    pub fn reporting(&self, domain: &str) -> Setup {
        let pem = keygen::generate(Algorithm::Ed25519).unwrap();
        let key = SigningKey::from_pem(Domain::parse(domain).unwrap(), "tlsrpt".to_owned(), &pem).unwrap();
        let file = self.dir.path().join("dkim.pem");
        std::fs::write(&file, pem).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        self.dns.txt(key.record_name().as_str(), &key.record().strings().concat());
        self.dns.txt(domain, "v=spf1 +all");
        self.dns.txt(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject");
        let key = "selector = \"tlsrpt\"\nprivate_key = \"dkim.pem\"";
        let source = self.address(1).ip();
        self.dns.a(HOSTNAME, source);
        self.dns.ptr(source, HOSTNAME);
        Setup {
            keys: vec![
                ("tls_rpt", format!("from = \"tls-reports@{domain}\"")),
                ("delivery", format!("source_addresses = [\"{source}\"]")),
            ],
            sections: format!("[[dkim]]\ndomain = \"{domain}\"\n{key}\n"),
            ..Setup::default()
        }
    }

    /// A receiver of reports by HTTPS of this name, with an address in DNS.
    pub async fn collector(&self, name: &str) -> Collector {
        let at = self.next_address();
        self.dns.a(name, at.ip());
        Collector::start(at, &self.ca.issue(Flaw::None, &[name])).await
    }

    /// A domain with one sound MX host that an enforce policy lists.
    pub async fn enforcing_domain(&self, domain: &str) -> MxHost {
        let host = self.domain(domain).await;
        self.publish_policy(domain, "1", "enforce", &[host.name()]);
        host
    }
}

/// The text of a policy that lives for a week.
pub fn policy_text<S: AsRef<str>>(mode: &str, mx: &[S]) -> String {
    let mx: String = mx.iter().map(|m| format!("mx: {}\r\n", m.as_ref())).collect();
    format!("version: STSv1\r\nmode: {mode}\r\n{mx}max_age: 604800\r\n")
}

/// Asks `condition` again until it answers, within `limit`; `None` when it never did.
pub async fn eventually<T>(limit: Duration, condition: impl AsyncFn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition().await {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Returns at once, unless the UTC day is about to end: then when the new one has begun. For scenarios that count in one
/// moment what they call "today so far" in a later one; from here on they have ten minutes of the same day.
pub async fn clear_of_midnight() {
    const DAY: u64 = 86_400;
    const NEEDED: u64 = 600;
    let left = || DAY - UNIX_EPOCH.elapsed().unwrap().as_secs() % DAY;
    while left() < NEEDED {
        tokio::time::sleep(Duration::from_secs(left())).await;
    }
}

/// The one TLS provider of the house, named wherever a configuration is built.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn address(port: u16, last: u8) -> SocketAddr {
    let [high, low] = port.to_be_bytes();
    // 127.0.0.0/24 stays with the machine's own services.
    let high = if high == 0 { 1 } else { high };
    SocketAddr::from((Ipv4Addr::new(127, high, low, last), port))
}
