//! Sequence numbers: [`SeqNum`], TCP's 32 bits that wrap (RFC 9293 §3.4), and [`DataSeq`], MPTCP's 64 bits
//! (RFC 8684 §3.3). Both compare by signed distance, so that a wrap is nothing special.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number. Ordered by signed distance: meaningful for numbers within 2^31 of each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SeqNum(u32);

/// An MPTCP data sequence number, always 64 bits here; [`DataSeq::expand`] makes one from 32 bits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct DataSeq(u64);

impl SeqNum {
    /// From the wire's value.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The wire's value.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// How far `self` lies after `other` (negative: before).
    pub const fn distance(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// RFC 9293 §3.4: `self < other` in sequence space.
    pub const fn before(self, other: SeqNum) -> bool {
        self.distance(other) < 0
    }

    /// `self =< other` in sequence space.
    pub const fn at_or_before(self, other: SeqNum) -> bool {
        self.distance(other) <= 0
    }

    /// `self > other` in sequence space.
    pub const fn after(self, other: SeqNum) -> bool {
        self.distance(other) > 0
    }

    /// `self >= other` in sequence space.
    pub const fn at_or_after(self, other: SeqNum) -> bool {
        self.distance(other) >= 0
    }

    /// The later of the two.
    pub const fn max(self, other: SeqNum) -> SeqNum {
        if self.after(other) { self } else { other }
    }

    /// The earlier of the two.
    pub const fn min(self, other: SeqNum) -> SeqNum {
        if self.before(other) { self } else { other }
    }
}

impl DataSeq {
    /// From the full value.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The full value.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The low 32 bits, as the short forms of the DSS option carry them.
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The number whose low 32 bits are `low` and that lies nearest to `self`.
    /// RFC 8684 §3.3.1: the receiver expands a 32-bit number against its own 64-bit state.
    pub const fn expand(self, low: u32) -> DataSeq {
        let offset = low.wrapping_sub(self.0 as u32) as i32;
        DataSeq(self.0.wrapping_add(offset as i64 as u64))
    }

    /// How far `self` lies after `other` (negative: before).
    pub const fn distance(self, other: DataSeq) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// `self < other`.
    pub const fn before(self, other: DataSeq) -> bool {
        self.distance(other) < 0
    }

    /// `self =< other`.
    pub const fn at_or_before(self, other: DataSeq) -> bool {
        self.distance(other) <= 0
    }

    /// `self > other`.
    pub const fn after(self, other: DataSeq) -> bool {
        self.distance(other) > 0
    }

    /// `self >= other`.
    pub const fn at_or_after(self, other: DataSeq) -> bool {
        self.distance(other) >= 0
    }

    /// The later of the two.
    pub const fn max(self, other: DataSeq) -> DataSeq {
        if self.after(other) { self } else { other }
    }

    /// The earlier of the two.
    pub const fn min(self, other: DataSeq) -> DataSeq {
        if self.before(other) { self } else { other }
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;
    fn add(self, by: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(by))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, by: u32) {
        *self = *self + by;
    }
}

impl Sub<u32> for SeqNum {
    type Output = SeqNum;
    fn sub(self, by: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(by))
    }
}

impl Add<u64> for DataSeq {
    type Output = DataSeq;
    fn add(self, by: u64) -> DataSeq {
        DataSeq(self.0.wrapping_add(by))
    }
}

impl AddAssign<u64> for DataSeq {
    fn add_assign(&mut self, by: u64) {
        *self = *self + by;
    }
}

impl Sub<u64> for DataSeq {
    type Output = DataSeq;
    fn sub(self, by: u64) -> DataSeq {
        DataSeq(self.0.wrapping_sub(by))
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for DataSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "D{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrap_is_nothing_special() {
        let last = SeqNum::new(u32::MAX);
        assert!(last.before(last + 1) && (last + 1).after(last));
        assert_eq!((last + 1).raw(), 0);
        assert_eq!((last + 5).distance(last), 5);
        assert_eq!(last.max(last + 1), last + 1);
        assert_eq!(last.min(last + 1), last);
    }

    #[test]
    fn expands_to_the_nearest_in_both_directions() {
        let near = DataSeq::new(0x1_0000_0010);
        assert_eq!(near.expand(0x20).raw(), 0x1_0000_0020);
        assert_eq!(near.expand(0xffff_fff0).raw(), 0xffff_fff0);
        let high = DataSeq::new(0x1_ffff_fff0);
        assert_eq!(high.expand(0x10).raw(), 0x2_0000_0010);
    }
}
