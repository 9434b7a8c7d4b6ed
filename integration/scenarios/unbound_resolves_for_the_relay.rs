//! Unbound stands between the relay and DNS: routes and policies are found, and its failures are deferrals.

use hickory_resolver::proto::rr::RecordType;

use crate::world::World;
use crate::world::daemon::Daemon;
use crate::world::dns::Fault;
use crate::world::relay::Setup;
use crate::{SENDER, can_run, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_resolver_finds_everything() {
    if !can_run("unbound resolves for the relay", &["unbound"], false) {
        return;
    }
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    world.enforcing_domain("b.example").await;
    world.dns.fault("b.example", Some(Fault::ServFail));
    world.dns.mx("null.example", &[(0, ".")]);

    let (at, dns, folder) = (world.address(8), world.dns.address(), world.dir.path());
    let config = folder.join("unbound.conf");
    let text = format!(
        "server:
  interface: {ip}
  port: {port}
  access-control: 127.0.0.0/8 allow
  username: \"\"
  chroot: \"\"
  directory: \"{folder}\"
  pidfile: \"{folder}/unbound.pid\"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  infra-keep-probing: yes
  infra-cache-max-rtt: 1000
  module-config: \"iterator\"
remote-control:
  control-enable: no
forward-zone:
  name: \".\"
  forward-addr: {dns_ip}@{dns_port}
",
        ip = at.ip(),
        port = at.port(),
        folder = folder.display(),
        dns_ip = dns.ip(),
        dns_port = dns.port(),
    );
    std::fs::write(&config, text).unwrap();
    let words = ["-d", "-c", config.to_str().unwrap()];
    let _unbound = Daemon::start(&crate::path_of("unbound"), &words, at, &folder.join("unbound.log")).await;

    let keys = vec![("dns", format!("servers = [\"{at}\"]"))];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    for to in ["u@a.example", "u@b.example", "u@null.example", "u@nosuch.example"] {
        assert_eq!(relay.submit(SENDER, to, "unbound").await.code, 250);
    }
    let line = relay.delivery("u@a.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"verified".into()), "{line:?}");
    assert_eq!(relay.deferred("u@b.example").await["last"]["enhanced"], "4.4.3");
    let line = relay.delivery("u@null.example", 1).await;
    assert_eq!((&line["outcome"], &line["enhanced"]), (&"bounced".into(), &"5.1.10".into()), "{line:?}");
    let line = relay.delivery("u@nosuch.example", 1).await;
    assert_eq!((&line["outcome"], &line["enhanced"]), (&"bounced".into(), &"5.1.2".into()), "{line:?}");
    assert!(world.dns.asked("a.example", RecordType::MX) >= 1);
    assert_eq!(host.saw(), (0, 1));
    relay.session_with("a.example", "a.example").await;
}
