//! The worker: the only data-path loop, over whatever ports and steering there are. The runtime runs it on a pinned
//! thread over AF_XDP, the simulator runs it in simulated time.
//!
//! One turn, always in this order, each step with a budget: commands, receive, timers, settle (carry data between
//! connections and applications), actions, transmit, reports.
//!
//! A port that gives back nothing of what it was given for a while has *stalled*: it is a dead path. Control is told, and
//! what is sent there meanwhile is lost as on any dead path, so that nobody waits for room that never comes.

use crate::base::time::Duration;
use crate::base::{Instant, PoolCache, PortId, RxFrame, WorkerId};
use crate::port::{Port, Steering};
use crate::stack::stream::{Doorbell, Wake};
use crate::stack::{Action, Command, Counters, PortConfig, Report, Stack, StackConfig};
use crate::tcp::TcpConfig;
use crate::wire::{ChecksumMode, FourTuple};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use watch::Watch;

mod watch;

/// Packets taken from one port in one turn.
const RECEIVE_BUDGET: usize = 256;
/// Packets sent in one turn.
const TRANSMIT_BUDGET: usize = 512;
/// The longest packet without payload: Ethernet with a tag, IPv6, TCP with all its options.
const ACK_LEN_MAX: u16 = 118;
/// Commands taken in one turn.
const COMMAND_BUDGET: usize = 64;
/// Commands and reports that a ring holds.
const RING: usize = 4096;
/// Connections that a doorbell holds before all are looked at.
const DOORBELL: usize = 4096;

/// What a worker is made with.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name.
    pub id: WorkerId,
    /// How many workers there are.
    pub workers: usize,
    /// Seeds everything random. A live host takes it from the operating system.
    pub seed: u64,
    /// Connections at most.
    pub max_connections: usize,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// The MTU of each port, in the order of the ports.
    pub mtus: Vec<u16>,
}

impl WorkerConfig {
    /// The defaults: 65,536 connections, an MTU of 1500 at every port.
    pub fn new(id: WorkerId, workers: usize, seed: u64) -> Self {
        Self { id, workers, seed, max_connections: 65_536, tcp: TcpConfig::default(), mtus: Vec::new() }
    }
}

/// The rings that connect a worker with control and applications.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    /// From control.
    pub commands: Arc<ArrayQueue<Command>>,
    /// To control.
    pub reports: Arc<ArrayQueue<Report>>,
    /// From applications, and to wake the worker.
    pub doorbell: Arc<Doorbell>,
}

impl WorkerHandle {
    /// Empty rings; `wake` makes the worker's poll return.
    pub fn new(wake: Box<dyn Wake>) -> Self {
        Self {
            commands: Arc::new(ArrayQueue::new(RING)),
            reports: Arc::new(ArrayQueue::new(RING)),
            doorbell: Arc::new(Doorbell::new(DOORBELL, wake)),
        }
    }

    /// Gives the worker a command.
    ///
    /// # Errors
    /// The command back when the ring is full: the worker is far behind, and control tries again later.
    #[expect(clippy::result_large_err, reason = "commands are few, and a box would be one for each")]
    pub fn command(&self, command: Command) -> Result<(), Command> {
        self.commands.push(command)?;
        self.doorbell.nudge();
        Ok(())
    }
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Something was done, or waits to be done: the next turn should come at once.
    pub busy: bool,
    /// Packets that had arrived and were longer than an ACK.
    pub data_packets: usize,
    /// Packets longer than an ACK left, or wait in a port that takes more when it is told again.
    pub sends: bool,
    /// Applications have been woken that may have something to send at once.
    pub awaits_answers: bool,
    /// When the next timer is due.
    pub next: Option<Instant>,
}

/// What the first part of a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    busy: bool,
    data_packets: usize,
}

/// What was transmitted in a turn.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    /// Anything.
    any: bool,
    /// [`Turn::sends`].
    sends: bool,
}

/// A worker.
#[derive(Debug)]
pub struct Worker<P, S> {
    id: WorkerId,
    stack: Stack,
    ports: Vec<P>,
    steering: S,
    cache: PoolCache,
    handle: WorkerHandle,
    /// Frames of one port's batch; kept for its memory.
    batch: Vec<RxFrame>,
    rooms: Vec<usize>,
    sent: Vec<bool>,
    watches: Vec<Watch>,
    /// Packets that were lost at ports that had stalled.
    lost: u64,
    /// A report is in the ring that should not wait there.
    urgent: bool,
}

