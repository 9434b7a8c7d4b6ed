//! Scripted MX hosts that remember everything they saw.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ca::Leaf;

mod behaviour;
mod dialogue;

pub use behaviour::{Behaviour, StartTls};
use dialogue::Dialogue;

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The server name of the handshake.
    pub sni: Option<String>,
    /// The protocol version, such as `TLSv1_3`.
    pub tls_version: Option<String>,
    /// Why the handshake failed, in our library's words.
    pub tls_error: Option<String>,
    /// Every command line, with whether it came inside TLS.
    pub commands: Vec<(bool, String)>,
}

/// One message whose final dot came.
#[derive(Debug, Clone)]
pub struct Message {
    /// The index of its connection.
    pub connection: usize,
    /// Whether it came inside TLS.
    pub tls: bool,
    /// MAIL FROM with its parameters, as written.
    pub mail: String,
    /// The accepted RCPT TO with their parameters, as written.
    pub rcpt: Vec<String>,
    /// The content with dot-stuffing undone.
    pub content: Vec<u8>,
    /// Whether a reply to the final dot was written.
    pub answered: bool,
    /// When the final dot came.
    pub at: Instant,
}

impl Message {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// What a host has seen since it was made.
#[derive(Debug, Default)]
pub struct Seen {
    /// All connections.
    pub connections: Vec<Connection>,
    /// All messages whose final dot came.
    pub messages: Vec<Message>,
    greylisted: HashSet<(String, String)>,
}

impl Seen {
    /// How many MAIL commands came, inside TLS or in the clear.
    pub fn mail_commands(&self, tls: bool) -> usize {
        let commands = self.connections.iter().flat_map(|c| &c.commands);
        commands.filter(|(t, line)| *t == tls && line.to_ascii_uppercase().starts_with("MAIL ")).count()
    }
}

/// A scripted MX host.
#[derive(Clone)]
pub struct MxHost(Arc<Inner>);

struct Inner {
    name: String,
    address: SocketAddr,
    behaviour: Mutex<Behaviour>,
    tls: Mutex<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
    /// Its value changes when all open connections are to be dropped.
    epoch: watch::Sender<u64>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl MxHost {
    /// Listens on `address` and shows `leaf`.
    pub async fn start(name: &str, address: SocketAddr, leaf: &Leaf) -> Self {
        Self::open(name, address, leaf)
    }

    /// The like, for those who cannot wait; inside a runtime all the same.
    pub fn open(name: &str, address: SocketAddr, leaf: &Leaf) -> Self {
        Self::on(name, std::net::TcpListener::bind(address).unwrap(), leaf)
    }

    /// The like, on a place that is held for it.
    pub fn on(name: &str, listener: std::net::TcpListener, leaf: &Leaf) -> Self {
        let host = Self(Arc::new(Inner {
            name: name.to_owned(),
            address: listener.local_addr().unwrap(),
            behaviour: Mutex::default(),
            tls: Mutex::new(leaf.server_config()),
            seen: Mutex::default(),
            epoch: watch::Sender::new(0),
            listening: Mutex::default(),
        }));
        host.serve(listener);
        host
    }

    /// Its name in MX records.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Changes the certificate and drops every open connection, so that no session outlives it.
    pub fn certificate(&self, leaf: &Leaf) {
        *self.0.tls.lock().unwrap() = leaf.server_config();
        self.hang_up();
    }

    /// Changes the behaviour from the next command on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.behaviour.lock().unwrap());
    }

    /// How many MAIL commands came in the clear, and how many messages came in all.
    pub fn saw(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.mail_commands(false), seen.messages.len())
    }

    /// What it saw so far. It sees nothing more, and a second call waits, while the result lives.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap()
    }

    /// Drops every open connection.
    pub fn hang_up(&self) {
        self.0.epoch.send_modify(|e| *e += 1);
    }

    /// Refuses connections from now on, and drops the open ones.
    pub async fn stop(&self) {
        let task = self.0.listening.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        self.hang_up();
    }

    /// Listens, at first or again after [`MxHost::stop`].
    pub async fn listen(&self) {
        self.serve(std::net::TcpListener::bind(self.0.address).unwrap());
    }

    fn serve(&self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let host = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut seen = host.seen();
                    seen.connections.push(Connection::default());
                    seen.connections.len() - 1
                };
                let (host, mut epoch) = (host.clone(), host.0.epoch.subscribe());
                tokio::spawn(async move {
                    let mut dialogue = Dialogue::new(&host, index);
                    tokio::select! {
                        _ = dialogue.run(stream) => {}
                        _ = epoch.changed() => {}
                    }
                });
            }
        });
        *self.0.listening.lock().unwrap() = Some(task);
    }

    fn behaviour(&self) -> Behaviour {
        self.0.behaviour.lock().unwrap().clone()
    }
}
