//! Starts that cannot succeed: each ends by itself, with its exit status and one message that names the place.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a configuration that listens on free ports.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write(&place.sound(""));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sound(&self, rest: &str) -> String {
        format!(
            "hostname = \"relay.example.net\"\ndata_dir = \"queue\"\n[dns]\nservers = [\"127.0.0.1:9\"]\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{rest}"
        )
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path("sealpost.toml"), text).unwrap();
    }

    fn serve(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealpost"));
        command.arg("serve").arg("--config").arg(self.path("sealpost.toml"));
        command
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The exit status of a start, and the lines of stderr that are no log lines.
    fn fails(&self) -> (i32, Vec<String>) {
        let mut child = self.serve();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(30) {
                child.kill().unwrap();
                panic!("it runs: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let is_log = |l: &str| l.starts_with("20") && l.split_whitespace().nth(1).is_some_and(is_level);
        (output.status.code().unwrap(), said.lines().filter(|l| !is_log(l)).map(str::to_owned).collect())
    }
}

fn is_level(word: &str) -> bool {
    ["ERROR", "WARN", "INFO"].contains(&word)
}

/// One message, with this status, that contains all of these.
#[track_caller]
fn assert_says(place: &Place, status: i32, parts: &[&str]) {
    let (got, said) = place.fails();
    assert_eq!((got, said.len()), (status, 1), "{said:#?}");
    for part in parts {
        assert!(said[0].contains(part), "{part:?} is missing in {:?}", said[0]);
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_names_file_line_and_key() {
    let place = Place::new();
    let pair = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (one, two) = (pair("one.example"), pair("two.example"));
    std::fs::write(place.path("one.pem"), one.cert.pem()).unwrap();
    std::fs::write(place.path("two.key"), two.signing_key.serialize_pem()).unwrap();
    for (rest, parts) in [
        ("[queue]\nrety = []\n", &["sealpost.toml:10:1: queue.rety: unknown key", "\"retry\""][..]),
        ("[queue]\nmax_age = 5\n", &["sealpost.toml:10:11: queue.max_age: found an integer", "\"5d\""]),
        ("[dns.self_test]\nsecure = \"a b\"\n", &["sealpost.toml:10:10: dns.self_test.secure: ", "DNS name"]),
        (
            "[tls]\ncertificate = \"none.pem\"\nprivate_key = \"two.key\"\n",
            &["sealpost.toml:10:15: tls.certificate: ", "none.pem cannot be read: No such file"],
        ),
        (
            "[tls]\ncertificate = \"one.pem\"\nprivate_key = \"two.key\"\n",
            &["sealpost.toml:11:15: tls.private_key: ", "two.key is not the key of", "one.pem"],
        ),
    ] {
        place.write(&place.sound(rest));
        assert_says(&place, 2, parts);
        assert!(!place.path("queue").exists(), "nothing is made before the configuration is right");
    }
    std::fs::remove_file(place.path("sealpost.toml")).unwrap();
    assert_says(&place, 2, &["sealpost.toml", "cannot be read: No such file", "--config", "config init"]);
    std::fs::create_dir(place.path("sealpost.toml")).unwrap();
    assert_says(&place, 2, &["sealpost.toml", "cannot be read: Is a directory"]);
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, old, new) in [
        ("listener[1].address", "address = \"127.0.0.1:0\"", format!("address = \"{address}\"")),
        ("admin.listen", "listen = \"127.0.0.1:0\"", format!("listen = \"{address}\"")),
    ] {
        place.write(&place.sound("").replace(old, &new));
        assert_says(&place, 1, &[key, &address, "in use", "another port"]);
    }
    place.write(&place.sound(&format!("[metrics]\nlisten = \"{address}\"\n")));
    assert_says(&place, 1, &["metrics.listen", &address, "in use", "another port"]);
    place.write(&place.sound("").replace("address = \"127.0.0.1:0\"", "address = \"192.0.2.1:0\""));
    assert_says(&place, 1, &["listener[1].address", "192.0.2.1:0", "does not have the address"]);
}

#[test]
fn a_data_dir_that_cannot_be_used_is_named() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    // Neither can be written to, not even by root.
    for bad in [place.path("file").join("queue"), Path::new("/proc/sealpost").to_owned()] {
        place.write(&place.sound("").replace("\"queue\"", &format!("\"{}\"", bad.display())));
        assert_says(&place, 1, &["data_dir: ", bad.to_str().unwrap(), "may write"]);
    }
}

// DUR-14
#[test]
fn a_second_instance_names_the_process_that_has_the_queue() {
    let place = Place::new();
    let mut first = place.serve();
    let begun = Instant::now();
    // The token is made after the lock was taken.
    while !place.path("queue/admin.token").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the first does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_says(
        &place,
        1,
        &["data_dir: ", "in use by another sealpost", &format!("(process {})", first.id())],
    );
    first.kill().unwrap();
    first.wait().unwrap();
}

// DUR-15
#[test]
fn a_newer_schema_is_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.path("queue")).unwrap();
    let database = rusqlite::Connection::open(place.path("queue/queue.db")).unwrap();
    database
        .execute_batch(
            "PRAGMA application_id = 0x5345414C;
             CREATE TABLE refinery_schema_history (version INTEGER PRIMARY KEY, name TEXT, applied_on TEXT, checksum TEXT);
             INSERT INTO refinery_schema_history VALUES (4711, 'later', '', '');",
        )
        .unwrap();
    drop(database);
    assert_says(&place, 1, &["schema version 4711", "newer release", "backup"]);
}

// DUR-19
#[test]
fn the_unit_waits_longer_than_a_stop_takes() {
    let unit = include_str!("../config/sealpost.service");
    let stop = unit.lines().find_map(|l| l.strip_prefix("TimeoutStopSec=")).unwrap();
    let minutes: u64 = stop.strip_suffix("min").unwrap().parse().unwrap();
    let farewell = Duration::from_secs(50);
    assert!(Duration::from_secs(60 * minutes) > sealpost::config::defaults::DRAIN + farewell, "{stop}");
    assert!(unit.contains("\nType=notify-reload\n") && unit.contains("\nRestartPreventExitStatus=2\n"));
}

#[test]
fn the_service_manager_hears_of_start_reload_and_stop() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut child = place.serve();
    let hears = |want: &str| {
        let mut buf = [0; 1000];
        let n = socket.recv(&mut buf).unwrap_or_else(|e| panic!("{want}: {e}"));
        let said = std::str::from_utf8(&buf[..n]).unwrap();
        assert!(said.starts_with(want), "{want}: {said}");
        said.to_owned()
    };
    let signal = |name: &str| {
        let kill = format!("kill -{name} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };
    hears("READY=1");
    signal("HUP");
    assert!(hears("RELOADING=1").contains("MONOTONIC_USEC="));
    hears("READY=1");
    signal("TERM");
    hears("STOPPING=1");
    assert!(child.wait().unwrap().success());
}
