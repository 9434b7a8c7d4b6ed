//! Relays as they stand on a morning, for tests.

use std::time::Duration;

use super::queue::{BusyDomain, Cause, Count, Example, QueueStanding, ShownCertificate};
use super::*;
use crate::mail::QueueId;

/// That morning.
pub(crate) fn now() -> Timestamp {
    at("2026-11-22T08:00:00Z")
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub(crate) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn ago(hours: u64) -> Timestamp {
    now().before(Duration::from_secs(hours * 3600))
}

fn ahead(minutes: u64) -> Timestamp {
    now().after(Duration::from_secs(minutes * 60))
}

/// The parts of a status, to be changed before they are put together.
pub(crate) struct Sample {
    pub(crate) place: Place,
    pub(crate) running: Running,
    pub(crate) stored: Stored,
}

impl Sample {
    pub(crate) fn status(self) -> Status {
        Status::new(now(), self.place, Ok(self.running), Ok(self.stored))
    }
}

/// Nothing waits, and nothing is to be looked at.
pub(crate) fn quiet() -> Sample {
    let listening = |address: &str, protocol: &str| Listening {
        address: address.parse().unwrap(),
        protocol: protocol.to_owned(),
    };
    let certificate = Certificate {
        file: "/etc/sealpost/fullchain.pem".into(),
        expires: at("2027-01-20T00:00:00Z"),
        refused: None,
    };
    Sample {
        place: Place {
            hostname: domain("relay.example.net"),
            disk: Some(Disk { data_dir: "/var/lib/sealpost".into(), free: 12 << 30, needed: 256 << 20 }),
            certificate: Some(certificate),
            exceptions: Vec::new(),
            max_age: Duration::from_secs(5 * 86_400),
            rules: Arc::default(),
        },
        running: Running {
            relay: Relay {
                started: ago(72),
                draining: false,
                listeners: vec![listening("0.0.0.0:587", "smtp"), listening("127.0.0.1:8025", "admin")],
            },
            readiness: Readiness {
                store_writable: true,
                disk_free: 12 << 30,
                disk_ok: true,
                listeners_up: true,
                dnssec: "trust-ad: so it is".to_owned(),
            },
            dnssec: Dnssec {
                mode: Believed::TrustAd,
                configured: true,
                believed: true,
                proven: true,
                warned: false,
                trouble: None,
                words: "trust-ad: every resolver is on this machine or in dns.trusted_servers; the self-test found that \
                        it validates"
                    .to_owned(),
            },
            standing: Vec::new(),
            reports_wait: None,
            configuration: ConfigurationFile {
                file: "/etc/sealpost/sealpost.toml".into(),
                changed: None,
                unreadable: None,
            },
        },
        stored: Stored {
            queue: QueueStanding { last_finished: Some(ahead(0)), ..QueueStanding::default() },
            policies: PolicyStanding { enforce: 412, testing: 80, none: 2, ..PolicyStanding::default() },
            reports: ReportStanding { counted_today: 97, made: 236, ..ReportStanding::new(now()) },
        },
    }
}

pub(crate) fn cause(word: &str, recipients: u64, domains: u64, hours: u64) -> Cause {
    Cause {
        cause: word.to_owned(),
        recipients,
        domains,
        oldest: ago(hours),
        next_attempt: ahead(12),
        example: None,
    }
}

pub(crate) fn example(of: &str, text: &str) -> Example {
    Example {
        id: QueueId::from_bytes([7; 16]),
        domain: domain(of),
        at: ago(1),
        host: Some(domain(&format!("mx1.{of}"))),
        ip: Some("192.0.2.7".parse().unwrap()),
        code: None,
        enhanced: "4.7.5".to_owned(),
        text: text.to_owned(),
        promised: true,
        certificate: None,
    }
}

/// Two domains break their promises, one greylists, one policy is not refreshed, and one exception runs.
pub(crate) fn ordinary() -> Sample {
    let mut s = quiet();
    let expired =
        "the certificate of mx1.bank.example, or one it needs, has expired (its own last day is 2026-11-20)";
    let certificate = ShownCertificate {
        names: vec!["mx1.bank.example".to_owned()],
        not_after: at("2026-11-20T23:59:59Z"),
    };
    let broken = Example { certificate: Some(certificate), ..example("bank.example", expired) };
    let grey = Example {
        code: Some(451),
        enhanced: "4.7.1".to_owned(),
        ..example("shop.example", "greylisted, come back in five minutes")
    };
    s.stored.queue = QueueStanding {
        states: queue::States {
            queued: Count { recipients: 3, oldest: Some(ahead(0)) },
            delivering: Count { recipients: 1, oldest: Some(ahead(0)) },
            deferred: Count { recipients: 118, oldest: Some(ago(26)) },
            held: Count::default(),
        },
        domains: 5,
        suspended: 0,
        oldest: Some(ago(26)),
        next_attempt: Some(ahead(4)),
        causes: vec![
            Cause { example: Some(broken), ..cause("tls_certificate", 112, 2, 26) },
            Cause { example: Some(grey), next_attempt: ahead(4), ..cause("reply", 6, 1, 0) },
        ],
        busiest: vec![busy("bank.example", 110), busy("shop.example", 6), busy("a.example", 2)],
        ..s.stored.queue
    };
    s.stored.policies.fails(
        FailingPolicy {
            domain: domain("slow.example"),
            mode: Mode::Enforce,
            since: ago(200),
            expires: ahead(9 * 60),
            urgent: false,
            why: "mta-sts.slow.example answers 404".to_owned(),
        },
        Duration::from_secs(7 * 86_400),
        now(),
    );
    s.stored.reports.due = 12;
    s.stored.reports.next = Some(ahead(130));
    s.place.exceptions = vec![exception("broken.example", Standing::InForce)];
    s
}

pub(crate) fn exception(of: &str, state: Standing) -> Exception {
    Exception {
        domain: domain(of),
        state,
        allow: Allow::Encrypt,
        until: at("2026-12-24T23:59:59Z"),
        reason: "their certificate ran out, ticket 4711".to_owned(),
        by: "ops".to_owned(),
    }
}

fn busy(of: &str, recipients: u64) -> BusyDomain {
    BusyDomain {
        domain: domain(of),
        recipients,
        oldest: ago(3),
        next_attempt: ahead(4),
        cause: "reply".to_owned(),
        suspended_until: None,
    }
}
