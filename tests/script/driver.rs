//! Carries scripts out: one stack, whose only peer is the script.

use crate::line::{Action, Config, Line, Opening, Said, Setting};
use braid::base::pool::{RX_HEADROOM, TX_HEADROOM, TX_PAYLOAD_MAX};
use braid::base::time::Duration;
use braid::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame, SeqNum, WorkerId};
use braid::mptcp::Tuning;
use braid::stack::core::{PortConfig, Stack, StackConfig};
use braid::stack::stream::{StreamState, Wake};
use braid::stack::{
    AcceptQueue, CloseReason, Command, ConnectOptions, Doorbell, ListenOptions, ListenerId, Path,
    StreamShared,
};
use braid::tcp::{KeepAlive, TcpConfig};
use braid::wire::{
    ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr, Mss, Packet, Parsed, SegmentRepr, TcpFlags,
    TcpOptions, TcpRepr, Timestamps, emit, parse,
};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

const PORT: PortId = PortId(0);
const OURS: [u8; 4] = [192, 168, 0, 1];
const THEIRS: [u8; 4] = [192, 0, 2, 1];
/// The peer's initial sequence number: its stream wraps after a few segments.
const THEIR_ISS: SeqNum = SeqNum::new(u32::MAX - 1500);
/// The peer's window where the script says none.
const WINDOW: u16 = 60_000;
/// How much earlier or later than said a packet may leave: timers count from smoothed round trips.
const TOLERANCE: Duration = Duration::from_millis(2);

#[derive(Debug)]
struct NobodySleeps;

impl Wake for NobodySleeps {
    fn wake(&self) {}
}

/// A packet of ours with the time at which it left.
type Sent = (Instant, Packet);

/// The stack, and what the script knows of it.
pub struct Driver {
    now: Instant,
    stack: Stack,
    cache: PoolCache,
    doorbell: Arc<Doorbell>,
    accept: Arc<AcceptQueue>,
    stream: Option<Arc<StreamShared>>,
    config: Config,
    sent: VecDeque<Sent>,
    /// Our initial sequence number, from our SYN.
    our_iss: Option<SeqNum>,
    our_port: u16,
    their_port: u16,
    forgets: bool,
}

fn new_stack(config: &Config) -> (Stack, Arc<Doorbell>) {
    let doorbell = Arc::new(Doorbell::new(64, Box::new(NobodySleeps)));
    let usual = TcpConfig::default();
    let tcp = TcpConfig {
        timestamps: !config.no_timestamps,
        sack: !config.no_sack,
        initial_rto: config.initial_rto.unwrap_or(usual.initial_rto),
        // Scripts say when things leave; pacing has tests of its own.
        pacing: None,
        ..usual
    };
    let config = StackConfig {
        worker: WorkerId(0),
        workers: 1,
        seed: 7,
        max_connections: 16,
        tcp,
        ports: vec![PortConfig { checksum: ChecksumMode::Software, mtu: config.mtu.unwrap_or(1500) }],
    };
    (Stack::new(config, Arc::clone(&doorbell)), doorbell)
}

impl Driver {
    pub fn new() -> Self {
        // Most scripts are about other things than timestamps.
        let config = Config { no_timestamps: true, ..Config::default() };
        let (stack, doorbell) = new_stack(&config);
        Self {
            now: Instant::from_millis(100_000),
            stack,
            cache: PoolCache::new(FramePool::new_heap(2048)),
            doorbell,
            accept: AcceptQueue::new(4),
            stream: None,
            config,
            sent: VecDeque::new(),
            our_iss: None,
            our_port: 8080,
            their_port: 5555,
            forgets: false,
        }
    }

    pub fn run(&mut self, line: &Line) -> Result<(), String> {
        if let Action::Leaves(said) = &line.action {
            return self.leaves(line.after, said);
        }
        self.pass(line.after)?;
        match &line.action {
            Action::Config(config) => {
                (self.stack, self.doorbell) = new_stack(config);
                self.config = config.clone();
            }
            Action::Listen(opening) => self.listen(opening),
            Action::Connect(opening) => self.connect(opening),
            Action::Accept => self.stream = Some(self.accept.pop().ok_or("nothing was accepted")?),
            Action::Arrives(said) => self.arrives(said),
            Action::Leaves(_) => {}
            Action::Quiet(time) => self.pass(*time)?,
            Action::Ignore(time) => self.ignore(*time),
            Action::Write { len, more } => self.write(*len, *more)?,
            Action::Read(len) => self.read(*len)?,
            Action::End => {
                if !self.stream()?.is_drained() {
                    return Err("the peer's end was not reached".to_owned());
                }
            }
            Action::Shutdown => self.stream()?.close_send(),
            Action::Close => self.stream()?.abandon(),
            Action::Abort => self.stream()?.reset(),
            Action::Set(setting) => self.set(setting)?,
            Action::Flush => self.stream()?.flush(),
            Action::Open => self.expect_state(StreamState::Open)?,
            Action::Sent => {
                if !self.stream()?.is_sent() {
                    return Err("not everything is acknowledged".to_owned());
                }
            }
            Action::Closed(reason) => self.expect_closed(reason)?,
            Action::Refused(len) => self.expect_refused(*len)?,
            Action::Icmp { code, seq } => self.icmp(*code, *seq)?,
            Action::Forget => self.forgets = true,
        }
        self.turn();
        Ok(())
    }

