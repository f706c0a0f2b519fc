//! A simulated host: a pool of frames, the production worker over simulated NICs, a control plane, applications.

use crate::base::{FramePool, Instant, PoolCache, PortId, Prng, WorkerId};
use crate::mptcp::{FallbackReason, Path, SubflowDetails};
use crate::port::Port;
use crate::sim::app::{AppSpec, SimApp};
use crate::sim::check::{NicRules, WireCheck};
use crate::sim::control::{LocalNic, SimControl};
use crate::sim::middlebox::NAT_PORTS;
use crate::sim::network::{HostId, Network, Nic};
use crate::sim::port::{RingSizes, SimPort, SimSteering, packet_bytes};
use crate::sim::simulation::Events;
use crate::sim::wish::{PathSpec, Wish};
use crate::stack::stream::NobodySleeps;
use crate::stack::{AcceptQueue, Command, FastOpenCounters, ListenOptions, ListenerId, StreamShared};
use crate::tcp::TcpCounters;
use crate::worker::{Turn, Worker, WorkerConfig, WorkerHandle};
use std::net::IpAddr;
use std::sync::Arc;

/// A worker that is busy for so many turns at one point in time will be so for ever.
const TURNS_MAX: usize = 20_000;

/// What a host is like.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpec {
    /// Its NICs: address, link address of both ends, MTU.
    pub nics: Vec<NicSpec>,
    /// Frames in its pool.
    pub frames: usize,
    /// Its NICs' rings.
    pub rings: RingSizes,
    /// What its path manager is told.
    pub paths: PathSpec,
}

/// What a NIC is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NicSpec {
    /// Its address.
    pub addr: IpAddr,
    /// One of the other family, beside it.
    pub other: Option<IpAddr>,
    /// What goes in front of what it sends.
    pub link: crate::wire::LinkHeader,
    /// Bytes of an IP packet at most.
    pub mtu: u16,
}

/// An application that waits for its connection to be accepted: the client's port tells which one it is.
#[derive(Debug)]
struct Expected {
    client_port: u16,
    app: PlannedApp,
}

/// Everything an application needs but its stream.
#[derive(Debug)]
pub struct PlannedApp {
    /// Its name in messages.
    pub name: String,
    /// Which of the scenario's connections it is an end of.
    pub connection: usize,
    /// What it does.
    pub spec: AppSpec,
    /// What it sends.
    pub outgoing: crate::sim::pattern::Pattern,
    /// What it expects.
    pub incoming: crate::sim::pattern::Pattern,
    /// Its dice.
    pub prng: Prng,
}

impl PlannedApp {
    fn start(self, stream: Arc<StreamShared>) -> SimApp {
        let Self { name, connection, spec, outgoing, incoming, prng } = self;
        SimApp::new(name, connection, spec, stream, outgoing, incoming, prng)
    }
}

/// A host.
#[derive(Debug)]
pub struct Host {
    id: HostId,
    pool: Arc<FramePool>,
    worker: Worker<SimPort, SimSteering>,
    handle: WorkerHandle,
    control: SimControl,
    nics: Vec<NicRules>,
    app_cache: PoolCache,
    apps: Vec<SimApp>,
    accept: Arc<AcceptQueue>,
    expected: Vec<Expected>,
    commands: Vec<Command>,
    /// Print what the worker reports and is told.
    log: bool,
    wake_at: Option<Instant>,
}

impl Host {
    /// A host whose randomness follows from `seed`.
    pub fn new(id: HostId, spec: &HostSpec, seed: u64) -> Self {
        let pool = FramePool::new_heap(spec.frames);
        let mut cache = PoolCache::new(Arc::clone(&pool));
        let ports = (0..spec.nics.len())
            .map(|number| SimPort::new(PortId(number as u16), spec.rings, &mut cache))
            .collect();
        let handle = WorkerHandle::new(Box::new(NobodySleeps));
        let mut config = WorkerConfig::new(WorkerId(0), 1, seed);
        config.mtus = spec.nics.iter().map(|nic| nic.mtu).collect();
        let worker = Worker::new(config, ports, SimSteering::new(64), cache, handle.clone());
        let local = spec.nics.iter().enumerate().map(|(number, nic)| LocalNic {
            addr: nic.addr,
            other: nic.other,
            path: Path { port: PortId(number as u16), link: nic.link, mtu: nic.mtu },
        });
        Self {
            id,
            control: SimControl::new(local.collect(), &spec.paths, seed),
            nics: spec
                .nics
                .iter()
                .map(|nic| NicRules { addr: nic.addr, other: nic.other, mtu: nic.mtu })
                .collect(),
            app_cache: PoolCache::for_application(Arc::clone(&pool)),
            pool,
            worker,
            handle,
            apps: Vec::new(),
            accept: AcceptQueue::new(64),
            expected: Vec::new(),
            commands: Vec::new(),
            log: false,
            wake_at: None,
        }
    }

