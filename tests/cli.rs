//! The command line from outside, without a process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Cursor;

use sealpost::cli::{Io, Next, run};
use sealpost::clock::Timestamp;

fn sealpost(args: &[&str], input: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let next = run(
        std::iter::once(&"sealpost").chain(args),
        &mut Io {
            input: &mut Cursor::new(input.as_bytes()),
            interactive: false,
            terminal: false,
            out: &mut out,
            err: &mut err,
            now: Timestamp::from_millis(1_795_333_080_000),
        },
    );
    let Next::Exit(status) = next else { panic!("{args:?} serves") };
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn mistakes_on_the_command_line_end_with_2_and_leave_stdout_empty() {
    for args in [
        &["frobnicate"][..],
        &["queue", "list", "--state", "lost"],
        &["queue", "list", "--cause", "bad"],
        &["queue", "list", "--limit", "0"],
        &["queue", "show", "not-an-id"],
        &["policy", "show", "localhost"],
    ] {
        let (status, out, err) = sealpost(args, "");
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}");
        assert!(!err.is_empty(), "{args:?}");
    }
    assert_eq!(sealpost(&["--help"], "").0, 0);
}

#[test]
fn commands_on_a_relay_that_does_not_run_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealpost.toml");
    let text = format!(
        "hostname = \"relay.example.net\"\ndata_dir = \"{}\"\n[admin]\nlisten = \"127.0.0.1:1\"\ntoken = \"t\"\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let (status, _, err) = sealpost(&["--config", file, "queue", "retry", "--all", "--yes"], "");
    assert!(status == 1 && err.contains("sealpost serve"), "{status} {err}");
    let (status, _, err) = sealpost(&["--config", file, "queue", "list", "--online", "--json"], "");
    assert!(status == 1 && err.contains("does not answer"), "{status} {err}");
    let (status, _, err) = sealpost(&["--config", file, "queue", "retry"], "");
    assert!(status == 2 && err.contains("--all"), "{status} {err}");
    let (status, out, _) = sealpost(&["--config", file, "config", "check"], "");
    assert!(status == 0 && out.ends_with(": OK\n"), "{status} {out}");
}

// SUB-02
#[test]
fn a_wrong_configuration_ends_with_2_and_names_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealpost.toml");
    std::fs::write(&file, "hostname = \"localhost\"\n").unwrap();
    let (status, out, err) = sealpost(&["--config", file.to_str().unwrap(), "serve"], "");
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains(":1:12: hostname:"), "{err}");
}

#[test]
fn a_password_becomes_an_argon2id_hash() {
    let (status, out, _) = sealpost(&["user", "hash"], "correct horse\n");
    assert!(status == 0 && out.starts_with("$argon2id$"), "{status} {out}");
    assert_eq!(sealpost(&["user", "hash"], "\n").0, 1);
}

#[test]
fn the_starter_file_goes_to_stdout() {
    let (status, out, _) = sealpost(&["config", "init"], "");
    assert!(status == 0 && out.contains("hostname = \"relay.example.net\""));
}

#[test]
fn init_check_and_show_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (first, shown) = (path("sealpost.toml"), path("shown.toml"));
    let (status, out, err) = sealpost(&["config", "init", &first], "");
    assert!((status, out.as_str()) == (0, "") && err.contains("set hostname"), "{status} {err}");
    let (status, _, err) = sealpost(&["config", "init", &first], "");
    assert!(status == 1 && err.contains("exists"), "an existing file is left alone: {err}");
    let (status, out, err) = sealpost(&["--config", &first, "config", "check"], "");
    assert_eq!((status, out, err.as_str()), (0, format!("{first}: OK\n"), ""));
    let (_, once, _) = sealpost(&["--config", &first, "config", "show"], "");
    std::fs::write(&shown, &once).unwrap();
    let (status, twice, err) = sealpost(&["--config", &shown, "config", "show"], "");
    assert_eq!((status, twice), (0, once), "{err}");
    // Only the names of sections without effect, because now they are written.
    let (status, _, err) = sealpost(&["--config", &shown, "config", "check"], "");
    assert!(status == 0 && err.lines().all(|l| l.ends_with("has no effect in this version")), "{err}");
}

