//! The window of a subflow that is coupled with others: NewReno's slow start and its reactions, but grown and cut as the
//! last [`Coupling`] says, which comes from outside (`couple.rs`).

use crate::base::Instant;
use crate::cc::couple::{CoupledAlgorithm, Coupling};
use crate::cc::{AckSample, Controller, Window, slow_start};
use serde::{Deserialize, Serialize};

/// Bytes that were acknowledged since the last loss, and between the last two: OLIA's l.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LossHistory {
    /// Since the last loss.
    pub since_bytes: u64,
    /// Between the last two.
    pub between_bytes: u64,
}

/// A coupled window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Coupled {
    algorithm: CoupledAlgorithm,
    window: Window,
    coupling: Coupling,
    history: LossHistory,
    /// Before the last loss, to go back to if it was none.
    saved_history: Option<LossHistory>,
    /// Growth of less than a byte.
    fraction: f64,
}

impl Coupled {
    /// Begins in slow start with `window`, coupled with nobody.
    pub fn new(algorithm: CoupledAlgorithm, window: Window) -> Self {
        Self {
            algorithm,
            window,
            coupling: Coupling::default(),
            history: LossHistory::default(),
            saved_history: None,
            fraction: 0.0,
        }
    }

    /// How subflows are coupled.
    pub fn algorithm(&self) -> CoupledAlgorithm {
        self.algorithm
    }

    /// What was acknowledged since losses.
    pub fn history(&self) -> LossHistory {
        self.history
    }

    /// The window itself, whatever the law.
    pub(super) fn window_state(&self) -> &Window {
        &self.window
    }

    /// Payload bytes of a full segment.
    pub fn segment_bytes(&self) -> u64 {
        self.window.segment_bytes()
    }

    /// The others have changed, or this one has.
    pub fn set_coupling(&mut self, coupling: Coupling) {
        self.coupling = coupling;
    }

    fn avoid(&mut self, acked_bytes: u64) {
        let Coupling { growth, reno_growth, at_most_reno, .. } = self.coupling;
        let reno = self.window.segment_bytes() as f64 / self.window.cwnd() as f64;
        let wanted = growth + reno_growth * reno;
        // Never faster than slow start, whatever an old coupling says of a window that is another by now.
        let most = if at_most_reno { reno } else { 1.0 };
        self.fraction += acked_bytes as f64 * wanted.min(most);
        let whole = self.fraction.trunc();
        self.fraction -= whole;
        if whole >= 0.0 {
            self.window.grow(whole as u64);
        } else {
            self.window.set_cwnd(self.window.cwnd().saturating_sub(-whole as u64));
            // Or slow start would bring it back.
            self.window.set_ssthresh(self.window.ssthresh().min(self.window.cwnd()));
        }
    }

    /// Cuts what was in flight.
    fn cut(&mut self, in_flight: u64) -> u64 {
        let Coupling { decrease, decrease_bytes, .. } = self.coupling;
        let left = in_flight.saturating_sub((in_flight as f64 * decrease) as u64);
        let left = left.saturating_sub(decrease_bytes);
        self.window.save();
        self.saved_history = Some(self.history);
        self.history = LossHistory { since_bytes: 0, between_bytes: self.history.since_bytes };
        self.window.set_ssthresh(left);
        self.fraction = 0.0;
        left
    }
}

