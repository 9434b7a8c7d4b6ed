//! Reports that operators ask for, and what they are told.

use super::*;

// RPT-93: what an operator sends ahead, in part, and again.
#[tokio::test(flavor = "multi_thread")]
async fn operators_send_a_part_of_today_a_closed_day_ahead_and_once_more() {
    let w = World::new();
    w.asks("a.example", "https://reports.example/a");
    let relay = w.open();
    let today = Day::of(w.clock.now());
    relay.session("a.example", true).await;
    // The part is as it was shown, with an id and a range of its own, and takes nothing away.
    let shown = relay.service.preview(None, None).await.unwrap();
    assert_eq!((shown.reports.len(), shown.more), (1, false));
    let summary = relay.service.send(None, None, false).await.unwrap();
    assert!(summary.sent[0].partial && summary.refused.is_empty(), "{summary:?}");
    relay.step().await;
    let part = w.posts.bodies().remove(0);
    assert_eq!(part.date_range.end_datetime, w.clock.now().to_rfc3339());
    let without_id = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        value["report-id"] = "".into();
        value
    };
    assert_eq!(without_id(&shown.reports[0]), without_id(&serde_json::to_string(&part).unwrap()));
    relay.session("a.example", true).await;
    let again = relay.service.send(Some(today), Some(domain("a.example")), false).await.unwrap();
    assert_ne!(again.sent[0].report_id, part.report_id);
    // Out of the way, so that the next post is that of the whole day.
    relay.step().await;
    // What was sent of today was a part: there is nothing yet that could be sent once more.
    let why = relay.service.send(None, None, true).await.unwrap_err();
    assert!(why.contains("--day") && w.posts.bodies().len() == 2, "{why}");
    // What was never counted is said to be so, whoever asks for reports.
    let none = relay.service.send(None, Some(domain("silent.example")), false).await.unwrap();
    assert!(none.refused[0].why.contains("no session was counted"), "{none:?}");
    // The closed day goes out ahead of its moment, whole, once.
    w.clock.jump_to(today.next().begin().after(Duration::from_secs(1)));
    w.settle_clock(&relay);
    let summary = relay.service.send(Some(today), None, false).await.unwrap();
    assert_eq!((summary.sent.len(), summary.sent[0].partial), (1, false), "{summary:?}");
    relay.step().await;
    let whole = w.posts.bodies().pop().unwrap();
    assert_eq!((whole.report_id.clone(), whole.sessions()), (summary.sent[0].report_id.clone(), (2, 0)));
    let refused = relay.service.send(Some(today), None, false).await.unwrap();
    assert!(refused.sent.is_empty() && refused.refused[0].why.contains("--again"), "{refused:?}");
    let made = relay.service.preview(Some(today), None).await.unwrap_err();
    assert!(made.contains("were made already"), "{made}");
    w.clock.advance(DAY);
    relay.step().await;
    assert_eq!(w.posts.bodies().len(), 3, "its own moment brings no second one");
    // Again: the same octets.
    let octets = w.posts.packed().pop().unwrap();
    let summary = relay.service.send(Some(today), None, true).await.unwrap();
    assert_eq!((summary.sent[0].run, &summary.sent[0].report_id), (1, &whole.report_id));
    relay.step().await;
    assert_eq!(w.posts.packed().pop().unwrap(), octets);
    let listed = relay.reports().await;
    assert_eq!(listed.iter().map(|r| r.partial).collect::<Vec<_>>(), [true, true, false]);
    let error = relay.service.preview(Some(today), None).await.unwrap_err();
    assert!(error.contains("report show"), "{error}");
    relay.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_told_in_words_why_nothing_is_sent() {
    let mut w = World::new();
    w.zone.add("_smtp._tls.err.example TXT SERVFAIL").unwrap();
    let relay = w.open();
    let today = Day::of(w.clock.now());
    relay.session("mute.example", true).await;
    relay.session("err.example", true).await;
    let summary = relay.service.send(None, None, false).await.unwrap();
    let why: Vec<_> = summary.refused.iter().map(|r| r.why.as_str()).collect();
    assert!(why[0].contains("SERVFAIL") && why[1].contains("asks for no reports"), "{why:?}");
    let summary = relay.service.send(None, Some(domain("never.example")), false).await.unwrap();
    assert!(summary.refused[0].why.starts_with("no session was counted"), "{summary:?}");
    let summary =
        relay.service.send(Some(today.earlier(1)), Some(domain("mute.example")), false).await.unwrap();
    assert!(summary.refused[0].why.starts_with("no session was counted"), "{summary:?}");
    assert!(
        relay.service.send(Some(today.next()), None, false).await.unwrap_err().contains("has not come yet")
    );
    relay.close().await;
    w.signers = Signers::default();
    let relay = w.open();
    assert!(relay.service.send(None, None, false).await.unwrap_err().contains("[[dkim]]"));
    relay.close().await;
    w.settings.enabled = false;
    let relay = w.open();
    assert!(relay.service.send(None, None, false).await.unwrap_err().contains("tls_rpt.enabled"));
    w.settings.from = None;
    relay.close().await;
    let relay = w.open();
    assert!(relay.service.preview(None, None).await.unwrap_err().contains("tls_rpt.from"));
    relay.close().await;
}
