//! The cycle in which BBR tries whether its model of the path still holds: for more bandwidth (ProbeBW, §5.3.3) and for a
//! shorter round trip (ProbeRTT, §5.3.4).

use super::{Bbr, PIPE_SEGMENTS_MIN, Sample, State, UNBOUNDED};
use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// BBR.Headroom: so much of what is known to fit is left to others.
const HEADROOM: f64 = 0.15;
/// BBR.ProbeRTTDuration.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// §5.3.3.6: at the latest after so many round trips more is tried, as Reno would have.
const RENO_ROUNDS_MAX: u64 = 63;
/// §5.3.3.6: at the latest after two seconds and up to one more.
const WAIT_MIN: Duration = Duration::from_secs(2);
const WAIT_SPREAD_NANOS: u64 = 1_000_000_000;
/// Rounds after which what is tried no longer doubles.
const UP_ROUNDS_MAX: u32 = 30;

/// BBR.ack_phase: what acknowledgments that come now are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum AckPhase {
    #[default]
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// The state of probing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Probe {
    phase: AckPhase,
    /// BBR.is_bw_probe_sample: losses now are due to probing.
    pub(super) is_sample: bool,
    /// BBR.prev_probe_too_high and BBR.prev_probe_precautionary.
    pub(super) was_too_high: bool,
    was_precautionary: bool,
    /// BBR.bw_probe_up_acked, BBR.probe_up_acked_per_inc and BBR.bw_probe_up_rounds.
    up_acked: u64,
    up_acked_per_segment: u64,
    up_rounds: u32,
    /// BBR.cycle_stamp and BBR.bw_probe_wait.
    cycle_at: Instant,
    wait: Duration,
    /// BBR.probe_rtt_done_stamp and BBR.probe_rtt_round_done.
    rtt_done_at: Option<Instant>,
    rtt_round_done: bool,
    /// MarkConnectionAppLimited(): what left when so much had been delivered was held back by ProbeRTT.
    starved: Option<(u64, u64)>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            phase: AckPhase::Init,
            is_sample: false,
            was_too_high: false,
            was_precautionary: false,
            up_acked: 0,
            up_acked_per_segment: UNBOUNDED,
            up_rounds: 0,
            cycle_at: Instant::ZERO,
            wait: Duration::ZERO,
            rtt_done_at: None,
            rtt_round_done: false,
            starved: None,
        }
    }
}

impl Probe {
    /// Whether what left when `delivered` bytes had been delivered says nothing about the path, because ProbeRTT held it back.
    pub(super) fn is_starved_at(&self, delivered: u64) -> bool {
        self.starved.is_some_and(|(from, to)| (from..=to).contains(&delivered))
    }

    fn starve(&mut self, delivered: u64, in_flight: u64) {
        let from = self.starved.filter(|(_, to)| *to >= delivered).map_or(delivered, |(from, _)| from);
        self.starved = Some((from, delivered + in_flight));
    }

    /// PickProbeWait(): the moment decides.
    fn pick_wait(&mut self, now: Instant) -> u64 {
        let dice = mix(now.as_nanos());
        self.wait = WAIT_MIN + Duration::from_nanos((dice >> 1) % WAIT_SPREAD_NANOS);
        dice & 1
    }
}

