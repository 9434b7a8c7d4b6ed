//! `config show`: the effective configuration as TOML, every key written, secrets blanked.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use super::{
    Allow, Config, Dnssec, IpFamily, ListenerAuth, LogAddresses, LogFormat, MinimumTls, Protocol, Roots,
    SecretSource, Store, duration, size,
};

/// What stands where a secret was.
pub(super) const BLANK: &str = "(blanked)";

pub(super) fn show(c: &Config) -> String {
    let mut t = Toml(String::new());
    t.text("hostname", &c.hostname);
    t.path("data_dir", &c.data_dir);
    t.text("postmaster", &or_empty(c.postmaster.as_ref()));
    t.section("[aliases]");
    for (name, to) in &c.aliases {
        t.line(&quoted(name), &quoted(to));
    }
    t.section("[store]");
    t.text(
        "kind",
        match c.store {
            Store::Sqlite => "sqlite",
        },
    );
    inward(&mut t, c);
    outward(&mut t, c);
    promises(&mut t, c);
    t.section("[admin]");
    t.text("listen", &or_empty(c.admin.listen));
    t.path("certificate", c.admin.certificate.as_deref().unwrap_or_else(|| Path::new("")));
    t.path("private_key", c.admin.private_key.as_deref().unwrap_or_else(|| Path::new("")));
    let token = match &c.admin.token {
        SecretSource::Inline(_) => quoted(BLANK),
        SecretSource::File(file) => format!("{{ file = {} }}", quoted(&file.display())),
        SecretSource::Env(name) => format!("{{ env = {} }}", quoted(name)),
    };
    t.line("token", &token);
    t.section("[metrics]");
    t.text("listen", &or_empty(c.metrics.listen));
    t.section("[log]");
    t.text(
        "format",
        match c.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        },
    );
    t.text("level", &c.log.level);
    t.text(
        "addresses",
        match c.log.addresses {
            LogAddresses::Full => "full",
            LogAddresses::Domain => "domain",
        },
    );
    t.0
}

fn inward(t: &mut Toml, c: &Config) {
    for l in &c.listener {
        t.section("[[listener]]");
        t.text("address", &l.address);
        t.text(
            "protocol",
            match l.protocol {
                Protocol::Smtp => "smtp",
                Protocol::Smtps => "smtps",
                Protocol::Http => "http",
                Protocol::Https => "https",
            },
        );
        t.text(
            "auth",
            match l.auth {
                ListenerAuth::Required => "required",
                ListenerAuth::Optional => "optional",
            },
        );
    }
    let s = &c.submission;
    t.section("[submission]");
    t.list("trusted_networks", &s.trusted_networks);
    t.line("trust_nat", &s.trust_nat);
    t.size("max_message_size", s.max_message_size);
    t.line("max_recipients", &s.max_recipients);
    t.line("max_connections", &s.max_connections);
    t.text("connection_rate", &or_empty(s.connection_rate));
    t.text("user_rate", &or_empty(s.user_rate));
    for u in &s.user {
        t.section("[[submission.user]]");
        t.text("name", &u.name);
        t.text("password_hash", BLANK);
        t.list("allowed_senders", &u.allowed_senders);
    }
    if let Some(tls) = &c.tls {
        t.section("[tls]");
        t.path("certificate", &tls.certificate);
        t.path("private_key", &tls.private_key);
    }
}

fn outward(t: &mut Toml, c: &Config) {
    t.section("[queue]");
    t.span("max_age", c.queue.max_age);
    let waits: Vec<_> = c.queue.retry.iter().map(|d| duration::format(*d)).collect();
    t.list("retry", &waits);
    t.text("delay_warning_after", &or_empty(c.queue.delay_warning_after.map(duration::format)));
    t.span("history", c.queue.history);
    t.size("history_limit", c.queue.history_limit);
    t.size("reserve", c.queue.reserve);

    t.section("[dns]");
    t.list("servers", &c.dns.servers);
    t.text(
        "dnssec",
        match c.dns.dnssec {
            Dnssec::Auto => "auto",
            Dnssec::TrustAd => "trust-ad",
            Dnssec::Validate => "validate",
            Dnssec::Off => "off",
        },
    );
    t.list("trusted_servers", &c.dns.trusted_servers);
    t.path("trust_anchor", c.dns.trust_anchor.as_ref().map_or_else(|| Path::new(""), |f| f.path.as_path()));
    let test = &c.dns.self_test;
    t.line("self_test", &format!("{{ secure = {}, bogus = {} }}", quoted(&test.secure), quoted(&test.bogus)));

    t.section("[trust]");
    t.text(
        "roots",
        match c.trust.roots {
            Roots::Webpki => "webpki",
            Roots::System => "system",
            Roots::None => "none",
        },
    );
    t.paths("extra_roots", &c.trust.extra_roots);

    let d = &c.delivery;
    t.section("[delivery]");
    t.line("port", &d.port);
    t.text(
        "ip_family",
        match d.ip_family {
            IpFamily::Any => "any",
            IpFamily::Ipv4 => "ipv4",
            IpFamily::Ipv6 => "ipv6",
        },
    );
    let sources: Vec<_> = d
        .source_addresses
        .iter()
        .map(|s| match &s.ehlo {
            None => quoted(&s.address),
            Some(ehlo) => format!("{{ address = {}, ehlo = {} }}", quoted(&s.address), quoted(ehlo)),
        })
        .collect();
    t.line("source_addresses", &format!("[{}]", sources.join(", ")));
    t.list("deny_networks", &d.deny_networks.written);
    t.list("allow_networks", &d.allow_networks.written);
    t.line("max_connections", &d.max_connections);
    t.line("max_connections_per_host", &d.max_connections_per_host);
    t.line("max_messages_per_connection", &d.max_messages_per_connection);
    t.span("drain", d.drain);
}

