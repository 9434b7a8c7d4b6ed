//! Sealpost: an outbound SMTP relay that keeps every recipient domain's TLS promise.
//!
//! This page is the map of the house. Arrows of use point downward only; `tests/architecture.rs` holds the line.
//!
//! | layer | rooms | |
//! | --- | --- | --- |
//! | 5 | [`cli`], [`app`] | composition: know everything |
//! | 4 | [`submission`] listeners, [`admin`] HTTP, [`observe`] log, [`observe::prometheus`] | adapters that call the relay |
//! | 3 | [`submission::accept`], [`queue::manager`], [`delivery::attempt`], [`route::resolve`], [`mtasts::service`], [`dane::lookup`], [`tlsrpt::service`], [`standing::look`] | orchestration, sees only ports |
//! | 2 | [`dns::hickory`], [`https`], [`mtasts::fetch`], [`tlsrpt::https`], [`delivery`] I/O, [`store`] | adapters behind ports |
//! | 1 | [`smtp`], [`route`], [`mtasts`], [`dane`], [`security`], [`queue`], [`delivery::classify`], [`dsn`], [`dkim`], [`tlsrpt`], [`standing`], [`status`], [`config`] | pure decisions, and the ports |
//! | 0 | [`mail`], [`clock`], [`observe::fields`], [`observe::metrics`] | vocabulary |
//!
//! # The journey of a message
//!
//! 1. [`submission`] accepts a connection and drives the sans-IO [`smtp::session`]; [`smtp::data`] undoes
//!    dot-stuffing and refuses bare CR and LF.
//! 2. [`submission::accept`] checks who may relay, fixes the header and calls [`queue::QueueStore::enqueue`];
//!    the 250 goes out only after the commit is on disk.
//! 3. [`queue::manager`] leases transactions, fairly over domains.
//! 4. [`delivery::attempt`] asks [`route::resolve`] for the hosts, [`mtasts::service`] for the policy and
//!    [`dane::lookup`] for the TLSA records of each host, and lets [`security::decide`] join every demand.
//! 5. [`delivery::connect`], [`delivery::starttls`] and [`delivery::session`] dial, upgrade and greet;
//!    [`security::verdict`] turns demand and evidence into a clearance, without which MAIL FROM cannot be sent.
//! 6. [`delivery::classify`] turns every reply and fault into an outcome, and
//!    [`queue::QueueStore::finish`] commits it with any DSN of [`dsn`].
//!
//! # The journey of a report
//!
//! Every verdict also becomes a [`tlsrpt::SessionRecord`]. The [`store`] adds them up per UTC day and recipient domain;
//! when the day is over [`tlsrpt::service`] asks whether the domain wants a report, [`tlsrpt::aggregate`] and
//! [`tlsrpt::report`] make it, and it leaves by mail ([`tlsrpt::message`], signed by [`dkim`]) or by POST
//! ([`tlsrpt::https`]).

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dane;
pub mod delivery;
pub mod dkim;
pub mod dns;
pub mod dsn;
pub mod https;
pub mod mail;
pub mod manual;
pub mod mtasts;
pub mod observe;
pub mod queue;
pub mod route;
pub mod security;
pub mod smtp;
pub mod standing;
pub mod status;
pub mod store;
pub mod submission;
pub mod tlsrpt;
