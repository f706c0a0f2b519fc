//! The application's side: data to send, data received, and the receive window that follows from what it reads.

use super::{Connection, Mode, SendSide, UNSENT_MAX};
use crate::base::{Chunk, Instant, PoolCache};
use crate::mptcp::Tuning;

impl Connection {
    /// Bytes that the application may give now.
    pub fn write_room(&self) -> u64 {
        match self.send_side {
            SendSide::Open => {
                let buffer = u64::from(self.options.send_buffer).saturating_sub(self.send.buffered());
                // What waits to be sent stays in the caches only if it is not much.
                buffer.min(UNSENT_MAX.saturating_sub(self.send.unsent_bytes()))
            }
            SendSide::Closing | SendSide::FinSent | SendSide::Finished => 0,
        }
    }

    /// Bytes that wait to be sent for the first time.
    pub fn unsent(&self) -> u64 {
        self.send.unsent_bytes()
    }

    /// Takes data to send, so long as there is room, and `next` gives any; false if it gave none. `more`: the rest of a
    /// message follows.
    pub fn write(
        &mut self,
        more: bool,
        cache: &mut PoolCache,
        mut next: impl FnMut() -> Option<Chunk>,
    ) -> bool {
        let (mut room, mut any) = (self.write_room(), false);
        if room == 0 {
            return false;
        }
        let full = self.chunk_len();
        while room > 0
            && let Some(chunk) = next()
        {
            any = true;
            if chunk.is_empty() {
                cache.free_chunk(chunk);
                continue;
            }
            room = room.saturating_sub(chunk.len() as u64);
            self.batching.set_more(more);
            self.send.push(chunk, full, self.batching.gathers(), cache);
        }
        any
    }

    /// What was written leaves now, whether it fills a segment or not.
    pub fn flush(&mut self) {
        self.batching.flush(self.send.end());
        self.release_syn();
    }

    /// The application has changed its settings.
    pub fn tune(&mut self, now: Instant, tuning: &Tuning) {
        self.options.tuning = *tuning;
        self.batching.tune(tuning);
        for subflow in &mut self.subflows {
            subflow.tcb.tune(now, tuning.keep_alive, tuning.user_timeout);
        }
    }

    /// Changes the sizes of the buffers. What was promised to the peer holds.
    pub fn set_buffers(&mut self, send: Option<u32>, receive: Option<u32>) {
        self.options.send_buffer = send.unwrap_or(self.options.send_buffer);
        self.options.receive_buffer = receive.unwrap_or(self.options.receive_buffer);
    }

    /// Payload bytes that make one segment on every subflow.
    pub fn chunk_len(&self) -> usize {
        let multipath = self.options.mptcp && self.fallback().is_none();
        self.subflows.iter().map(|subflow| subflow.payload_max(multipath)).min().unwrap_or(536)
    }

    /// The next received chunk, in order.
    pub fn read(&mut self) -> Option<Chunk> {
        let chunk = self.receive.pop()?;
        self.unread += chunk.len() as u64;
        Some(chunk)
    }

    /// Puts a chunk back for which there was no room.
    pub fn unread(&mut self, chunk: Chunk) {
        self.unread -= chunk.len() as u64;
        self.receive.push_back(chunk);
    }

    /// Whether [`Connection::read`] would give a chunk.
    pub fn has_data(&self) -> bool {
        self.receive.ready_bytes() > 0
    }

    /// The application has read `bytes` of what [`Connection::read`] gave. Tells the peer when the window has opened
    /// by enough to matter.
    pub fn consumed(&mut self, now: Instant, bytes: u64) {
        debug_assert!(bytes <= self.unread);
        // The window of what leaves next.
        self.forget_pattern();
        let subflows = &self.subflows;
        self.autotune.on_read(now, bytes, || {
            subflows.iter().filter_map(|subflow| subflow.tcb.min_rtt()).max().unwrap_or_default()
        });
        self.unread -= bytes;
        if let Mode::Plain(_) = self.mode {
            // The window is the subflow's, and so is the decision what is worth telling of.
            let free = u32::try_from(self.receive_free()).unwrap_or(u32::MAX);
            return self.subflows.iter_mut().for_each(|subflow| subflow.tcb.set_receive_window(free));
        }
        let gain = self.receive.window_gain(self.receive_free());
        let left = self.receive.window_left();
        // With plenty left, the ACKs of arriving data tell of it soon enough.
        if left >= self.receive_limit / 4 {
            return;
        }
        // RFC 9293 §3.8.6.2.2: move the edge by at least a segment or half the buffer.
        let segment = self.chunk_len() as u64;
        let step = (2 * segment).min(self.receive_limit / 2).max(1);
        if gain >= step {
            self.acknowledge_now();
        }
    }

    /// What the worker has frames for, in bytes. The receive buffer is no larger from now on (promised windows hold).
    pub fn set_receive_limit(&mut self, bytes: u64) {
        self.receive_limit = self.autotune.limit().min(bytes).min(u64::from(self.options.receive_buffer));
    }

    /// Bytes that the application has to read until it should tell (half the buffer).
    pub fn read_step(&self) -> u64 {
        (self.receive_limit / 4).max(1)
    }

    /// The peer has finished, and all of its data has been read.
    pub fn is_read_finished(&self) -> bool {
        self.receive.is_finished() && !self.has_data()
    }

    /// Everything that was written, and the end, has been acknowledged.
    pub fn is_write_finished(&self) -> bool {
        self.send_side == SendSide::Finished
    }

    pub(super) fn receive_free(&self) -> u64 {
        self.receive_limit.saturating_sub(self.unread + self.receive.ready_bytes())
    }
}
