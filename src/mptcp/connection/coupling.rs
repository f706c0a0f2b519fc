//! Coupled congestion control: what each subflow's window goes by follows from all of them, and is worked out anew about
//! once in the shortest round trip (RFC 6356 §4.1: alpha is "computed whenever there is a drop and once per RTT otherwise").
//! Here, where the subflows are, it costs some nanoseconds a round trip and is never older than one. Ten round trips would do
//! (bench/plans/staleness.toml); a thread of its own would have to come by that often where they are of 50 µs. What other connections
//! of a bundle do comes from control ([`crate::pm::Bundles`]).

use super::{Connection, ConnectionEvent};
use crate::base::Instant;
use crate::base::time::Duration;
use crate::cc::{CongestionAlgorithm, PathSnapshot, couple};
use crate::mptcp::CouplingScope;
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

    /// Has another algorithm hold the windows of all subflows, and of those to come.
    pub fn set_congestion(&mut self, algorithm: CongestionAlgorithm) {
        if self.options.congestion == algorithm {
            return;
        }
        self.options.congestion = algorithm;
        self.tcp.congestion = algorithm;
        self.subflows.iter_mut().for_each(|subflow| subflow.tcb.set_congestion(algorithm));
        self.couple_at = algorithm.is_coupled().then_some(Instant::ZERO);
    }

    fn couple(&mut self, now: Instant) {
        let CongestionAlgorithm::Coupled(algorithm) = self.options.congestion else { return };
        let (places, snapshots) = self.path_snapshots();
        let shortest = snapshots.iter().map(|snapshot| snapshot.rtt).min().unwrap_or_default();
        match self.options.coupling {
            CouplingScope::Connection => {
                for (place, coupling) in places.iter().zip(couple(algorithm, &snapshots)) {
                    self.subflows[*place].tcb.set_coupling(coupling);
                }
            }
            CouplingScope::Bundle => {
                let beside = self.beside.get_or_insert_default();
                // Theirs as they were told last, ours as they are.
                let others = beside.paths.len();
                beside.paths.extend_from_slice(&snapshots);
                for (place, coupling) in places.iter().zip(couple(algorithm, &beside.paths).skip(others)) {
                    self.subflows[*place].tcb.set_coupling(coupling);
                }
                beside.paths.truncate(others);
                if beside.is_due(now, shortest) {
                    self.events.push_back(ConnectionEvent::PathsDue);
                }
            }
        }
        self.couple_at = Some(now + shortest.max(self.options.coupling_period));
    }

    /// The subflows that can carry data, by their places, and what coupling wants to know of them.
    fn path_snapshots(&self) -> (ArrayVec<usize, SUBFLOWS_MAX>, ArrayVec<PathSnapshot, SUBFLOWS_MAX>) {
        let usable = self.subflows.iter().enumerate().filter(|(_, subflow)| subflow.is_usable());
        usable.filter_map(|(place, subflow)| Some((place, subflow.tcb.path_snapshot()?))).unzip()
    }

    /// Its paths, for the others of its bundle.
    pub fn paths_to_tell(&mut self, now: Instant) -> Vec<PathSnapshot> {
        let beside = self.beside.get_or_insert_default();
        (beside.told_at, beside.waits) = (Some(now), true);
        self.path_snapshots().1.to_vec()
    }

    /// The paths of the others of its bundle.
    pub fn set_beside(&mut self, paths: Vec<PathSnapshot>) {
        let beside = self.beside.get_or_insert_default();
        (beside.paths, beside.waits) = (paths, false);
    }
}

/// How often a connection tells its paths, at most: the others know them so late. Where a round trip is shorter the windows
/// change by more in that time; each still couples its own in time.
const TELL_PERIOD: Duration = Duration::from_millis(10);
/// Without an answer for so long it tells them again.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What a connection knows of the others of its bundle.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Their paths.
    paths: Vec<PathSnapshot>,
    /// When ours were told last.
    told_at: Option<Instant>,
    /// And not answered yet: control has enough to do.
    waits: bool,
}

impl Beside {
    fn is_due(&self, now: Instant, rtt: Duration) -> bool {
        let period = if self.waits { TELL_AGAIN } else { TELL_PERIOD.max(rtt) };
        self.told_at.is_none_or(|told_at| now.since(told_at) >= period)
    }
}
