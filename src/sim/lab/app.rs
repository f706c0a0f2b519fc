//! The applications at the ends of a flow: one that sends, one that reads.

use crate::base::pool::TX_HEADROOM;
use crate::base::{Chunk, Instant, PoolCache};
use crate::sim::lab::flow::{Flow, FlowId};
use crate::sim::pattern::Pattern;
use crate::stack::stream::{RING_CHUNKS, StreamState};
use crate::stack::{ConnectionId, StreamShared};
use std::sync::Arc;

/// The sender lets so many segments wait to be sent, at least and at most: what is more only grows cold.
const AHEAD_MIN: u64 = 8;
const AHEAD_MAX: u64 = 24;

/// What an application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It sends so many more bytes, or as many as it can, and says then that this was all.
    Sender {
        /// Bytes left.
        left: Option<u64>,
        /// It has said so.
        closed: bool,
    },
    /// It reads, and ends its side when the peer has ended its own.
    Reader {
        /// It has.
        closed: bool,
    },
}

/// The application at one end of a flow.
#[derive(Debug)]
pub struct App {
    /// Whose end it is.
    pub flow: FlowId,
    stream: Arc<StreamShared>,
    role: Role,
    /// Bytes sent or read so far.
    done: u64,
    /// It reads when so many chunks wait for it.
    read_chunks: usize,
    /// The bytes to send or to expect. Without it they are whatever lies in the frames, and nobody looks at them.
    pattern: Option<Pattern>,
}

impl App {
    /// An application that has not begun.
    pub fn new(
        flow: FlowId,
        stream: Arc<StreamShared>,
        role: Role,
        read_chunks: usize,
        pattern: Option<Pattern>,
    ) -> Self {
        Self { flow, stream, role, done: 0, read_chunks, pattern }
    }

    /// Whether it sends.
    pub fn is_sender(&self) -> bool {
        matches!(self.role, Role::Sender { .. })
    }

    /// Its connection's name, once the worker has given it one.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.stream.identity().map(|(connection, _)| connection)
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.stream.state() == StreamState::Closed
    }

    /// Whether it has said that it sends no more.
    pub fn is_done(&self) -> bool {
        match self.role {
            Role::Sender { closed, .. } | Role::Reader { closed } => closed,
        }
    }

    /// A sender: gives the connection, which takes `room` bytes more and has `unsent` of which nothing has left, what can leave
    /// soon. True when there was something, or the end.
    pub fn feed(&mut self, (unsent, room): (u64, u64), cache: &mut PoolCache) -> bool {
        let Role::Sender { mut left, closed } = self.role else { return false };
        let full = self.stream.chunk_len() as u64;
        if closed || unsent > AHEAD_MIN * full || self.stream.state() != StreamState::Open {
            return false;
        }
        let before = self.done;
        for _ in unsent / full..AHEAD_MAX.min((unsent + room) / full) {
            let len = full.min(left.unwrap_or(full)) as usize;
            if len == 0 {
                break;
            }
            let Some(mut frame) = cache.alloc() else { break };
            if let Some(pattern) = &self.pattern {
                let pool = Arc::clone(cache.pool_arc());
                pattern.fill(self.done, &mut pool.bytes_mut(&mut frame)[TX_HEADROOM..TX_HEADROOM + len]);
            }
            let chunk = Chunk::new(frame, TX_HEADROOM, len);
            if let Err(refused) = self.stream.push(chunk) {
                cache.free_chunk(refused);
                break;
            }
            self.done += len as u64;
            left = left.map(|left| left - len as u64);
        }
        let closed = left == Some(0);
        if closed {
            self.stream.close_send();
        }
        self.role = Role::Sender { left, closed };
        closed || self.done > before
    }

    /// Tells the worker of what [`App::feed`] gave, where the connection is not carried data for anyway.
    pub fn ring(&self) {
        self.stream.ring();
    }

    /// A reader: reads, and ends its side when the peer has.
    ///
    /// # Errors
    /// Wrong bytes, in words.
    pub fn read(&mut self, now: Instant, flow: &mut Flow, cache: &mut PoolCache) -> Result<(), String> {
        let Role::Reader { closed } = self.role else { return Ok(()) };
        let waiting = RING_CHUNKS - self.stream.deliver_room();
        if waiting >= self.read_chunks {
            let mut bytes = 0;
            while let Some(chunk) = self.stream.pop() {
                if let Some(pattern) = &self.pattern
                    && let Some(place) =
                        pattern.first_difference(self.done + bytes, cache.pool().chunk(&chunk))
                {
                    let at = self.done + bytes + place as u64;
                    cache.free_chunk(chunk);
                    return Err(format!("byte {at} of flow {} is wrong", self.flow.0));
                }
                bytes += chunk.len() as u64;
                cache.free_chunk(chunk);
            }
            self.done += bytes;
            flow.on_read(now, bytes);
        }
        if !closed && self.stream.is_drained() {
            self.role = Role::Reader { closed: true };
            self.stream.close_send();
        }
        Ok(())
    }

    /// The connection is over, and its rings are read no more.
    pub fn end(&mut self, flow: &mut Flow, cache: &mut PoolCache) {
        while let Some(chunk) = self.stream.pop() {
            cache.free_chunk(chunk);
        }
        let done = flow.finished.is_some();
        if !done && let Some(reason) = self.stream.close_reason() {
            flow.failed = Some(reason);
        }
    }
}
