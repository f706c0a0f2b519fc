//! Coupled congestion control: what each subflow's window goes by follows from all of them, and is worked out anew about
//! once in the shortest round trip (RFC 6356 §4.1: alpha is "computed whenever there is a drop and once per RTT otherwise").
//! Here, where the subflows are, it costs some nanoseconds a round trip and is never older than one.

use super::Connection;
use crate::base::Instant;
use crate::cc::{CongestionAlgorithm, PathSnapshot, couple};
use crate::mptcp::connection::SUBFLOWS_MAX;
use arrayvec::ArrayVec;

impl Connection {
    /// Couples the subflows that can carry data, if it is time to.
    #[inline]
    pub(super) fn couple_if_due(&mut self, now: Instant) {
        if self.couple_at.is_some_and(|at| at <= now) {
            self.couple(now);
        }
    }

    fn couple(&mut self, now: Instant) {
        let CongestionAlgorithm::Coupled(algorithm) = self.options.congestion else { return };
        let mut places = ArrayVec::<usize, SUBFLOWS_MAX>::new();
        let mut snapshots = ArrayVec::<PathSnapshot, SUBFLOWS_MAX>::new();
        for (place, subflow) in self.subflows.iter().enumerate() {
            if subflow.is_usable()
                && let Some(snapshot) = subflow.tcb.path_snapshot()
            {
                places.push(place);
                snapshots.push(snapshot);
            }
        }
        for (place, coupling) in places.iter().zip(couple(algorithm, &snapshots)) {
            self.subflows[*place].tcb.set_coupling(coupling);
        }
        let shortest = snapshots.iter().map(|snapshot| snapshot.rtt).min();
        self.couple_at = Some(now + shortest.unwrap_or_default());
    }
}
