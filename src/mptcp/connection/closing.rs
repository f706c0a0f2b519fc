//! The end: DATA_FIN (RFC 8684 §3.3.3), subflows that end, the connection's own timer, and abortion (§3.5).

use super::inspect::figures;
use super::{Connection, ConnectionEvent, HISTORY_MAX, Mode, ORPHAN_RESET_TIMEOUT, ORPHAN_TIMEOUT, SendSide};
use crate::base::time::Duration;
use crate::base::{Instant, PoolCache};
use crate::mptcp::SubflowId;
use crate::tcp::CloseReason;

/// The shortest wait of the connection's own timer.
const DATA_TIMEOUT_MIN: Duration = Duration::from_millis(400);
/// The longest.
const DATA_TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl Connection {
    /// The application writes no more.
    pub fn close_send(&mut self) {
        if self.send_side == SendSide::Open {
            self.send_side = SendSide::Closing;
        }
    }

    /// Ends the connection at once: the peer gets a reset on every subflow, with MP_FASTCLOSE where it is MPTCP.
    pub fn abort(&mut self, now: Instant, reason: CloseReason, cache: &mut PoolCache) {
        if self.closed {
            return;
        }
        self.fast_close = true;
        for subflow in &mut self.subflows {
            subflow.tcb.abort(now);
        }
        self.finish(reason, cache);
    }

    /// The connection is over; subflows that still owe a reset stay until it is sent.
    pub(super) fn finish(&mut self, reason: CloseReason, cache: &mut PoolCache) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.send.clear(cache);
        (self.data_timer, self.orphan_at) = (None, None);
        let dead = reason != CloseReason::Finished;
        if dead {
            for subflow in &mut self.subflows {
                subflow.unmapped.drain(..).for_each(|(_, chunk)| cache.free_chunk(chunk));
            }
        }
        for subflow in &self.subflows {
            self.events.push_back(ConnectionEvent::SubflowClosed {
                id: subflow.id,
                tuple: subflow.tuple,
                reason,
                established: subflow.established,
            });
        }
        self.events.push_back(ConnectionEvent::Closed(reason));
    }

    /// Whether segments (resets) are still to be sent after the end.
    pub fn has_last_words(&self, now: Instant) -> bool {
        self.subflows.iter().any(|subflow| subflow.tcb.has_to_send(now))
    }

    /// Frees all frames; the connection is dropped next.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.subflows.iter_mut().for_each(|subflow| subflow.release(cache));
        self.send.clear(cache);
        self.receive.clear(cache);
    }

    /// A subflow is over.
    pub(super) fn end_subflow(
        &mut self,
        now: Instant,
        id: SubflowId,
        reason: CloseReason,
        cache: &mut PoolCache,
    ) {
        let Some(index) = self.index(id) else { return };
        if self.closed {
            return;
        }
        self.deliver(now, id, cache);
        if !self.is_multipath() {
            // Plain TCP, or a first handshake that failed: the subflow was the connection.
            return self.finish(reason, cache);
        }
        let mut subflow = self.subflows.remove(index);
        subflow.release(cache);
        if self.history.len() < HISTORY_MAX && subflow.established {
            self.history.push(figures(&subflow, false));
        }
        self.events.push_back(ConnectionEvent::SubflowClosed {
            id,
            tuple: subflow.tuple,
            reason,
            established: subflow.established,
        });
        self.send.reinject_from(id);
        if !self.subflows.is_empty() {
            return;
        }
        if self.send_side == SendSide::Finished && self.receive.is_finished() {
            return self.finish(CloseReason::Finished, cache);
        }
        // Pitfall 49: break before make. A peer that resets or refuses is most likely gone. A join that fails gives
        // the connection no more time than it had.
        let gone = matches!(reason, CloseReason::Reset | CloseReason::Refused);
        let patience = if gone { ORPHAN_RESET_TIMEOUT } else { ORPHAN_TIMEOUT };
        let end = now + patience;
        self.orphan_at = Some(self.orphan_at.map_or(end, |at| at.min(end)));
    }

    /// Data has arrived, or was acknowledged: what of the end follows.
    pub(super) fn advance_close(&mut self, now: Instant) {
        match self.mode {
            Mode::Offering | Mode::Answering => {}
            Mode::Plain(_) => {
                if self.send_side == SendSide::FinSent && self.subflows.iter().all(|s| s.tcb.is_fin_acked()) {
                    self.send_side = SendSide::Finished;
                }
            }
            Mode::Multipath { .. } => {
                if self.receive.consume_fin() {
                    // The DATA_ACK of the DATA_FIN leaves at once.
                    self.acknowledge_now();
                }
                if self.send_side == SendSide::Finished && self.receive.is_finished() {
                    // RFC 8684 §3.3.3: once both DATA_FINs are acknowledged all subflows are closed.
                    self.subflows.iter_mut().for_each(|subflow| subflow.tcb.close(now));
                }
            }
        }
    }

    /// Starts the connection's timer unless it runs.
    pub(super) fn arm_data_timer(&mut self, now: Instant) {
        if self.data_timer.is_none() {
            self.data_timer = Some(now + self.data_timeout());
        }
    }

    /// Restarts it after progress, or stops it when there is nothing to wait for.
    pub(super) fn rearm_data_timer(&mut self, now: Instant) {
        let waiting = !self.send.is_empty() || self.send_side == SendSide::FinSent;
        self.data_timer = waiting.then(|| now + self.data_timeout());
    }

    fn data_timeout(&self) -> Duration {
        let slowest = self.subflows.iter().map(|subflow| subflow.tcb.rto()).max().unwrap_or(DATA_TIMEOUT_MIN);
        (slowest * 2 * 2u32.pow(self.data_backoff.min(10))).clamp(DATA_TIMEOUT_MIN, DATA_TIMEOUT_MAX)
    }

    pub(super) fn handle_data_timer(&mut self, now: Instant) {
        self.data_timer = None;
        if !self.is_multipath() || (self.send.is_empty() && self.send_side != SendSide::FinSent) {
            return;
        }
        self.data_backoff += 1;
        self.arm_data_timer(now);
        if self.send_side == SendSide::FinSent {
            // Pitfall 40: the DATA_FIN is repeated until it is acknowledged; on any subflow.
            let turn = self.data_backoff as usize;
            let able: Vec<usize> =
                (0..self.subflows.len()).filter(|index| self.subflows[*index].can_signal()).collect();
            if let Some(index) = able.get(turn % able.len().max(1)) {
                self.subflows[*index].tcb.request_ack();
            }
        }
        let outstanding = self.send.una().before(self.send.next());
        if outstanding && self.subflows.iter().all(|subflow| subflow.tcb.in_flight() == 0) {
            // RFC 8684 §3.3.2: the peer may drop data behind a subflow's ACK; only DATA_ACK proves that it has it.
            self.send.reinject_oldest();
        }
        let closed_window = self.send.has_unsent() && self.send_edge.at_or_before(self.send.next());
        if closed_window && let Some(index) = self.best_subflow() {
            // RFC 9293 §3.8.6.1, at the connection's level: one window, one probe.
            self.subflows[index].tcb.probe(now);
        }
    }
}
