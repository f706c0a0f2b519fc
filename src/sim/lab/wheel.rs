//! What happens when, for simulations of millions of events a second. Events of the same time come in the order in which
//! they were scheduled.
//!
//! Time is cut into epochs of some microseconds. What happens in a later epoch goes to the end of that epoch's list; when
//! its time has come, the list is put in order as a whole. What happens still in the current epoch goes into a small
//! heap. So events lie one behind the other where they are written and where they are read. In a large simulation the
//! hosts' memory turns the caches over many times between the two, and events that lay apart would each be waited for.

use crate::base::Instant;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// An epoch is 2^14 ns long: somewhat more than a short packet takes on a line of 100 Mbit/s, and much less than a long
/// one. In a large fabric some hundred events fall into one.
const EPOCH_BITS: u32 = 14;
/// The part of a time that lies within its epoch.
const WITHIN: u64 = (1 << EPOCH_BITS) - 1;
/// The wheel reaches 16.8 ms ahead: a full queue of 100 packets at 100 Mbit/s takes 12 ms to drain. What is later waits in
/// a heap.
const EPOCHS: usize = 1 << 10;
const WORDS: usize = EPOCHS / 64;
/// Events that lie together.
const BLOCK: usize = 24;
/// No block: the end of a list.
const NONE: u32 = u32::MAX;
/// For up to so many events it is quicker to look for the place of each than to sort by digits.
const FEW: usize = 24;
/// Bits of a digit; two digits make a time within an epoch.
const DIGIT_BITS: u32 = EPOCH_BITS / 2;
const DIGITS: usize = 1 << DIGIT_BITS;

#[derive(Debug, Clone, Copy)]
struct Entry<E> {
    event: E,
    /// When in its epoch.
    within: u32,
}

/// The list of an epoch: a chain of blocks, all full but the last.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl List {
    const EMPTY: List = List { first: NONE, last: NONE, len: 0 };
}

/// An event of the current epoch that was scheduled in it.
#[derive(Debug, Clone, Copy)]
struct Soon<E> {
    /// When in the epoch in the high half, order of scheduling in the low half.
    key: u64,
    event: E,
}

impl<E> PartialEq for Soon<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Soon<E> {}

impl<E> PartialOrd for Soon<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Soon<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first; the earliest is to come first.
        other.key.cmp(&self.key)
    }
}

/// Events of type `E` in the order in which they happen.
#[derive(Debug)]
pub struct Wheel<E> {
    /// The epoch whose events are being given, counted from time zero.
    current: u64,
    /// The current epoch's list in order, and how many of it have been given.
    due: Vec<Entry<E>>,
    given_of_due: usize,
    soon: BinaryHeap<Soon<E>>,
    soon_sequence: u32,
    lists: Box<[List]>,
    /// Which epochs have a list.
    occupied: [u64; WORDS],
    /// The blocks of all lists, and for each the one that follows it in its list, or in the list of free ones.
    entries: Vec<Entry<E>>,
    next: Vec<u32>,
    free: u32,
    /// What the wheel does not reach: time, order of scheduling.
    far: BinaryHeap<Reverse<(u64, u64, usize)>>,
    far_events: Vec<E>,
    far_free: Vec<usize>,
    far_sequence: u64,
    /// For sorting.
    scratch: Vec<Entry<E>>,
    len: usize,
    given: u64,
    now: u64,
}

impl<E: Copy> Default for Wheel<E> {
    fn default() -> Self {
        Self {
            current: 0,
            due: Vec::new(),
            given_of_due: 0,
            soon: BinaryHeap::new(),
            soon_sequence: 0,
            lists: vec![List::EMPTY; EPOCHS].into_boxed_slice(),
            occupied: [0; WORDS],
            entries: Vec::new(),
            next: Vec::new(),
            free: NONE,
            far: BinaryHeap::new(),
            far_events: Vec::new(),
            far_free: Vec::new(),
            far_sequence: 0,
            scratch: Vec::new(),
            len: 0,
            given: 0,
            now: 0,
        }
    }
}

impl<E: Copy> Wheel<E> {
    /// Schedules `event`, at a time that is not before that of the last event given.
    #[inline]
    pub fn push(&mut self, at: Instant, event: E) {
        let at = at.as_nanos();
        self.len += 1;
        let (epoch, within) = (at >> EPOCH_BITS, (at & WITHIN) as u32);
        let ahead = epoch.wrapping_sub(self.current);
        if ahead.wrapping_sub(1) < EPOCHS as u64 - 1 {
            self.append(epoch, Entry { event, within });
        } else if ahead == 0 {
            let key = u64::from(within) << 32 | u64::from(self.soon_sequence);
            self.soon_sequence += 1;
            self.soon.push(Soon { key, event });
        } else {
            self.push_far(at, event);
        }
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        self.pop_before(Instant::from_nanos(u64::MAX))
    }

