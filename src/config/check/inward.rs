//! Checks of what faces submitting applications: listeners, trust, users, their certificate, aliases.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::{Check, count, mailbox, networks, optional, positive_size, rate, socket, word};
use crate::config::raw::{Field, Section, Wrong};
use crate::config::{Listener, ListenerAuth, Protocol, Secret, Submission, Tls, User, defaults, network};
use crate::mail::{Domain, Mailbox};

impl Check<'_> {
    pub(super) fn listeners(&self, root: &Section<'_>, tls: bool) -> Vec<Listener> {
        let sections = root.sections("listener");
        let mut out: Vec<Listener> = Vec::new();
        for section in sections {
            let address =
                section.need("address", "write an IP address and a port, as in \"127.0.0.1:2525\"", |f| {
                    socket(f.string()?)
                });
            let protocol = section.get("protocol", Protocol::Smtp, |f| {
                word(
                    f,
                    &[
                        ("smtp", Protocol::Smtp),
                        ("smtps", Protocol::Smtps),
                        ("http", Protocol::Http),
                        ("https", Protocol::Https),
                    ],
                )
            });
            let auth = section.get("auth", ListenerAuth::Optional, |f| {
                word(f, &[("required", ListenerAuth::Required), ("optional", ListenerAuth::Optional)])
            });
            let right = "write [tls] with certificate and private_key";
            if !tls && matches!(protocol, Protocol::Smtps | Protocol::Https) {
                section.report("protocol", Wrong::new("needs a certificate", right));
            } else if !tls && auth == ListenerAuth::Required && protocol == Protocol::Smtp {
                // Passwords are taken inside TLS only (RFC 4954 §4).
                section.report("auth", Wrong::new("\"required\" needs a certificate", right));
            }
            if let Some(address) = address {
                if address.port() != 0 && out.iter().any(|l| l.address == address) {
                    section.report(
                        "address",
                        Wrong::new(format!("{address} is listened on twice"), "give each listener its own"),
                    );
                }
                out.push(Listener { address, protocol, auth });
            }
            if matches!(protocol, Protocol::Http | Protocol::Https) {
                self.later("listener.protocol = \"http\" or \"https\"");
            }
            section.finish();
        }
        if out.is_empty() {
            out.extend(defaults::LISTENER.parse::<SocketAddr>().map(|address| Listener {
                address,
                protocol: Protocol::Smtp,
                auth: ListenerAuth::Optional,
            }));
        }
        out
    }

    pub(super) fn submission(&self, section: Section<'_>) -> Submission {
        let trust_nat = section.get("trust_nat", false, Field::boolean);
        let standard = || defaults::TRUSTED_NETWORKS.iter().filter_map(|n| network::cidr(n)).collect();
        let trusted_networks = section.opt("trusted_networks", networks).map_or_else(standard, |n| n.nets);
        if !trust_nat {
            for net in &trusted_networks {
                if let Some(wrong) = self.open_relay(net) {
                    section.report("trusted_networks", wrong);
                }
            }
        }
        let max_message_size = section.get("max_message_size", defaults::MAX_MESSAGE_SIZE, positive_size);
        let max_recipients = section.get("max_recipients", defaults::MAX_RECIPIENTS, |f| count(f, 100_000));
        if max_recipients < 100 {
            // RFC 5321 §4.5.3.1.8.
            self.warn("submission.max_recipients: RFC 5321 asks for at least 100");
        }
        let max_connections =
            section.get("max_connections", defaults::MAX_CONNECTIONS_IN, |f| count(f, 100_000));
        let connection_rate = section.get("connection_rate", None, |f| optional(f, rate));
        let user_rate = section.get("user_rate", None, |f| optional(f, rate));
        if connection_rate.is_some() {
            self.later("submission.connection_rate");
        }
        if user_rate.is_some() {
            self.later("submission.user_rate");
        }
        let user = self.users(section.sections("user"));
        section.finish();
        Submission {
            trusted_networks,
            trust_nat,
            max_message_size,
            max_recipients,
            max_connections,
            connection_rate,
            user_rate,
            user,
        }
    }

    /// Why trusting `net` would let strangers relay. Behind a NAT or a container bridge everybody arrives
    /// from the gateway's address.
    fn open_relay(&self, net: &IpNet) -> Option<Wrong> {
        const RIGHT: &str = "name the networks of your own applications, or write trust_nat = true if \
                             nobody else can reach this relay";
        if net.prefix_len() == 0 {
            return Some(Wrong::new(format!("{net} is the whole Internet"), RIGHT));
        }
        let gateway = self.around.gateways().into_iter().find(|g| net.contains(g))?;
        Some(Wrong::new(
            format!("{net} covers the default gateway {gateway}, from which a NAT lets strangers arrive"),
            RIGHT,
        ))
    }

    fn users(&self, sections: Vec<Section<'_>>) -> Vec<User> {
        let mut out: Vec<User> = Vec::new();
        for section in sections {
            let name = section.need("name", "write the name that the application logs in with", |f| match f
                .string()?
            {
                "" => Err(Wrong::new("is empty", "write a name")),
                n if n.chars().any(char::is_control) => {
                    Err(Wrong::new("has a control character", "write printable characters"))
                }
                n => Ok(n.to_owned()),
            });
            let hash = section
                .need("password_hash", "write what `sealpost user hash` prints", |f| self.password_hash(f));
            let allowed_senders =
                section.get("allowed_senders", Vec::new(), |f| f.list(|item| sender(item.string()?)));
            if let (Some(name), Some(password_hash)) = (name, hash) {
                if out.iter().any(|u| u.name == name) {
                    section.report(
                        "name",
                        Wrong::new(format!("\"{name}\" occurs twice"), "give each user a name of its own"),
                    );
                }
                out.push(User { name, password_hash, allowed_senders });
            }
            section.finish();
        }
        out
    }

    fn password_hash(&self, f: &Field<'_>) -> Result<Secret, Wrong> {
        let secret = self.secret(f)?;
        argon2_cost(secret.expose())?;
        Ok(secret)
    }

    pub(super) fn tls(&self, section: Section<'_>, hostname: Option<&Domain>) -> Option<Tls> {
        if !section.written() {
            return None;
        }
        let certificate =
            section.need("certificate", "write a PEM file, leaf first", |f| self.certificate(f));
        let private_key = section.need("private_key", "write a PEM file", |f| self.private_key(f));
        if let (Some(certificate), Some(hostname)) = (&certificate, hostname) {
            self.standing_of_certificate(certificate, hostname);
        }
        if let (Some(certificate), Some(private_key)) = (&certificate, &private_key) {
            self.pair(&section, certificate, private_key);
        }
        section.finish();
        Some(Tls { certificate: certificate?, private_key: private_key? })
    }

    pub(super) fn aliases(&self, section: Section<'_>) -> Vec<(String, Mailbox)> {
        if section.written() {
            self.later("[aliases]");
        }
        let mut out = Vec::new();
        for (name, field) in section.entries() {
            match field.string().and_then(mailbox) {
                Ok(to) => out.push((name, to)),
                Err(w) => field.report(w),
            }
        }
        out
    }
}

