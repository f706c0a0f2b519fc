//! What a worker and an application share for one connection: two rings of chunks, the state, the latest figures, and
//! who has to be woken. The application's side of it is `app::Stream`; in the simulator the test plays both.
//!
//! Nobody waits here. Either side does its part and rings: the application the worker's [`Doorbell`], the worker the
//! application's parker.

use crate::base::Chunk;
use crate::mptcp::{FallbackReason, Tuning};
use crate::stack::message::ConnectionId;
use crate::stack::stream::figures::Figures;
use crate::stack::stream::knobs::Knobs;
use crate::stack::stream::ring::Ring;
use crate::stack::stream::waiter::Waiter;
use crate::tcp::CloseReason;
use crate::wire::FourTuple;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

mod accept;
mod doorbell;
mod few;
mod figures;
mod info;
mod knobs;
mod ring;
mod waiter;

pub use accept::AcceptQueue;
pub use doorbell::{Doorbell, NobodySleeps, Wake};
pub use info::{ConnectionInfo, SNAPSHOT_SUBFLOWS, SubflowInfo};
pub use knobs::Turned;

/// Chunks that a ring between worker and application holds: some hundred microseconds' worth at 10 Gbit/s. More would
/// only let what was written grow cold before it is sent.
pub const RING_CHUNKS: usize = 256;

/// Where a connection stands, as its application sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamState {
    /// The handshake runs.
    Connecting = 0,
    /// Data can flow.
    Open = 1,
    /// It is over: [`StreamShared::close_reason`] says why. Received data can still be read.
    Closed = 2,
}

/// Whether data went with the SYN of a connection (RFC 7413).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FastOpenUse {
    /// None did.
    Unused = 0,
    /// Some did, and counted.
    Accepted = 1,
    /// Some of ours did, and the server ignored it: it was sent again behind the handshake.
    Ignored = 2,
}

/// What worker and application share for one connection.
// In this order: where the rings have grown both ends look at them all the time, and nobody writes. So what lies around them
// is written seldom, and they share no cache line with what is written with every chunk. To align them would cost more.
#[derive(Debug)]
#[repr(C)]
pub struct StreamShared {
    /// The worker's doorbell.
    doorbell: Arc<Doorbell>,
    /// Who this is, once the worker has given the connection a name.
    identity: OnceLock<(ConnectionId, FourTuple)>,
    /// Chunks to send, from the application.
    to_stack: Ring,
    /// Chunks received in order, for the application.
    to_app: Ring,
    knobs: Knobs,
    info: Figures,
    reader: Waiter,
    writer: Waiter,
    /// Bytes that the application has taken out of `to_app`.
    bytes_read: AtomicU64,
    bytes_delivered: AtomicU64,
    /// Bytes read at which the application rings (the window has opened enough to tell the peer).
    ring_at: AtomicU64,
    /// Payload bytes to put into one chunk: a segment's worth.
    chunk_len: AtomicU32,
    /// Whether the doorbell was rung and the worker has not come yet.
    rung: AtomicBool,
    state: AtomicU8,
    /// A [`CloseReason`], or 0.
    reason: AtomicU8,
    /// 0: not known; 1: MPTCP; 2 + n: plain TCP for the n-th reason.
    mptcp: AtomicU8,
    /// A [`FastOpenUse`].
    fast_open: AtomicU8,
    /// The application sends no more: FIN after what is in the ring.
    send_closed: AtomicBool,
    /// The application is gone: it neither reads nor writes.
    abandoned: AtomicBool,
    /// And wants the connection to end at once.
    reset: AtomicBool,
    /// All that the peer will ever send is in the ring.
    receive_finished: AtomicBool,
    /// Everything sent has been acknowledged, the FIN too.
    send_finished: AtomicBool,
}

/// Not known yet whether a connection is MPTCP.
const MPTCP_UNKNOWN: u8 = 0;
/// It is.
const MPTCP_AGREED: u8 = 1;
/// It is plain TCP; the reason's place in `FallbackReason::ALL` is added.
const MPTCP_FALLBACK: u8 = 2;

impl StreamShared {
    /// A stream whose connection is about to be made, at the worker of `doorbell`.
    pub fn new(doorbell: Arc<Doorbell>) -> Arc<Self> {
        Self::with_tuning(doorbell, Tuning::default())
    }

