//! What happens when: a heap of events ordered by time, and among those of the same time by the order in which they
//! were scheduled, so that a run never depends on how a heap breaks ties.

use crate::base::Instant;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Events of type `E` in the order in which they happen.
#[derive(Debug)]
pub struct EventHeap<E> {
    heap: BinaryHeap<Entry<E>>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> Default for EventHeap<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next_sequence: 0 }
    }
}

impl<E> EventHeap<E> {
    /// Schedules `event`.
    pub fn push(&mut self, at: Instant, event: E) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.heap.push(Entry { at, sequence, event });
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// How many events are to come.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing will ever happen again.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E> Entry<E> {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.sequence)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first; the earliest is to come first.
        other.key().cmp(&self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_scheduled() {
        let mut heap = EventHeap::default();
        for (at, name) in [(5, "e"), (1, "a"), (3, "b"), (3, "c"), (3, "d")] {
            heap.push(Instant::from_nanos(at), name);
        }
        assert_eq!(heap.len(), 5);
        let order: Vec<_> =
            std::iter::from_fn(|| heap.pop()).map(|(at, name)| (at.as_nanos(), name)).collect();
        assert_eq!(order, [(1, "a"), (3, "b"), (3, "c"), (3, "d"), (5, "e")]);
        assert!(heap.is_empty());
    }
}
