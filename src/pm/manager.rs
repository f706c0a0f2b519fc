//! [`Manager`]: the path manager of all connections of the host.

use super::connection::{Announcement, Connection, Failure, Pair, Remote};
use super::routes::Routes;
use super::{AddressEvent, Limits, LinkEvent, PmCommand};
use crate::base::{Instant, PortId, Prng, WorkerId};
use crate::stack::{ConnectionId, Report};
use crate::wire::FourTuple;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// Addresses of the host that are kept; further ones are not used, and counted.
const LOCAL_ADDRESSES_MAX: usize = 256;

/// Names a connection of the host.
type Key = (WorkerId, ConnectionId);

/// What the path manager did not do, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PmCounters {
    /// Connections that are not managed because the table was full.
    pub unmanaged: u64,
    /// Announcements of the peer that did not fit.
    pub remote_addresses_full: u64,
    /// Announcements of the peer that gave a known id to another address.
    pub remote_id_conflicts: u64,
    /// Addresses of the host that did not fit.
    pub local_addresses_full: u64,
    /// Subflows that the peer opened beyond the limit; they were reset.
    pub subflows_refused: u64,
}

/// The path manager. Feed it, then take commands from [`Manager::poll_command`] until there are none.
#[derive(Debug)]
pub struct Manager {
    limits: Limits,
    ports: BTreeMap<PortId, bool>,
    addresses: Vec<(PortId, IpAddr)>,
    routes: Routes,
    connections: BTreeMap<Key, Connection>,
    /// When to look at a connection again: one entry for each whose `timer` is set.
    timers: BTreeSet<(Instant, Key)>,
    commands: VecDeque<PmCommand>,
    counters: PmCounters,
    prng: Prng,
}

impl Manager {
    /// A path manager that knows no NIC, address or route yet.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            ports: BTreeMap::new(),
            addresses: Vec::new(),
            routes: Routes::default(),
            connections: BTreeMap::new(),
            timers: BTreeSet::new(),
            commands: VecDeque::new(),
            counters: PmCounters::default(),
            prng: Prng::new(seed),
        }
    }

    /// What it did not do.
    pub fn counters(&self) -> PmCounters {
        self.counters
    }

    /// How many connections it manages.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The next thing to be done.
    pub fn poll_command(&mut self) -> Option<PmCommand> {
        self.commands.pop_front()
    }

    /// When [`Manager::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Time has passed: subflows that failed are tried again.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            self.evaluate(now, key);
        }
    }

    /// A NIC went up or down. Its addresses are withdrawn when it goes down: the peer may see nothing of it (a switch
    /// in between, or a kernel that tells of a short outage only when it is over), and would find out by time-outs. Once
    /// it is up again they are tried at once, and announced again.
    pub fn handle_link(&mut self, now: Instant, event: LinkEvent) {
        let was_up = self.ports.insert(event.port, event.up).unwrap_or(false);
        if event.up == was_up {
            return;
        }
        let addrs: Vec<IpAddr> = self.addresses_of(event.port).collect();
        if event.up {
            let connections = self.connections.values_mut();
            connections.for_each(|connection| connection.forgive(|(local, _)| addrs.contains(&local)));
            self.evaluate_all(now);
        } else {
            addrs.into_iter().for_each(|addr| self.withdraw(addr));
        }
    }

    /// Tells every peer that has heard of `addr` that it is gone (RFC 8684 §3.4.2).
    fn withdraw(&mut self, addr: IpAddr) {
        for (&(worker, id), connection) in &mut self.connections {
            if let Some(address) = connection.handle_local_removed(addr) {
                self.commands.push_back(PmCommand::Withdraw { worker, connection: id, id: address });
            }
        }
    }

    /// An address came or went.
    pub fn handle_address(&mut self, now: Instant, event: AddressEvent) {
        let entry = (event.port, event.addr);
        if event.added {
            if self.addresses.contains(&entry) {
                return;
            }
            if self.addresses.len() >= LOCAL_ADDRESSES_MAX {
                self.counters.local_addresses_full += 1;
                return;
            }
            self.addresses.push(entry);
            self.evaluate_all(now);
        } else if let Some(place) = self.addresses.iter().position(|known| *known == entry) {
            self.addresses.remove(place);
            self.withdraw(event.addr);
        }
    }

    /// The routes have changed.
    pub fn set_routes(&mut self, now: Instant, routes: Routes) {
        if routes != self.routes {
            self.routes = routes;
            self.evaluate_all(now);
        }
    }

    /// An [`PmCommand::OpenSubflow`] could not be carried out: no route, no neighbour, no local port.
    pub fn handle_open_failed(&mut self, now: Instant, worker: WorkerId, id: ConnectionId, pair: Pair) {
        self.fail(now, (worker, id), pair, Failure::NotBegun);
    }

    /// A worker reports.
    pub fn handle_report(&mut self, now: Instant, worker: WorkerId, report: &Report) {
        match *report {
            // Plain TCP has nothing to manage.
            Report::Established { token: None, .. } => {}
            Report::Established { connection, initiator, tuple, no_join_remote, token: Some(_), port: _ } => {
                if self.connections.len() >= self.limits.connections {
                    self.counters.unmanaged += 1;
                    return;
                }
                let state = Connection::new(now, tuple, initiator, no_join_remote);
                self.connections.insert((worker, connection), state);
            }
            Report::JoinsAllowed { connection } => {
                if let Some(state) = self.connections.get_mut(&(worker, connection)) {
                    state.allow_joins();
                    self.evaluate(now, (worker, connection));
                }
            }
            Report::SubflowEstablished { connection, subflow, tuple, port: _, remote_id: _ } => {
                let Some(state) = self.connections.get_mut(&(worker, connection)) else { return };
                state.handle_established(now, pair_of(tuple));
                if state.subflows() > self.limits.subflows {
                    self.counters.subflows_refused += 1;
                    self.commands.push_back(PmCommand::CloseSubflow { worker, connection, subflow });
                }
            }
            Report::SubflowClosed { connection, tuple, reason, reset: _, subflow: _, established: _ } => {
                let port_up = self.addresses.iter().any(|(port, addr)| {
                    *addr == tuple.local.addr && self.ports.get(port).copied().unwrap_or(false)
                });
                self.fail(now, (worker, connection), pair_of(tuple), Failure::Closed { reason, port_up });
            }
            Report::AddressAnnounced { connection, id, remote } => {
                let Some(state) = self.connections.get_mut(&(worker, connection)) else { return };
                match state.handle_announced(id, remote, &self.limits) {
                    Announcement::Usable => self.evaluate(now, (worker, connection)),
                    Announcement::Conflict => self.counters.remote_id_conflicts += 1,
                    Announcement::Full => self.counters.remote_addresses_full += 1,
                }
            }
            Report::AddressWithdrawn { connection, id } => {
                if let Some(state) = self.connections.get_mut(&(worker, connection)) {
                    state.handle_withdrawn(id);
                }
            }
            // It comes as a link event, by way of `PortHealth`.
            Report::PortStalled { .. } => {}
            Report::Closed { connection, reason: _ } => {
                let state = self.connections.remove(&(worker, connection));
                if let Some(at) = state.and_then(|state| state.timer) {
                    self.timers.remove(&(at, (worker, connection)));
                }
            }
        }
    }

    fn addresses_of(&self, port: PortId) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter(move |(own, _)| *own == port).map(|(_, addr)| *addr)
    }

    fn fail(&mut self, now: Instant, key: Key, pair: Pair, failure: Failure) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.handle_failure(now, pair, failure, &mut self.prng);
        // A place within the limits may be free for another pair.
        self.evaluate(now, key);
    }

    fn evaluate_all(&mut self, now: Instant) {
        let keys: Vec<Key> = self.connections.keys().copied().collect();
        for key in keys {
            self.evaluate(now, key);
        }
    }

    /// Does what the policy wants done for one connection.
    fn evaluate(&mut self, now: Instant, key: Key) {
        let Self { limits, ports, addresses, routes, connections, commands, timers, .. } = self;
        let Some(connection) = connections.get_mut(&key) else { return };
        // RFC 8684 §3.2: no subflow before MPTCP is confirmed.
        if !connection.joins_allowed() {
            return;
        }
        let family = connection.first().local.addr.is_ipv4();
        let usable: Vec<(PortId, IpAddr)> = addresses
            .iter()
            .copied()
            .filter(|(port, addr)| ports.get(port).copied().unwrap_or(false) && addr.is_ipv4() == family)
            .collect();
        if connection.initiator() {
            while connection.subflows() < limits.subflows {
                let Some(command) = next_subflow(now, key, connection, &usable, routes) else { break };
                commands.push_back(command);
            }
        } else {
            announce(key, connection, &usable, limits, commands);
        }
        let timer = connection.next_attempt(now);
        if let Some(at) = std::mem::replace(&mut connection.timer, timer) {
            timers.remove(&(at, key));
        }
        timers.extend(timer.map(|at| (at, key)));
    }
}

