//! Which addresses belong to the open internet, and which to this machine or its surroundings.
//!
//! A name that leads to one of the latter is how a guest would reach what the operator never meant: the database on
//! the same host, a router, a cloud's metadata service. Addresses that carry another one inside (IPv4-mapped, NAT64,
//! 6to4, Teredo) count as what they carry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// On the open internet.
    Public,
    /// This machine: `127.0.0.0/8`, `::1`.
    Loopback,
    /// A private network: RFC 1918, carrier-grade NAT (RFC 6598), unique local IPv6.
    Private,
    /// Never the address of a peer that a name may lead to: link-local (with the metadata services of the big
    /// clouds), multicast, unspecified, documentation, benchmarking, reserved.
    Special,
}

/// Metadata services outside the link-local range: AWS over IPv6, Alibaba, Oracle (older), Azure's wire server.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether the address belongs to the open internet.
pub fn is_public(address: IpAddr) -> bool {
    AddressClass::of(address) == AddressClass::Public
}

impl AddressClass {
    /// Returns the class of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        if METADATA_V4.contains(&address) {
            return Self::Special;
        }
        match (a, b, c) {
            (127, ..) => Self::Loopback,
            (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Self::Private,
            // This network; link-local; IETF assignments; documentation; 6to4 relays; benchmarking; multicast, reserved.
            (0, ..)
            | (169, 254, _)
            | (192, 0, 0 | 2)
            | (198, 51, 100)
            | (203, 0, 113)
            | (192, 88, 99)
            | (198, 18..=19, _)
            | (224..=255, ..) => Self::Special,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address == Ipv6Addr::LOCALHOST {
            return Self::Loopback;
        }
        if METADATA_V6.contains(&address) {
            return Self::Special;
        }
        if let Some(inner) = carried_v4(address) {
            return Self::of_v4(inner);
        }
        let [s0, s1, ..] = address.segments();
        match (s0, s1) {
            (0xfc00..=0xfdff, _) => Self::Private,
            // 2000::/3 is all that is handed out (RFC 4291); of it, these are documentation, benchmarking and ORCHID.
            (0x2001, 0xdb8 | 0x2 | 0x10..=0x2f) | (0x3fff, 0..=0xfff) => Self::Special,
            (0x2000..=0x3fff, _) => Self::Public,
            _ => Self::Special,
        }
    }
}

/// Returns the IPv4 address inside an IPv6 address that only wraps one.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        // IPv4-compatible (deprecated), IPv4-mapped, IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(v4(high, low)),
        // NAT64: the well-known prefix (RFC 6052) and, where the address ends in it, the local one (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // The local prefix may hold the address at several places: none of them is a public peer.
        [0x64, 0xff9b, 1, ..] => Some(Ipv4Addr::UNSPECIFIED),
        // 6to4 (RFC 3056); Teredo (RFC 4380) holds the client's address inverted.
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, .., high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use AddressClass::{Loopback, Private, Public, Special};

    #[test]
    fn each_kind_of_address_has_its_class() {
        assert_classes(&[
            ("1.1.1.1", Public),
            ("149.154.167.220", Public),
            ("172.15.255.255", Public),
            ("172.32.0.0", Public),
            ("100.63.255.255", Public),
            ("100.128.0.0", Public),
            ("198.20.0.1", Public),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("100.127.255.255", Private),
            ("0.0.0.0", Special),
            ("0.1.2.3", Special),
            ("169.254.169.254", Special),
            ("169.254.170.2", Special),
            ("100.100.100.200", Special),
            ("168.63.129.16", Special),
            ("192.0.0.192", Special),
            ("192.0.2.1", Special),
            ("198.51.100.1", Special),
            ("203.0.113.1", Special),
            ("198.18.0.1", Special),
            ("198.19.255.255", Special),
            ("192.88.99.1", Special),
            ("224.0.0.1", Special),
            ("239.255.255.250", Special),
            ("240.0.0.1", Special),
            ("255.255.255.255", Special),
        ]);
    }

    #[test]
    fn each_kind_of_v6_address_has_its_class_and_a_v4_one_inside_keeps_its_own() {
        assert_classes(&[
            ("2606:4700:4700::1111", Public),
            ("2a01:4f8::1", Public),
            ("::1", Loopback),
            ("::", Special),
            ("fc00::1", Private),
            ("fd12:3456::1", Private),
            ("fd00:ec2::254", Special),
            ("fd20:ce::254", Special),
            ("fe80::1", Special),
            ("fec0::1", Special),
            ("ff02::1", Special),
            ("100::1", Special),
            ("2001:db8::1", Special),
            ("3fff::1", Special),
            ("2001:2::1", Special),
            ("2001:20::1", Special),
            ("4000::1", Special),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:169.254.169.254", Special),
            ("::ffff:8.8.8.8", Public),
            ("::127.0.0.1", Loopback),
            ("::ffff:0:127.0.0.1", Loopback),
            ("64:ff9b::7f00:1", Loopback),
            ("64:ff9b::a9fe:a9fe", Special),
            ("64:ff9b::808:808", Public),
            ("64:ff9b:1::808:808", Special),
            ("64:ff9b:1:7f00:1::", Special),
            ("2002:7f00:1::", Loopback),
            ("2002:c0a8:101::1", Private),
            ("2002:808:808::1", Public),
            // Teredo: the last 32 bits are 192.168.1.1 inverted.
            ("2001:0:4136:e378:8000:63bf:3f57:fefe", Private),
        ]);
    }

    fn assert_classes(expected: &[(&str, AddressClass)]) {
        for (text, class) in expected {
            assert_eq!(AddressClass::of(text.parse().unwrap()), *class, "{text}");
        }
    }

    proptest! {
        #[test]
        fn wrapping_an_address_never_makes_it_more_public(bits in any::<u32>()) {
            let inner = Ipv4Addr::from(bits);
            let [a, b, c, d] = inner.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for outer in [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
            ] {
                prop_assert_eq!(is_public(outer.into()), is_public(inner.into()), "{} in {}", inner, outer);
            }
        }

        #[test]
        fn no_public_address_is_one_that_the_standard_library_calls_local(bits in any::<u128>(), v4 in any::<u32>()) {
            let v6 = Ipv6Addr::from(bits);
            if is_public(v6.into()) {
                prop_assert!(!v6.is_loopback() && !v6.is_multicast() && !v6.is_unspecified());
                prop_assert!(!v6.is_unique_local() && !v6.is_unicast_link_local());
            }
            let v4 = Ipv4Addr::from(v4);
            if is_public(v4.into()) {
                prop_assert!(!v4.is_private() && !v4.is_loopback() && !v4.is_link_local() && !v4.is_broadcast());
                prop_assert!(!v4.is_documentation() && !v4.is_multicast() && !v4.is_unspecified());
            }
        }
    }
}
