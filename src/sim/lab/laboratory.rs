//! The laboratory: hosts, the network between them, flows, cross traffic, and what changes while it runs. Its whole course
//! is a function of its [`Setup`].

use crate::base::pool::{FRAME_SIZE, RX_PACKET_MAX, TX_HEADROOM};
use crate::base::time::Duration;
use crate::base::{FramePool, Instant, Prng, RxFrame};
use crate::sim::lab::fabric::{Fabric, Flying, Hop, LineId, NicId, PORTS, Router};
use crate::sim::lab::filler::{Filler, FillerSpec};
use crate::sim::lab::flow::{FlowId, FlowSpec, Flows, Group};
use crate::sim::lab::host::{HostConfig, LabHost, Surroundings};
use crate::sim::lab::line::LineConfig;
use crate::sim::lab::wheel::Wheel;
use crate::sim::pipe::DownTime;
use crate::sim::trace::Trace;
use crate::wire::ethernet::HEADER_MAX;
use crate::worker::Taken;
use std::fmt;
use std::sync::Arc;

/// What is to come.
pub type Events = Wheel<Event>;

/// The longest packet without payload, as [`crate::worker`] has it.
const ACK_LEN_MAX: u16 = 118;

/// So many hosts do the parts of their turns together, at most: their memory has to fit into the processor's caches, too.
const BATCH_MAX: usize = 16;
/// How many events ahead memory is asked for.
const AHEAD: usize = 6;

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// A packet comes to the end of a line.
    Arrive(Flying),
    /// A host runs.
    Run(u32),
    /// A flow is opened.
    Open(FlowId),
    /// Cross traffic sends a packet.
    Fill(u32),
    /// Something changes.
    Change(u32),
}

/// Something that changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Nothing passes a line, for a time or for ever.
    Down(LineId, Option<Duration>),
    /// A line's delay.
    Delay(LineId, Duration),
    /// A line's rate, in bits a second.
    Rate(LineId, u64),
    /// A line's loss.
    Loss(LineId, f64),
    /// A host sees that one of its NICs has lost its carrier, or has it again.
    Port {
        /// The host.
        host: usize,
        /// Its NIC.
        port: u16,
        /// Whether it can be used.
        up: bool,
    },
}

/// A network: lines, how many NICs each host has, and which ways there are.
#[derive(Debug)]
pub struct Network {
    /// The lines, with the names that results call them by; empty for those that nobody asks about.
    pub lines: Vec<(String, LineConfig)>,
    /// NICs of each host.
    pub nics: Vec<u16>,
    /// The ways.
    pub router: Router,
}

/// Everything that a run follows from.
#[derive(Debug)]
pub struct Setup {
    /// Where all randomness comes from.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// What hosts are like.
    pub host: HostConfig,
    /// Kinds of flows.
    pub groups: Vec<Group>,
    /// The flows.
    pub flows: Vec<FlowSpec>,
    /// Cross traffic.
    pub fillers: Vec<FillerSpec>,
    /// What changes, and when.
    pub changes: Vec<(Instant, Change)>,
    /// Frames that all hosts share. A run for which they do not suffice ends with a [`Fault`] that says so: a result under a
    /// shortage that no experiment asks for would mean nothing.
    pub frames: usize,
}

impl Setup {
    /// Hosts as they usually are, on `network`, with `frames` frames for all of them, and nobody who sends: groups and flows are
    /// to be filled in.
    pub fn new(seed: u64, network: Network, frames: usize) -> Self {
        Self {
            seed,
            network,
            host: HostConfig::default(),
            groups: Vec::new(),
            flows: Vec::new(),
            fillers: Vec::new(),
            changes: Vec::new(),
            frames,
        }
    }
}

/// What went wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Instant,
    /// What.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Fault {}

/// A laboratory.
#[derive(Debug)]
pub struct Laboratory {
    now: Instant,
    events: Events,
    fabric: Fabric,
    hosts: Vec<LabHost>,
    first_nics: Vec<NicId>,
    /// Whose each NIC is.
    owners: Vec<u32>,
    groups: Vec<Group>,
    flows: Flows,
    fillers: Vec<Filler>,
    changes: Vec<Change>,
    trace: Trace,
    /// The trace has all headers whole.
    whole_headers: bool,
    /// Packets with payload that arrived.
    data_packets: u64,
    /// Bytes of such packets, headers included, at each NIC.
    data_bytes: Vec<u64>,
    /// Hosts that have something to do, in order of time.
    batch: Vec<Waiting>,
    /// When somebody could notice at the earliest what the first of them does.
    horizon: Instant,
    /// How long nobody can notice what a host does.
    look_ahead: Duration,
}

