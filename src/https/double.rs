//! An HTTPS server on loopback for tests: gives every request the same octets and keeps what it was asked.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

/// The server. An answer that ends in `stall` leaves the connection open; one that ends in `endless` goes on for ever.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// The authority of its certificate, when it is to be trusted.
    pub(crate) roots: Arc<RootCertStore>,
    /// The heads of the requests.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    /// Their bodies, by Content-Length.
    pub(crate) bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    /// The SNI of each handshake that succeeded.
    pub(crate) server_names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    /// With a trusted certificate for `host`.
    pub(crate) async fn start(host: &str, answer: Vec<u8>) -> Self {
        Self::with_certificate(answer, CertificateParams::new(vec![host.to_owned()]).unwrap(), true).await
    }

    pub(crate) async fn with_certificate(answer: Vec<u8>, leaf: CertificateParams, trusted: bool) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (ca_key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let cert = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).unwrap();
        let mut roots = RootCertStore::empty();
        if trusted {
            roots.add(ca_cert.der().clone()).unwrap();
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            roots: Arc::new(roots),
            requests: Arc::default(),
            bodies: Arc::default(),
            server_names: Arc::default(),
        };
        let (requests, bodies) = (Arc::clone(&server.requests), Arc::clone(&server.bodies));
        let names = Arc::clone(&server.server_names);
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                names.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
                let (head, body) = read_request(&mut stream).await;
                requests.lock().unwrap().push(head);
                bodies.lock().unwrap().push(body);
                let _ = stream.write_all(&answer).await;
                while answer.ends_with(b"endless") && stream.write_all(&[b'x'; 4096]).await.is_ok() {}
                if answer.ends_with(b"stall") {
                    std::future::pending::<()>().await;
                }
                let _ = stream.shutdown().await;
            }
        });
        server
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body).await;
    (head, body)
}

/// A response with a Content-Length.
pub(crate) fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A port that nobody else gets and where nobody listens, as long as this is kept.
pub(crate) fn closed_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}
