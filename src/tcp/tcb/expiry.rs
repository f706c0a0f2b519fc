//! What time brings: losses that time alone shows (RFC 8985), retransmission (RFC 6298 §5), window probes, delayed
//! acknowledgments, the end of TIME-WAIT.

use super::Tcb;
use crate::base::Instant;
use crate::cc::Controller;
use crate::tcp::timer::Timer;
use crate::tcp::{CloseReason, State, TcpEvent};

impl Tcb {
    /// The next deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Time has come to `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Reordering => self.on_reordering_timeout(now),
                Timer::LossProbe => self.on_probe_timeout(now),
                Timer::NewData => self.on_new_data_timeout(),
                Timer::Retransmit => self.on_retransmission_timeout(now),
                Timer::Persist => self.on_persist_timeout(),
                Timer::DelayedAck => self.acks.immediately(),
                Timer::TimeWait => self.finish(CloseReason::Finished),
                Timer::KeepAlive => self.on_keep_alive_timeout(now),
                Timer::UserTimeout => self.finish(CloseReason::TimedOut),
                // What it held back is asked for now.
                Timer::Pacing => {}
            }
        }
    }

    /// RFC 8985 §6.2 step 5: what was late enough is lost now.
    fn on_reordering_timeout(&mut self, now: Instant) {
        let before = self.outstanding();
        let losses = self.detect_losses(now);
        if self.answer_losses(now, losses, false, before) {
            self.update_prr(0, false);
        }
        if self.send.flight() > 0 {
            // RFC 8985 §8: this timer stood for the other one.
            self.put_off_retransmission(now);
        }
    }

    /// RFC 8985 §7.3: an acknowledgment is overdue.
    fn on_probe_timeout(&mut self, now: Instant) {
        if self.send.flight() > 0 {
            self.probe.expire();
            self.put_off_retransmission(now);
        }
    }

    /// A retransmission time-out comes a whole interval after whatever has just been done.
    fn put_off_retransmission(&mut self, now: Instant) {
        let at = now + self.rtt.rto();
        let before = self.timers.deadline(Timer::Retransmit).unwrap_or(at);
        self.timers.set(Timer::Retransmit, at.max(before));
    }

    /// RFC 5682 §2.1 step 2b: without new data F-RTO can tell nothing, and what was lost is sent again.
    fn on_new_data_timeout(&mut self) {
        self.frto.on_turn_over(self.send.nxt());
    }

    fn on_retransmission_timeout(&mut self, now: Instant) {
        self.timeouts += 1;
        self.counters.timeouts += 1;
        let is_handshake = matches!(self.state, State::SynSent | State::SynReceived);
        let retries = if is_handshake { self.config.syn_retries } else { self.config.retries };
        // RFC 5482 §4.2: a user timeout replaces the count, but for the handshake's.
        let counts = is_handshake || self.config.user_timeout.is_none();
        if counts && self.timeouts > retries {
            self.finish(CloseReason::TimedOut);
            return;
        }
        if is_handshake {
            self.handshake.send_again();
        } else {
            self.begin_timeout_recovery(now);
            let first = self.send.first_len() + self.agreed.options_len();
            let change = self.path_mtu.on_timeout(self.timeouts, first, self.mss);
            change.into_iter().for_each(|mss| self.set_mss(mss));
        }
        // RFC 6298 §5.5, §5.6.
        self.rtt.back_off();
        self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        self.events.push(TcpEvent::RetransmissionTimeout);
    }

    /// Whether RACK or TLP should have dealt with what the retransmission timer is about to: something is known to be late
    /// enough, or nothing is known and nobody has asked.
    fn is_timeout_avoidable(&self, now: Instant) -> bool {
        let (held, _) = self.send.sacked();
        let nothing_missing = self.recovery.is_open() && held == 0 && !self.send.is_repairing();
        // A probe that is due and has not left yet waits for the NIC.
        let unasked = nothing_missing && self.probe.is_allowed() && !self.probe.is_due();
        self.agreed.sack && (unasked || self.send.has_late(now, &self.rack))
    }

    fn begin_timeout_recovery(&mut self, now: Instant) {
        debug_assert!(
            !self.is_timeout_avoidable(now),
            "a time-out that RACK-TLP could have avoided: {:?}, {:?}",
            self.info(),
            self.timers
        );
        let una = self.send.una();
        let again = self.timeouts > 1;
        // RFC 5682 §2.1 step 1: not if a recovery was under way, unless it is a time-out of the same segment.
        let is_fresh = !self.recovery.is_repairing() && self.recovery.is_past(una);
        self.frto.on_timeout(is_fresh || (again && self.frto.holds_back()), self.send.nxt());
        let flight = self.loss_flight(now, self.outstanding());
        self.congestion.on_rto(now, flight, again);
        if !again {
            self.undo.begin(una);
        }
        self.recovery.on_timeout(self.send.nxt());
        self.prr.stop();
        self.probe.reset();
        self.ecn.on_reduced();
        self.timers.stop(Timer::Reordering);
        self.timers.stop(Timer::LossProbe);
        // RFC 8985 §6.3; without SACK, RFC 6582 §3.2: all that is outstanding.
        let lost_before = self.agreed.sack.then(|| self.rack.lost_before(now));
        let losses = self.send.mark_lost_by_timeout(lost_before);
        self.tell_of_losses(now, &losses);
    }

    fn on_persist_timeout(&mut self) {
        self.persist.rounds += 1;
        if self.usable_window() > 0 {
            // RFC 9293 §3.8.6.2.1 (the override time-out): small is better than never.
            self.persist.cut = true;
            return;
        }
        self.persist.unanswered += 1;
        if self.persist.unanswered > self.config.retries && self.config.user_timeout.is_none() {
            self.finish(CloseReason::TimedOut);
            return;
        }
        self.persist.probe_due = true;
        self.update_persist();
    }
}
