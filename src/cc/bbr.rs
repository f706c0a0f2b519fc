//! BBR, version 3 (draft-ietf-ccwg-bbr-06, and its editors' copy of August 2026): a model of the path, made of the rate at which
//! it delivers, its round trip without queues, and the losses at which too much was in flight. It sends at that rate, and
//! now and then faster, slower, or hardly at all, to see whether the model still holds.
//!
//! This file has what follows from an acknowledgment; `probe.rs` the cycle of [`State`]s, `response.rs` what losses do to the
//! model, `path.rs` the filters. Names are those of the draft. What differs:
//! - Losses come as they are detected, several at once, as the draft has it for bursts: of the one that left last.
//! - What is random in the draft (§5.3.3.7: when to probe) follows from the moment: flows differ in it, and runs repeat.
//! - The answer to a congestion mark, which the draft leaves open (§3.6), is that to a loss outside of probing.

mod path;
mod probe;
mod response;
#[cfg(test)]
mod tests;

use crate::base::Instant;
use crate::cc::{AckSample, Controller, LostSample, Window, burst_bytes};
use path::{Aggregation, AggregationAck, LossLog, MaxBandwidth, MinRtt};
use probe::Probe;
use response::{Recent, Undo};
use serde::{Deserialize, Serialize};

/// No bound.
const UNBOUNDED: u64 = u64::MAX;
/// BBR.PacingMarginPercent: it sends one percent slower than it thinks the path is, so that queues drain.
const PACING_MARGIN: f64 = 0.99;
/// BBR.MinPipeCwnd, in segments.
const PIPE_SEGMENTS_MIN: u64 = 4;
/// Rounds without growth by a quarter that show a full pipe (§5.3.1.2).
const FULL_PIPE_ROUNDS: u32 = 3;
const FULL_PIPE_GROWTH: f64 = 1.25;
/// Rounds after which Drain ends in any case (§5.3.2).
const DRAIN_ROUNDS: u64 = 3;

/// Where in the cycle a flow is (§5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The rate doubles each round trip until the pipe is full.
    Startup,
    /// The queue of that drains.
    Drain,
    /// ProbeBW_DOWN: slower than the path delivers.
    Down,
    /// ProbeBW_CRUISE: as fast as it delivers.
    Cruise,
    /// ProbeBW_REFILL: fills the pipe before more is tried.
    Refill,
    /// ProbeBW_UP: tries for more.
    Up,
    /// Next to nothing in flight, to see the path without queues.
    ProbeRtt,
}

impl State {
    /// §5.6.1: how much faster than the path delivers.
    fn pacing_gain(self) -> f64 {
        match self {
            State::Startup => 2.77,
            State::Drain => 0.5,
            State::Down => 0.9,
            State::Cruise | State::Refill | State::ProbeRtt => 1.0,
            State::Up => 1.25,
        }
    }

    /// §5.6.1: how much of the bandwidth-delay product may be in flight.
    fn cwnd_gain(self) -> f64 {
        match self {
            State::Startup | State::Drain | State::Down | State::Cruise | State::Refill => 2.0,
            State::Up => 2.25,
            State::ProbeRtt => 0.5,
        }
    }

    /// IsInAProbeBWState().
    fn is_probe_bw(self) -> bool {
        match self {
            State::Down | State::Cruise | State::Refill | State::Up => true,
            State::Startup | State::Drain | State::ProbeRtt => false,
        }
    }

    /// IsProbingBW().
    fn is_accelerating(self) -> bool {
        match self {
            State::Startup | State::Refill | State::Up => true,
            State::Drain | State::Down | State::Cruise | State::ProbeRtt => false,
        }
    }
}

/// Round trips counted by packets (§5.5.1).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rounds {
    /// C.delivered.
    delivered: u64,
    /// BBR.next_round_delivered: what leaves after this belongs to the next round.
    ends_at: u64,
    count: u64,
    since_probe_up: u64,
    drain_began: u64,
}

/// The estimator of a full pipe (§5.3.1.2).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct FullPipe {
    rate: u64,
    rounds: u32,
    /// BBR.full_bw_now: since it was last looked for; BBR.full_bw_reached: ever.
    now: bool,
    reached: bool,
}

