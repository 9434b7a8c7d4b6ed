//! nginx takes a report by HTTPS, octet for octet what `report show` prints; `report check` finds nothing to mend.

use std::path::Path;

use serde_json::Value;

use crate::world::ca::Flaw;
use crate::world::daemon::Daemon;
use crate::world::{PATIENCE, World, clear_of_midnight, eventually};
use crate::{SENDER, can_run, is_root, path_of, relay_with};

/// A real HTTPS server of reports: takes what is posted to /tlsrpt, keeps the body as a file, answers 201.
async fn nginx(world: &World, folder: &Path) -> Daemon {
    let (host, at) = ("reports.a.example", world.address(6));
    world.dns.a(host, at.ip());
    let leaf = world.ca.issue(Flaw::None, &[host]);
    std::fs::create_dir_all(folder.join("bodies")).unwrap();
    std::fs::write(folder.join("chain.pem"), &leaf.chain_pem).unwrap();
    std::fs::write(folder.join("key.pem"), &leaf.key_pem).unwrap();
    let text = format!(
        "{user}
daemon off;
pid {f}/pid;
error_log stderr;
events {{}}
http {{
  log_format report '$request_method $uri $content_type $request_length $status';
  access_log {f}/access.log report;
  client_body_temp_path {f}/bodies;
  proxy_temp_path {f}/proxy;
  fastcgi_temp_path {f}/fastcgi;
  uwsgi_temp_path {f}/uwsgi;
  scgi_temp_path {f}/scgi;
  server {{
    listen {at} ssl;
    server_name {host};
    ssl_certificate {f}/chain.pem;
    ssl_certificate_key {f}/key.pem;
    location = /tlsrpt {{
      limit_except POST {{ deny all; }}
      client_body_in_file_only on;
      proxy_pass http://unix:{f}/sink;
    }}
  }}
  server {{
    listen unix:{f}/sink;
    access_log off;
    location / {{ return 201; }}
  }}
}}
",
        user = if is_root() { "user root;" } else { "" },
        f = folder.display(),
    );
    let config = folder.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let words = ["-e", "stderr", "-p", folder.to_str().unwrap(), "-c", config.to_str().unwrap()];
    Daemon::start(&path_of("nginx"), &words, at, &folder.join("said")).await
}

// RPT-88, RPT-89
#[tokio::test(flavor = "multi_thread")]
async fn the_body_arrives_as_it_was_made() {
    if !can_run("nginx takes a report", &["nginx"], false) {
        return;
    }
    clear_of_midnight().await;
    let world = World::start().await;
    world.domain("sender.example").await;
    world.enforcing_domain("a.example").await;
    let folder = world.dir.path().join("nginx");
    let _nginx = nginx(&world, &folder).await;
    let rua = format!("https://reports.a.example:{}/tlsrpt", world.port);
    world.dns.txt("_smtp._tls.a.example", &format!("v=TLSRPTv1; rua={rua}"));
    let relay = relay_with(&world, world.reporting("sender.example")).await;

    let check = relay.cli(&["report", "check"]).await.unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains("Nothing would fail"), "{said}");

    assert_eq!(relay.submit(SENDER, "u@a.example", "counted").await.code, 250);
    assert_eq!(relay.delivery("u@a.example", 1).await["outcome"], "delivered");
    relay.counted("a.example", (1, 0)).await;
    let sent = relay.json(&["report", "send"]).await;
    assert_eq!(sent["sent"][0]["destinations"][0], rua, "{sent}");
    let delivered = async || {
        let list = relay.json(&["report", "list"]).await;
        (list[0]["state"] == "delivered").then(|| list[0].clone())
    };
    let listed: Value = eventually(PATIENCE, delivered).await.expect("nginx takes it");
    assert_eq!(listed["destinations"][0]["reply"], "HTTP 201 Created", "{listed}");

    // nginx answers first and then writes its line.
    let log = || std::fs::read_to_string(folder.join("access.log")).unwrap();
    let logged = eventually(PATIENCE, async || Some(log()).filter(|l| l.ends_with(" 201\n"))).await;
    assert!(logged.is_some_and(|l| l.starts_with("POST /tlsrpt application/tlsrpt+gzip ")), "{}", log());
    let bodies: Vec<_> =
        std::fs::read_dir(folder.join("bodies")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let text = sealpost::tlsrpt::report::unpack(&std::fs::read(&bodies[0]).unwrap()).unwrap();
    let shown = relay.cli(&["report", "show", &listed["no"].to_string(), "--json"]).await.unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), format!("{text}\n"));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["policies"][0]["summary"]["total-successful-session-count"], 1, "{report}");
    assert_eq!(report["contact-info"], "tls-reports@sender.example");
}
