//! What an operator can do about a recipient that waits, by cause.

use super::{DeferReason, Diagnosis};

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
    /// Whether what is missing was promised by the recipient's domain.
    pub fn promised(&self) -> bool {
        self.promise.as_ref().is_some_and(|p| p.broken.is_some() && p.mode != "testing")
    }
}
