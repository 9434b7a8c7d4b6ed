//! How this relay stands in the eyes of others: what is looked at, and the look of the running relay (`report-standing`).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_util::sync::CancellationToken;

use super::dnssec::SelfTesting;
use super::status::Noticed;
use super::{settings, signing};
use crate::clock::Timestamp;
use crate::config::{Config, IpFamily, Roots as Base};
use crate::delivery::connect::dial;
use crate::dkim::Signers;
use crate::dns::Resolver;
use crate::mail::Domain;
use crate::observe::metrics::Gauge;
use crate::route::resolve::resolve;
use crate::standing::look::{self, Subject};
use crate::standing::relay::{self, BaseRoots, Roots};
use crate::standing::reports::Reporting;
use crate::standing::{Check, Finding, Mark, Source};

/// How often the running relay looks.
const DAILY: Duration = Duration::from_secs(86_400);
/// How long a host may take to answer at port 25.
const DIAL: Duration = Duration::from_secs(10);
/// Hosts that are dialled at most.
const MOST_DIALLED: usize = 6;

/// Whether our TLS reports would be believed.
///
/// # Errors
/// One sentence, when a signing key cannot be read.
pub async fn reports(config: &Config, resolver: &dyn Resolver) -> Result<Vec<Finding>, String> {
    Ok(look::reports(resolver, &subject(config, signing::signers(config)?)).await)
}

/// The relay's own standing; `last_written`: of its database; `probe`: whether port 25 is dialled.
///
/// # Errors
/// One sentence, when a signing key cannot be read.
pub async fn relay(
    config: &Config,
    resolver: &dyn Resolver,
    self_test: &SelfTesting,
    now: Timestamp,
    last_written: Option<Timestamp>,
    probe: bool,
) -> Result<Vec<Finding>, String> {
    let subject = subject(config, signing::signers(config)?);
    let mut findings = look::relay(resolver, &subject).await;
    if probe {
        let tried = reach(config, resolver, &subject).await;
        findings.push(relay::reach(config.delivery.port, &tried));
    }
    self_test.once().await;
    let belief = &self_test.belief;
    findings.push(relay::dnssec(belief.mode(), belief.holds(), belief.trouble(), &belief.words()));
    findings.push(relay::clock(now, last_written));
    findings.extend(relay::roots(now, &roots(config)));
    Ok(findings)
}

/// Looks at start and daily, and warns of what would fail.
pub(super) async fn watch(
    config: Config,
    signers: Signers,
    resolver: Arc<dyn Resolver>,
    problems: Gauge,
    noticed: Arc<Noticed>,
    stop: CancellationToken,
) {
    // Addresses may change, so that the subject is made anew each day.
    let look = async || {
        let findings = look::reports(&*resolver, &subject(&config, signers.clone())).await;
        problems.set(say(&findings));
        noticed.put(findings);
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { look().await; tokio::time::sleep(DAILY).await } => {}
        }
    }
}

/// Warns of what would fail, and says how much that is.
fn say(findings: &[Finding]) -> usize {
    // That reports wait for a sender or a key is said by those who wait.
    let said = |f: &&Finding| f.mark == Mark::Bad && f.check != Check::Configuration;
    for f in findings.iter().filter(said) {
        let (check, subject, advice) = (f.check.as_str(), &f.subject, &f.advice);
        tracing::warn!(event = "report-standing", check, subject, advice, "{}", f.text);
    }
    if crate::standing::sound(findings) {
        tracing::info!(event = "report-standing", "TLS reports would be believed");
    }
    findings.iter().filter(said).count()
}

fn subject(config: &Config, signers: Signers) -> Subject {
    let r = &config.tls_rpt;
    Subject {
        hostname: config.hostname.clone(),
        reporting: Reporting {
            enabled: r.enabled,
            from: r.from.clone(),
            contact: r.contact.clone().or_else(|| r.from.clone()),
        },
        signers,
        sources: sources(config),
        route: settings::route(config),
    }
}

/// Where mail leaves from: as configured, or as the routes of this machine say.
fn sources(config: &Config) -> Vec<Source> {
    let d = &config.delivery;
    let source = |address: IpAddr, ehlo: Option<&Domain>| Source {
        address,
        ehlo: ehlo.unwrap_or(&config.hostname).clone(),
        public: !d.deny_networks.nets.iter().any(|net| net.contains(&address)),
    };
    if !d.source_addresses.is_empty() {
        return d.source_addresses.iter().map(|s| source(s.address, s.ehlo.as_ref())).collect();
    }
    let wanted = |ip: &IpAddr| match d.ip_family {
        IpFamily::Any => true,
        IpFamily::Ipv4 => ip.is_ipv4(),
        IpFamily::Ipv6 => ip.is_ipv6(),
    };
    outgoing().into_iter().filter(wanted).map(|ip| source(ip, None)).collect()
}

