//! What the validator asks with: our own exchange, with a memory for one question and a small one for the keys and
//! delegations that all questions need.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsHandle, NetError};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, SigInput};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use crate::dns::DnsErrorKind;
use crate::dns::hickory::servers::{Checking, Failure, Servers};
use crate::dns::hickory::{denial_ttl, seconds};

/// Questions on the wire for one name: a chain of a dozen zones with three each, and room. A peer chooses the names.
const MOST_QUESTIONS: usize = 100;
/// Questions for one name, those answered from memory too: each may cost the library a proof. An honest name takes a
/// handful for each of its labels.
const MOST_FETCHES: usize = 1000;
/// Signatures in one message: a denial has four sets, and nobody signs with more than a few keys. The library tries all of
/// a set of keys, each time that it needs one (CVE-2023-50387).
const MOST_SIGNATURES: usize = 48;
/// The same question so often within one name is a walk in a circle: each level of a chain asks it once or twice.
const MOST_REPEATS: usize = 24;
/// Keys and delegations live as long as their TTL, and no longer than this.
const LONGEST: Duration = Duration::from_secs(3600);
/// And what says that there are none.
const LONGEST_DENIAL: Duration = Duration::from_secs(300);
/// Room for them, in octets on the wire. In memory a record takes a few times as much.
const ROOM: u64 = 2 << 20;
/// Octets heard for one name. A chain takes a few thousand.
const MOST_OCTETS: usize = 192 << 10;
/// What led to no proof is fetched anew, but not what was fetched this short a time ago: one broken domain must not have all
/// others fetch the keys of the root again and again.
const FRESH: Duration = Duration::from_secs(10);

type Key = (Name, RecordType);

/// Keys and delegations that led to a proof lately. As handed out: each use proves them anew.
pub(super) struct Kept(moka::sync::Cache<Key, Heard>);

/// A message, its octets on the wire, when it came, and until when it may be used.
#[derive(Clone)]
struct Heard {
    message: Message,
    octets: usize,
    came: Instant,
    ends: Instant,
}

impl Heard {
    /// Without what nobody proves; `None` with more signatures than anybody needs.
    fn new(mut message: Message) -> Option<Self> {
        message.additionals.clear();
        let signatures = message.all_sections().filter(|r| r.record_type() == RecordType::RRSIG).count();
        let octets = message.to_vec().map_or(MOST_OCTETS, |wire| wire.len());
        let came = Instant::now();
        let ends = came + life(&message);
        (signatures <= MOST_SIGNATURES).then_some(Self { message, octets, came, ends })
    }
}

impl Default for Kept {
    fn default() -> Self {
        let weigh = |_: &Key, heard: &Heard| u32::try_from(200 + heard.octets).unwrap_or(u32::MAX);
        Self(moka::sync::Cache::builder().max_capacity(ROOM).weigher(weigh).build())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages", self.0.entry_count())
    }
}

impl Kept {
    fn get(&self, key: &Key) -> Option<Heard> {
        self.0.get(key).filter(|heard| Instant::now() < heard.ends)
    }
}

/// How long a message may serve.
fn life(message: &Message) -> Duration {
    let shortest = message.answers.iter().map(|r| seconds(r.ttl)).min();
    match (shortest, denial_ttl(message)) {
        (Some(ttl), _) => ttl.min(LONGEST),
        (None, Some(ttl)) => ttl.min(LONGEST_DENIAL),
        (None, None) => Duration::ZERO,
    }
}

/// Asks for one name, and remembers all it heard. Clones share the memory.
#[derive(Clone)]
pub(super) struct Asker {
    servers: Arc<Servers>,
    kept: Arc<Kept>,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    /// What was said to each question, and how often it was asked.
    heard: HashMap<Key, (Heard, usize)>,
    octets: usize,
    on_the_wire: usize,
    /// Questions, remembered ones too.
    fetches: usize,
    server: Option<SocketAddr>,
    /// The first exchange that failed.
    failure: Option<Failure>,
    circle: bool,
}

