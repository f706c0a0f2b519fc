//! What BBR believes of the path: filters over samples, each small enough to be checked by hand. Section numbers are those of
//! draft-ietf-ccwg-bbr-06.

use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// BBR.MinRTTFilterLen.
const MIN_RTT_FILTER: Duration = Duration::from_secs(10);
/// BBR.ProbeRTTInterval.
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// Half of BBR.ExtraAckedFilterLen, in round trips: the filter has two halves.
const EXTRA_ACKED_ROUNDS: u64 = 5;
/// Entries of the log of losses.
const LOSS_ENTRIES_MAX: usize = 64;
/// A window's losses are told apart by this part of it: the log then reaches back two windows.
const LOSS_GRAIN: u64 = 32;

/// BBR.max_bw: the largest rate of this probing cycle and the last one, in bytes a second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct MaxBandwidth {
    last: u64,
    current: u64,
}

impl MaxBandwidth {
    /// The rate; zero before the first sample.
    pub(super) fn get(&self) -> u64 {
        self.last.max(self.current)
    }

    /// UpdateMaxBw(): what an application-limited sender measures is a lower bound, and counts where it is above what is known.
    pub(super) fn add(&mut self, rate: u64, app_limited: bool) {
        if rate >= self.get() || !app_limited {
            self.current = self.current.max(rate);
        }
    }

    /// AdvanceMaxBwFilter(): a cycle is over. One that brought no sample is no cycle: it would leave nothing to go by.
    pub(super) fn advance(&mut self) {
        if self.current > 0 {
            (self.last, self.current) = (self.current, 0);
        }
    }
}

/// BBR.min_rtt and BBR.probe_rtt_min_delay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct MinRtt {
    /// The shortest of the last ten seconds, and when it was measured.
    long: Option<(Duration, Instant)>,
    /// The shortest since queues were last drained, five seconds at most, and when it was measured or they were.
    short: Option<(Duration, Instant)>,
    expired: bool,
}

impl MinRtt {
    /// The path without queues, as far as known.
    pub(super) fn get(&self) -> Option<Duration> {
        self.long.map(|(rtt, _)| rtt)
    }

    /// BBR.probe_rtt_expired: nothing as short has been measured for five seconds.
    pub(super) fn is_expired(&self) -> bool {
        self.expired
    }

    /// UpdateMinRTT().
    pub(super) fn on_ack(&mut self, now: Instant, rtt: Option<Duration>) {
        self.expired = self.short.is_some_and(|(_, at)| now > at + PROBE_RTT_INTERVAL);
        if let Some(rtt) = rtt
            && (self.expired || self.short.is_none_or(|(least, _)| rtt < least))
        {
            self.short = Some((rtt, now));
        }
        let Some((least, at)) = self.short else { return };
        if self.long.is_none_or(|(long, since)| least < long || now > since + MIN_RTT_FILTER) {
            self.long = Some((least, at));
        }
    }

    /// Queues were just drained: the next time is five seconds away.
    pub(super) fn on_drained(&mut self, now: Instant) {
        if let Some((_, at)) = &mut self.short {
            *at = now;
        }
    }
}

/// BBR.extra_acked: how much more than the path carries is acknowledged at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Aggregation {
    since: Instant,
    acked: u64,
    /// The largest of the rounds from `round` on, and of those before.
    current: u64,
    last: u64,
    round: u64,
}

impl Aggregation {
    /// The estimate in bytes.
    pub(super) fn get(&self) -> u64 {
        self.current.max(self.last)
    }

    /// Sending begins again after a silence.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
    }

    /// UpdateACKAggregation(): `acked` bytes, on a path of `bandwidth` bytes a second, with a window of `cwnd`. `settled`: past
    /// Startup. The window of five to ten rounds is kept as two halves.
    pub(super) fn on_ack(&mut self, ack: AggregationAck) {
        let AggregationAck { now, acked, bandwidth, cwnd, round, settled } = ack;
        let mut expected = times(bandwidth, now.since(self.since));
        if self.acked <= expected {
            (self.acked, self.since, expected) = (0, now, 0);
        }
        self.acked += acked;
        let extra = self.acked.saturating_sub(expected).min(cwnd);
        let rounds = if settled { EXTRA_ACKED_ROUNDS } else { 1 };
        if round >= self.round + rounds {
            self.last = if settled { self.current } else { 0 };
            (self.current, self.round) = (0, round);
        }
        self.current = self.current.max(extra);
    }
}

/// What [`Aggregation`] goes by.
pub(super) struct AggregationAck {
    pub(super) now: Instant,
    pub(super) acked: u64,
    pub(super) bandwidth: u64,
    pub(super) cwnd: u64,
    pub(super) round: u64,
    pub(super) settled: bool,
}

/// C.lost, and what it was when a segment left. The draft notes this with every segment (P.lost); here it follows from P.delivered,
/// which they have anyway, and from when losses were found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct LossLog {
    lost: u64,
    /// Bytes delivered when losses were found, and all that was lost after that; a 32nd of a window apart at least.
    entries: VecDeque<(u64, u64)>,
    /// All that was lost before the first entry.
    before: u64,
}

