//! [`Manager`]: the path manager of all connections of the host. What a user asks of it is in `requests.rs`.

use super::connection::{Announcement, Connection, Pair};
use super::endpoint::{Endpoints, Flags};
use super::plan::{Ground, Key, Usable};
use super::routes::Routes;
use super::{AddressEvent, LinkEvent, PmCommand, PmConfig};
use crate::base::{Instant, PortId, Prng, WorkerId};
use crate::stack::{CloseReason, ConnectionId, Report, SubflowId};
use crate::wire::FourTuple;
use crate::wire::mptcp::AddressId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// Addresses of the host that are kept: each needs an id. Further ones are not used, and counted.
const LOCAL_ADDRESSES_MAX: usize = 255;

/// What the path manager did not do, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PmCounters {
    /// Connections that are not managed because the table was full.
    pub unmanaged: u64,
    /// Announcements of the peer that did not fit.
    pub remote_addresses_full: u64,
    /// Announcements of the peer that gave a known id to another address, or that name what it does not want joined.
    pub remote_id_conflicts: u64,
    /// Addresses of the host that did not fit.
    pub local_addresses_full: u64,
    /// Subflows that the peer opened beyond the limit; they were reset.
    pub subflows_refused: u64,
    /// Subflows that were reset because the peer opened another one between the same addresses, beyond the limit.
    pub subflows_replaced: u64,
}

/// The path manager. Feed it, then take commands from [`Manager::poll_command`] until there are none.
#[derive(Debug)]
pub struct Manager {
    pub(super) config: PmConfig,
    ports: BTreeMap<PortId, bool>,
    pub(super) addresses: Vec<(PortId, IpAddr)>,
    pub(super) endpoints: Endpoints,
    /// Endpoints that can be used now: it follows from what stands before.
    usable: Vec<Usable>,
    routes: Routes,
    pub(super) connections: BTreeMap<Key, Box<Connection>>,
    /// When to look at a connection again: one entry for each whose `timer` is set.
    timers: BTreeSet<(Instant, Key)>,
    pub(super) commands: VecDeque<PmCommand>,
    counters: PmCounters,
    prng: Prng,
}

impl Manager {
    /// A path manager that knows no NIC, address or route yet.
    pub fn new(config: PmConfig, seed: u64) -> Self {
        Self {
            config,
            ports: BTreeMap::new(),
            addresses: Vec::new(),
            endpoints: Endpoints::default(),
            usable: Vec::new(),
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

    /// Time has passed: subflows that failed are tried again, and what waited for a new one to settle is withdrawn.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            self.evaluate(now, key);
        }
    }

    // ---- the network ----

    /// A NIC went up or down. Its addresses are withdrawn when it goes down, except from connections that have no other
    /// path (which nothing could be said on): the peer may see nothing of it (a switch
    /// in between, or a kernel that tells of a short outage only when it is over), and would find out by time-outs. Once
    /// it is up again they are tried at once, and announced again.
    pub fn handle_link(&mut self, now: Instant, event: LinkEvent) {
        let was_up = self.ports.insert(event.port, event.up).unwrap_or(false);
        if event.up == was_up {
            return;
        }
        self.refresh_usable();
        let of_port = self.addresses.iter().filter(|(own, _)| *own == event.port);
        let addrs: Vec<IpAddr> = of_port.map(|(_, addr)| *addr).collect();
        if event.up {
            let connections = self.connections.values_mut();
            connections.for_each(|connection| connection.forgive(|(local, _)| addrs.contains(&local)));
            self.evaluate_all(now);
        } else {
            addrs.into_iter().for_each(|addr| self.lose(now, addr));
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
            let Self { addresses, endpoints, config, .. } = self;
            let flags = Flags { backup: config.backup.contains(&event.port), ..Flags::NONE };
            let is_present = |addr| addresses.iter().any(|(_, known)| *known == addr);
            if !endpoints.add_implicit(event.addr, flags, is_present) {
                self.addresses.pop();
                self.counters.local_addresses_full += 1;
                return;
            }
            self.refresh_usable();
            self.forgive(event.addr);
            self.evaluate_all(now);
        } else if let Some(place) = self.addresses.iter().position(|known| *known == entry) {
            self.addresses.remove(place);
            self.refresh_usable();
            self.lose(now, event.addr);
        }
    }

    /// The routes have changed.
    pub fn set_routes(&mut self, now: Instant, routes: Routes) {
        if routes != self.routes {
            self.routes = routes;
            self.evaluate_all(now);
        }
    }