impl Controller for Coupled {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, _now: Instant, sample: &AckSample) {
        self.history.since_bytes += sample.acked_bytes;
        let mut left = sample.growth_bytes;
        // RFC 6356 §3: slow start is that of TCP.
        if self.window.is_slow_start() {
            left = slow_start::grow(&mut self.window, sample);
        }
        if left > 0 && self.window.is_used(sample.flight_bytes) {
            self.avoid(left);
        }
    }

    fn on_loss(&mut self, _now: Instant, in_flight: u64) {
        self.cut(in_flight);
        self.window.set_cwnd(self.window.ssthresh());
    }

    fn on_rto(&mut self, _now: Instant, in_flight: u64, again: bool) {
        // RFC 5681 §3.1: a segment that is retransmitted by the timer more than once leaves ssthresh as it is.
        if !again {
            self.cut(in_flight);
        }
        self.window.set_cwnd(self.window.segment_bytes());
        self.fraction = 0.0;
    }

    fn on_recovered(&mut self, _now: Instant, limit_bytes: u64) {
        self.window.set_cwnd(self.window.cwnd().min(limit_bytes));
    }

    fn on_undo(&mut self, _now: Instant) {
        self.window.restore();
        if let Some(LossHistory { since_bytes, between_bytes }) = self.saved_history.take() {
            self.history = LossHistory { since_bytes: since_bytes + self.history.since_bytes, between_bytes };
        }
    }

    fn on_ecn(&mut self, _now: Instant, in_flight: u64) {
        // RFC 3168 §6.1.2: as after a loss, but the window may go down to one segment.
        let left = self.cut(in_flight);
        self.window.set_cwnd(left);
    }

    fn on_idle(&mut self, _now: Instant) {
        self.window.decay();
    }

    fn on_restart(&mut self, _now: Instant) {
        self.window.restart();
    }

    fn on_penalty(&mut self, _now: Instant) {
        self.window.penalise();
        self.fraction = 0.0;
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

    fn coupled() -> Coupled {
        let mut coupled = Coupled::new(CoupledAlgorithm::Lia, Window::new(1000, 10_000));
        // Out of slow start.
        coupled.on_loss(NOW, 20_000);
        assert_eq!((coupled.window(), coupled.ssthresh()), (10_000, 10_000));
        coupled
    }

    fn ack(coupled: &mut Coupled, bytes: u64) {
        let flight_bytes = coupled.window();
        coupled.on_ack(
            NOW,
            &AckSample { acked_bytes: bytes, growth_bytes: bytes, flight_bytes, ..AckSample::default() },
        );
    }

    #[test]
    fn uncoupled_it_adds_a_segment_a_window_as_new_reno_does() {
        let mut coupled = coupled();
        (0..10).for_each(|_| ack(&mut coupled, 1000));
        // A little less than a segment: it grows meanwhile.
        assert!((10_950..=11_000).contains(&coupled.window()), "{}", coupled.window());
    }

    #[test]
    fn it_grows_by_what_it_was_told_and_by_no_more_than_new_reno_if_told_so() {
        let mut coupled = coupled();
        let coupling = Coupling { growth: 0.025, reno_growth: 0.0, ..Coupling::default() };
        coupled.set_coupling(coupling);
        (0..10).for_each(|_| ack(&mut coupled, 1000));
        assert_eq!(coupled.window(), 10_250);
        coupled.set_coupling(Coupling { growth: 0.5, at_most_reno: true, ..coupling });
        ack(&mut coupled, 1025);
        assert_eq!(
            coupled.window(),
            10_350,
            "a tenth of what was acknowledged, the window being ten segments"
        );
        coupled.set_coupling(Coupling { growth: 50.0, ..coupling });
        ack(&mut coupled, 1000);
        assert_eq!(coupled.window(), 11_350, "not faster than slow start");
    }

    #[test]
    fn a_window_that_is_left_shrinks_and_keeps_a_segment() {
        let mut coupled = coupled();
        coupled.set_coupling(Coupling { growth: 0.0, reno_growth: -0.5, ..Coupling::default() });
        ack(&mut coupled, 1000);
        assert_eq!(coupled.window(), 9_950);
        assert_eq!(coupled.ssthresh(), 9_950, "or slow start would bring it back");
        for _ in 0..1000 {
            ack(&mut coupled, 1000);
        }
        assert!((1000..=2000).contains(&coupled.window()), "{}", coupled.window());
    }

    #[test]
    fn a_loss_takes_the_part_and_the_bytes_that_it_was_told() {
        let mut coupled = coupled();
        coupled.set_coupling(Coupling { decrease: 0.75, ..Coupling::default() });
        coupled.on_loss(NOW, 40_000);
        assert_eq!((coupled.window(), coupled.ssthresh()), (10_000, 10_000));
        coupled.set_coupling(Coupling { decrease: 0.0, decrease_bytes: 12_000, ..Coupling::default() });
        coupled.on_loss(NOW, 40_000);
        assert_eq!(coupled.window(), 28_000);
        coupled.on_ecn(NOW, 12_500);
        assert_eq!((coupled.window(), coupled.ssthresh()), (1000, 2000), "a mark may leave one segment");
        coupled.on_loss(NOW, 9_000);
        assert_eq!(coupled.window(), 2000);
        coupled.on_rto(NOW, 40_000, false);
        assert_eq!((coupled.window(), coupled.ssthresh()), (1000, 28_000));
        coupled.on_rto(NOW, 1_000, true);
        assert_eq!(coupled.ssthresh(), 28_000, "again by the timer: as it was");
    }

    #[test]
    fn what_is_acknowledged_is_counted_from_loss_to_loss_and_no_loss_counts_for_nothing() {
        let mut coupled = Coupled::new(CoupledAlgorithm::Olia, Window::new(1000, 10_000));
        let history = |coupled: &Coupled| (coupled.history().since_bytes, coupled.history().between_bytes);
        ack(&mut coupled, 3000);
        coupled.on_loss(NOW, 10_000);
        assert_eq!(history(&coupled), (0, 3000));
        ack(&mut coupled, 500);
        coupled.on_rto(NOW, 10_000, false);
        ack(&mut coupled, 100);
        assert_eq!(history(&coupled), (100, 500));
        coupled.on_undo(NOW);
        assert_eq!(history(&coupled), (600, 3000));
        coupled.on_undo(NOW);
        assert_eq!(history(&coupled), (600, 3000), "not twice");
    }
}
