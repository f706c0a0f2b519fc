//! Addresses signalled within a connection (RFC 8684 §3.4): what we have announced and the peer has not echoed yet, and
//! what the peer has announced to us.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::mptcp::crypto::Keys;
use crate::wire::Endpoint;
use crate::wire::mptcp::{AddAddr, AddressId};
use std::net::IpAddr;

/// Addresses that one connection announces, and that it takes from its peer. More are ignored.
pub const ADDRESSES_MAX: usize = 32;
/// How often an announcement is repeated before we give up.
const ANNOUNCEMENTS_MAX: u32 = 5;
/// The wait for the first echo; doubled each time.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Announcement {
    id: AddressId,
    addr: IpAddr,
    port: Option<u16>,
    echoed: bool,
    sent: u32,
    next_at: Instant,
}

/// The addresses of one connection.
#[derive(Debug, Default)]
pub struct Addresses {
    ours: Vec<Announcement>,
    theirs: Vec<(AddressId, Endpoint)>,
}

impl Addresses {
    /// Announces an address from `now` on. False when the table is full.
    pub fn announce(&mut self, now: Instant, id: AddressId, addr: IpAddr, port: Option<u16>) -> bool {
        self.ours.retain(|known| known.id != id);
        if self.ours.len() >= ADDRESSES_MAX {
            return false;
        }
        self.ours.push(Announcement { id, addr, port, echoed: false, sent: 0, next_at: now });
        true
    }

    /// Forgets an announcement; true if there was one.
    pub fn withdraw(&mut self, id: AddressId) -> bool {
        let before = self.ours.len();
        self.ours.retain(|known| known.id != id);
        before != self.ours.len()
    }

    /// Our id of an address that we announced.
    pub fn id_of(&self, addr: IpAddr) -> Option<AddressId> {
        self.ours.iter().find(|known| known.addr == addr).map(|known| known.id)
    }

    /// The peer has repeated an announcement.
    pub fn handle_echo(&mut self, id: AddressId, addr: IpAddr, port: Option<u16>) {
        for known in &mut self.ours {
            known.echoed |= known.id == id && known.addr == addr && known.port == port;
        }
    }

    /// The peer has announced an address, with a good HMAC. True when that is news.
    pub fn handle_announcement(&mut self, id: AddressId, remote: Endpoint) -> bool {
        if self.theirs.contains(&(id, remote)) {
            return false;
        }
        // RFC 8684 §3.4.1: an id keeps its address until it is removed; another port is a further place to join.
        if self.theirs.iter().any(|(known, endpoint)| *known == id && endpoint.addr != remote.addr) {
            return false;
        }
        if self.theirs.len() >= ADDRESSES_MAX {
            return false;
        }
        self.theirs.push((id, remote));
        true
    }

    /// The peer has withdrawn an address.
    pub fn handle_removal(&mut self, id: AddressId) {
        self.theirs.retain(|(known, _)| *known != id);
    }

    /// When the next announcement is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ours
            .iter()
            .filter(|known| !known.echoed && known.sent < ANNOUNCEMENTS_MAX)
            .map(|known| known.next_at)
            .min()
    }

    /// An announcement that is due. One at a time: each needs a segment of its own.
    pub fn poll_announcement(&mut self, now: Instant, keys: &Keys) -> Option<AddAddr> {
        let due = self
            .ours
            .iter_mut()
            .find(|known| !known.echoed && known.sent < ANNOUNCEMENTS_MAX && known.next_at <= now)?;
        // Pitfall 19: repeated while it is not echoed, with back-off.
        due.next_at = now + ECHO_TIMEOUT * 2u32.pow(due.sent);
        due.sent += 1;
        let Announcement { id, addr, port, .. } = *due;
        Some(AddAddr::Announce { address_id: id, addr, port, hmac: keys.announce_hmac_sent(id, addr, port) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mptcp::crypto::KeyMaterial;
    use crate::wire::mptcp::Key;

    fn keys() -> Keys {
        Keys { local: KeyMaterial::new(Key(1)), remote: KeyMaterial::new(Key(2)) }
    }

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn an_announcement_is_repeated_with_back_off_until_it_is_echoed() {
        let mut addresses = Addresses::default();
        assert!(addresses.announce(Instant::ZERO, AddressId(1), addr(1), None));
        let mut times = Vec::new();
        while let Some(at) = addresses.poll_timeout() {
            assert!(addresses.poll_announcement(at, &keys()).is_some());
            times.push(at.as_millis());
        }
        assert_eq!(times, [0, 1000, 3000, 7000, 15000]);

        assert!(addresses.announce(Instant::ZERO, AddressId(1), addr(1), None));
        addresses.handle_echo(AddressId(1), addr(2), None);
        assert!(addresses.poll_timeout().is_some(), "that echoed another address");
        addresses.handle_echo(AddressId(1), addr(1), None);
        assert!(addresses.poll_timeout().is_none());
    }

    #[test]
    fn news_is_told_once_and_an_id_keeps_its_address() {
        let mut addresses = Addresses::default();
        assert!(addresses.handle_announcement(AddressId(1), Endpoint::new(addr(1), 80)));
        assert!(!addresses.handle_announcement(AddressId(1), Endpoint::new(addr(1), 80)));
        assert!(addresses.handle_announcement(AddressId(1), Endpoint::new(addr(1), 81)));
        assert!(!addresses.handle_announcement(AddressId(1), Endpoint::new(addr(2), 80)));
        addresses.handle_removal(AddressId(1));
        assert!(addresses.handle_announcement(AddressId(1), Endpoint::new(addr(2), 80)));
    }

    #[test]
    fn full_tables_ignore_what_is_more() {
        let mut addresses = Addresses::default();
        for n in 0..ADDRESSES_MAX as u8 {
            assert!(addresses.announce(Instant::ZERO, AddressId(n), addr(n), None));
            assert!(addresses.handle_announcement(AddressId(n), Endpoint::new(addr(n), 80)));
        }
        assert!(!addresses.announce(Instant::ZERO, AddressId(200), addr(200), None));
        assert!(!addresses.handle_announcement(AddressId(200), Endpoint::new(addr(200), 80)));
        assert!(addresses.withdraw(AddressId(3)) && !addresses.withdraw(AddressId(3)));
    }
}
