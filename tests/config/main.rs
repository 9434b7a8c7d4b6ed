//! The configuration from outside: what is refused and how, what the defaults are, what the starter file says.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use sealpost::clock::Timestamp;
use sealpost::config::{Config, ConfigErrors, Dnssec, Protocol, Surroundings};

mod mistakes;
mod starter;

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
                    cWtKM2VtN0pFbmZpM0Zpa2VtN0pFbmZpM0Zpa2VtN0o";

fn ed25519() -> String {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem()
}

/// A machine with these files, one variable, and a NAT gateway; in the end, whether a day that is over is an error.
struct Machine(HashMap<String, Vec<u8>>, bool);

impl Machine {
    fn new() -> Self {
        let pair = rcgen::generate_simple_self_signed(["relay.example.net".to_owned()]).unwrap();
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let files = [
            ("fullchain.pem", cert),
            ("privkey.pem", key),
            ("dkim.pem", ed25519()),
            ("open.pem", ed25519()),
            ("p256.pem", rcgen::KeyPair::generate().unwrap().serialize_pem()),
            ("app1.hash", format!("{HASH}\n")),
            ("bank.password", "hunter2\n".to_owned()),
            ("open.password", "hunter2\n".to_owned()),
            ("text", "no pem".to_owned()),
            ("root.ds", format!(". IN DS 20326 8 2 {}\n", "e0".repeat(32))),
        ];
        Self(files.into_iter().map(|(n, t)| (format!("/etc/sealpost/{n}"), t.into_bytes())).collect(), true)
    }
}

impl Surroundings for Machine {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path.to_str().unwrap()).cloned().ok_or_else(|| "No such file".to_owned())
    }
    fn mode(&self, path: &Path) -> Option<u32> {
        let mode = [("open.pem", 0o640), ("open.password", 0o644)];
        Some(mode.iter().find(|(name, _)| path.ends_with(name)).map_or(0o600, |(_, mode)| *mode))
    }
    fn env(&self, name: &str) -> Option<String> {
        (name == "HASH").then(|| HASH.to_owned())
    }
    fn gateways(&self) -> Vec<IpAddr> {
        vec!["172.17.0.1".parse().unwrap()]
    }
    fn now(&self) -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()
    }
    fn refuses_past_dates(&self) -> bool {
        self.1
    }
    fn free(&self, path: &Path) -> Option<u64> {
        Some(if path.starts_with("/full") { 256 << 20 } else { 1 << 40 })
    }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/sealpost/sealpost.toml"), &Machine::new())
}

const NAME: &str = "hostname = \"relay.example.net\"\n";

#[test]
fn one_line_makes_a_usable_smart_host() {
    let c = parse(NAME).unwrap();
    assert_eq!(c.listener.len(), 1);
    assert_eq!(c.listener[0].address.to_string(), "127.0.0.1:2525");
    assert_eq!(c.listener[0].protocol, Protocol::Smtp);
    assert_eq!(c.admin.listen.unwrap().to_string(), "127.0.0.1:8025");
    assert_eq!(c.admin_token_file().unwrap(), Path::new("/var/lib/sealpost/admin.token"));
    assert_eq!(c.queue.retry.len(), 7);
    assert!(c.warnings.is_empty() && c.no_effect().is_empty(), "{:?} {:?}", c.warnings, c.no_effect());
}

/// A certificate for `name` until `end`, with its key.
fn tls_files(name: &str, end: (i32, u8, u8)) -> Machine {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut machine = Machine::new();
    let pem = params.self_signed(&key).unwrap().pem();
    machine.0.insert("/etc/sealpost/fullchain.pem".to_owned(), pem.into_bytes());
    machine.0.insert("/etc/sealpost/privkey.pem".to_owned(), key.serialize_pem().into_bytes());
    machine
}

const TLS: &str = "[tls]\ncertificate = \"fullchain.pem\"\nprivate_key = \"privkey.pem\"\n";

