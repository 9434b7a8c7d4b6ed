//! # Threat model
//!
//! **Against**: somebody on the path who strips STARTTLS, shows another certificate, or answers DNS in a
//! domain's name (RFC 8461 §1). A domain with an enforce policy gets its mail over verified TLS to a listed
//! host, or the mail waits. Peers of every kind that send malformed, endless or hostile data; strangers who
//! want to relay; web pages that try to reach the admin interface through an operator's browser.
//!
//! **Not against**: somebody who controls the DNS of a domain at the first contact, before a policy is known;
//! root on this machine; a trusted certificate authority that errs; the recipient's own systems after the
//! final dot. Traffic analysis: who writes to whom is visible to the network.
