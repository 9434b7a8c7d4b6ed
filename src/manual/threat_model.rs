//! # Threat model
//!
//! ## What is protected
//!
//! The way of a message from this relay to the recipient domain's mail host: that nobody between reads or takes it
//! when the domain has promised TLS (RFC 8461 §1). And what was acknowledged with 250: that it is not lost.
//!
//! ## Against whom
//!
//! **Somebody on the path** who strips STARTTLS, shows another certificate, answers DNS in a domain's name, or blocks
//! the policy host. A domain whose enforce policy is known gets its mail over verified TLS at a host that the policy
//! lists, or the mail waits. What such an attacker can still do: delay mail until its lifetime ends. It is then
//! returned to the sender, and was never shown to the attacker.
//!
//! **Peers that send malformed, endless or hostile data**: clients, MX hosts, DNS servers, policy hosts. Every wait has
//! a deadline, every buffer a bound, and what they say cannot forge a log line, a header field or a terminal command.
//!
//! **Strangers who want to relay.** Only the networks in `submission.trusted_networks` and authenticated users may. A
//! trusted network that covers the default gateway is refused, because behind a NAT everybody comes from there.
//!
//! **Web pages** that try to reach the admin interface through an operator's browser, and **other users of this
//! machine** without the admin token.
//!
//! **DNS that points inward.** Addresses in `delivery.deny_networks` are not dialled for MX and policy hosts, in
//! whatever disguise (mapped, NAT64, 6to4).
//!
//! ## Against whom not
//!
//! - Somebody who controls a domain's DNS answers at the first contact, before a policy is known: without DNSSEC, trust
//!   in a policy begins at the first fetch. The cache is durable and refreshed so that there is only one first time.
//! - Domains that promise nothing get opportunistic TLS: better than none against those who only listen, and nothing
//!   against those who interfere.
//! - A certificate authority of `[trust]` that errs or lies.
//! - Root on this machine, and whoever can read `data_dir`: the queue is not encrypted at rest.
//! - A resolver that lies, or the path to it, where its AD bit is believed. It is believed only of a resolver on this
//!   machine or one that the operator vouches for.
//! - The recipient's own systems after the final dot, and traffic analysis: who writes to whom is visible to the network.
//!
//! ## What is kept about people
//!
//! Envelope addresses stand in the log and, for `queue.history`, in the timelines. `log.addresses = "domain"` leaves
//! local parts out of the log. Subject and content are never logged; content is dropped with the last recipient that
//! needs it.
