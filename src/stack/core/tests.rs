//! Two stacks back to back, without ports: frames are carried by hand, and can be looked at, changed or dropped.

use super::*;
use crate::base::FramePool;
use crate::base::pool::RX_HEADROOM;
use crate::base::time::Duration;
use crate::mptcp::{ConnectOptions, FallbackReason};
use crate::stack::message::Command;
use crate::stack::stream::{StreamShared, StreamState, Wake};
use crate::wire::mptcp::{AddressId, MpCapable};
use crate::wire::{Endpoint, LinkHeader, MacAddr, emit};
use proptest::prelude::*;

#[derive(Debug)]
struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

const PORTS: usize = 2;

/// A stack with what it needs.
struct Host {
    stack: Stack,
    cache: PoolCache,
    doorbell: Arc<Doorbell>,
    accept: Arc<AcceptQueue>,
    number: u8,
}

fn address(host: u8, port: usize) -> IpAddr {
    IpAddr::from([10, 0, port as u8, host])
}

impl Host {
    fn new(number: u8) -> Self {
        let doorbell = Arc::new(Doorbell::new(64, Box::new(NoWake)));
        let config = StackConfig {
            worker: WorkerId(0),
            workers: 1,
            seed: u64::from(number),
            max_connections: 16,
            tcp: TcpConfig::default(),
            ports: vec![PortConfig { checksum: ChecksumMode::Software, mtu: 1500 }; PORTS],
        };
        let stack = Stack::new(config, Arc::clone(&doorbell));
        let cache = PoolCache::new(FramePool::new_heap(4096));
        Self { stack, cache, doorbell, accept: AcceptQueue::new(16), number }
    }

    fn path(&self, port: usize) -> Path {
        let link =
            LinkHeader { src: MacAddr([2, 0, 0, 0, 0, self.number]), dst: MacAddr([2; 6]), vlan: None };
        Path { port: PortId(port as u16), link, mtu: 1500 }
    }

    fn listen(&mut self, port: u16, mptcp: bool) {
        let options = ListenOptions { connection: ConnectOptions { mptcp, ..Default::default() } };
        let accept = Arc::clone(&self.accept);
        let command = Command::Listen { id: ListenerId(1), port, addr: None, options, accept };
        self.stack.handle_command(Instant::ZERO, command, &mut self.cache);
    }

    fn connect(&mut self, remote: Endpoint, mptcp: bool) -> Arc<StreamShared> {
        let stream = StreamShared::new(Arc::clone(&self.doorbell));
        let tuple = FourTuple { local: Endpoint::new(address(self.number, 0), 40_000), remote };
        let options = ConnectOptions { mptcp, ..Default::default() };
        let command = Command::Connect { tuple, path: self.path(0), options, stream: Arc::clone(&stream) };
        self.stack.handle_command(Instant::ZERO, command, &mut self.cache);
        stream
    }

    fn deliver(&mut self, now: Instant, port: PortId, bytes: &[u8]) {
        let mut frame = self.cache.alloc().expect("a frame");
        let pool = Arc::clone(self.cache.pool_arc());
        pool.bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + bytes.len()].copy_from_slice(bytes);
        let received = RxFrame { frame, offset: RX_HEADROOM as u16, len: bytes.len() as u16 };
        self.stack.handle_frame(now, port, received, &mut self.cache);
    }

    /// Everything that the stack wants to send now.
    fn turn(&mut self, now: Instant) -> Vec<(PortId, Vec<u8>)> {
        self.stack.handle_timeout(now, &mut self.cache);
        self.stack.handle_doorbell();
        self.stack.settle(now, &mut self.cache);
        let mut packets = Vec::new();
        while let Some((port, packet)) = self.stack.poll_transmit(now, &[64; PORTS], &mut self.cache) {
            packets.push((port, self.cache.pool().tx_bytes(&packet).to_vec()));
            self.cache.complete(packet.index);
        }
        packets
    }

    fn write(&mut self, stream: &StreamShared, bytes: &[u8]) {
        for part in bytes.chunks(1000) {
            let mut frame = self.cache.alloc().expect("a frame");
            let pool = Arc::clone(self.cache.pool_arc());
            pool.bytes_mut(&mut frame)[128..128 + part.len()].copy_from_slice(part);
            stream.push(Chunk { frame, offset: 128, len: part.len() as u16 }).expect("room");
        }
        stream.ring();
    }

    fn read(&mut self, stream: &StreamShared) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.pop() {
            bytes.extend_from_slice(self.cache.pool().chunk(&chunk));
            self.cache.free_chunk(chunk);
        }
        bytes
    }

    fn finish(mut self) {
        self.stack.clear(Instant::from_millis(1 << 30), &mut self.cache);
        while let Some(stream) = self.accept.pop() {
            self.read(&stream);
        }
        assert_eq!(self.cache.pool().used(), 0, "frames were lost");
    }
}

