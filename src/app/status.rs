//! What `status` is told about this relay: by the running one, and by a command that finds none running.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use super::{outbound, settings, standing};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Fingerprint, Protocol, room_needed};
use crate::dns::belief::Belief;
use crate::security::exception::Exceptions;
use crate::standing::Finding;
use crate::status::{Certificate, ConfigurationFile, Disk, Dnssec, Exception, Listening, Place};
use crate::submission::tls::ReloadingCertificate;

/// What does not change while the relay runs, and where to look for what does.
pub(super) struct Watched {
    pub(super) config: Config,
    pub(super) started: Timestamp,
    pub(super) exceptions: Arc<Exceptions>,
    pub(super) certificate: Option<Arc<ReloadingCertificate>>,
    pub(super) noticed: Arc<Noticed>,
}

/// What the daily look at the standing of reports found last.
#[derive(Default)]
pub(super) struct Noticed(Mutex<Vec<Finding>>);

impl Noticed {
    pub(super) fn put(&self, findings: Vec<Finding>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = findings;
    }

    pub(super) fn get(&self) -> Vec<Finding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watched {
    /// What lies beside the store; `free`: octets of its disk.
    pub(super) fn place(&self, now: Timestamp, free: u64) -> Place {
        let shown = self.certificate.as_ref().and_then(|c| {
            let expires = c.expires()?;
            Some(Certificate { file: c.file().to_owned(), expires, refused: c.refused() })
        });
        place(&self.config, Some(free), shown, Exception::all(&self.exceptions, now))
    }

    /// The configuration that the relay runs with, against what its file holds now.
    pub(super) fn configuration(&self) -> ConfigurationFile {
        compared(&self.config.path, self.config.fingerprint)
    }

    /// Where it is reached.
    pub(super) fn listeners(&self) -> Vec<Listening> {
        let listening = |address, word: &str| Listening { address, protocol: word.to_owned() };
        let ways = self.config.listener.iter().filter_map(|l| match l.protocol {
            Protocol::Smtp => Some(listening(l.address, "smtp")),
            Protocol::Smtps => Some(listening(l.address, "smtps")),
            // They come later.
            Protocol::Http | Protocol::Https => None,
        });
        ways.chain(self.config.admin.listen.map(|address| listening(address, "admin"))).collect()
    }
}

/// More than any configuration has; a file that has grown beyond it has changed.
const MOST_READ: u64 = 16 << 20;

/// What `file` holds now, against what it held at `start`.
fn compared(file: &Path, start: Fingerprint) -> ConfigurationFile {
    let read = || {
        let mut open = std::fs::File::open(file)?;
        let written = open.metadata()?.modified()?;
        let mut text = Vec::new();
        open.by_ref().take(MOST_READ).read_to_end(&mut text)?;
        std::io::Result::Ok((text, written))
    };
    let (changed, unreadable) = match read() {
        Ok((text, _)) if Fingerprint::of(&text) == start => (None, None),
        Ok((_, written)) => {
            let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
            let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            (Some(Timestamp::from_millis(ms)), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    ConfigurationFile { file: file.to_owned(), changed, unreadable }
}

fn place(
    config: &Config,
    free: Option<u64>,
    certificate: Option<Certificate>,
    exceptions: Vec<Exception>,
) -> Place {
    let needed = room_needed(config.queue.reserve, config.submission.max_message_size);
    let disk = free.map(|free| Disk { data_dir: config.data_dir.clone(), free, needed });
    let (hostname, max_age) = (config.hostname.clone(), config.queue.max_age);
    Place { hostname, disk, certificate, exceptions, max_age, rules: Arc::new(settings::rules(config)) }
}

/// What is believed about DNSSEC now.
pub(super) fn dnssec(belief: &Belief) -> Dnssec {
    Dnssec {
        mode: belief.mode(),
        configured: belief.configured(),
        believed: belief.holds(),
        proven: belief.proven().is_believed(),
        warned: belief.trouble().is_some(),
        trouble: belief.trouble(),
        words: belief.words(),
    }
}

/// The same by a command, as far as the configuration and its files tell; `free`: octets of a disk, `ended`: keys of
/// exceptions that ended early.
pub fn without_relay(
    config: &Config,
    free: impl FnOnce(&Path) -> Option<u64>,
    ended: &[String],
    clock: &Arc<dyn Clock>,
) -> (Place, Dnssec) {
    let shown = config.tls.as_ref().and_then(|tls| {
        let expires = standing::ends(&tls.certificate).first().copied()?;
        Some(Certificate { file: tls.certificate.clone(), expires, refused: None })
    });
    let exceptions = Exceptions::new(config.exception.iter().cloned(), ended);
    let place = place(config, free(&config.data_dir), shown, Exception::all(&exceptions, clock.now()));
    let dnssec = match outbound::resolver(config, clock, Default::default()) {
        // What the configuration says; whether it holds is for the relay to find out.
        Ok((_, self_test)) => Dnssec { believed: false, ..dnssec(&self_test.belief) },
        Err(words) => Dnssec { words, ..Dnssec::default() },
    };
    (place, dnssec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_configuration_is_told_from_one_that_was_only_touched() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sealpost.toml");
        let write = |text: &str, at: u64| {
            std::fs::write(&file, text).unwrap();
            let open = std::fs::File::options().append(true).open(&file).unwrap();
            open.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(at)).unwrap();
        };
        let start = Fingerprint::of(b"hostname = \"a.example\"\n");
        for (text, changed) in [
            ("hostname = \"a.example\"\n", None),
            ("hostname = \"b.example\"\n", Some(Timestamp::from_millis(1_795_333_080_000))),
            ("hostname = \"a.example\"\n", None),
        ] {
            write(text, 1_795_333_080);
            let found = compared(&file, start);
            assert_eq!((found.changed, found.unreadable), (changed, None), "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        let found = compared(&file, start);
        assert!(found.changed.is_none() && found.unreadable.is_some(), "{found:?}");
    }
}
