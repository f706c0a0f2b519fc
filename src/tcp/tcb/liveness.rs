//! How long a silent peer is borne with: keep-alive (RFC 9293 §3.8.4), and the user timeout (RFC 5482, the local part).

use super::Tcb;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::tcp::keep_alive::{KeepAlive, Verdict};
use crate::tcp::timer::Timer;
use crate::tcp::{CloseReason, State};

impl Tcb {
    /// Changes how long a silent peer is borne with.
    pub fn tune(&mut self, now: Instant, keep_alive: Option<KeepAlive>, user_timeout: Option<Duration>) {
        self.now = now;
        if self.config.keep_alive != keep_alive {
            self.config.keep_alive = keep_alive;
            self.start_keep_alive();
        }
        if self.config.user_timeout != user_timeout {
            self.config.user_timeout = user_timeout;
            self.timers.stop(Timer::UserTimeout);
            self.update_user_timeout();
        }
    }

    /// The handshake is complete, or the settings have changed.
    pub(super) fn start_keep_alive(&mut self) {
        let look_at = self.keeper.set(self.config.keep_alive, self.heard_at);
        match look_at.filter(|_| self.can_be_kept_alive()) {
            Some(at) => self.timers.set(Timer::KeepAlive, at),
            None => self.timers.stop(Timer::KeepAlive),
        }
    }

    fn can_be_kept_alive(&self) -> bool {
        use State::*;
        matches!(self.state, Established | CloseWait | FinWait1 | FinWait2)
    }

    /// An acceptable segment has arrived.
    pub(super) fn on_heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.keeper.on_heard();
    }

    pub(super) fn on_keep_alive_timeout(&mut self, now: Instant) {
        if !self.can_be_kept_alive() {
            return;
        }
        let Some(KeepAlive { idle, .. }) = self.config.keep_alive else { return };
        // RFC 9293 §3.8.4: only when no data is outstanding. What is on its way has its own timers.
        if self.send.flight() > 0 || self.send.unsent() > 0 {
            self.timers.set(Timer::KeepAlive, now + idle);
            return;
        }
        match self.keeper.expire(now, self.heard_at, self.config.user_timeout) {
            Some(Verdict::Wait(at)) => self.timers.set(Timer::KeepAlive, at),
            Some(Verdict::Ask(next)) => {
                self.persist.probe_due = true;
                self.timers.set(Timer::KeepAlive, next);
            }
            Some(Verdict::Dead) => self.finish(CloseReason::TimedOut),
            None => {}
        }
    }

    /// Runs the user timeout while something waits for the peer: to be acknowledged, or to be let go by its window.
    pub(super) fn update_user_timeout(&mut self) {
        let handshaking = matches!(self.state, State::SynSent | State::SynReceived);
        let waits = self.timers.is_running(Timer::Persist)
            || if handshaking { self.timers.is_running(Timer::Retransmit) } else { self.send.flight() > 0 };
        match self.config.user_timeout {
            Some(timeout) if waits && self.state != State::Closed => {
                if !self.timers.is_running(Timer::UserTimeout) {
                    self.timers.set(Timer::UserTimeout, self.now + timeout);
                }
            }
            Some(_) | None => self.timers.stop(Timer::UserTimeout),
        }
    }
}
