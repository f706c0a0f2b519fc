//! Connections that only wait for old duplicates. Each holds a place in the table, and a port, for a minute: a few hundred short
//! connections a second would fill it, with nobody there. So at most half of the table waits, and where there is no room for a new
//! connection, none does: the one that has waited longest gives way, as in other stacks whose table of such connections is full.
//! Old duplicates are then told from new segments by sequence numbers and timestamps alone (RFC 7323 §5), as after a restart of the
//! host.

use super::Stack;
use crate::base::{Instant, PoolCache};
use crate::stack::message::ConnectionId;
use std::collections::VecDeque;

/// The connections in TIME-WAIT, in the order in which they came there: that in which they end.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<ConnectionId>,
}

impl Stack {
    /// `id` only waits from now on.
    pub(super) fn begin_waiting(&mut self, now: Instant, id: ConnectionId, cache: &mut PoolCache) {
        while self.waiting.queue.front().is_some_and(|first| !self.connections.contains(*first)) {
            self.waiting.queue.pop_front();
        }
        self.waiting.queue.push_back(id);
        if self.waiting.queue.len() > self.config.max_connections.div_ceil(2) {
            self.cut_longest_wait(now, cache);
        }
    }

    /// The connection that has waited longest waits no longer. False when there is none.
    fn cut_longest_wait(&mut self, now: Instant, cache: &mut PoolCache) -> bool {
        let Some(id) = self.waiting.queue.pop_front() else { return false };
        if let Some(slot) = self.connections.get_mut(id) {
            slot.connection.end_time_wait(now, cache);
            self.counters.cut_time_waits += 1;
            self.drain_events(now, id, cache);
            self.rest(now, id, cache);
        }
        true
    }

    /// Whether there is room for one more connection, made if need be.
    pub(super) fn has_room(&mut self, now: Instant, cache: &mut PoolCache) -> bool {
        while self.connections.count() >= self.config.max_connections {
            if !self.cut_longest_wait(now, cache) {
                return false;
            }
        }
        true
    }
}
