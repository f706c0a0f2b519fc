//! Two connections and the link between them, in virtual time.

use crate::base::pool::TX_HEADROOM;
use crate::base::time::Duration;
use crate::base::{Chunk, DataSeq, FramePool, Instant, PoolCache, Prng, SeqNum};
use crate::tcp::{CloseReason, OutgoingKind, State, Tcb, TcpConfig, TcpEvent, reset_for};
use crate::wire::{TcpOptions, TcpRepr};

/// What the caller's side of MPTCP would take of each segment's options, in bytes.
const RESERVED: (usize, usize) = (8, 20);

/// How the link treats segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) delay: Duration,
    /// The most that a segment is delayed beyond that, at random: so segments overtake each other.
    pub(super) jitter: Duration,
    pub(super) loss: f64,
    pub(super) duplication: f64,
}

impl Link {
    pub(super) fn clean() -> Self {
        Self { delay: Duration::from_millis(5), jitter: Duration::ZERO, loss: 0.0, duplication: 0.0 }
    }
}

/// A segment on the link.
#[derive(Debug, Clone)]
pub(super) struct Flying {
    pub(super) at: Instant,
    pub(super) to: usize,
    pub(super) tcp: TcpRepr,
    pub(super) options: TcpOptions,
    pub(super) payload: Vec<u8>,
    pub(super) kind: OutgoingKind,
    pub(super) retransmission: bool,
}

/// One end and its application.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) tcb: Option<Tcb>,
    pub(super) config: TcpConfig,
    iss: SeqNum,
    /// What it sends, how much of it is queued, and whether it closes then.
    pub(super) outgoing: Vec<u8>,
    pub(super) queued: usize,
    pub(super) closes: bool,
    pub(super) received: Vec<u8>,
    pub(super) buffer: u32,
    /// Whether the application reads.
    pub(super) reads: bool,
    unread: Vec<(u64, Chunk)>,
    pub(super) events: Vec<TcpEvent>,
}

impl Host {
    fn new(config: TcpConfig, iss: u32) -> Self {
        Self {
            tcb: None,
            config,
            iss: SeqNum::new(iss),
            outgoing: Vec::new(),
            queued: 0,
            closes: true,
            received: Vec::new(),
            buffer: 1 << 18,
            reads: true,
            unread: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn tcb(&mut self) -> &mut Tcb {
        self.tcb.as_mut().expect("the test has opened it")
    }

    pub(super) fn state(&self) -> State {
        self.tcb.as_ref().map_or(State::Closed, Tcb::state)
    }
}

/// The bench.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) cache: PoolCache,
    pub(super) hosts: [Host; 2],
    pub(super) link: Link,
    pub(super) flying: Vec<Flying>,
    pub(super) prng: Prng,
    /// All that ever left, before the link's losses.
    pub(super) log: Vec<Flying>,
    /// Most rounds that [`Pair::run`] makes.
    limit: usize,
}

impl Pair {
    pub(super) fn new(seed: u64, configs: [TcpConfig; 2], link: Link) -> Self {
        let mut prng = Prng::new(seed);
        // Sequence numbers that wrap within the first megabyte.
        let iss = [u32::MAX - prng.below(1 << 20) as u32, u32::MAX - prng.below(1 << 20) as u32];
        Self {
            now: Instant::from_millis(1_000),
            cache: PoolCache::new(FramePool::new_heap(4096)),
            hosts: [Host::new(configs[0], iss[0]), Host::new(configs[1], iss[1])],
            link,
            flying: Vec::new(),
            prng,
            log: Vec::new(),
            limit: 30_000,
        }
    }

    /// Host 0 connects; host 1 is a listener until the SYN arrives.
    pub(super) fn connect(&mut self) {
        let host = &mut self.hosts[0];
        let mut tcb = Tcb::connect(self.now, host.config, host.iss);
        tcb.set_receive_window(host.buffer);
        host.tcb = Some(tcb);
    }

    /// Both connect at once.
    pub(super) fn connect_both(&mut self) {
        for host in &mut self.hosts {
            host.tcb = Some(Tcb::connect(self.now, host.config, host.iss));
        }
    }

