//! AF_XDP: the NICs, as [`crate::port`] wants them. One UMEM for all, a socket for each worker on each queue, and the
//! steering program of `bpf/` in front of them. Start with [`Xdp::open`].
//!
//! # Who owns a frame when
//!
//! The NIC, the kernel and we work in the same memory, so a frame that two of them believe to be theirs is live traffic
//! that gets corrupted. A frame is always in one of these places; where several are named it may be in all of them at
//! once. Each step is one function, and nothing else takes it.
//!
//! | where a frame is | who may write to it | who may read it | how it gets on |
//! |---|---|---|---|
//! | free: a [`PoolCache`] or the depot | nobody | nobody | [`PoolCache::alloc`] → held |
//! | held: a [`Frame`](crate::base::Frame), one or more | the thread of the connection, in front of the payload and only while it is in no TX ring; who just allocated it, anywhere | all holders | [`FramePool::share`] → held once more; [`PoolCache::free`] → held once less; [`FramePool::start_fill`] → filling; [`FramePool::start_transmit`] → in a TX ring, and held |
//! | filling: fill ring, NIC, receive ring | the NIC | nobody | [`FramePool::end_fill`] → held, by the subflow whose packet it is |
//! | in a TX ring, once or more (with or without holders) | nobody | the NIC, and all holders | [`PoolCache::complete`], by a completion ring → once less |
//!
//! - A frame is free when its last hold and its last transmission have ended, in whatever order they do.
//! - **Receive.** The hold that comes out of a receive ring goes with the payload: assembler, receive queue, application;
//!   the application's drop ends it. A packet without payload gives it back at once.
//! - **Send.** The application allocates, fills in the payload, and its hold goes to the connection's send queue, which
//!   keeps it until the data is acknowledged on the connection's level. Each subflow that carries the bytes has a hold
//!   of its own until its TCP is acknowledged. Headers are written into the headroom for each transmission: so before
//!   each, `mptcp::subflow` asks [`FramePool::in_flight`], and where a NIC still has the frame (a retransmission that
//!   overtakes a slow queue, a reinjection on another NIC) it sends from a copy.
//! - **Acknowledged while in a TX ring.** The holds end, the transmission has not: the frame is not free, and the bytes
//!   stay as they are until the completion comes.
//! - **A NIC that never completes** keeps its frames. `worker::Watch` calls its path dead after a bounded time, and what
//!   else is sent there is dropped as on any dead path, so it gets no more of them.
//! - **A process that dies** owns nothing any more: the kernel closes the sockets, waits for the NICs, and frees the
//!   memory after that.
//! - **In order, at the end**: workers stop, connections give their holds back, sockets are closed, then the XDP link, then
//!   the memory. The other way round a NIC could still write to it.
//!
//! What types can't say is watched: `FramePool::bytes_mut` refuses to write to a frame in flight in every build. Debug and
//! test builds keep a second account of each frame, refuse every step that is not in this table, overwrite what becomes
//! free, and complain at the end about frames that are still held, with the lines of code that held them.

#![allow(unsafe_code)]

pub mod error;
mod ethtool;
mod open;
pub mod port;
mod privilege;
pub mod probe;
mod program;
pub mod raw;
pub mod refusal;
mod socket;
pub mod steering;
pub mod trial;
mod umem;

pub use error::XdpError;
pub use port::XdpPort;
pub use probe::{HostReport, NicReport, probe_host, probe_nic};
pub use refusal::Refusal;
pub use steering::XdpSteering;
pub use trial::{Trial, try_zero_copy};

use crate::base::{FramePool, PoolCache, PortId, WorkerId};
use crate::stack::owner::Reason;
use crate::wire::{ChecksumMode, Endpoint, MacAddr};
use program::Program;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether NICs may read and write the UMEM by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopy {
    /// Where all of the NICs can; else the kernel copies, and [`PortInfo::mode`] says why.
    #[default]
    Prefer,
    /// Where one NIC cannot, none is opened: [`XdpError::ZeroCopyRefused`] says why.
    Require,
    /// The kernel copies.
    Off,
}

