//! Joins of peers whose handshakes are not over: how many there are, and from where.
//!
//! RFC 8684 §3.2 takes the 32 bits of the token for protection enough against those who don't know it. A peer that has a
//! connection knows its token; and there are many connections.

use crate::wire::FourTuple;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Half-open joins from one address. Many hosts may be behind it, but a join is half open for a round trip only.
pub(super) const PER_SOURCE_MAX: usize = 64;
/// Half-open joins altogether.
pub(super) const ALL_MAX: usize = 4096;

/// The half-open joins of a worker. What finds no room is refused, and may be tried again.
#[derive(Debug, Default)]
pub(super) struct HalfOpenJoins {
    pending: HashSet<FourTuple>,
    by_source: HashMap<IpAddr, usize>,
}

impl HalfOpenJoins {
    /// Whether one more may come from `source`.
    pub(super) fn has_room(&self, source: IpAddr) -> bool {
        self.pending.len() < ALL_MAX
            && self.by_source.get(&source).is_none_or(|count| *count < PER_SOURCE_MAX)
    }

    /// A join begins.
    pub(super) fn begin(&mut self, tuple: FourTuple) {
        if self.pending.insert(tuple) {
            *self.by_source.entry(tuple.remote.addr).or_default() += 1;
        }
    }

    /// A subflow is established or gone; nothing happens if it was no half-open join.
    pub(super) fn end(&mut self, tuple: &FourTuple) {
        if !self.pending.remove(tuple) {
            return;
        }
        if let Some(count) = self.by_source.get_mut(&tuple.remote.addr) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&tuple.remote.addr);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Endpoint;

    fn tuple(host: u8, port: usize) -> FourTuple {
        FourTuple {
            local: Endpoint::new([10, 0, 0, 1].into(), 80),
            remote: Endpoint::new([10, 1, host, (port >> 12) as u8].into(), 1 + (port & 0xfff) as u16),
        }
    }

    #[test]
    fn each_source_has_its_share_and_all_have_a_limit() {
        let mut joins = HalfOpenJoins::default();
        (0..PER_SOURCE_MAX).for_each(|port| joins.begin(tuple(1, port)));
        assert!(!joins.has_room(tuple(1, 0).remote.addr) && joins.has_room(tuple(2, 0).remote.addr));
        joins.begin(tuple(1, 0));
        joins.end(&tuple(1, 0));
        joins.end(&tuple(1, 0));
        assert!(joins.has_room(tuple(1, 0).remote.addr), "it counts once, however often it begins or ends");
        for host in 2..2 + (ALL_MAX / PER_SOURCE_MAX) as u8 {
            (0..PER_SOURCE_MAX).for_each(|port| joins.begin(tuple(host, port)));
        }
        assert!(!joins.has_room(tuple(200, 0).remote.addr));
        let all: Vec<FourTuple> = joins.pending.iter().copied().collect();
        all.iter().for_each(|tuple| joins.end(tuple));
        assert!(joins.by_source.is_empty());
    }
}
