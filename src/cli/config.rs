//! `config check`, `config show`, `config init`.

use std::io::{ErrorKind, Write};
use std::path::Path;

use super::args::Config as Command;
use super::surroundings::System;
use super::{Failure, Io, failed, visit};
use crate::config::Config as Checked;

/// The starter file: every key, its default, its meaning.
pub(super) const STARTER: &str = include_str!("../../config/sealpost.toml");

pub(super) fn run(command: Command, file: &Path, io: &mut Io<'_>) -> Result<u8, Failure> {
    match command {
        Command::Check => {
            let config = Checked::load(file, &System::EXAMINER)?;
            for warning in &config.warnings {
                writeln!(io.err, "warning: {warning}")?;
            }
            for note in config.no_effect() {
                writeln!(io.err, "warning: {note}")?;
            }
            writeln!(io.out, "{}: OK", file.display())?;
        }
        Command::Show => write!(io.out, "{}", visit(file)?.show())?,
        Command::Init { file } if file.as_os_str() == "-" => write!(io.out, "{STARTER}")?,
        Command::Init { file } => {
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&file)
                .and_then(|mut out| out.write_all(STARTER.as_bytes()))
                .map_err(|e| {
                    let help = match e.kind() {
                        ErrorKind::AlreadyExists => "; it is left alone: name another file",
                        _ => "; name another file",
                    };
                    failed(format!("{} cannot be written: {e}{help}", file.display()))
                })?;
            writeln!(io.err, "{} is written; set hostname in it", file.display())?;
        }
    }
    Ok(0)
}
