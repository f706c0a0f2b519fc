//! A simulated NIC and steering program. The event loop reaches into the worker's ports between turns: it takes what
//! was transmitted out of the outbox, puts arrivals into the inbox, and tells of completions.

use crate::base::pool::{PACKET_FRAMES, PACKET_MAX, RX_HEADROOM, RX_PACKET_MAX};
use crate::base::{FramePool, Instant, PoolCache, PortId, RxFrame, TxFrame, WorkerId};
use crate::port::{PinError, Port, Steering};
use crate::wire::{ChecksumMode, FourTuple};
use arrayvec::ArrayVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a receive buffer holds before a packet is written into it, so that bytes beyond the packet are never zeroes
/// or an older packet by luck.
const POISON: u8 = 0xdb;

/// The frames of a packet.
pub type TxPacket = ArrayVec<TxFrame, PACKET_FRAMES>;

/// The bytes of a packet.
pub fn packet_bytes(frames: &[TxFrame], pool: &FramePool) -> Vec<u8> {
    frames.iter().flat_map(|frame| pool.tx_bytes(frame)).copied().collect()
}

/// Sizes of a NIC's rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSizes {
    /// Receive buffers that the NIC holds at most.
    pub fill: usize,
    /// Packets given to the NIC whose completion has not been reclaimed.
    pub transmit: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self { fill: 128, transmit: 256 }
    }
}

/// What a NIC counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortCounters {
    /// Packets received.
    pub received: u64,
    /// Packets transmitted.
    pub transmitted: u64,
    /// Packets that arrived when no receive buffer was there.
    pub no_buffer: u64,
    /// Packets longer than a receive buffer.
    pub too_long: u64,
    /// Packets transmitted although there was no room.
    pub no_room: u64,
}

/// A simulated NIC, as its one worker sees it.
#[derive(Debug)]
pub struct SimPort {
    id: PortId,
    pool: Arc<FramePool>,
    rings: RingSizes,
    /// Numbers of frames that the NIC may write packets into.
    fill: Vec<u32>,
    inbox: VecDeque<RxFrame>,
    outbox: VecDeque<TxFrame>,
    /// Numbers of frames whose transmission has completed, until the worker reclaims them.
    completed: VecDeque<u32>,
    /// Those of transmissions whose completion the worker does not get to see, since completions stopped.
    withheld: Option<VecDeque<u32>>,
    /// Completions that the worker has reclaimed.
    reclaimed: u64,
    /// Transmissions that have neither completed nor been dropped.
    in_flight: usize,
    /// The worker filled the ring, or saw no room: it wants to know when there is some.
    wants_room: bool,
    counters: PortCounters,
}

impl SimPort {
    /// A NIC whose receive buffers come from `cache`.
    pub fn new(id: PortId, rings: RingSizes, cache: &mut PoolCache) -> Self {
        let mut port = Self {
            id,
            pool: Arc::clone(cache.pool_arc()),
            rings,
            fill: Vec::with_capacity(rings.fill),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            completed: VecDeque::new(),
            withheld: None,
            reclaimed: 0,
            in_flight: 0,
            wants_room: false,
            counters: PortCounters::default(),
        };
        port.refill(cache);
        port
    }

    /// A packet has come over the wire.
    pub fn deliver(&mut self, packet: &[u8]) {
        if packet.len() > PACKET_MAX {
            self.counters.too_long += 1;
            return;
        }
        let frames = packet.len().div_ceil(RX_PACKET_MAX);
        if self.fill.len() < frames {
            self.counters.no_buffer += 1;
            return;
        }
        for (place, part) in packet.chunks(RX_PACKET_MAX).enumerate() {
            let index = self.fill.pop().expect("there are enough");
            let mut frame = self.pool.end_fill(index);
            let bytes = self.pool.bytes_mut(&mut frame);
            bytes.fill(POISON);
            bytes[RX_HEADROOM..RX_HEADROOM + part.len()].copy_from_slice(part);
            let (offset, len, more) = (RX_HEADROOM as u16, part.len() as u16, place + 1 < frames);
            self.inbox.push_back(RxFrame { frame, offset, len, more });
        }
        self.counters.received += 1;
    }

    /// The frames of the next packet that the worker has transmitted, for the event loop to put on the wire.
    pub fn take_transmitted(&mut self) -> Option<TxPacket> {
        let mut frames = TxPacket::new();
        while let Some(frame) = self.outbox.pop_front() {
            let more = frame.more;
            frames.push(frame);
            if !more {
                return Some(frames);
            }
        }
        assert!(frames.is_empty(), "a packet is transmitted to its end in one turn");
        None
    }

