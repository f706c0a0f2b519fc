//! The control thread: hears of requests, of the network and of the workers; asks the path manager what to do; and
//! turns that into commands with a path and a reserved local port. How flows are opened is in `opening.rs`, what users ask about
//! connections and paths in `manage.rs`, what is told to those who look on in `observe.rs`.

use super::asks::Asks;
use super::clock::Clock;
use super::ctl::events::{EventQueue, PathEvent};
use super::departures::Departures;
use super::error::{ListenError, StartError};
use super::handle::{Bound, Request};
use super::local_ports::{Key, LocalPorts};
use super::network::{Change, Network};
use super::openings::{RESOLVE_TIMEOUT, WAITING_MAX, Waiting, Wanted};
use super::paths::EndpointConfig;
use super::stalls::Stalls;
use super::wake::{WakeFd, readable, sleep};
use crate::base::time::Duration;
use crate::base::{Instant, PortId, WorkerId};
use crate::pm::{Bundles, LinkEvent, Manager, PmCommand, PortHealth};
use crate::stack::{AcceptQueue, Command, Doorbell, ListenOptions, ListenerId, Report};
use crate::wire::mptcp::{AddressId, Token};
use crate::wire::{Endpoint, FourTuple};
use crate::worker::WorkerHandle;
use crate::xdp::Xdp;
use crossbeam::channel::{Receiver, Sender, TryRecvError};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod manage;
mod observe;
mod opening;

/// How often ports that nobody uses are looked for, while connections are being opened.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a full command ring is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// How long connections get to say good-bye at the end.
const FAREWELL: Duration = Duration::from_millis(200);

/// A worker, as the control thread sees it.
#[derive(Debug)]
struct WorkerLink {
    handle: WorkerHandle,
    /// Commands that its ring had no room for. They come from requests, which are limited, and from the path
    /// manager, whose tables are.
    backlog: VecDeque<Command>,
    /// Commands given so far.
    given: u64,
}

impl WorkerLink {
    fn new(handle: WorkerHandle) -> Self {
        Self { handle, backlog: VecDeque::new(), given: 0 }
    }

    fn push(&mut self, command: Command) {
        self.given += 1;
        self.backlog.push_back(command);
        self.flush();
    }

    /// Commands that the worker has taken, or fewer: applications put theirs into the same ring. What it did before them it
    /// has reported.
    fn taken(&self) -> u64 {
        self.given.saturating_sub((self.backlog.len() + self.handle.commands.len()) as u64)
    }

    fn flush(&mut self) {
        let mut pushed = false;
        while let Some(command) = self.backlog.pop_front() {
            if let Err(command) = self.handle.commands.push(command) {
                self.backlog.push_front(command);
                break;
            }
            pushed = true;
        }
        if pushed {
            self.handle.doorbell.nudge();
        }
    }
}

/// A listener that is closed, until every worker has heard of it: before, some may still report connections that it
/// accepted.
#[derive(Debug)]
struct Unlistening {
    id: ListenerId,
    /// For each worker, how many commands it has taken by then.
    taken: Vec<u64>,
    /// Dropped at the end, which is what the application waits for.
    _done: Sender<()>,
}

/// A connection, as far as those who ask for it by another name need it.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// `None`: it is plain TCP.
    token: Option<Token>,
    /// The ends of its first subflow.
    first: FourTuple,
}

/// All that the control thread owns.
#[derive(Debug)]
pub(super) struct Control {
    clock: Clock,
    requests: Receiver<Request>,
    wake: WakeFd,
    doorbell: Arc<Doorbell>,
    network: Network,
    manager: Manager,
    /// Connections that are coupled with others.
    bundles: Bundles,
    health: PortHealth,
    stalls: Stalls,
    workers: Vec<WorkerLink>,
    next_worker: usize,
    ports: LocalPorts<Xdp>,
    departures: Arc<Departures>,
    /// The kernel may have told something.
    network_due: bool,
    waiting: Vec<Waiting>,
    unlistening: Vec<Unlistening>,
    connections: HashMap<Key, Known>,
    asks: Asks,
    events: Option<Arc<EventQueue>>,
    xdp: Arc<Xdp>,
    /// Addresses that were not announced because nothing could be made to come there.
    join_ports_refused: u64,
    accept_backlog: usize,
    sweep_at: Instant,
    /// Tells the workers to end.
    stop: Arc<AtomicBool>,
    /// Since when everything is being ended.
    ending: Option<Instant>,
}

