//! [`XdpPort`]: one NIC as one worker sees it.

use crate::base::pool::{FRAME_SIZE, PACKET_FRAMES};
use crate::base::{Instant, PoolCache, PortId, RxFrame, TxFrame};
use crate::port::Port;
use crate::wire::ChecksumMode;
use crate::xdp::program::Program;
use crate::xdp::socket::{BATCH, QueueSocket, XDP_PKT_CONTD};
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
    /// The packet of the last frame goes on in the next one.
    is_open: bool,
    /// And the frames of it are dropped.
    drops: bool,
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
            is_open: false,
            drops: false,
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
                    more: desc.has_more_frames(),
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
        if !std::mem::replace(&mut self.is_open, packet.more) {
            // A packet leaves whole or not at all.
            let frames = if packet.more { PACKET_FRAMES } else { 1 };
            self.drops = !self.sockets[self.transmitter].has_room(self.staged.len() + frames);
            self.dropped += u64::from(self.drops);
        }
        if self.drops {
            return cache.complete(packet.index);
        }
        let addr = packet.index as usize * FRAME_SIZE + usize::from(packet.offset);
        let mut desc = self.layout.desc(addr, packet.len.into());
        if packet.more {
            desc.set_options(XDP_PKT_CONTD);
        }
        self.staged.push(desc);
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
