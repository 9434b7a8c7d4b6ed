//! The starter file, and the configuration as it is shown.

use std::collections::BTreeSet;

use crate::{NAME, parse};

const STARTER: &str = include_str!("../../config/sealpost.toml");

/// The starter file with its defaults, and perhaps its examples, put to use.
fn uncommented(examples: bool) -> String {
    let mut out = String::new();
    for line in STARTER.lines() {
        let line = match (line.strip_prefix("#: "), line.strip_prefix('#')) {
            (Some(example), _) => Some(example).filter(|_| examples),
            (None, Some(rest)) => Some(rest).filter(|r| !r.is_empty() && !r.starts_with(' ')),
            (None, None) => Some(line),
        };
        out.push_str(line.unwrap_or(""));
        out.push('\n');
    }
    out
}

#[test]
fn the_starter_file_shows_the_defaults_and_nothing_else() {
    let defaults = parse(NAME).unwrap().show();
    assert_eq!(parse(STARTER).unwrap().show(), defaults, "as it is");
    assert_eq!(parse(&uncommented(false)).unwrap_or_else(|e| panic!("{e}")).show(), defaults, "un-commented");
}

#[test]
fn the_starter_file_shows_every_key() {
    let full = parse(&uncommented(true)).unwrap_or_else(|e| panic!("{e}")).show();
    let keys = |text: &str| -> BTreeSet<String> {
        let mut section = String::new();
        let mut out = BTreeSet::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                out.insert(format!("{section}.{}", key.trim_matches('"')));
            }
        }
        out
    };
    assert_eq!(keys(&uncommented(true)), keys(&full));
}

#[test]
fn the_defaults_as_shown_read_back() {
    let shown = parse(NAME).unwrap().show();
    let again = parse(&shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
    assert_eq!(again.show(), shown);
    assert_eq!(again.warnings, parse(NAME).unwrap().warnings);
}

#[test]
fn what_is_shown_reads_back_and_keeps_its_secrets() {
    let text = format!("{}\n", uncommented(true));
    let shown = parse(&text).unwrap().show();
    assert!(!shown.contains("hunter2") && !shown.contains("argon2id"), "{shown}");
    let again = parse(&shown.replace("password_hash = \"(blanked)\"", "password_hash = { env = \"HASH\" }"));
    assert_eq!(again.unwrap_or_else(|e| panic!("{e}")).show(), shown);
}
