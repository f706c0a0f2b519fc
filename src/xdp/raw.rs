//! AF_XDP itself, without a stack: one thread that sends frames as fast as the kernel takes them, one that counts what
//! arrives. Benchmarks compare everything else with this. They look at the counters, and at the clock, themselves.

use crate::base::pool::FRAME_SIZE;
use crate::wire::MacAddr;
use crate::xdp::ethtool::Nic;
use crate::xdp::program::{Constants, Program, Which};
use crate::xdp::socket::{BATCH, Place, create};
use crate::xdp::umem::SharedUmem;
use crate::xdp::{XdpError, privilege};
use std::io;
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

/// Sends frames of `frame_len` bytes from queue 0 of `nic` to `to`, until `stop`. Counts in `sent` those that left.
///
/// # Errors
/// When the NIC can't be opened.
pub fn blast(
    nic: &str,
    frame_len: usize,
    to: MacAddr,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<(), XdpError> {
    let (umem, (mut tx, _rx, (_fill, mut completion))) = open(nic)?;
    let from = Nic::new(nic).and_then(|nic| nic.mac()).map_err(|error| XdpError::kernel("look up", error))?;
    let mut cache = crate::base::PoolCache::new(umem.pool.clone());
    let mut free: Vec<FrameDesc> = Vec::with_capacity(FRAMES);
    let len = frame_len.clamp(60, FRAME_SIZE);
    while let Some(mut frame) = cache.alloc() {
        let bytes = umem.pool.bytes_mut(&mut frame);
        bytes[..6].copy_from_slice(&to.0);
        bytes[6..12].copy_from_slice(&from.0);
        bytes[12..14].copy_from_slice(&ETHERTYPE);
        // From here on it goes round between us and the NIC, and never back to the pool.
        let index = umem.pool.start_fill(frame);
        free.push(umem.layout.desc(index as usize * FRAME_SIZE, len));
    }
    let mut done = vec![FrameDesc::default(); BATCH];
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the ring is of this UMEM.
        let count = unsafe { completion.consume(&mut done) };
        free.extend(done[..count].iter().map(|desc| umem.layout.desc(desc.addr(), len)));
        sent.fetch_add(count as u64, Ordering::Relaxed);
        let batch = free.len().min(BATCH).min(tx.nb_free_exact() as usize);
        // SAFETY: frames of this UMEM that are in no ring: they are taken off the list of free ones below, and come
        // back to it from the completion ring.
        let produced = unsafe { tx.produce(&free[free.len() - batch..]) };
        free.truncate(free.len() - produced);
        // Errors are temporary or show in the counter.
        let _ = tx.wakeup();
    }
    Ok(())
}

/// Counts the frames that arrive at queue 0 of `nic`, all of which it takes away from the kernel, until `stop`.
///
/// # Errors
/// When the NIC can't be opened.
pub fn count(nic: &str, stop: &AtomicBool, received: &AtomicU64) -> Result<(), XdpError> {
    let failed = |error: io::Error| XdpError::kernel(format!("open {nic}"), error);
    let ifindex = Nic::new(nic).and_then(|nic| nic.ifindex()).map_err(failed)?;
    let constants = Constants { workers: 1, queues: 1, ifindexes: vec![ifindex] };
    let mut program = Program::load(Which::TakeAll, constants)?;
    program.attach(nic, ifindex)?;
    let (umem, (_tx, mut rx, (mut fill, _completion))) = open(nic)?;
    program.set_socket(0, 0, 0, rx.fd().as_raw_fd()).map_err(failed)?;
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
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn open(nic: &str) -> Result<(SharedUmem, (TxQueue, RxQueue, Rings)), XdpError> {
    privilege::require("open a NIC for AF_XDP")?;
    privilege::raise_memlock();
    let umem = SharedUmem::new(FRAMES)?;
    let place = Place { nic, queue: 0, zero_copy: false, fill_target: 0 };
    let (tx, rx, rings) = create(&umem, place).map_err(|error| error.explain(nic, 0))?;
    let rings = rings.expect("the first socket of a UMEM on a queue gets its rings");
    Ok((umem, (tx, rx, rings)))
}
