//! The configuration from outside: what is refused and how, what the defaults are, what the starter file says.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;

use sealpost::clock::Timestamp;
use sealpost::config::{Config, ConfigErrors, Dnssec, Protocol, Surroundings};

const STARTER: &str = include_str!("../config/sealpost.toml");
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

/// Text after the first line, then `line:column: key: wrong`, then a part of what would be right.
const BAD: &[(&str, &str, &str)] = &[
    ("hostnam = \"x\"", "2:1: hostnam: unknown key", "is \"hostname\" meant?"),
    ("[queue]\nrety = []", "3:1: queue.rety: unknown key", "is \"retry\" meant?"),
    (
        "[[listener]]\naddress = \"127.0.0.1:8025\"",
        "1:1: admin.listen: 127.0.0.1:8025 is the address of a",
        "a port of their own",
    ),
    (
        "[[listener]]\naddress = \"[::]:99\"\n[admin]\nlisten = \"127.0.0.1:99\"",
        "5:10: admin.listen: 127.0.0.1:99 is the address of a [[listener]] too",
        "a port of their own",
    ),
    (
        "[metrics]\nlisten = \"9100\"",
        "3:10: metrics.listen: \"9100\" is not an address and port",
        "\"127.0.0.1:2525\"",
    ),
    (
        "[metrics]\nlisten = \"0.0.0.0:2525\"",
        "3:10: metrics.listen: 0.0.0.0:2525 is the address of a [[listener]] too",
        "a port of their own",
    ),
    (
        "[metrics]\nlisten = \"[::]:8025\"",
        "3:10: metrics.listen: [::]:8025 is the address of [admin], which serves /metrics itself, too",
        "a port of their own",
    ),
    ("[nonsense]", "2:2: nonsense: unknown key", "the keys here are hostname"),
    ("[queue]\nmax_age = 5", "3:11: queue.max_age: found an integer", "\"5d\""),
    ("[queue]\nmax_age = \"5 days\"", "3:11: queue.max_age: \"5 days\" is not a duration", "\"5d\""),
    ("[queue]\nretry = []", "3:9: queue.retry: is empty", "at least one wait"),
    ("[queue]\nretry = [\"5m\", \"x\"]", "3:16: queue.retry[2]: \"x\" is not a duration", "\"5m\""),
    ("[queue]\nreserve = \"1 MB\"", "3:11: queue.reserve: \"1 MB\" is not a size", "\"25 MiB\""),
    ("queue = 1", "2:9: queue: found an integer", "[queue]"),
    ("[listener]", "2:1: listener: found a table", "[[listener]]"),
    ("[[listener]]\nprotocol = \"smtp\"", "2:1: listener[1].address: is missing", "127.0.0.1:2525"),
    (
        "[[listener]]\naddress = \"localhost:25\"",
        "3:11: listener[1].address: \"localhost:25\" is not",
        "port",
    ),
    (
        "[[listener]]\naddress = \"[::]:25\"\nauth = \"required\"",
        "4:8: listener[1].auth: \"required\" needs",
        "[tls]",
    ),
    (
        "[[listener]]\naddress = \"[::]:465\"\nprotocol = \"smtps\"",
        "4:12: listener[1].protocol: needs",
        "[tls]",
    ),
    ("[submission]\nmax_recipients = 0", "3:18: submission.max_recipients: 0 is out of range", "from 1"),
    ("[submission]\nuser_rate = \"100\"", "3:13: submission.user_rate: \"100\" is not a rate", "100/m"),
    ("[submission]\ntrusted_networks = [\"10.0.0.0/99\"]", "3:21: submission.trusted_networks[1]: ", "CIDR"),
    (
        "[submission]\ntrusted_networks = [\"0.0.0.0/0\"]",
        "3:20: submission.trusted_networks: 0.0.0.0/0 is the whole",
        "trust_nat",
    ),
    (
        "[submission]\ntrusted_networks = [\"172.17.0.0/16\"]",
        "3:20: submission.trusted_networks: 172.17.0.0/16 covers the default gateway 172.17.0.1",
        "trust_nat",
    ),
    (
        "[[submission.user]]\nname = \"a\"\npassword_hash = \"secret\"",
        "4:17: submission.user[1].password_hash: is not an argon2id hash",
        "user hash",
    ),
    (
        "[[submission.user]]\nname = \"a\"\npassword_hash = { file = \"none\" }",
        "4:17: submission.user[1].password_hash: /etc/sealpost/none cannot be read",
        "may read",
    ),
    (
        "[[submission.user]]\nname = \"a\"\npassword_hash = { env = \"NONE\" }",
        "4:17: submission.user[1].password_hash: the environment has no variable NONE",
        "set it",
    ),
    (
        "[[submission.user]]\nname = \"a\"\npassword_hash = { fil = \"x\" }",
        "4:17: submission.user[1].password_hash: does not say where",
        "{ file = ",
    ),
    (
        "[tls]\ncertificate = \"none.pem\"\nprivate_key = \"privkey.pem\"",
        "3:15: tls.certificate: /etc/sealpost/none.pem cannot be read: No such file",
        "may read",
    ),
    (
        "[tls]\ncertificate = \"text\"\nprivate_key = \"privkey.pem\"",
        "3:15: tls.certificate: /etc/sealpost/text holds no certificate",
        "BEGIN CERTIFICATE",
    ),
    (
        "[tls]\ncertificate = \"fullchain.pem\"\nprivate_key = \"fullchain.pem\"",
        "4:15: tls.private_key: /etc/sealpost/fullchain.pem holds no private key",
        "PRIVATE KEY",
    ),
    (
        "[tls]\ncertificate = \"fullchain.pem\"\nprivate_key = \"dkim.pem\"",
        "4:15: tls.private_key: /etc/sealpost/dkim.pem is not the key of /etc/sealpost/fullchain.pem",
        "belongs to the certificate",
    ),
    ("[tls]\ncertificate = \"fullchain.pem\"", "2:1: tls.private_key: is missing", "PEM"),
    (
        "[[submission.user]]\nname = \"a\"\npassword_hash = \"$argon2id$v=19$m=1048577,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$cWtKM2VtN0pFbmZpM0Zpa2VtN0pFbmZpM0Zpa2VtN0o\"",
        "4:17: submission.user[1].password_hash: takes 1048577 KiB of memory",
        "m=1048576",
    ),
    (
        "[[submission.user]]\nname = \"a\"\npassword_hash = \"$argon2id$v=19$m=64,t=21,p=1$c29tZXNhbHRzb21lc2FsdA$cWtKM2VtN0pFbmZpM0Zpa2VtN0pFbmZpM0Zpa2VtN0o\"",
        "4:17: submission.user[1].password_hash: takes 21 rounds",
        "t=20",
    ),
    ("[dns]\ntrusted_servers = [\"192.0.2.53:\"]", "3:20: dns.trusted_servers[1]: ", "192.0.2.53:5353"),
    ("[dns]\nservers = [\"resolver\"]", "3:12: dns.servers[1]: \"resolver\" is not an address", "192.0.2.53"),
    ("[dns]\ndnssec = \"on\"", "3:10: dns.dnssec: \"on\" is none of its words", "\"trust-ad\""),
    ("[trust]\nextra_roots = [\"text\"]", "3:16: trust.extra_roots[1]: /etc/sealpost/text holds no", "BEGIN"),
    ("[delivery]\nport = 65536", "3:8: delivery.port: 65536 is out of range", "1 to 65535"),
    (
        "[delivery]\ndeny_networks = [\"privat\"]",
        "3:18: delivery.deny_networks[1]: \"privat\" is not",
        "private",
    ),
    ("[mta_sts]\nenabled = \"yes\"", "3:11: mta_sts.enabled: found a string", "true or false"),
    ("[[destination]]\ndomain = \"*.\"", "3:10: destination[1].domain: \"*.\" is not a domain", "*.domain"),
    (
        "[[destination]]\ndomain = \"a.example\"\nnext_hop = \"b.example\"",
        "4:12: destination[1].next_hop: ",
        "host:port",
    ),
    (
        "[[destination]]\ndomain = \"a.example\"\nuser = \"u\"",
        "4:8: destination[1].user: stands alone",
        "password",
    ),
    (
        "[[destination]]\ndomain = \"a.example\"\nnext_hop = \"b.example:25\"\nuser = \"u\"\npassword = \"p\"\nminimum_tls = \"encrypt\"",
        "7:15: destination[1].minimum_tls: is less than a password needs",
        "verify",
    ),
    (
        "[[destination]]\ndomain = \"a.example\"\nroots = [\"fullchain.pem\"]",
        "4:9: destination[1].roots: authorities without a next hop",
        "next_hop",
    ),
    (
        "[[destination]]\ndomain = \"a.example\"\nnext_hop = \"192.0.2.8:25\"\nminimum_tls = \"verify\"",
        "4:12: destination[1].next_hop: 192.0.2.8 is an address",
        "name of the host",
    ),
    (
        "[delivery]\nsource_addresses = [\"192.0.2.1\", { address = \"192.0.2.1\", ehlo = \"a.example\" }]",
        "3:20: delivery.source_addresses: 192.0.2.1 occurs twice",
        "once",
    ),
    (
        "[[exception]]\ndomain = \"com\"\nallow = \"plain\"\nuntil = \"2026-12-24\"\nreason = \"r\"\nby = \"b\"",
        "3:10: exception[1].domain: \"com\" is a whole top-level domain",
        "recipient domain",
    ),
    (
        "[[exception]]\ndomain = \"*.a.example\"\nallow = \"plain\"\nuntil = \"2026-12-24\"\nreason = \"r\"\nby = \"b\"",
        "3:10: exception[1].domain: has a wildcard",
        "per domain",
    ),
    (
        "[[exception]]\ndomain = \"a.example\"\nallow = \"plain\"\nuntil = \"2026-11-21\"\nreason = \"r\"\nby = \"b\"",
        "5:9: exception[1].until: 2026-11-21 is over",
        "lies ahead",
    ),
    (
        "[[exception]]\ndomain = \"a.example\"\nallow = \"plain\"\nuntil = \"2026-12-24\"\nreason = \"r\"\nby = \"b\"\n\
         [[exception]]\ndomain = \"A.example\"\nallow = \"encrypt\"\nuntil = \"2026-12-25\"\nreason = \"r\"\nby = \"b\"",
        "9:10: exception[2].domain: \"a.example\" occurs twice",
        "one [[exception]]",
    ),
    (
        "[[exception]]\ndomain = \"a.example\"\nallow = \"plain\"\nuntil = 2026-12-24\nreason = \"r\"\nby = \"b\"",
        "5:9: exception[1].until: found a datetime",
        "in quotes",
    ),
    (
        "[[dkim]]\ndomain = \"example.net\"\nselector = \"s1\"\nprivate_key = \"none\"",
        "5:15: dkim[1].private_key: /etc/sealpost/none cannot be read",
        "may read",
    ),
    (
        "[[dkim]]\ndomain = \"example.net\"\nselector = \"s1\"\nprivate_key = \"p256.pem\"",
        "5:15: dkim[1].private_key: /etc/sealpost/p256.pem holds no RSA key of 2048 to 8192 bits",
        "dkim keygen",
    ),
    (
        "[[dkim]]\ndomain = \"example.net\"\nselector = \"s1\"\nprivate_key = \"text\"",
        "5:15: dkim[1].private_key: /etc/sealpost/text holds no private key",
        "dkim keygen",
    ),
    (
        "[tls_rpt]\nsend_window = \"25h\"",
        "3:15: tls_rpt.send_window: is longer than a day",
        "at most \"24h\"",
    ),
    (
        "[tls_rpt]\nfrom = \"a@example.net\"\ncontact = \"b@example.org\"",
        "4:11: tls_rpt.contact: its domain example.org",
        "example.net",
    ),
    (
        "[admin]\nlisten = \"0.0.0.0:8025\"",
        "3:10: admin.listen: 0.0.0.0:8025 is not a loopback address",
        "without TLS",
    ),
    (
        "[admin]\nlisten = \"192.0.2.1:8025\"\ncertificate = \"fullchain.pem\"\nprivate_key = \"privkey.pem\"",
        "3:10: admin.listen: 192.0.2.1:8025 is not a loopback address",
        "127.0.0.1",
    ),
    ("[log]\nlevel = \"loud\"", "3:9: log.level: \"loud\" is no level", "info"),
    ("x = [", "", "toml.io"),
    ("hostname = \"b.example.net\"", "2:1: not TOML", "toml.io"),
];

