//! The configuration as the rooms know it: each gets a small settings struct of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::interfaces;
use crate::config::{Config, Destination, Dnssec, IpFamily, Listener, ListenerAuth, MinimumTls, Protocol};
use crate::dns;
use crate::dns::belief::{Belief, Mode, unvouched};
use crate::dns::hickory::{DnsSettings, HickoryResolver, Trust};
use crate::queue::RetrySchedule;
use crate::queue::manager::ManagerSettings;
use crate::route::smart_host::{Rule, Rules, SmartHost};
use crate::route::{Families, RouteSettings};
use crate::security::decide::Demand;
use crate::smtp::sasl::Credentials;
use crate::submission::fixup::SenderRule;
use crate::submission::{self, AuthRule};
use crate::tlsrpt::service::ReportSettings;

/// Connections per untrusted source, so that one client cannot take all of them (LIM-13).
const PER_SOURCE: usize = 50;

/// What the submission server is told.
pub(super) fn submission(config: &Config, dnssec: dns::Dnssec) -> submission::Settings {
    let s = &config.submission;
    let users = s.user.iter().map(|u| submission::User {
        name: u.name.clone(),
        password_hash: u.password_hash.expose().to_owned(),
        allowed_senders: u.allowed_senders.iter().filter_map(|rule| SenderRule::parse(rule)).collect(),
    });
    submission::Settings {
        hostname: config.hostname.clone(),
        trusted_networks: s.trusted_networks.clone(),
        max_message_size: s.max_message_size,
        max_recipients: s.max_recipients,
        max_connections: s.max_connections,
        max_connections_per_source: s.max_connections.min(PER_SOURCE),
        reserve: config.queue.reserve,
        users: users.collect(),
        data_dir: config.data_dir.clone(),
        dnssec: requiretls(config, dnssec),
        timers: submission::Timers::default(),
    }
}

/// Whether senders are offered REQUIRETLS: inside TLS only (RTLS-01), where DNSSEC is `proven` and MTA-STS is on. Without
/// either half of the names that can be vouched for could not be (RTLS-29).
pub(super) fn requiretls(config: &Config, proven: dns::Dnssec) -> dns::Dnssec {
    if config.mta_sts.enabled && config.tls.is_some() { proven } else { dns::Dnssec::default() }
}

/// One listener; `None` for protocols that come later.
pub(super) fn listener(listener: &Listener) -> Option<submission::Listener> {
    let protocol = match listener.protocol {
        Protocol::Smtp => submission::Protocol::Smtp,
        Protocol::Smtps => submission::Protocol::Smtps,
        Protocol::Http | Protocol::Https => return None,
    };
    let auth = match listener.auth {
        ListenerAuth::Required => AuthRule::Required,
        ListenerAuth::Optional => AuthRule::Optional,
    };
    Some(submission::Listener { address: listener.address, protocol, auth })
}

/// What the queue is told.
pub(super) fn manager(config: &Config) -> ManagerSettings {
    let q = &config.queue;
    ManagerSettings {
        max_age: q.max_age,
        delay_warning_after: q.delay_warning_after,
        schedule: Arc::new(RetrySchedule::new(q.retry.clone())),
        history: q.history,
        history_limit: q.history_limit,
        places: config.delivery.max_connections,
        rules: Arc::new(rules(config)),
        drain: config.delivery.drain,
        ..ManagerSettings::new(config.hostname.clone())
    }
}

/// What the reports are told.
pub(crate) fn reports(config: &Config) -> ReportSettings {
    let r = &config.tls_rpt;
    ReportSettings {
        enabled: r.enabled,
        organization: r.organization.clone(),
        from: r.from.clone(),
        contact: r.contact.clone(),
        send_window: r.send_window,
        ..ReportSettings::new(config.hostname.clone())
    }
}

/// What routing is told.
pub(crate) fn route(config: &Config) -> RouteSettings {
    let d = &config.delivery;
    RouteSettings {
        hostname: Some(config.hostname.clone()),
        own_listeners: config.listener.iter().flat_map(|l| interfaces::answering(l.address)).collect(),
        port: d.port,
        families: match d.ip_family {
            IpFamily::Any => Families::Any,
            IpFamily::Ipv4 => Families::V4,
            IpFamily::Ipv6 => Families::V6,
        },
        deny: d.deny_networks.nets.clone(),
        allow: d.allow_networks.nets.clone(),
        rules: Arc::new(rules(config)),
    }
}

