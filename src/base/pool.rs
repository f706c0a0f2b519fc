//! Frames: fixed pieces of one memory region that NICs, workers and applications hand to each other instead of
//! copying bytes. Read [`Frame`] first, then [`FramePool`].
//!
//! A frame's use count has two halves. *Holders* are [`Frame`] handles: a send queue, a retransmission queue, a
//! receive queue, an application, the kernel's fill ring. *In flight* counts descriptors of the frame in TX rings
//! whose completion has not come back. When both are zero the frame is free. While a frame is in flight its bytes
//! belong to the NIC: nobody writes to them, so headers are rewritten only when [`FramePool::in_flight`] says no.
//!
//! Debug and test builds keep a second account of who has a frame (`pool/shadow.rs`), and overwrite every frame that becomes
//! free, so that whoever still uses it shows. Who owns a frame when, on a page: [`crate::xdp`].

#![allow(unsafe_code)]

use shadow::{Shadow, Step};
use std::any::Any;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

mod cache;
mod shadow;

pub use cache::{PoolCache, TINY};

/// Bytes in a frame: the largest chunk that AF_XDP takes.
pub const FRAME_SIZE: usize = 4096;

/// Where the payload of a frame that we send begins, in bytes from its start: room for Ethernet with a VLAN tag (18),
/// IPv6 (40) and TCP with all its options (60), and more, for the sake of the kernel's copy. In copy mode it copies a packet
/// by `rep movsb` to 64 bytes (or, for a device that wants them, 256 or 320) from the start of a page or of a half of one. Where a
/// copy ends up less than 32 bytes ahead of its source, as places in their pages, processors of AMD take ten times as long:
/// 590 ns instead of 50 for 1,514 bytes. Packets that began at 128 less 66 or 86 bytes of headers were there; these never are.
pub const TX_HEADROOM: usize = 256;

/// The largest payload of a frame that we send.
pub const TX_PAYLOAD_MAX: usize = FRAME_SIZE - TX_HEADROOM;

/// What the kernel leaves free in front of a received packet (XDP_PACKET_HEADROOM).
pub const RX_HEADROOM: usize = 256;

/// The longest packet that one received frame can hold.
pub const RX_PACKET_MAX: usize = FRAME_SIZE - RX_HEADROOM;

/// Frames of one packet at most. What does not fit into one goes on in others ([`TxFrame::more`], [`RxFrame::more`]): three
/// hold a packet of 9,000 bytes.
pub const PACKET_FRAMES: usize = 3;

/// The longest packet that may be received in several frames.
pub const PACKET_MAX: usize = PACKET_FRAMES * RX_PACKET_MAX;

/// Frames that move between a cache and the depot at a time.
const BATCH: usize = 64;
/// A cache holds at most this many before it gives a batch back.
const CACHE_MAX: usize = 4 * BATCH;
/// What a frame that became free is overwritten with in debug builds.
const POISON: u8 = 0xdb;
/// Bytes of headers that nearly every packet has.
const HEADERS: usize = 94;
/// No frame: the end of the depot's list.
const NONE: u32 = u32::MAX;
/// One unit of the in-flight half of a use count.
const IN_FLIGHT: u32 = 1 << 16;

/// Says that `place` will be needed soon: its memory may come into the cache meanwhile. Nothing depends on it.
#[inline]
pub fn prefetch<T: ?Sized>(place: &T) {
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of_val(place).div_ceil(LINE) {
        let address = std::ptr::from_ref(place).cast::<i8>().wrapping_add(line * LINE);
        // SAFETY: every x86_64 processor has this instruction, and it reads nothing that a program could see; an address
        // that leads nowhere is ignored.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (place, LINE);
}

/// A number that no two threads have at the same time.
#[inline]
fn this_thread() -> NonZeroUsize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr().try_into().expect("nothing lies at address 0"))
}

/// One hold on a frame. It is neither copied nor dropped silently: it goes back by [`PoolCache::free`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is forgotten is lost from the pool"]
pub struct Frame(u32);

impl Frame {
    /// Its number in the pool.
    pub fn index(&self) -> u32 {
        self.0
    }

