//! What the path manager knows of one connection: address ids, the peer's addresses, and the pairs of addresses with
//! what became of each.

use super::Limits;
use crate::base::{Instant, Prng};
use crate::stack::CloseReason;
use crate::wire::mptcp::AddressId;
use crate::wire::{Endpoint, FourTuple};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The wait after a first failure; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait. A subflow that lived for as long counts as a success.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Two addresses that a subflow can join: ours, and an end of the peer's.
pub(super) type Pair = (IpAddr, Endpoint);

/// What became of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PairState {
    /// A subflow is being opened.
    UnderWay,
    /// There is a subflow.
    Established { since: Instant },
    /// It failed; not before `until` again.
    Waiting { until: Instant },
    /// Not again, unless the link or the peer's announcement of the address comes back.
    Finished,
}

#[derive(Debug, Clone, Copy)]
struct PairEntry {
    state: PairState,
    failures: u32,
    /// The peer has withdrawn the address while the subflow was there: its end says nothing against the next one.
    withdrawn: bool,
}

/// An address of the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote {
    pub(super) id: AddressId,
    pub(super) end: Endpoint,
    /// A subflow to it has been established in the life of the connection.
    proven: bool,
}

/// An address of ours that has an id.
#[derive(Debug, Clone, Copy)]
struct LocalId {
    addr: IpAddr,
    id: AddressId,
    announced: bool,
    /// The peer has heard of it: by an announcement, or as the source of a subflow.
    told: bool,
}

/// What a report of an announcement was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announcement {
    /// A new address, or one that we knew and may try again.
    Usable,
    /// Another address under an id that is taken.
    Conflict,
    /// No room for more.
    Full,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    initiator: bool,
    joins_allowed: bool,
    /// Flag C of the peer.
    no_join_remote: bool,
    first: FourTuple,
    locals: Vec<LocalId>,
    remotes: Vec<Remote>,
    pairs: BTreeMap<Pair, PairEntry>,
    /// When the manager's timer for this connection goes off.
    pub(super) timer: Option<Instant>,
}

impl Connection {
    /// A connection whose first subflow is established.
    pub(super) fn new(now: Instant, first: FourTuple, initiator: bool, no_join_remote: bool) -> Self {
        // RFC 8684 §3.2: the address of the first subflow has id 0, at both ends.
        let locals = vec![LocalId { addr: first.local.addr, id: AddressId(0), announced: false, told: true }];
        let remote = Remote { id: AddressId(0), end: first.remote, proven: true };
        // RFC 8684 §3.1: after flag C no subflow may be opened to the first address and port.
        let remotes = if no_join_remote { Vec::new() } else { vec![remote] };
        let mut connection = Self {
            initiator,
            joins_allowed: false,
            no_join_remote,
            first,
            locals,
            remotes,
            pairs: BTreeMap::new(),
            timer: None,
        };
        connection.handle_established(now, (first.local.addr, first.remote));
        connection
    }

    pub(super) fn initiator(&self) -> bool {
        self.initiator
    }

    pub(super) fn joins_allowed(&self) -> bool {
        self.joins_allowed
    }

    pub(super) fn allow_joins(&mut self) {
        self.joins_allowed = true;
    }

    pub(super) fn first(&self) -> FourTuple {
        self.first
    }

    pub(super) fn remotes(&self) -> &[Remote] {
        &self.remotes
    }

    /// Subflows that exist or are under way.
    pub(super) fn subflows(&self) -> usize {
        self.pairs.values().filter(|entry| entry.in_use()).count()
    }

    /// How often each half of a pair is in use already: fewer is better for a further subflow.
    pub(super) fn overlap(&self, (local, remote): Pair) -> usize {
        let used = self.pairs.iter().filter(|(_, entry)| entry.in_use());
        used.map(|((l, r), _)| usize::from(*l == local) + usize::from(r.addr == remote.addr)).sum()
    }

    /// Whether a subflow may be opened for the pair now.
    pub(super) fn is_open_to(&self, now: Instant, pair: Pair) -> bool {
        match self.pairs.get(&pair).map(|entry| entry.state) {
            None => true,
            Some(PairState::Waiting { until }) => until <= now,
            Some(PairState::UnderWay | PairState::Established { .. } | PairState::Finished) => false,
        }
    }

    /// A subflow is being opened.
    pub(super) fn begin(&mut self, pair: Pair) {
        let failures = self.pairs.get(&pair).map_or(0, |entry| entry.failures);
        self.pairs.insert(pair, PairEntry { state: PairState::UnderWay, failures, withdrawn: false });
        if let Some(local) = self.locals.iter_mut().find(|local| local.addr == pair.0) {
            local.told = true;
        }
    }

