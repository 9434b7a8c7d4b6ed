//! From the tree to the [`Config`], in one step: every key read, every rule held, every error collected.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::raw::{Document, Field, Section, Wrong};
use super::{
    Admin, Config, ConfigErrors, Listener, Log, LogAddresses, LogFormat, Metrics, Networks, Secret,
    SecretSource, Store, Surroundings, defaults, duration, network, size,
};
use crate::mail::{Domain, Mailbox};

mod inward;
pub(super) mod machine;
mod outward;
mod promises;

/// What the sections' checks share.
struct Check<'c> {
    around: &'c dyn Surroundings,
    /// The folder of the configuration file.
    folder: PathBuf,
    warnings: std::cell::RefCell<Vec<String>>,
    no_effect: std::cell::RefCell<Vec<String>>,
}

pub(super) fn check(text: &str, path: &Path, around: &dyn Surroundings) -> Result<Config, ConfigErrors> {
    let doc = Document::new(text, path);
    let (table, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        let at = error.span().map_or(0, |s| s.start);
        doc.report(at, "", Wrong::new(format!("not TOML: {}", error.message()), "see https://toml.io"));
    }
    let broken = !doc.errors().is_empty();
    let check = Check {
        around,
        folder: path.parent().unwrap_or_else(|| Path::new("")).to_owned(),
        warnings: Default::default(),
        no_effect: Default::default(),
    };
    // Of a text that is no TOML, every further complaint would be a guess.
    let config = if broken { None } else { check.whole(Section::root(&doc, table.get_ref()), path) };
    let errors = doc.errors();
    match config {
        Some(mut config) if errors.is_empty() => {
            config.warnings = check.warnings.into_inner();
            config.no_effect = check.no_effect.into_inner();
            Ok(config)
        }
        _ => Err(ConfigErrors(errors)),
    }
}

