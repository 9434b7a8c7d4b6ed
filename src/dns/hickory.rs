//! [`HickoryResolver`]: a stub resolver on hickory's message types.
//!
//! Hickory's own resolver drops the AD bit of denials and asks no second server after SERVFAIL, and its cache
//! may put a foreign CNAME before an answer; so the exchange is ours: each answer is read from the whole
//! message, from the name that was asked, and the AD bit is believed only where the operator vouches for the
//! server (RFC 7672 §2.1.1), or this process validates. Nothing is cached here but keys and delegations.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::anchor::Anchor;
use super::{Answer, Data, DnsError, DnsErrorKind, DnsResult, Dnssec, Family, Mx, Resolver};
use crate::dane::Tlsa;
use crate::mail::Domain;

mod exchange;
mod look;
mod servers;
mod truth;
mod validate;

use servers::{Checking, Failure, Servers};
use truth::Truth;
use validate::Validator;

/// Who says what DNSSEC authenticates.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Nobody: every answer is insecure.
    Nobody,
    /// The resolvers, by their AD bit (RFC 4035 §3.2.3).
    Resolvers,
    /// This process.
    Validation {
        /// The keys of the root; empty: those of IANA that are built in.
        anchors: Arc<[Anchor]>,
        /// Validates while this holds, and else believes nobody: where the resolvers hand out no signatures, everything
        /// that is signed would be bogus (DANE-02).
        believed: Dnssec,
    },
}

/// What the resolver is told.
#[derive(Debug, Clone)]
pub struct DnsSettings {
    /// Servers, asked in order from the one that answered last; empty: those of the system's resolver file.
    pub servers: Vec<SocketAddr>,
    /// Who is believed about DNSSEC.
    pub trust: Trust,
    /// A zone that certainly exists: a server that denies it, and what it knew before, is not believed about what is not
    /// there (OUT-04). "" for none: the root.
    pub known_zone: String,
    /// The wait for one server: 5 s.
    pub timeout: Duration,
    /// Rounds through the servers: 2.
    pub attempts: usize,
    /// The end of a lookup, whatever is left to try: 20 s.
    pub deadline: Duration,
    /// Questions under way at the same time: 256.
    pub max_in_flight: usize,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            trust: Trust::Nobody,
            known_zone: ".".to_owned(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            deadline: Duration::from_secs(20),
            max_in_flight: 256,
        }
    }
}

/// No server is configured and none could be found.
#[derive(Debug, thiserror::Error)]
#[error("no DNS server: none is configured and the system's resolver file names none{0}")]
pub struct NoServers(String);

/// The adapter behind [`Resolver`].
#[derive(Debug)]
pub struct HickoryResolver {
    servers: Arc<Servers>,
    belief: Belief,
    truth: Truth,
    deadline: Duration,
    in_flight: Semaphore,
}

/// [`Trust`], with what it takes.
#[derive(Debug)]
enum Belief {
    Nobody,
    Resolvers,
    Validation(Validator, Dnssec),
}

impl HickoryResolver {
    /// A resolver for these settings. Reads the system's resolver file when they name no server; only its
    /// servers count: no search list, no hosts file.
    ///
    /// # Errors
    /// [`NoServers`].
    pub fn new(mut settings: DnsSettings) -> Result<Self, NoServers> {
        if settings.servers.is_empty() {
            let (config, _) = read_system_conf().map_err(|e| NoServers(format!(" ({e})")))?;
            settings.servers = config.name_servers.iter().map(|s| SocketAddr::new(s.ip, 53)).collect();
        }
        if settings.servers.is_empty() {
            return Err(NoServers(String::new()));
        }
        let belief = match settings.trust {
            Trust::Nobody => Belief::Nobody,
            Trust::Resolvers => Belief::Resolvers,
            Trust::Validation { anchors, believed } => Belief::Validation(Validator::new(anchors), believed),
        };
        Ok(Self {
            servers: Arc::new(Servers::new(settings.servers, settings.timeout, settings.attempts)),
            belief,
            truth: Truth::new(&settings.known_zone),
            deadline: settings.deadline,
            in_flight: Semaphore::new(settings.max_in_flight),
        })
    }

    /// The servers asked.
    pub fn servers(&self) -> &[SocketAddr] {
        self.servers.list()
    }