    /// A second handle of the same hold, for a piece of a frame that is given up together with the piece that has the
    /// hold ([`Frame::give_up_alias`]).
    pub fn alias(&self) -> Frame {
        Frame(self.0)
    }

    /// The end of an alias: the hold stays with whoever has it.
    pub fn give_up_alias(self) {}
}

/// A run of payload bytes in a frame, with one hold on it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a chunk that is forgotten is lost from the pool"]
pub struct Chunk {
    /// The frame that holds the bytes.
    pub frame: Frame,
    offset: u16,
    len: u16,
    /// The one's complement sum of the bytes, as long as it is known.
    sum: Option<u16>,
}

impl Chunk {
    /// `len` bytes of `frame` from `offset` on.
    pub fn new(frame: Frame, offset: usize, len: usize) -> Self {
        debug_assert!(offset + len <= usize::from(u16::MAX), "{len} bytes at {offset}");
        Self { frame, offset: offset as u16, len: len as u16, sum: None }
    }

    /// Whose bytes have this one's complement sum. Who puts them there, or has them in its cache, makes it: later, and on
    /// another processor, the look at them costs a fetch from memory.
    pub fn with_sum(mut self, sum: Option<u16>) -> Self {
        self.sum = sum;
        self
    }

    /// Notes the one's complement sum of the bytes.
    pub fn set_sum(&mut self, sum: u16) {
        self.sum = Some(sum);
    }

    /// The one's complement sum of the bytes, where it was made and they are still the same.
    pub fn sum(&self) -> Option<u16> {
        self.sum
    }

    /// Leaves out the first `bytes` bytes.
    pub fn trim_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len()) as u16;
        self.offset += bytes;
        self.len -= bytes;
        self.sum = self.sum.filter(|_| bytes == 0);
    }

    /// Keeps only the first `bytes` bytes.
    pub fn truncate(&mut self, bytes: usize) {
        if bytes < self.len() {
            self.len = bytes as u16;
            self.sum = None;
        }
    }

    /// Where the bytes begin in the frame.
    pub fn offset(&self) -> usize {
        self.offset as usize
    }

    /// The place of the bytes in the frame.
    pub fn range(&self) -> Range<usize> {
        self.offset()..self.offset() + self.len()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True for a chunk of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// As words, for a queue that keeps it in atomic ones. The hold on the frame is then in them.
    pub fn into_words(self) -> (u32, u64) {
        let Self { frame: Frame(frame), offset, len, sum } = self;
        let sum = sum.map_or(0, |sum| 1 << 48 | u64::from(sum) << 32);
        (frame, sum | u64::from(len) << 16 | u64::from(offset))
    }

    /// Back from the words that [`Chunk::into_words`] gave, once.
    pub fn from_words((frame, rest): (u32, u64)) -> Self {
        let sum = (rest >> 48 != 0).then_some((rest >> 32) as u16);
        Self { frame: Frame(frame), offset: rest as u16, len: (rest >> 16) as u16, sum }
    }
}

/// A received packet, or a part of one: the frame as the NIC wrote it.
#[derive(Debug)]
pub struct RxFrame {
    /// The frame.
    pub frame: Frame,
    /// Where the Ethernet header begins; in a frame that goes on with a packet, where that does.
    pub offset: u16,
    /// Bytes of the packet.
    pub len: u16,
    /// The packet goes on in the next frame.
    pub more: bool,
}

/// A packet to transmit, or a part of one. It stands for one unit of the frame's in-flight count, from [`FramePool::start_transmit`]
/// until [`PoolCache::complete`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a descriptor that is forgotten leaves its frame in flight for ever"]
pub struct TxFrame {
    /// The frame's number.
    pub index: u32,
    /// Where the Ethernet header begins; in a frame that goes on with a packet, where that does.
    pub offset: u16,
    /// Bytes of the packet.
    pub len: u16,
    /// The packet goes on in the next descriptor that its port is given.
    pub more: bool,
}

