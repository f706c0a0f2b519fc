//! [`Stream`] and [`Listener`]: the application's side of a connection. Bytes move in frames that the NICs share;
//! `Read` and `Write` copy into and out of them, [`Stream::recv_chunk`] and [`Stream::send_with`] don't.

use crate::app::Mptcp;
use crate::base::pool::{TX_HEADROOM, TX_PAYLOAD_MAX};
use crate::base::{Chunk, Frame, FramePool, PoolCache};
use crate::mptcp::Tuning;
use crate::runtime::{ConnectError, ControlHandle, ListenError, Runtime};
use crate::stack::stream::{ConnectionInfo, FastOpenUse, StreamState};
use crate::stack::{
    AcceptQueue, CloseReason, ConnectOptions, FallbackReason, ListenOptions, ListenerId, StreamShared,
};
use crate::wire::{FourTuple, checksum};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a writer that finds the frame pool exhausted waits before it looks again. Frames come back as data is
/// acknowledged and read; nobody announces it.
const POOL_RETRY: Duration = Duration::from_micros(200);

/// A connection: MPTCP, or plain TCP where the peer or the options want that.
///
/// One thread may read while another writes, through `&Stream`. Two threads that read (or write) take turns.
/// Dropping it closes both directions: what was written is still delivered, unless received data was left unread;
/// then the peer gets a reset (RFC 9293 §3.10.4).
#[derive(Debug)]
pub struct Stream {
    shared: Arc<StreamShared>,
    tuple: FourTuple,
    control: ControlHandle,
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
}

/// Frames that a reader keeps before it gives them back. Streams are many: none may sit on a share of the pool.
const KEEP: usize = 64;

#[derive(Debug)]
struct Reader {
    cache: PoolCache,
    /// Frames freed since the cache was last flushed.
    freed: usize,
    /// What is left of a chunk that was read in part.
    current: Option<Chunk>,
    timeout: Option<Duration>,
}

#[derive(Debug)]
struct Writer {
    cache: PoolCache,
    timeout: Option<Duration>,
}

impl Reader {
    fn free(&mut self, chunk: Chunk) {
        self.cache.free_chunk(chunk);
        self.freed += 1;
        if self.freed >= KEEP {
            self.flush();
        }
    }

    /// Gives all free frames back to the pool.
    fn flush(&mut self) {
        self.freed = 0;
        self.cache.flush();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks protect is consistent after every statement: a panic elsewhere does no harm to it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    /// The application's side of `shared`, whose first subflow has the ends `tuple`.
    pub fn new(
        shared: Arc<StreamShared>,
        tuple: FourTuple,
        pool: &Arc<FramePool>,
        control: ControlHandle,
    ) -> Self {
        let cache = || PoolCache::for_application(Arc::clone(pool));
        Self {
            shared,
            tuple,
            control,
            reader: Mutex::new(Reader { cache: cache(), freed: 0, current: None, timeout: None }),
            writer: Mutex::new(Writer { cache: cache(), timeout: None }),
        }
    }

    /// Our end of the first subflow.
    pub fn local_addr(&self) -> SocketAddr {
        self.tuple.local.into()
    }

    /// The peer's end of the first subflow.
    pub fn remote_addr(&self) -> SocketAddr {
        self.tuple.remote.into()
    }

    /// A hand on its paths: subflows, addresses, all that is known of them (RFC 6897).
    pub fn mptcp(&self) -> Mptcp {
        Mptcp::new(self.control.clone(), self.tuple)
    }

    /// The latest figures; `None` before the worker has published any.
    pub fn info(&self) -> Option<ConnectionInfo> {
        self.shared.info()
    }

    /// `None`: not known yet; `Some(None)`: MPTCP; `Some(Some(reason))`: plain TCP, and why.
    pub fn fallback(&self) -> Option<Option<FallbackReason>> {
        self.shared.fallback()
    }

    /// Whether data went with the SYN (RFC 7413).
    pub fn fast_open(&self) -> FastOpenUse {
        self.shared.fast_open()
    }

    /// Why the connection is closed; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.close_reason()
    }

