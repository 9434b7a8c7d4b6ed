//! Secrets: never shown, by no `Debug` and no `config show`.

use std::fmt;
use std::path::PathBuf;

/// A secret's value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text of a secret. Line ends at the end, which editors leave in files, do not count.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a secret is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration itself.
    Inline(Secret),
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let s = SecretSource::Inline(Secret::new("hunter2\r\n"));
        assert!(!format!("{s:?}").contains("hunter2"));
        assert!(matches!(s, SecretSource::Inline(s) if s.expose() == "hunter2"));
    }
}
