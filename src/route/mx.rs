//! The pure half of routing: the order of MX hosts, which addresses may be dialled, and what is left when
//! we are an MX ourselves (RFC 5321 §5.1, RFC 7505).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Host, NoAddress, RouteFailure, RouteSettings};
use crate::dns::{Data, DnsResult, Mx};
use crate::mail::Domain;

/// An MX set, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxSet {
    /// "No mail service" (RFC 7505 §3).
    Null,
    /// Exchanges with their preferences, best first, equal preferences shuffled, each name once; never empty.
    Hosts(Vec<(u16, Domain)>),
}

/// Orders an MX set and cuts it to [`MAX_HOSTS`]. The same `seed` gives the same order.
///
/// A root exchange among others is dropped (NMX-03); alone it is the null MX, whatever its preference (NMX-02).
pub fn order(mut records: Vec<Mx>, seed: u64) -> MxSet {
    // Shuffling before a stable sort leaves equal preferences in random order (RFC 5321 §5.1).
    records.shuffle(&mut StdRng::seed_from_u64(seed));
    records.sort_by_key(|mx| mx.preference);
    let mut seen = HashSet::new();
    let hosts: Vec<_> = records
        .into_iter()
        .filter_map(|mx| mx.exchange.map(|name| (mx.preference, name)))
        .filter(|(_, name)| seen.insert(name.clone()))
        .take(MAX_HOSTS)
        .collect();
    if hosts.is_empty() { MxSet::Null } else { MxSet::Hosts(hosts) }
}

/// What the address answers of one host come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// What may be dialled, IPv6 and IPv4 in turn so that any cut keeps both families (OUT-07), or why there is nothing.
    pub usable: Result<Vec<IpAddr>, NoAddress>,
    /// Whether DNSSEC authenticates the addresses of at least one family, the aliases on the way included (DANE-08).
    pub secure: bool,
    /// The name at the end of the aliases.
    pub expanded: Option<Domain>,
}

/// Joins the address answers of both families of one host into what may be dialled.
pub fn usable_addresses(answers: Vec<DnsResult<IpAddr>>, settings: &RouteSettings) -> Addresses {
    let (mut families, mut failed, mut refused) = (Vec::new(), None, None::<(IpAddr, bool)>);
    let (mut secure, mut expanded) = (false, None);
    for answer in answers {
        match answer {
            Err(e) => failed = failed.or(Some(e)),
            Ok(answer) => {
                let Data::Records(found) = answer.data else { continue };
                // The alias of an insecure family says nothing beside a secure one.
                if !secure && (answer.secure || expanded.is_none()) {
                    expanded = answer.expanded;
                }
                secure |= answer.secure;
                let (mut good, mut seen) = (Vec::new(), HashSet::new());
                for ip in found.into_iter().filter(|ip| seen.insert(*ip)) {
                    match denied(ip, &settings.deny, &settings.allow) {
                        None => good.push(ip),
                        Some(kind) => {
                            let loopback = kind == DeniedKind::Loopback;
                            // "Loopback" must be true of all of them, so any other kind outweighs it.
                            if refused.is_none_or(|(_, all)| all && !loopback) {
                                refused = Some((ip, loopback));
                            }
                        }
                    }
                }
                families.push(good);
            }
        }
    }
    let addresses = interleave(families);
    let usable = match (failed, refused) {
        _ if !addresses.is_empty() => Ok(addresses),
        // The family that failed may hold an address that can be dialled: wait.
        (Some(e), _) => Err(NoAddress::Failed(e)),
        (None, Some((address, loopback))) => Err(NoAddress::Denied { address, loopback }),
        (None, None) => Err(NoAddress::None),
    };
    Addresses { usable, secure, expanded }
}

fn interleave(families: Vec<Vec<IpAddr>>) -> Vec<IpAddr> {
    let longest = families.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| families.iter().filter_map(move |f| f.get(i).copied())).collect()
}