    /// Fills what a host has to send.
    pub(super) fn load(&mut self, host: usize, bytes: usize) {
        let mut data = vec![0; bytes];
        self.prng.fill(&mut data);
        self.hosts[host].outgoing = data;
    }

    /// Runs until nothing is in the air and no timer runs.
    pub(super) fn run(&mut self) {
        self.run_until(|_| false);
    }

    /// Runs until `done`, or until nothing more can happen.
    pub(super) fn run_until(&mut self, done: impl Fn(&Pair) -> bool) {
        for _ in 0..self.limit {
            self.turn(0);
            self.turn(1);
            if done(self) || !self.advance() {
                return;
            }
        }
        panic!("no end after {} rounds: {:?}", self.limit, self.hosts.each_ref().map(Host::state));
    }

    /// Goes to the next arrival or timer.
    fn advance(&mut self) -> bool {
        let arrival = self.flying.iter().map(|segment| segment.at).min();
        let timers = self.hosts.iter().filter_map(|host| host.tcb.as_ref()?.poll_timeout());
        let Some(next) = timers.chain(arrival).min() else { return false };
        self.now = self.now.max(next);
        let mut index = 0;
        while index < self.flying.len() {
            if self.flying[index].at <= self.now {
                let segment = self.flying.remove(index);
                self.deliver(segment);
            } else {
                index += 1;
            }
        }
        for host in &mut self.hosts {
            if let Some(tcb) = host.tcb.as_mut() {
                tcb.handle_timeout(self.now);
            }
        }
        true
    }

    fn deliver(&mut self, segment: Flying) {
        let host = &mut self.hosts[segment.to];
        let Some(tcb) = host.tcb.as_mut() else {
            assert_eq!(segment.kind, OutgoingKind::Syn, "nothing but a SYN comes first");
            let mut tcb = Tcb::accept(self.now, host.config, host.iss, &segment.tcp, &segment.options);
            tcb.set_receive_window(host.buffer);
            host.tcb = Some(tcb);
            return;
        };
        if tcb.state() == State::Closed {
            // As the stack does it for a segment that belongs to nobody.
            if let Some(tcp) = reset_for(&segment.tcp, segment.payload.len()) {
                let to = 1 - segment.to;
                let options = TcpOptions::default();
                let at = self.now + self.link.delay;
                self.flying.push(Flying { at, to, tcp, options, payload: Vec::new(), ..segment });
            }
            return;
        }
        let payload = chunk_of(&mut self.cache, &segment.payload, 300);
        tcb.handle_segment(self.now, &segment.tcp, &segment.options, 0, payload, &mut self.cache);
    }

    /// One turn of a host: read, write, transmit.
    fn turn(&mut self, side: usize) {
        let host = &mut self.hosts[side];
        let Some(tcb) = host.tcb.as_mut() else { return };
        while let Some(event) = tcb.poll_event() {
            host.events.push(event);
        }
        while let Some((offset, chunk)) = tcb.poll_received() {
            host.unread.push((offset, chunk));
        }
        if host.reads {
            for (offset, chunk) in host.unread.drain(..) {
                assert_eq!(offset, host.received.len() as u64, "payload comes in order");
                host.received.extend_from_slice(self.cache.pool().chunk(&chunk));
                self.cache.free_chunk(chunk);
            }
        }
        let unread: usize = host.unread.iter().map(|(_, chunk)| chunk.len()).sum();
        tcb.set_receive_window(host.buffer.saturating_sub(unread as u32));
        while host.queued < host.outgoing.len() {
            let len = tcb.payload_max(RESERVED.1).min(host.outgoing.len() - host.queued);
            if tcb.send_room() < len {
                break;
            }
            let bytes = &host.outgoing[host.queued..host.queued + len];
            let chunk = chunk_of(&mut self.cache, bytes, TX_HEADROOM).expect("not empty");
            tcb.enqueue(chunk, DataSeq::new(host.queued as u64));
            host.queued += len;
        }
        if host.closes && host.queued == host.outgoing.len() && tcb.is_established() {
            tcb.close(self.now);
        }
        self.transmit(side);
        let host = &mut self.hosts[side];
        while let Some(event) = host.tcb().poll_event() {
            host.events.push(event);
        }
    }

