//! One direction of a link of the laboratory: a queue that drops its tail, or before it is full a few by lot; a line with a
//! rate, a delay, and what can go wrong.
//!
//! A first-in first-out queue in front of a line needs no events of its own: when a packet arrives it is known already
//! when its last bit will leave, since whatever comes later goes behind it. So a hop costs one event, the arrival at the
//! other end.

use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::sim::pipe::{DownTime, QueueLimit};

/// Bytes of a full packet on the line: an MTU of 1500 and the Ethernet header.
pub const FULL_PACKET: usize = 1514;

/// Bytes of the shortest packet: headers without options.
const SHORTEST_PACKET: u64 = 54;

/// Drops by lot before a queue is full. At a drop-tail queue a few flows may lose again and again, because their packets
/// happen to come when it is full; by lot, everybody loses in proportion to what it sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyDrop {
    /// What would make the queue longer than this draws a lot, the packet on the line included.
    pub above: QueueLimit,
    /// Probability that it is dropped.
    pub probability: f64,
}

/// What a line is like.
#[derive(Debug, Clone, PartialEq)]
pub struct LineConfig {
    /// Bits a second, of whole Ethernet frames without their check sequence; at least 1.
    pub rate_bps: u64,
    /// Propagation delay.
    pub delay: Duration,
    /// What the queue holds, the packet on the line included: what does not fit is dropped. In bytes it costs less than in
    /// packets.
    pub queue: QueueLimit,
    /// Whether some packets are dropped before that.
    pub early_drop: Option<EarlyDrop>,
    /// What finds more than so much in front of it is marked, if it can be: the threshold K of RFC 8257 §3.1.
    pub mark_above: Option<QueueLimit>,
    /// Probability that a packet is lost on the line.
    pub loss: f64,
    /// When nothing passes.
    pub down: Vec<DownTime>,
}

impl Default for LineConfig {
    /// 100 Mbit/s, no delay, 100 full packets, and nothing goes wrong: a link of the FatTree that the literature uses.
    fn default() -> Self {
        Self {
            rate_bps: 100_000_000,
            delay: Duration::ZERO,
            queue: QueueLimit::Bytes(100 * FULL_PACKET),
            early_drop: None,
            mark_above: None,
            loss: 0.0,
            down: Vec::new(),
        }
    }
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineCounters {
    /// Packets that left.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Dropped by the queue that was full, or nearly so.
    pub queue_drops: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost while the line was down.
    pub lost_down: u64,
    /// Marked.
    pub marked: u64,
}

impl LineCounters {
    /// Everything that came.
    pub fn offered(&self) -> u64 {
        self.sent + self.queue_drops
    }

    /// What was dropped or lost of it, in parts of one.
    pub fn loss(&self) -> f64 {
        let lost = self.queue_drops + self.lost + self.lost_down;
        lost as f64 / self.offered().max(1) as f64
    }

