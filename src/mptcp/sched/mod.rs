//! Schedulers: which subflows carry the next piece of data. A scheduler sees figures, never segments, and marks a set of
//! subflows: none to wait, several to send copies. One trait; which one runs is chosen for each connection, and can be
//! changed at any time.
//!
//! What holds for all of them is the connection's: only usable subflows are candidates, a backup only where nothing else
//! is usable (RFC 8684 §3.3.8), and what is sent again goes where it has not been. Read [`Scheduler`], then
//! [`lowest_rtt`].

mod backup_only;
mod blest;
mod ecf;
mod lowest_rtt;
mod redundant;
mod round_robin;
mod weighted;

use crate::base::Instant;
use crate::base::time::Duration;
use crate::mptcp::SubflowId;
use crate::mptcp::subflow_set::{SubflowSet, SubflowSlot};
use backup_only::BackupOnly;
use blest::Blest;
use ecf::Ecf;
use lowest_rtt::LowestRtt;
use redundant::Redundant;
use round_robin::RoundRobin;
use serde::{Deserialize, Serialize};
use weighted::Weighted;

/// A subflow that is established and alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in sets.
    pub slot: SubflowSlot,
    /// Its name, which also tells of two which is older.
    pub id: SubflowId,
    /// Bytes that it takes of the piece now; 0 if it has no room.
    pub room: usize,
    /// The round-trip time that a segment sent now can expect; zero before the first sample: a new subflow is tried at once.
    pub expected_rtt: Duration,
    /// The smoothed round-trip time; zero before the first sample.
    pub srtt: Duration,
    /// Its variation.
    pub rttvar: Duration,
    /// Congestion window, in bytes.
    pub cwnd: u64,
    /// Bytes that are sent and not acknowledged, or queued.
    pub in_flight: u64,
    /// Payload bytes of a full segment.
    pub segment: usize,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The time.
    pub now: Instant,
    /// It was sent before, on subflows that are no candidates.
    pub reinjection: bool,
    /// Bytes of the piece.
    pub len: usize,
    /// Bytes that were never sent, the piece among them.
    pub unsent: u64,
    /// The peer's whole window, from what it has acknowledged as data, in bytes.
    pub window: u64,
}

/// Marks subflows.
pub trait Scheduler {
    /// The subflows for the piece, of those with room: none to wait for one that has none now.
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet;

    /// Whether every subflow shall carry everything: one with room takes the oldest data that it has not carried before
    /// anything new is marked.
    fn wants_copies(&self) -> bool {
        false
    }

    /// Whether a subflow with room may take over what a much slower one carries (opportunistic retransmission).
    fn takes_over(&self) -> bool {
        true
    }

    /// Whether the next few pieces may go where it has marked one, without asking again: it looks at figures that change
    /// little meanwhile.
    fn runs(&self) -> bool {
        false
    }

    /// Data that only `slot` carries keeps the peer's window closed.
    fn on_blocked(&mut self, _now: Instant, _slot: SubflowSlot) {}
}

/// The schedulers that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SchedulerKind {
    /// Of the subflows with room, the one with the lowest round trip.
    #[default]
    LowestRtt,
    /// Each in turn.
    RoundRobin,
    /// Each in proportion to what it can carry.
    Weighted,
    /// A copy of everything on every subflow.
    Redundant,
    /// Waits for the fast subflow where a slow one would block the peer's window (Ferlin et al., 2016).
    Blest,
    /// Waits for the fast subflow where that completes earlier (Lim et al., 2017).
    Ecf,
    /// One subflow at a time; the others stand by.
    BackupOnly,
}

