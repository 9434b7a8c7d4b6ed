//! Holds the line of `src/lib.rs`: which room may use which, and that pure rooms stay pure.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by layer. A room is the longest prefix of a module path that stands here.
const LAYERS: &[(&str, u8)] = &[
    ("cli", 5),
    ("app", 5),
    ("submission::smtp_listener", 4),
    ("submission::smtp_connection", 4),
    ("admin", 4),
    ("admin::view", 1),
    ("submission::tls", 4),
    ("submission::metrics", 2),
    ("submission::auth", 3),
    ("submission::accept", 3),
    ("queue::manager", 3),
    ("delivery::attempt", 3),
    ("route::resolve", 3),
    ("mtasts::service", 3),
    ("submission::content", 2),
    ("dns::hickory", 2),
    ("dns::cache", 2),
    ("dns::zone", 2),
    ("https", 2),
    ("mtasts::fetch", 2),
    ("delivery::connect", 2),
    ("delivery::starttls", 2),
    ("delivery::session", 2),
    ("delivery::pool", 2),
    ("store", 2),
    ("smtp", 1),
    ("submission", 1),
    ("queue", 1),
    ("dns", 1),
    ("route", 1),
    ("mtasts", 1),
    ("security", 1),
    ("delivery", 1),
    ("dsn", 1),
    ("dane", 1),
    ("dane::lookup", 3),
    ("tlsrpt", 1),
    ("tlsrpt::service", 3),
    ("tlsrpt::https", 2),
    ("dkim", 1),
    ("standing", 1),
    ("status", 1),
    ("standing::look", 3),
    ("config", 1),
    ("observe", 4),
    ("observe::fields", 0),
    ("observe::metrics", 0),
    ("observe::figures", 1),
    ("manual", 0),
    ("mail", 0),
    ("clock", 0),
];

/// Edges inside layer 3: accept → manager → attempt → {resolve, service}.
const WITHIN_LAYER_3: &[(&str, &str)] = &[
    ("submission::accept", "queue::manager"),
    ("queue::manager", "delivery::attempt"),
    ("delivery::attempt", "route::resolve"),
    ("delivery::attempt", "mtasts::service"),
    ("standing::look", "route::resolve"),
    ("delivery::attempt", "dane::lookup"),
];

/// Edges between families of layer 2.
const WITHIN_LAYER_2: &[(&str, &str)] = &[("mtasts::fetch", "https"), ("tlsrpt::https", "https")];

/// What a pure room (layers 0 and 1) may not name. `mod.rs` of a port and tests are exempt from none of it.
const IMPURE: &[&str] = &[
    "tokio::",
    "reqwest",
    "rusqlite",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "SystemTime",
    "Instant::now",
    "hickory_",
];

fn layer(room: &str) -> Option<(&'static str, u8)> {
    LAYERS
        .iter()
        .filter(|(name, _)| room == *name || room.starts_with(&format!("{name}::")))
        .max_by_key(|(name, _)| name.len())
        .copied()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn module_of(path: &Path, src: &Path) -> String {
    let rel = path.strip_prefix(src).unwrap().with_extension("");
    let parts: Vec<_> = rel.iter().map(|p| p.to_str().unwrap()).filter(|p| *p != "mod").collect();
    parts.join("::")
}

/// Unit tests in files of their own are no program text.
fn is_unit_tests(module: &str) -> bool {
    module.split("::").any(|part| part == "tests")
}

/// The program text of a file, without its unit tests and comments.
fn program(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// `crate::a::b` and the members of `crate::{a::b, c}`, as `a::b`.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (i, _) in text.match_indices("crate::") {
        let rest = &text[i + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let end = group
                .char_indices()
                .find(|(_, c)| {
                    depth += match c {
                        '{' => 1,
                        '}' => -1,
                        _ => 0,
                    };
                    depth == 0
                })
                .map_or(group.len(), |(i, _)| i);
            let mut depth = 0;
            for part in group[..end].split(|c| {
                depth += match c {
                    '{' => 1,
                    '}' => -1,
                    _ => 0,
                };
                c == ',' && depth == 0
            }) {
                found.insert(path_prefix(part.trim()));
            }
        } else {
            found.insert(path_prefix(rest));
        }
    }
    found
}

fn path_prefix(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    text[..end].trim_end_matches(':').to_owned()
}

/// Every module outside the tests, with its text as far as it is program.
fn programs() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let read = |file: PathBuf| {
        let module = module_of(&file, &src);
        (!is_unit_tests(&module)).then(|| (module, program(&fs::read_to_string(&file).unwrap())))
    };
    files.into_iter().filter_map(read).collect()
}

/// The rooms that know no clock, socket or database.
fn is_pure(module: &str) -> bool {
    layer(module).is_some_and(|(_, l)| l <= 1)
}

#[test]
fn arrows_point_downward_only() {
    let mut wrong = Vec::new();
    for (module, text) in programs() {
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((room, from)) = layer(&module) else {
            wrong.push(format!("{module}: no layer in tests/architecture.rs"));
            continue;
        };
        for used in uses(&text) {
            let Some((target, to)) = layer(&used) else { continue };
            let family = |r: &str| r.split("::").next().unwrap().to_owned();
            let same_room = room == target || (from == 2 && family(room) == family(target));
            let named = [WITHIN_LAYER_3, WITHIN_LAYER_2].iter().any(|t| t.contains(&(room, target)));
            let peers = (from <= 1 || from >= 4) && to <= from;
            if !(same_room || to < from || named || peers) {
                wrong.push(format!("{module} (layer {from}) uses {used} (layer {to})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_do_no_io_and_know_no_clock() {
    let mut wrong = Vec::new();
    for (module, text) in programs().into_iter().filter(|(m, _)| is_pure(m)) {
        wrong.extend(IMPURE.iter().filter(|w| text.contains(**w)).map(|w| format!("{module} names {w}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_count_nothing() {
    // What happened is counted by who made it happen. A pure room may only say which words there are.
    let mut wrong = Vec::new();
    for (module, text) in programs().into_iter().filter(|(m, _)| is_pure(m)) {
        let counts = |u: &String| u.starts_with("observe::metrics") && *u != "observe::metrics::Word";
        if !module.starts_with("observe::metrics") {
            wrong.extend(uses(&text).into_iter().filter(counts).map(|u| format!("{module} uses {u}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_classifier_and_the_queue_say_permanent() {
    // A FailReason outside these files would be a second place that can bounce mail.
    let allowed = ["delivery::classify", "queue::outcome", "queue::manager", "store"];
    let says = |(module, text): &(String, String)| {
        text.contains("FailReason::") && !allowed.iter().any(|a| module.starts_with(a))
    };
    let wrong: Vec<_> = programs().into_iter().filter(says).map(|(module, _)| module).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
