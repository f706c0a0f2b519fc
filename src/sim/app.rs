//! The application at one end of a connection: it sends a pattern, checks the other end's pattern, and closes.

use crate::base::pool::TX_HEADROOM;
use crate::base::time::Duration;
use crate::base::{Chunk, Instant, PoolCache, Prng};
use crate::sim::pattern::Pattern;
use crate::stack::stream::{RING_CHUNKS, StreamState};
use crate::stack::{CloseReason, StreamShared};
use crate::wire::checksum;
use std::sync::Arc;

/// The application leaves at most this many chunks in the ring: what it fills without need is missing elsewhere in
/// the pool.
const CHUNKS_AHEAD: usize = 64;

/// When an application closes its sending side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseWhen {
    /// As soon as everything is handed to the stack.
    Sent,
    /// Only when the peer has closed too. At most one end of a connection may wait for the other.
    PeerFinished,
}

/// What an application does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppSpec {
    /// Bytes that it sends.
    pub send: u64,
    /// Bytes that it expects.
    pub receive: u64,
    /// When it closes.
    pub close: CloseWhen,
    /// It reads only so often; zero: always at once.
    pub read_every: Duration,
    /// The most chunks it reads at a time.
    pub read_chunks: usize,
    /// Probability that it sends less than a segment's worth in a chunk.
    pub short_chunks: f64,
    /// How long it waits, with all sent, until it closes.
    pub close_after: Duration,
    /// So many bytes may arrive changed: a middlebox does that, and MPTCP has given way to TCP, which does not mind.
    pub changed_bytes: u64,
}

impl AppSpec {
    /// Sends and expects so many bytes, reads at once and closes at once.
    pub fn new(send: u64, receive: u64) -> Self {
        Self {
            send,
            receive,
            close: CloseWhen::Sent,
            read_every: Duration::ZERO,
            read_chunks: RING_CHUNKS,
            short_chunks: 0.0,
            close_after: Duration::ZERO,
            changed_bytes: 0,
        }
    }
}

/// What a step of an application came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// It moved data or closed something: the worker may have work.
    pub progress: bool,
    /// When it wants to be stepped again, if nothing happens before.
    pub next: Option<Instant>,
}

/// The application at one end of a connection.
#[derive(Debug)]
pub struct SimApp {
    name: String,
    connection: usize,
    spec: AppSpec,
    stream: Arc<StreamShared>,
    outgoing: Pattern,
    incoming: Pattern,
    prng: Prng,
    sent: u64,
    received: u64,
    /// Bytes that arrived changed, as expected.
    changed: u64,
    /// When everything had been sent.
    sent_at: Option<Instant>,
    closed: bool,
    finished: bool,
    writes_early: bool,
    next_read: Instant,
}

impl SimApp {
    /// An application called `name` in messages, at an end of the scenario's `connection`. What it sends and expects
    /// follows from the patterns.
    pub fn new(
        name: String,
        connection: usize,
        spec: AppSpec,
        stream: Arc<StreamShared>,
        outgoing: Pattern,
        incoming: Pattern,
        prng: Prng,
    ) -> Self {
        let next_read = Instant::ZERO;
        Self {
            name,
            connection,
            spec,
            stream,
            outgoing,
            incoming,
            prng,
            sent: 0,
            received: 0,
            changed: 0,
            sent_at: None,
            closed: false,
            finished: false,
            writes_early: false,
            next_read,
        }
    }

    /// Reads, writes and closes what can be now.
    ///
    /// # Errors
    /// What went wrong: a wrong byte, one too many, an end that came too early or for a wrong reason.
    pub fn step(&mut self, now: Instant, cache: &mut PoolCache) -> Result<Step, String> {
        let mut step = Step::default();
        if self.finished {
            return Ok(step);
        }
        self.read(now, cache, &mut step)?;
        let may_write = match self.stream.state() {
            StreamState::Connecting => self.writes_early,
            StreamState::Open => true,
            StreamState::Closed => false,
        };
        if may_write {
            self.write(cache, &mut step);
        }
        self.close(now, &mut step)?;
        Ok(step)
    }

