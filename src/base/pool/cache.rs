//! A thread's own free list. Read `base/pool.rs` first.

use crate::base::pool::{BATCH, CACHE_MAX, Chunk, FRAME_SIZE, Frame, FramePool, IN_FLIGHT, Step};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What [`PoolCache::pack`] takes for tiny: a chunk that leaves more than seven eighths of its frame empty.
pub const TINY: usize = FRAME_SIZE / 8;

/// A thread's own free list, which exchanges batches with the pool's depot.
#[derive(Debug)]
pub struct PoolCache {
    pool: Arc<FramePool>,
    free: Vec<u32>,
    /// What it leaves in the depot for others.
    reserve: usize,
    /// Frames that could not be had.
    exhausted: u64,
}

impl PoolCache {
    /// An empty cache of `pool`.
    pub fn new(pool: Arc<FramePool>) -> Self {
        Self::with_reserve(pool, 0)
    }

    /// An empty cache that leaves the last `reserve` frames of the depot to others. For applications: one that fills
    /// the whole pool with what it wants to send leaves nothing to receive the acknowledgments with that would free it.
    pub fn with_reserve(pool: Arc<FramePool>, reserve: usize) -> Self {
        Self { pool, free: Vec::with_capacity(CACHE_MAX + BATCH), reserve, exhausted: 0 }
    }

    /// An empty cache for an application: it leaves a quarter of the pool to NICs and workers.
    pub fn for_application(pool: Arc<FramePool>) -> Self {
        let reserve = pool.frames() / 4;
        Self::with_reserve(pool, reserve)
    }

    /// The pool.
    pub fn pool(&self) -> &FramePool {
        &self.pool
    }

    /// The pool, to share with another thread.
    pub fn pool_arc(&self) -> &Arc<FramePool> {
        &self.pool
    }

    /// How often [`PoolCache::alloc`] found nothing.
    pub fn exhausted(&self) -> u64 {
        self.exhausted
    }

    /// A free frame with one hold. `None` when the pool is exhausted: counted, and the caller does without (a
    /// segment that is not sent now is sent at the next chance, a fill ring is filled later).
    #[track_caller]
    pub fn alloc(&mut self) -> Option<Frame> {
        if self.free.is_empty() && (self.reserve == 0 || self.pool.depot() > self.reserve) {
            self.pool.take(&mut self.free);
        }
        let Some(index) = self.free.pop() else {
            self.exhausted += 1;
            return None;
        };
        let before = self.pool.count(index, 1, Ordering::Relaxed);
        assert!(before == 0, "frame {index} was free and in use");
        self.pool.shadow.step(index, Step::Allocated);
        Some(Frame(index))
    }

    /// Gives one hold back.
    #[track_caller]
    pub fn free(&mut self, frame: Frame) {
        if self.pool.release(frame.0, 1) {
            self.recycle(frame.0);
        }
    }

    /// Gives the hold of a chunk back.
    #[track_caller]
    pub fn free_chunk(&mut self, chunk: Chunk) {
        self.free(chunk.frame);
    }

    /// Copies tiny chunks that have frames of their own into frames that they share, and gives theirs back. A peer that
    /// sends tiny segments with gaps between them would otherwise fill the pool with frames that hold next to nothing.
    /// Where no frame is free, the rest stays as it is.
    pub fn pack<'a>(&mut self, chunks: impl Iterator<Item = &'a mut Chunk>) {
        let pool = Arc::clone(&self.pool);
        let is_alone = |chunk: &&mut Chunk| chunk.len() <= TINY && pool.is_sole(&chunk.frame);
        let mut tiny: Vec<&mut Chunk> = chunks.filter(is_alone).collect();
        let mut rest = &mut tiny[..];
        while !rest.is_empty() {
            let mut room = pool.frame_size();
            let fits = |chunk: &&&mut Chunk| match room.checked_sub(chunk.len()) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            };
            let count = rest.iter().take_while(fits).count();
            let (group, behind) = std::mem::take(&mut rest).split_at_mut(count);
            rest = behind;
            let Some(mut frame) = self.alloc() else { return };
            // All is written before anybody else holds the frame.
            let bytes = pool.bytes_mut(&mut frame);
            let mut at = 0;
            for chunk in group.iter() {
                bytes[at..at + chunk.len()].copy_from_slice(pool.chunk(chunk));
                at += chunk.len();
            }
            let mut offset = 0;
            for chunk in group {
                let packed = Chunk::new(pool.share(&frame), offset, chunk.len()).with_sum(chunk.sum());
                offset += chunk.len();
                self.free_chunk(std::mem::replace(*chunk, packed));
            }
            self.free(frame);
        }
    }

    /// A transmission has completed, or was never begun.
    #[track_caller]
    pub fn complete(&mut self, index: u32) {
        if self.pool.release(index, IN_FLIGHT) {
            self.recycle(index);
        }
    }

    /// Returns all that the cache holds to the depot.
    pub fn flush(&mut self) {
        self.pool.put(&self.free);
        self.free.clear();
    }

    fn recycle(&mut self, index: u32) {
        self.free.push(index);
        if self.free.len() > CACHE_MAX {
            let keep = self.free.len() - BATCH;
            self.pool.put(&self.free[keep..]);
            self.free.truncate(keep);
        }
    }
}

impl Drop for PoolCache {
    fn drop(&mut self) {
        self.flush();
    }
}
