//! What `status` is told about this relay: by the running one, and by a command that finds none running.

use std::path::Path;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use super::{outbound, standing};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Protocol, room_needed};
use crate::dns::belief::Belief;
use crate::security::exception::Exceptions;
use crate::standing::Finding;
use crate::status::{Certificate, Disk, Dnssec, Exception, Listening, Place};
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

fn place(
    config: &Config,
    free: Option<u64>,
    certificate: Option<Certificate>,
    exceptions: Vec<Exception>,
) -> Place {
    let needed = room_needed(config.queue.reserve, config.submission.max_message_size);
    let disk = free.map(|free| Disk { data_dir: config.data_dir.clone(), free, needed });
    Place { hostname: config.hostname.clone(), disk, certificate, exceptions, max_age: config.queue.max_age }
}

/// What is believed about DNSSEC now.
pub(super) fn dnssec(belief: &Belief) -> Dnssec {
    Dnssec {
        configured: belief.configured(),
        believed: belief.holds(),
        proven: belief.proven().is_believed(),
        warned: belief.warned(),
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
