//! The control plane of a simulated host: the production path manager, fed with what netlink would tell, and what
//! the runtime does around it: local ports, ways out, commands.

use crate::base::{Instant, PortId, WorkerId};
use crate::mptcp::Path;
use crate::pm::{AddressEvent, Bundles, LinkEvent, Manager, PmCommand, PortHealth, Prefix, Route, Routes};
use crate::sim::wish::{PathSpec, Wish};
use crate::stack::{Command, ConnectionId, Report};
use crate::wire::{Endpoint, FourTuple};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Local ports of joined subflows.
const FIRST_PORT: u16 = 20_000;
/// The hosts have one worker.
const WORKER: WorkerId = WorkerId(0);

/// A NIC as the control plane knows it.
#[derive(Debug, Clone, Copy)]
pub struct LocalNic {
    /// Its address.
    pub addr: IpAddr,
    /// One of the other family.
    pub other: Option<IpAddr>,
    /// How packets leave through it.
    pub path: Path,
}

/// What control has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ControlCounters {
    /// Connections that were established.
    pub established: u64,
    /// Established ones that ended.
    pub closed: u64,
    /// Subflows that joined.
    pub joined: u64,
    /// How often a NIC stalled.
    pub stalled: u64,
    /// Wishes of users that the path manager agreed to.
    pub granted: u64,
    /// How often the peer asked for a subflow to be a backup, or none any more.
    pub priorities: u64,
    /// The most subflows that were established at one time.
    pub most_subflows: usize,
}

/// The control plane of a host.
#[derive(Debug)]
pub struct SimControl {
    manager: Manager,
    bundles: Bundles,
    health: PortHealth,
    nics: Vec<LocalNic>,
    next_port: u16,
    /// Established subflows, the first ones included.
    up: BTreeSet<FourTuple>,
    /// Connections that were established and live, the oldest first; and which of them are MPTCP.
    live: Vec<(ConnectionId, bool)>,
    counters: ControlCounters,
}

impl SimControl {
    /// The control plane of a host with `nics`, each of which leads to the hosts of its own network and no further.
    pub fn new(nics: Vec<LocalNic>, paths: &PathSpec, seed: u64) -> Self {
        let mut manager = Manager::new(paths.config.clone(), seed);
        let mut health = PortHealth::default();
        let start = Instant::ZERO;
        let mut routes = Vec::new();
        for nic in &nics {
            let port = nic.path.port;
            if let Some(event) = health.handle_link(LinkEvent { port, up: true }) {
                manager.handle_link(start, event);
            }
            for addr in std::iter::once(nic.addr).chain(nic.other) {
                manager.handle_address(start, AddressEvent { port, addr, added: true });
                let prefix = Prefix::new(addr, if addr.is_ipv4() { 24 } else { 64 });
                routes.push(Route { port: Some(port), prefix, via: None });
            }
        }
        for endpoint in &paths.endpoints {
            let added = manager.add_endpoint(start, endpoint);
            assert!(added.is_ok(), "a scenario's endpoints are right: {added:?}");
        }
        manager.set_routes(start, Routes::new(routes));
        let (up, counters) = (BTreeSet::new(), ControlCounters::default());
        let bundles = Bundles::default();
        Self { manager, bundles, health, nics, next_port: FIRST_PORT, up, live: Vec::new(), counters }
    }

    /// What it has seen.
    pub fn counters(&self) -> ControlCounters {
        self.counters
    }

    /// How many connections live.
    pub fn connections(&self) -> u64 {
        self.live.len() as u64
    }

    /// How many subflows are established, the first ones included.
    pub fn subflows(&self) -> usize {
        self.up.len()
    }

