//! Address pools: CIDRs and ranges.

use std::net::IpAddr;

use ipnet::IpNet;

/// One entry of a pool: the addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRange {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

impl PoolRange {
    /// Reads `192.0.2.0/28` or `192.0.2.10-192.0.2.20`.
    ///
    /// The network and broadcast addresses of an IPv4 CIDR shorter than /31 are left out, as routers may treat them
    /// apart; a range is taken as it is.
    ///
    /// # Errors
    /// A sentence that names the entry and says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is no pool entry: write a CIDR such as 192.0.2.0/28 or a range such as 192.0.2.10-192.0.2.20"
            )
        };
        if let Some((a, b)) = text.split_once('-') {
            let first: IpAddr = a.trim().parse().map_err(|_| bad())?;
            let last: IpAddr = b.trim().parse().map_err(|_| bad())?;
            if first.is_ipv4() != last.is_ipv4() || first > last {
                return Err(bad());
            }
            return Ok(Self { first, last });
        }
        let net: IpNet = text.parse().map_err(|_| bad())?;
        let (mut first, mut last) = (net.network(), net.broadcast());
        if let (IpAddr::V4(lo), IpAddr::V4(hi)) = (first, last)
            && net.prefix_len() < 31
        {
            first = IpAddr::V4((u32::from(lo) + 1).into());
            last = IpAddr::V4((u32::from(hi) - 1).into());
        }
        Ok(Self { first, last })
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && self.first <= ip && ip <= self.last
    }

    fn iter(self) -> impl Iterator<Item = IpAddr> {
        let (low, high, v4) = match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), true),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), false),
            // `parse` never makes a mixed range; an empty one is the safe reading.
            _ => (1, 0, true),
        };
        (low..=high).map(move |n| {
            if v4 { IpAddr::V4(u32::try_from(n).unwrap_or(u32::MAX).into()) } else { IpAddr::V6(n.into()) }
        })
    }
}

/// The addresses that a class hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPool {
    ranges: Vec<PoolRange>,
}

impl AddressPool {
    /// A pool of these entries.
    ///
    /// # Errors
    /// That of the first bad entry, see [`PoolRange::parse`].
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, String> {
        let ranges = entries.iter().map(|e| PoolRange::parse(e.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }

    /// Whether the pool hands it out.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|r| r.contains(ip))
    }

    /// The first address that `taken` does not claim.
    #[must_use]
    pub fn first_free(&self, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        // Bounded: an IPv6 /64 with nothing free in its first 2^20 addresses is not worth the search.
        self.ranges.iter().flat_map(|r| r.iter().take(1 << 20)).find(|ip| !taken(*ip))
    }
}
