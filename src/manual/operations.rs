//! # Operations
//!
//! - **Is the configuration right?** `sealpost config check`: all mistakes at once; warnings too.
//! - **Does it run?** `GET /healthz` (the process), `GET /readyz` (can it take mail), or
//!   `sealpost queue list --limit 1 --json --online`, which exits 1 when the relay does not answer.
//! - **What waits, and why?** `sealpost queue list`, then `sealpost queue show ID`: the cause, the promise that
//!   the recipient domain made, the certificate that was shown, until when the mail waits, and what to do.
//! - **The trouble is over?** `sealpost queue retry --domain example.org`.
//! - **What did a domain promise?** `sealpost policy show example.org`; after a change on their side
//!   `sealpost policy refresh example.org`.
//!
//! Below `queue.reserve` octets of free disk new mail gets 452; mail in the queue is still delivered.