impl SchedulerKind {
    /// All, with their names on the command line.
    pub const ALL: &[(&'static str, SchedulerKind)] = &[
        ("lowest-rtt", SchedulerKind::LowestRtt),
        ("round-robin", SchedulerKind::RoundRobin),
        ("weighted", SchedulerKind::Weighted),
        ("redundant", SchedulerKind::Redundant),
        ("blest", SchedulerKind::Blest),
        ("ecf", SchedulerKind::Ecf),
        ("backup-only", SchedulerKind::BackupOnly),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("unnamed", |(name, _)| name)
    }
}

/// The scheduler of one connection, with what it remembers.
#[derive(Debug, Serialize, Deserialize)]
pub enum ActiveScheduler {
    /// See [`SchedulerKind::LowestRtt`].
    LowestRtt(LowestRtt),
    /// See [`SchedulerKind::RoundRobin`].
    RoundRobin(RoundRobin),
    /// See [`SchedulerKind::Weighted`]. Boxed: the others remember next to nothing.
    Weighted(Box<Weighted>),
    /// See [`SchedulerKind::Redundant`].
    Redundant(Redundant),
    /// See [`SchedulerKind::Blest`].
    Blest(Blest),
    /// See [`SchedulerKind::Ecf`].
    Ecf(Ecf),
    /// See [`SchedulerKind::BackupOnly`].
    BackupOnly(BackupOnly),
}

impl ActiveScheduler {
    /// A scheduler that has seen nothing yet.
    pub fn new(kind: SchedulerKind) -> Self {
        match kind {
            SchedulerKind::LowestRtt => Self::LowestRtt(LowestRtt),
            SchedulerKind::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            SchedulerKind::Weighted => Self::Weighted(Box::default()),
            SchedulerKind::Redundant => Self::Redundant(Redundant),
            SchedulerKind::Blest => Self::Blest(Blest::default()),
            SchedulerKind::Ecf => Self::Ecf(Ecf::default()),
            SchedulerKind::BackupOnly => Self::BackupOnly(BackupOnly),
        }
    }

    /// Which one it is.
    pub fn kind(&self) -> SchedulerKind {
        match self {
            Self::LowestRtt(_) => SchedulerKind::LowestRtt,
            Self::RoundRobin(_) => SchedulerKind::RoundRobin,
            Self::Weighted(_) => SchedulerKind::Weighted,
            Self::Redundant(_) => SchedulerKind::Redundant,
            Self::Blest(_) => SchedulerKind::Blest,
            Self::Ecf(_) => SchedulerKind::Ecf,
            Self::BackupOnly(_) => SchedulerKind::BackupOnly,
        }
    }
}

impl Scheduler for ActiveScheduler {
    fn mark(&mut self, work: &Work, candidates: &[Candidate]) -> SubflowSet {
        match self {
            Self::LowestRtt(it) => it.mark(work, candidates),
            Self::RoundRobin(it) => it.mark(work, candidates),
            Self::Weighted(it) => it.mark(work, candidates),
            Self::Redundant(it) => it.mark(work, candidates),
            Self::Blest(it) => it.mark(work, candidates),
            Self::Ecf(it) => it.mark(work, candidates),
            Self::BackupOnly(it) => it.mark(work, candidates),
        }
    }

    fn wants_copies(&self) -> bool {
        match self {
            Self::LowestRtt(it) => it.wants_copies(),
            Self::RoundRobin(it) => it.wants_copies(),
            Self::Weighted(it) => it.wants_copies(),
            Self::Redundant(it) => it.wants_copies(),
            Self::Blest(it) => it.wants_copies(),
            Self::Ecf(it) => it.wants_copies(),
            Self::BackupOnly(it) => it.wants_copies(),
        }
    }

    fn takes_over(&self) -> bool {
        match self {
            Self::LowestRtt(it) => it.takes_over(),
            Self::RoundRobin(it) => it.takes_over(),
            Self::Weighted(it) => it.takes_over(),
            Self::Redundant(it) => it.takes_over(),
            Self::Blest(it) => it.takes_over(),
            Self::Ecf(it) => it.takes_over(),
            Self::BackupOnly(it) => it.takes_over(),
        }
    }

    fn runs(&self) -> bool {
        match self {
            Self::LowestRtt(it) => it.runs(),
            Self::RoundRobin(it) => it.runs(),
            Self::Weighted(it) => it.runs(),
            Self::Redundant(it) => it.runs(),
            Self::Blest(it) => it.runs(),
            Self::Ecf(it) => it.runs(),
            Self::BackupOnly(it) => it.runs(),
        }
    }