impl<P: Port, S: Steering> Worker<P, S> {
    /// A worker over `ports`, whose numbers are their places.
    pub fn new(
        config: WorkerConfig,
        ports: Vec<P>,
        steering: S,
        cache: PoolCache,
        handle: WorkerHandle,
    ) -> Self {
        let WorkerConfig { id, workers, seed, max_connections, tcp, mtus } = config;
        let port_config = |(index, port): (usize, &P)| {
            assert!(port.id().index() == index, "ports come in the order of their numbers");
            PortConfig { checksum: port.checksum(), mtu: mtus.get(index).copied().unwrap_or(1500) }
        };
        let configs = ports.iter().enumerate().map(port_config).collect();
        let stack_config = StackConfig { worker: id, workers, seed, max_connections, tcp, ports: configs };
        Self {
            id,
            stack: Stack::new(stack_config, Arc::clone(&handle.doorbell)),
            rooms: vec![0; ports.len()],
            sent: vec![false; ports.len()],
            watches: ports.iter().map(|_| Watch::default()).collect(),
            lost: 0,
            urgent: false,
            ports,
            steering,
            cache,
            handle,
            batch: Vec::with_capacity(RECEIVE_BUDGET),
        }
    }

    /// One turn: [`Worker::take_in`], [`Worker::settle`], [`Worker::give_out`].
    pub fn turn(&mut self, now: Instant) -> Turn {
        let taken = self.take_in(now);
        self.settle(now);
        self.give_out(now, taken)
    }

    /// The first part of a turn: commands and packets. A simulator of many hosts does each part for several of them in a row:
    /// the code of a whole turn is more than the processor's first cache holds.
    pub fn take_in(&mut self, now: Instant) -> Taken {
        let commands = self.take_commands(now);
        let (packets, data_packets) = self.receive(now);
        Taken { busy: commands || packets > 0, data_packets }
    }

    /// The second part: what is due, and what connections and applications have for each other.
    pub fn settle(&mut self, now: Instant) {
        self.stack.handle_timeout(now, &mut self.cache);
        self.stack.handle_doorbell();
        self.stack.settle(now, &mut self.cache);
        self.steer(now);
    }

    /// The last part: packets and reports leave.
    pub fn give_out(&mut self, now: Instant, taken: Taken) -> Turn {
        let Taken { mut busy, data_packets } = taken;
        let Given { any, sends } = self.transmit(now);
        busy |= any;
        self.watch(now);
        self.report();
        let watches = self.watches.iter().filter_map(Watch::poll_timeout);
        let awaits_answers = self.stack.awaits_answers();
        Turn {
            busy,
            data_packets,
            sends,
            awaits_answers,
            next: watches.chain(self.stack.poll_timeout()).min(),
        }
    }

    fn take_commands(&mut self, now: Instant) -> bool {
        // To see that a ring is empty costs less than to pop in vain, and it nearly always is.
        if self.handle.commands.is_empty() {
            return false;
        }
        for taken in 0..COMMAND_BUDGET {
            let Some(command) = self.handle.commands.pop() else { return taken > 0 };
            if let Command::PortState { port, up: true } = command {
                self.forgive(port);
            }
            self.stack.handle_command(now, command, &mut self.cache);
        }
        true
    }

    /// A port can be used again, says control.
    fn forgive(&mut self, port: PortId) {
        if self.watches.get_mut(port.index()).is_some_and(Watch::reset) {
            self.stack.queue_report(Report::PortStalled { port, stalled: false });
        }
    }

    /// How many packets arrived, and how many of them were longer than an ACK.
    fn receive(&mut self, now: Instant) -> (usize, usize) {
        let (mut packets, mut data_packets) = (0, 0);
        for index in 0..self.ports.len() {
            let port = &mut self.ports[index];
            port.receive(now, RECEIVE_BUDGET, &mut self.cache, &mut self.batch);
            packets += self.batch.len();
            data_packets += self.batch.iter().filter(|frame| frame.len > ACK_LEN_MAX).count();
            // The kernel, or the NIC, has written them on another processor: each comes while the one before is worked on.
            let looks_at_all = port.checksum() == ChecksumMode::Software;
            let mut batch = self.batch.drain(..);
            while let Some(frame) = batch.next() {
                if let Some(next) = batch.as_slice().first().filter(|_| looks_at_all) {
                    self.cache.pool().prefetch_packet(next);
                }
                self.stack.handle_frame(now, PortId(index as u16), frame, &mut self.cache);
            }
        }
        if packets > 0 {
            let as_guest = self.ports.iter().map(Port::received_as_guest).sum();
            self.stack.set_received_as_guest(as_guest);
        }
        (packets, data_packets)
    }

