//! Two stacks back to back.

use crate::base::pool::{RX_HEADROOM, RX_PACKET_MAX, TX_HEADROOM};
use crate::base::time::Duration;
use crate::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame, WorkerId};
use crate::mptcp::{ConnectOptions, Path};
use crate::stack::core::{PortConfig, Stack, StackConfig};
use crate::stack::message::{Command, ConnectionId, ListenOptions, ListenerId, Report};
use crate::stack::stream::{AcceptQueue, Doorbell, NobodySleeps, StreamShared, StreamState};
use crate::tcp::TcpConfig;
use crate::wire::mptcp::AddressId;
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr, MptcpOption, Packet, Parsed, SegmentRepr,
    TcpFlags, emit, parse,
};
use std::net::IpAddr;
use std::sync::Arc;

/// NICs of a host.
pub(super) const PORTS: usize = 4;

/// A stack with what it needs.
pub(super) struct Host {
    pub(super) stack: Stack,
    pub(super) cache: PoolCache,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) accept: Arc<AcceptQueue>,
    pub(super) number: u8,
    mtu: u16,
}

/// The address of a host's NIC.
pub(super) fn address(host: u8, port: usize) -> IpAddr {
    IpAddr::from([10, 0, port as u8, host])
}

impl Host {
    pub(super) fn new(number: u8, mtu: u16) -> Self {
        let doorbell = Arc::new(Doorbell::new(64, Box::new(NobodySleeps)));
        let config = StackConfig {
            worker: WorkerId(0),
            workers: 1,
            seed: u64::from(number),
            max_connections: 16,
            // Packets move in steps of a millisecond here: pacing would put each into a step of its own.
            tcp: TcpConfig { pacing: None, ..TcpConfig::default() },
            ports: vec![PortConfig { checksum: ChecksumMode::Software, mtu }; PORTS],
        };
        let stack = Stack::new(config, Arc::clone(&doorbell));
        let cache = PoolCache::new(FramePool::new_heap(4096));
        Self { stack, cache, doorbell, accept: AcceptQueue::new(16), number, mtu }
    }

    pub(super) fn path(&self, port: usize) -> Path {
        let link =
            LinkHeader { src: MacAddr([2, 0, 0, 0, 0, self.number]), dst: MacAddr([2; 6]), vlan: None };
        Path { port: PortId(port as u16), link, mtu: self.mtu }
    }

    /// Opens a subflow with these ends, through the NIC `port`, whose number is the id of both addresses.
    pub(super) fn open(
        &mut self,
        now: Instant,
        stream: &StreamShared,
        tuple: FourTuple,
        port: usize,
        backup: bool,
    ) {
        let (connection, path) = (name_of(stream), self.path(port));
        let (local_id, remote_id) = (AddressId(port as u8), AddressId(port as u8));
        let command = Command::OpenSubflow { connection, tuple, path, local_id, remote_id, backup };
        self.stack.handle_command(now, command, &mut self.cache);
    }

    pub(super) fn tell(&mut self, now: Instant, command: Command) {
        self.stack.handle_command(now, command, &mut self.cache);
    }

    pub(super) fn listen(&mut self, port: u16, connection: ConnectOptions) {
        let options = ListenOptions { connection };
        let accept = Arc::clone(&self.accept);
        let command = Command::Listen { id: ListenerId(1), port, addr: None, options, accept };
        self.stack.handle_command(Instant::ZERO, command, &mut self.cache);
    }

    pub(super) fn connect(
        &mut self,
        now: Instant,
        remote: Endpoint,
        options: ConnectOptions,
    ) -> Arc<StreamShared> {
        let stream = StreamShared::new(Arc::clone(&self.doorbell));
        let tuple = FourTuple { local: Endpoint::new(address(self.number, 0), 40_000), remote };
        let command = Command::Connect { tuple, path: self.path(0), options, stream: Arc::clone(&stream) };
        self.stack.handle_command(now, command, &mut self.cache);
        stream
    }

    pub(super) fn deliver(&mut self, now: Instant, port: PortId, bytes: &[u8]) {
        let parts = bytes.chunks(RX_PACKET_MAX).len();
        for (place, part) in bytes.chunks(RX_PACKET_MAX).enumerate() {
            self.deliver_part(now, port, part, place + 1 < parts);
        }
    }

