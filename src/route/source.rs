//! Our own address on a connection (`delivery.source_addresses`).

use std::net::IpAddr;

use crate::mail::Domain;

/// A local address to send from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// What is said in EHLO from there; the relay's own name for `None`.
    pub ehlo: Option<Domain>,
}

/// The address for mail to `next_hop` over the family of `to`; `None`, where none is configured, leaves it to the system.
///
/// Always the same one for a domain: receivers judge an address by what it has sent them, and greylisting wants the
/// second attempt to come from where the first came. Over all domains the addresses get equal shares, and one that is
/// added or removed moves only its own share (rendezvous hashing).
pub fn choose<'s>(sources: &'s [Source], next_hop: &Domain, to: IpAddr) -> Option<&'s Source> {
    let of_family = sources.iter().filter(|s| s.address.is_ipv4() == to.is_ipv4());
    of_family.max_by_key(|s| weight(next_hop, s.address))
}

/// FNV-1a over both, its bits then mixed as SplitMix64 does: the same on every machine and in every release.
fn weight(domain: &Domain, address: IpAddr) -> u64 {
    let address = address.to_string();
    let octets = domain.as_str().bytes().chain([0]).chain(address.bytes());
    let hash = octets
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, octet| (h ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(addresses: &[&str]) -> Vec<Source> {
        addresses.iter().map(|a| Source { address: a.parse().unwrap(), ehlo: None }).collect()
    }

    fn chosen(sources: &[Source], n: usize, to: &str) -> Option<String> {
        let domain = Domain::parse(&format!("d{n}.example")).unwrap();
        choose(sources, &domain, to.parse().unwrap()).map(|s| s.address.to_string())
    }

    // OUT-57
    #[test]
    fn each_family_has_its_own_and_none_is_left_to_the_system() {
        let all = sources(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(chosen(&all, 1, "198.51.100.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(chosen(&all, 1, "2001:db8:1::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(chosen(&all[..1], 1, "2001:db8:1::1"), None);
        assert_eq!(chosen(&[], 1, "198.51.100.1"), None);
    }

    // OUT-57
    #[test]
    fn domains_are_shared_out_evenly_and_stay_where_they_are() {
        let (three, four) = (
            sources(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
            sources(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]),
        );
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for n in 0..3000 {
            let now = chosen(&three, n, "198.51.100.1").unwrap();
            *counts.entry(now.clone()).or_default() += 1;
            let then = chosen(&four, n, "198.51.100.1").unwrap();
            assert!(then == now || then == "192.0.2.4", "only the new address takes domains over");
        }
        assert!(counts.values().all(|n| (900..1100).contains(n)), "{counts:?}");
    }
}
