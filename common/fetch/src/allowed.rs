//! Ranges that may be reached although they are not public: the operator's own services.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::address::{is_public, meant};

/// Ranges of addresses, `10.1.0.0/16,fd00::/8`; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// Returns whether this address may be reached: it is public, or in one of the ranges.
    pub fn reaches(&self, address: IpAddr) -> bool {
        let listed = |address| self.0.iter().any(|range| range.contains(&address));
        is_public(address) || listed(address) || listed(meant(address))
    }
}

impl FromStr for Allowed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text
            .split(',')
            .map(str::trim)
            .filter(|range| !range.is_empty());
        ranges.map(range).collect::<Result<_, _>>().map(Self)
    }
}

/// Parses a range, or one address.
fn range(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let range = text.parse::<IpNet>().or(address);
    range.map(|range| range.trunc()).map_err(|_| {
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        format!("'{shown}' is not a range of addresses; write 10.1.0.0/16, fd00::/8 or one address, with commas between")
    })
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Allowed {
        text.parse().unwrap()
    }

    fn reaches(allowed: &Allowed, address: &str) -> bool {
        allowed.reaches(address.parse().unwrap())
    }

    #[test]
    fn ranges_are_read_with_and_without_their_length() {
        let ranges = allowed(" 10.1.2.3/16, ::1 ,127.0.0.1");
        assert_eq!(ranges.to_string(), "10.1.0.0/16,::1/128,127.0.0.1/32");
        assert_eq!(allowed(&ranges.to_string()), ranges);
        assert_eq!(allowed(""), Allowed::default());
        for bad in [
            "10.0.0.0/33",
            "localhost",
            "10.0.0",
            "10.0.0.0/8;::1",
            "10.0.0.0-10.1.0.0",
        ] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn listed_addresses_are_allowed_in_any_notation_and_no_others() {
        let allowed = allowed("127.0.0.1,10.0.0.0/8");
        for address in [
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "10.9.9.9",
            "64:ff9b::a00:1",
            "8.8.8.8",
        ] {
            assert!(reaches(&allowed, address), "{address}");
        }
        for address in [
            "127.0.0.2",
            "::1",
            "::ffff:127.0.0.2",
            "192.168.0.1",
            "169.254.169.254",
        ] {
            assert!(!reaches(&allowed, address), "{address}");
        }
    }
}