    /// The same for a connection that begins with these settings.
    pub fn with_tuning(doorbell: Arc<Doorbell>, tuning: Tuning) -> Arc<Self> {
        Arc::new(Self {
            to_stack: Ring::new(RING_CHUNKS as u32),
            to_app: Ring::new(RING_CHUNKS as u32),
            state: AtomicU8::new(StreamState::Connecting as u8),
            reason: AtomicU8::new(0),
            send_closed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            receive_finished: AtomicBool::new(false),
            send_finished: AtomicBool::new(false),
            bytes_read: AtomicU64::new(0),
            bytes_delivered: AtomicU64::new(0),
            ring_at: AtomicU64::new(0),
            chunk_len: AtomicU32::new(1400),
            mptcp: AtomicU8::new(MPTCP_UNKNOWN),
            fast_open: AtomicU8::new(FastOpenUse::Unused as u8),
            doorbell,
            identity: OnceLock::new(),
            info: Figures::default(),
            rung: AtomicBool::new(false),
            knobs: Knobs::new(tuning),
            reader: Waiter::default(),
            writer: Waiter::default(),
        })
    }

    // ---- both sides ----

    /// Where the connection stands.
    pub fn state(&self) -> StreamState {
        match self.state.load(Ordering::Acquire) {
            0 => StreamState::Connecting,
            1 => StreamState::Open,
            _ => StreamState::Closed,
        }
    }

    /// Why it is closed.
    pub fn close_reason(&self) -> Option<CloseReason> {
        CloseReason::from_code(self.reason.load(Ordering::Acquire))
    }

    /// The connection's name at its worker and its first subflow's ends, once it has them.
    pub fn identity(&self) -> Option<(ConnectionId, FourTuple)> {
        self.identity.get().copied()
    }

    /// Whether data went with the SYN; settled once the stream is open.
    pub fn fast_open(&self) -> FastOpenUse {
        match self.fast_open.load(Ordering::Acquire) {
            1 => FastOpenUse::Accepted,
            2 => FastOpenUse::Ignored,
            _ => FastOpenUse::Unused,
        }
    }

    /// `None` until known; `Some(None)`: MPTCP; `Some(Some(reason))`: plain TCP, and why.
    pub fn fallback(&self) -> Option<Option<FallbackReason>> {
        match self.mptcp.load(Ordering::Acquire) {
            MPTCP_UNKNOWN => None,
            MPTCP_AGREED => Some(None),
            code => Some(FallbackReason::ALL.get(usize::from(code - MPTCP_FALLBACK)).copied()),
        }
    }

    /// The latest figures.
    pub fn info(&self) -> Option<ConnectionInfo> {
        self.info.read()
    }

    // ---- the application's side ----

    /// How many payload bytes to put into one chunk, so that it makes one segment.
    pub fn chunk_len(&self) -> usize {
        self.chunk_len.load(Ordering::Relaxed) as usize
    }

    /// Gives a chunk to the worker. Its payload lies at `TX_HEADROOM` or behind, with room for headers in front.
    ///
    /// # Errors
    /// The chunk back: the ring is full, or the connection is closed, or the sending side is.
    pub fn push(&self, chunk: Chunk) -> Result<(), Chunk> {
        if self.state() == StreamState::Closed || self.send_closed.load(Ordering::Relaxed) {
            return Err(chunk);
        }
        self.to_stack.push(chunk)
    }

    /// How many chunks [`StreamShared::push`] takes now.
    pub fn push_room(&self) -> usize {
        RING_CHUNKS - self.to_stack.len()
    }

    /// Tells the worker of what was pushed; once for a batch.
    pub fn ring(&self) {
        if let Some((connection, _)) = self.identity.get()
            && !self.rung.swap(true, Ordering::AcqRel)
        {
            self.doorbell.ring(*connection);
        }
    }

    /// The next received chunk. To be given back to a pool cache after use.
    pub fn pop(&self) -> Option<Chunk> {
        let chunk = self.to_app.pop()?;
        let read = self.bytes_read.fetch_add(chunk.len() as u64, Ordering::AcqRel) + chunk.len() as u64;
        if read >= self.ring_at.load(Ordering::Acquire) {
            self.ring();
        }
        Some(chunk)
    }

