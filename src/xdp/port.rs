//! [`XdpPort`]: one NIC as one worker sees it.

use crate::base::pool::FRAME_SIZE;
use crate::base::{Instant, PoolCache, PortId, RxFrame, TxFrame};
use crate::port::Port;
use crate::wire::ChecksumMode;
use crate::xdp::program::Program;
use crate::xdp::socket::{BATCH, QueueSocket};
use crate::xdp::umem::DescLayout;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use xsk_rs::FrameDesc;

/// One NIC as one worker sees it: that worker's sockets on all of the NIC's queues.
///
/// It receives at all of them and transmits at one, so that its packets keep their order: at a queue whose home it
/// is, where there is one.
#[derive(Debug)]
pub struct XdpPort {
    id: PortId,
    checksum: ChecksumMode,
    sockets: Vec<QueueSocket>,
    /// Of each of `sockets`, whether another worker is its queue's home.
    is_guest: Vec<bool>,
    received_as_guest: u64,
    /// Which of `sockets` transmits.
    transmitter: usize,
    /// Which of `sockets` receives first, in turn.
    next: usize,
    layout: DescLayout,
    /// Queued by `transmit`, and not yet in the ring.
    staged: Vec<FrameDesc>,
    received: Vec<FrameDesc>,
    dropped: u64,
    /// Last: sockets are closed before the program goes.
    _program: Arc<Program>,
}

impl XdpPort {
    pub(crate) fn new(
        id: PortId,
        checksum: ChecksumMode,
        sockets: Vec<QueueSocket>,
        is_guest: Vec<bool>,
        transmitter: usize,
        layout: DescLayout,
        program: Arc<Program>,
    ) -> Self {
        let received = vec![FrameDesc::default(); BATCH];
        let staged = Vec::with_capacity(BATCH);
        Self {
            id,
            checksum,
            sockets,
            is_guest,
            received_as_guest: 0,
            transmitter,
            next: 0,
            layout,
            staged,
            received,
            dropped: 0,
            _program: program,
        }
    }

    /// File descriptors to poll for input while the worker sleeps. They stay valid as long as the port.
    pub fn poll_fds(&self) -> Vec<BorrowedFd<'_>> {
        // SAFETY: a socket's descriptor is open as long as the socket, which `self` owns and the result borrows.
        self.sockets.iter().map(|socket| unsafe { BorrowedFd::borrow_raw(socket.raw_fd()) }).collect()
    }

    /// Packets that were transmitted without room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Fills the receive rings' supply of frames and reclaims completed transmissions, on every queue.
    pub(crate) fn maintain(&mut self, cache: &mut PoolCache) {
        self.sockets.iter_mut().for_each(|socket| socket.maintain(cache));
    }
}

impl Port for XdpPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn checksum(&self) -> ChecksumMode {
        self.checksum
    }

    fn receive(&mut self, _now: Instant, budget: usize, cache: &mut PoolCache, into: &mut Vec<RxFrame>) {
        let mut left = budget;
        for turn in 0..self.sockets.len() {
            let place = (self.next + turn) % self.sockets.len();
            let socket = &mut self.sockets[place];
            while left > 0 {
                let wanted = left.min(BATCH);
                let count = socket.consume(&mut self.received[..wanted]);
                into.extend(self.received[..count].iter().map(|desc| RxFrame {
                    frame: cache.pool().end_fill((desc.addr() / FRAME_SIZE) as u32),
                    offset: (desc.addr() % FRAME_SIZE) as u16,
                    len: desc.lengths().data() as u16,
                }));
                left -= count;
                // A batch at a time: it costs packets nothing.
                if self.is_guest[place] {
                    self.received_as_guest += count as u64;
                }
                if count < wanted {
                    break;
                }
            }
        }
        self.next = (self.next + 1) % self.sockets.len();
        self.maintain(cache);
    }

    fn transmit_room(&mut self, cache: &mut PoolCache) -> usize {
        let socket = &mut self.sockets[self.transmitter];
        socket.maintain(cache);
        socket.room().saturating_sub(self.staged.len())
    }

    fn transmit(&mut self, _now: Instant, packet: TxFrame, cache: &mut PoolCache) {
        if !self.sockets[self.transmitter].has_room(self.staged.len() + 1) {
            self.dropped += 1;
            cache.complete(packet.index);
            return;
        }
        let addr = packet.index as usize * FRAME_SIZE + usize::from(packet.offset);
        self.staged.push(self.layout.desc(addr, packet.len.into()));
    }

    fn flush(&mut self, _now: Instant) -> bool {
        let socket = &mut self.sockets[self.transmitter];
        if !self.staged.is_empty() {
            // SAFETY: each came as a `TxFrame`, which stands for a frame of the pool over this UMEM that is in
            // flight until `PoolCache::complete`, which we call when the completion ring gives it back.
            unsafe { socket.produce(&self.staged) };
            self.staged.clear();
        }
        socket.kick()
    }

    fn pending(&self) -> usize {
        self.staged.len() + self.sockets[self.transmitter].outstanding()
    }

    fn completed(&self) -> u64 {
        self.sockets[self.transmitter].completed()
    }

    fn received_as_guest(&self) -> u64 {
        self.received_as_guest
    }
}

/// A worker's thread takes its ports along.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<XdpPort>();
    is_send::<crate::xdp::XdpSteering>();
};
