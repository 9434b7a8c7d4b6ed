//! `report …`: the TLS reports of this relay, those that others sent, and whether ours would be believed.

use std::path::Path;

use super::args::Report as Command;
use super::{Failure, Io, check_config, standing, visit};
use crate::admin::reports::ReportRequest;
use crate::tlsrpt::ReportFilter;

mod own;
mod read;

pub(super) fn run(command: Command, file: &Path, io: &mut Io<'_>) -> Result<u8, Failure> {
    match command {
        Command::Read { files, json } => read::run(&files, json, io),
        Command::Preview { day, domain, output } => own::preview(day, domain, output, &visit(file)?, io),
        Command::Send { day, domain, again, json } => {
            own::send(&ReportRequest { day, domain, again }, json, &visit(file)?, io)
        }
        Command::List { day, domain, output } => {
            own::list(ReportFilter { id: None, day, domain }, output, &visit(file)?, io)
        }
        Command::Show { id, output } => own::show(&id, output, &visit(file)?, io),
        Command::Check { json } => standing::reports(json, &check_config(file)?, io),
    }
}