/// Memory cut into frames, shared by all threads. Threads allocate through a [`PoolCache`] of their own.
pub struct FramePool {
    base: NonNull<u8>,
    /// Per frame: holders in the low half, in flight in the high half.
    uses: Box<[AtomicU32]>,
    /// Bytes of a frame.
    frame_size: usize,
    /// The one thread that uses the pool, if only one may.
    thread: Option<NonZeroUsize>,
    /// The depot: a stack of free frames, linked by number; last in, first out, so that frames stay in cache.
    next: Box<[AtomicU32]>,
    /// Top of the depot in the low half, a count of changes in the high half (against ABA).
    top: AtomicU64,
    /// How many frames the depot holds, or a few less while threads exchange some.
    depot: AtomicUsize,
    shadow: Shadow,
    /// Called when it is dropped.
    at_close: fn(&FramePool),
    /// Keeps the memory alive.
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: the region is plain memory that lives as long as `_owner`. Bytes are reached only through frame handles,
// and a handle is in one place at a time; shared holds are read, or written to by the one thread that owns the
// connection (see `bytes_mut`).
unsafe impl Send for FramePool {}
// SAFETY: as above; all shared bookkeeping is atomic.
unsafe impl Sync for FramePool {}

impl FramePool {
    /// A pool in plain memory, for the simulator and tests.
    pub fn new_heap(frames: usize) -> Arc<Self> {
        let mut memory = vec![0u64; frames * FRAME_SIZE / 8].into_boxed_slice();
        let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).expect("a slice's pointer is not null");
        // SAFETY: the boxed slice has frames * FRAME_SIZE bytes, does not move when the box does, and goes into
        // the pool as its owner.
        unsafe { Self::from_raw(base, frames, Box::new(memory), |_| {}) }
    }

    /// Frames of `frame_size` bytes, [`FRAME_SIZE`] at most, for this thread alone: for simulations of many hosts, whose
    /// memory is more than caches hold. It counts without locked instructions, which wait until all that was written before
    /// is in the cache. Its frames are no larger than they have to be, and lie in huge pages where the system has them:
    /// each frame in a page of its own would need an address translation of its own. Any other thread that counts a frame
    /// panics.
    pub fn new_exclusive(frames: usize, frame_size: usize) -> Arc<Self> {
        assert!((TX_HEADROOM..=FRAME_SIZE).contains(&frame_size), "a frame has up to {FRAME_SIZE} bytes");
        let Ok(mut memory) = memmap2::MmapMut::map_anon(frames * frame_size) else {
            panic!("there is no memory for {frames} frames of {frame_size} bytes")
        };
        // A wish: without huge pages it is slower, and that is all.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let base = NonNull::new(memory.as_mut_ptr()).expect("a mapping does not begin at address 0");
        // SAFETY: the mapping has frames * frame_size bytes, does not move when its handle does, and goes into the pool as
        // its owner.
        unsafe { Self::over(base, frames, frame_size, Some(this_thread()), Box::new(memory), |_| {}) }
    }

    /// A pool over memory that is somebody else's, a UMEM. `at_close` sees the pool when nobody has it any more: what is
    /// held then ([`FramePool::held`]) is lost.
    ///
    /// # Safety
    /// `base` must point to `frames * FRAME_SIZE` writable bytes that stay where they are until `owner` is dropped,
    /// and that nobody else writes to except the kernel, into frames that were given to it.
    pub unsafe fn from_raw(
        base: NonNull<u8>,
        frames: usize,
        owner: Box<dyn Any + Send + Sync>,
        at_close: fn(&FramePool),
    ) -> Arc<Self> {
        // SAFETY: what the caller promises.
        unsafe { Self::over(base, frames, FRAME_SIZE, None, owner, at_close) }
    }

    /// # Safety
    /// That of [`FramePool::from_raw`], with frames of `frame_size` bytes.
    unsafe fn over(
        base: NonNull<u8>,
        frames: usize,
        frame_size: usize,
        thread: Option<NonZeroUsize>,
        memory: Box<dyn Any + Send + Sync>,
        at_close: fn(&FramePool),
    ) -> Arc<Self> {
        assert!(frames > 0 && frames < NONE as usize, "a pool has between 1 and 2^32 - 2 frames");
        let next =
            (0..frames as u32).map(|i| AtomicU32::new(if i + 1 < frames as u32 { i + 1 } else { NONE }));
        Arc::new(Self {
            base,
            uses: (0..frames).map(|_| AtomicU32::new(0)).collect(),
            frame_size,
            thread,
            next: next.collect(),
            top: AtomicU64::new(0),
            depot: AtomicUsize::new(frames),
            shadow: Shadow::new(frames),
            at_close,
            _owner: memory,
        })
    }

