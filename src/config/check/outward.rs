//! Checks of what faces the Internet: queue, DNS, trust anchors, delivery, destinations.

use std::net::{IpAddr, SocketAddr};

use super::{
    Check, count, domain, lasting, networks, optional, optional_file, port, positive_size, rate, sized, span,
    word,
};
use crate::config::raw::{Field, Section, Wrong};
use crate::config::{
    Delivery, Destination, Dns, Dnssec, IpFamily, MinimumTls, Networks, NextHop, Queue, Roots, SelfTest,
    SourceAddress, Trust, TrustAnchor, defaults,
};
use crate::dns::anchor;
use crate::dns::belief::unvouched;
use crate::mail::Domain;

impl Check<'_> {
    pub(super) fn queue(&self, section: Section<'_>) -> Queue {
        let max_age = section.get("max_age", defaults::MAX_AGE, lasting);
        let retry = section.get("retry", defaults::RETRY.to_vec(), |f| {
            let list = f.list(lasting)?;
            if f.value.as_array().is_some_and(|a| a.is_empty()) {
                return Err(Wrong::new("is empty", "write at least one wait, as in [\"5m\", \"30m\"]"));
            }
            Ok(list)
        });
        let delay_warning_after =
            section.get("delay_warning_after", Some(defaults::DELAY_WARNING_AFTER), |f| optional(f, span));
        if delay_warning_after.is_some_and(|d| d >= max_age) {
            self.warn(
                "queue.delay_warning_after: not shorter than queue.max_age, so no warning is ever sent",
            );
        }
        if max_age < std::time::Duration::from_secs(86400) {
            self.warn("queue.max_age: shorter than a day; RFC 5321 asks for four to five");
        }
        let history = section.get("history", defaults::HISTORY, lasting);
        let history_limit = section.get("history_limit", defaults::HISTORY_LIMIT, positive_size);
        let reserve = section.get("reserve", defaults::RESERVE, sized);
        section.finish();
        Queue { max_age, retry, delay_warning_after, history, history_limit, reserve }
    }

    pub(super) fn dns(&self, section: Section<'_>) -> Dns {
        let servers = section.get("servers", Vec::new(), |f| f.list(|i| server(i.string()?)));
        let dnssec = section.get("dnssec", Dnssec::Auto, |f| {
            word(
                f,
                &[
                    ("auto", Dnssec::Auto),
                    ("trust-ad", Dnssec::TrustAd),
                    ("validate", Dnssec::Validate),
                    ("off", Dnssec::Off),
                ],
            )
        });
        let trusted_servers = section.get("trusted_servers", Vec::new(), |f| f.list(|i| server(i.string()?)));
        if let (Dnssec::TrustAd, Some(server)) = (dnssec, unvouched(&servers, &trusted_servers)) {
            self.warn(format!(
                "dns.dnssec: \"trust-ad\" believes what {} says of DNSSEC, and it is neither a validating resolver of this machine \
                 nor in trusted_servers: whoever is on the way to it can forge that; write \"validate\", or list it where the \
                 way to it is yours",
                server.ip()
            ));
        }
        let trust_anchor = section.get("trust_anchor", None, |f| optional_file(f, |f| self.trust_anchor(f)));
        if trust_anchor.is_some() && dnssec != Dnssec::Validate {
            self.warn("dns.trust_anchor: has an effect with dnssec = \"validate\" only");
        }
        let test = section.section("self_test");
        let name = |f: &Field<'_>| {
            let text = f.string()?;
            if text.is_empty() || text == "." || Domain::parse_host(text).is_ok() {
                Ok(text.to_owned())
            } else {
                Err(Wrong::new(format!("\"{text}\" is not a name"), "write a DNS name, or \"\" for none"))
            }
        };
        let self_test = SelfTest {
            secure: test.get("secure", defaults::SELF_TEST_SECURE.to_owned(), name),
            bogus: test.get("bogus", defaults::SELF_TEST_BOGUS.to_owned(), name),
        };
        test.finish();
        section.finish();
        Dns { servers, dnssec, trusted_servers, trust_anchor, self_test }
    }

    /// A file of root keys.
    fn trust_anchor(&self, f: &Field<'_>) -> Result<TrustAnchor, Wrong> {
        let (path, bytes) = self.file(f)?;
        let text = std::str::from_utf8(&bytes).ok().filter(|t| t.len() <= anchor::LONGEST);
        let found = text.ok_or_else(|| "it is no text of at most 64 KiB".to_owned());
        match found.and_then(|t| anchor::parse(t).map_err(|e| e.to_string())) {
            Ok(anchors) => Ok(TrustAnchor { path, anchors: anchors.into() }),
            Err(e) => Err(Wrong::new(
                format!("{} holds no root keys: {e}", path.display()),
                "name a file of DNSKEY or DS records of the root, as in \". IN DS 20326 8 2 E06D…\"",
            )),
        }
    }

    pub(super) fn trust(&self, section: Section<'_>) -> Trust {
        let roots = section.get("roots", Roots::Webpki, |f| {
            word(f, &[("webpki", Roots::Webpki), ("system", Roots::System), ("none", Roots::None)])
        });
        let extra_roots = section.get("extra_roots", Vec::new(), |f| f.list(|item| self.certificate(item)));
        if roots != Roots::None && !extra_roots.is_empty() {
            self.warn("trust.extra_roots: these authorities may now vouch for every MX and policy host");
        }
        if roots == Roots::None && extra_roots.is_empty() {
            self.warn(
                "trust.roots: \"none\" without extra_roots: no certificate can hold, no policy be fetched",
            );
        }
        section.finish();
        Trust { roots, extra_roots }
    }

    pub(super) fn delivery(&self, section: Section<'_>) -> Delivery {
        let port = section.get("port", defaults::SMTP_PORT, port);
        let ip_family = section.get("ip_family", IpFamily::Any, |f| {
            word(f, &[("any", IpFamily::Any), ("ipv4", IpFamily::Ipv4), ("ipv6", IpFamily::Ipv6)])
        });
        let source_addresses = section.get("source_addresses", Vec::new(), |f| f.list(source_address));
        for (i, source) in source_addresses.iter().enumerate() {
            if source_addresses.iter().take(i).any(|s: &SourceAddress| s.address == source.address) {
                let wrong = format!("{} occurs twice", source.address);
                section.report("source_addresses", Wrong::new(wrong, "write each address once"));
            }
        }
        let standard = Networks::parse(&defaults::DENY_NETWORKS).unwrap_or_default();
        let deny_networks = section.get("deny_networks", standard, networks);
        let allow_networks = section.get("allow_networks", Networks::default(), networks);
        let max_connections =
            section.get("max_connections", defaults::MAX_CONNECTIONS_OUT, |f| count(f, 100_000));
        let max_connections_per_host =
            section.get("max_connections_per_host", defaults::MAX_CONNECTIONS_PER_HOST, |f| count(f, 10_000));
        let max_messages_per_connection =
            section.get("max_messages_per_connection", defaults::MAX_MESSAGES_PER_CONNECTION, |f| {
                count(f, 1_000_000)
            });
        let drain = section.get("drain", defaults::DRAIN, lasting);
        if drain < defaults::DRAIN_SHORT {
            self.warn(
                "delivery.drain: below 60s, so a stop may cut transactions whose mail is then sent twice",
            );
        }
        section.finish();
        Delivery {
            port,
            ip_family,
            source_addresses,
            deny_networks,
            allow_networks,
            max_connections,
            max_connections_per_host,
            max_messages_per_connection,
            drain,
        }
    }

    pub(super) fn destinations(&self, sections: Vec<Section<'_>>) -> Vec<Destination> {
        let mut out: Vec<Destination> = Vec::new();
        for section in sections {
            let pattern = section
                .need("domain", "write a recipient domain, \"*.domain\" or \"*\"", |f| pattern(f.string()?));
            let minimum_tls = section.opt("minimum_tls", |f| {
                word(
                    f,
                    &[
                        ("none", MinimumTls::None),
                        ("encrypt", MinimumTls::Encrypt),
                        ("verify", MinimumTls::Verify),
                        ("dane", MinimumTls::Dane),
                    ],
                )
            });
            let next_hop = section.get("next_hop", None, |f| optional(f, next_hop));
            let user = section.get("user", String::new(), |f| f.string().map(str::to_owned));
            let password = section.opt("password", |f| self.secret(f));
            let roots = section.get("roots", Vec::new(), |f| f.list(|item| self.certificate(item)));
            let rate = section.get("rate", None, |f| optional(f, rate));
            let max_connections = section.opt("max_connections", |f| count(f, 10_000));
            if user.is_empty() == section.has("password") {
                let (has, lacks) = if user.is_empty() { ("password", "user") } else { ("user", "password") };
                section.report(has, Wrong::new("stands alone", format!("write {lacks} too")));
            }
            if !user.is_empty() && password.is_some() && next_hop.is_none() {
                section.report("user", Wrong::new("AUTH without a next hop", "write next_hop too"));
            }
            // OUT-56: what is written must not promise less than what is done.
            if !user.is_empty() && matches!(minimum_tls, Some(MinimumTls::None | MinimumTls::Encrypt)) {
                section.report(
                    "minimum_tls",
                    Wrong::new(
                        "is less than a password needs: it is given over verified TLS only",
                        "write \"verify\" or \"dane\", or leave it out",
                    ),
                );
            }
            if !roots.is_empty() && next_hop.is_none() {
                section.report("roots", Wrong::new("authorities without a next hop", "write next_hop too"));
            }
            let address = next_hop.as_ref().and_then(|h: &NextHop| h.host.parse::<IpAddr>().ok());
            if let Some(address) = address {
                self.address_as_next_hop(&section, address, minimum_tls, !user.is_empty());
            }
            if let Some(domain) = pattern {
                if out.iter().any(|d| d.domain == domain) {
                    section.report(
                        "domain",
                        Wrong::new(format!("\"{domain}\" occurs twice"), "write one section for it"),
                    );
                }
                out.push(Destination {
                    domain,
                    minimum_tls,
                    next_hop,
                    user,
                    password,
                    roots,
                    rate,
                    max_connections,
                });
            }
            section.finish();
        }
        out
    }
}

