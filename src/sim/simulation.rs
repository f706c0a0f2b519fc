//! The event loop: hosts, the network between them, faults that come at a time or after so many bytes, and the
//! checks at the end. [`run`] is a function of its scenario.

use crate::base::time::Duration;
use crate::base::{Instant, PortId, Prng};
use crate::mptcp::{FallbackReason, Path};
use crate::sim::app::SimApp;
use crate::sim::check::{WireCheck, describe_frame};
use crate::sim::event::EventHeap;
use crate::sim::host::{Host, PlannedApp};
use crate::sim::network::{HostId, Network, NetworkEvent, PipeId};
use crate::sim::pattern::Pattern;
use crate::sim::pipe::{DownTime, PipeCounters};
use crate::sim::progress::{LOOK_EVERY, ProgressCheck};
use crate::sim::scenario::{ConnectionSpec, Fault, Scenario, When};
use crate::sim::trace::Trace;
use crate::sim::wish::TimedWish;
use crate::tcp::TcpCounters;
use crate::wire::{Endpoint, FourTuple};
use std::fmt;

/// The heap of a simulation.
pub type Events = EventHeap<Event>;

/// The server listens here.
pub const SERVER_PORT: u16 = 5201;
/// The local port of the first connection.
const FIRST_CLIENT_PORT: u16 = 50_000;
/// The client is the first host, the server the second.
const CLIENT: HostId = HostId(0);
const SERVER: HostId = HostId(1);

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    /// In the network.
    Network(NetworkEvent),
    /// A host runs.
    Run(HostId),
    /// A connection is opened.
    Connect(usize),
    /// A link fails.
    Fail(usize),
    /// The hosts notice that a link is back.
    Restore(usize),
    /// The checker of progress looks.
    Look,
    /// A user wants something.
    Wish(usize),
    /// Completions stop at a NIC, or come again.
    Completions {
        /// Which stop.
        stop: usize,
        /// Whether they come.
        come: bool,
    },
}

impl From<NetworkEvent> for Event {
    fn from(event: NetworkEvent) -> Self {
        Event::Network(event)
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The trace: the same for every run of the same scenario.
    pub trace: u64,
    /// Packets that arrived.
    pub packets: u64,
    /// When all applications had finished.
    pub finished: Instant,
    /// When nothing was left to do.
    pub idle: Instant,
    /// Application bytes received and checked.
    pub bytes: u64,
    /// Further subflows that joined, at the client.
    pub joined: u64,
    /// How often a NIC stalled, at both ends.
    pub stalled: u64,
    /// SYNs whose data a server took (RFC 7413), by the clients' and by the servers' count.
    pub early_data: [u64; 2],
    /// Wishes of users that the path managers of both ends agreed to.
    pub granted: u64,
    /// How often an end was asked for a subflow to be a backup, or none any more.
    pub priorities: u64,
    /// MPTCP connections seen on the wire.
    pub mptcp: usize,
    /// Data acknowledgments checked.
    pub data_acks: u64,
    /// Faults that happened.
    pub faults: usize,
    /// Bytes that left through each pipe, in the order of the links, client to server first.
    pub pipe_bytes: Vec<u64>,
    /// What TCP counted at the client and at the server.
    pub tcp: [TcpCounters; 2],
    /// Why each connection is plain TCP, at the client and at the server; `None`: it is MPTCP.
    pub fallback: Vec<[Option<FallbackReason>; 2]>,
    /// The most subflows that the client had at one time.
    pub most_subflows: usize,
    /// The longest that a transfer with a usable path waited, in hundredths of what it may; 0 where nobody looked.
    pub longest_wait_percent: u64,
    /// Bytes that a middlebox had changed, and the applications were told to expect.
    pub changed_bytes: u64,
}

/// What happened in a while of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Application bytes received and checked in it.
    pub bytes: u64,
    /// Packets that arrived.
    pub packets: u64,
    /// What TCP counted at the client and at the server, from the beginning of the run.
    pub tcp: [TcpCounters; 2],
    /// What became of the packets of each pipe from the beginning of the run, client to server first.
    pub pipes: Vec<PipeCounters>,
}

/// What went wrong in a run, when, and where everything stood.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// What.
    pub what: String,
    /// Where the hosts and pipes stood.
    pub state: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}\n{}", self.at, self.what, self.state)
    }
}

impl std::error::Error for Failure {}