// DUR-11, SUB-13
#[test]
fn what_should_be_looked_at_before_it_hurts_is_warned_about() {
    for (name, end, want) in [
        ("relay.example.net", (2027, 1, 1), ""),
        ("*.example.net", (2027, 1, 1), ""),
        ("relay.example.net", (2026, 11, 22), "expired on 2026-11-22"),
        ("relay.example.net", (2026, 12, 1), "expires on 2026-12-01"),
        ("other.example.net", (2027, 1, 1), "is not for relay.example.net"),
    ] {
        let text = format!("{NAME}{TLS}");
        let c =
            Config::parse(&text, Path::new("/etc/sealpost/sealpost.toml"), &tls_files(name, end)).unwrap();
        let about: Vec<_> = c.warnings.iter().filter(|w| w.starts_with("tls.certificate: ")).collect();
        assert_eq!(about.len(), usize::from(!want.is_empty()), "{name} {end:?}: {:?}", c.warnings);
        assert!(about.iter().all(|w| w.contains(want)), "{about:?}");
    }
    let c = parse(&format!("{NAME}data_dir = \"/full/sealpost\"\n")).unwrap();
    assert!(c.warnings.iter().any(|w| w.starts_with("queue.reserve: 256 MiB are free")), "{:?}", c.warnings);
}

// SUB-02
#[test]
fn a_host_name_that_is_not_fully_qualified_is_refused() {
    for (text, want) in [
        ("hostname = \"localhost\"", "1:12: hostname: \"localhost\" is not a fully qualified domain name"),
        ("hostname = \"192.0.2.1\"", "1:12: hostname: "),
        ("", "1:1: hostname: is missing"),
    ] {
        let errors = parse(text).unwrap_err();
        assert!(errors.to_string().contains(want), "{errors}");
    }
}

#[test]
fn a_password_that_cannot_be_read_is_one_mistake() {
    let text = "[[destination]]\ndomain = \"*\"\nnext_hop = \"b.example:25\"\nuser = \"u\"\npassword = { file = \"none\" }\n";
    let errors = parse(&format!("{NAME}{text}")).unwrap_err();
    let keys: Vec<_> = errors.0.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["destination[1].password"]);
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_file() {
    let errors = parse("hostname = \"x\"\n[log]\nlevel = 1\nfoo = 2\n[queue]\nretry = \"5m\"\n").unwrap_err();
    let keys: Vec<_> = errors.0.iter().map(|e| (e.line, e.key.as_str())).collect();
    assert_eq!(keys, [(1, "hostname"), (3, "log.level"), (4, "log.foo"), (6, "queue.retry")]);
}

#[test]
fn a_missing_file_is_one_error_that_names_it() {
    let e = Config::load(Path::new("/nowhere.toml"), &Machine::new()).unwrap_err();
    assert!(e.to_string().starts_with("/nowhere.toml:1:1: the configuration cannot be read"), "{e}");
}

#[test]
fn metrics_may_be_shown_to_other_machines() {
    let c = parse(&format!("{NAME}[metrics]\nlisten = \"0.0.0.0:9100\"\n")).unwrap();
    assert_eq!(c.metrics.listen, Some("0.0.0.0:9100".parse().unwrap()));
    assert!(c.no_effect().is_empty() && c.warnings.is_empty(), "{:?} {:?}", c.no_effect(), c.warnings);
}

#[test]
fn what_has_no_effect_is_named_only_when_written() {
    let c = parse(&format!(
        "{NAME}postmaster = \"a@example.net\"\n[dns]\nself_test = {{ bogus = \"b.example\" }}\n"
    ));
    assert_eq!(c.unwrap().no_effect(), ["postmaster has no effect in this version"]);
}

// DANE-01: the root keys of validation are read with the configuration, and a file of anything else is named.
#[test]
fn root_keys_are_read_and_checked() {
    let text =
        |dnssec: &str, file: &str| format!("{NAME}[dns]\ndnssec = \"{dnssec}\"\ntrust_anchor = \"{file}\"\n");
    let c = parse(&text("validate", "root.ds")).unwrap();
    assert_eq!((c.dns.dnssec, c.no_effect()), (Dnssec::Validate, &[][..]));
    assert_eq!(c.dns.trust_anchor.as_ref().unwrap().anchors.len(), 1);
    let warned = parse(&text("auto", "root.ds")).unwrap().warnings.join("\n");
    assert!(warned.contains("dns.trust_anchor"), "{warned}");
    let e = parse(&text("validate", "text")).unwrap_err().to_string();
    assert!(e.contains("dns.trust_anchor") && e.contains("line 1") && e.contains("DNSKEY or DS"), "{e}");
}