/// The addresses that the kernel would send from. A datagram socket is told a destination (of the ranges for
/// documentation), and nothing is sent.
fn outgoing() -> Vec<IpAddr> {
    let pick = |(local, to): (&str, &str)| {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    [("0.0.0.0:0", "198.51.100.1:25"), ("[::]:0", "[2001:db8::1]:25")].into_iter().filter_map(pick).collect()
}

/// Dials MX hosts of the domains that this configuration names.
async fn reach(
    config: &Config,
    resolver: &dyn Resolver,
    subject: &Subject,
) -> Vec<(String, Result<(), String>)> {
    let reporting = &subject.reporting;
    let mut domains: Vec<&Domain> =
        reporting.from.iter().chain(&reporting.contact).map(|m| m.domain()).collect();
    domains.extend(subject.signers.keys().iter().map(crate::dkim::SigningKey::domain));
    domains.sort();
    domains.dedup();
    let routes = join_all(domains.iter().map(|d| resolve(resolver, &subject.route, d, 0))).await;
    let hosts = routes.into_iter().flatten().flat_map(|route| route.hosts);
    let targets: Vec<(String, SocketAddr)> = hosts
        .filter_map(|host| {
            let address = *host.addresses.ok()?.first()?;
            let to = SocketAddr::new(address, config.delivery.port);
            Some((format!("{} ({address})", host.name), to))
        })
        .take(MOST_DIALLED)
        .collect();
    let source = |to: &SocketAddr| {
        let own = config.delivery.source_addresses.iter().map(|s| s.address);
        own.into_iter().find(|ip| ip.is_ipv4() == to.is_ipv4())
    };
    join_all(targets.into_iter().map(async |(name, to)| {
        let dialled = dial(to, source(&to), DIAL).await;
        (name, dialled.map(drop).map_err(|fault| fault.words))
    }))
    .await
}

fn roots(config: &Config) -> Roots {
    let base = match config.trust.roots {
        Base::Webpki => BaseRoots::Compiled,
        Base::System => BaseRoots::System,
        Base::None => BaseRoots::None,
    };
    let extra = config.trust.extra_roots.iter().flat_map(|file| {
        ends(file).into_iter().map(|end| (file.display().to_string(), end)).collect::<Vec<_>>()
    });
    Roots { base, extra: extra.collect() }
}

/// The last days of the certificates in a PEM file; a file that cannot be read has been complained of already.
pub(super) fn ends(file: &Path) -> Vec<Timestamp> {
    let pem = std::fs::read(file).unwrap_or_default();
    let end = |der: CertificateDer<'_>| {
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        Some(Timestamp::from_millis(certificate.validity().not_after.timestamp().saturating_mul(1000)))
    };
    CertificateDer::pem_slice_iter(&pem).flatten().filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::System;

    fn config(text: &str) -> Config {
        let text = format!("hostname = \"relay.example.net\"\n{text}");
        Config::parse(&text, Path::new("/etc/sealpost.toml"), &System::RELAY).unwrap()
    }

    #[test]
    fn sources_are_those_configured_and_only_public_ones_are_seen_outside() {
        let found = sources(&config(
            "[delivery]\nsource_addresses = [\"192.0.2.1\", { address = \"10.0.0.1\", ehlo = \"out.example.net\" }]",
        ));
        let found: Vec<_> =
            found.iter().map(|s| (s.address.to_string(), s.ehlo.as_str(), s.public)).collect();
        assert_eq!(
            found,
            [
                ("192.0.2.1".to_owned(), "relay.example.net", true),
                ("10.0.0.1".to_owned(), "out.example.net", false)
            ]
        );
        // Without them the kernel is asked, whose answer is no wildcard and of the family in use.
        let found = sources(&config("[delivery]\nip_family = \"ipv4\""));
        assert!(found.iter().all(|s| s.address.is_ipv4() && !s.address.is_unspecified()), "{found:?}");
    }

    #[test]
    fn the_contact_is_the_sender_unless_another_is_named() {
        let of =
            |text: &str| subject(&config(text), Signers::default()).reporting.contact.map(|m| m.to_string());
        assert_eq!(of(""), None);
        assert_eq!(of("[tls_rpt]\nfrom = \"r@example.net\"").as_deref(), Some("r@example.net"));
        let both = "[tls_rpt]\nfrom = \"r@example.net\"\ncontact = \"ops@example.net\"";
        assert_eq!(of(both).as_deref(), Some("ops@example.net"));
    }

    #[test]
    fn the_last_day_of_each_extra_authority_is_read() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 5, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, format!("{pem}{pem}")).unwrap();
        let days: Vec<_> = ends(&file).into_iter().map(Timestamp::utc_day).collect();
        assert_eq!(days, ["2030-05-01", "2030-05-01"]);
        assert!(ends(&dir.path().join("missing.pem")).is_empty());
    }
}
