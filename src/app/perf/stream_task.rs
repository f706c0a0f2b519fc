//! One data connection of a test and the thread that keeps it busy, in one direction.

use crate::app::Stream;
use crate::app::perf::control::{Event, Role};
use crate::app::perf::error::PerfError;
use crate::app::perf::net::{Connection, in_time};
use crate::app::perf::parameters::Parameters;
use crate::app::perf::payload::{Sink, Source};
use crate::base::Instant;
use crate::base::pool::FRAME_SIZE;
use crate::base::time::Duration;
use crate::runtime::Clock;
use crossbeam::channel::Sender;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// How long a thread waits for data or room before it looks whether the test is still on.
const SLICE: Duration = Duration::from_millis(100);
/// How long a sender sleeps that is ahead of its rate.
const PACE: Duration = Duration::from_millis(1);

/// Bytes that are left to one direction of a test, over all of its streams.
#[derive(Debug)]
pub struct Target(Option<AtomicU64>);

impl Target {
    /// A direction that is done after so many bytes, or never.
    pub fn new(bytes: Option<u64>) -> Self {
        Self(bytes.map(AtomicU64::new))
    }

    /// Takes up to `wanted` bytes off it.
    fn take(&self, wanted: u64) -> u64 {
        let Some(left) = &self.0 else { return wanted };
        let take = |left: u64| Some(left.saturating_sub(wanted));
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        before.min(wanted)
    }

    /// Whether nothing is left.
    pub fn is_reached(&self) -> bool {
        self.0.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }
}

/// What all threads of a test look at.
#[derive(Debug)]
pub struct Shared {
    clock: Clock,
    /// The test is over: senders end, receivers discard.
    stop: AtomicBool,
    /// The connections are about to be closed: everybody ends.
    close: AtomicBool,
    /// The omitted seconds are over: bytes count against the targets.
    counting: AtomicBool,
    sending: Target,
    receiving: Target,
    block: usize,
    /// Of each stream, in bit/s; 0: as fast as it goes.
    bandwidth: u64,
    half_close: bool,
    /// A receiver ends when its direction's target is reached: then the client ends the test. A server reads on: its
    /// count may differ by what was under way when the omitted seconds ended.
    ends_at_target: bool,
}

impl Shared {
    /// For one end of a test with these parameters.
    pub fn new(parameters: &Parameters, role: Role, clock: Clock) -> Arc<Self> {
        let target = parameters.target_bytes();
        // A client that does not wait for our end of the stream counts what arrives, and stops us.
        let unlimited = role == Role::Server && !parameters.half_close;
        Arc::new(Self {
            clock,
            stop: AtomicBool::new(false),
            close: AtomicBool::new(false),
            counting: AtomicBool::new(parameters.omit_secs == 0),
            sending: Target::new(target.filter(|_| !unlimited)),
            receiving: Target::new(target),
            block: parameters.len as usize,
            bandwidth: parameters.bandwidth,
            half_close: parameters.half_close,
            ends_at_target: role == Role::Client,
        })
    }

    /// The omitted seconds are over.
    pub fn start_counting(&self) {
        self.counting.store(true, Ordering::Release);
    }

    /// The test is over.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The connections are about to be closed.
    pub fn close(&self) {
        self.stop();
        self.close.store(true, Ordering::Release);
    }

    /// The target of what is received.
    pub fn receiving(&self) -> &Target {
        &self.receiving
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn closing(&self) -> bool {
        self.close.load(Ordering::Acquire)
    }

    /// How many bytes a sender may go on with.
    fn allowance(&self, wanted: u64) -> u64 {
        if self.counting.load(Ordering::Relaxed) { self.sending.take(wanted) } else { wanted }
    }
}

/// What a stream has done so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes accepted for sending, or received.
    bytes: AtomicU64,
    ended: AtomicBool,
    digest: OnceLock<String>,
}

impl Progress {
    /// Bytes accepted for sending, or received.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether the stream has come to its end.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// SHA-256 of the file, once the thread has ended.
    pub fn digest(&self) -> Option<&str> {
        self.digest.get().map(String::as_str)
    }

    fn add(&self, bytes: usize) {
        // One thread writes: no need for a locked addition.
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes as u64, Ordering::Release);
    }
}

/// What a stream does.
#[derive(Debug)]
pub enum Work {
    /// Sends a file, or a pattern.
    Send(Option<Source>),
    /// Receives, into a file or into nothing.
    Receive(Option<Sink>),
}

