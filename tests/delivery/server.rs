//! MX hosts that keep to the protocol, but for the manners they are given.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;

/// How a server differs from one that takes everything.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) greeting: Option<&'static str>,
    /// Further keywords of EHLO.
    pub(crate) offers: Vec<&'static str>,
    /// Further keywords of the EHLO before TLS.
    pub(crate) offers_in_the_clear: Vec<&'static str>,
    /// Replies in place of the usual ones, by the beginning of the command.
    pub(crate) instead: Vec<(&'static str, &'static str)>,
    /// Says nothing to the end of data.
    pub(crate) silent_after_dot: bool,
    /// Answers the first message of TLS with an alert.
    pub(crate) alert: bool,
    /// Says nothing to the first message of TLS.
    pub(crate) silent_in_handshake: bool,
    /// Says nothing to DATA.
    pub(crate) silent_at_data: bool,
    /// Reads nothing of the content and keeps the connection; when notified, it reads to the end and notes
    /// `<late true>` if the terminator was there.
    pub(crate) stops_reading: Option<Arc<Notify>>,
    /// TLS from the first octet.
    pub(crate) implicit: bool,
    /// The buffers of its sockets, in octets.
    pub(crate) window: Option<u32>,
}

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) connections: usize,
    /// Commands, in order; the content is one `<content>`.
    pub(crate) lines: Vec<String>,
}

pub(crate) type Ears = Arc<Mutex<Heard>>;

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    manners: &Manners,
    ears: &Ears,
    inside: bool,
) -> Option<S> {
    let mut io = BufReader::new(io);
    if !inside || manners.implicit {
        let greeting = manners.greeting.unwrap_or("220 ready");
        io.write_all(format!("{greeting}\r\n").as_bytes()).await.ok()?;
    }
    // MAIL accepted and not ended: another MAIL is out of sequence (RFC 5321 §4.1.4).
    let (mut open, mut accepted) = (false, 0);
    loop {
        let mut line = String::new();
        if io.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        ears.lock().unwrap().lines.push(line.clone());
        let scripted =
            manners.instead.iter().find(|(c, _)| line.starts_with(c)).map(|(_, r)| (*r).to_owned());
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply = match &*verb {
            "EHLO" => {
                let mut words = vec!["mx.example.net"];
                words.extend(manners.offers.iter().copied());
                if !inside {
                    words.extend(manners.offers_in_the_clear.iter().copied());
                }
                if manners.tls.is_some() && !inside {
                    words.push("STARTTLS");
                }
                let last = words.pop().unwrap();
                words.iter().map(|w| format!("250-{w}\r\n")).collect::<String>() + &format!("250 {last}")
            }
            "STARTTLS" if scripted.is_some() => scripted.unwrap_or_default(),
            "STARTTLS" => {
                io.write_all(b"220 go\r\n").await.ok()?;
                return Some(io.into_inner());
            }
            "MAIL" if open => "503 5.5.1 nested MAIL command".to_owned(),
            "MAIL" => scripted.unwrap_or_else(|| "250 2.1.0 ok".to_owned()),
            "RCPT" => scripted.unwrap_or_else(|| "250 2.1.5 ok".to_owned()),
            "DATA" if manners.silent_at_data => {
                std::future::pending::<()>().await;
                return None;
            }
            "DATA" if accepted == 0 => "503 5.5.1 no valid recipients".to_owned(),
            "DATA" => scripted.unwrap_or_else(|| "354 go".to_owned()),
            "AUTH" if line == "AUTH LOGIN" => "334 VXNlcm5hbWU6".to_owned(),
            "AUTH" => scripted.unwrap_or_else(|| "235 2.7.0 ok".to_owned()),
            // `u` and `secret` in base 64.
            "DQ==" => "334 UGFzc3dvcmQ6".to_owned(),
            "C2VJCMV0" => "235 2.7.0 ok".to_owned(),
            "RSET" => "250 2.0.0 ok".to_owned(),
            "QUIT" => "221 2.0.0 bye".to_owned(),
            _ => "500 5.5.2 what".to_owned(),
        };
        match &*verb {
            "MAIL" if reply.starts_with('2') => (open, accepted) = (true, 0),
            "RCPT" if reply.starts_with('2') => accepted += 1,
            "RSET" => open = false,
            _ => {}
        }
        io.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
        if reply.starts_with("354") {
            if let Some(late) = &manners.stops_reading {
                late.notified().await;
                let mut rest = Vec::new();
                let _ = io.read_to_end(&mut rest).await;
                ears.lock().unwrap().lines.push(format!("<late {}>", rest.ends_with(b"\r\n.\r\n")));
                return None;
            }
            loop {
                let mut content = Vec::new();
                if io.read_until(b'\n', &mut content).await.ok()? == 0 {
                    return None;
                }
                if content == b".\r\n" {
                    break;
                }
            }
            ears.lock().unwrap().lines.push("<content>".to_owned());
            if manners.silent_after_dot {
                std::future::pending::<()>().await;
            }
            open = false;
            io.write_all(b"250 2.0.0 queued as X1\r\n").await.ok()?;
        }
    }
}

pub(crate) async fn serve(ip: &str, port: u16, manners: Manners) -> (u16, Ears) {
    let listener = listen(ip, port, &manners).unwrap();
    (listener.local_addr().unwrap().port(), attend(listener, manners))
}

/// Two servers at two addresses, on a port that is free at both.
pub(crate) fn serve_two(one: (&str, Manners), two: (&str, Manners)) -> (u16, Ears, Ears) {
    loop {
        let first = listen(one.0, 0, &one.1).unwrap();
        let port = first.local_addr().unwrap().port();
        match listen(two.0, port, &two.1) {
            Ok(second) => return (port, attend(first, one.1), attend(second, two.1)),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::AddrInUse),
        }
    }
}

fn listen(ip: &str, port: u16, manners: &Manners) -> io::Result<TcpListener> {
    let address = SocketAddr::new(ip.parse().unwrap(), port);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if let Some(octets) = manners.window {
        socket.set_recv_buffer_size(octets)?;
        socket.set_send_buffer_size(octets)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}

fn attend(listener: TcpListener, manners: Manners) -> Ears {
    let ears = Ears::default();
    let all = Arc::clone(&ears);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            all.lock().unwrap().connections += 1;
            let (manners, ears) = (manners.clone(), Arc::clone(&all));
            tokio::spawn(async move {
                let tcp = if manners.implicit {
                    tcp
                } else {
                    let Some(tcp) = talk(tcp, &manners, &ears, false).await else { return };
                    tcp
                };
                let acceptor = tokio_rustls::TlsAcceptor::from(manners.tls.clone().unwrap());
                if manners.silent_in_handshake {
                    let _tcp = tcp;
                    return std::future::pending().await;
                }
                if manners.alert {
                    let mut tcp = tcp;
                    // Fatal alert protocol_version (RFC 8446 §6), as of a server that knows TLS 1.1 at best.
                    let _ = tcp.read(&mut [0; 4096]).await;
                    let _ = tcp.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await;
                    return;
                }
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let connection = tls.get_ref().1;
                    let seen = (connection.server_name(), connection.handshake_kind());
                    ears.lock().unwrap().lines.push(format!("<tls {seen:?}>"));
                    let _ = talk(tls, &manners, &ears, true).await;
                }
            });
        }
    });
    ears
}

pub(crate) fn connections(ears: &Ears) -> usize {
    ears.lock().unwrap().connections
}

pub(crate) fn count(ears: &Ears, verb: &str) -> usize {
    ears.lock().unwrap().lines.iter().filter(|l| l.starts_with(verb)).count()
}
