//! The name server of a world: it claims authority over everything and recursion besides, over UDP and TCP.
//!
//! Names and faults can be changed at any time. Everything that was asked is kept in a log.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{CNAME, MX, PTR, SOA, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use sealpost::dns::reverse_name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// How a name misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers SERVFAIL.
    ServFail,
    /// Answers REFUSED.
    Refused,
    /// Never answers.
    Silent,
    /// Says that the name does not exist, whatever the zone holds.
    NxDomain,
    /// Answers rightly, but late.
    Delay(Duration),
}

/// The name server; dropped with its world's runtime.
#[derive(Clone)]
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    faults: HashMap<String, Fault>,
    type_faults: HashMap<(String, RecordType), Fault>,
    everything: Option<Fault>,
    authenticated: bool,
    signed: HashSet<String>,
    log: Vec<(String, RecordType)>,
}

/// Seconds that every record may be kept.
const TTL: u32 = 5;

impl Dns {
    /// Listens on `address`, UDP and TCP.
    pub async fn start(address: SocketAddr) -> Self {
        let server = Self { address, zone: Arc::default() };
        // Like every resolver it knows the root: one that does not is not believed about what is not there.
        server.set(".", RecordType::SOA, vec![RData::SOA(soa())]);
        let udp = Arc::new(UdpSocket::bind(address).await.unwrap());
        let tcp = TcpListener::bind(address).await.unwrap();
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        server
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the MX records of `name`; the host "." makes a null MX.
    pub fn mx(&self, name: &str, hosts: &[(u16, &str)]) {
        let data = hosts.iter().map(|(p, h)| RData::MX(MX::new(*p, fqdn(h)))).collect();
        self.set(name, RecordType::MX, data);
    }

    /// Replaces the addresses of `name` by one.
    pub fn a(&self, name: &str, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.set(name, RecordType::A, vec![RData::A(v4.into())]),
            IpAddr::V6(v6) => self.set(name, RecordType::AAAA, vec![RData::AAAA(v6.into())]),
        }
    }

    /// Replaces the names of `address` by one.
    pub fn ptr(&self, address: IpAddr, name: &str) {
        let at = reverse_name(address).unwrap();
        self.set(at.as_str(), RecordType::PTR, vec![RData::PTR(PTR(fqdn(name)))]);
    }

    /// Replaces the TXT records of `name` by one.
    pub fn txt(&self, name: &str, text: &str) {
        self.set(name, RecordType::TXT, vec![RData::TXT(TXT::new(vec![text.to_owned()]))]);
    }

    /// Replaces the TXT records of `name`: one per element, each made of these character-strings.
    pub fn txts(&self, name: &str, records: &[&[&str]]) {
        let data = records.iter().map(|r| RData::TXT(TXT::new(r.iter().map(|s| (*s).to_owned()).collect())));
        self.set(name, RecordType::TXT, data.collect());
    }

