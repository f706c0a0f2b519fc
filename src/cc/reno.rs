//! NewReno's window: RFC 5681 §3.1 (slow start and congestion avoidance), and the reactions of RFC 5681 §3.2 and
//! RFC 6582 to loss. Which segments were lost is no concern of this file.

use crate::base::Instant;
use crate::cc::{AckSample, Controller, Window, slow_start};
use serde::{Deserialize, Serialize};

/// NewReno.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reno {
    window: Window,
    /// Bytes acknowledged in congestion avoidance that have not added a segment to the window yet.
    credit_bytes: u64,
}

impl Reno {
    /// Begins in slow start with `window`.
    pub fn new(window: Window) -> Self {
        Self { window, credit_bytes: 0 }
    }

    /// The window itself, for a law that grows it otherwise and has the same answers to loss.
    pub(super) fn window_state(&self) -> &Window {
        &self.window
    }

    /// The same, to change it.
    pub(super) fn window_state_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    /// RFC 5681 §3.1: about a segment for each window of acknowledged bytes.
    fn avoid(&mut self, acked_bytes: u64) {
        self.credit_bytes += acked_bytes;
        while self.credit_bytes >= self.window.cwnd() {
            self.credit_bytes -= self.window.cwnd();
            self.window.grow(self.window.segment_bytes());
        }
    }

    /// Halves what was in flight.
    fn halve(&mut self, in_flight: u64) {
        self.window.save();
        self.window.set_ssthresh(in_flight / 2);
        self.credit_bytes = 0;
    }

    /// A mark is answered: the window becomes that small, and goes on from there by congestion avoidance.
    pub(super) fn cut_to(&mut self, bytes: u64) {
        self.window.save();
        self.window.set_ssthresh(bytes);
        self.window.set_cwnd(bytes);
        self.credit_bytes = 0;
    }
}

