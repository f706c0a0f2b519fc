//! The rest of a run of data segments that arrived together, and of which the first were taken as any packet is
//! ([`super::receive`]): what they say beside their numbers is known, so only the payload moves on.

use super::{Connection, Mode};
use crate::base::{Chunk, Instant, PoolCache};
use crate::mptcp::SubflowId;
use crate::wire::sequel::Next;

impl Connection {
    /// A segment of subflow `id` has arrived that says what the one before it said, which was handled at this very time and
    /// came right before it. `Err` gives the payload back, and nothing was done, where more has to be looked at.
    ///
    /// # Errors
    /// The payload: the segment is one for [`Connection::handle_packet`].
    pub fn follow(
        &mut self,
        now: Instant,
        id: SubflowId,
        next: &Next,
        chunk: Chunk,
        cache: &mut PoolCache,
    ) -> Result<(), Chunk> {
        let Some(index) = self.index(id) else { return Err(chunk) };
        // The last data may bring the end with it, which has consequences.
        if self.closed || self.receive.has_fin() {
            return Err(chunk);
        }
        self.forget_pattern();
        let subflow = &mut self.subflows[index];
        let len = chunk.len();
        let data_seq = match (self.mode, next.mapping) {
            (Mode::Plain(_), None) if subflow.inbound.is_empty() => {
                let Some(offset) = subflow.tcb.follow(now, &next.tcp, len) else { return Err(chunk) };
                // TCP has kept to the window it promised; the queue's edge is told by it.
                self.receive.window(u64::MAX / 4);
                self.receive_base + offset
            }
            (Mode::Multipath { .. }, Some((data_seq, subflow_seq))) => {
                // RFC 8684 §3.3.1: relative to the SYN; the stream's first byte is 1.
                let is_its_own = subflow_seq == (subflow.tcb.received_bytes() as u32).wrapping_add(1);
                let is_plain = is_its_own && subflow.inbound.is_plain();
                if !is_plain || subflow.tcb.follow(now, &next.tcp, len).is_none() {
                    return Err(chunk);
                }
                subflow.inbound.pass(len);
                data_seq
            }
            (Mode::Plain(_) | Mode::Multipath { .. } | Mode::Offering | Mode::Answering, _) => {
                return Err(chunk);
            }
        };
        self.receive.insert(data_seq, chunk, cache);
        Ok(())
    }
}