/// Two hosts and the time.
struct Pair {
    client: Host,
    server: Host,
    now: Instant,
}

/// What becomes of a packet on the way: `None` drops it.
type Middlebox<'a> = &'a mut dyn FnMut(bool, Vec<u8>) -> Option<Vec<u8>>;

impl Pair {
    fn new() -> Self {
        Self { client: Host::new(1), server: Host::new(2), now: Instant::from_millis(1) }
    }

    /// Carries packets and lets time pass until nothing happens for `patience`.
    fn run(&mut self, patience: Duration, middlebox: Middlebox<'_>) {
        let mut quiet_until = self.now + patience;
        while self.now < quiet_until {
            let from_client = self.client.turn(self.now);
            let from_server = self.server.turn(self.now);
            if !from_client.is_empty() || !from_server.is_empty() {
                quiet_until = self.now + patience;
            }
            self.now += Duration::from_millis(1);
            for (port, bytes) in from_client {
                middlebox(true, bytes)
                    .into_iter()
                    .for_each(|bytes| self.server.deliver(self.now, port, &bytes));
            }
            for (port, bytes) in from_server {
                middlebox(false, bytes)
                    .into_iter()
                    .for_each(|bytes| self.client.deliver(self.now, port, &bytes));
            }
        }
    }

    fn run_clean(&mut self) {
        self.run(Duration::from_millis(500), &mut |_, bytes| Some(bytes));
    }

    fn connect(&mut self, client_mptcp: bool, server_mptcp: bool) -> (Arc<StreamShared>, Arc<StreamShared>) {
        self.server.listen(80, server_mptcp);
        let stream = self.client.connect(Endpoint::new(address(2, 0), 80), client_mptcp);
        self.run_clean();
        assert_eq!(stream.state(), StreamState::Open);
        let accepted = self.server.accept.pop().expect("accepted");
        (stream, accepted)
    }

    fn reports(host: &mut Host) -> Vec<Report> {
        std::iter::from_fn(|| host.stack.poll_report()).collect()
    }

