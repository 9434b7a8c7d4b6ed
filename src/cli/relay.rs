//! Where commands get their answers: from the running relay, or (reading ones) from its database.

use std::future::Future;

use super::offline;
use super::{Failure, Io, failed};
use crate::admin::client::{Client, ClientError};
use crate::admin::token;
use crate::config::{Config, SecretSource};
use crate::store::sqlite::SqliteReader;

/// A client of the running relay.
pub(super) fn client(config: &Config) -> Result<Client, String> {
    let address = config.admin.listen.ok_or("admin.listen is \"\": the relay cannot be asked")?;
    let token =
        token::read(&config.admin.token, &config.data_dir).map_err(|e| match &config.admin.token {
            SecretSource::File(file) => {
                format!("the admin token {}", offline::unreadable(&config.data_dir.join(file), &e))
            }
            _ => format!("the admin token cannot be read: {e}; correct admin.token"),
        })?;
    Ok(Client::new(address, token))
}

/// Asks the running relay, and its database when it does not answer. `Ok(None)`: there is no such thing.
pub(super) fn read<T>(
    config: &Config,
    online: bool,
    io: &mut Io<'_>,
    ask: impl FnOnce(&Client) -> Result<T, ClientError>,
    look: impl AsyncFnOnce(&SqliteReader) -> Result<Option<T>, String>,
) -> Result<Option<T>, Failure> {
    let silence = match asked(config, ask)? {
        Ok(answer) => return Ok(answer),
        Err(silence) => silence,
    };
    let stores = instead(config, online, &silence, io)?;
    block_on(look(&stores))?.map_err(failed)
}

/// Asks the running relay; the inner error says why nobody answers.
pub(super) fn asked<T>(
    config: &Config,
    ask: impl FnOnce(&Client) -> Result<T, ClientError>,
) -> Result<Result<Option<T>, String>, Failure> {
    Ok(match client(config) {
        Ok(client) => match ask(&client) {
            Ok(value) => Ok(Some(value)),
            Err(ClientError::Refused(404, _)) => Ok(None),
            Err(e @ ClientError::Silent(..)) => Err(e.to_string()),
            Err(e) => return Err(explain(config, e)),
        },
        Err(e) => Err(e),
    })
}

/// Opens the database of a relay that does not answer, and says so.
pub(super) fn instead(
    config: &Config,
    online: bool,
    silence: &str,
    io: &mut Io<'_>,
) -> Result<SqliteReader, Failure> {
    if online {
        return Err(failed(silence));
    }
    let _ = writeln!(io.err, "{silence}; reading its database instead");
    offline::open(config).map_err(failed)
}

/// Asks the running relay to change something.
pub(super) fn change<T>(
    config: &Config,
    ask: impl FnOnce(&Client) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let what = "start it (`sealpost serve`) or correct [admin], then repeat the command";
    let client = client(config).map_err(|e| failed(format!("{e}; {what}")))?;
    ask(&client).map_err(|e| match e {
        ClientError::Silent(..) => failed(format!("{e}; {what}")),
        e => explain(config, e),
    })
}

/// What an answer that is none means for the operator.
fn explain(config: &Config, error: ClientError) -> Failure {
    let file = config.path.display();
    match error {
        ClientError::Refused(401, _) => {
            failed(format!("the relay refuses the token of admin.token; is {file} its configuration?"))
        }
        ClientError::Garbled(_) => failed(format!(
            "{error}; does another program listen at admin.listen? Is {file} the relay's configuration?"
        )),
        error => failed(error.to_string()),
    }
}

pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
