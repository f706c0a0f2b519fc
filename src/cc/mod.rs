//! Congestion control: how large a subflow's window may be, and how fast it may be sent. The algorithm never sees a
//! segment; loss detection, in `tcp/`, never knows which algorithm runs.
//!
//! An algorithm is window adjustment ([`Reno`]'s avoidance, for one) times slow start (`slow_start.rs`, `hystart.rs`),
//! on a common [`Window`]. What an acknowledgment tells is an [`AckSample`]. The windows of a connection's subflows may be
//! coupled: then what each goes by follows from all of them ([`couple()`]), and comes from outside.

mod bbr;
mod couple;
mod coupled;
mod cubic;
mod dctcp;
mod hystart;
mod reno;
mod sample;
mod slow_start;
mod vegas;
mod window;

pub use bbr::Bbr;
pub use couple::{CoupledAlgorithm, Coupling, PathSnapshot, couple};
pub use coupled::{Coupled, LossHistory};
pub use cubic::Cubic;
pub use dctcp::Dctcp;
pub use reno::Reno;
pub use sample::{AckSample, LostSample, RateSample};
pub use vegas::Vegas;
pub use window::Window;

use crate::base::Instant;
use serde::{Deserialize, Serialize};

/// The congestion control algorithm of a connection's subflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CongestionAlgorithm {
    /// NewReno (RFC 5681, RFC 6582).
    #[default]
    Reno,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    Cubic,
    /// DCTCP (RFC 8257): by marks, where both ends and the network know them. A connection that begins otherwise and is
    /// switched to it has agreed on no marks: then it goes by loss, as NewReno does.
    Dctcp,
    /// BBR (draft-ietf-ccwg-bbr): by a model of the path, and by loss only where there is much.
    Bbr,
    /// One that couples a connection's subflows.
    Coupled(CoupledAlgorithm),
}

impl CongestionAlgorithm {
    /// All, with their names on the command line.
    pub const ALL: &[(&'static str, CongestionAlgorithm)] = &[
        ("reno", CongestionAlgorithm::Reno),
        ("cubic", CongestionAlgorithm::Cubic),
        ("lia", CongestionAlgorithm::Coupled(CoupledAlgorithm::Lia)),
        ("olia", CongestionAlgorithm::Coupled(CoupledAlgorithm::Olia)),
        ("balia", CongestionAlgorithm::Coupled(CoupledAlgorithm::Balia)),
        ("ewtcp", CongestionAlgorithm::Coupled(CoupledAlgorithm::Ewtcp)),
        ("coupled", CongestionAlgorithm::Coupled(CoupledAlgorithm::Full)),
        ("wvegas", CongestionAlgorithm::Coupled(CoupledAlgorithm::Wvegas)),
        ("dctcp", CongestionAlgorithm::Dctcp),
        ("bbr", CongestionAlgorithm::Bbr),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CongestionAlgorithm::Reno => "reno",
            CongestionAlgorithm::Cubic => "cubic",
            CongestionAlgorithm::Dctcp => "dctcp",
            CongestionAlgorithm::Bbr => "bbr",
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Lia) => "lia",
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Olia) => "olia",
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Balia) => "balia",
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Ewtcp) => "ewtcp",
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Full) => "coupled",
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Wvegas) => "wvegas",
        }
    }

    /// Whether it couples a connection's subflows.
    pub fn is_coupled(self) -> bool {
        matches!(self, CongestionAlgorithm::Coupled(_))
    }
}

/// The largest burst.
const BURST_BYTES_MAX: u64 = 65_536;
/// Segments that a burst holds at least: a peer acknowledges every second one.
const BURST_SEGMENTS: u64 = 2;

/// How much leaves at once at a rate of `rate` bytes a second: a millisecond's worth (draft-ietf-ccwg-bbr-06 §5.6.3, and what
/// pacing sends whatever the algorithm).
pub fn burst_bytes(rate: u64, segment_bytes: u64) -> u64 {
    (rate / 1000).clamp(BURST_SEGMENTS * segment_bytes, BURST_BYTES_MAX.max(BURST_SEGMENTS * segment_bytes))
}

/// A congestion control algorithm. Bytes are payload bytes.
///
/// Events come in the order in which they happened. `in_flight` in [`Controller::on_loss`], [`Controller::on_rto`] and
/// [`Controller::on_ecn`] is the flight size of RFC 5681 equation 4, without what limited transmit added, and as
/// RFC 7661 §4.4.1 has it where the window was not used.
pub trait Controller {
    /// `bytes` were sent; `in_flight` are in the network now.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64);

