//! The private internet of the bench: domains that promise verified TLS, and the hosts behind them.
//!
//! Domain n has one MX record, to host n modulo [`HOSTS`], and an MTA-STS policy in enforce mode that lists it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::ca::{Authority, Flaw};
use crate::world::dns::Dns;
use crate::world::policy_host::PolicyHost;
use crate::world::policy_text;

/// Where DNS answers.
pub(crate) const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// MX hosts: 127.0.1.1 and up.
pub(crate) const HOSTS: usize = 16;
/// Recipient domains.
pub(crate) const DOMAINS: usize = 1000;
/// A domain whose only MX host refuses every connection.
pub(crate) const DARK: &str = "dark.test";

const POLICY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 80);
const DARK_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 254);

/// The private internet.
pub(crate) struct Site {
    /// The authority that signed everything, as a PEM file.
    pub(crate) ca_file: PathBuf,
    /// Where DNS answers.
    pub(crate) dns: SocketAddr,
    /// The port of all MX hosts.
    pub(crate) smtp_port: u16,
    /// The port of all policy hosts.
    pub(crate) https_port: u16,
    /// The TLS of each MX host.
    pub(crate) hosts: Vec<(SocketAddr, TlsAcceptor)>,
}

impl Site {
    /// Starts DNS and policy hosts. Without a namespace everything listens on one free port.
    pub(crate) async fn start(dir: &Path, private: bool) -> Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port();
        let (dns_port, smtp_port, https_port) = if private { (53, 25, 443) } else { (free, free, free) };
        let ca = Authority::new("Bench authority");
        let ca_file = dir.join("ca.pem");
        std::fs::write(&ca_file, ca.pem())?;
        let dns_address = SocketAddr::from((DNS_ADDRESS, dns_port));
        let dns = Dns::start(dns_address).await;
        let policies = PolicyHost::start((POLICY_ADDRESS, https_port).into()).await;
        let mut hosts = Vec::new();
        for (n, octet) in (0..HOSTS).zip(1..) {
            let name = host(n);
            let address = Ipv4Addr::new(127, 0, 1, octet);
            dns.a(&name, address.into());
            let config = ca.issue(Flaw::None, &[&name]).server_config();
            hosts.push(((address, smtp_port).into(), TlsAcceptor::from(config)));
        }
        for n in 0..DOMAINS {
            let (domain, host) = (domain(n), host(n % HOSTS));
            let policy_host = format!("mta-sts.{domain}");
            dns.mx(&domain, &[(10, &host)]);
            dns.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=1;");
            dns.a(&policy_host, POLICY_ADDRESS.into());
            policies.certificate(&policy_host, &ca.issue(Flaw::None, &[&policy_host]));
            policies.serve(&policy_host, &policy_text("enforce", &[&host]));
        }
        dns.mx(DARK, &[(10, "mx.dark.test")]);
        dns.a("mx.dark.test", DARK_ADDRESS.into());
        Ok(Self { ca_file, dns: dns_address, smtp_port, https_port, hosts })
    }
}

/// The name of recipient domain `n`.
pub(crate) fn domain(n: usize) -> String {
    format!("d{n}.test")
}

fn host(n: usize) -> String {
    format!("mx{}.hosts.test", n + 1)
}
