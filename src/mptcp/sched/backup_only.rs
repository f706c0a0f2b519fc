//! One subflow at a time: the oldest that is usable. The others stand by. RFC 8684 §3.3.8 calls it "all-or-nothing".

use super::{Candidate, Scheduler, Work, lowest_with_room, one};
use crate::mptcp::subflow_set::SubflowSet;
use serde::{Deserialize, Serialize};

/// Remembers nothing: who fails gives way, and has its place again once it is usable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOnly;

impl Scheduler for BackupOnly {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        if work.reinjection {
            return one(lowest_with_room(candidates));
        }
        let oldest = candidates.iter().min_by_key(|candidate| candidate.id);
        one(oldest.filter(|candidate| candidate.room > 0))
    }

    fn takes_over(&self) -> bool {
        // The others stand by, however slow it is.
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn one_carries_until_it_is_gone() {
        let marks = |candidates: &[Candidate]| marked(&mut BackupOnly, &work(5_000), candidates);
        assert_eq!(marks(&[candidate(0, 30), candidate(1, 20)]), [0]);
        assert_eq!(marks(&[full(0, 30), candidate(1, 20)]), [0usize; 0], "it is only full");
        assert_eq!(marks(&[candidate(1, 20)]), [1]);
        let again = Work { reinjection: true, ..work(5_000) };
        assert_eq!(marked(&mut BackupOnly, &again, &[candidate(0, 30), candidate(1, 20)]), [1]);
    }
}