    /// How long a read waits for data: `None`, the default, for ever. A read that waited in vain fails with
    /// [`ErrorKind::TimedOut`].
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        lock(&self.reader).timeout = timeout;
    }

    /// How long a write waits for room: `None`, the default, for ever. A write that waited in vain fails with
    /// [`ErrorKind::TimedOut`].
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        lock(&self.writer).timeout = timeout;
    }

    /// The settings that may change while the connection runs.
    pub fn tuning(&self) -> Tuning {
        self.shared.tuning()
    }

    /// Changes settings: Nagle's algorithm, a cork, keep-alive, the user timeout.
    pub fn tune(&self, change: impl FnOnce(&mut Tuning)) {
        self.shared.tune(change);
    }

    /// Changes the sizes of the buffers, in bytes.
    pub fn set_buffers(&self, send: Option<u32>, receive: Option<u32>) {
        self.shared.set_buffers(send, receive);
    }

    /// Ends our direction: the peer reads the end after all that was written.
    pub fn close_send(&self) {
        self.shared.close_send();
    }

    /// Ends the connection at once, in both directions: what was not delivered is not, and the peer is told by MP_FASTCLOSE
    /// (or a reset, on plain TCP). What a socket with a linger time of 0 does when it is closed.
    pub fn abort(self) {
        self.shared.reset();
    }

    /// Like [`std::net::TcpStream::shutdown`]; only the sending direction can be ended on its own.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for [`Shutdown::Read`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Write | Shutdown::Both => self.close_send(),
            Shutdown::Read => return Err(ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    /// After [`Stream::close_send`]: waits until the peer has acknowledged everything, the end included. False when
    /// nothing has moved for as long as `timeout`.
    ///
    /// # Errors
    /// The connection ended before that.
    pub fn wait_sent(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let waited = self.shared.wait_sent(timeout);
        if self.shared.is_sent() {
            return Ok(true);
        }
        match self.closed() {
            None => Ok(waited),
            Some(CloseReason::Finished) => Ok(true),
            Some(reason) => Err(reason_error(reason)),
        }
    }

    /// The next received bytes where the NIC put them; `None` at the end of what the peer sends. Waits for them.
    ///
    /// # Errors
    /// The connection was reset or ran into a time-out, or nothing came within the read time-out.
    pub fn recv_chunk(&self) -> io::Result<Option<RecvChunk<'_>>> {
        let mut reader = lock(&self.reader);
        let chunk = match reader.current.take() {
            Some(chunk) => Some(chunk),
            None => self.next_chunk(&mut reader, true)?,
        };
        Ok(chunk.map(|chunk| RecvChunk {
            stream: self,
            pool: Arc::clone(reader.cache.pool_arc()),
            chunk: Some(chunk),
        }))
    }

    /// Lets `fill` write a segment's worth of payload in place and sends as many of its first bytes as it says.
    /// Waits for room. The buffer holds old bytes: `fill` has to write what it counts.
    ///
    /// # Errors
    /// The connection is closed, or our direction of it is, or there was no room within the write time-out.
    pub fn send_with(&self, fill: impl FnOnce(&mut [u8]) -> usize) -> io::Result<usize> {
        let mut writer = lock(&self.writer);
        let frame = self.frame_to_fill(&mut writer)?;
        let sent = self.push(&mut writer, frame, fill)?;
        self.shared.ring();
        Ok(sent)
    }

    /// The reason, once the connection is over.
    fn closed(&self) -> Option<CloseReason> {
        (self.shared.state() == StreamState::Closed)
            .then(|| self.shared.close_reason().unwrap_or(CloseReason::Aborted))
    }

    /// The next chunk that holds bytes. `None` at the end, and, unless `block`, when there is none now.
    fn next_chunk(&self, reader: &mut Reader, block: bool) -> io::Result<Option<Chunk>> {
        loop {
            // The reason first: what was delivered before the end is then visible to `pop`.
            let closed = self.closed();
            if let Some(chunk) = self.shared.pop() {
                if !chunk.is_empty() {
                    return Ok(Some(chunk));
                }
                reader.free(chunk);
                continue;
            }
            reader.flush();
            if self.shared.is_drained() || !block {
                return Ok(None);
            }
            match closed {
                Some(CloseReason::Finished) => return Ok(None),
                Some(reason) => return Err(reason_error(reason)),
                None => {}
            }
            if !self.shared.wait_readable(reader.timeout) {
                return Err(io::Error::new(ErrorKind::TimedOut, "nothing to read within the time-out"));
            }
        }
    }

    fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut reader = lock(&self.reader);
        let mut copied = 0;
        while copied < buffer.len() {
            let chunk = match reader.current.take() {
                Some(chunk) => Some(chunk),
                None => self.next_chunk(&mut reader, copied == 0)?,
            };
            let Some(mut chunk) = chunk else { break };
            let len = chunk.len().min(buffer.len() - copied);
            buffer[copied..copied + len].copy_from_slice(&reader.cache.pool().chunk(&chunk)[..len]);
            copied += len;
            chunk.trim_front(len);
            if chunk.is_empty() {
                reader.free(chunk);
            } else {
                reader.current = Some(chunk);
            }
        }
        Ok(copied)
    }

    fn write_some(&self, mut bytes: &[u8]) -> io::Result<usize> {
        let mut writer = lock(&self.writer);
        let mut written = 0;
        while !bytes.is_empty() {
            let frame = match self.try_frame(&mut writer)? {
                Some(frame) => frame,
                // A short write rather than a wait: the caller hears of what went.
                None if written > 0 => break,
                None => self.frame_to_fill(&mut writer)?,
            };
            let len = self.push(&mut writer, frame, |buffer| {
                let len = buffer.len().min(bytes.len());
                buffer[..len].copy_from_slice(&bytes[..len]);
                len
            });
            match len {
                Ok(len) => bytes = &bytes[len..],
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
            written += len.unwrap_or(0);
        }
        writer.cache.flush();
        self.shared.ring();
        Ok(written)
    }

    /// A frame, when the ring has room for its chunk and the pool has one.
    fn try_frame(&self, writer: &mut Writer) -> io::Result<Option<Frame>> {
        if let Some(reason) = self.closed() {
            return Err(match reason {
                CloseReason::Finished => io::Error::new(ErrorKind::BrokenPipe, "the connection is closed"),
                reason => reason_error(reason),
            });
        }
        if self.shared.is_send_closed() {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "our direction of the connection is closed"));
        }
        Ok(if self.shared.push_room() > 0 { writer.cache.alloc() } else { None })
    }

    /// Like [`Stream::try_frame`], but waits.
    fn frame_to_fill(&self, writer: &mut Writer) -> io::Result<Frame> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(frame) = self.try_frame(writer)? {
                return Ok(frame);
            }
            // While this waits, others may need the frames.
            writer.cache.flush();
            self.shared.ring();
            let in_time = if self.shared.push_room() == 0 {
                self.shared.wait_writable(writer.timeout)
            } else {
                std::thread::sleep(POOL_RETRY);
                waited += POOL_RETRY;
                writer.timeout.is_none_or(|timeout| waited < timeout)
            };
            if !in_time {
                return Err(io::Error::new(ErrorKind::TimedOut, "no room to write within the time-out"));
            }
        }
    }

    /// Fills `frame` and gives it to the worker.
    fn push(
        &self,
        writer: &mut Writer,
        mut frame: Frame,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> io::Result<usize> {
        let room = self.shared.chunk_len().clamp(1, TX_PAYLOAD_MAX);
        let buffer = &mut writer.cache.pool().bytes_mut(&mut frame)[TX_HEADROOM..TX_HEADROOM + room];
        let len = fill(buffer).min(room);
        if len == 0 {
            writer.cache.free(frame);
            return Ok(0);
        }
        // The bytes are in this processor's cache now; the worker need not look at them any more.
        let sum = checksum::sum(0, &buffer[..len]);
        let chunk = Chunk::new(frame, TX_HEADROOM, len).with_sum(Some(sum));
        self.shared.push(chunk).map(|()| len).map_err(|chunk| {
            // There was room, and nobody else pushes: the connection has ended in between.
            writer.cache.free_chunk(chunk);
            reason_error(self.closed().unwrap_or(CloseReason::Aborted))
        })
    }
}