    /// Bytes of a frame.
    pub fn frame_size(&self) -> usize {
        self.frame_size
    }

    /// How many frames the pool has.
    pub fn frames(&self) -> usize {
        self.uses.len()
    }

    /// How many frames the depot has for whoever asks; those in threads' own free lists come on top.
    pub fn depot(&self) -> usize {
        self.depot.load(Ordering::Relaxed)
    }

    /// How many frames are in use: held, or in flight. A walk over the whole pool, for checks and reports.
    pub fn used(&self) -> usize {
        self.uses.iter().filter(|uses| uses.load(Ordering::Acquire) != 0).count()
    }

    /// The frames that somebody of ours holds, with what happened to them last. Those that only NICs have are not among
    /// them. In release builds nobody knows, and there are none.
    pub fn held(&self) -> Vec<String> {
        self.shadow.held()
    }

    /// One more hold on the same frame.
    #[track_caller]
    pub fn share(&self, frame: &Frame) -> Frame {
        self.shadow.step(frame.0, Step::Shared);
        let before = self.count(frame.0, 1, Ordering::Relaxed);
        debug_assert!(before & (IN_FLIGHT - 1) != 0, "shared frame {} that nobody held", frame.0);
        Frame(frame.0)
    }

    /// One more hold on the same bytes.
    #[track_caller]
    pub fn share_chunk(&self, chunk: &Chunk) -> Chunk {
        Chunk { frame: self.share(&chunk.frame), ..*chunk }
    }

    /// Copies the first bytes of `more` behind the end of `chunk`: at most `max`, and as many as the frame has room for. How
    /// many. None where somebody else looks at the frame, as the other part of a split chunk does.
    pub fn append_to(&self, chunk: &mut Chunk, more: &Chunk, max: usize) -> usize {
        if !self.is_sole(&chunk.frame) {
            return 0;
        }
        let end = chunk.range().end;
        let copied = more.len().min(max).min(self.frame_size() - end);
        self.bytes_mut(&mut chunk.frame)[end..end + copied].copy_from_slice(&self.chunk(more)[..copied]);
        chunk.len += copied as u16;
        chunk.sum = chunk.sum.filter(|_| copied == 0);
        copied
    }

    /// Whether a NIC may still be reading the frame: then nobody may write to it.
    pub fn in_flight(&self, frame: &Frame) -> bool {
        self.uses[frame.0 as usize].load(Ordering::Acquire) >= IN_FLIGHT
    }

    /// Whether `frame` is the only hold on it, and no NIC reads it.
    pub fn is_sole(&self, frame: &Frame) -> bool {
        self.uses[frame.0 as usize].load(Ordering::Acquire) == 1
    }

    /// The only hold on a frame goes to a NIC, which will write a packet into it: the number to put into its fill ring.
    ///
    /// # Panics
    /// When there is another hold on the frame, or it is in flight.
    #[track_caller]
    pub fn start_fill(&self, frame: Frame) -> u32 {
        self.shadow.step(frame.0, Step::FillStarted);
        assert!(
            self.is_sole(&frame),
            "frame {} is given to a NIC to write to, but somebody else uses it",
            frame.0
        );
        frame.0
    }

    /// A NIC has written a packet into the frame that [`FramePool::start_fill`] gave it; the hold is ours again.
    ///
    /// # Panics
    /// When the number is none of this pool; in debug builds also when no NIC has it.
    #[track_caller]
    pub fn end_fill(&self, index: u32) -> Frame {
        assert!((index as usize) < self.uses.len(), "frame {index} is not of this pool");
        self.shadow.step(index, Step::Received);
        Frame(index)
    }

