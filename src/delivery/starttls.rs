//! The TLS handshake after a 220 to STARTTLS, and what was seen in it.
//!
//! The handshake itself accepts any certificate; [`security::pkix`](crate::security::pkix) judges the chain
//! afterwards, so that a refusal comes with every cause and the connection can be closed politely. What cannot
//! be made up for afterwards is the proof that the peer has the key: where TLS is demanded a bad handshake signature ends
//! the handshake (RFC 8446 §4.4.3), elsewhere it is recorded, since refusing it would mean the clear.
//!
//! No resumption: a resumed session would skip the evidence (TLS-27).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mail_send::SmtpClient;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::route::smart_host::Rule;
use crate::security::decide::Demand;
use crate::security::pkix;
use crate::security::verdict::{HandshakeFault, PeerChain, TlsFacts};
use crate::security::weak_rsa::{LEAST_BITS, WeakKey};

/// The authorities and algorithms of outbound TLS. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Tls {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    /// Those of rules with authorities of their own, by the rule's number.
    own: Arc<BTreeMap<u32, Self>>,
}

impl Tls {
    /// Trusts `roots` for MX hosts.
    pub fn new(roots: Arc<RootCertStore>) -> Self {
        Self { roots, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()), own: Arc::default() }
    }

    /// Trusts other authorities for the next hops of some rules, by the rule's number.
    #[must_use]
    pub fn with_roots_of_rules(self, roots: impl IntoIterator<Item = (u32, Arc<RootCertStore>)>) -> Self {
        let own = roots.into_iter().map(|(number, roots)| (number, Self::new(roots))).collect();
        Self { own: Arc::new(own), ..self }
    }

    /// The authorities for hosts of `rule`.
    pub fn of_rule(&self, rule: Option<&Rule>) -> &Self {
        rule.filter(|r| r.own_roots).and_then(|r| self.own.get(&r.number)).unwrap_or(self)
    }

    /// Shakes hands within `limit`. The chain is judged for `host`, `sni` is asked for; `demand` says whether the peer must prove
    /// anything. `now` is when the chain is judged.
    ///
    /// # Errors
    /// [`HandshakeFault`]; the connection is closed then.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
        host: &Domain,
        sni: &Domain,
        demand: Demand,
        limit: Duration,
        now: Timestamp,
    ) -> Result<(TlsStream<TcpStream>, TlsFacts), HandshakeFault> {
        let verifier = Arc::new(Recorder {
            provider: Arc::clone(&self.provider),
            strict: demand.tls,
            signature_verified: AtomicBool::new(false),
            too_few_bits: AtomicUsize::new(0),
        });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|e| HandshakeFault { token: "tls-config".to_owned(), words: e.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let (name, sni_sent) = server_name(sni, demand.authenticated());
        config.enable_sni = sni_sent;
        let client = SmtpClient { stream: tcp, timeout: limit };
        let connector = TlsConnector::from(Arc::new(config));
        let shaken = client.into_tls(&connector, name).await;
        let client = shaken.map_err(|e| verifier.weak_key().unwrap_or_else(|| fault_of(&e)))?;

        let session = client.tls_connection();
        let chain: Vec<CertificateDer<'static>> = {
            let sent = session.peer_certificates().unwrap_or_default();
            sent.iter().map(|c| c.clone().into_owned()).collect()
        };
        let algorithms = &self.provider.signature_verification_algorithms;
        let facts = TlsFacts {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
                other => other.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default(),
            },
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|s| s.suite().as_str())
                .unwrap_or_default()
                .to_owned(),
            sni: sni_sent.then(|| sni.clone()),
            signature_verified: verifier.signature_verified.load(Ordering::Acquire),
            pkix: pkix::judge(&chain, host, &self.roots, algorithms, now),
            certificate: chain.first().and_then(pkix::facts),
            chain: PeerChain { certificates: chain, algorithms: *algorithms, judged: now },
        };
        Ok((client.stream, facts))
    }
}

/// The name for SNI (RFC 8461 §7.1), and whether it may be sent. Where nobody is to be authenticated an odd name goes
/// unsent rather than costing the encryption.
fn server_name(host: &Domain, authenticated: bool) -> (&str, bool) {
    match ServerName::try_from(host.as_str()) {
        Ok(ServerName::DnsName(_)) => (host.as_str(), authenticated || !host.as_str().contains('_')),
        // Never sent: a placeholder for an API that wants one.
        _ => ("unnamed.invalid", false),
    }
}

