//! HyStart++ (RFC 9406): slow start that ends when round trips grow longer, before the queue overflows, and that looks
//! twice before it believes them.

use crate::base::time::Duration;
use crate::cc::{AckSample, Window, slow_start};
use serde::{Deserialize, Serialize};

/// RFC 9406 §4.3: the tuning constants.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// The window doubles each round trip.
    SlowStart,
    /// Conservative slow start: the round trip has grown; is it the queue or was it chance?
    Conservative { baseline: Duration, rounds: u32 },
    /// RFC 9406 §4.3: only the first slow start of a connection. Those after a loss know where to stop.
    Over,
}

/// The state of the first slow start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HyStart {
    phase: Phase,
    /// The shortest round trip of the last round and of this one.
    last_min: Option<Duration>,
    current_min: Option<Duration>,
    samples: u32,
}

impl HyStart {
    /// At the beginning of a connection.
    pub(super) fn new() -> Self {
        Self { phase: Phase::SlowStart, last_min: None, current_min: None, samples: 0 }
    }

    /// Loss or a mark ended it.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Over;
    }

    /// Grows the window in slow start. Returns the acknowledged bytes that are left for congestion avoidance.
    pub(super) fn grow(&mut self, window: &mut Window, sample: &AckSample) -> u64 {
        if self.phase == Phase::Over {
            return slow_start::grow(window, sample);
        }
        if sample.round_start {
            self.begin_round(window);
        }
        if let Some(rtt) = sample.rtt {
            self.current_min = Some(self.current_min.map_or(rtt, |current| current.min(rtt)));
            self.samples += 1;
        }
        match self.phase {
            // The fifth round of conservative slow start is over: there is a queue, and the window is large enough.
            Phase::Over => sample.growth_bytes,
            // RFC 9406 §4.2, with L = infinity: windows of long paths are paced.
            Phase::SlowStart => {
                let left = slow_start::grow(window, sample);
                self.look_for_delay();
                left
            }
            Phase::Conservative { baseline, .. } => {
                let growth_bytes = sample.growth_bytes / CSS_GROWTH_DIVISOR;
                let part = AckSample { growth_bytes, ..*sample };
                slow_start::grow(window, &part);
                if self.samples >= N_RTT_SAMPLE && self.current_min.is_some_and(|current| current < baseline)
                {
                    // RFC 9406 §4.2: the round trip has shrunk again. It was no queue.
                    self.phase = Phase::SlowStart;
                }
                0
            }
        }
    }

    fn begin_round(&mut self, window: &mut Window) {
        self.last_min = self.current_min.take();
        self.samples = 0;
        if let Phase::Conservative { rounds, .. } = &mut self.phase {
            *rounds += 1;
            if *rounds >= CSS_ROUNDS {
                self.phase = Phase::Over;
                window.leave_slow_start();
            }
        }
    }

    /// RFC 9406 §4.2: whether this round's shortest round trip is longer than the last one's by more than chance.
    fn look_for_delay(&mut self) {
        let (Some(current), Some(last)) = (self.current_min, self.last_min) else { return };
        let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
        if self.samples >= N_RTT_SAMPLE && current >= last + threshold {
            self.phase = Phase::Conservative { baseline: current, rounds: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of ten ACKs of a segment each, all with this round trip.
    fn round(hystart: &mut HyStart, window: &mut Window, rtt_ms: u64) -> u64 {
        let before = window.cwnd();
        for ack in 0..10 {
            let sample = AckSample {
                growth_bytes: 1000,
                flight_bytes: 1 << 20,
                round_start: ack == 0,
                rtt: Some(Duration::from_millis(rtt_ms)),
                ..AckSample::default()
            };
            hystart.grow(window, &sample);
        }
        window.cwnd() - before
    }

    fn start() -> (HyStart, Window) {
        (HyStart::new(), Window::new(1000, 10_000))
    }

    #[test]
    fn steady_round_trips_let_it_go_on() {
        let (mut hystart, mut window) = start();
        for _ in 0..20 {
            assert_eq!(round(&mut hystart, &mut window, 40), 10_000);
        }
        assert!(window.is_slow_start());
    }

    #[test]
    fn five_rounds_of_longer_round_trips_end_it() {
        let (mut hystart, mut window) = start();
        round(&mut hystart, &mut window, 40);
        // An eighth more, at the eighth sample of the round; the last two ACKs count a quarter.
        assert_eq!(round(&mut hystart, &mut window, 45), 8_000 + 2 * 250);
        for _ in 0..4 {
            assert_eq!(round(&mut hystart, &mut window, 45), 2_500);
        }
        assert!(window.is_slow_start());
        round(&mut hystart, &mut window, 45);
        assert_eq!(window.ssthresh(), window.cwnd(), "congestion avoidance from here");
        assert!(!window.is_slow_start());
    }

    #[test]
    fn round_trips_that_shrink_again_resume_it() {
        let (mut hystart, mut window) = start();
        round(&mut hystart, &mut window, 40);
        round(&mut hystart, &mut window, 60);
        assert_eq!(round(&mut hystart, &mut window, 59), 8 * 250 + 2 * 1000);
        assert_eq!(round(&mut hystart, &mut window, 59), 10_000);
    }

    #[test]
    fn small_delays_of_short_paths_are_chance() {
        let (mut hystart, mut window) = start();
        round(&mut hystart, &mut window, 1);
        assert_eq!(round(&mut hystart, &mut window, 4), 10_000, "less than 4 ms more");
        assert_eq!(round(&mut hystart, &mut window, 8), 8_500);
    }

    #[test]
    fn after_a_loss_it_is_plain_slow_start() {
        let (mut hystart, mut window) = start();
        hystart.end();
        round(&mut hystart, &mut window, 40);
        assert_eq!(round(&mut hystart, &mut window, 400), 10_000);
    }
}
