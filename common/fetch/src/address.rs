//! Public addresses, by IANA's registries of special-purpose addresses (RFC 6890 and later). Pure.
//!
//! IPv4 is open except for the ranges listed here. IPv6 is closed except for global unicast,
//! without the ranges listed here. An IPv6 address that represents an IPv4 address is judged as
//! that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Closed IPv4 ranges.
const CLOSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // "this network"; 0.0.0.0 is this machine
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // behind a carrier's NAT; some clouds' metadata
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure's metadata and DNS, in a public range
    v4([169, 254, 0, 0], 16),   // link-local; 169.254.169.254 is most clouds' metadata
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments; 192.0.0.192 is Oracle's metadata
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // 6to4 relays, given up
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved; 255.255.255.255 is broadcast
];

/// Global unicast; loopback, unique local (`fd00:ec2::254` among them), link-local and multicast
/// lie outside.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Closed ranges of global unicast.
const CLOSED_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0], 23), // protocol assignments: Teredo (IPv4 tunnels), benchmarks, ORCHID
    v6([0x2001, 0xdb8, 0], 32), // documentation
    v6([0x3fff, 0, 0], 20), // documentation
];

/// NAT64: the last 32 bits are the IPv4 address that a gateway connects to. Its prefix for local
/// use, `64:ff9b:1::/48`, is closed, since it is not global unicast.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

/// 6to4: the 32 bits after the prefix are the IPv4 address of the encapsulated packets.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0], 16);

/// Returns whether the address is reachable from the whole Internet.
pub fn is_public(address: IpAddr) -> bool {
    match meant(address) {
        IpAddr::V4(address) => !CLOSED_V4.iter().any(|range| range.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address)
                && !CLOSED_V6.iter().any(|range| range.contains(&address))
        }
    }
}

/// Returns the final IPv4 address of packets for an IPv6 address that represents one.
pub(crate) fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [_, one, two, .., six, seven] = v6.segments();
    let embedded = match v6.to_ipv4_mapped() {
        Some(mapped) => Some(mapped),
        None if NAT64.contains(&v6) => Some(joined(six, seven)),
        None if SIX_TO_FOUR.contains(&v6) => Some(joined(one, two)),
        None => None,
    };
    embedded.map_or(address, IpAddr::V4)
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c]: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and last address of every closed range, and the neighbours outside, if those are
    /// open.
    const CLOSED: &[&str] = &[
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.192",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.0",
        "192.88.99.255",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "198.51.100.255",
        "203.0.113.0",
        "203.0.113.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        // Unspecified, loopback, IPv4-compatible.
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        // Mapped.
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::ffff:169.254.169.254",
        "::ffff:255.255.255.255",
        // Translated by the kernel's stateless translation, NAT64, and NAT64 for local use.
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        // Discard-only, and unassigned ranges.
        "100::",
        "100::1",
        "100:0:0:1::",
        "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "4000::",
        // Protocol assignments: Teredo, port control, benchmarks, AMT, AS112, ORCHID.
        "2001::",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:1::1",
        "2001:2::",
        "2001:3::",
        "2001:4:112::",
        "2001:10::",
        "2001:20::",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        // Documentation.
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        // 6to4.
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::",
        "2002:c0a8:101::1",
        "2002:e000:1::",
        // Segment routing, unique local, link-local, site-local, multicast.
        "5f00::",
        "fc00::",
        "fd00:ec2::254",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::",
        "fe80::1",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fec0::1",
        "ff00::",
        "ff02::1",
        "ff0e::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    const OPEN: &[&str] = &[
        "1.0.0.0",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.1.255",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2000::",
        "2001:200::",
        "2001:4860:4860::8888",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2003::",
        "2600::",
        "2a00:1450:4001::1",
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff:1000::",
        // These represent an open IPv4 address.
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];

    #[test]
    fn internal_addresses_are_not_public() {
        for address in CLOSED {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_beside_the_internal_ranges_are_public() {
        for address in OPEN {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
