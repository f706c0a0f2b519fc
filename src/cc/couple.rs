//! Coupling: what the subflows of one connection have to know of each other, so that together they take no more of a
//! shared bottleneck than one TCP connection, and move to the paths that are less congested. Pure functions: snapshots of
//! all subflows go in, for each subflow a [`Coupling`] comes out, by which its window law ([`crate::cc::Coupled`]) goes on
//! its own until the next one.
//!
//! In the papers w is a window in packets, here in bytes; RFC 6356 §3 has the same formulas in bytes. A growth is in bytes
//! for each acknowledged byte.

use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// A congestion control algorithm that couples a connection's subflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoupledAlgorithm {
    /// Linked increases (RFC 6356).
    Lia,
    /// Opportunistic linked increases (Khalili et al., CoNEXT 2012; draft-khalili-mptcp-congestion-control-05).
    Olia,
    /// Balanced linked adaptation (Peng et al.; draft-walid-mptcp-congestion-control-04).
    Balia,
    /// Equally weighted TCP (Wischik et al., NSDI 2011, §2.2): for comparison.
    Ewtcp,
    /// Fully coupled (Wischik et al., NSDI 2011, §2.3, "COUPLED"): for comparison.
    Full,
    /// Weighted Vegas (Cao et al., ICNP 2012): by delay instead of loss.
    Wvegas,
}

/// A subflow that can send, as coupling sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathSnapshot {
    /// Its congestion window, in bytes; at most what it uses of it (RFC 6356 §3: of a connection that has less to send).
    pub window_bytes: u64,
    /// Payload bytes of a full segment.
    pub segment_bytes: u64,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// Bytes that were acknowledged since the last loss.
    pub since_loss_bytes: u64,
    /// Bytes that were acknowledged between the last two losses.
    pub between_losses_bytes: u64,
}

/// What a subflow's window goes by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coupling {
    /// Growth for each acknowledged byte, whatever the window is.
    pub growth: f64,
    /// The same in parts of what NewReno would grow by. Below zero for paths that OLIA leaves.
    pub reno_growth: f64,
    /// Both together are no more than what NewReno would grow by.
    pub at_most_reno: bool,
    /// The part of what is in flight that a loss takes from the window.
    pub decrease: f64,
    /// Bytes that a loss takes on top.
    pub decrease_bytes: u64,
    /// Its part of the connection's rate: by it goes how much of it may wait in queues ([`crate::cc::Vegas`]).
    pub share: f64,
}

impl Default for Coupling {
    /// NewReno: what a subflow goes by that is alone, or that has not been coupled yet.
    fn default() -> Self {
        Self {
            growth: 0.0,
            reno_growth: 1.0,
            at_most_reno: false,
            decrease: 0.5,
            decrease_bytes: 0,
            share: 1.0,
        }
    }
}

/// A path in the numbers of the formulas.
#[derive(Debug, Clone, Copy)]
struct PathNumbers {
    /// w, in bytes.
    window: f64,
    segment: f64,
    /// In seconds.
    rtt: f64,
    /// x = w / rtt.
    rate: f64,
    /// l / rtt², which has its maximum where sqrt(2 l) / rtt has, the rate that a TCP connection could reach.
    promise: f64,
    /// The window in whole segments, by which windows are compared: of two that differ by a few bytes none is larger.
    segments: u64,
}

impl PathNumbers {
    fn new(snapshot: &PathSnapshot) -> Self {
        let PathSnapshot { window_bytes, segment_bytes, rtt, since_loss_bytes, between_losses_bytes } =
            *snapshot;
        let (window, segment) = (window_bytes.max(1) as f64, segment_bytes.max(1) as f64);
        // A round trip of nothing would make the others' rates nothing.
        let rtt = rtt.as_secs_f64().max(1e-9);
        let between = since_loss_bytes.max(between_losses_bytes) as f64;
        Self {
            window,
            segment,
            rtt,
            rate: window / rtt,
            promise: between / (rtt * rtt),
            segments: window_bytes / segment_bytes.max(1),
        }
    }
}

