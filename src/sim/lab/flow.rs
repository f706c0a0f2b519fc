//! Flows: one connection each from a host to another, and what becomes of it.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::stack::{CloseReason, ConnectOptions, ConnectionId};
use crate::wire::FourTuple;
use std::collections::HashMap;
use std::net::IpAddr;

/// Names a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);

impl FlowId {
    /// As an index into the list of flows.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Flows of a kind: they have a name in results, and options.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How both ends are opened.
    pub options: ConnectOptions,
}

/// A subflow: from which NIC of the sender to which NIC of the receiver, counted in their hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// At the sender.
    pub from: u16,
    /// At the receiver.
    pub to: u16,
}

/// A flow to be.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowSpec {
    /// Of which kind.
    pub group: usize,
    /// The host that sends.
    pub from: usize,
    /// The host that receives.
    pub to: usize,
    /// The connection's subflows; the first opens it, and the others join as soon as they may.
    pub subflows: Vec<Ends>,
    /// When it is opened.
    pub start: Instant,
    /// How many bytes; `None`: as many as there is time for.
    pub size: Option<u64>,
}

/// A flow.
#[derive(Debug)]
pub struct Flow {
    /// What it was to be.
    pub spec: FlowSpec,
    /// Its connection at the sender, once it is opened.
    pub connection: Option<ConnectionId>,
    /// The ends of its subflows as the sender sees them, in the order of [`FlowSpec::subflows`]; those that have not
    /// been opened yet are missing.
    pub tuples: Vec<Option<FourTuple>>,
    /// Bytes that the receiving application has read.
    pub received: u64,
    /// When it had read the last one.
    pub finished: Option<Instant>,
    /// The last time that it read something.
    pub read_at: Instant,
    /// The longest time that it waited for more.
    pub stall: Duration,
    /// Why the connection ended before all was done.
    pub failed: Option<CloseReason>,
}

impl Flow {
    /// A flow that has not begun.
    pub fn new(spec: FlowSpec) -> Self {
        Self {
            connection: None,
            tuples: vec![None; spec.subflows.len()],
            received: 0,
            finished: None,
            read_at: spec.start,
            stall: Duration::ZERO,
            failed: None,
            spec,
        }
    }

    /// The receiver has read `bytes`.
    pub fn on_read(&mut self, now: Instant, bytes: u64) {
        self.received += bytes;
        self.stall = self.stall.max(now.since(self.read_at));
        self.read_at = now;
        if self.spec.size == Some(self.received) {
            self.finished = Some(now);
        }
    }

    /// How long it took, once it is finished.
    pub fn completion_time(&self) -> Option<Duration> {
        self.finished.map(|finished| finished.since(self.spec.start))
    }
}

/// All flows of a laboratory, and whose an accepted connection is.
#[derive(Debug, Default)]
pub struct Flows {
    list: Vec<Flow>,
    /// By the address and port that opened the connection.
    openers: HashMap<(IpAddr, u16), FlowId>,
}

impl Flows {
    /// One more.
    pub fn add(&mut self, spec: FlowSpec) -> FlowId {
        let id = FlowId(self.list.len() as u32);
        self.list.push(Flow::new(spec));
        id
    }

    /// A flow is opened from here.
    pub fn opens(&mut self, addr: IpAddr, port: u16, flow: FlowId) {
        self.openers.insert((addr, port), flow);
    }

    /// Whose a connection from here is.
    pub fn opener(&self, addr: IpAddr, port: u16) -> Option<FlowId> {
        self.openers.get(&(addr, port)).copied()
    }

    /// What they waited until now does not count.
    pub fn forget_stalls(&mut self, now: Instant) {
        for flow in &mut self.list {
            flow.stall = Duration::ZERO;
            flow.read_at = flow.read_at.max(now);
        }
    }

    /// A flow.
    pub fn get(&self, flow: FlowId) -> &Flow {
        &self.list[flow.index()]
    }

    /// A flow, to change it.
    pub fn get_mut(&mut self, flow: FlowId) -> &mut Flow {
        &mut self.list[flow.index()]
    }

    /// All.
    pub fn list(&self) -> &[Flow] {
        &self.list
    }
}
