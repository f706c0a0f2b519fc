//! CUBIC (RFC 9438), with HyStart++ (RFC 9406) for its first slow start. Windows are kept in bytes; the RFC's formulas
//! are in segments and seconds, and so are the numbers here that go by them.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::cc::hystart::HyStart;
use crate::cc::{AckSample, Controller, Window};
use serde::{Deserialize, Serialize};

/// RFC 9438 §4.6: the multiplicative decrease; seven tenths where bytes are counted.
const BETA: f64 = 0.7;
/// RFC 9438 §5.1: segments a second to the third.
const C: f64 = 0.4;
/// RFC 9438 §4.3: what makes AIMD(alpha, beta) as fast as Reno.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// A stage of congestion avoidance, from one congestion event to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Epoch {
    start: Instant,
    /// Seconds until the curve is back at `w_max`.
    k: f64,
    /// The plateau of the curve: RFC 9438's W_max.
    w_max: f64,
    /// The window that Reno would have now.
    w_est: f64,
}

/// What a congestion event changes, to go back to when it was none (RFC 9438 §4.9.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Saved {
    cwnd_prior: f64,
    w_max: Option<f64>,
    epoch: Option<Epoch>,
}

/// CUBIC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cubic {
    window: Window,
    slow_start: HyStart,
    /// The window when the last congestion event came. Where a stage begins without one (after slow start that was left
    /// for delay, or after a time-out), none.
    w_max: Option<f64>,
    /// The window when the threshold was set last.
    cwnd_prior: f64,
    epoch: Option<Epoch>,
    /// Growth of less than a byte.
    fraction: f64,
    /// When the last acknowledgment came that let the window grow or could have.
    last_ack: Instant,
    saved: Option<Saved>,
}

impl Cubic {
    /// Begins with `window`, in slow start unless it has seen a loss.
    pub fn new(window: Window) -> Self {
        let mut slow_start = HyStart::new();
        if window.ssthresh() != u64::MAX {
            // RFC 9406 §4.3: only the first slow start.
            slow_start.end();
        }
        Self {
            window,
            slow_start,
            w_max: None,
            cwnd_prior: f64::INFINITY,
            epoch: None,
            fraction: 0.0,
            last_ack: Instant::ZERO,
            saved: None,
        }
    }

    /// The window itself, whatever the law.
    pub(super) fn window_state(&self) -> &Window {
        &self.window
    }

    /// The window in segments.
    fn segments(&self) -> f64 {
        self.window.cwnd() as f64 / self.window.segment_bytes() as f64
    }

    /// RFC 9438 §4.2 to §4.5: the larger of the cubic function and of what Reno would have.
    fn avoid(&mut self, now: Instant, acked_bytes: u64, rtt: Duration) {
        let cwnd = self.segments();
        let epoch = self.epoch.get_or_insert_with(|| {
            // RFC 9438 §4.8, §4.10: without a congestion event the plateau is where we are.
            let w_max = self.w_max.unwrap_or(cwnd);
            let k = ((w_max - cwnd).max(0.0) / C).cbrt();
            Epoch { start: now, k, w_max: w_max.max(cwnd), w_est: cwnd }
        });
        if self.cwnd_prior.is_infinite() {
            // RFC 9438 §4.10: slow start was left without a congestion event.
            self.cwnd_prior = cwnd;
        }
        let acked = acked_bytes as f64 / self.window.segment_bytes() as f64;
        // RFC 9438 §4.3: once it has caught up with the last event, Reno's own step.
        let alpha = if epoch.w_est >= self.cwnd_prior { 1.0 } else { ALPHA };
        epoch.w_est += alpha * acked / cwnd;
        let w_est = epoch.w_est;
        let at = |seconds: f64| C * (seconds - epoch.k).powi(3) + epoch.w_max;
        let elapsed = now.since(epoch.start).as_secs_f64();
        let gain = if at(elapsed) < w_est {
            w_est - cwnd
        } else {
            let target = at(elapsed + rtt.as_secs_f64()).clamp(cwnd, 1.5 * cwnd);
            (target - cwnd) / cwnd * acked
        };
        self.grow(gain.max(0.0));
    }

    /// Grows the window by so many segments.
    fn grow(&mut self, segments: f64) {
        let bytes = segments * self.window.segment_bytes() as f64 + self.fraction;
        self.window.grow(bytes as u64);
        self.fraction = bytes.fract();
    }

    /// RFC 9438 §4.2, §5.8: time in which the window was not used does not count.
    fn skip(&mut self, now: Instant) {
        let pause = now.since(self.last_ack);
        if let Some(epoch) = &mut self.epoch {
            epoch.start += pause;
        }
        self.last_ack = now;
    }

