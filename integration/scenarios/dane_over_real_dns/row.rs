//! One domain that is staged with real programs, and what must become of its mail.

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

    pub(super) fn saying(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    pub(super) fn by(mut self, host: usize) -> Self {
        self.taken_by = Some(host);
        self
    }

    pub(super) fn connections(mut self, each: usize) -> Self {
        self.connections = Some(each);
        self
    }

    pub(super) fn sni(mut self, name: &'static str) -> Self {
        self.sni = Some(name);
        self
    }

    pub(super) fn dane_only(mut self) -> Self {
        self.dane_only = true;
        self
    }
}

pub(super) fn row(
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
    pub(super) world: &'w World,
    pub(super) domain: &'static str,
    pub(super) hosts: Vec<MxHost>,
    /// Lines of zones, with whole names.
    pub(super) records: Vec<String>,
}

impl<'w> Stage<'w> {
    pub(super) const fn new(world: &'w World, domain: &'static str) -> Self {
        Self { world, domain, hosts: Vec::new(), records: Vec::new() }
    }

    pub(super) fn name(&self, text: &str) -> String {
        text.replace('@', self.domain)
    }

    pub(super) fn put(&mut self, owner: &str, rdata: &str) {
        self.records.push(format!("{}. 1 {}", self.name(owner), self.name(rdata)));
    }

    /// A host with an address and such a certificate.
    pub(super) fn host(&mut self, name: &str, flaw: Flaw) -> Leaf {
        let leaf = self.world.ca.issue(flaw, &[&self.name(name)]);
        self.shows(name, &leaf);
        leaf
    }

    /// A host with an address and this certificate.
    pub(super) fn shows(&mut self, name: &str, leaf: &Leaf) {
        let (at, whole) = (self.world.next_address(), self.name(name));
        self.hosts.push(MxHost::open(&whole, at, leaf));
        self.put(name, &format!("A {}", at.ip()));
    }

    /// The like, with an MX record.
    pub(super) fn mx(&mut self, name: &str, flaw: Flaw) -> Leaf {
        let preference = 10 * (self.hosts.len() + 1);
        self.put("@", &format!("MX {preference} {name}."));
        self.host(name, flaw)
    }

    /// A TLSA record of a host.
    pub(super) fn tlsa(&mut self, base: &str, fields: &str, digest: [u8; 32]) {
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        self.put(&format!("_{}._tcp.{base}", self.world.port), &format!("TLSA {fields} {hex}"));
    }

    /// One MX host `mx.@` with such a certificate and a record for its key.
    pub(super) fn pinned(&mut self, flaw: Flaw) {
        let leaf = self.mx("mx.@", flaw);
        self.tlsa("mx.@", "3 1 1", leaf.key_digest(0));
    }

    /// One MX host `mx.@` with such a certificate and a record for its authority.
    pub(super) fn below(&mut self, flaw: Flaw) {
        let leaf = self.mx("mx.@", flaw);
        self.tlsa("mx.@", "2 1 1", leaf.key_digest(1));
    }

    pub(super) fn stripped(&self) {
        self.hosts[0].behave(|b| b.starttls = StartTls::Stripped);
    }
}

pub(super) const DANE: (&str, &str) = ("delivered", "dane");
pub(super) const NO_MATCH: &[&str] = &["tlsa +0 -1 validation-failure/dane-no-match"];
