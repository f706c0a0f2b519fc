//! DCTCP (RFC 8257): NewReno, but a window that is cut by as much as packets were marked. Both ends have to run it: the receiver
//! echoes marks exactly ([`crate::tcp::EcnEcho::Accurate`]), which is not negotiated; so it is for data centres only. SYNs leave
//! without ECT, other than RFC 8257 §3.6 would have it: RFC 3168 §6.1.1 forbids it, and who asks for ECN does not know yet
//! whether the peer has it.

use crate::base::Instant;
use crate::cc::{AckSample, Controller, Reno, Window};
use serde::{Deserialize, Serialize};

/// RFC 8257 §4.2: the weight of the last round trip in the estimate.
const GAIN: f64 = 1.0 / 16.0;

/// DCTCP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dctcp {
    reno: Reno,
    /// The share of bytes that were marked, as estimated.
    alpha: f64,
    /// Bytes acknowledged in this round trip, and those of them that were marked.
    acked_bytes: u64,
    marked_bytes: u64,
}

impl Dctcp {
    /// Begins in slow start with `window`.
    pub fn new(window: Window) -> Self {
        // RFC 8257 §3.3: the estimate is initialised to 1. §4.2 says why: the first answer is to be as strong as TCP's.
        Self { reno: Reno::new(window), alpha: 1.0, acked_bytes: 0, marked_bytes: 0 }
    }

    /// The window itself, whatever the law.
    pub(super) fn window_state(&self) -> &Window {
        self.reno.window_state()
    }

    /// RFC 8257 §3.3 steps 1 to 8. Bytes count when they are known to have been delivered, selectively acknowledged ones, too:
    /// the share of marked bytes is the same, and known earlier.
    fn estimate(&mut self, sample: &AckSample) {
        self.acked_bytes += sample.acked_bytes;
        self.marked_bytes += sample.marked_bytes;
        if sample.round_start && self.acked_bytes > 0 {
            let marked = self.marked_bytes.min(self.acked_bytes) as f64 / self.acked_bytes as f64;
            self.alpha = self.alpha * (1.0 - GAIN) + GAIN * marked;
            (self.acked_bytes, self.marked_bytes) = (0, 0);
        }
    }
}

impl Controller for Dctcp {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        self.reno.on_sent(now, bytes, in_flight);
    }

    fn on_ack(&mut self, now: Instant, sample: &AckSample) {
        self.estimate(sample);
        // RFC 8257 §3.4: it grows as TCP's window does.
        self.reno.on_ack(now, sample);
    }

    fn on_loss(&mut self, now: Instant, in_flight: u64) {
        // RFC 8257 §3.5: loss is answered as TCP answers it.
        self.reno.on_loss(now, in_flight);
    }

    fn on_rto(&mut self, now: Instant, in_flight: u64, again: bool) {
        self.reno.on_rto(now, in_flight, again);
    }

    fn on_recovered(&mut self, now: Instant, limit_bytes: u64) {
        self.reno.on_recovered(now, limit_bytes);
    }

    fn on_undo(&mut self, now: Instant) {
        self.reno.on_undo(now);
    }

    fn on_ecn(&mut self, _now: Instant, in_flight: u64) {
        // RFC 8257 §3.3 step 9: cwnd = cwnd * (1 - alpha / 2). Of a window that was not used only that much counts which was,
        // as for any answer to congestion (RFC 7661 §4.4.1).
        let used = self.reno.window().min(in_flight);
        let left = (used as f64 * (1.0 - self.alpha / 2.0)) as u64;
        self.reno.cut_to(left);
    }

    fn on_idle(&mut self, now: Instant) {
        self.reno.on_idle(now);
    }

    fn on_restart(&mut self, now: Instant) {
        self.reno.on_restart(now);
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

    /// A round trip in which a window was acknowledged, `marked_bytes` of it as marked.
    fn round(dctcp: &mut Dctcp, marked_bytes: u64) {
        let acked_bytes = dctcp.window();
        let sample = AckSample { acked_bytes, marked_bytes, round_start: true, ..AckSample::default() };
        dctcp.on_ack(NOW, &sample);
    }

    fn dctcp() -> Dctcp {
        Dctcp::new(Window::new(1000, 64_000))
    }

    #[test]
    fn the_first_mark_is_answered_as_tcp_does() {
        let mut dctcp = dctcp();
        dctcp.on_ecn(NOW, 64_000);
        assert_eq!((dctcp.window(), dctcp.ssthresh()), (32_000, 32_000));
    }

    #[test]
    fn a_window_is_cut_by_half_of_the_share_that_is_marked() {
        let mut dctcp = dctcp();
        // RFC 8257 §3.3: after one round trip without marks 15/16, after two 225/256.
        round(&mut dctcp, 0);
        assert!((dctcp.alpha - 0.9375).abs() < 1e-12);
        round(&mut dctcp, 0);
        assert!((dctcp.alpha - 0.87890625).abs() < 1e-12);
        // A quarter is marked, for long enough.
        for _ in 0..200 {
            round(&mut dctcp, 16_000);
        }
        assert!((dctcp.alpha - 0.25).abs() < 1e-3, "{}", dctcp.alpha);
        dctcp.on_ecn(NOW, 64_000);
        assert!((55_900..=56_100).contains(&dctcp.window()), "{}", dctcp.window());
    }

    #[test]
    fn a_round_trip_without_acknowledged_bytes_tells_nothing_and_loss_is_answered_as_ever() {
        let mut dctcp = dctcp();
        dctcp.on_ack(NOW, &AckSample { round_start: true, ..AckSample::default() });
        assert_eq!(dctcp.alpha, 1.0);
        for _ in 0..200 {
            round(&mut dctcp, 0);
        }
        dctcp.on_ecn(NOW, 64_000);
        assert!(dctcp.window() >= 63_990, "no share, no cut: {}", dctcp.window());
        dctcp.on_loss(NOW, 64_000);
        assert_eq!(dctcp.window(), 32_000);
    }

    #[test]
    fn what_was_in_flight_is_cut_and_not_a_window_that_was_not_used() {
        let mut dctcp = dctcp();
        dctcp.on_ecn(NOW, 20_000);
        assert_eq!(dctcp.window(), 10_000);
    }
}