impl FullPipe {
    /// ResetFullBW(), with `rate` to begin with.
    fn reset(&mut self, rate: u64) {
        (self.rate, self.rounds, self.now) = (rate, 0, false);
    }
}

/// RS and C of the draft: what this acknowledgment tells.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    now: Instant,
    /// RS.delivery_rate, in bytes a second; zero where there is none.
    rate: u64,
    /// RS.delivered, RS.prior_delivered, RS.tx_in_flight, RS.lost and RS.is_app_limited.
    delivered: u64,
    prior_delivered: u64,
    flight_then: u64,
    lost: u64,
    app_limited: bool,
    /// RS.newly_acked, C.inflight and C.is_cwnd_limited.
    acked: u64,
    in_flight: u64,
    cwnd_limited: bool,
    /// BBR.round_start and BBR.loss_round_start.
    round_start: bool,
    loss_round_start: bool,
    recovering: bool,
}

/// BBR.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bbr {
    window: Window,
    /// C.InitialCwnd.
    initial_window: u64,
    state: State,
    /// In bytes a second.
    pacing_rate: u64,
    /// The pacing rate goes by a round trip that was measured, and not by a guess.
    has_rtt: bool,
    bandwidth: MaxBandwidth,
    min_rtt: MinRtt,
    aggregation: Aggregation,
    losses: LossLog,
    /// BBR.inflight_longterm, BBR.bw_shortterm and BBR.inflight_shortterm: what losses say.
    inflight_long: u64,
    bandwidth_short: u64,
    inflight_short: u64,
    rounds: Rounds,
    full: FullPipe,
    recent: Recent,
    probe: Probe,
    undo: Undo,
    /// BBR.prior_cwnd: before recovery or ProbeRTT.
    prior_cwnd: u64,
    in_recovery: bool,
    /// Sending began anew after a silence, in which the queue has drained.
    idle_restart: bool,
    /// Losses are told by selective acknowledgments, so more than one a round trip can be seen.
    selective: bool,
}

impl Bbr {
    /// Begins in Startup with `window`.
    pub fn new(window: Window) -> Self {
        let mut bbr = Self {
            initial_window: window.cwnd(),
            window,
            state: State::Startup,
            pacing_rate: 0,
            has_rtt: false,
            bandwidth: MaxBandwidth::default(),
            min_rtt: MinRtt::default(),
            aggregation: Aggregation::default(),
            losses: LossLog::default(),
            inflight_long: UNBOUNDED,
            bandwidth_short: UNBOUNDED,
            inflight_short: UNBOUNDED,
            rounds: Rounds::default(),
            full: FullPipe::default(),
            recent: Recent::default(),
            probe: Probe::default(),
            undo: Undo::default(),
            prior_cwnd: 0,
            in_recovery: false,
            idle_restart: false,
            selective: true,
        };
        // §5.6.2, InitPacingRate(): nobody knows the round trip yet, so a millisecond.
        bbr.pacing_rate = (State::Startup.pacing_gain() * bbr.initial_window as f64 * 1000.0) as u64;
        bbr
    }

    /// The window itself, whatever the law.
    pub(super) fn window_state(&self) -> &Window {
        &self.window
    }

    /// BBR.bw.
    fn rate(&self) -> u64 {
        self.bandwidth.get().min(self.bandwidth_short)
    }

    fn pipe_min(&self) -> u64 {
        PIPE_SEGMENTS_MIN * self.window.segment_bytes()
    }

    /// BDPMultiple().
    fn bdp(&self, rate: u64, gain: f64) -> u64 {
        match self.min_rtt.get() {
            None => self.initial_window,
            Some(rtt) => (gain * path::times(rate, rtt) as f64) as u64,
        }
    }

    /// QuantizationBudget(): room for what waits in hosts, and for delayed acknowledgments.
    fn with_budget(&self, inflight: u64) -> u64 {
        let segment = self.window.segment_bytes();
        // §5.5.8.1: a burst that leaves, one that has left, and one that is not acknowledged yet.
        let budget = 3 * burst_bytes(self.pacing_rate, segment);
        let probing = if self.state == State::Up { 2 * segment } else { 0 };
        inflight.max(budget).max(self.pipe_min()) + probing
    }

