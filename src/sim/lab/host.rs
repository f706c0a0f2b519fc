//! A host of the laboratory: the production worker over its NICs, the control that opens subflows as the experiment
//! wants them, and the applications of its flows. All hosts share one pool of frames.

use crate::base::time::Duration;
use crate::base::{FramePool, Instant, PoolCache, PortId, RxFrame, WorkerId};
use crate::mptcp::Path;
use crate::pm::Bundles;
use crate::sim::lab::app::{App, Role};
use crate::sim::lab::fabric::{Fabric, NicId, SOURCE};
use crate::sim::lab::flow::{FlowId, Flows, Group};
use crate::sim::lab::laboratory::{Event, Events};
use crate::sim::lab::port::{LabPort, OneWorker};
use crate::sim::pattern::Pattern;
use crate::stack::stream::NobodySleeps;
use crate::stack::{AcceptQueue, Command, ConnectionId, ListenOptions, ListenerId, Report, StreamShared};
use crate::tcp::TcpConfig;
use crate::wire::mptcp::AddressId;
use crate::wire::{ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr};
use crate::worker::{Taken, Worker, WorkerConfig, WorkerHandle};
use slotmap::SecondaryMap;
use std::sync::Arc;

/// Hosts listen here for flows of the first group, at the next port for those of the second, and so on.
const SERVER_PORT: u16 = 1_000;
/// The first local port of a host's connections and subflows: from lower ones come answers.
pub(super) const FIRST_PORT: u16 = 10_000;
/// Connections that wait to be accepted, at most: nobody is slow here.
const BACKLOG: usize = 4_096;
/// A worker that is busy for so many turns at one point in time will be so for ever.
const TURNS_MAX: usize = 10_000;
/// A reader of a bulk flow waits for so many chunks, where the receive buffer holds many times that.
const READ_CHUNKS: usize = 16;
const READ_BATCH_BUFFER: u32 = 1 << 19;
/// A subflow that failed is opened again after this time.
const REJOIN: Duration = Duration::from_secs(1);

/// The flow of a packet as its receiver sees it.
#[inline]
fn tuple_of(packet: &RxFrame, pool: &FramePool) -> Option<FourTuple> {
    let fields = pool.bytes(&packet.frame).get(usize::from(packet.offset) + SOURCE..)?;
    let [s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1] = *fields.first_chunk()?;
    let end = |addr: [u8; 4], port| Endpoint::new(addr.into(), u16::from_be_bytes(port));
    Some(FourTuple { local: end([d0, d1, d2, d3], [dp0, dp1]), remote: end([s0, s1, s2, s3], [sp0, sp1]) })
}

/// Bytes that a connection has not sent yet, and how many more it takes.
fn waiting(worker: &Worker<LabPort, OneWorker>, connection: ConnectionId) -> (u64, u64) {
    let connection = worker.stack().connection(connection);
    connection.map_or((0, 0), |connection| (connection.unsent(), connection.write_room()))
}

/// What all hosts have in common.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// Who makes and checks TCP checksums.
    pub checksum: ChecksumMode,
    /// Bytes of an IP packet at most.
    pub mtu: u16,
    /// Applications send and check a pattern that follows from this; without it nobody looks at payload.
    pub pattern: Option<u64>,
}

impl Default for HostConfig {
    /// Ethernet's MTU, TCP as it is elsewhere, and payload that nobody looks at; nor does a line change a bit.
    fn default() -> Self {
        Self { tcp: TcpConfig::default(), checksum: ChecksumMode::Off, mtu: 1500, pattern: None }
    }
}

/// What a host needs of the laboratory when it runs.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The network.
    pub fabric: &'a mut Fabric,
    /// What is to come.
    pub events: &'a mut Events,
    /// All flows.
    pub flows: &'a mut Flows,
    /// All groups.
    pub groups: &'a [Group],
}