/// Cuts what is ours, and everything behind it, out of the hosts (OUT-08), keeps at most [`MAX_ADDRESSES`],
/// and says what it means when no host is left that can be dialled (OUT-09, OUT-11).
///
/// Hosts without an address stay in the list beside others that have one: an attempt names them.
///
/// # Errors
/// [`RouteFailure`], never its `Dns`, `NoSuchDomain`, `NullMx` or `NoMxNoAddress`.
pub fn cut(mut hosts: Vec<Host>, settings: &RouteSettings) -> Result<Vec<Host>, RouteFailure> {
    let ourselves = hosts
        .iter()
        .filter(|h| is_ours(h, settings))
        .min_by_key(|h| h.preference)
        .map(|h| (h.preference, h.name.clone()));
    if let Some((limit, ours)) = &ourselves {
        hosts.retain(|h| h.preference < *limit);
        if hosts.is_empty() {
            return Err(RouteFailure::Loop { host: ours.clone() });
        }
    }
    if hosts.iter().all(|h| h.addresses.is_err()) {
        return Err(nothing_to_dial(&hosts, ourselves.is_some()));
    }
    limit_addresses(&mut hosts);
    Ok(hosts)
}

/// A configured next hop, with what may be dialled of it: a listener of ours would only send the mail round in circles.
pub fn dialable(mut host: Host, settings: &RouteSettings) -> Host {
    if let Ok(addresses) = &mut host.addresses {
        if let Some(ours) = addresses.iter().find(|ip| is_own_listener(**ip, settings)) {
            host.addresses = Err(NoAddress::Ourselves(*ours));
        } else if let Some(bad) = addresses.iter().find(|ip| denied(**ip, &[], &[]).is_some()) {
            host.addresses = Err(NoAddress::Denied { address: *bad, loopback: false });
        } else {
            addresses.truncate(MAX_ADDRESSES);
        }
    }
    host
}

/// A host is ours when one of our listeners answers where we would dial, or when it carries our name and the
/// DNS gives it no address at which anybody else could answer.
fn is_ours(host: &Host, settings: &RouteSettings) -> bool {
    match &host.addresses {
        Ok(addresses) => addresses.iter().any(|ip| is_own_listener(*ip, settings)),
        Err(NoAddress::Denied { address, .. }) if is_own_listener(*address, settings) => true,
        Err(NoAddress::None | NoAddress::Denied { .. }) => settings.hostname.as_ref() == Some(&host.name),
        Err(NoAddress::Failed(_) | NoAddress::Ourselves(_)) => false,
    }
}

fn is_own_listener(ip: IpAddr, settings: &RouteSettings) -> bool {
    let ip = embedded_v4(ip).map_or(ip, IpAddr::V4);
    settings.own_listeners.iter().filter(|l| l.port() == settings.port).any(|l: &SocketAddr| {
        let own = embedded_v4(l.ip()).map_or_else(|| l.ip(), IpAddr::V4);
        own == ip || (own.is_unspecified() && (ip.is_loopback() || ip.is_unspecified()))
    })
}

fn nothing_to_dial(hosts: &[Host], ours_was_cut: bool) -> RouteFailure {
    let mut denied = None;
    for host in hosts {
        match &host.addresses {
            // Some DNS server may still know the way: that outweighs every definite answer.
            Err(NoAddress::Failed(_)) if ours_was_cut => {
                return RouteFailure::LoopUnproven { host: host.name.clone() };
            }
            Err(NoAddress::Failed(e)) => return RouteFailure::HostLookupFailed(e.clone()),
            Err(NoAddress::Denied { address, loopback }) => {
                // Only when every refused address is loopback may it bounce (OUT-09).
                if denied.as_ref().is_none_or(|(_, _, all)| *all && !loopback) {
                    denied = Some((host.name.clone(), *address, *loopback));
                }
            }
            Ok(_) | Err(NoAddress::None | NoAddress::Ourselves(_)) => {}
        }
    }
    match (denied, hosts.first()) {
        (Some((host, address, true)), _) => RouteFailure::LoopbackOnly { host, address },
        (Some((host, address, false)), _) => RouteFailure::DeniedOnly { host, address },
        (None, Some(best)) if ours_was_cut => RouteFailure::LoopUnproven { host: best.name.clone() },
        (None, Some(best)) => RouteFailure::NoHostHasAddress { host: best.name.clone() },
        (None, None) => RouteFailure::NoMxNoAddress,
    }
}

/// Deals addresses out host by host, a round at a time, so that the first host cannot use up the cap.
fn limit_addresses(hosts: &mut [Host]) {
    let mut left = MAX_ADDRESSES;
    let mut keep = vec![0_usize; hosts.len()];
    let longest = hosts.iter().filter_map(|h| h.addresses.as_ref().ok()).map(Vec::len).max().unwrap_or(0);
    for round in 0..longest {
        for (host, kept) in hosts.iter().zip(&mut keep) {
            if left > 0 && host.addresses.as_ref().is_ok_and(|a| a.len() > round) {
                *kept += 1;
                left -= 1;
            }
        }
    }
    for (host, kept) in hosts.iter_mut().zip(keep) {
        if let Ok(addresses) = &mut host.addresses {
            addresses.truncate(kept);
        }
    }
}

