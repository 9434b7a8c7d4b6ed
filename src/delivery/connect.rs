//! Dialling one address of one host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mail_send::SmtpClient;
use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug)]
pub struct DialFault {
    /// In words.
    pub words: String,
    /// The fault is ours: no descriptor, no such source address. Stops the attempt, which does not count.
    pub local: bool,
}

/// Connects within `limit`, from `source` where one is given.
///
/// # Errors
/// [`DialFault`].
pub async fn dial(to: SocketAddr, source: Option<IpAddr>, limit: Duration) -> Result<TcpStream, DialFault> {
    let dialled = match source {
        Some(local) => SmtpClient::connect_using(local, to, limit).await,
        None => SmtpClient::connect(to, limit).await,
    };
    match dialled {
        Ok(client) => {
            // Commands are small and each waits for an answer: Nagle's algorithm would add a delay to each.
            // A socket that refuses the option still works.
            let _ = client.stream.set_nodelay(true);
            Ok(client.stream)
        }
        Err(mail_send::Error::Io(e)) => Err(DialFault { words: e.to_string(), local: is_local(&e) }),
        Err(mail_send::Error::Timeout) => {
            Err(DialFault { words: "connection timed out".to_owned(), local: false })
        }
        Err(e) => Err(DialFault { words: e.to_string(), local: false }),
    }
}

/// Descriptors, memory, and source addresses that this machine does not have. An unreachable network may be
/// the remote's fault or ours; it is treated like any other host that cannot be reached.
fn is_local(e: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(e.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || e.raw_os_error().is_some_and(|n| {
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS].iter().any(|local| local.raw_os_error() == n)
        })
}