/// The end of a connection as an error of reading or writing.
fn reason_error(reason: CloseReason) -> io::Error {
    let kind = match reason {
        CloseReason::Finished => ErrorKind::NotConnected,
        CloseReason::Refused => ErrorKind::ConnectionRefused,
        CloseReason::Reset => ErrorKind::ConnectionReset,
        CloseReason::TimedOut => ErrorKind::TimedOut,
        CloseReason::Unreachable => ErrorKind::HostUnreachable,
        CloseReason::Aborted => ErrorKind::ConnectionAborted,
        CloseReason::PathDown => ErrorKind::NetworkDown,
        CloseReason::NoResources => ErrorKind::OutOfMemory,
        CloseReason::Protocol => ErrorKind::InvalidData,
    };
    io::Error::new(kind, reason.describe())
}

impl Drop for Stream {
    fn drop(&mut self) {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = reader.current.take() {
            reader.cache.free_chunk(chunk);
        }
        self.shared.abandon();
        // From here on the worker empties the rings. But a worker that closed the connection before it could see
        // `abandoned` never comes back to it: then it is up to us. The fence, and the worker's between `set_closed`
        // and `is_abandoned`, see to it that at least one of the two does it.
        fence(Ordering::SeqCst);
        if self.shared.state() == StreamState::Closed {
            while let Some(chunk) = self.shared.pop() {
                reader.cache.free_chunk(chunk);
            }
            while let Some(chunk) = self.shared.take() {
                reader.cache.free_chunk(chunk);
            }
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer)
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.flush();
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.flush();
        Ok(())
    }
}

