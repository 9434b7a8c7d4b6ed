//! DUR-14: one queue, one process; the second says who has it.

use crate::world::{PATIENCE, World};
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_names_the_first_and_ends() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let relay = relay(&world).await;
    // Other listeners, so that only the queue is in the way.
    let text = std::fs::read_to_string(relay.config()).unwrap();
    let (one, two) = (world.address(1).to_string(), world.address(2).to_string());
    let text = text.replace(&one, &world.address(7).to_string()).replace(&two, &world.address(8).to_string());
    let config = world.dir.path().join("second.toml");
    std::fs::write(&config, text).unwrap();
    let mut second = tokio::process::Command::new(crate::program());
    second.args(["serve", "--config"]).arg(&config).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, second.output()).await;
    let output = output.expect("it ends by itself").unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&relay.pid().to_string()), "{said}");

    assert_eq!(relay.submit(SENDER, "u@a.example", "first").await.code, 250);
    relay.gone("u@a.example").await;
    relay.counted("a.example", (1, 0)).await;
    assert_eq!(host.saw(), (0, 1));
}
