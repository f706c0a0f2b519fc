//! Sets of a connection's subflows, as bits: which of them carry a piece of data, and which shall.

use crate::mptcp::connection::SUBFLOWS_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The place of a living subflow in sets; another subflow gets it once this one is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubflowSlot(u8);

/// A set of living subflows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubflowSet(u32);

const _: () = assert!(SUBFLOWS_MAX <= u32::BITS as usize, "a bit for each");

impl SubflowSlot {
    /// The slot with this number, below [`SUBFLOWS_MAX`].
    pub const fn new(index: usize) -> Self {
        assert!(index < SUBFLOWS_MAX);
        Self(index as u8)
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl SubflowSet {
    /// No subflow.
    pub const NONE: SubflowSet = SubflowSet(0);

    /// Only this one.
    pub const fn of(slot: SubflowSlot) -> Self {
        Self(1 << slot.0)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether it has this one.
    pub const fn contains(self, slot: SubflowSlot) -> bool {
        self.0 & Self::of(slot).0 != 0
    }

    /// Adds one.
    pub fn insert(&mut self, slot: SubflowSlot) {
        self.0 |= Self::of(slot).0;
    }

    /// Takes one out.
    pub fn remove(&mut self, slot: SubflowSlot) {
        self.0 &= !Self::of(slot).0;
    }

    /// Those of both sets.
    pub const fn union(self, other: SubflowSet) -> SubflowSet {
        Self(self.0 | other.0)
    }

    /// Whether some subflow is in both.
    pub const fn intersects(self, other: SubflowSet) -> bool {
        self.0 & other.0 != 0
    }

    /// The slots, in order.
    pub fn iter(self) -> impl Iterator<Item = SubflowSlot> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let slot = (bits != 0).then(|| SubflowSlot(bits.trailing_zeros() as u8))?;
            bits &= bits - 1;
            Some(slot)
        })
    }

    /// The first slot that nobody has.
    pub fn first_free(self) -> Option<SubflowSlot> {
        let index = self.0.trailing_ones() as usize;
        (index < SUBFLOWS_MAX).then(|| SubflowSlot::new(index))
    }
}

impl FromIterator<SubflowSlot> for SubflowSet {
    fn from_iter<I: IntoIterator<Item = SubflowSlot>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SubflowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(SubflowSlot::index)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_was_put_in_and_not_taken_out() {
        let slots: Vec<SubflowSlot> = [31, 0, 5].map(SubflowSlot::new).to_vec();
        let mut set: SubflowSet = slots.iter().copied().collect();
        assert_eq!(set.iter().map(SubflowSlot::index).collect::<Vec<_>>(), [0, 5, 31]);
        set.remove(slots[2]);
        assert!(!set.contains(slots[2]) && set.contains(slots[0]) && set.len() == 2);
        assert!(set.intersects(SubflowSet::of(slots[0])) && !set.intersects(SubflowSet::of(slots[2])));
        assert_eq!(set.union(SubflowSet::of(slots[2])).len(), 3);
        assert_eq!(format!("{set:?}"), "{0, 31}");
    }

    #[test]
    fn slots_are_given_out_from_the_first_and_there_is_an_end() {
        let mut set = SubflowSet::NONE;
        for index in 0..SUBFLOWS_MAX {
            let slot = set.first_free().expect("a slot");
            assert_eq!(slot.index(), index);
            set.insert(slot);
        }
        assert_eq!(set.first_free(), None);
        set.remove(SubflowSlot::new(7));
        assert_eq!(set.first_free(), Some(SubflowSlot::new(7)));
    }
}
