//! Whether the congestion window says something about the path: only what was used is known to be good (RFC 7661). The
//! window is kept while an application pauses; a loss then counts what was really sent, and after five minutes the
//! window is halved.

use crate::base::time::Duration;
use crate::base::{Instant, SeqNum};
use serde::{Deserialize, Serialize};

/// RFC 7661 §4.2: the sampling period is max(3 * RTT, this).
const SAMPLING_PERIOD_MIN: Duration = Duration::from_secs(1);
/// RFC 7661 §4.4, §5: the non-validated period.
const NON_VALIDATED_PERIOD: Duration = Duration::from_secs(300);

/// The largest of the samples of the last period: of one half of it at least, and of all of it at most.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RecentMax {
    since: Instant,
    current: u64,
    previous: u64,
}

impl RecentMax {
    fn add(&mut self, now: Instant, period: Duration, value: u64) {
        self.turn(now, period);
        self.current = self.current.max(value);
    }

    fn turn(&mut self, now: Instant, period: Duration) {
        let half = period / 2;
        let elapsed = now.since(self.since);
        if elapsed >= half {
            self.previous = if elapsed < period { self.current } else { 0 };
            (self.since, self.current) = (now, 0);
        }
    }

    fn get(&mut self, now: Instant, period: Duration) -> u64 {
        self.turn(now, period);
        self.current.max(self.previous)
    }
}

/// The use of the window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Validation {
    /// A round trip: until what was outstanding at its beginning is acknowledged. None while nothing is: it begins with the
    /// next segment.
    round_end: Option<SeqNum>,
    round_acked: u64,
    /// The most that was in flight in the round so far, and in the one before.
    peak: u64,
    last_peak: u64,
    /// RFC 7661 §4.2: pipeACK. None: undefined.
    pipe_ack: Option<RecentMax>,
    /// When the last sample was taken.
    sampled_at: Instant,
    /// Since when the window has not been validated.
    unused_since: Option<Instant>,
    /// RFC 7661 §4.4.1: half of what was used when the loss was detected whose repair goes on, doubled, and what was
    /// retransmitted since. Only where the window was not validated.
    loss: Option<(u64, u64)>,
}

impl Validation {
    /// At the beginning of a connection.
    pub(super) fn new() -> Self {
        Self {
            round_end: None,
            round_acked: 0,
            peak: 0,
            last_peak: 0,
            pipe_ack: None,
            sampled_at: Instant::ZERO,
            unused_since: None,
            loss: None,
        }
    }

    /// The most that was in flight during the last round trip. (The one under way has only begun: pacing may hold back
    /// yet what fills the window.)
    pub(super) fn peak(&self) -> u64 {
        self.peak.max(self.last_peak)
    }

    /// So much is in flight after new data left, up to SND.NXT.
    pub(super) fn on_sent(&mut self, flight: u64, nxt: SeqNum) {
        self.peak = self.peak.max(flight);
        self.round_end.get_or_insert(nxt);
    }

    /// `bytes` were delivered. True when a round trip is over, and another begins. `recovering`: no sample is taken
    /// (RFC 7661 §4.2).
    pub(super) fn on_ack(&mut self, ack: RoundAck) -> bool {
        let RoundAck { now, una, nxt, bytes, flight, srtt, recovering } = ack;
        self.round_acked += bytes;
        if self.round_end.is_none_or(|end| una.before(end)) {
            return false;
        }
        if !recovering && self.round_acked > 0 {
            let fresh = RecentMax { since: now, current: 0, previous: 0 };
            self.pipe_ack.get_or_insert(fresh).add(now, period(srtt), self.round_acked);
            self.sampled_at = now;
        }
        (self.round_acked, self.peak, self.last_peak) = (0, flight, self.peak);
        self.round_end = (una != nxt).then_some(nxt);
        true
    }

    /// RFC 7661 §4.3: pipeACK, where it is defined and below half of `cwnd`: the window is not validated.
    fn unvalidated(&mut self, now: Instant, cwnd: u64, srtt: Option<Duration>) -> Option<u64> {
        let pipe_ack = self.pipe_ack.as_mut()?.get(now, period(srtt));
        (pipe_ack < cwnd / 2).then_some(pipe_ack)
    }

    /// RFC 7661 §4.4.3: how often the window is to be halved because it has not been used. To be asked when new data
    /// leaves after a pause, and each round trip.
    pub(super) fn is_outdated(&mut self, now: Instant, cwnd: u64, srtt: Option<Duration>) -> bool {
        if self.unvalidated(now, cwnd, srtt).is_none() {
            self.unused_since = None;
            return false;
        }
        // It counts from the last sample on: nothing was acknowledged since.
        let since = *self.unused_since.get_or_insert(self.sampled_at);
        let outdated = now.since(since) >= NON_VALIDATED_PERIOD;
        if outdated {
            self.unused_since = Some(since + NON_VALIDATED_PERIOD);
        }
        outdated
    }

    /// The flight size that a loss is answered by: RFC 5681 equation 4, and RFC 7661 §4.4.1 where the window was not
    /// used.
    pub(super) fn on_loss(&mut self, now: Instant, flight: u64, cwnd: u64, srtt: Option<Duration>) -> u64 {
        // RFC 5681 §3.2 step 2: what limited transmit added does not count.
        let flight = flight.min(cwnd);
        let unvalidated = self.unvalidated(now, cwnd, srtt);
        let used = unvalidated.map_or(flight, |pipe_ack| pipe_ack.max(flight));
        self.loss = unvalidated.map(|_| (used, 0));
        used
    }