/// A host.
#[derive(Debug)]
pub struct LabHost {
    number: u32,
    first_nic: NicId,
    nics: u16,
    config: HostConfig,
    worker: Worker<LabPort, OneWorker>,
    handle: WorkerHandle,
    accept: Arc<AcceptQueue>,
    apps: SecondaryMap<ConnectionId, App>,
    /// Flows that were told to open, until their connections have names.
    opening: Vec<App>,
    commands: Vec<Command>,
    /// Connections that are coupled with others.
    bundles: Bundles,
    /// Groups that it listens for.
    listening: Vec<usize>,
    next_port: u16,
    /// Subflows to open again, and when: flow and place.
    rejoins: Vec<(Instant, FlowId, usize)>,
    wake_at: Instant,
    /// It waits to run with others.
    pending: bool,
}

impl LabHost {
    /// A host with `nics` NICs, the first of which is `first_nic`.
    pub fn new(
        number: usize,
        first_nic: NicId,
        nics: u16,
        config: &HostConfig,
        pool: &Arc<FramePool>,
        seed: u64,
    ) -> Self {
        let ports = (0..nics).map(|port| LabPort::new(PortId(port), config.checksum)).collect();
        let handle = WorkerHandle::new(Box::new(NobodySleeps));
        let mut worker = WorkerConfig::new(WorkerId(0), 1, seed);
        worker.tcp = config.tcp;
        worker.mtus = vec![config.mtu; usize::from(nics)];
        let cache = PoolCache::new(Arc::clone(pool));
        Self {
            number: number as u32,
            first_nic,
            nics,
            config: config.clone(),
            worker: Worker::new(worker, ports, OneWorker, cache, handle.clone()),
            handle,
            accept: AcceptQueue::new(BACKLOG),
            apps: SecondaryMap::new(),
            opening: Vec::new(),
            commands: Vec::new(),
            bundles: Bundles::default(),
            listening: Vec::new(),
            // Different from host to host, so that hashes of ports differ.
            next_port: FIRST_PORT + (number as u16 % 64) * 512,
            rejoins: Vec::new(),
            wake_at: Instant::from_nanos(u64::MAX),
            pending: false,
        }
    }

    /// A packet has arrived at a NIC. It is handled when the host runs.
    #[inline]
    pub fn deliver(&mut self, nic: NicId, packet: RxFrame, pool: &FramePool) {
        if let Some(tuple) = tuple_of(&packet, pool) {
            self.worker.expect(&tuple);
        }
        self.worker.ports_mut()[(nic.0 - self.first_nic.0) as usize].deliver(packet);
    }

    /// Accepts flows of a group from now on.
    pub fn listen(&mut self, group: usize, options: &Group) {
        if self.listening.contains(&group) {
            return;
        }
        self.listening.push(group);
        self.commands.push(Command::Listen {
            id: ListenerId(group as u32),
            port: SERVER_PORT + group as u16,
            addr: None,
            options: ListenOptions { connection: options.options },
            accept: Arc::clone(&self.accept),
        });
    }

    /// Opens a flow to a host whose first NIC is `remote`.
    pub fn open(&mut self, id: FlowId, remote: NicId, flows: &mut Flows, groups: &[Group]) {
        let spec = &flows.get(id).spec;
        let (ends, group, size) = (spec.subflows[0], spec.group, spec.size);
        let tuple = self.new_tuple(ends.from, NicId(remote.0 + u32::from(ends.to)), group);
        flows.get_mut(id).tuples[0] = Some(tuple);
        flows.opens(tuple.local.addr, tuple.local.port, id);
        let stream = StreamShared::new(Arc::clone(&self.handle.doorbell));
        let path = self.path(ends.from);
        let options = groups[group].options;
        self.commands.push(Command::Connect { tuple, path, options, stream: Arc::clone(&stream) });
        let role = Role::Sender { left: size, closed: false };
        self.opening.push(App::new(id, stream, role, 1, self.pattern(id)));
    }

