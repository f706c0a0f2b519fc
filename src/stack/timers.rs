//! Deadlines of connections. A deadline moves with nearly every packet, and nearly always later; so a connection has at
//! most one entry that counts, and one that fires too early is put back at the time that holds by then.
//!
//! What is due soon is in a heap. With thousands of connections a heap of all of them would not stay in the caches, so what
//! is due later waits where it costs nothing to put: at the end of a list of all that is due in the same few milliseconds.

use crate::base::Instant;
use crate::stack::ConnectionId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is due in the same 4.2 ms is in one list.
const EPOCH_BITS: u32 = 22;
/// Lists: they reach 1.07 s ahead. What is later is in the heap, and rare.
const EPOCHS: usize = 256;
const WORDS: usize = EPOCHS / 64;
/// A heap of so many entries is small enough to take all.
const FEW: usize = 256;

type Entry = (Instant, ConnectionId);

/// What is due in one epoch.
#[derive(Debug, Clone, Default)]
struct List {
    entries: Vec<Entry>,
    /// Of those, where there are any.
    earliest: Instant,
}

/// The deadlines of a worker's connections.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    /// A list for each epoch behind `epoch`, round and round. None before there are many entries.
    lists: Vec<List>,
    /// Which lists have entries.
    occupied: [u64; WORDS],
    /// All up to the end of this one is in the heap.
    epoch: u64,
}

impl Timers {
    /// `connection` has to be looked at, at `deadline` or before. `entry` is where its earliest entry stands; returns
    /// where it stands from now on.
    pub fn schedule(
        &mut self,
        connection: ConnectionId,
        deadline: Option<Instant>,
        entry: Option<Instant>,
    ) -> Option<Instant> {
        let deadline = match deadline {
            Some(deadline) if entry.is_none_or(|entry| deadline < entry) => deadline,
            Some(_) | None => return entry,
        };
        self.put((deadline, connection));
        Some(deadline)
    }

    fn put(&mut self, entry: Entry) {
        let epoch = epoch_of(entry.0);
        let is_far = epoch <= self.epoch || epoch >= self.epoch + EPOCHS as u64;
        if is_far || self.heap.len() < FEW {
            self.heap.push(Reverse(entry));
            return;
        }
        if self.lists.is_empty() {
            self.lists = vec![List::default(); EPOCHS];
        }
        let place = epoch as usize % EPOCHS;
        let list = &mut self.lists[place];
        list.earliest = if list.entries.is_empty() { entry.0 } else { list.earliest.min(entry.0) };
        list.entries.push(entry);
        self.occupied[place / 64] |= 1 << (place % 64);
    }

    /// The first list with entries, counted from the current epoch on.
    fn first_list(&self) -> Option<usize> {
        let from = (self.epoch + 1) as usize % EPOCHS;
        let behind = u64::MAX << (from % 64);
        // The word that the current epoch is in comes first with its later part, and last with the other.
        (0..=WORDS).find_map(|step| {
            let word = (from / 64 + step) % WORDS;
            let mask = match step {
                0 => behind,
                WORDS => !behind,
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })
    }

    /// The earliest entry.
    pub fn next(&self) -> Option<Instant> {
        let in_heap = self.heap.peek().map(|Reverse((at, _))| *at);
        let in_lists = self.first_list().map(|place| self.lists[place].earliest);
        [in_heap, in_lists].into_iter().flatten().min()
    }

    /// Takes an entry that is due, with its time: the connection may have an earlier one that counts.
    pub fn pop(&mut self, now: Instant) -> Option<Entry> {
        self.advance(epoch_of(now));
        if self.heap.peek().is_none_or(|Reverse((at, _))| *at > now) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Puts into the heap what is due up to the end of `epoch`.
    fn advance(&mut self, epoch: u64) {
        if epoch <= self.epoch {
            return;
        }
        while let Some(place) =
            self.first_list().filter(|place| epoch_of(self.lists[*place].earliest) <= epoch)
        {
            self.heap.extend(self.lists[place].entries.drain(..).map(Reverse));
            self.occupied[place / 64] &= !(1 << (place % 64));
        }
        self.epoch = epoch;
    }
}

fn epoch_of(at: Instant) -> u64 {
    at.as_nanos() >> EPOCH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;
    use slotmap::SlotMap;

    #[test]
    fn only_an_earlier_deadline_makes_an_entry() {
        let mut names = SlotMap::<ConnectionId, ()>::with_key();
        let connection = names.insert(());
        let mut timers = Timers::default();
        let at = Instant::from_millis;
        let mut entry = timers.schedule(connection, Some(at(10)), None);
        entry = timers.schedule(connection, Some(at(20)), entry);
        assert_eq!((entry, timers.heap.len()), (Some(at(10)), 1));
        entry = timers.schedule(connection, Some(at(5)), entry);
        assert_eq!((entry, timers.heap.len()), (Some(at(5)), 2));
        assert_eq!(timers.pop(at(4)), None);
        assert_eq!(timers.pop(at(5)), Some((at(5), connection)));
        assert_eq!(timers.next(), Some(at(10)));
    }

    #[test]
    fn thousands_come_in_the_order_of_a_heap() {
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let mut names = SlotMap::<ConnectionId, ()>::with_key();
            let (mut timers, mut plain) = (Timers::default(), BinaryHeap::new());
            let mut now = Instant::from_millis(prng.below(1 << 20));
            for _ in 0..20_000 {
                // From now to seconds ahead, most of them within a time-out.
                let reach = 1 << (10 + prng.below(23));
                let at = Instant::from_nanos(now.as_nanos() + prng.below(reach));
                let connection = names.insert(());
                timers.schedule(connection, Some(at), None);
                plain.push(Reverse((at, connection)));
                if prng.chance(0.3) {
                    let step = 1 << (10 + prng.below(13));
                    now = Instant::from_nanos(now.as_nanos() + prng.below(step));
                }
                assert_eq!(timers.next(), plain.peek().map(|Reverse((at, _))| *at));
                while plain.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                    assert_eq!(timers.pop(now), plain.pop().map(|Reverse(entry)| entry));
                }
                assert_eq!(timers.pop(now), None);
            }
            assert!(!timers.lists.is_empty(), "few were there at a time");
            // A silence that is longer than the lists reach.
            now = Instant::from_nanos(now.as_nanos() + (1 << 40));
            while let Some(Reverse(entry)) = plain.pop() {
                assert_eq!(timers.pop(now), Some(entry));
            }
            assert_eq!((timers.pop(now), timers.next()), (None, None));
        }
    }
}
