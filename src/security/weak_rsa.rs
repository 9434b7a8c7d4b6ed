//! RSA keys that are too short to be vouched for, and the signatures that are made with them.
//!
//! Pure. Below 2048 bits nobody should be authenticated by what an authority says of a key (RFC 9325 §4.5), and the
//! cryptography of this program verifies nothing with such keys. But a DANE-EE record names one key and asks for nothing
//! else of it (RFC 7672 §3.1.1): a peer that proves to have that key is the right one, as for every other sender with DANE.
//! So its signature of the handshake is verified here, and [`pkix`](super::pkix) holds the key against every chain.

use std::fmt;

use rsa::sha2::{Sha256, Sha384, Sha512};
use rsa::{BoxedUint, PublicKey};
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key;

/// The fewest bits of a key that an authority may vouch for (RFC 9325 §4.5).
pub const STRONG_BITS: usize = 2048;
/// The fewest bits that prove anything: keys up to 829 bits have been broken in public (RSA-250).
pub const LEAST_BITS: usize = 1024;

/// The RSA key of a certificate, with fewer than [`STRONG_BITS`].
pub struct WeakKey {
    bits: usize,
    /// Of at least [`LEAST_BITS`], and otherwise as it should be.
    usable: Option<PublicKey>,
}

impl fmt::Debug for WeakKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an RSA key of {} bits", self.bits)
    }
}

impl WeakKey {
    /// The key of `certificate`; `None` where it is of another kind, long enough, or cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let public_key::PublicKey::RSA(key) = parsed.tbs_certificate.subject_pki.parsed().ok()? else {
            return None;
        };
        let bits = bits(key.modulus);
        (bits < STRONG_BITS).then(|| Self { bits, usable: usable(&key) })
    }

    /// The bits of its modulus.
    pub const fn bits(&self) -> usize {
        self.bits
    }

    /// Whether `signature` of `message` was made with the key, by one of the schemes that this program offers.
    pub fn verifies(&self, scheme: SignatureScheme, message: &[u8], signature: &[u8]) -> bool {
        let Some(key) = &self.usable else { return false };
        let verified = match scheme {
            SignatureScheme::RSA_PSS_SHA256 => key.pss_verify::<Sha256>(message, signature),
            SignatureScheme::RSA_PSS_SHA384 => key.pss_verify::<Sha384>(message, signature),
            SignatureScheme::RSA_PSS_SHA512 => key.pss_verify::<Sha512>(message, signature),
            SignatureScheme::RSA_PKCS1_SHA256 => key.pkcs1v15_verify::<Sha256>(message, signature),
            SignatureScheme::RSA_PKCS1_SHA384 => key.pkcs1v15_verify::<Sha384>(message, signature),
            SignatureScheme::RSA_PKCS1_SHA512 => key.pkcs1v15_verify::<Sha512>(message, signature),
            _ => return false,
        };
        verified.is_ok()
    }
}

/// A big-endian number without the zeros before it.
fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// The bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let number = trimmed(number);
    let unused = number.first().map_or(0, |octet| octet.leading_zeros());
    number.len().saturating_mul(8).saturating_sub(usize::try_from(unused).unwrap_or_default())
}

/// The longest exponent that is read, in octets. Those that anybody uses have three.
const LONGEST_EXPONENT: usize = 8;

fn usable(key: &public_key::RSAPublicKey<'_>) -> Option<PublicKey> {
    // A number with its first bit set is negative in DER, which no key is.
    let positive = |number: &[u8]| number.first().is_some_and(|first| first & 0x80 == 0);
    if !positive(key.modulus) || !positive(key.exponent) {
        return None;
    }
    // Every octet costs time later on, zeros too.
    let (modulus, exponent) = (trimmed(key.modulus), trimmed(key.exponent));
    if exponent.len() > LONGEST_EXPONENT {
        return None;
    }
    let number = BoxedUint::from_be_slice_vartime;
    PublicKey::new_with_size_limits(number(modulus), number(exponent), LEAST_BITS..=STRONG_BITS).ok()
}

#[cfg(test)]
mod tests;
