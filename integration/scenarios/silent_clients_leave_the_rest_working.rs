//! Hundreds of clients that connect and say nothing: the next one is served as if they were not there.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::world::World;
use crate::{SENDER, count, relay};

#[tokio::test(flavor = "multi_thread")]
async fn the_next_client_is_served() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let relay = relay(&world).await;
    let mut silent = Vec::new();
    for _ in 0..count(500) {
        silent.push(TcpStream::connect(relay.submission()).await.unwrap());
    }
    let submitted = relay.submit(SENDER, "u@a.example", "served");
    let reply = tokio::time::timeout(Duration::from_secs(30), submitted).await.expect("served at once");
    assert_eq!(reply.code, 250);
    assert_eq!(relay.delivery("u@a.example", 1).await["outcome"], "delivered");
    relay.gone("u@a.example").await;
    relay.counted("a.example", (1, 0)).await;
    assert_eq!(host.saw(), (0, 1));
    drop(silent);
}