    fn on_blocked(&mut self, now: Instant, slot: SubflowSlot) {
        match self {
            Self::LowestRtt(it) => it.on_blocked(now, slot),
            Self::RoundRobin(it) => it.on_blocked(now, slot),
            Self::Weighted(it) => it.on_blocked(now, slot),
            Self::Redundant(it) => it.on_blocked(now, slot),
            Self::Blest(it) => it.on_blocked(now, slot),
            Self::Ecf(it) => it.on_blocked(now, slot),
            Self::BackupOnly(it) => it.on_blocked(now, slot),
        }
    }
}

/// Of the candidates with room the one whose segment would come first.
fn lowest_with_room(candidates: &[Candidate]) -> Option<&Candidate> {
    let with_room = candidates.iter().filter(|candidate| candidate.room > 0);
    with_room.min_by_key(|candidate| (candidate.expected_rtt, candidate.id))
}

/// The candidate with the lowest smoothed round trip, with room or without.
fn fastest(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().min_by_key(|candidate| (candidate.srtt, candidate.id))
}

/// Nobody, or one.
fn one(candidate: Option<&Candidate>) -> SubflowSet {
    candidate.map_or(SubflowSet::NONE, |candidate| SubflowSet::of(candidate.slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_makes_itself() {
        for (name, kind) in SchedulerKind::ALL {
            assert_eq!((kind.name(), ActiveScheduler::new(*kind).kind()), (*name, *kind));
        }
        assert_eq!(SchedulerKind::ALL.len(), 7);
    }

    /// Whatever the figures, only candidates with room are marked, and where all have room somebody is.
    #[test]
    fn only_subflows_with_room_are_marked_and_nobody_waits_for_ever() {
        let mut prng = crate::base::Prng::new(5);
        for (name, kind) in SchedulerKind::ALL {
            let mut scheduler = ActiveScheduler::new(*kind);
            for round in 0..2_000 {
                let count = prng.below(6) as usize;
                let candidates: Vec<Candidate> = (0..count)
                    .map(|index| Candidate {
                        room: if prng.chance(0.5) { 1_400 } else { 0 },
                        cwnd: 1 + prng.below(1 << 20),
                        in_flight: prng.below(1 << 20),
                        ..tools::candidate(index, prng.below(200))
                    })
                    .collect();
                let work = Work { reinjection: prng.chance(0.1), ..tools::work(1 + prng.below(1 << 20)) };
                let work = Work { now: Instant::from_millis(round), window: prng.below(1 << 20), ..work };
                let marks = scheduler.mark(&work, &candidates);
                let with_room: SubflowSet =
                    candidates.iter().filter(|it| it.room > 0).map(|candidate| candidate.slot).collect();
                assert!(marks.iter().all(|slot| with_room.contains(slot)), "{name}");
                // Everybody's room: there is nobody to wait for.
                let open: Vec<Candidate> = candidates.iter().map(|it| Candidate { room: 1, ..*it }).collect();
                assert_eq!(scheduler.mark(&work, &open).is_empty(), open.is_empty(), "{name}");
                if let Some(candidate) = candidates.first() {
                    scheduler.on_blocked(work.now, candidate.slot);
                }
            }
        }
    }
}

/// Candidates for tests of schedulers.
#[cfg(test)]
mod tools {
    use super::*;

    pub(super) fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A subflow with room for a segment of 1,000 bytes, a window of ten, and nothing in flight.
    pub(super) fn candidate(index: usize, rtt_ms: u64) -> Candidate {
        Candidate {
            slot: SubflowSlot::new(index),
            id: SubflowId(index as u32),
            room: 1_000,
            expected_rtt: ms(rtt_ms),
            srtt: ms(rtt_ms),
            rttvar: ms(0),
            cwnd: 10_000,
            in_flight: 0,
            segment: 1_000,
        }
    }

    pub(super) fn full(index: usize, rtt_ms: u64) -> Candidate {
        Candidate { room: 0, in_flight: 10_000, ..candidate(index, rtt_ms) }
    }

    pub(super) fn work(unsent: u64) -> Work {
        Work { now: Instant::ZERO, reinjection: false, len: 1_000, unsent, window: 1 << 20 }
    }

    pub(super) fn marked(
        scheduler: &mut impl Scheduler,
        work: &Work,
        candidates: &[Candidate],
    ) -> Vec<usize> {
        scheduler.mark(work, candidates).iter().map(SubflowSlot::index).collect()
    }
}
