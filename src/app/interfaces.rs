//! The addresses of this machine: where a listener on every address answers (OUT-08).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::SourceAddress;

/// The addresses at which a listener on `listen` answers. Interfaces are looked at when this is called; an address
/// that joins later is learnt at the next start.
pub(super) fn answering(listen: SocketAddr) -> Vec<SocketAddr> {
    expand(listen, local)
}

/// Refuses source addresses that a connection cannot be made from.
///
/// # Errors
/// One sentence with the key, the address, and what would help.
pub(super) fn are_local(sources: &[SourceAddress]) -> Result<(), String> {
    for source in sources {
        // The kernel knows best: a socket is bound to it, and nothing is sent.
        UdpSocket::bind((source.address, 0)).map_err(|e| {
            format!(
                "delivery.source_addresses: {} cannot be sent from: {e}; write an address that this machine has",
                source.address
            )
        })?;
    }
    Ok(())
}

/// The addresses of this machine, as its interfaces have them now.
pub(super) fn local() -> Vec<IpAddr> {
    // A machine without these files has loopback at least.
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    local_addresses(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"))
}

/// A listener on every address answers at each of this machine; one on `::` at those of IPv4 too.
fn expand(listen: SocketAddr, local: impl FnOnce() -> Vec<IpAddr>) -> Vec<SocketAddr> {
    let mut own = vec![listen];
    if listen.ip().is_unspecified() {
        let all = local().into_iter().chain([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        own.extend(
            all.filter(|ip| listen.is_ipv6() || ip.is_ipv4()).map(|ip| SocketAddr::new(ip, listen.port())),
        );
        own.sort();
        own.dedup();
    }
    own
}

/// Reads the kernel's IPv4 forwarding trie, in which a leaf `|-- ADDRESS` is followed by its `/32 host LOCAL`, and its
/// list of IPv6 addresses, in 32 hexadecimal digits each.
fn local_addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in fib_trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address.parse::<Ipv4Addr>().ok(),
            None if line == "/32 host LOCAL" => found.extend(leaf.map(IpAddr::V4)),
            None => {}
        }
    }
    for line in if_inet6.lines() {
        let digits = line.split_whitespace().next().filter(|d| d.len() == 32);
        let bits = digits.and_then(|d| u128::from_str_radix(d, 16).ok());
        found.extend(bits.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
";
    const IF_INET6: &str = "20010db8000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
nonsense
";

    #[test]
    fn the_kernels_tables_give_each_local_address_once() {
        let found = local_addresses(FIB_TRIE, IF_INET6);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1", "192.0.2.2", "::1", "2001:db8::2"]);
        assert!(local_addresses("", "").is_empty());
    }

    // OUT-57
    #[test]
    fn an_address_of_another_machine_is_named() {
        let source = |address: &str| SourceAddress { address: address.parse().unwrap(), ehlo: None };
        assert!(are_local(&[source("127.0.0.1"), source("127.0.0.9")]).is_ok());
        let error = are_local(&[source("127.0.0.1"), source("192.0.2.77")]).unwrap_err();
        assert!(error.contains("192.0.2.77") && error.contains("delivery.source_addresses"), "{error}");
    }

    // OUT-08
    #[test]
    fn a_listener_on_every_address_answers_at_each_of_them() {
        let at = |listen: &str| -> Vec<String> {
            let own = expand(listen.parse().unwrap(), || local_addresses(FIB_TRIE, IF_INET6));
            own.iter().map(ToString::to_string).collect()
        };
        assert_eq!(at("192.0.2.2:25"), ["192.0.2.2:25"]);
        assert_eq!(at("0.0.0.0:25"), ["0.0.0.0:25", "127.0.0.1:25", "192.0.2.2:25"]);
        let dual = ["127.0.0.1:25", "192.0.2.2:25", "[::]:25", "[::1]:25", "[2001:db8::2]:25"];
        assert_eq!(at("[::]:25"), dual);
    }
}
