use proptest::prelude::*;

use super::*;

fn code(answer: &Answer) -> String {
    format!("{} {}", answer.code, answer.enhanced.unwrap())
}

// SUB-30, SUB-31, SUB-32, SUB-33, SUB-50, SUB-52, SUB-53, SUB-57, LIM-05
#[test]
fn mail_is_read_or_refused_with_the_reply_of_the_table() {
    for (argument, want) in [
        ("FROM:<a@b.example>", "a@b.example"),
        ("from:<>", ""),
        ("FROM: <a@b.example>", "a@b.example"),
        ("FROM:<a@b.example> SIZE=100 BODY=8BITMIME", "a@b.example"),
        ("FROM:<a@b.example> size=100 body=7bit", "a@b.example"),
        ("FROM:<a@b.example> RET=HDRS ENVID=QQ314159", "a@b.example"),
        ("FROM:<a@b.example> AUTH=e+3Dmc2@example.com", "a@b.example"),
        ("FROM:<a@b.example> AUTH=<>", "a@b.example"),
        ("FROM:<\"a>b\"@b.example>", "\"a>b\"@b.example"),
        ("FROM:<ü@b.example> SMTPUTF8", "ü@b.example"),
        ("FROM:<a@b.example> SIZE=1 RequireTLS", "a@b.example"),
        ("FROM:a@b.example", "501 5.5.2"),
        ("<a@b.example>", "501 5.5.4"),
        ("FROM:<a@b.example", "501 5.1.7"),
        ("FROM:<a@b.example>SIZE=1", "501 5.5.4"),
        ("FROM:<a b@c.example>", "501 5.1.7"),
        ("FROM:<\"app1\\", "501 5.1.7"),
        ("FROM:<a@localhost>", "554 5.1.8"),
        ("FROM:<ü@b.example>", "550 5.6.7"),
        ("FROM:<a@b.example> SIZE", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=99999999999999999999999999", "501 5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=1", "501 5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8 SMTPUTF8", "501 5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.example> RET=SOME", "501 5.5.4"),
        ("FROM:<a@b.example> ENVID=a+0D+0ABcc:x", "501 5.5.4"),
        ("FROM:<a@b.example> HOLDFOR=999999999999", "555 5.5.4"),
        ("FROM:<a@b.example> REQUIRETLS=1", "501 5.5.4"),
        ("FROM:<a@b.example> REQUIRETLS requiretls", "501 5.5.4"),
        ("FROM:<a@b.example> NOTIFY=NEVER", "555 5.5.4"),
    ] {
        let got = mail(argument, true).map_or_else(|a| code(&a), |m| m.path.to_string());
        assert_eq!(got, want, "{argument}");
    }
    assert_eq!(mail("FROM:<a@b.example> SIZE=99999999999999999999", true).unwrap().size, Some(u64::MAX));
    assert!(mail("FROM:<a@b.example> requiretls", true).unwrap().requiretls, "RTLS-02");
    assert!(!mail("FROM:<a@b.example>", true).unwrap().requiretls);
    // SUB-09
    assert_eq!(code(&mail("FROM:<a@b.example> SIZE=1", false).unwrap_err()), "555 5.5.4");
}

// SUB-31, SUB-32, SUB-52, SUB-53
#[test]
fn rcpt_is_read_or_refused_with_the_reply_of_the_table() {
    for (argument, want) in [
        ("TO:<bob@example.net>", "bob@example.net"),
        ("TO:<Postmaster>", "postmaster"),
        ("TO:<@a.example,@b.example:bob@example.net>", "bob@example.net"),
        ("TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;x+40y@z", "bob@example.net"),
        ("TO:<bob@example.net> NOTIFY=NEVER,FAILURE", "501 5.5.4"),
        ("TO:<bob@example.net> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4"),
        ("TO:<bob@example.net> ORCPT=rfc822;a+0Ab", "501 5.5.4"),
        ("TO:<bob@example.net> SIZE=1", "555 5.5.4"),
        ("TO:<>", "501 5.1.3"),
        ("TO:<example.com!victim>", "501 5.1.3"),
        ("TO:<bob@localhost>", "554 5.1.2"),
        ("TO:<bob@[127.0.0.1]>", "554 5.1.2"),
        ("TO:<ü@example.net>", "553 5.6.7"),
        ("TO:bob@example.net", "501 5.5.2"),
        ("TO:<bob@example.net", "501 5.1.3"),
    ] {
        let show = |r: Rcpt| r.path.map_or_else(|| "postmaster".to_owned(), |p| p.to_string());
        assert_eq!(rcpt(argument, true, false).map_or_else(|a| code(&a), show), want, "{argument}");
    }
    let orcpt = rcpt("TO:<b@c.example> ORCPT=rfc822;x+40y@z", true, false).unwrap().orcpt.unwrap();
    assert_eq!(orcpt.to_string(), "rfc822;x+40y@z", "verbatim");
    let long =
        |n: usize| rcpt(&format!("TO:<b@c.example> ORCPT=rfc822;{}", "a".repeat(n)), true, false).is_ok();
    assert!(long(493) && !long(494));
}

// SUB-03, SUB-08, LIM-05
#[test]
fn verbs_have_no_control_characters_and_any_case() {
    for (line, want) in [
        ("noop", Ok((Verb::Noop, ""))),
        ("QUIT ", Ok((Verb::Quit, ""))),
        ("MAIL FROM:<>", Ok((Verb::Mail, "FROM:<>"))),
        ("ETRN x", Ok((Verb::Unimplemented, "x"))),
        ("NOO\0P", Err(500)),
        ("NOOP\rQUIT", Err(500)),
        ("PROXY TCP4", Err(500)),
        ("", Err(500)),
    ] {
        assert_eq!(split(line.as_bytes()).map_err(|a| a.code), want, "{line:?}");
    }
    assert_eq!(split(b"NOOP \xff").map_err(|a| code(&a)), Err("500 5.5.2".to_owned()));
    for (argument, ok) in
        [("a".repeat(255), true), ("a".repeat(256), false), (String::new(), false), ("a b".into(), false)]
    {
        assert_eq!(helo(&argument).is_ok(), ok, "{argument}");
    }
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..300), text: String) {
        let _ = split(&line);
        let _ = mail(&format!("FROM:<{text}> {text}"), true);
        let _ = rcpt(&format!("TO:<{text}> {text}"), true, true);
    }
}