/// The ends of a subflow as a pair of addresses. Our port tells nothing: it is chosen anew for each attempt.
fn pair_of(tuple: FourTuple) -> Pair {
    (tuple.local.addr, tuple.remote)
}

/// Begins the subflow that shares least with those that there are.
fn next_subflow(
    now: Instant,
    (worker, id): Key,
    connection: &mut Connection,
    usable: &[(PortId, IpAddr)],
    routes: &Routes,
) -> Option<PmCommand> {
    let mut best: Option<(usize, PortId, IpAddr, Remote)> = None;
    for &(port, local) in usable {
        for &remote in connection.remotes() {
            let pair = (local, remote.end);
            if remote.end.addr.is_ipv4() != local.is_ipv4()
                || !connection.is_open_to(now, pair)
                || !routes.allow(port, remote.end.addr)
            {
                continue;
            }
            let overlap = connection.overlap(pair);
            if best.is_none_or(|(least, ..)| overlap < least) {
                best = Some((overlap, port, local, remote));
            }
        }
    }
    let (_, port, local, Remote { id: remote_id, end: remote, .. }) = best?;
    let local_id = connection.local_id(local)?;
    connection.begin((local, remote));
    Some(PmCommand::OpenSubflow {
        worker,
        connection: id,
        local,
        port,
        remote,
        local_id,
        remote_id,
        backup: false,
    })
}

/// Announces what the peer has not heard of (RFC 8684 §3.4.1).
fn announce(
    (worker, id): Key,
    connection: &mut Connection,
    usable: &[(PortId, IpAddr)],
    limits: &Limits,
    commands: &mut VecDeque<PmCommand>,
) {
    for &(_, addr) in usable {
        if !connection.should_announce(addr) {
            continue;
        }
        if connection.announced() >= limits.addresses {
            return;
        }
        let Some(address) = connection.local_id(addr) else { return };
        connection.set_announced(addr);
        commands.push_back(PmCommand::Announce { worker, connection: id, id: address, addr });
    }
}
