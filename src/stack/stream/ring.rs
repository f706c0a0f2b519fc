//! A ring between a worker and an application that costs little while little is in it: a connection that is idle, or that
//! asks and answers, has room for a few chunks; the first time that more come, room for all is made, and stays.

use crate::base::Chunk;
use crate::stack::stream::few::Few;
use crossbeam::queue::ArrayQueue;
use std::sync::OnceLock;

/// A bounded queue of chunks between two threads, of which an application's end may be several.
#[derive(Debug)]
pub(super) struct Ring {
    few: Few,
    many: OnceLock<Box<ArrayQueue<Chunk>>>,
    capacity: u32,
}

impl Ring {
    /// An empty ring for `capacity` chunks.
    pub(super) fn new(capacity: u32) -> Self {
        Self { few: Few::default(), many: OnceLock::new(), capacity }
    }

    /// Puts a chunk in.
    ///
    /// # Errors
    /// The chunk back when the ring is full.
    pub(super) fn push(&self, chunk: Chunk) -> Result<(), Chunk> {
        let (many, chunk) = match self.many.get() {
            Some(many) => (many, chunk),
            None => match self.few.push(chunk) {
                Ok(()) => return Ok(()),
                Err(chunk) => {
                    (self.many.get_or_init(|| Box::new(ArrayQueue::new(self.capacity as usize))), chunk)
                }
            },
        };
        // From now on nothing is put into `few`: what is in it comes before all that is in `many`. Once it is empty `many` knows
        // by itself when it is full, and how far the other end is need not be fetched from its processor.
        if !self.few.is_empty() && self.few.len() + many.len() >= self.capacity as usize {
            return Err(chunk);
        }
        many.push(chunk)
    }

    /// Takes the oldest chunk out.
    pub(super) fn pop(&self) -> Option<Chunk> {
        // First, whether there is `many`: if there is, all that will ever be in `few` can be seen.
        match self.many.get() {
            None => self.few.pop(),
            Some(many) if self.few.is_empty() => many.pop(),
            Some(many) => self.few.pop().or_else(|| many.pop()),
        }
    }

    /// How many chunks are in it.
    pub(super) fn len(&self) -> usize {
        self.few.len() + self.many.get().map_or(0, |many| many.len())
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.get().is_none_or(|many| many.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{FramePool, PoolCache};
    use crate::stack::stream::few::FEW;
    use std::thread;

    /// A chunk that says its number.
    fn chunk(cache: &mut PoolCache, number: usize) -> Chunk {
        Chunk::new(cache.alloc().expect("a frame"), 0, number)
    }

    fn number(cache: &mut PoolCache, chunk: Chunk) -> usize {
        let number = chunk.len();
        cache.free_chunk(chunk);
        number
    }

    #[test]
    fn little_needs_no_room_and_all_of_it_is_there_when_needed() {
        let mut cache = PoolCache::new(FramePool::new_heap(32));
        let ring = Ring::new(10);
        for round in 0..5 {
            (0..FEW).for_each(|n| ring.push(chunk(&mut cache, round * 10 + n)).expect("room"));
            for n in 0..FEW {
                let first = ring.pop().expect("a few");
                assert_eq!(number(&mut cache, first), round * 10 + n);
            }
        }
        assert!(ring.many.get().is_none(), "nothing was allocated");
        (0..10).for_each(|n| ring.push(chunk(&mut cache, n)).expect("room"));
        let more = ring.push(chunk(&mut cache, 10)).expect_err("full");
        assert_eq!((ring.len(), ring.is_empty()), (10, false));
        let first = ring.pop().expect("ten");
        assert_eq!(number(&mut cache, first), 0);
        ring.push(more).expect("room for one");
        for n in 1..=10 {
            let next = ring.pop().expect("ten");
            assert_eq!(number(&mut cache, next), n);
        }
        assert!(ring.is_empty() && ring.pop().is_none());
    }

    #[test]
    fn between_threads_the_order_holds_while_it_grows() {
        const EACH: usize = 100;
        for writers in [1, 2] {
            for _ in 0..200 {
                let pool = FramePool::new_heap(1024);
                let ring = Ring::new(64);
                thread::scope(|scope| {
                    for writer in 0..writers {
                        let mut cache = PoolCache::new(pool.clone());
                        let ring = &ring;
                        scope.spawn(move || {
                            for n in 0..EACH {
                                let mut next = chunk(&mut cache, writer * EACH + n);
                                while let Err(back) = ring.push(next) {
                                    next = back;
                                    thread::yield_now();
                                }
                            }
                        });
                    }
                    let mut cache = PoolCache::new(pool.clone());
                    let mut next = [0; 2];
                    while next.iter().sum::<usize>() < writers * EACH {
                        let Some(got) = ring.pop() else {
                            thread::yield_now();
                            continue;
                        };
                        let got = number(&mut cache, got);
                        assert_eq!(got % EACH, next[got / EACH], "in the order of its writer");
                        next[got / EACH] += 1;
                    }
                });
                assert!(ring.is_empty());
            }
        }
    }

    #[test]
    fn two_readers_get_each_chunk_once() {
        const ALL: usize = 300;
        for _ in 0..100 {
            let pool = FramePool::new_heap(1024);
            let ring = Ring::new(64);
            let got: usize = thread::scope(|scope| {
                let readers = [(); 2].map(|()| {
                    let (mut cache, ring) = (PoolCache::new(pool.clone()), &ring);
                    scope.spawn(move || {
                        let (mut sum, mut last) = (0, None);
                        // The last chunk, which says nothing, is for the other reader as well.
                        loop {
                            let Some(got) = ring.pop() else {
                                thread::yield_now();
                                continue;
                            };
                            let got = number(&mut cache, got);
                            if got == 0 {
                                return sum;
                            }
                            assert!(
                                last.replace(got).is_none_or(|last| last < got),
                                "none comes before an older one"
                            );
                            sum += got;
                        }
                    })
                });
                let mut cache = PoolCache::new(pool.clone());
                for n in (1..=ALL).chain([0, 0]) {
                    let mut next = chunk(&mut cache, n);
                    while let Err(back) = ring.push(next) {
                        next = back;
                        thread::yield_now();
                    }
                }
                readers.into_iter().map(|reader| reader.join().expect("it does not panic")).sum()
            });
            assert_eq!(got, ALL * (ALL + 1) / 2);
        }
    }
}
