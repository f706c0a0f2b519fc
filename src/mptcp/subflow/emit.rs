//! Writing a subflow's packets: what TCP has to send, with the options of MPTCP.

use super::{SIGNAL_PAUSE, Subflow};
#[cfg(debug_assertions)]
use crate::base::pool::TX_HEADROOM;
use crate::base::{FramePool, Instant, PoolCache, TxFrame};
use crate::mptcp::emitter::{Emitter, PatternId};
use crate::mptcp::signalling::{Data, Signalling, options_len};
use crate::tcp::{Following, Outgoing, OutgoingKind};
use crate::wire::{ChecksumMode, Numbers, Rest, SegmentRepr, checksum};
#[cfg(debug_assertions)]
use crate::wire::{TcpOptions, emit_summed};

/// A segment that [`Subflow::emit`] has written.
#[derive(Debug)]
pub struct Emitted {
    /// What it is.
    pub kind: OutgoingKind,
    /// Where.
    pub packet: TxFrame,
    /// How many segments are in it.
    pub segments: usize,
    /// Its headers are kept.
    pub pattern: Option<PatternId>,
}

impl Subflow {
    /// Writes the next packet that TCP has to send, in `frames` at most. `None` when there is none, or no frame. With `keep` there
    /// are more like it to follow, if it is of new data: its headers are kept for them.
    pub fn emit(
        &mut self,
        now: Instant,
        signalling: &Signalling,
        (keep, frames): (bool, usize),
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Option<Emitted> {
        if !emitter.prepare(cache) {
            return None;
        }
        let side = self.side();
        let beside_sack = self.tcb.owes_sack().then(|| signalling.beside_sack());
        let signalling = beside_sack.as_ref().unwrap_or(signalling);
        let has_signal = self.signal_due(now, signalling).is_some();
        let simple_len = signalling.simple_ack_len(side.phase).filter(|_| !has_signal);
        let ack_options = simple_len.is_none().then(|| self.ack_options(now, signalling));
        let ack_len = simple_len.or(ack_options.as_ref().map(options_len)).unwrap_or_default();
        let pause = self.tcb.srtt().unwrap_or(SIGNAL_PAUSE);
        // Where mappings have checksums each segment has its own: a checksum is of no use for a part of what it covers, and
        // what was lost is sent again in parts.
        let frames = if signalling.maps_freely() { frames } else { 1 };
        let segments = self.tcb.packs(now, signalling.data_len(), frames);
        let rest = match segments {
            1 => Rest::NONE,
            _ => self.rest_of(segments, emitter.checksum(&self.path), cache.pool()),
        };
        let segment = match segments {
            1 => self.tcb.poll_transmit(now, ack_len, signalling.data_len())?,
            _ => self.tcb.poll_pack(now, segments, signalling.data_len())?,
        };
        let Outgoing { tcp, mut options, mut payload, kind, retransmission, ecn } = segment;
        match kind {
            OutgoingKind::Syn | OutgoingKind::SynAck => {
                self.syns += u32::from(kind == OutgoingKind::Syn);
                options.mptcp.extend(signalling.on_handshake(&side, kind, self.syns));
            }
            OutgoingKind::Reset => options.mptcp.extend(signalling.on_reset(&self.reset_words)),
            OutgoingKind::Data => {
                if let Some(payload) = &mut payload {
                    if signalling.wants_sum() && payload.chunk.sum().is_none() {
                        payload.chunk.set_sum(checksum::sum(0, cache.pool().chunk(payload.chunk)));
                    }
                    let (data_seq, offset) = (payload.data_seq, payload.offset);
                    let len = (payload.chunk.len() + rest.len) as u16;
                    let data = Data { data_seq, offset, len, sum: payload.chunk.sum().unwrap_or_default() };
                    options.mptcp.extend(signalling.on_data(&side, &data));
                }
                self.signals.on_data_sent();
            }
            OutgoingKind::Ack | OutgoingKind::Fin | OutgoingKind::Probe => {
                options.mptcp.extend(ack_options.unwrap_or_else(|| signalling.on_ack(&side, None)));
                if has_signal {
                    self.signals.on_sent(now, pause);
                }
            }
        }
        self.said = options.dss().and_then(|dss| dss.data_ack).or(self.said);
        let segment = SegmentRepr { link: &self.path.link, tuple: self.tuple, ecn, tcp, options: &options };
        let chunk = payload.map(|payload| payload.chunk);
        let head_len = chunk.as_ref().map_or(0, |chunk| chunk.len());
        let mut packet = emitter.write(&segment, &self.path, chunk, rest, cache)?;
        let keep = keep && kind == OutgoingKind::Data && !retransmission;
        let lens = (head_len, head_len + rest.len);
        let pattern =
            if keep { emitter.keep(&segment, &self.path, &packet, lens, cache.pool()) } else { None };
        if segments > 1 {
            packet.more = true;
            self.emit_tails(segments, emitter, cache.pool());
        }
        self.handle_signal_timer(now);
        Some(Emitted { kind, packet, segments, pattern })
    }

    /// What the next packet has behind the first of its `segments`.
    #[cold]
    fn rest_of(&self, segments: usize, checksum: ChecksumMode, pool: &FramePool) -> Rest {
        self.tcb.sent_next().take(segments).skip(1).fold(Rest::NONE, |rest, chunk| {
            let sum = match (checksum, chunk.sum()) {
                (ChecksumMode::Off, _) => 0,
                (ChecksumMode::Software, Some(sum)) => sum,
                (ChecksumMode::Software, None) => checksum::sum(0, pool.chunk(chunk)),
            };
            rest.and(chunk.len(), sum)
        })
    }

    /// The segments of a packet behind its first, which left just now.
    #[cold]
    fn emit_tails(&self, segments: usize, emitter: &mut Emitter, pool: &FramePool) {
        let tails = segments - 1;
        for (place, chunk) in self.tcb.sent_last(tails).enumerate() {
            emitter.write_tail(&self.path, chunk, place + 1 < tails, pool);
        }
    }

    /// Writes a packet of so many `segments` of `len` new bytes each, with room for `reserved` of our options, that follows the one
    /// whose headers the emitter keeps as `pattern`: nothing has arrived since that one left, and it left just now. `None` for
    /// whatever is not that usual: then [`Subflow::emit`] decides.
    pub fn emit_following(
        &mut self,
        now: Instant,
        pattern: PatternId,
        (len, segments, reserved): (usize, usize, usize),
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        if !emitter.keeps(pattern, len * segments) || !emitter.prepare(cache) {
            return None;
        }
        let rest = match segments {
            1 => Rest::NONE,
            _ => self.rest_of(segments, emitter.checksum(&self.path), cache.pool()),
        };
        let Following { seq, chunk, data_seq, offset } =
            self.tcb.poll_following(now, len, segments, reserved)?;
        // RFC 8684 §3.3.1: relative to the SYN, which has number 0.
        let numbers = Numbers { seq, data_seq, subflow_seq: (offset as u32).wrapping_add(1) };
        let mut packet = emitter.follow(numbers, chunk, rest, cache);
        if segments > 1 {
            packet.more = true;
            self.emit_tails(segments, emitter, cache.pool());
        }
        self.signals.on_data_sent();
        self.handle_signal_timer(now);
        Some(packet)
    }

    /// Asserts that [`Subflow::emit_following`] has written what [`Subflow::emit`] would have.
    #[cfg(debug_assertions)]
    pub fn check_following(
        &mut self,
        now: Instant,
        signalling: &Signalling,
        (packet, len, segments): (&TxFrame, usize, usize),
        emitter: &Emitter,
        pool: &FramePool,
    ) {
        let bytes = pool.tx_bytes(packet);
        let (headers, payload) = bytes.split_at(bytes.len() - len);
        let tails = emitter.tails().flat_map(|tail| pool.tx_bytes(tail));
        let payload: Vec<u8> = payload.iter().chain(tails).copied().collect();
        assert_eq!(payload.len(), len * segments, "all of it is there");
        let (tcp, timestamps, data_seq, offset) =
            self.tcb.describe_last(now, (len, segments), signalling.data_len());
        let data = Data { data_seq, offset, len: payload.len() as u16, sum: checksum::sum(0, &payload) };
        let mut options = TcpOptions { timestamps, ..TcpOptions::default() };
        options.mptcp.extend(signalling.on_data(&self.side(), &data));
        let segment =
            SegmentRepr { link: &self.path.link, tuple: self.tuple, ecn: 0, tcp, options: &options };
        let mut frame = [&[0; TX_HEADROOM], &payload[..]].concat();
        let (range, checksum) = (TX_HEADROOM..frame.len(), emitter.checksum(&self.path));
        let start = emit_summed(&segment, &mut frame, range, checksum, None);
        assert_eq!(headers, &frame[start..TX_HEADROOM], "{segment:?}");
    }
}