    /// A frame of a packet, of which there may be `more`.
    pub(super) fn deliver_part(&mut self, now: Instant, port: PortId, bytes: &[u8], more: bool) {
        let mut frame = self.cache.alloc().expect("a frame");
        let pool = Arc::clone(self.cache.pool_arc());
        pool.bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + bytes.len()].copy_from_slice(bytes);
        let received = RxFrame { frame, offset: RX_HEADROOM as u16, len: bytes.len() as u16, more };
        self.stack.handle_frame(now, port, received, &mut self.cache);
    }

    /// Everything that the stack wants to send now.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(PortId, Vec<u8>)> {
        self.stack.handle_timeout(now, &mut self.cache);
        self.stack.handle_doorbell();
        self.stack.settle(now, &mut self.cache);
        let mut packets: Vec<(PortId, Vec<u8>)> = Vec::new();
        let mut is_open = false;
        while let Some((port, packet)) = self.stack.poll_transmit(now, &[64; PORTS], &mut self.cache) {
            let bytes = self.cache.pool().tx_bytes(&packet);
            match packets.last_mut().filter(|_| is_open) {
                Some((of, begun)) => {
                    assert_eq!(*of, port, "a packet leaves at one port");
                    begun.extend_from_slice(bytes);
                }
                None => packets.push((port, bytes.to_vec())),
            }
            is_open = packet.more;
            self.cache.complete(packet.index);
        }
        assert!(!is_open, "packets are whole");
        packets
    }

    pub(super) fn write(&mut self, stream: &StreamShared, bytes: &[u8]) {
        self.write_in(1000, stream, bytes);
    }

    /// The same in chunks of this length.
    pub(super) fn write_in(&mut self, chunk_len: usize, stream: &StreamShared, bytes: &[u8]) {
        for part in bytes.chunks(chunk_len) {
            let mut frame = self.cache.alloc().expect("a frame");
            let pool = Arc::clone(self.cache.pool_arc());
            pool.bytes_mut(&mut frame)[TX_HEADROOM..TX_HEADROOM + part.len()].copy_from_slice(part);
            stream.push(Chunk::new(frame, TX_HEADROOM, part.len())).expect("room");
        }
        stream.ring();
    }

    pub(super) fn read(&mut self, stream: &StreamShared) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.pop() {
            bytes.extend_from_slice(self.cache.pool().chunk(&chunk));
            self.cache.free_chunk(chunk);
        }
        bytes
    }

    pub(super) fn finish(mut self) {
        self.stack.clear(Instant::from_millis(1 << 30), &mut self.cache);
        while let Some(stream) = self.accept.pop() {
            self.read(&stream);
        }
        assert_eq!(self.cache.pool().used(), 0, "frames were lost");
    }
}

/// Two hosts and the time.
pub(super) struct Pair {
    pub(super) client: Host,
    pub(super) server: Host,
    pub(super) now: Instant,
    /// How long a packet is on its way, by the NIC that it leaves from.
    pub(super) delays: [Duration; PORTS],
}

/// What becomes of a packet on the way: `None` drops it.
pub(super) type Middlebox<'a> = &'a mut dyn FnMut(bool, Vec<u8>) -> Option<Vec<u8>>;

