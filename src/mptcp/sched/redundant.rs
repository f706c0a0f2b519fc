//! A copy of everything on every subflow: whichever comes first counts. What is acknowledged before a subflow has come to
//! it is left out, so that a slow one keeps up.

use super::{Candidate, Scheduler, Work, lowest_with_room, one};
use crate::mptcp::subflow_set::SubflowSet;
use serde::{Deserialize, Serialize};

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundant;

impl Scheduler for Redundant {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        if work.reinjection {
            // What is sent again was lost elsewhere, and one more copy does.
            return one(lowest_with_room(candidates));
        }
        candidates.iter().filter(|candidate| candidate.room > 0).map(|candidate| candidate.slot).collect()
    }

    fn wants_copies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn all_with_room_and_one_for_what_is_sent_again() {
        let candidates = [candidate(0, 30), full(1, 1), candidate(2, 10)];
        assert_eq!(marked(&mut Redundant, &work(5_000), &candidates), [0, 2]);
        let again = Work { reinjection: true, ..work(5_000) };
        assert_eq!(marked(&mut Redundant, &again, &candidates), [2]);
    }
}
