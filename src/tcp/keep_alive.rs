//! Keep-alive (RFC 9293 §3.8.4): whether a peer that says nothing is still there.

use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// When to ask a silent peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// How long the peer has to be silent before it is asked.
    pub idle: Duration,
    /// How long after a question the next one follows.
    pub interval: Duration,
    /// Questions without an answer after which the connection is over.
    pub probes: u32,
}

impl Default for KeepAlive {
    /// RFC 9293 §3.8.4: the interval must default to no less than two hours. The rest is as Linux has it.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), probes: 9 }
    }
}

/// What to do when the timer of keep-alive has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The peer was heard of in the meantime: ask it at this time.
    Wait(Instant),
    /// Ask it now, and look again at this time.
    Ask(Instant),
    /// It has not answered.
    Dead,
}

/// The state of one connection's keep-alive.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Keeper {
    settings: Option<KeepAlive>,
    unanswered: u32,
}

impl Keeper {
    /// Begins, changes or ends it. Returns when to look, given when the peer was last heard of.
    pub(super) fn set(&mut self, settings: Option<KeepAlive>, heard_at: Instant) -> Option<Instant> {
        self.settings = settings;
        self.unanswered = 0;
        settings.map(|settings| heard_at + settings.idle)
    }

    /// Something has arrived.
    pub(super) fn on_heard(&mut self) {
        self.unanswered = 0;
    }

    /// Time has come. `user_timeout` replaces the count of probes (RFC 5482 §4.2 lets it).
    pub(super) fn expire(
        &mut self,
        now: Instant,
        heard_at: Instant,
        user_timeout: Option<Duration>,
    ) -> Option<Verdict> {
        let settings = self.settings?;
        let silent = now.since(heard_at);
        if silent < settings.idle {
            return Some(Verdict::Wait(heard_at + settings.idle));
        }
        let dead = match user_timeout {
            Some(user_timeout) => self.unanswered > 0 && silent >= user_timeout,
            None => self.unanswered >= settings.probes,
        };
        if dead {
            return Some(Verdict::Dead);
        }
        self.unanswered += 1;
        Some(Verdict::Ask(now + settings.interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_asked_so_often_and_no_more() {
        let at = Instant::from_millis;
        let settings =
            KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(1), probes: 2 };
        let mut keeper = Keeper::default();
        assert_eq!(keeper.expire(at(0), at(0), None), None, "off");
        assert_eq!(keeper.set(Some(settings), at(500)), Some(at(10_500)));
        assert_eq!(keeper.expire(at(10_500), at(2_000), None), Some(Verdict::Wait(at(12_000))));
        assert_eq!(keeper.expire(at(12_000), at(2_000), None), Some(Verdict::Ask(at(13_000))));
        assert_eq!(keeper.expire(at(13_000), at(2_000), None), Some(Verdict::Ask(at(14_000))));
        assert_eq!(keeper.expire(at(14_000), at(2_000), None), Some(Verdict::Dead));
        keeper.on_heard();
        assert_eq!(keeper.expire(at(30_000), at(14_500), None), Some(Verdict::Ask(at(31_000))));
        let user_timeout = Some(Duration::from_secs(17));
        assert_eq!(keeper.expire(at(31_000), at(14_500), user_timeout), Some(Verdict::Ask(at(32_000))));
        assert_eq!(keeper.expire(at(32_000), at(14_500), user_timeout), Some(Verdict::Dead));
    }
}
