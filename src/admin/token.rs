//! The bearer token: where it lies, and its making at first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;

use crate::config::{Secret, SecretSource};

/// Reads the token that `source` names; a relative file lies under `data_dir`.
///
/// # Errors
/// Of the file or variable; a token that is empty or holds a control character is `InvalidData`.
pub fn read(source: &SecretSource, data_dir: &Path) -> io::Result<Secret> {
    let token = match source {
        SecretSource::Inline(secret) => secret.clone(),
        SecretSource::File(file) => Secret::new(&fs::read_to_string(data_dir.join(file))?),
        SecretSource::Env(name) => Secret::new(
            &std::env::var(name)
                .map_err(|_| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not set")))?,
        ),
    };
    // It is written into a header field.
    if token.expose().is_empty() || token.expose().chars().any(|c| !c.is_ascii_graphic()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a token is printable ASCII without blanks"));
    }
    Ok(token)
}

/// Reads the token, making its file (256 random bits, mode 0640) when there is none. For the relay's start.
///
/// # Errors
/// Of the file.
pub fn read_or_make(source: &SecretSource, data_dir: &Path) -> io::Result<Secret> {
    match (source, read(source, data_dir)) {
        (SecretSource::File(file), Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            let mut bits = [0; 32];
            aws_lc_rs::rand::fill(&mut bits).map_err(|_| io::Error::other("no randomness"))?;
            let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits);
            let path = data_dir.join(file);
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
            writeln!(out, "{text}")?;
            out.sync_all()?;
            read(source, data_dir)
        }
        (_, result) => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_token_is_made_once_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let source = SecretSource::File("admin.token".into());
        assert_eq!(read(&source, dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let made = read_or_make(&source, dir.path()).unwrap();
        assert!(made.expose().len() >= 43);
        assert_eq!(read_or_make(&source, dir.path()).unwrap(), made);
        let mode = fs::metadata(dir.path().join("admin.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        let bad = SecretSource::Inline(Secret::new("a\r\nX: b"));
        assert_eq!(read(&bad, dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
