//! What each algorithm's law says: the closed form for a long path, and the same law round trip by round trip where a
//! closed form does not hold (small windows, the link's own limit, several losses in a window).

use braid::base::Prng;
use braid::cc::CongestionAlgorithm;

/// Payload of a full segment (1500 less IPv4, TCP and timestamps), and its frame on an Ethernet line.
pub const PAYLOAD: f64 = 1448.0;
pub const FRAME: f64 = 1514.0;
/// ACKs that our receiver does not delay after a gap was filled.
const QUICK_ACKS: f64 = 16.0;

/// A path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// Probability that a data packet is lost.
    pub loss: f64,
    /// Seconds from sending a full segment on an idle line to its acknowledgment.
    pub rtt: f64,
    /// Bits a second of whole frames.
    pub rate: f64,
    /// Full frames that wait in front of the line at most.
    pub queue: f64,
}

impl Path {
    /// Segments a second that the line takes.
    pub fn line(&self) -> f64 {
        self.rate / (8.0 * FRAME)
    }

    /// What so many segments a second are, in payload bits, less what is lost.
    fn goodput(&self, segments: f64) -> f64 {
        segments * PAYLOAD * 8.0 * (1.0 - self.loss)
    }

    /// The most that the line lets through.
    pub fn line_goodput(&self) -> f64 {
        self.goodput(self.line())
    }

    /// The closed form, or the line where that is less. Bits a second.
    pub fn closed_form(&self, algorithm: CongestionAlgorithm) -> f64 {
        if self.loss == 0.0 {
            return self.line_goodput();
        }
        // Mathis et al. (1997), and RFC 9438 equation 3 with alpha 1 and beta 1/2: sqrt(3 / 2p). Bytes are counted, so
        // delayed acknowledgments do not slow the window's growth.
        let reno = (1.5 / self.loss).sqrt();
        let window = match algorithm {
            // A coupled window that is alone goes by NewReno, as DCTCP's does without marks.
            CongestionAlgorithm::Reno | CongestionAlgorithm::Dctcp | CongestionAlgorithm::Coupled(_) => reno,
            // It goes by the line while few are lost.
            CongestionAlgorithm::Bbr => return self.line_goodput(),
            // RFC 9438 §5.1 equation 6, or the Reno-friendly region where that is more.
            CongestionAlgorithm::Cubic => (1.054 * (self.rtt / self.loss).powf(0.75)).max(reno),
        };
        self.goodput((window / self.rtt).min(self.line()))
    }

    /// The law by round trips: in each one a window is sent, every packet of it is lost with the same probability or when
    /// the queue is full, and the window reacts once, however many were lost. What is delivered counts, in bits a second.
    ///
    /// This is the algorithm as its RFC has it and nothing of the machinery: no detection, no timers, no bursts.
    pub fn by_rounds(&self, algorithm: CongestionAlgorithm) -> f64 {
        let mut prng = Prng::new(7);
        let mut window = match algorithm {
            CongestionAlgorithm::Reno | CongestionAlgorithm::Dctcp | CongestionAlgorithm::Coupled(_) => {
                Law::Reno { window: self.first_window() }
            }
            CongestionAlgorithm::Bbr => return self.line_goodput(),
            CongestionAlgorithm::Cubic => Law::Cubic(CubicLaw::new(self.first_window())),
        };
        let (mut delivered, mut time, mut recovering, mut quick) = (0.0, 0.0, false, 0.0);
        let rounds = 200_000;
        for round in 0..rounds {
            // A segment leaves when there is room for all of it.
            let packets = window.get().floor();
            // The peer acknowledges every second segment, but for some after a gap: the first of two waits for the
            // other, which on average is half of the time from one to the next.
            let delayed = (packets - quick).max(0.0) / packets;
            quick = (quick - packets).max(0.0);
            // A window that is more than the path holds waits in the queue.
            let rtt = (self.rtt * (1.0 + 0.5 * delayed / packets)).max(packets / self.line());
            let overflow = packets - (self.rtt * self.line()).max(1.0) - self.queue;
            let lost = overflow > 0.0 || self.is_hit(&mut prng, packets);
            // The first tenth leads to the steady state.
            if round >= rounds / 10 {
                delivered += packets;
                time += rtt;
            }
            match (lost, recovering) {
                (true, _) => window.reduce(),
                // Nothing grows in the round trip of the repair.
                (false, true) => {}
                (false, false) => window.grow(rtt),
            }
            recovering = lost;
            if lost {
                quick = QUICK_ACKS;
            }
        }
        self.goodput(delivered / time)
    }

    fn first_window(&self) -> f64 {
        (self.rtt * self.line()).clamp(2.0, 100_000.0).min(if self.loss > 0.0 {
            1.0 / self.loss.sqrt()
        } else {
            f64::MAX
        })
    }

    /// Whether one of so many packets is lost.
    fn is_hit(&self, prng: &mut Prng, packets: f64) -> bool {
        self.loss > 0.0 && prng.unit() > (1.0 - self.loss).powf(packets)
    }
}

enum Law {
    Reno { window: f64 },
    Cubic(CubicLaw),
}

impl Law {
    fn get(&self) -> f64 {
        match self {
            Law::Reno { window } => *window,
            Law::Cubic(cubic) => cubic.window,
        }
    }

    fn reduce(&mut self) {
        match self {
            // RFC 5681 equation 4.
            Law::Reno { window } => *window = (*window / 2.0).max(2.0),
            Law::Cubic(cubic) => cubic.reduce(),
        }
    }

    fn grow(&mut self, rtt: f64) {
        match self {
            Law::Reno { window } => *window += 1.0,
            Law::Cubic(cubic) => cubic.grow(rtt),
        }
    }
}

/// RFC 9438 §4 in segments and seconds.
struct CubicLaw {
    window: f64,
    w_max: f64,
    cwnd_prior: f64,
    /// None right after a reduction.
    stage: Option<Stage>,
}

/// Congestion avoidance from one reduction to the next.
struct Stage {
    elapsed: f64,
    k: f64,
    plateau: f64,
    w_est: f64,
}

impl CubicLaw {
    fn new(window: f64) -> Self {
        Self { window, w_max: window, cwnd_prior: window, stage: None }
    }

    fn reduce(&mut self) {
        // §4.7: fast convergence.
        self.w_max = if self.window < self.w_max { self.window * 0.85 } else { self.window };
        self.cwnd_prior = self.window;
        self.window = (self.window * 0.7).max(2.0);
        self.stage = None;
    }

    fn grow(&mut self, rtt: f64) {
        let (window, w_max) = (self.window, self.w_max);
        let stage = self.stage.get_or_insert_with(|| {
            let plateau = w_max.max(window);
            Stage { elapsed: 0.0, k: ((plateau - window) / 0.4).cbrt(), plateau, w_est: window }
        });
        stage.elapsed += rtt;
        // §4.3.
        stage.w_est += if stage.w_est >= self.cwnd_prior { 1.0 } else { 3.0 * 0.3 / 1.7 };
        let curve = 0.4 * (stage.elapsed - stage.k).powi(3) + stage.plateau;
        self.window =
            if curve < stage.w_est { stage.w_est.max(window) } else { curve.clamp(window, 1.5 * window) };
    }
}
