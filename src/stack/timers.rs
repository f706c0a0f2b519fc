//! Deadlines of connections. A deadline moves with nearly every packet, and nearly always later; so a connection has at
//! most one entry that counts, and one that fires too early is put back at the time that holds by then.

use crate::base::Instant;
use crate::stack::ConnectionId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The deadlines of a worker's connections.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
}

impl Timers {
    /// `connection` has to be looked at, at `deadline` or before. `entry` is where its earliest entry stands; returns
    /// where it stands from now on.
    pub fn schedule(
        &mut self,
        connection: ConnectionId,
        deadline: Option<Instant>,
        entry: Option<Instant>,
    ) -> Option<Instant> {
        let deadline = match deadline {
            Some(deadline) if entry.is_none_or(|entry| deadline < entry) => deadline,
            Some(_) | None => return entry,
        };
        self.heap.push(Reverse((deadline, connection)));
        Some(deadline)
    }

    /// The earliest entry.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry that is due, with its time: the connection may have an earlier one that counts.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, ConnectionId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn only_an_earlier_deadline_makes_an_entry() {
        let mut names = SlotMap::<ConnectionId, ()>::with_key();
        let connection = names.insert(());
        let mut timers = Timers::default();
        let at = Instant::from_millis;
        let mut entry = timers.schedule(connection, Some(at(10)), None);
        entry = timers.schedule(connection, Some(at(20)), entry);
        assert_eq!((entry, timers.heap.len()), (Some(at(10)), 1));
        entry = timers.schedule(connection, Some(at(5)), entry);
        assert_eq!((entry, timers.heap.len()), (Some(at(5)), 2));
        assert_eq!(timers.pop(at(4)), None);
        assert_eq!(timers.pop(at(5)), Some((at(5), connection)));
        assert_eq!(timers.next(), Some(at(10)));
    }
}