    /// A NIC lost its carrier, or has it again.
    pub fn set_port(&mut self, port: u16, up: bool) {
        self.commands.push(Command::PortState { port: PortId(port), up });
    }

    /// Runs everything of the host until nothing more is to do now: [`LabHost::take_in`], [`LabHost::settle`],
    /// [`LabHost::give_out`] and [`LabHost::finish`].
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn run(&mut self, now: Instant, around: &mut Surroundings<'_>) -> Result<(), String> {
        let taken = self.take_in(now, around);
        self.settle(now);
        let next = self.give_out(now, taken, around);
        self.finish(now, next, around)
    }

    /// The first part of a run: what control says, and packets.
    #[inline(never)]
    pub fn take_in(&mut self, now: Instant, around: &mut Surroundings<'_>) -> Taken {
        if !self.rejoins.is_empty() {
            self.rejoin(now, around);
        }
        if !self.commands.is_empty() {
            self.push_commands();
        }
        self.worker.take_in(now)
    }

    /// The second part: what connections and applications have for each other.
    #[inline(never)]
    pub fn settle(&mut self, now: Instant) {
        self.feed();
        self.worker.settle(now);
    }

    /// Senders whose connections are carried data for next give them as much as can leave soon.
    fn feed(&mut self) {
        // By place: an application needs the worker's frames.
        for place in 0..usize::MAX {
            let stack = self.worker.stack();
            let Some(connection) = stack.unsettled().nth(place) else { return };
            let Some(app) = self.apps.get_mut(connection).filter(|app| app.is_sender()) else { continue };
            let waiting = waiting(&self.worker, connection);
            app.feed(waiting, self.worker.cache());
        }
    }

    /// The third part: packets leave. Gives when the worker wants its next turn.
    #[inline(never)]
    pub fn give_out(&mut self, now: Instant, taken: Taken, around: &mut Surroundings<'_>) -> Option<Instant> {
        let next = self.worker.give_out(now, taken).next;
        self.transmit(now, around);
        next
    }