/// A host that has something to do.
#[derive(Debug)]
struct Waiting {
    host: usize,
    /// At this time.
    at: Instant,
    /// That has arrived.
    packet: Option<(NicId, RxFrame)>,
    taken: Option<Taken>,
    next: Option<Instant>,
}

/// Bytes of the frames of hosts with this MTU: headroom, and all that can be behind the link header, in whole cache lines.
fn frame_size(mtu: u16) -> usize {
    assert!(usize::from(mtu) <= RX_PACKET_MAX - HEADER_MAX, "the laboratory's packets are of one frame");
    (TX_HEADROOM + usize::from(mtu)).next_multiple_of(64).min(FRAME_SIZE)
}

impl Laboratory {
    /// A laboratory in which nothing has happened yet.
    pub fn new(setup: Setup) -> Self {
        let Setup { seed, network, host, groups, flows, fillers, changes, frames } = setup;
        let Network { lines, nics, router } = network;
        let mut prng = Prng::new(seed);
        let pool = FramePool::new_exclusive(frames, frame_size(host.mtu));
        let lines: Vec<LineConfig> = lines.into_iter().map(|(_, config)| config).collect();
        let count = nics.iter().map(|nics| usize::from(*nics)).sum();
        let fabric = Fabric::new(&lines, count, router, Arc::clone(&pool), Prng::new(prng.next_u64()));
        let mut laboratory = Self {
            now: Instant::ZERO,
            events: Events::default(),
            fabric,
            hosts: Vec::with_capacity(nics.len()),
            first_nics: Vec::new(),
            owners: Vec::new(),
            groups,
            flows: Flows::default(),
            fillers: Vec::new(),
            changes: Vec::new(),
            trace: Trace::default(),
            whole_headers: host.pattern.is_some(),
            data_packets: 0,
            data_bytes: vec![0; count],
            batch: Vec::new(),
            horizon: Instant::ZERO,
            look_ahead: Duration::ZERO,
        };
        laboratory.look_ahead = laboratory.fabric.look_ahead();
        for (number, nics) in nics.into_iter().enumerate() {
            let first = NicId(laboratory.owners.len() as u32);
            laboratory.first_nics.push(first);
            laboratory.owners.extend((0..nics).map(|_| number as u32));
            laboratory.hosts.push(LabHost::new(number, first, nics, &host, &pool, prng.next_u64()));
        }
        flows.into_iter().for_each(|spec| _ = laboratory.add_flow(spec));
        for spec in fillers {
            laboratory.add_filler(&spec, Prng::new(prng.next_u64()));
        }
        for (at, change) in changes {
            let number = laboratory.changes.len() as u32;
            laboratory.changes.push(change);
            laboratory.events.push(at, Event::Change(number));
        }
        laboratory
    }

    /// One more flow, which begins now or later.
    pub fn add_flow(&mut self, spec: FlowSpec) -> FlowId {
        let start = spec.start.max(self.now);
        self.hosts[spec.to].listen(spec.group, &self.groups[spec.group]);
        let flow = self.flows.add(spec);
        self.events.push(start, Event::Open(flow));
        flow
    }

    fn add_filler(&mut self, spec: &FillerSpec, prng: Prng) {
        let route = self.fabric.sink_route(&spec.lines);
        let number = self.fillers.len() as u32;
        let filler = Filler::new(spec, route, prng);
        self.events.push(filler.next_at(), Event::Fill(number));
        self.fillers.push(filler);
    }