impl Check<'_> {
    fn whole(&self, root: Section<'_>, path: &Path) -> Option<Config> {
        let hostname = root.need(
            "hostname",
            "write the fully qualified name of this machine, as in hostname = \"relay.example.net\"",
            |f| domain(f.string()?, "relay.example.net"),
        );
        let data_dir = root.get("data_dir", PathBuf::from(defaults::DATA_DIR), |f| self.path(f));
        let postmaster = root.get("postmaster", None, |f| optional(f, mailbox));
        if root.field("postmaster").is_some() {
            self.later("postmaster");
        }
        let aliases = self.aliases(root.section("aliases"));
        let store = root.section("store");
        let kind = store.get("kind", Store::Sqlite, |f| word(f, &[("sqlite", Store::Sqlite)]));
        store.finish();

        let tls_section = root.section("tls");
        let listener = self.listeners(&root, tls_section.written());
        let submission = self.submission(root.section("submission"));
        let tls = self.tls(tls_section, hostname.as_ref());
        let queue = self.queue(root.section("queue"));
        self.room(&data_dir, queue.reserve, submission.max_message_size);
        let dns = self.dns(root.section("dns"));
        let trust = self.trust(root.section("trust"));
        let delivery = self.delivery(root.section("delivery"));
        let mta_sts = self.mta_sts(root.section("mta_sts"));
        let dane = self.dane(root.section("dane"));
        let destination = self.destinations(root.sections("destination"));
        let exception = self.exceptions(root.sections("exception"));
        let dkim = self.dkim(root.sections("dkim"));
        let tls_rpt = self.tls_rpt(root.section("tls_rpt"), &dkim);
        let admin = self.admin(root.section("admin"), &listener);
        let metrics = self.metrics(root.section("metrics"), &listener, &admin);
        let log = self.log(root.section("log"));
        root.finish();

        Some(Config {
            path: path.to_owned(),
            hostname: hostname?,
            data_dir,
            postmaster,
            aliases,
            store: kind,
            listener,
            submission,
            tls,
            queue,
            dns,
            trust,
            delivery,
            mta_sts,
            dane,
            destination,
            exception,
            dkim,
            tls_rpt,
            admin,
            metrics,
            log,
            warnings: Vec::new(),
            no_effect: Vec::new(),
        })
    }

    fn admin(&self, section: Section<'_>, listeners: &[Listener]) -> Admin {
        let listen = section.get("listen", defaults::ADMIN_LISTEN.parse().ok(), |f| optional(f, socket));
        let certificate = section.get("certificate", None, |f| optional_file(f, |f| self.certificate(f)));
        let private_key = section.get("private_key", None, |f| optional_file(f, |f| self.private_key(f)));
        let token = section.get("token", SecretSource::File(defaults::ADMIN_TOKEN_FILE.into()), source);
        if certificate.is_some() != private_key.is_some() {
            let (has, lacks) = if certificate.is_some() {
                ("certificate", "private_key")
            } else {
                ("private_key", "certificate")
            };
            section.report(has, Wrong::new("stands alone", format!("write {lacks} too")));
        }
        if let Some(address) = listen
            && listeners.iter().any(|l| same_socket(l.address, address))
        {
            section.report(
                "listen",
                Wrong::new(
                    format!("{address} is the address of a [[listener]] too"),
                    "give the API and mail a port of their own",
                ),
            );
        }
        // The token and the queue must never cross a network in the clear.
        if let Some(address) = listen.filter(|a| !a.ip().to_canonical().is_loopback()) {
            section.report(
                "listen",
                Wrong::new(
                    format!(
                        "{address} is not a loopback address, and this version serves the API without TLS"
                    ),
                    "listen on 127.0.0.1 or [::1], and come from elsewhere through a tunnel such as ssh -L",
                ),
            );
        }
        if certificate.is_some() {
            self.later("admin.certificate");
        }
        section.finish();
        Admin { listen, certificate, private_key, token }
    }

    fn metrics(&self, section: Section<'_>, listeners: &[Listener], admin: &Admin) -> Metrics {
        let listen = section.get("listen", None, |f| optional(f, socket));
        if let Some(address) = listen {
            let taken = |of: &str| {
                let wrong = format!("{address} is the address of {of} too");
                section.report("listen", Wrong::new(wrong, "give metrics a port of their own"));
            };
            if listeners.iter().any(|l| same_socket(l.address, address) || same_socket(address, l.address)) {
                taken("a [[listener]]");
            }
            if admin.listen.is_some_and(|a| same_socket(address, a) || same_socket(a, address)) {
                taken("[admin], which serves /metrics itself,");
            }
        }
        section.finish();
        Metrics { listen }
    }

    fn log(&self, section: Section<'_>) -> Log {
        let format = section.get("format", LogFormat::Text, |f| {
            word(f, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
        });
        let level = section.get("level", defaults::LOG_LEVEL.to_owned(), |f| {
            let text = f.string()?;
            let right = "write error, warn, info, debug or trace, or a filter such as \
                         \"info,sealpost::delivery=debug\"";
            let plain = ["error", "warn", "info", "debug", "trace", "off"];
            let good = |part: &str| {
                let level = part.rsplit_once('=').map_or(part, |(_, l)| l);
                plain.contains(&level.trim())
            };
            if text.split(',').all(good) {
                Ok(text.to_owned())
            } else {
                Err(Wrong::new(format!("\"{text}\" is no level"), right))
            }
        });
        let addresses = section.get("addresses", LogAddresses::Full, |f| {
            word(f, &[("full", LogAddresses::Full), ("domain", LogAddresses::Domain)])
        });
        section.finish();
        Log { format, level, addresses }
    }

    fn warn(&self, text: impl Into<String>) {
        self.warnings.borrow_mut().push(text.into());
    }

    /// Notes that the operator wrote something that this version does not act on.
    fn later(&self, what: &str) {
        let text = format!("{what} has no effect in this version");
        let mut list = self.no_effect.borrow_mut();
        if !list.contains(&text) {
            list.push(text);
        }
    }

    /// A path, relative to the configuration file.
    fn path(&self, f: &Field<'_>) -> Result<PathBuf, Wrong> {
        match f.string()? {
            "" => Err(Wrong::new("is empty", "write a path")),
            text => Ok(self.folder.join(text)),
        }
    }

    /// A file that must be there, and its content.
    fn file(&self, f: &Field<'_>) -> Result<(PathBuf, Vec<u8>), Wrong> {
        let path = self.path(f)?;
        match self.around.read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(e) => Err(Wrong::new(
                format!("{} cannot be read: {e}", path.display()),
                "name a file that the relay may read",
            )),
        }
    }

    /// A PEM file with at least one certificate.
    fn certificate(&self, f: &Field<'_>) -> Result<PathBuf, Wrong> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let (path, bytes) = self.file(f)?;
        match CertificateDer::pem_slice_iter(&bytes).next() {
            Some(Ok(_)) => Ok(path),
            _ => Err(Wrong::new(
                format!("{} holds no certificate", path.display()),
                "write a PEM file that begins with -----BEGIN CERTIFICATE-----",
            )),
        }
    }

    /// A PEM file with a private key.
    fn private_key(&self, f: &Field<'_>) -> Result<PathBuf, Wrong> {
        use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
        if !self.around.needs_keys() {
            return self.path(f);
        }
        let (path, bytes) = self.file(f)?;
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(_) => Ok(path),
            Err(_) => Err(Wrong::new(
                format!("{} holds no private key", path.display()),
                "write a PEM file that begins with -----BEGIN PRIVATE KEY-----",
            )),
        }
    }

    /// Reports a key that does not belong to the certificate: found at start, not at the first client.
    fn pair(&self, section: &Section<'_>, certificate: &Path, private_key: &Path) {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        if !self.around.needs_keys() {
            return;
        }
        // What cannot be read or parsed is reported by the keys themselves.
        let (Ok(chain), Ok(key)) = (self.around.read(certificate), self.around.read(private_key)) else {
            return;
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).filter_map(Result::ok).collect();
        let Ok(key) = PrivateKeyDer::from_pem_slice(&key) else { return };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let Err(error) = rustls::sign::CertifiedKey::from_der(chain, key, &provider) else { return };
        let wrong = match error {
            rustls::Error::InconsistentKeys(_) => Wrong::new(
                format!("{} is not the key of {}", private_key.display(), certificate.display()),
                "name the key that belongs to the certificate (the first one in that file)",
            ),
            other => Wrong::new(
                format!("{} with {} cannot be used: {other}", private_key.display(), certificate.display()),
                "write an RSA, ECDSA P-256, P-384, P-521 or Ed25519 key, and its certificate",
            ),
        };
        section.report("private_key", wrong);
    }

    /// A secret, read from where it lies.
    fn secret(&self, f: &Field<'_>) -> Result<Secret, Wrong> {
        match source(f)? {
            SecretSource::Inline(secret) => Ok(secret),
            SecretSource::File(path) => {
                let path = self.folder.join(path);
                let bytes = self.around.read(&path).map_err(|e| {
                    Wrong::new(
                        format!("{} cannot be read: {e}", path.display()),
                        "name a file that the relay may read",
                    )
                })?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| Wrong::new(format!("{} is not text", path.display()), "write UTF-8"))?;
                if let Some(mode) = self.around.mode(&path).filter(|mode| mode & 0o007 != 0) {
                    self.warn(format!(
                        "{}: {} has mode {mode:04o}, so that everybody on this machine may use it; chmod 640",
                        f.path,
                        path.display()
                    ));
                }
                Ok(Secret::new(&text))
            }
            SecretSource::Env(name) => self.around.env(&name).map(|v| Secret::new(&v)).ok_or_else(|| {
                Wrong::new(
                    format!("the environment has no variable {name}"),
                    "set it, or use { file = \"…\" }",
                )
            }),
        }
    }
}

