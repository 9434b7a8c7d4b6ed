//! [`Belief`]: whether the AD bit, or our own validation, is believed now, and [`Believing`], a resolver whose answers are no
//! securer than that, and whose failures blame no domain for what is wrong here.
//!
//! It stands in front of the cache, so that a change is felt at once by answers that were kept before it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::self_test::{Trouble, Verdict};
use super::{Answer, DnsError, DnsErrorKind, DnsResult, Dnssec, Family, Mx, Resolver};
use crate::dane::Tlsa;
use crate::mail::Domain;

/// Who says what DNSSEC authenticates: what `dns.dnssec` comes to on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nobody, because the configuration says so.
    #[default]
    Off,
    /// Nobody, because not every resolver is on this machine or vouched for (DANE-01).
    NotLocal,
    /// The resolvers, by the AD bit.
    TrustAd,
    /// This process.
    Validate,
}

/// Forwarders that answer on loopback and validate nothing (DANE-01).
const KNOWN_FORWARDERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
];

/// The first of `servers` whose AD bit nobody vouches for: it is neither a resolver of this machine, as far as is known, nor
/// `trusted` by the operator, over a path of his (RFC 7672 §2.1.1, DANE-01).
pub fn unvouched<'a>(servers: &'a [SocketAddr], trusted: &[SocketAddr]) -> Option<&'a SocketAddr> {
    let local = |s: &SocketAddr| s.ip().is_loopback() && !KNOWN_FORWARDERS.contains(&s.ip().to_canonical());
    servers.iter().find(|s| !local(s) && !trusted.contains(s))
}

/// What is believed of the resolvers about DNSSEC.
#[derive(Debug)]
pub struct Belief {
    mode: Mode,
    words: String,
    now: Dnssec,
    proven: Dnssec,
    found: Mutex<(String, Option<Trouble>)>,
}

impl Belief {
    /// What the configuration says, and why in words.
    pub fn new(mode: Mode, words: String) -> Self {
        let configured = matches!(mode, Mode::TrustAd | Mode::Validate);
        let (now, proven, found) = (Dnssec::new(configured), Dnssec::default(), Mutex::default());
        Self { mode, words, now, proven, found }
    }

    /// Who is believed, the self-test apart.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether DNSSEC is believed now, for who acts on it.
    pub fn now(&self) -> Dnssec {
        self.now.clone()
    }

    /// Whether DNSSEC is believed at all, the self-test apart.
    pub const fn configured(&self) -> bool {
        matches!(self.mode, Mode::TrustAd | Mode::Validate)
    }

    /// Whether it is believed now.
    pub fn holds(&self) -> bool {
        self.now.is_believed()
    }

    /// Whether it holds and the self-test has shown why: only then does an answer without the AD bit say anything about its
    /// domain, and only then can REQUIRETLS be kept (RTLS-29).
    pub fn proven(&self) -> Dnssec {
        self.proven.clone()
    }

    /// What the last self-test found that an operator should look at.
    pub fn trouble(&self) -> Option<Trouble> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Whether the last self-test found that not even a sound name holds.
    fn nothing_holds(&self) -> bool {
        self.trouble() == Some(Trouble::DoesNotHold)
    }

    /// Whether `verdict` makes answers that were kept mean something else: they were learnt from a resolver that was, or was
    /// not, to be believed, and say nothing under the other belief (DANE-02, RTLS-29).
    pub fn outdates_answers(&self, verdict: &Verdict) -> bool {
        let turns = verdict.believe.is_some_and(|believe| (believe && self.configured()) != self.holds());
        turns || verdict.proven == Some(true) && !self.proven.is_believed()
    }

    /// Takes in what a self-test found; `true` when the belief has changed.
    pub fn learn(&self, verdict: &Verdict) -> bool {
        let found = (verdict.text.clone(), verdict.trouble);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        let changed = match verdict.believe {
            Some(believe) => self.now.set(believe && self.configured()),
            None => false,
        };
        let proven = verdict.proven.unwrap_or_else(|| self.proven.is_believed());
        self.proven.set(proven && self.holds());
        changed
    }

    /// In words, for log, `check` and `/readyz`.
    pub fn words(&self) -> String {
        let (found, trouble) = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if found.is_empty() || !self.configured() && trouble.is_none() {
            self.words.clone()
        } else if self.holds() || !self.configured() {
            format!("{}; {found}", self.words)
        } else {
            format!("off: {found}")
        }
    }
}

/// A resolver whose answers are secure only while [`Belief`] holds.
pub struct Believing<R> {
    inner: R,
    belief: Arc<Belief>,
}

