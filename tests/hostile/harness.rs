//! A script of bytes for an attacker on the path of an established connection of two subflows: it drops, repeats, damages and
//! forges packets to one end (the *victim*), and lets time pass, while both applications read and write.
//!
//! Every script is good: its bytes are read as steps until they run out. Nothing may panic, and in the end every frame is
//! back in its pool. Whole packets carry no checksum here: what would be thrown away for it is not worth the effort.

use braid::base::pool::{RX_HEADROOM, TX_HEADROOM};
use braid::base::time::Duration;
use braid::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame, SeqNum, WorkerId};
use braid::mptcp::{ConnectOptions, Path};
use braid::sim::lab::port::{LabPort, OneWorker};
use braid::stack::message::{Command, Report};
use braid::stack::stream::NobodySleeps;
use braid::stack::{AcceptQueue, ListenOptions, ListenerId, StreamShared};
use braid::wire::mptcp::AddressId;
use braid::wire::{
    ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr, Packet, Parsed, SegmentRepr, TcpFlags,
    TcpOptions, TcpRepr, Timestamps, emit, parse,
};
use braid::worker::{Worker, WorkerConfig, WorkerHandle};
use std::collections::VecDeque;
use std::sync::Arc;

const FRAMES: usize = 1024;
const PORT: u16 = 80;
const MTU: u16 = 1500;
const SUBFLOWS: usize = 2;
/// Packets on their way at most; more are lost.
const QUEUE: usize = 64;

struct Host {
    worker: Worker<LabPort, OneWorker>,
    handle: WorkerHandle,
    cache: PoolCache,
}

impl Host {
    fn new(seed: u64) -> Self {
        let pool = FramePool::new_heap(FRAMES);
        let handle = WorkerHandle::new(Box::new(NobodySleeps));
        let config = WorkerConfig { mtus: vec![MTU], ..WorkerConfig::new(WorkerId(0), 1, seed) };
        let ports = vec![LabPort::new(PortId(0), ChecksumMode::Off)];
        let cache = || PoolCache::new(Arc::clone(&pool));
        let worker = Worker::new(config, ports, OneWorker, cache(), handle.clone());
        Self { worker, handle, cache: cache() }
    }

    fn command(&self, command: Command) {
        assert!(self.handle.command(command).is_ok(), "the ring of commands has room");
    }

    fn deliver(&mut self, bytes: &[u8]) {
        let Some(mut frame) = self.cache.alloc() else { return };
        let len = bytes.len().min(MTU as usize + 14);
        self.cache.pool().bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + len]
            .copy_from_slice(&bytes[..len]);
        let packet = RxFrame { frame, offset: RX_HEADROOM as u16, len: len as u16, more: false };
        self.worker.ports_mut()[0].deliver(packet);
    }

    /// One turn. What it has sent.
    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.worker.turn(now);
        let packets: Vec<_> = self.worker.ports_mut()[0].transmitted().collect();
        let bytes = packets.iter().map(|packet| self.cache.pool().tx_bytes(packet).to_vec()).collect();
        packets.iter().for_each(|packet| self.cache.complete(packet.index));
        bytes
    }

    fn write(&mut self, stream: &StreamShared, len: usize) {
        let Some(frame) = self.cache.alloc() else { return };
        if let Err(refused) = stream.push(Chunk::new(frame, TX_HEADROOM, len)) {
            self.cache.free_chunk(refused);
        }
        stream.ring();
    }

    fn read(&mut self, stream: &StreamShared) {
        while let Some(chunk) = stream.pop() {
            self.cache.free_chunk(chunk);
        }
    }

    /// The end of everything: no frame is left.
    fn finish(self, now: Instant, streams: impl Iterator<Item = Arc<StreamShared>>) {
        let Self { mut worker, handle, mut cache } = self;
        // What has arrived is still to be taken.
        worker.turn(now);
        worker.clear(now);
        worker.ports_mut()[0].transmitted().for_each(|packet| cache.complete(packet.index));
        for stream in streams {
            while let Some(chunk) = stream.pop().or_else(|| stream.take()) {
                cache.free_chunk(chunk);
            }
        }
        let pool = Arc::clone(cache.pool_arc());
        drop((worker, handle, cache));
        assert_eq!(pool.used(), 0, "frames that nobody gave back");
    }
}

