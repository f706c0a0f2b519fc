//! One direction of a link: a queue, a line with a rate, a delay, and what can go wrong on the way. A pipe moves
//! items of any kind and knows only how long they are; every random choice comes from its own generator.

use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::sim::losses::SegmentLoss;
use arrayvec::ArrayVec;
use std::collections::VecDeque;

/// Corruption leaves the link header alone: on a real link the frame check sequence covers it.
const FIRST_CORRUPTIBLE_BYTE: usize = 14;

/// How many packets wait for the line before new ones are dropped. The one on the line doesn't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// So many packets.
    Packets(usize),
    /// So many bytes.
    Bytes(usize),
}

/// A time in which everything that is put on the line is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownTime {
    /// Its beginning.
    pub from: Instant,
    /// Its end; `None`: for ever.
    pub until: Option<Instant>,
}

impl DownTime {
    /// Whether `now` lies in it.
    pub fn contains(&self, now: Instant) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }
}

/// What a pipe is like.
#[derive(Debug, Clone, PartialEq)]
pub struct PipeConfig {
    /// Bits a second, of whole Ethernet frames; at least 1.
    pub rate_bps: u64,
    /// Propagation delay.
    pub delay: Duration,
    /// The queue in front of the line: drop-tail.
    pub queue: QueueLimit,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Before that nothing is lost by chance.
    pub loss_from: Instant,
    /// Probability that a packet arrives late, behind others.
    pub reorder: f64,
    /// How much later at most.
    pub reorder_delay: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that one byte of a packet is changed.
    pub corrupt: f64,
    /// When nothing passes.
    pub down: Vec<DownTime>,
    /// Segments that are lost, beside those that chance takes.
    pub segment_losses: Vec<SegmentLoss>,
}

impl Default for PipeConfig {
    /// 100 Mbit/s, 5 ms, 100 packets, and nothing goes wrong.
    fn default() -> Self {
        Self {
            rate_bps: 100_000_000,
            delay: Duration::from_millis(5),
            queue: QueueLimit::Packets(100),
            loss: 0.0,
            loss_from: Instant::ZERO,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(5),
            duplicate: 0.0,
            corrupt: 0.0,
            down: Vec::new(),
            segment_losses: Vec::new(),
        }
    }
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PipeCounters {
    /// Put on the line.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Dropped by the full queue.
    pub queue_drops: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost while the pipe was down.
    pub lost_down: u64,
    /// Held back.
    pub reordered: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Changed.
    pub corrupted: u64,
}

/// A changed byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Which byte of the frame.
    pub at: usize,
    /// What it is exclusive-ored with; not 0.
    pub mask: u8,
}

/// A packet's arrival at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// What happened to it on the way.
    pub damage: Option<Damage>,
}

/// What happens to a packet that was put on the line: no arrival, one, or two.
pub type Fate = ArrayVec<Arrival, 2>;

/// A packet that was put on the line.
#[derive(Debug)]
pub struct Started<T> {
    /// It.
    pub item: T,
    /// When its last bit has left: the line is free again ([`Pipe::line_free`]).
    pub leaves: Instant,
    /// What comes out at the other end.
    pub fate: Fate,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Pipe<T> {
    config: PipeConfig,
    prng: Prng,
    queue: VecDeque<(T, usize)>,
    queued_bytes: usize,
    line_busy: bool,
    /// Bits times 10^9 modulo the rate that earlier packets left over, so that no rounding changes the rate.
    rounding: u128,
    counters: PipeCounters,
}

impl<T> Pipe<T> {
    /// An empty pipe.
    ///
    /// # Panics
    /// When the rate is 0.
    pub fn new(config: PipeConfig, prng: Prng) -> Self {
        assert!(config.rate_bps > 0, "a pipe has a rate");
        Self {
            config,
            prng,
            queue: VecDeque::new(),
            queued_bytes: 0,
            line_busy: false,
            rounding: 0,
            counters: PipeCounters::default(),
        }
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> PipeCounters {
        self.counters
    }

    /// How it was made.
    pub fn config(&self) -> &PipeConfig {
        &self.config
    }

    /// One more time in which nothing passes.
    pub fn take_down(&mut self, down: DownTime) {
        self.config.down.push(down);
    }

    /// Whether nothing waits and nothing is on the line.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.line_busy
    }

    /// Puts a packet of `len` bytes into the queue.
    ///
    /// # Errors
    /// The packet back: the queue is full.
    pub fn offer(&mut self, item: T, len: usize) -> Result<(), T> {
        // A packet that finds the line idle does not wait, whatever the queue's limit.
        let full = match self.config.queue {
            _ if self.queue.is_empty() && !self.line_busy => false,
            QueueLimit::Packets(limit) => self.queue.len() >= limit,
            QueueLimit::Bytes(limit) => self.queued_bytes + len > limit,
        };
        if full {
            self.counters.queue_drops += 1;
            return Err(item);
        }
        self.queued_bytes += len;
        self.queue.push_back((item, len));
        Ok(())
    }

    /// Puts the next packet of the queue on the line, if the line is free.
    pub fn start(&mut self, now: Instant) -> Option<Started<T>> {
        if self.line_busy {
            return None;
        }
        let (item, len) = self.queue.pop_front()?;
        self.queued_bytes -= len;
        self.line_busy = true;
        self.counters.sent += 1;
        self.counters.sent_bytes += len as u64;
        let rate = u128::from(self.config.rate_bps);
        let work = len as u128 * 8 * 1_000_000_000 + self.rounding;
        self.rounding = work % rate;
        let leaves = now + Duration::from_nanos((work / rate) as u64);
        let fate = self.decide(leaves, len);
        Some(Started { item, leaves, fate })
    }

    /// The last bit of the packet that was started has left.
    pub fn line_free(&mut self) {
        debug_assert!(self.line_busy, "only a packet that was started leaves");
        self.line_busy = false;
    }

    fn decide(&mut self, leaves: Instant, len: usize) -> Fate {
        // Every choice is drawn for every packet, so that one fault does not shift the others' dice.
        let lost = self.prng.chance(self.config.loss) && leaves >= self.config.loss_from;
        let late = self.prng.chance(self.config.reorder);
        let late_by = self.prng.below(self.config.reorder_delay.as_nanos() + 1);
        let twice = self.prng.chance(self.config.duplicate);
        let twice_after = self.prng.below(self.config.delay.as_nanos() + 1);
        let damaged = self.prng.chance(self.config.corrupt);
        let corruptible = len.saturating_sub(FIRST_CORRUPTIBLE_BYTE) as u64;
        let at = FIRST_CORRUPTIBLE_BYTE + self.prng.below(corruptible) as usize;
        let mask = 1 + self.prng.below(255) as u8;

        let mut fate = Fate::new();
        if self.config.down.iter().any(|down| down.contains(leaves)) {
            self.counters.lost_down += 1;
            return fate;
        }
        if lost {
            self.counters.lost += 1;
            return fate;
        }
        let mut arrival = Arrival { at: leaves + self.config.delay, damage: None };
        if late {
            self.counters.reordered += 1;
            arrival.at += Duration::from_nanos(late_by);
        }
        if damaged && corruptible > 0 {
            self.counters.corrupted += 1;
            arrival.damage = Some(Damage { at, mask });
        }
        fate.push(arrival);
        if twice {
            self.counters.duplicated += 1;
            fate.push(Arrival { at: arrival.at + Duration::from_nanos(twice_after), damage: None });
        }
        fate
    }
}

#[cfg(test)]
mod tests;