    /// Bytes that [`StreamShared::pop`] would give now.
    pub fn readable_bytes(&self) -> u64 {
        // What was read first: more may be delivered in between, but nothing is read that was not.
        let read = self.bytes_read.load(Ordering::Acquire);
        self.bytes_delivered.load(Ordering::Acquire).saturating_sub(read)
    }

    /// The settings.
    pub fn tuning(&self) -> Tuning {
        self.knobs.tuning()
    }

    /// Changes settings while the connection runs.
    pub fn tune(&self, change: impl FnOnce(&mut Tuning)) {
        self.knobs.tune(change);
        self.ring();
    }

    /// Changes the sizes of the buffers, in bytes. A receive buffer that shrinks does so as its window is used up: what
    /// was promised to the peer holds.
    pub fn set_buffers(&self, send: Option<u32>, receive: Option<u32>) {
        self.knobs.set_buffers(send, receive);
        self.ring();
    }

    /// Says of what was pushed last that it is not the end of a message: more follows at once, and until then what does
    /// not fill a segment may wait (Linux's `MSG_MORE`). To be said before [`StreamShared::ring`], and taken back with
    /// the rest.
    pub fn set_more(&self, more: bool) {
        self.knobs.set_more(more);
    }

    /// What was pushed leaves now, even where Nagle's algorithm, a cork or announced data would have it wait.
    pub fn flush(&self) {
        self.knobs.flush();
        self.ring();
    }

    /// The peer has finished and everything has been read.
    pub fn is_drained(&self) -> bool {
        // The flag first: what was pushed before it was set is then visible.
        self.receive_finished.load(Ordering::Acquire) && self.to_app.is_empty()
    }

    /// Everything that was sent, and the end of it, has been acknowledged.
    pub fn is_sent(&self) -> bool {
        self.send_finished.load(Ordering::Acquire)
    }

    /// No more will be sent.
    pub fn close_send(&self) {
        self.send_closed.store(true, Ordering::Release);
        self.ring();
    }

