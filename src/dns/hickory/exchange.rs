//! One question to one server: UDP, and TCP when the answer did not fit (RFC 1035 §4.2, RFC 7766).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::dns::DnsErrorKind;

/// Asks `server`. Over UDP every question has a random id and a source port of its own, which is what a forger
/// has to guess; datagrams that do not fit are ignored until the time is up.
pub(super) async fn ask(
    server: SocketAddr,
    question: &Query,
    checking_disabled: bool,
    limit: Duration,
) -> Result<Message, DnsErrorKind> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = checking_disabled;
    let mut edns = Edns::new();
    // DO makes a validating resolver say AD (RFC 6840 §5.7), in denials as well.
    edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(true);
    message.set_edns(edns);
    message.add_query(question.clone());
    let wire = message.to_vec().map_err(|_| DnsErrorKind::Malformed)?;
    let id = message.metadata.id;

    let answer = over_udp(server, &wire, id, question, limit).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    match timeout(limit, over_tcp(server, &wire)).await {
        Err(_) => Err(DnsErrorKind::Timeout),
        Ok(Err(e)) => Err(kind_of(&e)),
        Ok(Ok(bytes)) => Message::from_vec(&bytes)
            .ok()
            .filter(|m| answers(m, id, question) && !m.metadata.truncation)
            .ok_or(DnsErrorKind::Malformed),
    }
}

async fn over_udp(
    server: SocketAddr,
    wire: &[u8],
    id: u16,
    question: &Query,
    limit: Duration,
) -> Result<Message, DnsErrorKind> {
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut strange = false;
    let exchange = async {
        let socket = UdpSocket::bind((local, 0)).await?;
        // Connected: the kernel drops what other addresses send, and reports a closed port.
        socket.connect(server).await?;
        socket.send(wire).await?;
        let mut buffer = vec![0; MOST_UDP];
        loop {
            let length = socket.recv(&mut buffer).await?;
            match Message::from_vec(buffer.get(..length).unwrap_or_default()) {
                Ok(message) if answers(&message, id, question) => return Ok(message),
                _ => strange = true,
            }
        }
    };
    match timeout(limit, exchange).await {
        Ok(result) => result.map_err(|e: io::Error| kind_of(&e)),
        Err(_) if strange => Err(DnsErrorKind::Malformed),
        Err(_) => Err(DnsErrorKind::Timeout),
    }
}

async fn over_tcp(server: SocketAddr, wire: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(wire.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), wire].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Whether `message` answers this very question.
fn answers(message: &Message, id: u16, question: &Query) -> bool {
    message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.queries.len() == 1
        && message.queries.first().is_some_and(|q| {
            q.name == question.name
                && q.query_type == question.query_type
                && q.query_class == question.query_class
        })
}

fn kind_of(e: &io::Error) -> DnsErrorKind {
    match e.kind() {
        io::ErrorKind::TimedOut => DnsErrorKind::Timeout,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => DnsErrorKind::Malformed,
        _ => DnsErrorKind::Unreachable,
    }
}

/// What fits into one packet on any path (the DNS flag day of 2020).
const UDP_PAYLOAD: u16 = 1232;
const MOST_UDP: usize = 4096;
