//! Many recipients, large content and peers that read slowly or not at all.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use sealpost::dane::TlsaAnswer;
use sealpost::delivery::Ledger;
use sealpost::delivery::attempt::{AttemptSettings, Terms, gate};
use sealpost::delivery::session::{Content, Timers};
use sealpost::delivery::wire_form::{Mail, Rcpt};
use sealpost::mail::{ForwardPath, Orcpt, ReversePath};
use sealpost::mtasts::Applicable;
use sealpost::queue::outcome::DeferReason;
use sealpost::queue::{Outcome, Step, StoreError};
use sealpost::route::{Route, RouteKind};
use sealpost::security::decide::{Asked, Gate, MessageKind};
use sealpost::security::verdict::judge;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::server::{Ears, Manners, connections, count, serve, serve_two};
use crate::world::{World, domain, enhanced, host, lease, opened, words};

/// Commits into what the server hears, so that the order of both can be seen.
struct Among(Ears);

impl Ledger for Among {
    fn record(&self, outcomes: Vec<(u32, Outcome)>, _: Vec<Step>) -> BoxFuture<'_, Result<(), StoreError>> {
        assert!(outcomes.iter().all(|(_, o)| o.word() == "delivered"), "{outcomes:?}");
        self.0.lock().unwrap().lines.push(format!("<committed {}>", outcomes.len()));
        Box::pin(async { Ok(()) })
    }
}

// OUT-52
#[tokio::test]
async fn two_hundred_and_fifty_recipients_go_as_100_100_and_50_each_committed_before_the_next_mail() {
    for (offers, units) in [
        (vec!["PIPELINING"], vec![100, 100, 50]),
        (vec![], vec![100, 100, 50]),
        (vec!["PIPELINING", "LIMITS RCPTMAX=90"], vec![90, 90, 70]),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, Manners { offers, ..Manners::default() }).await;
        let w = World::new(port, Authority::new().tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let ledger = Among(ears.clone());
        w.attempts.run(&lease("a.example", 250), &ledger, &CancellationToken::new()).await;
        let mut heard = Vec::new();
        for line in &ears.lock().unwrap().lines {
            match line.split([' ', ':']).next().unwrap() {
                "RCPT" => *heard.last_mut().unwrap() += 1,
                "MAIL" => heard.push(0),
                "<content>" => heard.push(-1),
                "<committed" => heard.push(line.trim_matches(|c: char| !c.is_numeric()).parse().unwrap()),
                _ => {}
            }
        }
        let wanted: Vec<i32> = units.into_iter().flat_map(|n| [n, -1, n]).collect();
        assert_eq!(heard, wanted);
        assert_eq!(connections(&ears), 1);
    }
}

