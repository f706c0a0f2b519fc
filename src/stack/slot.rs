//! A connection at its worker: the protocol's part, the stream that it shares with its application, and what has to be
//! carried between the two.

use crate::base::time::Duration;
use crate::base::{Instant, PoolCache};
use crate::mptcp::{AbortBy, Connection};
use crate::stack::message::ListenerId;
use crate::stack::stream::{ConnectionInfo, SNAPSHOT_SUBFLOWS, StreamShared, SubflowInfo, Turned};
use crate::tcp::CloseReason;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// How often figures are published.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);
/// How long a connection that its application has left waits for the peer's end, once all is sent.
const LINGER: Duration = Duration::from_secs(60);
/// How long a connection has had nothing to do, and will have nothing to do, when it is put to sleep. So it is written
/// down once a second at most, however often a peer wakes it.
const SLEEP_AFTER: Duration = Duration::from_secs(1);

/// How long ACKs wait for an application that waited for what they acknowledge, and was woken: it may answer, and its answer
/// carries them (RFC 9293 §3.8.6.3 allows half a second). About as long as it takes to wake a thread.
const ANSWER_WITHIN: Duration = Duration::from_micros(50);

/// What TCP Fast Open waits for (RFC 7413).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FastOpenStage {
    /// Nothing, any more or at all.
    #[default]
    Over,
    /// Our SYN asked, and has no answer yet.
    Asked,
    /// The application has the connection, and the data of its SYN if there was any, and the handshake is not over.
    Unconfirmed {
        /// There was some.
        with_data: bool,
    },
}

/// A connection and what the worker keeps with it.
// What is skipped is at rest what it is by default, or kept beside what is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct Slot {
    /// The protocol.
    pub connection: Connection,
    /// The application's side; `None` while a passive connection is in its handshake.
    #[serde(skip)]
    pub stream: Option<Arc<StreamShared>>,
    /// Where it goes once it is established.
    #[serde(skip)]
    pub listener: Option<ListenerId>,
    /// It waits in the worker's list of connections to attend to.
    #[serde(skip)]
    pub queued: bool,
    /// It waits in the worker's list of connections that may have something to send.
    #[serde(skip)]
    pub sending: bool,
    /// It was seen in TIME-WAIT.
    pub waits: bool,
    /// Its entry in the timers.
    #[serde(skip)]
    pub timer: Option<Instant>,
    /// Why it is over, once it is.
    #[serde(skip)]
    pub closed: Option<CloseReason>,
    /// Packets that it has sent in a row.
    #[serde(skip)]
    pub burst: usize,
    /// Until then its ACKs wait for its application's answer.
    #[serde(skip)]
    pub answer_until: Option<Instant>,
    /// What Fast Open waits for.
    #[serde(skip)]
    pub fast_open: FastOpenStage,
    /// Since when it has had nothing to do.
    idle_since: Option<Instant>,
    published_at: Option<Instant>,
    /// Something has changed since; published at this time.
    publish_at: Option<Instant>,
    linger_until: Option<Instant>,
    /// Bytes given to the application, and bytes that it has read of them.
    delivered: u64,
    consumed: u64,
    /// The application rings when it has read so many.
    ring_at: u64,
}

impl Slot {
    /// A connection that was just made.
    pub fn new(
        connection: Connection,
        stream: Option<Arc<StreamShared>>,
        listener: Option<ListenerId>,
    ) -> Self {
        Self {
            connection,
            stream,
            listener,
            queued: false,
            sending: false,
            timer: None,
            closed: None,
            burst: 0,
            answer_until: None,
            fast_open: FastOpenStage::Over,
            idle_since: None,
            published_at: None,
            publish_at: None,
            linger_until: None,
            waits: false,
            delivered: 0,
            consumed: 0,
            ring_at: 0,
        }
    }

