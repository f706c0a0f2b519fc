//! Weighted Vegas (Cao, Xu and Fu, ICNP 2012): a subflow's window goes by how many of its packets wait in queues, as TCP Vegas
//! has it. All subflows of a connection together keep [`TOTAL_ALPHA`] packets queued, each in proportion to its part of the
//! connection's rate: so data moves to where the queues are shorter. It is answered to loss as by NewReno.
//!
//! The part comes from outside, as a [`Coupling`]; a subflow that is alone goes by NewReno.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::cc::couple::Coupling;
use crate::cc::{AckSample, Controller, Reno, Window, slow_start};
use serde::{Deserialize, Serialize};

/// Packets of a connection that wait in queues.
const TOTAL_ALPHA: f64 = 10.0;
/// Those of a subflow, at least.
const ALPHA_MIN: f64 = 2.0;
/// A window is never smaller than so many segments.
const WINDOW_MIN: f64 = 2.0;
/// With more packets in queues than this slow start ends.
const GAMMA: f64 = 1.0;
/// So few round trips are measured in a round trip that their mean says little.
const SAMPLES_MIN: u32 = 3;

/// A window that goes by delay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Vegas {
    /// The window, and what happens to it after a loss.
    reno: Reno,
    /// The subflow's part of the connection's rate; 1 where it is alone.
    share: f64,
    /// Packets that may wait in queues.
    alpha: f64,
    /// Round trips since the window was last looked at.
    sum: Duration,
    samples: u32,
    /// The shortest queueing delay since the queue was last drained, of those with which our packets were queued.
    least_queueing: Option<Duration>,
}

impl Vegas {
    /// Begins in slow start with `window`, alone.
    pub fn new(window: Window) -> Self {
        Self {
            reno: Reno::new(window),
            share: 1.0,
            alpha: ALPHA_MIN,
            sum: Duration::ZERO,
            samples: 0,
            least_queueing: None,
        }
    }

    /// The window itself, whatever the law.
    pub(super) fn window_state(&self) -> &Window {
        self.reno.window_state()
    }

    /// Payload bytes of a full segment.
    pub fn segment_bytes(&self) -> u64 {
        self.reno.window_state().segment_bytes()
    }

    /// The others have changed, or this one has.
    pub fn set_coupling(&mut self, coupling: Coupling) {
        self.share = coupling.share;
    }

    fn is_alone(&self) -> bool {
        self.share >= 1.0
    }

    /// A round trip is over: compares what it took with what it takes without queues.
    fn end_round(&mut self, sample: &AckSample) {
        let Some(base) = sample.min_rtt.filter(|_| self.samples >= SAMPLES_MIN) else { return };
        let mean = self.sum / self.samples;
        self.forget_round();
        if mean.is_zero() || sample.recovering {
            return;
        }
        let queueing = mean.saturating_sub(base);
        let part = |time: Duration| time.as_secs_f64() / mean.as_secs_f64();
        let segment = self.segment_bytes();
        let window = self.reno.window_state();
        let segments = window.cwnd() as f64 / segment as f64;
        let queued = segments * part(queueing);
        if window.is_slow_start() {
            if queued > GAMMA {
                self.leave_slow_start((segments * part(base) + 1.0).min(segments));
            }
            return;
        }
        let is_used = window.is_used(sample.flight_bytes);
        if queued >= self.alpha {
            self.alpha = (self.share * TOTAL_ALPHA).max(ALPHA_MIN);
        }
        if queued > self.alpha {
            self.shrink_to(segments - 1.0);
        } else if queued < self.alpha && is_used {
            self.reno.window_state_mut().grow(segment);
        }
        self.drain(queued, queueing, part(base));
    }

    /// A queue that has doubled without us is drained, so that all see the path without it. Cao et al. do so whenever the delay
    /// is twice the least since the last time; but that is next to none until we have our own packets in the queue, and each
    /// time we had them the window would be halved. So here the least counts with which it was as full as we want it.
    fn drain(&mut self, queued: f64, queueing: Duration, base_part: f64) {
        if queued < self.alpha || queueing.is_zero() {
            return;
        }
        let least = self.least_queueing.map_or(queueing, |least| least.min(queueing));
        self.least_queueing = Some(least);
        if queueing >= least * 2 {
            let segments = self.reno.window() as f64 / self.segment_bytes() as f64;
            self.shrink_to(segments * base_part / 2.0);
            self.least_queueing = None;
        }
    }

