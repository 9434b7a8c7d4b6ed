//! # Decisions
//!
//! What was chosen, why, and at what price.
//!
//! **Mail waits; it does not bounce for a broken promise.** A certificate that ran out is repaired within hours, and a
//! stripped STARTTLS may be an attack that ends. A bounce would throw the message away and teach the sender to use
//! another way, perhaps one without TLS. So [`crate::queue::FailReason`] has no variant for TLS, policy, certificate or
//! DNS: such a failure cannot end a message before its lifetime does. Price: the sender learns of it by the delay notice.
//!
//! **The relay decides by a type, not by care.** MAIL FROM needs a clearance that only [`crate::security::verdict`]
//! makes, from the demand and the evidence of this session. A reused session is judged again for each next hop. Price: a
//! few more types than the shortest program has.
//!
//! **The policy cache is part of the promise.** Policies outlive restarts and dead policy hosts, and only age ends them:
//! a domain whose TXT record disappears keeps its policy until it expires. Price: a domain that withdraws MTA-STS
//! without publishing mode `none` first waits for its own `max_age`.
//!
//! **The AD bit of a local validating resolver by default, our own validation on request.** Validation is hard to get right
//! and resolvers do it well; on loopback nobody can change the bit. Forwarders known to answer on loopback without
//! validating are not believed. Price: without such a resolver nothing counts as DNSSEC-secure, which the log says at
//! start and `check` each time.
//!
//! **Validation in this process settles each name by itself, and fails towards waiting.** `dns.dnssec = "validate"` has
//! hickory prove one name at a time, over questions of our own with checking disabled; an alias is followed only after it
//! is proven. hickory 0.26 calls several things bogus that are not: a fetch of keys that timed out, a walk in a circle over
//! DS records answered by the wrong server, a wildcard right above the name. The first keeps its own name here, the second
//! is called undecided, the third is proven by ourselves; and a denial that the library takes from records of some other
//! unsigned zone is refused. Nothing that is not proven unsigned counts as unsigned. Where opt-out covers a denial it is not
//! authenticated.
//!
//! Nor does the library always ask whose proof it is: a denial of any signed zone, a registry's opt-out record below a signed
//! delegation, or a wildcard's records below a zone cut pass it. So the relay walks the DS records from the root down for what
//! is denied or unsigned, and believes only the very zone of the name. What one name may cost is bounded: questions, those
//! answered from memory too, octets, signatures in a message, iterations of NSEC3. Price: several questions for the first
//! name of a zone, and the library's faults make mail wait, by name.
//!
//! **A self-test may withdraw trust, silence may not.** Only data with the AD bit for a name with broken signatures, or
//! answers without signatures where the relay validates, switch DANE off; who drops packets or answers SERVFAIL achieves nothing. Price: the operator has to name such a name.
//!
//! Where not even a sound name holds, the keys of the root or the clock are wrong here: mail waits, and no domain is reported
//! as broken. Answers that were kept under one belief are dropped when it turns. Price: whoever can strip signatures from the
//! very first self-test of a start has validation switched off until a sound one, within a minute; the log and `status` say so.
//!
//! **A denial is doubted before it returns mail.** "No such domain" is believed of a resolver that knows the root, and of a name
//! that is not there for another type of question either (RFC 8020). A host of our own name is us once nobody answers there
//! three times in 20 seconds, unless somebody has since the start: another mail server of this machine may be starting. Price:
//! one more question for a domain that does not exist.
//!
//! **DANE as Postfix does it, with one other word.** The scenario `dane_over_real_dns` sends to the same signed domains
//! with Postfix (`smtp_tls_security_level = dane`) and compares. Verdicts are alike in every row, down to TLSA records at
//! aliases, unusable records, digest agility and broken signatures. Where they differ:
//!
//! | case | Postfix | here | why |
//! | --- | --- | --- | --- |
//! | unsigned MX set, signed host with TLSA records that match | sent, called `Trusted` | sent, called `dane` with `mx_secure=false` | the same demand (RFC 7672 §2.2.1); the log says in another field that the MX name was not authenticated |
//! | RSA key below 2048 bits, DANE-TA record | sent | waits (`weak-key`) | there an authority speaks for the key, as in PKIX, and none should for such a key (RFC 9325 §4.5) |
//!
//! **What nobody could look for may be promised.** REQUIRETLS mail is returned for a missing promise, and an exception ends
//! with a kept one, only where everybody was asked: with MTA-STS or DANE off, DNSSEC unproven or a failed lookup of a policy
//! such mail waits, and the exception stays. Price: without those, such mail may wait in vain until its lifetime ends.
//!
//! **`minimum_tls` is a level, not a method.** DANE of a host that DNSSEC proves to be the domain's is more than `verify` asks
//! for, as it is more than an enforce policy asks for. A next hop is known by what its rule says, chain and name, and DANE
//! does not replace that. `dane` wants a proven MX set: records of a host that anybody could have named prove nothing of the
//! domain (RFC 7672 §2.2.1). Price: `verify` of an unsigned domain trusts its MX records, as everybody's does.
//!
//! A DANE-EE record names the key itself, so one of 1024 bits is good enough (RFC 7672 §3.1.1) when the host proves that it has
//! it; below 1024 nothing proves anything. Under MTA-STS such a key is refused like any other that no authority should
//! vouch for. The provider (aws-lc-rs) verifies nothing below 2048 bits, so the crate `rsa` does that, with public keys
//! only. Of authorities in TLSA records 16 are tried.
//!
//! posttls-finger shows what a session was and refuses nothing, so a mismatch is `Untrusted` there and a deferral here and
//! in Postfix.
//!
//! **One SQLite database, one thread that writes.** The 250 needs one durable commit, and messages that arrive together
//! share one sync; a second writer would only wait for the first. Queue, policies and history stand in one file that
//! one transaction covers, so that an outcome and the notice that follows from it are on disk together or not at all.
//! Price: one machine, a local disk.
//!
//! **An SMTP grammar of our own on the submission side.** The session is a pure function from lines to replies, without
//! I/O, so that every order of commands, every split of the input and every smuggling variant can be tested, and bare CR
//! and LF have one meaning: refused. Price: we maintain it.
//!
//! **Outcomes are committed before anything else is done with them.** A crash between the remote's 250 and our commit
//! means a second copy, never a loss (RFC 1047). Log, queue and notice say `maybe_delivered` where that may be.
//!
//! **Configuration is read by hand, not derived.** A derived deserialiser stops at the first error and knows
//! no positions for rules between keys. The tree of the TOML parser is walked instead, so that all errors come
//! at once, with line, column and key. Price: each key is named in the reader and in the checked struct.
//!
//! **The admin interface refuses browsers, and stays on loopback.** No CORS, no cookies, no host names: a request with
//! an `Origin`, or for a name that is not an address, is refused. It has no TLS yet, so an `admin.listen` elsewhere is
//! an error. Price: a reverse proxy under a name has to rewrite `Host`, and other machines need a tunnel (`ssh -L`).
//!
//! **`--online` for probes.** Reading commands open the database when the relay is silent, which would make a
//! dead relay look healthy. A probe therefore runs `sealpost queue list --limit 1 --json --online`.
//!
//! **Every delivery line has every field.** A text without a value is empty, a number without one 0, so that no reader
//! of the log needs to know which outcome has which fields. Price: longer lines.
//!
//! **DKIM over aws-lc-rs, without a DKIM crate.** The library for it reads the system's clock, errs in the body's last
//! lines and in form feeds, folds past 76 columns, and brings DNSSEC and TLS into the resolver. What is left of it, two
//! canonical forms and one field, is small, and is held against dkimpy and OpenDKIM. Price: it is ours to keep right.
//!
//! **No `s=` in printed key records.** RFC 8460 §3 would have `tlsrpt` in it; verifiers of ordinary mail ignore a key for
//! `tlsrpt` alone, and dkimpy also one for `email:tlsrpt`. Without `s=` a key serves all. Price: a receiver that insists
//! on the word may leave our reports unread; none is known.
//!
//! **A day's report is what the store says, and nothing in memory.** Its moment is drawn once and stored; octets, id and
//! destinations are kept in the commit that deletes the counters; each destination has the number of its mail before the
//! mail exists. So a process may die between any two steps, and the next one repeats at most a POST, under the same id.
//! A clock that jumps forward is doubted for an hour, in which no day counts as closed. Price: an hour.
//!
//! **RSA keys from 2048 bits.** RFC 8301 lets verifiers take 1024; the cryptography here refuses to use them.
//!
//! **Blank lines at the end of a signed message are cut off** where one of them is not empty, and blanks before the
//! colon of a field always: some verifiers reckon the first wrongly and do not find the second.
//!
//! **A source address belongs to a domain.** Of several, a domain always gets the same one of a family (rendezvous hashing):
//! receivers judge an address by what it has sent them, and greylisting wants the second attempt from where the first
//! came. Price: a domain with much mail does not spread over all of them.
//!
//! **An exception ends with the first sound session**, not at the last of several hosts: the sound host takes the mail
//! from then on. Mail in the clear or unverified is nowhere let through for a password, for `smtps`, or for a message
//! with REQUIRETLS. A day that is over is an error for `config check` and a warning for everything else: a relay that
//! is started again must not stay down for it, and has no effect from it either.
//!
//! **Whoever asks for TLS asks for a proven handshake.** `minimum_tls = "encrypt"`, TLSA records that cannot be used, and
//! `allow = "encrypt"` take any certificate, but the host must have signed the handshake with its key (RFC 8446 §4.4.3); else
//! mail waits with `bad-signature`. Price: a host whose signature is of a kind that this relay cannot verify takes
//! `allow = "plain"`, under which its sessions stay encrypted.
//!
//! **A rate is spread over its time.** At most a second's worth leaves at once, and a rate below one a second leaves one by
//! one. It is kept in memory: a start begins anew. Price: a start may send one second's worth too many.
//!
//! **REQUIRETLS: what is absent is returned, what is broken waits.** A host that offers no REQUIRETLS, a domain that promised
//! nothing and offers no TLS, a name that nobody vouches for: these rarely change within days, and the sender asked to be
//! told. A certificate that ran out, a policy or a lookup that fails, may be mended tomorrow, or be an attack. Without a
//! proven DNSSEC a name that nobody vouches for may yet be signed, so it waits too, and REQUIRETLS is not offered then.
//! Nothing that a recipient's domain promised is ever the reason for a bounce. Price: whoever strips STARTTLS on the way to
//! a domain without a policy gets the mail returned, though never delivered in the clear.
//!
//! **A notification without REQUIRETLS rather than none.** RFC 8689 §5 wants both: that it carries the parameter, and that
//! a next hop without it is no reason to drop it. So the parameter goes along wherever its conditions hold, host by host;
//! the body never does. Price: header fields may travel less protected.
//!
//! **An exception does not speak for the sender.** `[[exception]]` lets a domain off what it promised and what this relay's
//! own rules ask, never what a sender asks with REQUIRETLS.
//!
//! **`/metrics` wants the token where the queue can be commanded, and none where it cannot.** A scrape names domains that
//! mail goes to, which is nothing for every user of the machine; a Prometheus there sends the token. `[metrics] listen`
//! serves nothing but metrics and health, and by writing it the operator says who may read them. Price: two places.
//!
//! **Labels are closed lists.** The value of a label is a word of a type, or was written by the operator; the one exception,
//! the domains with most waiting mail, are fifty at a time and looked up for each scrape, so that what has gone leaves no
//! series. No peer can make the number of series grow (LIM-32). Price: no series per domain or host; `queue list` and the
//! log have them.
//!
//! **The queue's depth is kept, not counted.** Each commit that changes where recipients stand also changes a small table of
//! sums. So a scrape costs the same for ten messages as for a million, and nothing walks the queue for it. Price: every
//! change of a state has to be noted (`Tx::came`, `Tx::left`), which the contract tests compare with the rows.
//!
//! **Handles are passed, not global.** Each room gets its counters with its settings, as it gets its clock; without them it
//! counts nothing. Tests run side by side with numbers of their own. Price: a field more in the settings.
//!
//! ## Later
//!
//! Read, checked and named at start as without effect: HTTP submission, aliases, limits for submitting clients, TLS for
//! the admin interface.
