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
    /// The machine is there, and nobody listens on this port.
    pub refused: bool,
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
        Err(mail_send::Error::Io(e)) => {
            let refused = e.kind() == io::ErrorKind::ConnectionRefused;
            Err(DialFault { words: e.to_string(), local: is_local(&e, source.is_some()), refused })
        }
        Err(mail_send::Error::Timeout) => {
            Err(DialFault { words: "connection timed out".to_owned(), local: false, refused: false })
        }
        Err(e) => Err(DialFault { words: e.to_string(), local: false, refused: false }),
    }
}

/// Descriptors, memory, and configured source addresses that this machine does not have. A network that cannot be
/// reached may be the remote's fault or ours, and is treated like any other host that cannot be reached: a machine
/// without IPv6 says of every IPv6 host that no address is available, and IPv4 must still be tried.
fn is_local(e: &io::Error, source_configured: bool) -> bool {
    use rustix::io::Errno;
    (e.kind() == io::ErrorKind::AddrNotAvailable && source_configured)
        || e.kind() == io::ErrorKind::OutOfMemory
        || e.raw_os_error().is_some_and(|n| {
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS].iter().any(|local| local.raw_os_error() == n)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    // OUT-07
    #[test]
    fn a_machine_without_ipv6_does_not_take_the_fault_for_its_own() {
        let no_address = io::Error::from_raw_os_error(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error());
        let no_descriptor = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let unreachable = io::Error::from_raw_os_error(rustix::io::Errno::NETUNREACH.raw_os_error());
        assert!(!is_local(&no_address, false));
        assert!(is_local(&no_address, true), "the configured source address is missing");
        assert!(is_local(&no_descriptor, false));
        assert!(!is_local(&unreachable, false));
    }
}
