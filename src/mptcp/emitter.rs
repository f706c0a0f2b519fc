//! Writing a packet: headers in front of a payload that lies in its frame already, or in front of nothing.

use crate::base::pool::TX_HEADROOM;
use crate::base::{Chunk, Frame, FramePool, PoolCache, TxFrame};
use crate::mptcp::{MptcpCounters, Path};
use crate::wire::{ChecksumMode, SegmentRepr, emit_summed};

/// What writing a segment needs beside the subflow itself.
#[derive(Debug, Default)]
pub struct Emitter {
    /// A frame for headers, so that a segment that TCP counts as sent does not fail for want of one.
    spare: Option<Frame>,
    /// Per port.
    checksums: Vec<ChecksumMode>,
    sent: MptcpCounters,
}

impl Emitter {
    /// An emitter for ports with these checksum modes.
    pub fn new(checksums: Vec<ChecksumMode>) -> Self {
        Self { spare: None, checksums, sent: MptcpCounters::default() }
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

    /// Gives the spare frame back, at the end.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.spare.take().into_iter().for_each(|frame| cache.free(frame));
    }

    /// Writes headers in front of `chunk`, or of nothing. `None` for want of a frame.
    pub fn write(
        &mut self,
        segment: &SegmentRepr<'_>,
        path: &Path,
        chunk: Option<&mut Chunk>,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        self.sent.count_sent(&segment.options.mptcp);
        let checksum = self.checksums.get(path.port.index()).copied().unwrap_or_default();
        let pool: &FramePool = cache.pool();
        if let Some(chunk) = chunk {
            let (payload, sum) = (chunk.range(), chunk.sum());
            // In place only where nothing but headroom lies in front of the payload, and no NIC is reading the frame.
            if payload.start == TX_HEADROOM && !pool.in_flight(&chunk.frame) {
                let end = payload.end;
                let start = emit_summed(segment, pool.bytes_mut(&mut chunk.frame), payload, checksum, sum);
                return Some(pool.start_transmit(&chunk.frame, start, end - start));
            }
            let mut copy = self.spare.take()?;
            let end = TX_HEADROOM + payload.len();
            let bytes = pool.bytes_mut(&mut copy);
            bytes[TX_HEADROOM..end].copy_from_slice(&pool.bytes(&chunk.frame)[payload]);
            let start = emit_summed(segment, bytes, TX_HEADROOM..end, checksum, sum);
            let packet = pool.start_transmit(&copy, start, end - start);
            cache.free(copy);
            return Some(packet);
        }
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
        self.write(segment, path, None, cache)
    }
}