impl<R> Believing<R> {
    /// In front of `inner`.
    pub const fn new(inner: R, belief: Arc<Belief>) -> Self {
        Self { inner, belief }
    }

    /// The resolver behind it.
    pub const fn inner(&self) -> &R {
        &self.inner
    }

    async fn doubted<T: Send>(&self, asked: BoxFuture<'_, DnsResult<T>>) -> DnsResult<T> {
        // Asked while nobody was to be believed, an answer is no securer because somebody is by the time it comes.
        let held = self.belief.holds();
        match asked.await {
            Ok(answer) => Ok(Answer { secure: answer.secure && held && self.belief.holds(), ..answer }),
            Err(error) if error.kind == DnsErrorKind::Bogus && self.belief.nothing_holds() => {
                Err(DnsError { kind: DnsErrorKind::WrongKeys, ..error })
            }
            Err(error) => Err(error),
        }
    }
}

impl<R: Resolver> Resolver for Believing<R> {
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Mx>> {
        self.doubted(self.inner.mx(name)).boxed()
    }

    fn addresses<'a>(&'a self, name: &'a Domain, family: Family) -> BoxFuture<'a, DnsResult<IpAddr>> {
        self.doubted(self.inner.addresses(name, family)).boxed()
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Vec<u8>>> {
        self.doubted(self.inner.txt(name)).boxed()
    }

    fn tlsa<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Tlsa>> {
        self.doubted(self.inner.tlsa(name)).boxed()
    }

    fn cname<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        self.doubted(self.inner.cname(name)).boxed()
    }

