//! What a fuzzer may do to an established connection: the input is a list of acts, most of them segments in or around the
//! window with any flags, options and payload. The stack may do what it likes but panic, lose a frame, or stay busy.
//!
//! `run` takes bytes and nothing else, so that any fuzzer can drive it; `main.rs` does with random ones.

use braid::base::pool::{RX_HEADROOM, TX_HEADROOM};
use braid::base::time::Duration;
use braid::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame, SeqNum, WorkerId};
use braid::mptcp::ConnectOptions;
use braid::stack::message::Command;
use braid::stack::stream::{Doorbell, Wake};
use braid::stack::{AcceptQueue, ListenOptions, ListenerId, PortConfig, Stack, StackConfig, StreamShared};
use braid::tcp::TcpConfig;
use braid::wire::mptcp::{CapableFlags, Dss, DssMapping, Key, MpCapable, ShortOrLong, VERSION};
use braid::wire::{
    ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr, MptcpOption, Parsed, SegmentRepr, TcpFlags,
    TcpOptions, TcpRepr, Timestamps, emit, parse,
};
use std::sync::Arc;

#[derive(Debug)]
struct NobodySleeps;
impl Wake for NobodySleeps {
    fn wake(&self) {}
}

/// The input, taken from its front. What is behind its end is zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = usize::from(self.byte()).min(most).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken.to_vec()
    }

    /// A number near `base`, mostly, or any.
    fn near(&mut self, base: SeqNum) -> SeqNum {
        match self.byte() {
            0..64 => base,
            64..160 => base + i32::from(self.byte() as i8) as u32,
            160..240 => base + (i32::from(self.byte() as i8) * 997) as u32,
            _ => base + self.word(),
        }
    }
}

/// A host with one connection, and what its peer knows of it.
struct World {
    now: Instant,
    stack: Stack,
    cache: PoolCache,
    accept: Arc<AcceptQueue>,
    stream: Option<Arc<StreamShared>>,
    tuple: FourTuple,
    /// What an honest peer would send and expect next.
    seq: SeqNum,
    ack: SeqNum,
    host_key: Key,
}

const PEER_KEY: Key = Key(0x0123_4567);

impl World {
    fn new() -> Self {
        let doorbell = Arc::new(Doorbell::new(8, Box::new(NobodySleeps)));
        let config = StackConfig {
            worker: WorkerId(0),
            workers: 1,
            seed: 1,
            max_connections: 8,
            tcp: TcpConfig::default(),
            ports: vec![PortConfig { checksum: ChecksumMode::Off, mtu: 1500 }],
        };
        let mut stack = Stack::new(config, doorbell);
        let mut cache = PoolCache::new(FramePool::new_heap(512));
        let accept = AcceptQueue::new(2);
        let options = ListenOptions { connection: ConnectOptions::default() };
        let listen =
            Command::Listen { id: ListenerId(1), port: 80, addr: None, options, accept: Arc::clone(&accept) };
        stack.handle_command(Instant::ZERO, listen, &mut cache);
        Self {
            now: Instant::from_millis(1),
            stack,
            cache,
            accept,
            stream: None,
            tuple: FourTuple {
                local: Endpoint::new([10, 0, 0, 1].into(), 5000),
                remote: Endpoint::new([10, 0, 0, 2].into(), 80),
            },
            seq: SeqNum::new(u32::MAX - 500),
            ack: SeqNum::default(),
            host_key: Key(0),
        }
    }

