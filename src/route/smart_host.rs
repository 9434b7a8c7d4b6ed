//! The operator's rules per recipient domain (`[[destination]]`): which one applies, where it sends mail, and what it
//! demands there.
//!
//! Pure. [`Rules::of`] is asked once per route, and the rule then travels with the [`Route`](super::Route).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Rate;
use crate::mail::Domain;
use crate::security::decide::Demand;
use crate::smtp::sasl::Credentials;

/// One `[[destination]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Its place in the configuration, from 1. Sessions of a rule with identity of its own are lent to no other.
    pub number: u32,
    /// A recipient domain, `*.domain` or `*`, in canonical form.
    pub pattern: String,
    /// What `minimum_tls` says, when it was written.
    pub minimum: Option<Demand>,
    /// Where mail goes in place of the MX hosts.
    pub next_hop: Option<SmartHost>,
    /// AUTH at the next hop.
    pub credentials: Option<Credentials>,
    /// Authorities of its own take the place of `[trust]`.
    pub own_roots: bool,
    /// Messages, per matching domain.
    pub rate: Option<Rate>,
    /// Open connections, per matching domain.
    pub max_connections: Option<usize>,
}

/// A configured next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmartHost {
    /// Its name: policy domain, report domain, and what its certificate goes by (STS-60, STS-67, RPT-11).
    pub name: Domain,
    /// The address, where the operator wrote one in place of a name.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// TLS from the first octet.
    pub implicit_tls: bool,
    /// It is on this machine, so that nothing crosses a network.
    pub here: bool,
}

impl SmartHost {
    /// The next hop that the operator wrote; `local` are the addresses of this machine.
    ///
    /// Only what was written as an address, or `localhost`, counts as here: a name is what the DNS makes of it.
    pub fn new(host: &str, port: u16, implicit_tls: bool, local: &[IpAddr]) -> Option<Self> {
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        // An IPv6 address is no name; this one stands for it in texts and counters, and nobody is asked for it.
        let name = match address {
            Some(IpAddr::V6(v6)) => format!("{}.ipv6.invalid", v6.to_string().replace(':', "-")),
            Some(v4) => v4.to_string(),
            None => host.to_owned(),
        };
        let name = Domain::parse_host(&name).ok()?;
        let localhost = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
        let here = localhost || address.is_some_and(|ip| ip.is_loopback() || local.contains(&ip));
        // RFC 6761 §6.3: no resolver is needed to know what this name means, and none is to be believed about it.
        let address = address.or_else(|| localhost.then_some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));
        Some(Self { name, address, port, implicit_tls, here })
    }

    /// Whose policy binds it (STS-60). Of an address nobody can be asked for one, and its name is not asked for (STS-62).
    pub const fn policy_domain(&self) -> Option<&Domain> {
        if self.address.is_some() { None } else { Some(&self.name) }
    }
}

impl Rule {
    /// What the operator demands of every host of a matching domain; joined with what is published, so it only raises.
    ///
    /// A next hop is to keep the recipient domain's promises, so its certificate is verified where nothing is written
    /// (STS-60).
    pub fn demand(&self) -> Demand {
        let implied = match &self.next_hop {
            Some(hop) if !hop.here => Demand::PKIX,
            _ => Demand::NOTHING,
        };
        self.minimum.unwrap_or(implied).join(self.floor())
    }

    /// The part of [`Rule::demand`] that no exception takes away: a password is shown to an authenticated host only
    /// (OUT-56), and `smtps` means TLS.
    pub fn floor(&self) -> Demand {
        let auth = match (&self.credentials, self.minimum) {
            (None, _) => Demand::NOTHING,
            (Some(_), Some(minimum)) if minimum.dane => Demand::DANE,
            (Some(_), _) => Demand::PKIX,
        };
        match &self.next_hop {
            Some(hop) if hop.implicit_tls => auth.join(Demand::ENCRYPTED),
            _ => auth,
        }
    }

    /// Which sessions may serve this rule: 0 for those of everybody, its number where it has credentials, authorities or
    /// a way to TLS of its own.
    pub fn lane(&self) -> u32 {
        let implicit = self.next_hop.as_ref().is_some_and(|hop| hop.implicit_tls);
        if self.credentials.is_some() || self.own_roots || implicit { self.number } else { 0 }
    }
}

/// All rules, the most specific first to be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    by_pattern: HashMap<String, Arc<Rule>>,
}

