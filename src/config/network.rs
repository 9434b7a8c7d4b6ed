//! Networks in CIDR form, and the words for the usual ones.

use std::net::IpAddr;

use ipnet::IpNet;

/// The words that stand for networks.
pub const WORDS: [&str; 3] = ["loopback", "private", "link-local"];

/// A list of networks as it was written, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// Words and CIDRs.
    pub written: Vec<String>,
    /// The networks.
    pub nets: Vec<IpNet>,
}

impl Networks {
    /// Reads a list; `Err` names the entry that is neither a word nor a network.
    ///
    /// # Errors
    /// The position of the first bad entry.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Self, usize> {
        let mut out = Self::default();
        for (i, text) in list.iter().map(AsRef::as_ref).enumerate() {
            out.nets.extend(nets_of(text).ok_or(i)?);
            out.written.push(text.to_owned());
        }
        Ok(out)
    }
}

/// The networks of one word or CIDR; a bare address is a network of one.
pub fn nets_of(text: &str) -> Option<Vec<IpNet>> {
    let list: &[&str] = match text {
        // 0.0.0.0/8 is "this host on this network" (RFC 1122 §3.2.1.3), and some systems dial themselves there.
        "loopback" => {
            &["127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128", "64:ff9b::7f00:0/104", "64:ff9b::/104"]
        }
        // RFC 1918, RFC 6598, RFC 4193, the NAT64 images (RFC 6052) of the IPv4 ones, local-use NAT64 (RFC 8215).
        "private" => &[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
            "64:ff9b::a00:0/104",
            "64:ff9b::ac10:0/108",
            "64:ff9b::c0a8:0/112",
            "64:ff9b::6440:0/106",
            "64:ff9b:1::/48",
        ],
        "link-local" => &["169.254.0.0/16", "fe80::/10", "64:ff9b::a9fe:0/112"],
        other => return cidr(other).map(|n| vec![n]),
    };
    Some(list.iter().filter_map(|n| cidr(n)).collect())
}

/// One network or address, its host bits dropped.
pub fn cidr(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .map(|n| n.trunc())
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(|a| IpNet::from(a.to_canonical())))
}

#[cfg(test)]
mod tests {
    use super::*;

    // OUT-09
    #[test]
    fn words_cover_what_they_say() {
        for (word, address, inside) in [
            ("loopback", "127.9.9.9", true),
            ("loopback", "::1", true),
            ("loopback", "0.0.0.0", true),
            ("loopback", "0.1.2.3", true),
            ("loopback", "::", true),
            ("loopback", "64:ff9b::127.0.0.1", true),
            ("loopback", "64:ff9b::0.0.0.1", true),
            ("private", "64:ff9b:1::1", true),
            ("private", "10.1.2.3", true),
            ("private", "172.31.255.255", true),
            ("private", "172.32.0.0", false),
            ("private", "192.168.1.1", true),
            ("private", "100.127.0.1", true),
            ("private", "fd00::1", true),
            ("private", "64:ff9b::10.0.0.1", true),
            ("private", "64:ff9b::192.168.0.1", true),
            ("private", "64:ff9b::8.8.8.8", false),
            ("private", "8.8.8.8", false),
            ("link-local", "169.254.169.254", true),
            ("link-local", "fe80::1", true),
            ("192.0.2.0/24", "192.0.2.9", true),
            ("192.0.2.7", "192.0.2.8", false),
        ] {
            let nets = nets_of(word).unwrap();
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(nets.iter().any(|n| n.contains(&ip)), inside, "{word} {address}");
        }
    }

    #[test]
    fn every_word_expands_fully_and_others_are_refused() {
        assert_eq!(WORDS.map(|w| nets_of(w).unwrap().len()), [6, 10, 3]);
        assert_eq!(Networks::parse(&["loopback", "privat"]), Err(1));
        assert_eq!(nets_of("10.0.0.0/33"), None);
    }
}
