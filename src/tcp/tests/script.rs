//! One connection whose peer is the test: segment by segment, with sequence numbers that count from each end's SYN.

use super::pair::chunk_of;
use crate::base::pool::TX_HEADROOM;
use crate::base::time::Duration;
use crate::base::{DataSeq, FramePool, Instant, PoolCache, SeqNum};
use crate::tcp::{Accepted, OutgoingKind, State, Tcb, TcpConfig, TcpEvent};
use crate::wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

/// Our initial sequence number, and the peer's: both wrap after a few segments.
pub(super) const OURS: SeqNum = SeqNum::new(u32::MAX - 3_000);
pub(super) const THEIRS: SeqNum = SeqNum::new(u32::MAX - 2_000);

pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const ACK: TcpFlags = TcpFlags::ACK;
pub(super) const FIN: TcpFlags = TcpFlags::FIN;
pub(super) const PSH: TcpFlags = TcpFlags::PSH;
pub(super) const RST: TcpFlags = TcpFlags::RST;

/// A segment of the peer.
#[derive(Debug, Clone)]
pub(super) struct Arriving {
    flags: TcpFlags,
    seq: u32,
    ack: u32,
    window: u16,
    payload: usize,
    ecn: u8,
    pub(super) options: TcpOptions,
}

/// A segment with `flags`, whose numbers count from the peer's and from our SYN.
pub(super) fn arriving(flags: TcpFlags, seq: u32, ack: u32) -> Arriving {
    Arriving { flags, seq, ack, window: 60_000, payload: 0, ecn: 0, options: TcpOptions::default() }
}

impl Arriving {
    pub(super) fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// The ECN bits of its IP header.
    pub(super) fn ecn(mut self, ecn: u8) -> Self {
        self.ecn = ecn;
        self
    }

    pub(super) fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    pub(super) fn timestamps(mut self, value: u32, echo: u32) -> Self {
        self.options.timestamps = Some(Timestamps { value, echo });
        self
    }

    pub(super) fn sack(mut self, blocks: &[(u32, u32)]) -> Self {
        self.options.sack = blocks.iter().map(|(start, end)| (OURS + *start, OURS + *end)).collect();
        self
    }

    pub(super) fn options(mut self, change: impl FnOnce(&mut TcpOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

/// A segment of ours, its numbers relative like those of [`arriving`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) kind: OutgoingKind,
    pub(super) flags: TcpFlags,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) len: usize,
    pub(super) window: u16,
    pub(super) sack: Vec<(u32, u32)>,
    pub(super) retransmission: bool,
    pub(super) ecn: u8,
    pub(super) data_seq: u64,
    pub(super) in_place: bool,
    pub(super) options: TcpOptions,
}

/// The bench.
pub(super) struct Script {
    pub(super) tcb: Tcb,
    pub(super) now: Instant,
    pub(super) cache: PoolCache,
    pub(super) reserved: (usize, usize),
    queued: u64,
}

/// Options that a modern peer's SYN has.
pub(super) fn modern(options: &mut TcpOptions) {
    options.mss = Some(1460);
    options.window_scale = Some(0);
    options.sack_permitted = true;
}

/// No timestamps and no scaling, so that numbers in the tests are round; and no pacing, so that all leaves that may.
pub(super) fn plain() -> TcpConfig {
    TcpConfig { timestamps: false, window_scale: 0, pacing: None, ..TcpConfig::default() }
}

impl Script {
    pub(super) fn connect(config: TcpConfig) -> Self {
        let now = Instant::from_millis(10_000);
        let tcb = Tcb::connect(now, config, OURS);
        Self::with(tcb, now)
    }

    pub(super) fn accept(config: TcpConfig, syn: Arriving) -> Self {
        let now = Instant::from_millis(10_000);
        let tcb = Tcb::accept(now, config, OURS, &header(&syn), &syn.options);
        Self::with(tcb, now)
    }

    fn with(tcb: Tcb, now: Instant) -> Self {
        let cache = PoolCache::new(FramePool::new_heap(8192));
        Self { tcb, now, cache, reserved: (0, 0), queued: 0 }
    }

    /// Connected by an active open; 20 ms round trip.
    pub(super) fn established(config: TcpConfig) -> Self {
        Self::established_with(config, modern)
    }

    /// The same, with the peer's options on its SYN/ACK.
    pub(super) fn established_with(config: TcpConfig, options: impl FnOnce(&mut TcpOptions)) -> Self {
        let mut script = Self::connect(config);
        assert_eq!(script.sent().len(), 1);
        script.pass(20);
        script.arrive(arriving(SYN | ACK, 0, 1).options(options));
        assert_eq!(script.sent().len(), 1, "the third ACK");
        assert_eq!(script.tcb.poll_event(), Some(TcpEvent::Established));
        // No quick ACKs left, to see the rules behind them.
        script
    }

