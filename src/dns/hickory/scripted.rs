//! The server of the tests: a script on loopback, UDP and TCP on one port.

use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{MessageType, OpCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA, TLSA};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// What a server does with one question.
pub(super) enum Act {
    Answer,
    /// Over UDP only the truncated bit is sent; over TCP the answer.
    Truncate,
    Silence,
    WrongId,
    WrongQuestion,
    Garbage,
    /// Over UDP the truncated bit; over TCP half of the answer, and the end.
    Half,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// One port for both. The number that UDP was given may be taken for TCP: then another.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        match TcpListener::bind(udp.local_addr().unwrap()).await {
            Ok(tcp) => return (udp, tcp),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::AddrInUse),
        }
    }
}

impl Server {
    /// `script` says what the server does with a question.
    pub(super) async fn start(script: impl Fn(&Query, &mut Message) -> Act + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        let over_tcp = Arc::clone(&script);
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = respond(&buffer[..length], &*script, &seen, false) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let seen = Arc::clone(&log);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut question = vec![0; usize::from(length)];
                stream.read_exact(&mut question).await.unwrap();
                let mut answer = respond(&question, &*over_tcp, &seen, true).unwrap();
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                if answer.iter().all(|octet| *octet == 0) {
                    answer.truncate(answer.len() / 2);
                }
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { address, log }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn respond(
    bytes: &[u8],
    script: &dyn Fn(&Query, &mut Message) -> Act,
    log: &Mutex<Vec<String>>,
    tcp: bool,
) -> Option<Vec<u8>> {
    let question = Message::from_vec(bytes).unwrap();
    let query = question.queries[0].clone();
    let flags = &question.metadata;
    let edns = question.edns.as_ref().unwrap();
    assert!(flags.recursion_desired && edns.flags().dnssec_ok && edns.max_payload() == 1232);
    let cd = if flags.checking_disabled { " +cd" } else { "" };
    let way = if tcp { " tcp" } else { "" };
    log.lock().unwrap().push(format!("{} {}{cd}{way}", query.query_type, query.name));
    let mut answer = Message::new(flags.id, MessageType::Response, OpCode::Query);
    answer.metadata.checking_disabled = flags.checking_disabled;
    answer.add_query(query.clone());
    match script(&query, &mut answer) {
        Act::Answer => {}
        Act::Half if tcp => return Some(vec![0; 40]),
        Act::Truncate if tcp => {}
        Act::Truncate | Act::Half => {
            answer.metadata.truncation = true;
            answer.answers.clear();
            answer.authorities.clear();
        }
        Act::Silence => return None,
        Act::WrongId => answer.metadata.id ^= 1,
        Act::WrongQuestion => answer.queries[0].name = Name::from_ascii("other.example.").unwrap(),
        Act::Garbage => return Some(vec![0xff; 40]),
    }
    Some(answer.to_vec().unwrap())
}

pub(super) fn fqdn(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// A name with a blank, which no host has.
pub(super) fn no_host_name() -> Name {
    Name::from_labels([&b"bad name"[..], b"example"]).unwrap()
}

pub(super) fn put(answer: &mut Message, owner: &str, ttl: u32, data: RData) {
    answer.add_answer(Record::from_rdata(fqdn(owner), ttl, data));
}

/// The root, which every server knows that does not lie.
pub(super) fn root(answer: &mut Message) {
    let soa = SOA::new(fqdn("ns.example."), fqdn("h.example."), 1, 2, 3, 4, 120);
    put(answer, ".", 600, RData::SOA(soa));
}

pub(super) fn soa(answer: &mut Message) {
    let soa = SOA::new(fqdn("ns.example."), fqdn("h.example."), 1, 2, 3, 4, 120);
    answer.add_authority(Record::from_rdata(fqdn("example."), 600, RData::SOA(soa)));
}

pub(super) fn tlsa_record(usage: u8, data: &[u8]) -> RData {
    RData::TLSA(TLSA::new(CertUsage::from(usage), Selector::Spki, Matching::Sha256, data.to_vec()))
}

pub(super) fn address(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

pub(super) fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(fqdn(target)))
}

/// One round through the servers, with the real wait for each.
pub(super) fn resolver(servers: &[SocketAddr], trust_ad: bool) -> HickoryResolver {
    waiting(DnsSettings::default().timeout, servers, trust_ad)
}

/// One that waits no longer than this for a server: for servers whose answer is not to come.
pub(super) fn waiting(timeout: Duration, servers: &[SocketAddr], trust_ad: bool) -> HickoryResolver {
    HickoryResolver::new(DnsSettings {
        servers: servers.to_vec(),
        trust: if trust_ad { Trust::Resolvers } else { Trust::Nobody },
        timeout,
        attempts: 1,
        ..DnsSettings::default()
    })
    .unwrap()
}

pub(super) fn host(label: &str) -> Domain {
    Domain::parse_host(&format!("{label}.example")).unwrap()
}
