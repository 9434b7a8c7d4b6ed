//! The authorities trusted for MX and policy hosts: `[trust]` as a root store.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::Roots;

/// Reads the roots.
///
/// # Errors
/// One sentence naming the file and what is wrong with it.
pub fn load(roots: Roots, extra: &[PathBuf]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Webpki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err("trust.roots = \"system\", but this system has no root certificates: install ca-certificates, \
                            or write roots = \"webpki\""
                    .to_owned());
            }
        }
        Roots::None => {}
    }
    for path in extra {
        add_file(&mut store, path, "trust.extra_roots")?;
    }
    if store.is_empty() {
        return Err(
            "[trust] leaves no authority at all: with roots = \"none\", name PEM files in extra_roots"
                .to_owned(),
        );
    }
    Ok(store)
}

/// Reads the authorities in some files alone; `key` is where the files are named.
///
/// # Errors
/// One sentence naming the file and what is wrong with it.
pub(super) fn load_files(files: &[PathBuf], key: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for path in files {
        add_file(&mut store, path, key)?;
    }
    Ok(store)
}

fn add_file(store: &mut RootCertStore, path: &Path, key: &str) -> Result<(), String> {
    let bad = |what: String| format!("{key}: {}: {what}", path.display());
    let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| bad(format!("not a PEM certificate: {e}")))?;
        store.add(certificate).map_err(|e| bad(format!("not usable as an authority: {e}")))?;
        any = true;
    }
    if any { Ok(()) } else { Err(bad("holds no certificate in PEM form".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_root_file_is_named_with_its_fault() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let e = load(Roots::Webpki, &[empty]).unwrap_err();
        assert!(e.contains("empty.pem") && e.contains("no certificate"), "{e}");
        let e = load(Roots::None, &[dir.path().join("missing.pem")]).unwrap_err();
        assert!(e.contains("missing.pem"), "{e}");
        assert!(load(Roots::None, &[]).unwrap_err().contains("extra_roots"));
        assert!(!load(Roots::Webpki, &[]).unwrap().is_empty());
    }
}
