//! The domains: rows of the decision table that can be staged with real programs.

use crate::world::World;
use crate::world::ca::{Flaw, Leaf};
use crate::world::mx::{MxHost, StartTls};

/// One domain and what must become of its mail.
pub(super) struct Row {
    pub(super) domain: &'static str,
    pub(super) ids: &'static str,
    pub(super) stage: fn(&mut Stage<'_>),
    /// Outcome, and security level or enhanced code.
    pub(super) want: (&'static str, &'static str),
    /// What the text of the outcome must have in it.
    pub(super) text: &'static str,
    /// The counters of the TLS report.
    pub(super) records: Vec<&'static str>,
    /// The host that takes the mail.
    pub(super) taken_by: Option<usize>,
    /// Connections to each host, where the number matters.
    pub(super) connections: Option<usize>,
    /// The name in SNI.
    pub(super) sni: Option<&'static str>,
    /// The operator demands DANE of it: `minimum_tls = "dane"`.
    pub(super) dane_only: bool,
}

impl Row {
    pub(super) fn recipient(&self) -> String {
        format!("u@{}", self.domain)
    }

    /// In the words that Postfix's log knows too.
    pub(super) fn verdict(&self) -> String {
        match self.want {
            ("delivered", "verified" | "encrypted") => "tls",
            ("delivered", level) => level,
            (outcome, _) => outcome,
        }
        .to_owned()
    }