    /// What happened since `earlier`.
    pub fn since(&self, earlier: &LineCounters) -> LineCounters {
        LineCounters {
            sent: self.sent - earlier.sent,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            queue_drops: self.queue_drops - earlier.queue_drops,
            lost: self.lost - earlier.lost,
            lost_down: self.lost_down - earlier.lost_down,
            marked: self.marked - earlier.marked,
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at the other end.
    Arrives {
        /// When.
        at: Instant,
        /// The queue was long: it is to be marked.
        mark: bool,
    },
    /// It does not.
    Lost,
}

/// The least loss that draws lots, as a share of 2^64.
fn threshold(probability: f64) -> u64 {
    // A share of one saturates: then one packet in 2^64 still passes.
    (probability.clamp(0.0, 1.0) * (1u128 << 64) as f64) as u64
}

/// One direction of a link. What every packet needs lies in one line of the processor's cache: a large fabric has a
/// thousand of these, and they share the cache with all hosts.
#[derive(Debug)]
#[repr(align(64))]
pub struct Line {
    /// When the last bit of all that has come will have left.
    free_at: u64,
    /// What the line may be behind when a packet has come, in nanoseconds, where its queue is limited in bytes.
    backlog_max: u64,
    /// A packet that finds it so far behind is marked.
    mark_above: u64,
    delay: u64,
    /// How long the line takes over a byte, where that is a whole number of nanoseconds; otherwise 0.
    nanos_a_byte: u32,
    /// There is more to look at than what stands here.
    is_special: bool,
    queue_drops: u32,
    sent: u64,
    sent_bytes: u64,
    rest: Box<Rest>,
}

/// What only few packets need.
#[derive(Debug)]
struct Rest {
    rate_bps: u64,
    /// Bits times 10^9 modulo the rate that earlier packets left over, so that no rounding changes the rate.
    rounding: u64,
    queue: QueueLimit,
    early_drop: Option<EarlyDrop>,
    /// What the line may be behind when a packet has come, in nanoseconds, before that draws a lot; and its odds.
    early_backlog: u64,
    early_odds: u64,
    mark_above: Option<QueueLimit>,
    /// When each packet of a queue that is limited in packets will have left; those that have are taken off when the next
    /// one comes.
    leaving: Ring,
    loss: u64,
    down: Vec<DownTime>,
    prng: Prng,
    lost: u64,
    lost_down: u64,
    marked: u64,
}

impl Line {
    /// An empty line.
    ///
    /// # Panics
    /// When the rate is 0.
    pub fn new(config: &LineConfig, prng: Prng) -> Self {
        let LineConfig { rate_bps, delay, queue, early_drop, mark_above, loss, ref down } = *config;
        let mut line = Self {
            free_at: 0,
            backlog_max: 0,
            mark_above: 0,
            delay: delay.as_nanos(),
            nanos_a_byte: 0,
            is_special: false,
            queue_drops: 0,
            sent: 0,
            sent_bytes: 0,
            rest: Box::new(Rest {
                rate_bps,
                rounding: 0,
                queue,
                early_drop,
                early_backlog: u64::MAX,
                early_odds: early_drop.map_or(0, |drop| threshold(drop.probability)),
                mark_above,
                leaving: Ring::default(),
                loss: threshold(loss),
                down: down.clone(),
                prng,
                lost: 0,
                lost_down: 0,
                marked: 0,
            }),
        };
        line.settle();
        line
    }

    /// Works out what follows from the rate and the rest.
    fn settle(&mut self) {
        let Rest { rate_bps, queue, early_drop, mark_above, loss, ref down, .. } = *self.rest;
        assert!(rate_bps > 0, "a line has a rate");
        self.nanos_a_byte = whole_nanos(rate_bps).unwrap_or(0);
        self.backlog_max = backlog_of(queue, rate_bps);
        self.mark_above = mark_above.map_or(u64::MAX, |limit| backlog_of(limit, rate_bps));
        let in_packets = |limit| matches!(limit, QueueLimit::Packets(_));
        self.is_special = in_packets(queue)
            || early_drop.is_some()
            || mark_above.is_some_and(in_packets)
            || loss > 0
            || !down.is_empty();
        self.rest.early_backlog = early_drop.map_or(u64::MAX, |drop| backlog_of(drop.above, rate_bps));
    }

    /// A packet of `len` bytes arrives at the queue.
    #[inline]
    pub fn offer(&mut self, now: Instant, len: usize) -> Fate {
        let now = now.as_nanos();
        let behind = self.free_at.saturating_sub(now);
        let takes = match self.nanos_a_byte {
            0 => self.uneven_time(len),
            nanos => len as u64 * u64::from(nanos),
        };
        // A packet that finds the line idle does not wait, whatever the queue's limit.
        if behind > 0 && behind + takes > self.backlog_max {
            self.queue_drops += 1;
            return Fate::Lost;
        }
        let mut mark = behind > self.mark_above;
        let leaves = now + behind + takes;
        if self.is_special {
            match self.rest.special(now, leaves) {
                Special::Full => {
                    self.queue_drops += 1;
                    return Fate::Lost;
                }
                Special::Lost => {
                    self.take(leaves, len);
                    return Fate::Lost;
                }
                Special::Passes { mark: too } => mark |= too,
            }
        }
        self.take(leaves, len);
        if mark {
            self.rest.marked += 1;
        }
        Fate::Arrives { at: Instant::from_nanos(leaves + self.delay), mark }
    }

    #[inline]
    fn take(&mut self, leaves: u64, len: usize) {
        self.free_at = leaves;
        self.sent += 1;
        self.sent_bytes += len as u64;
    }

    /// How long the line takes over `len` bytes, where a byte takes no whole number of nanoseconds.
    fn uneven_time(&mut self, len: usize) -> u64 {
        let Rest { rate_bps, ref mut rounding, .. } = *self.rest;
        // The product fits for packets of up to 2 GB.
        let work = len as u64 * 8_000_000_000 + *rounding;
        *rounding = work % rate_bps;
        work / rate_bps
    }

    /// What became of the packets so far. Those that still wait count as sent.
    pub fn counters(&self) -> LineCounters {
        let Rest { lost, lost_down, marked, .. } = *self.rest;
        let (sent, sent_bytes, queue_drops) = (self.sent, self.sent_bytes, u64::from(self.queue_drops));
        LineCounters { sent, sent_bytes, queue_drops, lost, lost_down, marked }
    }

    /// Bits a second.
    pub fn rate_bps(&self) -> u64 {
        self.rest.rate_bps
    }

    /// How long the shortest packet takes at least.
    pub fn shortest_time(&self) -> Duration {
        Duration::from_nanos(nanos(SHORTEST_PACKET, self.rest.rate_bps) + self.delay)
    }

    /// How long a packet that came now would wait.
    pub fn backlog(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.free_at.saturating_sub(now.as_nanos()))
    }

    /// Another delay from now on. Packets may overtake those that were sent before.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay.as_nanos();
    }

