//! ECF (Lim, Nahum, Towsley and Gibbens: "ECF: An MPTCP Path Scheduler to Manage Heterogeneous Paths", CoNEXT 2017): the
//! slow subflow is used only where the transfer would not be complete earlier by waiting for the fast one.

use super::{Candidate, Scheduler, Work, fastest, lowest_with_room, one};
use crate::base::time::Duration;
use crate::mptcp::subflow_set::SubflowSet;
use serde::{Deserialize, Serialize};

/// Who waits goes on waiting a little longer, so that it does not waver.
const BETA: f64 = 0.25;

/// Remembers whether it waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecf {
    waiting: bool,
}

impl Scheduler for Ecf {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        let (Some(fast), Some(slow)) = (fastest(candidates), lowest_with_room(candidates)) else {
            return SubflowSet::NONE;
        };
        if fast.room > 0 || work.reinjection {
            return one(if fast.room > 0 { Some(fast) } else { Some(slow) });
        }
        let nanos = |duration: Duration| duration.as_nanos() as f64;
        let rounds = |candidate: &Candidate| (work.unsent as f64 / candidate.cwnd.max(1) as f64).max(1.0);
        let delta = nanos(fast.rttvar.max(slow.rttvar));
        let patience = if self.waiting { 1.0 + BETA } else { 1.0 };
        let by_fast = nanos(fast.srtt) * (1.0 + rounds(fast));
        let waits = by_fast < patience * (nanos(slow.srtt) + delta)
            && nanos(slow.srtt) * rounds(slow) >= 2.0 * nanos(fast.srtt) + delta;
        self.waiting = waits;
        one((!waits).then_some(slow))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn it_waits_where_the_fast_one_is_done_earlier() {
        let (fast, slow) = (full(0, 10), candidate(1, 100));
        // The fast one's window holds 10,000 bytes: 80,000 take it nine round trips, and 100,000 eleven.
        let marks = |unsent| marked(&mut Ecf::default(), &work(unsent), &[fast, slow]);
        assert_eq!(marks(80_000), [0usize; 0]);
        assert_eq!(marks(100_000), [1]);
        assert_eq!(marks(500), [0usize; 0], "a window's worth at least counts");
        assert_eq!(marked(&mut Ecf::default(), &work(80_000), &[candidate(0, 10), slow]), [0]);
    }

    #[test]
    fn who_waits_goes_on_a_little() {
        let (fast, slow) = (full(0, 10), candidate(1, 100));
        let mut scheduler = Ecf::default();
        assert_eq!(marked(&mut scheduler, &work(80_000), &[fast, slow]), [0usize; 0]);
        assert_eq!(
            marked(&mut scheduler, &work(110_000), &[fast, slow]),
            [0usize; 0],
            "12 round trips are below 12.5"
        );
        assert_eq!(marked(&mut scheduler, &work(120_000), &[fast, slow]), [1]);
        assert_eq!(marked(&mut scheduler, &work(110_000), &[fast, slow]), [1]);
    }

    #[test]
    fn paths_that_are_alike_are_both_used() {
        let mut scheduler = Ecf::default();
        assert_eq!(marked(&mut scheduler, &work(1_000_000), &[full(0, 10), candidate(1, 11)]), [1]);
    }
}