/// Spreads a number over all 64 bits (the last step of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Bbr {
    /// StartProbeBW_DOWN().
    pub(super) fn start_down(&mut self, now: Instant) {
        self.recent.reset();
        self.probe.up_acked_per_segment = UNBOUNDED;
        self.rounds.since_probe_up = self.probe.pick_wait(now);
        self.probe.cycle_at = now;
        self.probe.phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::Down;
    }

    /// StartProbeBW_REFILL().
    pub(super) fn start_refill(&mut self) {
        self.reset_short_term();
        (self.probe.up_rounds, self.probe.up_acked) = (0, 0);
        self.probe.was_precautionary = false;
        self.probe.phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::Refill;
    }

    /// StartProbeBW_UP().
    fn start_up(&mut self, sample: &Sample) {
        self.probe.phase = AckPhase::ProbeStarting;
        self.start_round();
        self.full.reset(sample.rate);
        self.state = State::Up;
        self.raise_slope();
    }

    /// UpdateProbeBWCyclePhase().
    pub(super) fn update_probe_cycle(&mut self, sample: &Sample) {
        if !self.full.reached || self.adapt_long_term(sample) {
            return;
        }
        let state = self.state;
        match state {
            State::Down | State::Cruise if self.is_time_to_probe(sample.now) => self.start_refill(),
            State::Down if self.is_time_to_cruise(sample) => self.state = State::Cruise,
            State::Refill if sample.round_start => {
                self.probe.is_sample = true;
                self.start_up(sample);
            }
            State::Up if self.is_time_to_go_down(sample) => {
                self.probe.was_too_high = false;
                self.start_down(sample.now);
            }
            State::Startup
            | State::Drain
            | State::Down
            | State::Cruise
            | State::Refill
            | State::Up
            | State::ProbeRtt => {}
        }
    }

    /// IsTimeToProbeBW().
    fn is_time_to_probe(&self, now: Instant) -> bool {
        let reno_rounds = self.target_inflight() / self.window.segment_bytes();
        now > self.probe.cycle_at + self.probe.wait
            || self.rounds.since_probe_up >= reno_rounds.min(RENO_ROUNDS_MAX)
    }

    /// TargetInflight().
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp(self.rate(), 1.0).min(self.window.cwnd())
    }

    /// IsTimeToCruise().
    fn is_time_to_cruise(&self, sample: &Sample) -> bool {
        sample.in_flight <= self.inflight_with_headroom()
            && sample.in_flight <= self.inflight(self.bandwidth.get(), 1.0)
    }

    /// IsTimeToGoDown().
    fn is_time_to_go_down(&mut self, sample: &Sample) -> bool {
        if self.probe.was_too_high && sample.in_flight >= self.inflight_long {
            // §5.3.3.4.2: the last time this was too much. It is enough to have been there.
            self.probe.was_precautionary = true;
            return true;
        }
        if self.is_held_by_long_term(sample) {
            // No wonder that the rate does not grow.
            self.full.reset(sample.rate);
            return false;
        }
        self.full.now
    }

    fn is_held_by_long_term(&self, sample: &Sample) -> bool {
        sample.cwnd_limited && self.window.cwnd() >= self.inflight_long
    }

    /// InflightWithHeadroom().
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_long == UNBOUNDED {
            return UNBOUNDED;
        }
        let segment = self.window.segment_bytes();
        let headroom = segment.max((HEADROOM * self.inflight_long as f64) as u64);
        self.inflight_long.saturating_sub(headroom).max(PIPE_SEGMENTS_MIN * segment)
    }

    /// RaiseInflightLongtermSlope(): twice as many segments more each round trip.
    fn raise_slope(&mut self) {
        let growth = 1 << self.probe.up_rounds;
        self.probe.up_rounds = (self.probe.up_rounds + 1).min(UP_ROUNDS_MAX);
        self.probe.up_acked_per_segment = (self.window.cwnd() / growth).max(self.window.segment_bytes());
    }

    /// ProbeInflightLongtermUpward().
    fn raise_long_term(&mut self, sample: &Sample) {
        if !self.is_held_by_long_term(sample) {
            return;
        }
        self.probe.up_acked += sample.acked;
        let segments = self.probe.up_acked / self.probe.up_acked_per_segment;
        self.probe.up_acked -= segments * self.probe.up_acked_per_segment;
        self.inflight_long += segments * self.window.segment_bytes();
        if sample.round_start {
            self.raise_slope();
        }
    }

    /// AdaptLongTermModel(). True when it has decided on a state.
    fn adapt_long_term(&mut self, sample: &Sample) -> bool {
        if self.probe.phase == AckPhase::ProbeStarting && sample.round_start {
            self.probe.phase = AckPhase::ProbeFeedback;
        }
        if self.probe.phase == AckPhase::ProbeStopping && sample.round_start {
            self.probe.is_sample = false;
            self.probe.phase = AckPhase::Init;
            if self.state.is_probe_bw() && !sample.app_limited {
                self.bandwidth.advance();
            }
            if self.state.is_probe_bw() && self.probe.was_precautionary && !self.probe.was_too_high {
                // §5.3.3.4.2: it was not too much this time: on with it at once.
                self.start_refill();
                return true;
            }
        }
        if self.inflight_long == UNBOUNDED || self.is_too_high(sample.lost, sample.flight_then) {
            return false;
        }
        self.inflight_long = self.inflight_long.max(sample.flight_then);
        if self.state == State::Up {
            self.raise_long_term(sample);
        }
        false
    }

    /// CheckProbeRTT().
    pub(super) fn check_probe_rtt(&mut self, sample: &Sample) {
        if self.state != State::ProbeRtt && self.min_rtt.is_expired() && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.probe.rtt_done_at = None;
            self.probe.phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(sample);
        }
        if sample.delivered > 0 {
            self.idle_restart = false;
        }
    }

    /// HandleProbeRTT().
    fn handle_probe_rtt(&mut self, sample: &Sample) {
        self.probe.starve(self.rounds.delivered, sample.in_flight);
        if self.probe.rtt_done_at.is_none() {
            if sample.in_flight <= self.probe_rtt_cwnd() {
                self.probe.rtt_done_at = Some(sample.now + PROBE_RTT_DURATION);
                self.probe.rtt_round_done = false;
                self.start_round();
            }
            return;
        }
        self.probe.rtt_round_done |= sample.round_start;
        if self.probe.rtt_round_done {
            self.check_probe_rtt_done(sample.now);
        }
    }

    /// CheckProbeRTTDone() and ExitProbeRTT().
    pub(super) fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.probe.rtt_done_at.is_none_or(|at| now <= at) {
            return;
        }
        self.min_rtt.on_drained(now);
        self.restore_cwnd();
        self.reset_short_term();
        if self.full.reached {
            self.start_down(now);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }

    /// ProbeRTTCwnd().
    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        self.bdp(self.rate(), State::ProbeRtt.cwnd_gain())
            .max(PIPE_SEGMENTS_MIN * self.window.segment_bytes())
    }
}
