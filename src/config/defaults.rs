//! Every default, once, with the reason for it.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Where distributions keep the state of a daemon.
pub const DATA_DIR: &str = "/var/lib/sealpost";

/// Loopback, and a port that needs no privilege: useful at once, open to nobody else.
pub const LISTENER: &str = "127.0.0.1:2525";
/// This machine. Everybody else has to authenticate.
pub const TRUSTED_NETWORKS: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// What the large mailbox providers take at most.
pub const MAX_MESSAGE_SIZE: u64 = 25 << 20;
/// Ten times what RFC 5321 §4.5.3.1.8 asks for, since this is a smart host for newsletters too.
pub const MAX_RECIPIENTS: usize = 1000;
/// Below the usual limit of 1024 descriptors' worth of clients on a raised limit; each costs little memory.
pub const MAX_CONNECTIONS_IN: usize = 1000;

/// RFC 5321 §4.5.4.1: at least four to five days.
pub const MAX_AGE: Duration = Duration::from_secs(5 * DAY);
/// Quick at first, because most troubles last minutes; then slow, because the rest last hours. RFC 5321
/// §4.5.4.1 asks for 30 minutes in general and allows more frequent attempts at the start.
pub const RETRY: [Duration; 7] = [
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(10 * MINUTE),
    Duration::from_secs(20 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(HOUR),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(3 * HOUR),
];
/// Long enough for a host to be restarted, short enough for the sender to telephone the same day.
pub const DELAY_WARNING_AFTER: Duration = Duration::from_secs(4 * HOUR);
/// "What became of last week's mail?" is what people ask.
pub const HISTORY: Duration = Duration::from_secs(7 * DAY);
/// Bounds the timelines whatever the volume.
pub const HISTORY_LIMIT: u64 = 1 << 30;
/// Room for the mail that is being accepted and for the database to clean up in.
pub const RESERVE: u64 = 256 << 20;

/// The name of the root is signed and always there.
pub const SELF_TEST_SECURE: &str = ".";
/// There is no name that may be presumed to stay broken for ever, so this half is the operator's choice.
pub const SELF_TEST_BOGUS: &str = "";

/// RFC 5321 §4.5.4.2.
pub const SMTP_PORT: u16 = 25;
/// A public MX has a public address; anything else out of the DNS is a mistake or an attack (OUT-09).
pub const DENY_NETWORKS: [&str; 3] = super::network::WORDS;
/// Half the usual soft limit of descriptors.
pub const MAX_CONNECTIONS_OUT: usize = 500;
/// What large receivers bear from one address without throttling.
pub const MAX_CONNECTIONS_PER_HOST: usize = 20;
/// Receivers commonly close after 100.
pub const MAX_MESSAGES_PER_CONNECTION: usize = 100;
/// Most transactions end within it, and service managers wait at least this long when told to.
pub const DRAIN: Duration = Duration::from_secs(2 * MINUTE);
/// Below this, SIGTERM cuts ordinary transactions and their mail may be delivered twice.
pub const DRAIN_SHORT: Duration = Duration::from_secs(MINUTE);

/// HTTPS.
pub const POLICY_PORT: u16 = 443;
/// RFC 8461 §3.3 suggests one minute.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(MINUTE);
/// RFC 8461 §3.3 suggests 64 kilobytes.
pub const MAX_POLICY_SIZE: u64 = 64 << 10;

/// Spreads the reports of all relays that wake at midnight (RFC 8460 §4.1).
pub const SEND_WINDOW: Duration = Duration::from_secs(4 * HOUR);

/// Loopback: the API changes the queue.
pub const ADMIN_LISTEN: &str = "127.0.0.1:8025";
/// Under `data_dir`, which only the relay and its group can read.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// One line per attempt, without the dialogue.
pub const LOG_LEVEL: &str = "info";