    fn forgive(&mut self, addr: IpAddr) {
        let connections = self.connections.values_mut();
        connections.for_each(|connection| connection.forgive(|(local, _)| local == addr));
    }

    /// An address is not there any more, unless another NIC has it, too. Peers that have heard of it are told (RFC 8684
    /// §3.4.2), by their connections' plans.
    fn lose(&mut self, now: Instant, addr: IpAddr) {
        if !self.usable.iter().any(|usable| usable.addr == addr) {
            self.forgive(addr);
            self.evaluate_all(now);
        }
    }

    // ---- workers ----

    /// An [`PmCommand::OpenSubflow`] could not be carried out: no route, no neighbour, no local port.
    pub fn handle_open_failed(&mut self, now: Instant, worker: WorkerId, id: ConnectionId, pair: Pair) {
        let Some(connection) = self.connections.get_mut(&(worker, id)) else { return };
        connection.handle_not_begun(now, pair, &mut self.prng);
        self.evaluate(now, (worker, id));
    }

    /// A worker reports.
    pub fn handle_report(&mut self, now: Instant, worker: WorkerId, report: &Report) {
        match *report {
            // Plain TCP has nothing to manage.
            Report::Established { token: None, .. } => {}
            Report::Established {
                connection,
                initiator,
                tuple,
                no_join_remote,
                token: Some(token),
                port: _,
            } => {
                if self.connections.len() >= self.config.limits.connections {
                    self.counters.unmanaged += 1;
                    return;
                }
                let state = Connection::new(now, token, tuple, initiator, no_join_remote);
                self.connections.insert((worker, connection), Box::new(state));
                self.evaluate(now, (worker, connection));
            }
            Report::JoinsAllowed { connection } => {
                let key = (worker, connection);
                if let Some(state) = self.connections.get_mut(&key) {
                    state.allow_joins();
                    let first = state.first();
                    self.apply_backup(key, SubflowId(0), first);
                    self.evaluate(now, key);
                }
            }
            Report::SubflowEstablished { connection, subflow, tuple, local_id, remote_id, .. } => {
                let key = (worker, connection);
                self.handle_established(now, key, subflow, tuple, (local_id, remote_id));
            }
            Report::SubflowClosed { connection, tuple, reason, .. } => {
                self.handle_closed(now, (worker, connection), tuple, reason);
            }
            Report::AddressAnnounced { connection, id, remote } => {
                let Some(state) = self.connections.get_mut(&(worker, connection)) else { return };
                match state.handle_announced(id, remote, &self.config.limits) {
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
            // `Bundles` look at them.
            Report::Paths { .. } => {}
            // For those who look on.
            Report::PriorityChanged { .. } | Report::Described { .. } | Report::Counted { .. } => {}
            Report::Finished { connection } => {
                if let Some(state) = self.connections.get_mut(&(worker, connection)) {
                    state.finish();
                    self.drop_commands((worker, connection));
                }
            }
            Report::Closed { connection, reason: _ } => {
                self.drop_commands((worker, connection));
                let state = self.connections.remove(&(worker, connection));
                if let Some(at) = state.and_then(|state| state.timer) {
                    self.timers.remove(&(at, (worker, connection)));
                }
            }
        }
    }

    /// The application of a connection has bound it to one address: the policy gives it no others.
    pub fn set_bound(&mut self, worker: WorkerId, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&(worker, id)) {
            connection.set_bound();
        }
    }

    fn handle_established(
        &mut self,
        now: Instant,
        key: Key,
        subflow: SubflowId,
        tuple: FourTuple,
        ids: (AddressId, AddressId),
    ) {
        let Some(state) = self.connections.get_mut(&key) else { return };
        let ours = state.handle_established(now, subflow, tuple, ids);
        // Those that are under way don't count: they may come to nothing, and one of ours that comes about beyond the limit is
        // closed itself.
        if state.subflows().len() > self.config.limits.subflows + 1 {
            // A peer that joins anew where it has joined before has most likely lost the subflow that it had: an end that
            // only receives does not notice. Otherwise dead ones would keep all places for ever.
            let gone = state.predecessor(subflow).filter(|_| !ours).unwrap_or(subflow);
            self.counters.subflows_refused += u64::from(gone == subflow);
            self.counters.subflows_replaced += u64::from(gone != subflow);
            let (worker, connection) = key;
            self.commands.push_back(PmCommand::CloseSubflow { worker, connection, subflow: gone });
        } else if !ours {
            self.apply_backup(key, subflow, tuple);
        }
        // What waited for a second path can be said soon.
        self.evaluate(now, key);
    }

    fn handle_closed(&mut self, now: Instant, key: Key, tuple: FourTuple, reason: CloseReason) {
        let port_up = self.usable.iter().any(|usable| usable.addr == tuple.local.addr);
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.handle_closed(now, tuple, reason, port_up, &mut self.prng);
        // A place within the limits may be free for another pair.
        self.evaluate(now, key);
    }

    /// Makes a subflow what the endpoint of its address says (RFC 8684 §3.3.8).
    pub(super) fn apply_backup(&mut self, (worker, connection): Key, subflow: SubflowId, tuple: FourTuple) {
        let of_subflow = |usable: &&Usable| {
            usable.addr == tuple.local.addr && usable.join_port.is_none_or(|port| port == tuple.local.port)
        };
        let backup = self.usable.iter().filter(of_subflow).any(|usable| usable.flags.backup);
        let Some(state) = self.connections.get_mut(&(worker, connection)) else { return };
        if state.set_backup(subflow, backup) {
            self.commands.push_back(PmCommand::SetBackup { worker, connection, subflow, backup });
        }
    }

    // ---- the plan ----

    /// Finds out anew which endpoints can be used.
    pub(super) fn refresh_usable(&mut self) {
        let Self { usable, endpoints, addresses, ports, .. } = self;
        usable.clear();
        for (port, addr) in addresses.iter().filter(|(port, _)| ports.get(port).copied().unwrap_or(false)) {
            let of_address = |endpoint: &&super::LocalEndpoint| {
                endpoint.addr == *addr && endpoint.nic.is_none_or(|nic| nic == *port)
            };
            usable.extend(endpoints.iter().filter(of_address).map(|endpoint| Usable {
                port: *port,
                addr: *addr,
                id: endpoint.id,
                join_port: endpoint.port,
                flags: endpoint.flags,
                deleted: endpoint.deleted,
            }));
        }
    }

    pub(super) fn usable(&self) -> &[Usable] {
        &self.usable
    }

    /// What was to be done for a connection, and nobody has taken yet: it is over. One that was short may be over when it is
    /// first heard of.
    fn drop_commands(&mut self, key: Key) {
        self.commands.retain(|command| command.key() != key);
    }

    pub(super) fn evaluate_all(&mut self, now: Instant) {
        let keys: Vec<Key> = self.connections.keys().copied().collect();
        for key in keys {
            self.evaluate(now, key);
        }
    }

    /// What plans are made from.
    pub(super) fn ground(&self) -> Ground<'_> {
        ground(&self.config, &self.endpoints, &self.usable, &self.routes)
    }