impl Asker {
    pub(super) fn new(servers: Arc<Servers>, kept: Arc<Kept>) -> Self {
        Self { servers, kept, notes: Arc::default() }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of the servers, unproven.
    pub(super) async fn fetch(&self, question: &Query) -> Result<Message, Failure> {
        let key = (question.name.clone(), question.query_type);
        // What is remembered would never wait: without this no deadline could end a walk, and the thread were lost.
        tokio::task::yield_now().await;
        {
            let mut notes = self.notes();
            notes.fetches += 1;
            if notes.fetches > MOST_FETCHES {
                notes.circle = true;
                drop(notes);
                return Err(self.undecided());
            }
            if let Some((heard, times)) = notes.heard.get_mut(&key) {
                *times += 1;
                let (message, circle) = (heard.message.clone(), *times > MOST_REPEATS);
                notes.circle |= circle;
                return Ok(message);
            }
        }
        let heard = match self.kept.get(&key) {
            Some(heard) => heard,
            None => self.over_the_wire(question).await?,
        };
        let message = heard.message.clone();
        let mut notes = self.notes();
        notes.octets = notes.octets.saturating_add(heard.octets);
        notes.heard.insert(key, (heard, 1));
        Ok(message)
    }

    async fn over_the_wire(&self, question: &Query) -> Result<Heard, Failure> {
        let too_much = {
            let mut notes = self.notes();
            notes.on_the_wire += 1;
            notes.on_the_wire > MOST_QUESTIONS || notes.octets > MOST_OCTETS
        };
        let answer =
            if too_much { Err(self.undecided()) } else { self.servers.ask(question, Checking::Ours).await };
        let heard = answer.and_then(|(message, server)| {
            self.notes().server = Some(server);
            Heard::new(message).ok_or((DnsErrorKind::Undecided, Some(server)))
        });
        if let Err(failure) = heard {
            self.notes().failure.get_or_insert(failure);
        }
        heard
    }

    /// The server that answered last.
    pub(super) fn server(&self) -> SocketAddr {
        let first = || self.servers.list().first().copied();
        self.notes().server.or_else(first).unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 53).into())
    }

    /// The failure of a name that the library gave up on.
    pub(super) fn undecided(&self) -> Failure {
        (DnsErrorKind::Undecided, Some(self.server()))
    }

    /// Why the name could not be proven: a fetch that failed, a walk in a circle, or what it says itself.
    pub(super) fn blame(&self) -> Failure {
        let (failure, circle) = {
            let notes = self.notes();
            (notes.failure, notes.circle)
        };
        failure.unwrap_or_else(|| {
            let kind = if circle { DnsErrorKind::Undecided } else { DnsErrorKind::Bogus };
            (kind, Some(self.server()))
        })
    }

    /// Keeps for others what led to a proof: keys and delegations. Of servers nothing is proven.
    pub(super) fn share_what_was_proven(&self) {
        for (key, (heard, _)) in &self.notes().heard {
            if matches!(key.1, RecordType::DNSKEY | RecordType::DS) && Instant::now() < heard.ends {
                self.kept.0.insert(key.clone(), heard.clone());
            }
        }
    }

    /// Keeps nothing for others of what led to no proof, for it may be at fault.
    pub(super) fn forget_what_was_used(&self) {
        for (key, _) in self.notes().heard.iter().filter(|(_, (heard, _))| heard.came.elapsed() >= FRESH) {
            self.kept.0.invalidate(key);
        }
    }
}

impl DnsHandle for Asker {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let asker = self.clone();
        let answer = async move {
            let (request, _) = request.into_parts();
            let question = request.queries.first().cloned().ok_or(NetError::Message("no question"))?;
            let mut message =
                asker.fetch(&question).await.map_err(|_| NetError::Message("no answer to a question"))?;
            trim(&question, &mut message);
            DnsResponse::from_message(message).map_err(NetError::from)
        };
        stream::once(answer.boxed()).boxed()
    }
}

/// Leaves what proves the answer to this very question: no records of other names, no addresses of servers, and beside data
/// a denial only where a wildcard made them (RFC 4035 §5.3.4).
fn trim(question: &Query, message: &mut Message) {
    let answers = |kind| kind == question.query_type || kind == RecordType::CNAME;
    let belongs = |r: &Record| answers(signature(r).map_or_else(|| r.record_type(), |s| s.type_covered));
    message.answers.retain(|r| r.name == question.name && belongs(r));
    // A signature over nothing tells the library of a wildcard that is not there.
    if !message.answers.iter().any(|r| answers(r.record_type())) {
        message.answers.clear();
    }
    if !message.answers.iter().any(|r| r.record_type() == question.query_type) {
        return;
    }
    let from_wildcard = |r: &Record| signature(r).is_some_and(|s| s.num_labels < question.name.num_labels());
    if message.answers.iter().any(from_wildcard) {
        let of_servers = |r: &Record| {
            r.record_type() == RecordType::NS
                || signature(r).is_some_and(|s| s.type_covered == RecordType::NS)
        };
        message.authorities.retain(|r| !of_servers(r));
    } else {
        message.authorities.clear();
    }
}

/// What a signature says of itself.
pub(super) fn signature(record: &Record) -> Option<&SigInput> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig.input()),
        _ => None,
    }
}