/// Whether both cannot be listened on at once. Port 0 stands for any that is free.
fn same_socket(listener: SocketAddr, other: SocketAddr) -> bool {
    let every = listener.ip().is_unspecified() && (listener.is_ipv6() || other.is_ipv4());
    listener.port() == other.port() && listener.port() != 0 && (every || listener.ip() == other.ip())
}

/// An optional value: `""` says "none".
fn optional<T>(f: &Field<'_>, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Result<Option<T>, Wrong> {
    match f.string()? {
        "" => Ok(None),
        text => read(text).map(Some),
    }
}

/// An optional file: `""` says "none".
fn optional_file<T>(
    f: &Field<'_>,
    read: impl FnOnce(&Field<'_>) -> Result<T, Wrong>,
) -> Result<Option<T>, Wrong> {
    if f.string()?.is_empty() { Ok(None) } else { read(f).map(Some) }
}

/// One of a few words.
fn word<T: Copy>(f: &Field<'_>, words: &[(&str, T)]) -> Result<T, Wrong> {
    let right = || {
        let all: Vec<_> = words.iter().map(|(w, _)| format!("\"{w}\"")).collect();
        format!("write {}", all.join(" or "))
    };
    let text = f.string().map_err(|w| Wrong::new(w.wrong, right()))?;
    words
        .iter()
        .find(|(w, _)| *w == text)
        .map(|(_, v)| *v)
        .ok_or_else(|| Wrong::new(format!("\"{text}\" is none of its words"), right()))
}

fn domain(text: &str, example: &str) -> Result<Domain, Wrong> {
    Domain::parse(text).map_err(|e| {
        Wrong::new(
            format!("\"{text}\" is not a fully qualified domain name ({e})"),
            format!("write one such as \"{example}\""),
        )
    })
}

fn mailbox(text: &str) -> Result<Mailbox, Wrong> {
    Mailbox::parse(text).map_err(|e| {
        Wrong::new(format!("\"{text}\" is not a mail address ({e})"), "write one such as \"ops@example.net\"")
    })
}

fn socket(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            format!("\"{text}\" is not an address and port"),
            "write an IP address and a port, as in \"127.0.0.1:2525\" or \"[::1]:2525\"",
        )
    })
}