#[test]
fn risky_values_warn() {
    for (text, key) in [
        ("[delivery]\ndrain = \"59s\"", "delivery.drain"),
        ("[mta_sts]\nenabled = false", "mta_sts.enabled"),
        ("[trust]\nextra_roots = [\"fullchain.pem\"]", "trust.extra_roots"),
        ("[queue]\ndelay_warning_after = \"6d\"", "queue.delay_warning_after"),
        ("[[destination]]\ndomain = \"*\"\nnext_hop = \"192.0.2.8:25\"", "destination.next_hop"),
        (
            "[[destination]]\ndomain = \"*\"\nnext_hop = \"b.example:25\"\nuser = \"u\"\npassword = { file = \"open.password\" }",
            "destination[1].password: /etc/sealpost/open.password has mode 0644",
        ),
        (
            "[[exception]]\ndomain = \"a.example\"\nallow = \"plain\"\nuntil = \"2029-12-24\"\nreason = \"r\"\nby = \"b\"",
            "exception.until: the exception for a.example lasts until 2029-12-24",
        ),
    ] {
        let c = parse(&format!("{NAME}{text}")).unwrap();
        assert!(c.warnings.iter().any(|w| w.starts_with(key)), "{text}: {:?}", c.warnings);
    }
    for text in [
        "[delivery]\ndrain = \"60s\"",
        // Nothing is demanded of a next hop on this machine, so that its certificate is not asked for.
        "[[destination]]\ndomain = \"*\"\nnext_hop = \"127.0.0.1:25\"",
        "[[destination]]\ndomain = \"*\"\nnext_hop = \"[::1]:25\"\nminimum_tls = \"encrypt\"",
    ] {
        let c = parse(&format!("{NAME}{text}")).unwrap();
        assert!(c.warnings.is_empty(), "{text}: {:?}", c.warnings);
    }
}

// `config check` refuses an exception whose day is over (the table above); a relay that is started again does not stay down.
#[test]
fn an_exception_that_is_over_only_warns_where_the_relay_is_to_run() {
    let text = format!(
        "{NAME}[[exception]]\ndomain = \"a.example\"\nallow = \"plain\"\nuntil = \"2026-11-21\"\nreason = \"r\"\nby = \"b\"\n"
    );
    let relay = Machine(Machine::new().0, false);
    let c = Config::parse(&text, Path::new("/etc/sealpost/sealpost.toml"), &relay).unwrap();
    assert!(
        c.warnings[0].contains("2026-11-21 is over") && c.warnings[0].contains("no effect"),
        "{:?}",
        c.warnings
    );
    assert!(c.exception[0].until < relay.now());
    let last_day = text.replace("2026-11-21", "2026-11-22");
    assert!(parse(&last_day).is_ok(), "the day itself still counts");
}

// SIG-14
#[test]
fn a_signing_key_that_others_may_read_is_warned_of() {
    let with = |file: &str| {
        let section =
            format!("[[dkim]]\ndomain = \"example.net\"\nselector = \"s1\"\nprivate_key = \"{file}\"\n");
        parse(&format!("{NAME}{section}")).unwrap().warnings
    };
    assert_eq!(with("dkim.pem"), Vec::<String>::new());
    assert_eq!(
        with("open.pem"),
        [
            "dkim.private_key: /etc/sealpost/open.pem has mode 0640, so that others than its owner may use it; chmod 600"
        ]
    );
}

// A wildcard covers what was written, and not the zone above it.
#[test]
fn a_pattern_keeps_every_label() {
    for (written, kept) in [
        ("*.x.com", "*.x.com"),
        ("*.x.x.example", "*.x.x.example"),
        ("*.example", "*.example"),
        ("*.X.Example.NET", "*.x.example.net"),
    ] {
        let c = parse(&format!("{NAME}[[destination]]\ndomain = \"{written}\"\nminimum_tls = \"verify\"\n"));
        assert_eq!(c.unwrap().destination[0].domain, kept, "{written}");
    }
}
