//! A certificate authority and the servers it vouches for.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use sealpost::delivery::starttls::Tls;

use crate::short_key::{ShortKey, ShownKey};

pub(crate) struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// What a relay that trusts this authority has.
    pub(crate) fn tls(&self) -> Tls {
        Tls::new(self.roots())
    }

    pub(crate) fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.as_ref().der().to_vec())).unwrap();
        Arc::new(roots)
    }

    pub(crate) fn server(&self, name: &str, expired: bool) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        }
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder().with_single_cert(vec![leaf.der().clone()], key).unwrap();
        Arc::new(config)
    }

    /// A certificate of this authority, as changed.
    pub(crate) fn leaf(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        Leaf { chain: vec![leaf.der().clone(), self.certificate()], key: key.serialize_der() }
    }

    /// A certificate of this authority for `name` and the key of `leaf`.
    pub(crate) fn vouches_for(&self, name: &str, leaf: Leaf) -> Leaf {
        let key = ShownKey::of(&leaf.chain[0]);
        let own = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.ca).unwrap();
        Leaf { chain: vec![own.der().clone(), self.certificate()], ..leaf }
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.ca.as_ref().der().to_vec())
    }

    /// A server that shows a certificate whose key it does not have.
    pub(crate) fn replaying(&self, name: &str) -> Arc<rustls::ServerConfig> {
        self.leaf(name, |_| {}).without_its_key().server(rustls::DEFAULT_VERSIONS)
    }
}

/// A chain and a key to sign with, which nothing but [`Leaf::server`] holds together.
pub(crate) struct Leaf {
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Leaf {
    /// From PEM: a certificate, and its key where there is one; else a key that is not its own.
    pub(crate) fn from_pem(pem: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok();
        let key =
            key.map_or_else(|| KeyPair::generate().unwrap().serialize_der(), |k| k.secret_der().to_vec());
        Self { chain: vec![certificate], key }
    }

    /// The same certificate in the hands of somebody who has copied it.
    pub(crate) fn without_its_key(self) -> Self {
        Self { key: KeyPair::generate().unwrap().serialize_der(), ..self }
    }

    /// `3 1 1`, of the leaf.
    pub(crate) fn tlsa(&self) -> String {
        tlsa(3, &self.chain[0])
    }

    /// A server that shows the chain, whatever is odd about it.
    pub(crate) fn server(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ServerConfig> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        self.shown(versions, provider.key_provider.load_private_key(key).unwrap())
    }

    /// The like, where its key, PKCS#1, is too short for rustls: it signs by `scheme`, perhaps another handshake.
    pub(crate) fn short_server(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        scheme: SignatureScheme,
        forging: bool,
    ) -> Arc<rustls::ServerConfig> {
        self.shown(&[version], Arc::new(ShortKey::from_pkcs1(&self.key, scheme, forging)))
    }

    fn shown(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        key: Arc<dyn SigningKey>,
    ) -> Arc<rustls::ServerConfig> {
        let shown = rustls::sign::CertifiedKey::new(self.chain.clone(), key);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth();
        Arc::new(config.with_cert_resolver(Arc::new(Replay(Arc::new(shown)))))
    }
}

/// `<usage> 1 1` of a certificate, as in a zone.
pub(crate) fn tlsa(usage: u8, certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let key = parsed.tbs_certificate.subject_pki.raw;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("{usage} 1 1 {hex}")
}

fn builder() -> rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
}

#[derive(Debug)]
struct Replay(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Replay {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
