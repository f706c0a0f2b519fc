//! What losses do to BBR's model (§5.5.10), and what is taken back when there were none (§5.5.11).

use super::{Bbr, Sample, State, UNBOUNDED};
use crate::base::Instant;
use crate::cc::LostSample;
use serde::{Deserialize, Serialize};

/// BBR.LossThresh: more than this in a round trip is too much.
const LOSS_THRESHOLD: f64 = 0.02;
/// BBR.Beta.
const BETA: f64 = 0.7;
/// BBRStartupFullLossCnt: Startup goes on until losses were found so often in a round trip.
const STARTUP_LOSSES: u32 = 6;

/// What the last round trip delivered, and whether it lost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Recent {
    /// BBR.bw_latest and BBR.inflight_latest.
    rate: u64,
    inflight: u64,
    /// BBR.loss_round_delivered: where the round ends in which losses are counted.
    round_ends_at: u64,
    /// BBR.is_loss_in_round, and how often losses were found.
    has_loss: bool,
    findings: u32,
}

impl Recent {
    /// ResetCongestionSignals().
    pub(super) fn reset(&mut self) {
        (self.has_loss, self.rate, self.inflight) = (false, 0, 0);
    }

    /// AdvanceLatestDeliverySignals().
    pub(super) fn begin_round(&mut self, sample: &Sample) {
        (self.rate, self.inflight, self.findings) = (sample.rate, sample.delivered, 0);
    }
}

/// What a loss that was none has changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Undo {
    pub(super) state: Option<State>,
    bandwidth_short: u64,
    inflight_short: u64,
    inflight_long: u64,
}

impl Bbr {
    /// UpdateLatestDeliverySignals().
    pub(super) fn note_delivery(&mut self, sample: &mut Sample) {
        let recent = &mut self.recent;
        recent.rate = recent.rate.max(sample.rate);
        recent.inflight = recent.inflight.max(sample.delivered);
        if sample.prior_delivered >= recent.round_ends_at {
            recent.round_ends_at = self.rounds.delivered;
            sample.loss_round_start = true;
        }
    }

    /// UpdateCongestionSignals(), AdaptLowerBoundsFromCongestion(): once a round trip in which something was lost, outside of
    /// probing, down to what was delivered, but by no more than beta.
    pub(super) fn adapt_to_losses(&mut self, sample: &Sample) {
        if !sample.loss_round_start {
            return;
        }
        if self.recent.has_loss && !self.state.is_accelerating() {
            // InitLowerBounds().
            if self.bandwidth_short == UNBOUNDED {
                self.bandwidth_short = self.bandwidth.get();
            }
            if self.inflight_short == UNBOUNDED {
                self.inflight_short = self.window.cwnd();
            }
            let by_beta = |value: u64| (BETA * value as f64) as u64;
            self.bandwidth_short = self.recent.rate.max(by_beta(self.bandwidth_short));
            self.inflight_short = self.recent.inflight.max(by_beta(self.inflight_short));
        }
        self.recent.has_loss = false;
    }

    /// ResetShortTermModel().
    pub(super) fn reset_short_term(&mut self) {
        (self.bandwidth_short, self.inflight_short) = (UNBOUNDED, UNBOUNDED);
    }

    /// CheckStartupHighLoss(). A finding of the loss detection stands for a range: one acknowledgment may show several.
    pub(super) fn check_startup_losses(&mut self, sample: &Sample) {
        let has_all = match self.selective {
            true => {
                sample.loss_round_start
                    && sample.recovering
                    && self.recent.findings >= STARTUP_LOSSES
                    && self.is_too_high(sample.lost, sample.flight_then)
            }
            false => self.recent.has_loss && sample.recovering,
        };
        if has_all {
            self.undo.state = Some(State::Startup);
            self.full.reached = true;
            self.inflight_long = self.bdp(self.rate(), 1.0).max(self.recent.inflight);
        }
    }