    /// The descriptor of `len` bytes at `offset` of `frame`, which is in flight from now on.
    #[track_caller]
    pub fn start_transmit(&self, frame: &Frame, offset: usize, len: usize) -> TxFrame {
        assert!(offset + len <= self.frame_size, "a packet ends inside its frame");
        self.shadow.step(frame.0, Step::TransmitStarted);
        self.count(frame.0, IN_FLIGHT, Ordering::Relaxed);
        TxFrame { index: frame.0, offset: offset as u16, len: len as u16, more: false }
    }

    /// A frame in flight has come to a port of this same process, which gets a hold on it as on a frame that a NIC has
    /// written: the wire of a simulator whose hosts share a pool of one thread ([`FramePool::new_exclusive`]). The sender may
    /// hold it, too, and looks only at the same payload; it rewrites headers again once the frame is in flight no more, and
    /// the receiver has read them by then.
    #[track_caller]
    pub fn land(&self, tx: TxFrame) -> Frame {
        assert!(self.thread.is_some(), "frames land only in a pool of one thread");
        self.shadow.step(tx.index, Step::Landed);
        let before = self.count(tx.index, (IN_FLIGHT - 1).wrapping_neg(), Ordering::AcqRel);
        assert!(before >= IN_FLIGHT, "frame {} lands, but it is not in flight", tx.index);
        Frame(tx.index)
    }