impl Check<'_> {
    /// A certificate is verified for a name, so that an address never passes.
    fn address_as_next_hop(
        &self,
        section: &Section<'_>,
        address: IpAddr,
        minimum: Option<MinimumTls>,
        auth: bool,
    ) {
        let right = "write the name of the host, or minimum_tls = \"encrypt\" and no user";
        let wrong = format!("{address} is an address, and a certificate is verified for a name");
        match minimum {
            _ if auth => section.report("next_hop", Wrong::new(wrong, right)),
            Some(MinimumTls::Verify | MinimumTls::Dane) => section.report("next_hop", Wrong::new(wrong, right)),
            // Nothing is demanded of a host on this machine (OUT-56).
            None if address.to_canonical().is_loopback() => {}
            None => self.warn(format!(
                "destination.next_hop: {wrong}: unless it is an address of this machine, mail for it waits; {right}"
            )),
            Some(MinimumTls::None | MinimumTls::Encrypt) => {}
        }
    }
}

fn server(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))).map_err(
        |_| {
            Wrong::new(
                format!("\"{text}\" is not an address"),
                "write \"192.0.2.53\", \"192.0.2.53:5353\" or \"[2001:db8::53]:53\"",
            )
        },
    )
}

fn source_address(f: &Field<'_>) -> Result<SourceAddress, Wrong> {
    const RIGHT: &str = "write \"192.0.2.1\" or { address = \"192.0.2.1\", ehlo = \"out.example.net\" }";
    let ip = |f: &Field<'_>| {
        let text = f.string()?;
        text.parse::<IpAddr>().map_err(|_| Wrong::new(format!("\"{text}\" is not an IP address"), RIGHT))
    };
    let Some(section) = f.as_section() else {
        return ip(f).map(|address| SourceAddress { address, ehlo: None });
    };
    let address = section.need("address", RIGHT, ip);
    let ehlo = section.opt("ehlo", |f| domain(f.string()?, "out.example.net"));
    section.finish();
    // What `need` found wrong is reported already; the placeholder never leaves the check.
    Ok(SourceAddress { address: address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)), ehlo })
}