    fn steer(&mut self, now: Instant) {
        while let Some(action) = self.stack.poll_action() {
            match action {
                Action::Pin(tuple) => {
                    if self.steering.pin(tuple, self.id).is_err() {
                        self.stack.handle_pin_failure(now, tuple, &mut self.cache);
                    }
                }
                Action::Unpin(tuple) => self.steering.unpin(tuple),
            }
        }
    }

    fn transmit(&mut self, now: Instant) -> Given {
        let cache = &mut self.cache;
        for (index, (room, port)) in self.rooms.iter_mut().zip(&mut self.ports).enumerate() {
            *room = port.transmit_room(cache);
            if self.watches[index].is_stalled() {
                *room = TRANSMIT_BUDGET;
            }
        }
        let (mut given, mut left, mut is_open) = (Given::default(), TRANSMIT_BUDGET, false);
        while left > 0 || is_open {
            let Some((port, packet)) = self.stack.poll_transmit(now, &self.rooms, cache) else { break };
            let index = port.index();
            left = left.saturating_sub(1);
            is_open = packet.more;
            self.rooms[index] -= 1;
            given.any = true;
            given.sends |= packet.len > ACK_LEN_MAX;
            if self.watches[index].is_stalled() {
                // A dead path loses what it is given; and a frame that goes in there does not come out.
                self.lost += 1;
                cache.complete(packet.index);
                continue;
            }
            self.sent[index] = true;
            self.ports[index].transmit(now, packet, cache);
        }
        for (index, port) in self.ports.iter_mut().enumerate() {
            let watch = &mut self.watches[index];
            // Also without new packets: a NIC may not have taken all of the last ones yet.
            let is_wanted = self.sent[index] || port.pending() > 0;
            if is_wanted && (!watch.is_stalled() || watch.take_kick(now)) {
                let goes_on = port.flush(now);
                given.any |= goes_on;
                given.sends |= goes_on;
            }
        }
        given
    }

    /// Whether ports give back what they are given.
    fn watch(&mut self, now: Instant) {
        for (index, port) in self.ports.iter().enumerate() {
            let sent = std::mem::take(&mut self.sent[index]);
            let change = self.watches[index].look(now, sent, port.pending(), port.completed());
            if let Some(stalled) = change {
                self.stack.queue_report(Report::PortStalled { port: port.id(), stalled });
            }
        }
    }

    /// How soon to look for completions, which wake nobody: `usually`, or later where only ports that have stalled owe
    /// some.
    pub fn reclaim_within(&self, usually: Duration) -> Option<Duration> {
        let owing = self.ports.iter().zip(&self.watches).filter(|(port, _)| port.pending() > 0);
        owing
            .map(|(_, watch)| if watch.is_stalled() { usually.max(watch::KICK_INTERVAL) } else { usually })
            .min()
    }

    /// Packets that were lost at ports that had stalled.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn report(&mut self) {
        while let Some(report) = self.stack.poll_report() {
            self.urgent |= !report.can_wait();
            if let Err(report) = self.handle.reports.push(report) {
                self.stack.return_report(report);
                return;
            }
        }
    }

    /// Whether control has been told something since the last call that it should hear at once.
    pub fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.urgent)
    }

    /// A packet of this flow is about to be received: the memory of its connection may come into the cache meanwhile.
    pub fn expect(&mut self, tuple: &FourTuple) {
        self.stack.expect(tuple);
    }

    /// Whether nothing waits in the rings. To be asked after [`Doorbell::prepare_sleep`].
    pub fn is_quiet(&self) -> bool {
        self.handle.commands.is_empty() && self.handle.doorbell.is_quiet() && !self.stack.has_work()
    }

    /// The ports.
    pub fn ports(&self) -> &[P] {
        &self.ports
    }

    /// The ports, for a simulator that moves packets in and out.
    pub fn ports_mut(&mut self) -> &mut [P] {
        &mut self.ports
    }

    /// The free frames of this worker.
    pub fn cache(&mut self) -> &mut PoolCache {
        &mut self.cache
    }

    /// The stack, to look at.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The counts.
    pub fn counters(&self) -> &Counters {
        self.stack.counters()
    }

    /// Ends all connections and gives every frame back that the stack holds.
    pub fn clear(&mut self, now: Instant) {
        self.stack.clear(now, &mut self.cache);
        self.report();
    }
}
