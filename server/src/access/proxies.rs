//! Names the proxies in front of the server, by address.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::str::FromStr;

/// Bits of an address. IPv4 ones are kept as IPv6 has them (`::ffff:0:0/96`), so that there is one kind.
const BITS: u8 = 128;

/// The addresses that `loopback` stands for.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// The addresses that `private` stands for: the networks that nobody on the internet has (RFC 1918, RFC 4193), and loopback, as in
/// Caddy's `private_ranges`.
const PRIVATE: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", LOOPBACK[0], LOOPBACK[1]];

/// Addresses of proxies whose forwarding headers are believed: one address (`10.0.0.7`), a range (`10.0.0.0/8`,
/// `fd00::/8`), `loopback`, or `private`: the private networks of IPv4 and IPv6, and loopback.
///
/// ```
/// use manysocket_server::Proxies;
///
/// assert!("10.0.0.0/8".parse::<Proxies>().is_ok());
/// assert!("private".parse::<Proxies>().is_ok());
/// assert!("10.0.0.0/40".parse::<Proxies>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u128,
    /// How many bits of an address have to be those of `first`.
    fixed: u8,
}

/// Why a text names no proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxiesError(String);

impl Display for ProxiesError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let written = &self.0;
        write!(
            f,
            "{written:?} names no proxies: expected an address, a range such as 10.0.0.0/8, loopback or private"
        )
    }
}

impl Error for ProxiesError {}

impl FromStr for Proxies {
    type Err = ProxiesError;

    fn from_str(written: &str) -> Result<Self, ProxiesError> {
        let ranges = match written {
            "loopback" => &LOOPBACK[..],
            "private" => &PRIVATE,
            range => &[range],
        };
        let ranges = ranges.iter().map(|range| Range::parse(range)).collect::<Option<_>>();
        ranges.map(Self).ok_or_else(|| ProxiesError(written.into()))
    }
}

impl Proxies {
    /// Returns whether an address is one of these.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

impl Range {
    fn parse(written: &str) -> Option<Self> {
        let (address, fixed) = match written.split_once('/') {
            Some((address, fixed)) => (address, Some(fixed)),
            None => (written, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let own = if address.is_ipv4() { 32 } else { BITS };
        let fixed = match fixed {
            Some(fixed) => fixed.parse::<u8>().ok().filter(|fixed| *fixed <= own)?,
            None => own,
        };
        Some(Self { first: bits(address), fixed: BITS - own + fixed })
    }

    fn contains(self, address: IpAddr) -> bool {
        self.fixed == 0 || (self.first ^ bits(address)) >> (BITS - self.fixed) == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
    .to_bits()
}

/// Returns whether an address is one of a private network, or of this machine.
pub(crate) fn is_private(address: IpAddr) -> bool {
    PRIVATE.iter().filter_map(|range| Range::parse(range)).any(|range| range.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_addresses() {
        for (written, inside, outside) in [
            ("10.1.2.3", &["10.1.2.3", "::ffff:10.1.2.3"][..], &["10.1.2.4", "::1"][..]),
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255"], &["11.0.0.0", "9.255.255.255", "::a00:1"]),
            ("192.168.1.77/30", &["192.168.1.76", "192.168.1.79"], &["192.168.1.80"]),
            ("0.0.0.0/0", &["1.2.3.4", "255.255.255.255"], &["2001:db8::1"]),
            ("::/0", &["1.2.3.4", "::1", "2001:db8::1"], &[]),
            ("fd00::/8", &["fd12::1"], &["fc00::1", "10.0.0.1"]),
            ("::ffff:10.0.0.0/104", &["10.9.9.9"], &["11.0.0.0"]),
            ("loopback", &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], &["10.0.0.1", "::2"]),
            (
                "private",
                &["10.0.0.1", "172.31.0.1", "192.168.0.1", "fc00::1", "127.0.0.1", "::1"],
                &["172.32.0.1", "192.169.0.1", "8.8.8.8", "169.254.1.1", "fe80::1"],
            ),
        ] {
            let proxies = written.parse::<Proxies>().expect(written);
            let contains = |address: &&&str| proxies.contain(address.parse().expect("an address"));
            assert_eq!(inside.iter().filter(contains).count(), inside.len(), "{written}");
            assert_eq!(outside.iter().filter(contains).count(), 0, "{written}");
        }
    }

    #[test]
    fn what_names_no_proxies_is_refused() {
        for written in [
            "",
            "*",
            "all",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "localhost",
            "10.0.0.0:80",
        ] {
            let error = written.parse::<Proxies>().expect_err(written).to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
    }
}
