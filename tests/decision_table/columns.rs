//! The columns of a row.

use sealpost::security::decide::{Asked, Demand, MessageKind};
use sealpost::security::pkix::PkixFault;
use sealpost::tlsrpt::ResultType;

/// The STS column: what policy, whether it lists the host, and what failed on the way to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sts {
    None,
    OptedOut,
    Enforce { listed: bool, stale: bool },
    Testing { listed: bool },
    Failed(ResultType),
}

/// The server column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Server {
    NoStarttls,
    Refused,
    Handshake,
    Cert(Option<PkixFault>),
    /// A certificate in which nothing is wrong, and no proof of its key.
    Unproven,
}

pub(super) const OK: Server = Server::Cert(None);
pub(super) const EXP: Server = Server::Cert(Some(PkixFault::Expired));
pub(super) const NAME: Server = Server::Cert(Some(PkixFault::Name));
pub(super) const UNT: Server = Server::Cert(Some(PkixFault::Untrusted("unknown-issuer")));
pub(super) const EM: Sts = Sts::Enforce { listed: true, stale: false };
pub(super) const EX: Sts = Sts::Enforce { listed: false, stale: false };
pub(super) const FEM: Sts = Sts::Enforce { listed: true, stale: true };
pub(super) const TM: Sts = Sts::Testing { listed: true };
pub(super) const TX: Sts = Sts::Testing { listed: false };

/// The TLSA column, and what the certificate of the row is to its records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Tlsa {
    None,
    /// Usable; the certificate matches or does not.
    Server {
        matches: bool,
    },
    /// A DANE-TA record only: the authority matches, the certificate has this fault below it.
    Authority(PkixFault),
    /// None of the records can be used.
    Unusable,
    /// The lookup failed.
    Failed,
}

pub(super) const DOK: Tlsa = Tlsa::Server { matches: true };
pub(super) const DNO: Tlsa = Tlsa::Server { matches: false };

/// The columns of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) host: &'static str,
    /// `S`, `Ns` or `R` in the MX column.
    pub(super) identified: bool,
    /// `Ni`: the host is the next hop itself.
    pub(super) implicit: bool,
    pub(super) tlsa: Tlsa,
    pub(super) sts: Sts,
    pub(super) server: Server,
    pub(super) message: MessageKind,
    pub(super) operator: Demand,
    pub(super) require_both: bool,
    /// The EHLO reply inside TLS lists REQUIRETLS.
    pub(super) offered: bool,
    pub(super) asked: Asked,
}

impl Case {
    pub(super) fn new(sts: Sts, server: Server, message: MessageKind) -> Self {
        Self {
            host: "mx.example.net",
            identified: false,
            implicit: false,
            tlsa: Tlsa::None,
            sts,
            server,
            message,
            operator: Demand::NOTHING,
            require_both: false,
            offered: false,
            asked: Asked::All,
        }
    }

    /// For mail with REQUIRETLS, at a host that offers it.
    pub(super) fn requiretls(sts: Sts, server: Server) -> Self {
        Self { offered: true, ..Self::new(sts, server, MessageKind::RequireTls) }
    }
}