/// What the control thread starts from.
#[derive(Debug)]
pub(super) struct ControlParts {
    pub(super) clock: Clock,
    pub(super) requests: Receiver<Request>,
    pub(super) wake: WakeFd,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) network: Network,
    pub(super) manager: Manager,
    pub(super) stalls: Stalls,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) departures: Arc<Departures>,
    pub(super) xdp: Arc<Xdp>,
    pub(super) accept_backlog: usize,
    /// Where events go, if there is a control socket.
    pub(super) events: Option<Arc<EventQueue>>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Control {
    pub(super) fn new(parts: ControlParts) -> Self {
        let workers = parts.workers.into_iter();
        Self {
            clock: parts.clock,
            requests: parts.requests,
            wake: parts.wake,
            doorbell: parts.doorbell,
            network: parts.network,
            manager: parts.manager,
            bundles: Bundles::default(),
            health: PortHealth::default(),
            stalls: parts.stalls,
            workers: workers.map(WorkerLink::new).collect(),
            next_worker: 0,
            ports: LocalPorts::new(Arc::clone(&parts.xdp)),
            departures: parts.departures,
            network_due: true,
            waiting: Vec::new(),
            unlistening: Vec::new(),
            connections: HashMap::new(),
            asks: Asks::default(),
            events: parts.events,
            xdp: parts.xdp,
            join_ports_refused: 0,
            accept_backlog: parts.accept_backlog,
            sweep_at: Instant::ZERO,
            stop: parts.stop,
            ending: None,
        }
    }

    /// Adds the endpoints that the configuration asks for.
    pub(super) fn open_endpoints(&mut self, endpoints: &[EndpointConfig]) -> Result<(), StartError> {
        let now = self.clock.now();
        for endpoint in endpoints {
            let refused = |why| StartError::Endpoint { endpoint: endpoint.to_string(), why };
            self.open_endpoint(now, endpoint).map_err(refused)?;
        }
        Ok(())
    }

    /// Runs until the runtime is shut down. `changes` is what the network looks like at the beginning.
    pub(super) fn run(mut self, changes: Vec<Change>) {
        let now = self.clock.now();
        self.handle_changes(now, changes);
        while !self.is_over(self.clock.now()) {
            self.turn(self.clock.now());
            self.doorbell.prepare_sleep();
            if self.is_quiet() {
                let timeout = self.next_deadline().map(|at| at.since(self.clock.now()));
                let mut fds = [readable(&self.wake), readable(&self.network)];
                sleep(&mut fds, timeout);
                self.network_due = !fds[1].revents().is_empty();
            } else {
                self.network_due = true;
            }
            self.doorbell.awake();
            self.wake.drain();
        }
        self.stop.store(true, Ordering::SeqCst);
        self.workers.iter().for_each(|worker| worker.handle.doorbell.nudge());
    }

    fn turn(&mut self, now: Instant) {
        // First what the workers have taken, then what they have reported up to then.
        let taken: Vec<u64> = self.workers.iter().map(WorkerLink::taken).collect();
        // A worker whose ring is full may have more to report.
        let complete = !self.workers.iter().any(|worker| worker.handle.reports.is_full());
        let reported: Vec<usize> = self.workers.iter().map(|worker| worker.handle.reports.len()).collect();
        // Then what was asked for. Of what applications opened themselves nothing is reported before it is in the channel; all
        // else may be about what is reported.
        let mut asked = Vec::new();
        loop {
            match self.requests.try_recv() {
                Ok(opened @ Request::Opened { .. }) => self.handle_request(now, opened),
                Ok(request) => asked.push(request),
                Err(TryRecvError::Empty) => break,
                // Nobody is left who could ask for the end.
                Err(TryRecvError::Disconnected) => break self.end(now),
            }
        }
        if self.network_due {
            // An error is heard of again: the next event reads everything anew.
            let changes = self.network.poll_changes().unwrap_or_default();
            if self.network.take_news() {
                self.departures.forget_ways();
            }
            self.handle_changes(now, changes);
        }
        self.handle_reports(now, &reported);
        asked.into_iter().for_each(|request| self.handle_request(now, request));
        if complete {
            self.progress_unlistening(&taken);
        }
        if self.manager.poll_timeout().is_some_and(|at| at <= now) {
            self.manager.handle_timeout(now);
        }
        while let Some(command) = self.manager.poll_command() {
            self.carry_out(now, command);
        }
        self.answer_late(now);
        self.progress(now);
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP_INTERVAL;
            self.ports.sweep();
            self.departures.sweep().into_iter().for_each(|port| self.ports.release(port));
        }
        self.stock_departures();
        self.workers.iter_mut().for_each(WorkerLink::flush);
    }

    fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.workers.iter().all(|worker| worker.handle.reports.is_empty())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let now = self.clock.now();
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline).min();
        let sweep = (self.ports.has_openings() || self.departures.has_spare()).then_some(self.sweep_at);
        let full = self.workers.iter().any(|worker| !worker.backlog.is_empty());
        let watching = full || self.ending.is_some() || !self.unlistening.is_empty();
        let retry = watching.then_some(now + RETRY_INTERVAL);
        [self.manager.poll_timeout(), self.asks.poll_timeout(), waiting, sweep, retry]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether everything has ended, or has had its time to.
    fn is_over(&self, now: Instant) -> bool {
        let Some(since) = self.ending else { return false };
        let told = self.workers.iter().all(|w| w.backlog.is_empty() && w.handle.commands.is_empty());
        (told && self.connections.is_empty()) || now.since(since) >= FAREWELL
    }

    fn end(&mut self, now: Instant) {
        if self.ending.is_none() {
            self.ending = Some(now);
            self.departures.close();
            self.waiting.clear();
            self.workers.iter_mut().for_each(|worker| worker.push(Command::Shutdown));
        }
    }

    fn handle_request(&mut self, now: Instant, request: Request) {
        match request {
            Request::Shutdown => self.end(now),
            // The reply's end is dropped, which says that the runtime is shut down.
            Request::Connect { .. }
            | Request::Listen { .. }
            | Request::Status { .. }
            | Request::Manage { .. }
            | Request::Ctl { .. }
                if self.ending.is_some() => {}
            Request::Connect { remote, options, timeout, reply } => {
                if let Err(error) = self.begin_connect(now, remote, options, timeout, &reply) {
                    // Whoever asked may have given up.
                    let _ = reply.send(Err(error));
                }
            }
            Request::Opened { tuple, reservation, stream } => self.ports.adopt(tuple, reservation, stream),
            Request::Forward { worker, command } => self.command(worker, command),
            Request::Listen { local, options, reply } => {
                let _ = reply.send(self.listen(local, options));
            }
            Request::Status { first, reply } => self.ask_status(now, first, reply),
            Request::Manage { first, action, reply } => {
                let _ = reply.send(self.manage(now, first, action));
            }
            Request::Ctl { request, reply } => self.handle_ctl(now, request, reply),
            Request::Unlisten { id, done } => {
                if let Some(local) = self.ports.listener(id) {
                    self.tell(|| PathEvent::ListenerClosed { local });
                }
                self.workers.iter_mut().for_each(|worker| worker.push(Command::Unlisten(id)));
                let taken = self.workers.iter().map(|worker| worker.given).collect();
                self.unlistening.push(Unlistening { id, taken, _done: done });
            }
        }
    }

    fn listen(&mut self, local: SocketAddr, options: ListenOptions) -> Result<Bound, ListenError> {
        let addr = local.ip().to_canonical();
        let local = SocketAddr::new(addr, local.port());
        if !addr.is_unspecified() && !self.network.is_ours(addr) {
            return Err(ListenError::NotOurs { addr });
        }
        let (id, local) = self.ports.listen(local)?;
        let accept = AcceptQueue::new(self.accept_backlog.max(1));
        for worker in &mut self.workers {
            worker.push(Command::Listen {
                id,
                port: local.port(),
                addr: Some(addr).filter(|addr| !addr.is_unspecified()),
                options,
                accept: Arc::clone(&accept),
            });
        }
        if let Err(error) = self.ports.steer_listener(id) {
            self.workers.iter_mut().for_each(|worker| worker.push(Command::Unlisten(id)));
            return Err(error.into());
        }
        self.tell(|| PathEvent::ListenerCreated { local: local.into() });
        Ok(Bound { id, local, accept })
    }

    fn handle_changes(&mut self, now: Instant, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Link(event) => {
                    let change = self.health.handle_link(event);
                    self.handle_health(now, event.port, change);
                }
                Change::Address(event) => self.manager.handle_address(now, event),
                Change::Routes(routes) => self.manager.set_routes(now, routes),
                Change::Neighbour { port, before, after } => {
                    for worker in &mut self.workers {
                        worker.push(Command::Neighbour { port, before, after });
                    }
                }
            }
        }
    }

    /// What is known of a NIC may have changed: whoever needs it is told.
    fn handle_health(&mut self, now: Instant, port: PortId, change: Option<LinkEvent>) {
        self.stalls.set(port, self.health.is_stalled(port));
        self.departures.forget_ways();
        let Some(event) = change else { return };
        for worker in &mut self.workers {
            worker.push(Command::PortState { port: event.port, up: event.up });
        }
        self.manager.handle_link(now, event);
    }

    /// Handles so many reports of each worker: as many as there were. One that reports without end doesn't keep the others
    /// waiting.
    fn handle_reports(&mut self, now: Instant, reported: &[usize]) {
        for (place, count) in reported.iter().enumerate() {
            let worker = WorkerId(place as u16);
            let reports = Arc::clone(&self.workers[place].handle.reports);
            // A worker that had no room for a report may have gone to sleep with it.
            let full = reports.is_full();
            for _ in 0..*count {
                let Some(report) = reports.pop() else { break };
                self.observe(worker, &report);
                self.manager.handle_report(now, worker, &report);
                if let Some(command) = self.bundles.handle_report(now, worker, &report) {
                    self.command(worker, command);
                }
                match report {
                    Report::Established { connection, token, initiator, tuple, .. } => {
                        self.connections.insert((worker, connection), Known { token, first: tuple });
                        if self.ports.handle_established((worker, connection), tuple, initiator) {
                            self.manager.set_bound(worker, connection);
                        }
                    }
                    Report::Described { ticket, details } => {
                        let done = self.asks.handle_described(ticket, details);
                        done.into_iter().for_each(|ask| self.answer(ask));
                    }
                    Report::Counted { ticket, counters } => {
                        let done = self.asks.handle_counted(ticket, worker, counters);
                        done.into_iter().for_each(|ask| self.answer(ask));
                    }
                    Report::SubflowClosed { tuple, .. } => self.ports.handle_flow_closed(tuple),
                    Report::Closed { connection, .. } => {
                        let key = (worker, connection);
                        self.connections.remove(&key);
                        self.waiting.retain(
                            |w| !matches!(w.wanted, Wanted::Join { connection, .. } if connection == key),
                        );
                        self.ports.handle_closed(key);
                    }
                    Report::PortStalled { port, stalled } => {
                        let change = self.health.handle_stalled(worker, port, stalled);
                        self.handle_health(now, port, change);
                    }
                    Report::JoinsAllowed { .. }
                    | Report::Finished { .. }
                    | Report::PriorityChanged { .. }
                    | Report::SubflowEstablished { .. }
                    | Report::AddressAnnounced { .. }
                    | Report::AddressWithdrawn { .. }
                    | Report::Paths { .. } => {}
                }
            }
            if full {
                self.workers[place].handle.doorbell.nudge();
            }
        }
    }

    /// Makes a worker's command of the path manager's.
    fn carry_out(&mut self, now: Instant, command: PmCommand) {
        match command {
            PmCommand::OpenSubflow {
                worker,
                connection,
                local,
                port,
                remote,
                local_id,
                remote_id,
                backup,
            } => {
                let connection = (worker, connection);
                let way = self.network.way_to(remote.addr, Some((local, port)));
                let (Ok(way), true) = (way, self.waiting.len() < WAITING_MAX) else {
                    return self.manager.handle_open_failed(now, worker, connection.1, (local, remote));
                };
                self.network.use_next_hop(&way);
                let wanted = Wanted::Join { connection, remote, local_id, remote_id, backup };
                self.waiting.push(Waiting { way, deadline: now + RESOLVE_TIMEOUT, wanted });
            }
            PmCommand::CloseSubflow { worker, connection, subflow } => {
                self.command(worker, Command::CloseSubflow { connection, subflow });
            }
            PmCommand::SetBackup { worker, connection, subflow, backup } => {
                self.observe_backup((worker, connection), subflow, backup);
                self.command(worker, Command::SetBackup { connection, subflow, backup });
            }
            PmCommand::Announce { worker, connection, id, addr, port } => {
                self.announce((worker, connection), id, addr, port);
            }
            PmCommand::Withdraw { worker, connection, id } => {
                self.command(worker, Command::Withdraw { connection, id });
            }
        }
    }

    /// Has an address announced, if joins can come to it.
    fn announce(&mut self, key: Key, id: AddressId, addr: IpAddr, port: Option<u16>) {
        let Some(Known { first, .. }) = self.connections.get(&key).copied() else { return };
        let local = Endpoint::new(addr, port.unwrap_or(first.local.port));
        if local != first.local && self.ports.announce_join(local, key).is_err() {
            self.join_ports_refused += 1;
            return;
        }
        let (worker, connection) = key;
        self.command(worker, Command::Announce { connection, id, addr, port });
    }

    fn command(&mut self, worker: WorkerId, command: Command) {
        if let Some(link) = self.workers.get_mut(worker.index()) {
            link.push(command);
        }
    }

    /// Ends listeners that every worker has heard of.
    fn progress_unlistening(&mut self, taken: &[u64]) {
        let ports = &mut self.ports;
        self.unlistening.retain(|closed| {
            let heard = closed.taken.iter().zip(taken).all(|(wanted, taken)| taken >= wanted);
            if heard {
                ports.unlisten(closed.id);
            }
            !heard
        });
    }
}
