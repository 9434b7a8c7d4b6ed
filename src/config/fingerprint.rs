//! [`Fingerprint`]: whether the text of a configuration is still the same.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 of a text. What the text was cannot be told from it, so that it may be shown where secrets may not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of `text`.
    pub fn of(text: &[u8]) -> Self {
        let mut octets = [0; 32];
        octets.iter_mut().zip(digest(&SHA256, text).as_ref()).for_each(|(to, from)| *to = *from);
        Self(octets)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own() {
        assert_eq!(Fingerprint::of(b"a"), Fingerprint::of(b"a"));
        assert_ne!(Fingerprint::of(b"a"), Fingerprint::of(b"a\n"));
        // FIPS 180-2 B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(format!("{:?}", Fingerprint::of(b"abc")), abc);
    }
}
