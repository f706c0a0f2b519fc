//! [`Watch`]: whether a NIC gives back what it was told to transmit. One that does not would keep its frames for ever, and
//! its path would hang where any other dead path is noticed.

use crate::base::Instant;
use crate::base::time::Duration;

/// How long a NIC may give back nothing of what it was given. The slowest path that is of any use, 64 kbit/s behind a
/// shaper, takes a fifth of a second over a packet; and after a second TCP has noticed a path that died otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// When the time is up it is looked once more, so much later: a worker that did not run for long has looked at nothing
/// meanwhile, and the kernel's half of the work may not have run either.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(100);
/// How often a NIC that has stalled is told once more of what it holds.
pub(super) const KICK_INTERVAL: Duration = Duration::from_millis(100);

/// Watches one port.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Completions seen so far.
    completed: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nothing was given to the NIC since the last completion. What is pending nevertheless is not waited for: a driver
    /// that loses one completion goes on with the next.
    #[default]
    Idle,
    /// Something was, and there was no completion yet.
    Waiting { until: Instant },
    /// The time is up.
    Doubtful { until: Instant },
    /// And nothing has changed.
    Stalled { kicked: Instant },
}

impl Watch {
    /// After each turn: whether packets were `sent` to the port in it, how many are `pending`, and how many have
    /// `completed` since the beginning. Gives a change: the port has stalled, or does so no more.
    pub(super) fn look(&mut self, now: Instant, sent: bool, pending: usize, completed: u64) -> Option<bool> {
        let was_stalled = self.is_stalled();
        if completed != self.completed || pending == 0 {
            self.completed = completed;
            self.state = State::Idle;
        }
        self.state = match self.state {
            State::Idle if sent && pending > 0 => State::Waiting { until: now + PATIENCE },
            State::Waiting { until } if until <= now => State::Doubtful { until: now + SECOND_LOOK },
            State::Doubtful { until } if until <= now => State::Stalled { kicked: now },
            state => state,
        };
        (self.is_stalled() != was_stalled).then_some(self.is_stalled())
    }

    /// The link has come up: what was before says nothing. True when the port had stalled.
    pub(super) fn reset(&mut self) -> bool {
        let was_stalled = self.is_stalled();
        self.state = State::Idle;
        was_stalled
    }

    /// Whether nothing comes back from the port.
    pub(super) fn is_stalled(&self) -> bool {
        matches!(self.state, State::Stalled { .. })
    }

    /// Whether to tell a port that has stalled once more of what it holds.
    pub(super) fn take_kick(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Stalled { kicked } if now.since(*kicked) >= KICK_INTERVAL => {
                *kicked = now;
                true
            }
            State::Idle | State::Waiting { .. } | State::Doubtful { .. } | State::Stalled { .. } => false,
        }
    }

    /// When [`Watch::look`] may see that the port has stalled.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Doubtful { until } => Some(until),
            State::Idle | State::Stalled { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(5);

    /// A watch over a port that has stalled, and when.
    fn stalled() -> (Watch, Instant) {
        let mut watch = Watch::default();
        assert_eq!(watch.look(START, true, 3, 0), None);
        let first = watch.poll_timeout().expect("it waits");
        assert_eq!(first, START + PATIENCE);
        assert_eq!(watch.look(first, false, 3, 0), None, "one look is not enough");
        let second = watch.poll_timeout().expect("it looks again");
        assert_eq!(watch.look(second, false, 3, 0), Some(true));
        assert_eq!(watch.poll_timeout(), None);
        (watch, second)
    }

    #[test]
    fn a_port_that_gives_nothing_back_has_stalled_until_it_does() {
        let (mut watch, at) = stalled();
        assert_eq!(watch.look(at + PATIENCE, true, 9, 0), None, "it is said once");
        assert_eq!(watch.look(at + PATIENCE * 2, false, 8, 1), Some(false), "one completion is enough");
        let (mut watch, at) = stalled();
        assert_eq!(watch.look(at, false, 0, 0), Some(false), "and so is an end of what was pending");
    }

    #[test]
    fn completions_that_come_late_but_come_are_waited_for() {
        let mut watch = Watch::default();
        for round in 0..50 {
            let now = START + PATIENCE * 2 / 3 * round;
            assert_eq!(watch.look(now, true, 100, u64::from(round)), None);
        }
    }

    #[test]
    fn a_worker_that_did_not_run_has_missed_nothing() {
        let mut watch = Watch::default();
        watch.look(START, true, 1, 0);
        let late = START + PATIENCE * 60;
        assert_eq!(watch.look(late, false, 1, 0), None);
        assert_eq!(watch.look(late + SECOND_LOOK, false, 0, 1), None, "the kernel needed the time as well");
    }

    #[test]
    fn a_completion_that_was_lost_does_not_stop_what_works() {
        let mut watch = Watch::default();
        watch.look(START, true, 2, 0);
        watch.look(START, false, 1, 1);
        assert_eq!(watch.poll_timeout(), None, "nothing was sent since the last completion");
        for round in 1..10 {
            let now = START + PATIENCE * round;
            assert_eq!(watch.look(now, true, 2, u64::from(round)), None);
            assert_eq!(watch.look(now, false, 1, u64::from(round) + 1), None);
        }
    }

    #[test]
    fn a_stalled_port_is_kicked_now_and_then() {
        let (mut watch, at) = stalled();
        assert!(!watch.take_kick(at));
        assert!(watch.take_kick(at + KICK_INTERVAL) && !watch.take_kick(at + KICK_INTERVAL));
        assert!(watch.reset() && !watch.reset());
        assert!(!watch.is_stalled() && !watch.take_kick(at + KICK_INTERVAL * 9));
    }
}
