//! A worker of ours in memory, with a pool of its own, as in a process of its own; and what carries packets from one to the other, as a
//! NIC would: by copying them from pool to pool.

use braid::base::pool::RX_HEADROOM;
use braid::base::{FramePool, PoolCache, PortId, RxFrame, WorkerId};
use braid::mptcp::Path;
use braid::sim::lab::port::{LabPort, OneWorker};
use braid::stack::message::Command;
use braid::stack::stream::NobodySleeps;
use braid::wire::{ChecksumMode, LinkHeader, MacAddr};
use braid::worker::{Worker, WorkerConfig, WorkerHandle};
use std::sync::Arc;

/// Frames of a pool, and those that each connection may hold for as long as an acknowledgment is delayed.
const FRAMES: usize = 8192;
const FRAMES_EACH: usize = 3;

/// A host.
pub struct Host {
    /// Its one worker.
    pub worker: Worker<LabPort, OneWorker>,
    /// Its rings.
    pub handle: WorkerHandle,
    /// Frames of the application, and of what arrives.
    pub cache: PoolCache,
}

impl Host {
    /// A host for so many connections, whose random numbers follow from `number`.
    pub fn new(number: u64, checksum: ChecksumMode, mtu: u16, max_connections: usize) -> Self {
        let pool = FramePool::new_heap(FRAMES + FRAMES_EACH * max_connections);
        let handle = WorkerHandle::new(Box::new(NobodySleeps));
        let config =
            WorkerConfig { mtus: vec![mtu], max_connections, ..WorkerConfig::new(WorkerId(0), 1, number) };
        let ports = vec![LabPort::new(PortId(0), checksum)];
        let cache = || PoolCache::new(Arc::clone(&pool));
        Self {
            worker: Worker::new(config, ports, OneWorker, cache(), handle.clone()),
            handle,
            cache: cache(),
        }
    }

    /// Tells the worker.
    pub fn command(&self, command: Command) -> Result<(), String> {
        self.handle.command(command).map_err(|_| "the ring of commands is full".to_string())
    }

    /// Its one port.
    pub fn port(&mut self) -> &mut LabPort {
        &mut self.worker.ports_mut()[0]
    }
}

/// Takes what a host has transmitted to the other's memory. For want of a frame there it is lost.
pub fn carry(from: &mut Host, to: &mut PoolCache, mut deliver: impl FnMut(RxFrame)) {
    for packet in from.worker.ports_mut()[0].transmitted() {
        let bytes = from.cache.pool().tx_bytes(&packet);
        if let Some(mut frame) = to.alloc() {
            to.pool().bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + bytes.len()].copy_from_slice(bytes);
            deliver(RxFrame { frame, offset: RX_HEADROOM as u16, len: packet.len, more: false });
        }
        from.cache.complete(packet.index);
    }
}

/// The way from a host to the other.
pub fn path(mtu: u16) -> Path {
    let link = LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    Path { port: PortId(0), link, mtu }
}

/// Nanoseconds of a part of a run.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn timed<T>(into: &mut u64, part: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let result = part();
    *into += start.elapsed().as_nanos() as u64;
    result
}