    /// The NIC has read a packet that was taken out. True when the worker waits for room.
    pub fn complete(&mut self, index: u32) -> bool {
        if let Some(withheld) = &mut self.withheld {
            withheld.push_back(index);
            return false;
        }
        self.in_flight -= 1;
        self.completed.push_back(index);
        std::mem::take(&mut self.wants_room)
    }

    /// From now on the NIC reads packets, and never says so.
    pub fn stop_completions(&mut self) {
        self.withheld.get_or_insert_default();
    }

    /// The NIC says so again, also of those that it has read meanwhile.
    pub fn resume_completions(&mut self) {
        let withheld = self.withheld.take().unwrap_or_default();
        self.in_flight -= withheld.len();
        self.completed.extend(withheld);
    }

    /// Frames in flight whose completion never comes.
    pub fn stuck(&self) -> usize {
        self.withheld.as_ref().map_or(0, VecDeque::len)
    }

    /// Frames that the NIC holds a hold on: receive buffers, and packets received that the worker has not taken.
    pub fn held(&self) -> usize {
        self.fill.len() + self.inbox.len()
    }

    /// What it counted.
    pub fn counters(&self) -> PortCounters {
        self.counters
    }

    fn refill(&mut self, cache: &mut PoolCache) {
        while self.fill.len() < self.rings.fill {
            let Some(frame) = cache.alloc() else { break };
            self.fill.push(self.pool.start_fill(frame));
        }
    }
}

impl Port for SimPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn checksum(&self) -> ChecksumMode {
        ChecksumMode::Software
    }

    fn receive(&mut self, _now: Instant, budget: usize, cache: &mut PoolCache, into: &mut Vec<RxFrame>) {
        let packets = budget.min(self.inbox.len());
        into.extend(self.inbox.drain(..packets));
        self.refill(cache);
    }

    fn transmit_room(&mut self, cache: &mut PoolCache) -> usize {
        for index in self.completed.drain(..) {
            cache.complete(index);
            self.reclaimed += 1;
        }
        let room = self.rings.transmit.saturating_sub(self.in_flight);
        self.wants_room |= room == 0;
        room
    }

    fn transmit(&mut self, _now: Instant, packet: TxFrame, cache: &mut PoolCache) {
        if self.pending() >= self.rings.transmit {
            self.counters.no_room += 1;
            cache.complete(packet.index);
            return;
        }
        self.in_flight += 1;
        self.wants_room |= self.in_flight == self.rings.transmit;
        self.counters.transmitted += 1;
        self.outbox.push_back(packet);
    }

    fn flush(&mut self, _now: Instant) -> bool {
        false
    }

    fn pending(&self) -> usize {
        self.in_flight + self.completed.len()
    }

    fn completed(&self) -> u64 {
        self.reclaimed
    }
}

/// A simulated `flow_map`.
#[derive(Debug)]
pub struct SimSteering {
    flows: BTreeMap<FourTuple, WorkerId>,
    limit: usize,
}

impl SimSteering {
    /// A map of at most `limit` flows.
    pub fn new(limit: usize) -> Self {
        Self { flows: BTreeMap::new(), limit }
    }

    /// How many flows are pinned.
    pub fn pinned(&self) -> usize {
        self.flows.len()
    }
}

impl Steering for SimSteering {
    fn pin(&mut self, tuple: FourTuple, worker: WorkerId) -> Result<(), PinError> {
        if self.flows.len() >= self.limit && !self.flows.contains_key(&tuple) {
            return Err(PinError::Full);
        }
        self.flows.insert(tuple, worker);
        Ok(())
    }

