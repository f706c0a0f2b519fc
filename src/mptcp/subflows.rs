//! A connection's subflows, and what is known of each since it was last touched: whether it has to send something, what a
//! scheduler sees of it, when its next timer is due. These are asked for with every packet, of all subflows, while a packet
//! touches one of them; and the others' memory may be in no cache.
//!
//! Nobody has to say that a subflow has changed: whoever gets it to change it ([`Subflows::index_mut`] and its like) has
//! touched it. In debug builds every answer is compared with a fresh one.

use crate::base::time::Duration;
use crate::base::{Instant, PortId};
use crate::mptcp::SubflowId;
use crate::mptcp::connection::SUBFLOWS_MAX;
use crate::mptcp::sched::Candidate;
use crate::mptcp::subflow::Subflow;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::ops::{Deref, Index, IndexMut};

/// What a scheduler goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What it sees of the subflow; the room is for who knows what shall be sent.
    pub candidate: Candidate,
    /// Bytes that its windows let go.
    pub open: usize,
    /// Nothing is on its way that could open them.
    pub idle: bool,
    /// It can carry data, and has lately shown life.
    pub usable: bool,
    /// It is for where no other is usable.
    pub backup: bool,
    /// It holds its first data back.
    pub settles: bool,
    /// Its way out.
    pub port: PortId,
    /// Its retransmission time-out.
    pub rto: Duration,
}

/// When something is due on a subflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// By itself.
    pub at: Option<Instant>,
    /// It holds bytes without a mapping: the connection knows for how long.
    pub unmapped: bool,
}

/// What was found out about a subflow. Holds while the bit of its place is set.
#[derive(Debug, Clone, Copy)]
struct Found {
    id: SubflowId,
    standing: Standing,
    deadline: Deadline,
}

/// Places in the list, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places(u32);

const _: () = assert!(SUBFLOWS_MAX <= u32::BITS as usize, "a bit for each");

/// The subflows, in the order in which they came.
#[derive(Default, Deserialize)]
#[serde(from = "Vec<Subflow>")]
pub struct Subflows {
    all: Vec<Subflow>,
    /// Of the same places.
    found: Vec<Found>,
    /// Touched since it was last asked for anything; counts for those below.
    touched: Places,
    /// Has nothing to send, whatever the time.
    silent: Places,
    /// Was told that there is nothing to queue.
    told: Places,
    with_standing: Places,
    with_deadline: Places,
}

impl Places {
    const ALL: Places = Places(u32::MAX);

    /// Takes out the next one at `turn` or behind it, or else the first.
    pub fn take_from(&mut self, turn: usize) -> Option<usize> {
        let behind = self.0.checked_shr(turn as u32).unwrap_or(0);
        let index = match behind {
            0 => self.0.trailing_zeros() as usize,
            _ => turn + behind.trailing_zeros() as usize,
        };
        let some = self.0 != 0;
        self.0 &= !1u32.checked_shl(index as u32).unwrap_or(0);
        some.then_some(index)
    }

    fn first(count: usize) -> Places {
        Places(1u32.checked_shl(count as u32).map_or(u32::MAX, |end| end - 1))
    }

    fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// In order.
    fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self;
        std::iter::from_fn(move || left.take_from(0))
    }

    fn without(self, others: Places) -> Places {
        Places(self.0 & !others.0)
    }
}

impl Subflows {
    /// Appends a subflow. There are fewer than [`SUBFLOWS_MAX`].
    pub fn push(&mut self, subflow: Subflow) {
        debug_assert!(self.all.len() < SUBFLOWS_MAX);
        // Room for one: most connections have no more, and are many.
        self.found.reserve_exact(1);
        self.found.push(Found::of(&subflow));
        self.all.push(subflow);
        self.touched.insert(self.all.len() - 1);
    }

    /// Takes one out; those behind it move up.
    pub fn remove(&mut self, index: usize) -> Subflow {
        self.found.remove(index);
        self.touch_all();
        self.all.remove(index)
    }

    /// The place of the subflow with this name.
    #[inline(always)]
    pub fn place(&self, id: SubflowId) -> Option<usize> {
        self.found.iter().position(|found| found.id == id)
    }

    /// The first one, to be changed.
    pub fn first_mut(&mut self) -> Option<&mut Subflow> {
        self.touched.insert(0);
        self.all.first_mut()
    }

    /// The last one, to be changed.
    pub fn last_mut(&mut self) -> Option<&mut Subflow> {
        self.touched.insert(self.all.len().saturating_sub(1));
        self.all.last_mut()
    }