    /// The application goes: nothing more is read or sent. What was pushed is still delivered, unless received data
    /// was left unread (RFC 9293 §3.10.4: then the peer gets a reset).
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.close_send();
    }

    /// The application goes and wants nothing delivered any more, as with a linger time of 0: the peer gets MP_FASTCLOSE
    /// (RFC 8684 §3.5), or a reset on plain TCP.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.abandon();
    }

    /// Waits until there is something to read, the peer has finished, or the connection is closed. False when
    /// `timeout` passed first.
    pub fn wait_readable(&self, timeout: Option<std::time::Duration>) -> bool {
        self.reader.wait_until(timeout, || {
            !self.to_app.is_empty()
                || self.receive_finished.load(Ordering::Acquire)
                || self.state() == StreamState::Closed
        })
    }

    /// Waits until the ring to the worker is at most half full, or the connection is closed.
    pub fn wait_writable(&self, timeout: Option<std::time::Duration>) -> bool {
        self.writer.wait_until(timeout, || {
            self.state() == StreamState::Closed
                || (self.state() == StreamState::Open && self.to_stack.len() <= RING_CHUNKS / 2)
        })
    }

    /// Waits until the connection is open or closed.
    pub fn wait_open(&self, timeout: Option<std::time::Duration>) -> bool {
        self.writer.wait_until(timeout, || self.state() != StreamState::Connecting)
    }

    /// Waits until everything sent has been acknowledged, or the connection is closed.
    pub fn wait_sent(&self, timeout: Option<std::time::Duration>) -> bool {
        self.writer
            .wait(timeout, || (self.is_sent() || self.state() == StreamState::Closed).then_some(()))
            .is_some()
    }

    // ---- the worker's side ----

    /// The connection has a name: the application can ring from now on.
    pub fn set_identity(&self, connection: ConnectionId, tuple: FourTuple) {
        let set = self.identity.set((connection, tuple));
        assert!(set.is_ok(), "a stream belongs to one connection");
    }

    /// The handshake is over. Whether an application has waited for that.
    pub fn set_open(&self) -> bool {
        self.state.store(StreamState::Open as u8, Ordering::Release);
        let (reads, writes) = (self.reader.wake(), self.writer.wake());
        reads || writes
    }

    /// Whether the connection is MPTCP, or why it is not.
    pub fn set_fallback(&self, fallback: Option<FallbackReason>) {
        let code = match fallback {
            None => MPTCP_AGREED,
            Some(reason) => {
                let place = FallbackReason::ALL.iter().position(|other| *other == reason).unwrap_or(0);
                MPTCP_FALLBACK + place as u8
            }
        };
        self.mptcp.store(code, Ordering::Release);
    }

    /// Whether data went with the SYN.
    pub fn set_fast_open(&self, used: FastOpenUse) {
        self.fast_open.store(used as u8, Ordering::Release);
    }

    /// How many payload bytes make one segment.
    pub fn set_chunk_len(&self, bytes: usize) {
        self.chunk_len.store(bytes as u32, Ordering::Relaxed);
    }

    /// Whether the application has rung and the worker has not come yet.
    pub fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// The worker attends to the doorbell: rings from now on are new ones. What it takes without having been rung for needs
    /// no fence: whoever pushes after the last ring rings again.
    pub fn attend(&self) {
        if self.rung.load(Ordering::Acquire) {
            self.rung.store(false, Ordering::Release);
            std::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    /// The next chunk to send.
    pub fn take(&self) -> Option<Chunk> {
        self.to_stack.pop()
    }

    /// Wakes the writer, after a batch of [`StreamShared::take`], where there is room for a batch of its own.
    pub fn wake_writer(&self) {
        if self.to_stack.len() <= RING_CHUNKS / 2 {
            self.writer.wake();
        }
    }

    /// Whether [`StreamShared::take`] would give a chunk.
    pub fn has_chunks(&self) -> bool {
        !self.to_stack.is_empty()
    }

    /// Gives received data to the application.
    ///
    /// # Errors
    /// The chunk back when the ring is full.
    pub fn deliver(&self, chunk: Chunk) -> Result<(), Chunk> {
        let len = chunk.len() as u64;
        // Before the chunk can be read: what was read is never more than what was delivered.
        self.bytes_delivered.fetch_add(len, Ordering::AcqRel);
        self.to_app.push(chunk).inspect_err(|_| {
            self.bytes_delivered.fetch_sub(len, Ordering::AcqRel);
        })
    }

    /// How many chunks [`StreamShared::deliver`] takes now.
    pub fn deliver_room(&self) -> usize {
        RING_CHUNKS - self.to_app.len()
    }

    /// Wakes the reader, after a batch of [`StreamShared::deliver`]. Whether there was one that waited.
    pub fn wake_reader(&self) -> bool {
        self.reader.wake()
    }

    /// Bytes that the application has read so far; it rings again once it has read `ring_at`.
    pub fn bytes_read(&self, ring_at: u64) -> u64 {
        self.ring_at.store(ring_at, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.bytes_read.load(Ordering::Acquire)
    }

    /// The same where [`StreamShared::bytes_read`] was called with the same `ring_at` before.
    pub fn bytes_read_so_far(&self) -> u64 {
        self.bytes_read.load(Ordering::Acquire)
    }

    /// The peer has finished: everything is in the ring. Whether a reader has waited for that.
    pub fn set_receive_finished(&self) -> bool {
        self.receive_finished.store(true, Ordering::Release);
        self.reader.wake()
    }

    /// Everything sent has been acknowledged.
    pub fn set_send_finished(&self) {
        self.send_finished.store(true, Ordering::Release);
        self.writer.wake();
    }

    /// Whether the application sends no more (what is in the ring comes first).
    pub fn is_send_closed(&self) -> bool {
        self.send_closed.load(Ordering::Acquire)
    }

    /// What the application has turned since the worker looked last.
    pub fn take_turned(&self) -> Option<Turned> {
        self.knobs.take_turned()
    }

    /// Whether what was pushed so far has to leave now.
    pub fn take_flush(&self) -> bool {
        self.knobs.take_flush()
    }

    /// Whether what was pushed last is not the end of a message.
    pub fn has_more(&self) -> bool {
        self.knobs.has_more()
    }

    /// Whether the application is gone.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Whether the application wants the connection to end at once.
    pub fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    /// The connection is over.
    pub fn set_closed(&self, reason: CloseReason) {
        self.reason.store(reason as u8, Ordering::Release);
        self.state.store(StreamState::Closed as u8, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// Publishes figures.
    pub fn publish(&self, info: &ConnectionInfo) {
        self.info.publish(info);
    }
}
