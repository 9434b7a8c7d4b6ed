//! The certificate that clients see, and its replacement while the relay runs (DUR-23).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio_util::sync::CancellationToken;
use x509_parser::time::ASN1Time;

use crate::clock::Timestamp;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(10);

/// A certificate chain and key in two PEM files, read again when they change.
#[derive(Debug)]
pub struct ReloadingCertificate {
    certificate: PathBuf,
    private_key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Stamp>,
    refused: Mutex<Option<String>>,
}

type Stamp = [Option<(SystemTime, u64)>; 2];

/// Why a pair of files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds no PEM of the kind wanted.
    #[error("{path}: {what}", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Key and certificate do not belong together, or the key is of a kind that is not supported.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
    /// The certificate has expired.
    #[error("the certificate has expired")]
    Expired,
}

impl ReloadingCertificate {
    /// Reads both files for the first time. An expired certificate is let pass here, with a warning: clients that
    /// do not verify still get TLS.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn load(certificate: &Path, private_key: &Path) -> Result<Self, CertificateError> {
        let seen = stamp(certificate, private_key);
        let key = read(certificate, private_key)?;
        if expired(&key) {
            tracing::warn!(event = "certificate-expired", path = %certificate.display());
        }
        Ok(Self {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            current: ArcSwap::from_pointee(key),
            seen: Mutex::new(seen),
            refused: Mutex::default(),
        })
    }

    /// The file of the certificate.
    pub fn file(&self) -> &Path {
        &self.certificate
    }

    /// The last moment of the certificate that clients see; `None` when it cannot be read off.
    pub fn expires(&self) -> Option<Timestamp> {
        let seconds = not_after(&self.current.load())?.timestamp();
        Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
    }

    /// Why what the files hold now is not what clients see; `None` when it is.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads both files again. Sessions that exist keep what they have.
    ///
    /// # Errors
    /// [`CertificateError`], after which the old pair stays in use.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let reloaded = self.replace();
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) =
            reloaded.as_ref().err().map(ToString::to_string);
        reloaded
    }

    fn replace(&self) -> Result<(), CertificateError> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            stamp(&self.certificate, &self.private_key);
        let key = read(&self.certificate, &self.private_key)?;
        if expired(&key) {
            return Err(CertificateError::Expired);
        }
        self.current.store(Arc::new(key));
        tracing::info!(event = "certificate-reloaded", path = %self.certificate.display());
        Ok(())
    }

    /// Reloads when a file has changed since it was last read; logs a pair that cannot be used.
    pub fn poll(&self) {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp(&self.certificate, &self.private_key) != seen
            && let Err(error) = self.reload()
        {
            tracing::error!(event = "certificate-kept", %error, "the new certificate cannot be used; the old one stays");
        }
    }

    /// Polls until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            let this = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || this.poll()).await.is_err() {
                tracing::error!(event = "certificate-poll-failed");
            }
        }
    }

    /// The TLS settings of listeners: TLS 1.2 and 1.3 (SUB-13), no client certificates (SUB-15).
    ///
    /// # Errors
    /// Of rustls, if the provider lacks these versions.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        Ok(Arc::new(
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
                .with_no_client_auth()
                .with_cert_resolver(resolver),
        ))
    }
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn stamp(certificate: &Path, private_key: &Path) -> Stamp {
    [certificate, private_key].map(|p| {
        let meta = fs::metadata(p).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

fn read(certificate: &Path, private_key: &Path) -> Result<CertifiedKey, CertificateError> {
    let file =
        |path: &Path| fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error });
    let pem = |path: &Path, what: String| CertificateError::Pem { path: path.to_owned(), what };
    let chain = CertificateDer::pem_slice_iter(&file(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem(certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(pem(certificate, "no certificate in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&file(private_key)?).map_err(|e| pem(private_key, e.to_string()))?;
    Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?)
}

fn expired(key: &CertifiedKey) -> bool {
    not_after(key).is_some_and(|end| end < ASN1Time::now())
}

fn not_after(key: &CertifiedKey) -> Option<ASN1Time> {
    let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    Some(leaf.validity().not_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (certificate, key) = (dir.join("chain.pem"), dir.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    // DUR-23
    #[test]
    fn a_new_pair_is_taken_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write(dir.path(), "one.example");
        let served = ReloadingCertificate::load(&certificate, &key).unwrap();
        let first = served.current.load_full();
        served.poll();
        assert!(Arc::ptr_eq(&first, &served.current.load_full()), "unchanged files are left alone");
        assert_eq!(served.refused(), None);

        fs::write(&key, "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n").unwrap();
        served.poll();
        assert!(Arc::ptr_eq(&first, &served.current.load_full()), "a broken key");
        assert!(served.refused().is_some_and(|why| why.contains("key.pem")), "{:?}", served.refused());
        let other = rcgen::generate_simple_self_signed(vec!["two.example".to_owned()]).unwrap();
        fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(matches!(served.reload(), Err(CertificateError::Pair(_))), "a key of another certificate");
        fs::remove_file(&key).unwrap();
        assert!(matches!(served.reload(), Err(CertificateError::Read { .. })));
        assert!(Arc::ptr_eq(&first, &served.current.load_full()));

        write(dir.path(), "three.example");
        served.poll();
        assert!(!Arc::ptr_eq(&first, &served.current.load_full()));
        assert!(served.current.load_full().cert != first.cert);
        assert_eq!(served.refused(), None);
    }

    #[test]
    fn an_expired_certificate_does_not_replace_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write(dir.path(), "one.example");
        let served = ReloadingCertificate::load(&certificate, &key).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["one.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let pair = rcgen::KeyPair::generate().unwrap();
        fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        assert!(matches!(served.reload(), Err(CertificateError::Expired)));
        assert!(served.expires() > Some(Timestamp::from_millis(1_600_000_000_000)), "that of the one in use");
        let past = ReloadingCertificate::load(&certificate, &key).unwrap();
        assert_eq!(past.expires().map(Timestamp::utc_day).as_deref(), Some("2020-01-01"));
    }
}
