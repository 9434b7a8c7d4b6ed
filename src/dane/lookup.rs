//! Finding the TLSA records of a host (RFC 7672 §2.2): only where DNSSEC vouches for its name and its addresses.

use std::sync::Arc;

use super::eligible::{Bases, HostName, bases, owner};
use super::{TlsaAnswer, TlsaLookupFailed, TlsaSet};
use crate::dns::{Answer, Data, Resolver};
use crate::route::Host;

/// The records that bind a session with `host` on `port`. Its addresses are known by now (DANE-07); costs a TLSA
/// question per base domain, and one for the CNAME where a secure alias leads to an insecure name.
pub async fn look_up(resolver: &dyn Resolver, host: &Host, port: u16) -> TlsaAnswer {
    let name = HostName { name: &host.name, expanded: host.expanded.as_ref(), secure: host.addresses_secure };
    let bases = match bases(&name) {
        Bases::None => return TlsaAnswer::None,
        Bases::Names(names) => names,
        Bases::IfAliasIsSecure => match resolver.cname(&host.name).await {
            Ok(Answer { secure: true, data: Data::Records(_), .. }) => vec![host.name.clone()],
            Ok(_) => return TlsaAnswer::None,
            Err(error) => return TlsaAnswer::Failed(TlsaLookupFailed { base: host.name.clone(), error }),
        },
    };
    for base in bases {
        let Some(owner) = owner(&base, port) else { continue };
        match resolver.tlsa(&owner).await {
            // An insecure link anywhere, in the answer or on the way to it: as if there were none (DANE-11, RPT-65).
            Ok(Answer { secure: true, data: Data::Records(records), .. }) => {
                return TlsaAnswer::Found(Arc::new(TlsaSet { base, records }));
            }
            Ok(_) => {}
            Err(error) => return TlsaAnswer::Failed(TlsaLookupFailed { base, error }),
        }
    }
    TlsaAnswer::None
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::dns::zone::ZoneResolver;
    use crate::mail::Domain;

    fn host(name: &str, expanded: Option<&str>, secure: bool) -> Host {
        Host {
            name: Domain::parse(name).unwrap(),
            preference: 10,
            addresses: Ok(vec!["192.0.2.1".parse().unwrap()]),
            addresses_secure: secure,
            expanded: expanded.map(|e| Domain::parse(e).unwrap()),
        }
    }

    fn ask(zone: &str, host: &Host) -> (String, Vec<String>) {
        let zone = ZoneResolver::new(zone).unwrap();
        let answer = match look_up(&zone, host, 25).now_or_never().unwrap() {
            TlsaAnswer::None => "none".to_owned(),
            TlsaAnswer::Found(set) => format!("{} at {}", set.records.len(), set.base),
            TlsaAnswer::Failed(f) => format!("{:?} at {}", f.error.kind, f.base),
        };
        (answer, zone.queries())
    }

    // DANE-03, DANE-06, DANE-07, DANE-09, DANE-11
    #[test]
    fn records_are_looked_up_at_secure_names_only_and_a_failure_is_no_denial() {
        const DATA: &str = "3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971";
        let plain = host("mx.example", None, true);
        let alias = host("mx.example", Some("h.provider.example"), true);
        let half = host("mx.example", Some("h.provider.example"), false);
        let secure = "secure mx.example\n secure h.provider.example\n";
        let at = |name: &str| format!("_25._tcp.{name} TLSA {DATA}\n");
        for (name, zone, host, answer, queries) in [
            (
                "an insecure address: nobody is asked",
                at("mx.example"),
                host("mx.example", None, false),
                "none",
                vec![],
            ),
            ("secure", at("mx.example"), plain.clone(), "1 at mx.example", vec!["TLSA _25._tcp.mx.example"]),
            ("denied", String::new(), plain.clone(), "none", vec!["TLSA _25._tcp.mx.example"]),
            (
                "servfail",
                "_25._tcp.mx.example TLSA SERVFAIL".to_owned(),
                plain.clone(),
                "Servfail at mx.example",
                vec!["TLSA _25._tcp.mx.example"],
            ),
            (
                "bogus",
                "_25._tcp.mx.example TLSA BOGUS".to_owned(),
                plain.clone(),
                "Bogus at mx.example",
                vec!["TLSA _25._tcp.mx.example"],
            ),
            (
                "an alias into an insecure zone",
                format!("_25._tcp.mx.example CNAME t.other.example\n t.other.example TLSA {DATA}\n"),
                plain.clone(),
                "none",
                vec!["TLSA _25._tcp.mx.example"],
            ),
            (
                "an alias within secure zones keeps its base",
                format!(
                    "_25._tcp.mx.example CNAME t.h.provider.example\n t.h.provider.example TLSA {DATA}\n"
                ),
                plain,
                "1 at mx.example",
                vec!["TLSA _25._tcp.mx.example"],
            ),
            (
                "expanded first",
                at("h.provider.example") + &at("mx.example"),
                alias.clone(),
                "1 at h.provider.example",
                vec!["TLSA _25._tcp.h.provider.example"],
            ),
            (
                "then the original",
                at("mx.example"),
                alias.clone(),
                "1 at mx.example",
                vec!["TLSA _25._tcp.h.provider.example", "TLSA _25._tcp.mx.example"],
            ),
            (
                "a failure at the expanded name is not passed over",
                "_25._tcp.h.provider.example TLSA TIMEOUT\n".to_owned() + &at("mx.example"),
                alias,
                "Timeout at h.provider.example",
                vec!["TLSA _25._tcp.h.provider.example"],
            ),
            (
                "a secure alias to an insecure name: the original only",
                "mx.example CNAME h.provider.example\n".to_owned() + &at("mx.example"),
                half.clone(),
                "1 at mx.example",
                vec!["CNAME mx.example", "TLSA _25._tcp.mx.example"],
            ),
            (
                "the alias itself cannot be looked up",
                "mx.example CNAME SERVFAIL\n".to_owned(),
                half,
                "Servfail at mx.example",
                vec!["CNAME mx.example"],
            ),
        ] {
            let (got, asked) = ask(&format!("{secure}{zone}"), &host);
            assert_eq!(
                (got.as_str(), asked),
                (answer, queries.into_iter().map(str::to_owned).collect()),
                "{name}"
            );
        }
        // An alias that is insecure itself.
        let (got, asked) = ask(
            "mx.example CNAME h.provider.example",
            &host("mx.example", Some("h.provider.example"), false),
        );
        assert_eq!((got.as_str(), asked), ("none", vec!["CNAME mx.example".to_owned()]));
    }
}
