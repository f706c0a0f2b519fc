//! AF_XDP itself, without a stack: one thread that sends frames as fast as the kernel takes them, one that counts what
//! arrives; one that sends a frame and waits until it is back, one that sends back what comes. Benchmarks compare everything
//! else with this. They look at the counters, and at the clock, themselves.

use crate::base::pool::FRAME_SIZE;
use crate::base::{Frame, PoolCache};
use crate::wire::MacAddr;
use crate::xdp::ethtool::Nic;
use crate::xdp::program::{Constants, Program, Which};
use crate::xdp::socket::{BATCH, Place, XDP_PKT_CONTD, create};
use crate::xdp::umem::SharedUmem;
use crate::xdp::{XdpError, privilege};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue};

/// Frames of each end.
const FRAMES: usize = 4096;
/// Frames that wait in the fill ring.
const FILL: usize = 2048;
/// The EtherType of what is sent (RFC 5342: for local experiments), so that nobody on the way mistakes it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

type Rings = (FillQueue, CompQueue);

/// Sends packets of `packet_len` bytes from queue 0 of `nic` to `to`, in several frames each where one does not hold them, until
/// `stop`. Counts in `sent` those that left.
///
/// # Errors
/// When the NIC can't be opened.
pub fn blast(
    nic: &str,
    packet_len: usize,
    to: MacAddr,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<(), XdpError> {
    let (umem, (mut tx, _rx, (_fill, mut completion))) = open(nic)?;
    let from = Nic::new(nic).and_then(|nic| nic.mac()).map_err(|error| XdpError::kernel("look up", error))?;
    let mut cache = PoolCache::new(umem.pool.clone());
    let mut free: Vec<usize> = Vec::with_capacity(FRAMES);
    let len = packet_len.max(60);
    let frames = len.div_ceil(FRAME_SIZE);
    while let Some(mut frame) = cache.alloc() {
        let bytes = umem.pool.bytes_mut(&mut frame);
        bytes[..6].copy_from_slice(&to.0);
        bytes[6..12].copy_from_slice(&from.0);
        bytes[12..14].copy_from_slice(&ETHERTYPE);
        // From here on it goes round between us and the NIC, and never back to the pool.
        let index = umem.pool.start_fill(frame);
        free.push(index as usize * FRAME_SIZE);
    }
    let mut done = vec![FrameDesc::default(); BATCH];
    let mut batch = Vec::with_capacity(BATCH);
    let mut completed = 0;
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the ring is of this UMEM.
        let count = unsafe { completion.consume(&mut done) };
        free.extend(done[..count].iter().map(FrameDesc::addr));
        completed += count;
        sent.store((completed / frames) as u64, Ordering::Relaxed);
        let packets = free.len().min(BATCH).min(tx.nb_free_exact() as usize) / frames;
        batch.clear();
        // In the order in which they came back. The other way round they would still be in the cache, and it would be a sixth
        // faster; but no protocol that waits for acknowledgments has such frames.
        for (number, addr) in free.drain(free.len() - packets * frames..).enumerate() {
            let place = number % frames;
            let is_last = place + 1 == frames;
            let mut desc =
                umem.layout.desc(addr, if is_last { len - place * FRAME_SIZE } else { FRAME_SIZE });
            desc.set_options(if is_last { 0 } else { XDP_PKT_CONTD });
            batch.push(desc);
        }
        // SAFETY: frames of this UMEM that are in no ring: they were taken off the list of free ones above, and come
        // back to it from the completion ring.
        let produced = unsafe { tx.produce(&batch) };
        assert_eq!(produced, batch.len(), "the transmit ring has the room that it told of");
        // Errors are temporary or show in the counter.
        let _ = tx.wakeup();
    }
    Ok(())
}

