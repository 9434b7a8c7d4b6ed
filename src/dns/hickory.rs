//! [`HickoryResolver`]: a stub resolver on hickory's message types.
//!
//! Hickory's own resolver drops the AD bit of denials and asks no second server after SERVFAIL, and its cache
//! may put a foreign CNAME before an answer; so the exchange is ours: each answer is read from the whole
//! message, from the name that was asked, and the AD bit is believed only where the operator vouches for the
//! server (RFC 7672 §2.1.1). Nothing is cached here.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Answer, Data, DnsError, DnsErrorKind, DnsResult, Family, Mx, Resolver};
use crate::dane::Tlsa;
use crate::mail::Domain;

mod exchange;
mod look;

/// What the resolver is told.
#[derive(Debug, Clone)]
pub struct DnsSettings {
    /// Servers, asked in order from the one that answered last; empty: those of the system's resolver file.
    pub servers: Vec<SocketAddr>,
    /// Whether their AD bit is believed.
    pub trust_ad: bool,
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
            trust_ad: false,
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
    settings: DnsSettings,
    /// Index of the server that answered last, so that a dead one costs its timeout once.
    preferred: AtomicUsize,
    in_flight: Semaphore,
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
        let in_flight = Semaphore::new(settings.max_in_flight);
        Ok(Self { settings, preferred: AtomicUsize::new(0), in_flight })
    }

    /// The servers asked.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.settings.servers
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
        match timeout(self.settings.deadline, walk).await {
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
    ) -> Result<Answer<T>, (DnsErrorKind, Option<SocketAddr>)> {
        let mut at = Name::from_ascii(name.as_str()).map_err(|_| (DnsErrorKind::Malformed, None))?;
        at.set_fqdn(true);
        let (mut chain, mut secure, mut ttl) = (Chain::new(at), true, Duration::MAX);
        loop {
            let asked = chain.at.clone();
            let (message, server) = self.ask_servers(&Query::query(asked.clone(), kind)).await?;
            secure &= self.settings.trust_ad && message.metadata.authentic_data;
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

    /// Asks server after server until one gives data or a denial.
    async fn ask_servers(
        &self,
        question: &Query,
    ) -> Result<(Message, SocketAddr), (DnsErrorKind, Option<SocketAddr>)> {
        let servers = &self.settings.servers;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut worst = (DnsErrorKind::Unreachable, None);
        for turn in 0..servers.len() * self.settings.attempts.max(1) {
            let index = (first + turn) % servers.len();
            let Some(&server) = servers.get(index) else { break };
            match self.ask_one(server, question).await {
                Ok(message) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok((message, server));
                }
                // A verdict on the data is not improved by asking it again.
                Err(DnsErrorKind::Bogus) => return Err((DnsErrorKind::Bogus, Some(server))),
                Err(kind) if telling(kind) >= telling(worst.0) => worst = (kind, Some(server)),
                Err(_) => {}
            }
        }
        Err(worst)
    }

    async fn ask_one(&self, server: SocketAddr, question: &Query) -> Result<Message, DnsErrorKind> {
        let message = exchange::ask(server, question, false, self.settings.timeout).await?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
            // A validating resolver says SERVFAIL for bogus data too. Data or denial with checking disabled
            // tells the two apart (RFC 4035 §3.2.2).
            ResponseCode::ServFail if self.settings.trust_ad => {
                match exchange::ask(server, question, true, self.settings.timeout).await {
                    Ok(m) if is_answer(m.metadata.response_code) => Err(DnsErrorKind::Bogus),
                    _ => Err(DnsErrorKind::Servfail),
                }
            }
            ResponseCode::ServFail => Err(DnsErrorKind::Servfail),
            _ => Err(DnsErrorKind::Refused),
        }
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

const fn is_answer(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Of several failures the one that says most is told.
const fn telling(kind: DnsErrorKind) -> u8 {
    match kind {
        DnsErrorKind::Unreachable => 0,
        DnsErrorKind::Timeout => 1,
        DnsErrorKind::Malformed => 2,
        DnsErrorKind::Refused => 3,
        DnsErrorKind::Servfail => 4,
        DnsErrorKind::Bogus => 5,
    }
}

/// Records used of one answer.
const MOST_RECORDS: usize = 256;
/// CNAMEs followed.
const MAX_CHAIN: usize = 8;

#[cfg(test)]
mod tests;
