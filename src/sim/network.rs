//! Nodes and the links between them: who is connected to whom, and packets on their way. It knows nothing of what
//! the packets are for.

use crate::base::time::Duration;
use crate::base::{FramePool, Instant, PortId, Prng};
use crate::sim::attacker::Attacker;
use crate::sim::event::EventHeap;
use crate::sim::losses::SegmentLosses;
use crate::sim::middlebox::{End, Middlebox, Passed, Station};
use crate::sim::pipe::{DownTime, Fate, Pipe, PipeConfig, PipeCounters};
use crate::sim::port::{TxPacket, packet_bytes};
use crate::sim::trace::digest;
use crate::wire::{ChecksumMode, Parsed, parse};
use std::collections::BTreeMap;

/// Names a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// Names a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeId(pub usize);

/// A NIC of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nic {
    /// The host.
    pub host: HostId,
    /// Which of its NICs.
    pub port: PortId,
}

/// A link: two NICs, and a pipe each way.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The NIC at one end.
    pub a: Nic,
    /// The NIC at the other end.
    pub b: Nic,
    /// The pipe from `a` to `b`.
    pub a_to_b: PipeConfig,
    /// The pipe from `b` to `a`.
    pub b_to_a: PipeConfig,
    /// What stands in the middle and changes packets, in both directions.
    pub middlebox: Middlebox,
    /// The part of all packets behind which an attacker forges one.
    pub attacks: f64,
    /// At most how long after the last bit of a packet its completion comes.
    pub completion_delay: Duration,
}

/// Something that happens in the network.
#[derive(Debug)]
pub enum NetworkEvent {
    /// The line of a pipe is free for the next packet.
    LineFree(PipeId),
    /// A NIC has finished with a frame.
    Completed {
        /// The NIC.
        nic: Nic,
        /// The frame, and what it held when its transmission started.
        tx: Sending,
    },
    /// What a middlebox holds back of the packets of a pipe goes on.
    Released(PipeId),
    /// A packet has come to the end of a pipe.
    Arrived {
        /// The pipe.
        pipe: PipeId,
        /// The packet.
        packet: Box<[u8]>,
        /// Whether the pipe changed a byte of it.
        damaged: bool,
    },
}

/// A packet that its host has not been told the completion of.
#[derive(Debug)]
pub struct Sending {
    /// The descriptors of its frames.
    pub tx: TxPacket,
    /// What the packet was when it was transmitted: nobody may write to it before its completion.
    digest: u64,
}

impl Sending {
    /// Whether the packet still is what was transmitted.
    pub fn is_untouched(&self, pool: &FramePool) -> bool {
        digest(&packet_bytes(&self.tx, pool)) == self.digest
    }
}

#[derive(Debug)]
struct Wire {
    pipe: Pipe<Sending>,
    from: Nic,
    to: Nic,
    losses: SegmentLosses,
    completion_delay: Duration,
    /// Completions of one NIC come in order.
    last_completion: Instant,
}

/// All links, and what is on its way.
#[derive(Debug)]
pub struct Network {
    wires: Vec<Wire>,
    /// The middlebox of each link.
    stations: Vec<Station>,
    /// The attacker at each link.
    attackers: Vec<Option<Attacker>>,
    out: BTreeMap<Nic, PipeId>,
    prng: Prng,
}

impl Network {
    /// A network of `links`; every random choice in it follows from `prng`.
    ///
    /// # Panics
    /// When two links start at the same NIC.
    pub fn new(links: &[Link], mut prng: Prng) -> Self {
        let mut wires = Vec::new();
        let mut out = BTreeMap::new();
        for link in links {
            for (from, to, config) in [(link.a, link.b, &link.a_to_b), (link.b, link.a, &link.b_to_a)] {
                let taken = out.insert(from, PipeId(wires.len()));
                assert!(taken.is_none(), "a NIC has one link");
                wires.push(Wire {
                    pipe: Pipe::new(config.clone(), Prng::new(prng.next_u64())),
                    from,
                    to,
                    losses: SegmentLosses::new(config.segment_losses.clone()),
                    completion_delay: link.completion_delay,
                    last_completion: Instant::ZERO,
                });
            }
        }
        let stations = links.iter().map(|link| Station::new(link.middlebox)).collect();
        let attacker = |link: &Link| {
            (link.attacks > 0.0).then(|| Attacker::new(link.attacks, Prng::new(prng.next_u64())))
        };
        let attackers = links.iter().map(attacker).collect();
        Self { wires, stations, attackers, out, prng }
    }

    /// A host transmits a packet. Its completion comes back as an event, also when it is dropped.
    pub fn transmit<E: From<NetworkEvent>>(
        &mut self,
        now: Instant,
        nic: Nic,
        tx: TxPacket,
        pool: &FramePool,
        events: &mut EventHeap<E>,
    ) {
        let bytes = packet_bytes(&tx, pool);
        let (len, sending) = (bytes.len(), Sending { digest: digest(&bytes), tx });
        let Some(&pipe) = self.out.get(&nic) else {
            // A NIC without a cable: the frame is read and goes nowhere.
            events.push(now, NetworkEvent::Completed { nic, tx: sending }.into());
            return;
        };
        if let Err(dropped) = self.wires[pipe.0].pipe.offer(sending, len) {
            self.complete(now, pipe, dropped, events);
        }
        self.start(now, pipe, pool, events);
    }

