//! Which parts of what we sent the peer holds beyond the cumulative acknowledgment (RFC 2018). It knows ranges and
//! nothing else: the send queue keeps them on segment boundaries.

use crate::base::SeqNum;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A run of segments that the peer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    start: SeqNum,
    end: SeqNum,
}

/// Disjoint, ordered ranges that do not touch. As they lie on segment boundaries there are at most half as many as
/// segments in flight.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Scoreboard {
    ranges: VecDeque<Range>,
}

impl Scoreboard {
    /// The first part of `from..to` that is in no range.
    pub(super) fn uncovered(&self, from: SeqNum, to: SeqNum) -> Option<(SeqNum, SeqNum)> {
        // The first range that ends behind `from`; all before it do not matter.
        let index = self.ranges.partition_point(|range| range.end.at_or_before(from));
        let Some(range) = self.ranges.get(index) else { return from.before(to).then_some((from, to)) };
        if range.start.after(from) {
            return from.before(to).then_some((from, range.start.min(to)));
        }
        let start = range.end;
        let next = self.ranges.get(index + 1).map_or(to, |next| next.start.min(to));
        start.before(to).then_some((start, next))
    }

    /// The end of the range that holds `seq`, if one does.
    pub(super) fn end_of_range_at(&self, seq: SeqNum) -> Option<SeqNum> {
        let index = self.ranges.partition_point(|range| range.end.at_or_before(seq));
        self.ranges.get(index).filter(|range| range.start.at_or_before(seq)).map(|range| range.end)
    }

    /// Adds `start..end`.
    pub(super) fn add(&mut self, start: SeqNum, end: SeqNum) {
        let first = self.ranges.partition_point(|range| range.end.before(start));
        let behind =
            first + self.ranges.range(first..).take_while(|range| range.start.at_or_before(end)).count();
        let mut merged = Range { start, end };
        for range in self.ranges.range(first..behind) {
            merged.start = merged.start.min(range.start);
            merged.end = merged.end.max(range.end);
        }
        if behind == first {
            self.ranges.insert(first, merged);
        } else {
            self.ranges[first] = merged;
            self.ranges.drain(first + 1..behind);
        }
    }

    /// The cumulative acknowledgment has reached `una`.
    pub(super) fn forget_below(&mut self, una: SeqNum) {
        while let Some(front) = self.ranges.front_mut() {
            if front.end.after(una) {
                front.start = front.start.max(una);
                return;
            }
            self.ranges.pop_front();
        }
    }

    /// Where the first range begins.
    #[cfg(test)]
    pub(super) fn start(&self) -> Option<SeqNum> {
        self.ranges.front().map(|range| range.start)
    }

    /// Forgets all: the peer has dropped what it had told us of.
    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    fn at(raw: u32) -> SeqNum {
        // Across the wrap, so that every test crosses it.
        SeqNum::new(raw.wrapping_sub(50))
    }

    #[test]
    fn agrees_with_a_set_of_numbers() {
        for seed in 0..50 {
            let mut prng = Prng::new(seed);
            let mut board = Scoreboard::default();
            let mut held = [false; 100];
            let mut una = 0;
            for _ in 0..60 {
                let start = una + prng.below(100 - u64::from(una)) as u32;
                let end = (start + 1 + prng.below(12) as u32).min(100);
                let fresh = (start..end).filter(|n| !held[*n as usize]).count() as u32;
                let mut told = 0;
                let mut from = at(start);
                while let Some((gap, gap_end)) = board.uncovered(from, at(end)) {
                    assert!(gap.before(gap_end));
                    told += gap_end.distance(gap) as u32;
                    from = gap_end;
                }
                assert_eq!(told, fresh);
                board.add(at(start), at(end));
                held[start as usize..end as usize].fill(true);
                if prng.chance(0.1) {
                    while una < 100 && (prng.chance(0.6) || held[una as usize]) {
                        held[una as usize] = false;
                        una += 1;
                    }
                    board.forget_below(at(una));
                }
                if una == 100 {
                    break;
                }
                for number in una..100 {
                    let expected = held[number as usize]
                        .then(|| at((number..100).find(|n| !held[*n as usize]).unwrap_or(100)));
                    assert_eq!(board.end_of_range_at(at(number)), expected, "seed {seed}");
                }
            }
        }
    }
}
