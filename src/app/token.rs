//! The bearer token of the admin interface: read, or made at first start.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::config::{Config, Secret, SecretSource};

/// Random octets of a token that we make.
const OCTETS: usize = 32;

/// The token of `[admin].token`. A missing file is made, readable for owner and group alone (0640).
///
/// # Errors
/// One sentence naming the key and what to do.
pub(super) fn load_or_make(config: &Config) -> Result<Secret, String> {
    match &config.admin.token {
        SecretSource::Inline(secret) => Ok(secret.clone()),
        SecretSource::Env(name) => std::env::var(name)
            .map(|value| Secret::new(value.trim()))
            .map_err(|e| format!("admin.token: environment variable {name}: {e}")),
        SecretSource::File(_) => {
            let path = config.admin_token_file().unwrap_or_default();
            match std::fs::read_to_string(&path) {
                Ok(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim())),
                Ok(_) => {
                    Err(format!("admin.token: {} is empty: delete it, and a new one is made", path.display()))
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(&path),
                Err(e) => Err(format!("admin.token: {}: {e}", path.display())),
            }
        }
    }
}

fn make(path: &Path) -> Result<Secret, String> {
    let mut octets = [0_u8; OCTETS];
    rand::fill(&mut octets);
    let token: String = octets.iter().map(|b| format!("{b:02x}")).collect();
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
        file.write_all(token.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|e: std::io::Error| format!("admin.token: {} cannot be written: {e}", path.display()))?;
    Ok(Secret::new(&token))
}
