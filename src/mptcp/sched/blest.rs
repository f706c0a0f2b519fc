//! BLEST (Ferlin, Alay, Mehani and Boreli: "BLEST: Blocking Estimation-based MPTCP Scheduler for Heterogeneous Networks",
//! IFIP Networking 2016): a slow subflow is left out where what it takes of the peer's window would be missing to the fast
//! one before it is acknowledged.

use super::{Candidate, Scheduler, Work, fastest, lowest_with_room, one};
use crate::base::Instant;
use crate::base::time::Duration;
use crate::mptcp::subflow_set::{SubflowSet, SubflowSlot};
use serde::{Deserialize, Serialize};

const LAMBDA_START: f64 = 1.2;
const LAMBDA_MIN: f64 = 1.0;
const LAMBDA_MAX: f64 = 1.3;
const STEP_UP: f64 = 0.04;
const STEP_DOWN: f64 = 0.01;

/// Remembers how far its estimate was off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Blest {
    /// What the estimate is multiplied with.
    lambda: f64,
    /// The slow subflow blocked the window in this round trip of it.
    blocked: bool,
    /// When lambda is looked at again.
    next: Instant,
}

impl Default for Blest {
    fn default() -> Self {
        Self { lambda: LAMBDA_START, blocked: false, next: Instant::ZERO }
    }
}

impl Blest {
    /// Once a round trip of the slow subflow.
    fn adapt(&mut self, now: Instant, slow: Duration) {
        if now < self.next {
            return;
        }
        let step = if self.blocked { STEP_UP } else { -STEP_DOWN };
        self.lambda = (self.lambda + step).clamp(LAMBDA_MIN, LAMBDA_MAX);
        self.blocked = false;
        self.next = now + slow;
    }
}

impl Scheduler for Blest {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        let (Some(fast), Some(slow)) = (fastest(candidates), lowest_with_room(candidates)) else {
            return SubflowSet::NONE;
        };
        if fast.room > 0 || work.reinjection {
            return one(if fast.room > 0 { Some(fast) } else { Some(slow) });
        }
        self.adapt(work.now, slow.srtt);
        // What the fast one could send during a round trip of the slow one, its window growing by a segment each time.
        let nanos = |duration: Duration| duration.as_nanos().max(1) as f64;
        let rounds = nanos(slow.srtt) / nanos(fast.srtt) + 1.0;
        let segments = fast.cwnd as f64 / fast.segment.max(1) as f64;
        let fast_bytes = fast.segment as f64 * (segments + (rounds - 1.0) / 2.0) * rounds;
        let left = work.window as f64 - (slow.in_flight as f64 + work.len as f64);
        one((fast_bytes * self.lambda <= left).then_some(slow))
    }

    fn on_blocked(&mut self, _now: Instant, _slot: SubflowSlot) {
        self.blocked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tools::*;
    use super::*;

    #[test]
    fn the_slow_one_is_left_out_where_it_would_block() {
        let (fast, slow) = (full(0, 10), candidate(1, 100));
        // Eleven rounds of 10 segments and five more: 165,000 bytes, by 1.19 after the first look.
        let with = |window| {
            let work = Work { window, ..work(9_000) };
            marked(&mut Blest::default(), &work, &[fast, slow])
        };
        assert_eq!(with(197_000), [0usize; 0]);
        assert_eq!(with(198_000), [1]);
        let busy = Candidate { in_flight: 5_000, ..slow };
        let work = Work { window: 198_000, ..work(9_000) };
        assert_eq!(marked(&mut Blest::default(), &work, &[fast, busy]), [0usize; 0]);
        assert_eq!(
            marked(&mut Blest::default(), &work, &[candidate(0, 10), busy]),
            [0],
            "the fast one has room"
        );
    }

    #[test]
    fn lambda_follows_what_really_blocked_once_a_round_trip() {
        let mut scheduler = Blest::default();
        let (fast, slow) = (full(0, 10), candidate(1, 100));
        let mut lambdas = Vec::new();
        for round in 0..10 {
            if round < 4 {
                scheduler.on_blocked(Instant::ZERO, slow.slot);
            }
            for millis in [0, 50, 99] {
                let now = Instant::from_millis(100 * round + millis);
                scheduler.mark(&Work { now, ..work(9_000) }, &[fast, slow]);
            }
            lambdas.push((scheduler.lambda * 100.0).round());
        }
        assert_eq!(lambdas, [124.0, 128.0, 130.0, 130.0, 129.0, 128.0, 127.0, 126.0, 125.0, 124.0]);
    }
}
