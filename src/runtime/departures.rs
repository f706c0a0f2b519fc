//! Connections that applications open without waiting for the control thread. To ask it costs two switches between threads and
//! a dozen system calls, which is most of what a short connection costs at all. So control leaves here what it has found out for
//! the last ones, the ways, and local ports that are reserved and steered already; the application's thread takes both and
//! gives the worker its command itself. Control hears of it afterwards, and in time: see [`Departure`].
//!
//! Where something is missing here the application asks control, as for the first connection; so nothing here has to be
//! complete, and all of it is thrown away whenever the network changes.

use super::handle::Opening;
use super::reserve::Reservation;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::mptcp::Path;
use crate::stack::{Command, ConnectOptions, StreamShared};
use crate::wire::{Endpoint, FourTuple};
use crate::worker::WorkerHandle;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a way holds. The kernel tells of changes, but not of all (rules of its routing); and it must hear now and then
/// that its neighbour is in use ([`super::network::Network::use_next_hop`]).
const WAY_HOLDS: Duration = Duration::from_secs(1);
/// Destinations whose ways are kept. To further ones control is asked.
const WAYS_MAX: usize = 1024;
/// Spare ports of an address from which a second connection is opened before the next sweep of control.
const SPARE_FIRST: usize = 4;
/// Spare ports of an address at most: those of a few milliseconds of connections, one after the other.
const SPARE_MAX: usize = 64;

/// A way that control has found.
#[derive(Debug, Clone, Copy)]
struct Way {
    source: IpAddr,
    path: Path,
    until: Instant,
}

/// Spare ports of one address.
#[derive(Debug, Default)]
struct Spare {
    ports: VecDeque<Reservation>,
    /// How many there should be: twice as many whenever there were too few.
    wanted: usize,
    /// One was taken, or missed, since the last sweep.
    used: bool,
}

#[derive(Debug, Default)]
struct State {
    ways: HashMap<IpAddr, Way>,
    spare: HashMap<IpAddr, Spare>,
    next_worker: usize,
    closed: bool,
}

/// All that there is to open connections with, between control and applications.
#[derive(Debug)]
pub(super) struct Departures {
    workers: Vec<WorkerHandle>,
    state: Mutex<State>,
}

/// A connection that is ready to be opened. Control has to be given [`Departure::reservation`] before the worker gets
/// [`Departure::command`]: when it is told that the port's flow has ended it knows the flow.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) worker: usize,
    pub(super) command: Command,
    pub(super) reservation: Reservation,
    pub(super) opening: Opening,
}

impl Departures {
    pub(super) fn new(workers: Vec<WorkerHandle>) -> Self {
        Self { workers, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- applications ----

    /// What a connection to `remote` takes, if it is all here.
    pub(super) fn prepare(
        &self,
        now: Instant,
        remote: SocketAddr,
        options: ConnectOptions,
    ) -> Option<Departure> {
        let addr = remote.ip().to_canonical();
        let mut state = self.state();
        let way = *state.ways.get(&addr).filter(|way| now < way.until)?;
        let worker = state.next_worker % self.workers.len();
        let handle = &self.workers[worker];
        if handle.commands.is_full() {
            return None;
        }
        let spare = state.spare.get_mut(&way.source)?;
        let reservation = spare.ports.pop_front()?;
        spare.used = true;
        state.next_worker = worker + 1;
        drop(state);
        let remote = Endpoint::from(SocketAddr::new(addr, remote.port()));
        let tuple = FourTuple { local: reservation.local(), remote };
        let stream = StreamShared::with_tuning(Arc::clone(&handle.doorbell), options.tuning);
        let opening = Opening { stream, tuple };
        let command = opening.command(way.path, options);
        Some(Departure { worker, command, reservation, opening })
    }

    /// Gives a worker the command.
    ///
    /// # Errors
    /// The command back when its ring has become full in the meantime: control tries again.
    #[expect(clippy::result_large_err, reason = "as in `WorkerHandle::command`")]
    pub(super) fn launch(&self, worker: usize, command: Command) -> Result<(), Command> {
        self.workers[worker].command(command)
    }

    // ---- control ----

    /// Control has had to open a connection to `remote` itself, from `source`: the next ones need not ask.
    pub(super) fn learn(&self, now: Instant, remote: IpAddr, source: IpAddr, path: Path) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if state.ways.len() >= WAYS_MAX {
            state.ways.retain(|_, way| now < way.until);
        }
        if state.ways.len() < WAYS_MAX || state.ways.contains_key(&remote) {
            state.ways.insert(remote, Way { source, path, until: now + WAY_HOLDS });
        }
        match state.spare.get_mut(&source) {
            // Nobody knows yet whether there will be a second one.
            None => drop(state.spare.insert(source, Spare { used: true, ..Spare::default() })),
            Some(spare) => {
                spare.used = true;
                if spare.ports.is_empty() {
                    spare.wanted = (2 * spare.wanted).clamp(SPARE_FIRST, SPARE_MAX);
                }
            }
        }
    }

    /// The network has changed, or may have.
    pub(super) fn forget_ways(&self) {
        self.state().ways.clear();
    }

    /// Of which addresses ports are missing, and how many.
    pub(super) fn missing(&self) -> Vec<(IpAddr, usize)> {
        let state = self.state();
        let missing = state.spare.iter().map(|(addr, it)| (*addr, it.wanted.saturating_sub(it.ports.len())));
        missing.filter(|(_, missing)| *missing > 0).collect()
    }

    /// Puts a spare port here. Back comes one that nobody wants.
    pub(super) fn stock(&self, reservation: Reservation) -> Option<Reservation> {
        let mut state = self.state();
        match state.spare.get_mut(&reservation.local().addr) {
            Some(spare) if spare.ports.len() < SPARE_MAX => {
                spare.ports.push_back(reservation);
                None
            }
            Some(_) | None => Some(reservation),
        }
    }

    /// The ports of addresses from which nothing has been opened since the last time: others may want them.
    pub(super) fn sweep(&self) -> Vec<Reservation> {
        let mut unused = Vec::new();
        self.state().spare.retain(|_, spare| {
            if !std::mem::take(&mut spare.used) {
                unused.extend(spare.ports.drain(..));
                return false;
            }
            true
        });
        unused
    }

    /// Whether [`Departures::sweep`] may have something to do later.
    pub(super) fn has_spare(&self) -> bool {
        !self.state().spare.is_empty()
    }

    /// Everything is being ended: nothing departs any more.
    pub(super) fn close(&self) {
        *self.state() = State { closed: true, ..State::default() };
    }
}

#[cfg(test)]
mod tests;