    /// All bytes of the frame.
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        // SAFETY: in bounds by construction (an index of this pool); the holder reads what it holds, and nobody
        // writes to a held frame but its owner through `bytes_mut`.
        unsafe { std::slice::from_raw_parts(self.at(frame.0), self.frame_size) }
    }

    /// All bytes of a frame in flight, for a port that transmits by copying (the simulator).
    pub fn tx_bytes(&self, tx: &TxFrame) -> &[u8] {
        // SAFETY: in bounds by `start_transmit`; nobody writes to a frame in flight.
        let all = unsafe { std::slice::from_raw_parts(self.at(tx.index), self.frame_size) };
        &all[tx.offset as usize..tx.offset as usize + tx.len as usize]
    }

    /// All bytes of a received packet.
    #[inline]
    pub fn rx_bytes(&self, packet: &RxFrame) -> &[u8] {
        &self.bytes(&packet.frame)[packet.offset as usize..][..packet.len as usize]
    }

    /// The headers of a packet will be read soon.
    #[inline]
    pub fn prefetch_headers(&self, packet: &RxFrame) {
        if let Some(headers) = self.bytes(&packet.frame)[packet.offset as usize..].first_chunk::<HEADERS>() {
            prefetch(headers);
        }
    }

    /// A whole packet will be read soon.
    #[inline]
    pub fn prefetch_packet(&self, packet: &RxFrame) {
        prefetch(self.rx_bytes(packet));
    }

    /// The bytes of a chunk will be read soon.
    #[inline]
    pub fn prefetch_chunk(&self, chunk: &Chunk) {
        prefetch(self.chunk(chunk));
    }

    /// All bytes of a packet in flight, for a simulated switch that marks it. No host writes to it meanwhile, nor reads its
    /// headers. Only in a pool of one thread ([`FramePool::new_exclusive`]).
    pub fn tx_bytes_mut<'a>(&'a self, tx: &'a mut TxFrame) -> &'a mut [u8] {
        assert!(
            self.thread == Some(this_thread()),
            "packets in flight are changed only in a pool of one thread"
        );
        // SAFETY: in bounds by `start_transmit`; nobody writes to a frame in flight but whoever has its descriptor, which
        // `&mut TxFrame` has alone, and holders read it in this same thread, checked above, and not meanwhile.
        let all = unsafe { std::slice::from_raw_parts_mut(self.at(tx.index), self.frame_size) };
        &mut all[tx.offset as usize..tx.offset as usize + tx.len as usize]
    }

    /// The bytes of a chunk.
    pub fn chunk(&self, chunk: &Chunk) -> &[u8] {
        &self.bytes(&chunk.frame)[chunk.range()]
    }

    /// All bytes of the frame, to write to. The caller is the thread that owns all other holds on it, and touches
    /// no bytes that another hold reads (headers go in front of the payload).
    ///
    /// # Panics
    /// When the frame is in flight: that would change what a NIC is sending.
    #[allow(clippy::mut_from_ref)]
    #[track_caller]
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        assert!(!self.in_flight(frame), "frame {} is written to while a NIC sends it", frame.0);
        self.shadow.step(frame.0, Step::Written);
        // SAFETY: in bounds by construction; not in flight, checked above; `&mut Frame` excludes other writers
        // through this hold, and other holds belong to the same thread and look only at other bytes.
        unsafe { std::slice::from_raw_parts_mut(self.at(frame.0), self.frame_size) }
    }

    fn at(&self, index: u32) -> *mut u8 {
        assert!((index as usize) < self.uses.len(), "frame {index} is not of this pool");
        // SAFETY: in bounds, checked above.
        unsafe { self.base.as_ptr().add(index as usize * self.frame_size) }
    }

    /// Adds to a frame's use count, and gives what it was before.
    #[inline]
    fn count(&self, index: u32, change: u32, ordering: Ordering) -> u32 {
        let uses = &self.uses[index as usize];
        let Some(thread) = self.thread else { return uses.fetch_add(change, ordering) };
        assert!(thread == this_thread(), "a frame of one thread's pool is counted by another thread");
        let before = uses.load(Ordering::Relaxed);
        uses.store(before.wrapping_add(change), Ordering::Relaxed);
        before
    }

    /// The address of the region's first byte, to compare with a UMEM's.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Drops one unit of use; true when that made the frame free.
    #[track_caller]
    fn release(&self, index: u32, unit: u32) -> bool {
        self.shadow.step(index, if unit == IN_FLIGHT { Step::TransmitEnded } else { Step::Freed });
        let before = self.count(index, unit.wrapping_neg(), Ordering::AcqRel);
        let half = if unit == IN_FLIGHT { before >> 16 } else { before & (IN_FLIGHT - 1) };
        assert!(half != 0, "frame {index} was given back, but it is in no hands");
        let is_free = before == unit;
        if cfg!(debug_assertions) && is_free {
            // SAFETY: in bounds by construction; nobody holds the frame and no NIC reads it, and it is in no free list
            // yet, so nobody else can get at it.
            unsafe { self.at(index).write_bytes(POISON, self.frame_size) };
        }
        is_free
    }

    /// Takes up to `BATCH` frames off the depot.
    fn take(&self, into: &mut Vec<u32>) {
        loop {
            let top = self.top.load(Ordering::Acquire);
            into.clear();
            let mut cursor = top as u32;
            // Another thread may change the list while we walk it. Then the count in `top` has changed and the
            // exchange fails; until then every link is some valid frame's number, so the walk stays in bounds.
            while cursor != NONE && into.len() < BATCH {
                into.push(cursor);
                cursor = self.next[cursor as usize].load(Ordering::Relaxed);
            }
            let changed = ((top >> 32).wrapping_add(1) << 32) | u64::from(cursor);
            if into.is_empty()
                || self.top.compare_exchange_weak(top, changed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.depot.fetch_sub(into.len(), Ordering::Relaxed);
                return;
            }
        }
    }

    /// Puts frames onto the depot.
    fn put(&self, frames: &[u32]) {
        let (Some(&first), Some(&last)) = (frames.first(), frames.last()) else { return };
        for pair in frames.windows(2) {
            self.next[pair[0] as usize].store(pair[1], Ordering::Relaxed);
        }
        loop {
            let top = self.top.load(Ordering::Acquire);
            self.next[last as usize].store(top as u32, Ordering::Relaxed);
            let changed = ((top >> 32).wrapping_add(1) << 32) | u64::from(first);
            // Counted while they are ours: the count is never below zero.
            self.depot.fetch_add(frames.len(), Ordering::Relaxed);
            if self.top.compare_exchange_weak(top, changed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
            self.depot.fetch_sub(frames.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for FramePool {
    fn drop(&mut self) {
        (self.at_close)(self);
    }
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramePool").field("frames", &self.frames()).field("used", &self.used()).finish()
    }
}

#[cfg(test)]
mod tests;