#[test]
fn every_mistake_is_named_with_line_key_and_what_is_right() {
    let mut missed = Vec::new();
    for (text, wrong, right) in BAD {
        let errors = parse(&format!("{NAME}{text}")).expect_err(text);
        let want = format!("/etc/sealpost/sealpost.toml:{wrong}");
        let first = errors.0.first().unwrap().to_string();
        if !first.starts_with(want.trim_end_matches(':')) || !first.contains(right) || errors.0.len() != 1 {
            missed.push(format!("{text}\n  is told: {errors}\n  not: {wrong} … {right}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
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
    assert!(parse(&format!("{NAME}[delivery]\ndrain = \"60s\"")).unwrap().warnings.is_empty());
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

/// The starter file with its defaults, and perhaps its examples, put to use.
fn uncommented(examples: bool) -> String {
    let mut out = String::new();
    for line in STARTER.lines() {
        let line = match (line.strip_prefix("#: "), line.strip_prefix('#')) {
            (Some(example), _) => Some(example).filter(|_| examples),
            (None, Some(rest)) => Some(rest).filter(|r| !r.is_empty() && !r.starts_with(' ')),
            (None, None) => Some(line),
        };
        out.push_str(line.unwrap_or(""));
        out.push('\n');
    }
    out
}

#[test]
fn the_starter_file_shows_the_defaults_and_nothing_else() {
    let defaults = parse(NAME).unwrap().show();
    assert_eq!(parse(STARTER).unwrap().show(), defaults, "as it is");
    assert_eq!(parse(&uncommented(false)).unwrap_or_else(|e| panic!("{e}")).show(), defaults, "un-commented");
}

#[test]
fn the_starter_file_shows_every_key() {
    let full = parse(&uncommented(true)).unwrap_or_else(|e| panic!("{e}")).show();
    let keys = |text: &str| -> BTreeSet<String> {
        let mut section = String::new();
        let mut out = BTreeSet::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                out.insert(format!("{section}.{}", key.trim_matches('"')));
            }
        }
        out
    };
    assert_eq!(keys(&uncommented(true)), keys(&full));
}

#[test]
fn the_defaults_as_shown_read_back() {
    let shown = parse(NAME).unwrap().show();
    let again = parse(&shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
    assert_eq!(again.show(), shown);
    assert_eq!(again.warnings, parse(NAME).unwrap().warnings);
}

#[test]
fn what_is_shown_reads_back_and_keeps_its_secrets() {
    let text = format!("{}\n", uncommented(true));
    let shown = parse(&text).unwrap().show();
    assert!(!shown.contains("hunter2") && !shown.contains("argon2id"), "{shown}");
    let again = parse(&shown.replace("password_hash = \"(blanked)\"", "password_hash = { env = \"HASH\" }"));
    assert_eq!(again.unwrap_or_else(|e| panic!("{e}")).show(), shown);
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
