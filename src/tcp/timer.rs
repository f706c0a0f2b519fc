//! The timers of a connection: a table of deadlines.

use crate::base::Instant;
use serde::{Deserialize, Serialize};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// RFC 8985 §6.2 step 5: something is missing that may yet come.
    Reordering,
    /// RFC 8985 §7.2: an acknowledgment is overdue.
    LossProbe,
    /// RFC 5682 §2.1 step 2b: the connection's owner has had its chance to send something new.
    NewData,
    /// RFC 6298: something sent is not acknowledged (a SYN, too).
    Retransmit,
    /// RFC 9293 §3.8.6.1: the peer's window holds back what we have to send.
    Persist,
    /// RFC 9293 §3.8.6.3: an ACK is owed.
    DelayedAck,
    /// RFC 9293 §3.6.1: 2 MSL.
    TimeWait,
    /// The next burst may leave.
    Pacing,
    /// RFC 9293 §3.8.4: the peer has been silent for long.
    KeepAlive,
    /// RFC 5482: the peer has not acknowledged anything for as long as the application bears it.
    UserTimeout,
}

impl Timer {
    const COUNT: usize = 10;
    /// All, in the order in which they are handled when they expire together. RFC 8985 §8: what RACK and TLP wait for
    /// comes before the retransmission time-out, and puts it off.
    const ALL: [Timer; Timer::COUNT] = [
        Timer::UserTimeout,
        Timer::Reordering,
        Timer::LossProbe,
        Timer::NewData,
        Timer::Retransmit,
        Timer::Persist,
        Timer::DelayedAck,
        Timer::TimeWait,
        Timer::Pacing,
        Timer::KeepAlive,
    ];
}

/// The deadlines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Timers {
    deadlines: [Option<Instant>; Timer::COUNT],
}

impl Timers {
    /// Starts or restarts a timer.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = Some(at);
    }

    /// Stops a timer.
    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    /// Stops all.
    pub(super) fn stop_all(&mut self) {
        self.deadlines = Default::default();
    }

    /// When a timer expires, if it runs.
    pub(super) fn deadline(&self, timer: Timer) -> Option<Instant> {
        self.deadlines[timer as usize]
    }

    /// Whether a timer runs.
    pub(super) fn is_running(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes a timer whose deadline has come.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL
            .into_iter()
            .find(|timer| self.deadlines[*timer as usize].is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deadline_expires_once_and_the_nearest_is_told() {
        let at = Instant::from_millis;
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::TimeWait, at(9));
        timers.set(Timer::Retransmit, at(5));
        timers.set(Timer::Retransmit, at(7));
        assert_eq!(timers.next(), Some(at(7)));
        assert_eq!(timers.expire(at(6)), None);
        assert_eq!(timers.expire(at(9)), Some(Timer::Retransmit));
        assert_eq!(timers.expire(at(9)), Some(Timer::TimeWait));
        assert_eq!(timers.expire(at(9)), None);
        timers.set(Timer::Persist, at(1));
        timers.stop(Timer::Persist);
        assert!(!timers.is_running(Timer::Persist) && timers.next().is_none());
    }
}