    /// All, to be changed.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Subflow> {
        self.touch_all();
        self.all.iter_mut()
    }

    /// All places.
    pub fn places(&self) -> Places {
        Places::first(self.all.len())
    }

    /// The places of those that may have a segment to send by themselves. The others have none, whatever the time.
    pub fn not_silent(&mut self, now: Instant) -> Places {
        self.note_touched();
        let others = self.places().without(self.silent);
        let is_silent = |index: usize| !self.all[index].tcb.has_to_send(now);
        debug_assert!(self.places().without(others).iter().all(is_silent), "it was touched unseen");
        others
    }

    /// Whether the one at `index` has a segment to send by itself.
    pub fn has_to_send(&mut self, now: Instant, index: usize) -> bool {
        self.note_touched();
        let tcb = &self.all[index].tcb;
        let has = tcb.has_to_send(now);
        if !has && !tcb.is_paced_now(now) {
            self.silent.insert(index);
        }
        has
    }

    /// Whether the one at `index` has an ACK to send that data would carry.
    pub fn would_ride(&self, now: Instant, index: usize) -> bool {
        self.all[index].tcb.would_ride(now)
    }

    /// There is nothing to queue on any of them.
    pub fn note_nothing_to_queue(&mut self) {
        self.note_touched();
        for index in self.places().without(self.told).iter() {
            self.all[index].tcb.note_nothing_to_queue();
        }
        self.told = self.places();
    }

    /// What a scheduler goes by, of each.
    pub fn standings(&mut self) -> impl ExactSizeIterator<Item = &Standing> + Clone {
        self.note_touched();
        for index in self.places().without(self.with_standing).iter() {
            self.found[index].standing = Standing::of(&self.all[index]);
        }
        self.with_standing = self.places();
        let mut pairs = self.found.iter().zip(&self.all);
        debug_assert!(pairs.all(|(found, it)| found.standing == Standing::of(it)), "it was touched unseen");
        self.found.iter().map(|found| &found.standing)
    }

    /// When something is due, on each.
    pub fn deadlines(&mut self) -> impl Iterator<Item = Deadline> {
        self.note_touched();
        for index in self.places().without(self.with_deadline).iter() {
            self.found[index].deadline = Deadline::of(&self.all[index]);
        }
        self.with_deadline = self.places();
        let mut pairs = self.found.iter().zip(&self.all);
        debug_assert!(pairs.all(|(found, it)| found.deadline == Deadline::of(it)), "it was touched unseen");
        self.found.iter().map(|found| found.deadline)
    }

    fn touch_all(&mut self) {
        self.touched = Places::ALL;
    }

    /// What was known of those that were touched holds no longer.
    fn note_touched(&mut self) {
        let Self { all: _, found: _, touched, silent, told, with_standing, with_deadline } = self;
        let touched = std::mem::take(touched);
        for known in [silent, told, with_standing, with_deadline] {
            *known = known.without(touched);
        }
    }
}

impl Standing {
    fn of(subflow: &Subflow) -> Self {
        let Subflow { tcb, slot, id, path, .. } = subflow;
        let shown = subflow.window_left();
        let idle = subflow.is_idle();
        let segment = subflow.payload_max(true);
        let candidate = Candidate {
            slot: *slot,
            id: *id,
            room: 0,
            expected_rtt: tcb.expected_rtt().unwrap_or_default(),
            srtt: tcb.srtt().unwrap_or_default(),
            rttvar: tcb.rttvar().unwrap_or_default(),
            cwnd: tcb.congestion_window(),
            in_flight: subflow.queued() as u64,
            segment,
        };
        // A window of 0 that was shown here, while another subflow has shown one since, is found out by a segment.
        let shown = if idle { shown.max(segment) } else { shown };
        Self {
            candidate,
            open: tcb.send_room().min(shown),
            idle,
            usable: subflow.is_usable(),
            backup: subflow.is_backup(),
            settles: subflow.settles_at().is_some(),
            port: path.port,
            rto: tcb.rto(),
        }
    }
}

impl Deadline {
    fn of(subflow: &Subflow) -> Self {
        Self { at: subflow.poll_timeout(), unmapped: subflow.inbound.unmapped().is_some() }
    }
}

impl Found {
    /// What there is to find out now. It is no answer yet, as no bit of its place is set.
    fn of(subflow: &Subflow) -> Self {
        Self { id: subflow.id, standing: Standing::of(subflow), deadline: Deadline::of(subflow) }
    }
}