    fn join(&mut self, stream: &StreamShared) {
        let (connection, first) = stream.identity().expect("named");
        let tuple = FourTuple {
            local: Endpoint::new(address(1, 1), 40_001),
            remote: Endpoint::new(address(2, 1), first.remote.port),
        };
        let command = Command::OpenSubflow {
            connection,
            tuple,
            path: self.client.path(1),
            local_id: AddressId(1),
            remote_id: AddressId(1),
            backup: false,
        };
        self.client.stack.handle_command(self.now, command, &mut self.client.cache);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Takes the MPTCP options out of a packet, as a middlebox would.
fn strip(bytes: &[u8], wanted: impl Fn(&MptcpOption) -> bool) -> Vec<u8> {
    let Ok(Parsed::Tcp(packet)) = parse(bytes, ChecksumMode::Software) else { panic!("a good packet") };
    let mut options = packet.options.clone();
    options.mptcp = packet.options.mptcp.iter().filter(|option| !wanted(option)).cloned().collect();
    let mut frame = vec![0; 4096];
    let end = 128 + packet.payload.len();
    frame[128..end].copy_from_slice(&bytes[packet.payload.clone()]);
    let segment = SegmentRepr {
        link: &packet.link,
        tuple: packet.tuple.reversed(),
        ecn: packet.ecn,
        tcp: packet.tcp,
        options: &options,
    };
    let start = emit(&segment, &mut frame, 128..end, ChecksumMode::Software);
    frame[start..end].to_vec()
}

#[test]
fn data_flows_both_ways_over_two_subflows_and_all_ends_in_order() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(true, true);
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
    let (up, down) = (pattern(300_000), pattern(200_000));
    pair.client.write(&client, &up[..1000]);
    pair.run_clean();
    assert!(
        Pair::reports(&mut pair.client).iter().any(|report| matches!(report, Report::JoinsAllowed { .. }))
    );
    pair.join(&client);
    pair.run_clean();
    let joined = |report: &Report| matches!(report, Report::SubflowEstablished { .. });
    assert!(Pair::reports(&mut pair.client).iter().any(joined));
    assert!(Pair::reports(&mut pair.server).iter().any(joined));

    // No more at a time than the rings hold.
    let (mut arrived_up, mut arrived_down) = (pair.server.read(&server), Vec::new());
    for (up, down) in up[1000..].chunks(120_000).zip(down.chunks(80_000)) {
        pair.client.write(&client, up);
        pair.server.write(&server, down);
        pair.run_clean();
        arrived_up.extend(pair.server.read(&server));
        arrived_down.extend(pair.client.read(&client));
    }
    client.close_send();
    server.close_send();
    pair.run_clean();
    assert!(arrived_up == up && arrived_down == down, "the bytes differ");
    assert!(client.is_sent() && server.is_sent() && client.is_drained() && server.is_drained());
    for info in [client.info(), server.info()] {
        let info = info.expect("published");
        let sent: Vec<u64> = info.subflow.iter().flatten().map(|subflow| subflow.bytes_sent).collect();
        assert!(sent.len() == 2 && sent.iter().all(|bytes| *bytes > 20_000), "{info:?}");
    }
    client.abandon();
    server.abandon();
    pair.run(Duration::from_secs(70), &mut |_, bytes| Some(bytes));
    assert_eq!(pair.client.stack.connection_count() + pair.server.stack.connection_count(), 0);
    assert!(pair.client.stack.poll_timeout().is_none(), "idle means no timer");
    assert_eq!(client.close_reason(), Some(CloseReason::Finished));
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn plain_tcp_where_either_side_wants_it() {
    for (client_mptcp, server_mptcp, expected) in [
        (false, true, [FallbackReason::NotWanted, FallbackReason::SynWithoutCapable]),
        (true, false, [FallbackReason::SynAckWithoutCapable, FallbackReason::NotWanted]),
    ] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect(client_mptcp, server_mptcp);
        assert_eq!([client.fallback(), server.fallback()], expected.map(|reason| Some(Some(reason))));
        let bytes = pattern(100_000);
        pair.client.write(&client, &bytes);
        client.close_send();
        pair.run_clean();
        assert!(pair.server.read(&server) == bytes, "the bytes differ");
        assert!(server.is_drained());
        pair.client.finish();
        pair.server.finish();
    }
}

/// Between the worker's last look at a stream and the end of its connection the application may leave. It has seen that
/// the connection still is, so what it left unread is up to the worker.
#[test]
fn an_application_that_leaves_while_its_connection_ends_loses_no_frames() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(true, true);
    pair.client.write(&client, &pattern(3000));
    client.close_send();
    pair.run_clean();
    server.close_send();
    let (id, _) = server.identity().expect("named");
    let mut left = false;
    for _ in 0..2000 {
        let from_client = pair.client.turn(pair.now);
        let host = &mut pair.server;
        host.stack.handle_timeout(pair.now, &mut host.cache);
        host.stack.handle_doorbell();
        host.stack.settle(pair.now, &mut host.cache);
        if !left && host.stack.connection(id).is_some_and(Connection::is_closed) {
            assert_ne!(server.state(), StreamState::Closed, "the application sees no end yet");
            server.abandon();
            left = true;
        }
        let mut from_server = Vec::new();
        while let Some((port, packet)) = host.stack.poll_transmit(pair.now, &[64; PORTS], &mut host.cache) {
            from_server.push((port, host.cache.pool().tx_bytes(&packet).to_vec()));
            host.cache.complete(packet.index);
        }
        // TIME-WAIT takes its time.
        pair.now += Duration::from_millis(if from_client.len() + from_server.len() > 0 { 1 } else { 100 });
        from_client.iter().for_each(|(port, bytes)| pair.server.deliver(pair.now, *port, bytes));
        from_server.iter().for_each(|(port, bytes)| pair.client.deliver(pair.now, *port, bytes));
    }
    assert!(left, "the connection did not end");
    client.abandon();
    pair.client.finish();
    pair.server.finish();
}