    fn ptr<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        self.doubted(self.inner.ptr(name)).boxed()
    }

    fn forget(&self, name: &Domain) {
        self.inner.forget(name);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::dane::TlsaAnswer;
    use crate::dns::cache::{CacheSettings, CachingResolver};
    use crate::dns::zone::ZoneResolver;

    fn verdict(believe: Option<bool>) -> Verdict {
        Verdict { believe, proven: None, trouble: None, answered: true, text: "it was found out".to_owned() }
    }

    // DANE-01: a forwarder on loopback validates nothing, and an address elsewhere is vouched for by name and port.
    #[test]
    fn who_answers_from_elsewhere_or_forwards_is_vouched_for_by_nobody() {
        let list =
            |text: &str| -> Vec<SocketAddr> { text.split_whitespace().map(|s| s.parse().unwrap()).collect() };
        for (servers, trusted, want) in [
            ("127.0.0.1:53 [::1]:53", "", None),
            ("127.0.0.2:5353", "", None),
            ("127.0.0.1:53 127.0.0.11:53", "", Some("127.0.0.11:53")),
            ("127.0.0.53:53", "", Some("127.0.0.53:53")),
            ("127.0.0.54:53", "", Some("127.0.0.54:53")),
            ("127.0.0.53:53", "127.0.0.53:53", None),
            ("192.0.2.53:53", "", Some("192.0.2.53:53")),
            ("192.0.2.53:53 127.0.0.1:53", "192.0.2.53:53", None),
            ("192.0.2.53:53", "192.0.2.53:5353", Some("192.0.2.53:53")),
            ("192.0.2.53:53 192.0.2.54:53", "192.0.2.53:53", Some("192.0.2.54:53")),
        ] {
            let found = unvouched(&list(servers), &list(trusted)).map(ToString::to_string);
            assert_eq!(found.as_deref(), want, "{servers} / {trusted}");
        }
    }

    // DANE-02: what was kept as secure is secure no more, mail flows as to unsigned domains, and nobody is asked for
    // TLSA records; and all comes back.
    #[test]
    fn a_belief_withdrawn_is_felt_at_once_and_through_the_cache() {
        let zone = "example.net MX 10 mx.example.net\nmx.example.net A 192.0.2.1\nsecure example.net\n\
                    _25._tcp.mx.example.net TLSA 3 1 1 aa";
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let cache = CachingResolver::new(ZoneResolver::new(zone).unwrap(), CacheSettings::default(), clock);
        let belief = Arc::new(Belief::new(Mode::TrustAd, "trust-ad: so it is".to_owned()));
        let dns = Believing::new(cache, Arc::clone(&belief));
        let domain = |text: &str| Domain::parse(text).unwrap();
        let ask = || {
            let mx = dns.mx(&domain("example.net")).now_or_never().unwrap().unwrap().secure;
            let host = domain("mx.example.net");
            let a = dns.addresses(&host, Family::V4).now_or_never().unwrap().unwrap();
            let host = crate::route::Host {
                name: host,
                preference: 10,
                addresses: Ok(vec!["192.0.2.1".parse().unwrap()]),
                addresses_secure: a.secure,
                expanded: None,
            };
            let tlsa = crate::dane::lookup::look_up(&dns, &host, 25).now_or_never().unwrap();
            (mx, a.secure, matches!(tlsa, TlsaAnswer::Found(_)))
        };
        assert_eq!(ask(), (true, true, true));
        assert!(!belief.learn(&verdict(None)), "silence changes nothing");
        assert_eq!(
            (ask(), belief.words().as_str()),
            ((true, true, true), "trust-ad: so it is; it was found out")
        );
        assert!(belief.learn(&verdict(Some(false))));
        assert_eq!((ask(), belief.words().as_str()), ((false, false, false), "off: it was found out"));
        assert!(!belief.learn(&verdict(None)), "silence changes nothing");
        assert!(!belief.holds());
        assert!(belief.learn(&verdict(Some(true))));
        assert_eq!(ask(), (true, true, true));
    }

    // RPT-21, D01: with a wrong key of the root every name is bogus, and no domain is to be told that it is broken.
    #[test]
    fn what_fails_where_nothing_holds_is_blamed_on_no_domain() {
        let zone = "example.net MX BOGUS\nother.example MX SERVFAIL";
        let belief = Arc::new(Belief::new(Mode::Validate, "so it is".to_owned()));
        let dns = Believing::new(ZoneResolver::new(zone).unwrap(), Arc::clone(&belief));
        let kind =
            |name: &str| dns.mx(&Domain::parse_host(name).unwrap()).now_or_never().unwrap().unwrap_err().kind;
        for (trouble, bogus) in [
            (None, DnsErrorKind::Bogus),
            (Some(Trouble::Partial), DnsErrorKind::Bogus),
            (Some(Trouble::DoesNotHold), DnsErrorKind::WrongKeys),
            (None, DnsErrorKind::Bogus),
        ] {
            belief.learn(&Verdict { trouble, ..verdict(None) });
            assert_eq!((kind("example.net"), kind("other.example")), (bogus, DnsErrorKind::Servfail));
        }
    }

    // DANE-02: a resolver that called everything authentic has left answers behind; whoever is believed after it, proven or
    // not, has not said them.
    #[test]
    fn answers_kept_under_another_belief_are_outdated() {
        let said = |believe, proven| Verdict { proven, ..verdict(believe) };
        let belief = Belief::new(Mode::TrustAd, "so it is".to_owned());
        belief.learn(&said(Some(true), Some(true)));
        assert!(!belief.outdates_answers(&said(Some(true), Some(true))), "nothing is new");
        assert!(!belief.outdates_answers(&said(None, None)), "silence changes nothing");
        assert!(belief.outdates_answers(&said(Some(false), Some(false))), "forged ones do not stay");
        belief.learn(&said(Some(false), Some(false)));
        assert!(!belief.outdates_answers(&said(Some(false), Some(false))));
        for proven in [None, Some(false), Some(true)] {
            assert!(belief.outdates_answers(&said(Some(true), proven)), "believed again, {proven:?}");
        }
    }

    // RTLS-29: before the first answer, under a resolver that authenticates nothing, and where DANE is off, an answer
    // without the AD bit says nothing.
    #[test]
    fn a_belief_is_proven_by_what_the_self_test_has_shown() {
        let belief = Belief::new(Mode::TrustAd, "so it is".to_owned());
        let proven = belief.proven();
        assert!(belief.holds() && !proven.is_believed());
        for (proves, believe, want) in [
            (None, None, false),
            (Some(true), None, true),
            (None, None, true),
            (None, Some(false), false),
            (None, Some(true), false),
            (Some(true), Some(true), true),
            (Some(false), None, false),
        ] {
            belief.learn(&Verdict { proven: proves, ..verdict(believe) });
            assert_eq!(proven.is_believed(), want, "{proves:?} {believe:?}");
        }
        let off = Belief::new(Mode::Off, "off".to_owned());
        off.learn(&Verdict { proven: Some(true), ..verdict(Some(true)) });
        assert!(!off.proven().is_believed());
    }

    // DANE-01
    #[test]
    fn what_is_configured_off_stays_off() {
        let belief = Belief::new(Mode::NotLocal, "off: not here".to_owned());
        assert!(!belief.learn(&verdict(Some(true))));
        assert_eq!((belief.holds(), belief.words().as_str()), (false, "off: not here"));
        let text = "no resolver answers".to_owned();
        belief.learn(&Verdict { trouble: Some(Trouble::NoAnswer), text, ..verdict(None) });
        assert_eq!(
            belief.words(),
            "off: not here; no resolver answers",
            "mail needs a resolver all the same"
        );
        assert_eq!((belief.holds(), belief.trouble()), (false, Some(Trouble::NoAnswer)));
    }
}