impl Controller for Reno {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, _now: Instant, sample: &AckSample) {
        let mut left = sample.growth_bytes;
        if self.window.is_slow_start() {
            left = slow_start::grow(&mut self.window, sample);
        }
        if left > 0 && self.window.is_used(sample.flight_bytes) {
            self.avoid(left);
        }
    }

    fn on_loss(&mut self, _now: Instant, in_flight: u64) {
        // RFC 5681 §3.2 step 2 and RFC 6675 §5 step 4.2: ssthresh = cwnd = FlightSize / 2.
        self.halve(in_flight);
        self.window.set_cwnd(self.window.ssthresh());
    }

    fn on_rto(&mut self, _now: Instant, in_flight: u64, again: bool) {
        // RFC 5681 §3.1: a segment that is retransmitted by the timer more than once leaves ssthresh as it is.
        if !again {
            self.halve(in_flight);
        }
        // RFC 5681 §3.1: the loss window is one segment.
        self.window.set_cwnd(self.window.segment_bytes());
        self.credit_bytes = 0;
    }

    fn on_recovered(&mut self, _now: Instant, limit_bytes: u64) {
        // RFC 6582 §3.2 step 3: ssthresh is the window after recovery. It was set when loss was detected; after a
        // time-out slow start has brought the window to where it is.
        self.window.set_cwnd(self.window.cwnd().min(limit_bytes));
    }

    fn on_undo(&mut self, _now: Instant) {
        self.window.restore();
    }

    fn on_ecn(&mut self, _now: Instant, in_flight: u64) {
        // RFC 3168 §6.1.2: as after a loss, but the window may go down to one segment.
        self.cut_to(in_flight / 2);
    }

    fn on_idle(&mut self, _now: Instant) {
        self.window.decay();
    }

    fn on_restart(&mut self, _now: Instant) {
        self.window.restart();
    }

    fn on_penalty(&mut self, _now: Instant) {
        self.window.penalise();
        self.credit_bytes = 0;
    }

    fn set_segment_bytes(&mut self, segment_bytes: u64) {
        self.window.set_segment_bytes(segment_bytes);
    }

    fn window(&self) -> u64 {
        self.window.cwnd()
    }

    fn ssthresh(&self) -> u64 {
        self.window.ssthresh()
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn ack(reno: &mut Reno, growth_bytes: u64, flight_bytes: u64) {
        reno.on_ack(NOW, &AckSample { growth_bytes, flight_bytes, ..AckSample::default() });
    }

    fn reno() -> Reno {
        Reno::new(Window::new(1000, Window::initial(1000)))
    }

    #[test]
    fn the_initial_window_follows_the_segment() {
        assert_eq!(Window::initial(1000), 10_000);
        assert_eq!(Window::initial(1460), 14_600);
        assert_eq!(Window::initial(4000), 14_600);
        assert_eq!(Window::initial(9000), 18_000);
    }

    #[test]
    fn slow_start_doubles_up_to_the_threshold_and_avoidance_adds_a_segment() {
        let mut reno = reno();
        ack(&mut reno, 10_000, 10_000);
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(NOW, 20_000);
        assert_eq!((reno.window(), reno.ssthresh()), (10_000, 10_000));
        for _ in 0..9 {
            ack(&mut reno, 1000, 10_000);
        }
        assert_eq!(reno.window(), 10_000);
        ack(&mut reno, 1000, 10_000);
        assert_eq!(reno.window(), 11_000);
        // The threshold cuts a large acknowledgment in two.
        reno.on_rto(NOW, 16_000, false);
        assert_eq!((reno.window(), reno.ssthresh()), (1000, 8000));
        ack(&mut reno, 7_000 + 8_000, 16_000);
        assert_eq!(reno.window(), 9000);
    }

    #[test]
    fn the_window_keeps_a_segment_and_the_threshold_two() {
        let mut reno = reno();
        reno.on_loss(NOW, 500);
        assert_eq!((reno.window(), reno.ssthresh()), (2000, 2000));
        reno.on_rto(NOW, 500, false);
        assert_eq!(reno.window(), 1000);
        reno.on_rto(NOW, 90_000, true);
        assert_eq!(reno.ssthresh(), 2000, "again by the timer: as it was");
        reno.set_segment_bytes(3000);
        assert_eq!(reno.window(), 3000);
    }

    #[test]
    fn a_window_that_was_not_filled_does_not_grow() {
        let mut reno = reno();
        ack(&mut reno, 5000, 5000);
        assert_eq!(reno.window(), 10_000, "half used in slow start");
        ack(&mut reno, 5001, 5001);
        assert_eq!(reno.window(), 15_001);
        reno.on_loss(NOW, 20_000);
        (0..50).for_each(|_| ack(&mut reno, 1000, 8_000));
        assert_eq!(reno.window(), 10_000);
        (0..50).for_each(|_| ack(&mut reno, 1000, 9_000));
        assert!(reno.window() > 10_000);
    }

    #[test]
    fn nothing_grows_while_a_loss_is_answered() {
        let mut reno = reno();
        let sample =
            AckSample { acked_bytes: 10_000, flight_bytes: 10_000, recovering: true, ..AckSample::default() };
        reno.on_ack(NOW, &sample);
        assert_eq!(reno.window(), 10_000);
    }

    #[test]
    fn a_reduction_for_nothing_is_taken_back_once() {
        let mut reno = reno();
        ack(&mut reno, 30_000, 30_000);
        reno.on_loss(NOW, 40_000);
        ack(&mut reno, 20_000, 20_000);
        assert_eq!(reno.window(), 21_000);
        reno.on_undo(NOW);
        assert_eq!((reno.window(), reno.ssthresh()), (40_000, u64::MAX));
        reno.on_loss(NOW, 40_000);
        reno.on_undo(NOW);
        reno.on_loss(NOW, 40_000);
        assert_eq!(reno.window(), 20_000);
        reno.on_undo(NOW);
        reno.on_undo(NOW);
        assert_eq!(reno.window(), 40_000, "not twice");
    }

    #[test]
    fn a_mark_halves_and_one_segment_is_left() {
        let mut reno = reno();
        reno.on_ecn(NOW, 10_000);
        assert_eq!((reno.window(), reno.ssthresh()), (5000, 5000));
        (0..5).for_each(|_| reno.on_ecn(NOW, reno.window()));
        assert_eq!((reno.window(), reno.ssthresh()), (1000, 2000));
    }

    #[test]
    fn a_window_that_was_long_unused_is_halved_and_the_threshold_remembers() {
        let mut reno = reno();
        ack(&mut reno, 30_000, 30_000);
        reno.on_loss(NOW, 80_000);
        assert_eq!(reno.window(), 40_000);
        reno.on_idle(NOW);
        assert_eq!((reno.window(), reno.ssthresh()), (20_000, 40_000));
        (0..5).for_each(|_| reno.on_idle(NOW));
        assert_eq!(reno.window(), 10_000, "RFC 7661 §4.4.3: not below the initial window");
    }

    #[test]
    fn the_window_has_an_end() {
        let mut reno = reno();
        (0..100).for_each(|_| ack(&mut reno, 1 << 28, u64::MAX / 4));
        assert_eq!(reno.window(), 1 << 30);
    }
}
