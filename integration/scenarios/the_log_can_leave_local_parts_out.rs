//! `log.addresses = "domain"`: whom mail is from and for stays out of the log, in the words of others too.

use crate::relay_with;
use crate::world::relay::Setup;
use crate::world::{PATIENCE, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn no_line_shows_a_local_part() {
    let world = World::start().await;
    let host = world.domain("a.example").await;
    host.behave(|b| {
        let words = "550 5.1.1 <jane.secret@a.example>: no such user (jane.secret@a.example)".to_owned();
        b.rcpt.insert("jane.secret@a.example".to_owned(), words);
    });
    let keys = vec![("log", "addresses = \"domain\"".to_owned())];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    let from = "john.secret@sender.example";
    assert_eq!(relay.submit(from, "jane.secret@a.example", "s").await.code, 250);
    // Refused at once: the name is not a domain.
    assert_ne!(relay.submit(from, "jane.secret@localhost", "s").await.code, 250);
    // The recipient is in the line as far as it may be.
    let line = relay.delivery("a.example", 1).await;
    assert_eq!(
        (&line["sender"], &line["domain"]),
        (&"sender.example".into(), &"a.example".into()),
        "{line:?}"
    );
    assert!(line["text"].as_str().unwrap().contains("…@a.example"), "{line:?}");
    relay.gone("jane.secret@a.example").await;
    let both = async || {
        let log = relay.log_text();
        (log.contains("\"accepted\"") && log.contains("\"refused\"")).then_some(log)
    };
    let log = eventually(PATIENCE, both).await.unwrap_or_else(|| panic!("{}", relay.log_text()));
    let leaks: Vec<&str> = log.lines().filter(|l| l.contains("secret")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
