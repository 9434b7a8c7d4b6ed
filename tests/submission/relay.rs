//! A relay with three doors and a store that keeps what it is given.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use argon2::PasswordHasher;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sealpost::clock::{ManualClock, Timestamp};
use sealpost::dkim::{Signers, SigningKey};
use sealpost::dns::Dnssec;
use sealpost::mail::{Domain, Envelope, QueueId};
use sealpost::queue::{
    ClaimTerms, Delayed, Due, DueQuery, Enqueued, Filter, Finish, Intake, Lease, LeaseId, ListedRecipient,
    NewMessage, Permit, QueueStore, ShownMessage, StoreError, StoreHealth, Suspension, Touched, Which,
};
use sealpost::submission::accept::Acceptor;
use sealpost::submission::fixup::SenderRule;
use sealpost::submission::smtp_connection::Service;
use sealpost::submission::smtp_listener::{Slots, serve};
use sealpost::submission::tls::ReloadingCertificate;
use sealpost::submission::{AuthRule, Listener, Protocol, Settings, Timers, User};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Store(pub(crate) Mutex<Vec<NewMessage>>);

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

fn closed<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(async { Err(StoreError::Closed) })
}

impl QueueStore for Store {
    fn enqueue(&self, message: NewMessage, _: Option<ClaimTerms>) -> Answer<'_, Enqueued> {
        self.0.lock().unwrap().push(message);
        Box::pin(async { Ok(Enqueued { lease: None, already_there: false }) })
    }
    fn health(&self) -> StoreHealth {
        StoreHealth { writable: true, free: u64::MAX }
    }
    fn due(&self, _: DueQuery) -> Answer<'_, Due> {
        closed()
    }
    fn claim(&self, _: Domain, _: Which, _: usize, _: ClaimTerms) -> Answer<'_, Vec<Lease>> {
        closed()
    }
    fn content(&self, _: QueueId, _: u32) -> Answer<'_, Option<Bytes>> {
        closed()
    }
    fn finish(&self, _: Finish) -> Answer<'_, ()> {
        closed()
    }
    fn release(&self, _: LeaseId, _: Vec<u32>, _: Option<Timestamp>) -> Answer<'_, ()> {
        closed()
    }
    fn suspend(&self, _: Domain, _: Option<Suspension>) -> Answer<'_, ()> {
        closed()
    }
    fn delayed(&self, _: Timestamp, _: Option<(QueueId, u32)>, _: usize) -> Answer<'_, Vec<Delayed>> {
        closed()
    }
    fn warned(&self, _: Vec<(QueueId, u32)>, _: Vec<NewMessage>) -> Answer<'_, ()> {
        closed()
    }
    fn purge(&self, _: Duration, _: u64) -> Answer<'_, bool> {
        closed()
    }
    fn heartbeat(&self) -> Answer<'_, ()> {
        closed()
    }
    fn list(&self, _: Filter, _: usize) -> Answer<'_, Vec<ListedRecipient>> {
        closed()
    }
    fn show(&self, _: QueueId) -> Answer<'_, Option<ShownMessage>> {
        closed()
    }
    fn retry(&self, _: Filter) -> Answer<'_, Touched> {
        closed()
    }
}

struct NoSlots;

impl Intake for NoSlots {
    fn permit(&self, _: &Envelope) -> Option<Permit> {
        None
    }
    fn arrived(&self, _: Option<Permit>, _: Option<Lease>) {}
    fn terms(&self, _: &Permit) -> ClaimTerms {
        unreachable!("no permit was given")
    }
}

/// Signs for the domain of app1.
pub(crate) fn signers() -> Signers {
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let key = SigningKey::from_pem(Domain::parse("example.org").unwrap(), "s1".to_owned(), &pem);
    Signers::new(vec![key.unwrap()])
}

/// One relay with three doors.
pub(crate) struct Relay {
    pub(crate) store: Arc<Store>,
    pub(crate) doors: [SocketAddr; 3],
    pub(crate) tls: tokio_rustls::TlsConnector,
    pub(crate) roots: rustls::RootCertStore,
    pub(crate) close: CancellationToken,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) const SUBMISSION: usize = 0;
pub(crate) const SUBMISSIONS: usize = 1;
pub(crate) const TRUSTED: usize = 2;

pub(crate) async fn relay(timers: Timers) -> Relay {
    relay_for(100, timers).await
}

/// A relay with room for so many connections.
pub(crate) async fn relay_for(connections: usize, timers: Timers) -> Relay {
    relay_with(connections, timers, Dnssec::new(true)).await
}

/// A relay that cannot ask DNSSEC, and so keeps no REQUIRETLS.
pub(crate) async fn relay_without_dnssec() -> Relay {
    relay_with(100, Timers::default(), Dnssec::new(false)).await
}

async fn relay_with(connections: usize, timers: Timers, dnssec: Dnssec) -> Relay {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["relay.example.net".to_owned()]).unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let certificate = Arc::new(ReloadingCertificate::load(&file("chain.pem"), &file("key.pem")).unwrap());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();

    let cheap = argon2::Argon2::from(argon2::Params::new(8, 1, 1, None).unwrap());
    let settings = Arc::new(Settings {
        hostname: Domain::parse("relay.example.net").unwrap(),
        trusted_networks: vec!["127.0.0.0/8".parse().unwrap()],
        max_message_size: 1024 * 1024,
        max_recipients: 1000,
        max_connections: connections,
        max_connections_per_source: connections,
        reserve: 0,
        users: vec![User {
            name: "app1".into(),
            password_hash: cheap.hash_password(b"secret").unwrap().to_string(),
            allowed_senders: vec![SenderRule::parse("app1@example.org").unwrap()],
        }],
        data_dir: dir.path().to_owned(),
        dnssec,
        timers,
    });
    let store = Arc::new(Store::default());
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_333_080_000)));
    let acceptor = Acceptor::new(settings, store.clone(), Arc::new(NoSlots), clock).signing(signers());
    let service = Arc::new(Service::new(acceptor, Some(certificate.server_config().unwrap())).unwrap());
    let (close, slots) = (CancellationToken::new(), Slots::new(connections, connections));
    let mut doors = Vec::new();
    for (protocol, auth) in [
        (Protocol::Smtp, AuthRule::Required),
        (Protocol::Smtps, AuthRule::Required),
        (Protocol::Smtp, AuthRule::Optional),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        doors.push(address);
        let rules = Listener { address, protocol, auth };
        tokio::spawn(serve(socket, rules, service.clone(), slots.clone(), close.clone()));
    }
    let doors = doors.try_into().unwrap();
    Relay { store, doors, tls: Arc::new(client).into(), roots, close, dir }
}
