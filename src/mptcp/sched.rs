//! Schedulers: which subflow carries the next piece of data. A scheduler sees figures, never segments.

use crate::base::time::Duration;
use crate::mptcp::SubflowId;

/// A subflow that could carry a segment now: it is established, not stale, and has room in its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: SubflowId,
    /// The round-trip time that a segment sent now can expect; `None` before the first sample.
    pub expected_rtt: Option<Duration>,
    /// The peer, or we, want it used only when nothing else is usable.
    pub backup: bool,
}

/// Chooses among subflows.
pub trait Scheduler {
    /// The subflow for the next segment. `primary_usable` says whether some subflow that is no backup is usable at
    /// all, with or without room at this moment: then no backup is taken (it waits for room).
    fn pick(&mut self, candidates: &[Candidate], primary_usable: bool) -> Option<SubflowId>;
}

/// Lowest round-trip time first, the default. Not by the smoothed round trip alone: it stays as it was when a path falls
/// idle, and a lone segment whose ACK was delayed makes it worse, so that a path once slow would never be tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LowestRtt;

impl Scheduler for LowestRtt {
    fn pick(&mut self, candidates: &[Candidate], primary_usable: bool) -> Option<SubflowId> {
        candidates
            .iter()
            // RFC 8684 §3.3.8: a backup carries data only if there is no other usable subflow.
            .filter(|candidate| !(candidate.backup && primary_usable))
            // A subflow without a sample is new: it gets its chance at once.
            .min_by_key(|candidate| {
                (candidate.backup, candidate.expected_rtt.unwrap_or_default(), candidate.id)
            })
            .map(|candidate| candidate.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u32, rtt_ms: u64, backup: bool) -> Candidate {
        Candidate { id: SubflowId(id), expected_rtt: Some(Duration::from_millis(rtt_ms)), backup }
    }

    #[test]
    fn the_lowest_rtt_wins_and_a_backup_only_alone() {
        let fast_backup = candidate(1, 1, true);
        let (slow, slower) = (candidate(2, 20, false), candidate(3, 30, false));
        assert_eq!(LowestRtt.pick(&[slower, slow, fast_backup], true), Some(SubflowId(2)));
        assert_eq!(LowestRtt.pick(&[fast_backup], true), None, "the primary path is only full");
        assert_eq!(LowestRtt.pick(&[fast_backup], false), Some(SubflowId(1)));
        assert_eq!(LowestRtt.pick(&[], true), None);
    }
}
