//! DUR-11: on a full disk new mail gets 452 4.3.1, what waits goes out, and space brings mail back.

use std::path::PathBuf;

use crate::world::client::Client;
use crate::world::relay::{Setup, session_counts};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, can_run, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn new_mail_gets_452_while_the_disk_is_full() {
    if !can_run("a full disk refuses early", &["unshare", "mount"], true) {
        return;
    }
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    host.behave(|b| b.greylist = true);
    let data_dir = world.dir.path().join("small");
    std::fs::create_dir(&data_dir).unwrap();
    // The small disk lies in a mount namespace of the relay's own, so nothing is left to unmount.
    let mount = format!("mount -t tmpfs -o size=32m lab {} && exec \"$@\"", data_dir.display());
    let wrapper = ["unshare", "-m", "sh", "-c", &mount, "sh"].map(str::to_owned).to_vec();
    // The commands run outside that namespace.
    let token = world.dir.path().join("admin.token");
    let keys = vec![
        ("admin", format!("token = {{ file = \"{}\" }}", token.display())),
        ("submission", "max_message_size = \"1 MiB\"".to_owned()),
        ("queue", "reserve = \"8 MiB\"".to_owned()),
    ];
    let relay =
        relay_with(&world, Setup { wrapper, keys, data_dir: Some(data_dir.clone()), ..Setup::default() })
            .await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "before").await.code, 250);
    let row = relay.deferred("u@a.example").await;

    let inside = PathBuf::from(format!("/proc/{}/root{}", relay.pid(), data_dir.display()));
    std::fs::write(inside.join("ballast"), vec![0; 26 << 20]).unwrap();
    let submission = relay.submission();
    let mail = async |code: u16| {
        let mut client = Client::connect(submission).await.ok()?;
        let reply = client.command(&format!("MAIL FROM:<{SENDER}>")).await.ok()?;
        (reply.code == code).then_some(reply)
    };
    let refused = eventually(PATIENCE, async || mail(452).await).await.expect("452");
    assert!(refused.lines[0].starts_with("4.3.1"), "{refused:?}");
    relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
    relay.gone("u@a.example").await;
    assert_eq!(host.saw(), (0, 1));
    // Two files, one copied after the other: where a checkpoint came between, the copy is broken, and the next one is not.
    let counted = async || {
        let copy = tempfile::tempdir_in(world.dir.path()).ok()?;
        for file in ["queue.db", "queue.db-wal"] {
            std::fs::copy(inside.join(file), copy.path().join(file)).ok()?;
        }
        let mut database = rusqlite::Connection::open(copy.path().join("queue.db")).ok()?;
        let (verified, failed) = session_counts(&mut database, "a.example").ok()?;
        (verified >= 1 && failed == 0).then_some(())
    };
    eventually(PATIENCE, counted).await.expect("the sessions are counted on a full disk");

    std::fs::remove_file(inside.join("ballast")).unwrap();
    eventually(PATIENCE, async || mail(250).await).await.expect("250 again");
}