/// A transfer through a middlebox, both ways; returns why each side fell back.
fn through(middlebox: Middlebox<'_>) -> [Option<FallbackReason>; 2] {
    let mut pair = Pair::new();
    pair.server.listen(80, true);
    let client = pair.client.connect(Endpoint::new(address(2, 0), 80), true);
    pair.run(Duration::from_secs(5), middlebox);
    let server = pair.server.accept.pop().expect("accepted");
    let bytes = pattern(50_000);
    pair.client.write(&client, &bytes);
    pair.run(Duration::from_secs(5), middlebox);
    assert!(pair.server.read(&server) == bytes, "the bytes differ");
    pair.server.write(&server, &bytes);
    server.close_send();
    client.close_send();
    pair.run(Duration::from_secs(5), middlebox);
    assert!(pair.client.read(&client) == bytes, "the bytes differ");
    assert!(client.is_drained() && server.is_drained());
    let reasons = [client.fallback().expect("known"), server.fallback().expect("known")];
    pair.client.finish();
    pair.server.finish();
    reasons
}

#[test]
fn falls_back_when_a_middlebox_removes_options() {
    let capable = |option: &MptcpOption| matches!(option, MptcpOption::Capable(_));
    let flags = |bytes: &[u8]| match parse(bytes, ChecksumMode::Software) {
        Ok(Parsed::Tcp(packet)) => packet.tcp.flags,
        _ => panic!("a good packet"),
    };
    let is_syn = |bytes: &[u8]| flags(bytes).contains(TcpFlags::SYN);
    // From the SYN; from the SYN/ACK; from everything but the SYNs.
    let reasons =
        through(&mut |up, bytes| Some(if up && is_syn(&bytes) { strip(&bytes, capable) } else { bytes }));
    assert_eq!(
        reasons,
        [Some(FallbackReason::SynAckWithoutCapable), Some(FallbackReason::SynWithoutCapable)]
    );
    let reasons =
        through(&mut |up, bytes| Some(if !up && is_syn(&bytes) { strip(&bytes, capable) } else { bytes }));
    assert_eq!(
        reasons,
        [Some(FallbackReason::SynAckWithoutCapable), Some(FallbackReason::AckWithoutCapable)]
    );
    let reasons = through(&mut |_, bytes| Some(if is_syn(&bytes) { bytes } else { strip(&bytes, |_| true) }));
    assert_eq!(reasons, [Some(FallbackReason::NoDss), Some(FallbackReason::AckWithoutCapable)]);
}

