//! Lowest round-trip time first, the default.

use super::{Candidate, Scheduler, Work, lowest_with_room, one};
use crate::mptcp::subflow_set::SubflowSet;
use serde::{Deserialize, Serialize};

/// Not by the smoothed round trip alone: it stays as it was when a path falls idle, and a lone segment whose ACK was
/// delayed makes it worse, so that a path once slow would never be tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowestRtt;

impl Scheduler for LowestRtt {
    fn mark(&mut self, _work: &Work, candidates: &[Candidate]) -> SubflowSet {
        one(lowest_with_room(candidates))
    }

    fn runs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn the_lowest_rtt_with_room_wins_and_the_older_of_two() {
        let marks = |candidates: &[Candidate]| marked(&mut LowestRtt, &work(5_000), candidates);
        assert_eq!(marks(&[candidate(0, 30), candidate(1, 20), candidate(2, 40)]), [1]);
        assert_eq!(marks(&[candidate(0, 30), full(1, 20), candidate(2, 40)]), [0]);
        assert_eq!(marks(&[candidate(2, 20), candidate(1, 20)]), [1]);
        assert_eq!(marks(&[full(0, 30)]), [0usize; 0]);
        assert_eq!(marks(&[candidate(0, 30), candidate(1, 0)]), [1], "a new one is tried at once");
    }
}
