//! What time brings: retransmission (RFC 6298 §5), window probes, delayed acknowledgments, the end of TIME-WAIT.

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
                Timer::Retransmit => self.on_retransmission_timeout(now),
                Timer::Persist => self.on_persist_timeout(),
                Timer::DelayedAck => self.acks.immediately(),
                Timer::TimeWait => self.finish(CloseReason::Finished),
                Timer::KeepAlive => self.on_keep_alive_timeout(now),
                Timer::UserTimeout => self.finish(CloseReason::TimedOut),
            }
        }
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
            let flight = u64::from(self.send.flight());
            self.congestion.on_rto(now, flight, self.timeouts > 1);
            self.recovery.on_timeout(self.send.nxt());
            self.send.mark_all_lost();
        }
        // RFC 6298 §5.5, §5.6.
        self.rtt.back_off();
        self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        self.events.push(TcpEvent::RetransmissionTimeout);
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
