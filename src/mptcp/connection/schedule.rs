//! Spreading data over subflows: first what has to be sent again, then what is new, both as the scheduler marks; and where
//! nothing new may be sent, what a slow subflow keeps the others waiting for.

use super::{Connection, Mode, SUBFLOWS_MAX, SendSide};
use crate::base::{DataSeq, Instant, PoolCache, PortId};
use crate::mptcp::data_send::Piece;
use crate::mptcp::sched::{Candidate, Scheduler, Work};
use crate::mptcp::subflow::{Phase, Subflow};
use crate::mptcp::subflow_set::{SubflowSet, SubflowSlot};
use crate::mptcp::subflows::Standing;
use arrayvec::ArrayVec;

/// What the scheduler came to.
pub(super) enum Scheduled {
    /// A segment was put onto this subflow, and perhaps copies of it onto others.
    On(usize),
    /// There is something to send, and no room at its port.
    Blocked,
    /// There is nothing to send now.
    Nothing,
}

/// So many times as long as on a fast subflow has an answer to take on a slow one, for the fast one to take over what the
/// slow one carries. Less would be repeated for little; a path that is only somewhat slower is done by itself.
const SLOWER: u32 = 4;

/// A subflow that can carry data, with what it has room for.
struct Seat {
    candidate: Candidate,
    index: usize,
    /// Bytes that its windows let go.
    open: usize,
    /// Nothing is on its way that could open them.
    idle: bool,
    /// Its port takes no packet now.
    port_full: bool,
}

/// The subflows that may carry data: those that are usable, and backups only where nothing else is (RFC 8684 §3.3.8).
type Seats = ArrayVec<Seat, SUBFLOWS_MAX>;

impl Connection {
    /// Puts the next piece of data onto a subflow.
    pub(super) fn schedule(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) -> Scheduled {
        match self.mode {
            Mode::Offering | Mode::Answering => Scheduled::Nothing,
            Mode::Plain(_) => self.schedule_plain(now, room_at, cache),
            Mode::Multipath { .. } => self.schedule_multipath(now, room_at, cache),
        }
    }

    fn schedule_plain(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) -> Scheduled {
        let Some(len) = self.send.unsent_len() else { return Scheduled::Nothing };
        if self.holds_back(now) {
            return Scheduled::Nothing;
        }
        let Some(subflow) = self.subflows.first_mut() else { return Scheduled::Nothing };
        if subflow.phase != Phase::Ready || !subflow.tcb.is_established() {
            return Scheduled::Nothing;
        }
        let wanted = len.min(subflow.payload_max(false));
        let idle = subflow.is_idle();
        let Some(limit) = segment_limit(wanted, subflow.tcb.send_room(), idle) else {
            return Scheduled::Nothing;
        };
        if room_at(subflow.path.port) == 0 {
            return Scheduled::Blocked;
        }
        self.put_plain(now, limit, cache);
        self.begin_run(now, 0);
        Scheduled::On(0)
    }

    /// RFC 8985 §7.3: a loss probe brings new data where there is some, which TCP does not know of. On plain TCP only: a subflow
    /// that may be dead is given nothing that no other carries.
    pub(super) fn feed_loss_probe(&mut self, now: Instant, cache: &mut PoolCache) {
        let (Mode::Plain(_), Some(len)) = (self.mode, self.send.unsent_len()) else { return };
        let Some(subflow) = self.subflows.first() else { return };
        let wanted = len.min(subflow.payload_max(false));
        if subflow.tcb.probe_room() >= wanted {
            self.put_plain(now, wanted, cache);
        }
    }

    /// Puts at most `limit` new bytes onto the only subflow.
    fn put_plain(&mut self, now: Instant, limit: usize, cache: &mut PoolCache) {
        let Some(subflow) = self.subflows.first_mut() else { return };
        let Some(piece) = self.send.take_new(limit, SubflowSet::of(subflow.slot), cache.pool()) else {
            return;
        };
        let full = piece.chunk.len() >= subflow.payload_max(false);
        subflow.tcb.enqueue(piece.chunk, piece.data_seq);
        self.on_new_enqueued(0, full);
        if self.send_side == SendSide::Closing && !self.send.has_unsent() {
            // The FIN rides on the last data.
            self.send_side = SendSide::FinSent;
            self.subflows[0].tcb.close(now);
        }
    }