    /// Inflight().
    fn inflight(&self, rate: u64, gain: f64) -> u64 {
        self.with_budget(self.bdp(rate, gain))
    }

    /// UpdateRound().
    fn update_round(&mut self, sample: &mut Sample) {
        if sample.prior_delivered >= self.rounds.ends_at {
            self.start_round();
            self.rounds.count += 1;
            self.rounds.since_probe_up += 1;
            sample.round_start = true;
        }
    }

    /// StartRound().
    fn start_round(&mut self) {
        self.rounds.ends_at = self.rounds.delivered;
    }

    /// What an acknowledgment says, in the draft's terms.
    fn read(&self, now: Instant, ack: &AckSample) -> Sample {
        let cwnd = self.window.cwnd();
        let mut sample = Sample {
            now,
            acked: ack.acked_bytes,
            in_flight: ack.pipe_bytes,
            cwnd_limited: ack.flight_bytes + self.window.segment_bytes() > cwnd,
            recovering: ack.recovering,
            ..Sample::default()
        };
        if let Some(rate) = ack.rate {
            sample.rate = rate.bytes_per_second();
            sample.delivered = rate.delivered_bytes;
            sample.prior_delivered = rate.prior_delivered_bytes;
            sample.flight_then = rate.in_flight_bytes;
            sample.lost = self.losses.since(rate.prior_delivered_bytes);
            sample.app_limited = rate.app_limited || self.probe.is_starved_at(rate.prior_delivered_bytes);
        }
        sample
    }

    /// UpdateModelAndState().
    fn update_model(&mut self, ack: &AckSample, sample: &mut Sample) {
        if ack.rate.is_some() {
            self.note_delivery(sample);
            self.update_round(sample);
            self.bandwidth.add(sample.rate, sample.app_limited);
            self.adapt_to_losses(sample);
        }
        self.aggregation.on_ack(AggregationAck {
            now: sample.now,
            acked: sample.acked,
            bandwidth: self.rate(),
            cwnd: self.window.cwnd(),
            round: self.rounds.count,
            settled: self.full.reached,
        });
        self.check_full_pipe(sample);
        self.check_startup(sample);
        self.check_drain(sample);
        self.update_probe_cycle(sample);
        self.min_rtt.on_ack(sample.now, ack.rate.map(|rate| rate.rtt));
        self.check_probe_rtt(sample);
        if sample.loss_round_start {
            self.recent.begin_round(sample);
        }
    }

    /// CheckFullBWReached().
    fn check_full_pipe(&mut self, sample: &Sample) {
        if self.full.now || !sample.round_start || sample.app_limited {
            return;
        }
        if sample.rate as f64 >= self.full.rate as f64 * FULL_PIPE_GROWTH {
            self.full.reset(sample.rate);
            return;
        }
        self.full.rounds += 1;
        self.full.now = self.full.rounds >= FULL_PIPE_ROUNDS;
        self.full.reached |= self.full.now;
    }

    /// CheckStartupDone().
    fn check_startup(&mut self, sample: &Sample) {
        if self.state != State::Startup {
            return;
        }
        self.check_startup_losses(sample);
        if self.full.reached {
            // EnterDrain(). The threshold is for an algorithm that this one may give way to.
            self.state = State::Drain;
            self.rounds.drain_began = self.rounds.count;
            self.window.leave_slow_start();
        }
    }

    /// CheckDrainDone().
    fn check_drain(&mut self, sample: &Sample) {
        let is_drained = sample.in_flight <= self.inflight(self.rate(), 1.0);
        if self.state == State::Drain
            && (is_drained || self.rounds.count > self.rounds.drain_began + DRAIN_ROUNDS)
        {
            self.start_down(sample.now);
        }
    }

    /// SetPacingRateWithGain(): until the pipe was full once, it only rises.
    fn set_pacing_rate(&mut self, gain: f64) {
        let rate = (gain * self.rate() as f64 * PACING_MARGIN) as u64;
        if self.full.reached || rate > self.pacing_rate {
            self.pacing_rate = rate;
        }
    }

