//! The commands of queue and policies, asked of a running relay.

use std::sync::Arc;
use std::time::Duration;

use sealpost::admin::http::Limits;
use sealpost::admin::view::{Policy, Row};
use sealpost::mail::{Domain, QueueId};
use sealpost::mtasts::{self, PolicyStore};

use crate::doubles::answered;
use crate::http::{TOKEN, now, policy, world};

fn command(config: &str, words: &[&str], answer: &str) -> (u8, String, String) {
    answered(now(), config, words, answer)
}

#[tokio::test]
async fn the_command_line_asks_before_it_touches_many_and_says_when_rows_were_cut() {
    let world = world(Limits::default()).await;
    let to: Vec<String> = (0..101).map(|n| format!("u{n}@a.example")).collect();
    let id = world.submit(1, &to.iter().map(String::as_str).collect::<Vec<_>>()).await.to_string();
    let config = world.config();
    let relay = Arc::clone(&world.relay);
    let check = move || {
        let touched = || relay.retried.lock().unwrap().len();
        let retry =
            |words: &[&str], answer: &str| command(&config, &[&["queue", "retry"], words].concat(), answer);
        let (status, _, err) = retry(&[&id], "");
        assert!(status == 1 && err.contains("more than 100 recipients") && err.contains("--yes"), "{err}");
        let (status, _, err) = retry(&["--all"], "n\n");
        assert!(status == 1 && err.contains("[y/N]") && err.contains("nothing was changed"), "{err}");
        assert_eq!(touched(), 0);
        let (status, out, _) = retry(&[&id], "y\n");
        assert!(status == 0 && out.starts_with("101 recipients of 1 message: due now"), "{out}");
        let (status, out, _) = retry(&["--recipient", "u7@a.example"], "");
        assert!(status == 0 && out.starts_with("1 recipient of 1 message:"), "{out}");
        assert_eq!(retry(&[&id, "--yes"], "").0, 0);
        let before = touched();
        let nobody = QueueId::from_bytes([99; 16]).to_string();
        let (status, out, err) = retry(&[&id, &nobody, "--yes"], "");
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(err.contains(&format!("no message {nobody} in queue or history")), "{err}");
        assert_eq!(touched(), before, "nothing was changed");
        assert_eq!(touched(), 3);

        let list = |words: &[&str]| command(&config, &[&["queue", "list"], words].concat(), "");
        let (_, out, err) = list(&["--limit", "100"]);
        assert!(out.lines().count() == 101 && err.contains("only the 100 oldest rows"), "{err}");
        let (_, out, err) = list(&["--limit", "100", "--json"]);
        let rows: Vec<Row> = serde_json::from_str(&out).unwrap();
        assert!(rows.len() == 100 && err.contains("--limit"), "{err}");
        let (_, out, err) = list(&["--limit", "101"]);
        assert!(out.lines().count() == 102 && err.is_empty(), "{err}");

        // Another relay's configuration: a token that this one does not know.
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(TOKEN, "another-token")).unwrap();
        for words in
            [&["queue", "list"][..], &["policy", "list", "--json"], &["queue", "retry", "--all", "--yes"]]
        {
            let (status, out, err) = command(&config, words, "");
            assert_eq!((status, out.as_str()), (1, ""), "{words:?}");
            assert!(err.contains("refuses the token") && err.contains(&config), "{words:?}: {err}");
        }
    };
    tokio::task::spawn_blocking(check).await.unwrap();
}

// STS-50: an operator sees which policies cannot be refreshed, before they run out.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_policies_shows_whose_refreshes_fail() {
    let world = world(Limits::default()).await;
    for domain in ["ill.example", "sound.example"] {
        PolicyStore::save(&*world.store, policy(domain), None).await.unwrap();
    }
    let since = now().before(Duration::from_secs(3 * 3600));
    let memory = mtasts::DomainMemory { refresh_failing_since: Some(since), ..Default::default() };
    world.store.remember(Domain::parse("ill.example").unwrap(), memory).await.unwrap();
    let config = world.config();
    let check = move || {
        let (status, out, _) = command(&config, &["policy", "list", "--json"], "");
        let rows: Vec<Policy> = serde_json::from_str(&out).unwrap();
        let failing: Vec<_> = rows.iter().map(|p| p.refresh_failing_since).collect();
        assert_eq!((status, failing), (0, vec![Some(since), None]));
        let (_, out, _) = command(&config, &["policy", "list"], "");
        assert!(
            out.lines().any(|l| l.contains("ill.example") && l.contains("failing since 3h ago")),
            "{out}"
        );
        assert!(out.lines().any(|l| l.contains("sound.example") && l.contains("ok")), "{out}");
    };
    tokio::task::spawn_blocking(check).await.unwrap();
}
