//! The admin interface: queue, policy and report commands, health.
//!
//! [`http`] serves it on loopback, [`client`] asks it, and both speak in the values of [`view`]. Everything
//! but the health routes wants the bearer token; [`metrics`] has a listener of its own for who cannot give one.

use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::mtasts::StoredPolicy;
use crate::queue::Filter;
use crate::status::{Place, Running};

pub mod client;
mod door;
pub mod http;
pub mod metrics;
pub mod reports;
pub mod token;
pub mod view;

pub use reports::Reports;
pub use view::Readiness;

/// What the admin interface asks of the running relay, beyond its stores.
pub trait AdminActions: Send + Sync {
    /// Fetches the policy of `domain` now, back-off and refetch limits ignored. The error is for people.
    fn refresh(&self, domain: Domain) -> BoxFuture<'_, Result<StoredPolicy, String>>;
    /// Recipients that `filter` selects were made due: the manager wakes, pauses of their hosts end and their
    /// domains' policies may be fetched again at once.
    fn retried(&self, filter: &Filter);
    /// Whether the relay can do its work now. Must not block.
    fn readiness(&self) -> Readiness;
    /// What only the running relay knows about itself, at `now`. Must not block.
    fn standing(&self, now: Timestamp) -> (Place, Running);
}
