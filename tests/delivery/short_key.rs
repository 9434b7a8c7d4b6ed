//! A server whose RSA key is too short for rustls to sign with.

use rcgen::PublicKeyData;
use rsa::sha2::{Sha256, Sha384};
use rsa::{BoxedUint, PrivateKey};
use rustls::pki_types::CertificateDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::der_parser::parse_der;

/// An RSA key that signs by one scheme, whatever is asked for.
#[derive(Debug, Clone)]
pub(crate) struct ShortKey {
    key: PrivateKey,
    scheme: SignatureScheme,
    /// Signs another handshake than the one that is going on.
    forging: bool,
}

impl ShortKey {
    /// The key of an `RSAPrivateKey` (RFC 8017 A.1.2), which signs by `scheme`.
    pub(crate) fn from_pkcs1(der: &[u8], scheme: SignatureScheme, forging: bool) -> Self {
        let (_, parsed) = parse_der(der).unwrap();
        let numbers: Vec<BoxedUint> = parsed
            .as_sequence()
            .unwrap()
            .iter()
            .map(|number| {
                let octets = number.as_slice().unwrap();
                let zeros = octets.iter().take_while(|o| **o == 0).count();
                BoxedUint::from_be_slice_vartime(&octets[zeros..])
            })
            .collect();
        let [_, n, e, d, p, q, ..] = &numbers[..] else { panic!("an RSAPrivateKey") };
        let key = PrivateKey::from_components(n.clone(), e.clone(), d.clone(), vec![p.clone(), q.clone()]);
        Self { key: key.unwrap(), scheme, forging }
    }
}

impl SigningKey for ShortKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for ShortKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let message = if self.forging { b"another handshake" } else { message };
        let mut random = rand::rng();
        let signed = match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => self.key.pss_sign_with_rng::<Sha256, _>(&mut random, message),
            SignatureScheme::RSA_PSS_SHA384 => self.key.pss_sign_with_rng::<Sha384, _>(&mut random, message),
            SignatureScheme::RSA_PKCS1_SHA256 => {
                self.key.pkcs1v15_sign_with_rng::<Sha256, _>(&mut random, message)
            }
            other => panic!("{other:?}"),
        };
        Ok(signed.unwrap())
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// The RSA key that a certificate shows, for an authority to vouch for.
pub(crate) struct ShownKey(Vec<u8>);

impl ShownKey {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        Self(parsed.tbs_certificate.subject_pki.subject_public_key.data.to_vec())
    }
}

impl PublicKeyData for ShownKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}