    /// Data was acknowledged, whatever else goes on (see [`AckSample::recovering`]).
    fn on_ack(&mut self, now: Instant, sample: &AckSample);

    /// Segments were found lost, before the episode is answered that this may begin. Algorithms that answer once an episode need
    /// not know.
    fn on_lost(&mut self, _now: Instant, _lost: &LostSample) {}

    /// Loss was detected by acknowledgments: once a loss episode, and again when a retransmission is lost.
    fn on_loss(&mut self, now: Instant, in_flight: u64);

    /// The retransmission timer expired. `again` when it did before, and nothing was acknowledged since.
    fn on_rto(&mut self, now: Instant, in_flight: u64, again: bool);

    /// All that was outstanding when loss or a mark was answered is acknowledged. The window is at most `limit_bytes`
    /// from now on (RFC 7661 §4.4.1); `u64::MAX` where nothing else limits it.
    fn on_recovered(&mut self, now: Instant, limit_bytes: u64);

    /// The last [`Controller::on_loss`] or [`Controller::on_rto`] was for nothing: what was taken for lost had only been
    /// late.
    fn on_undo(&mut self, now: Instant);

    /// The peer echoes a congestion mark: once a window of data.
    fn on_ecn(&mut self, now: Instant, in_flight: u64);

    /// For five minutes less than half of the window was used (RFC 7661 §4.4.3).
    fn on_idle(&mut self, now: Instant);

    /// Nothing was sent for a whole time-out, and sending begins anew (RFC 5681 §4.1).
    fn on_restart(&mut self, now: Instant);

    /// The subflow holds up the others of its connection (Raiciu et al., NSDI 2012, §4.2): half the window, and half the
    /// threshold outside of slow start.
    fn on_penalty(&mut self, now: Instant);

    /// Full segments have this many payload bytes from now on: the path's MTU changed.
    fn set_segment_bytes(&mut self, segment_bytes: u64);

    /// The congestion window in bytes, never less than a segment.
    fn window(&self) -> u64;

    /// The slow start threshold in bytes; `u64::MAX` before the first loss.
    fn ssthresh(&self) -> u64;

    /// How fast to send, in bytes a second. `None` for algorithms that only have a window: they are paced by it, and their
    /// window comes down over a round trip when it is cut.
    fn pacing_rate(&self) -> Option<u64>;
}

/// The algorithm of one subflow. An enum: the choice is made once a connection, and calls stay static.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CongestionControl {
    /// NewReno.
    Reno(Reno),
    /// CUBIC.
    Cubic(Cubic),
    /// DCTCP.
    Dctcp(Dctcp),
    /// BBR. Its model is large, and most subflows have none.
    Bbr(Box<Bbr>),
    /// A window that is coupled with those of other subflows.
    Coupled(Coupled),
    /// One that is coupled, and goes by delay.
    Vegas(Vegas),
}

macro_rules! dispatch {
    ($self:ident, $controller:ident => $call:expr) => {
        match $self {
            CongestionControl::Reno($controller) => $call,
            CongestionControl::Cubic($controller) => $call,
            CongestionControl::Dctcp($controller) => $call,
            CongestionControl::Bbr($controller) => $call,
            CongestionControl::Coupled($controller) => $call,
            CongestionControl::Vegas($controller) => $call,
        }
    };
}

impl CongestionControl {
    /// A controller for segments of `segment_bytes` payload bytes. `careful` begins with a window of one segment.
    pub fn new(algorithm: CongestionAlgorithm, segment_bytes: u64, careful: bool) -> Self {
        // RFC 6928 §2: ten segments; RFC 5681 §3.1: one where the SYN or the SYN/ACK was lost.
        let initial = if careful { segment_bytes } else { Window::initial(segment_bytes) };
        Self::with_window(algorithm, Window::new(segment_bytes, initial))
    }

    fn with_window(algorithm: CongestionAlgorithm, window: Window) -> Self {
        match algorithm {
            CongestionAlgorithm::Reno => CongestionControl::Reno(Reno::new(window)),
            CongestionAlgorithm::Cubic => CongestionControl::Cubic(Cubic::new(window)),
            CongestionAlgorithm::Dctcp => CongestionControl::Dctcp(Dctcp::new(window)),
            CongestionAlgorithm::Bbr => CongestionControl::Bbr(Box::new(Bbr::new(window))),
            CongestionAlgorithm::Coupled(CoupledAlgorithm::Wvegas) => {
                CongestionControl::Vegas(Vegas::new(window))
            }
            CongestionAlgorithm::Coupled(algorithm) => {
                CongestionControl::Coupled(Coupled::new(algorithm, window))
            }
        }
    }

