//! Addresses of load balancers.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: Ipv4Addr,
    bits: u8,
}

impl Cidr {
    /// What there is unless something else is chosen.
    pub const DEFAULT: Self = Self { base: Ipv4Addr::new(10, 0, 0, 0), bits: 16 };
    /// Where public load balancers get their addresses: a range for benchmarks, which routes to nowhere.
    pub(super) const PUBLIC: Self = Self { base: Ipv4Addr::new(198, 18, 0, 0), bits: 15 };

    fn size(self) -> u64 {
        1 << (32 - u32::from(self.bits))
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        u64::from(u32::from(address)).checked_sub(u64::from(u32::from(self.base))).is_some_and(|n| n < self.size())
    }

    /// The addresses that can be given away: not the network's own, its router's and its broadcast.
    pub(super) fn hosts(self) -> impl Iterator<Item = IpAddr> {
        let base = u32::from(self.base);
        (2..self.size().saturating_sub(1))
            .filter_map(move |n| u32::try_from(n).ok()?.checked_add(base))
            .map(|n| IpAddr::V4(Ipv4Addr::from(n)))
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of IPv4 addresses such as 10.0.0.0/24");
        let (base, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (base, bits): (Ipv4Addr, u8) = (base.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        let range = Self { base, bits };
        if !(8..=30).contains(&bits) || !u64::from(u32::from(base)).is_multiple_of(range.size()) {
            return Err(wrong());
        }
        Ok(range)
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        format!("{}/{}", range.base, range.bits)
    }
}