/// The bytes of a script.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn two(&mut self) -> Option<[u8; 2]> {
        Some([self.byte()?, self.byte()?])
    }

    /// Up to `len` bytes.
    fn bytes(&mut self, len: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The stage of a script.
struct Stage {
    now: Instant,
    peer: Host,
    victim: Host,
    to_peer: VecDeque<Vec<u8>>,
    to_victim: VecDeque<Vec<u8>>,
    peer_stream: Arc<StreamShared>,
    victim_stream: Option<Arc<StreamShared>>,
    accept: Arc<AcceptQueue>,
    /// What the victim has sent last on each subflow.
    seen: Vec<Packet>,
}

/// Plays a script.
pub fn play(script: &[u8]) {
    let mut script = Script(script);
    let plain = script.byte().is_some_and(|first| first & 1 != 0);
    let mut stage = Stage::new(plain);
    while stage.step(&mut script).is_some() {}
    let Stage { now, peer, victim, peer_stream, victim_stream, accept, .. } = stage;
    peer.finish(now, std::iter::once(peer_stream));
    victim.finish(now, victim_stream.into_iter().chain(std::iter::from_fn(|| accept.pop())));
}

impl Stage {
    fn new(plain: bool) -> Self {
        let (peer, victim) = (Host::new(1), Host::new(2));
        let options = ConnectOptions { mptcp: !plain, ..ConnectOptions::default() };
        let accept = AcceptQueue::new(4);
        victim.command(Command::Listen {
            id: ListenerId(1),
            port: PORT,
            addr: None,
            options: ListenOptions { connection: options },
            accept: Arc::clone(&accept),
        });
        let peer_stream = StreamShared::new(Arc::clone(&peer.handle.doorbell));
        let stream = Arc::clone(&peer_stream);
        peer.command(Command::Connect { tuple: tuple(0), path: path(), options, stream });
        let mut stage = Self {
            now: Instant::from_millis(1_000),
            peer,
            victim,
            to_peer: VecDeque::new(),
            to_victim: VecDeque::new(),
            peer_stream,
            victim_stream: None,
            accept,
            seen: Vec::new(),
        };
        for round in 0..12 {
            stage.exchange();
            while let Some(report) = stage.peer.handle.reports.pop() {
                if let Report::JoinsAllowed { connection } = report {
                    (1..SUBFLOWS).for_each(|number| stage.join(connection, number));
                }
            }
            if round % 3 == 2 {
                stage.peer.write(&Arc::clone(&stage.peer_stream), 100);
            }
        }
        assert!(stage.victim_stream.is_some() && stage.seen.len() == if plain { 1 } else { SUBFLOWS });
        stage
    }

    fn join(&self, connection: braid::stack::message::ConnectionId, number: usize) {
        self.peer.command(Command::OpenSubflow {
            connection,
            tuple: tuple(number),
            path: path(),
            local_id: AddressId(number as u8),
            remote_id: AddressId(0),
            backup: false,
        });
    }

    /// Both take a turn, and all that is under way arrives.
    fn exchange(&mut self) {
        self.now += Duration::from_millis(1);
        self.to_peer.drain(..).for_each(|packet| self.peer.deliver(&packet));
        self.to_victim.drain(..).for_each(|packet| self.victim.deliver(&packet));
        self.turns();
    }

    fn turns(&mut self) {
        let sent = self.peer.turn(self.now);
        self.to_victim.extend(sent);
        self.to_victim.truncate(QUEUE);
        for packet in self.victim.turn(self.now) {
            if let Ok(Parsed::Tcp(parsed)) = parse(&packet, ChecksumMode::Off) {
                match self.seen.iter().position(|seen| seen.tuple == parsed.tuple) {
                    Some(place) => self.seen[place] = parsed,
                    None if self.seen.len() < SUBFLOWS => self.seen.push(parsed),
                    None => {}
                }
            }
            self.to_peer.push_back(packet);
        }
        self.to_peer.truncate(QUEUE);
        if self.victim_stream.is_none() {
            self.victim_stream = self.accept.pop();
        }
    }

    /// The next step; `None` at the end of the script.
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let what = script.byte()?;
        let number = usize::from(what >> 4);
        let victim_stream = self.victim_stream.clone();
        match what & 15 {
            0 => self.exchange(),
            // Packets to the victim are lost, the first of them or all but that.
            1 => drop(self.to_victim.drain(..number.min(self.to_victim.len()))),
            2 => self.to_victim.truncate(number),
            3 => drop(self.to_peer.drain(..number.min(self.to_peer.len()))),
            4 => self.to_victim.extend(self.to_victim.front().cloned()),
            5 => self.to_victim.make_contiguous().reverse(),
            6 => self.now += Duration::from_micros(50 << number),
            7 => self.peer.write(&Arc::clone(&self.peer_stream), 1 + number * 90),
            8 => victim_stream.iter().for_each(|stream| self.victim.write(stream, 1 + number * 90)),
            9 => victim_stream.iter().for_each(|stream| self.victim.read(stream)),
            10 => self.peer.read(&Arc::clone(&self.peer_stream)),
            11 if number > 12 => victim_stream.iter().for_each(|stream| {
                stream.close_send();
                stream.ring();
            }),
            11 if number > 10 => {
                self.peer_stream.close_send();
                self.peer_stream.ring();
            }
            // A packet to the victim, or behind it a copy, is damaged in some bytes of its headers.
            11 | 12 => {
                let mut packet = self.to_victim.pop_front()?;
                if what & 15 == 12 {
                    self.to_victim.push_front(packet.clone());
                }
                for _ in 0..=number % 4 {
                    let [place, value] = script.two()?;
                    let place = 14 + usize::from(place) % 112;
                    packet.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= value);
                }
                self.to_victim.push_back(packet);
            }
            13 => {
                let packet = script.bytes(20 + 8 * number).to_vec();
                self.victim.deliver(&packet);
            }
            _ => self.forge(script, number)?,
        }
        Some(())
    }

    /// A segment that fits the connection, but for what the script says.
    fn forge(&mut self, script: &mut Script<'_>, number: usize) -> Option<()> {
        let seen = self.seen.get(number % SUBFLOWS).or(self.seen.first())?.clone();
        let shift = |bytes: [u8; 2]| i32::from(i16::from_le_bytes(bytes));
        let beside = |base: SeqNum, by: i32| SeqNum::new(base.raw().wrapping_add_signed(by));
        let (seq, ack, window) = (shift(script.two()?), shift(script.two()?), script.two()?);
        let tcp = TcpRepr {
            seq: beside(seen.tcp.ack, seq),
            ack: beside(seen.tcp.seq + seen.payload.len() as u32, ack),
            flags: TcpFlags::from_bits(script.byte()?),
            window: u16::from_le_bytes(window),
            urgent: 0,
        };
        let echo = |theirs: Timestamps| Timestamps { value: theirs.echo, echo: theirs.value };
        let options = TcpOptions { timestamps: seen.options.timestamps.map(echo), ..TcpOptions::default() };
        let link = seen.link.reversed();
        // `seen` was read as its receiver reads it: its tuple is the peer's.
        let segment =
            SegmentRepr { link: &link, tuple: seen.tuple, ecn: (number >> 2) as u8, tcp, options: &options };
        let payload = usize::from(script.byte()?) * 5;
        let mut frame = [0; 2048];
        let start = emit(&segment, &mut frame, 200..200 + payload, ChecksumMode::Off);
        let mut packet = frame[start..200 + payload].to_vec();
        let more = usize::from(script.byte()?) % 8 * 4;
        self.add_options(&mut packet, script.bytes(more), payload);
        self.victim.deliver(&packet);
        Some(())
    }

    /// Puts further options in front of a segment's payload, as long as there is room for them.
    fn add_options(&self, packet: &mut Vec<u8>, options: &[u8], payload: usize) {
        let padded = options.len().next_multiple_of(4);
        let (ip, tcp) = (14, 34);
        let offset = usize::from(packet[tcp + 12] >> 4) * 4;
        if offset + padded > 60 || padded == 0 {
            return;
        }
        let place = packet.len() - payload;
        let padding = std::iter::repeat_n(1, padded - options.len());
        packet.splice(place..place, options.iter().copied().chain(padding));
        packet[tcp + 12] = (((offset + padded) / 4) as u8) << 4 | (packet[tcp + 12] & 15);
        let total = (packet.len() - ip) as u16;
        packet[ip + 2..ip + 4].copy_from_slice(&total.to_be_bytes());
        packet[ip + 10..ip + 12].fill(0);
        let sum = !braid::wire::checksum::sum(0, &packet[ip..tcp]);
        packet[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn tuple(number: usize) -> FourTuple {
    FourTuple {
        local: Endpoint::new([10, 0, number as u8, 1].into(), 40_000 + number as u16),
        remote: Endpoint::new([10, 0, 0, 2].into(), PORT),
    }
}

fn path() -> Path {
    let link = LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    Path { port: PortId(0), link, mtu: MTU }
}