    fn transmit(&mut self, side: usize) {
        let host = &mut self.hosts[side];
        let tcb = host.tcb.as_mut().expect("checked by the caller");
        while tcb.has_to_send(self.now) {
            // More than its segment size where it probes for that.
            let mss = tcb.payload_max(0) + if tcb.info().agreed.timestamps { 12 } else { 0 };
            let outgoing = tcb.poll_transmit(self.now, RESERVED.0, RESERVED.1).expect("has_to_send said so");
            let payload = outgoing.payload.as_ref().map_or(Vec::new(), |payload| {
                assert_eq!(payload.data_seq.raw(), payload.offset, "the tag follows the bytes");
                self.cache.pool().chunk(payload.chunk).to_vec()
            });
            assert_eq!(outgoing.kind == OutgoingKind::Data, !payload.is_empty());
            let own = options_len(&outgoing.options);
            if !matches!(outgoing.kind, OutgoingKind::Syn | OutgoingKind::SynAck | OutgoingKind::Reset) {
                let reserved = if payload.is_empty() { RESERVED.0 } else { RESERVED.1 };
                assert!(own + reserved <= 40, "options overflow: {:?}", outgoing.options);
                assert!(payload.len() + own + reserved <= mss, "longer than the path takes");
            }
            let mut segment = Flying {
                at: self.now + self.link.delay,
                to: 1 - side,
                tcp: outgoing.tcp,
                options: outgoing.options,
                payload,
                kind: outgoing.kind,
                retransmission: outgoing.retransmission,
            };
            self.log.push(segment.clone());
            let copies = if self.prng.chance(self.link.loss) {
                0
            } else {
                1 + usize::from(self.prng.chance(self.link.duplication))
            };
            for _ in 0..copies {
                let jitter = self.prng.below(self.link.jitter.as_nanos() + 1);
                segment.at = self.now + self.link.delay + Duration::from_nanos(jitter);
                self.flying.push(segment.clone());
            }
        }
        assert!(tcb.poll_transmit(self.now, RESERVED.0, RESERVED.1).is_none(), "has_to_send denied it");
    }

    /// Ends the test: every byte arrived, and every frame is back.
    pub(super) fn check_complete(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let (sent, got) = (&self.hosts[from].outgoing, &self.hosts[to].received);
            assert_eq!(sent.len(), got.len(), "from {from}");
            assert!(sent == got, "bytes of host {from} were damaged");
        }
        for host in &mut self.hosts {
            assert_eq!(host.tcb().state(), State::Closed);
            if host.events.last() != Some(&TcpEvent::Closed(CloseReason::Finished)) {
                // Its last ACKs were lost, and the peer is gone for good.
                host.tcb.as_mut().expect("it was opened").drop_all(&mut self.cache);
            }
            assert_eq!(host.tcb().poll_timeout(), None, "no timer runs on a closed connection");
        }
        assert_eq!(self.cache.pool().used(), 0, "frames were lost");
    }
}

/// Bytes of options as the wire has them.
fn options_len(options: &TcpOptions) -> usize {
    let timestamps = if options.timestamps.is_some() { 12 } else { 0 };
    let sack = if options.sack.is_empty() { 0 } else { 4 + 8 * options.sack.len() };
    timestamps + sack
}

/// `bytes` in a frame of their own; none for none.
pub(super) fn chunk_of(cache: &mut PoolCache, bytes: &[u8], offset: usize) -> Option<Chunk> {
    if bytes.is_empty() {
        return None;
    }
    let mut frame = cache.alloc().expect("the test's pool is large enough");
    cache.pool().bytes_mut(&mut frame)[offset..offset + bytes.len()].copy_from_slice(bytes);
    Some(Chunk::new(frame, offset, bytes.len()))
}