/// What to open.
#[derive(Debug, Clone)]
pub struct XdpConfig {
    /// Names of the NICs; their places in the list become their [`PortId`]s.
    pub nics: Vec<String>,
    /// How many workers, at least one.
    pub workers: usize,
    /// Use only the first so many queues of each NIC. Packets that arrive at others are lost to us, so the default
    /// is all of them.
    pub queues: Option<usize>,
    /// Frames of 4096 bytes in the pool.
    pub frames: usize,
    /// Whether to try zero-copy.
    pub zero_copy: ZeroCopy,
    /// Who makes and checks TCP checksums.
    pub checksum: ChecksumMode,
}

/// How packets get from the NIC into the UMEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The NIC writes there itself.
    ZeroCopy,
    /// The kernel copies; why not zero-copy.
    Copy(Refusal),
}

/// A NIC that is open.
#[derive(Debug, Clone)]
pub struct PortInfo {
    /// Its number.
    pub id: PortId,
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The longest IP packet that we take: its MTU, or less where that takes several frames and it can't.
    pub mtu: usize,
    /// What we could take, were its MTU larger.
    pub mtu_most: usize,
    /// Its driver.
    pub driver: String,
    /// Zero-copy or not.
    pub mode: Mode,
    /// Whether the driver itself runs the steering program; else the kernel's slower generic hook does.
    pub native: bool,
    /// How many queues we are present on.
    pub queues: usize,
    /// Who makes and checks TCP checksums.
    pub checksum: ChecksumMode,
}

/// What one worker needs to move packets.
#[derive(Debug)]
pub struct WorkerIo {
    /// One for each NIC, in order of [`PortId`].
    pub ports: Vec<XdpPort>,
    /// To pin its flows.
    pub steering: XdpSteering,
}

/// All NICs, open. The steering program stays attached until this and every [`XdpPort`] are dropped, so that the
/// kernel does not answer for us in between. The memory, and with it the first queue of the first NIC, is given back
/// when the pool is dropped, too.
#[derive(Debug)]
pub struct Xdp {
    /// By worker, until it is taken.
    /// In a mutex only because sockets may not be looked at from two threads; whoever takes has it alone.
    workers: Mutex<Vec<Option<Vec<XdpPort>>>>,
    ports: Vec<PortInfo>,
    pool: Arc<FramePool>,
    program: Arc<Program>,
}

impl Xdp {
    /// Opens the NICs, attaches the steering program, and makes the sockets of all workers. Nothing is steered to
    /// them until [`Xdp::steer_local`].
    ///
    /// # Errors
    /// See [`XdpError`]. Nothing stays attached then.
    pub fn open(config: &XdpConfig) -> Result<Xdp, XdpError> {
        open::open(config)
    }

    /// The frames.
    pub fn pool(&self) -> &Arc<FramePool> {
        &self.pool
    }

    /// The NICs.
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// The sockets of one worker, their fill rings filled from `cache`.
    ///
    /// # Panics
    /// When the worker was taken before or is not one of [`XdpConfig::workers`].
    pub fn take_worker(&mut self, worker: WorkerId, cache: &mut PoolCache) -> WorkerIo {
        let workers = self.workers.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut ports = workers[worker.index()].take().expect("each worker is taken once");
        ports.iter_mut().for_each(|port| port.maintain(cache));
        WorkerIo { ports, steering: XdpSteering::new(self.program.flows()) }
    }

    /// From now on TCP to `local` is ours; its address may be unspecified (`0.0.0.0` and `::` both mean any). With
    /// `mptcp_only`, only SYNs with MP_CAPABLE or MP_JOIN and pinned flows are: plain TCP stays the kernel's.
    ///
    /// # Errors
    /// [`XdpError::LocalFull`] when the table is full.
    pub fn steer_local(&self, local: Endpoint, mptcp_only: bool) -> Result<(), XdpError> {
        self.program.steer_local(local, mptcp_only)
    }

    /// Forgets [`Xdp::steer_local`].
    pub fn unsteer_local(&self, local: Endpoint) {
        self.program.unsteer_local(local);
    }

    /// What the steering program did, by reason: how many packets since it was loaded.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason.name(), self.program.counter(reason))).collect()
    }
}
