//! Finds the hosts of a domain in the DNS (RFC 5321 §5.1). It can answer, defer, or say that there is no such
//! domain; a lookup that failed never turns into one of the definite answers (OUT-03).

use futures_util::future::join_all;

use super::mx::{self, MxSet};
use super::{Families, Host, NoAddress, Route, RouteFailure, RouteKind, RouteSettings};
use crate::dns::{Answer, Data, Family, Resolver};
use crate::mail::Domain;

/// The route of `domain`. `seed` decides the order of equal preferences: draw a new one for every attempt.
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
    let Answer { data, secure, .. } = resolver.mx(domain).await.map_err(RouteFailure::Dns)?;
    let (kind, names) = match data {
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
    Ok(Route { next_hop: domain.clone(), kind, mx_secure: secure, hosts })
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
    let (addresses, addresses_secure) = mx::usable_addresses(answers, settings);
    Host { name, preference, addresses, addresses_secure }
}
