//! What the path manager knows of one connection: its subflows, what became of those that it tried to open, the peer's
//! addresses, and what the peer has heard of ours. Connections are many and mostly idle: nothing here has room for what
//! may never come.

use super::Limits;
use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::mptcp::addr::ADDRESSES_MAX;
use crate::stack::{CloseReason, SubflowId};
use crate::wire::mptcp::{AddressId, Token};
use crate::wire::{Endpoint, FourTuple};
use std::net::IpAddr;

/// The wait after a first failure; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait. A subflow that lived for as long counts as a success.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A subflow of ours that is younger may be refused yet: the peer's path manager hears of it only when it is there. Its answer
/// takes a round trip, and what a control thread takes.
const PROBATION: Duration = Duration::from_secs(1);

/// The longest wait of a connection that has no subflow left: without one it does not live long.
const BACKOFF_ORPHAN: Duration = Duration::from_millis(200);

/// Two addresses that a subflow can join: ours, and an end of the peer's.
pub(super) type Pair = (IpAddr, Endpoint);

/// A subflow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subflow {
    pub(super) id: SubflowId,
    pub(super) tuple: FourTuple,
    /// Our id of its local address, and the peer's of its remote one.
    pub(super) ids: (AddressId, AddressId),
    pub(super) since: Instant,
    /// We opened it: if it fails, it is up to us to open it again.
    ours: bool,
    /// The peer has withdrawn its address since: its end says nothing against the next one.
    withdrawn: bool,
    /// The peer has withdrawn the address with the id of its other end: whether that still answers is to be seen.
    pub(super) in_doubt: bool,
    /// We have asked the peer to use it only as a backup.
    pub(super) backup: bool,
    /// The user has it ended; it has not been reported yet.
    leaving: bool,
}

impl Subflow {
    /// When the peer will have refused it, if it does: the first one never, and what it has opened itself neither.
    fn settled_at(&self) -> Instant {
        if self.ours && self.id != SubflowId(0) { self.since + PROBATION } else { self.since }
    }
}

/// Whether a pair may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// At any time.
    AtOnce,
    /// Not before this.
    NotBefore(Instant),
    /// Only when the link or the peer's announcement of the address comes back.
    WhenAsked,
    /// The user has removed the subflow.
    Never,
}

/// A pair for which a subflow is being opened, or has failed.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    pair: Pair,
    /// So many are being opened.
    under_way: u8,
    /// The last one as a backup.
    backup: bool,
    /// The peer has withdrawn the address while they were.
    withdrawn: bool,
    failures: u32,
    again: Again,
}

/// An address of the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote {
    pub(super) id: AddressId,
    pub(super) end: Endpoint,
    /// A subflow to it has been established since it was announced, or the connection was made to it.
    proven: bool,
    /// The peer has withdrawn it: it is the last thing to be tried.
    withdrawn: bool,
}

impl Remote {
    /// The connection was made to it; the others the peer has announced. RFC 8684 §3.2: it has id 0.
    pub(super) fn is_first(&self) -> bool {
        self.id == AddressId(0)
    }
}

/// What the peer has heard of an address of ours.
#[derive(Debug, Clone, Copy)]
struct Told {
    id: AddressId,
    announced: bool,
    /// By an announcement, or as the source of a subflow.
    known: bool,
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
    token: Token,
    initiator: bool,
    joins_allowed: bool,
    /// Both directions have ended: no path is of use any more.
    finished: bool,
    /// Flag C of the peer.
    no_join_remote: bool,
    /// Its application has bound it to one address.
    bound: bool,
    first: FourTuple,
    told: Vec<Told>,
    remotes: Vec<Remote>,
    subflows: Vec<Subflow>,
    attempts: Vec<Attempt>,
    /// Addresses that its application wants used, or not used, whatever endpoints and policy say (RFC 6897 §5.3.3).
    wishes: Vec<(IpAddr, bool)>,
    /// When the manager's timer for this connection goes off.
    pub(super) timer: Option<Instant>,
}

