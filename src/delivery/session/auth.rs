//! AUTH PLAIN and AUTH LOGIN at a configured next hop (RFC 4954, RFC 4616, OUT-56).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::delivery::transcript::{AuthFault, Fault};
use crate::security::Level;
use crate::security::verdict::Clearance;
use crate::smtp::sasl::Credentials;

use super::{Session, State, Timers, ask};

/// The longest command line, CRLF included (RFC 4954 §4): a longer initial response waits for a 334.
const LONGEST_COMMAND: usize = 512;

impl Session {
    /// Says who we are, where the host has proven who it is. The clearance is of this session.
    ///
    /// # Errors
    /// [`AuthFault`]; the session is of no more use, and may be ended politely.
    pub async fn authenticate(
        &mut self,
        cleared: &Clearance,
        credentials: &Credentials,
        timers: &Timers,
    ) -> Result<(), AuthFault> {
        if self.authenticated {
            return Ok(());
        }
        // The level alone decides, whatever was demanded: a password is worth more than one message.
        if cleared.level() < Level::Verified {
            return Err(AuthFault::Unverified);
        }
        let Credentials { user, password } = credentials;
        let lines = if self.ehlo.auth.plain {
            let response = STANDARD.encode(format!("\0{user}\0{password}"));
            let at_once = format!("AUTH PLAIN {response}\r\n");
            if at_once.len() <= LONGEST_COMMAND {
                vec![at_once]
            } else {
                vec!["AUTH PLAIN\r\n".to_owned(), format!("{response}\r\n")]
            }
        } else if self.ehlo.auth.login {
            let line = |text: &str| format!("{}\r\n", STANDARD.encode(text));
            vec!["AUTH LOGIN\r\n".to_owned(), line(user), line(password)]
        } else {
            return Err(AuthFault::NotOffered);
        };
        let done = self.exchange(&lines, timers).await;
        match &done {
            Ok(()) => self.authenticated = true,
            Err(AuthFault::Broken(_)) => self.state = State::Dead,
            Err(_) => {}
        }
        done
    }

    async fn exchange(&mut self, lines: &[String], timers: &Timers) -> Result<(), AuthFault> {
        let last = lines.len().saturating_sub(1);
        for (i, line) in lines.iter().enumerate() {
            let reply = ask(&mut self.line, line, timers.ehlo).await.map_err(AuthFault::Broken)?.to_reply();
            match reply.code {
                235 if i == last => return Ok(()),
                334 if i < last => {}
                421 => return Err(AuthFault::Broken(Fault::Closing(reply))),
                400..=599 => return Err(AuthFault::Refused(reply)),
                _ => return Err(AuthFault::Broken(Fault::Protocol("a reply to AUTH out of place"))),
            }
        }
        Err(AuthFault::Broken(Fault::Protocol("AUTH without an end")))
    }
}