    /// The last part: control and applications, and again from the beginning if they have something for the worker.
    ///
    /// # Errors
    /// What went wrong, in words.
    #[inline(never)]
    pub fn finish(
        &mut self,
        now: Instant,
        mut next: Option<Instant>,
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            if !self.opening.is_empty() {
                self.start_opened(around);
            }
            if !self.handle.reports.is_empty() {
                self.take_reports(now, around);
            }
            if !self.accept.is_empty() {
                self.accept(around)?;
            }
            self.run_apps(now, around)?;
            if self.commands.is_empty() && self.worker.is_quiet() {
                self.sleep(next, now, around.events);
                return Ok(());
            }
            let taken = self.take_in(now, around);
            self.settle(now);
            next = self.give_out(now, taken, around);
        }
        Err(Self::busy_for_ever(around))
    }

    #[cold]
    fn busy_for_ever(around: &Surroundings<'_>) -> String {
        let pool = around.fabric.pool();
        format!(
            "a worker was busy for {TURNS_MAX} turns at one point in time; {} of {} frames are free",
            pool.depot(),
            pool.frames()
        )
    }

    /// Whether an event that was to wake it at `now` is the latest that was scheduled.
    pub fn is_awaited(&self, now: Instant) -> bool {
        self.wake_at == now
    }

    /// Whether it waits to run with others.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// It waits to run with others, or does so no more.
    #[inline]
    pub fn set_pending(&mut self, pending: bool) {
        self.pending = pending;
    }

    /// The connections of this host.
    pub fn worker(&self) -> &Worker<LabPort, OneWorker> {
        &self.worker
    }

    /// Ends all connections, so that every frame comes back to the pool.
    pub fn clear(&mut self, now: Instant, flows: &mut Flows) {
        self.worker.clear(now);
        let apps = std::mem::take(&mut self.apps);
        for mut app in apps.into_iter().map(|(_, app)| app).chain(self.opening.drain(..)) {
            app.end(flows.get_mut(app.flow), self.worker.cache());
        }
        while self.handle.reports.pop().is_some() {}
        self.worker.cache().flush();
    }

    fn path(&self, port: u16) -> Path {
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let link = LinkHeader { src: mac(1), dst: mac(2), vlan: None };
        Path { port: PortId(port), link, mtu: self.config.mtu }
    }

    fn pattern(&self, flow: FlowId) -> Option<Pattern> {
        self.config
            .pattern
            .map(|seed| Pattern::new(seed ^ u64::from(flow.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn new_tuple(&mut self, port: u16, remote: NicId, group: usize) -> FourTuple {
        let local = Endpoint::new(NicId(self.first_nic.0 + u32::from(port)).addr(), self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        FourTuple { local, remote: Endpoint::new(remote.addr(), SERVER_PORT + group as u16) }
    }

    /// Sees to it that it runs at `next`, or before.
    fn sleep(&mut self, next: Option<Instant>, now: Instant, events: &mut Events) {
        let rejoin = self.rejoins.iter().map(|(at, ..)| *at).min();
        let Some(next) = [next, rejoin].into_iter().flatten().min() else { return };
        // An event that comes too early finds the host with nothing to do, and schedules the next one. That is cheaper
        // than one for each turn: a deadline moves with nearly every packet, and nearly always later.
        if self.wake_at <= now || next < self.wake_at {
            // A timer that is due already had its turn; it gets the next nanosecond, so that time goes on. And the others
            // may be a little further than this host.
            let next = next.max(now + Duration::from_nanos(1)).max(events.earliest());
            self.wake_at = next;
            events.push(next, Event::Run(self.number));
        }
    }

    #[cold]
    fn push_commands(&mut self) {
        let mut refused = Vec::new();
        for command in self.commands.drain(..) {
            // In order: behind one that found no room, all wait.
            match refused.is_empty() {
                true => refused.extend(self.handle.commands.push(command).err()),
                false => refused.push(command),
            }
        }
        self.commands = refused;
    }

    #[inline]
    fn transmit(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        for port in 0..self.nics {
            let nic = NicId(self.first_nic.0 + u32::from(port));
            for tx in self.worker.ports_mut()[usize::from(port)].transmitted() {
                if let Some((at, flying)) = around.fabric.transmit(now, nic, tx) {
                    around.events.push(at, Event::Arrive(flying));
                }
            }
        }
    }

    /// Flows whose connections have names now.
    #[cold]
    fn start_opened(&mut self, around: &mut Surroundings<'_>) {
        for mut app in std::mem::take(&mut self.opening) {
            let flow = around.flows.get_mut(app.flow);
            match app.connection() {
                Some(connection) => {
                    flow.connection = Some(connection);
                    self.apps.insert(connection, app);
                }
                None if app.is_closed() => app.end(flow, self.worker.cache()),
                None => self.opening.push(app),
            }
        }
    }

    #[cold]
    fn accept(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        while let Some(stream) = self.accept.pop() {
            let (connection, tuple) = stream.identity().ok_or("an accepted stream has no identity")?;
            let remote = tuple.remote;
            let flow = around.flows.opener(remote.addr, remote.port);
            let flow = flow.ok_or_else(|| format!("nobody opened a connection from {remote}"))?;
            let spec = &around.flows.get(flow).spec;
            let options = &around.groups[spec.group].options;
            let bulk = spec.size.is_none() && options.receive_buffer >= READ_BATCH_BUFFER;
            let read_chunks = if bulk { READ_CHUNKS } else { 1 };
            let app = App::new(flow, stream, Role::Reader { closed: false }, read_chunks, self.pattern(flow));
            self.apps.insert(connection, app);
        }
        Ok(())
    }

    /// Applications whose connections had something.
    fn run_apps(&mut self, now: Instant, around: &mut Surroundings<'_>) -> Result<(), String> {
        for place in 0..self.worker.stack().attended().len() {
            let connection = self.worker.stack().attended()[place];
            let Some(app) = self.apps.get_mut(connection) else { continue };
            if app.is_sender() {
                // All that it had has left: there may be room for more.
                let waiting = waiting(&self.worker, connection);
                if waiting.0 == 0 && app.feed(waiting, self.worker.cache()) {
                    app.ring();
                }
            } else {
                app.read(now, around.flows.get_mut(app.flow), self.worker.cache())?;
            }
        }
        Ok(())
    }

    #[cold]
    fn take_reports(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        while let Some(report) = self.handle.reports.pop() {
            self.handle_report(now, &report, around);
        }
    }

    fn handle_report(&mut self, now: Instant, report: &Report, around: &mut Surroundings<'_>) {
        self.commands.extend(self.bundles.handle_report(now, WorkerId(0), report));
        match *report {
            Report::JoinsAllowed { connection } => {
                let Some(app) = self.apps.get(connection).filter(|app| app.is_sender()) else { return };
                let (id, flow) = (app.flow, around.flows.get(app.flow));
                let missing = flow.tuples.iter().enumerate().filter(|(_, tuple)| tuple.is_none());
                let missing: Vec<usize> = missing.map(|(place, _)| place).collect();
                missing.into_iter().for_each(|place| self.join(id, place, around));
            }
            Report::SubflowClosed { connection, tuple, .. } => {
                let Some(app) = self.apps.get(connection).filter(|app| app.is_sender()) else { return };
                let flow = around.flows.get(app.flow);
                let place = flow.tuples.iter().position(|known| *known == Some(tuple));
                if let Some(place) = place.filter(|_| !app.is_done()) {
                    self.rejoins.push((now + REJOIN, app.flow, place));
                }
            }
            Report::Closed { connection, .. } => {
                if let Some(mut app) = self.apps.remove(connection) {
                    app.end(around.flows.get_mut(app.flow), self.worker.cache());
                }
            }
            Report::Established { .. }
            | Report::SubflowEstablished { .. }
            | Report::AddressAnnounced { .. }
            | Report::AddressWithdrawn { .. }
            | Report::PriorityChanged { .. }
            | Report::Described { .. }
            | Report::Counted { .. }
            | Report::Paths { .. }
            | Report::PortStalled { .. }
            | Report::Finished { .. } => {}
        }
    }

    #[cold]
    fn rejoin(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        let (due, later) = self.rejoins.drain(..).partition(|(at, ..)| *at <= now);
        self.rejoins = later;
        for (_, flow, place) in due {
            self.join(flow, place, around);
        }
    }

    /// Opens a further subflow.
    fn join(&mut self, id: FlowId, place: usize, around: &mut Surroundings<'_>) {
        let flow = around.flows.get(id);
        let (Some(connection), Some(Some(first))) = (flow.connection, flow.tuples.first()) else { return };
        if !self.apps.contains_key(connection) {
            return;
        }
        let (first_ends, ends, group) = (flow.spec.subflows[0], flow.spec.subflows[place], flow.spec.group);
        let std::net::IpAddr::V4(addr) = first.remote.addr else { return };
        let remote = NicId::from_addr(addr).0 + u32::from(ends.to) - u32::from(first_ends.to);
        let tuple = self.new_tuple(ends.from, NicId(remote), group);
        around.flows.get_mut(id).tuples[place] = Some(tuple);
        self.commands.push(Command::OpenSubflow {
            connection,
            tuple,
            path: self.path(ends.from),
            local_id: AddressId(if ends.from == first_ends.from { 0 } else { ends.from as u8 + 1 }),
            remote_id: AddressId(if ends.to == first_ends.to { 0 } else { ends.to as u8 + 1 }),
            backup: false,
        });
    }
}