    async fn look_up<T>(
        &self,
        name: &Domain,
        kind: RecordType,
        label: &'static str,
        read: impl Fn(&RData) -> Option<T>,
    ) -> DnsResult<T> {
        let fail = |(kind, server)| DnsError { kind, name: name.clone(), record: label, server };
        let walk = async {
            let _permit = self.in_flight.acquire().await.map_err(|_| (DnsErrorKind::Unreachable, None))?;
            self.walk(name, kind, read).await
        };
        match timeout(self.deadline, walk).await {
            Ok(result) => result.map_err(fail),
            Err(_) => Err(fail((DnsErrorKind::Timeout, None))),
        }
    }

    /// Follows CNAMEs from `name` to data or denial. One message holds the whole chain, as a rule; where it
    /// ends at an alias without saying anything about its target, the target is asked for.
    async fn walk<T>(
        &self,
        name: &Domain,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, Failure> {
        let mut at = Name::from_ascii(name.as_str()).map_err(|_| (DnsErrorKind::Malformed, None))?;
        at.set_fqdn(true);
        let (mut chain, mut secure, mut ttl) = (Chain::new(at), true, Duration::MAX);
        loop {
            let asked = chain.at.clone();
            let by_link = self.validator().is_some();
            let (message, authentic, server) = self.ask(&Query::query(asked.clone(), kind)).await?;
            secure &= authentic;
            let malformed = |()| (DnsErrorKind::Malformed, Some(server));
            let records = chain.follow(&message, kind, &mut ttl).map_err(malformed)?;
            if !records.is_empty() {
                ttl = records.iter().map(|r| seconds(r.ttl)).fold(ttl, Duration::min);
                // Of TLSA records none may be left out, usable or not; the message bounds them.
                let most = if kind == RecordType::TLSA { usize::MAX } else { MOST_RECORDS };
                let data: Vec<T> = records.iter().filter_map(|r| read(&r.data)).take(most).collect();
                // Records of the right type of which none can be used are no denial.
                return if data.is_empty() {
                    Err(malformed(()))
                } else {
                    Ok(Answer { data: Data::Records(data), secure, ttl, expanded: chain.expanded(name) })
                };
            }
            // What is proven name by name says nothing of an alias's target beside the alias.
            if by_link && chain.at != asked {
                continue;
            }
            let denial = denial_ttl(&message);
            let data = match message.metadata.response_code {
                ResponseCode::NXDomain => Data::NxDomain,
                _ if denial.is_none() && chain.at != asked => continue,
                // NOERROR without SOA is lame, but a denial all the same (RFC 2308 §2.2).
                _ => Data::NoData,
            };
            let ttl = ttl.min(denial.unwrap_or(Duration::ZERO));
            return Ok(Answer { data, secure, ttl, expanded: chain.expanded(name) });
        }
    }

    /// The validator, while it is believed.
    fn validator(&self) -> Option<&Validator> {
        match &self.belief {
            Belief::Validation(validator, believed) if believed.is_believed() => Some(validator),
            Belief::Nobody | Belief::Resolvers | Belief::Validation(..) => None,
        }
    }

    /// An answer, whether it is authenticated, and who gave it.
    async fn ask(&self, question: &Query) -> Result<(Message, bool, SocketAddr), Failure> {
        if let Some(validator) = self.validator() {
            let link = validator.ask(&self.servers, question).await?;
            return Ok((link.message, link.secure, link.server));
        }
        let believed = matches!(self.belief, Belief::Resolvers);
        let checking = if believed { Checking::Believed } else { Checking::Theirs };
        let (message, server) = self.servers.ask(question, checking).await?;
        let authentic = believed && message.metadata.authentic_data;
        if truth::has_data(&message, question) {
            self.truth.saw_data(server, question);
        } else if !authentic && self.is_lie(&message, server, question).await {
            return self.ask_another(question, checking, server).await;
        }
        Ok((message, authentic, server))
    }

    async fn is_lie(&self, message: &Message, server: SocketAddr, question: &Query) -> bool {
        !truth::has_data(message, question)
            && self.truth.denies_what_exists(&self.servers, server, question).await
    }

    /// Asks the servers other than one that denies names that exist.
    async fn ask_another(
        &self,
        question: &Query,
        checking: Checking,
        liar: SocketAddr,
    ) -> Result<(Message, bool, SocketAddr), Failure> {
        for other in self.servers.list().iter().filter(|s| **s != liar) {
            let Ok(message) = self.servers.ask_one(*other, question, checking).await else { continue };
            let authentic = checking == Checking::Believed && message.metadata.authentic_data;
            if authentic || !self.is_lie(&message, *other, question).await {
                return Ok((message, authentic, *other));
            }
        }
        Err((DnsErrorKind::Lying, Some(liar)))
    }
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Mx>> {
        self.look_up(name, RecordType::MX, "MX", |data| match data {
            RData::MX(mx) if mx.exchange.is_root() => Some(Mx { preference: mx.preference, exchange: None }),
            // An exchange that is no host name is dropped; nobody can answer there.
            RData::MX(mx) => Domain::parse_host(&mx.exchange.to_ascii())
                .ok()
                .map(|host| Mx { preference: mx.preference, exchange: Some(host) }),
            _ => None,
        })
        .boxed()
    }

    fn addresses<'a>(&'a self, name: &'a Domain, family: Family) -> BoxFuture<'a, DnsResult<IpAddr>> {
        let (kind, label) = match family {
            Family::V4 => (RecordType::A, "A"),
            Family::V6 => (RecordType::AAAA, "AAAA"),
        };
        self.look_up(name, kind, label, |data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        })
        .boxed()
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Vec<u8>>> {
        self.look_up(name, RecordType::TXT, "TXT", |data| match data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        })
        .boxed()
    }

