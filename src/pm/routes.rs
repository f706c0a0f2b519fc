//! The host's routes as far as the path manager needs them: does the way from this NIC lead there?

use crate::base::PortId;
use std::net::IpAddr;

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The block of addresses that share the first `len` bits of `addr`; `len` is cut to the address's length.
    pub fn new(addr: IpAddr, len: u8) -> Self {
        let most = if addr.is_ipv4() { 32 } else { 128 };
        Self { addr, len: len.min(most) }
    }

    /// How many bits they share.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether it holds every address of its family.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `addr` is one of them.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let len = u32::from(self.len);
        match (self.addr, addr) {
            (IpAddr::V4(own), IpAddr::V4(addr)) => {
                (own.to_bits() ^ addr.to_bits()).checked_shr(32 - len).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(addr)) => {
                (own.to_bits() ^ addr.to_bits()).checked_shr(128 - len).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The NIC; `None` for one that we are not attached to.
    pub port: Option<PortId>,
    /// Where it leads.
    pub prefix: Prefix,
    /// The next hop; `None` where destinations are on the link.
    pub via: Option<IpAddr>,
}

/// All routes, of all routing tables together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// From a list.
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// Whether a packet to `remote` may leave through `port`: that NIC has a route there, and no other NIC has a more
    /// specific one. So with a default route on each of two NICs both are ways to the Internet, but only one is a way
    /// to a host on its own link.
    pub fn allow(&self, port: PortId, remote: IpAddr) -> bool {
        let longest = |wanted: &dyn Fn(&Route) -> bool| {
            self.0.iter().filter(|r| wanted(r) && r.prefix.contains(remote)).map(|r| r.prefix.len()).max()
        };
        let own = longest(&|route| route.port == Some(port));
        own.is_some() && own >= longest(&|_| true)
    }
}
