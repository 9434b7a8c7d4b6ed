//! Private keys.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{digest, error::KeyRejected};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

use super::record::KeyRecord;
use crate::mail::Domain;

/// A signature algorithm (RFC 6376 §3.3, RFC 8463). rsa-sha1 is none (RFC 8301 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// rsa-sha256.
    Rsa,
    /// ed25519-sha256.
    Ed25519,
}

impl Algorithm {
    /// The value of `k=` in a key record.
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The value of `a=` in a signature.
    pub const fn signature(self) -> &'static str {
        match self {
            Self::Rsa => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }
}

/// Why a key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no private key in the PEM text.
    #[error("holds no private key")]
    NoKey,
    /// A key, but not one of the two kinds, or an RSA key outside of 2048 to 8192 bits (RFC 8301 §3.2).
    #[error("holds no RSA key of 2048 to 8192 bits and no Ed25519 key")]
    Unfit,
    /// The selector is not a DNS name, or too long with its domain.
    #[error("the selector is not a DNS name that fits before ._domainkey and the domain")]
    Selector,
}

/// A private key with the domain and the selector that it signs for. Cloning is cheap.
#[derive(Clone)]
pub struct SigningKey {
    domain: Domain,
    selector: String,
    record_name: Domain,
    pair: Arc<Pair>,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads an RSA key (PKCS#1 or PKCS#8) or an Ed25519 key (PKCS#8).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(domain: Domain, selector: String, pem: &str) -> Result<Self, KeyError> {
        let record_name = Domain::parse_host(&selector)
            .and_then(|s| Domain::parse_host(&format!("{s}._domainkey.{domain}")))
            .map_err(|_| KeyError::Selector)?;
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NoKey)?;
        let rsa = |key: Result<RsaKeyPair, KeyRejected>| key.map(|k| Pair::Rsa(Box::new(k)));
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                rsa(RsaKeyPair::from_pkcs8(der))
                    .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519))
            }
            _ => return Err(KeyError::Unfit),
        };
        let pair = Arc::new(pair.map_err(|_| KeyError::Unfit)?);
        Ok(Self { domain, selector, record_name, pair })
    }

    /// The signing domain, `d=`.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The selector, `s=`.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Where the key record belongs: `selector._domainkey.domain`.
    pub const fn record_name(&self) -> &Domain {
        &self.record_name
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match *self.pair {
            Pair::Rsa(_) => Algorithm::Rsa,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The public key as `p=` holds it: SubjectPublicKeyInfo for RSA, the 32 octets for Ed25519 (RFC 8463 §4).
    pub fn public_key(&self) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => {
                let key: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                key.map(|k| k.as_ref().to_vec()).unwrap_or_default()
            }
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// The record to publish, good for mail and for TLS reports alike (RPT-82).
    pub fn record(&self) -> KeyRecord {
        KeyRecord::new(self.algorithm(), self.public_key())
    }

    /// Signs what the signature is made over; `None` when the library cannot, which it does not say of a key that it took.
    pub(super) fn sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature).ok()?;
                Some(signature)
            }
            // RFC 8463 §3: PureEdDSA over the SHA-256 hash.
            Pair::Ed25519(pair) => {
                Some(pair.sign(digest::digest(&digest::SHA256, input).as_ref()).as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.record_name, self.algorithm().key_type())
    }
}
