//! Leaving packets: connections that may have something to send take turns, and those that have nothing more come to rest.

use super::{Report, Stack, TURN_PACKETS};
use crate::base::{Instant, PoolCache, PortId, TxFrame};
use crate::mptcp::Transmit;
use crate::stack::message::ConnectionId;

impl Stack {
    /// `id` may have something to send. Once is enough, however often it is woken while its NICs take nothing.
    pub(super) fn let_send(&mut self, id: ConnectionId) {
        if let Some(slot) = self.connections.get_mut(id)
            && !std::mem::replace(&mut slot.sending, true)
        {
            self.senders.push_back(id);
        }
    }

    /// Whether applications have been woken whose answers are waited for: it is their turn.
    pub fn awaits_answers(&self) -> bool {
        !self.answering.is_empty()
    }

    /// Applications that have not answered in time need not: what waited for them leaves.
    pub(super) fn end_waits_for_answers(&mut self, now: Instant) {
        while let Some((until, id)) = self.answering.front().copied()
            && until <= now
        {
            self.answering.pop_front();
            self.let_send(id);
        }
    }

    /// The next packet to send, or the next part of one ([`TxFrame::more`]): the caller goes on until it has all of it. `rooms`
    /// says how many frames each port takes; the caller counts down.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        rooms: &[usize],
        cache: &mut PoolCache,
    ) -> Option<(PortId, TxFrame)> {
        if let Some(tail) = self.emitter.take_tail() {
            return Some(tail);
        }
        if let Some((port, _)) = self.strays.front()
            && rooms.get(port.index()).is_some_and(|room| *room > 0)
        {
            return self.strays.pop_front();
        }
        for _ in 0..self.senders.len() {
            let id = *self.senders.front()?;
            let Some(slot) = self.connections.get_mut(id) else {
                self.senders.pop_front();
                continue;
            };
            if let Some(until) = slot.answer_until
                && slot.awaits_answer(now)
            {
                slot.sending = false;
                self.senders.pop_front();
                if self.answering.back().is_none_or(|entry| *entry != (until, id)) {
                    self.answering.push_back((until, id));
                }
                continue;
            }
            match slot.connection.poll_transmit(now, rooms, &mut self.emitter, cache) {
                Transmit::Packet(port, packet) => {
                    self.counters.sent += 1;
                    slot.burst += 1;
                    if slot.burst >= TURN_PACKETS {
                        slot.burst = 0;
                        self.senders.rotate_left(1);
                    }
                    return Some((port, packet));
                }
                Transmit::Blocked => {
                    slot.burst = 0;
                    self.senders.rotate_left(1);
                }
                Transmit::Idle => {
                    slot.burst = 0;
                    slot.sending = false;
                    self.senders.pop_front();
                    // A reset that was sent ends its subflow.
                    self.drain_events(now, id, cache);
                    self.rest(now, id, cache);
                }
            }
        }
        None
    }

    /// A connection has nothing more to send for now: its timers, and its end if it is over.
    pub(super) fn rest(&mut self, now: Instant, id: ConnectionId, cache: &mut PoolCache) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.is_retirable(now) {
            return self.retire(now, id, cache);
        }
        slot.begin_idling(now);
        let sleeps = slot.is_left_waiting(now);
        let look_at = if sleeps { slot.poll_timeout() } else { slot.look_at() };
        slot.timer = self.timers.schedule(id, look_at, slot.timer);
        if !slot.waits && slot.connection.is_in_time_wait() {
            slot.waits = true;
            self.reports.push_back(Report::Finished { connection: id });
            self.begin_waiting(now, id, cache);
        }
        if sleeps {
            // What it consists of is in the processor's caches now, and will not be when its second is over.
            self.connections.put_to_sleep(id);
        }
    }
}
