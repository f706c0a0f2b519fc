//! Each subflow in turn, as far as it has room.

use super::{Candidate, Scheduler, Work, one};
use crate::mptcp::SubflowId;
use crate::mptcp::subflow_set::SubflowSet;
use serde::{Deserialize, Serialize};

/// Remembers whose turn it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRobin {
    last: Option<SubflowId>,
}

impl Scheduler for RoundRobin {
    fn mark(&mut self, _work: &Work, candidates: &[Candidate]) -> SubflowSet {
        let with_room = candidates.iter().filter(|candidate| candidate.room > 0);
        // Those behind the last one first.
        let next = with_room
            .min_by_key(|candidate| (self.last.is_some_and(|last| candidate.id <= last), candidate.id));
        self.last = next.map(|candidate| candidate.id).or(self.last);
        one(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn everybody_in_turn_and_who_has_no_room_is_passed_over() {
        let mut scheduler = RoundRobin::default();
        let all = [candidate(0, 1), candidate(1, 100), candidate(2, 10)];
        let turns: Vec<usize> = (0..7).flat_map(|_| marked(&mut scheduler, &work(9_000), &all)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0]);
        let one_full = [candidate(0, 1), full(1, 100), candidate(2, 10)];
        let turns: Vec<usize> =
            (0..4).flat_map(|_| marked(&mut scheduler, &work(9_000), &one_full)).collect();
        assert_eq!(turns, [2, 0, 2, 0]);
    }
}