    /// RFC 9438 §4.6 and §4.7: what a congestion event means for the next stage.
    fn end_epoch(&mut self, in_flight: u64) {
        self.window.save();
        self.saved = Some(Saved { cwnd_prior: self.cwnd_prior, w_max: self.w_max, epoch: self.epoch });
        let cwnd = self.segments();
        // RFC 9438 §4.7 (fast convergence): below the last plateau somebody else wants a share.
        let converges = self.w_max.is_some_and(|w_max| cwnd < w_max);
        self.w_max = Some(if converges { cwnd * (1.0 + BETA) / 2.0 } else { cwnd });
        self.cwnd_prior = cwnd;
        self.epoch = None;
        self.fraction = 0.0;
        self.window.set_ssthresh(in_flight * 7 / 10);
        self.slow_start.end();
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        if in_flight <= bytes {
            // Nothing had been in the network.
            self.skip(now);
        }
    }

    fn on_ack(&mut self, now: Instant, sample: &AckSample) {
        if sample.recovering {
            self.last_ack = now;
            return;
        }
        let mut left = sample.growth_bytes;
        if self.window.is_slow_start() {
            left = self.slow_start.grow(&mut self.window, sample);
        }
        if self.window.is_slow_start() {
            return;
        }
        if !self.window.is_used(sample.flight_bytes) {
            self.skip(now);
        } else if left > 0 {
            self.avoid(now, left, sample.srtt.unwrap_or_default());
        }
        self.last_ack = now;
    }

    fn on_loss(&mut self, _now: Instant, in_flight: u64) {
        self.end_epoch(in_flight);
        self.window.set_cwnd(self.window.ssthresh());
    }

    fn on_rto(&mut self, _now: Instant, in_flight: u64, again: bool) {
        if !again {
            self.end_epoch(in_flight);
        }
        // RFC 9438 §4.8: the first stage after a time-out begins with its plateau.
        self.w_max = None;
        self.epoch = None;
        self.fraction = 0.0;
        self.window.set_cwnd(self.window.segment_bytes());
    }

    fn on_recovered(&mut self, _now: Instant, limit_bytes: u64) {
        self.window.set_cwnd(self.window.cwnd().min(limit_bytes));
    }

    fn on_undo(&mut self, _now: Instant) {
        // RFC 9438 §4.9.2.
        let Some(saved) = self.saved.take() else { return };
        if self.segments() < self.cwnd_prior {
            Saved { cwnd_prior: self.cwnd_prior, w_max: self.w_max, epoch: self.epoch } = saved;
        }
        self.window.restore();
    }

    fn on_ecn(&mut self, _now: Instant, in_flight: u64) {
        self.end_epoch(in_flight);
        // RFC 9438 §4.6: on ECE the window may go down to one segment.
        self.window.set_cwnd(in_flight * 7 / 10);
    }

    fn on_idle(&mut self, _now: Instant) {
        self.window.decay();
        self.epoch = None;
    }

    fn on_restart(&mut self, _now: Instant) {
        self.window.restart();
        self.epoch = None;
    }

    fn on_penalty(&mut self, _now: Instant) {
        self.window.penalise();
        self.epoch = None;
        self.fraction = 0.0;
    }

