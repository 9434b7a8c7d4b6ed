//! `user hash`.

use std::io::{BufRead, Read};

use argon2::{Argon2, PasswordHasher};

use super::{Failure, Io, failed};

/// The most octets of a password: RFC 4616 sets no limit, and nobody types more.
const MAX_PASSWORD: u64 = 1024;

pub(super) fn hash(io: &mut Io<'_>) -> Result<u8, Failure> {
    let mut line = String::new();
    let mut input = io.input.take(MAX_PASSWORD + 2);
    let read = if io.interactive {
        write!(io.err, "Password (it is shown as you type; Enter ends it): ")?;
        io.err.flush()?;
        input.read_line(&mut line)
    } else {
        input.read_to_string(&mut line)
    };
    read.map_err(|e| failed(format!("the password cannot be read: {e}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() as u64 > MAX_PASSWORD || password.contains(['\r', '\n', '\0']) {
        return Err(failed("a password is one line of 1 to 1024 octets on stdin"));
    }
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|e| failed(format!("hashing failed: {e}")))?;
    writeln!(io.out, "{hash}")?;
    Ok(0)
}
