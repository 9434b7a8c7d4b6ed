//! Finds the hosts of a domain in the DNS (RFC 5321 §5.1). It can answer, defer, or say that there is no such
//! domain; a lookup that failed never turns into one of the definite answers (OUT-03).

use futures_util::future::join_all;

use super::mx::{self, MxSet};
use super::smart_host::SmartHost;
use super::{Families, Host, NoAddress, Route, RouteFailure, RouteKind, RouteSettings};
use crate::dns::{Answer, Data, DnsError, DnsErrorKind, Family, Resolver};
use crate::mail::Domain;

/// The route of `domain`, to its configured next hop where there is one. `seed` decides the order of equal preferences: draw a new one for every attempt.
///
/// Costs one MX question and, unless that ends it, the address questions of at most 16 hosts at once; the
/// resolver bounds each in time.
///
/// # Errors
/// [`RouteFailure`], which says whether to wait.
pub async fn resolve(
    resolver: &dyn Resolver,
    settings: &RouteSettings,
    domain: &Domain,
    seed: u64,
) -> Result<Route, RouteFailure> {
    let rule = settings.rules.of(domain).cloned();
    if let Some(hop) = rule.as_ref().and_then(|rule| rule.next_hop.as_ref()) {
        let host = next_hop(resolver, settings, hop).await;
        return Ok(Route {
            next_hop: hop.name.clone(),
            kind: RouteKind::SmartHost,
            mx_secure: false,
            expanded: None,
            hosts: vec![host],
            rule,
        });
    }
    let Answer { data, secure, expanded, .. } = resolver.mx(domain).await.map_err(RouteFailure::Dns)?;
    let (kind, names) = match data {
        Data::NxDomain if !secure && is_there(resolver, domain).await => {
            let (kind, name) = (DnsErrorKind::Lying, domain.clone());
            return Err(RouteFailure::Dns(DnsError { kind, name, record: "MX", server: None }));
        }
        Data::NxDomain => return Err(RouteFailure::NoSuchDomain { secure }),
        // Only a definite "no MX record" makes the domain its own host.
        Data::NoData => (RouteKind::ImplicitMx, vec![(0, domain.clone())]),
        Data::Records(records) => match mx::order(records, seed) {
            MxSet::Null => return Err(RouteFailure::NullMx { secure }),
            MxSet::Hosts(names) => (RouteKind::Mx, names),
        },
    };
    let hosts = join_all(names.into_iter().map(|(p, name)| find_host(resolver, settings, p, name))).await;
    if kind == RouteKind::ImplicitMx {
        match hosts.first().map(|h| &h.addresses) {
            Some(Err(NoAddress::Failed(e))) => return Err(RouteFailure::Dns(e.clone())),
            Some(Err(NoAddress::None)) => return Err(RouteFailure::NoMxNoAddress),
            _ => {}
        }
    }
    let hosts = mx::cut(hosts, settings)?;
    Ok(Route { next_hop: domain.clone(), kind, mx_secure: secure, expanded, hosts, rule })
}

/// Whether a name that was denied is there after all. A denial is about the name, not about the type that was asked for
/// (RFC 8020 §2), so an answer to another question gives the lie to it, and no mail is returned for it (OUT-04).
async fn is_there(resolver: &dyn Resolver, domain: &Domain) -> bool {
    let answer = resolver.addresses(domain, Family::V4).await;
    answer.is_ok_and(|a| !matches!(a.data, Data::NxDomain))
}

/// The configured next hop: no MX question, exempt from `deny_networks`, and never a reason to return mail, for what
/// is wrong with it is ours to mend (OUT-08, OUT-09).
async fn next_hop(resolver: &dyn Resolver, settings: &RouteSettings, hop: &SmartHost) -> Host {
    let settings = RouteSettings { deny: Vec::new(), port: hop.port, ..settings.clone() };
    let host = match hop.address {
        Some(address) => Host {
            name: hop.name.clone(),
            preference: 0,
            addresses: Ok(vec![address]),
            addresses_secure: false,
            expanded: None,
        },
        None => find_host(resolver, &settings, 0, hop.name.clone()).await,
    };
    mx::dialable(host, &settings)
}

