//! STARTTLS on the wire: its deadline, that there is only one, and what is said after a handshake that proves too little.

use std::time::Duration;

use sealpost::delivery::attempt::AttemptSettings;
use sealpost::delivery::session::Timers;
use sealpost::security::Level;

use crate::authority::Authority;
use crate::server::{Ears, Manners, connections, count, serve};
use crate::world::{World, all_entries, domain, enhanced, words};

fn lines(ears: &Ears) -> Vec<String> {
    ears.lock().unwrap().lines.clone()
}

// TLS-29, TLS-07: a handshake that stalls ends at a deadline of its own; only who promised nothing gets mail in the clear.
#[tokio::test]
async fn a_handshake_that_stalls_ends_at_its_own_deadline() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", false));
    let manners = Manners { tls, silent_in_handshake: true, ..Manners::default() };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let timers = Timers { starttls: Duration::from_millis(200), ..Timers::default() };
    let settings = AttemptSettings { port, timers, ..AttemptSettings::new(domain("relay.example.org")) };
    let w = World::with(settings, authority.tls());
    for name in ["kept.example", "free.example"] {
        w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
    }
    w.enforce("kept.example", &["mx.example.net"]);
    let (_, outcomes) = w.deliver("kept.example", 1).await;
    assert_eq!((words(&outcomes), &*enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5"));
    let reasons: Vec<_> = {
        let records = w.notes.records.lock().unwrap();
        records.iter().flat_map(|r| r.verdicts.iter().flat_map(|v| v.details.clone())).collect()
    };
    let told: Vec<_> = reasons.iter().map(|d| (d.result.as_str(), d.reason.as_deref())).collect();
    assert_eq!(told, [("validation-failure", Some("handshake-timeout"))]);
    assert_eq!((connections(&ears), count(&ears, "MAIL")), (1, 0));

    let (_, outcomes) = w.deliver("free.example", 1).await;
    assert_eq!((words(&outcomes), connections(&ears)), (vec!["delivered"], 3));
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Plain));
}

// TLS-04, TLS-06
#[tokio::test]
async fn inside_tls_there_is_no_starttls_and_a_host_that_proved_nothing_hears_quit_alone() {
    let authority = Authority::new();
    for (expired, want, said) in [
        (false, "delivered", &["EHLO", "MAIL", "RCPT", "DATA", "<content>"][..]),
        (true, "deferred", &["EHLO", "QUIT"]),
    ] {
        let tls = Some(authority.server("mx.example.net", expired));
        let manners = Manners { tls, offers: vec!["STARTTLS"], ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = World::new(port, authority.tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        w.enforce("a.example", &["mx.example.net"]);
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(words(&outcomes), [want]);
        while expired && count(&ears, "QUIT") == 0 {
            tokio::task::yield_now().await;
        }
        let heard = lines(&ears);
        let inside = heard.iter().skip_while(|l| !l.starts_with("<tls")).skip(1);
        let verbs: Vec<&str> = inside.map(|l| l.split([' ', ':']).next().unwrap()).collect();
        assert_eq!((verbs.as_slice(), count(&ears, "STARTTLS")), (said, 1), "{heard:?}");
    }
}

// TLS-05, R7: 421 refuses STARTTLS as any other code does; only the connection is gone.
#[tokio::test]
async fn who_closes_at_starttls_has_refused_it() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", false));
    let manners = Manners { tls, instead: vec![("STARTTLS", "421 4.3.2 not now")], ..Manners::default() };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let w = World::new(port, authority.tls());
    for name in ["kept.example", "free.example"] {
        w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
    }
    w.enforce("kept.example", &["mx.example.net"]);
    let (_, outcomes) = w.deliver("kept.example", 1).await;
    let diagnosis = outcomes[0].diagnosis();
    assert_eq!((words(&outcomes), &*enhanced(&outcomes[0])), (vec!["deferred"], "4.7.4"));
    assert_eq!(diagnosis.code, Some(421));
    assert!(diagnosis.promise.is_some() && diagnosis.text.contains("mx.example.net refused STARTTLS: 421"));
    assert_eq!(all_entries(&w), ["sts kept.example -starttls-not-supported/starttls-reply-421"]);
    assert_eq!((connections(&ears), count(&ears, "MAIL")), (1, 0));

    let (_, outcomes) = w.deliver("free.example", 1).await;
    assert_eq!((words(&outcomes), connections(&ears)), (vec!["delivered"], 3));
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Plain));
    assert_eq!(all_entries(&w)[1..], ["none free.example -starttls-not-supported/starttls-reply-421"]);
}
