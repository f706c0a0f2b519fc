//! A queue for a few chunks, as small as it can be. Any thread may push and pop: an application may have several at its end.
//!
//! It is the bounded queue that crossbeam's `ArrayQueue` is, too (D. Vyukov's): each place has a stamp that says whose turn
//! it is there. But a chunk is kept in atomic words, so that no unsafe code is needed, and nothing is spread over cache
//! lines of its own: that would be three quarters of a kilobyte for each connection, and who has few chunks under way does
//! not move them fast.

use crate::base::Chunk;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What it holds.
pub(super) const FEW: usize = 4;

/// Room for a chunk.
#[derive(Debug)]
struct Place {
    /// Its position: to be filled. One more: to be emptied.
    stamp: AtomicU32,
    frame: AtomicU32,
    rest: AtomicU64,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Few {
    places: [Place; FEW],
    /// Positions, counted on for ever; they wrap.
    head: AtomicU32,
    tail: AtomicU32,
}

impl Default for Few {
    fn default() -> Self {
        let place = |position: usize| Place {
            stamp: AtomicU32::new(position as u32),
            frame: AtomicU32::new(0),
            rest: AtomicU64::new(0),
        };
        Self { places: std::array::from_fn(place), head: AtomicU32::new(0), tail: AtomicU32::new(0) }
    }
}

impl Few {
    fn place(&self, position: u32) -> &Place {
        &self.places[position as usize % FEW]
    }

    /// Puts a chunk in.
    ///
    /// # Errors
    /// The chunk back: it is full.
    pub(super) fn push(&self, chunk: Chunk) -> Result<(), Chunk> {
        loop {
            let position = self.tail.load(Ordering::SeqCst);
            let place = self.place(position);
            if place.stamp.load(Ordering::Acquire) == position {
                if self.advance(&self.tail, position) {
                    let (frame, rest) = chunk.into_words();
                    place.frame.store(frame, Ordering::Relaxed);
                    place.rest.store(rest, Ordering::Relaxed);
                    place.stamp.store(position.wrapping_add(1), Ordering::Release);
                    return Ok(());
                }
            } else if position.wrapping_sub(self.head.load(Ordering::SeqCst)) == FEW as u32 {
                return Err(chunk);
            }
            // Another thread is at it.
            spin_loop();
        }
    }

    /// Takes the oldest chunk out.
    pub(super) fn pop(&self) -> Option<Chunk> {
        loop {
            let position = self.head.load(Ordering::SeqCst);
            let place = self.place(position);
            if place.stamp.load(Ordering::Acquire) == position.wrapping_add(1) {
                if self.advance(&self.head, position) {
                    let words = (place.frame.load(Ordering::Relaxed), place.rest.load(Ordering::Relaxed));
                    place.stamp.store(position.wrapping_add(FEW as u32), Ordering::Release);
                    return Some(Chunk::from_words(words));
                }
            } else if self.tail.load(Ordering::SeqCst) == position {
                return None;
            }
            spin_loop();
        }
    }

    fn advance(&self, end: &AtomicU32, position: u32) -> bool {
        let next = position.wrapping_add(1);
        end.compare_exchange_weak(position, next, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// How many chunks are in it. What is just being put in counts.
    pub(super) fn len(&self) -> usize {
        let head = self.head.load(Ordering::SeqCst);
        // The tail was loaded later, and may have run ahead of that head.
        (self.tail.load(Ordering::SeqCst).wrapping_sub(head) as usize).min(FEW)
    }

    /// Whether nothing is in it, nor just being put in.
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst) == self.tail.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FramePool;
    use crate::base::PoolCache;

    #[test]
    fn a_chunk_comes_out_as_it_went_in() {
        let mut cache = PoolCache::new(FramePool::new_heap(8));
        let few = Few::default();
        for sum in [None, Some(0), Some(u16::MAX)] {
            let frame = cache.alloc().expect("a frame");
            let index = frame.index();
            few.push(Chunk::new(frame, 4095, 61_440).with_sum(sum)).expect("room");
            let chunk = few.pop().expect("it is in it");
            assert_eq!((chunk.frame.index(), chunk.offset(), chunk.len()), (index, 4095, 61_440));
            assert_eq!(chunk.sum(), sum);
            cache.free_chunk(chunk);
        }
        assert!(few.pop().is_none() && few.is_empty());
    }

    #[test]
    fn it_is_full_with_a_few_and_knows_how_many() {
        let mut cache = PoolCache::new(FramePool::new_heap(8));
        let few = Few::default();
        for round in 0..3 {
            let mut chunks =
                (0..=FEW).map(|n| Chunk::new(cache.alloc().expect("a frame"), 0, round * 10 + n));
            for held in 0..FEW {
                assert_eq!(few.len(), held);
                few.push(chunks.next().expect("enough")).expect("room");
            }
            let more = few.push(chunks.next().expect("enough")).expect_err("full");
            drop(chunks);
            assert_eq!((more.len(), few.len()), (round * 10 + FEW, FEW));
            cache.free_chunk(more);
            for n in 0..FEW {
                let chunk = few.pop().expect("a few");
                assert_eq!(chunk.len(), round * 10 + n);
                cache.free_chunk(chunk);
            }
        }
    }
}