    /// Another rate for what comes from now on; `rate_bps` is at least 1.
    pub fn set_rate(&mut self, rate_bps: u64) {
        (self.rest.rate_bps, self.rest.rounding) = (rate_bps, 0);
        self.settle();
    }

    /// Another probability of loss from now on.
    pub fn set_loss(&mut self, loss: f64) {
        self.rest.loss = threshold(loss);
        self.settle();
    }

    /// One more time in which nothing passes.
    pub fn take_down(&mut self, down: DownTime) {
        self.rest.down.push(down);
        self.settle();
    }
}

/// What the less usual properties of a line do to a packet.
enum Special {
    Full,
    Lost,
    Passes { mark: bool },
}

impl Rest {
    fn special(&mut self, now: u64, leaves: u64) -> Special {
        self.leaving.forget_until(now);
        let waiting = self.leaving.len();
        if let QueueLimit::Packets(limit) = self.queue
            && waiting >= limit.max(1)
        {
            return Special::Full;
        }
        if self.is_nearly_full(waiting, leaves - now) && self.prng.next_u64() < self.early_odds {
            return Special::Full;
        }
        self.leaving.push(leaves);
        if self.down.iter().any(|down| down.contains(Instant::from_nanos(leaves))) {
            self.lost_down += 1;
            return Special::Lost;
        }
        if self.loss > 0 && self.prng.next_u64() < self.loss {
            self.lost += 1;
            return Special::Lost;
        }
        let mark = matches!(self.mark_above, Some(QueueLimit::Packets(limit)) if waiting > limit);
        Special::Passes { mark }
    }

    /// Whether a packet draws a lot that finds so many in front of it, and with which the line is so far behind.
    fn is_nearly_full(&self, waiting: usize, behind: u64) -> bool {
        match self.early_drop.map(|drop| drop.above) {
            Some(QueueLimit::Packets(above)) => waiting >= above,
            Some(QueueLimit::Bytes(_)) => behind > self.early_backlog,
            None => false,
        }
    }
}

/// Times in order, first in, first out.
#[derive(Debug, Default)]
struct Ring {
    /// A power of two of them, or none.
    times: Box<[u64]>,
    /// Counts of those taken off and put on, which wrap.
    first: u32,
    end: u32,
}

impl Ring {
    #[inline]
    fn len(&self) -> usize {
        self.end.wrapping_sub(self.first) as usize
    }

