//! What time brings to a connection.

use super::Connection;
use crate::base::time::Duration;
use crate::base::{Instant, PoolCache};
use crate::mptcp::SubflowId;
use crate::mptcp::subflow::{Phase, Subflow};
use crate::tcp::State;
use crate::wire::MptcpOption;
use crate::wire::mptcp::ResetReason;

/// How long a mapping may come later than its bytes, besides a round trip (RFC 8684 §3.3.1: "a short while").
const UNMAPPED_WAIT: Duration = Duration::from_millis(200);
/// The same where a subflow between the same addresses has lost its options before.
const UNMAPPED_WAIT_AGAIN: Duration = Duration::from_millis(20);

impl Connection {
    /// When [`Connection::handle_timeout`] is due.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        if self.closed {
            return self.fast_close_at();
        }
        let failure = self.failure.map(|failure| failure.repeat_at);
        let own = [
            self.data_timer,
            self.orphan_at,
            self.announce_at(),
            failure,
            self.batching.poll_timeout(),
            self.awaited_until(),
        ];
        let mut first = own.into_iter().flatten().min();
        let mut unmapped = false;
        for deadline in self.subflows.deadlines() {
            unmapped |= deadline.unmapped;
            first = first.into_iter().chain(deadline.at).min();
        }
        match unmapped {
            true => {
                self.subflows.iter().filter_map(|subflow| self.unmapped_until(subflow)).chain(first).min()
            }
            false => first,
        }
    }

    fn announce_at(&self) -> Option<Instant> {
        // Only a subflow that lives can carry an announcement, and on plain TCP there is nothing to announce.
        self.addresses.poll_timeout().filter(|_| self.is_multipath() && self.best_subflow().is_some())
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, cache: &mut PoolCache) {
        if self.closed {
            return self.handle_fast_close_timer(now);
        }
        let is_due = |subflow: &&Subflow| {
            subflow.poll_timeout().into_iter().chain(self.unmapped_until(subflow)).any(|at| at <= now)
        };
        let ids: Vec<SubflowId> = self.subflows.iter().filter(is_due).map(|subflow| subflow.id).collect();
        for id in ids {
            let Some(index) = self.index(id) else { continue };
            self.subflows[index].tcb.handle_timeout(now);
            self.handle_subflow_timers(now, index, cache);
            self.drain_events(now, id, None, cache);
        }
        self.batching.handle_timeout(now, self.send.end());
        self.handle_failure_timer(now);
        if self.data_timer.is_some_and(|at| at <= now) {
            self.handle_data_timer(now, cache);
        }
        if self.orphan_at.is_some_and(|at| at <= now) {
            self.orphan_at = self.orphan_longer(now);
            if self.orphan_at.is_none() {
                self.finish(self.orphan_reason(), cache);
            }
        }
        self.send_announcements(now);
    }

    /// Its subflows wait for old duplicates no longer ([`Connection::is_in_time_wait`]).
    pub fn end_time_wait(&mut self, now: Instant, cache: &mut PoolCache) {
        self.subflows.iter_mut().for_each(|subflow| subflow.tcb.end_time_wait());
        self.drain_ended(now, cache);
    }

    fn handle_subflow_timers(&mut self, now: Instant, index: usize, cache: &mut PoolCache) {
        let alone = self.subflows.len() == 1;
        let subflow = &mut self.subflows[index];
        if let Phase::Confirming { repeat_at, repeats } = subflow.phase
            && repeat_at <= now
        {
            if repeats >= self.tcp.syn_retries {
                subflow.reset(now, ResetReason::Unspecified.into());
            } else {
                let wait = subflow.tcb.rto() * 2u32.pow(repeats);
                subflow.phase = Phase::Confirming { repeat_at: now + wait, repeats: repeats + 1 };
                subflow.tcb.request_ack();
            }
        }
        subflow.end_settling(now);
        subflow.handle_signal_timer(now);
        subflow.handle_probe_timer(now);
        subflow.handle_doubt_timer(now);
        if subflow.end_removal(now) {
            // The probe was not answered: the path is gone, as the peer said. The last one stays for TCP to judge.
            if !alone {
                subflow.tcb.abort(now);
            }
        }
        if self.unmapped_until(&self.subflows[index]).is_some_and(|until| until <= now) {
            match self.waits_for_joins(index) && !self.joins_asked_again {
                true => {
                    self.joins_asked_again = true;
                    self.ask_about_joins(index);
                }
                false => self.handle_lost_options(now, index, cache),
            }
        }
    }

    fn send_announcements(&mut self, now: Instant) {
        // After a fall-back a signal would wait for ever, and have its subflow send ACK after ACK in vain.
        let Some(keys) = self.keys().filter(|_| self.is_multipath()) else { return };
        let Some(index) = self.best_subflow() else { return };
        while let Some(announcement) = self.addresses.poll_announcement(now, &keys) {
            self.subflows[index].signal(now, MptcpOption::AddAddr(announcement));
        }
    }

    /// How long bytes without a mapping are held: a mapping that comes late comes within a few segments (RFC 8684 §3.3.1),
    /// of which one may have been lost. Not for as long as our own retransmission time-out: who only receives may never have
    /// measured a round trip, and has one of seconds (RFC 6298 §5.7), while the sender waits for us to say that the subflow
    /// is broken. And not nearly as long where that was so on this path before: there the subflows fail one after the other.
    /// Longer where only the peer knows whether it can fall back: then it is asked once more, and its reset is to be here
    /// first.
    fn unmapped_until(&self, subflow: &Subflow) -> Option<Instant> {
        let (_, since) = subflow.inbound.unmapped()?;
        let again = self.options_lost == Some((subflow.tuple.local.addr, subflow.tuple.remote.addr));
        let wait = match (again, self.index(subflow.id)) {
            (true, _) => UNMAPPED_WAIT_AGAIN,
            (false, Some(index)) if self.joins_asked_again && self.waits_for_joins(index) => {
                UNMAPPED_WAIT * 3 / 2
            }
            (false, _) => UNMAPPED_WAIT,
        };
        (subflow.tcb.state() != State::Closed).then(|| since + subflow.tcb.srtt().unwrap_or_default() + wait)
    }
}
