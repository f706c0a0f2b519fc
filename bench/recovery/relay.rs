//! A path in user space: it takes packets off one NIC, leads them through the simulator's own pipes against the real clock,
//! and gives them to the other. The NICs are AF_XDP ports of ours in the middle of a lab, so nothing but the segments of
//! the ports that it carries comes by; all else goes over the lab's bridge.
//!
//! It keeps an account of what it did wrong: how late it was, and what it lost that the pipes did not mean to lose.

use braid::base::{Instant, PoolCache, Prng, RxFrame, WorkerId};
use braid::port::Port;
use braid::runtime::Clock;
use braid::sim::pipe::{Pipe, PipeConfig, PipeCounters, QueueLimit};
use braid::wire::{ChecksumMode, Endpoint};
use braid::xdp::{Xdp, XdpConfig, XdpError, XdpPort, ZeroCopy};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Frames of 4 KiB: what two bandwidth-delay products of 1 Gbit/s and 100 ms hold, with room for the rings.
const FRAMES: usize = 32_768;
/// Packets that are taken from one NIC at a time.
const BUDGET: usize = 64;
/// Where the low byte of the destination port is: Ethernet without a tag, IPv4 without options.
const DESTINATION_PORT: std::ops::Range<usize> = 36..38;

/// The path of one connection: both its ends have the port of the same number.
#[derive(Debug, Clone)]
pub struct Lane {
    /// From the first NIC to the second.
    pub there: PipeConfig,
    pub back: PipeConfig,
    pub seed: u64,
}

impl Lane {
    /// How long the line needs for a full queue; without a limit in bytes, nobody waits for it.
    fn queue_seconds(&self) -> f64 {
        match self.there.queue {
            QueueLimit::Bytes(bytes) => bytes as f64 * 8.0 / self.there.rate_bps as f64,
            QueueLimit::Packets(_) => f64::MAX,
        }
    }
}

/// What a run of the relay came to.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// What the pipes of each lane did: there and back.
    pub lanes: Vec<[PipeCounters; 2]>,
    /// Seconds that a round trip took longer than the pipes have it, on average, as far as the relay can see it: what waited
    /// until it was taken off the NIC, and then until it was given to the other one.
    pub late: f64,
    /// Seconds that all took.
    pub seconds: f64,
    /// The longest time, in seconds, in which it looked at nothing: the machine ran something else.
    pub longest_nap: f64,
    /// How often that took longer than a full queue takes: then the line runs dry, and the queue overflows after it.
    pub long_naps: u32,
    /// Packets that the rings lost, and not the pipes.
    pub overrun: u64,
}

/// Both NICs, open.
#[derive(Debug)]
pub struct Relay {
    ports: [XdpPort; 2],
    cache: PoolCache,
    clock: Clock,
    /// The first port of a lane.
    first_port: u16,
    xdp: Xdp,
}

impl Relay {
    /// Opens both NICs of this thread's network namespace, and takes the TCP segments to `lanes` ports from `first_port` on.
    ///
    /// # Errors
    /// See [`Xdp::open`].
    pub fn open(nics: [&str; 2], first_port: u16, lanes: u16) -> Result<Relay, XdpError> {
        let config = XdpConfig {
            nics: nics.map(str::to_owned).to_vec(),
            workers: 1,
            queues: None,
            frames: FRAMES,
            zero_copy: ZeroCopy::Off,
            checksum: ChecksumMode::Software,
        };
        let mut xdp = Xdp::open(&config)?;
        let mut cache = PoolCache::new(xdp.pool().clone());
        let io = xdp.take_worker(WorkerId(0), &mut cache);
        let ports = <[XdpPort; 2]>::try_from(io.ports).expect("two NICs were asked for");
        for lane in 0..lanes {
            xdp.steer_local(Endpoint { addr: Ipv4Addr::UNSPECIFIED.into(), port: first_port + lane }, false)?;
        }
        Ok(Relay { ports, cache, clock: Clock::start(), first_port, xdp })
    }

    /// Packets that the steering program meant for us.
    fn steered(&self) -> u64 {
        self.xdp.counters().iter().filter(|(name, _)| name.starts_with("redirected")).map(|(_, n)| n).sum()
    }