    /// Takes those off that are at `now` or before.
    #[inline]
    fn forget_until(&mut self, now: u64) {
        let mask = self.times.len().wrapping_sub(1);
        while self.first != self.end
            && let Some(time) = self.times.get(self.first as usize & mask)
            && *time <= now
        {
            self.first = self.first.wrapping_add(1);
        }
    }

    #[inline]
    fn push(&mut self, time: u64) {
        if self.len() == self.times.len() {
            self.grow();
        }
        let mask = self.times.len() - 1;
        self.times[self.end as usize & mask] = time;
        self.end = self.end.wrapping_add(1);
    }

    #[cold]
    fn grow(&mut self) {
        let len = self.times.len();
        let mut times = vec![0; (2 * len).max(16)].into_boxed_slice();
        for (place, time) in times.iter_mut().enumerate().take(len) {
            *time = self.times[(self.first as usize + place) & (len - 1)];
        }
        (self.times, self.first, self.end) = (times, 0, len as u32);
    }
}

/// Nanoseconds that a line of `rate_bps` takes over a byte, where that is a whole number.
fn whole_nanos(rate_bps: u64) -> Option<u32> {
    let whole = 8_000_000_000_u64.is_multiple_of(rate_bps);
    u32::try_from(8_000_000_000 / rate_bps).ok().filter(|_| whole)
}

/// How far a line of `rate_bps` may be behind by a limit in bytes. One in packets has to count them.
fn backlog_of(limit: QueueLimit, rate_bps: u64) -> u64 {
    match limit {
        QueueLimit::Packets(_) => u64::MAX,
        QueueLimit::Bytes(bytes) => nanos(bytes as u64, rate_bps),
    }
}

/// How long a line of `rate_bps` takes over `bytes`.
fn nanos(bytes: u64, rate_bps: u64) -> u64 {
    let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(rate_bps);
    // One less than the mark for "no limit": a queue of centuries has none.
    u64::try_from(nanos).unwrap_or(u64::MAX).min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: LineConfig) -> Line {
        Line::new(&config, Prng::new(1))
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// The times at which packets of `lens`, offered at once, arrive.
    fn arrivals(line: &mut Line, now: u64, lens: &[usize]) -> Vec<Option<u64>> {
        let arrive = |len: &usize| match line.offer(at(now), *len) {
            Fate::Arrives { at, .. } => Some(at.as_nanos()),
            Fate::Lost => None,
        };
        lens.iter().map(arrive).collect()
    }

    #[test]
    fn packets_leave_one_after_the_other_at_the_rate_without_rounding() {
        let mut line = line(LineConfig {
            rate_bps: 3_000_000_000,
            delay: Duration::from_nanos(10),
            ..LineConfig::default()
        });
        // 8/3 ns a byte.
        assert_eq!(arrivals(&mut line, 0, &[1, 1, 1]), [Some(12), Some(15), Some(18)]);
        assert_eq!(arrivals(&mut line, 100, &[3]), [Some(118)]);
    }

    #[test]
    fn a_ring_keeps_its_order_while_it_grows_and_turns() {
        let mut prng = Prng::new(4);
        let (mut ring, mut model) = (Ring::default(), std::collections::VecDeque::new());
        let mut time = 0;
        for _ in 0..5_000 {
            for _ in 0..prng.below(3) {
                time += prng.below(3);
                ring.push(time);
                model.push_back(time);
            }
            let now = time.saturating_sub(prng.below(60));
            ring.forget_until(now);
            model.retain(|other| *other > now);
            assert_eq!(ring.len(), model.len());
        }
    }

    #[test]
    fn a_queue_of_packets_counts_the_one_on_the_line_and_drops_the_tail() {
        let queue = QueueLimit::Packets(2);
        let mut line = line(LineConfig { rate_bps: 8_000_000_000, queue, ..LineConfig::default() });
        assert_eq!(arrivals(&mut line, 0, &[100, 100, 100]), [Some(100), Some(200), None]);
        assert_eq!(arrivals(&mut line, 99, &[100]), [None]);
        assert_eq!(arrivals(&mut line, 100, &[100, 100]), [Some(300), None]);
        assert_eq!((line.counters().sent, line.counters().queue_drops), (3, 3));
        assert_eq!(line.counters().loss(), 0.5);
    }

    #[test]
    fn a_queue_of_bytes_counts_what_has_not_left() {
        let queue = QueueLimit::Bytes(250);
        let mut line = line(LineConfig { rate_bps: 8_000_000_000, queue, ..LineConfig::default() });
        assert_eq!(arrivals(&mut line, 0, &[100, 100, 100, 50]), [Some(100), Some(200), None, Some(250)]);
        assert_eq!(arrivals(&mut line, 100, &[100]), [Some(350)]);
        line.set_rate(4_000_000_000);
        assert_eq!(arrivals(&mut line, 350, &[250, 1]), [Some(850), None], "the same queue at half the rate");
    }

    #[test]
    fn the_last_places_of_a_queue_drop_by_lot() {
        let places = |seed, above, probability| {
            let early_drop = Some(EarlyDrop { above, probability });
            let queue = QueueLimit::Bytes(10_000);
            let config = LineConfig { rate_bps: 8_000_000_000, queue, early_drop, ..LineConfig::default() };
            let mut line = Line::new(&config, Prng::new(seed));
            // A thousand queues, each filled by thirteen packets of which ten fit.
            let mut dropped = [0; 13];
            for round in 0..1000 {
                for (place, arrival) in arrivals(&mut line, round * 20_000, &[1000; 13]).iter().enumerate() {
                    dropped[place] += u32::from(arrival.is_none());
                }
            }
            assert_eq!(line.counters().queue_drops, u64::from(dropped.iter().sum::<u32>()));
            dropped
        };
        for above in [QueueLimit::Bytes(7000), QueueLimit::Packets(7)] {
            assert_eq!(places(1, above, 1.0), [0, 0, 0, 0, 0, 0, 0, 1000, 1000, 1000, 1000, 1000, 1000]);
            assert_eq!(places(1, above, 0.0)[7..], [0, 0, 0, 1000, 1000, 1000], "no lot, and the tail");
            let dropped = places(1, above, 0.1);
            assert_eq!(dropped[..7], [0; 7], "the lot is for the last places only");
            assert!(dropped[7..10].iter().all(|count| (70..130).contains(count)), "{dropped:?}");
            assert_eq!(dropped, places(1, above, 0.1), "a seed fixes it");
            assert_ne!(dropped, places(2, above, 0.1));
        }
    }

    #[test]
    fn a_long_queue_marks() {
        for limit in [QueueLimit::Packets(2), QueueLimit::Bytes(2500)] {
            let mut line = line(LineConfig { mark_above: Some(limit), ..LineConfig::default() });
            let marks: Vec<bool> =
                (0..5).map(|_| matches!(line.offer(at(0), 1000), Fate::Arrives { mark: true, .. })).collect();
            assert_eq!(marks, [false, false, false, true, true], "{limit:?}");
            assert_eq!(line.counters().marked, 2);
        }
    }

    #[test]
    fn loss_is_as_frequent_as_asked_for_and_nothing_passes_while_down() {
        let mut line = line(LineConfig { loss: 0.1, ..LineConfig::default() });
        let lost = (0..10_000).filter(|n| line.offer(at(n * 1_000_000), 100) == Fate::Lost).count();
        assert!((900..1100).contains(&lost), "{lost}");
        line.set_loss(0.0);
        line.take_down(DownTime { from: at(20_000_000_000), until: Some(at(30_000_000_000)) });
        let passes =
            |line: &mut Line, seconds: u64| line.offer(at(seconds * 1_000_000_000), 100) != Fate::Lost;
        assert!(passes(&mut line, 19) && !passes(&mut line, 25) && passes(&mut line, 30));
        assert_eq!(line.counters().lost_down, 1);
    }
}