    /// The next event and its time, if that is before `end`.
    #[inline(always)]
    pub fn pop_before(&mut self, end: Instant) -> Option<(Instant, E)> {
        if self.given_of_due == self.due.len() && self.soon.is_empty() {
            self.advance(end.as_nanos() >> EPOCH_BITS);
        }
        let due = self.due.get(self.given_of_due);
        let soon = self.soon.peek().map_or(u64::MAX, |soon| soon.key >> 32);
        // What was scheduled before the epoch began comes first.
        let (within, is_due) = match due {
            Some(due) if u64::from(due.within) <= soon => (u64::from(due.within), true),
            Some(_) | None => (soon, false),
        };
        if within == u64::MAX {
            return None;
        }
        let at = Instant::from_nanos(self.current << EPOCH_BITS | within);
        if at >= end {
            return None;
        }
        let event = if is_due {
            self.given_of_due += 1;
            self.due[self.given_of_due - 1].event
        } else {
            self.soon.pop()?.event
        };
        self.len -= 1;
        self.given += 1;
        self.now = at.as_nanos();
        Some((at, event))
    }

    /// The earliest time for which something can still be scheduled: that of the last event given, or later.
    pub fn earliest(&self) -> Instant {
        Instant::from_nanos(self.now.max(self.current << EPOCH_BITS))
    }

    /// The event that is `places` behind the next one of those that were scheduled before the current epoch began, if there
    /// is one in it: for a look ahead.
    #[inline]
    pub fn look_ahead(&self, places: usize) -> Option<&E> {
        self.due.get(self.given_of_due + places).map(|entry| &entry.event)
    }