    /// The worker reports.
    pub fn handle_report(&mut self, now: Instant, report: &Report, commands: &mut Vec<Command>) {
        match *report {
            Report::Established { connection, token, tuple, .. } => {
                self.counters.established += 1;
                self.up.insert(tuple);
                self.live.push((connection, token.is_some()));
            }
            Report::SubflowEstablished { tuple, .. } => {
                self.counters.joined += 1;
                self.up.insert(tuple);
            }
            Report::SubflowClosed { tuple, .. } => {
                self.up.remove(&tuple);
            }
            Report::Closed { connection, .. } => {
                // One that a SYN began may end before it is established.
                let before = self.live.len();
                self.live.retain(|(live, _)| *live != connection);
                self.counters.closed += (before - self.live.len()) as u64;
            }
            Report::PortStalled { port, stalled } => {
                self.counters.stalled += u64::from(stalled);
                let event = self.health.handle_stalled(WORKER, port, stalled);
                self.handle_link(now, event, commands);
            }
            Report::PriorityChanged { .. } => self.counters.priorities += 1,
            Report::JoinsAllowed { .. }
            | Report::Finished { .. }
            | Report::Described { .. }
            | Report::Counted { .. }
            | Report::Paths { .. }
            | Report::AddressAnnounced { .. }
            | Report::AddressWithdrawn { .. } => {}
        }
        self.counters.most_subflows = self.counters.most_subflows.max(self.up.len());
        self.manager.handle_report(now, WORKER, report);
        commands.extend(self.bundles.handle_report(now, WORKER, report));
        self.carry_out(commands);
    }

    /// A NIC lost its carrier, or has it again.
    pub fn handle_port_state(&mut self, now: Instant, port: PortId, up: bool, commands: &mut Vec<Command>) {
        let event = self.health.handle_link(LinkEvent { port, up });
        self.handle_link(now, event, commands);
        self.carry_out(commands);
    }

    /// A NIC can be used no more, or again.
    fn handle_link(&mut self, now: Instant, event: Option<LinkEvent>, commands: &mut Vec<Command>) {
        let Some(LinkEvent { port, up }) = event else { return };
        commands.push(Command::PortState { port, up });
        self.manager.handle_link(now, LinkEvent { port, up });
    }

    /// A user wants something.
    pub fn handle_wish(&mut self, now: Instant, wish: Wish, commands: &mut Vec<Command>) {
        let first = self.first_multipath();
        let granted = wish.ask(now, &mut self.manager, first);
        self.counters.granted += u64::from(granted);
        self.carry_out(commands);
    }

    /// The oldest connection that users have wishes for.
    fn first_multipath(&self) -> Option<ConnectionId> {
        self.live.iter().find(|(_, multipath)| *multipath).map(|(connection, _)| *connection)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, commands: &mut Vec<Command>) {
        self.manager.handle_timeout(now);
        self.carry_out(commands);
    }

    /// When [`SimControl::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.manager.poll_timeout()
    }

    fn carry_out(&mut self, commands: &mut Vec<Command>) {
        while let Some(command) = self.manager.poll_command() {
            commands.push(match command {
                PmCommand::OpenSubflow {
                    connection,
                    local,
                    port,
                    remote,
                    local_id,
                    remote_id,
                    backup,
                    worker: _,
                } => {
                    let local = Endpoint::new(local, self.next_port);
                    self.next_port += 1;
                    let tuple = FourTuple { local, remote };
                    let path = self.nics[port.index()].path;
                    Command::OpenSubflow { connection, tuple, path, local_id, remote_id, backup }
                }
                PmCommand::CloseSubflow { connection, subflow, worker: _ } => {
                    Command::CloseSubflow { connection, subflow }
                }
                PmCommand::SetBackup { connection, subflow, backup, worker: _ } => {
                    Command::SetBackup { connection, subflow, backup }
                }
                PmCommand::Announce { connection, id, addr, port, worker: _ } => {
                    Command::Announce { connection, id, addr, port }
                }
                PmCommand::Withdraw { connection, id, worker: _ } => Command::Withdraw { connection, id },
            });
        }
    }
}