#[test]
fn a_lost_third_ack_is_made_up_for_by_the_first_data() {
    let mut dropped = false;
    let reasons = through(&mut |up, bytes| {
        let Ok(Parsed::Tcp(packet)) = parse(&bytes, ChecksumMode::Software) else { panic!("a good packet") };
        let third = up
            && packet
                .options
                .mptcp
                .iter()
                .any(|it| matches!(it, MptcpOption::Capable(MpCapable::Ack { .. })));
        if third && !dropped {
            dropped = true;
            return None;
        }
        Some(bytes)
    });
    assert!(dropped);
    assert_eq!(reasons, [None, None]);
}

#[test]
fn a_subflow_that_dies_in_silence_loses_nothing() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(true, true);
    pair.client.write(&client, &pattern(1000));
    pair.run_clean();
    pair.join(&client);
    pair.run_clean();
    pair.server.read(&server);
    let bytes = pattern(500_000);
    let (mut count, mut arrived) = (0, Vec::new());
    for part in bytes.chunks(200_000) {
        pair.client.write(&client, part);
        pair.run(Duration::from_secs(5), &mut |_, packet| {
            count += 1;
            let second_path = packet[28] == 1; // the third byte of the source address: 10.0.<port>.<host>
            (count < 100 || !second_path).then_some(packet)
        });
        arrived.extend(pair.server.read(&server));
    }
    assert!(arrived == bytes, "the bytes differ");
    assert!(client.info().expect("published").reinjected > 0);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn an_unknown_token_is_answered_with_a_reset_and_counted() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(true, true);
    pair.client.write(&client, &pattern(10));
    pair.run_clean();
    pair.join(&client);
    pair.run(Duration::from_millis(500), &mut |up, mut bytes| {
        if up && bytes[28] == 1 {
            let Ok(Parsed::Tcp(packet)) = parse(&bytes, ChecksumMode::Off) else { panic!("a good packet") };
            if packet.tcp.flags.contains(TcpFlags::SYN) {
                let mut options = packet.options.clone();
                for option in &mut options.mptcp {
                    if let MptcpOption::Join(MpJoin::Syn { token, .. }) = option {
                        token.0 ^= 1;
                    }
                }
                let link = packet.link;
                let tuple = packet.tuple.reversed();
                let segment = SegmentRepr { link: &link, tuple, ecn: 0, tcp: packet.tcp, options: &options };
                let mut frame = vec![0; 256];
                let start = emit(&segment, &mut frame, 128..128, ChecksumMode::Software);
                bytes = frame[start..128].to_vec();
            }
        }
        Some(bytes)
    });
    assert_eq!(pair.server.stack.counters().unknown_tokens, 1);
    let closed = Pair::reports(&mut pair.client)
        .into_iter()
        .any(|report| matches!(report, Report::SubflowClosed { reason: CloseReason::Refused, .. }));
    assert!(closed, "the join was refused; the connection goes on");
    assert_eq!(client.state(), StreamState::Open);
    assert_eq!(pair.server.read(&server).len(), 10);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn connections_beyond_the_limit_are_dropped_and_counted() {
    let mut pair = Pair::new();
    pair.server.listen(80, true);
    let template = SegmentRepr {
        link: &pair.client.path(0).link,
        tuple: FourTuple { local: Endpoint::new(address(1, 0), 1), remote: Endpoint::new(address(2, 0), 80) },
        ecn: 0,
        tcp: crate::wire::TcpRepr {
            seq: Default::default(),
            ack: Default::default(),
            flags: TcpFlags::SYN,
            window: 1000,
            urgent: 0,
        },
        options: &TcpOptions::default(),
    };
    for port in 1..=20 {
        let mut segment = template.clone();
        segment.tuple.local.port = port;
        let mut frame = vec![0; 256];
        let start = emit(&segment, &mut frame, 128..128, ChecksumMode::Software);
        pair.server.deliver(pair.now, PortId(0), &frame[start..128]);
    }
    assert_eq!(pair.server.stack.connection_count(), 16);
    assert_eq!(pair.server.stack.counters().refused_connections, 4);
    pair.server.finish();
}

