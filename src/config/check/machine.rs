//! What this machine says about a configuration that is right in itself: a certificate that runs out, a disk that is
//! full. Warnings only: the relay runs, and somebody should look.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Check;
use crate::clock::Timestamp;
use crate::config::size;
use crate::mail::Domain;

/// A certificate that ends within this time should have been renewed (ACME clients do so a month ahead).
const SOON: Duration = Duration::from_secs(14 * 86_400);

impl Check<'_> {
    /// Warns about a certificate of `[tls]` that clients who verify will not take, now or soon.
    pub(super) fn standing_of_certificate(&self, path: &Path, hostname: &Domain) {
        // What cannot be read or parsed is reported by the key itself.
        let Some(bytes) = self.around.read(path).ok() else { return };
        let Some(Ok(leaf)) = CertificateDer::pem_slice_iter(&bytes).next() else { return };
        let file = path.display();
        if let Ok((_, parsed)) = X509Certificate::from_der(&leaf) {
            let seconds = parsed.validity().not_after.timestamp();
            let (end, now) = (Timestamp::from_millis(seconds.saturating_mul(1000)), self.around.now());
            if let Some(ends) = runs_out(end, now) {
                self.warn(format!("tls.certificate: {file} {ends}; renew it"));
            }
        }
        let covers = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).ok()?;
            let parsed = ParsedCertificate::try_from(&leaf).ok()?;
            Some(rustls::client::verify_server_name(&parsed, &name).is_ok())
        };
        if covers(hostname.as_str()) == Some(false) {
            self.warn(format!(
                "tls.certificate: {file} is not for {hostname}; clients that verify this name will not connect"
            ));
        }
    }

    /// Warns when new mail would be refused for want of room (DUR-11).
    pub(super) fn room(&self, data_dir: &Path, reserve: u64, max_message_size: u64) {
        let needed = room_needed(reserve, max_message_size);
        if let Some(words) = self.around.free(data_dir).and_then(|free| no_room(data_dir, free, needed)) {
            self.warn(format!("queue.reserve: {words}"));
        }
    }
}

/// How a certificate that ends at `end` is to be spoken of, in a clause; `None` while it need not be.
pub fn runs_out(end: Timestamp, now: Timestamp) -> Option<String> {
    if end <= now {
        Some(format!("expired on {end}"))
    } else if end <= now.after(SOON) {
        Some(format!("expires on {end}"))
    } else {
        None
    }
}

/// Octets of disk at which, or below, new mail is refused (DUR-11).
pub fn room_needed(reserve: u64, max_message_size: u64) -> u64 {
    max_message_size.saturating_mul(2).max(reserve)
}

/// That so many free octets are too few, in a clause; `None` while they are enough.
pub fn no_room(data_dir: &Path, free: u64, needed: u64) -> Option<String> {
    (free <= needed).then(|| {
        format!(
            "{} are free for {}, and new mail is refused (452) until it is more than {}",
            size::rough(free),
            data_dir.display(),
            size::format(needed)
        )
    })
}
