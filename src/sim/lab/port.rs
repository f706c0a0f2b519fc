//! A NIC of the laboratory, as its host's worker sees it: it takes any number of packets and is done with them at once.
//! What waits, waits in the queue of the line behind it.

use crate::base::{Instant, PoolCache, PortId, RxFrame, TxFrame, WorkerId};
use crate::port::{PinError, Port, Steering};
use crate::wire::{ChecksumMode, FourTuple};

/// A NIC.
#[derive(Debug)]
pub struct LabPort {
    id: PortId,
    checksum: ChecksumMode,
    inbox: Vec<RxFrame>,
    outbox: Vec<TxFrame>,
}

impl LabPort {
    /// An idle NIC.
    pub fn new(id: PortId, checksum: ChecksumMode) -> Self {
        Self { id, checksum, inbox: Vec::new(), outbox: Vec::new() }
    }

    /// A packet has come over the wire.
    pub fn deliver(&mut self, packet: RxFrame) {
        self.inbox.push(packet);
    }

    /// What the worker has transmitted.
    pub fn transmitted(&mut self) -> std::vec::Drain<'_, TxFrame> {
        self.outbox.drain(..)
    }
}

impl Port for LabPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn checksum(&self) -> ChecksumMode {
        self.checksum
    }

    fn receive(&mut self, _now: Instant, budget: usize, _cache: &mut PoolCache, into: &mut Vec<RxFrame>) {
        into.extend(self.inbox.drain(..budget.min(self.inbox.len())));
    }

    fn transmit_room(&mut self, _cache: &mut PoolCache) -> usize {
        usize::MAX
    }

    fn transmit(&mut self, _now: Instant, packet: TxFrame, _cache: &mut PoolCache) {
        self.outbox.push(packet);
    }

    fn flush(&mut self, _now: Instant) -> bool {
        false
    }

    fn pending(&self) -> usize {
        0
    }

    fn completed(&self) -> u64 {
        0
    }
}

/// A host of the laboratory has one worker: nothing needs steering.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneWorker;

impl Steering for OneWorker {
    fn pin(&mut self, _tuple: FourTuple, _worker: WorkerId) -> Result<(), PinError> {
        Ok(())
    }

    fn unpin(&mut self, _tuple: FourTuple) {}
}