    fn schedule_multipath(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) -> Scheduled {
        let again = match self.send.has_reinjections() {
            true => self.send.next_reinjection(self.usable()),
            false => None,
        };
        let window = self.window_left();
        let held = self.holds_back(now);
        let new = self.send.unsent_len().filter(|_| window > 0 && !held);
        let outstanding = self.subflows.len() > 1 && self.send.una().before(self.send.next());
        if new.is_none() && self.send.has_unsent() && !held {
            self.arm_data_timer(now); // the window is closed: it will be probed
        }
        if again.is_none() && new.is_none() && !outstanding {
            return Scheduled::Nothing;
        }
        let mut seats = Seats::new();
        self.fill(&mut seats, room_at);
        let mut blocked = false;
        if let Some((carriers, len)) = again
            && let Some(index) = self.schedule_again(now, &seats, carriers, len, &mut blocked, cache)
        {
            return Scheduled::On(index);
        }
        if outstanding
            && self.scheduler.wants_copies()
            && let Some(index) = self.schedule_copy(now, &seats, &mut blocked, cache)
        {
            return Scheduled::On(index);
        }
        let mut held_up = new.is_none();
        if let Some(len) = new {
            if let Some(index) = self.schedule_new(now, &seats, len, window, &mut blocked, cache) {
                return Scheduled::On(index);
            }
            // A part of a segment that the window lets go waits for the rest of it.
            held_up = window < len;
        }
        if held_up
            && outstanding
            && self.scheduler.takes_over()
            && let Some(index) = self.schedule_opportunity(now, &seats, &mut blocked, cache)
        {
            return Scheduled::On(index);
        }
        if blocked { Scheduled::Blocked } else { Scheduled::Nothing }
    }

    /// The subflows that can carry data and have lately shown life.
    pub(super) fn usable(&self) -> SubflowSet {
        self.subflows.iter().filter(|subflow| subflow.is_usable()).map(|subflow| subflow.slot).collect()
    }

    /// The others: what only they carry is stranded.
    pub(super) fn unusable(&self) -> SubflowSet {
        self.subflows.iter().filter(|subflow| !subflow.is_usable()).map(|subflow| subflow.slot).collect()
    }

    /// Gives a seat to each that may carry data. In place: there is room for many, and to give them back would move all of it.
    fn fill(&mut self, seats: &mut Seats, room_at: impl Fn(PortId) -> usize) {
        // Pitfall 31: a primary subflow that has no room at this moment is still usable.
        let standings = self.subflows.standings();
        let usable = standings.enumerate().filter(|(_, standing)| standing.usable);
        let backups = usable.clone().all(|(_, standing)| standing.backup);
        let seated = usable.filter(|(_, standing)| standing.backup == backups && !standing.settles);
        seats.extend(seated.map(|(index, standing)| {
            let Standing { candidate, open, idle, port, .. } = *standing;
            Seat { candidate, index, open, idle, port_full: room_at(port) == 0 }
        }));
    }

    /// Has the scheduler mark who takes a piece of `len` bytes within `window`. The marked subflows, and how many bytes of
    /// it they all take.
    fn mark(
        &mut self,
        work: &Work,
        seats: &Seats,
        except: SubflowSet,
        window: usize,
        blocked: &mut bool,
    ) -> Option<(SubflowSet, usize)> {
        let mut candidates = ArrayVec::<Candidate, SUBFLOWS_MAX>::new();
        for seat in seats.iter().filter(|seat| !except.contains(seat.candidate.slot)) {
            let wanted = work.len.min(seat.candidate.segment);
            let mut room = segment_limit(wanted, seat.open.min(window), seat.idle).unwrap_or(0);
            if room > 0 && seat.port_full {
                *blocked = true;
                room = 0;
            }
            candidates.push(Candidate { room, ..seat.candidate });
        }
        let marks = self.scheduler.mark(work, &candidates);
        let marked =
            candidates.iter().filter(|candidate| marks.contains(candidate.slot) && candidate.room > 0);
        let limit = marked.map(|candidate| candidate.room).min()?;
        Some((marks, limit))
    }