// OUT-53: more commands and more replies than the buffers of both sides hold.
#[tokio::test]
async fn a_group_of_thousands_of_commands_does_not_stop_at_full_buffers() {
    const MANY: usize = 8000;
    let reply: &str = Box::leak(format!("250 2.1.5 {}", "ok ".repeat(70)).into_boxed_str());
    let manners = Manners {
        offers: vec!["PIPELINING", "DSN"],
        instead: vec![("RCPT", reply)],
        window: Some(4096),
        ..Manners::default()
    };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let (next_hop, mx) = (domain("a.example"), host("mx.example.net", 10, &["127.0.0.1"]));
    let route = Route {
        next_hop,
        kind: RouteKind::Mx,
        mx_secure: false,
        expanded: None,
        hosts: vec![mx.clone()],
        rule: None,
    };
    let terms = Terms {
        exception: None,
        message: MessageKind::Normal,
        require_both: false,
        asked: Asked::AsConfigured,
    };
    let Gate::Contact(policy) = gate(&route, &mx, &TlsaAnswer::None, &Applicable::default(), terms) else {
        panic!("nothing is demanded of this host")
    };
    let patience = Duration::from_secs(60);
    let timers = Timers { rcpt: patience, block: patience, ..Timers::default() };
    let mut session = opened(&mx.name, port, &timers).await;
    let cleared = judge(&policy, &session.seen.evidence).cleared.unwrap();

    let long = format!("{}@{}.example", "x".repeat(64), "y.".repeat(110) + "y");
    let (path, orcpt) =
        (ForwardPath::parse(&long).unwrap(), Orcpt::parse(&format!("rfc822;{long}")).unwrap());
    let rcpts: Vec<_> = (0..MANY).map(|_| Rcpt { path: &path, notify: None, orcpt: Some(&orcpt) }).collect();
    let mail = Mail {
        reverse_path: &ReversePath::parse("app@example.org").unwrap(),
        size: 100,
        has_8bit: false,
        smtputf8: false,
        ret: None,
        envid: None,
        is_generated: false,
    };
    let content = Content::Memory(Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n"));
    let t = session.mail(&cleared, &mail, &rcpts, &content, &timers, &AtomicBool::default()).await;
    assert_eq!(t.fault, None);
    assert!((0..MANY).all(|i| t.accepted(i)));
    assert!(t.dot.is_some_and(|r| r.is_positive()));
    assert_eq!(count(&ears, "RCPT"), MANY);
}

fn quick(port: u16) -> AttemptSettings {
    let ms = Duration::from_millis;
    let timers = Timers { block: ms(400), dot: ms(400), quit: ms(100), ..Timers::default() };
    AttemptSettings { port, timers, ..AttemptSettings::new(domain("relay.example.org")) }
}

// OUT-20, OUT-44, OUT-45, HR-068: a window that stays shut ends at the deadline. While the terminator has not left,
// nothing can have been delivered and the next host is asked; once it has, nobody else is.
#[tokio::test]
async fn a_window_that_stays_shut_defers_and_only_past_the_terminator_is_it_uncertain() {
    let authority = Authority::new();
    let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    for (case, lines, tls, uncertain) in [
        ("no room for the content", 32 * 1024, false, false),
        ("no room for the content, in TLS", 32 * 1024, true, false),
        ("all of it in the buffers of both kernels", 2, false, true),
        ("all of it in the buffers of both kernels, in TLS", 2, true, true),
    ] {
        let shut = Manners {
            tls: tls.then(|| authority.server("mx1.example.net", false)),
            stops_reading: Some(Arc::default()),
            window: Some(4096),
            ..Manners::default()
        };
        let refusing = Manners { instead: vec![("MAIL", "451 4.3.0 later")], ..Manners::default() };
        let (port, one, two) = serve_two(("127.0.0.1", shut), ("127.0.0.2", refusing));
        let w = World::with(quick(port), authority.tls());
        w.route("a.example", &[("mx1.example.net", &["127.0.0.1"]), ("mx2.example.net", &["127.0.0.2"])]);
        let mut lease = lease("a.example", 2);
        lease.content = Some(Bytes::from(line.repeat(lines)));
        let (_, outcomes) = w.run(&lease).await;
        assert_eq!(words(&outcomes), ["deferred", "deferred"], "{case}");
        let maybe: Vec<_> = outcomes.iter().map(|o| o.diagnosis().maybe_delivered).collect();
        assert_eq!(maybe, [uncertain; 2], "{case}: {outcomes:?}");
        assert_eq!((connections(&one), connections(&two)), (1, usize::from(!uncertain)), "{case}");
        if uncertain {
            assert_eq!(enhanced(&outcomes[0]), "4.4.2", "{case}");
            assert!(matches!(outcomes[0], Outcome::Deferred(DeferReason::Uncertain, _)), "{case}");
        } else {
            assert_eq!(enhanced(&outcomes[0]), "4.3.0", "{case}: what the next host said");
        }
        assert_eq!(w.pool.open(), usize::from(!uncertain), "{case}: the connection is of no more use");
    }
}

// OUT-45: the flag is up exactly when the terminator has left, also where the last octets of the content are what
// stalls.
#[tokio::test]
async fn delivery_is_possible_exactly_when_the_terminator_reached_the_system() {
    const STEP: usize = 64 * 1024;
    let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    // So many steps fit into the buffers, and so many do not.
    let (mut fits, mut too_many) = (0, 200_usize);
    while too_many - fits > 1 {
        let steps = fits.midpoint(too_many);
        let late = Arc::default();
        let shut =
            Manners { stops_reading: Some(Arc::clone(&late)), window: Some(4096), ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, shut).await;
        let w = World::with(quick(port), Authority::new().tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let mut lease = lease("a.example", 1);
        lease.content = Some(Bytes::from(line.repeat(steps * STEP / line.len())));
        let (_, outcomes) = w.run(&lease).await;
        late.notify_one();
        while count(&ears, "<late") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let uncertain = outcomes[0].diagnosis().maybe_delivered;
        assert_eq!(count(&ears, "<late true>"), usize::from(uncertain), "{steps} steps: {outcomes:?}");
        if uncertain { fits = steps } else { too_many = steps }
    }
    assert!(fits > 0 && too_many < 200, "{fits}");
}