/// Received bytes, in the frame that the NIC wrote them to. The frame goes back when this is dropped.
#[derive(Debug)]
pub struct RecvChunk<'a> {
    stream: &'a Stream,
    pool: Arc<FramePool>,
    /// `None` only while it is being dropped.
    chunk: Option<Chunk>,
}

impl Deref for RecvChunk<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.chunk.as_ref().map_or(&[], |chunk| self.pool.chunk(chunk))
    }
}

impl Drop for RecvChunk<'_> {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            lock(&self.stream.reader).free(chunk);
        }
    }
}

/// Accepts connections at a port, until it is closed or dropped. Accepted connections stay.
#[derive(Debug)]
pub struct Listener {
    accept: Arc<AcceptQueue>,
    id: ListenerId,
    local: SocketAddr,
    pool: Arc<FramePool>,
    control: ControlHandle,
    closed: AtomicBool,
}

impl Listener {
    /// Where it listens; the port is the one that was chosen where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection; `None` when `timeout` passed first.
    ///
    /// # Errors
    /// The listener was closed.
    pub fn accept(&self, timeout: Option<Duration>) -> io::Result<Option<Stream>> {
        while let Some(shared) = self.accept.wait(timeout) {
            if let Some((_, tuple)) = shared.identity() {
                return Ok(Some(Stream::new(shared, tuple, &self.pool, self.control.clone())));
            }
            // An accepted connection has a name by the time it is handed over.
            shared.abandon();
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(ErrorKind::NotConnected, "the listener is closed"));
        }
        Ok(None)
    }

    /// Accepts nothing more; connections that nobody has taken are closed.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.control.unlisten(self.id);
        self.accept.close();
        while let Some(shared) = self.accept.pop() {
            if let Some((_, tuple)) = shared.identity() {
                drop(Stream::new(shared, tuple, &self.pool, self.control.clone()));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl Runtime {
    /// Opens a connection to `remote` through the NIC that the kernel's routes say, and waits until it is
    /// established. Further subflows follow on their own.
    ///
    /// # Errors
    /// Why not, in words: no route, no answer, refused, out of ports.
    pub fn connect(
        &self,
        remote: SocketAddr,
        options: ConnectOptions,
        timeout: Duration,
    ) -> Result<Stream, ConnectError> {
        self.connect_with(remote, options, &[], timeout)
    }

    /// The same, and writes `first` at once. With [`ConnectOptions::fast_open`] it may go with the SYN, as much of it as fits,
    /// and reach the server's application before the connection is established: **perhaps twice**, see there.
    /// [`Stream::fast_open`] tells whether it did.
    ///
    /// # Errors
    /// As [`Runtime::connect`].
    pub fn connect_with(
        &self,
        remote: SocketAddr,
        options: ConnectOptions,
        first: &[u8],
        timeout: Duration,
    ) -> Result<Stream, ConnectError> {
        let opening = self.control().open(remote, options, timeout.into())?;
        let stream = Stream::new(opening.stream, opening.tuple, self.pool(), self.control().clone());
        stream.set_write_timeout(Some(timeout));
        let written = (&stream).write_all(first);
        stream.set_write_timeout(None);
        if options.fast_open {
            // There is no more: the SYN need not wait.
            stream.shared.flush();
        }
        if written.is_err() && stream.closed().is_none() {
            return Err(ConnectError::TimedOut { remote });
        }
        if !stream.shared.wait_open(Some(timeout)) {
            return Err(ConnectError::TimedOut { remote });
        }
        match stream.closed() {
            None => Ok(stream),
            // It was open, and the peer has finished already: what it sent is still to be read.
            Some(CloseReason::Finished) => Ok(stream),
            Some(reason) => Err(ConnectError::from_close(remote, reason)),
        }
    }

    /// Accepts connections at `local`, whose address may be unspecified (then at every address of the host, of both
    /// families) and whose port may be 0 (then one is chosen).
    ///
    /// # Errors
    /// The port is in use, or the address is not ours.
    pub fn listen(&self, local: SocketAddr, options: ListenOptions) -> Result<Listener, ListenError> {
        let bound = self.control().listen(local, options)?;
        Ok(Listener {
            accept: bound.accept,
            id: bound.id,
            local: bound.local,
            pool: Arc::clone(self.pool()),
            control: self.control().clone(),
            closed: AtomicBool::new(false),
        })
    }
}

#[cfg(test)]
mod tests;
