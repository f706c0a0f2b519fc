//! One worker's AF_XDP socket on one queue, and the queue's fill and completion rings.
//!
//! A queue has one pair of these rings, however many sockets are on it. Its *home* worker looks after them. The other
//! workers, its *guests*, help where they find the rings unattended: a guest's packets are lost when the fill ring
//! runs dry, and its transmissions stop when the completion ring is full, and the home may be asleep meanwhile. So the
//! rings stand behind a lock that nobody waits for: who finds it taken leaves the work to the one who has it.

use crate::base::PoolCache;
use crate::base::pool::FRAME_SIZE;
use crate::xdp::XdpError;
use crate::xdp::umem::{DescLayout, RING, SharedUmem};
use std::error::Error as _;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

/// Entries of a receive ring, and of a transmit ring.
const RX_RING: u32 = 4096;
const TX_RING: u32 = 4096;
/// Descriptors that move between a ring and us at a time.
pub(crate) const BATCH: usize = 256;
/// Packets that one system call transmits in copy mode, where the kernel lets us choose: a path that takes long over
/// each packet must not keep the others waiting.
const SEND_BATCH: libc::c_int = 64;
/// Packets that wait in the transmit ring at most in copy mode, where nothing but our own next call takes them out: two
/// calls' worth. More would only wait: a queue in which data and ACKs age, and that no congestion control is told of.
const COPY_BACKLOG: u32 = 2 * SEND_BATCH as u32;
/// A fill ring is topped up when so many frames are missing.
const FILL_BATCH: usize = 64;
/// XDP_MAX_TX_SKB_BUDGET of <linux/if_xdp.h> (Linux 6.17): packets that one system call transmits in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// XDP_PKT_CONTD of <linux/if_xdp.h> (Linux 6.6): the packet goes on in the next descriptor.
pub(crate) const XDP_PKT_CONTD: u32 = 1;
/// Bytes of packets that a socket may have on their way in copy mode: above what its ring holds.
const SEND_BUFFER: usize = 32 << 20;
/// The kernel takes a moment to free a queue that was closed: so often we ask, and so long we wait in between.
const BUSY_RETRIES: usize = 100;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// What all sockets of one queue share.
#[derive(Debug)]
pub(crate) struct Queue {
    rings: Mutex<Rings>,
    /// Descriptors in the transmit and completion rings.
    outstanding: AtomicUsize,
    /// Descriptors that the completion ring has given back since the beginning.
    completed: AtomicU64,
}

#[derive(Debug)]
struct Rings {
    fill: FillQueue,
    completion: CompQueue,
    /// How many frames the fill ring should hold.
    fill_target: usize,
    layout: DescLayout,
    batch: Vec<FrameDesc>,
}

impl Rings {
    /// Tops the fill ring up. A pool that is exhausted fills it later.
    fn refill(&mut self, cache: &mut PoolCache) {
        let filled = RING as usize - self.fill.nb_free(RING) as usize;
        let mut wanted = self.fill_target.saturating_sub(filled);
        if wanted < FILL_BATCH.min(self.fill_target) {
            return;
        }
        while wanted > 0 {
            self.batch.clear();
            while self.batch.len() < wanted.min(BATCH) {
                let Some(frame) = cache.alloc() else { break };
                let index = cache.pool().start_fill(frame);
                self.batch.push(self.layout.desc(index as usize * FRAME_SIZE, 0));
            }
            // SAFETY: frames of this UMEM, that the pool gave us just now and nobody else has.
            let produced = unsafe { self.fill.produce(&self.batch) };
            assert_eq!(produced, self.batch.len(), "the fill ring has the room that it told of");
            if produced < wanted.min(BATCH) {
                return;
            }
            wanted -= produced;
        }
    }

    /// Gives completed transmissions back to the pool. Returns how many.
    fn reap(&mut self, cache: &mut PoolCache) -> usize {
        let mut reaped = 0;
        loop {
            self.batch.resize(BATCH, FrameDesc::default());
            // SAFETY: the ring belongs to the same UMEM as all descriptors that we make.
            let count = unsafe { self.completion.consume(&mut self.batch) };
            for desc in &self.batch[..count] {
                cache.complete((desc.addr() / FRAME_SIZE) as u32);
            }
            reaped += count;
            if count < BATCH {
                return reaped;
            }
        }
    }
}

/// One worker's socket on one queue.
#[derive(Debug)]
pub(crate) struct QueueSocket {
    tx: TxQueue,
    rx: RxQueue,
    queue: Arc<Queue>,
    zero_copy: bool,
}

/// What to bind to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) nic: &'a str,
    pub(crate) queue: u32,
    pub(crate) zero_copy: bool,
    /// Packets may come, and leave, in several frames. The first socket of a UMEM decides for all.
    pub(crate) scattered: bool,
    /// How many frames its fill ring should hold.
    pub(crate) fill_target: usize,
}