impl Connection {
    /// A connection whose first subflow is established.
    pub(super) fn new(
        now: Instant,
        token: Token,
        first: FourTuple,
        initiator: bool,
        no_join_remote: bool,
    ) -> Self {
        // RFC 8684 §3.2: the address of the first subflow has id 0, at both ends.
        let told = Told { id: AddressId(0), announced: false, known: true };
        let remote = Remote { id: AddressId(0), end: first.remote, proven: initiator, withdrawn: false };
        let subflow = Subflow {
            id: SubflowId(0),
            tuple: first,
            ids: (AddressId(0), AddressId(0)),
            since: now,
            ours: initiator,
            withdrawn: false,
            in_doubt: false,
            backup: false,
            leaving: false,
        };
        Self {
            token,
            initiator,
            joins_allowed: false,
            finished: false,
            no_join_remote,
            bound: false,
            first,
            told: vec![told],
            // RFC 8684 §3.1: after flag C no subflow may be opened to the first address and port.
            remotes: if no_join_remote { Vec::new() } else { vec![remote] },
            subflows: vec![subflow],
            attempts: Vec::new(),
            wishes: Vec::new(),
            timer: None,
        }
    }

    pub(super) fn token(&self) -> Token {
        self.token
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

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    pub(super) fn no_join_remote(&self) -> bool {
        self.no_join_remote
    }

    pub(super) fn bound(&self) -> bool {
        self.bound
    }

    pub(super) fn set_bound(&mut self) {
        self.bound = true;
    }

    pub(super) fn first(&self) -> FourTuple {
        self.first
    }

    /// The peer's addresses; those that it has withdrawn, too, for a connection that is `stranded`.
    pub(super) fn remotes(&self, stranded: bool) -> impl Iterator<Item = &Remote> {
        self.remotes.iter().filter(move |remote| stranded || !remote.withdrawn)
    }

    /// It has no subflow left, and opens none: the peer can't tell it anything any more. RFC 8684 §3.4.1 and §3.4.2 say
    /// that addresses which did not answer or were withdrawn should not be joined again; but here nothing else is left,
    /// and what the peer withdrew for the moment may be there again.
    pub(super) fn is_stranded(&self) -> bool {
        self.count() == 0
    }

    pub(super) fn subflows(&self) -> &[Subflow] {
        &self.subflows
    }

    pub(super) fn subflow(&self, id: SubflowId) -> Option<&Subflow> {
        self.subflows.iter().find(|subflow| subflow.id == id)
    }

    // ---- subflows and attempts ----

    /// Subflows that exist or are under way.
    pub(super) fn count(&self) -> usize {
        self.pairs_in_use().count()
    }

    /// The pair of each subflow that exists or is under way.
    pub(super) fn pairs_in_use(&self) -> impl Iterator<Item = Pair> + '_ {
        let under_way = self.attempts.iter();
        let under_way = under_way.flat_map(|it| std::iter::repeat_n(it.pair, usize::from(it.under_way)));
        self.subflows.iter().map(|subflow| pair_of(subflow.tuple)).chain(under_way)
    }

    /// Whether a subflow may be opened for the pair now, as far as earlier failures go.
    pub(super) fn is_open_to(&self, now: Instant, pair: Pair) -> bool {
        match self.attempts.iter().find(|attempt| attempt.pair == pair).map(|attempt| attempt.again) {
            None | Some(Again::AtOnce) => true,
            Some(Again::NotBefore(until)) => until <= now,
            Some(Again::WhenAsked | Again::Never) => false,
        }
    }

    /// A subflow is being opened from the address with this id.
    pub(super) fn begin(&mut self, pair: Pair, local_id: AddressId, backup: bool) {
        let attempt = self.attempt(pair);
        attempt.under_way += 1;
        attempt.again = Again::AtOnce;
        attempt.backup = backup;
        self.told(local_id).known = true;
    }