/// Why an address from the DNS is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedKind {
    /// Loopback or "this network", the unspecified address included: no operator can mean it (OUT-09).
    Loopback,
    /// Multicast or broadcast: no setting admits these.
    NotAHost,
    /// In a denied network.
    Network,
}

/// Whether `ip` may not be dialled: never unspecified, multicast and broadcast addresses; otherwise what lies
/// in `deny` and not in `allow`. An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4) is
/// judged as well. Policy hosts are judged with an empty `allow` (STS-30).
pub fn denied(ip: IpAddr, deny: &[IpNet], allow: &[IpNet]) -> Option<DeniedKind> {
    let inner = embedded_v4(ip).map(IpAddr::V4);
    let both = || [Some(ip), inner].into_iter().flatten();
    if both().any(|ip| ip.is_unspecified()) {
        return Some(DeniedKind::Loopback);
    }
    if both().any(|ip| ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Some(DeniedKind::NotAHost);
    }
    let listed = |nets: &[IpNet]| both().any(|ip| nets.iter().any(|net| net.contains(&ip)));
    if !listed(deny) || listed(allow) {
        return None;
    }
    let loopback = both().any(|ip| match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets().first() == Some(&0),
        IpAddr::V6(v6) => v6.is_loopback(),
    });
    Some(if loopback { DeniedKind::Loopback } else { DeniedKind::Network })
}

/// The IPv4 address that an IPv6 address stands for: mapped and compatible (RFC 4291 §2.5.5), the well-known
/// NAT64 prefix (RFC 6052 §2.1), 6to4 (RFC 3056 §2).
fn embedded_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let low = |a: u16, b: u16| {
        let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => Some(low(a, b)),
        // `::` and `::1` are addresses in their own right.
        [0, 0, 0, 0, 0, 0, a, b] if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => {
            Some(low(a, b))
        }
        [0x2002, a, b, ..] => Some(low(a, b)),
        _ => None,
    }
}

