//! What a worker's thread does between two turns: the next one at once, a look around, a nap, or sleep.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::worker::Turn;

/// A nap: a sleep that packets don't end. Where many arrive, waking up for each would cost their sender's core more than
/// the packet (the kernel wakes us from its softirq), and every batch of one would get an ACK of its own.
const NAP: Duration = Duration::from_micros(60);
/// Data packets in one turn that say that data arrives in bulk.
const BULK_PACKETS: usize = 4;
/// How long that holds.
const BULK_SPELL: Duration = Duration::from_millis(1);
/// What a turn costs that is not for its packets (an ACK on each path, a wake-up of the application) is shared by enough when
/// it brought so many: half of what one system call of the sender transmits.
const BATCH: usize = 32;

/// What follows a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next one at once.
    Turn,
    /// The next one, but the processor may slow down for a moment.
    Spin,
    /// The next one, after whoever else is ready to run on this core.
    Yield,
    /// A sleep of so long.
    Nap(Duration),
    /// A sleep until something happens.
    Rest,
}

/// How a worker's thread spends the time between turns.
#[derive(Debug)]
pub(super) struct Pace {
    /// Never sleep.
    spin: bool,
    /// How long to spin without work before sleeping.
    idle_spell: Duration,
    /// Others need its core, too: the application, and the kernel's part of the work.
    shares_core: bool,
    idle_since: Option<Instant>,
    bulk_at: Option<Instant>,
}

impl Pace {
    /// Of a worker that never sleeps, or spins for `idle_spell` before it does.
    pub(super) fn new(spin: bool, idle_spell: Duration, shares_core: bool) -> Self {
        Self { spin, idle_spell, shares_core, idle_since: None, bulk_at: None }
    }

    /// What follows a turn that began `now`.
    pub(super) fn after(&mut self, now: Instant, turn: &Turn) -> Next {
        if turn.data_packets >= BULK_PACKETS {
            self.bulk_at = Some(now);
        }
        let in_bulk = self.bulk_at.is_some_and(|at| now.since(at) < BULK_SPELL);
        let nap = || Next::Nap(turn.next.map_or(NAP, |next| next.since(now).min(NAP)));
        if turn.busy || self.spin {
            self.idle_since = None;
            return match in_bulk && self.waits_for_more(turn) {
                true => nap(),
                // Before the next look at the rings, those who have been woken.
                false if turn.awaits_answers && self.shares_core => Next::Yield,
                false => Next::Turn,
            };
        }
        let may_spin = now.since(*self.idle_since.get_or_insert(now)) < self.idle_spell;
        match self.shares_core {
            false if may_spin => return Next::Spin,
            true if may_spin && !in_bulk => return Next::Yield,
            true | false => {}
        }
        self.idle_since = None;
        if in_bulk { nap() } else { Next::Rest }
    }

    /// Whether it is better to have more arrive before the next turn. A worker that is as fast as its sender otherwise always
    /// finds a few packets, and spends most of its time, and the sender's, on ACKs. Only where others have use for the core.
    /// Never where data of ours waits to leave.
    fn waits_for_more(&self, turn: &Turn) -> bool {
        !self.spin && self.shares_core && !turn.sends && (1..BATCH).contains(&turn.data_packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn that found `data_packets`, and acknowledged them.
    fn received(data_packets: usize) -> Turn {
        Turn { busy: data_packets > 0, data_packets, sends: false, awaits_answers: false, next: None }
    }

    /// How long they spin.
    const SPELL: Duration = Duration::from_micros(50);

    #[test]
    fn where_cores_are_few_a_small_batch_in_bulk_is_followed_by_a_nap() {
        let mut pace = Pace::new(false, SPELL, true);
        let now = Instant::from_millis(1);
        assert_eq!(pace.after(now, &received(BULK_PACKETS - 1)), Next::Turn, "a few packets are no bulk");
        assert_eq!(pace.after(now, &received(BULK_PACKETS)), Next::Nap(NAP));
        assert_eq!(pace.after(now, &received(1)), Next::Nap(NAP), "it goes on");
        assert_eq!(pace.after(now, &received(BATCH)), Next::Turn, "a batch is worth a turn");
        assert_eq!(pace.after(now, &received(0)), Next::Nap(NAP), "there will be more");
        let due = Turn { next: Some(now + Duration::from_micros(7)), ..received(1) };
        assert_eq!(pace.after(now, &due), Next::Nap(Duration::from_micros(7)), "a timer is not missed");
        let later = now + BULK_SPELL;
        assert_eq!(pace.after(later, &received(1)), Next::Turn, "bulk is over");
        assert_eq!(pace.after(later, &received(0)), Next::Yield, "others first, and an answer may come soon");
        assert_eq!(pace.after(later + SPELL, &received(0)), Next::Rest);
    }

    #[test]
    fn what_has_data_to_send_takes_no_nap() {
        let mut pace = Pace::new(false, SPELL, true);
        let turn = Turn { sends: true, ..received(BULK_PACKETS) };
        assert_eq!(pace.after(Instant::from_millis(1), &turn), Next::Turn);
    }

    #[test]
    fn one_with_a_core_of_its_own_spins_for_a_while() {
        let mut pace = Pace::new(false, SPELL, false);
        let now = Instant::from_millis(1);
        assert_eq!(pace.after(now, &received(BULK_PACKETS)), Next::Turn);
        assert_eq!(pace.after(now, &received(0)), Next::Spin);
        assert_eq!(pace.after(now + SPELL, &received(0)), Next::Nap(NAP));
        let later = now + BULK_SPELL;
        assert_eq!(pace.after(later, &received(0)), Next::Spin, "the spell begins anew");
        assert_eq!(pace.after(later + SPELL, &received(0)), Next::Rest);
        let mut pace = Pace::new(true, Duration::ZERO, false);
        assert_eq!(pace.after(now, &received(BULK_PACKETS)), Next::Turn);
        assert_eq!(pace.after(later, &received(0)), Next::Turn, "and one that is told to never sleeps");
    }
}