    /// It writes before the connection is open: what it writes first may go with the SYN (RFC 7413).
    pub fn write_early(&mut self) {
        self.writes_early = true;
    }

    /// Everything was sent, received, acknowledged and closed.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes received and checked so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes handed to the stack so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that arrived changed, as expected.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Which of the scenario's connections it is an end of.
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// What it does.
    pub fn spec(&self) -> &AppSpec {
        &self.spec
    }

    /// The stream, for its figures.
    pub fn stream(&self) -> &Arc<StreamShared> {
        &self.stream
    }

    /// Where it stands, in words.
    pub fn describe(&self) -> String {
        format!(
            "{}: handed over {} of {}, received {} of {}, {:?}{}{}{}",
            self.name,
            self.sent,
            self.spec.send,
            self.received,
            self.spec.receive,
            self.stream.state(),
            if self.closed { ", closed its sending side" } else { "" },
            if self.stream.is_sent() { ", all acknowledged" } else { "" },
            if self.stream.is_drained() { ", the peer has finished" } else { "" },
        )
    }

    fn read(&mut self, now: Instant, cache: &mut PoolCache, step: &mut Step) -> Result<(), String> {
        if now < self.next_read {
            step.next = Some(self.next_read);
            return Ok(());
        }
        let mut chunks = 0;
        while chunks < self.spec.read_chunks {
            let Some(chunk) = self.stream.pop() else { break };
            let pool = Arc::clone(cache.pool_arc());
            let checked = self.check(pool.chunk(&chunk));
            self.received += chunk.len() as u64;
            cache.free_chunk(chunk);
            checked?;
            chunks += 1;
            step.progress = true;
        }
        if chunks > 0 && !self.spec.read_every.is_zero() {
            self.next_read = now + self.spec.read_every;
            step.next = Some(self.next_read);
        }
        Ok(())
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Err(format!("{}: an empty chunk was delivered", self.name));
        }
        let mut from = 0;
        while let Some(place) = self.incoming.first_difference(self.received + from as u64, &bytes[from..]) {
            self.changed += 1;
            if self.changed > self.spec.changed_bytes {
                let at = self.received + (from + place) as u64;
                return Err(format!("{}: byte {at} of {} is wrong", self.name, self.spec.receive));
            }
            from += place + 1;
        }
        let total = self.received + bytes.len() as u64;
        if total > self.spec.receive {
            return Err(format!("{}: {total} bytes came, {} were sent", self.name, self.spec.receive));
        }
        Ok(())
    }

    fn write(&mut self, cache: &mut PoolCache, step: &mut Step) {
        let mut pushed = false;
        while self.sent < self.spec.send && RING_CHUNKS - self.stream.push_room() < CHUNKS_AHEAD {
            // A pool without a free frame: what comes back later wakes us with the worker's next turn.
            let Some(mut frame) = cache.alloc() else { break };
            let mut len = self.stream.chunk_len() as u64;
            if self.prng.chance(self.spec.short_chunks) {
                len = 1 + self.prng.below(len);
            }
            let len = len.min(self.spec.send - self.sent) as usize;
            let pool = Arc::clone(cache.pool_arc());
            let bytes = &mut pool.bytes_mut(&mut frame)[TX_HEADROOM..TX_HEADROOM + len];
            self.outgoing.fill(self.sent, bytes);
            let sum = checksum::sum(0, bytes);
            let chunk = Chunk::new(frame, TX_HEADROOM, len).with_sum(Some(sum));
            if let Err(refused) = self.stream.push(chunk) {
                cache.free_chunk(refused);
                break;
            }
            self.sent += len as u64;
            pushed = true;
        }
        if pushed {
            self.stream.ring();
            step.progress = true;
        }
    }

    fn close(&mut self, now: Instant, step: &mut Step) -> Result<(), String> {
        let drained = self.stream.is_drained();
        if drained && self.received < self.spec.receive {
            return Err(format!("the data ended too early: {}", self.describe()));
        }
        let mut waits = self.stream.state() == StreamState::Connecting || self.sent < self.spec.send;
        if !waits && !self.closed {
            let at = *self.sent_at.get_or_insert(now) + self.spec.close_after;
            waits = now < at;
            step.next = [step.next, waits.then_some(at)].into_iter().flatten().min();
        }
        let may_close = !waits && (self.spec.close == CloseWhen::Sent || drained);
        if may_close && !self.closed {
            self.stream.close_send();
            self.closed = true;
            step.progress = true;
        }
        let closed_well = match (self.stream.state(), self.stream.close_reason()) {
            (StreamState::Closed, Some(CloseReason::Finished)) => true,
            (StreamState::Closed, reason) => {
                return Err(format!("closed for {reason:?}: {}", self.describe()));
            }
            (StreamState::Connecting | StreamState::Open, _) => false,
        };
        if self.closed && drained && (self.stream.is_sent() || closed_well) {
            self.stream.abandon();
            self.finished = true;
            step.progress = true;
        } else if closed_well && !self.closed {
            return Err(format!("closed before this end had closed: {}", self.describe()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FramePool;
    use crate::stack::stream::{Doorbell, NobodySleeps};

    fn app(spec: AppSpec) -> (SimApp, PoolCache) {
        let stream = StreamShared::new(Arc::new(Doorbell::new(4, Box::new(NobodySleeps))));
        stream.set_open();
        let (out, into) = (Pattern::new(1), Pattern::new(2));
        let app = SimApp::new(String::from("test"), 0, spec, stream, out, into, Prng::new(3));
        (app, PoolCache::new(FramePool::new_heap(256)))
    }

    /// The stack delivers `len` bytes of the pattern at `offset`.
    fn deliver(app: &SimApp, cache: &mut PoolCache, offset: u64, len: usize) {
        let mut frame = cache.alloc().expect("free");
        let pool = Arc::clone(cache.pool_arc());
        Pattern::new(2).fill(offset, &mut pool.bytes_mut(&mut frame)[..len]);
        let chunk = Chunk::new(frame, 0, len);
        assert!(app.stream.deliver(chunk).is_ok());
    }

    #[test]
    fn it_sends_its_pattern_reads_the_other_and_finishes() {
        let (mut app, mut cache) = app(AppSpec::new(10_000, 100));
        deliver(&app, &mut cache, 0, 60);
        deliver(&app, &mut cache, 60, 40);
        app.stream.set_receive_finished();
        assert_eq!(app.step(Instant::ZERO, &mut cache).map(|step| step.progress), Ok(true));
        assert!(app.stream.is_send_closed() && !app.is_finished());
        let mut sent = 0;
        while let Some(chunk) = app.stream.take() {
            assert_eq!(Pattern::new(1).first_difference(sent, cache.pool().chunk(&chunk)), None);
            sent += chunk.len() as u64;
            cache.free_chunk(chunk);
        }
        app.stream.set_send_finished();
        assert!(app.step(Instant::ZERO, &mut cache).is_ok() && app.is_finished());
        assert_eq!((sent, app.received(), cache.pool().used()), (10_000, 100, 0));
    }

    #[test]
    fn a_wrong_byte_a_missing_end_and_one_too_many_are_noticed() {
        for (offset, len, finished) in [(1, 50, false), (0, 99, true), (0, 101, false)] {
            let (mut app, mut cache) = app(AppSpec::new(0, 100));
            deliver(&app, &mut cache, offset, len);
            if finished {
                app.stream.set_receive_finished();
            }
            assert!(app.step(Instant::ZERO, &mut cache).is_err(), "{offset} {len}");
        }
    }

    #[test]
    fn a_slow_reader_reads_so_much_and_comes_back_later() {
        let read_every = Duration::from_millis(10);
        let (mut app, mut cache) = app(AppSpec { read_every, read_chunks: 1, ..AppSpec::new(0, 100) });
        deliver(&app, &mut cache, 0, 50);
        deliver(&app, &mut cache, 50, 50);
        let step = app.step(Instant::ZERO, &mut cache).expect("all is well");
        assert_eq!((app.received(), step.next), (50, Some(Instant::from_millis(10))));
        assert!(app.step(Instant::from_millis(9), &mut cache).is_ok());
        assert_eq!(app.received(), 50);
        assert!(app.step(Instant::from_millis(10), &mut cache).is_ok());
        assert_eq!(app.received(), 100);
    }
}