/// Names tried of one MX set (OUT-02).
pub const MAX_HOSTS: usize = 16;
/// Addresses tried of one route (OUT-02).
pub const MAX_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::nets_of;

    fn mx(preference: u16, exchange: &str) -> Mx {
        Mx { preference, exchange: Domain::parse_host(exchange).ok() }
    }

    // OUT-02
    #[test]
    fn equal_preferences_come_first_about_equally_often_and_better_ones_always() {
        let set = [mx(10, "a.example"), mx(10, "b.example"), mx(10, "c.example"), mx(20, "d.example")];
        let mut firsts = [0_u32; 3];
        for seed in 0..3000 {
            let MxSet::Hosts(hosts) = order(set.to_vec(), seed) else { panic!("hosts expected") };
            assert_eq!(hosts[3].1.as_str(), "d.example");
            let first =
                ["a.example", "b.example", "c.example"].iter().position(|n| *n == hosts[0].1.as_str());
            firsts[first.unwrap()] += 1;
        }
        assert!(firsts.iter().all(|n| (850..1150).contains(n)), "{firsts:?}");
    }

    // NMX-01, NMX-02, NMX-03, OUT-05, OUT-10
    #[test]
    fn a_root_exchange_alone_means_no_mail_and_among_others_nothing() {
        assert_eq!(order(vec![mx(0, ".")], 1), MxSet::Null);
        assert_eq!(order(vec![mx(10, ".")], 1), MxSet::Null);
        let host = Domain::parse_host("mx.example").unwrap();
        assert_eq!(order(vec![mx(0, "."), mx(10, "mx.example")], 1), MxSet::Hosts(vec![(10, host.clone())]));
        assert_eq!(
            order(vec![mx(20, "mx.example"), mx(10, "MX.example.")], 1),
            MxSet::Hosts(vec![(10, host)])
        );
        let many = (0..10_000).map(|i| mx(i, &format!("mx{i}.example"))).collect();
        let MxSet::Hosts(hosts) = order(many, 1) else { panic!("hosts expected") };
        assert_eq!((hosts.len(), hosts[15].1.as_str()), (MAX_HOSTS, "mx15.example"));
    }

    // DANE-09, DANE-12
    #[test]
    fn the_alias_of_an_insecure_family_is_no_name_beside_a_secure_one() {
        let answer = |ip: &str, secure, alias: Option<&str>| {
            let (data, ttl) = (Data::Records(vec![ip.parse().unwrap()]), std::time::Duration::ZERO);
            Ok(crate::dns::Answer { data, secure, ttl, expanded: alias.map(|a| Domain::parse(a).unwrap()) })
        };
        let (forged, sound) = (Some("forged.example"), Some("sound.example"));
        for (first, second, want) in [
            (("2001:db8::1", true, None), ("192.0.2.1", false, forged), None),
            (("2001:db8::1", false, forged), ("192.0.2.1", true, None), None),
            (("2001:db8::1", false, forged), ("192.0.2.1", true, sound), sound),
            (("2001:db8::1", true, sound), ("192.0.2.1", false, forged), sound),
            (("2001:db8::1", false, forged), ("192.0.2.1", false, sound), forged),
        ] {
            let answers = vec![answer(first.0, first.1, first.2), answer(second.0, second.1, second.2)];
            let found = usable_addresses(answers, &RouteSettings::default());
            assert_eq!(found.expanded.as_ref().map(Domain::as_str), want, "{first:?} {second:?}");
        }
    }

    // OUT-09, STS-30
    #[test]
    fn denied_networks_are_seen_through_every_disguise() {
        let words = |words: &[&str]| words.iter().flat_map(|w| nets_of(w).unwrap()).collect::<Vec<_>>();
        let deny = words(&["loopback", "private", "link-local"]);
        let allow = ["10.1.0.0/16".parse().unwrap()];
        let (l, n, h) = (Some(DeniedKind::Loopback), Some(DeniedKind::Network), Some(DeniedKind::NotAHost));
        for (ip, want, with_nothing_denied) in [
            ("192.0.2.1", None, None),
            ("2001:db8::1", None, None),
            ("127.0.0.1", l, None),
            ("::1", l, None),
            ("::ffff:127.0.0.1", l, None),
            ("::7f00:1", l, None),
            ("64:ff9b::7f00:1", l, None),
            ("2002:7f00:1::", l, None),
            ("0.1.2.3", l, None),
            ("0.0.0.0", l, l),
            ("::", l, l),
            ("::ffff:0.0.0.0", l, l),
            ("10.0.0.1", n, None),
            ("10.1.0.1", None, None),
            ("::ffff:10.0.0.1", n, None),
            ("64:ff9b::a00:1", n, None),
            ("64:ff9b::a01:1", None, None),
            ("64:ff9b:1::1", n, None),
            ("172.31.255.255", n, None),
            ("172.32.0.1", None, None),
            ("192.168.1.1", n, None),
            ("100.64.0.1", n, None),
            ("fd00::1", n, None),
            ("169.254.169.254", n, None),
            ("fe80::1", n, None),
            ("224.0.0.1", h, h),
            ("ff02::1", h, h),
            ("::ffff:224.0.0.1", h, h),
            ("255.255.255.255", h, h),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(denied(ip, &deny, &allow), want, "{ip}");
            assert_eq!(denied(ip, &[], &[]), with_nothing_denied, "{ip}");
        }
    }

    // OUT-02, OUT-07
    #[test]
    fn the_address_cap_leaves_every_host_both_families() {
        let settings = RouteSettings { port: 25, ..RouteSettings::default() };
        let hosts = (0..16_u16)
            .map(|i| {
                let v6 = (0..40_u16).map(|n| IpAddr::from([0x2001, 0xdb8, i, n, 0, 0, 0, 1]));
                let v4 = (0..40_u8).map(|n| IpAddr::from([192, 0, 2, n]));
                Host {
                    name: Domain::parse_host(&format!("mx{i}.example")).unwrap(),
                    preference: i,
                    addresses: Ok(interleave(vec![v6.collect(), v4.collect()])),
                    addresses_secure: false,
                    expanded: None,
                }
            })
            .collect();
        let hosts = cut(hosts, &settings).unwrap();
        let addresses: Vec<_> = hosts.iter().map(|h| h.addresses.clone().unwrap()).collect();
        assert_eq!(addresses.iter().map(Vec::len).sum::<usize>(), MAX_ADDRESSES);
        assert!(addresses.iter().all(|a| a.iter().any(IpAddr::is_ipv4) && a.iter().any(IpAddr::is_ipv6)));
    }
}
