//! Signals that wait to be sent on a subflow: options that belong to no particular segment (RFC 8684 §3: ADD_ADDR,
//! REMOVE_ADDR, MP_PRIO). Each goes out on an ACK of its own, for want of room beside anything else.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::wire::MptcpOption;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Signals that wait at most. Beyond it the newest is dropped: announcements are repeated until they are echoed, and
/// nobody who floods us is owed an echo for each.
const SIGNALS_MAX: usize = 64;
/// RFC 8684 §3: no more than two duplicate ACKs in a row for the sake of options alone, lest a middlebox take them for
/// congestion.
const IN_A_ROW_MAX: u8 = 2;

/// The signals of one subflow.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SignalQueue {
    queue: VecDeque<MptcpOption>,
    /// Segments in a row that were sent for a signal alone.
    in_a_row: u8,
    resume_at: Option<Instant>,
}

impl SignalQueue {
    /// Adds a signal. What it says again or instead of one that waits takes that one's place.
    pub fn push(&mut self, signal: MptcpOption) {
        match (&signal, self.queue.back_mut()) {
            (MptcpOption::RemoveAddr(more), Some(MptcpOption::RemoveAddr(removal)))
                if removal.address_ids.len() + more.address_ids.len() <= REMOVALS_MAX =>
            {
                removal.address_ids.extend(more.address_ids.iter().copied());
                return;
            }
            (MptcpOption::Prio(new), Some(MptcpOption::Prio(old))) => {
                *old = *new;
                return;
            }
            _ => {}
        }
        if self.queue.len() < SIGNALS_MAX && !self.queue.contains(&signal) {
            self.queue.push_back(signal);
        }
    }

    /// Whether one may be sent now.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.queue.is_empty() && self.resume_at.is_none_or(|at| at <= now)
    }

    /// The next one, if it may be sent now.
    pub fn front(&self, now: Instant) -> Option<&MptcpOption> {
        self.queue.front().filter(|_| self.is_due(now))
    }

    /// The first one was sent, on a segment without payload. After two of them the others wait a round trip.
    pub fn on_sent(&mut self, now: Instant, round_trip: Duration) {
        self.queue.pop_front();
        self.in_a_row += 1;
        self.resume_at = None;
        if self.in_a_row >= IN_A_ROW_MAX {
            self.in_a_row = 0;
            self.resume_at = Some(now + round_trip);
        }
    }

    /// A segment with payload was sent: the row is broken.
    pub fn on_data_sent(&mut self) {
        self.in_a_row = 0;
        self.resume_at = None;
    }

    /// When the next one may be sent, if it has to wait.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.resume_at.filter(|_| !self.queue.is_empty())
    }

    /// Takes what is about the connection and would be lost with the subflow: the announcements of addresses are repeated,
    /// their removal is not.
    pub fn take_removals(&mut self) -> Option<MptcpOption> {
        let place = self.queue.iter().position(|signal| matches!(signal, MptcpOption::RemoveAddr(_)))?;
        self.queue.remove(place)
    }

    /// Nothing is to be said any more.
    pub fn clear(&mut self) {
        self.queue.clear();
    }
}

/// Addresses that one REMOVE_ADDR of ours withdraws: no more than fit beside the timestamps.
const REMOVALS_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mptcp::{AddAddr, AddressId, MpPrio, RemoveAddr};

    fn echo(id: u8) -> MptcpOption {
        MptcpOption::AddAddr(AddAddr::Echo {
            address_id: AddressId(id),
            addr: [10, 0, 0, id].into(),
            port: None,
        })
    }

    fn removal(ids: &[u8]) -> MptcpOption {
        MptcpOption::RemoveAddr(RemoveAddr { address_ids: ids.iter().copied().map(AddressId).collect() })
    }

    #[test]
    fn two_in_a_row_and_then_a_round_trip_or_data() {
        let round_trip = Duration::from_millis(10);
        let mut signals = SignalQueue::default();
        (1..=6).for_each(|id| signals.push(echo(id)));
        let now = Instant::from_millis(5);
        for _ in 0..2 {
            assert!(signals.is_due(now));
            signals.on_sent(now, round_trip);
        }
        assert!(!signals.is_due(now) && signals.front(now).is_none());
        assert_eq!(signals.poll_timeout(), Some(now + round_trip));
        signals.on_data_sent();
        assert_eq!(signals.front(now), Some(&echo(3)));
        signals.on_sent(now, round_trip);
        signals.on_sent(now, round_trip);
        assert!(!signals.is_due(now) && signals.is_due(now + round_trip));
    }

    #[test]
    fn removals_become_a_list_and_the_last_priority_counts() {
        let mut signals = SignalQueue::default();
        [&[1][..], &[2, 3], &[4]].into_iter().for_each(|ids| signals.push(removal(ids)));
        assert_eq!(signals.front(Instant::ZERO), Some(&removal(&[1, 2, 3, 4])));
        signals.clear();
        [true, false].into_iter().for_each(|backup| signals.push(MptcpOption::Prio(MpPrio { backup })));
        assert_eq!(signals.queue, [MptcpOption::Prio(MpPrio { backup: false })]);
    }

    #[test]
    fn a_flood_fills_the_queue_and_no_more() {
        let mut signals = SignalQueue::default();
        (0..=255).cycle().take(1000).for_each(|id| signals.push(echo(id)));
        assert_eq!(signals.queue.len(), SIGNALS_MAX);
    }
}