fn fault_of(error: &mail_send::Error) -> HandshakeFault {
    let fault = |token: &str, words: String| HandshakeFault { token: token.to_owned(), words };
    match error {
        mail_send::Error::Timeout => fault("handshake-timeout", "timed out".to_owned()),
        mail_send::Error::Io(e) if e.kind() == io::ErrorKind::TimedOut => {
            fault("handshake-timeout", e.to_string())
        }
        mail_send::Error::Io(_) => fault("handshake-eof", "the peer closed the connection".to_owned()),
        mail_send::Error::Tls(e) => match &**e {
            rustls::Error::AlertReceived(alert) => {
                let number = u8::from(*alert);
                fault(&format!("tls-alert-{number}"), format!("the peer sent alert {alert:?}"))
            }
            rustls::Error::InvalidCertificate(_) => HandshakeFault::unproven(),
            rustls::Error::PeerIncompatible(_) => fault("tls-incompatible", e.to_string()),
            rustls::Error::InvalidMessage(_) => fault("tls-invalid-message", e.to_string()),
            _ => fault("tls-error", e.to_string()),
        },
        _ => fault("tls-error", error.to_string()),
    }
}

/// Lets every chain through, and checks the handshake's signature strictly or for the record.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    /// A bad signature ends the handshake.
    strict: bool,
    signature_verified: AtomicBool,
    /// The bits of an RSA key that was refused because it has too few.
    too_few_bits: AtomicUsize,
}

impl Recorder {
    fn recorded(
        &self,
        certificate: &CertificateDer<'_>,
        checked: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match checked {
            Ok(valid) => {
                self.signature_verified.store(true, Ordering::Release);
                Ok(valid)
            }
            Err(e) if self.strict => {
                let bits = WeakKey::of(certificate).map(|key| key.bits()).filter(|bits| *bits < LEAST_BITS);
                self.too_few_bits.store(bits.unwrap_or_default(), Ordering::Release);
                Err(e)
            }
            Err(_) => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    /// What there is to say when the handshake ended over an RSA key of too few bits.
    fn weak_key(&self) -> Option<HandshakeFault> {
        let bits = Some(self.too_few_bits.load(Ordering::Acquire)).filter(|bits| *bits > 0)?;
        Some(HandshakeFault {
            token: "weak-key".to_owned(),
            words: format!(
                "the RSA key of its certificate has {bits} bits, and fewer than {LEAST_BITS} prove nothing"
            ),
        })
    }
}

/// The same check with the certificate's key alone, for certificates that webpki does not read (version 1, flagged as
/// an authority, with an unknown critical extension), and for RSA keys that the provider finds too short. DANE-EE asks for
/// no more than the key (RFC 7672 §3.1.1); whoever asks for more judges the certificate apart.
fn by_key_alone(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<HandshakeSignatureValid> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let info = &parsed.tbs_certificate.subject_pki;
    let (_, outer) = Any::from_der(info.raw).ok()?;
    let (_, identifier) = Any::from_der(outer.data).ok()?;
    let (_, candidates) = algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme)?;
    let fits = |a: &&&dyn SignatureVerificationAlgorithm| a.public_key_alg_id().as_ref() == identifier.data;
    let proven = candidates
        .iter()
        .filter(fits)
        .any(|a| a.verify_signature(&info.subject_public_key.data, message, dss.signature()).is_ok())
        || WeakKey::of(certificate).is_some_and(|key| key.verifies(dss.scheme, message, dss.signature()));
    proven.then(HandshakeSignatureValid::assertion)
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let checked = verify_tls12_signature(message, cert, dss, algorithms);
        self.recorded(cert, checked.or_else(|e| by_key_alone(message, cert, dss, algorithms).ok_or(e)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let checked = verify_tls13_signature(message, cert, dss, algorithms);
        // RFC 8446 §4.4.3: PKCS#1 has no place in this signature, whoever's key made it.
        let pkcs1 = matches!(
            dss.scheme,
            SignatureScheme::RSA_PKCS1_SHA1
                | SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        );
        let by_key = || by_key_alone(message, cert, dss, algorithms).filter(|_| !pkcs1);
        self.recorded(cert, checked.or_else(|e| by_key().ok_or(e)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
