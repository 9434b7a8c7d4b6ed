//! Postfix as an MX host: an instance of its own in a folder, with its own queue, on an address of the world.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ca::Leaf;
use super::daemon::Daemon;

/// A running Postfix that takes mail for its domains into one mailbox file. Needs root.
pub struct Postfix {
    folder: PathBuf,
    _master: Daemon,
}

/// Folders of the queue, as `postfix check` would make them; all but `pid` belong to the mail owner.
const QUEUE: &[&str] = &[
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private",
    "public", "saved", "trace", "pid",
];

/// The least that receives mail: no pickup, no outgoing client.
const SERVICES: &str = "
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
";

impl Postfix {
    /// The programs that must be there.
    pub const NEEDS: &'static [&'static str] = &["postfix", "postconf"];

    /// Starts an instance called `name` in `folder` (made here), which shows `leaf` after STARTTLS.
    /// `more` are lines for `main.cf` and may replace those written here.
    pub async fn start(
        folder: &Path,
        name: &str,
        domains: &[&str],
        at: SocketAddr,
        leaf: &Leaf,
        more: &str,
    ) -> Self {
        Self::launch(folder, main_cf(&folder.display().to_string(), name, domains, more), at, leaf, None)
            .await
    }

    /// Starts an instance that sends: it takes mail from this machine and asks the resolvers of `resolv_conf`. `next`
    /// gives each domain's next hop.
    pub async fn sender(
        folder: &Path,
        at: SocketAddr,
        leaf: &Leaf,
        resolv_conf: &Path,
        next: &[(&str, String)],
        more: &str,
    ) -> Self {
        let next: Vec<String> = next.iter().map(|(domain, hop)| format!("{{{domain}={hop}}}")).collect();
        let more = format!(
            "mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_security_level = dane
smtp_tls_loglevel = 1
transport_maps = inline:{{ {} }}
{more}",
            next.join(" ")
        );
        let text = main_cf(&folder.display().to_string(), "judge.lab.example", &[], &more);
        Self::launch(folder, text, at, leaf, Some(resolv_conf)).await
    }

    /// Runs a program of Postfix's that asks the DNS, with the resolvers of `resolv_conf`.
    pub fn in_world(resolv_conf: &Path, program: &str) -> Vec<String> {
        let mount = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", resolv_conf.display());
        let words = ["unshare", "--mount", "--propagation=private", "sh", "-c", &mount, "sh", program];
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    async fn launch(
        folder: &Path,
        main_cf: String,
        at: SocketAddr,
        leaf: &Leaf,
        resolv_conf: Option<&Path>,
    ) -> Self {
        for part in ["config", "queue", "data", "mail"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        for part in QUEUE {
            std::fs::create_dir_all(folder.join("queue").join(part)).unwrap();
        }
        // Its processes are other users' and must get to their folders.
        for path in folder.ancestors().take_while(|p| p.starts_with(std::env::temp_dir())) {
            if path != std::env::temp_dir() {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let shown = folder.display();
        shell(&format!(
            "cd '{shown}/queue' && chown postfix */ ../data && chown root pid && chmod 700 */ && \
             chmod 755 pid public && chown nobody ../mail && : >> ../log"
        ));
        std::fs::write(folder.join("config/chain.pem"), &leaf.chain_pem).unwrap();
        std::fs::write(folder.join("config/key.pem"), &leaf.key_pem).unwrap();
        let daemons = Command::new("postconf").args(["-d", "-h", "daemon_directory"]).output().unwrap();
        let daemons = String::from_utf8(daemons.stdout).unwrap().trim().to_owned();
        std::fs::write(folder.join("config/main.cf"), main_cf).unwrap();
        let sends = if resolv_conf.is_some() { "smtp unix - - n - - smtp\n" } else { "" };
        let services = format!("{at} inet n - n - - smtpd{SERVICES}{sends}");
        std::fs::write(folder.join("config/master.cf"), services).unwrap();
        let (master, config) = (format!("{daemons}/master"), format!("{shown}/config"));
        let command = resolv_conf.map_or_else(|| vec![master.clone()], |r| Self::in_world(r, &master));
        let words: Vec<&str> =
            command.iter().skip(1).map(String::as_str).chain(["-c", &config, "-d"]).collect();
        Self {
            folder: folder.to_owned(),
            _master: Daemon::start(&command[0], &words, at, &folder.join("said")).await,
        }
    }

    /// What lies in the mailbox, in mbox form.
    pub fn mailbox(&self) -> String {
        std::fs::read_to_string(self.folder.join("mail/box")).unwrap_or_default()
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn main_cf(folder: &str, name: &str, domains: &[&str], more: &str) -> String {
    // inet_interfaces must name a real interface; the services name their own addresses.
    let mut text = format!(
        "compatibility_level = 3.6
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = {name}
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = {folder}/config/chain.pem
smtpd_tls_key_file = {folder}/config/key.pem
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:box
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 100
"
    );
    let _ = writeln!(text, "virtual_mailbox_domains = {}\n{more}", domains.join(" "));
    text
}

fn shell(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}