    /// Runs until `end`: what happens at `end` or later has not happened then.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run_until(&mut self, end: Instant) -> Result<(), Fault> {
        loop {
            let limit = if self.batch.is_empty() { end } else { self.horizon.min(end) };
            if let Some((now, event)) = self.events.pop_before(limit) {
                self.now = now;
                self.look_ahead();
                self.handle(event).map_err(|what| Fault { at: now, what })?;
            } else if self.batch.is_empty() {
                break;
            } else {
                self.run_batch().map_err(|what| Fault { at: self.now, what })?;
            }
        }
        self.now = self.now.max(end);
        Ok(())
    }

    /// The line that a packet some places ahead comes to is asked for, while the next ones are handled.
    #[inline]
    fn look_ahead(&self) {
        if let Some(Event::Arrive(flying)) = self.events.look_ahead(AHEAD) {
            self.fabric.prefetch(flying);
        }
    }

    #[inline]
    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive(flying) => match self.fabric.step(self.now, flying) {
                Hop::Next(at, flying) => {
                    self.events.push(at, Event::Arrive(flying));
                    Ok(())
                }
                Hop::Arrived(nic, packet) => self.deliver(nic, packet),
                Hop::Gone => Ok(()),
            },
            Event::Run(host) if self.hosts[host as usize].is_awaited(self.now) => {
                self.wake(host as usize, None)
            }
            Event::Run(_) => Ok(()),
            Event::Open(flow) => self.open(flow),
            Event::Fill(number) => {
                self.fill(number);
                Ok(())
            }
            Event::Change(number) => self.change(self.changes[number as usize]),
        }
    }

    #[inline]
    fn deliver(&mut self, nic: NicId, packet: RxFrame) -> Result<(), String> {
        if packet.len > ACK_LEN_MAX {
            self.data_packets += 1;
            self.data_bytes[nic.0 as usize] += u64::from(packet.len);
        }
        self.fabric.pool().prefetch_headers(&packet);
        self.wake(self.owners[nic.0 as usize] as usize, Some((nic, packet)))
    }

    #[inline]
    fn record(&mut self, now: Instant, nic: NicId, packet: &RxFrame) {
        let start = usize::from(packet.offset);
        let bytes = self.fabric.pool().bytes(&packet.frame);
        if self.whole_headers {
            let headers = &bytes[start..start + usize::from(packet.len.min(ACK_LEN_MAX))];
            return self.trace.record(now, nic.0 as usize, headers);
        }
        // Whose it is, how long, and the sequence and acknowledgment numbers: with the times of all packets before, the rest
        // follows from these.
        let word = |at: usize| {
            let word = bytes.get(start + at..).and_then(|bytes| bytes.first_chunk());
            word.map_or(0, |word| u64::from_be_bytes(*word))
        };
        let words = [word(PORTS) ^ u64::from(packet.len) << 16, word(PORTS + 4)];
        self.trace.note(now, nic.0 as usize, words);
    }

    /// A host has something to do now, a packet perhaps. It does it together with those that come next, as long as nobody
    /// can notice.
    #[inline]
    fn wake(&mut self, host: usize, packet: Option<(NicId, RxFrame)>) -> Result<(), String> {
        if self.hosts[host].is_pending() {
            self.run_batch()?;
        }
        self.hosts[host].set_pending(true);
        if self.batch.is_empty() {
            self.horizon = self.now + self.look_ahead;
        }
        self.batch.push(Waiting { host, at: self.now, packet, taken: None, next: None });
        if self.batch.len() >= BATCH_MAX { self.run_batch() } else { Ok(()) }
    }

    /// Runs the hosts that have something to do, a part of a turn after the other. Each has its own time.
    fn run_batch(&mut self) -> Result<(), String> {
        let mut batch = std::mem::take(&mut self.batch);
        for Waiting { host, at, packet, .. } in &mut batch {
            if let Some((nic, packet)) = packet.take() {
                self.record(*at, nic, &packet);
                self.hosts[*host].deliver(nic, packet, self.fabric.pool());
            }
        }
        let hosts = &mut self.hosts;
        let mut around = Surroundings {
            fabric: &mut self.fabric,
            events: &mut self.events,
            flows: &mut self.flows,
            groups: &self.groups,
        };
        for Waiting { host, at, taken, .. } in &mut batch {
            *taken = Some(hosts[*host].take_in(*at, &mut around));
        }
        for Waiting { host, at, .. } in &batch {
            hosts[*host].settle(*at);
        }
        for Waiting { host, at, taken, next, .. } in &mut batch {
            if let Some(taken) = taken.take() {
                *next = hosts[*host].give_out(*at, taken, &mut around);
            }
        }
        let mut result = Ok(());
        for Waiting { host, at, next, .. } in batch.drain(..) {
            hosts[host].set_pending(false);
            let finished = hosts[host].finish(at, next, &mut around);
            result = result.and(finished.map_err(|wrong| format!("host {host}: {wrong}")));
        }
        self.batch = batch;
        result
    }

    /// Runs a host at once.
    fn run_host(&mut self, host: usize) -> Result<(), String> {
        self.run_batch()?;
        self.wake(host, None)?;
        self.run_batch()
    }

    fn open(&mut self, flow: FlowId) -> Result<(), String> {
        let spec = &self.flows.get(flow).spec;
        let (from, to) = (spec.from, spec.to);
        // The listener's command goes first, though no packet can be faster.
        self.run_host(to)?;
        let remote = self.first_nics[to];
        self.hosts[from].open(flow, remote, &mut self.flows, &self.groups);
        self.run_host(from)
    }

    fn fill(&mut self, number: u32) {
        let filler = &mut self.fillers[number as usize];
        if let Some((at, flying)) = self.fabric.transmit_filler(self.now, filler.route(), filler.packet_len())
        {
            self.events.push(at, Event::Arrive(flying));
        }
        filler.advance(self.now);
        self.events.push(filler.next_at(), Event::Fill(number));
    }

    fn change(&mut self, change: Change) -> Result<(), String> {
        self.run_batch()?;
        match change {
            Change::Down(line, lasts) => {
                let until = lasts.map(|lasts| self.now + lasts);
                self.fabric.line_mut(line).take_down(DownTime { from: self.now, until });
            }
            Change::Delay(line, delay) => self.fabric.line_mut(line).set_delay(delay),
            Change::Rate(line, rate_bps) => self.fabric.line_mut(line).set_rate(rate_bps),
            Change::Loss(line, loss) => self.fabric.line_mut(line).set_loss(loss),
            Change::Port { host, port, up } => {
                self.hosts[host].set_port(port, up);
                return self.run_host(host);
            }
        }
        Ok(())
    }

    /// Ends everything, and sees that every frame has come back.
    ///
    /// # Errors
    /// How many have not.
    pub fn close(mut self) -> Result<(), Fault> {
        let now = self.now;
        self.events
            .drain()
            .filter_map(|(_, event)| match event {
                Event::Arrive(flying) => Some(flying),
                _ => None,
            })
            .for_each(|flying| self.fabric.lose(flying));
        for host in &mut self.hosts {
            host.clear(now, &mut self.flows);
        }
        let used = self.fabric.pool().used();
        match used {
            0 => Ok(()),
            _ => Err(Fault {
                at: now,
                what: format!("{used} frames were lost\n{}", self.fabric.pool().held().join("\n")),
            }),
        }
    }

    /// The time that it has come to.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The network.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The hosts.
    pub fn hosts(&self) -> &[LabHost] {
        &self.hosts
    }

    /// The flows.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// The kinds of flows.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// One number for every packet that arrived at a host, with its time, its length and its sequence numbers, or all of its
    /// headers where payload is checked, too: the same for each run of a setup.
    pub fn trace(&self) -> u64 {
        self.trace.value()
    }

    /// Packets that arrived at hosts, and those of them that had payload.
    pub fn packets(&self) -> (u64, u64) {
        (self.trace.packets(), self.data_packets)
    }

    /// Bytes of packets with payload, headers included, that arrived at each NIC.
    pub fn data_bytes(&self) -> &[u64] {
        &self.data_bytes
    }

    /// The NICs of a host.
    pub fn nics_of(&self, host: usize) -> std::ops::Range<usize> {
        let first = self.first_nics[host].0 as usize;
        let end = self.first_nics.get(host + 1).map_or(self.owners.len(), |next| next.0 as usize);
        first..end
    }

    /// Stalls of flows count from now on.
    pub fn forget_stalls(&mut self) {
        self.flows.forget_stalls(self.now);
    }

    /// Events that have happened.
    pub fn event_count(&self) -> u64 {
        self.events.given()
    }
}

#[cfg(test)]
mod tests;
