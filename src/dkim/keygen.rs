//! A new key pair.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Algorithm;

/// Makes a private key: RSA of 2048 bits, which every verifier knows and whose record still fits, or Ed25519.
/// PKCS#8 in PEM, as OpenSSL writes it.
///
/// `None` when the library's source of randomness fails.
pub fn generate(algorithm: Algorithm) -> Option<String> {
    let der: Pkcs8V1Der<'_> = match algorithm {
        Algorithm::Rsa => {
            AsDer::<Pkcs8V1Der<'_>>::as_der(&RsaKeyPair::generate(KeySize::Rsa2048).ok()?).ok()?
        }
        Algorithm::Ed25519 => AsDer::<Pkcs8V1Der<'_>>::as_der(&Ed25519KeyPair::generate().ok()?).ok()?,
    };
    Some(pem(der.as_ref()))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(64).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END PRIVATE KEY-----\n");
    out
}