    fn set_segment_bytes(&mut self, segment_bytes: u64) {
        // What is counted in segments stays the same number of bytes.
        let factor = self.window.segment_bytes() as f64 / segment_bytes as f64;
        self.window.set_segment_bytes(segment_bytes);
        self.cwnd_prior *= factor;
        self.w_max = self.w_max.map(|w_max| w_max * factor);
        if let Some(epoch) = &mut self.epoch {
            (epoch.w_max, epoch.w_est) = (epoch.w_max * factor, epoch.w_est * factor);
        }
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

    const MSS: u64 = 1000;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn sample(growth_bytes: u64, rtt_ms: u64) -> AckSample {
        AckSample {
            growth_bytes,
            flight_bytes: 1 << 30,
            srtt: Some(Duration::from_millis(rtt_ms)),
            ..AckSample::default()
        }
    }

    /// In congestion avoidance after a loss at `segments`.
    fn after_loss(segments: u64) -> Cubic {
        let mut cubic = Cubic::new(Window::new(MSS, segments * MSS));
        cubic.on_loss(at(0), segments * MSS);
        cubic
    }

    /// Acknowledges a window each round trip from `from_ms` on, for `rounds` of them; gives the window in segments after
    /// each.
    fn run(cubic: &mut Cubic, from_ms: u64, rtt_ms: u64, rounds: u64) -> Vec<f64> {
        let mut windows = Vec::new();
        for round in 0..rounds {
            let acks = cubic.window() / MSS;
            for ack in 0..acks {
                let now = from_ms + round * rtt_ms + rtt_ms * ack / acks;
                cubic.on_ack(at(now), &sample(MSS, rtt_ms));
            }
            windows.push(cubic.window() as f64 / MSS as f64);
        }
        windows
    }

    #[test]
    fn the_window_follows_the_cubic_curve() {
        // 1000 segments at 100 ms: K = cbrt(300 / 0.4) = 9.09 s.
        let mut cubic = after_loss(1000);
        assert_eq!((cubic.window(), cubic.ssthresh()), (700 * MSS, 700 * MSS));
        let windows = run(&mut cubic, 0, 100, 180);
        for (round, window) in windows.iter().enumerate() {
            let seconds = (round + 1) as f64 * 0.1;
            let curve = 0.4 * (seconds - 9.086f64).powi(3) + 1000.0;
            assert!((window - curve).abs() < 15.0, "after {seconds} s: {window}, the curve says {curve}");
        }
        assert!(windows[40] > 930.0 && windows[90] < 1010.0 && windows[179] > 1250.0, "concave, then convex");
    }

    #[test]
    fn on_short_paths_it_is_as_fast_as_reno() {
        // 20 segments at 10 ms: the cubic curve takes 2.5 s to come back, Reno's window is there long before.
        let mut cubic = after_loss(20);
        let windows = run(&mut cubic, 0, 10, 60);
        // From 14 by 3 * 0.3 / 1.7 = 0.53 a round trip to 20, and by 1 from there.
        assert!((windows[9] - 19.3).abs() < 0.6, "{}", windows[9]);
        let twenty = windows.iter().position(|window| *window >= 20.5).expect("it gets there");
        let slope = windows[twenty + 20] - windows[twenty];
        assert!((slope - 20.0).abs() < 1.5, "{slope}");
    }

    #[test]
    fn growth_is_bounded_by_half_a_window_a_round_trip() {
        let mut cubic = after_loss(10);
        run(&mut cubic, 0, 100, 1);
        // Ten minutes later the curve is far above.
        let before = cubic.window();
        run(&mut cubic, 600_000, 100, 1);
        assert!(cubic.window() <= before + before / 2 + MSS);
    }

    #[test]
    fn time_in_which_the_window_is_not_used_does_not_count() {
        let mut cubic = after_loss(1000);
        run(&mut cubic, 0, 100, 10);
        let window = cubic.window();
        for ms in (1_000..61_000).step_by(100) {
            cubic.on_ack(at(ms), &AckSample { flight_bytes: 10 * MSS, ..sample(MSS, 100) });
        }
        assert_eq!(cubic.window(), window);
        // Nor does a pause of a minute with nothing in the network.
        cubic.on_sent(at(121_000), MSS, MSS);
        let windows = run(&mut cubic, 121_000, 100, 10);
        let curve = 0.4 * (2.0 - 9.086f64).powi(3) + 1000.0;
        assert!((windows[9] - curve).abs() < 15.0, "{} and {curve}", windows[9]);
    }

    #[test]
    fn a_loss_below_the_plateau_lowers_it() {
        let mut cubic = after_loss(1000);
        cubic.on_loss(at(100), 700 * MSS);
        assert_eq!(cubic.w_max, Some(700.0 * 0.85));
        assert_eq!(cubic.window(), 490 * MSS);
    }

    #[test]
    fn a_time_out_begins_anew_from_where_slow_start_ends() {
        let mut cubic = after_loss(1000);
        cubic.on_rto(at(1000), 700 * MSS, false);
        assert_eq!((cubic.window(), cubic.ssthresh()), (MSS, 490 * MSS));
        cubic.on_ack(at(2000), &sample(489 * MSS, 100));
        assert_eq!(cubic.window(), 490 * MSS);
        cubic.on_ack(at(2000), &sample(MSS, 100));
        let epoch = cubic.epoch.expect("congestion avoidance has begun");
        assert_eq!((epoch.k, epoch.w_max), (0.0, 490.0));
    }

    #[test]
    fn an_event_that_was_none_is_forgotten() {
        let mut cubic = after_loss(1000);
        run(&mut cubic, 0, 100, 20);
        let before = cubic.clone();
        cubic.on_loss(at(2100), cubic.window());
        cubic.on_ack(at(2200), &sample(MSS, 100));
        cubic.on_undo(at(2300));
        assert_eq!(cubic.window(), before.window());
        assert_eq!((cubic.epoch, cubic.w_max), (before.epoch, before.w_max));
        assert_eq!(cubic.ssthresh(), before.ssthresh());
        cubic.on_undo(at(2400));
        assert_eq!(cubic.window(), before.window(), "once");
    }

    #[test]
    fn a_mark_may_leave_one_segment() {
        let mut cubic = after_loss(10);
        (0..20).for_each(|_| cubic.on_ecn(at(1), cubic.window()));
        assert_eq!((cubic.window(), cubic.ssthresh()), (MSS, 2 * MSS));
    }

    #[test]
    fn slow_start_that_was_left_for_delay_goes_on_from_there() {
        let mut cubic = Cubic::new(Window::new(MSS, 100 * MSS));
        cubic.window.leave_slow_start();
        let windows = run(&mut cubic, 0, 100, 20);
        assert!(windows.is_sorted() && (101.0..130.0).contains(&windows[19]), "{windows:?}");
        assert_eq!(cubic.cwnd_prior, 100.0);
    }
}
