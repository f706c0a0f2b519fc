//! Payload that arrived before its turn. Offsets are those of the peer's stream (64 bits, no wrap).

use crate::base::pool::TINY;
use crate::base::{Chunk, PoolCache};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Chunks that are held at most.
pub(super) const CHUNKS_MAX: usize = 4096;
/// Tiny chunks that may each hold a frame of their own; more are packed together.
const LOOSE_MAX: usize = 64;
/// Runs that may wait to be reported. One batch of arrivals can make many, and one ACK has room for three or so.
const RECENT_MAX: usize = 32;

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insert {
    /// It (or the part of it that was new) is held.
    Held,
    /// All of its bytes were held already.
    Duplicate,
    /// There is no room for more chunks.
    Full,
}

/// A run that changed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Recent {
    start: u64,
    end: u64,
    /// An ACK has told of it.
    reported: bool,
}

/// Chunks beyond a gap, in order and without overlap.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Assembler {
    #[serde(skip)]
    chunks: VecDeque<(u64, Chunk)>,
    /// Tiny chunks that came since they were packed together last.
    loose: usize,
    /// Runs of adjoining chunks as start and end, in order; they do not touch.
    runs: VecDeque<(u64, u64)>,
    /// The runs that changed last, latest first. Not in place: where all comes in order they take no room.
    recent: Vec<Recent>,
}

impl Assembler {
    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many chunks are held.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Whether a run changed that no ACK has told of.
    pub(super) fn has_news(&self) -> bool {
        self.recent.iter().any(|run| !run.reported)
    }

    /// RFC 2018 §4: at most `room` runs to report, the one that changed last first; they count as reported. Where the
    /// news do not fit, the older come first and the rest waits for the next ACK, as if each segment had had its own.
    pub(super) fn report(&mut self, room: usize) -> ArrayVec<(u64, u64), 4> {
        let news = self.recent.iter().filter(|run| !run.reported).count();
        let (mut skip, mut runs) = (news.saturating_sub(room), ArrayVec::new());
        for run in self.recent.iter_mut().filter(|run| !run.reported) {
            if skip > 0 {
                skip -= 1;
            } else if runs.try_push((run.start, run.end)).is_ok() {
                run.reported = true;
            }
        }
        for run in &self.recent {
            if runs.len() >= room.min(runs.capacity()) {
                break;
            }
            if !runs.contains(&(run.start, run.end)) {
                runs.push((run.start, run.end));
            }
        }
        runs
    }

    /// Holds the bytes of `chunk` that are new. What is not kept goes back to `cache`.
    pub(super) fn insert(&mut self, offset: u64, mut chunk: Chunk, cache: &mut PoolCache) -> Insert {
        let end = offset + chunk.len() as u64;
        if self.is_covered(offset, end) {
            cache.free_chunk(chunk);
            return Insert::Duplicate;
        }
        let mut start = offset;
        // Where it goes: behind all chunks that begin before it.
        let index = self.chunks.partition_point(|(at, _)| *at <= start);
        if let Some((at, before)) = index.checked_sub(1).map(|before| &self.chunks[before]) {
            let overlap = (at + before.len() as u64).saturating_sub(start);
            chunk.trim_front(overlap as usize);
            start += overlap;
        }
        // Chunks that lie wholly within it make way, so that it stays one chunk.
        while let Some((at, behind)) = self.chunks.get(index) {
            if at + behind.len() as u64 > end {
                break;
            }
            if let Some((_, covered)) = self.chunks.remove(index) {
                cache.free_chunk(covered);
            }
        }
        if let Some((at, _)) = self.chunks.get(index) {
            chunk.truncate(at.saturating_sub(start) as usize);
        }
        if self.chunks.len() >= CHUNKS_MAX {
            cache.free_chunk(chunk);
            return Insert::Full;
        }
        let tiny = chunk.len() <= TINY;
        self.chunks.insert(index, (start, chunk));
        self.note_run(offset, end);
        self.loose += usize::from(tiny);
        if self.loose > LOOSE_MAX {
            self.loose = 0;
            cache.pack(self.chunks.iter_mut().map(|(_, chunk)| chunk));
        }
        Insert::Held
    }

    /// Takes the chunk that begins at `offset`, or the part of it from there on.
    pub(super) fn pop(&mut self, offset: u64, cache: &mut PoolCache) -> Option<Chunk> {
        while self.chunks.front().is_some_and(|(at, _)| *at <= offset) {
            let (at, mut chunk) = self.chunks.pop_front()?;
            let passed = offset - at;
            if passed < chunk.len() as u64 {
                chunk.trim_front(passed as usize);
                self.forget_below(offset + chunk.len() as u64);
                return Some(chunk);
            }
            cache.free_chunk(chunk);
        }
        self.forget_below(offset);
        None
    }

    /// Gives all chunks back.
    pub(super) fn drop_all(&mut self, cache: &mut PoolCache) {
        self.chunks.drain(..).for_each(|(_, chunk)| cache.free_chunk(chunk));
        self.runs.clear();
        self.recent.clear();
    }

    fn is_covered(&self, start: u64, end: u64) -> bool {
        let index = self.runs.partition_point(|run| run.1 <= start);
        self.runs.get(index).is_some_and(|run| run.0 <= start && end <= run.1)
    }

    /// Bytes `start..end` are held now.
    fn note_run(&mut self, start: u64, end: u64) {
        let first = self.runs.partition_point(|run| run.1 < start);
        let behind = first + self.runs.range(first..).take_while(|run| run.0 <= end).count();
        let mut merged = (start, end);
        for run in self.runs.range(first..behind) {
            merged = (merged.0.min(run.0), merged.1.max(run.1));
        }
        if behind == first {
            self.runs.insert(first, merged);
        } else {
            self.runs[first] = merged;
            self.runs.drain(first + 1..behind);
        }
        let merged = Recent { start: merged.0, end: merged.1, reported: false };
        self.recent.retain(|run| run.end < merged.start || merged.end < run.start);
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.insert(0, merged);
    }

