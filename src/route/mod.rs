//! Where mail for a domain goes: MX, implicit MX, null MX, loops, forbidden networks (RFC 5321 §5.1, RFC 7505).
//!
//! Pure: [`mx`] orders and cuts, [`smart_host`] knows the operator's rules, [`source`] our own addresses. Orchestration: [`resolve`] asks the DNS and can only answer, defer or say
//! that there is no such domain.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::dns::DnsError;
use crate::mail::Domain;
use crate::security::decide::Demand;

use smart_host::{Rule, Rules, SmartHost};

pub mod mx;
pub mod resolve;
pub mod smart_host;
pub mod source;

/// The ordered hosts of a recipient domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The next-hop domain: the recipient domain, or the configured next hop's host name.
    pub next_hop: Domain,
    /// How the hosts were found.
    pub kind: RouteKind,
    /// Whether the MX answer (or its denial, for an implicit MX) was authenticated by DNSSEC.
    pub mx_secure: bool,
    /// The name at the end of the next hop's CNAMEs, when it is an alias (RFC 7672 §3.2.2).
    pub expanded: Option<Domain>,
    /// At most 16, best first; equal preferences in random order (OUT-02).
    pub hosts: Vec<Host>,
    /// The operator's rule for the recipient domain.
    pub rule: Option<Arc<Rule>>,
}

impl Route {
    /// What the operator demands of every host.
    pub fn demand(&self) -> Demand {
        self.rule.as_ref().map_or(Demand::NOTHING, |rule| rule.demand())
    }

    /// The part of it that no exception takes away.
    pub fn floor(&self) -> Demand {
        self.rule.as_ref().map_or(Demand::NOTHING, |rule| rule.floor())
    }

    /// Which sessions may serve this route ([`Rule::lane`]).
    pub fn lane(&self) -> u32 {
        self.rule.as_ref().map_or(0, |rule| rule.lane())
    }

    /// The configured next hop.
    pub fn smart_host(&self) -> Option<&SmartHost> {
        self.rule.as_ref().and_then(|rule| rule.next_hop.as_ref())
    }

    /// Whose policy binds its hosts; `None` for a next hop that was written as an address (STS-60, STS-62).
    pub fn policy_domain(&self) -> Option<&Domain> {
        self.smart_host().map_or(Some(&self.next_hop), SmartHost::policy_domain)
    }

    /// The port that its hosts are dialled on, where MX hosts are on `mx`.
    pub fn port(&self, mx: u16) -> u16 {
        self.smart_host().map_or(mx, |hop| hop.port)
    }
}

/// How a route's hosts were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// MX records.
    Mx,
    /// No MX record, so the domain itself (RFC 5321 §5.1).
    ImplicitMx,
    /// Configured.
    SmartHost,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The exchange name as in the MX record: what policy, certificate and SNI go by (STS-64, STS-68).
    pub name: Domain,
    /// Its MX preference; 0 for an implicit MX or smart host.
    pub preference: u16,
    /// Addresses to try, both families represented within the cap (OUT-07), or why there are none.
    pub addresses: Result<Vec<IpAddr>, NoAddress>,
    /// Whether DNSSEC authenticates the addresses of at least one family, aliases included (DANE-08).
    pub addresses_secure: bool,
    /// The name at the end of its CNAMEs, when the exchange is an alias (RFC 7672 §2.2.2).
    pub expanded: Option<Domain>,
}

/// Why a candidate has no address to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAddress {
    /// The DNS says so, for both families.
    None,
    /// A lookup failed and the other family has nothing.
    Failed(DnsError),
    /// All its addresses lie in denied networks; one of them is given.
    Denied {
        /// An address that was refused.
        address: IpAddr,
        /// Whether all of them are loopback or unspecified, which no operator can mean (OUT-09).
        loopback: bool,
    },
    /// The configured next hop is one of our own listeners (OUT-08).
    Ourselves(IpAddr),
}

/// What ends route finding without a host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFailure {
    /// The MX (or implicit MX address) lookup failed: wait (OUT-03).
    Dns(DnsError),
    /// NXDOMAIN, authenticated or not (OUT-04, NMX-06).
    NoSuchDomain {
        /// DNSSEC vouches for it.
        secure: bool,
    },
    /// A null MX (RFC 7505 §3).
    NullMx {
        /// DNSSEC vouches for it.
        secure: bool,
    },
    /// Neither MX nor address: the implicit MX has no address (5.1.2).
    NoMxNoAddress,
    /// MX hosts exist and the DNS says of every one that it has no address (5.4.4, OUT-11).
    NoHostHasAddress {
        /// The best host, for the text.
        host: Domain,
    },
    /// Some host's lookup failed and no other has an address to dial.
    HostLookupFailed(DnsError),
    /// Nothing is left but ourselves (OUT-08): 5.4.6.
    Loop {
        /// The host that is us.
        host: Domain,
    },
    /// We are an MX, but a better host could not be resolved: wait, 4.4.4.
    LoopUnproven {
        /// The better host.
        host: Domain,
    },
    /// Every address is loopback or unspecified (5.4.6).
    LoopbackOnly {
        /// A host that points there.
        host: Domain,
        /// The address.
        address: IpAddr,
    },
    /// Every address lies in a denied network: wait, 4.4.4, naming the key (OUT-09).
    DeniedOnly {
        /// A host that points there.
        host: Domain,
        /// The address.
        address: IpAddr,
    },
}

/// What resolving needs to know besides the name.
#[derive(Debug, Clone, Default)]
pub struct RouteSettings {
    /// Our own host name.
    pub hostname: Option<Domain>,
    /// Addresses and ports on which our own listeners answer (OUT-08).
    pub own_listeners: Vec<SocketAddr>,
    /// The port that MX hosts are dialled on.
    pub port: u16,
    /// Families in use.
    pub families: Families,
    /// `delivery.deny_networks`, expanded to networks.
    pub deny: Vec<ipnet::IpNet>,
    /// `delivery.allow_networks`.
    pub allow: Vec<ipnet::IpNet>,
    /// The operator's rules per recipient domain.
    pub rules: Arc<Rules>,
}

/// `delivery.ip_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// Both.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}
