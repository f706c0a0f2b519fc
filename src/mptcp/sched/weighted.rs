//! Each subflow in proportion to what it can carry: its window over its round trip. By virtual time: a subflow that is
//! given `n` bytes is served for `n` over its weight, and who was served least is next.

use super::{Candidate, Scheduler, Work, lowest_with_room, one};
use crate::mptcp::connection::SUBFLOWS_MAX;
use crate::mptcp::subflow_set::SubflowSet;
use serde::{Deserialize, Serialize};

/// How long each subflow was served, in virtual time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Weighted {
    served: [f64; SUBFLOWS_MAX],
    /// How long whoever was served last had been.
    now: f64,
}

/// Bytes a nanosecond, roughly; never 0.
fn weight(candidate: &Candidate) -> f64 {
    let round_trip = candidate.srtt.as_nanos().max(1) as f64;
    candidate.cwnd.max(1) as f64 / round_trip
}

impl Scheduler for Weighted {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        if work.reinjection {
            return one(lowest_with_room(candidates));
        }
        let with_room = candidates.iter().filter(|candidate| candidate.room > 0);
        // Who had nothing to do, or no room, has no claim to what it missed.
        let start = |candidate: &Candidate| self.served[candidate.slot.index()].max(self.now);
        let next = with_room.min_by(|a, b| start(a).total_cmp(&start(b)).then(a.id.cmp(&b.id)));
        if let Some(candidate) = next {
            let begins = start(candidate);
            self.now = begins;
            self.served[candidate.slot.index()] = begins + work.len as f64 / weight(candidate);
        }
        one(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    fn shares(scheduler: &mut Weighted, candidates: &[Candidate], rounds: usize) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for _ in 0..rounds {
            marked(scheduler, &work(9_000), candidates).into_iter().for_each(|slot| counts[slot] += 1);
        }
        counts
    }

    #[test]
    fn shares_are_as_windows_over_round_trips() {
        let slow = candidate(1, 40);
        let wide = Candidate { cwnd: 20_000, ..candidate(2, 10) };
        assert_eq!(shares(&mut Weighted::default(), &[candidate(0, 10), slow, wide], 1_300), [400, 100, 800]);
    }

    #[test]
    fn who_had_no_room_does_not_make_up_for_it() {
        let mut scheduler = Weighted::default();
        shares(&mut scheduler, &[candidate(0, 10), full(1, 10)], 1_000);
        let after = shares(&mut scheduler, &[candidate(0, 10), candidate(1, 10)], 100);
        assert!(after[0] >= 49, "{after:?}");
    }
}