    /// Prints what passes between worker and control plane to standard error.
    pub fn set_log(&mut self, log: bool) {
        self.log = log;
    }

    /// Accepts connections at `port`.
    pub fn listen(&mut self, port: u16, options: ListenOptions) {
        let accept = Arc::clone(&self.accept);
        self.commands.push(Command::Listen { id: ListenerId(0), port, addr: None, options, accept });
    }

    /// Accepts no more.
    pub fn unlisten(&mut self) {
        self.commands.push(Command::Unlisten(ListenerId(0)));
    }

    /// The connection from `client_port`, once accepted, is for `app`.
    pub fn expect(&mut self, client_port: u16, app: PlannedApp) {
        self.expected.push(Expected { client_port, app });
    }

    /// Opens a connection from NIC `port` for `app`.
    pub fn connect(
        &mut self,
        port: PortId,
        tuple: crate::wire::FourTuple,
        path: Path,
        options: crate::stack::ConnectOptions,
        app: PlannedApp,
    ) {
        debug_assert_eq!(port, path.port);
        let stream = StreamShared::with_tuning(Arc::clone(&self.handle.doorbell), options.tuning);
        let mut app = app.start(Arc::clone(&stream));
        if options.fast_open && !options.mptcp {
            app.write_early();
        }
        self.apps.push(app);
        self.commands.push(Command::Connect { tuple, path, options, stream });
    }

    /// A packet has come to a NIC.
    pub fn deliver(&mut self, port: PortId, packet: &[u8]) {
        self.port_mut(port).deliver(packet);
    }

    /// A NIC has finished with a frame. True when the worker waits for that.
    pub fn complete(&mut self, port: PortId, index: u32) -> bool {
        self.port_mut(port).complete(index)
    }

    /// A NIC says no more of what it has sent that it has; or says it again.
    pub fn set_completions(&mut self, port: PortId, come: bool) {
        match come {
            true => self.port_mut(port).resume_completions(),
            false => self.port_mut(port).stop_completions(),
        }
    }

    /// A NIC lost its carrier, or has it again.
    pub fn port_state(&mut self, now: Instant, port: PortId, up: bool) {
        self.control.handle_port_state(now, port, up, &mut self.commands);
    }

    /// A user wants something of its path manager.
    pub fn wish(&mut self, now: Instant, wish: Wish) {
        self.control.handle_wish(now, wish, &mut self.commands);
    }

    /// Runs everything of the host until nothing more is to do now. Returns when it wants to run again.
    ///
    /// # Errors
    /// A checker's complaint.
    pub fn run(
        &mut self,
        now: Instant,
        network: &mut Network,
        check: &mut WireCheck,
        events: &mut Events,
    ) -> Result<Option<Instant>, String> {
        self.wake_at = None;
        for _ in 0..TURNS_MAX {
            self.push_commands(now);
            check.begin_turn();
            let Turn { busy, next, data_packets: _, sends: _, awaits_answers: _ } = self.worker.turn(now);
            self.transmit(now, network, check, events)?;
            self.run_control(now);
            let step = self.run_apps(now)?;
            if !busy && !step.progress && self.commands.is_empty() {
                let wakes = [next, step.next, self.control.poll_timeout()];
                return Ok(wakes.into_iter().flatten().min());
            }
        }
        Err(format!("the worker was busy for {TURNS_MAX} turns at one point in time"))
    }

    /// Whether every application has finished.
    pub fn is_finished(&self) -> bool {
        self.expected.is_empty() && self.apps.iter().all(SimApp::is_finished)
    }

    /// After the last event: nothing is left over.
    ///
    /// # Errors
    /// What is left over.
    pub fn check_idle(&mut self, now: Instant) -> Result<(), String> {
        let connections = self.control.connections();
        if connections != 0 {
            return Err(format!("{connections} connections were never reported closed"));
        }
        // One more turn, which reclaims the last completions and has nothing else to do.
        let turn = self.worker.turn(now);
        if turn.busy || turn.next.is_some() {
            return Err(format!("nothing should be left to do, but: {turn:?}"));
        }
        let live = self.worker.stack().connection_count();
        if live != 0 {
            return Err(format!("the worker still has {live} connections"));
        }
        // Without a connection the worker holds no more than a frame for the next header.
        self.worker.clear(now);
        let mut held = 0;
        for port in self.worker.ports() {
            // What a NIC never says that it has read stays with it.
            held += port.held() + port.stuck();
            if port.pending() != port.stuck() {
                return Err(format!(
                    "{} has {} transmissions that never completed",
                    port.id(),
                    port.pending()
                ));
            }
        }
        // Chunks that nobody has read any more are the streams'; an application has freed all that it was given.
        let used = self.pool.used();
        if used != held {
            return Err(format!(
                "{used} frames are in use, {held} of them as receive buffers or at a dead NIC: frames were lost\n{}",
                self.pool.held().join("\n")
            ));
        }
        Ok(())
    }