impl LossLog {
    /// `bytes` were found lost when `delivered` bytes had been delivered, with a window of `cwnd`. The oldest are forgotten when
    /// there are too many: then they count as lost before anything that is in the network now.
    pub(super) fn on_lost(&mut self, delivered: u64, bytes: u64, cwnd: u64) {
        self.lost += bytes;
        if let Some((at, lost)) = self.entries.back_mut()
            && delivered < *at + cwnd / LOSS_GRAIN
        {
            *lost = self.lost;
            return;
        }
        if self.entries.len() == LOSS_ENTRIES_MAX
            && let Some((_, lost)) = self.entries.pop_front()
        {
            self.before = lost;
        }
        self.entries.push_back((delivered, self.lost));
    }

    /// RS.lost: bytes found lost since a segment left that noted `delivered`.
    pub(super) fn since(&self, delivered: u64) -> u64 {
        let known = self.entries.iter().rev().find(|(at, _)| *at <= delivered);
        self.lost - known.map_or(self.before, |(_, lost)| *lost)
    }
}

/// Bytes that `bandwidth` bytes a second carry in `time`.
pub(super) fn times(bandwidth: u64, time: Duration) -> u64 {
    let bytes = u128::from(bandwidth) * u128::from(time.as_nanos()) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn millis(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn bandwidth_is_the_largest_of_two_cycles() {
        let mut bandwidth = MaxBandwidth::default();
        bandwidth.add(100, false);
        bandwidth.add(80, false);
        assert_eq!(bandwidth.get(), 100);
        bandwidth.advance();
        bandwidth.add(70, false);
        assert_eq!(bandwidth.get(), 100, "of the last cycle");
        bandwidth.advance();
        assert_eq!(bandwidth.get(), 70);
        bandwidth.add(60, true);
        bandwidth.advance();
        assert_eq!(
            bandwidth.get(),
            70,
            "the application's limit is not the path's, and a cycle without samples none"
        );
        bandwidth.add(90, true);
        assert_eq!(bandwidth.get(), 90, "but more is more");
    }

    #[test]
    fn the_shortest_round_trip_is_kept_for_ten_seconds_and_looked_for_after_five() {
        let mut rtt = MinRtt::default();
        rtt.on_ack(at(1_000_000), millis(20));
        assert!(!rtt.is_expired(), "nothing to look for yet");
        rtt.on_ack(at(1_004_000), millis(25));
        assert_eq!((rtt.get(), rtt.is_expired()), (millis(20), false));
        rtt.on_ack(at(1_005_001), millis(30));
        assert_eq!((rtt.get(), rtt.is_expired()), (millis(20), true));
        rtt.on_ack(at(1_005_002), millis(30));
        assert!(!rtt.is_expired(), "what was measured last begins the next five seconds");
        rtt.on_ack(at(1_010_001), millis(30));
        assert_eq!(rtt.get(), millis(30), "the path is longer now");
        rtt.on_drained(at(1_012_000));
        rtt.on_ack(at(1_016_999), millis(40));
        assert!(!rtt.is_expired());
    }

    #[test]
    fn what_comes_at_once_is_counted_beyond_what_the_path_carries() {
        let mut aggregation = Aggregation::default();
        let mut ack = |now, acked, round, settled| {
            let ack =
                AggregationAck { now: at(now), acked, bandwidth: 1_000_000, cwnd: 50_000, round, settled };
            aggregation.on_ack(ack);
            aggregation.get()
        };
        // 1000 bytes a millisecond; 8000 in one ACK every 8 ms.
        assert_eq!(ack(1000, 8000, 1, true), 8000);
        assert_eq!(ack(1008, 8000, 2, true), 8000);
        assert_eq!(ack(1010, 20_000, 3, true), 26_000, "2 ms later: 28000 since, and 2000 expected");
        assert_eq!(ack(1100, 1000, 8, true), 26_000, "kept for five rounds");
        assert_eq!(ack(1200, 1000, 18, true), 1000);
        assert_eq!(ack(1300, 90_000, 19, true), 50_000, "no more than a window");
        assert_eq!(ack(1500, 1000, 20, false), 1000, "in Startup for a round");
    }

    #[test]
    fn losses_are_counted_from_when_a_segment_left() {
        let mut log = LossLog::default();
        assert_eq!(log.since(0), 0);
        log.on_lost(10_000, 1000, 32_000);
        log.on_lost(10_500, 1000, 32_000);
        log.on_lost(20_000, 3000, 32_000);
        assert_eq!((log.since(9_999), log.since(10_000), log.since(20_000)), (5000, 3000, 0));
    }

    #[test]
    fn a_full_log_forgets_the_oldest() {
        let mut log = LossLog::default();
        (1..=100).for_each(|index| log.on_lost(index * 1000, 10, 32_000));
        assert_eq!(log.entries.len(), LOSS_ENTRIES_MAX);
        assert_eq!((log.since(99_000), log.since(50_000), log.since(0)), (10, 500, 640));
    }
}