    /// Carries what comes by through these lanes until `stop`, and then until they are empty.
    pub fn carry(&mut self, lanes: &[Lane], stop: &AtomicBool) -> Account {
        let mut roads: Vec<[Road; 2]> = lanes
            .iter()
            .map(|lane| {
                let chance = |n: u64| Prng::new(lane.seed.wrapping_mul(2).wrapping_add(n));
                [Road::new(lane.there.clone(), chance(0)), Road::new(lane.back.clone(), chance(1))]
            })
            .collect();
        let (mut batch, mut received) = (Vec::with_capacity(BUDGET), 0);
        let steered_before = self.steered();
        let dropped_before: u64 = self.ports.iter().map(XdpPort::dropped).sum();
        let limit = lanes.iter().map(Lane::queue_seconds).fold(f64::MAX, f64::min);
        let mut naps = Naps::new(limit);
        let (mut last, mut strays) = (self.clock.now(), 0);
        while !stop.load(Ordering::Relaxed) || roads.iter().flatten().any(|road| !road.is_idle()) {
            let now = self.clock.now();
            naps.add(now.since(last).as_secs_f64());
            last = now;
            for from in 0..2 {
                self.ports[from].receive(now, BUDGET, &mut self.cache, &mut batch);
                // Looked at afterwards: nothing may have come before it came, however long we were kept.
                let now = self.clock.now();
                // The line first: what a packet finds in the queue is what is there now.
                roads.iter_mut().for_each(|lane| lane[from].advance(now, &mut self.cache));
                received += batch.len() as u64;
                for packet in batch.drain(..) {
                    match self.lane_of(&packet, roads.len()) {
                        Some(lane) => roads[lane][from].offer(now, packet, &mut self.cache),
                        None => {
                            strays += 1;
                            self.cache.free(packet.frame);
                        }
                    }
                }
                let to = &mut self.ports[1 - from];
                let due = roads.iter_mut().map(|lane| lane[from].deliver(self.clock, to, &mut self.cache));
                if due.sum::<usize>() > 0 {
                    while to.flush(now) {}
                }
            }
        }
        let dropped = self.ports.iter().map(XdpPort::dropped).sum::<u64>() - dropped_before;
        let lateness: f64 = (0..2).map(|way| mean_lateness(&roads, way)).sum();
        Account {
            late: 2.0 * naps.mean_wait() + lateness,
            seconds: naps.sum,
            longest_nap: naps.longest,
            long_naps: naps.over_limit,
            overrun: (self.steered() - steered_before).saturating_sub(received) + dropped + strays,
            lanes: roads.into_iter().map(|lane| lane.map(|road| road.pipe.counters())).collect(),
        }
    }

    fn lane_of(&self, packet: &RxFrame, lanes: usize) -> Option<usize> {
        let bytes = self.cache.pool().rx_bytes(packet).get(DESTINATION_PORT)?;
        let port = u16::from_be_bytes(bytes.try_into().ok()?);
        Some(port.checked_sub(self.first_port)?.into()).filter(|lane| *lane < lanes)
    }
}

fn mean_lateness(roads: &[[Road; 2]], way: usize) -> f64 {
    let (late, count) =
        roads.iter().fold((0.0, 0), |sum, lane| (sum.0 + lane[way].late, sum.1 + lane[way].delivered));
    if count == 0 { 0.0 } else { late / f64::from(count) }
}

/// One direction of a lane.
struct Road {
    pipe: Pipe<RxFrame>,
    /// When the line is free again.
    leaves: Option<Instant>,
    /// What is on its way, and when it arrives.
    flying: VecDeque<(Instant, RxFrame)>,
    delivered: u32,
    /// Seconds that they were late, all together.
    late: f64,
}

impl Road {
    fn new(config: PipeConfig, chance: Prng) -> Road {
        Road {
            pipe: Pipe::new(config, chance),
            leaves: None,
            flying: VecDeque::new(),
            delivered: 0,
            late: 0.0,
        }
    }

    fn is_idle(&self) -> bool {
        self.pipe.is_idle() && self.flying.is_empty()
    }

    fn offer(&mut self, now: Instant, packet: RxFrame, cache: &mut PoolCache) {
        let len = packet.len.into();
        if let Err(packet) = self.pipe.offer(packet, len) {
            cache.free(packet.frame);
        }
        if self.leaves.is_none() {
            self.start(now, cache);
        }
    }

    /// Lets the line do what it would have done until now, each packet at its own time: so being late changes no rate.
    fn advance(&mut self, now: Instant, cache: &mut PoolCache) {
        while let Some(leaves) = self.leaves.filter(|leaves| *leaves <= now) {
            self.pipe.line_free();
            self.leaves = None;
            self.start(leaves, cache);
        }
    }

    fn start(&mut self, at: Instant, cache: &mut PoolCache) {
        let Some(started) = self.pipe.start(at) else { return };
        self.leaves = Some(started.leaves);
        // Lanes neither reorder nor duplicate.
        match started.fate.first() {
            Some(arrival) => self.flying.push_back((arrival.at, started.item)),
            None => cache.free(started.item.frame),
        }
    }

    /// Gives what has arrived to `port`; says how much that was.
    fn deliver(&mut self, clock: Clock, port: &mut XdpPort, cache: &mut PoolCache) -> usize {
        let (mut count, now) = (0, clock.now());
        while self.flying.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, packet)) = self.flying.pop_front() else { break };
            self.late += now.since(at).as_secs_f64();
            self.delivered += 1;
            let descriptor =
                cache.pool().start_transmit(&packet.frame, packet.offset.into(), packet.len.into());
            port.transmit(now, descriptor, cache);
            cache.free(packet.frame);
            count += 1;
        }
        count
    }
}

/// From one look at the NICs to the next.
#[derive(Debug)]
struct Naps {
    limit: f64,
    over_limit: u32,
    sum: f64,
    squares: f64,
    longest: f64,
}

impl Naps {
    fn new(limit: f64) -> Naps {
        Naps { limit, over_limit: 0, sum: 0.0, squares: 0.0, longest: 0.0 }
    }

    fn add(&mut self, seconds: f64) {
        self.over_limit += u32::from(seconds > self.limit);
        self.sum += seconds;
        self.squares += seconds * seconds;
        self.longest = self.longest.max(seconds);
    }

    /// How long a packet that comes at any time waits, on average.
    fn mean_wait(&self) -> f64 {
        if self.sum == 0.0 { 0.0 } else { self.squares / self.sum / 2.0 }
    }
}