#[test]
fn a_stray_segment_is_answered_with_a_reset() {
    let mut pair = Pair::new();
    let stream = pair.client.connect(Endpoint::new(address(2, 0), 81), true);
    pair.run_clean();
    assert_eq!(stream.close_reason(), Some(CloseReason::Refused));
    assert_eq!(pair.server.stack.counters().resets_sent, 1);
    pair.client.finish();
}

/// The packets of a whole life of a connection with two subflows, to start mutations from.
fn recorded() -> Vec<(bool, Vec<u8>)> {
    let mut packets = Vec::new();
    let mut pair = Pair::new();
    pair.server.listen(80, true);
    let client = pair.client.connect(Endpoint::new(address(2, 0), 80), true);
    let mut tap = |up: bool, bytes: Vec<u8>| {
        packets.push((up, bytes.clone()));
        Some(bytes)
    };
    pair.run(Duration::from_millis(100), &mut tap);
    let server = pair.server.accept.pop().expect("accepted");
    pair.client.write(&client, &pattern(3000));
    pair.run(Duration::from_millis(100), &mut tap);
    pair.join(&client);
    pair.server.write(&server, &pattern(3000));
    pair.run(Duration::from_millis(100), &mut tap);
    client.close_send();
    server.close_send();
    pair.run(Duration::from_millis(100), &mut tap);
    packets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames that were damaged behind a good checksum, cut, repeated, and pure noise: the stack may do what it likes
    /// with them but panic, or lose a frame.
    #[test]
    fn no_frame_makes_the_stack_panic(
        seed in any::<u64>(),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut prng = Prng::new(seed);
        let mut pair = Pair::new();
        pair.server.listen(80, true);
        let client = pair.client.connect(Endpoint::new(address(2, 0), 80), true);
        let recorded = recorded();
        let mut damage = |up: bool, bytes: Vec<u8>| {
            let _ = up;
            let mut bytes = bytes;
            if prng.chance(0.3) && !bytes.is_empty() {
                // Behind the checksum's back: TCP header and options, with the checksum made right again.
                if let Ok(Parsed::Tcp(packet)) = parse(&bytes, ChecksumMode::Off) {
                    let at = 34 + prng.below((packet.payload.start - 34) as u64) as usize;
                    bytes[at] = prng.next_u32() as u8;
                    mend_checksum(&mut bytes);
                }
            }
            if prng.chance(0.02) {
                let len = prng.below(bytes.len() as u64) as usize;
                bytes.truncate(len);
            }
            Some(bytes)
        };
        for round in 0..6 {
            pair.run(Duration::from_millis(50), &mut damage);
            let (up, replay) = &recorded[(seed as usize + round) % recorded.len()];
            let host = if *up { &mut pair.server } else { &mut pair.client };
            host.deliver(pair.now, PortId(0), replay);
            host.deliver(pair.now, PortId(1), &noise);
            if client.state() == StreamState::Open {
                pair.client.write(&client, &pattern(2000));
                pair.join(&client);
            }
        }
        pair.client.read(&client);
        pair.client.finish();
        let streams: Vec<_> = std::iter::from_fn(|| pair.server.accept.pop()).collect();
        pair.server.stack.clear(pair.now, &mut pair.server.cache);
        streams.iter().for_each(|stream| drop(pair.server.read(stream)));
        prop_assert_eq!(pair.server.cache.pool().used(), 0);
    }
}

/// Makes the TCP checksum of an IPv4 packet right.
fn mend_checksum(bytes: &mut [u8]) {
    let (source, destination) = (
        IpAddr::from([bytes[26], bytes[27], bytes[28], bytes[29]]),
        IpAddr::from([bytes[30], bytes[31], bytes[32], bytes[33]]),
    );
    let tcp = &mut bytes[34..];
    tcp[16..18].fill(0);
    let pseudo = crate::wire::checksum::pseudo_header_sum(&source, &destination, 6, tcp.len());
    let sum = !crate::wire::checksum::sum(pseudo, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}
