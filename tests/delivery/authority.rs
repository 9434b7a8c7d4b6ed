//! A certificate authority and the servers it vouches for.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealpost::delivery::starttls::Tls;

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

    /// A server that shows a certificate whose key it does not have.
    pub(crate) fn replaying(&self, name: &str) -> Arc<rustls::ServerConfig> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.ca).unwrap();
        let another = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(another).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![leaf.der().clone()], key);
        Arc::new(builder().with_cert_resolver(Arc::new(Replay(Arc::new(shown)))))
    }
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