    fn unpin(&mut self, tuple: FourTuple) {
        self.flows.remove(&tuple);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Endpoint;

    const RINGS: RingSizes = RingSizes { fill: 2, transmit: 2 };
    const NOW: Instant = Instant::ZERO;

    fn port(frames: usize) -> (SimPort, PoolCache) {
        let mut cache = PoolCache::new(FramePool::new_heap(frames));
        (SimPort::new(PortId(0), RINGS, &mut cache), cache)
    }

    fn send(port: &mut SimPort, cache: &mut PoolCache, byte: u8) {
        let mut frame = cache.alloc().expect("free");
        let pool = Arc::clone(cache.pool_arc());
        pool.bytes_mut(&mut frame)[..60].fill(byte);
        let tx = pool.start_transmit(&frame, 0, 60);
        cache.free(frame);
        port.transmit(NOW, tx, cache);
    }

    #[test]
    fn a_received_packet_lies_behind_the_headroom() {
        let (mut port, mut cache) = port(8);
        port.deliver(&[7; 60]);
        let mut into = Vec::new();
        port.receive(NOW, 64, &mut cache, &mut into);
        let rx = into.pop().expect("one packet");
        assert_eq!((rx.offset as usize, rx.len), (RX_HEADROOM, 60));
        let bytes = cache.pool().bytes(&rx.frame);
        assert_eq!(bytes[RX_HEADROOM..RX_HEADROOM + 60], [7; 60]);
        assert_eq!((bytes[RX_HEADROOM - 1], bytes[RX_HEADROOM + 60]), (POISON, POISON));
        assert_eq!((port.held(), cache.pool().used()), (2, 3));
        cache.free(rx.frame);
        assert_eq!(cache.pool().used(), port.held());
    }

    #[test]
    fn packets_without_a_buffer_or_too_long_are_dropped_and_counted() {
        let (mut port, mut cache) = port(8);
        (0..5).for_each(|_| port.deliver(&[7; 60]));
        port.deliver(&[7; PACKET_MAX + 1]);
        assert_eq!(
            (port.counters().received, port.counters().no_buffer, port.counters().too_long),
            (2, 3, 1)
        );
        let mut into = Vec::new();
        port.receive(NOW, 1, &mut cache, &mut into);
        assert_eq!(into.len(), 1);
        // The receive has refilled: there are buffers again.
        port.deliver(&[7; 60]);
        assert_eq!(port.counters().received, 3);
        into.into_iter().for_each(|rx| cache.free(rx.frame));
    }

    #[test]
    fn a_transmitted_frame_is_in_flight_until_its_completion_is_reclaimed() {
        let (mut port, mut cache) = port(8);
        send(&mut port, &mut cache, 1);
        send(&mut port, &mut cache, 2);
        assert_eq!((port.transmit_room(&mut cache), port.pending()), (0, 2));
        send(&mut port, &mut cache, 3);
        assert_eq!(port.counters().no_room, 1);
        let [tx] = &port.take_transmitted().expect("two were transmitted")[..] else { panic!("one frame") };
        assert_eq!(cache.pool().tx_bytes(tx), [1; 60]);
        assert!(port.complete(tx.index), "the worker waits for room");
        assert_eq!((cache.pool().used(), port.pending()), (4, 2));
        assert_eq!((port.transmit_room(&mut cache), port.pending()), (1, 1));
        assert_eq!(cache.pool().used(), 3);
        let tx = port.take_transmitted().expect("the other").remove(0);
        assert!(!port.complete(tx.index), "nobody waits");
        assert_eq!(port.transmit_room(&mut cache), 2);
        assert_eq!(cache.pool().used(), port.held());
    }

    #[test]
    fn a_port_whose_completions_stop_keeps_what_it_sent_until_they_come_again() {
        let (mut port, mut cache) = port(8);
        port.stop_completions();
        send(&mut port, &mut cache, 1);
        let tx = port.take_transmitted().expect("it leaves all the same").remove(0);
        assert!(!port.complete(tx.index));
        assert_eq!((port.transmit_room(&mut cache), port.pending(), port.stuck()), (1, 1, 1));
        assert_eq!((cache.pool().used(), port.completed()), (3, 0));
        port.resume_completions();
        assert_eq!((port.transmit_room(&mut cache), port.pending(), port.stuck()), (2, 0, 0));
        assert_eq!((cache.pool().used(), port.completed()), (2, 1));
    }

    #[test]
    fn steering_has_a_limit() {
        let mut steering = SimSteering::new(1);
        let end = |port| Endpoint::new([10, 0, 0, 1].into(), port);
        let (one, two) =
            (FourTuple { local: end(1), remote: end(2) }, FourTuple { local: end(3), remote: end(4) });
        assert_eq!(steering.pin(one, WorkerId(0)), Ok(()));
        assert_eq!(steering.pin(one, WorkerId(1)), Ok(()));
        assert_eq!(steering.pin(two, WorkerId(0)), Err(PinError::Full));
        steering.unpin(one);
        assert_eq!((steering.pin(two, WorkerId(0)), steering.pinned()), (Ok(()), 1));
    }
}
