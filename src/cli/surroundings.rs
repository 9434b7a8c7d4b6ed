//! This machine, as the configuration sees it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::Timestamp;
use crate::config::Surroundings;

/// The surroundings of this process, and what it means to do with the configuration.
#[derive(Debug, Clone, Copy)]
pub struct System {
    needs_keys: bool,
    refuses_past_dates: bool,
}

impl System {
    /// For the relay itself.
    pub const RELAY: Self = Self { needs_keys: true, refuses_past_dates: false };
    /// For a command that does not act as the relay: its private keys may be unreadable.
    pub(super) const VISITOR: Self = Self { needs_keys: false, ..Self::RELAY };
    /// For whoever asks whether the configuration is right.
    pub(super) const EXAMINER: Self = Self { refuses_past_dates: true, ..Self::RELAY };
}

/// The most octets of a file that a configuration names.
const MAX_FILE: u64 = 16 << 20;

impl Surroundings for System {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        use std::io::Read;
        let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        let got = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if got as u64 > MAX_FILE { Err("it is larger than 16 MiB".to_owned()) } else { Ok(bytes) }
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        use std::os::unix::fs::PermissionsExt;
        Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o7777)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn gateways(&self) -> Vec<IpAddr> {
        // A machine without this file has no Linux routing table to be mistaken about.
        std::fs::read_to_string("/proc/net/route").map(|t| gateways(&t)).unwrap_or_default()
    }

    fn now(&self) -> Timestamp {
        now()
    }

    fn free(&self, path: &Path) -> Option<u64> {
        // What is not there yet will lie where its nearest folder lies.
        let here = path.ancestors().find_map(|p| rustix::fs::statvfs(p).ok())?;
        Some(here.f_bavail.saturating_mul(here.f_frsize))
    }

    fn needs_keys(&self) -> bool {
        self.needs_keys
    }

    fn refuses_past_dates(&self) -> bool {
        self.refuses_past_dates
    }
}

/// Wall time.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(0).after(since)
}

/// The gateways of default routes in the kernel's table: hexadecimal, in the machine's byte order.
fn gateways(table: &str) -> Vec<IpAddr> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (destination, gateway) = (fields.next()?, fields.next()?);
            let gateway = u32::from_str_radix(gateway, 16).ok()?;
            (destination == "00000000" && gateway != 0)
                .then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_gateways_are_read_from_the_kernels_table() {
        let hex = format!("{:08X}", u32::from_ne_bytes([172, 17, 0, 1]));
        let table = format!(
            "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t{hex}\t0003\neth0\t000011AC\t00000000\t0001\nx\n"
        );
        assert_eq!(gateways(&table), ["172.17.0.1".parse::<IpAddr>().unwrap()]);
        assert!(gateways("").is_empty());
    }
}