impl Rules {
    /// Rules, each of a pattern of its own.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { by_pattern: rules.into_iter().map(|r| (r.pattern.clone(), Arc::new(r))).collect() }
    }

    /// The rule for `domain`: its own, else that of the longest `*.parent`, else `*`. Only one applies. `*.example`
    /// covers every name below `example` and not `example` itself.
    pub fn of(&self, domain: &Domain) -> Option<&Arc<Rule>> {
        if self.by_pattern.is_empty() {
            return None;
        }
        let name = domain.as_str();
        let parents = name.match_indices('.').filter_map(|(dot, _)| name.get(dot..));
        let wildcards = parents.map(|rest| format!("*{rest}")).chain(["*".to_owned()]);
        let found = |pattern: &str| self.by_pattern.get(pattern);
        found(name).or_else(|| wildcards.into_iter().find_map(|pattern| found(&pattern)))
    }

    /// The domain whose policy binds mail for `domain`: the next hop's, where mail is routed there (STS-60).
    pub fn policy_domain(&self, domain: &Domain) -> Option<Domain> {
        let hop = self.of(domain).and_then(|rule| rule.next_hop.as_ref());
        hop.map_or(Some(domain), SmartHost::policy_domain).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str) -> Rule {
        Rule { pattern: pattern.to_owned(), ..Rule::default() }
    }

    fn hop(text: &str) -> SmartHost {
        SmartHost::new(text, 25, false, &["192.0.2.7".parse().unwrap()]).unwrap()
    }

    // The most specific rule wins, and a wildcard stands for every name below, not for its own.
    #[test]
    fn the_most_specific_rule_wins() {
        let all = ["*", "*.example", "*.b.example", "a.b.example", "b.example"];
        for (domain, want) in [
            ("a.b.example", Some("a.b.example")),
            ("x.b.example", Some("*.b.example")),
            ("x.a.b.example", Some("*.b.example")),
            ("b.example", Some("b.example")),
            ("c.example", Some("*.example")),
            ("xb.example", Some("*.example")),
            ("example.net", Some("*")),
        ] {
            let rules = Rules::new(all.map(rule));
            let found = rules.of(&Domain::parse(domain).unwrap()).map(|r| r.pattern.as_str());
            assert_eq!(found, want, "{domain}");
        }
        let rules = Rules::new([rule("*.b.example")]);
        assert!(rules.of(&Domain::parse("b.example").unwrap()).is_none());
        assert!(rules.of(&Domain::parse("ab.example").unwrap()).is_none());
        assert!(Rules::default().of(&Domain::parse("b.example").unwrap()).is_none());
    }

    // STS-60, OUT-56, TLS-10
    #[test]
    fn what_a_rule_demands() {
        let password = Some(Credentials { user: "u".into(), password: "p".into() });
        let smtps = |h: &str| SmartHost { implicit_tls: true, ..hop(h) };
        let (n, e, v, d) = (Demand::NOTHING, Demand::ENCRYPTED, Demand::PKIX, Demand::DANE);
        for (name, minimum, next_hop, credentials, demand, floor) in [
            ("nothing", None, None, None, n, n),
            ("encrypt", Some(e), None, None, e, n),
            ("dane", Some(d), None, None, d, n),
            ("next hop", None, Some(hop("relay.example")), None, v, n),
            ("next hop, none written", Some(n), Some(hop("relay.example")), None, n, n),
            ("next hop, encrypt written", Some(e), Some(hop("relay.example")), None, e, n),
            ("next hop here", None, Some(hop("127.0.0.1")), None, n, n),
            ("next hop at our own address", None, Some(hop("192.0.2.7")), None, n, n),
            ("next hop at another address", None, Some(hop("192.0.2.8")), None, v, n),
            ("localhost", None, Some(hop("localhost")), None, n, n),
            ("smtps never means the clear", Some(n), Some(smtps("relay.example")), None, e, e),
            ("smtps here", None, Some(smtps("localhost")), None, e, e),
            ("AUTH", Some(n), Some(hop("relay.example")), password.clone(), v, v),
            ("AUTH here", None, Some(hop("localhost")), password.clone(), v, v),
            ("AUTH by DANE", Some(d), Some(hop("relay.example")), password, d, d),
        ] {
            let rule = Rule { minimum, next_hop, credentials, ..rule("*") };
            assert_eq!((rule.demand(), rule.floor()), (demand, floor), "{name}");
        }
    }

    // OUT-51
    #[test]
    fn sessions_of_an_identity_of_their_own_are_kept_apart() {
        let plain = Rule { number: 3, next_hop: Some(hop("relay.example")), ..rule("*") };
        let smtps = SmartHost { implicit_tls: true, ..hop("relay.example") };
        let password = Credentials { user: "u".into(), password: "p".into() };
        assert_eq!(plain.lane(), 0);
        assert_eq!(Rule { own_roots: true, ..plain.clone() }.lane(), 3);
        assert_eq!(Rule { credentials: Some(password), ..plain.clone() }.lane(), 3);
        assert_eq!(Rule { next_hop: Some(smtps), ..plain }.lane(), 3);
    }

    #[test]
    fn an_address_stands_for_itself() {
        assert_eq!(hop("::ffff:127.0.0.1").address, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(hop("2001:db8::1").name.as_str(), "2001-db8--1.ipv6.invalid");
        assert_eq!(hop("localhost").address, Some("127.0.0.1".parse().unwrap()));
        assert!(!hop("localhost.example").here);
    }

    // STS-60, STS-62
    #[test]
    fn a_next_hop_answers_for_its_policy_under_its_name_and_an_address_has_none() {
        for (written, want) in [
            (None, Some("a.example")),
            (Some("relay.example"), Some("relay.example")),
            (Some("192.0.2.1"), None),
            (Some("2001:db8::1"), None),
            (Some("::ffff:192.0.2.1"), None),
            (Some("localhost"), None),
        ] {
            let rules = Rules::new([Rule { next_hop: written.map(hop), ..rule("*") }]);
            let found = rules.policy_domain(&Domain::parse("a.example").unwrap());
            assert_eq!(found.as_ref().map(Domain::as_str), want, "{written:?}");
        }
    }
}