fn promises(t: &mut Toml, c: &Config) {
    t.section("[mta_sts]");
    t.line("enabled", &c.mta_sts.enabled);
    t.line("port", &c.mta_sts.port);
    t.span("fetch_timeout", c.mta_sts.fetch_timeout);
    t.size("max_policy_size", c.mta_sts.max_policy_size);
    t.section("[dane]");
    t.line("enabled", &c.dane.enabled);
    t.line("require_both", &c.dane.require_both);
    for d in &c.destination {
        t.section("[[destination]]");
        t.text("domain", &d.domain);
        if let Some(minimum) = d.minimum_tls {
            t.text(
                "minimum_tls",
                match minimum {
                    MinimumTls::None => "none",
                    MinimumTls::Encrypt => "encrypt",
                    MinimumTls::Verify => "verify",
                    MinimumTls::Dane => "dane",
                },
            );
        }
        let hop = d.next_hop.as_ref().map(|h| {
            let scheme = if h.implicit_tls { "smtps://" } else { "" };
            let host = if h.host.contains(':') { format!("[{}]", h.host) } else { h.host.clone() };
            format!("{scheme}{host}:{}", h.port)
        });
        t.text("next_hop", &or_empty(hop));
        t.text("user", &d.user);
        if d.password.is_some() {
            t.text("password", BLANK);
        }
        t.paths("roots", &d.roots);
        t.text("rate", &or_empty(d.rate));
        if let Some(n) = d.max_connections {
            t.line("max_connections", &n);
        }
    }
    for e in &c.exception {
        t.section("[[exception]]");
        t.text("domain", &e.domain);
        t.text(
            "allow",
            match e.allow {
                Allow::Encrypt => "encrypt",
                Allow::Plain => "plain",
            },
        );
        t.text("until", &e.until.utc_day());
        t.text("reason", &e.reason);
        t.text("by", &e.by);
    }
    for d in &c.dkim {
        t.section("[[dkim]]");
        t.text("domain", &d.domain);
        t.text("selector", &d.selector);
        t.path("private_key", &d.private_key);
    }
    let r = &c.tls_rpt;
    t.section("[tls_rpt]");
    t.line("enabled", &r.enabled);
    t.text("organization", &r.organization);
    t.text("from", &or_empty(r.from.as_ref()));
    t.text("contact", &or_empty(r.contact.as_ref()));
    t.span("send_window", r.send_window);
}

/// Lines of TOML.
struct Toml(String);

impl Toml {
    fn section(&mut self, header: &str) {
        let _ = write!(self.0, "\n{header}\n");
    }

    fn line(&mut self, key: &str, value: &(impl Display + ?Sized)) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: &(impl Display + ?Sized)) {
        self.line(key, &quoted(value));
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.text(key, &value.display());
    }

    fn paths(&mut self, key: &str, values: &[std::path::PathBuf]) {
        let all: Vec<_> = values.iter().map(|p| p.display()).collect();
        self.list(key, &all);
    }

    fn list(&mut self, key: &str, values: &[impl Display]) {
        let all: Vec<_> = values.iter().map(quoted).collect();
        self.line(key, &format!("[{}]", all.join(", ")));
    }

    fn size(&mut self, key: &str, octets: u64) {
        self.text(key, &size::format(octets));
    }

    fn span(&mut self, key: &str, d: Duration) {
        self.text(key, &duration::format(d));
    }
}

fn or_empty<T: Display>(value: Option<T>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

/// A TOML basic string.
fn quoted(value: &(impl Display + ?Sized)) -> String {
    toml::Value::String(value.to_string()).to_string()
}
