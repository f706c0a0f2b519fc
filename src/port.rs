//! The two traits at the sans-IO line: what a worker needs of a NIC, and of the program that steers packets to it.
//! `xdp/` implements them over AF_XDP, `sim/` over simulated pipes.

use crate::base::{Instant, PoolCache, PortId, RxFrame, TxFrame, WorkerId};
use crate::wire::{ChecksumMode, FourTuple};
use std::fmt::Debug;

/// One NIC as one worker sees it: that worker's sockets on all of the NIC's queues.
pub trait Port: Debug {
    /// Which NIC.
    fn id(&self) -> PortId;

    /// Who makes and checks TCP checksums.
    fn checksum(&self) -> ChecksumMode;

    /// Appends up to `budget` packets that have arrived; refills the NIC's receive buffers from `cache`.
    fn receive(&mut self, now: Instant, budget: usize, cache: &mut PoolCache, into: &mut Vec<RxFrame>);

    /// How many packets [`Port::transmit`] will take now. Reclaims completed transmissions through `cache` first.
    fn transmit_room(&mut self, cache: &mut PoolCache) -> usize;

    /// Queues a packet. The caller has asked for room; a packet beyond it is completed at once and counted as dropped.
    fn transmit(&mut self, now: Instant, packet: TxFrame, cache: &mut PoolCache);

    /// Lets the NIC know of what [`Port::transmit`] queued, and that it may sleep no more where it asked for that. True
    /// when it took a part of that and should be told once more, after the other ports.
    fn flush(&mut self, now: Instant) -> bool;

    /// Transmissions that have not completed.
    fn pending(&self) -> usize;

    /// Transmissions that have completed since the port was opened. It may count those of others at the same queue.
    fn completed(&self) -> u64;

    /// Packets received since the port was opened at queues whose home is another worker. None where there are no such
    /// queues.
    fn received_as_guest(&self) -> u64 {
        0
    }
}

/// Why a flow could not be pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// `flow_map` has no room: the flow is refused with RST, and counted.
    #[error("the flow map is full")]
    Full,
    /// The kernel refused for another reason.
    #[error("the kernel refused to pin a flow: errno {0}")]
    Kernel(i32),
}

/// The part of the steering program that a worker changes while it runs: `flow_map`.
pub trait Steering: Debug {
    /// From now on packets of `tuple` go to `worker`.
    fn pin(&mut self, tuple: FourTuple, worker: WorkerId) -> Result<(), PinError>;

    /// Forgets [`Steering::pin`].
    fn unpin(&mut self, tuple: FourTuple);
}