/// The rules per recipient domain.
pub(crate) fn rules(config: &Config) -> Rules {
    let local = interfaces::local();
    let rule = |(number, d): (u32, &Destination)| Rule {
        number,
        pattern: d.domain.clone(),
        minimum: d.minimum_tls.map(|minimum| match minimum {
            MinimumTls::None => Demand::NOTHING,
            MinimumTls::Encrypt => Demand::ENCRYPTED,
            // A next hop proves itself by the chain and the name that its rule wrote down, and by nothing else.
            MinimumTls::Verify if d.next_hop.is_some() => Demand::PKIX,
            MinimumTls::Verify => Demand::VERIFIED,
            MinimumTls::Dane => Demand::DANE,
        }),
        next_hop: d.next_hop.as_ref().and_then(|h| SmartHost::new(&h.host, h.port, h.implicit_tls, &local)),
        credentials: d
            .password
            .as_ref()
            .map(|password| Credentials { user: d.user.clone(), password: password.expose().to_owned() }),
        own_roots: !d.roots.is_empty(),
        rate: d.rate,
        max_connections: d.max_connections,
    };
    Rules::new((1..).zip(&config.destination).map(rule))
}

/// What the resolver is told, and what is believed of it about DNSSEC (`/readyz`, `check`, the log).
pub(crate) fn dns(config: &Config) -> (DnsSettings, Belief) {
    let base = DnsSettings { servers: config.dns.servers.clone(), ..DnsSettings::default() };
    let servers = if base.servers.is_empty() { system_servers() } else { base.servers.clone() };
    let unvouched = unvouched(&servers, &config.dns.trusted_servers);
    let off = |mode, why: &str| (Trust::Nobody, Belief::new(mode, format!("off: {why}")));
    let resolvers = |why: &str| (Trust::Resolvers, Belief::new(Mode::TrustAd, format!("trust-ad: {why}")));
    let (trust, belief) = match config.dns.dnssec {
        Dnssec::Off => off(Mode::Off, "switched off by dns.dnssec"),
        Dnssec::TrustAd => resolvers("dns.dnssec says so"),
        Dnssec::Auto if !servers.is_empty() && unvouched.is_none() => {
            resolvers("every resolver is on this machine or in dns.trusted_servers")
        }
        Dnssec::Auto => {
            off(Mode::NotLocal, "not every resolver is on this machine or in dns.trusted_servers")
        }
        Dnssec::Validate => {
            let belief = Belief::new(Mode::Validate, "validate: this process validates".to_owned());
            let anchors =
                config.dns.trust_anchor.as_ref().map_or_else(Arc::default, |f| Arc::clone(&f.anchors));
            (Trust::Validation { anchors, believed: belief.now() }, belief)
        }
    };
    // The servers vouched for are the servers asked, whatever becomes of the system's file meanwhile.
    let known_zone = config.dns.self_test.secure.clone();
    (DnsSettings { servers, trust, known_zone, ..base }, belief)
}

fn system_servers() -> Vec<SocketAddr> {
    HickoryResolver::new(DnsSettings::default()).map(|r| r.servers().to_vec()).unwrap_or_default()
}

/// How long a commit waits for another process, and the like, that the store is told.
pub(super) fn longest_wait(config: &Config) -> Duration {
    RetrySchedule::new(config.queue.retry.clone()).longest().max(Duration::from_secs(24 * 3600))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::System;

    // RTLS-01, RTLS-29
    #[test]
    fn requiretls_is_offered_where_names_can_be_vouched_for_and_tls_is() {
        let tls = || Some(crate::config::Tls { certificate: "c".into(), private_key: "k".into() });
        for (mta_sts, tls, proven, offered) in [
            (true, tls(), true, true),
            (true, tls(), false, false),
            (false, tls(), true, false),
            (true, None, true, false),
        ] {
            let text = format!("hostname = \"relay.example.net\"\n[mta_sts]\nenabled = {mta_sts}\n");
            let mut config = Config::parse(&text, Path::new("sealpost.toml"), &System::RELAY).unwrap();
            config.tls = tls;
            let case = (mta_sts, config.tls.is_some(), proven);
            let told = submission(&config, dns::Dnssec::new(proven));
            assert_eq!(told.dnssec.is_believed(), offered, "{case:?}");
        }
    }

    // DANE-01
    #[test]
    fn the_ad_bit_is_believed_of_whom_somebody_vouches_for() {
        for (keys, mode) in [
            ("servers = [\"127.0.0.1:5353\"]", Mode::TrustAd),
            ("servers = [\"127.0.0.11\"]", Mode::NotLocal),
            ("servers = [\"192.0.2.53\"]", Mode::NotLocal),
            ("servers = [\"192.0.2.53\"]\ntrusted_servers = [\"192.0.2.53\"]", Mode::TrustAd),
            ("servers = [\"192.0.2.53\"]\ndnssec = \"trust-ad\"", Mode::TrustAd),
            ("servers = [\"192.0.2.53\"]\ndnssec = \"validate\"", Mode::Validate),
            ("servers = [\"127.0.0.1\"]\ndnssec = \"off\"", Mode::Off),
        ] {
            let text = format!("hostname = \"relay.example.net\"\n[dns]\n{keys}\n");
            let config = Config::parse(&text, Path::new("sealpost.toml"), &System::RELAY).unwrap();
            let (settings, belief) = dns(&config);
            assert_eq!(belief.mode(), mode, "{keys}");
            assert_eq!(matches!(settings.trust, Trust::Nobody), !belief.configured(), "{keys}");
        }
    }
}