    fn forget_below(&mut self, offset: u64) {
        let mut changed = false;
        while let Some(front) = self.runs.front_mut() {
            if front.1 > offset {
                changed |= front.0 < offset;
                front.0 = front.0.max(offset);
                break;
            }
            self.runs.pop_front();
            changed = true;
        }
        if changed {
            self.recent.retain(|run| run.end > offset);
            self.recent.iter_mut().for_each(|run| run.start = run.start.max(offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{FramePool, Prng};

    fn chunk(cache: &mut PoolCache, bytes: &[u8]) -> Chunk {
        let mut frame = cache.alloc().expect("the pool is large enough");
        cache.pool().bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        Chunk::new(frame, 0, bytes.len())
    }

    /// The runs of `held`, from its first byte.
    fn runs_of(held: &[bool]) -> Vec<(u64, u64)> {
        let starts = (0..held.len()).filter(|at| held[*at] && (*at == 0 || !held[at - 1]));
        let run = |start: usize| held[start..].iter().take_while(|held| **held).count() + start;
        starts.map(|start| (start as u64, run(start) as u64)).collect()
    }

    #[test]
    fn agrees_with_an_array_of_bytes() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let mut cache = PoolCache::new(FramePool::new_heap(256));
            let stream: Vec<u8> = (0..300u32).map(|byte| byte as u8 ^ 0x5a).collect();
            let mut held = vec![false; stream.len()];
            let mut assembler = Assembler::default();
            let mut next = 0;
            while next < stream.len() {
                // Something beyond the next byte.
                let start = next + 1 + prng.below((stream.len() - next) as u64) as usize;
                let end = (start + prng.below(40) as usize).min(stream.len());
                if start < end {
                    let known = held[start..end].iter().all(|held| *held);
                    let chunk = chunk(&mut cache, &stream[start..end]);
                    let insert = assembler.insert(start as u64, chunk, &mut cache);
                    assert_eq!(insert == Insert::Duplicate, known);
                    held[start..end].fill(true);
                    let run =
                        runs_of(&held).into_iter().find(|run| run.0 <= start as u64 && end as u64 <= run.1);
                    assert!(known || assembler.has_news());
                    let told = assembler.report(4);
                    assert!(known || told.first() == run.as_ref(), "seed {seed}: the latest first");
                    assert!(told.iter().all(|told| runs_of(&held).contains(told)), "seed {seed}");
                }
                assert_eq!(Vec::from(assembler.runs.clone()), runs_of(&held), "seed {seed}");
                if prng.chance(0.3) {
                    // The next bytes come, some of them held already.
                    next += 1 + prng.below(20.min((stream.len() - next) as u64)) as usize;
                    next = next.min(stream.len());
                    while let Some(chunk) = assembler.pop(next as u64, &mut cache) {
                        let bytes = cache.pool().chunk(&chunk);
                        assert_eq!(bytes, &stream[next..next + bytes.len()]);
                        next += bytes.len();
                        cache.free_chunk(chunk);
                    }
                    held[..next].fill(false);
                }
            }
            assert!(assembler.is_empty() && assembler.runs.is_empty() && assembler.recent.is_empty());
            assert_eq!(cache.pool().used(), 0, "seed {seed}");
        }
    }

    #[test]
    fn news_that_do_not_fit_wait_for_the_next_report() {
        let mut cache = PoolCache::new(FramePool::new_heap(256));
        let mut assembler = Assembler::default();
        for index in 0..5 {
            let chunk = chunk(&mut cache, &[0; 5]);
            assembler.insert(10 + index * 10, chunk, &mut cache);
        }
        let starts = |assembler: &mut Assembler, room| {
            assembler.report(room).iter().map(|run| run.0).collect::<Vec<_>>()
        };
        assert_eq!(starts(&mut assembler, 2), [20, 10]);
        assert_eq!(starts(&mut assembler, 2), [40, 30]);
        assert!(assembler.has_news());
        assert_eq!(starts(&mut assembler, 3), [50, 40, 30], "and what was told before fills the rest");
        assert!(!assembler.has_news());
        assert!(starts(&mut assembler, 0).is_empty());
        assembler.drop_all(&mut cache);
        assert_eq!(cache.pool().used(), 0);
    }

    #[test]
    fn a_full_assembler_takes_no_more_chunks() {
        let mut cache = PoolCache::new(FramePool::new_heap(CHUNKS_MAX + 8));
        let mut assembler = Assembler::default();
        for index in 0..CHUNKS_MAX as u64 {
            let chunk = chunk(&mut cache, &[1]);
            assert_eq!(assembler.insert(1 + 2 * index, chunk, &mut cache), Insert::Held);
        }
        let one_more = chunk(&mut cache, &[1]);
        assert_eq!(assembler.insert(1 << 20, one_more, &mut cache), Insert::Full);
        let used = cache.pool().used();
        assert!(used <= CHUNKS_MAX / LOOSE_MAX + LOOSE_MAX, "{used} frames");
        // One that replaces several is welcome.
        let large = chunk(&mut cache, &[1; 10]);
        assert_eq!(assembler.insert(1, large, &mut cache), Insert::Held);
        assert_eq!(assembler.chunks(), CHUNKS_MAX - 3);
        assembler.drop_all(&mut cache);
        assert_eq!(cache.pool().used(), 0);
    }
}
