//! The cells of the table: a path and an algorithm each, and what the simulator measures there.

use crate::law::{FRAME, Path};
use braid::base::Instant;
use braid::base::time::Duration;
use braid::cc::CongestionAlgorithm;
use braid::sim::pipe::QueueLimit;
use braid::sim::{Measurement, Scenario, measure};

/// How late at most a worker looks at what has arrived: enough for batches, little against the shortest round trip.
const POLL_DELAY: Duration = Duration::from_micros(4);
/// Losses that a measurement should see, at least.
const LOSSES: f64 = 2_000.0;
/// Packets that it sees at most (about), and the least time in round trips.
const PACKETS_MAX: f64 = 2_500_000.0;
const ROUND_TRIPS_MIN: f64 = 40.0;

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub algorithm: CongestionAlgorithm,
    /// Probability that a data packet is lost.
    pub loss: f64,
    /// Propagation both ways.
    pub rtt: Duration,
    pub rate_bps: u64,
    pub seed: u64,
}

/// What a cell came to. Rates are goodput in bits a second.
#[derive(Debug, Clone)]
pub struct CellResult {
    pub cell: Cell,
    pub measured: f64,
    pub law: f64,
    pub by_rounds: f64,
    /// Simulated seconds that were measured.
    pub seconds: f64,
    pub measurement: Measurement,
}

impl CellResult {
    /// Measured against the law, by round trips.
    pub fn ratio(&self) -> f64 {
        self.measured / self.by_rounds
    }
}

impl Cell {
    /// The queue in front of the line: a bandwidth-delay product, and a burst at least.
    pub fn queue_bytes(&self) -> f64 {
        (self.rate_bps as f64 / 8.0 * self.rtt.as_secs_f64()).max(64.0 * FRAME)
    }

    /// The path as the law sees it.
    pub fn path(&self) -> Path {
        // A round trip is propagation, the segment and its acknowledgment on the line, and the workers' naps: half of
        // the longest each, on average.
        let serial = 8.0 * (FRAME + 78.0) / self.rate_bps as f64;
        let rtt = self.rtt.as_secs_f64() + serial + POLL_DELAY.as_secs_f64();
        let queue = self.queue_bytes() / FRAME;
        Path { loss: self.loss, rtt, rate: self.rate_bps as f64, queue }
    }

    /// How long to measure, and how long to wait before.
    fn times(&self) -> (f64, f64) {
        let path = self.path();
        let packets_a_second = path.by_rounds(self.algorithm) / (8.0 * 1448.0);
        let wanted = if self.loss > 0.0 { LOSSES / self.loss } else { 500_000.0 };
        let long = (wanted.min(PACKETS_MAX) / packets_a_second).max(ROUND_TRIPS_MIN * path.rtt);
        let lead = if self.loss > 0.0 {
            (0.15 * long).max(30.0 * path.rtt)
        } else {
            // Slow start's overshoot, where there is one, has to be repaired.
            (60.0 * path.rtt).max(self.rise()).max(0.05)
        };
        (lead, long)
    }

    /// Seconds until the line is full: slow start ends a little below that, and from there CUBIC rises by 0.4 t^3 segments
    /// in t seconds.
    pub fn rise(&self) -> f64 {
        let path = self.path();
        match self.algorithm {
            CongestionAlgorithm::Cubic => (0.15 * path.line() * path.rtt / 0.4).cbrt(),
            CongestionAlgorithm::Reno
            | CongestionAlgorithm::Dctcp
            | CongestionAlgorithm::Bbr
            | CongestionAlgorithm::Coupled(_) => 0.0,
        }
    }

    fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::plain(self.seed, 1, u64::MAX / 4);
        scenario.poll_delay = POLL_DELAY;
        scenario.deadline = Duration::from_secs(1 << 30);
        let delay = self.rtt / 2;
        let link = &mut scenario.links[0];
        link.completion_delay = Duration::ZERO;
        for pipe in [&mut link.a_to_b, &mut link.b_to_a] {
            pipe.rate_bps = self.rate_bps;
            pipe.delay = delay;
            pipe.queue = QueueLimit::Bytes(self.queue_bytes() as usize);
        }
        link.a_to_b.loss = self.loss;
        // A SYN that is lost costs a second, which on a short path is longer than the measurement, and no law tells of it.
        link.a_to_b.loss_from = Instant::from_millis(1) + self.rtt * 2 + Duration::from_millis(1);
        // What is in flight, in the queue and in both rings, and no less than a window promises.
        let window = 2.0 * (self.queue_bytes() + self.rate_bps as f64 / 8.0 * self.rtt.as_secs_f64());
        let frames = (4.0 * window / 1220.0) as usize + 16_384;
        for host in &mut scenario.hosts {
            host.frames = frames;
            host.rings.transmit = 1 << 20;
            host.rings.fill = 4096;
        }
        for connection in [&mut scenario.listen.connection, &mut scenario.connections[0].options] {
            connection.mptcp = false;
            connection.congestion = self.algorithm;
            connection.receive_buffer = 1 << 30;
            connection.send_buffer = 1 << 30;
        }
        scenario
    }

    /// Runs it.
    ///
    /// # Errors
    /// A checker's complaint.
    pub fn run(&self) -> Result<CellResult, String> {
        let (lead, long) = self.times();
        let at = |seconds: f64| Instant::from_nanos((seconds * 1e9) as u64);
        let measurement =
            measure(&self.scenario(), at(lead), at(lead + long)).map_err(|failure| failure.to_string())?;
        let path = self.path();
        Ok(CellResult {
            cell: *self,
            measured: measurement.bytes as f64 * 8.0 / long,
            law: path.closed_form(self.algorithm),
            by_rounds: path.by_rounds(self.algorithm),
            seconds: long,
            measurement,
        })
    }
}