    /// Payload bytes of a full segment, and what was acknowledged since losses, where the window is coupled.
    pub fn coupled(&self) -> Option<(u64, LossHistory)> {
        match self {
            CongestionControl::Coupled(coupled) => Some((coupled.segment_bytes(), coupled.history())),
            CongestionControl::Vegas(vegas) => Some((vegas.segment_bytes(), LossHistory::default())),
            CongestionControl::Reno(_)
            | CongestionControl::Cubic(_)
            | CongestionControl::Dctcp(_)
            | CongestionControl::Bbr(_) => None,
        }
    }

    /// Goes on with the same window by another algorithm. What the old one knew of the path is forgotten.
    pub fn switch(&mut self, algorithm: CongestionAlgorithm) {
        let window = dispatch!(self, controller => controller.window_state().clone());
        *self = Self::with_window(algorithm, window);
    }

    /// What a coupled window goes by from now on; others go by nobody.
    pub fn set_coupling(&mut self, coupling: Coupling) {
        match self {
            CongestionControl::Coupled(coupled) => coupled.set_coupling(coupling),
            CongestionControl::Vegas(vegas) => vegas.set_coupling(coupling),
            CongestionControl::Reno(_)
            | CongestionControl::Cubic(_)
            | CongestionControl::Dctcp(_)
            | CongestionControl::Bbr(_) => {}
        }
    }
}

impl Controller for CongestionControl {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        dispatch!(self, controller => controller.on_sent(now, bytes, in_flight))
    }

    fn on_ack(&mut self, now: Instant, sample: &AckSample) {
        dispatch!(self, controller => controller.on_ack(now, sample))
    }

    fn on_lost(&mut self, now: Instant, lost: &LostSample) {
        dispatch!(self, controller => controller.on_lost(now, lost))
    }

    fn on_loss(&mut self, now: Instant, in_flight: u64) {
        dispatch!(self, controller => controller.on_loss(now, in_flight))
    }

    fn on_rto(&mut self, now: Instant, in_flight: u64, again: bool) {
        dispatch!(self, controller => controller.on_rto(now, in_flight, again))
    }

    fn on_recovered(&mut self, now: Instant, limit_bytes: u64) {
        dispatch!(self, controller => controller.on_recovered(now, limit_bytes))
    }

    fn on_undo(&mut self, now: Instant) {
        dispatch!(self, controller => controller.on_undo(now))
    }

    fn on_ecn(&mut self, now: Instant, in_flight: u64) {
        dispatch!(self, controller => controller.on_ecn(now, in_flight))
    }

    fn on_idle(&mut self, now: Instant) {
        dispatch!(self, controller => controller.on_idle(now))
    }

    fn on_restart(&mut self, now: Instant) {
        dispatch!(self, controller => controller.on_restart(now))
    }

    fn on_penalty(&mut self, now: Instant) {
        dispatch!(self, controller => controller.on_penalty(now))
    }

    fn set_segment_bytes(&mut self, segment_bytes: u64) {
        dispatch!(self, controller => controller.set_segment_bytes(segment_bytes))
    }

    fn window(&self) -> u64 {
        dispatch!(self, controller => controller.window())
    }

    fn ssthresh(&self) -> u64 {
        dispatch!(self, controller => controller.ssthresh())
    }

    fn pacing_rate(&self) -> Option<u64> {
        dispatch!(self, controller => controller.pacing_rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_goes_on_under_another_algorithm() {
        for (name, from) in CongestionAlgorithm::ALL {
            for (_, to) in CongestionAlgorithm::ALL {
                let mut control = CongestionControl::new(*from, 1000, false);
                control.switch(*to);
                assert_eq!((control.window(), control.ssthresh()), (10_000, u64::MAX), "{name} to {to:?}");
                control.on_loss(Instant::ZERO, 40_000);
                let before = (control.window(), control.ssthresh());
                control.switch(*from);
                assert_eq!((control.window(), control.ssthresh()), before, "{to:?} to {name}");
                assert_eq!(control.coupled().is_some(), from.is_coupled());
                let growth_bytes = 2 * before.0;
                let sample = AckSample { growth_bytes, flight_bytes: before.0, ..AckSample::default() };
                control.on_ack(Instant::from_millis(1), &sample);
                assert!(control.window() < 2 * before.0, "{name}: it is not in slow start any more");
            }
        }
    }

    #[test]
    fn every_algorithm_bears_its_name_once() {
        for (name, algorithm) in CongestionAlgorithm::ALL {
            assert_eq!(algorithm.name(), *name);
            assert_eq!(CongestionAlgorithm::ALL.iter().filter(|(other, _)| other == name).count(), 1);
        }
    }
}
