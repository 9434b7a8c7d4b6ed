//! What an operator can do about a recipient that waits, by cause.

use std::borrow::Cow;

use super::unmet::{Fixed, Unmet};
use super::{DeferReason, Diagnosis};
use crate::security::decide::Reason;
use crate::tlsrpt::ResultType;

impl DeferReason {
    /// One sentence or two for the person at the terminal; `promised`: it is the recipient's domain that asks for what is
    /// missing, and not this relay's operator or the sender.
    pub const fn advice(self, promised: bool) -> &'static str {
        match self {
            Self::TlsMissing | Self::TlsHandshake | Self::TlsCertificate if !promised => {
                "Not the domain asks for this but a [[destination]] of yours, or the sender's REQUIRETLS. Have the host \
                 mended, or lower minimum_tls."
            }
            Self::Reply => {
                "The remote host asked to try later. Nothing to do, unless its words say otherwise."
            }
            Self::Connect => {
                "No host of the domain could be reached. If other domains are affected too, look at this machine's \
                 network and whether outbound port 25 is open."
            }
            Self::Lost => {
                "The connection broke in mid-session. Retried by itself; if it repeats, look at the network path."
            }
            Self::Uncertain => {
                "The content was sent and no reply came: it may have been delivered. The next attempt may make a \
                 second copy."
            }
            Self::Protocol => "The remote host does not speak SMTP properly. Its operator has to look.",
            Self::Dns => {
                "A DNS lookup failed. Ask your resolver for the name; if other domains are affected too, the \
                 resolver is the trouble."
            }
            Self::PolicyMx => {
                "The domain's MTA-STS policy does not list this MX host. Its postmaster has to correct MX or policy; \
                 `sealpost policy show DOMAIN` shows the policy."
            }
            Self::TlsMissing => {
                "The domain promises TLS and the host offers none. Its postmaster has to look; mail is not sent in \
                 the clear."
            }
            Self::TlsHandshake => {
                "The domain promises TLS and the handshake failed. Its postmaster has to look."
            }
            Self::TlsCertificate => {
                "The domain promises a valid certificate and shows another. Forward the lines above to its \
                 postmaster."
            }
            Self::TlsaLookup => {
                "Whether the host has TLSA records must be known before mail goes there. Ask your resolver for \
                 them; if other domains are affected too, the resolver is the trouble, else the domain's DNSSEC."
            }
            Self::RequireTls => {
                "The sender asked for REQUIRETLS, and whether the domain's hosts can be trusted with it cannot be found \
                 out now: look at the domain's MTA-STS policy host, and at `dnssec` in `sealpost check DOMAIN`."
            }
            Self::PolicyContradiction => {
                "The DNS says that the domain takes no mail and its policy says otherwise. Wait; the DNS may be \
                 broken or forged."
            }
            Self::Forbidden => {
                "The domain's hosts have addresses in delivery.deny_networks. If that is meant, add them to \
                 delivery.allow_networks."
            }
            Self::Loop => {
                "Mail for the domain seems to come back to this relay. Look at the domain's MX records."
            }
            Self::Local => "Something on this machine failed. See the log.",
            Self::Damaged => {
                "The message cannot be sent as it is stored. See the log; if others are affected too, look at the disk \
                 and restore the database. Its sender is told when its lifetime ends."
            }
            Self::Auth => {
                "The configured next hop does not take this relay's user and password. Look at user and password of the \
                 [[destination]], and at the next hop."
            }
            Self::Interrupted => "The relay stopped during the attempt. Retried by itself.",
        }
    }
}

impl Diagnosis {
    /// The same for what is known about one recipient: it names whoever asks for what is missing, and what they can do.
    pub fn advice(&self, reason: DeferReason) -> Cow<'static, str> {
        let dane = self.broken_promise().is_some_and(|p| p.kind == "dane");
        let tls = matches!(
            reason,
            DeferReason::TlsMissing | DeferReason::TlsHandshake | DeferReason::TlsCertificate
        );
        match &self.unmet {
            _ if reason == DeferReason::TlsaLookup && self.tls_failure == Some(ResultType::DaneRequired) => {
                "Your [[destination]] asks for DANE, which takes signed MX records and TLSA records of the host that can be \
                 used; the domain does not publish both. Lower its minimum_tls; \"verify\" asks for a certificate of a known \
                 authority."
                    .into()
            }
            _ if reason == DeferReason::TlsCertificate && dane => {
                "The domain has TLSA records and the certificate does not satisfy them. Forward the lines above to its \
                 postmaster: publish TLSA records that match the certificate, or go back to the certificate that they \
                 were made of."
                    .into()
            }
            Some(unmet) if tls && !unmet.is_promised() => own_rule(unmet).into(),
            // Said inside a session: nobody but the host wants it.
            None if reason == DeferReason::TlsMissing && self.code.is_some() && self.promise.is_none() => {
                "The host takes mail over TLS only, and TLS could not be set up with it. Its postmaster has to look."
                    .into()
            }
            _ => reason.advice(self.promised()).into(),
        }
    }
}

/// What can be done where the operator or the sender ask for what is missing, and the domain does not.
fn own_rule(unmet: &Unmet) -> String {
    let operator = unmet.by.contains(&Reason::Operator);
    let sender = unmet.by.contains(&Reason::Sender);
    let who = match (operator, sender, unmet.fixed) {
        (true, false, None) => "Your [[destination]] asks for this, not the domain.",
        (true, false, Some(Fixed::Password)) => {
            "Your [[destination]] asks for this, not the domain: its password is given to no host that has not proven \
             who it is."
        }
        (true, false, Some(Fixed::Smtps)) => {
            "Your [[destination]] asks for this, not the domain: smtps is TLS from the first octet."
        }
        (true, true, _) => "Your [[destination]] and the sender's REQUIRETLS ask for this, not the domain.",
        (false, ..) => "The sender's REQUIRETLS asks for this, not the domain.",
    };
    let host = if unmet.next_hop { "next hop" } else { "host" };
    let mut ways = vec![format!("Have the {host} mended")];
    let unknown = matches!(unmet.token.as_deref(), Some("unknown-issuer" | "self-signed"));
    if operator && unmet.next_hop && unknown {
        ways.push("name the authority of its certificate in `roots` of the [[destination]]".to_owned());
    }
    if operator && !sender && unmet.fixed.is_none() {
        ways.push("lower minimum_tls".to_owned());
    } else if !operator {
        ways.push("let the sender send again without REQUIRETLS".to_owned());
    }
    format!("{who} {}.", ways.join(", or "))
}

#[cfg(test)]
mod tests;