    /// Its applications.
    pub fn apps(&self) -> &[SimApp] {
        &self.apps
    }

    /// Its control plane.
    pub fn control(&self) -> &SimControl {
        &self.control
    }

    /// What TCP counted, on connections that are over and on those that live.
    pub fn tcp_counters(&self) -> TcpCounters {
        self.worker.stack().worker_counters().stack.tcp
    }

    /// What became of TCP Fast Open.
    pub fn fast_open(&self) -> FastOpenCounters {
        self.worker.stack().counters().fast_open
    }

    /// Why a connection of the scenario is plain TCP here; `None` where it is not, or was never begun.
    pub fn fallback(&self, connection: usize) -> Option<FallbackReason> {
        let app = self.apps.iter().find(|app| app.connection() == connection)?;
        app.stream().fallback().flatten()
    }

    /// The subflows of a connection of the scenario, as they are.
    pub fn subflows(&self, now: Instant, connection: usize) -> Vec<SubflowDetails> {
        let app = self.apps.iter().find(|app| app.connection() == connection);
        let id = app.and_then(|app| app.stream().identity()).map(|(id, _)| id);
        let connection = id.and_then(|id| self.worker.stack().connection(id));
        connection.map(|connection| connection.details(now).subflows).unwrap_or_default()
    }

    /// Its pool.
    pub fn pool(&self) -> &FramePool {
        &self.pool
    }

    /// When it runs next.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Remembers when it runs next.
    pub fn set_wake_at(&mut self, at: Instant) {
        self.wake_at = Some(at);
    }

    /// Where it stands, in words.
    pub fn describe(&mut self) -> String {
        let mut lines: Vec<String> = self.apps.iter().map(SimApp::describe).collect();
        lines.extend(self.expected.iter().map(|expected| format!("{}: not accepted", expected.app.name)));
        for number in 0..self.nics.len() {
            let port = self.port_mut(PortId(number as u16));
            lines.push(format!("port {number}: {:?}, pending {}", port.counters(), port.pending()));
        }
        lines.push(format!("{:?}", self.worker.counters()));
        let (control, used) = (&self.control, self.pool.used());
        lines.push(format!(
            "{:?}, subflows {}, frames in use {used}",
            control.counters(),
            control.subflows()
        ));
        lines.join("\n    ")
    }

    fn port_mut(&mut self, port: PortId) -> &mut SimPort {
        &mut self.worker.ports_mut()[port.index()]
    }

    fn push_commands(&mut self, now: Instant) {
        let mut commands = std::mem::take(&mut self.commands).into_iter();
        while let Some(command) = commands.next() {
            if self.log {
                eprintln!("{now} host {} is told {command:?}", self.id.0);
            }
            if let Err(refused) = self.handle.commands.push(command) {
                self.commands = std::iter::once(refused).chain(commands).collect();
                return;
            }
        }
    }

    fn transmit(
        &mut self,
        now: Instant,
        network: &mut Network,
        check: &mut WireCheck,
        events: &mut Events,
    ) -> Result<(), String> {
        for (number, rules) in self.nics.iter().enumerate() {
            let port = PortId(number as u16);
            while let Some(tx) = self.worker.ports_mut()[number].take_transmitted() {
                check.handle_transmitted(rules, &packet_bytes(&tx, &self.pool))?;
                network.transmit(now, Nic { host: self.id, port }, tx, &self.pool, events);
            }
        }
        Ok(())
    }

    fn run_control(&mut self, now: Instant) {
        while let Some(report) = self.handle.reports.pop() {
            if self.log {
                eprintln!("{now} host {} reports {report:?}", self.id.0);
            }
            self.control.handle_report(now, &report, &mut self.commands);
        }
        if self.control.poll_timeout().is_some_and(|at| at <= now) {
            self.control.handle_timeout(now, &mut self.commands);
        }
    }

    fn run_apps(&mut self, now: Instant) -> Result<crate::sim::app::Step, String> {
        let mut total = crate::sim::app::Step::default();
        while let Some(stream) = self.accept.pop() {
            let (_, tuple) = stream.identity().ok_or("an accepted stream has no identity")?;
            let client_port = tuple.remote.port;
            // A NAT on the way may have changed it.
            let ports = [client_port, client_port.wrapping_sub(NAT_PORTS)];
            let place = self.expected.iter().position(|expected| ports.contains(&expected.client_port));
            let place = place.ok_or(format!("nobody expected a connection from port {client_port}"))?;
            self.apps.push(self.expected.swap_remove(place).app.start(stream));
            total.progress = true;
        }
        for app in &mut self.apps {
            let step = app.step(now, &mut self.app_cache)?;
            total.progress |= step.progress;
            total.next = [total.next, step.next].into_iter().flatten().min();
        }
        Ok(total)
    }
}
