//! Bundles: all connections between this host and another one, coupled as if they were one, so that several are no unfair
//! advantage. Each tells now and then what its paths are, and is told those of the others: it couples its own, which it knows
//! as they are, beside what it knows of those ([`crate::cc::couple()`]).
//!
//! This is control's part, for connections of all workers. It has an entry for each connection that sends, and there are no
//! more of those than workers take.

use crate::base::time::Duration;
use crate::base::{Instant, WorkerId};
use crate::cc::PathSnapshot;
use crate::stack::{Command, ConnectionId, Report};
use std::collections::HashMap;
use std::net::IpAddr;

/// A connection that has told nothing for so long does not send, and takes nothing from the others.
const FRESH: Duration = Duration::from_secs(1);
/// Paths of others that a connection is told of. Those beyond take their share as if they were alone.
const PATHS_MAX: usize = 128;

type Key = (WorkerId, ConnectionId);

#[derive(Debug)]
struct Member {
    key: Key,
    told_at: Instant,
    paths: Vec<PathSnapshot>,
}

/// All bundles.
#[derive(Debug, Default)]
pub struct Bundles {
    peers: HashMap<IpAddr, Vec<Member>>,
    /// The peer of each member.
    peer_of: HashMap<Key, IpAddr>,
}

impl Bundles {
    /// A worker reports. Returns what to tell it.
    pub fn handle_report(&mut self, now: Instant, worker: WorkerId, report: &Report) -> Option<Command> {
        match report {
            Report::Paths { connection, peer, paths } => {
                let others = self.handle_paths(now, (worker, *connection), *peer, paths);
                Some(Command::SetBeside { connection: *connection, paths: others })
            }
            Report::Closed { connection, .. } => {
                self.remove((worker, *connection));
                None
            }
            Report::Established { .. }
            | Report::JoinsAllowed { .. }
            | Report::SubflowEstablished { .. }
            | Report::PriorityChanged { .. }
            | Report::SubflowClosed { .. }
            | Report::AddressAnnounced { .. }
            | Report::AddressWithdrawn { .. }
            | Report::PortStalled { .. }
            | Report::Finished { .. }
            | Report::Described { .. }
            | Report::Counted { .. } => None,
        }
    }

    fn handle_paths(
        &mut self,
        now: Instant,
        key: Key,
        peer: IpAddr,
        paths: &[PathSnapshot],
    ) -> Vec<PathSnapshot> {
        if self.peer_of.get(&key).is_some_and(|known| *known != peer) {
            self.remove(key);
        }
        let members = self.peers.entry(peer).or_default();
        let peer_of = &mut self.peer_of;
        members.retain(|member| {
            let stays = member.key == key || now.since(member.told_at) < FRESH;
            if !stays {
                peer_of.remove(&member.key);
            }
            stays
        });
        match members.iter_mut().find(|member| member.key == key) {
            Some(member) => {
                member.told_at = now;
                member.paths.clear();
                member.paths.extend_from_slice(paths);
            }
            None => {
                peer_of.insert(key, peer);
                members.push(Member { key, told_at: now, paths: paths.to_vec() });
            }
        }
        let others = members.iter().filter(|member| member.key != key);
        others.flat_map(|member| &member.paths).copied().take(PATHS_MAX).collect()
    }

    fn remove(&mut self, key: Key) {
        let Some(peer) = self.peer_of.remove(&key) else { return };
        let Some(members) = self.peers.get_mut(&peer) else { return };
        members.retain(|member| member.key != key);
        if members.is_empty() {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::CloseReason;
    use slotmap::SlotMap;

    const WORKER: WorkerId = WorkerId(0);
    const NOBODY: [u64; 0] = [];

    fn path(window_bytes: u64) -> PathSnapshot {
        PathSnapshot {
            window_bytes,
            segment_bytes: 1000,
            rtt: Duration::from_millis(10),
            since_loss_bytes: 0,
            between_losses_bytes: 0,
        }
    }

    fn names<const N: usize>() -> [ConnectionId; N] {
        let mut names = SlotMap::<ConnectionId, ()>::with_key();
        std::array::from_fn(|_| names.insert(()))
    }

    /// A connection tells of paths with these windows: the windows that it is told of.
    fn tell(bundles: &mut Bundles, ms: u64, connection: ConnectionId, peer: u8, windows: &[u64]) -> Vec<u64> {
        let peer = IpAddr::from([10, 0, 0, peer]);
        let paths = windows.iter().map(|window| path(*window)).collect();
        let report = Report::Paths { connection, peer, paths };
        match bundles.handle_report(Instant::from_millis(ms), WORKER, &report) {
            Some(Command::SetBeside { connection: told, paths }) => {
                assert_eq!(told, connection);
                paths.iter().map(|path| path.window_bytes).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_is_told_of_the_others_of_its_peer_as_they_were_last() {
        let [one, two, elsewhere] = names();
        let mut bundles = Bundles::default();
        assert_eq!(tell(&mut bundles, 0, one, 1, &[1000, 2000]), NOBODY);
        assert_eq!(tell(&mut bundles, 1, elsewhere, 2, &[9000]), NOBODY);
        assert_eq!(tell(&mut bundles, 2, two, 1, &[3000]), [1000, 2000]);
        assert_eq!(tell(&mut bundles, 3, one, 1, &[1500]), [3000]);
        assert_eq!(tell(&mut bundles, 4, two, 1, &[3000]), [1500]);
    }

    #[test]
    fn one_that_ends_or_falls_silent_counts_no_more() {
        let [one, two] = names();
        let mut bundles = Bundles::default();
        tell(&mut bundles, 0, one, 1, &[1000]);
        assert_eq!(tell(&mut bundles, 999, two, 1, &[2000]), [1000]);
        assert_eq!(tell(&mut bundles, 1000, two, 1, &[2000]), NOBODY);
        tell(&mut bundles, 1001, one, 1, &[1000]);
        let closed = Report::Closed { connection: one, reason: CloseReason::Finished };
        assert!(bundles.handle_report(Instant::from_millis(1002), WORKER, &closed).is_none());
        assert_eq!(tell(&mut bundles, 1003, two, 1, &[2000]), NOBODY);
        let closed = Report::Closed { connection: two, reason: CloseReason::Finished };
        bundles.handle_report(Instant::from_millis(1004), WORKER, &closed);
        assert!(bundles.peers.is_empty() && bundles.peer_of.is_empty());
    }

    #[test]
    fn no_more_paths_are_told_than_the_limit_allows() {
        let names: [ConnectionId; 40] = names();
        let mut bundles = Bundles::default();
        for name in names {
            tell(&mut bundles, 0, name, 1, &[1000; 4]);
        }
        assert_eq!(tell(&mut bundles, 1, names[0], 1, &[1000]).len(), PATHS_MAX);
    }
}
