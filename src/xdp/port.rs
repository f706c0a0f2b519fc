//! [`XdpPort`]: one NIC as one worker sees it.

use crate::base::{Instant, PoolCache, PortId, RxFrame, TxFrame};
use crate::port::Port;
use crate::wire::ChecksumMode;
use std::os::fd::BorrowedFd;

/// One NIC as one worker sees it: that worker's sockets on all of the NIC's queues.
#[derive(Debug)]
pub struct XdpPort {}

impl XdpPort {
    /// File descriptors to poll for input while the worker sleeps. They stay valid as long as the port.
    pub fn poll_fds(&self) -> Vec<BorrowedFd<'_>> {
        todo!()
    }
}

impl Port for XdpPort {
    fn id(&self) -> PortId {
        todo!()
    }
    fn checksum(&self) -> ChecksumMode {
        todo!()
    }
    fn receive(&mut self, _: Instant, _: usize, _: &mut PoolCache, _: &mut Vec<RxFrame>) {
        todo!()
    }
    fn transmit_room(&mut self, _: &mut PoolCache) -> usize {
        todo!()
    }
    fn transmit(&mut self, _: Instant, _: TxFrame, _: &mut PoolCache) {
        todo!()
    }
    fn flush(&mut self, _: Instant) {
        todo!()
    }
    fn pending(&self) -> usize {
        todo!()
    }
}
