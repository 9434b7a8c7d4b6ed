//! Every mistake, and what is said of it.

use crate::{NAME, parse};

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
    // No certificate covers an address, not even one of this machine.
    (
        "[[destination]]\ndomain = \"a.example\"\nnext_hop = \"127.0.0.1:25\"\nminimum_tls = \"verify\"",
        "4:12: destination[1].next_hop: 127.0.0.1 is an address",
        "name of the host",
    ),
    (
        "[[destination]]\ndomain = \"a.example\"\nnext_hop = \"[::1]:25\"\nminimum_tls = \"dane\"",
        "4:12: destination[1].next_hop: ::1 is an address",
        "name of the host",
    ),
    (
        "[[destination]]\ndomain = \"a.example\"\nnext_hop = \"127.0.0.1:587\"\nuser = \"u\"\npassword = \"p\"",
        "4:12: destination[1].next_hop: 127.0.0.1 is an address",
        "no user",
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
