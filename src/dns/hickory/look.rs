//! The questions of the self-test (DANE-02), to each server by itself and past every cache.

use std::net::SocketAddr;

use futures_util::future::{join, join_all};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};

use tokio::time::timeout;

use super::servers::Checking;
use super::{Belief, HickoryResolver};
use crate::dns::DnsErrorKind;
use crate::dns::self_test::{Look, Said, Verdict, judge, judge_reach, judge_validation};

impl HickoryResolver {
    /// Asks every server about a signed name and about one whose signatures are broken; "" is not asked about. The
    /// first is a zone, the second has an address. `proven`: an earlier test has shown that it works. Where nobody is believed,
    /// only whether they answer is asked.
    pub async fn self_test(&self, secure: &str, bogus: &str, proven: bool) -> Verdict {
        match self.belief {
            Belief::Validation(..) => judge_validation(&self.look(secure, bogus).await, secure, proven),
            Belief::Resolvers => judge(&self.look(secure, bogus).await, secure),
            Belief::Nobody => judge_reach(&self.look(secure, "").await, secure),
        }
    }

    async fn look(&self, secure: &str, bogus: &str) -> Vec<Look> {
        join_all(self.servers().iter().map(async |server| {
            let signed = self.said(*server, secure, RecordType::SOA);
            let broken = self.said(*server, bogus, RecordType::A);
            let (secure, bogus) = join(signed, broken).await;
            Look { server: *server, secure, bogus }
        }))
        .await
    }

    async fn said(&self, server: SocketAddr, name: &str, kind: RecordType) -> Option<Said> {
        if name.is_empty() {
            return None;
        }
        let Ok(mut name) = Name::from_ascii(name) else {
            return Some(Said::Nothing(DnsErrorKind::Malformed));
        };
        name.set_fqdn(true);
        let question = Query::query(name, kind);
        if let Belief::Validation(validator, _) = &self.belief {
            let said = validator.said(&self.servers, server, &question);
            let limit = || Said::Nothing(DnsErrorKind::Timeout);
            return Some(timeout(self.deadline, said).await.unwrap_or_else(|_| limit()));
        }
        Some(match self.servers.ask_one(server, &question, Checking::Believed).await {
            Ok(message) => {
                let data = message.answers.iter().any(|r| r.record_type() == kind);
                let ad = message.metadata.authentic_data;
                if data { Said::Data(ad) } else { Said::Denial(ad) }
            }
            Err(kind) => Said::Nothing(kind),
        })
    }
}