    /// §5.6.2: once the round trip is known, the first rate goes by it.
    fn take_first_rtt(&mut self, ack: &AckSample) {
        if self.has_rtt {
            return;
        }
        if let Some(srtt) = ack.srtt.filter(|srtt| !srtt.is_zero()) {
            self.has_rtt = true;
            let nominal = self.window.cwnd() as f64 / srtt.as_secs_f64();
            self.pacing_rate = (State::Startup.pacing_gain() * nominal) as u64;
        }
    }

    /// SetCwnd().
    fn set_cwnd(&mut self, sample: &Sample) {
        let max_inflight = self.with_budget(
            self.bdp(self.rate(), self.state.cwnd_gain()).saturating_add(self.aggregation.get()),
        );
        let cwnd = self.window.cwnd();
        let grown = if self.full.reached {
            (cwnd + sample.acked).min(max_inflight)
        } else if cwnd < max_inflight || self.rounds.delivered < self.initial_window {
            cwnd + sample.acked
        } else {
            cwnd
        };
        let cap = self.volume_cap().min(self.inflight_short).max(self.pipe_min());
        let mut cwnd = grown.max(self.pipe_min());
        if self.state == State::ProbeRtt {
            cwnd = cwnd.min(self.probe_rtt_cwnd());
        }
        self.window.set_cwnd(cwnd.min(cap));
    }

    /// BoundCwndForModel(), without what the short-term model adds.
    fn volume_cap(&self) -> u64 {
        match self.state {
            State::Down | State::Refill | State::Up => self.inflight_long,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::Startup | State::Drain => UNBOUNDED,
        }
    }

    /// SaveCwnd().
    fn save_cwnd(&mut self) {
        let is_modulated = self.in_recovery || self.state == State::ProbeRtt;
        let before = if is_modulated { self.prior_cwnd } else { 0 };
        self.prior_cwnd = before.max(self.window.cwnd());
    }

    /// RestoreCwnd().
    fn restore_cwnd(&mut self) {
        self.window.set_cwnd(self.window.cwnd().max(self.prior_cwnd));
    }
}

impl Controller for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        // HandleRestartFromIdle(). Nothing was in flight, and not because it was lost: the application had nothing to send.
        if in_flight > bytes || self.in_recovery {
            return;
        }
        self.idle_restart = true;
        self.aggregation.restart(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    fn on_ack(&mut self, now: Instant, ack: &AckSample) {
        self.rounds.delivered = ack.delivered_bytes;
        self.take_first_rtt(ack);
        let mut sample = self.read(now, ack);
        self.update_model(ack, &mut sample);
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_cwnd(&sample);
    }

    fn on_lost(&mut self, now: Instant, lost: &LostSample) {
        self.handle_lost(now, lost);
    }

    fn on_loss(&mut self, _now: Instant, _in_flight: u64) {
        // OnEnterFastRecovery().
        self.note_loss();
        self.save_cwnd();
        self.in_recovery = true;
        self.window.leave_slow_start();
    }

    fn on_rto(&mut self, _now: Instant, _in_flight: u64, _again: bool) {
        // OnEnterRTO(). All that is old counts as lost now, so "C.inflight + 1" is one segment.
        self.note_loss();
        self.save_cwnd();
        self.in_recovery = true;
        self.window.leave_slow_start();
        self.window.set_cwnd(0);
    }

    fn on_recovered(&mut self, _now: Instant, _limit_bytes: u64) {
        // §5.6.4.4: back to what was known to be good; the model bounds it with the next acknowledgment.
        self.in_recovery = false;
        self.restore_cwnd();
    }

    fn on_undo(&mut self, _now: Instant) {
        self.handle_spurious_loss();
    }

    fn on_ecn(&mut self, _now: Instant, _in_flight: u64) {
        self.note_loss();
    }

    fn on_idle(&mut self, _now: Instant) {
        // §5.4.1: the model is kept, and the rate is paced, so no burst follows.
    }

    fn on_restart(&mut self, _now: Instant) {
        // §5.4.2: as above.
    }

    fn on_penalty(&mut self, _now: Instant) {
        self.window.penalise();
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
        Some(self.pacing_rate.max(1))
    }
}
