//! `dkim keygen`.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::Serialize;

use super::args::{DkimAlgorithm, Keygen};
use super::{Failure, Io, failed, print};
use crate::dkim::{Algorithm, SigningKey, keygen};

/// What `--json` prints.
#[derive(Serialize)]
struct Made<'a> {
    domain: &'a str,
    selector: &'a str,
    algorithm: &'a str,
    private_key: String,
    record_name: &'a str,
    record: String,
    record_strings: Vec<String>,
    zone_line: String,
}

pub(super) fn keygen(command: Keygen, io: &mut Io<'_>) -> Result<u8, Failure> {
    let Keygen { domain, selector, algorithm, out, json } = command;
    let algorithm = match algorithm {
        DkimAlgorithm::Rsa => Algorithm::Rsa,
        DkimAlgorithm::Ed25519 => Algorithm::Ed25519,
    };
    let pem = keygen::generate(algorithm).ok_or_else(|| failed("the system gave no random numbers"))?;
    let key = SigningKey::from_pem(domain.clone(), selector.clone(), &pem)
        .map_err(|e| Failure::Words(2, format!("{selector}: {e}")))?;
    let file = out.unwrap_or_else(|| PathBuf::from(format!("dkim-{selector}.{domain}.pem")));
    if file.as_os_str() == "-" {
        return Err(Failure::Words(2, "a private key is not printed: name a file with --out".to_owned()));
    }
    // sealpost.toml, where it is written next, may lie elsewhere.
    let file = std::path::absolute(&file).unwrap_or(file);
    // An existing key signs already, and its record is published: it is never written over.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut to| to.write_all(pem.as_bytes()).and_then(|()| to.sync_all()));
    written.map_err(|e| {
        let help = match e.kind() {
            ErrorKind::AlreadyExists => {
                "; a key that may be in use is left alone: name another file with --out"
            }
            _ => "; name another file with --out",
        };
        failed(format!("{} cannot be written: {e}{help}", file.display()))
    })?;

    let record = key.record();
    let zone_line = record.zone_line(key.record_name());
    if json {
        let made = Made {
            domain: domain.as_str(),
            selector: &selector,
            algorithm: algorithm.key_type(),
            private_key: file.display().to_string(),
            record_name: key.record_name().as_str(),
            record: record.to_string(),
            record_strings: record.strings(),
            zone_line,
        };
        print::json(io.out, &made)?;
        return Ok(0);
    }
    let second = match algorithm {
        Algorithm::Rsa => "",
        Algorithm::Ed25519 => "\nMany receivers verify RSA alone: let an rsa key sign beside it.",
    };
    writeln!(
        io.out,
        "{}: private key, {}, readable by its owner only: make that the user of the relay.{second}

Publish this TXT record, as a line of a zone file:

{zone_line}

or, where a form asks for name and value:

{}
{record}

Without s= the key is good for mail and for TLS reports. Do not add s=tlsrpt: receivers would ignore the key when
they check ordinary mail, and DMARC would fail. Some cannot read s=email:tlsrpt either.

Then, in sealpost.toml:

[[dkim]]
domain = \"{domain}\"
selector = \"{selector}\"
private_key = \"{}\"

To replace a key, publish the record of a new selector first, change the entry, and leave the old record in the
DNS until the mail signed with it has arrived: queue.max_age and a week.",
        file.display(),
        algorithm.key_type(),
        key.record_name(),
        file.display(),
    )?;
    Ok(0)
}
