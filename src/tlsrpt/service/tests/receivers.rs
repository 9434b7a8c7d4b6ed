//! What receivers answer, and what follows for a report and for others to the same receiver.

use super::*;

// RPT-08, RPT-87, RPT-89
#[tokio::test(flavor = "multi_thread")]
async fn every_destination_is_tried_by_itself_and_one_is_enough() {
    let w = World::new();
    w.asks("a.example", "https://down.example/r,mailto:tlsrpt@a.example,https://no.example/r");
    w.posts.answer("down.example", Posted::Later { reply: "500".to_owned(), after: None });
    w.posts.answer("no.example", Posted::Refused { reply: "404 gone".to_owned() });
    let relay = w.open();
    relay.session("a.example", true).await;
    w.clock.advance(DAY);
    relay.step().await;
    let stands = |r: &ListedReport| r.destinations.iter().map(|d| d.state).collect::<Vec<_>>();
    let report = relay.reports().await.remove(0);
    assert_eq!(
        stands(&report),
        [DestinationState::Waiting, DestinationState::Queued, DestinationState::Failed]
    );
    assert_eq!((report.state, report.destinations[2].reply.as_str()), (ReportState::Sending, "404 gone"));
    // The mail arrives: that is listed at once, and stays so when the service has taken it over.
    relay.deliver("a.example", true).await;
    for round in ["at once", "taken over"] {
        let report = relay.reports().await.remove(0);
        assert_eq!(report.state, ReportState::Delivered, "{round}");
        let mail = &report.destinations[1];
        assert_eq!(
            (mail.state, mail.reply.as_str()),
            (DestinationState::Accepted, "250 2.0.0 taken"),
            "{round}"
        );
        relay.step().await;
    }
    // The other is tried with growing pauses, and for a day only.
    let begun = w.clock.now();
    let mut tries = Vec::new();
    for _ in 0..30 * 60 {
        w.clock.advance(MINUTE);
        let before = w.posts.asked("down.example");
        relay.send().await;
        if w.posts.asked("down.example") > before {
            tries.push(w.clock.now());
        }
    }
    let pauses: Vec<u64> = tries.windows(2).map(|t| t[1].since(t[0]).as_secs() / 60).collect();
    // The longest is 240 minutes, more or less a tenth each time.
    assert!(pauses.windows(2).all(|p| p[1] + 50 > p[0]) && pauses.iter().all(|p| *p <= 265), "{pauses:?}");
    assert!((7..16).contains(&tries.len()), "{tries:?}");
    assert!(tries.last().unwrap().since(begun) <= DAY);
    let report = relay.reports().await.remove(0);
    assert_eq!(
        (report.state, report.destinations[0].state),
        (ReportState::Delivered, DestinationState::Failed)
    );
    assert!(report.destinations[0].reply.starts_with("given up after"), "{:?}", report.destinations[0]);
    assert_eq!(w.reports_counted("made"), 1.0);
    let mail = ["queued", "accepted", "deferred", "failed"].map(|result| w.tries_counted("mail", result));
    assert_eq!(mail, [1.0, 1.0, 0.0, 0.0]);
    // One was refused at once, the other was put off until it was given up.
    assert_eq!((w.tries_counted("https", "failed"), w.tries_counted("https", "accepted")), (2.0, 0.0));
    assert!((w.tries_counted("https", "deferred") - tries.len() as f64).abs() <= 1.0);
    relay.close().await;
}

// RPT-89
#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured_and_spares_the_receiver_other_reports() {
    let w = World::new();
    for name in ["a.example", "b.example", "c.example"] {
        w.asks(name, "https://busy.example/r");
    }
    w.posts.answer("busy.example", Posted::Later { reply: "429".to_owned(), after: Some(3 * HOUR) });
    let mut w = w;
    w.settings.parallel = 1;
    let relay = w.open();
    for name in ["a.example", "b.example", "c.example"] {
        relay.session(name, true).await;
    }
    w.clock.advance(DAY);
    relay.step().await;
    assert_eq!(w.posts.asked("busy.example"), 1);
    w.clock.advance(3 * HOUR - MINUTE);
    relay.step().await;
    assert_eq!(w.posts.asked("busy.example"), 1);
    w.posts.answer("busy.example", Posted::Accepted { reply: "200".to_owned() });
    w.clock.advance(2 * MINUTE);
    relay.step().await;
    assert_eq!(w.posts.bodies().len(), 4, "one in vain, three taken");
    assert!(relay.reports().await.iter().all(|r| r.state == ReportState::Delivered));
    relay.close().await;
}

