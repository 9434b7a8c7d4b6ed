//! A DNS of real programs: zones signed and served by knot, resolved by unbound, which validates from the world's own
//! root key. Needs root: name servers are found through delegations, and those lead to port 53.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

use crate::world::daemon::Daemon;
use crate::world::dns::ask;
use crate::world::{PATIENCE, World, eventually};

/// How a zone is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing {
    /// As it should be.
    Sound,
    /// With NSEC3.
    Hashed,
    /// With NSEC3 and opt-out: denials and delegations may be unauthenticated.
    OptOut,
    /// Not at all, and the parent says so.
    Unsigned,
    /// Soundly, but all signatures have run out.
    Expired,
    /// The signatures over records of this type are wrong.
    Broken(&'static str),
}

/// A zone: its name with the final dot, how it is signed, and its records with whole names.
pub(super) type Zone = (&'static str, Signing, String);

/// The running programs.
pub(super) struct SignedDns {
    /// Where unbound answers the relay.
    pub(super) resolver: SocketAddr,
    /// A resolver file that leads to the same unbound.
    pub(super) resolv_conf: PathBuf,
    /// Where another unbound answers, which validates nothing.
    pub(super) without_validation: SocketAddr,
    /// The DS record of the root.
    pub(super) root_key: String,
    _knot: Daemon,
    _unbound: Vec<Daemon>,
}

/// Seconds that signatures live which are to run out.
const SHORT: u32 = 8;

impl SignedDns {
    /// The programs that must be there.
    pub(super) const NEEDS: &'static [&'static str] = &["knotd", "keymgr", "unbound"];

    /// Signs and serves these zones; the root among them. Delegations are made here.
    pub(super) async fn start(world: &World, zones: &[Zone]) -> Self {
        let folder = world.dir.path().join("dns");
        for part in ["zones", "keys", "run"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        let (authority, resolver) = (world.address(5).ip(), world.address(8));
        let conf = folder.join("knot.conf");
        std::fs::write(&conf, knot_conf(&folder, authority, zones, true)).unwrap();
        let signed: Vec<&Zone> = zones.iter().filter(|z| z.1 != Signing::Unsigned).collect();
        for (name, ..) in &signed {
            keymgr(&conf, &[name, "generate", "algorithm=ECDSAP256SHA256", "ksk=yes", "zsk=yes"]);
        }
        let key = |zone: &str| {
            let said = keymgr(&conf, &[zone, "ds"]);
            let line = said.lines().find(|l| l.split_whitespace().nth(4) == Some("2")).expect("a DS record");
            line.to_owned()
        };
        for (name, _, records) in zones {
            let mut text = format!(
                "{name} 1 SOA ns.example. hostmaster.example. 1 3600 600 86400 1\n{name} 1 NS ns.example.\n{records}\n"
            );
            for (child, signing, _) in zones.iter().filter(|(child, ..)| parent(child, zones) == Some(name)) {
                let _ = writeln!(text, "{child} 1 NS ns.example.");
                if *signing != Signing::Unsigned {
                    let _ = writeln!(text, "{}", key(child));
                }
            }
            if *name == "." || *name == "example." {
                let _ = writeln!(text, "ns.example. 1 A {authority}");
            }
            std::fs::write(file(&folder, name), text).unwrap();
        }
        let port_53 = SocketAddr::new(authority, 53);
        let words = ["-c", conf.to_str().unwrap()];
        let knotd = crate::path_of("knotd");
        // The first knot signs all zones into their files. What is to be wrong with them is done to the files.
        let first = Daemon::start(&knotd, &words, port_53, &folder.join("knot-1.log")).await;
        let all_signed = async || {
            let done = |z: &&Zone| std::fs::read_to_string(file(&folder, z.0)).unwrap().contains("RRSIG");
            signed.iter().all(done).then_some(())
        };
        let done = eventually(PATIENCE, all_signed).await;
        assert!(done.is_some(), "{}", std::fs::read_to_string(folder.join("knot-1.log")).unwrap());
        drop(first);
        for (name, signing, _) in zones {
            if let Signing::Broken(kind) = signing {
                spoil(&file(&folder, name), kind);
            }
        }
        if zones.iter().any(|z| z.1 == Signing::Expired) {
            tokio::time::sleep(Duration::from_secs(u64::from(SHORT) + 1)).await;
        }
        std::fs::write(&conf, knot_conf(&folder, authority, zones, false)).unwrap();
        let knot = Daemon::start(&knotd, &words, port_53, &folder.join("knot.log")).await;
        let root_key = key(".");
        let without_validation = world.address(9);
        let mut unbound = Vec::new();
        for (name, at, modules) in
            [("unbound", resolver, "validator iterator"), ("plain", without_validation, "iterator")]
        {
            let conf = folder.join(format!("{name}.conf"));
            std::fs::write(&conf, unbound_conf(&folder, at, authority, &root_key, modules)).unwrap();
            let words = ["-d", "-c", conf.to_str().unwrap()];
            let log = folder.join(format!("{name}.log"));
            unbound.push(Daemon::start(&crate::path_of("unbound"), &words, at, &log).await);
        }
        // An unbound that has found no way to knot yet answers SERVFAIL, and a relay that asks it then looks again an hour
        // later.
        for zone in zones.iter().filter(|z| z.1 == Signing::Expired) {
            for (at, validates) in [(resolver, true), (without_validation, false)] {
                let right = async || knows(at, validates, zone.0).await.then_some(());
                assert!(eventually(PATIENCE, right).await.is_some(), "the unbound at {at}");
            }
        }
        let resolv_conf = folder.join("resolv.conf");
        let text = format!("nameserver {}\noptions trust-ad edns0\n", resolver.ip());
        std::fs::write(&resolv_conf, text).unwrap();
        Self { resolver, resolv_conf, without_validation, root_key, _knot: knot, _unbound: unbound }
    }
}

/// Whether a resolver has the root, authenticated where it validates, and answers about a zone whose signatures have run
/// out as it must.
async fn knows(resolver: SocketAddr, validates: bool, expired: &str) -> bool {
    let root = ask(resolver, ".", RecordType::SOA).await;
    let root = root.is_some_and(|m| !m.answers.is_empty() && m.metadata.authentic_data == validates);
    let broken = ask(resolver, expired, RecordType::A).await.map(|m| m.metadata.response_code);
    root && broken.is_some_and(|code| (code == ResponseCode::ServFail) == validates)
}

/// The zone that delegates `child`.
fn parent<'z>(child: &str, zones: &'z [Zone]) -> Option<&'z &'static str> {
    let above = |name: &str| {
        name != child && (name == "." || child.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
    };
    zones.iter().map(|(name, ..)| name).filter(|name| above(name)).max_by_key(|name| name.len())
}

fn file(folder: &Path, zone: &str) -> PathBuf {
    let name = if zone == "." { "root" } else { zone.trim_end_matches('.') };
    folder.join("zones").join(format!("{name}.zone"))
}

/// Makes the signatures over records of one type wrong: another first letter.
fn spoil(zone: &Path, kind: &str) {
    let text = std::fs::read_to_string(zone).unwrap();
    let mut spoilt = 0;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(at) = words.iter().position(|w| *w == "RRSIG") else { return line.to_owned() };
            if words.get(at + 1) != Some(&kind) {
                return line.to_owned();
            }
            spoilt += 1;
            let signature = words[words.len() - 1];
            let first = if signature.starts_with('A') { "B" } else { "A" };
            line.replace(signature, &format!("{first}{}", &signature[1..]))
        })
        .collect();
    assert!(spoilt > 0, "no signature over {kind} in {text}");
    std::fs::write(zone, lines.join("\n") + "\n").unwrap();
}