fn sized(f: &Field<'_>) -> Result<u64, Wrong> {
    let text = f.string().map_err(|w| Wrong::new(w.wrong, size::FORM))?;
    size::parse(text).ok_or_else(|| Wrong::new(format!("\"{text}\" is not a size"), size::FORM))
}

fn positive_size(f: &Field<'_>) -> Result<u64, Wrong> {
    match sized(f)? {
        0 => Err(Wrong::new("is zero", size::FORM)),
        n => Ok(n),
    }
}

fn span(text: &str) -> Result<std::time::Duration, Wrong> {
    let bad = || Wrong::new(format!("\"{text}\" is not a duration"), duration::FORM);
    let d = duration::parse(text).ok_or_else(bad)?;
    if d.is_zero() { Err(Wrong::new("is zero", duration::FORM)) } else { Ok(d) }
}

fn lasting(f: &Field<'_>) -> Result<std::time::Duration, Wrong> {
    span(f.string().map_err(|w| Wrong::new(w.wrong, duration::FORM))?)
}

fn rate(text: &str) -> Result<duration::Rate, Wrong> {
    duration::Rate::parse(text)
        .ok_or_else(|| Wrong::new(format!("\"{text}\" is not a rate"), duration::RATE_FORM))
}

fn port(f: &Field<'_>) -> Result<u16, Wrong> {
    Ok(u16::try_from(f.integer(1..=65535)?).unwrap_or(u16::MAX))
}

fn count(f: &Field<'_>, most: u64) -> Result<usize, Wrong> {
    Ok(usize::try_from(f.integer(1..=most)?).unwrap_or(usize::MAX))
}

fn networks(f: &Field<'_>) -> Result<Networks, Wrong> {
    let texts = f.list(|item| {
        let text = item.string()?;
        network::nets_of(text).map(|_| text.to_owned()).ok_or_else(|| {
            Wrong::new(
                format!("\"{text}\" is not a network"),
                "write a CIDR such as \"10.0.0.0/8\", or loopback, private or link-local",
            )
        })
    })?;
    Ok(Networks::parse(&texts).unwrap_or_default())
}

/// Inline, `{ file = "…" }` or `{ env = "…" }`, unread.
fn source(f: &Field<'_>) -> Result<SecretSource, Wrong> {
    const RIGHT: &str = "write the secret in quotes, { file = \"…\" } or { env = \"…\" }";
    if let Some(text) = f.value.as_str() {
        return if text.is_empty() {
            Err(Wrong::new("is empty", RIGHT))
        } else {
            Ok(SecretSource::Inline(Secret::new(text)))
        };
    }
    let section = f.as_section().ok_or_else(|| Wrong::new("is not a secret", RIGHT))?;
    let text = |f: &Field<'_>| f.string().map(str::to_owned);
    let source = match (section.opt("file", text), section.opt("env", text)) {
        (Some(file), None) if !file.is_empty() => SecretSource::File(file.into()),
        (None, Some(env)) if !env.is_empty() => SecretSource::Env(env),
        _ => return Err(Wrong::new("does not say where the secret is", RIGHT)),
    };
    section.finish();
    Ok(source)
}