    /// The line of a pipe is free. `pool` is that of the host at its beginning ([`Network::source`]).
    pub fn handle_line_free<E: From<NetworkEvent>>(
        &mut self,
        now: Instant,
        pipe: PipeId,
        pool: &FramePool,
        events: &mut EventHeap<E>,
    ) {
        self.wires[pipe.0].pipe.line_free();
        self.start(now, pipe, pool, events);
    }

    /// Nothing passes a link, in both directions, for the time of `down`.
    pub fn take_down(&mut self, link: usize, down: DownTime) {
        for wire in &mut self.wires[2 * link..2 * link + 2] {
            wire.pipe.take_down(down);
        }
    }

    /// Whether packets pass a link now.
    pub fn is_up(&self, now: Instant, link: usize) -> bool {
        let down = |down: &DownTime| down.contains(now);
        !self.wires[2 * link].pipe.config().down.iter().any(down)
    }

    /// The NIC at the beginning of a pipe.
    pub fn source(&self, pipe: PipeId) -> Nic {
        self.wires[pipe.0].from
    }

    /// The NIC at the end of a pipe.
    pub fn destination(&self, pipe: PipeId) -> Nic {
        self.wires[pipe.0].to
    }

    /// What became of the packets of each pipe, in the order of the links, `a` to `b` first.
    pub fn counters(&self) -> Vec<PipeCounters> {
        self.wires.iter().map(|wire| wire.pipe.counters()).collect()
    }

    fn start<E: From<NetworkEvent>>(
        &mut self,
        now: Instant,
        pipe: PipeId,
        pool: &FramePool,
        events: &mut EventHeap<E>,
    ) {
        let wire = &mut self.wires[pipe.0];
        let Some(started) = wire.pipe.start(now) else { return };
        // The bytes are read now and not when the host transmitted them: a host that writes to them too early is
        // found out.
        let packet = packet_bytes(&started.item.tx, pool);
        if !started.fate.is_empty() {
            self.pass(started.leaves, pipe, packet, &started.fate, events);
        }
        events.push(started.leaves, NetworkEvent::LineFree(pipe).into());
        self.complete(started.leaves, pipe, started.item, events);
    }

    /// A packet comes to the middlebox of its link, and what that makes of it arrives as `fate` says.
    fn pass<E: From<NetworkEvent>>(
        &mut self,
        leaves: Instant,
        pipe: PipeId,
        mut packet: Vec<u8>,
        fate: &Fate,
        events: &mut EventHeap<E>,
    ) {
        let from = if pipe.0.is_multiple_of(2) { End::A } else { End::B };
        let damage = fate.iter().find_map(|arrival| arrival.damage);
        if let Some(damage) = damage {
            let at = damage.at.min(packet.len() - 1);
            packet[at] ^= damage.mask;
        }
        // What is damaged when it comes there no middlebox believes: it passes it on, to be discarded at its end. But no
        // checksum covers an IPv6 flow label or hop limit: nobody can see that these have changed.
        let is_whole = || matches!(parse(&packet, ChecksumMode::Software), Ok(Parsed::Tcp(_)));
        let damaged = damage.is_some() && !is_whole();
        let passed = match damaged {
            true => Passed { forward: vec![packet], ..Passed::default() },
            false => self.stations[pipe.0 / 2].pass(leaves, from, packet),
        };
        let back = PipeId(pipe.0 ^ 1);
        for packet in passed.forward {
            if self.wires[pipe.0].losses.takes(&packet) {
                continue;
            }
            let forged = match &mut self.attackers[pipe.0 / 2] {
                Some(attacker) if !damaged => attacker.answer(&packet),
                _ => None,
            };
            let arrivals = || fate.iter().filter(|arrival| arrival.damage == damage);
            for arrival in arrivals() {
                let packet = packet.clone().into_boxed_slice();
                events.push(arrival.at, NetworkEvent::Arrived { pipe, packet, damaged }.into());
            }
            if let Some((first, forged)) = arrivals().map(|arrival| arrival.at).min().zip(forged) {
                let packet = forged.into_boxed_slice();
                events.push(first, NetworkEvent::Arrived { pipe, packet, damaged: false }.into());
            }
        }
        for packet in passed.back {
            let at = leaves + self.wires[back.0].pipe.config().delay;
            let packet = packet.into_boxed_slice();
            events.push(at, NetworkEvent::Arrived { pipe: back, packet, damaged: false }.into());
        }
        if let Some(at) = passed.release_at {
            events.push(at, NetworkEvent::Released(pipe).into());
        }
    }

    /// A middlebox has held something back for long enough.
    pub fn handle_released<E: From<NetworkEvent>>(
        &mut self,
        now: Instant,
        pipe: PipeId,
        events: &mut EventHeap<E>,
    ) {
        let from = if pipe.0.is_multiple_of(2) { End::A } else { End::B };
        if let Some(packet) = self.stations[pipe.0 / 2].release(now, from) {
            let at = now + self.wires[pipe.0].pipe.config().delay;
            let packet = packet.into_boxed_slice();
            events.push(at, NetworkEvent::Arrived { pipe, packet, damaged: false }.into());
        }
    }

    fn complete<E: From<NetworkEvent>>(
        &mut self,
        leaves: Instant,
        pipe: PipeId,
        tx: Sending,
        events: &mut EventHeap<E>,
    ) {
        let wire = &mut self.wires[pipe.0];
        let late = self.prng.below(wire.completion_delay.as_nanos() + 1);
        let at = (leaves + Duration::from_nanos(late)).max(wire.last_completion);
        wire.last_completion = at;
        events.push(at, NetworkEvent::Completed { nic: wire.from, tx }.into());
    }
}

#[cfg(test)]
mod tests;
