//! # Decisions
//!
//! **Configuration is read by hand, not derived.** A derived deserialiser stops at the first error and knows
//! no positions for rules between keys. The tree of the TOML parser is walked instead, so that all errors come
//! at once, with line, column and key. Price: each key is named in the reader and in the checked struct.
//!
//! **The admin interface refuses browsers.** No CORS, no cookies, no host names: a request with an `Origin`, or
//! for a name that is not an address, is refused. Price: a reverse proxy under a name has to rewrite `Host`.
//!
//! **`--online` for probes.** Reading commands open the database when the relay is silent, which would make a
//! dead relay look healthy. A probe therefore runs `sealpost queue list --limit 1 --json --online`.
