//! The host under test: the sans-IO stack with a path manager around it, in virtual time. Packets go in and come out
//! without Ethernet headers, as packetdrill has them. `sockets.rs` is the application's side, `ready.rs` says who may go
//! on, `kernel.rs` has the threads.

use crate::cookies;
use crate::persona::Persona;
use crate::sockets::Sockets;
use crate::super_segments::SuperSegments;
use crate::wants::Wants;
use braid::base::pool::{RX_HEADROOM, RX_PACKET_MAX};
use braid::base::time::Duration;
use braid::base::{FramePool, Instant, PoolCache, PortId, RxFrame, WorkerId};
use braid::mptcp::MptcpCounters;
use braid::pm::{
    AddressEvent, EndpointError, EndpointSpec, Limits, LinkEvent, Manager, PmCommand, PmConfig, Policy,
    Prefix, Route, Routes,
};
use braid::stack::core::{PortConfig, Stack, StackConfig};
use braid::stack::stream::Wake;
use braid::stack::{Command, Doorbell, Path};
use braid::wire::{ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// Where the clock of `gettimeofday` begins, in seconds: any time will do, so long as it is always the same.
const EPOCH_S: i64 = 1_000_000_000;
/// The stack's own clock is not at its origin when a script begins.
const BEGIN: Instant = Instant::from_millis(1_000_000);
/// The only NIC.
const PORT: PortId = PortId(0);
/// Frames: as many as scripts need, and not so many that `mlockall`, which packetdrill calls, has to lock much.
const FRAMES: usize = 4096;
/// Turns at one point in time: more means that the stack does not come to rest.
const TURNS_MAX: usize = 10_000;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Payload of the segments that a longer packet is cut into.
const CUT: usize = 1400;

/// Nobody sleeps.
#[derive(Debug)]
struct NobodySleeps;

impl Wake for NobodySleeps {
    fn wake(&self) {}
}

/// The stack and what belongs to it. Made with the first socket, so that the settings of a script's first lines hold.
#[derive(Debug)]
pub struct Host {
    /// The stack.
    pub stack: Stack,
    /// Its frames.
    pub cache: PoolCache,
    /// Its doorbell.
    pub doorbell: Arc<Doorbell>,
    manager: Manager,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    now: Instant,
    mtu: u16,
    /// Settings.
    pub persona: Persona,
    /// What scripts asked for in vain.
    pub wants: Wants,
    /// What descriptors stand for.
    pub sockets: Sockets,
    /// The stack, from the first socket on.
    pub host: Option<Host>,
    /// Addresses of the NIC.
    addresses: Vec<IpAddr>,
    endpoints: Vec<EndpointSpec>,
    limits: Limits,
    /// What `nstat -n` saw.
    pub counted: MptcpCounters,
    outbox: VecDeque<(Instant, Vec<u8>)>,
    bursts: BTreeMap<FourTuple, SuperSegments>,
    next_port: u16,
}

impl World {
    /// A host whose NIC has the address `local` and takes packets of `mtu` bytes.
    pub fn new(local: IpAddr, mtu: u16, wants: Wants) -> Self {
        Self {
            now: BEGIN,
            mtu,
            persona: Persona::linux(),
            wants,
            sockets: Sockets::default(),
            host: None,
            addresses: vec![local],
            endpoints: Vec::new(),
            // Linux: two subflows more, and no announced address is followed.
            limits: Limits { subflows: 2, add_addr_accepted: 0, ..Limits::default() },
            counted: MptcpCounters::default(),
            outbox: VecDeque::new(),
            bursts: BTreeMap::new(),
            next_port: 40_000,
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The time as `gettimeofday` tells it. The clock moves with each call: packetdrill spins on it.
    pub fn tick(&mut self) -> (i64, i64) {
        let next = self.now + Duration::from_micros(1);
        self.advance(next);
        let micros = self.micros(self.now);
        (micros / 1_000_000, micros % 1_000_000)
    }

    fn micros(&self, at: Instant) -> i64 {
        EPOCH_S * 1_000_000 + at.as_micros() as i64
    }

    /// The stack.
    pub fn host(&mut self) -> &mut Host {
        let Self { persona, mtu, addresses, endpoints, limits, now, host, .. } = self;
        host.get_or_insert_with(|| {
            let doorbell = Arc::new(Doorbell::new(1024, Box::new(NobodySleeps)));
            let config = StackConfig {
                worker: WorkerId(0),
                workers: 1,
                seed: 1,
                max_connections: 1024,
                tcp: persona.tcp(),
                ports: vec![PortConfig { checksum: ChecksumMode::Software, mtu: *mtu }],
            };
            let stack = Stack::new(config, Arc::clone(&doorbell));
            let cache = PoolCache::new(FramePool::new_heap(FRAMES));
            // As Linux: only endpoints say what addresses are for.
            let config = PmConfig { policy: Policy::Endpoints, limits: *limits, ..PmConfig::default() };
            let mut manager = Manager::new(config, 1);
            manager.handle_link(*now, LinkEvent { port: PORT, up: true });
            let anywhere = |addr: &str| {
                let addr = addr.parse().expect("an address");
                Route { port: Some(PORT), prefix: Prefix::new(addr, 0), via: None }
            };
            manager.set_routes(*now, Routes::new(vec![anywhere("0.0.0.0"), anywhere("::")]));
            // The user's endpoints come first: their ids count from 1.
            for spec in endpoints.iter() {
                manager.add_endpoint(*now, spec).expect("it was looked at when it was added");
            }
            for addr in addresses.iter().copied() {
                manager.handle_address(*now, AddressEvent { port: PORT, addr, added: true });
            }
            Host { stack, cache, doorbell, manager }
        })
    }

    /// Settings hold for the connections that begin from now on.
    pub fn apply_settings(&mut self) {
        if let Some(host) = &mut self.host {
            host.stack.set_tcp(self.persona.tcp());
        }
    }

    /// Forgets what was learned of peers: a host without sockets is made anew.
    pub fn forget(&mut self) {
        match self.sockets.is_empty() {
            true => self.host = None,
            false => self.wants.add("ip tcp_metrics flush beside sockets"),
        }
    }

    /// The stack, if there is one yet, to look at.
    pub fn view(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The way out.
    pub fn path(&self) -> Path {
        let link =
            LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
        Path { port: PORT, link, mtu: self.mtu }
    }

    /// A local port that nobody has.
    pub fn ephemeral_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// Does what control would tell the worker.
    pub fn command(&mut self, command: Command) {
        let now = self.now;
        let Host { stack, cache, .. } = self.host();
        stack.handle_command(now, command, cache);
        self.settle();
    }

    /// `ip mptcp endpoint add`. The address is one of ours from then on, as packets with whatever address come to us.
    pub fn add_endpoint(&mut self, spec: EndpointSpec) -> Result<(), EndpointError> {
        spec.check()?;
        let (now, addr) = (self.now, spec.addr);
        self.addresses.push(addr);
        if let Some(host) = &mut self.host {
            host.manager.handle_address(now, AddressEvent { port: PORT, addr, added: true });
            host.manager.add_endpoint(now, &spec)?;
            self.settle();
        } else {
            self.endpoints.push(spec);
        }
        Ok(())
    }

    /// `ip mptcp endpoint flush`.
    pub fn flush_endpoints(&mut self) {
        self.endpoints.clear();
        let now = self.now;
        if let Some(host) = &mut self.host {
            host.manager.flush_endpoints(now);
        }
        self.settle();
    }

    /// `ip mptcp limits set`, where it says something of them.
    pub fn set_limits(&mut self, subflows: Option<usize>, add_addr_accepted: Option<usize>) {
        self.limits.subflows = subflows.unwrap_or(self.limits.subflows);
        self.limits.add_addr_accepted = add_addr_accepted.unwrap_or(self.limits.add_addr_accepted);
        if self.host.is_some() {
            self.wants.add("limits after the first socket");
        }
    }

    /// The kernel's counters of MPTCP.
    pub fn mptcp_counters(&self) -> MptcpCounters {
        self.host.as_ref().map(|host| host.stack.worker_counters().mptcp).unwrap_or_default()
    }

    /// A packet arrives. One that is longer than a frame is cut, as if no NIC on the way had put it together.
    pub fn receive(&mut self, packet: &[u8]) {
        let pieces = cut(&with_other_cookie(packet, cookies::arriving));
        let now = self.now;
        let Host { stack, cache, .. } = self.host();
        for piece in pieces {
            let Some(mut frame) = cache.alloc() else { break };
            let ether_type: [u8; 2] = if piece[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
            let pool = Arc::clone(cache.pool_arc());
            let bytes = &mut pool.bytes_mut(&mut frame)[RX_HEADROOM..];
            bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            bytes[12..ETHERNET].copy_from_slice(&ether_type);
            bytes[ETHERNET..ETHERNET + piece.len()].copy_from_slice(&piece);
            let len = (ETHERNET + piece.len()) as u16;
            let received = RxFrame { frame, offset: RX_HEADROOM as u16, len, more: false };
            stack.handle_frame(now, PORT, received, cache);
        }
        self.settle();
    }

    /// The next packet that has left, with the time at which it did.
    pub fn take_sent(&mut self) -> Option<(i64, Vec<u8>)> {
        let (at, packet) = self.outbox.pop_front()?;
        Some((self.micros(at), packet))
    }

    /// When something happens on its own.
    pub fn next_event(&self) -> Option<Instant> {
        let host = self.host.as_ref()?;
        let events = [host.stack.poll_timeout(), host.manager.poll_timeout()];
        events.into_iter().flatten().min().map(|at| at.max(self.now))
    }

    /// Time comes to `target`; nothing happens on its own before that.
    pub fn advance(&mut self, target: Instant) {
        self.now = self.now.max(target);
        if self.next_event().is_some_and(|at| at <= self.now) {
            self.settle();
        }
    }

    /// Lets the stack do all that is to be done now.
    pub fn settle(&mut self) {
        let now = self.now;
        for _ in 0..TURNS_MAX {
            if !self.turn(now) {
                self.sockets.note_wake_ups(self.host.as_mut());
                return;
            }
        }
        panic!("the stack is busy for ever at {now}");
    }

    /// One turn. Whether another is needed.
    fn turn(&mut self, now: Instant) -> bool {
        let Some(host) = &mut self.host else { return false };
        let Host { stack, cache, manager, .. } = host;
        stack.handle_timeout(now, cache);
        stack.handle_doorbell();
        stack.settle(now, cache);
        let mut sent = Vec::new();
        while let Some((_, packet)) = stack.poll_transmit(now, &[64], cache) {
            sent.push(with_other_cookie(&cache.pool().tx_bytes(&packet)[ETHERNET..], cookies::leaving));
            cache.complete(packet.index);
        }
        while let Some(report) = stack.poll_report() {
            manager.handle_report(now, WorkerId(0), &report);
        }
        if manager.poll_timeout().is_some_and(|at| at <= now) {
            manager.handle_timeout(now);
        }
        let commands: Vec<PmCommand> = std::iter::from_fn(|| manager.poll_command()).collect();
        let busy = stack.has_work() || !commands.is_empty();
        for command in commands {
            self.manage(now, command);
        }
        self.emit(now, sent);
        busy
    }

    /// Does what the path manager wants.
    fn manage(&mut self, now: Instant, command: PmCommand) {
        let path = self.path();
        let command = match command {
            PmCommand::OpenSubflow { connection, local, remote, local_id, remote_id, backup, .. } => {
                let tuple = FourTuple { local: Endpoint::new(local, self.ephemeral_port()), remote };
                Command::OpenSubflow { connection, tuple, path, local_id, remote_id, backup }
            }
            PmCommand::CloseSubflow { connection, subflow, .. } => {
                Command::CloseSubflow { connection, subflow }
            }
            PmCommand::SetBackup { connection, subflow, backup, .. } => {
                Command::SetBackup { connection, subflow, backup }
            }
            PmCommand::Announce { connection, id, addr, port, .. } => {
                Command::Announce { connection, id, addr, port }
            }
            PmCommand::Withdraw { connection, id, .. } => Command::Withdraw { connection, id },
        };
        let Host { stack, cache, .. } = self.host();
        stack.handle_command(now, command, cache);
    }

    /// How many segments Linux would put into one super-segment: as many as `tcp_min_tso_segs` says at the rates of the
    /// scripts, but at most half of the window.
    fn super_segment(&self, tuple: &FourTuple) -> usize {
        let least = self.persona.get("net.ipv4.tcp_min_tso_segs").and_then(|value| value.parse().ok());
        let mut segments: usize = least.unwrap_or(2);
        if let Some(host) = &self.host {
            let connections = self.sockets.connections().filter_map(|id| host.stack.connection(id));
            let mut flows = connections.filter_map(|it| it.figures().find(|flow| flow.tuple == *tuple));
            if let Some(flow) = flows.next() {
                segments = segments.min(flow.tcp.cwnd as usize / flow.mss.get().max(1) / 2);
            }
        }
        segments.max(1)
    }

    fn emit(&mut self, now: Instant, sent: Vec<Vec<u8>>) {
        let mut by_flow: BTreeMap<FourTuple, Vec<usize>> = BTreeMap::new();
        let mut sent = sent;
        for (place, packet) in sent.iter().enumerate() {
            by_flow.entry(tuple_of(packet)).or_default().push(place);
        }
        for (tuple, places) in by_flow {
            let mut burst: Vec<Vec<u8>> =
                places.iter().map(|place| std::mem::take(&mut sent[*place])).collect();
            let segments = self.super_segment(&tuple);
            self.bursts.entry(tuple).or_default().mark(&mut burst, segments);
            for (place, packet) in places.into_iter().zip(burst) {
                sent[place] = packet;
            }
        }
        self.outbox.extend(sent.into_iter().map(|packet| (now, packet)));
    }
}

/// The ends of a packet of ours: it is well-formed TCP.
fn tuple_of(packet: &[u8]) -> FourTuple {
    let (local, remote, tcp): (IpAddr, IpAddr, usize) = if packet[0] >> 4 == 4 {
        let at = |from: usize| <[u8; 4]>::try_from(&packet[from..from + 4]).expect("four bytes").into();
        (at(12), at(16), 20)
    } else {
        let at = |from: usize| <[u8; 16]>::try_from(&packet[from..from + 16]).expect("sixteen bytes").into();
        (at(8), at(24), 40)
    };
    let port = |from: usize| u16::from_be_bytes([packet[from], packet[from + 1]]);
    FourTuple { local: Endpoint::new(local, port(tcp)), remote: Endpoint::new(remote, port(tcp + 2)) }
}

/// A packet with another cookie in its options, if it has one that `exchange` knows.
fn with_other_cookie(packet: &[u8], exchange: impl Fn(bool, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    const SYN: u8 = 2;
    let is_v4 = packet[0] >> 4 == 4;
    let (tcp, protocol) = if is_v4 { (usize::from(packet[0] & 15) * 4, packet[9]) } else { (40, packet[6]) };
    if protocol != 6 || packet.get(tcp + 13).is_none_or(|flags| flags & SYN == 0) {
        return packet.to_vec();
    }
    let (header, payload) = (tcp + 20, tcp + usize::from(packet[tcp + 12] >> 4) * 4);
    let options = packet.get(header..payload).and_then(|options| exchange(is_v4, options));
    let Some(options) = options else { return packet.to_vec() };
    let mut changed = [&packet[..header], &options, &packet[payload..]].concat();
    changed[tcp + 12] = ((20 + options.len()) as u8 / 4) << 4;
    mend_lengths_and_checksums(&mut changed, is_v4, tcp);
    changed
}

/// Cuts a TCP segment that is longer than a frame, as its sender's NIC would have (TSO). Others are left as they are, or
/// dropped where they do not fit.
fn cut(packet: &[u8]) -> Vec<Vec<u8>> {
    if packet.len() + ETHERNET <= RX_PACKET_MAX {
        return vec![packet.to_vec()];
    }
    let (is_v4, tcp) =
        if packet[0] >> 4 == 4 { (true, usize::from(packet[0] & 15) * 4) } else { (false, 40) };
    let protocol = if is_v4 { packet[9] } else { packet[6] };
    if protocol != 6 {
        return Vec::new();
    }
    let payload = tcp + usize::from(packet[tcp + 12] >> 4) * 4;
    let seq = u32::from_be_bytes([packet[tcp + 4], packet[tcp + 5], packet[tcp + 6], packet[tcp + 7]]);
    let total = packet.len() - payload;
    (0..total)
        .step_by(CUT)
        .map(|from| {
            let part = &packet[payload + from..(payload + from + CUT).min(packet.len())];
            let mut piece = packet[..payload].to_vec();
            piece.extend_from_slice(part);
            piece[tcp + 4..tcp + 8].copy_from_slice(&seq.wrapping_add(from as u32).to_be_bytes());
            if from + part.len() < total {
                // FIN and PSH stand on the last one.
                piece[tcp + 13] &= !0x09;
            }
            mend_lengths_and_checksums(&mut piece, is_v4, tcp);
            piece
        })
        .collect()
}

fn mend_lengths_and_checksums(packet: &mut [u8], is_v4: bool, tcp: usize) {
    let len = packet.len() as u16;
    let segment_len = packet.len() - tcp;
    let (source, destination): (IpAddr, IpAddr) = {
        let tuple = tuple_of(packet);
        (tuple.local.addr, tuple.remote.addr)
    };
    if is_v4 {
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[10..12].fill(0);
        let sum = !braid::wire::checksum::sum(0, &packet[..tcp]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&(segment_len as u16).to_be_bytes());
    }
    packet[tcp + 16..tcp + 18].fill(0);
    let pseudo = braid::wire::checksum::pseudo_header_sum(&source, &destination, 6, segment_len);
    let sum = !braid::wire::checksum::sum(pseudo, &packet[tcp..]);
    packet[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
}
