//! # Operations
//!
//! ## Questions and answers
//!
//! - **Is the configuration right?** `sealpost config check`: all mistakes at once, warnings too. Exit status 2 when wrong.
//! - **Does it run?** `GET /healthz` on `admin.listen` (the process), `GET /readyz` (can it take mail; 503 when not), or
//!   `sealpost status`, which exits 1 when the relay does not answer.
//! - **Is anything wrong?** `sealpost status`: one screen; what should be looked at stands last. `BAD` needs a person here,
//!   and exits 1; `note` does not. The rules and their waiting times are in [`crate::status::look`]. Without the relay its database is read.
//! - **What would happen to mail for a domain?** `sealpost check example.org --probe`: route, policy live and cached,
//!   a session to each host up to TLS, one final sentence. Exit status 0 when it would be delivered, 1 when not.
//! - **What waits, and why?** `sealpost queue list`, then `sealpost queue show ID`: the cause, the promise that
//!   the recipient domain made, the certificate that was shown, until when the mail waits, and what to do.
//! - **The trouble is over?** `sealpost queue retry --domain example.org`. It asks before it touches more than 100.
//! - **What did a domain promise?** `sealpost policy show example.org`; after a change on their side
//!   `sealpost policy refresh example.org`.
//! - **What do our TLS reports say, and did they arrive?** `sealpost report preview`, `sealpost report list`,
//!   `sealpost report show ID`. In the log, `event=report-made` and the events after it carry `day`, `report_domain`,
//!   `report_id`, `destination` and `reply`. `event=reports-wait` once a day: no report is sent, and why.
//! - **A domain's certificate ran out and its mail must go?** An `[[exception]]` with a last day, a reason and a name. `check`,
//!   `queue show`, the field `exception` of `event=delivery` and notifications name it; reports tell the domain what was
//!   broken all the same. It ends by itself on its day (`exception-ends-soon`, `exception-over`) and as soon as a session
//!   does without (`exception-not-needed`). `sealpost status` names those that end within a week or are of no use any more.
//! - **What should wake somebody?** [`ALL`](crate::observe::metrics::table::ALL) metrics, each with what it tells and what to
//!   alert on; `/metrics` on `[metrics] listen`, or on `admin.listen` with the token.
//! - **The next hop refuses our password?** `event=auth-refused`; the mail waits under the cause `auth`.
//! - **What became of one message?** Its id stands in the 250 that the application got. In the log, `event=delivery` with
//!   that `queue_id` is one line per attempt and recipient ([`crate::observe::fields::DELIVERY`] names the fields).
//!
//! ## Start and stop
//!
//! `sealpost serve` stays in the foreground and logs to stderr. It exits 2 when the configuration is wrong and 1 when a
//! port, the queue or another resource cannot be had, with one message that names the key. It tells systemd when it is
//! ready.
//!
//! | signal | effect |
//! | --- | --- |
//! | SIGTERM, SIGINT | drain: no new attempts, running ones get `delivery.drain`, new mail is still accepted meanwhile; then listeners close, content in progress gets 30 s, and the database is closed |
//! | the same again | ends at once; what was running is tried again, and may arrive twice |
//! | SIGHUP | re-reads the certificate of `[tls]`; a pair that cannot be used leaves the old one in place and logs an error |
//!
//! The service manager has to wait longer than `delivery.drain` plus 50 s before it kills (`TimeoutStopSec`,
//! `docker stop --time`), or transactions past the final dot are cut and their mail is sent twice. The unit:
//!
//! ```ini
#![doc = include_str!("../../config/sealpost.service")]
//! ```
//!
//! ## Disk, backup, upgrade
//!
//! Everything lies in `data_dir`: the database with its WAL, the lock, the admin token. Below `queue.reserve` octets of
//! free disk new mail gets 452; mail in the queue is still delivered. To back up or move it, stop the relay and copy the
//! directory. A restored copy sends again what was delivered since it was made. An older release refuses a database of a
//! newer one; copy `data_dir` before an upgrade that you may want to undo.
//!
//! ## DNS
//!
//! Use a validating resolver on this machine (Unbound, for instance) as `dns.servers`: it is faster, and with it MX hosts
//! of DNSSEC-signed domains count as authenticated. `/readyz`, the log at start and `check` say what is believed and why.
//!
//! ## Exit status of commands
//!
//! 0 done; 1 the answer is "no" or the operation failed; 2 the command line or the configuration is wrong. Tables and
//! JSON go to stdout, everything else to stderr.