    /// A packet arrives; every seventh length in several frames, cut somewhere, perhaps in more than we take.
    fn frame(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(2000)];
        let Some(last) = bytes.last().filter(|_| bytes.len() % 7 == 3) else {
            return self.part(bytes, false);
        };
        let (mut rest, step) = (bytes, bytes.len() * (1 + usize::from(*last)) / 512);
        while rest.len() > step.max(1) {
            let (part, behind) = rest.split_at(step.max(1));
            self.part(part, true);
            rest = behind;
        }
        self.part(rest, false);
    }

    fn part(&mut self, bytes: &[u8], more: bool) {
        let Some(mut frame) = self.cache.alloc() else { return };
        let pool = Arc::clone(self.cache.pool_arc());
        pool.bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + bytes.len()].copy_from_slice(bytes);
        let received = RxFrame { frame, offset: RX_HEADROOM as u16, len: bytes.len() as u16, more };
        self.stack.handle_frame(self.now, PortId(0), received, &mut self.cache);
    }

    /// A segment of the peer; `raw` are further option bytes.
    fn segment(&mut self, tcp: TcpRepr, options: &TcpOptions, raw: &[u8], payload: &[u8]) {
        let link = LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([4; 6]), vlan: None };
        let segment = SegmentRepr { link: &link, tuple: self.tuple, ecn: 0, tcp, options };
        let mut buffer = vec![0; 4096];
        let room = (40 - options.wire_len()) / 4 * 4;
        let mut raw = raw[..raw.len().min(room)].to_vec();
        raw.resize(raw.len().next_multiple_of(4), 0);
        let end = 128 + raw.len() + payload.len();
        buffer[128..128 + raw.len()].copy_from_slice(&raw);
        buffer[128 + raw.len()..end].copy_from_slice(payload);
        let start = emit(&segment, &mut buffer, 128..end, ChecksumMode::Off);
        // What was written as the front of the payload becomes options.
        let offset = start + 14 + 20 + 12;
        buffer[offset] += (raw.len() as u8 / 4) << 4;
        self.frame(&buffer[start..end]);
    }

    /// What the host does now; the peer learns from what it sends.
    fn turn(&mut self) {
        self.stack.handle_timeout(self.now, &mut self.cache);
        self.stack.handle_doorbell();
        self.stack.settle(self.now, &mut self.cache);
        while self.stack.poll_report().is_some() {}
        let mut sent = 0;
        while let Some((_, packet)) = self.stack.poll_transmit(self.now, &[64], &mut self.cache) {
            sent += 1;
            assert!(sent < 10_000, "it sends without end");
            let bytes = self.cache.pool().tx_bytes(&packet).to_vec();
            self.cache.complete(packet.index);
            let Ok(Parsed::Tcp(packet)) = parse(&bytes, ChecksumMode::Off) else {
                panic!("it sent what nobody can read: {bytes:?}");
            };
            if packet.tcp.flags.contains(TcpFlags::SYN) {
                self.ack = packet.tcp.seq + 1;
                if let Some(MptcpOption::Capable(MpCapable::SynAck { sender_key, .. })) =
                    packet.options.mptcp.first()
                {
                    self.host_key = *sender_key;
                }
            } else if packet.tcp.seq == self.ack {
                self.ack += packet.payload.len() as u32;
            }
        }
    }

    /// Opens the connection in good order.
    fn connect(&mut self, mptcp: bool, modern: bool) {
        let flags = CapableFlags(CapableFlags::HMAC_SHA256);
        let mut syn = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
        if modern {
            syn.sack_permitted = true;
            syn.window_scale = Some(7);
            syn.timestamps = Some(Timestamps { value: 1, echo: 0 });
        }
        if mptcp {
            syn.mptcp.push(MptcpOption::Capable(MpCapable::Syn { version: VERSION, flags }));
        }
        let header = |seq, ack, flags| TcpRepr { seq, ack, flags, window: 1000, urgent: 0 };
        self.segment(header(self.seq, self.ack, TcpFlags::SYN), &syn, &[], &[]);
        self.turn();
        self.seq += 1;
        let mut third = TcpOptions::default();
        if mptcp {
            let (sender_key, receiver_key) = (PEER_KEY, self.host_key);
            let keys = MpCapable::Ack { version: VERSION, flags, sender_key, receiver_key };
            third.mptcp.push(MptcpOption::Capable(keys));
        }
        self.segment(header(self.seq, self.ack, TcpFlags::ACK), &third, &[], &[]);
        self.turn();
        self.stream = self.accept.pop();
        assert!(self.stream.is_some(), "an honest peer is accepted");
    }

    fn write(&mut self, len: u16) {
        let Some(stream) = &self.stream else { return };
        let Some(frame) = self.cache.alloc() else { return };
        let chunk = Chunk::new(frame, TX_HEADROOM, usize::from(len.max(1)));
        if let Err(chunk) = stream.push(chunk) {
            self.cache.free_chunk(chunk);
        }
        stream.ring();
    }

    fn read(&mut self) {
        let Some(stream) = &self.stream else { return };
        while let Some(chunk) = stream.pop() {
            self.cache.free_chunk(chunk);
        }
    }

    /// A segment as the input says.
    fn act_segment(&mut self, input: &mut Input<'_>) {
        let flags = match input.byte() {
            0..160 => TcpFlags::ACK,
            bits => TcpFlags::from_bits(bits.wrapping_mul(37)),
        };
        let (seq, ack) = (input.near(self.seq), input.near(self.ack));
        let window = input.word() as u16;
        let mut options = TcpOptions::default();
        let kinds = input.byte();
        if kinds & 1 != 0 {
            let value = self.now.as_millis() as u32 + u32::from(input.byte());
            options.timestamps = Some(Timestamps { value, echo: input.word() });
        }
        if kinds & 2 != 0 {
            let start = input.near(self.ack);
            options.sack.push((start, input.near(start)));
        }
        let payload = input.bytes(200);
        if kinds & 4 != 0 {
            let mapping = DssMapping {
                data_seq: if kinds & 8 != 0 {
                    ShortOrLong::Short(input.word())
                } else {
                    ShortOrLong::Long(u64::from(input.word()) << 8)
                },
                subflow_seq: u32::from(input.byte()),
                len: if kinds & 16 != 0 { payload.len() as u16 } else { input.word() as u16 },
                checksum: None,
            };
            let data_ack = (kinds & 32 != 0).then(|| ShortOrLong::Short(input.word()));
            let data_fin = kinds & 64 != 0;
            options.mptcp.push(MptcpOption::Dss(Dss { data_ack, mapping: Some(mapping), data_fin }));
        }
        let raw = if kinds & 128 != 0 { input.bytes(40) } else { Vec::new() };
        let fits = options.wire_len() <= 40;
        let honest = seq == self.seq && flags == TcpFlags::ACK;
        let none = TcpOptions::default();
        let options = if fits { &options } else { &none };
        self.segment(TcpRepr { seq, ack, flags, window, urgent: 0 }, options, &raw, &payload);
        if honest {
            self.seq += payload.len() as u32;
        }
    }
}

/// Does what `data` says to a connection. Panics where the stack does, or leaks.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new();
    let kind = input.byte();
    world.connect(kind & 1 != 0, kind & 2 != 0);
    while !input.0.is_empty() {
        match input.byte() {
            0..170 => world.act_segment(&mut input),
            170..180 => {
                let bytes = input.bytes(255);
                world.frame(&bytes);
            }
            180..210 => world.write(u16::from(input.byte()) * 5),
            210..220 => world.read(),
            220..222 => world.stream.iter().for_each(|stream| stream.close_send()),
            222 => world.stream.iter().for_each(|stream| stream.abandon()),
            223..235 => {
                world.now += Duration::from_millis(1 << (input.byte() % 16));
                world.turn();
            }
            _ => world.turn(),
        }
    }
    // In the end everybody goes, and all frames are back.
    world.turn();
    world.stack.clear(world.now, &mut world.cache);
    world.read();
    while let Some(stream) = world.accept.pop() {
        while let Some(chunk) = stream.pop() {
            world.cache.free_chunk(chunk);
        }
    }
    assert_eq!(world.cache.pool().used(), 0, "frames were lost: {:?}", world.cache.pool().held());
}
