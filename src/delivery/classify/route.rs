//! A route that ends without a host.

use crate::mail::{Domain, EnhancedCode};
use crate::queue::outcome::{DeferReason, FailReason, Stage};
use crate::route::RouteFailure;

use super::{Decision, Ruling, deferred, lookup_failed};

/// How long forged-looking DNS answers must persist before they are believed against a policy (NMX-06).
pub const CONTRADICTION_MIN_ATTEMPTS: u32 = 2;
/// As above, since the message arrived.
pub const CONTRADICTION_MIN_AGE: std::time::Duration = std::time::Duration::from_secs(4 * 3600);

/// Judges a route that ends without a host. `enforce`: an enforce policy of the next hop is in force, cached or live;
/// `persisted`: the contradiction between the two has lasted as long as NMX-06 wants.
pub fn route(failure: &RouteFailure, next_hop: &Domain, enforce: bool, persisted: bool) -> Ruling {
    let failed = |reason, subject, detail, text: String| Ruling {
        decision: Decision::Failed(reason),
        stage: Stage::Dns,
        code: None,
        enhanced: EnhancedCode::new(5, subject, detail),
        text,
        tls_failure: None,
        maybe_delivered: false,
    };
    let wait =
        |reason, detail, text| deferred(reason, Stage::Dns, None, EnhancedCode::new(4, 4, detail), text);
    let contradiction = || {
        let text = format!("null MX or NXDOMAIN for {next_hop} contradicts its MTA-STS policy");
        deferred(DeferReason::PolicyContradiction, Stage::Dns, None, EnhancedCode::new(4, 7, 0), text)
    };
    let unless_enforced = |ruling: Ruling| {
        if enforce {
            let text = format!("{} (and its MTA-STS policy speaks against that)", ruling.text);
            wait(DeferReason::PolicyContradiction, 4, text)
        } else {
            ruling
        }
    };
    match failure {
        RouteFailure::Dns(e) | RouteFailure::HostLookupFailed(e) => lookup_failed(e),
        RouteFailure::NoSuchDomain { secure } | RouteFailure::NullMx { secure }
            if enforce && !secure && !persisted =>
        {
            contradiction()
        }
        RouteFailure::NoSuchDomain { .. } => {
            failed(FailReason::NoSuchDomain, 1, 2, format!("domain {next_hop} does not exist"))
        }
        RouteFailure::NullMx { .. } => {
            failed(FailReason::NullMx, 1, 10, format!("{next_hop} does not accept mail (null MX)"))
        }
        RouteFailure::NoMxNoAddress => unless_enforced(failed(
            FailReason::NoAddress,
            1,
            2,
            format!("{next_hop} has no MX and no address"),
        )),
        RouteFailure::NoHostHasAddress { host } => unless_enforced(failed(
            FailReason::NoAddress,
            4,
            4,
            format!("no MX host of {next_hop} has an address (the best is {host})"),
        )),
        RouteFailure::Loop { host } => unless_enforced(failed(
            FailReason::Loop,
            4,
            6,
            format!("mail for {next_hop} loops back to this system ({host})"),
        )),
        RouteFailure::LoopbackOnly { host, address } => unless_enforced(failed(
            FailReason::Loop,
            4,
            6,
            format!("MX of {next_hop} points to a prohibited address ({host}, {address})"),
        )),
        RouteFailure::LoopUnproven { host } => wait(
            DeferReason::Loop,
            4,
            format!("cannot find the primary relay for {next_hop}: {host} has no address at the moment"),
        ),
        RouteFailure::DeniedOnly { host, address } => wait(
            DeferReason::Forbidden,
            4,
            format!(
                "MX of {next_hop} has only addresses that delivery.deny_networks forbids ({host}, {address}): see delivery.allow_networks"
            ),
        ),
    }
}
