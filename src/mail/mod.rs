//! The vocabulary of mail: names, addresses, envelopes, replies. Pure; every other room speaks these words.
//!
//! Nothing here can hold a control character, so every value may be written into a command line, a header
//! field or a log line as it is.

pub mod address;
pub mod domain;
pub mod envelope;
pub mod message;
pub mod reply;
pub mod trace;

pub use address::{ForwardPath, Mailbox, ReversePath};
pub use domain::Domain;
pub use envelope::{Envelope, EnvelopeRecipient, Notify, Orcpt, Ret, SenderTls, Xtext};
pub use message::{Origin, QueueId};
pub use reply::{EnhancedCode, Reply};