/// The most memory (KiB) and rounds that one password check may cost: a client that guesses makes us pay them.
const MOST_COST: (u32, u32) = (1 << 20, 20);

/// Refuses what is no argon2id hash, and one that would cost more than [`MOST_COST`].
fn argon2_cost(text: &str) -> Result<(), Wrong> {
    const RIGHT: &str = "write what `sealpost user hash` prints";
    let no_hash = || Wrong::new("is not an argon2id hash", RIGHT);
    let hash = argon2::PasswordHash::new(text).map_err(|_| no_hash())?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err(no_hash());
    }
    let params = argon2::Params::try_from(&hash).map_err(|_| no_hash())?;
    let (memory, rounds) = MOST_COST;
    if params.m_cost() > memory {
        let wrong = format!("takes {} KiB of memory for every login", params.m_cost());
        return Err(Wrong::new(wrong, format!("make a hash with at most m={memory}; {RIGHT}")));
    }
    if params.t_cost() > rounds {
        let wrong = format!("takes {} rounds for every login", params.t_cost());
        return Err(Wrong::new(wrong, format!("make a hash with at most t={rounds}; {RIGHT}")));
    }
    Ok(())
}

/// `@domain` or a whole address.
fn sender(text: &str) -> Result<String, Wrong> {
    let bad = || {
        Wrong::new(
            format!("\"{text}\" is neither a domain nor an address"),
            "write \"@example.net\" or \"news@example.net\"",
        )
    };
    match text.strip_prefix('@') {
        Some(domain) => Domain::parse(domain).map(|d| format!("@{d}")).map_err(|_| bad()),
        None => Mailbox::parse(text).map(|m| m.to_string()).map_err(|_| bad()),
    }
}
