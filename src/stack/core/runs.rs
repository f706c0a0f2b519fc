//! Data segments of one flow that arrive one behind the other, as bulk data does: once a few are known to be alike the next ones
//! are compared with what is expected, and take a short way past all that would come to nothing.
//!
//! Read [`crate::wire::sequel`] for what is alike, and [`crate::mptcp::Connection::follow`] for what is left to do.

use super::Stack;
use crate::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame};
use crate::mptcp::SubflowId;
use crate::stack::message::ConnectionId;
use crate::wire::sequel::Next;
use crate::wire::{ChecksumMode, Packet, Sequel};

/// So many segments are handled before one is expected to follow: to know what it looks like costs as much as it saves, and many
/// answers have only two.
const PRELUDE: u8 = 3;

/// Where the last packet came, and whose it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) now: Instant,
    pub(super) port: PortId,
    pub(super) connection: ConnectionId,
    pub(super) subflow: SubflowId,
}

/// The run that packets are on.
#[derive(Debug, Default)]
pub(super) struct Run {
    last: Option<Arrival>,
    /// Data segments in a row.
    count: u8,
    sequel: Option<Sequel>,
}

impl Run {
    /// What comes next is expected to be nothing in particular.
    pub(super) fn end(&mut self) {
        (self.last, self.sequel) = (None, None);
    }

    /// A packet is about to be handled as any is.
    pub(super) fn note(
        &mut self,
        arrival: Arrival,
        packet: &Packet,
        chunk: Option<&Chunk>,
        checksum: ChecksumMode,
        pool: &FramePool,
    ) {
        self.sequel = None;
        let Some(chunk) = chunk else { return self.end() };
        self.count = if self.last == Some(arrival) { self.count + 1 } else { 1 };
        self.last = Some(arrival);
        if self.count == PRELUDE {
            self.count = 0;
            let start = chunk.offset() - packet.payload.start;
            self.sequel = Sequel::of(packet, &pool.bytes(&chunk.frame)[start..chunk.range().end], checksum);
        }
    }

    /// Whether `frame` is the next one of the run.
    #[inline]
    fn next(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Option<(Arrival, Next)> {
        let arrival = self.last.filter(|last| last.now == now && last.port == port)?;
        Some((arrival, self.sequel.as_mut()?.take(frame)?))
    }
}

impl Stack {
    /// A frame that goes on with the run takes the short way. Any other is given back.
    #[inline]
    pub(super) fn follow(
        &mut self,
        now: Instant,
        port: PortId,
        received: RxFrame,
        cache: &mut PoolCache,
    ) -> Option<RxFrame> {
        let Some((arrival, next)) = self.run.next(now, port, cache.pool().rx_bytes(&received)) else {
            return Some(received);
        };
        let Some(slot) = self.connections.get_mut(arrival.connection) else { return Some(received) };
        let RxFrame { frame, offset, len, more } = received;
        let (at, end) = (usize::from(offset) + next.payload_at, usize::from(offset + len));
        let chunk = Chunk::new(frame, at, end - at).with_sum(next.payload_sum);
        match slot.connection.follow(now, arrival.subflow, &next, chunk, cache) {
            Ok(()) => {
                self.counters.received_in_runs += 1;
                if !slot.queued {
                    self.touch(arrival.connection);
                }
                None
            }
            Err(chunk) => Some(RxFrame { frame: chunk.frame, offset, len, more }),
        }
    }
}