    fn tlsa<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Tlsa>> {
        self.look_up(name, RecordType::TLSA, "TLSA", |data| match data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }),
            _ => None,
        })
        .boxed()
    }

    fn cname<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        self.look_up(name, RecordType::CNAME, "CNAME", |data| match data {
            RData::CNAME(target) => Domain::parse_host(&target.0.to_ascii()).ok(),
            _ => None,
        })
        .boxed()
    }

    fn ptr<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        self.look_up(name, RecordType::PTR, "PTR", |data| match data {
            RData::PTR(target) => Domain::parse_host(&target.0.to_ascii()).ok(),
            _ => None,
        })
        .boxed()
    }

    /// Nothing is cached here.
    fn forget(&self, _name: &Domain) {}
}

/// The walk along CNAMEs: only those whose owner is the name we stand at.
struct Chain {
    at: Name,
    seen: HashSet<Name>,
}

impl Chain {
    fn new(at: Name) -> Self {
        Self { seen: HashSet::from([at.clone()]), at }
    }

    /// Where the aliases have led from `name`; `None` when it is no alias.
    fn expanded(&self, name: &Domain) -> Option<Domain> {
        Domain::parse_host(&self.at.to_ascii()).ok().filter(|at| at != name)
    }

    /// Goes as far as `message` leads; the records of type `kind` there. An error for a loop or a chain over
    /// [`MAX_CHAIN`].
    fn follow<'m>(
        &mut self,
        message: &'m Message,
        kind: RecordType,
        ttl: &mut Duration,
    ) -> Result<Vec<&'m Record>, ()> {
        loop {
            let here = || message.answers.iter().filter(|r| r.name == self.at);
            let found: Vec<_> = here().filter(|r| r.record_type() == kind).collect();
            if !found.is_empty() {
                return Ok(found);
            }
            let alias = here().find_map(|r| match &r.data {
                RData::CNAME(target) => Some((target.0.clone(), r.ttl)),
                _ => None,
            });
            let Some((target, alias_ttl)) = alias else { return Ok(Vec::new()) };
            *ttl = (*ttl).min(seconds(alias_ttl));
            if self.seen.len() > MAX_CHAIN || !self.seen.insert(target.clone()) {
                return Err(());
            }
            self.at = target;
        }
    }
}

/// How long a denial may be kept (RFC 2308 §5); `None` without an SOA.
fn denial_ttl(message: &Message) -> Option<Duration> {
    message.authorities.iter().find_map(|r| match &r.data {
        RData::SOA(soa) => Some(seconds(r.ttl.min(soa.minimum))),
        _ => None,
    })
}

const fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl as u64)
}

/// Records used of one answer.
const MOST_RECORDS: usize = 256;
/// CNAMEs followed.
const MAX_CHAIN: usize = 8;

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