    fn leave_slow_start(&mut self, segments: f64) {
        self.shrink_to(segments);
        self.reno.window_state_mut().leave_slow_start();
    }

    /// Two segments are left.
    fn shrink_to(&mut self, segments: f64) {
        let segment = self.segment_bytes();
        let window = self.reno.window_state_mut();
        window.set_cwnd((segments.max(WINDOW_MIN) * segment as f64) as u64);
        // Or slow start would bring it back.
        window.set_ssthresh(window.ssthresh().min(window.cwnd()));
    }

    fn forget_round(&mut self) {
        (self.sum, self.samples) = (Duration::ZERO, 0);
    }
}

impl Controller for Vegas {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        self.reno.on_sent(now, bytes, in_flight);
    }

    fn on_ack(&mut self, now: Instant, sample: &AckSample) {
        if self.is_alone() {
            self.forget_round();
            return self.reno.on_ack(now, sample);
        }
        if let Some(rtt) = sample.rtt {
            self.sum += rtt;
            self.samples += 1;
        }
        if sample.round_start {
            self.end_round(sample);
        }
        if sample.growth_bytes > 0 && self.reno.window_state().is_slow_start() {
            slow_start::grow(self.reno.window_state_mut(), sample);
        }
    }

    fn on_loss(&mut self, now: Instant, in_flight: u64) {
        self.reno.on_loss(now, in_flight);
    }

    fn on_rto(&mut self, now: Instant, in_flight: u64, again: bool) {
        self.reno.on_rto(now, in_flight, again);
        self.forget_round();
    }

    fn on_recovered(&mut self, now: Instant, limit_bytes: u64) {
        self.reno.on_recovered(now, limit_bytes);
    }

    fn on_undo(&mut self, now: Instant) {
        self.reno.on_undo(now);
    }

    fn on_ecn(&mut self, now: Instant, in_flight: u64) {
        self.reno.on_ecn(now, in_flight);
    }

    fn on_idle(&mut self, now: Instant) {
        self.reno.on_idle(now);
    }

    fn on_restart(&mut self, now: Instant) {
        self.reno.on_restart(now);
        self.forget_round();
    }

    fn on_penalty(&mut self, now: Instant) {
        self.reno.on_penalty(now);
    }

    fn set_segment_bytes(&mut self, segment_bytes: u64) {
        self.reno.set_segment_bytes(segment_bytes);
    }

    fn window(&self) -> u64 {
        self.reno.window()
    }

    fn ssthresh(&self) -> u64 {
        self.reno.ssthresh()
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;
    const BASE_MS: u64 = 100;

    fn coupled(share: f64) -> Vegas {
        let mut vegas = Vegas::new(Window::new(1000, 10_000));
        vegas.set_coupling(Coupling { share, ..Coupling::default() });
        vegas
    }

    /// Out of slow start, with twenty segments.
    fn avoiding(share: f64) -> Vegas {
        let mut vegas = coupled(share);
        vegas.on_loss(NOW, 40_000);
        assert_eq!((vegas.window(), vegas.ssthresh()), (20_000, 20_000));
        vegas
    }

    /// A round trip of four ACKs, each of which measures `rtt_ms`; nothing but the round trips tells of the window.
    fn round(vegas: &mut Vegas, rtt_ms: u64) {
        for ack in 0..4 {
            let sample = AckSample {
                flight_bytes: vegas.window(),
                rtt: Some(Duration::from_millis(rtt_ms)),
                min_rtt: Some(Duration::from_millis(BASE_MS)),
                round_start: ack == 3,
                ..AckSample::default()
            };
            vegas.on_ack(NOW, &sample);
        }
    }

    #[test]
    fn as_many_packets_wait_as_its_part_of_the_rate_allows() {
        // Twenty segments at 125 ms, of which 100 are the path: four wait. Of ten half are ours: one more may.
        let mut vegas = avoiding(0.5);
        vegas.alpha = 5.0;
        round(&mut vegas, 125);
        assert_eq!(vegas.window(), 21_000);
        // 21 segments at 140 ms: six wait.
        round(&mut vegas, 140);
        assert_eq!((vegas.window(), vegas.ssthresh()), (20_000, 20_000));
        // A fifth of the rate is two packets, and no part is less.
        for share in [0.2, 0.01] {
            let mut vegas = avoiding(share);
            round(&mut vegas, 125);
            assert_eq!((vegas.alpha, vegas.window()), (2.0, 19_000), "{share}");
        }
        // One that has most of the rate may have most of the queue: it learns that where it would have shrunk.
        let mut vegas = avoiding(0.9);
        round(&mut vegas, 125);
        assert_eq!((vegas.alpha, vegas.window()), (9.0, 21_000));
    }

    #[test]
    fn slow_start_ends_with_the_first_packet_that_waits() {
        let mut vegas = coupled(0.5);
        let sample = AckSample {
            acked_bytes: 10_000,
            growth_bytes: 10_000,
            flight_bytes: 10_000,
            rtt: Some(Duration::from_millis(BASE_MS)),
            min_rtt: Some(Duration::from_millis(BASE_MS)),
            ..AckSample::default()
        };
        vegas.on_ack(NOW, &sample);
        assert_eq!(vegas.window(), 20_000);
        round(&mut vegas, 105);
        assert_eq!((vegas.window(), vegas.ssthresh()), (20_000, u64::MAX), "less than one waits");
        // Ten of twenty wait: what the path holds is ten, and one that waits.
        round(&mut vegas, 200);
        assert_eq!((vegas.window(), vegas.ssthresh()), (11_000, 11_000));
    }

    #[test]
    fn a_queue_that_has_doubled_is_drained_and_our_own_is_not() {
        let mut vegas = avoiding(0.5);
        vegas.alpha = 5.0;
        // From 1 ms to 10: ten times as much, and still only two packets. With 135, of 22 more than five wait: that is ours.
        for (rtt_ms, window) in [(101, 21_000), (110, 22_000), (135, 21_000)] {
            round(&mut vegas, rtt_ms);
            assert_eq!(vegas.window(), window, "{rtt_ms}");
        }
        // 80 ms are more than twice 35. One off, and half of what the path holds stays.
        round(&mut vegas, 180);
        assert_eq!(vegas.window(), (20.0 * (100.0 / 180.0) / 2.0 * 1000.0) as u64);
        assert_eq!(vegas.least_queueing, None);
    }

    #[test]
    fn two_segments_are_left_and_few_samples_say_nothing() {
        let mut vegas = avoiding(0.5);
        vegas.shrink_to(0.5);
        assert_eq!((vegas.window(), vegas.ssthresh()), (2000, 2000));
        let mut vegas = avoiding(0.5);
        let sample = AckSample {
            flight_bytes: 20_000,
            rtt: Some(Duration::from_millis(300)),
            min_rtt: Some(Duration::from_millis(BASE_MS)),
            round_start: true,
            ..AckSample::default()
        };
        vegas.on_ack(NOW, &sample);
        vegas.on_ack(NOW, &sample);
        assert_eq!(vegas.window(), 20_000, "two round trips in which one was measured each");
        vegas.on_ack(NOW, &sample);
        assert!(vegas.window() < 20_000);
    }

    #[test]
    fn alone_it_is_new_reno() {
        let mut vegas = avoiding(1.0);
        let mut reno = Reno::new(Window::new(1000, 10_000));
        reno.on_loss(NOW, 40_000);
        let sample = AckSample {
            growth_bytes: 1000,
            flight_bytes: 20_000,
            rtt: Some(Duration::from_millis(500)),
            min_rtt: Some(Duration::from_millis(BASE_MS)),
            round_start: true,
            ..AckSample::default()
        };
        for _ in 0..25 {
            vegas.on_ack(NOW, &sample);
            reno.on_ack(NOW, &sample);
        }
        assert_eq!((vegas.window(), reno.window()), (21_000, 21_000));
    }
}