/// A packet on its way.
struct Flying {
    arrives: Instant,
    up: bool,
    port: PortId,
    bytes: Vec<u8>,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with_mtu(1500)
    }

    pub(super) fn with_mtu(mtu: u16) -> Self {
        let delays = [Duration::from_millis(1); PORTS];
        Self { client: Host::new(1, mtu), server: Host::new(2, mtu), now: Instant::from_millis(1), delays }
    }

    /// Carries packets and lets time pass until nothing happens for `patience`.
    pub(super) fn run(&mut self, patience: Duration, middlebox: Middlebox<'_>) {
        let mut quiet_until = self.now + patience;
        let give_up = quiet_until + Duration::from_secs(120);
        let mut flying: Vec<Flying> = Vec::new();
        let mut recent: Vec<String> = Vec::new();
        while self.now < quiet_until || !flying.is_empty() {
            assert!(self.now < give_up, "they never come to rest: {recent:#?}");
            let from_client = self.client.turn(self.now).into_iter().map(|packet| (true, packet));
            let from_server = self.server.turn(self.now).into_iter().map(|packet| (false, packet));
            for (up, (port, bytes)) in from_client.chain(from_server) {
                quiet_until = self.now + patience;
                let Segment { tuple, tcp, options, payload, .. } = Segment::parse(&bytes);
                recent.push(format!("{} {tuple:?} {tcp:?} {:?} {}", self.now, options.mptcp, payload.len()));
                recent.drain(..recent.len().saturating_sub(12));
                let arrives = self.now + self.delays[port.index()];
                let passed = middlebox(up, bytes).map(|bytes| Flying { arrives, up, port, bytes });
                flying.extend(passed);
            }
            self.now += Duration::from_millis(1);
            let (arrived, rest): (Vec<_>, Vec<_>) =
                flying.into_iter().partition(|packet| packet.arrives <= self.now);
            flying = rest;
            for Flying { up, port, bytes, .. } in arrived {
                let host = if up { &mut self.server } else { &mut self.client };
                host.deliver(self.now, port, &bytes);
            }
        }
    }

    pub(super) fn run_clean(&mut self) {
        self.run(Duration::from_millis(500), &mut |_, bytes| Some(bytes));
    }

    /// An established connection: the client's end and the server's.
    pub(super) fn connect(
        &mut self,
        client: ConnectOptions,
        server: ConnectOptions,
    ) -> (Arc<StreamShared>, Arc<StreamShared>) {
        self.server.listen(80, server);
        let stream = self.client.connect(self.now, Endpoint::new(address(2, 0), 80), client);
        self.run_clean();
        assert_eq!(stream.state(), StreamState::Open);
        let accepted = self.server.accept.pop().expect("accepted");
        (stream, accepted)
    }

    pub(super) fn reports(host: &mut Host) -> Vec<Report> {
        std::iter::from_fn(|| host.stack.poll_report()).collect()
    }

    /// An established connection with `joins` further subflows, each on a NIC of its own. A few bytes were sent and read.
    pub(super) fn connect_joined(
        &mut self,
        joins: usize,
        options: ConnectOptions,
    ) -> (Arc<StreamShared>, Arc<StreamShared>) {
        let (client, server) = self.connect(options, options);
        self.client.write(&client, &pattern(10));
        self.run_clean();
        (1..=joins).for_each(|port| self.join(&client, port, false));
        self.run_clean();
        assert_eq!(self.server.read(&server), pattern(10));
        (client, server)
    }

    /// The client joins a subflow from its NIC `port` to the server's.
    pub(super) fn join(&mut self, stream: &StreamShared, port: usize, backup: bool) {
        let tuple = FourTuple {
            local: Endpoint::new(address(1, port), 40_000 + port as u16),
            remote: Endpoint::new(address(2, port), 80),
        };
        self.open(stream, tuple, port, backup);
    }

    /// The client opens a subflow with these ends, through its NIC `port`, whose number is the id of both addresses.
    pub(super) fn open(&mut self, stream: &StreamShared, tuple: FourTuple, port: usize, backup: bool) {
        self.client.open(self.now, stream, tuple, port, backup);
    }

    /// Sends `bytes` from the client to the server, in pieces that the rings hold.
    pub(super) fn upload(
        &mut self,
        client: &StreamShared,
        server: &StreamShared,
        bytes: &[u8],
        middlebox: Middlebox<'_>,
    ) -> Vec<u8> {
        let mut arrived = Vec::new();
        for part in bytes.chunks(200_000) {
            self.client.write(client, part);
            self.run(Duration::from_secs(5), middlebox);
            arrived.extend(self.server.read(server));
        }
        arrived
    }
}

/// The name of a stream's connection.
pub(super) fn name_of(stream: &StreamShared) -> ConnectionId {
    stream.identity().expect("named").0
}

/// Bytes that can be told apart.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// A segment taken apart, to be changed and put together again.
pub(super) struct Segment {
    pub(super) link: LinkHeader,
    /// From the sender's side.
    pub(super) tuple: FourTuple,
    pub(super) tcp: crate::wire::TcpRepr,
    pub(super) options: crate::wire::TcpOptions,
    pub(super) payload: Vec<u8>,
}

impl Segment {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let Ok(Parsed::Tcp(packet)) = parse(bytes, ChecksumMode::Off) else { panic!("a good packet") };
        let Packet { link, tuple, tcp, options, payload, .. } = packet;
        Self { link, tuple: tuple.reversed(), tcp, options, payload: bytes[payload].to_vec() }
    }

    /// The frame, with good checksums.
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut frame = vec![0; 16_384];
        let end = 128 + self.payload.len();
        frame[128..end].copy_from_slice(&self.payload);
        let Self { link, tuple, tcp, options, .. } = self;
        let segment = SegmentRepr { link, tuple: *tuple, ecn: 0, tcp: *tcp, options };
        let start = emit(&segment, &mut frame, 128..end, ChecksumMode::Software);
        frame[start..end].to_vec()
    }

    pub(super) fn has(&self, flags: TcpFlags) -> bool {
        self.tcp.flags.contains(flags)
    }

    pub(super) fn option(&self, wanted: impl Fn(&MptcpOption) -> bool) -> Option<&MptcpOption> {
        self.options.mptcp.iter().find(|option| wanted(option))
    }
}

/// Changes a packet as a middlebox would.
pub(super) fn edit(bytes: &[u8], change: impl FnOnce(&mut Segment)) -> Vec<u8> {
    let mut segment = Segment::parse(bytes);
    change(&mut segment);
    segment.emit()
}

/// Takes MPTCP options out of a packet, as a middlebox would.
pub(super) fn strip(bytes: &[u8], wanted: impl Fn(&MptcpOption) -> bool) -> Vec<u8> {
    edit(bytes, |segment| segment.options.mptcp.retain(|option| !wanted(&*option)))
}

/// The NIC pair that a packet travels between: the third byte of its source address.
pub(super) fn path_of(bytes: &[u8]) -> u8 {
    bytes[28]
}
