//! One subflow at a time: the others stand by until it is no longer usable. RFC 8684 §3.3.8 calls it "all-or-nothing".

use super::{Candidate, Scheduler, Work, lowest_with_room, one};
use crate::mptcp::SubflowId;
use crate::mptcp::subflow_set::SubflowSet;

/// Remembers who carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupOnly {
    active: Option<SubflowId>,
}

impl Scheduler for BackupOnly {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        if work.reinjection {
            return one(lowest_with_room(candidates));
        }
        let active = candidates.iter().find(|candidate| Some(candidate.id) == self.active);
        let chosen = active.or_else(|| candidates.iter().min_by_key(|it| (it.expected_rtt, it.id)));
        self.active = chosen.map(|candidate| candidate.id).or(self.active);
        one(chosen.filter(|candidate| candidate.room > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn one_carries_until_it_is_gone() {
        let mut scheduler = BackupOnly::default();
        assert_eq!(marked(&mut scheduler, &work(5_000), &[candidate(0, 30), candidate(1, 20)]), [1]);
        assert_eq!(marked(&mut scheduler, &work(5_000), &[candidate(0, 1), candidate(1, 50)]), [1]);
        assert_eq!(
            marked(&mut scheduler, &work(5_000), &[candidate(0, 1), full(1, 50)]),
            [0usize; 0],
            "it is only full"
        );
        assert_eq!(marked(&mut scheduler, &work(5_000), &[candidate(0, 1)]), [0]);
        assert_eq!(
            marked(&mut scheduler, &work(5_000), &[candidate(0, 60), candidate(1, 50)]),
            [0],
            "and stays"
        );
    }
}
