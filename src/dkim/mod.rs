//! DKIM (RFC 6376, RFC 8301, RFC 8463): signing what leaves, and what the DNS should say about it.
//!
//! Pure. [`sign`] writes DKIM-Signature fields, relaxed/relaxed, without `l=`; [`canonical`] is what they are made
//! over; [`key`] reads private keys; [`record`] reads and prints the TXT record of a selector; [`check`] compares
//! the two; [`keygen`] makes a new pair.

pub mod canonical;
pub mod check;
pub mod key;
pub mod keygen;
pub mod record;
pub mod sign;

pub use key::{Algorithm, KeyError, SigningKey};
pub use record::KeyRecord;
pub use sign::{Signers, Signing};

#[cfg(test)]
mod tests;