/// Looks up both families of one exchange. The name stays as published, whatever CNAMEs its addresses lie
/// behind: policy and certificate go by it (OUT-06, STS-65).
async fn find_host(resolver: &dyn Resolver, settings: &RouteSettings, preference: u16, name: Domain) -> Host {
    let families: &[Family] = match settings.families {
        Families::Any => &[Family::V6, Family::V4],
        Families::V4 => &[Family::V4],
        Families::V6 => &[Family::V6],
    };
    let answers = join_all(families.iter().map(|f| resolver.addresses(&name, *f))).await;
    let mx::Addresses { usable, secure, expanded } = mx::usable_addresses(answers, settings);
    Host { name, preference, addresses: usable, addresses_secure: secure, expanded }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::config::network::nets_of;
    use crate::dns::zone::ZoneResolver;
    use crate::route::smart_host::{Rule, Rules};

    fn name(text: &str) -> Domain {
        Domain::parse_host(text).unwrap()
    }

    fn settings() -> RouteSettings {
        RouteSettings {
            hostname: Some(name("relay.example")),
            own_listeners: vec!["198.51.100.1:25".parse().unwrap(), "127.0.0.1:2525".parse().unwrap()],
            port: 25,
            deny: ["loopback", "private"].iter().flat_map(|w| nets_of(w).unwrap()).collect(),
            ..RouteSettings::default()
        }
    }

    fn run(zone: &ZoneResolver, settings: &RouteSettings) -> Result<Route, RouteFailure> {
        let domain = name("d.example");
        let found = resolve(zone, settings, &domain, 7).now_or_never();
        found.expect("the zone answers at once")
    }

    fn route(zone: &str) -> Result<Route, RouteFailure> {
        run(&ZoneResolver::new(zone).unwrap(), &settings())
    }

    fn names(route: Result<Route, RouteFailure>) -> Vec<String> {
        route.unwrap().hosts.iter().map(|h| h.name.to_string()).collect()
    }

    // OUT-01, OUT-03, OUT-04, OUT-05, OUT-06, OUT-09, OUT-11, NMX-01..03, each zone for d.example
    #[test]
    fn every_way_of_finding_no_host_is_told_apart() {
        let short = |r: Result<Route, RouteFailure>| match r {
            Ok(route) => {
                let kind = route.kind;
                format!("{kind:?} {}", names(Ok(route)).join(" "))
            }
            Err(RouteFailure::Dns(e)) => format!("dns {:?} {}", e.kind, e.record),
            Err(RouteFailure::HostLookupFailed(e)) => format!("host dns {:?} {}", e.kind, e.name),
            Err(e) => format!("{e:?}"),
        };
        for (zone, want) in [
            ("d.example MX 10 a.example\n a.example A 192.0.2.1", "Mx a.example"),
            ("d.example A 192.0.2.1", "ImplicitMx d.example"),
            ("d.example AAAA 2001:db8::1", "ImplicitMx d.example"),
            ("d.example TXT x", "NoMxNoAddress"),
            ("d.example TXT x\n d.example A SERVFAIL", "dns Servfail A"),
            ("other.example A 192.0.2.1", "NoSuchDomain { secure: false }"),
            ("secure d.example", "NoSuchDomain { secure: true }"),
            ("d.example MX NXDOMAIN\n d.example A 192.0.2.1", "dns Lying MX"),
            ("d.example MX NXDOMAIN\n d.example TXT x", "dns Lying MX"),
            ("d.example MX NXDOMAIN\n d.example A SERVFAIL", "NoSuchDomain { secure: false }"),
            (
                "secure d.example\n d.example MX NXDOMAIN\n d.example A 192.0.2.1",
                "NoSuchDomain { secure: true }",
            ),
            ("d.example MX SERVFAIL\n d.example A 192.0.2.1", "dns Servfail MX"),
            ("d.example MX TIMEOUT\n d.example A 192.0.2.1", "dns Timeout MX"),
            ("d.example MX REFUSED\n d.example A 192.0.2.1", "dns Refused MX"),
            ("d.example MX BOGUS\n d.example A 192.0.2.1", "dns Bogus MX"),
            ("d.example MX 0 .", "NullMx { secure: false }"),
            ("d.example MX 10 .\n d.example A 192.0.2.1\n secure d.example", "NullMx { secure: true }"),
            ("d.example MX 0 .\n d.example MX 10 a.example\n a.example A 192.0.2.1", "Mx a.example"),
            ("d.example MX 10 a.example\n d.example A 192.0.2.1", "NoHostHasAddress { host: \"a.example\" }"),
            (
                "d.example MX 10 a.example\n d.example MX 20 b.example\n b.example A TIMEOUT",
                "host dns Timeout b.example",
            ),
            (
                "d.example MX 10 a.example\n a.example A 127.0.0.1",
                "LoopbackOnly { host: \"a.example\", address: 127.0.0.1 }",
            ),
            (
                "d.example MX 10 a.example\n a.example A 10.0.0.1",
                "DeniedOnly { host: \"a.example\", address: 10.0.0.1 }",
            ),
            (
                "d.example MX 10 a.example\n a.example A 127.0.0.1\n a.example AAAA fd00::1",
                "DeniedOnly { host: \"a.example\", address: fd00::1 }",
            ),
            (
                "d.example MX 10 a.example\n a.example A 10.0.0.1\n a.example AAAA SERVFAIL",
                "host dns Servfail a.example",
            ),
            ("d.example MX 10 a.example\n a.example A 10.0.0.1\n a.example A 192.0.2.1", "Mx a.example"),
            ("d.example CNAME e.example\n e.example MX 10 a.example\n a.example A 192.0.2.1", "Mx a.example"),
            ("d.example MX 10 a.example\n a.example CNAME h.example\n h.example A 192.0.2.1", "Mx a.example"),
            ("d.example MX 10 a.example\n a.example CNAME a.example", "host dns Malformed a.example"),
            ("d.example MX 10 a.example\n a.example A 192.0.2.1\n a.example AAAA SERVFAIL", "Mx a.example"),
        ] {
            assert_eq!(short(route(zone)), want, "{zone}");
        }
    }

    // OUT-08
    #[test]
    fn our_own_place_in_the_list_and_all_behind_it_are_cut() {
        let better = "d.example MX 10 a.example\n d.example MX 20 us.example\n d.example MX 30 c.example\n\
                      us.example A 198.51.100.1\n c.example A 192.0.2.3\n";
        assert_eq!(names(route(&format!("{better} a.example A 192.0.2.1"))), ["a.example"]);
        let unproven = RouteFailure::LoopUnproven { host: name("a.example") };
        assert_eq!(route(&format!("{better} a.example A SERVFAIL")), Err(unproven.clone()));
        assert_eq!(route(better), Err(unproven));
        let first = "d.example MX 10 us.example\n d.example MX 10 b.example\n us.example A 198.51.100.1\n b.example A 192.0.2.1";
        assert_eq!(route(first), Err(RouteFailure::Loop { host: name("us.example") }));
        let mapped = "d.example MX 10 us.example\n us.example AAAA ::ffff:198.51.100.1";
        assert_eq!(route(mapped), Err(RouteFailure::Loop { host: name("us.example") }));
        let implicit = "d.example A 198.51.100.1";
        assert_eq!(route(implicit), Err(RouteFailure::Loop { host: name("d.example") }));
        let by_name = "d.example MX 10 relay.example\n relay.example A 127.0.0.1";
        assert_eq!(route(by_name), Err(RouteFailure::Loop { host: name("relay.example") }));
        // Another server may answer at our name or, on another port, at our address.
        assert_eq!(
            names(route("d.example MX 10 relay.example\n relay.example A 192.0.2.9")),
            ["relay.example"]
        );
        let lab = RouteSettings { deny: vec![], ..settings() };
        let zone = ZoneResolver::new("d.example MX 10 a.example\n a.example A 127.0.0.1").unwrap();
        assert_eq!(names(run(&zone, &lab)), ["a.example"]);
        assert!(matches!(run(&zone, &RouteSettings { port: 2525, ..lab }), Err(RouteFailure::Loop { .. })));
    }

    fn via(hop: &str, port: u16, zone: &str) -> (ZoneResolver, Route) {
        let next_hop = SmartHost::new(hop, port, false, &[]);
        let rule = Rule { number: 1, pattern: "*".into(), next_hop, ..Rule::default() };
        let settings = RouteSettings { rules: Arc::new(Rules::new([rule])), ..settings() };
        let zone = ZoneResolver::new(zone).unwrap();
        let route = run(&zone, &settings).unwrap();
        (zone, route)
    }

    // STS-60, OUT-09: a next hop is asked for by its own name, may lie in a denied network, and is dialled at its port.
    #[test]
    fn a_next_hop_takes_the_place_of_the_mx_hosts() {
        let (zone, route) = via("relay.example", 587, "d.example MX 10 a.example\n relay.example A 10.0.0.1");
        assert_eq!((route.kind, route.next_hop.as_str()), (RouteKind::SmartHost, "relay.example"));
        assert_eq!(route.hosts[0].addresses, Ok(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!((route.port(25), route.hosts.len(), route.hosts[0].addresses_secure), (587, 1, false));
        assert!(!zone.queries().iter().any(|q| q.starts_with("MX") || q.contains("d.example")));
        // DANE-17: what DNSSEC says of its addresses counts, for its TLSA records.
        let (_, route) = via("relay.example", 587, "relay.example A 10.0.0.1\n secure relay.example");
        assert!(route.hosts[0].addresses_secure);
        let (zone, route) = via("127.0.0.1", 10025, "d.example MX 10 a.example");
        assert_eq!(route.hosts[0].addresses, Ok(vec!["127.0.0.1".parse().unwrap()]));
        assert!(zone.queries().is_empty() && route.policy_domain().is_none());
    }

    // OUT-08, OUT-09, OUT-56: what is wrong with a next hop is the operator's to mend, so mail waits.
    #[test]
    fn a_next_hop_that_cannot_be_dialled_is_named_and_never_ends_a_message() {
        for (hop, port, zone, want) in [
            ("relay.example", 25, "d.example A 192.0.2.1", "None"),
            ("relay.example", 25, "relay.example A SERVFAIL", "Failed"),
            ("relay.example", 2525, "relay.example A 127.0.0.1", "Ourselves(127.0.0.1)"),
            ("127.0.0.1", 2525, "d.example A 192.0.2.1", "Ourselves(127.0.0.1)"),
            ("0.0.0.0", 26, "d.example A 192.0.2.1", "Denied"),
            ("224.0.0.1", 26, "d.example A 192.0.2.1", "Denied"),
        ] {
            let (_, route) = via(hop, port, zone);
            let got = format!("{:?}", route.hosts[0].addresses.as_ref().unwrap_err());
            assert!(got.starts_with(want), "{hop}:{port} {zone}: {got}");
        }
    }

    // NMX-01
    #[test]
    fn a_null_mx_costs_no_address_question() {
        let zone = ZoneResolver::new("d.example MX 0 .\n d.example A 192.0.2.1").unwrap();
        assert!(run(&zone, &settings()).is_err());
        assert_eq!(zone.queries(), ["MX d.example"]);
    }

    // OUT-07, DANE-03, DANE-08, DANE-12
    #[test]
    fn both_families_are_asked_and_one_that_is_authenticated_is_enough() {
        let text = "secure d.example\n d.example MX 10 a.d.example\n d.example MX 20 b.example\n\
                    a.d.example A 192.0.2.1\n a.d.example AAAA 2001:db8::1\n b.example A 192.0.2.2";
        let zone = ZoneResolver::new(text).unwrap();
        let route = run(&zone, &settings()).unwrap();
        assert!(route.mx_secure && route.hosts[0].addresses_secure && !route.hosts[1].addresses_secure);
        let both: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        assert_eq!(route.hosts[0].addresses, Ok(both));
        for (zone, secure, expanded) in [
            ("a.d.example A 192.0.2.1\n a.d.example AAAA BOGUS", true, None),
            ("a.d.example A 192.0.2.1\n a.d.example AAAA TIMEOUT", true, None),
            ("a.d.example CNAME h.d.example\n h.d.example A 192.0.2.1", true, Some("h.d.example")),
            ("a.d.example CNAME h.example\n h.example A 192.0.2.1", false, Some("h.example")),
            (
                "a.d.example CNAME h.example\n h.example CNAME b.d.example\n b.d.example A 192.0.2.1",
                false,
                Some("b.d.example"),
            ),
        ] {
            let text = format!("secure d.example\n d.example MX 10 a.d.example\n {zone}");
            let route = run(&ZoneResolver::new(&text).unwrap(), &settings()).unwrap();
            let host = &route.hosts[0];
            assert_eq!(
                (host.addresses_secure, host.expanded.as_ref().map(Domain::as_str)),
                (secure, expanded),
                "{zone}"
            );
        }
        let v4 = RouteSettings { families: Families::V4, ..settings() };
        zone.clear_queries();
        assert_eq!(run(&zone, &v4).unwrap().hosts[0].addresses, Ok(vec!["192.0.2.1".parse().unwrap()]));
        assert!(!zone.queries().iter().any(|q| q.starts_with("AAAA")));
    }

    #[test]
    fn a_chain_of_aliases_has_an_end() {
        let chain: String = (0..9).map(|i| format!("n{i}.example CNAME n{}.example\n", i + 1)).collect();
        let e = route(&format!("d.example CNAME n0.example\n{chain}")).unwrap_err();
        assert!(matches!(e, RouteFailure::Dns(e) if e.kind == DnsErrorKind::Malformed));
    }
}
