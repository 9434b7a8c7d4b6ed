//! How a host behaves.

use std::collections::HashMap;
use std::time::Duration;

/// What a host does about STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Offers and does it.
    Offered,
    /// Does not offer it, and refuses it with 502, as after a stripping attack.
    Stripped,
    /// Offers it and answers 454.
    Refused,
    /// Offers it, answers 220, and then says nothing.
    Stalled,
    /// Offers it, and gives this reply; nothing when empty, but the end of the connection.
    Reply(&'static str),
    /// Offers it, answers 220, and meets the ClientHello with these octets.
    Octets(&'static [u8]),
}

/// How a host behaves; may be changed at any time and counts from the next command.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// STARTTLS.
    pub starttls: StartTls,
    /// Whether PIPELINING is offered.
    pub pipelining: bool,
    /// The SIZE limit.
    pub size: Option<u64>,
    /// Whether 8BITMIME is offered.
    pub eight_bit: bool,
    /// Whether SMTPUTF8 is offered.
    pub smtputf8: bool,
    /// Whether REQUIRETLS is offered inside TLS; MAIL with the parameter is answered 555 where not.
    pub requiretls: bool,
    /// The reply to EHLO in the clear, when it is another than the list of what is offered.
    pub ehlo: Option<String>,
    /// The like inside TLS.
    pub ehlo_tls: Option<String>,
    /// The first reply; `None` for silence, the end of the connection when empty.
    pub greeting: Option<String>,
    /// Replies to MAIL by sender address; others get 250.
    pub mail: HashMap<String, String>,
    /// The reply to MAIL in the clear.
    pub mail_clear: Option<String>,
    /// Replies to RCPT by recipient address; others get 250.
    pub rcpt: HashMap<String, String>,
    /// The reply to every RCPT that follows so many accepted ones of a transaction.
    pub rcpt_limit: Option<(usize, String)>,
    /// The reply to DATA.
    pub data: String,
    /// The reply to the final dot.
    pub dot: String,
    /// Refuses each pair of sender and recipient the first time, with 451 4.7.1.
    pub greylist: bool,
    /// Takes this many more messages and drops each connection instead of answering the final dot.
    pub drop_after_dot: u32,
    /// Says 421 to the MAIL that follows this many messages of one connection.
    pub messages_per_connection: Option<usize>,
    /// Silence before every reply.
    pub delay: Duration,
    /// Further silence before the reply to the final dot.
    pub dot_delay: Duration,
    /// What ends a reply line.
    pub line_end: &'static str,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            starttls: StartTls::Offered,
            pipelining: true,
            size: Some(50 << 20),
            eight_bit: true,
            smtputf8: true,
            requiretls: false,
            ehlo: None,
            ehlo_tls: None,
            greeting: Some("220 %h ESMTP".to_owned()),
            mail: HashMap::new(),
            mail_clear: None,
            rcpt: HashMap::new(),
            rcpt_limit: None,
            data: "354 go on".to_owned(),
            dot: "250 2.0.0 taken".to_owned(),
            greylist: false,
            drop_after_dot: 0,
            messages_per_connection: None,
            delay: Duration::ZERO,
            dot_delay: Duration::ZERO,
            line_end: "\r\n",
        }
    }
}
