//! What is counted of questions and answers.

use std::time::Duration;

use crate::dns::{Data, DnsErrorKind, DnsResult};
use crate::observe::metrics::{Counters, Registry, Values, table, words};

words! {
    /// A record type.
    pub enum RecordType {
        /// Mail exchangers.
        Mx = "MX",
        /// Addresses.
        A = "A",
        /// Addresses.
        Aaaa = "AAAA",
        /// Policies, and who wants reports.
        Txt = "TXT",
        /// DANE.
        Tlsa = "TLSA",
        /// Aliases.
        Cname = "CNAME",
        /// Names of addresses.
        Ptr = "PTR",
    }
}

words! {
    /// What a question came to.
    enum Came {
        Data = "data",
        NoData = "nodata",
        NxDomain = "nxdomain",
        Bogus = "bogus",
        Undecided = "undecided",
        Lying = "lying",
        Servfail = "servfail",
        Refused = "refused",
        Timeout = "timeout",
        Malformed = "malformed",
        Unreachable = "unreachable",
    }
}

words! {
    /// What DNSSEC says about an answer.
    enum Authenticated {
        Secure = "secure",
        Insecure = "insecure",
        /// There is no answer.
        None = "none",
    }
}

/// The handles of the resolver.
#[derive(Debug, Clone, Default)]
pub struct DnsMetrics {
    lookups: Counters<(RecordType, Came, Authenticated)>,
    durations: Values,
    pub(super) hits: Counters<()>,
}

impl DnsMetrics {
    /// Handles that count.
    pub fn new(registry: &Registry<'_>) -> Self {
        Self {
            lookups: registry.counters(&table::DNS_LOOKUPS),
            durations: registry.values(&table::DNS_LOOKUP_DURATION),
            hits: registry.counters(&table::DNS_CACHE_HITS),
        }
    }

    /// A question that the cache could not answer.
    pub(super) fn asked<T>(&self, record: RecordType, result: &DnsResult<T>, took: Duration) {
        let came = match result.as_ref().map(|answer| &answer.data) {
            Ok(Data::Records(_)) => Came::Data,
            Ok(Data::NoData) => Came::NoData,
            Ok(Data::NxDomain) => Came::NxDomain,
            Err(error) => match error.kind {
                DnsErrorKind::Bogus | DnsErrorKind::WrongKeys => Came::Bogus,
                DnsErrorKind::Undecided => Came::Undecided,
                DnsErrorKind::Lying => Came::Lying,
                DnsErrorKind::Servfail => Came::Servfail,
                DnsErrorKind::Refused => Came::Refused,
                DnsErrorKind::Timeout => Came::Timeout,
                DnsErrorKind::Malformed => Came::Malformed,
                DnsErrorKind::Unreachable => Came::Unreachable,
            },
        };
        let dnssec = match result {
            Ok(answer) if answer.secure => Authenticated::Secure,
            Ok(_) => Authenticated::Insecure,
            Err(_) => Authenticated::None,
        };
        self.lookups.count((record, came, dnssec));
        self.durations.took(took);
    }
}