    /// IsInflightTooHigh().
    pub(super) fn is_too_high(&self, lost: u64, in_flight: u64) -> bool {
        lost as f64 > in_flight as f64 * LOSS_THRESHOLD || (lost > 0 && !self.selective)
    }

    /// NoteLoss(): the first loss of a round begins another one.
    pub(super) fn note_loss(&mut self) {
        if !self.recent.has_loss {
            self.recent.round_ends_at = self.rounds.delivered;
            self.save_cwnd();
            self.undo = Undo {
                state: None,
                bandwidth_short: self.bandwidth_short,
                inflight_short: self.inflight_short,
                inflight_long: self.inflight_long,
            };
        }
        self.recent.has_loss = true;
    }

    /// HandleLostPacket().
    pub(super) fn handle_lost(&mut self, now: Instant, lost: &LostSample) {
        let LostSample { bytes, in_flight_bytes, prior_delivered_bytes, delivered_bytes, .. } = *lost;
        self.selective = lost.selective;
        self.rounds.delivered = delivered_bytes;
        self.losses.on_lost(delivered_bytes, bytes, self.window.cwnd());
        self.recent.findings += 1;
        self.note_loss();
        if !self.probe.is_sample {
            return;
        }
        let since = self.losses.since(prior_delivered_bytes);
        if !self.is_too_high(since, in_flight_bytes) {
            return;
        }
        // HandleInflightTooHigh(): once a probe.
        self.probe.was_too_high = true;
        self.probe.is_sample = false;
        if !lost.app_limited && !self.probe.is_starved_at(prior_delivered_bytes) {
            let floor = (BETA * self.target_inflight() as f64) as u64;
            self.inflight_long = inflight_at_loss(bytes, in_flight_bytes, since).max(floor);
        }
        if self.state == State::Up {
            self.undo.state = Some(State::Up);
            self.start_down(now);
        }
    }

    /// HandleSpuriousLossDetection().
    pub(super) fn handle_spurious_loss(&mut self) {
        self.in_recovery = false;
        self.restore_cwnd();
        self.recent.has_loss = false;
        self.full.reset(0);
        self.bandwidth_short = self.bandwidth_short.max(self.undo.bandwidth_short);
        self.inflight_short = self.inflight_short.max(self.undo.inflight_short);
        self.inflight_long = self.inflight_long.max(self.undo.inflight_long);
        match (self.undo.state.take(), self.state) {
            (Some(State::Startup), State::ProbeRtt) => self.full.reached = false,
            (Some(State::Startup), now) if now != State::Startup => {
                self.full.reached = false;
                self.state = State::Startup;
            }
            (Some(State::Up), now) if now != State::Up && now != State::ProbeRtt => self.start_refill(),
            (Some(_) | None, _) => {}
        }
    }
}

/// InflightAtLoss(): of a burst of which `bytes` were lost, so much was in flight when losses became too many. `lost` bytes
/// were lost since it left, these included.
fn inflight_at_loss(bytes: u64, in_flight: u64, lost: u64) -> u64 {
    let before = in_flight.saturating_sub(bytes);
    let lost_before = lost.saturating_sub(bytes);
    let prefix = (LOSS_THRESHOLD * before as f64 - lost_before as f64) / (1.0 - LOSS_THRESHOLD);
    before + prefix.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::inflight_at_loss;

    #[test]
    fn the_part_of_a_burst_that_fits_is_found() {
        // 100 segments in flight, none lost before; then a burst of ten is lost: 2 % of 100 are lost after two of them.
        assert_eq!(inflight_at_loss(10_000, 110_000, 10_000), 102_040);
        // Two percent were lost before: none of it fits.
        assert_eq!(inflight_at_loss(10_000, 110_000, 12_000), 100_000);
        assert_eq!(inflight_at_loss(10_000, 5_000, 10_000), 0);
    }
}