    /// A joined subflow is established, whoever opened it. True if we did.
    pub(super) fn handle_established(
        &mut self,
        now: Instant,
        id: SubflowId,
        tuple: FourTuple,
        ids: (AddressId, AddressId),
    ) -> bool {
        let pair = pair_of(tuple);
        let under_way = |attempt: &&mut Attempt| attempt.pair == pair && attempt.under_way > 0;
        let (ours, withdrawn, in_doubt, backup, leaving) = (false, false, false, false, false);
        let mut subflow = Subflow { id, tuple, ids, since: now, ours, withdrawn, in_doubt, backup, leaving };
        if let Some(attempt) = self.attempts.iter_mut().find(under_way) {
            attempt.under_way -= 1;
            (subflow.ours, subflow.withdrawn, subflow.backup) = (true, attempt.withdrawn, attempt.backup);
        }
        self.subflows.push(subflow);
        if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.end == pair.1) {
            remote.proven = true;
        }
        self.forget_idle_attempts();
        subflow.ours
    }

    /// The oldest subflow between the same addresses that the peer has opened, too.
    pub(super) fn predecessor(&self, subflow: SubflowId) -> Option<SubflowId> {
        let new = self.subflow(subflow)?;
        let ends = |tuple: FourTuple| (tuple.local.addr, tuple.remote.addr);
        let same = |it: &&Subflow| !it.ours && it.id != new.id && ends(it.tuple) == ends(new.tuple);
        self.subflows.iter().find(same).map(|it| it.id)
    }

    /// Whether we want the subflow used as a backup. True if that is news.
    pub(super) fn set_backup(&mut self, id: SubflowId, backup: bool) -> bool {
        let subflow = self.subflows.iter_mut().find(|subflow| subflow.id == id);
        subflow.is_some_and(|subflow| std::mem::replace(&mut subflow.backup, backup) != backup)
    }

    /// When the next pair that failed may be tried again.
    pub(super) fn next_attempt(&self, now: Instant) -> Option<Instant> {
        let waiting = self.attempts.iter().filter_map(|attempt| match attempt.again {
            Again::NotBefore(until) => Some(until),
            Again::AtOnce | Again::WhenAsked | Again::Never => None,
        });
        // Those that are due wait for a route or for room within the limits, not for time.
        waiting.filter(|until| *until > now).min()
    }

    /// A subflow has ended, or a join has failed.
    pub(super) fn handle_closed(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        reason: CloseReason,
        port_up: bool,
        prng: &mut Prng,
    ) {
        let pair = pair_of(tuple);
        if let Some(place) = self.subflows.iter().position(|subflow| subflow.tuple == tuple) {
            let mut subflow = self.subflows.remove(place);
            if subflow.withdrawn && reason == CloseReason::PathDown {
                // It lived on after the withdrawal, until a link of ours failed: whether the peer still has the address was
                // never found out. A withdrawal may also be older than the announcement that it came after, by another
                // path: they have no order. It gets one more chance.
                subflow.withdrawn = false;
                for remote in self.remotes.iter_mut().filter(|remote| remote.end == pair.1) {
                    (remote.withdrawn, remote.proven) = (false, false);
                }
            }
            if subflow.ours {
                let end = End::Closed { reason, port_up, lived: now.since(subflow.since) };
                self.handle_end(now, pair, subflow.withdrawn, end, prng);
            }
        } else {
            let end = End::Closed { reason, port_up, lived: Duration::ZERO };
            self.handle_attempt_failed(now, pair, end, prng);
        }
        self.hurry(now);
        self.forget_idle_attempts();
    }

    /// A subflow could not even be begun.
    pub(super) fn handle_not_begun(&mut self, now: Instant, pair: Pair, prng: &mut Prng) {
        self.handle_attempt_failed(now, pair, End::NotBegun, prng);
        self.hurry(now);
        self.forget_idle_attempts();
    }

    fn handle_attempt_failed(&mut self, now: Instant, pair: Pair, end: End, prng: &mut Prng) {
        let under_way = |attempt: &&mut Attempt| attempt.pair == pair && attempt.under_way > 0;
        // Otherwise a join of the peer's has failed: that is its business.
        let Some(attempt) = self.attempts.iter_mut().find(under_way) else { return };
        attempt.under_way -= 1;
        let withdrawn = std::mem::take(&mut attempt.withdrawn);
        self.handle_end(now, pair, withdrawn, end, prng);
    }

    /// A subflow of ours is over, or did not come about.
    fn handle_end(&mut self, now: Instant, pair: Pair, withdrawn: bool, end: End, prng: &mut Prng) {
        let remote = self.remotes.iter().find(|remote| remote.end == pair.1);
        let (Some(Remote { proven, .. }), false) = (remote.copied(), withdrawn) else { return };
        let attempt = self.attempt(pair);
        if attempt.again == Again::Never {
            return;
        }
        if let End::Closed { lived, .. } = end
            && lived >= BACKOFF_MAX
        {
            attempt.failures = 0;
        }
        attempt.again = match end {
            // The pair is free as soon as its NIC is back.
            End::Closed { reason: CloseReason::PathDown, port_up: false, .. } => {
                (attempt.failures, attempt.again) = (0, Again::AtOnce);
                return;
            }
            End::Closed { reason: CloseReason::Finished, .. } => Again::WhenAsked,
            // RFC 8684 §3.4.1: an announced address to which no subflow ever came about is not tried again, until
            // it is announced again.
            End::Closed { .. } if !proven => Again::WhenAsked,
            End::Closed { .. } | End::NotBegun => Again::NotBefore(now + backoff(attempt.failures, prng)),
        };
        attempt.failures += 1;
    }

    /// A connection that has no subflow, and opens none, does not wait long for any of its pairs.
    fn hurry(&mut self, now: Instant) {
        if !self.is_stranded() {
            return;
        }
        let soon = now + BACKOFF_ORPHAN;
        for attempt in &mut self.attempts {
            attempt.again = match attempt.again {
                Again::NotBefore(until) => Again::NotBefore(until.min(soon)),
                Again::WhenAsked => Again::NotBefore(soon),
                again @ (Again::AtOnce | Again::Never) => again,
            };
        }
    }

    /// The user removes a subflow: its pair is left alone from now on.
    pub(super) fn renounce(&mut self, id: SubflowId) {
        if let Some(subflow) = self.subflows.iter_mut().find(|subflow| subflow.id == id) {
            subflow.leaving = true;
            let pair = pair_of(subflow.tuple);
            self.attempt(pair).again = Again::Never;
        }
    }

    /// The user takes an address of ours away: that its subflows end is no failure.
    pub(super) fn let_go(&mut self, addr: IpAddr) {
        let from = self.subflows.iter_mut().filter(|subflow| subflow.tuple.local.addr == addr);
        from.for_each(|subflow| (subflow.ours, subflow.leaving) = (false, true));
        self.forgive(|(local, _)| local == addr);
    }

    /// The user gives an address of ours back: what was renounced there counts no more.
    pub(super) fn take_back(&mut self, addr: IpAddr) {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.pair.0 == addr) {
            (attempt.failures, attempt.again) = (0, Again::AtOnce);
        }
        self.forget_idle_attempts();
    }

    /// Forgets past failures of pairs that `wanted` picks.
    pub(super) fn forgive(&mut self, wanted: impl Fn(Pair) -> bool) {
        for attempt in &mut self.attempts {
            if wanted(attempt.pair) && attempt.again != Again::Never && attempt.under_way == 0 {
                (attempt.failures, attempt.again) = (0, Again::AtOnce);
            }
        }
        self.forget_idle_attempts();
    }

    fn attempt(&mut self, pair: Pair) -> &mut Attempt {
        let place = self.attempts.iter().position(|attempt| attempt.pair == pair);
        let place = place.unwrap_or_else(|| {
            self.attempts.push(Attempt {
                pair,
                under_way: 0,
                backup: false,
                withdrawn: false,
                failures: 0,
                again: Again::AtOnce,
            });
            self.attempts.len() - 1
        });
        &mut self.attempts[place]
    }

    /// Keeps only attempts that say something.
    fn forget_idle_attempts(&mut self) {
        self.attempts.retain(|attempt| {
            attempt.under_way > 0 || attempt.failures > 0 || attempt.again != Again::AtOnce
        });
    }

    /// Whether a subflow stays that can carry packets, when those that `goes` picks end. `is_usable` says of an address
    /// whether packets can leave from it.
    pub(super) fn survives(
        &self,
        goes: impl Fn(&Subflow) -> bool,
        is_usable: impl Fn(IpAddr) -> bool,
    ) -> bool {
        self.staying(goes, is_usable).next().is_some()
    }

    /// The subflows that can carry packets and stay when those that `goes` picks end.
    fn staying(
        &self,
        goes: impl Fn(&Subflow) -> bool,
        is_usable: impl Fn(IpAddr) -> bool,
    ) -> impl Iterator<Item = &Subflow> {
        self.subflows.iter().filter(move |it| !it.leaving && !goes(it) && is_usable(it.tuple.local.addr))
    }

    /// When an address may be given up, of which `goes` picks the subflows: where there are any, not before another one has
    /// settled. What ends in favour of a subflow that the peer is just refusing leaves the connection without any, and so
    /// does one whose peer has withdrawn its end. `None`: no subflow stays that can carry packets.
    pub(super) fn may_lose_at(
        &self,
        now: Instant,
        goes: impl Fn(&Subflow) -> bool,
        is_usable: impl Fn(IpAddr) -> bool,
    ) -> Option<Instant> {
        let staying = self.staying(&goes, is_usable).filter(|it| !it.in_doubt);
        let settled_at = staying.map(Subflow::settled_at).min()?;
        Some(if self.subflows.iter().any(&goes) { settled_at } else { now })
    }

    // ---- the peer's addresses ----

    /// How many addresses of the peer's announcing are kept.
    pub(super) fn accepted(&self) -> usize {
        self.remotes.iter().filter(|remote| !remote.is_first() && !remote.withdrawn).count()
    }

    /// The peer announced an address.
    pub(super) fn handle_announced(&mut self, id: AddressId, end: Endpoint, limits: &Limits) -> Announcement {
        // RFC 8684 §3.1: flag C holds for the first address and port, however the peer names them.
        if self.no_join_remote && end == self.first.remote {
            return Announcement::Conflict;
        }
        // What it was before it was withdrawn counts no more.
        self.subflows.iter_mut().filter(|it| it.ids.1 == id).for_each(|it| it.in_doubt = false);
        self.remotes.retain(|remote| !remote.withdrawn || (remote.id != id && remote.end != end));
        let full = self.accepted() >= limits.add_addr_accepted;
        // RFC 8684 §3.4.1: with an id that is taken the address must be the same; its port may be another.
        if let Some(known) = self.remotes.iter_mut().find(|remote| remote.id == id) {
            if known.end.addr != end.addr {
                return Announcement::Conflict;
            }
            known.proven &= known.end == end;
            known.end = end;
        } else if !self.remotes.iter().any(|remote| remote.end == end) {
            if full {
                return Announcement::Full;
            }
            self.remotes.push(Remote { id, end, proven: false, withdrawn: false });
        }
        // §3.4.1: announcing an address again asks for a new attempt.
        self.forgive(|(_, remote)| remote == end);
        Announcement::Usable
    }

    /// The peer withdrew an address.
    pub(super) fn handle_withdrawn(&mut self, id: AddressId) {
        let gone = self.remotes.iter_mut().filter(|remote| remote.id == id);
        gone.for_each(|remote| remote.withdrawn = true);
        // A peer that announces and withdraws without end gets no more memory for it.
        while self.remotes.len() > ADDRESSES_MAX
            && let Some(place) = self.remotes.iter().position(|remote| remote.withdrawn)
        {
            self.remotes.remove(place);
        }
        let Self { subflows, attempts, remotes, .. } = self;
        let known = |pair: Pair| remotes.iter().any(|remote| remote.end == pair.1 && !remote.withdrawn);
        for subflow in subflows {
            subflow.in_doubt |= subflow.ids.1 == id;
            subflow.withdrawn |= !known(pair_of(subflow.tuple));
        }
        attempts.retain_mut(|attempt| {
            let known = known(attempt.pair);
            attempt.withdrawn |= !known;
            known || attempt.under_way > 0
        });
    }

    // ---- our addresses ----

    fn told(&mut self, id: AddressId) -> &mut Told {
        let place = self.told.iter().position(|told| told.id == id);
        let place = place.unwrap_or_else(|| {
            self.told.push(Told { id, announced: false, known: false });
            self.told.len() - 1
        });
        &mut self.told[place]
    }

    /// The ids of our addresses that the peer has heard of.
    pub(super) fn known_ids(&self) -> impl Iterator<Item = AddressId> + '_ {
        self.told.iter().filter(|told| told.known).map(|told| told.id)
    }

    /// How many of our addresses are announced.
    pub(super) fn announced(&self) -> usize {
        self.told.iter().filter(|told| told.announced).count()
    }

    /// Whether the address with this id is announced.
    pub(super) fn is_announced(&self, id: AddressId) -> bool {
        self.told.iter().any(|told| told.id == id && told.announced)
    }

    /// Whether the peer should be told of an address: it has not been announced, nor is it the first subflow's, which the
    /// peer knows as long as it was not withdrawn.
    pub(super) fn should_announce(&self, id: AddressId) -> bool {
        let told = self.told.iter().find(|told| told.id == id);
        !told.is_some_and(|told| told.announced || (told.known && id == AddressId(0)))
    }

    /// The address is announced, and the peer told of it.
    pub(super) fn set_announced(&mut self, id: AddressId) {
        let told = self.told(id);
        (told.announced, told.known) = (true, true);
    }

    /// The address is not to be used any more. True if the peer has heard of it, and has to hear of that.
    pub(super) fn handle_removed(&mut self, id: AddressId) -> bool {
        let place = self.told.iter().position(|told| told.id == id);
        place.is_some_and(|place| self.told.swap_remove(place).known)
    }

    /// What the application wants done with an address of ours.
    pub(super) fn wish(&self, addr: IpAddr) -> Option<bool> {
        self.wishes.iter().find(|(known, _)| *known == addr).map(|(_, used)| *used)
    }

    /// The application wants an address used, or not used.
    pub(super) fn set_wish(&mut self, addr: IpAddr, used: bool) {
        self.wishes.retain(|(known, _)| *known != addr);
        self.wishes.push((addr, used));
    }

    pub(super) fn wishes(&self) -> usize {
        self.wishes.len()
    }
}

/// How a subflow of ours ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The worker says so; `port_up` tells whether its NIC can carry packets.
    Closed { reason: CloseReason, port_up: bool, lived: Duration },
    /// No route, no neighbour, no local port: nothing was sent.
    NotBegun,
}

/// The ends of a subflow as a pair of addresses. Our port tells nothing: it is chosen anew for each attempt.
pub(super) fn pair_of(tuple: FourTuple) -> Pair {
    (tuple.local.addr, tuple.remote)
}

/// The wait after `failures` earlier failures: doubled each time, with up to a quarter more by chance, so that
/// connections that lost a path together don't come back together.
fn backoff(failures: u32, prng: &mut Prng) -> Duration {
    let base = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    base + base.mul_f64(prng.unit() / 4.0)
}
