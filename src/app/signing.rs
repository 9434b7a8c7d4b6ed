//! The keys of `[[dkim]]`.

use std::io;
use std::time::Duration;

use crate::config::Config;
use crate::dkim::{Signers, SigningKey};

/// How much longer a signature is valid than its message may wait (SIG-10).
const MARGIN: Duration = Duration::from_secs(2 * 86_400);
/// How long notifications and reports may wait.
const GENERATED: Duration = Duration::from_secs(86_400);

/// Reads the signing keys.
///
/// # Errors
/// Names the key of the configuration and the file.
pub(crate) fn signers(config: &Config) -> Result<Signers, String> {
    let mut keys = Vec::new();
    for (i, entry) in config.dkim.iter().enumerate() {
        let (key, file) = (format!("dkim[{}].private_key", i + 1), entry.private_key.display());
        let pem = std::fs::read_to_string(&entry.private_key)
            .map_err(|e| format!("{key}: {file} cannot be read: {e}; {}", readable(&e)))?;
        let signing_key = SigningKey::from_pem(entry.domain.clone(), entry.selector.clone(), &pem)
            .map_err(|e| format!("{key}: {file} {e}; `sealpost dkim keygen` makes one that fits"))?;
        keys.push(signing_key);
    }
    Ok(Signers::new(keys).valid_for(config.queue.max_age.max(GENERATED).saturating_add(MARGIN)))
}

/// What would be right. `check` needs the keys as the relay does, and is run by people.
fn readable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the user of the relay must be able to read it, and to check it, be that user or root"
        }
        _ => "name a file that the relay may read",
    }
}