// RPT-10
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_so_many_reports_a_day_and_no_more() {
    let mut w = World::new();
    w.settings.per_receiver = 2;
    let names = ["a.example", "b.example", "c.example", "d.example"];
    for name in names {
        w.asks(name, "https://victim.example/r");
    }
    let relay = w.open();
    for name in names {
        relay.session(name, true).await;
    }
    w.clock.advance(DAY);
    relay.step().await;
    assert_eq!(w.posts.asked("victim.example"), 2);
    let reports = relay.reports().await;
    let over: Vec<_> = reports.iter().filter(|r| r.state == ReportState::Failed).collect();
    assert_eq!(over.len(), 2);
    assert!(over.iter().all(|r| r.destinations[0].reply.contains("at most 2 reports a day")), "{over:?}");
    assert_eq!((w.tries_counted("https", "accepted"), w.tries_counted("https", "failed")), (2.0, 2.0));
    // The next day counts anew.
    relay.session("a.example", true).await;
    w.clock.advance(DAY);
    relay.step().await;
    assert_eq!(w.posts.asked("victim.example"), 3);
    relay.close().await;
}

// RPT-27, RPT-44, RPT-80, RPT-84, RPT-86, RPT-87
#[tokio::test(flavor = "multi_thread")]
async fn a_report_by_mail_is_signed_marked_and_asks_for_no_dsn() {
    let w = World::new();
    w.asks("a.example", "mailto:tls%2Drpt@b.example,mailto:two@c.example");
    let relay = w.open();
    relay.session("a.example", true).await;
    w.clock.advance(DAY);
    relay.step().await;
    let mails = relay.mails().await;
    assert_eq!(
        mails.iter().map(|m| m.path.to_string()).collect::<Vec<_>>(),
        ["tls-rpt@b.example", "two@c.example"]
    );
    for mail in &mails {
        let meta = &mail.message;
        assert_eq!(
            (meta.origin, meta.reverse_path.to_string()),
            (Origin::TlsReport, "tls-reports@example.net".to_owned())
        );
        let text = relay.content(mail).await;
        assert!(text.starts_with("DKIM-Signature: v=1;"), "{text}");
        assert!(text.contains("d=example.net") && text.contains("\r\nTLS-Required: No\r\n"), "{text}");
        assert!(text.contains(&format!("\r\nMessage-ID: {}\r\n", meta.message_id)), "{text}");
        let report = &relay.reports().await[0];
        assert!(text.contains(&format!("Report-ID: <{}>", report.report_id)));
        let lease = relay.lease(mail.path.domain().as_str()).await;
        assert_eq!(lease.recipients[0].notify, Some(crate::mail::Notify::Never));
    }
    relay.close().await;
}

// RPT-86: how a mail ended is known although the queue keeps no history, and also when nobody took it.
#[tokio::test(flavor = "multi_thread")]
async fn the_fate_of_a_mail_is_taken_over_before_the_queue_forgets_it() {
    let w = World::new();
    w.asks("a.example", "mailto:tlsrpt@a.example");
    w.asks("b.example", "mailto:tlsrpt@b.example");
    let relay = w.open();
    relay.session("a.example", true).await;
    relay.session("b.example", true).await;
    w.clock.advance(DAY);
    relay.step().await;
    relay.deliver("a.example", true).await;
    relay.deliver("b.example", false).await;
    w.clock.advance(HOUR);
    while relay.store.purge(Duration::ZERO, 0).await.unwrap() {}
    relay.step().await;
    let reports = relay.reports().await;
    assert_eq!(
        reports.iter().map(|r| r.state).collect::<Vec<_>>(),
        [ReportState::Delivered, ReportState::Failed]
    );
    assert!(reports[1].destinations[0].reply.contains("550"), "{:?}", reports[1]);
    assert!(reports.iter().all(|r| r.destinations[0].mail.is_some()));
    w.clock.advance(HOUR);
    while relay.store.purge(Duration::ZERO, 0).await.unwrap() {}
    assert!(relay.store.show(reports[0].destinations[0].mail.unwrap()).await.unwrap().is_none());
    relay.close().await;
}