impl QueueSocket {
    /// The sockets of `workers` workers on one queue.
    pub(crate) fn open_all(
        umem: &SharedUmem,
        place: Place<'_>,
        workers: usize,
    ) -> Result<Vec<Self>, BindError> {
        let (tx, rx, rings) = create(umem, place)?;
        let (fill, completion) = rings.ok_or(BindError::Guest(libc::EEXIST))?;
        let rings = Rings {
            fill,
            completion,
            fill_target: place.fill_target.min(RING as usize),
            layout: umem.layout,
            batch: Vec::with_capacity(BATCH),
        };
        let queue = Arc::new(Queue {
            rings: Mutex::new(rings),
            outstanding: AtomicUsize::new(0),
            completed: AtomicU64::new(0),
        });
        let zero_copy = place.zero_copy;
        let mut sockets = vec![Self { tx, rx, queue: Arc::clone(&queue), zero_copy }];
        let _stand_in = StandIn::new(umem, sockets[0].raw_fd()).map_err(BindError::Refused)?;
        while sockets.len() < workers {
            let (tx, rx, _) = create(umem, place).map_err(|error| match error {
                BindError::Refused(errno) => BindError::Guest(errno),
                other => other,
            })?;
            sockets.push(Self { tx, rx, queue: Arc::clone(&queue), zero_copy });
        }
        Ok(sockets)
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }

    /// Takes up to `into.len()` packets off the receive ring.
    pub(crate) fn consume(&mut self, into: &mut [FrameDesc]) -> usize {
        // SAFETY: the descriptors are only written to, with what the kernel put into the ring of this UMEM.
        unsafe { self.rx.consume(into) }
    }

    /// Looks after the queue's rings, unless another worker is doing so.
    pub(crate) fn maintain(&mut self, cache: &mut PoolCache) {
        let Ok(mut rings) = self.queue.rings.try_lock() else { return };
        let reaped = rings.reap(cache);
        if reaped > 0 {
            self.queue.outstanding.fetch_sub(reaped, Ordering::Relaxed);
            self.queue.completed.fetch_add(reaped as u64, Ordering::Relaxed);
        }
        rings.refill(cache);
        // Checked with every visit and not only after filling: the NIC may have found the ring empty in between.
        if rings.fill.needs_wakeup() {
            // What it says now it says again at the next visit.
            let _ = rings.fill.wakeup(self.rx.fd_mut(), 0);
        }
    }

    /// How many descriptors [`QueueSocket::produce`] would take now.
    pub(crate) fn room(&mut self) -> usize {
        self.tx.nb_free_exact().saturating_sub(self.kept_free()) as usize
    }

    /// Whether it would take so many. Looks at what the kernel has done only where it must.
    pub(crate) fn has_room(&mut self, descs: usize) -> bool {
        let wanted = descs as u32 + self.kept_free();
        self.tx.nb_free(wanted) >= wanted
    }

    /// Places of the transmit ring that are not used.
    fn kept_free(&self) -> u32 {
        if self.zero_copy { 0 } else { TX_RING - COPY_BACKLOG }
    }

