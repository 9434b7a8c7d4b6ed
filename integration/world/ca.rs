//! A certificate authority, and leaves with one flaw each.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ServerConfig, SignatureScheme};
use std::sync::Arc;

use super::provider;
use short_key::{ShortKey, ShownKey};

#[path = "../../tests/delivery/short_key.rs"]
mod short_key;

/// What is wrong with a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Its last day was in 2020.
    Expired,
    /// Its first day is in 2090.
    NotYetValid,
    /// It names `wrong.invalid` instead.
    WrongName,
    /// It is its own issuer.
    SelfSigned,
    /// Its issuer is an authority that nobody trusts.
    UntrustedIssuer,
    /// The name stands in the common name only.
    CommonNameOnly,
    /// Its issuer is an intermediate authority that the host does not send.
    MissingIntermediate,
    /// It is for clients only.
    ClientOnly,
    /// It names nothing but an IP address.
    AddressOnly,
}

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A leaf certificate with its chain and key.
#[derive(Clone)]
pub struct Leaf {
    /// Leaf first, then the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The chain as PEM.
    pub chain_pem: String,
    /// The private key as PEM (PKCS #8).
    pub key_pem: String,
    key: Vec<u8>,
}

impl Authority {
    /// A new authority with a key of its own.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2099, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// An authority below this one, whose certificate nobody is shown.
    fn intermediate(&self) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Lab intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Issuer::new(params, KeyPair::generate().unwrap())
    }

    /// A leaf for `names`; a name may be a wildcard.
    pub fn issue(&self, flaw: Flaw, names: &[&str]) -> Leaf {
        let own_names = match flaw {
            Flaw::WrongName => vec!["wrong.invalid".to_owned()],
            Flaw::CommonNameOnly => Vec::new(),
            Flaw::AddressOnly => vec!["192.0.2.1".to_owned()],
            _ => names.iter().map(|n| (*n).to_owned()).collect(),
        };
        let common_name = own_names.first().map_or(names[0], String::as_str).to_owned();
        let mut params = CertificateParams::new(own_names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![match flaw {
            Flaw::ClientOnly => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let (first, last) = match flaw {
            Flaw::Expired => (2020, date_time_ymd(2020, 3, 1)),
            Flaw::NotYetValid => (2090, date_time_ymd(2091, 1, 1)),
            _ => (2020, date_time_ymd(2098, 1, 1)),
        };
        params.not_before = date_time_ymd(first, 1, 1);
        params.not_after = last;
        let key = KeyPair::generate().unwrap();
        let (certificate, issuer_pem) = match flaw {
            Flaw::SelfSigned => (params.self_signed(&key).unwrap(), None),
            Flaw::UntrustedIssuer => {
                let other = Self::new("Nobody's authority");
                (params.signed_by(&key, &other.issuer).unwrap(), Some(other.certificate))
            }
            Flaw::MissingIntermediate => (params.signed_by(&key, &self.intermediate()).unwrap(), None),
            _ => (params.signed_by(&key, &self.issuer).unwrap(), Some(self.certificate.clone())),
        };
        let all: Vec<_> = std::iter::once(certificate).chain(issuer_pem).collect();
        Leaf {
            chain: all.iter().map(|c| c.der().clone()).collect(),
            chain_pem: all.iter().map(rcgen::Certificate::pem).collect(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }

    /// A leaf for `name` with an RSA key of 1024 bits.
    pub fn issue_short(&self, name: &str) -> Leaf {
        let leaf = Leaf::short();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2098, 1, 1);
        let own = params.signed_by(&ShownKey::of(&leaf.chain[0]), &self.issuer).unwrap();
        let all = [own, self.certificate.clone()];
        Leaf {
            chain: all.iter().map(|c| c.der().clone()).collect(),
            chain_pem: all.iter().map(rcgen::Certificate::pem).collect(),
            ..leaf
        }
    }
}

impl Leaf {
    /// A certificate that nobody vouches for, with an RSA key of 1024 bits.
    pub fn short() -> Self {
        let pem = include_str!("../../tests/delivery/odd/rsa_1024.pem");
        let (chain_pem, key_pem) = pem.split_at(pem.find("-----BEGIN RSA").unwrap());
        Self {
            chain: vec![CertificateDer::from_pem_slice(chain_pem.as_bytes()).unwrap()],
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap().secret_der().to_vec(),
        }
    }

    /// The server half of a TLS session that shows this leaf whatever the SNI.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified_key())));
        Arc::new(config)
    }

    /// The SHA-256 of a certificate's key, for a TLSA record; 0 is the leaf, 1 its authority.
    pub fn key_digest(&self, place: usize) -> [u8; 32] {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.chain[place]).unwrap();
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
        digest.as_ref().try_into().unwrap()
    }

    /// Chain and key for a resolver that chooses by SNI.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        let key: Arc<dyn SigningKey> = match PrivateKeyDer::try_from(self.key.clone()).unwrap() {
            PrivateKeyDer::Pkcs1(key) => {
                Arc::new(ShortKey::from_pkcs1(key.secret_pkcs1_der(), SignatureScheme::RSA_PSS_SHA256, false))
            }
            key => provider().key_provider.load_private_key(key).unwrap(),
        };
        Arc::new(CertifiedKey::new(self.chain.clone(), key))
    }
}
