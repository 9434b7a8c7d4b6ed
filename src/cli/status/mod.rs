//! `sealpost status`: one screen, or one JSON document, about everything.

use std::sync::Arc;

use super::args::Output;
use super::print::json;
use super::surroundings::System;
use super::{Failure, Io, failed, relay};
use crate::app;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::config::{Config, Surroundings as _};
use crate::status::{Overview as _, Silence, Status};
use crate::store::sqlite::SqliteReader;

mod page;
mod screen;

pub(super) fn run(output: Output, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    let status = match relay::asked(config, |client| client.get::<Status>("/v1/status"))? {
        Ok(Some(status)) => status,
        Ok(None) => return Err(failed("the relay that answers is of another version: start this one")),
        Err(silence) => {
            let stores = relay::instead(config, output.online, &silence, io)?;
            let silence = match config.admin.listen {
                Some(_) => Silence::Unexpected(silence),
                None => Silence::Configured,
            };
            relay::block_on(stored(config, &stores, silence, io.now))?.map_err(failed)?
        }
    };
    if output.json {
        json(io.out, &status)?;
    } else {
        screen::print(&status, io.out, io.terminal)?;
    }
    Ok(u8::from(!status.sound))
}

/// What can be told without the relay.
async fn stored(
    config: &Config,
    stores: &SqliteReader,
    silence: Silence,
    now: Timestamp,
) -> Result<Status, String> {
    let ended = stores.ended_exceptions().await.map_err(|e| e.to_string())?;
    let stored = stores.overview(now).await.map_err(|e| e.to_string());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now));
    let (place, dnssec) = app::status::without_relay(config, |dir| System::VISITOR.free(dir), &ended, &clock);
    Ok(Status::new(now, place, Err((silence, dnssec)), stored))
}
