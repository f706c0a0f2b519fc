//! Pacing: segments leave in bursts of about a millisecond's worth, and each burst is followed by the time that it takes
//! at the pacing rate. Within a burst a segment costs an addition and a comparison; where the acknowledgments clock
//! segments out no faster than the rate, nobody ever waits.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::cc::burst_bytes;
use serde::{Deserialize, Serialize};

/// A timer that fires late, or a worker that naps, is made up for by up to this much.
const LATE_MAX: Duration = Duration::from_millis(1);

/// The state of pacing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pacing {
    /// The next burst may not begin earlier.
    next_at: Instant,
    /// When the burst under way began, as the rate has it.
    burst_from: Instant,
    /// Bytes of it so far, and at which it ends.
    burst: u64,
    quantum: u64,
}

impl Pacing {
    /// Nothing sent.
    pub(super) fn new(segment_bytes: u64) -> Self {
        let (next_at, burst_from) = (Instant::ZERO, Instant::ZERO);
        Self { next_at, burst_from, burst: 0, quantum: burst_bytes(0, segment_bytes) }
    }

    /// Whether a segment may leave.
    pub(super) fn allows(&self, now: Instant) -> bool {
        now >= self.next_at
    }

    /// `bytes` left. True when a burst is complete; [`Pacing::end_burst`] has to be called then.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) -> bool {
        if self.burst == 0 {
            let is_late = now.since(self.next_at) <= LATE_MAX;
            self.burst_from = if is_late { self.next_at } else { now };
        }
        self.burst += bytes;
        self.burst >= self.quantum
    }

    /// A burst is complete. `rate` says how fast to send, in bytes a second, `None` for as fast as the window allows.
    /// Returns when the next one may leave, if it has to wait.
    pub(super) fn end_burst(
        &mut self,
        now: Instant,
        rate: Option<u64>,
        segment_bytes: u64,
    ) -> Option<Instant> {
        let burst = std::mem::take(&mut self.burst);
        let Some(rate) = rate else {
            // Not paced now: it is asked again after as much as the largest burst.
            (self.next_at, self.quantum) = (now, burst_bytes(u64::MAX, segment_bytes));
            return None;
        };
        let rate = rate.max(1);
        let nanos = burst.saturating_mul(1_000_000_000) / rate;
        self.next_at = self.burst_from + Duration::from_nanos(nanos);
        self.quantum = burst_bytes(rate, segment_bytes);
        (self.next_at > now).then_some(self.next_at)
    }

    /// Nothing has left for a while, and nothing waits: what leaves next begins a burst of its own.
    pub(super) fn rest(&mut self) {
        (self.next_at, self.burst_from, self.burst) = (Instant::ZERO, Instant::ZERO, 0);
    }

    /// Nothing leaves before `until`.
    pub(super) fn hold(&mut self, until: Instant) {
        self.next_at = self.next_at.max(until);
    }
}

/// How fast a window is sent out: once in a round trip, and faster than that, so that pacing never is the limit. Twice in slow
/// start, where the window doubles in a round trip, and 1.2 times in congestion avoidance (as Linux does it).
///
/// The round trip is that of now and not the smoothed one: when all who share a queue halve their windows it drains, and who
/// goes on at a rate from before does not fill its window, does not enlarge it either for that (RFC 7661 §4.4), and leaves the
/// path to the others.
pub(super) fn window_rate(window: u64, ssthresh: u64, round_trip: Duration) -> u64 {
    let tenths = if window < ssthresh / 2 { 20 } else { 12 };
    let nanos = round_trip.as_nanos().max(1);
    // The window is below 2^31: the product fits.
    window * tenths * 100_000_000 / nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1448;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + micros * 1000)
    }

    fn send(pacing: &mut Pacing, micros: u64, rate: Option<u64>) -> Option<Instant> {
        pacing.on_sent(at(micros), MSS).then(|| pacing.end_burst(at(micros), rate, MSS)).flatten()
    }

    /// Sends as fast as it may until `micros`, and tells how many bytes, and the longest burst.
    fn run(pacing: &mut Pacing, rate: u64, from: u64, to: u64, step: u64) -> (u64, u64) {
        let (mut sent, mut longest) = (0, 0);
        for micros in (from..to).step_by(step as usize) {
            let mut burst = 0;
            while pacing.allows(at(micros)) && burst < 10_000_000 {
                send(pacing, micros, Some(rate));
                burst += MSS;
            }
            sent += burst;
            longest = longest.max(burst);
        }
        (sent, longest)
    }

    #[test]
    fn the_rate_is_kept_and_bursts_are_a_milliseconds_worth() {
        for rate in [125_000, 1_250_000, 12_500_000, 125_000_000, 1_250_000_000] {
            let mut pacing = Pacing::new(MSS);
            let (sent, longest) = run(&mut pacing, rate, 0, 1_000_000, 10);
            let off = sent.abs_diff(rate) as f64 / rate as f64;
            assert!(off < 0.03, "{sent} bytes in a second at {rate}");
            let quantum = (rate / 1000).clamp(2 * MSS, 65_536);
            // A tick of 10 us is longer than a burst at the highest rate.
            assert!(longest <= (quantum + MSS) * 2, "a burst of {longest} at {rate}");
        }
    }

    #[test]
    fn a_timer_that_is_late_is_made_up_for() {
        let mut pacing = Pacing::new(MSS);
        let (sent, _) = run(&mut pacing, 125_000_000, 0, 1_000_000, 400);
        assert!(sent.abs_diff(125_000_000) < 4_000_000, "{sent}");
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let mut pacing = Pacing::new(MSS);
        run(&mut pacing, 12_500_000, 0, 10_000, 10);
        let (_, longest) = run(&mut pacing, 12_500_000, 5_000_000, 5_010_000, 10);
        assert!(longest <= 2 * 12_500 + 2 * MSS, "{longest}");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut pacing = Pacing::new(MSS);
        for _ in 0..1000 {
            assert!(pacing.allows(at(5)));
            assert_eq!(send(&mut pacing, 5, None), None);
        }
        // And the rate, when there is one, is asked for soon.
        assert!((0..50).any(|_| send(&mut pacing, 6, Some(1_000_000)).is_some()));
        pacing.hold(at(900_000));
        assert!(!pacing.allows(at(899_999)) && pacing.allows(at(900_000)));
    }

    #[test]
    fn a_window_is_sent_faster_than_it_is_acknowledged() {
        let srtt = Duration::from_millis(100);
        assert_eq!(window_rate(100_000, u64::MAX, srtt), 2_000_000);
        assert_eq!(window_rate(100_000, 150_000, srtt), 1_200_000);
        assert_eq!(window_rate(1 << 30, 0, Duration::from_nanos(1)), (1 << 30) * 1_200_000_000);
    }
}