    /// Does what the plan says for one connection.
    pub(super) fn evaluate(&mut self, now: Instant, key: Key) {
        let Self { config, endpoints, usable, routes, connections, commands, timers, .. } = self;
        let Some(connection) = connections.get_mut(&key).filter(|connection| !connection.is_finished())
        else {
            return;
        };
        let ground = ground(config, endpoints, usable, routes);
        // RFC 8684 §3.2: no subflow before MPTCP is confirmed. But a responder has both keys from the handshake, as its peer
        // has: it tells at once of the addresses that the user wants announced.
        if !connection.joins_allowed() {
            if !connection.initiator() {
                ground.announce(key, connection, false, commands);
            }
            return;
        }
        let stranded = connection.is_stranded();
        while let Some(command) = ground.next_subflow(now, key, connection, stranded) {
            commands.push_back(command);
        }
        let withdrawal = ground.withdraw(now, key, connection, endpoints, commands);
        ground.announce(key, connection, true, commands);
        let timer = [connection.next_attempt(now), withdrawal].into_iter().flatten().min();
        if let Some(at) = std::mem::replace(&mut connection.timer, timer) {
            timers.remove(&(at, key));
        }
        timers.extend(timer.map(|at| (at, key)));
    }
}

fn ground<'a>(
    config: &PmConfig,
    endpoints: &Endpoints,
    usable: &'a [Usable],
    routes: &'a Routes,
) -> Ground<'a> {
    let laminar = endpoints.iter().any(|endpoint| endpoint.flags.laminar);
    let &PmConfig { policy, dual_stack, limits, .. } = config;
    Ground { policy, dual_stack, limits, usable, routes, laminar }
}

/// Tells the peer of one connection that an address is gone, if it has heard of it.
pub(super) fn withdraw_from(
    (worker, id): Key,
    connection: &mut Connection,
    address: AddressId,
    commands: &mut VecDeque<PmCommand>,
) {
    if connection.handle_removed(address) {
        commands.push_back(PmCommand::Withdraw { worker, connection: id, id: address });
    }
}
