//! Writing a packet: headers in front of a payload that lies in its frame already, or in front of nothing.

use crate::base::pool::TX_HEADROOM;
use crate::base::{Chunk, Frame, FramePool, PoolCache, PortId, TxFrame};
use crate::mptcp::{MptcpCounters, Path};
use crate::wire::{ChecksumMode, Numbers, Pattern, Rest, SegmentRepr, emit_scattered, emit_summed};
use std::collections::VecDeque;
use std::ops::Range;

/// Names the segment whose headers an emitter keeps as a pattern for those that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternId(u64);

/// What writing a segment needs beside the subflow itself.
#[derive(Debug, Default)]
pub struct Emitter {
    /// A frame for headers, so that a segment that TCP counts as sent does not fail for want of one.
    spare: Option<Frame>,
    /// Per port.
    checksums: Vec<ChecksumMode>,
    sent: MptcpCounters,
    /// The rest of the packet whose headers were written last.
    tails: VecDeque<(PortId, TxFrame)>,
    /// The headers of the last segment of which they were to be kept.
    pattern: Option<Pattern>,
    /// How many were kept so far: the name of this one.
    patterns: u64,
}

impl Emitter {
    /// An emitter for ports with these checksum modes.
    pub fn new(checksums: Vec<ChecksumMode>) -> Self {
        Self { checksums, ..Self::default() }
    }

    /// The options that were sent, by kind.
    pub fn sent(&self) -> &MptcpCounters {
        &self.sent
    }

    /// Gets hold of a frame; false when the pool is exhausted, and then nothing can be sent.
    pub fn prepare(&mut self, cache: &mut PoolCache) -> bool {
        if self.spare.is_none() {
            self.spare = cache.alloc();
        }
        self.spare.is_some()
    }

    /// Keeps the headers of `packet`, which was just written for this segment, for those that follow it with as long a payload,
    /// of which so many bytes are in the packet's first frame. `None` where it says what they would not.
    pub fn keep(
        &mut self,
        segment: &SegmentRepr<'_>,
        path: &Path,
        packet: &TxFrame,
        (head_len, payload_len): (usize, usize),
        pool: &FramePool,
    ) -> Option<PatternId> {
        let bytes = pool.tx_bytes(packet);
        let headers = &bytes[..bytes.len() - head_len];
        self.pattern = Pattern::new(segment, headers, payload_len, self.checksum(path));
        self.patterns += 1;
        self.pattern.is_some().then_some(PatternId(self.patterns))
    }

    /// Whether this pattern is the one that is kept, for payloads of so many bytes.
    pub fn keeps(&self, id: PatternId, payload_len: usize) -> bool {
        id.0 == self.patterns
            && self.pattern.as_ref().is_some_and(|pattern| pattern.payload_len() == payload_len)
    }

    /// Writes the headers that are kept, with other numbers, in front of `chunk`, behind which the `rest` of the payload follows.
    ///
    /// # Panics
    /// Where none are kept, and without a frame got hold of before ([`Emitter::prepare`]): our own bug.
    pub fn follow(
        &mut self,
        numbers: Numbers,
        chunk: &mut Chunk,
        rest: Rest,
        cache: &mut PoolCache,
    ) -> TxFrame {
        let Self { spare, pattern, .. } = self;
        let pattern = pattern.as_ref().expect("headers are kept");
        let write = |frame: &mut [u8], payload, sum| pattern.write(numbers, frame, payload, rest, sum);
        put_in_front(chunk, spare, cache, write).expect("a frame was got hold of")
    }

    /// Who makes the checksum of packets that leave on this path.
    pub fn checksum(&self, path: &Path) -> ChecksumMode {
        self.checksums.get(path.port.index()).copied().unwrap_or_default()
    }

    /// Gives the spare frame back, at the end.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.tails.drain(..).for_each(|(_, tail)| cache.complete(tail.index));
        self.spare.take().into_iter().for_each(|frame| cache.free(frame));
    }

    /// A packet whose headers were written goes on with `chunk`, and perhaps with `more` behind it. Nothing is written there, so
    /// nothing depends on whether a NIC reads it already.
    pub fn write_tail(&mut self, path: &Path, chunk: &Chunk, more: bool, pool: &FramePool) {
        let tail = pool.start_transmit(&chunk.frame, chunk.offset(), chunk.len());
        self.tails.push_back((path.port, TxFrame { more, ..tail }));
    }

    /// What is to leave next, before anything else: the next part of the packet that was written last.
    #[inline]
    pub fn take_tail(&mut self) -> Option<(PortId, TxFrame)> {
        if self.tails.is_empty() { None } else { self.tails.pop_front() }
    }

    /// The parts of the packet that was written last, behind its first.
    pub fn tails(&self) -> impl Iterator<Item = &TxFrame> {
        self.tails.iter().map(|(_, tail)| tail)
    }

    /// Writes headers in front of `chunk`, behind which the `rest` of the payload follows, or of nothing. `None` for want of a
    /// frame.
    pub fn write(
        &mut self,
        segment: &SegmentRepr<'_>,
        path: &Path,
        chunk: Option<&mut Chunk>,
        rest: Rest,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        self.sent.count_sent(&segment.options.mptcp);
        let checksum = self.checksum(path);
        if let Some(chunk) = chunk {
            return put_in_front(chunk, &mut self.spare, cache, |frame, payload, sum| {
                emit_scattered(segment, frame, payload, rest, checksum, sum)
            });
        }
        let pool: &FramePool = cache.pool();
        let mut frame = self.spare.take()?;
        let none = TX_HEADROOM..TX_HEADROOM;
        let start = emit_summed(segment, pool.bytes_mut(&mut frame), none, checksum, None);
        let packet = pool.start_transmit(&frame, start, TX_HEADROOM - start);
        cache.free(frame);
        Some(packet)
    }

    /// A segment that belongs to no subflow: a reset in answer to one.
    pub fn write_stray(
        &mut self,
        segment: &SegmentRepr<'_>,
        path: &Path,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        if !self.prepare(cache) {
            return None;
        }
        self.write(segment, path, None, Rest::NONE, cache)
    }
}

/// Has `write` put headers in front of a payload, given a frame, where the payload lies in it, and its sum where that is known: in
/// place, where nothing but headroom lies there and no NIC is reading the frame; else of a copy in the spare frame. `None`
/// for want of that.
fn put_in_front(
    chunk: &mut Chunk,
    spare: &mut Option<Frame>,
    cache: &mut PoolCache,
    write: impl FnOnce(&mut [u8], Range<usize>, Option<u16>) -> usize,
) -> Option<TxFrame> {
    let pool: &FramePool = cache.pool();
    let (payload, sum) = (chunk.range(), chunk.sum());
    if payload.start == TX_HEADROOM && !pool.in_flight(&chunk.frame) {
        let end = payload.end;
        let start = write(pool.bytes_mut(&mut chunk.frame), payload, sum);
        return Some(pool.start_transmit(&chunk.frame, start, end - start));
    }
    let mut copy = spare.take()?;
    let end = TX_HEADROOM + payload.len();
    let bytes = pool.bytes_mut(&mut copy);
    bytes[TX_HEADROOM..end].copy_from_slice(&pool.bytes(&chunk.frame)[payload]);
    let start = write(bytes, TX_HEADROOM..end, sum);
    let packet = pool.start_transmit(&copy, start, end - start);
    cache.free(copy);
    Some(packet)
}
