//! Congestion control: how large a subflow's window may be. The algorithm never sees a segment; loss detection, in
//! `tcp/`, never knows which algorithm runs.
//!
//! An algorithm is window adjustment ([`Reno`]'s avoidance, for one) times slow start (`slow_start.rs`), on a common
//! [`Window`].

mod reno;
mod slow_start;
mod window;

pub use reno::Reno;
pub use window::Window;

use crate::base::Instant;
use crate::base::time::Duration;

/// The congestion control algorithm of a connection's subflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CongestionAlgorithm {
    /// NewReno (RFC 5681, RFC 6582).
    #[default]
    Reno,
}

impl CongestionAlgorithm {
    /// All, with their names on the command line.
    pub const ALL: &[(&'static str, CongestionAlgorithm)] = &[("reno", CongestionAlgorithm::Reno)];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CongestionAlgorithm::Reno => "reno",
        }
    }
}

/// What an acknowledgment tells an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckSample {
    /// Bytes that were delivered and that we did not know of.
    pub acked_bytes: u64,
    /// The most that was in flight during the last round trip, in bytes: a window that was not used does not grow.
    pub flight_bytes: u64,
    /// A round trip that this acknowledgment measured.
    pub rtt: Option<Duration>,
}

/// A congestion control algorithm. Bytes are payload bytes.
pub trait Controller {
    /// `bytes` were sent; `in_flight` are in the network now.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64);

    /// Data was acknowledged, outside of fast recovery.
    fn on_ack(&mut self, now: Instant, sample: &AckSample);

    /// Loss was detected by duplicate acknowledgments: once a loss episode. `in_flight` bytes were outstanding.
    fn on_loss(&mut self, now: Instant, in_flight: u64);

    /// The retransmission timer expired. `again` when it did before, and nothing was acknowledged since.
    fn on_rto(&mut self, now: Instant, in_flight: u64, again: bool);

    /// All that was outstanding when loss was detected is acknowledged.
    fn on_recovered(&mut self, now: Instant);

    /// Nothing was sent for longer than the retransmission time-out, and now there is something to send.
    fn on_idle(&mut self, now: Instant);

    /// The subflow holds up the others of its connection (Raiciu et al., NSDI 2012, §4.2): half the window, and half the
    /// threshold outside of slow start.
    fn on_penalty(&mut self, now: Instant);

    /// Full segments have this many payload bytes from now on: the path's MTU changed.
    fn set_segment_bytes(&mut self, segment_bytes: u64);

    /// The congestion window in bytes, never less than a segment.
    fn window(&self) -> u64;

    /// The slow start threshold in bytes; `u64::MAX` before the first loss.
    fn ssthresh(&self) -> u64;
}

/// The algorithm of one subflow. An enum: the choice is made once a connection, and calls stay static.
#[derive(Debug, Clone)]
pub enum CongestionControl {
    /// NewReno.
    Reno(Reno),
}

impl CongestionControl {
    /// A controller for segments of `segment_bytes` payload bytes. `careful` begins with a window of one segment.
    pub fn new(algorithm: CongestionAlgorithm, segment_bytes: u64, careful: bool) -> Self {
        // RFC 6928 §2: ten segments; RFC 5681 §3.1: one where the SYN or the SYN/ACK was lost.
        let initial = if careful { segment_bytes } else { Window::initial(segment_bytes) };
        match algorithm {
            CongestionAlgorithm::Reno => {
                CongestionControl::Reno(Reno::new(Window::new(segment_bytes, initial)))
            }
        }
    }
}

macro_rules! dispatch {
    ($self:ident, $controller:ident => $call:expr) => {
        match $self {
            CongestionControl::Reno($controller) => $call,
        }
    };
}

impl Controller for CongestionControl {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        dispatch!(self, controller => controller.on_sent(now, bytes, in_flight))
    }

    fn on_ack(&mut self, now: Instant, sample: &AckSample) {
        dispatch!(self, controller => controller.on_ack(now, sample))
    }

    fn on_loss(&mut self, now: Instant, in_flight: u64) {
        dispatch!(self, controller => controller.on_loss(now, in_flight))
    }

    fn on_rto(&mut self, now: Instant, in_flight: u64, again: bool) {
        dispatch!(self, controller => controller.on_rto(now, in_flight, again))
    }

    fn on_recovered(&mut self, now: Instant) {
        dispatch!(self, controller => controller.on_recovered(now))
    }

    fn on_idle(&mut self, now: Instant) {
        dispatch!(self, controller => controller.on_idle(now))
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
}
