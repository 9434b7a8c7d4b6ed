//! Resolvers that deny names that exist (OUT-04). A definite "no such domain" returns mail, so it is believed only of a
//! resolver that does not deny everything: a captive portal, or one cut off from the DNS, may answer so.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout};

use super::servers::{Checking, Servers};

/// For so long the last look holds.
const HOLDS: Duration = Duration::from_secs(30);
/// The like for hosts without an address.
const HOLDS_FOR_HOSTS: Duration = Duration::from_secs(1);
/// No longer than this is waited for it: no answer proves nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of each server's truthfulness.
#[derive(Debug)]
pub(super) struct Truth {
    /// A zone that certainly exists; `None`: no server is examined.
    known: Option<Name>,
    servers: Mutex<HashMap<SocketAddr, Standing>>,
}

#[derive(Debug, Default, Clone)]
struct Standing {
    looked: Option<(Instant, bool)>,
    /// The question about MX records that it answered with data last.
    answered: Option<Query>,
}

impl Truth {
    /// `known` is the name of a zone; "" for none.
    pub(super) fn new(known: &str) -> Self {
        let known = Name::from_ascii(known).ok().filter(|_| !known.is_empty());
        let known = known.map(|mut name| {
            name.set_fqdn(true);
            name
        });
        Self { known, servers: Mutex::default() }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<SocketAddr, Standing>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `server` gave data.
    pub(super) fn saw_data(&self, server: SocketAddr, question: &Query) {
        // Portals hand out addresses for everything; mail servers they do not.
        if self.known.is_some() && question.query_type == RecordType::MX {
            let mut servers = self.servers();
            let standing = servers.entry(server).or_default();
            standing.answered = Some(question.clone());
            // Who knows a name does not deny all of them: a doubt is looked into again.
            standing.looked = standing.looked.filter(|(_, lies)| !lies);
        }
    }

    /// Whether `server`, which has just denied the name in `question`, denies names that exist: the known one, and what it gave data for
    /// before. A private DNS may have no root; it still knows its own names.
    pub(super) async fn denies_what_exists(
        &self,
        servers: &Servers,
        server: SocketAddr,
        question: &Query,
    ) -> bool {
        let Some(known) = &self.known else { return false };
        let standing = self.servers().entry(server).or_default().clone();
        if let Some((at, lies)) = standing.looked
            && at.elapsed() < holds(question)
        {
            return lies;
        }
        let look = async {
            let zone = Query::query(known.clone(), RecordType::SOA);
            // No answer is no denial.
            let denies = async |question: &Query| {
                let answer = servers.ask_one(server, question, Checking::Theirs).await;
                answer.is_ok_and(|message| !has_data(&message, question))
            };
            denies(&zone).await
                && match &standing.answered {
                    Some(question) => denies(question).await,
                    None => true,
                }
        };
        let lies = timeout(PATIENCE, look).await.unwrap_or(false);
        self.servers().entry(server).or_default().looked = Some((Instant::now(), lies));
        if lies {
            tracing::error!(
                event = "resolver-lies",
                resolver = %server,
                "{server} denies names that exist ({known} among them): what it says is not there counts as a failed \
                 lookup, and mail waits; mend it, or name another in dns.servers"
            );
        }
        lies
    }
}

const fn holds(question: &Query) -> Duration {
    match question.query_type {
        // Mail is returned for it at once, so the look must be of now.
        RecordType::MX => Duration::ZERO,
        RecordType::A | RecordType::AAAA => HOLDS_FOR_HOSTS,
        _ => HOLDS,
    }
}

/// Whether anything answers the question, an alias included.
pub(super) fn has_data(message: &Message, question: &Query) -> bool {
    let kinds = [question.query_type, RecordType::CNAME, RecordType::DNAME];
    message.answers.iter().any(|r| kinds.contains(&r.record_type()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use hickory_resolver::proto::op::ResponseCode;
    use hickory_resolver::proto::rr::RData;
    use hickory_resolver::proto::rr::rdata::MX;

    use super::super::scripted::{Act, Server, address, fqdn, host, put, resolver, soa};
    use super::*;
    use crate::dns::{Data, DnsErrorKind, Resolver as _};

    // OUT-04: what a resolver denies that denies everything is no denial; one that knows its own names and no root is believed.
    #[tokio::test]
    async fn who_denies_names_that_exist_is_not_believed() {
        fn nothing(_: &Query, a: &mut Message) -> Act {
            a.metadata.response_code = ResponseCode::NXDomain;
            soa(a);
            Act::Answer
        }
        fn empty(_: &Query, a: &mut Message) -> Act {
            soa(a);
            Act::Answer
        }
        fn with_root(query: &Query, a: &mut Message) -> Act {
            if query.name.is_root() {
                soa(a);
                a.answers = std::mem::take(&mut a.authorities);
                return Act::Answer;
            }
            nothing(query, a)
        }
        fn own_names(query: &Query, a: &mut Message) -> Act {
            if query.name == fqdn("own.example.") {
                put(a, "own.example.", 300, address(1));
                put(a, "own.example.", 300, RData::MX(MX::new(10, fqdn("mx.example."))));
                return Act::Answer;
            }
            nothing(query, a)
        }
        async fn asked(
            script: fn(&Query, &mut Message) -> Act,
            before: Option<&str>,
        ) -> Result<bool, DnsErrorKind> {
            let server = Server::start(script).await;
            let dns = resolver(&[server.address], false);
            if let Some(label) = before {
                dns.mx(&host(label)).await.unwrap();
            }
            dns.mx(&host("gone")).await.map(|a| a.data == Data::NxDomain).map_err(|e| e.kind)
        }
        assert_eq!(asked(with_root, None).await, Ok(true));
        assert_eq!(asked(nothing, None).await, Err(DnsErrorKind::Lying));
        assert_eq!(asked(empty, None).await, Err(DnsErrorKind::Lying));
        assert_eq!(asked(own_names, Some("own")).await, Ok(true), "a private DNS without a root");
        // It knew names, and now denies even these.
        let truthful = Arc::new(AtomicBool::new(true));
        let now = Arc::clone(&truthful);
        let turning =
            Server::start(
                move |query, a| {
                    if now.load(Ordering::Relaxed) { own_names(query, a) } else { nothing(query, a) }
                },
            )
            .await;
        let dns = resolver(&[turning.address], false);
        dns.mx(&host("own")).await.unwrap();
        truthful.store(false, Ordering::Relaxed);
        assert_eq!(dns.mx(&host("own")).await.unwrap_err().kind, DnsErrorKind::Lying);
        // Another resolver makes up for it.
        let sound = Server::start(with_root).await;
        let dns = resolver(&[turning.address, sound.address], false);
        assert_eq!(dns.mx(&host("gone")).await.unwrap().data, Data::NxDomain);
    }
}