impl From<Vec<Subflow>> for Subflows {
    fn from(all: Vec<Subflow>) -> Self {
        let found = all.iter().map(Found::of).collect();
        Self { all, found, ..Self::default() }
    }
}

/// What was found out is no state: it says nothing that the subflows do not.
impl fmt::Debug for Subflows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all.fmt(f)
    }
}

/// Nor is it kept.
impl Serialize for Subflows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl Deref for Subflows {
    type Target = [Subflow];

    fn deref(&self) -> &[Subflow] {
        &self.all
    }
}

impl Index<usize> for Subflows {
    type Output = Subflow;

    #[inline(always)]
    fn index(&self, index: usize) -> &Subflow {
        &self.all[index]
    }
}

impl IndexMut<usize> for Subflows {
    // Several times with every packet: called as a function it costs more than all that it saves a single subflow.
    #[inline(always)]
    fn index_mut(&mut self, index: usize) -> &mut Subflow {
        self.touched.insert(index);
        &mut self.all[index]
    }
}

impl<'a> IntoIterator for &'a mut Subflows {
    type Item = &'a mut Subflow;
    type IntoIter = std::slice::IterMut<'a, Subflow>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SeqNum;
    use crate::mptcp::subflow::Role;
    use crate::mptcp::subflow_set::SubflowSlot;
    use crate::mptcp::{Path, SubflowId};
    use crate::tcp::{Tcb, TcpConfig};
    use crate::wire::{Endpoint, FourTuple, LinkHeader, MacAddr};

    const NOW: Instant = Instant::from_millis(1);

    /// So many subflows whose SYN is due.
    fn subflows(count: usize) -> Subflows {
        let end = |port: u16| Endpoint { addr: [10, 0, 0, 1].into(), port };
        let link = LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([4; 6]), vlan: None };
        let mut subflows = Subflows::default();
        for index in 0..count {
            let tuple = FourTuple { local: end(index as u16), remote: end(7) };
            let path = Path { port: PortId(0), link, mtu: 1500 };
            let tcb = Tcb::connect(NOW, TcpConfig::default(), SeqNum::new(0));
            let (id, slot) = (SubflowId(index as u32), SubflowSlot::new(index));
            subflows.push(Subflow::new(id, slot, tcb, tuple, path, Role::Initial));
        }
        subflows
    }

    fn in_turn(mut places: Places, turn: usize) -> Vec<usize> {
        std::iter::from_fn(|| places.take_from(turn)).collect()
    }

    #[test]
    fn places_come_from_the_turn_on_and_then_from_the_first() {
        let places = Places::first(SUBFLOWS_MAX).without(Places::first(29));
        assert_eq!(in_turn(places, 30), [30, 31, 29]);
        assert_eq!(in_turn(Places::first(3), 1), [1, 2, 0]);
        assert_eq!(in_turn(Places::first(3), 7), [0, 1, 2]);
        assert_eq!(in_turn(Places::first(0), 40), [0; 0]);
    }

    #[test]
    fn whoever_was_touched_is_looked_at_again() {
        let mut subflows = subflows(3);
        assert_eq!(in_turn(subflows.not_silent(NOW), 0), [0, 1, 2]);
        for index in 0..3 {
            subflows[index].tcb.poll_transmit(NOW, 0, 0).expect("the SYN");
            assert!(!subflows.has_to_send(NOW, index));
        }
        assert!(in_turn(subflows.not_silent(NOW), 0).is_empty());
        subflows[1].tcb.abort(NOW);
        subflows.iter_mut().for_each(|subflow| subflow.local_backup = true);
        assert!(subflows.standings().all(|standing| standing.backup));
        subflows[2].local_backup = false;
        let backups: Vec<bool> = subflows.standings().map(|standing| standing.backup).collect();
        assert_eq!(backups, [true, true, false]);
        subflows[0].begin_settling(NOW);
        let first = subflows.deadlines().filter_map(|deadline| deadline.at).min();
        assert_eq!(first, subflows[0].settles_at());
    }

    #[test]
    fn those_behind_one_that_is_taken_out_move_up() {
        let mut subflows = subflows(3);
        assert_eq!(subflows.standings().len(), 3);
        subflows[2].remote_backup = true;
        subflows.remove(0);
        assert_eq!([0, 1, 2].map(|id| subflows.place(SubflowId(id))), [None, Some(0), Some(1)]);
        let backups: Vec<bool> = subflows.standings().map(|standing| standing.backup).collect();
        assert_eq!(backups, [false, true]);
    }
}
