//! Postfix in folders of its own, stock or tuned.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::namespace::command;
use crate::site::Site;

const PORT: u16 = 2500;

/// What differs from the defaults in the tuned profile.
const TUNED: &str = "\
smtp_tls_connection_reuse = yes
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
in_flow_delay = 0s
default_destination_concurrency_limit = 50
initial_destination_concurrency = 20
";

/// The services of upstream's master.cf that a relay runs, none in a chroot.
const SERVICES: &str = "\
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp -o syslog_name=postfix/$service_name
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
tlsproxy  unix  -       -       n       -       0       tlsproxy
postlog   unix-dgram n  -       n       -       1       postlogd
";

/// A running instance.
pub(crate) struct Postfix {
    config: PathBuf,
    queue: PathBuf,
}

impl Postfix {
    /// Where it takes mail.
    pub(crate) fn submission() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, PORT).into()
    }

    /// Writes a configuration into `dir` and starts it; with `held`, all mail is put on hold as it arrives.
    pub(crate) async fn start(site: &Site, dir: PathBuf, tuned: bool, held: bool) -> Result<Self> {
        let (config, queue, data) = (dir.join("etc"), dir.join("queue"), dir.join("data"));
        for folder in [&config, &queue, &data] {
            fs::create_dir(folder)?;
        }
        command("chown", &["postfix", path(&data)?]).await?;
        let ca_file = path(&site.ca_file)?;
        let mut main = format!(
            "compatibility_level = 3.6\n\
             queue_directory = {queue}\ndata_directory = {data}\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
             mail_owner = postfix\nsetgid_group = postdrop\n\
             maillog_file = {dir}/mail.log\nmaillog_file_prefixes = {dir}\n\
             myhostname = postfix.test\nmydestination =\nalias_maps =\nlocal_recipient_maps =\n\
             inet_interfaces = 127.0.0.1\nmynetworks = 127.0.0.0/8\n\
             smtp_tls_security_level = verify\nsmtp_tls_CAfile = {ca_file}\n",
            queue = path(&queue)?,
            data = path(&data)?,
            dir = path(&dir)?,
        );
        if tuned {
            main += TUNED;
        }
        if held {
            main += "smtpd_client_restrictions = check_client_access static:HOLD\n";
        }
        fs::write(config.join("main.cf"), main)?;
        let listener = format!("127.0.0.1:{PORT} inet n - n - - smtpd\n");
        fs::write(config.join("master.cf"), listener + SERVICES)?;
        command("postfix", &["-c", path(&config)?, "start"]).await?;
        Ok(Self { config, queue })
    }

    /// The master process.
    pub(crate) fn master(&self) -> Result<u32> {
        let text = fs::read_to_string(self.queue.join("pid/master.pid"))?;
        text.trim().parse().context("master.pid")
    }

    /// `postqueue -f`.
    pub(crate) async fn flush(&self) -> Result<()> {
        command("postqueue", &["-c", path(&self.config)?, "-f"]).await
    }

    /// `postfix stop`, which waits for the end.
    pub(crate) async fn stop(self) -> Result<()> {
        command("postfix", &["-c", path(&self.config)?, "stop"]).await
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the scratch folder's name is not UTF-8")
}
