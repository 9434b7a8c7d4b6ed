//! What is demanded of a session, and the clearance that says it was met.
//!
//! [`decide`] joins every source of a demand into one [`decide::TlsPolicy`]; joining never weakens.
//! [`pkix`] judges a certificate chain, [`weak_rsa`] what is left of a key too short for one; [`verdict`] compares demand and evidence and is the only maker of a
//! [`verdict::Clearance`].

mod asked;
pub mod decide;
pub mod exception;
pub mod failure;
pub mod level;
pub mod pkix;
pub mod verdict;
pub mod weak_rsa;

pub use level::Level;
