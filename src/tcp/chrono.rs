//! What a sender's time goes to: sending, waiting for the peer's window, waiting for its own buffer.

use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// What limits the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Limit {
    /// Nothing is to be sent, and nothing is unacknowledged.
    Idle,
    /// The network.
    Network,
    /// The peer's window.
    PeerWindow,
    /// The owner has more, but no room to buffer it before something is acknowledged.
    SendBuffer,
}

/// The clocks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Chrono {
    limit: Limit,
    since: Instant,
    network: Duration,
    peer_window: Duration,
    send_buffer: Duration,
}

/// The times so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// With something to send, or unacknowledged: the other two are part of it.
    pub(super) busy: Duration,
    pub(super) peer_window: Duration,
    pub(super) send_buffer: Duration,
}

impl Chrono {
    /// Idle.
    pub(super) fn new(now: Instant) -> Self {
        let zero = Duration::ZERO;
        Self { limit: Limit::Idle, since: now, network: zero, peer_window: zero, send_buffer: zero }
    }

    /// From now on this is the limit.
    pub(super) fn set(&mut self, now: Instant, limit: Limit) {
        if limit == self.limit {
            return;
        }
        let Times { busy, peer_window, send_buffer } = self.times(now);
        (self.network, self.peer_window, self.send_buffer) =
            (busy - peer_window - send_buffer, peer_window, send_buffer);
        (self.limit, self.since) = (limit, now);
    }

    /// The times so far.
    pub(super) fn times(&self, now: Instant) -> Times {
        let running = |limit| if self.limit == limit { now.since(self.since) } else { Duration::ZERO };
        let peer_window = self.peer_window + running(Limit::PeerWindow);
        let send_buffer = self.send_buffer + running(Limit::SendBuffer);
        let network = self.network + running(Limit::Network);
        Times { busy: network + peer_window + send_buffer, peer_window, send_buffer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clock_runs_in_its_time() {
        let at = Instant::from_millis;
        let ms = Duration::from_millis;
        let mut chrono = Chrono::new(at(0));
        for (now, limit) in [
            (10, Limit::Network),
            (15, Limit::Network),
            (30, Limit::PeerWindow),
            (60, Limit::SendBuffer),
            (100, Limit::Idle),
            (900, Limit::Network),
        ] {
            chrono.set(at(now), limit);
        }
        let times = chrono.times(at(901));
        assert_eq!((times.busy, times.peer_window, times.send_buffer), (ms(91), ms(30), ms(40)));
    }
}