    /// Puts descriptors into the transmit ring.
    ///
    /// # Safety
    /// They are of frames of this UMEM that are in flight, and stay so until the completion ring says otherwise.
    pub(crate) unsafe fn produce(&mut self, descs: &[FrameDesc]) {
        // Counted before: another worker may see the completions at once.
        self.queue.outstanding.fetch_add(descs.len(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        let produced = unsafe { self.tx.produce(descs) };
        assert_eq!(produced, descs.len(), "the transmit ring has the room that it told of");
    }

    /// Makes the kernel transmit what is in the ring, as far as it can without waiting. True when it took a part of it
    /// and would take more: in copy mode the call transmits, here and now, and no more than [`SEND_BATCH`] packets, so
    /// that the other NICs and what arrives have their turn; in zero-copy mode it only rings the bell.
    pub(crate) fn kick(&mut self) -> bool {
        let free = self.tx.nb_free_exact();
        if free == TX_RING || !self.tx.needs_wakeup() {
            return false;
        }
        // Its errors are temporary (no room in a device queue, link down) or mean that the NIC is gone, which control
        // hears of by netlink. Whether it got further shows in the ring.
        if self.tx.wakeup().is_err() || self.zero_copy {
            return false;
        }
        let now = self.tx.nb_free_exact();
        now > free && now < TX_RING
    }

    /// Transmissions of this queue, of all workers, that have not completed.
    pub(crate) fn outstanding(&self) -> usize {
        self.queue.outstanding.load(Ordering::Relaxed)
    }

    /// Transmissions of this queue, of all workers, that have completed.
    pub(crate) fn completed(&self) -> u64 {
        self.queue.completed.load(Ordering::Relaxed)
    }
}

/// Makes guests of a queue possible.
///
/// A guest names, when it binds, a socket whose rings it will share: one on its own queue. libxdp always names the
/// first socket of the UMEM, which is on the first queue of the first NIC. So while guests of another queue are made,
/// that queue's socket stands behind the first socket's number. Nothing but bind looks at the number meanwhile: NICs
/// are opened before workers start.
struct StandIn {
    first: RawFd,
    saved: OwnedFd,
}

impl StandIn {
    fn new(umem: &SharedUmem, home: RawFd) -> Result<Option<Self>, i32> {
        let first = *umem.first.get_or_init(|| home);
        if first == home {
            return Ok(None);
        }
        // SAFETY: both descriptors are of sockets that are open.
        let saved = unsafe { libc::fcntl(first, libc::F_DUPFD_CLOEXEC, 0) };
        if saved < 0 {
            return Err(last_errno());
        }
        // SAFETY: the call gave us a new descriptor.
        let stand_in = Self { first, saved: unsafe { OwnedFd::from_raw_fd(saved) } };
        replace(home, first)?;
        Ok(Some(stand_in))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        replace(self.saved.as_raw_fd(), self.first).expect("an open descriptor takes the place of another");
    }
}

/// Lets `number` be another name of `fd`'s socket.
fn replace(fd: RawFd, number: RawFd) -> Result<(), i32> {
    // SAFETY: both are open. What `number` named until now has another name, so nothing is closed.
    if unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) } < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Why a socket could not be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BindError {
    /// The kernel's answer.
    Refused(i32),
    /// The queue has a socket of ours, and takes no second one.
    Guest(i32),
    /// Somebody else's socket is on the queue.
    Busy,
}

impl BindError {
    /// Whether zero-copy may be what was refused. Drivers have many ways to say so, EBUSY among them; where it was
    /// something else, copy mode is refused as well.
    pub(crate) fn refuses_zero_copy(self) -> bool {
        match self {
            BindError::Refused(_) | BindError::Busy => true,
            BindError::Guest(_) => false,
        }
    }

    pub(crate) fn errno(self) -> i32 {
        match self {
            BindError::Refused(errno) | BindError::Guest(errno) => errno,
            BindError::Busy => libc::EBUSY,
        }
    }

    pub(crate) fn explain(self, nic: &str, queue: u32) -> XdpError {
        let error = io::Error::from_raw_os_error(self.errno());
        match self {
            BindError::Busy => XdpError::QueueBusy { name: nic.to_owned(), queue },
            BindError::Refused(_) => XdpError::kernel(format!("bind to queue {queue} of {nic}"), error),
            BindError::Guest(_) => XdpError::kernel(
                format!(
                    "bind a second worker to queue {queue} of {nic}, whose driver allows one: use --workers 1"
                ),
                error,
            ),
        }
    }
}

/// What xsk-rs makes of a socket; the rings are there when it is the first on its queue.
pub(crate) type Created = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

pub(crate) fn create(umem: &SharedUmem, place: Place<'_>) -> Result<Created, BindError> {
    let copy_mode = if place.zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
    let scattered = if place.scattered { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
    let size = |entries| QueueSize::new(entries).expect("a power of two");
    let config = SocketConfig::builder()
        .rx_queue_size(size(RX_RING))
        .tx_queue_size(size(TX_RING))
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP | copy_mode | scattered)
        .build();
    let nic: Interface = place.nic.parse().map_err(|_| BindError::Refused(libc::ENODEV))?;
    for _ in 0..BUSY_RETRIES {
        // SAFETY: libxdp's own program is inhibited, which is what sharing a queue asks for.
        let error = match unsafe { Socket::new(config, &umem.umem, &nic, place.queue) } {
            Ok(created) => {
                tune(&created.0);
                return Ok(created);
            }
            Err(error) => error,
        };
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match source.and_then(io::Error::raw_os_error) {
            Some(libc::EBUSY) => std::thread::sleep(BUSY_WAIT),
            errno => return Err(BindError::Refused(errno.unwrap_or(libc::EIO))),
        }
    }
    Err(BindError::Busy)
}

/// Options that make copy mode faster; one that the kernel does not have is left out. And programs that we start do not
/// inherit the socket: the queue would stay in use as long as they run.
fn tune(tx: &TxQueue) {
    // SAFETY: the descriptor belongs to `tx`, which lives longer than this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(tx.fd().as_raw_fd()) };
    let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(fd, SEND_BUFFER);
    let budget = SEND_BATCH;
    // SAFETY: the option takes an int. Kernels before 6.17 answer ENOPROTOOPT, and transmit 32 at a time.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}
