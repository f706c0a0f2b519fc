//! Addresses within a connection, and their ids (RFC 8684 §3.4): what the peer knows of ours, by announcement or by a join,
//! and what we know of the peer's.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::mptcp::crypto::Keys;
use crate::wire::Endpoint;
use crate::wire::mptcp::{AddAddr, AddressId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Addresses that one connection announces, and that it takes from its peer. More are ignored.
pub const ADDRESSES_MAX: usize = 32;
/// How often an announcement is repeated before we give up.
const ANNOUNCEMENTS_MAX: u32 = 5;
/// The wait for an echo the first two times; then doubled each time.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
struct Announcement {
    id: AddressId,
    addr: IpAddr,
    port: Option<u16>,
    echoed: bool,
    sent: u32,
    next_at: Instant,
}

/// What an announcement of the peer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is known, or of no use, or there is no room for it.
    None,
    /// A place to join.
    New,
    /// A place to join, under an id that had another address before: the removal of that one was lost.
    Moved,
}

/// The addresses of one connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Addresses {
    ours: Vec<Announcement>,
    /// Ids of ours that the peer knows from joins alone.
    joined: Vec<AddressId>,
    /// What the peer has announced.
    theirs: Vec<(AddressId, Endpoint)>,
    /// Where subflows with these ids of the peer were seen to end: a NAT may have changed it.
    seen: Vec<(AddressId, IpAddr)>,
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

    /// The peer knows an id of ours from a join.
    pub fn note_joined(&mut self, id: AddressId) {
        if !self.joined.contains(&id) && self.joined.len() < ADDRESSES_MAX {
            self.joined.push(id);
        }
    }

    /// Forgets what the peer was told of an id; true if it was told anything. Pitfall 29: also what is in no use.
    pub fn withdraw(&mut self, id: AddressId) -> bool {
        let before = self.ours.len() + self.joined.len();
        self.ours.retain(|known| known.id != id);
        self.joined.retain(|known| *known != id);
        before != self.ours.len() + self.joined.len()
    }

    /// Our id of an address that the peer joins. One that was never announced gets a fresh one, from the end that the path
    /// manager, which counts from 0, does not reach.
    pub fn id_of(&self, addr: IpAddr) -> AddressId {
        let announced = self.ours.iter().find(|known| known.addr == addr).map(|known| known.id);
        let is_free =
            |id: &AddressId| self.ours.iter().all(|known| known.id != *id) && !self.joined.contains(id);
        announced.or_else(|| (1..=255).rev().map(AddressId).find(is_free)).unwrap_or(AddressId(255))
    }

    /// A subflow ends at this address of the peer, which has this id for it.
    pub fn note_seen(&mut self, id: AddressId, addr: IpAddr) {
        if self.seen.len() < ADDRESSES_MAX && !self.seen.contains(&(id, addr)) {
            self.seen.push((id, addr));
        }
    }

    /// No subflow ends at the peer's address `id` any more.
    pub fn forget_seen(&mut self, id: AddressId) {
        self.seen.retain(|(known, _)| *known != id);
    }

    /// The peer has repeated an announcement.
    pub fn handle_echo(&mut self, id: AddressId, addr: IpAddr, port: Option<u16>) {
        for known in &mut self.ours {
            known.echoed |= known.id == id && known.addr == addr && known.port == port;
        }
    }

    /// The peer has announced an address, with a good HMAC.
    pub fn handle_announcement(&mut self, id: AddressId, remote: Endpoint) -> News {
        if self.theirs.contains(&(id, remote)) {
            return News::None;
        }
        // RFC 8684 §3.4.1: an id keeps its address until it is removed; another port is a further place to join. Pitfall 24:
        // where the peer itself gives it another address, the removal was lost.
        let moved = self.theirs.iter().any(|(known, end)| *known == id && end.addr != remote.addr);
        if moved {
            self.theirs.retain(|(known, _)| *known != id);
            self.theirs.push((id, remote));
            return News::Moved;
        }
        // What a subflow of that id ends at is that address behind a NAT, and is in use.
        let alias = self.seen.iter().any(|(known, addr)| *known == id && *addr != remote.addr);
        if alias || self.theirs.len() >= ADDRESSES_MAX {
            return News::None;
        }
        self.theirs.push((id, remote));
        News::New
    }

    /// The peer has withdrawn an address. False if we do not know it.
    pub fn handle_removal(&mut self, id: AddressId) -> bool {
        let before = self.theirs.len();
        self.theirs.retain(|(known, _)| *known != id);
        before != self.theirs.len() || self.seen.iter().any(|(known, _)| *known == id)
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
        due.next_at = now + ECHO_TIMEOUT * 2u32.pow(due.sent.saturating_sub(1));
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
        assert_eq!(times, [0, 1000, 2000, 4000, 8000]);

        assert!(addresses.announce(Instant::ZERO, AddressId(1), addr(1), None));
        addresses.handle_echo(AddressId(1), addr(2), None);
        assert!(addresses.poll_timeout().is_some(), "that echoed another address");
        addresses.handle_echo(AddressId(1), addr(1), None);
        assert!(addresses.poll_timeout().is_none());
    }

    #[test]
    fn news_is_told_once_and_another_port_is_another_place() {
        let mut addresses = Addresses::default();
        let at = |last, port| Endpoint::new(addr(last), port);
        assert_eq!(addresses.handle_announcement(AddressId(1), at(1, 80)), News::New);
        assert_eq!(addresses.handle_announcement(AddressId(1), at(1, 80)), News::None);
        assert_eq!(addresses.handle_announcement(AddressId(1), at(1, 81)), News::New);
        assert!(addresses.handle_removal(AddressId(1)) && !addresses.handle_removal(AddressId(1)));
        assert_eq!(addresses.handle_announcement(AddressId(1), at(2, 80)), News::New);
    }

    #[test]
    fn pitfall_24_an_id_with_another_address_is_a_nat_or_a_removal_that_was_lost() {
        let mut addresses = Addresses::default();
        let at = |last| Endpoint::new(addr(last), 80);
        // The peer joined from behind a NAT, and then announces what it takes for its address.
        addresses.note_seen(AddressId(1), addr(100));
        assert_eq!(addresses.handle_announcement(AddressId(1), at(1)), News::None);
        addresses.forget_seen(AddressId(1));
        assert_eq!(addresses.handle_announcement(AddressId(1), at(1)), News::New, "not in use any more");
        // It announced one address, and now another.
        assert_eq!(addresses.handle_announcement(AddressId(1), at(2)), News::Moved);
        assert_eq!(addresses.handle_announcement(AddressId(1), at(2)), News::None);
    }

    #[test]
    fn pitfall_29_whatever_was_told_is_withdrawn_once() {
        let mut addresses = Addresses::default();
        assert!(addresses.announce(Instant::ZERO, AddressId(1), addr(1), None));
        addresses.note_joined(AddressId(2));
        for id in [1, 2] {
            assert!(addresses.withdraw(AddressId(id)) && !addresses.withdraw(AddressId(id)), "{id}");
        }
        assert!(!addresses.withdraw(AddressId(3)), "of which nothing was said");
    }

    #[test]
    fn an_address_that_was_never_announced_gets_an_id_of_its_own() {
        let mut addresses = Addresses::default();
        assert!(addresses.announce(Instant::ZERO, AddressId(1), addr(1), None));
        assert_eq!(addresses.id_of(addr(1)), AddressId(1));
        assert_eq!(addresses.id_of(addr(2)), AddressId(255));
        addresses.note_joined(AddressId(255));
        assert_eq!(addresses.id_of(addr(3)), AddressId(254));
    }

    #[test]
    fn full_tables_ignore_what_is_more() {
        let mut addresses = Addresses::default();
        for n in 0..ADDRESSES_MAX as u8 {
            assert!(addresses.announce(Instant::ZERO, AddressId(n), addr(n), None));
            let news = addresses.handle_announcement(AddressId(n), Endpoint::new(addr(n), 80));
            assert_eq!(news, News::New);
            addresses.note_joined(AddressId(n));
            addresses.note_seen(AddressId(n), addr(n));
        }
        assert!(!addresses.announce(Instant::ZERO, AddressId(200), addr(200), None));
        let news = addresses.handle_announcement(AddressId(200), Endpoint::new(addr(200), 80));
        assert_eq!(news, News::None);
        addresses.note_joined(AddressId(200));
        assert!(!addresses.withdraw(AddressId(200)));
        assert!(addresses.withdraw(AddressId(3)) && !addresses.withdraw(AddressId(3)));
    }
}