/// Counts the packets that arrive at queue 0 of `nic`, all of which it takes away from the kernel, until `stop`.
///
/// # Errors
/// When the NIC can't be opened.
pub fn count(nic: &str, stop: &AtomicBool, received: &AtomicU64) -> Result<(), XdpError> {
    let (_program, umem, (_tx, mut rx, (mut fill, _completion))) = take_all(nic)?;
    let mut batch: Vec<FrameDesc> = (0..FILL).map(|frame| umem.layout.desc(frame * FRAME_SIZE, 0)).collect();
    // SAFETY: frames of this UMEM that nobody else uses: the pool is not asked for any here.
    unsafe { fill.produce(&batch) };
    batch.truncate(BATCH);
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the ring is of this UMEM.
        let count = unsafe { rx.consume(&mut batch) };
        // SAFETY: they came out of the receive ring just now.
        unsafe { fill.produce(&batch[..count]) };
        if count == 0 {
            std::hint::spin_loop();
        } else {
            let packets = batch[..count].iter().filter(|desc| !desc.has_more_frames()).count();
            received.fetch_add(packets as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Sends every frame that arrives at queue 0 of `nic` back to where it came from, until `stop`. Takes all frames away from the
/// kernel, and never sleeps.
///
/// # Errors
/// When the NIC can't be opened.
pub fn reflect(nic: &str, stop: &AtomicBool) -> Result<(), XdpError> {
    let mut end = End::open(nic)?;
    while !stop.load(Ordering::Relaxed) {
        end.maintain();
        let Some((mut frame, range)) = end.receive() else {
            std::hint::spin_loop();
            continue;
        };
        let packet = &mut end.umem.pool.bytes_mut(&mut frame)[range.clone()];
        let (to, from) = packet[..12].split_at_mut(6);
        to.swap_with_slice(from);
        end.send(frame, range);
    }
    Ok(())
}

/// Sends a frame of `frame_len` bytes from queue 0 of `nic` to `to`, waits until it is back, and calls `returned`; again for as
/// long as that says so. Takes all frames away from the kernel, and never sleeps. A frame that does not come back in time, by
/// `is_lost`, is sent again.
///
/// # Errors
/// When the NIC can't be opened.
pub fn bounce(
    nic: &str,
    frame_len: usize,
    to: MacAddr,
    mut returned: impl FnMut() -> bool,
    mut is_lost: impl FnMut() -> bool,
) -> Result<(), XdpError> {
    let mut end = End::open(nic)?;
    let from = Nic::new(nic).and_then(|nic| nic.mac()).map_err(|error| XdpError::kernel("look up", error))?;
    let len = frame_len.clamp(60, FRAME_SIZE);
    let mut more = true;
    while more {
        end.maintain();
        let Some(mut frame) = end.cache.alloc() else { continue };
        let packet = end.umem.pool.bytes_mut(&mut frame);
        packet[..6].copy_from_slice(&to.0);
        packet[6..12].copy_from_slice(&from.0);
        packet[12..14].copy_from_slice(&ETHERTYPE);
        end.send(frame, 0..len);
        more = loop {
            if let Some((frame, _)) = end.receive() {
                end.cache.free(frame);
                break returned();
            }
            if is_lost() {
                break true;
            }
            std::hint::spin_loop();
        };
    }
    Ok(())
}

/// One frame at a time, in and out.
struct End {
    _program: Program,
    umem: SharedUmem,
    cache: PoolCache,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    /// With the NIC for frames to come.
    waiting: usize,
}

impl End {
    fn open(nic: &str) -> Result<End, XdpError> {
        let (program, umem, (tx, rx, (fill, completion))) = take_all(nic)?;
        let cache = PoolCache::new(umem.pool.clone());
        let mut end = End { _program: program, umem, cache, tx, rx, fill, completion, waiting: 0 };
        end.maintain();
        Ok(end)
    }

    /// Takes back what has left, and has frames wait for what comes.
    fn maintain(&mut self) {
        let mut done = [FrameDesc::default(); BATCH];
        // SAFETY: the ring is of this UMEM.
        let count = unsafe { self.completion.consume(&mut done) };
        for desc in &done[..count] {
            let frame = self.umem.pool.end_fill((desc.addr() / FRAME_SIZE) as u32);
            self.cache.free(frame);
        }
        while self.waiting < FILL / 2 {
            let Some(frame) = self.cache.alloc() else { return };
            let desc = self.umem.layout.desc(self.umem.pool.start_fill(frame) as usize * FRAME_SIZE, 0);
            // SAFETY: a frame of this UMEM that is the NIC's from here on, and in no other ring.
            self.waiting += unsafe { self.fill.produce_one(&desc) };
        }
    }

    fn receive(&mut self) -> Option<(Frame, Range<usize>)> {
        let mut desc = FrameDesc::default();
        // SAFETY: the ring is of this UMEM.
        if unsafe { self.rx.consume_one(&mut desc) } == 0 {
            return None;
        }
        self.waiting -= 1;
        let start = desc.addr() % FRAME_SIZE;
        let frame = self.umem.pool.end_fill((desc.addr() / FRAME_SIZE) as u32);
        Some((frame, start..start + desc.lengths().data()))
    }

    fn send(&mut self, frame: Frame, range: Range<usize>) {
        // From here on it is the NIC's, until it comes out of the completion ring.
        let index = self.umem.pool.start_fill(frame) as usize;
        let desc = self.umem.layout.desc(index * FRAME_SIZE + range.start, range.len());
        // SAFETY: a frame of this UMEM that is in no other ring. There is room: one frame at a time is on its way.
        let produced = unsafe { self.tx.produce_one(&desc) };
        assert_eq!(produced, 1, "room for one frame");
        // Errors are temporary: the frame is then sent again.
        let _ = self.tx.wakeup();
    }
}

type Sockets = (TxQueue, RxQueue, Rings);

/// A socket that gets all frames of queue 0, for as long as the program lives.
fn take_all(nic: &str) -> Result<(Program, SharedUmem, Sockets), XdpError> {
    let failed = |error: io::Error| XdpError::kernel(format!("open {nic}"), error);
    let ifindex = Nic::new(nic).and_then(|nic| nic.ifindex()).map_err(failed)?;
    let constants = Constants { workers: 1, queues: 1, ifindexes: vec![ifindex] };
    let mut program = Program::load(Which::TakeAll, constants)?;
    program.attach(nic, ifindex)?;
    let (umem, (tx, rx, rings)) = open(nic)?;
    program.set_socket(0, 0, 0, rx.fd().as_raw_fd()).map_err(failed)?;
    Ok((program, umem, (tx, rx, rings)))
}

fn open(nic: &str) -> Result<(SharedUmem, Sockets), XdpError> {
    privilege::require("open a NIC for AF_XDP")?;
    privilege::raise_memlock();
    let umem = SharedUmem::new(FRAMES)?;
    let place = Place { nic, queue: 0, zero_copy: false, scattered: true, fill_target: 0 };
    let (tx, rx, rings) = create(&umem, place).map_err(|error| error.explain(nic, 0))?;
    let rings = rings.expect("the first socket of a UMEM on a queue gets its rings");
    Ok((umem, (tx, rx, rings)))
}