/// Runs `scenario` to its end.
///
/// # Errors
/// The first checker's complaint.
pub fn run(scenario: &Scenario) -> Result<Outcome, Failure> {
    let mut simulation = Simulation::new(scenario);
    match simulation.run() {
        Ok(outcome) => Ok(outcome),
        Err(what) => Err(Failure { at: simulation.now, what, state: simulation.describe() }),
    }
}

/// Runs `scenario` until `to`, and measures from `from` on. The applications need not finish: they may have more to send
/// than they can.
///
/// # Errors
/// The first checker's complaint, or that the run ended before.
pub fn measure(scenario: &Scenario, from: Instant, to: Instant) -> Result<Measurement, Failure> {
    let mut simulation = Simulation::new(scenario);
    let mut measure = || {
        simulation.run_until(from)?;
        let (bytes, packets) = (simulation.received(), simulation.trace.packets());
        simulation.run_until(to)?;
        Ok(Measurement {
            bytes: simulation.received() - bytes,
            packets: simulation.trace.packets() - packets,
            tcp: simulation.tcp_counters(),
            pipes: simulation.network.counters(),
        })
    };
    measure().map_err(|what: String| Failure { at: simulation.now, what, state: simulation.describe() })
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    now: Instant,
    hosts: Vec<Host>,
    network: Network,
    events: Events,
    check: WireCheck,
    progress: ProgressCheck,
    trace: Trace,
    prng: Prng,
    faults: Vec<FaultState>,
    /// Connections that were opened.
    opened: usize,
    finished: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultState {
    Waiting,
    Happened,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut prng = Prng::new(scenario.seed);
        let hosts = scenario
            .hosts
            .iter()
            .enumerate()
            .map(|(id, spec)| Host::new(HostId(id), spec, prng.next_u64()))
            .collect();
        let network = Network::new(&scenario.links, Prng::new(prng.next_u64()));
        let mut simulation = Self {
            scenario,
            now: Instant::ZERO,
            hosts,
            network,
            events: Events::default(),
            check: WireCheck::default(),
            progress: ProgressCheck::default(),
            trace: Trace::default(),
            prng,
            faults: vec![FaultState::Waiting; scenario.faults.len()],
            opened: 0,
            finished: None,
        };
        simulation.hosts.iter_mut().for_each(|host| host.set_log(scenario.log));
        simulation.hosts[SERVER.0].listen(SERVER_PORT, scenario.listen);
        simulation.wake(SERVER, Instant::ZERO);
        for (number, connection) in scenario.connections.iter().enumerate() {
            simulation.events.push(connection.start, Event::Connect(number));
        }
        for (number, fault) in scenario.faults.iter().enumerate() {
            if let When::At(at) = fault.when {
                simulation.events.push(at, Event::Fail(number));
            }
        }
        for (number, wish) in scenario.wishes.iter().enumerate() {
            simulation.events.push(wish.at, Event::Wish(number));
        }
        if scenario.watch_progress {
            simulation.events.push(Instant::ZERO, Event::Look);
        }
        for (number, stop) in scenario.stops.iter().enumerate() {
            simulation.events.push(stop.at, Event::Completions { stop: number, come: false });
            if let Some(lasts) = stop.lasts {
                simulation.events.push(stop.at + lasts, Event::Completions { stop: number, come: true });
            }
        }
        simulation
    }

    fn run(&mut self) -> Result<Outcome, String> {
        let deadline = Instant::ZERO + self.scenario.deadline;
        let horizon = deadline + self.scenario.linger;
        while let Some((now, event)) = self.events.pop() {
            debug_assert!(now >= self.now, "time does not run backwards");
            self.now = now;
            if self.finished.is_none() && now > deadline {
                return Err(format!("no end after {:?}", self.scenario.deadline));
            }
            if now > horizon {
                return Err(String::from(
                    "everything has finished, but something still goes on: a timer is left",
                ));
            }
            self.handle(event)?;
        }
        if self.finished.is_none() {
            return Err(String::from("nothing is left to do, but not everything has finished"));
        }
        for (id, host) in self.hosts.iter_mut().enumerate() {
            host.check_idle(self.now).map_err(|wrong| format!("host {id}: {wrong}"))?;
        }
        Ok(self.outcome())
    }

    fn run_until(&mut self, end: Instant) -> Result<(), String> {
        while self.events.next_at().ok_or("nothing is left to do")? < end {
            if let Some((now, event)) = self.events.pop() {
                self.now = now;
                self.handle(event)?;
            }
        }
        Ok(())
    }

    fn tcp_counters(&self) -> [TcpCounters; 2] {
        [CLIENT, SERVER].map(|host| self.hosts[host.0].tcp_counters())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Network(event) => self.handle_network(event),
            Event::Run(host) => self.run_host(host),
            Event::Connect(number) => {
                self.connect(number, &self.scenario.connections[number]);
                Ok(())
            }
            Event::Fail(number) => {
                self.fail(number);
                Ok(())
            }
            Event::Wish(number) => {
                let TimedWish { host, wish, at: _ } = self.scenario.wishes[number];
                self.hosts[host.0].wish(self.now, wish);
                self.wake(host, self.now);
                Ok(())
            }
            Event::Completions { stop, come } => {
                let nic = self.scenario.stops[stop].nic;
                self.hosts[nic.host.0].set_completions(nic.port, come);
                self.wake(nic.host, self.now);
                Ok(())
            }
            Event::Look => self.look(),
            Event::Restore(number) => {
                self.progress.link_changed(self.now);
                self.announce_port_state(&self.scenario.faults[number], true);
                Ok(())
            }
        }
    }

    /// As long as something goes on, the checker of progress looks.
    fn look(&mut self) -> Result<(), String> {
        if self.finished.is_some() || self.events.is_empty() {
            return Ok(());
        }
        let (now, network) = (self.now, &self.network);
        self.progress.look(now, &self.hosts, |port| network.is_up(now, port.index()))?;
        self.events.push(now + LOOK_EVERY, Event::Look);
        Ok(())
    }

    fn handle_network(&mut self, event: NetworkEvent) -> Result<(), String> {
        match event {
            NetworkEvent::LineFree(pipe) => {
                let pool = self.hosts[self.network.source(pipe).host.0].pool();
                self.network.handle_line_free(self.now, pipe, pool, &mut self.events);
            }
            NetworkEvent::Released(pipe) => self.network.handle_released(self.now, pipe, &mut self.events),
            NetworkEvent::Completed { nic, tx } => {
                let host = &mut self.hosts[nic.host.0];
                if !tx.is_untouched(host.pool()) {
                    return Err(format!("host {} wrote to a frame in flight", nic.host.0));
                }
                let mut wants_room = false;
                for frame in &tx.tx {
                    wants_room |= host.complete(nic.port, frame.index);
                }
                if wants_room {
                    self.wake(nic.host, self.now);
                }
            }
            NetworkEvent::Arrived { pipe, packet, damaged } => {
                self.log(pipe, &packet, damaged);
                self.trace.record(self.now, pipe.0, &packet);
                let nic = self.network.destination(pipe);
                self.hosts[nic.host.0].deliver(nic.port, &packet);
                // A worker finds packets in batches: it looks a little later than they come.
                let late = self.prng.below(self.scenario.poll_delay.as_nanos() + 1);
                self.wake(nic.host, self.now + Duration::from_nanos(late));
            }
        }
        Ok(())
    }

    fn run_host(&mut self, id: HostId) -> Result<(), String> {
        let host = &mut self.hosts[id.0];
        if host.wake_at() != Some(self.now) {
            return Ok(());
        }
        let next = host
            .run(self.now, &mut self.network, &mut self.check, &mut self.events)
            .map_err(|wrong| format!("host {}: {wrong}", id.0))?;
        if let Some(next) = next {
            // A timer that is due already had its turn; it gets the next nanosecond, so that time goes on.
            self.wake(id, next.max(self.now + Duration::from_nanos(1)));
        }
        for number in 0..self.faults.len() {
            let When::AfterBytes(bytes) = self.scenario.faults[number].when else { continue };
            let joined = self.hosts.iter().all(|host| self.all_joined(host));
            if self.faults[number] == FaultState::Waiting && joined && self.received() >= bytes {
                self.fail(number);
            }
        }
        let all_opened = self.opened == self.scenario.connections.len();
        if self.finished.is_none() && all_opened && self.hosts.iter().all(Host::is_finished) {
            self.finished = Some(self.now);
        }
        Ok(())
    }

    /// Whether every connection of a host has a subflow on every link.
    fn all_joined(&self, host: &Host) -> bool {
        let connections = self.scenario.connections.len();
        host.control().counters().established == connections as u64
            && host.control().subflows() >= connections * self.scenario.links.len()
    }

    fn connect(&mut self, number: usize, connection: &ConnectionSpec) {
        self.opened += 1;
        let client = &self.scenario.hosts[CLIENT.0].nics[connection.nic];
        let server = &self.scenario.hosts[SERVER.0].nics[connection.nic];
        let client_port = FIRST_CLIENT_PORT + number as u16;
        let tuple = FourTuple {
            local: Endpoint::new(client.addr, client_port),
            remote: Endpoint::new(server.addr, SERVER_PORT),
        };
        let (up, down) = (Pattern::new(self.prng.next_u64()), Pattern::new(self.prng.next_u64()));
        let mut planned = |side, spec, outgoing, incoming| PlannedApp {
            name: format!("{side} of connection {number}"),
            connection: number,
            spec,
            outgoing,
            incoming,
            prng: Prng::new(self.prng.next_u64()),
        };
        let app = planned("client", connection.client, up, down);
        let answer = planned("server", connection.server, down, up);
        let port = PortId(connection.nic as u16);
        let path = Path { port, link: client.link, mtu: client.mtu };
        self.hosts[SERVER.0].expect(client_port, answer);
        self.hosts[CLIENT.0].connect(port, tuple, path, connection.options, app);
        self.wake(CLIENT, self.now);
    }

    fn fail(&mut self, number: usize) {
        let fault = &self.scenario.faults[number];
        self.faults[number] = FaultState::Happened;
        self.progress.link_changed(self.now);
        let until = fault.lasts.map(|lasts| self.now + lasts);
        self.network.take_down(fault.link, DownTime { from: self.now, until });
        self.announce_port_state(fault, false);
        if let Some(until) = until {
            self.events.push(until, Event::Restore(number));
        }
    }

    /// The hosts that can see the fault are told.
    fn announce_port_state(&mut self, fault: &Fault, up: bool) {
        let link = &self.scenario.links[fault.link];
        for nic in [link.a, link.b].into_iter().filter(|nic| fault.seen_by.is(nic.host)) {
            self.hosts[nic.host.0].port_state(self.now, nic.port, up);
            self.wake(nic.host, self.now);
        }
    }

    /// Sees to it that a host runs at `at` or before.
    fn wake(&mut self, id: HostId, at: Instant) {
        let host = &mut self.hosts[id.0];
        if host.wake_at().is_none_or(|before| at < before) {
            host.set_wake_at(at);
            self.events.push(at, Event::Run(id));
        }
    }

    fn received(&self) -> u64 {
        self.hosts.iter().flat_map(|host| host.apps()).map(|app| app.received()).sum()
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            trace: self.trace.value(),
            packets: self.trace.packets(),
            finished: self.finished.unwrap_or(self.now),
            idle: self.now,
            bytes: self.received(),
            joined: self.hosts[CLIENT.0].control().counters().joined,
            stalled: self.hosts.iter().map(|host| host.control().counters().stalled).sum(),
            early_data: [
                self.hosts[CLIENT.0].fast_open().sent_accepted,
                self.hosts[SERVER.0].fast_open().accepted,
            ],
            granted: self.hosts.iter().map(|host| host.control().counters().granted).sum(),
            priorities: self.hosts.iter().map(|host| host.control().counters().priorities).sum(),
            mptcp: self.check.connections(),
            data_acks: self.check.data_acks(),
            faults: self.faults.iter().filter(|state| **state == FaultState::Happened).count(),
            tcp: self.tcp_counters(),
            pipe_bytes: self.network.counters().iter().map(|counters| counters.sent_bytes).collect(),
            fallback: (0..self.opened)
                .map(|connection| [CLIENT, SERVER].map(|host| self.hosts[host.0].fallback(connection)))
                .collect(),
            most_subflows: self.hosts[CLIENT.0].control().counters().most_subflows,
            longest_wait_percent: self.progress.longest_percent(),
            changed_bytes: self.hosts.iter().flat_map(|host| host.apps()).map(SimApp::changed).sum(),
        }
    }

    fn describe(&mut self) -> String {
        let mut text = String::new();
        for (id, host) in self.hosts.iter_mut().enumerate() {
            text += &format!("  host {id}:\n    {}\n", host.describe());
        }
        for (id, counters) in self.network.counters().iter().enumerate() {
            text += &format!("  pipe {id}: {counters:?}\n");
        }
        text + &format!("  faults: {:?}, events to come: {}", self.faults, self.events.len())
    }

    fn log(&self, pipe: PipeId, packet: &[u8], damaged: bool) {
        if self.scenario.log {
            let note = if damaged { "damaged " } else { "" };
            eprintln!("{} pipe {} {note}{}", self.now, pipe.0, describe_frame(packet));
        }
    }
}