fn keymgr(conf: &Path, words: &[&str]) -> String {
    let output = Command::new(crate::path_of("keymgr")).arg("-c").arg(conf).args(words).output().unwrap();
    assert!(output.status.success(), "keymgr {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn knot_conf(folder: &Path, at: IpAddr, zones: &[Zone], sign_all: bool) -> String {
    let shown = folder.display();
    let mut text = format!(
        "server:
  rundir: \"{shown}/run\"
  listen: \"{at}@53\"
log:
  - target: stderr
    any: info
database:
  storage: \"{shown}/keys\"
policy:
  - id: sound
    single-type-signing: on
    manual: on
  - id: hashed
    single-type-signing: on
    manual: on
    nsec3: on
  - id: opt-out
    single-type-signing: on
    manual: on
    nsec3: on
    nsec3-opt-out: on
  - id: short
    single-type-signing: on
    manual: on
    zone-max-ttl: 1
    dnskey-ttl: 1
    propagation-delay: 1
    rrsig-lifetime: {SHORT}
    rrsig-refresh: 4
    rrsig-pre-refresh: 1
zone:
"
    );
    for (name, signing, _) in zones {
        let file = file(folder, name);
        let _ = write!(text, "  - domain: {name}\n    file: \"{}\"\n", file.display());
        let policy = match signing {
            Signing::Sound => Some("sound"),
            Signing::Hashed => Some("hashed"),
            Signing::OptOut => Some("opt-out"),
            Signing::Unsigned => None,
            Signing::Expired => sign_all.then_some("short"),
            Signing::Broken(_) => sign_all.then_some("sound"),
        };
        if let Some(policy) = policy {
            let _ = write!(text, "    dnssec-signing: on\n    dnssec-policy: {policy}\n");
        }
    }
    text
}

fn unbound_conf(folder: &Path, at: SocketAddr, authority: IpAddr, root_key: &str, modules: &str) -> String {
    let (ip, port, shown) = (at.ip(), at.port(), folder.display());
    format!(
        "server:
  interface: {ip}@{port}
  interface: {ip}@53
  access-control: 127.0.0.0/8 allow
  username: \"\"
  chroot: \"\"
  directory: \"{shown}\"
  pidfile: \"{shown}/unbound.pid\"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  infra-keep-probing: yes
  infra-cache-max-rtt: 1000
  module-config: \"{modules}\"
  trust-anchor: \"{root_key}\"
  val-sig-skew-min: 0
  val-sig-skew-max: 0
  val-log-level: 2
remote-control:
  control-enable: no
stub-zone:
  name: \".\"
  stub-addr: {authority}
"
    )
}