    /// All events that are to come, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Instant, E)> + '_ {
        std::iter::from_fn(|| self.pop())
    }

    /// How many events are to come.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many events were given.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Puts an entry at the end of an epoch's list.
    #[inline]
    fn append(&mut self, epoch: u64, entry: Entry<E>) {
        let place = epoch as usize % EPOCHS;
        let within_block = self.lists[place].len as usize % BLOCK;
        if within_block == 0 {
            self.extend(place, entry);
        }
        let list = &mut self.lists[place];
        list.len += 1;
        self.entries[list.last as usize * BLOCK + within_block] = entry;
    }

    /// One more block for a list.
    fn extend(&mut self, place: usize, filler: Entry<E>) {
        let mut block = self.free;
        if block == NONE {
            block = self.next.len() as u32;
            self.next.push(NONE);
            self.entries.resize(self.next.len() * BLOCK, filler);
        } else {
            self.free = std::mem::replace(&mut self.next[block as usize], NONE);
        }
        let list = &mut self.lists[place];
        match list.last {
            NONE => {
                list.first = block;
                self.occupied[place / 64] |= 1 << (place % 64);
            }
            last => self.next[last as usize] = block,
        }
        list.last = block;
    }

    #[cold]
    fn push_far(&mut self, at: u64, event: E) {
        debug_assert!(at >> EPOCH_BITS > self.current, "time does not run backwards");
        let place = self.far_free.pop().unwrap_or(self.far_events.len());
        match self.far_events.get_mut(place) {
            Some(free) => *free = event,
            None => self.far_events.push(event),
        }
        self.far.push(Reverse((at, self.far_sequence, place)));
        self.far_sequence += 1;
    }

    /// Goes on to the next epoch that has events, if that is `last` or before, and puts them in order.
    #[inline(never)]
    fn advance(&mut self, last: u64) {
        let near = self.next_occupied();
        let far = self.far.peek().map(|Reverse((at, ..))| at >> EPOCH_BITS);
        let next = match (near, far) {
            (Some(near), Some(far)) => near.min(far),
            (Some(next), None) | (None, Some(next)) => next,
            (None, None) => return,
        };
        if next > last {
            return;
        }
        self.current = next;
        self.soon_sequence = 0;
        // The far ones come into reach before anything else is scheduled at their time: they stay in front of it.
        while let Some(Reverse((at, ..))) = self.far.peek()
            && (at >> EPOCH_BITS) - self.current < EPOCHS as u64
            && let Some(Reverse((at, _, place))) = self.far.pop()
        {
            self.far_free.push(place);
            let (event, within) = (self.far_events[place], (at & WITHIN) as u32);
            self.append(at >> EPOCH_BITS, Entry { event, within });
        }
        self.collect();
        self.sort();
    }

    /// Takes the current epoch's list.
    fn collect(&mut self) {
        let place = self.current as usize % EPOCHS;
        self.occupied[place / 64] &= !(1 << (place % 64));
        let list = std::mem::replace(&mut self.lists[place], List::EMPTY);
        (self.given_of_due, self.due) = (0, std::mem::take(&mut self.due));
        self.due.clear();
        let (mut block, mut left) = (list.first, list.len as usize);
        while left > 0 {
            let start = block as usize * BLOCK;
            let count = left.min(BLOCK);
            self.due.extend_from_slice(&self.entries[start..start + count]);
            left -= count;
            let after = std::mem::replace(&mut self.next[block as usize], self.free);
            self.free = block;
            block = after;
        }
    }

    /// Puts the current epoch's events in order, those of the same time as they are.
    fn sort(&mut self) {
        if self.due.len() > FEW {
            self.sort_by_digit(0);
            self.sort_by_digit(DIGIT_BITS);
            return;
        }
        for end in 1..self.due.len() {
            let entry = self.due[end];
            let mut place = end;
            while place > 0 && self.due[place - 1].within > entry.within {
                self.due[place] = self.due[place - 1];
                place -= 1;
            }
            self.due[place] = entry;
        }
    }

    fn sort_by_digit(&mut self, shift: u32) {
        let digit = |entry: &Entry<E>| (entry.within >> shift) as usize % DIGITS;
        let mut places = [0u32; DIGITS];
        for entry in &self.due {
            places[digit(entry)] += 1;
        }
        let mut sum = 0;
        for place in &mut places {
            sum += std::mem::replace(place, sum);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.due);
        for entry in &self.scratch {
            let place = &mut places[digit(entry)];
            self.due[*place as usize] = *entry;
            *place += 1;
        }
    }

    /// The first epoch after the current one that has a list.
    #[inline]
    fn next_occupied(&self) -> Option<u64> {
        let start = (self.current + 1) as usize % EPOCHS;
        let mut index = start / 64;
        let mut word = self.occupied[index] & (!0 << (start % 64));
        for _ in 0..=WORDS {
            if word != 0 {
                let place = index * 64 + word.trailing_zeros() as usize;
                return Some(self.current + 1 + ((place + EPOCHS - start) % EPOCHS) as u64);
            }
            index = (index + 1) % WORDS;
            word = self.occupied[index];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_scheduled() {
        // Against the plain definition, with times that tie, and delays from nothing to beyond the wheel's reach.
        for seed in 0..50 {
            let mut prng = Prng::new(seed);
            let mut wheel = Wheel::default();
            let mut model: Vec<(u64, u32)> = Vec::new();
            let (mut now, mut name) = (0, 0);
            let reach = [1, 1_000, 100_000, 20_000_000, 3_000_000_000][seed as usize % 5];
            for _ in 0..2_000 {
                for _ in 0..prng.below(4) {
                    let at = now + prng.below(reach) / 16 * 16;
                    wheel.push(Instant::from_nanos(at), name);
                    model.push((at, name));
                    name += 1;
                }
                let next = model.iter().copied().min();
                let end = now + prng.below(reach);
                let next = next.filter(|(at, _)| *at < end);
                let given = wheel.pop_before(Instant::from_nanos(end));
                assert_eq!(given.map(|(at, name)| (at.as_nanos(), name)), next, "seed {seed} at {now}");
                // The time to which it was asked has come, whether or not there was something.
                now = next.map_or(end.max(now), |(at, _)| at);
                model.retain(|other| Some(*other) != next);
                assert_eq!(wheel.len(), model.len());
            }
            while let Some((at, name)) = wheel.pop() {
                assert_eq!(model.iter().copied().min(), Some((at.as_nanos(), name)));
                model.retain(|other| other.1 != name);
            }
            assert!(wheel.is_empty() && model.is_empty());
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut wheel = Wheel::default();
        let mut now = 0;
        let delays = [700, 9_000, 120_000, 100_000_000];
        for delay in delays.iter().cycle().take(400) {
            wheel.push(Instant::from_nanos(*delay), *delay);
        }
        for _ in 0..100_000 {
            let (at, delay) = wheel.pop().expect("as many as before are to come");
            now = at.as_nanos();
            wheel.push(Instant::from_nanos(now + delay), delay);
        }
        assert_eq!((wheel.len(), wheel.given()), (400, 100_000));
        assert!(now > 100_000, "{now}");
        assert!(wheel.next.len() < 200 && wheel.far_events.len() <= 100, "{}", wheel.next.len());
    }
}