/// A data connection and its thread.
#[derive(Debug)]
pub struct StreamTask {
    /// Its name on the wire.
    pub id: u32,
    /// Whether this end sends.
    pub sender: bool,
    /// The connection.
    pub connection: Arc<Connection>,
    /// What it has done so far.
    pub progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl StreamTask {
    /// Starts the thread of the `index`-th stream.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        index: usize,
        id: u32,
        connection: Connection,
        work: Work,
        shared: &Arc<Shared>,
        events: &Sender<Event>,
    ) -> Result<Self, PerfError> {
        let connection = Arc::new(connection);
        let progress = Arc::new(Progress::default());
        let sender = matches!(work, Work::Send(_));
        let worker = Worker {
            id,
            connection: Arc::clone(&connection),
            shared: Arc::clone(shared),
            progress: Arc::clone(&progress),
        };
        let events = events.clone();
        let thread = std::thread::Builder::new()
            .name(format!("stream {id}"))
            .spawn(move || {
                let result = worker.run(work);
                worker.progress.ended.store(true, Ordering::Release);
                // The test may be over and gone.
                let _ = events.send(Event::StreamEnded { index, result });
            })
            .map_err(PerfError::Thread)?;
        Ok(Self { id, sender, connection, progress, thread: Some(thread) })
    }

    /// Waits for the thread's end, after [`Shared::close`].
    pub fn join(&mut self) {
        self.connection.close();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its thread, and its figures are as good as they were.
            let _ = thread.join();
        }
    }
}

struct Worker {
    id: u32,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    progress: Arc<Progress>,
}

impl Worker {
    fn run(&self, work: Work) -> Result<(), PerfError> {
        match work {
            Work::Send(source) => self.send(source),
            Work::Receive(sink) => self.receive(sink),
        }
    }

    fn broken(&self, source: io::Error) -> PerfError {
        PerfError::Stream { id: self.id, source }
    }

    // ---- sending ----

    fn send(&self, mut source: Option<Source>) -> Result<(), PerfError> {
        let result = match &*self.connection {
            Connection::Braid(stream) => self.send_in_place(stream, source.as_mut()),
            Connection::Kernel(_) => self.send_blocks(source.as_mut()),
        };
        if let Some(source) = source {
            // Set once, by this thread.
            let _ = self.progress.digest.set(source.finish());
        }
        match result {
            // Whoever ends a test may close the connections before our next write.
            Err(PerfError::Stream { .. }) if self.shared.stopped() => return Ok(()),
            result => result?,
        }
        if self.shared.half_close {
            self.connection.close_send();
            self.connection.wait_sent(|| self.shared.closing());
        }
        Ok(())
    }

    /// Writes blocks from a buffer of ours.
    fn send_blocks(&self, mut source: Option<&mut Source>) -> Result<(), PerfError> {
        let mut pace = Pace::new(&self.shared);
        let mut block: Vec<u8> = (0..self.shared.block).map(|place| place as u8).collect();
        loop {
            let wanted = self.shared.allowance(block.len() as u64) as usize;
            let wanted = match &mut source {
                Some(source) => source.read(&mut block[..wanted])?,
                None => wanted,
            };
            if wanted == 0 {
                return Ok(());
            }
            let mut written = 0;
            while written < wanted {
                if self.shared.stopped() || !pace.wait(&self.shared) {
                    return Ok(());
                }
                match self.connection.write(&block[written..wanted], Some(SLICE)) {
                    Ok(Some(0)) => return Err(self.broken(ErrorKind::WriteZero.into())),
                    Ok(Some(bytes)) => {
                        if let Some(source) = &mut source {
                            source.sent(&block[written..written + bytes]);
                        }
                        written += bytes;
                        self.progress.add(bytes);
                        pace.sent(bytes);
                    }
                    Ok(None) => {}
                    Err(error) => return Err(self.broken(error)),
                }
            }
        }
    }

