//! The composition root: builds adapters from the configuration, connects ports, starts tasks, shuts down.

use std::process::ExitCode;

use crate::config::Config;

/// Placeholder.
pub fn serve(_config: Config) -> ExitCode {
    ExitCode::FAILURE
}
