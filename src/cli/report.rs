//! `report …`: the TLS reports that others sent.

use super::args::Report as Command;
use super::{Failure, Io};

mod read;

pub(super) fn run(command: Command, io: &mut Io<'_>) -> Result<u8, Failure> {
    match command {
        Command::Read { files, json } => read::run(&files, json, io),
    }
}