    /// The same, after so much payload of the peer that ACKs are delayed. The peer's stream begins behind it.
    pub(super) fn seasoned(config: TcpConfig) -> (Self, u32) {
        let mut script = Self::established(config);
        let mut seq = 1;
        for _ in 0..16 {
            script.arrive(arriving(ACK, seq, 1).payload(1000));
            assert_eq!(script.sent().len(), 1, "quick ACKs at the start");
            seq += 1000;
        }
        script.read();
        (script, seq)
    }

    pub(super) fn arrive(&mut self, segment: Arriving) -> Accepted {
        let payload = chunk_of(&mut self.cache, &vec![7; segment.payload], 300);
        let header = header(&segment);
        self.tcb.handle_segment(self.now, &header, &segment.options, segment.ecn, payload, &mut self.cache)
    }

    /// The same segment several times.
    pub(super) fn arrive_times(&mut self, times: usize, segment: Arriving) {
        for _ in 0..times {
            self.arrive(segment.clone());
        }
    }

    /// Lets `millis` pass.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.tcb.handle_timeout(self.now);
    }

    /// Goes to the next timer, and tells how far that was.
    pub(super) fn pass_to_timer(&mut self) -> Option<Duration> {
        let next = self.tcb.poll_timeout()?;
        let waited = next.since(self.now);
        self.now = self.now.max(next);
        self.tcb.handle_timeout(self.now);
        Some(waited)
    }

    /// Queues segments of `len` bytes; the tag counts bytes.
    pub(super) fn queue(&mut self, segments: usize, len: usize) {
        for _ in 0..segments {
            let chunk = chunk_of(&mut self.cache, &vec![1; len], TX_HEADROOM).expect("not empty");
            self.tcb.enqueue(chunk, DataSeq::new(self.queued));
            self.queued += len as u64;
        }
    }

    /// All that leaves now.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(outgoing) = self.tcb.poll_transmit(self.now, self.reserved.0, self.reserved.1) {
            let has_ack = outgoing.tcp.flags.contains(ACK);
            let relative = |seq: SeqNum| seq.distance(THEIRS) as u32;
            all.push(Sent {
                kind: outgoing.kind,
                flags: outgoing.tcp.flags,
                seq: outgoing.tcp.seq.distance(OURS) as u32,
                ack: if has_ack { relative(outgoing.tcp.ack) } else { 0 },
                len: outgoing.payload.as_ref().map_or(0, |payload| payload.chunk.len()),
                window: outgoing.tcp.window,
                sack: outgoing.options.sack.iter().map(|(s, e)| (relative(*s), relative(*e))).collect(),
                retransmission: outgoing.retransmission,
                ecn: outgoing.ecn,
                data_seq: outgoing.payload.as_ref().map_or(0, |payload| payload.data_seq.raw()),
                in_place: outgoing.payload.as_ref().is_none_or(|payload| payload.in_place),
                options: outgoing.options,
            });
        }
        all
    }

    /// What leaves now is one segment.
    pub(super) fn sent_one(&mut self) -> Sent {
        let mut all = self.sent();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// What leaves now is payload and nothing else: first numbers and lengths.
    pub(super) fn sent_data(&mut self) -> Vec<(u32, usize)> {
        let all = self.sent();
        assert!(all.iter().all(|sent| sent.kind == OutgoingKind::Data), "{all:?}");
        all.iter().map(|sent| (sent.seq, sent.len)).collect()
    }

    /// Reads all payload; tells how many bytes.
    pub(super) fn read(&mut self) -> usize {
        let mut bytes = 0;
        while let Some((_, chunk)) = self.tcb.poll_received() {
            bytes += chunk.len();
            self.cache.free_chunk(chunk);
        }
        bytes
    }

    pub(super) fn events(&mut self) -> Vec<TcpEvent> {
        std::iter::from_fn(|| self.tcb.poll_event()).collect()
    }

    pub(super) fn state(&self) -> State {
        self.tcb.state()
    }
}

fn header(segment: &Arriving) -> TcpRepr {
    TcpRepr {
        seq: THEIRS + segment.seq,
        ack: if segment.flags.contains(ACK) { OURS + segment.ack } else { SeqNum::default() },
        flags: segment.flags,
        window: segment.window,
        urgent: 0,
    }
}