    /// RFC 8684 §3.3.5: bytes up to the right edge of the one window, counted from the DATA_ACK.
    pub(super) fn window_left(&self) -> usize {
        self.send_edge.distance(self.send.next()).max(0) as usize
    }

    fn work(&self, now: Instant, len: usize, reinjection: bool) -> Work {
        let window = self.send_edge.distance(self.send.una()).max(0) as u64;
        Work { now, reinjection, len, unsent: self.send.unsent_bytes(), window }
    }

    /// Sends again what was stranded or dropped. Pitfall 45: on another subflow. The one that had it keeps it, and may be
    /// the only one there is.
    fn schedule_again(
        &mut self,
        now: Instant,
        seats: &Seats,
        carriers: SubflowSet,
        len: usize,
        blocked: &mut bool,
        cache: &mut PoolCache,
    ) -> Option<usize> {
        let elsewhere = seats.iter().any(|seat| !carriers.contains(seat.candidate.slot));
        let except = if elsewhere { carriers } else { SubflowSet::NONE };
        let work = self.work(now, len, true);
        let (marks, limit) = self.mark(&work, seats, except, usize::MAX, blocked)?;
        let piece = self.send.take_reinjection(limit, marks, cache.pool())?;
        self.arm_data_timer(now);
        Some(self.enqueue(seats, marks, piece, cache))
    }

    fn schedule_new(
        &mut self,
        now: Instant,
        seats: &Seats,
        len: usize,
        window: usize,
        blocked: &mut bool,
        cache: &mut PoolCache,
    ) -> Option<usize> {
        let work = self.work(now, len, false);
        let (marks, limit) = self.mark(&work, seats, SubflowSet::NONE, window, blocked)?;
        let piece = self.send.take_new(limit, marks, cache.pool())?;
        self.arm_data_timer(now);
        // RFC 8684 §3.3.3: the DATA_FIN comes with the last data, where that has a DSS and not the keys.
        let has_dss = !self.initiator || self.mode == Mode::Multipath { confirmed: true };
        if self.send_side == SendSide::Closing && !self.send.has_unsent() && has_dss {
            self.send_side = SendSide::FinSent;
        }
        let len = piece.chunk.len();
        let index = self.enqueue(seats, marks, piece, cache);
        let full = len >= self.subflows[index].payload_max(true);
        self.on_new_enqueued(index, full);
        if marks.len() == 1 && full {
            self.begin_run(now, index);
        }
        Some(index)
    }

    /// New data has gone to a subflow: what the pushing flag and the holding back of small segments go by.
    pub(super) fn on_new_enqueued(&mut self, index: usize, full: bool) {
        let more_behind = self.send.has_unsent() || !self.batching.pushes();
        self.subflows[index].tcb.set_more_behind(more_behind);
        self.batching.on_sent(self.send.next(), full);
    }

    /// The oldest data that a subflow has not carried, and who does.
    fn oldest_elsewhere(&mut self, index: usize) -> Option<(DataSeq, SubflowSet)> {
        let subflow = &mut self.subflows[index];
        self.send.oldest_elsewhere(subflow.slot, &mut subflow.looked_at)
    }