fn pattern(text: &str) -> Result<String, Wrong> {
    let bad = || {
        Wrong::new(format!("\"{text}\" is not a domain"), "write a recipient domain, \"*.domain\" or \"*\"")
    };
    if text == "*" {
        return Ok(text.to_owned());
    }
    match text.strip_prefix("*.") {
        // `*.example` is a pattern too, and `example` alone is not fully qualified.
        Some(rest) if !rest.is_empty() => Domain::parse(&format!("x.{rest}"))
            .map(|d| format!("*.{}", d.as_str().strip_prefix("x.").unwrap_or_default()))
            .map_err(|_| bad()),
        _ => Domain::parse(text).map(|d| d.as_str().to_owned()).map_err(|_| bad()),
    }
}

fn next_hop(text: &str) -> Result<NextHop, Wrong> {
    let bad = || {
        Wrong::new(format!("\"{text}\" is not a next hop"), "write \"host:port\" or \"smtps://host:port\"")
    };
    let (rest, implicit_tls) = text.strip_prefix("smtps://").map_or((text, false), |rest| (rest, true));
    let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<IpAddr>().is_err() && (bare != host || Domain::parse_host(host).is_err()) {
        return Err(bad());
    }
    Ok(NextHop { host: bare.to_ascii_lowercase(), port, implicit_tls })
}
