//! A ring between a worker and an application that costs little while little is in it: a connection that is idle, or that
//! asks and answers, has room for a few items; the first time that more come, room for all is made, and stays.

use crossbeam::queue::ArrayQueue;
use std::sync::OnceLock;

/// What it holds before it grows.
const FEW: usize = 4;

/// A bounded queue with one thread at each end.
#[derive(Debug)]
pub(super) struct Ring<T> {
    few: ArrayQueue<T>,
    many: OnceLock<Box<ArrayQueue<T>>>,
    capacity: usize,
}

impl<T> Ring<T> {
    /// An empty ring for `capacity` items.
    pub(super) fn new(capacity: usize) -> Self {
        Self { few: ArrayQueue::new(FEW.min(capacity)), many: OnceLock::new(), capacity }
    }

    /// Puts an item in.
    ///
    /// # Errors
    /// The item back when the ring is full.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let (many, item) = match self.many.get() {
            Some(many) => (many, item),
            None => match self.few.push(item) {
                Ok(()) => return Ok(()),
                Err(item) => (self.many.get_or_init(|| Box::new(ArrayQueue::new(self.capacity))), item),
            },
        };
        // From now on nothing is put into `few`: what is in it comes before all that is in `many`. Once it is empty `many` knows
        // by itself when it is full, and how far the other end is need not be fetched from its processor.
        if !self.few.is_empty() && self.few.len() + many.len() >= self.capacity {
            return Err(item);
        }
        many.push(item)
    }

    /// Takes the oldest item out.
    pub(super) fn pop(&self) -> Option<T> {
        // First, whether there is `many`: if there is, all that will ever be in `few` can be seen.
        match self.many.get() {
            None => self.few.pop(),
            Some(many) if self.few.is_empty() => many.pop(),
            Some(many) => self.few.pop().or_else(|| many.pop()),
        }
    }

    /// How many items are in it.
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

    #[test]
    fn little_needs_no_room_and_all_of_it_is_there_when_needed() {
        let ring = Ring::new(10);
        for round in 0..5 {
            (0..FEW).for_each(|n| ring.push(round * 10 + n).expect("room"));
            assert_eq!(std::iter::from_fn(|| ring.pop()).count(), FEW);
        }
        assert!(ring.many.get().is_none(), "nothing was allocated");
        (0..10).for_each(|n| ring.push(n).expect("room"));
        assert_eq!((ring.push(10), ring.len(), ring.is_empty()), (Err(10), 10, false));
        assert_eq!(ring.pop(), Some(0));
        ring.push(10).expect("room for one");
        assert!(std::iter::from_fn(|| ring.pop()).eq(1..=10));
        assert!(ring.is_empty() && ring.pop().is_none());
    }

    #[test]
    fn between_two_threads_the_order_holds_while_it_grows() {
        for _ in 0..300 {
            let ring = Ring::new(64);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for n in 0..200 {
                        while ring.push(n).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
                let mut next = 0;
                while next < 200 {
                    match ring.pop() {
                        Some(n) => {
                            assert_eq!(n, next);
                            next += 1;
                        }
                        None => std::thread::yield_now(),
                    }
                }
            });
        }
    }
}