    /// When it has to be looked at again.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        [self.connection.poll_timeout(), self.linger_until, self.publish_at].into_iter().flatten().min()
    }

    /// It has nothing to do for now.
    pub fn begin_idling(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// When it has to be looked at again, be it that it may sleep. Whether it may is found out then, as it takes a look at
    /// each of its subflows.
    pub fn look_at(&mut self) -> Option<Instant> {
        let sleepy = self.idle_since.filter(|_| self.is_out_of_use()).map(|since| since + SLEEP_AFTER);
        self.poll_timeout().into_iter().chain(sleepy).min()
    }

    /// Whether it has been idle for some time, and will be. If it will not, the time begins anew.
    pub fn is_sleepy(&mut self, now: Instant) -> bool {
        if self.idle_since.is_none_or(|since| since + SLEEP_AFTER > now) {
            return false;
        }
        let sleepy = self.can_sleep(now);
        self.idle_since = (!sleepy).then_some(now);
        sleepy
    }

    /// Its application has left, and it waits for old duplicates and nothing else: it may sleep at once.
    pub fn is_left_waiting(&mut self, now: Instant) -> bool {
        self.connection.is_in_time_wait()
            && self.stream.as_ref().is_some_and(|stream| stream.is_abandoned())
            && self.can_sleep(now)
    }

    /// It is at rest, and nothing is due soon.
    fn can_sleep(&mut self, now: Instant) -> bool {
        self.is_at_rest() && self.poll_timeout().is_none_or(|due| due >= now + SLEEP_AFTER)
    }

    /// It is open, holds no data, and waits in no list of the worker's.
    pub fn is_at_rest(&self) -> bool {
        self.is_out_of_use() && self.connection.is_at_rest()
    }

    /// The same, but for what its subflows hold.
    fn is_out_of_use(&self) -> bool {
        let Self { connection, stream, listener, queued, sending, closed, burst, fast_open, .. } = self;
        stream.is_some()
            && listener.is_none()
            && !(*queued || *sending)
            && self.answer_until.is_none()
            && (*closed, *burst, *fast_open) == (None, 0, FastOpenStage::Over)
            && connection.is_drained()
    }

    /// It is over, has sent its last resets, and its application has all the data that came.
    pub fn is_retirable(&self, now: Instant) -> bool {
        let gone = self.stream.as_ref().is_none_or(|stream| stream.is_abandoned());
        let read = !self.connection.has_data() || gone || self.closed != Some(CloseReason::Finished);
        self.connection.is_closed() && !self.connection.has_last_words(now) && read
    }

    /// Its application has been woken from waiting for it.
    pub fn expect_answer(&mut self, now: Instant) {
        // Woken again before it has answered: what has waited does not wait longer.
        self.answer_until.get_or_insert(now + ANSWER_WITHIN);
    }

    /// Whether what it has to send waits for its application's answer.
    pub fn awaits_answer(&mut self, now: Instant) -> bool {
        let awaits = self.answer_until.is_some_and(|until| now < until)
            && !self.stream.as_ref().is_none_or(|stream| stream.is_abandoned() || stream.is_send_closed())
            && self.connection.only_acknowledges(now);
        if !awaits {
            self.answer_until = None;
        }
        awaits
    }

    /// Carries data and ends between application and connection.
    pub fn pump(&mut self, now: Instant, cache: &mut PoolCache) {
        // Taken out and put back: to count one more holder would cost more than the rest of a turn without news.
        let Some(stream) = self.stream.take() else { return };
        stream.attend();
        self.pump_knobs(now, &stream);
        let is_abandoned = stream.is_abandoned();
        if is_abandoned {
            self.pump_abandoned(now, &stream, cache);
        }
        self.pump_to_connection(&stream, cache);
        self.pump_to_application(now, &stream);
        if self.connection.is_write_finished() {
            stream.set_send_finished();
        }
        self.stream = Some(stream);
        match self.published_at.map(|at| at + PUBLISH_INTERVAL) {
            // Nobody is left to look at it.
            Some(_) if is_abandoned && !self.connection.is_closed() => self.publish_at = None,
            Some(due) if due > now && !self.connection.is_closed() => self.publish_at = Some(due),
            Some(_) | None => self.publish(now),
        }
    }

    /// What the application has turned. Before what it has written since: that is to be sent by the new settings.
    fn pump_knobs(&mut self, now: Instant, stream: &StreamShared) {
        let Some(Turned { tuning, send_buffer, receive_buffer }) = stream.take_turned() else { return };
        tuning.iter().for_each(|tuning| self.connection.tune(now, tuning));
        self.connection.set_buffers(send_buffer, receive_buffer);
    }

    fn pump_to_connection(&mut self, stream: &StreamShared, cache: &mut PoolCache) {
        if self.connection.is_closed() {
            while let Some(chunk) = stream.take() {
                cache.free_chunk(chunk);
            }
            return stream.wake_writer();
        }
        // The flag first: it is about what was pushed before it was set, and no harm to what comes behind.
        let more = stream.has_more();
        if self.connection.write(more, cache, || stream.take()) {
            stream.wake_writer();
        }
        if stream.take_flush() {
            self.connection.flush();
        }
        // The flag first: what was pushed before it was set is then visible.
        if stream.is_send_closed() && !stream.has_chunks() {
            self.connection.close_send();
        }
    }

    fn pump_to_application(&mut self, now: Instant, stream: &StreamShared) {
        let before = self.delivered;
        while let Some(chunk) = self.connection.read() {
            let len = chunk.len() as u64;
            match stream.deliver(chunk) {
                Ok(()) => self.delivered += len,
                Err(chunk) => {
                    self.connection.unread(chunk);
                    break;
                }
            }
        }
        // The application rings when it has read half of what it has, or so much that the peer should know.
        let held = self.delivered - self.consumed;
        let step = self.connection.read_step().min(held / 2 + 1);
        let ring_at = self.consumed + step;
        let read = match ring_at == self.ring_at {
            true => stream.bytes_read_so_far(),
            false => stream.bytes_read(ring_at),
        };
        self.ring_at = ring_at;
        if read > self.consumed {
            self.connection.consumed(now, read - self.consumed);
            self.consumed = read;
        }
        let mut answers = false;
        if self.delivered > before {
            // Whoever gets much does not answer piece by piece, and its ACKs let more come.
            answers = stream.wake_reader() && self.delivered - before < self.connection.chunk_len() as u64;
        }
        if self.connection.is_read_finished() {
            answers |= stream.set_receive_finished();
        }
        if answers {
            self.expect_answer(now);
        }
    }

    /// The application is gone. RFC 9293 §3.10.4 and RFC 2525 §2.17: unread data means a reset; otherwise what was
    /// written is delivered, and the peer's end is waited for, though not for ever.
    fn pump_abandoned(&mut self, now: Instant, stream: &StreamShared, cache: &mut PoolCache) {
        let mut unread = false;
        while let Some(chunk) = stream.pop() {
            unread = true;
            cache.free_chunk(chunk);
        }
        let over = self.linger_until.is_some_and(|until| until <= now);
        let unread = unread || self.connection.has_data();
        // RFC 9293 §3.10.4: in SYN-SENT there is nothing to deliver, and nobody to tell.
        let at_once = stream.is_reset() || self.connection.is_opening();
        if (unread || over || at_once) && !self.connection.is_closed() {
            self.connection.abort(now, CloseReason::Aborted, AbortBy::Ack, cache);
        }
        if self.connection.is_write_finished() && self.linger_until.is_none() {
            self.linger_until = Some(now + LINGER);
        }
        if over {
            self.linger_until = None;
        }
    }

    /// Publishes the connection's figures.
    pub fn publish(&mut self, now: Instant) {
        let Some(stream) = &self.stream else { return };
        (self.published_at, self.publish_at) = (Some(now), None);
        let mut figures = self.connection.figures().map(|figures| SubflowInfo {
            tuple: figures.tuple,
            port: figures.path.port,
            alive: figures.alive,
            backup: figures.backup,
            bytes_sent: figures.tcp.bytes_sent,
            bytes_received: figures.tcp.bytes_received,
            retransmits: figures.tcp.counters.retransmits,
            srtt_us: figures.tcp.srtt.map_or(0, |srtt| srtt.as_micros() as u32),
            rttvar_us: figures.tcp.rttvar.map_or(0, |rttvar| rttvar.as_micros() as u32),
            cwnd: u32::try_from(figures.tcp.cwnd).unwrap_or(u32::MAX),
            ssthresh: u32::try_from(figures.tcp.ssthresh).unwrap_or(u32::MAX),
            mss: figures.mss.raw(),
        });
        let info = ConnectionInfo {
            subflows: self.connection.subflow_count() as u32,
            send_window: self.connection.send_window() as u32,
            reinjected: self.connection.reinjected_bytes(),
            subflow: std::array::from_fn::<_, SNAPSHOT_SUBFLOWS, _>(|_| figures.next()),
        };
        stream.set_chunk_len(self.connection.chunk_len());
        stream.publish(&info);
    }

    /// The connection is over: what it holds goes back to the pool, and the application is told.
    pub fn retire(&mut self, reason: CloseReason, cache: &mut PoolCache) {
        self.connection.release(cache);
        let Some(stream) = &self.stream else { return };
        while let Some(chunk) = stream.take() {
            cache.free_chunk(chunk);
        }
        stream.set_closed(reason);
        // An application that left a moment ago saw a connection that still was, and has left the rings to us. The fence,
        // and that of `Stream::drop`, see to it that at least one of the two sees the other.
        fence(Ordering::SeqCst);
        if stream.is_abandoned() {
            while let Some(chunk) = stream.pop().or_else(|| stream.take()) {
                cache.free_chunk(chunk);
            }
        }
    }
}
