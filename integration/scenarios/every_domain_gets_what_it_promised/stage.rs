//! The means by which a row sets up its domain. In every name, `@` stands for the domain.

use std::sync::Mutex;

use hickory_resolver::proto::rr::RecordType;

use crate::world::ca::Flaw;
use crate::world::dns::Dns;
use crate::world::mx::{Behaviour, MxHost};
use crate::world::policy_host::Page;
use crate::world::{World, policy_text};

/// One domain of the internet while it is set up, and what it is then seen to have done.
pub(super) struct Stage<'w> {
    pub(super) world: &'w World,
    pub(super) domain: &'static str,
    /// The MX hosts in the order of their making.
    pub(super) hosts: Vec<MxHost>,
    mx: Vec<(u16, String)>,
    /// Requests to the policy host that are not to be counted.
    before: Mutex<usize>,
}

impl<'w> Stage<'w> {
    pub(super) fn new(world: &'w World, domain: &'static str) -> Self {
        Self { world, domain, hosts: Vec::new(), mx: Vec::new(), before: Mutex::new(0) }
    }

    pub(super) const fn dns(&self) -> &'w Dns {
        &self.world.dns
    }

    /// The name meant by `text`.
    pub(super) fn name(&self, text: &str) -> String {
        text.replace('@', self.domain)
    }

    /// A sound MX host `mx.@`.
    pub(super) fn mx(&mut self) -> MxHost {
        self.mx_at(10, "mx.@")
    }

    /// A sound host of this name with an MX record of this preference, beside those there are.
    pub(super) fn mx_at(&mut self, preference: u16, name: &str) -> MxHost {
        let host = self.host(name);
        self.record(preference, name);
        host
    }

    /// A host without an MX record.
    pub(super) fn host(&mut self, name: &str) -> MxHost {
        let host = self.world.open_mx_host(&self.name(name));
        self.hosts.push(host.clone());
        host
    }

    /// One more MX record.
    pub(super) fn record(&mut self, preference: u16, name: &str) {
        self.mx.push((preference, self.name(name)));
        let records: Vec<(u16, &str)> = self.mx.iter().map(|(p, n)| (*p, n.as_str())).collect();
        self.dns().mx(self.domain, &records);
    }

    /// An MX record for a name with this one address and no host of ours.
    pub(super) fn mx_pointing_to(&mut self, preference: u16, name: &str, address: &str) {
        self.record(preference, name);
        self.dns().a(&self.name(name), address.parse().unwrap());
    }

    /// An MX record for an address at which connections are refused.
    pub(super) fn dead_mx(&mut self, preference: u16, name: &str) {
        let nobody = self.world.next_address().ip().to_string();
        self.mx_pointing_to(preference, name, &nobody);
    }

    /// An MX host `mx.@` with a flawed certificate for its name.
    pub(super) fn flawed(&mut self, flaw: Flaw) {
        let host = self.mx();
        self.certify(&host, flaw, &["mx.@"]);
    }

    /// An MX host `mx.@` with this behaviour.
    pub(super) fn behaving(&mut self, change: impl FnOnce(&mut Behaviour)) {
        self.mx().behave(change);
    }

    /// Gives a host another certificate.
    pub(super) fn certify(&self, host: &MxHost, flaw: Flaw, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|n| self.name(n)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        host.certificate(&self.world.ca.issue(flaw, &names));
    }

    /// A signed domain with an MX host `mx.@`, such a certificate, and a signed TLSA record for its key.
    pub(super) fn dane(&mut self, flaw: Flaw) -> MxHost {
        let host = self.mx();
        let leaf = self.world.ca.issue(flaw, &[host.name()]);
        host.certificate(&leaf);
        self.dns().tlsa(&self.tlsa_name(), leaf.key_digest(0));
        for name in [self.domain, host.name(), &self.tlsa_name()] {
            self.dns().sign(name);
        }
        host
    }

    /// Where the TLSA records of `mx.@` lie.
    pub(super) fn tlsa_name(&self) -> String {
        self.name(&format!("_{}._tcp.mx.@", self.world.port))
    }

    /// A policy under id 1, well published.
    pub(super) fn policy(&self, mode: &str, mx: &[&str]) {
        self.publish(&policy_text(mode, &mx.iter().map(|m| self.name(m)).collect::<Vec<_>>()));
    }

    /// The enforce policy that lists `mx.@`.
    pub(super) fn enforce(&self) {
        self.policy("enforce", &["mx.@"]);
    }

    /// A policy file with this text under id 1, served as it should be.
    pub(super) fn publish(&self, text: &str) {
        self.world.publish_policy(self.domain, "1", "none", &[]);
        self.serve(Page::policy(&self.name(text)));
    }

    /// What the policy host answers.
    pub(super) fn serve(&self, page: Page) {
        self.world.policies.answer(&self.policy_host(), page);
    }

    /// Another certificate for the policy host.
    pub(super) fn certify_policy_host(&self, flaw: Flaw, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|n| self.name(n)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.world.policies.certificate(&self.policy_host(), &self.world.ca.issue(flaw, &names));
    }

    /// Where the policy host is.
    pub(super) fn policy_host_at(&self, address: &str) {
        self.dns().a(&self.policy_host(), address.parse().unwrap());
    }

    /// The policy host refuses connections.
    pub(super) fn policy_host_dies(&self) {
        self.policy_host_at(&self.world.address(254).ip().to_string());
    }

    /// The discovery record.
    pub(super) fn txt(&self, text: &str) {
        self.dns().txt(&self.txt_name(), text);
    }

    pub(super) fn txt_name(&self) -> String {
        self.name("_mta-sts.@")
    }

    pub(super) fn policy_host(&self) -> String {
        self.name("mta-sts.@")
    }

    /// Requests for the policy since it was last forgotten.
    pub(super) fn requests(&self) -> usize {
        self.world.policies.requests(&self.policy_host()).len() - *self.before.lock().unwrap()
    }

    pub(super) fn forget_requests(&self) {
        *self.before.lock().unwrap() = self.world.policies.requests(&self.policy_host()).len();
    }

    /// All messages that its hosts took or were given.
    pub(super) fn messages(&self) -> usize {
        self.hosts.iter().map(|h| h.seen().messages.len()).sum()
    }

    /// How often the TXT record of a name was asked for.
    pub(super) fn asked_txt(&self, name: &str) -> usize {
        self.dns().asked(&self.name(name), RecordType::TXT)
    }
}