    /// Nothing is left over.
    pub fn finish(mut self) -> Result<(), String> {
        if let (Some(sent), false) = (self.sent.front(), self.forgets) {
            return Err(format!("at the end: {} has left, and nobody expected it", describe(&sent.1)));
        }
        if let Some(stream) = self.stream.take() {
            stream.reset();
            self.turn();
            // What a connection that was over already had delivered is the application's.
            while let Some(chunk) = stream.pop() {
                self.cache.free_chunk(chunk);
            }
        }
        self.turn();
        self.stack.clear(self.now, &mut self.cache);
        match self.cache.pool().used() {
            0 => Ok(()),
            used => Err(format!("{used} frames were lost")),
        }
    }

    fn stream(&self) -> Result<&Arc<StreamShared>, String> {
        self.stream.as_ref().ok_or_else(|| "there is no connection".to_owned())
    }

    // ---- time and packets ----

    /// All that the stack does at this time.
    fn turn(&mut self) {
        for _ in 0..100 {
            self.stack.handle_timeout(self.now, &mut self.cache);
            self.stack.handle_doorbell();
            self.stack.settle(self.now, &mut self.cache);
            while let Some((_, packet)) = self.stack.poll_transmit(self.now, &[64], &mut self.cache) {
                let parsed = parse(self.cache.pool().tx_bytes(&packet), ChecksumMode::Software);
                let Ok(Parsed::Tcp(parsed)) = parsed else { panic!("a bad packet: {parsed:?}") };
                self.cache.complete(packet.index);
                // As the peer sees it; from our side it reads better.
                if parsed.tcp.flags.contains(TcpFlags::SYN) {
                    self.our_iss = Some(parsed.tcp.seq);
                    self.our_port = parsed.tuple.remote.port;
                }
                self.sent.push_back((self.now, parsed));
            }
            while self.stack.poll_report().is_some() {}
            if !self.stack.has_work() {
                return;
            }
        }
        panic!("the stack does not come to rest");
    }

    /// Lets time pass until a packet leaves, or `end`.
    fn pass_until(&mut self, end: Instant) {
        self.turn();
        while self.sent.is_empty() {
            match self.stack.poll_timeout() {
                Some(at) if at <= end => self.now = self.now.max(at),
                Some(_) | None => {
                    self.now = end;
                    return;
                }
            }
            self.turn();
        }
    }