// SIG-16, SIG-14
#[test]
fn dkim_keygen_writes_a_private_key_once_and_prints_its_record() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    for (algorithm, strings) in [("rsa", 2), ("ed25519", 1)] {
        let file = dir.path().join(algorithm);
        let args =
            ["dkim", "keygen", "--domain", "Example.NET", "--selector", "s1", "--algorithm", algorithm];
        let args = [&args[..], &["--out", file.to_str().unwrap()]].concat();
        let (status, out, err) = sealpost(&[&args[..], &["--json"]].concat(), "");
        assert_eq!((status, err.as_str()), (0, ""));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let made: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(made["record_name"], "s1._domainkey.example.net");
        assert_eq!(made["record_strings"].as_array().unwrap().len(), strings);
        let pem = std::fs::read_to_string(&file).unwrap();
        let domain = sealpost::mail::Domain::parse("example.net").unwrap();
        let key = sealpost::dkim::SigningKey::from_pem(domain, "s1".to_owned(), &pem).unwrap();
        let record = made["record"].as_str().unwrap().as_bytes().to_vec();
        assert_eq!(sealpost::dkim::check::published(&key, &[record], true), []);

        let (status, out, err) = sealpost(&args, "");
        assert!(status == 1 && out.is_empty() && err.contains("exists") && err.contains("--out"), "{err}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), pem, "never written over");
        assert_eq!(made["private_key"], file.to_str().unwrap());
    }
    let file = dir.path().join("text");
    let args =
        ["dkim", "keygen", "--domain", "example.net", "--selector", "s1", "--out", file.to_str().unwrap()];
    let (status, out, _) = sealpost(&args, "");
    assert_eq!(status, 0);
    assert!(out.contains("s1._domainkey.example.net. IN TXT ( \"v=DKIM1; k=rsa; p="), "{out}");
    assert!(!out.contains("PRIVATE"));
    let dash = ["dkim", "keygen", "--domain", "example.net", "--selector", "s1", "--out", "-"];
    let (status, out, err) = sealpost(&dash, "");
    assert!(status == 2 && out.is_empty() && err.contains("--out"), "{err}");
    let (status, _, err) = sealpost(&["dkim", "keygen", "--domain", "example.net", "--selector", "a b"], "");
    assert!(status == 2 && err.contains("selector"), "{err}");
}

#[test]
fn a_private_key_that_another_user_cannot_read_stops_the_relay_and_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealpost.toml");
    let pair = rcgen::generate_simple_self_signed(vec!["relay.example.net".to_owned()]).unwrap();
    std::fs::write(dir.path().join("chain.pem"), pair.cert.pem()).unwrap();
    // As unreadable as can be, for root too.
    std::fs::create_dir(dir.path().join("key.pem")).unwrap();
    let text = format!(
        "hostname = \"relay.example.net\"\ndata_dir = \"{}\"\n[tls]\ncertificate = \"chain.pem\"\n\
         private_key = \"key.pem\"\n[[dkim]]\ndomain = \"example.net\"\nselector = \"s1\"\nprivate_key = \"key.pem\"\n\
         [admin]\nlisten = \"127.0.0.1:1\"\ntoken = \"t\"\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for command in [&["serve"][..], &["config", "check"]] {
        let (status, _, err) = sealpost(&[&["--config", file], command].concat(), "");
        assert!(status == 2 && err.contains("tls.private_key"), "{command:?} {status} {err}");
    }
    for command in [
        &["queue", "list"][..],
        &["status"],
        &["policy", "list"],
        &["report", "list"],
        &["report", "show", "1"],
        &["report", "preview"],
        &["report", "send"],
    ] {
        let (status, _, err) = sealpost(&[&["--config", file], command].concat(), "");
        assert!(status == 1 && err.contains("does not answer"), "{command:?} {status} {err}");
    }
    assert_eq!(sealpost(&["--config", file, "config", "show"], "").0, 0);
}

#[test]
fn the_standing_of_a_relay_without_a_resolver_is_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealpost.toml");
    let text = format!(
        "hostname = \"relay.example.net\"\ndata_dir = \"{}\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n\
         [tls_rpt]\nfrom = \"tls-reports@example.net\"\n\
         [delivery]\nsource_addresses = [\"192.0.2.1\"]\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for (words, wanted) in [
        (&["report", "check"][..], &["BAD   configuration", "no [[dkim]] entry", "sealpost dkim keygen"][..]),
        (&["check"], &["BAD   ptr            192.0.2.1", "  ok    clock", "what to do: "]),
    ] {
        let (status, out, err) = sealpost(&[&["--config", file], words].concat(), "");
        assert_eq!(status, 1, "{words:?}: {out} {err}");
        assert!(out.contains("would fail") && wanted.iter().all(|w| out.contains(w)), "{words:?}: {out}");
        let (status, out, _) = sealpost(&[&["--config", file], words, &["--json"]].concat(), "");
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (status, &json["sound"], &json["hostname"]),
            (1, &false.into(), &"relay.example.net".into())
        );
        assert!(json["findings"].as_array().unwrap().iter().any(|f| f["mark"] == "bad"), "{json}");
    }
    // A cached policy is one of a domain.
    assert_eq!(sealpost(&["--config", file, "check", "--from-cache"], "").0, 2);
}