    /// A subflow with room takes the oldest data that it has not carried.
    fn schedule_copy(
        &mut self,
        now: Instant,
        seats: &Seats,
        blocked: &mut bool,
        cache: &mut PoolCache,
    ) -> Option<usize> {
        for seat in seats.iter().filter(|seat| seat.open >= seat.candidate.segment) {
            let slot = seat.candidate.slot;
            let Some((data_seq, _)) = self.oldest_elsewhere(seat.index) else { continue };
            if seat.port_full {
                *blocked = true;
                continue;
            }
            let piece = self.send.take_again(data_seq, seat.candidate.segment, slot, cache.pool())?;
            self.arm_data_timer(now);
            return Some(self.enqueue(seats, SubflowSet::of(slot), piece, cache));
        }
        None
    }

    /// Nothing new may be sent: the window is full, or there is nothing. A subflow with room, on which an answer comes much
    /// sooner, takes over the oldest data that it does not carry yet: opportunistic retransmission (Raiciu et al., "How Hard
    /// Can It Be?", NSDI 2012, §4.2). Where it is the window, the subflow that holds it up is penalised: its congestion window is
    /// halved, at most once in a round trip of it.
    fn schedule_opportunity(
        &mut self,
        now: Instant,
        seats: &Seats,
        blocked: &mut bool,
        cache: &mut PoolCache,
    ) -> Option<usize> {
        let open = |seat: &&Seat| seat.open >= seat.candidate.segment;
        let fast =
            seats.iter().filter(open).min_by_key(|seat| (seat.candidate.expected_rtt, seat.candidate.id))?;
        if fast.port_full {
            *blocked = true;
            return None;
        }
        let slot = fast.candidate.slot;
        let (data_seq, carriers) = self.oldest_elsewhere(fast.index)?;
        let is_slower = |subflow: &Subflow| {
            subflow.tcb.expected_rtt().is_some_and(|rtt| rtt > fast.candidate.expected_rtt * SLOWER)
        };
        if !self.subflows.iter().filter(|subflow| carriers.contains(subflow.slot)).all(is_slower) {
            return None;
        }
        if self.send.has_unsent() {
            self.penalise(now, slot, data_seq);
        }
        let piece = self.send.take_again(data_seq, fast.candidate.segment, slot, cache.pool())?;
        self.arm_data_timer(now);
        Some(self.enqueue(seats, SubflowSet::of(slot), piece, cache))
    }

    /// The window is full because the piece at `data_seq`, the oldest if this is to be said, is slow to arrive.
    fn penalise(&mut self, now: Instant, fast: SubflowSlot, data_seq: DataSeq) {
        let blocking = self.send.oldest_carriers();
        if data_seq.after(self.send.una()) || blocking.contains(fast) {
            return;
        }
        for subflow in self.subflows.iter_mut().filter(|subflow| blocking.contains(subflow.slot)) {
            let round_trip = subflow.tcb.srtt().unwrap_or_default();
            if subflow.penalised_at.is_none_or(|at| now.since(at) >= round_trip) {
                subflow.penalised_at = Some(now);
                subflow.tcb.penalise(now);
                self.scheduler.on_blocked(now, subflow.slot);
            }
        }
    }

    /// Gives a piece to the marked subflows, a hold on it to each. The first of them.
    fn enqueue(&mut self, seats: &Seats, marks: SubflowSet, piece: Piece, cache: &mut PoolCache) -> usize {
        let Piece { data_seq, chunk } = piece;
        let mut marked =
            seats.iter().filter(|seat| marks.contains(seat.candidate.slot)).map(|seat| seat.index);
        let first = marked.next().expect("a mark is a subflow's with a seat");
        for index in marked {
            let copy = cache.pool().share_chunk(&chunk);
            self.subflows[index].tcb.enqueue(copy, data_seq);
        }
        self.subflows[first].tcb.enqueue(chunk, data_seq);
        first
    }
}

/// How many bytes of a segment's `wanted` ones go into an `open` window; `None` for not now.
fn segment_limit(wanted: usize, open: usize, idle: bool) -> Option<usize> {
    if open >= wanted {
        return Some(wanted);
    }
    // RFC 9293 §3.8.6.2.1: less than a segment only when nothing is on the way that could open the window.
    (open > 0 && idle).then_some(open)
}