/// The coupling of each path, in the order of `paths`. A path that is alone goes by NewReno with every algorithm.
pub fn couple(algorithm: CoupledAlgorithm, paths: &[PathSnapshot]) -> impl Iterator<Item = Coupling> + '_ {
    let sums = Sums::new(paths);
    paths.iter().map(move |path| {
        let path = PathNumbers::new(path);
        match algorithm {
            _ if paths.len() < 2 => Coupling::default(),
            CoupledAlgorithm::Lia => sums.lia(&path),
            CoupledAlgorithm::Olia => sums.olia(&path),
            CoupledAlgorithm::Balia => sums.balia(&path),
            CoupledAlgorithm::Ewtcp => sums.ewtcp(),
            CoupledAlgorithm::Full => sums.full(&path),
            CoupledAlgorithm::Wvegas => sums.wvegas(&path),
        }
    })
}

/// Sums and maxima over all paths.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    paths: f64,
    /// Σ w.
    window: f64,
    /// Σ x.
    rate: f64,
    /// max x.
    rate_max: f64,
    /// max (w / rtt²).
    steepest: f64,
    promise_max: f64,
    segments_max: u64,
    /// How many have the largest window (OLIA's M), and how many promise most without having it (B \ M).
    largest: f64,
    promising: f64,
}

impl Sums {
    fn new(paths: &[PathSnapshot]) -> Self {
        let mut sums = Sums { paths: paths.len() as f64, ..Sums::default() };
        for path in paths.iter().map(PathNumbers::new) {
            sums.window += path.window;
            sums.rate += path.rate;
            sums.rate_max = sums.rate_max.max(path.rate);
            sums.steepest = sums.steepest.max(path.rate / path.rtt);
            sums.promise_max = sums.promise_max.max(path.promise);
            sums.segments_max = sums.segments_max.max(path.segments);
        }
        for path in paths.iter().map(PathNumbers::new) {
            sums.largest += f64::from(u8::from(sums.is_largest(&path)));
            sums.promising += f64::from(u8::from(sums.is_promising(&path)));
        }
        sums
    }

    fn is_largest(&self, path: &PathNumbers) -> bool {
        path.segments == self.segments_max
    }

    fn is_promising(&self, path: &PathNumbers) -> bool {
        path.promise >= self.promise_max && !self.is_largest(path)
    }

    /// RFC 6356 §3, equations 1 and 2.
    fn lia(&self, path: &PathNumbers) -> Coupling {
        let alpha = self.window * self.steepest / (self.rate * self.rate);
        Coupling {
            growth: alpha * path.segment / self.window,
            reno_growth: 0.0,
            at_most_reno: true,
            ..Coupling::default()
        }
    }

    /// Khalili et al., equations 5 and 6.
    fn olia(&self, path: &PathNumbers) -> Coupling {
        let moved = match (self.promising > 0.0, self.is_promising(path), self.is_largest(path)) {
            (true, true, _) => 1.0 / (self.paths * self.promising),
            (true, false, true) => -1.0 / (self.paths * self.largest),
            (true, false, false) | (false, ..) => 0.0,
        };
        Coupling {
            growth: path.segment * (path.rate / path.rtt) / (self.rate * self.rate),
            reno_growth: moved,
            ..Coupling::default()
        }
    }

    /// Draft-walid-mptcp-congestion-control-04 §3.1.
    fn balia(&self, path: &PathNumbers) -> Coupling {
        let behind = self.rate_max / path.rate;
        let share = path.rate / (path.rtt * self.rate * self.rate);
        Coupling {
            growth: path.segment * share * (1.0 + behind) / 2.0 * (4.0 + behind) / 5.0,
            reno_growth: 0.0,
            decrease: behind.min(1.5) / 2.0,
            ..Coupling::default()
        }
    }

    /// Wischik et al. §2.2: each subflow gets an nth of what TCP would, and a rate goes with the root of the growth. (A growth
    /// of 1/√n, as one reads here and there, gives two subflows 1.6 times the rate of TCP.)
    fn ewtcp(&self) -> Coupling {
        Coupling { reno_growth: (self.paths * self.paths).recip(), ..Coupling::default() }
    }

    /// Wischik et al. §2.3: 1 / Σw for each segment, and half of Σw off at a loss.
    fn full(&self, path: &PathNumbers) -> Coupling {
        Coupling {
            growth: path.segment / self.window,
            reno_growth: 0.0,
            decrease: 0.0,
            decrease_bytes: (self.window / 2.0) as u64,
            ..Coupling::default()
        }
    }

    /// Cao et al., algorithm 1: weight = x / Σx.
    fn wvegas(&self, path: &PathNumbers) -> Coupling {
        Coupling { share: path.rate / self.rate, ..Coupling::default() }
    }
}

#[cfg(test)]
mod tests;