    /// A subflow of the pair is established, whoever opened it.
    pub(super) fn handle_established(&mut self, now: Instant, pair: Pair) {
        let failures = self.pairs.get(&pair).map_or(0, |entry| entry.failures);
        let state = PairState::Established { since: now };
        self.pairs.insert(pair, PairEntry { state, failures, withdrawn: false });
        if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.end == pair.1) {
            remote.proven = true;
        }
    }

    /// When the next pair that failed may be tried again.
    pub(super) fn next_attempt(&self, now: Instant) -> Option<Instant> {
        let waiting = self.pairs.values().filter_map(|entry| match entry.state {
            PairState::Waiting { until } => Some(until),
            PairState::UnderWay | PairState::Established { .. } | PairState::Finished => None,
        });
        // Those that are due wait for a route or for room within the limits, not for time.
        waiting.filter(|until| *until > now).min()
    }

    /// The pair's subflow has ended, or never began.
    pub(super) fn handle_failure(&mut self, now: Instant, pair: Pair, failure: Failure, prng: &mut Prng) {
        let Some(entry) = self.pairs.remove(&pair) else { return };
        let remote = self.remotes.iter().find(|remote| remote.end == pair.1);
        let (true, Some(remote), false) = (self.initiator, remote, entry.withdrawn) else { return };
        let lived = match entry.state {
            PairState::Established { since } => now.since(since),
            PairState::UnderWay | PairState::Waiting { .. } | PairState::Finished => Duration::ZERO,
        };
        let failures = if lived >= BACKOFF_MAX { 0 } else { entry.failures };
        let state = match failure {
            // The pair is free as soon as its NIC is back.
            Failure::Closed { reason: CloseReason::PathDown, port_up: false } => return,
            Failure::Closed { reason: CloseReason::Finished, .. } => PairState::Finished,
            // RFC 8684 §3.4.1: an announced address to which no subflow ever came about is not tried again, until
            // it is announced again.
            Failure::Closed { .. } if !remote.proven => PairState::Finished,
            Failure::Closed { .. } | Failure::NotBegun => {
                PairState::Waiting { until: now + backoff(failures, prng) }
            }
        };
        self.pairs.insert(pair, PairEntry { state, failures: failures + 1, withdrawn: false });
    }

    /// Forgets past failures of pairs that `wanted` picks.
    pub(super) fn forgive(&mut self, wanted: impl Fn(Pair) -> bool) {
        self.pairs.retain(|pair, entry| entry.in_use() || !wanted(*pair));
    }

    /// The peer announced an address.
    pub(super) fn handle_announced(&mut self, id: AddressId, end: Endpoint, limits: &Limits) -> Announcement {
        // RFC 8684 §3.1: flag C holds for the first address and port, however the peer names them.
        if self.no_join_remote && end == self.first.remote {
            return Announcement::Conflict;
        }
        // RFC 8684 §3.4.1: with an id that is taken the address must be the same; its port may be another.
        if let Some(known) = self.remotes.iter_mut().find(|remote| remote.id == id) {
            if known.end.addr != end.addr {
                return Announcement::Conflict;
            }
            known.proven &= known.end == end;
            known.end = end;
        } else if self.remotes.len() >= limits.addresses {
            return Announcement::Full;
        } else if !self.remotes.iter().any(|remote| remote.end == end) {
            self.remotes.push(Remote { id, end, proven: false });
        }
        // §3.4.1: announcing an address again asks for a new attempt.
        self.forgive(|(_, remote)| remote == end);
        Announcement::Usable
    }

    /// The peer withdrew an address.
    pub(super) fn handle_withdrawn(&mut self, id: AddressId) {
        self.remotes.retain(|remote| remote.id != id);
        let Self { pairs, remotes, .. } = self;
        pairs.retain(|pair, entry| {
            let known = remotes.iter().any(|remote| remote.end == pair.1);
            entry.withdrawn |= !known;
            known || entry.in_use()
        });
    }

    /// Our id of an address, the same for as long as the connection lives. `None` when all ids are taken: then the
    /// address is not used.
    pub(super) fn local_id(&mut self, addr: IpAddr) -> Option<AddressId> {
        if let Some(local) = self.locals.iter().find(|local| local.addr == addr) {
            return Some(local.id);
        }
        let id = AddressId(u8::try_from(self.locals.len()).ok()?);
        self.locals.push(LocalId { addr, id, announced: false, told: false });
        Some(id)
    }

    /// How many addresses are announced.
    pub(super) fn announced(&self) -> usize {
        self.locals.iter().filter(|local| local.announced).count()
    }

    /// Whether the peer should be told of `addr`: it has not been announced, nor is it the first subflow's, which the
    /// peer knows as long as it was not withdrawn.
    pub(super) fn should_announce(&self, addr: IpAddr) -> bool {
        let known = self.locals.iter().find(|local| local.addr == addr);
        !known.is_some_and(|local| local.announced || (local.told && addr == self.first.local.addr))
    }

    /// `addr` is announced, and the peer told of it.
    pub(super) fn set_announced(&mut self, addr: IpAddr) {
        if let Some(local) = self.locals.iter_mut().find(|local| local.addr == addr) {
            (local.announced, local.told) = (true, true);
        }
    }

    /// An address of ours is gone, or its NIC is down: the id to withdraw, if the peer has heard of it.
    pub(super) fn handle_local_removed(&mut self, addr: IpAddr) -> Option<AddressId> {
        self.forgive(|(local, _)| local == addr);
        let local = self.locals.iter_mut().find(|local| local.addr == addr)?;
        local.announced = false;
        std::mem::take(&mut local.told).then_some(local.id)
    }
}

/// How a subflow failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The stack said so.
    Closed { reason: CloseReason, port_up: bool },
    /// No route, no neighbour, no local port: nothing was sent.
    NotBegun,
}

impl PairEntry {
    fn in_use(&self) -> bool {
        match self.state {
            PairState::UnderWay | PairState::Established { .. } => true,
            PairState::Waiting { .. } | PairState::Finished => false,
        }
    }
}

/// The wait after `failures` earlier failures: doubled each time, with up to a quarter more by chance, so that
/// connections that lost a path together don't come back together.
fn backoff(failures: u32, prng: &mut Prng) -> Duration {
    let base = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    base + base.mul_f64(prng.unit() / 4.0)
}