    fn saying(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    fn by(mut self, host: usize) -> Self {
        self.taken_by = Some(host);
        self
    }

    fn connections(mut self, each: usize) -> Self {
        self.connections = Some(each);
        self
    }

    fn sni(mut self, name: &'static str) -> Self {
        self.sni = Some(name);
        self
    }

    fn dane_only(mut self) -> Self {
        self.dane_only = true;
        self
    }
}

fn row(
    domain: &'static str,
    ids: &'static str,
    stage: fn(&mut Stage<'_>),
    want: (&'static str, &'static str),
    records: &[&'static str],
) -> Row {
    let taken_by = (want.0 == "delivered").then_some(0);
    let records = records.to_vec();
    Row {
        domain,
        ids,
        stage,
        want,
        text: "",
        records,
        taken_by,
        connections: None,
        sni: None,
        dane_only: false,
    }
}

/// A domain while it is set up. In every name, `@` stands for the domain.
pub(super) struct Stage<'w> {
    world: &'w World,
    domain: &'static str,
    pub(super) hosts: Vec<MxHost>,
    /// Lines of zones, with whole names.
    pub(super) records: Vec<String>,
}

impl<'w> Stage<'w> {
    pub(super) const fn new(world: &'w World, domain: &'static str) -> Self {
        Self { world, domain, hosts: Vec::new(), records: Vec::new() }
    }

    fn name(&self, text: &str) -> String {
        text.replace('@', self.domain)
    }

    fn put(&mut self, owner: &str, rdata: &str) {
        self.records.push(format!("{}. 1 {}", self.name(owner), self.name(rdata)));
    }

    /// A host with an address and such a certificate.
    fn host(&mut self, name: &str, flaw: Flaw) -> Leaf {
        let leaf = self.world.ca.issue(flaw, &[&self.name(name)]);
        self.shows(name, &leaf);
        leaf
    }

    /// A host with an address and this certificate.
    fn shows(&mut self, name: &str, leaf: &Leaf) {
        let (at, whole) = (self.world.next_address(), self.name(name));
        self.hosts.push(MxHost::open(&whole, at, leaf));
        self.put(name, &format!("A {}", at.ip()));
    }

    /// The like, with an MX record.
    fn mx(&mut self, name: &str, flaw: Flaw) -> Leaf {
        let preference = 10 * (self.hosts.len() + 1);
        self.put("@", &format!("MX {preference} {name}."));
        self.host(name, flaw)
    }

    /// A TLSA record of a host.
    fn tlsa(&mut self, base: &str, fields: &str, digest: [u8; 32]) {
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        self.put(&format!("_{}._tcp.{base}", self.world.port), &format!("TLSA {fields} {hex}"));
    }

    /// One MX host `mx.@` with such a certificate and a record for its key.
    fn pinned(&mut self, flaw: Flaw) {
        let leaf = self.mx("mx.@", flaw);
        self.tlsa("mx.@", "3 1 1", leaf.key_digest(0));
    }

    /// One MX host `mx.@` with such a certificate and a record for its authority.
    fn below(&mut self, flaw: Flaw) {
        let leaf = self.mx("mx.@", flaw);
        self.tlsa("mx.@", "2 1 1", leaf.key_digest(1));
    }

    fn stripped(&self) {
        self.hosts[0].behave(|b| b.starttls = StartTls::Stripped);
    }
}

const DANE: (&str, &str) = ("delivered", "dane");
const NO_MATCH: &[&str] = &["tlsa +0 -1 validation-failure/dane-no-match"];

pub(super) fn all() -> Vec<Row> {
    let mut rows = matches();
    rows.extend(demands());
    rows.extend(dns());
    rows.extend(wildcards());
    rows
}

/// What a certificate must be.
fn matches() -> Vec<Row> {
    vec![
        row("d50.example", "D50, DANE-22", |s| s.pinned(Flaw::WrongName), DANE, &["tlsa +1 -0"]),
        row("d50-expired.example", "D50, DANE-22", |s| s.pinned(Flaw::Expired), DANE, &["tlsa +1 -0"]),
        row("d50-self.example", "D50", |s| s.pinned(Flaw::SelfSigned), DANE, &["tlsa +1 -0"]),
        row(
            "d50-short.example",
            "D50, DANE-22, RSA of 1024 bits",
            |s| {
                let leaf = Leaf::short();
                s.put("@", "MX 10 mx.@.");
                s.shows("mx.@", &leaf);
                s.tlsa("mx.@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "ta-short.example",
            "DANE-24, RSA of 1024 bits",
            |s| {
                let leaf = s.world.ca.issue_short(&s.name("mx.@"));
                s.put("@", "MX 10 mx.@.");
                s.shows("mx.@", &leaf);
                s.tlsa("mx.@", "2 1 1", leaf.key_digest(1));
            },
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 certificate-not-trusted/weak-key"],
        )
        .saying("untrusted (weak-key)"),
        row("ta.example", "DANE-24", |s| s.below(Flaw::UntrustedIssuer), DANE, &["tlsa +1 -0"]),
        row(
            "d51.example",
            "D51",
            |s| {
                s.mx("mx.@", Flaw::None);
                s.tlsa("mx.@", "3 1 1", [7; 32]);
            },
            ("deferred", "4.7.5"),
            NO_MATCH,
        )
        .saying("matches no TLSA record"),
        row(
            "d52.example",
            "D52",
            |s| s.below(Flaw::WrongName),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 certificate-host-mismatch"],
        ),
        row(
            "d53.example",
            "D53",
            |s| s.below(Flaw::Expired),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 certificate-expired"],
        ),
        row(
            "stale-and-good.example",
            "DANE-30",
            |s| {
                s.pinned(Flaw::None);
                s.tlsa("mx.@", "3 1 1", [7; 32]);
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "agility.example",
            "DANE-31",
            |s| {
                s.pinned(Flaw::None);
                let owner = format!("_{}._tcp.mx.@", s.world.port);
                s.put(&owner, &format!("TLSA 3 1 2 {}", "07".repeat(64)));
            },
            ("deferred", "4.7.5"),
            NO_MATCH,
        ),
        row(
            "preferred.example",
            "DANE-13, DANE-14",
            |s| {
                s.mx("mx1.@", Flaw::SelfSigned);
                let leaf = s.mx("mx2.@", Flaw::None);
                s.tlsa("mx2.@", "3 1 1", leaf.key_digest(0));
            },
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "m4.example",
            "M4, DANE-33",
            |s| {
                s.mx("mx1.@", Flaw::None);
                s.tlsa("mx1.@", "3 1 1", [7; 32]);
                let leaf = s.mx("mx2.@", Flaw::None);
                s.tlsa("mx2.@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -1 validation-failure/dane-no-match"],
        )
        .by(1),
    ]
}

/// What a session must be.
fn demands() -> Vec<Row> {
    let unusable: fn(&mut Stage<'_>) = |s| {
        let leaf = s.mx("mx.@", Flaw::SelfSigned);
        s.tlsa("mx.@", "1 1 1", leaf.key_digest(0));
    };
    vec![
        row(
            "d54.example",
            "D54",
            |s| {
                s.pinned(Flaw::None);
                s.stripped();
            },
            ("deferred", "4.7.4"),
            &["tlsa +0 -1 starttls-not-supported"],
        )
        .saying("TLS is required by dane policy for d54.example"),
        row(
            "d55.example",
            "D55, DANE-37",
            |s| {
                s.pinned(Flaw::None);
                s.hosts[0].behave(|b| b.starttls = StartTls::Octets(b"no handshake\r\n"));
            },
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 validation-failure/tls-invalid-message"],
        )
        .connections(1),
        row(
            "d56.example",
            "D56, DANE-21",
            unusable,
            ("delivered", "encrypted"),
            &["tlsa +0 -1 tlsa-invalid/all-unusable"],
        ),
        row(
            "d57.example",
            "D57",
            |s| {
                s.mx("mx.@", Flaw::None);
                s.tlsa("mx.@", "1 1 1", [7; 32]);
                s.stripped();
            },
            ("deferred", "4.7.4"),
            &["tlsa +0 -1 starttls-not-supported tlsa-invalid/all-unusable"],
        ),
        row(
            "d58.example",
            "D58",
            |s| {
                s.mx("mx.@", Flaw::None);
                s.stripped();
            },
            ("delivered", "plain"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        ),
        row(
            "d63.example",
            "D63, DANE-34",
            // Where there are no records, posttls-finger goes by authorities instead.
            |s| drop(s.mx("mx.@", Flaw::SelfSigned)),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dane-required"],
        )
        .dane_only()
        .saying("DANE is required by local policy for d63.example")
        .connections(0),
        row(
            "d63-unusable.example",
            "D63, DANE-34",
            unusable,
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dane-required"],
        )
        .dane_only()
        .saying("mx.d63-unusable.example has no usable TLSA records")
        .connections(0),
        row("d63-matches.example", "DANE-34", |s| s.pinned(Flaw::SelfSigned), DANE, &["tlsa +1 -0"])
            .dane_only(),
        row(
            "d72.example",
            "D72",
            |s| {
                s.pinned(Flaw::SelfSigned);
                s.world.publish_policy("d72.example", "1", "enforce", &["mx.elsewhere.example"]);
                s.put("_mta-sts.@", "TXT \"v=STSv1; id=1;\"");
                let at = s.world.address(3).ip();
                s.put("mta-sts.@", &format!("A {at}"));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
    ]
}

/// How far DNSSEC vouches.
fn dns() -> Vec<Row> {
    vec![
        row(
            "tlsa-bogus.example",
            "D59, DANE-06",
            |s| s.pinned(Flaw::None),
            ("deferred", "4.7.5"),
            &["tlsa +0 -1 dnssec-invalid/bogus"],
        )
        .saying("TLSA lookup for mx.tlsa-bogus.example failed")
        .connections(0),
        row(
            "mx-bogus.example",
            "D01, DANE-04",
            |s| s.pinned(Flaw::None),
            ("deferred", "4.4.3"),
            &["tlsa +0 -1 dnssec-invalid/bogus"],
        )
        .connections(0),
        row(
            "expired.example",
            "D01, expired signatures",
            |s| {
                s.pinned(Flaw::None);
                // The name that the self-test asks about.
                s.put("@", "A 127.0.0.1");
            },
            ("deferred", "4.4.3"),
            &["tlsa +0 -1 dnssec-invalid/bogus"],
        )
        .connections(0),
        row(
            "d60.example",
            "D60, DANE-07",
            |s| {
                s.mx("mx.d60.unsigned.example", Flaw::None);
                s.tlsa("mx.d60.unsigned.example", "3 1 1", [7; 32]);
            },
            ("delivered", "verified"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "d61.example",
            "D61, DANE-09",
            |s| {
                s.put("@", "MX 10 mx.@.");
                s.put("mx.@", "CNAME h.d61.unsigned.example.");
                let leaf = s.host("h.d61.unsigned.example", Flaw::WrongName);
                s.tlsa("mx.@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        )
        .sni("mx.d61.example"),
        row(
            "alias.example",
            "DANE-09, DANE-32",
            |s| {
                s.put("@", "MX 10 mx.@.");
                s.put("mx.@", "CNAME h.provider.example.");
                let leaf = s.host("h.provider.example", Flaw::WrongName);
                s.tlsa("h.provider.example", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        )
        .sni("h.provider.example"),
        row(
            "tlsa-alias.example",
            "DANE-11",
            |s| {
                let leaf = s.mx("mx.@", Flaw::WrongName);
                let owner = format!("_{}._tcp.mx.@", s.world.port);
                s.put(&owner, "CNAME tlsa._dane.@.");
                let hex: String = leaf.key_digest(0).iter().map(|b| format!("{b:02x}")).collect();
                s.put("tlsa._dane.@", &format!("TLSA 3 1 1 {hex}"));
            },
            DANE,
            &["tlsa +1 -0"],
        )
        .sni("mx.tlsa-alias.example"),
        row(
            "d62.example",
            "D62, DANE-17",
            |s| {
                let leaf = s.host("@", Flaw::SelfSigned);
                s.tlsa("@", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "d77.unsigned.example",
            "D77, DANE-15",
            |s| {
                s.put("@", "MX 10 mx.d77.example.");
                let leaf = s.host("mx.d77.example", Flaw::SelfSigned);
                s.tlsa("mx.d77.example", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "mismatch.unsigned.example",
            "DANE-15",
            |s| {
                s.put("@", "MX 10 mx.mismatch.example.");
                s.host("mx.mismatch.example", Flaw::None);
                s.tlsa("mx.mismatch.example", "3 1 1", [7; 32]);
            },
            ("deferred", "4.7.5"),
            NO_MATCH,
        ),
        row(
            "unsigned.example",
            "D10, DANE-14",
            |s| s.pinned(Flaw::SelfSigned),
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "insecure.optout",
            "DANE-03, opt-out delegation",
            |s| s.pinned(Flaw::SelfSigned),
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
        row(
            "denied.optout",
            "DANE-03, opt-out denial",
            |s| {
                s.mx("mx.@", Flaw::SelfSigned);
            },
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
    ]
}

/// Answers made by wildcards, proven by NSEC and by NSEC3.
fn wildcards() -> Vec<Row> {
    let for_all_ports: fn(&mut Stage<'_>) = |s| {
        let leaf = s.mx("mx.@", Flaw::WrongName);
        let hex: String = leaf.key_digest(0).iter().map(|b| format!("{b:02x}")).collect();
        s.put("*._tcp.mx.@", &format!("TLSA 3 1 1 {hex}"));
    };
    vec![
        row("wild-tlsa.example", "DANE-03, wildcard and NSEC", for_all_ports, DANE, &["tlsa +1 -0"]),
        row("wild-tlsa.hashed", "DANE-03, wildcard and NSEC3", for_all_ports, DANE, &["tlsa +1 -0"]),
        row(
            "any.wild-mx.example",
            "DANE-03, wildcard and NSEC",
            |s| {
                s.put("*.wild-mx.example", "MX 10 mx.of-wild.example.");
                let leaf = s.host("mx.of-wild.example", Flaw::WrongName);
                s.tlsa("mx.of-wild.example", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "far.any.wild-mx.hashed",
            "DANE-03, wildcard and NSEC3",
            |s| {
                s.put("*.wild-mx.hashed", "MX 10 mx.of-wild.hashed.");
                let leaf = s.host("mx.of-wild.hashed", Flaw::WrongName);
                s.tlsa("mx.of-wild.hashed", "3 1 1", leaf.key_digest(0));
            },
            DANE,
            &["tlsa +1 -0"],
        ),
        row(
            "denied.hashed",
            "D58, denied by NSEC3",
            |s| {
                s.mx("mx.@", Flaw::SelfSigned);
            },
            ("delivered", "encrypted"),
            &["no-policy-found +1 -0"],
        ),
    ]
}