    /// Replaces the TLSA records of `name` by one: DANE-EE, SPKI, SHA-256, with this digest.
    pub fn tlsa(&self, name: &str, digest: [u8; 32]) {
        let data = TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, digest.to_vec());
        self.set(name, RecordType::TLSA, vec![RData::TLSA(data)]);
    }

    /// Makes `name` an alias and nothing else.
    pub fn cname(&self, name: &str, target: &str) {
        self.remove(name);
        self.set(name, RecordType::CNAME, vec![RData::CNAME(CNAME(fqdn(target)))]);
    }

    /// Removes every record of `name`.
    pub fn remove(&self, name: &str) {
        self.zone.lock().unwrap().records.remove(&key(name));
    }

    /// Makes one name misbehave, or behave again.
    pub fn fault(&self, name: &str, fault: Option<Fault>) {
        let faults = &mut self.zone.lock().unwrap().faults;
        match fault {
            Some(fault) => faults.insert(key(name), fault),
            None => faults.remove(&key(name)),
        };
    }

    /// Makes one name misbehave for one type only.
    pub fn fault_for(&self, name: &str, kind: RecordType, fault: Fault) {
        self.zone.lock().unwrap().type_faults.insert((key(name), kind), fault);
    }

    /// Sets the AD flag of all answers about `name`, as if the zone were signed and the resolver validated.
    pub fn sign(&self, name: &str) {
        self.zone.lock().unwrap().signed.insert(key(name));
    }

    /// Makes the whole server misbehave, or behave again.
    pub fn fault_everywhere(&self, fault: Option<Fault>) {
        self.zone.lock().unwrap().everything = fault;
    }

    /// Sets the AD flag of all answers.
    pub fn authenticated(&self, yes: bool) {
        self.zone.lock().unwrap().authenticated = yes;
    }

    /// How often `name` was asked for this type.
    pub fn asked(&self, name: &str, kind: RecordType) -> usize {
        let zone = self.zone.lock().unwrap();
        zone.log.iter().filter(|(n, k)| *n == key(name) && *k == kind).count()
    }

    fn set(&self, name: &str, kind: RecordType, data: Vec<RData>) {
        let mut zone = self.zone.lock().unwrap();
        let records = zone.records.entry(key(name)).or_default();
        records.retain(|r| r.record_type() != kind);
        records.extend(data);
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let query = buffer[..length].to_vec();
            let (server, socket) = (self.clone(), Arc::clone(&socket));
            tokio::spawn(async move {
                if let Some(answer) = server.answer(&query).await {
                    let _ = socket.send_to(&answer, peer).await;
                }
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().serve_stream(stream));
        }
    }

    async fn serve_stream(self, mut stream: TcpStream) {
        while let Ok(length) = stream.read_u16().await {
            let mut query = vec![0; usize::from(length)];
            if stream.read_exact(&mut query).await.is_err() {
                return;
            }
            let Some(answer) = self.answer(&query).await else { continue };
            let length = u16::try_from(answer.len()).unwrap();
            if stream.write_u16(length).await.is_err() || stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    /// The answer to one query; `None` for silence.
    async fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let name = key(&question.name().to_ascii());
        let fault = {
            let mut zone = self.zone.lock().unwrap();
            zone.log.push((name.clone(), question.query_type()));
            let by_type = zone.type_faults.get(&(name.clone(), question.query_type()));
            zone.everything.or_else(|| zone.faults.get(&name).copied()).or_else(|| by_type.copied())
        };
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        match fault {
            Some(Fault::Silent) => return None,
            Some(Fault::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Fault::Refused) => answer.metadata.response_code = ResponseCode::Refused,
            Some(Fault::NxDomain) => deny(&mut answer, ResponseCode::NXDomain),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.zone.lock().unwrap().fill(&mut answer, &name, question.query_type());
            }
            None => self.zone.lock().unwrap().fill(&mut answer, &name, question.query_type()),
        }
        answer.to_vec().ok()
    }
}

impl Zone {
    fn fill(&self, answer: &mut Message, name: &str, kind: RecordType) {
        answer.metadata.authoritative = true;
        answer.metadata.authentic_data = self.authenticated || self.signed.contains(name);
        let mut at = name.to_owned();
        for _ in 0..8 {
            let records = self.records.get(&at).map_or(&[][..], Vec::as_slice);
            for data in records.iter().filter(|r| r.record_type() == kind) {
                answer.add_answer(Record::from_rdata(fqdn(&at), TTL, data.clone()));
            }
            let alias = records.iter().find_map(|r| if let RData::CNAME(c) = r { Some(&c.0) } else { None });
            match alias {
                Some(target) if kind != RecordType::CNAME => {
                    answer.add_answer(Record::from_rdata(
                        fqdn(&at),
                        TTL,
                        RData::CNAME(CNAME(target.clone())),
                    ));
                    at = key(&target.to_ascii());
                }
                _ => break,
            }
        }
        if !answer.answers.iter().any(|r| r.record_type() == kind) {
            let below = format!(".{at}");
            let exists = at.is_empty() || self.records.keys().any(|n| *n == at || n.ends_with(&below));
            deny(answer, if exists { ResponseCode::NoError } else { ResponseCode::NXDomain });
        }
    }
}

/// What another server says to one question over UDP, the AD flag where it has validated; `None` when nothing comes.
pub async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    query.set_edns(edns);
    query.add_query(Query::query(fqdn(name), kind));
    let exchange = async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
        socket.connect(server).await.ok()?;
        socket.send(&query.to_vec().ok()?).await.ok()?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).await.ok()?;
        Message::from_vec(&buffer[..length]).ok()
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.ok()?
}

/// A denial, with the SOA record that lets it be cached (RFC 2308 §3).
fn deny(answer: &mut Message, code: ResponseCode) {
    answer.metadata.response_code = code;
    answer.add_authority(Record::from_rdata(Name::root(), 1, RData::SOA(soa())));
}

fn soa() -> SOA {
    SOA::new(fqdn("ns.invalid"), fqdn("hostmaster.invalid"), 1, 3600, 600, 86400, 1)
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn fqdn(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}