    /// Sends frames of Braid's, filled in place. Without a file with a pattern: what a frame held before belongs to
    /// whoever used it, and is not the peer's to see.
    fn send_in_place(&self, stream: &Stream, mut source: Option<&mut Source>) -> Result<(), PerfError> {
        let mut pace = Pace::new(&self.shared);
        stream.set_write_timeout(Some(SLICE.into()));
        let pattern: [u8; FRAME_SIZE] = std::array::from_fn(|place| place as u8);
        let mut allowance = 0;
        loop {
            if self.shared.stopped() || !pace.wait(&self.shared) {
                return Ok(());
            }
            if allowance < FRAME_SIZE {
                // More before it runs out, so that blocks don't end in short segments.
                allowance += self.shared.allowance(self.shared.block as u64) as usize;
            }
            let mut failed = None;
            let sent = stream.send_with(|payload| {
                let room = payload.len().min(allowance);
                let payload = &mut payload[..room];
                let Some(source) = &mut source else {
                    payload.copy_from_slice(&pattern[..room]);
                    return room;
                };
                match source.read(payload) {
                    Ok(filled) => {
                        source.sent(&payload[..filled]);
                        filled
                    }
                    Err(error) => {
                        failed = Some(error);
                        0
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            match in_time(stream, sent).map_err(|error| self.broken(error))? {
                Some(0) => return Ok(()),
                Some(bytes) => {
                    allowance -= bytes;
                    self.progress.add(bytes);
                    pace.sent(bytes);
                }
                None => {}
            }
        }
    }

    // ---- receiving ----

    fn receive(&self, mut sink: Option<Sink>) -> Result<(), PerfError> {
        let result = match &*self.connection {
            Connection::Braid(stream) => self.receive_chunks(stream, sink.as_mut()),
            Connection::Kernel(_) => self.receive_blocks(sink.as_mut()),
        };
        if let Some(sink) = sink {
            // Set once, by this thread.
            let _ = self.progress.digest.set(sink.finish()?);
        }
        match result {
            // The sender may close its connections as soon as the test is over.
            Err(PerfError::Stream { .. }) if self.shared.stopped() => Ok(()),
            result => result,
        }
    }

    fn receive_blocks(&self, mut sink: Option<&mut Sink>) -> Result<(), PerfError> {
        let mut block = vec![0; self.shared.block];
        while !self.shared.closing() {
            match self.connection.read(&mut block, Some(SLICE)) {
                Ok(None) => {}
                Ok(Some(bytes)) if bytes > 0 && self.received(&block[..bytes], sink.as_deref_mut())? => {}
                // The last byte of the direction, or the peer's end.
                Ok(Some(_)) => return Ok(()),
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    fn receive_chunks(&self, stream: &Stream, mut sink: Option<&mut Sink>) -> Result<(), PerfError> {
        stream.set_read_timeout(Some(SLICE.into()));
        while !self.shared.closing() {
            match in_time(stream, stream.recv_chunk()).map_err(|error| self.broken(error))? {
                None => {}
                Some(Some(chunk)) if self.received(&chunk, sink.as_deref_mut())? => {}
                // The last byte of the direction, or the peer's end.
                Some(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// False when that was the last byte of the direction, and the thread is to end.
    fn received(&self, bytes: &[u8], sink: Option<&mut Sink>) -> Result<bool, PerfError> {
        if self.shared.stopped() {
            return Ok(true);
        }
        if let Some(sink) = sink {
            sink.write(bytes)?;
        }
        self.progress.add(bytes.len());
        if self.shared.counting.load(Ordering::Relaxed) {
            self.shared.receiving.take(bytes.len() as u64);
        }
        Ok(!(self.shared.ends_at_target && self.shared.receiving.is_reached()))
    }
}

/// Keeps a stream to its rate.
#[derive(Debug)]
struct Pace {
    bandwidth: u64,
    began: Instant,
    bits: u64,
}

impl Pace {
    fn new(shared: &Shared) -> Self {
        Self { bandwidth: shared.bandwidth, began: shared.clock.now(), bits: 0 }
    }

    fn sent(&mut self, bytes: usize) {
        self.bits += 8 * bytes as u64;
    }

    /// Whether the stream is ahead of its rate.
    fn is_ahead(&self, now: Instant) -> bool {
        let due = now.since(self.began).as_secs_f64() * self.bandwidth as f64;
        self.bits as f64 > due
    }

    /// Waits until the stream may go on; false when the test ended before.
    fn wait(&self, shared: &Shared) -> bool {
        while self.bandwidth != 0 && self.is_ahead(shared.clock.now()) {
            if shared.stopped() {
                return false;
            }
            std::thread::sleep(PACE.into());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_given_away_once() {
        let target = Target::new(Some(10));
        assert_eq!((target.take(7), target.is_reached()), (7, false));
        assert_eq!((target.take(7), target.is_reached()), (3, true));
        assert_eq!(target.take(7), 0);
        let endless = Target::new(None);
        assert_eq!((endless.take(7), endless.is_reached()), (7, false));
    }

    #[test]
    fn a_paced_stream_is_ahead_of_its_rate_or_behind() {
        let mut pace = Pace { bandwidth: 8000, began: Instant::ZERO, bits: 0 };
        assert!(!pace.is_ahead(Instant::ZERO));
        pace.sent(1000);
        assert!(pace.is_ahead(Instant::from_millis(999)));
        assert!(!pace.is_ahead(Instant::from_millis(1000)));
    }
}