    /// Lets `time` pass; nothing leaves meanwhile.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let (begin, end) = (self.now, self.now + time);
        self.pass_until(end);
        match self.sent.front() {
            Some((at, packet)) => {
                Err(format!("{} left {:?} after the last event", describe(packet), at.since(begin)))
            }
            None => Ok(()),
        }
    }

    /// Lets `time` pass, whatever leaves.
    fn ignore(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass_until(end);
            self.sent.clear();
        }
    }

    fn leaves(&mut self, after: Duration, said: &Said) -> Result<(), String> {
        let begin = self.now;
        self.pass_until(begin + after + TOLERANCE);
        let (at, packet) = self.sent.pop_front().ok_or("nothing leaves")?;
        // With nothing said, exactly now.
        let waited = at.since(begin);
        let off = waited.abs_diff(after);
        if off > if after.is_zero() { Duration::ZERO } else { TOLERANCE } {
            return Err(format!("{} leaves after {waited:?}", describe(&packet)));
        }
        self.compare(said, &packet)
    }

    fn compare(&self, said: &Said, packet: &Packet) -> Result<(), String> {
        let flag = |flag| packet.tcp.flags.contains(flag);
        let iss = self.our_iss.unwrap_or_default();
        let ack = flag(TcpFlags::ACK).then(|| packet.tcp.ack.distance(THEIR_ISS) as u32);
        let options = &packet.options;
        let seen = Said {
            syn: flag(TcpFlags::SYN),
            fin: flag(TcpFlags::FIN),
            rst: flag(TcpFlags::RST),
            urg: flag(TcpFlags::URG),
            psh: said.psh.map(|_| flag(TcpFlags::PSH)),
            // A reset in answer to a stray has whatever number that asked for.
            seq: if self.our_iss.is_some() {
                packet.tcp.seq.distance(iss) as u32
            } else {
                packet.tcp.seq.raw()
            },
            ack,
            len: packet.payload.len(),
            win: said.win.map(|_| packet.tcp.window),
            mss: said.mss.and(options.mss),
            scale: said.scale.and(options.window_scale),
            sackok: said.sackok && options.sack_permitted,
            ts: said.ts.and(options.timestamps.map(|ts| (ts.value, ts.echo))),
            sack: if said.sack.is_empty() {
                Vec::new()
            } else {
                let relative = |seq: SeqNum| seq.distance(THEIR_ISS) as u32;
                options.sack.iter().map(|(from, to)| (relative(*from), relative(*to))).collect()
            },
            port: said.port.map(|_| packet.tuple.local.port),
        };
        // Our clock begins anywhere: only the echo is compared.
        let seen =
            Said { ts: said.ts.and(seen.ts.map(|(_, echo)| (said.ts.map_or(0, |ts| ts.0), echo))), ..seen };
        if seen == *said {
            Ok(())
        } else {
            Err(format!("{} leaves\n    said {said:?}\n    seen {seen:?}", describe(packet)))
        }
    }

    fn tuple(&self, port: Option<u16>) -> FourTuple {
        FourTuple {
            local: Endpoint::new(IpAddr::from(THEIRS), port.unwrap_or(self.their_port)),
            remote: Endpoint::new(IpAddr::from(OURS), self.our_port),
        }
    }

    fn arrives(&mut self, said: &Said) {
        let flag = |set: bool, flag: TcpFlags| if set { flag } else { TcpFlags::NONE };
        let flags = flag(said.syn, TcpFlags::SYN)
            | flag(said.fin, TcpFlags::FIN)
            | flag(said.rst, TcpFlags::RST)
            | flag(said.urg, TcpFlags::URG)
            | flag(said.psh == Some(true), TcpFlags::PSH)
            | flag(said.ack.is_some(), TcpFlags::ACK);
        let ours = self.our_iss.unwrap_or_default();
        let mut options = TcpOptions {
            mss: said.mss,
            window_scale: said.scale,
            sack_permitted: said.sackok,
            timestamps: said.ts.map(|(value, echo)| Timestamps { value, echo }),
            ..TcpOptions::default()
        };
        options.sack.extend(said.sack.iter().map(|(from, to)| (ours + *from, ours + *to)));
        let segment = SegmentRepr {
            link: &LinkHeader {
                src: MacAddr([2, 0, 0, 0, 0, 2]),
                dst: MacAddr([2, 0, 0, 0, 0, 1]),
                vlan: None,
            },
            tuple: self.tuple(said.port),
            ecn: 0,
            tcp: TcpRepr {
                seq: THEIR_ISS + said.seq,
                ack: said.ack.map_or(SeqNum::default(), |ack| ours + ack),
                flags,
                window: said.win.unwrap_or(WINDOW),
                urgent: u16::from(said.urg),
            },
            options: &options,
        };
        let mut bytes = vec![7; 256 + said.len];
        let start = emit(&segment, &mut bytes, 256..256 + said.len, ChecksumMode::Software);
        self.deliver(&bytes[start..]);
    }

    fn deliver(&mut self, packet: &[u8]) {
        let mut frame = self.cache.alloc().expect("a frame");
        let pool = Arc::clone(self.cache.pool_arc());
        pool.bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + packet.len()].copy_from_slice(packet);
        let received = RxFrame { frame, offset: RX_HEADROOM as u16, len: packet.len() as u16, more: false };
        self.stack.handle_frame(self.now, PORT, received, &mut self.cache);
    }

    /// ICMP "destination unreachable" that quotes a packet of ours (RFC 792).
    fn icmp(&mut self, code: u8, seq: u32) -> Result<(), String> {
        let seq = self.our_iss.ok_or("nothing has left yet")? + seq;
        let mut quoted = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        quoted.extend_from_slice(&OURS);
        quoted.extend_from_slice(&THEIRS);
        quoted.extend_from_slice(&self.our_port.to_be_bytes());
        quoted.extend_from_slice(&self.their_port.to_be_bytes());
        quoted.extend_from_slice(&seq.raw().to_be_bytes());
        let mut message = vec![3, code, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&quoted);
        let sum = !braid::wire::checksum::sum(0, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut ip = vec![0x45, 0];
        ip.extend_from_slice(&((20 + message.len()) as u16).to_be_bytes());
        ip.extend_from_slice(&[0, 0, 0, 0, 64, 1, 0, 0]);
        ip.extend_from_slice(&THEIRS);
        ip.extend_from_slice(&OURS);
        let sum = !braid::wire::checksum::sum(0, &ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&message);
        self.deliver(&frame);
        Ok(())
    }

    // ---- the application ----

    fn options(&self, opening: &Opening) -> ConnectOptions {
        let usual = ConnectOptions::default();
        let no_scale = if self.config.no_window_scale { 60_000 } else { usual.receive_buffer };
        ConnectOptions {
            mptcp: false,
            receive_buffer: opening.buffer.unwrap_or(no_scale),
            max_segment: opening.max_segment.map(Mss::new),
            tuning: Tuning { nodelay: !opening.nagle, ..Tuning::default() },
            ..usual
        }
    }

    fn listen(&mut self, opening: &Opening) {
        let options = ListenOptions { connection: self.options(opening) };
        let accept = Arc::clone(&self.accept);
        let command = Command::Listen { id: ListenerId(0), port: 8080, addr: None, options, accept };
        self.stack.handle_command(self.now, command, &mut self.cache);
    }

    fn connect(&mut self, opening: &Opening) {
        let options = self.options(opening);
        let stream = StreamShared::with_tuning(Arc::clone(&self.doorbell), options.tuning);
        let link =
            LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
        let path = Path { port: PORT, link, mtu: self.config.mtu.unwrap_or(1500) };
        self.our_port = 40_000;
        let tuple = self.tuple(None).reversed();
        let command = Command::Connect { tuple, path, options, stream: Arc::clone(&stream) };
        self.stream = Some(stream);
        self.stack.handle_command(self.now, command, &mut self.cache);
    }

    fn set(&self, setting: &Setting) -> Result<(), String> {
        let stream = self.stream()?;
        match *setting {
            Setting::NoDelay(on) => stream.tune(|tuning| tuning.nodelay = on),
            Setting::Cork(on) => stream.tune(|tuning| tuning.cork = on),
            Setting::KeepAlive(idle, interval, probes) => {
                stream.tune(|tuning| tuning.keep_alive = Some(KeepAlive { idle, interval, probes }));
            }
            Setting::UserTimeout(timeout) => stream.tune(|tuning| tuning.user_timeout = Some(timeout)),
            Setting::SendBuffer(bytes) => stream.set_buffers(Some(bytes), None),
        }
        Ok(())
    }

    /// As many bytes as the rings take, and how many those were.
    fn push(&mut self, len: usize) -> Result<usize, String> {
        let stream = Arc::clone(self.stream()?);
        let mut pushed = 0;
        while pushed < len {
            if stream.push_room() == 0 {
                stream.ring();
                self.turn();
            }
            let part = stream.chunk_len().clamp(1, TX_PAYLOAD_MAX).min(len - pushed);
            let frame = self.cache.alloc().ok_or("the pool is exhausted")?;
            let chunk = Chunk::new(frame, TX_HEADROOM, part);
            if let Err(chunk) = stream.push(chunk) {
                self.cache.free_chunk(chunk);
                break;
            }
            pushed += part;
        }
        stream.ring();
        Ok(pushed)
    }

    fn write(&mut self, len: usize, more: bool) -> Result<(), String> {
        self.stream()?.set_more(more);
        match self.push(len)? {
            pushed if pushed == len => Ok(()),
            pushed => Err(format!("only {pushed} bytes were taken")),
        }
    }

    fn expect_refused(&mut self, len: usize) -> Result<(), String> {
        match self.push(len)? {
            0 => Ok(()),
            pushed => Err(format!("{pushed} bytes were taken")),
        }
    }

    fn read(&mut self, len: usize) -> Result<(), String> {
        let stream = Arc::clone(self.stream()?);
        let mut read = 0;
        while let Some(chunk) = stream.pop() {
            read += chunk.len();
            self.cache.free_chunk(chunk);
        }
        if read == len { Ok(()) } else { Err(format!("{read} bytes were there")) }
    }

    fn expect_state(&self, state: StreamState) -> Result<(), String> {
        match self.stream()?.state() {
            seen if seen == state => Ok(()),
            seen => Err(format!("it is {seen:?} ({:?})", self.stream()?.close_reason())),
        }
    }

    fn expect_closed(&self, reason: &str) -> Result<(), String> {
        self.expect_state(StreamState::Closed)?;
        let seen = self.stream()?.close_reason();
        let name = match seen {
            Some(CloseReason::Finished) => "finished",
            Some(CloseReason::Refused) => "refused",
            Some(CloseReason::Reset) => "reset",
            Some(CloseReason::TimedOut) => "timed-out",
            Some(CloseReason::Unreachable) => "unreachable",
            Some(CloseReason::Aborted) => "aborted",
            Some(CloseReason::PathDown | CloseReason::NoResources | CloseReason::Protocol) | None => "other",
        };
        if name == reason { Ok(()) } else { Err(format!("it is closed: {seen:?}")) }
    }
}

fn describe(packet: &Packet) -> String {
    format!("{:?} with {} bytes", packet.tcp.flags, packet.payload.len())
}
