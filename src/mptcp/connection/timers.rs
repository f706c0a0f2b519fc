//! What time brings to a connection.

use super::Connection;
use crate::base::{Instant, PoolCache};
use crate::mptcp::SubflowId;
use crate::mptcp::subflow::{Phase, Subflow};
use crate::tcp::CloseReason;
use crate::wire::MptcpOption;
use crate::wire::mptcp::ResetReason;

impl Connection {
    /// When [`Connection::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let subflows = self.subflows.iter().flat_map(|subflow| {
            let repeat = match subflow.phase {
                Phase::Confirming { repeat_at, .. } => Some(repeat_at),
                Phase::Handshake | Phase::Ready => None,
            };
            [subflow.tcb.poll_timeout(), repeat, subflow.removal_at()]
        });
        let own = [self.data_timer, self.orphan_at, self.announce_at()];
        subflows.chain(own).flatten().min()
    }

    fn announce_at(&self) -> Option<Instant> {
        // Only a subflow that lives can carry an announcement.
        self.best_subflow()?;
        self.addresses.poll_timeout()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, cache: &mut PoolCache) {
        let ids: Vec<SubflowId> = self.due_subflows(now);
        for id in ids {
            let Some(index) = self.index(id) else { continue };
            self.subflows[index].tcb.handle_timeout(now);
            self.handle_subflow_timers(now, index);
            self.drain_events(now, id, None, cache);
        }
        if self.data_timer.is_some_and(|at| at <= now) {
            self.handle_data_timer(now);
        }
        if self.orphan_at.is_some_and(|at| at <= now) {
            self.orphan_at = None;
            self.finish(CloseReason::TimedOut, cache);
        }
        self.send_announcements(now);
    }

    fn due_subflows(&self, now: Instant) -> Vec<SubflowId> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let is_due = |s: &&Subflow| {
            due(s.tcb.poll_timeout())
                || due(s.removal_at())
                || matches!(s.phase, Phase::Confirming { repeat_at, .. } if repeat_at <= now)
        };
        self.subflows.iter().filter(is_due).map(|s| s.id).collect()
    }

    fn handle_subflow_timers(&mut self, now: Instant, index: usize) {
        let alone = self.subflows.len() == 1;
        let subflow = &mut self.subflows[index];
        if let Phase::Confirming { repeat_at, repeats } = subflow.phase
            && repeat_at <= now
        {
            if repeats >= self.tcp.syn_retries {
                subflow.reset_reason = ResetReason::Unspecified;
                subflow.tcb.abort(now);
            } else {
                let wait = subflow.tcb.rto() * 2u32.pow(repeats);
                subflow.phase = Phase::Confirming { repeat_at: now + wait, repeats: repeats + 1 };
                subflow.tcb.request_ack();
            }
        }
        if subflow.end_removal(now) {
            // The probe was not answered: the path is gone, as the peer said. The last one stays for TCP to judge.
            if !alone {
                subflow.tcb.abort(now);
            }
        }
    }

    fn send_announcements(&mut self, now: Instant) {
        let Some(keys) = self.keys() else { return };
        let Some(index) = self.best_subflow() else { return };
        while let Some(announcement) = self.addresses.poll_announcement(now, &keys) {
            self.subflows[index].signal(MptcpOption::AddAddr(announcement));
        }
    }
}