    /// `bytes` were retransmitted.
    pub(super) fn on_retransmitted(&mut self, bytes: u64) {
        if let Some((_, retransmitted)) = &mut self.loss {
            *retransmitted += bytes;
        }
    }

    /// RFC 7661 §4.4.1: recovery is over. How large the window may be: (max(pipeACK, LossFlightSize) - R) / 2 where it was
    /// not validated.
    pub(super) fn on_recovered(&mut self) -> u64 {
        self.pipe_ack = None;
        self.unused_since = None;
        self.loss.take().map_or(u64::MAX, |(used, retransmitted)| used.saturating_sub(retransmitted) / 2)
    }
}

/// What an acknowledgment says about the use of the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundAck {
    pub(super) now: Instant,
    pub(super) una: SeqNum,
    pub(super) nxt: SeqNum,
    /// Bytes delivered.
    pub(super) bytes: u64,
    /// Bytes in flight now.
    pub(super) flight: u64,
    pub(super) srtt: Option<Duration>,
    pub(super) recovering: bool,
}

fn period(srtt: Option<Duration>) -> Duration {
    (3 * srtt.unwrap_or_default()).max(SAMPLING_PERIOD_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRTT: Option<Duration> = Some(Duration::from_millis(100));

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Round trips of 100 ms that carry `bytes` each, from `from` to `to` milliseconds.
    fn rounds(validation: &mut Validation, from: u64, to: u64, bytes: u64) {
        for now in (from..to).step_by(100) {
            let una = SeqNum::new(now as u32 * 1000);
            validation.on_sent(bytes, una);
            let nxt = una;
            let ack = RoundAck { now: at(now), una, nxt, bytes, flight: 0, srtt: SRTT, recovering: false };
            assert!(validation.on_ack(ack));
        }
    }

    fn new() -> Validation {
        Validation::new()
    }

    #[test]
    fn a_loss_in_a_used_window_counts_the_flight_without_limited_transmit() {
        let mut validation = new();
        assert_eq!(validation.on_loss(at(0), 12_000, 10_000, SRTT), 10_000, "undefined");
        rounds(&mut validation, 0, 1000, 10_000);
        assert_eq!(validation.on_loss(at(1000), 8_000, 10_000, SRTT), 8_000);
        assert_eq!(validation.on_recovered(), u64::MAX);
    }

    #[test]
    fn a_loss_in_an_unused_window_counts_what_was_used_lately() {
        let mut validation = new();
        rounds(&mut validation, 0, 1000, 40_000);
        // Much less since, but the larger sample is not a second old.
        rounds(&mut validation, 1000, 1300, 5_000);
        assert_eq!(validation.on_loss(at(1300), 5_000, 100_000, SRTT), 40_000);
        validation.on_retransmitted(10_000);
        assert_eq!(validation.on_recovered(), 15_000);
        // After recovery it is undefined until the first sample.
        assert_eq!(validation.on_loss(at(1400), 5_000, 100_000, SRTT), 5_000);
        assert_eq!(validation.on_recovered(), u64::MAX);
        rounds(&mut validation, 2000, 4000, 5_000);
        assert_eq!(validation.on_loss(at(4000), 1_000, 100_000, SRTT), 5_000);
    }

    #[test]
    fn five_minutes_make_a_window_outdated_and_each_five_again() {
        let mut validation = new();
        assert!(!validation.is_outdated(at(900_000), 100_000, SRTT), "undefined: a new connection");
        rounds(&mut validation, 0, 1000, 60_000);
        assert!(!validation.is_outdated(at(1_000), 100_000, SRTT));
        assert!(!validation.is_outdated(at(200_000), 100_000, SRTT));
        assert!(validation.is_outdated(at(301_000), 100_000, SRTT));
        assert!(!validation.is_outdated(at(301_000), 50_000, SRTT));
        assert!(validation.is_outdated(at(601_000), 50_000, SRTT));
        rounds(&mut validation, 601_000, 602_000, 50_000);
        assert!(!validation.is_outdated(at(602_000), 50_000, SRTT));
        assert!(!validation.is_outdated(at(901_000), 50_000, SRTT), "it was used in between");
    }

    #[test]
    fn recovery_is_not_sampled() {
        let mut validation = new();
        let una = SeqNum::new(1001);
        validation.on_sent(1000, una);
        let ack = RoundAck {
            now: at(0),
            una,
            nxt: una + 1000,
            bytes: 500,
            flight: 500,
            srtt: SRTT,
            recovering: true,
        };
        assert!(validation.on_ack(ack));
        assert!(validation.pipe_ack.is_none());
        assert_eq!((validation.peak, validation.peak()), (500, 1000));
        assert!(!validation.on_ack(RoundAck { una: una + 999, ..ack }));
        assert!(validation.on_ack(RoundAck { una: una + 1000, ..ack }), "all is acknowledged");
        assert!(!validation.on_ack(RoundAck { una: una + 1000, ..ack }), "no round trip without a segment");
    }
}
