//! Segments of no connection, and the resets that answer them.

use super::Stack;
use crate::base::{PoolCache, PortId};
use crate::mptcp::signalling::reset_option;
use crate::tcp::reset_for;
use crate::wire::mptcp::ResetReason;
use crate::wire::{Packet, SegmentRepr, TcpOptions};

/// Resets in answer to stray segments that wait for room. More are not sent: who floods us gets no flood back.
pub(super) const STRAYS_MAX: usize = 256;

impl Stack {
    /// RFC 9293 §3.10.7.1: a segment to nowhere is answered with a reset.
    pub(super) fn answer_stray(
        &mut self,
        port: PortId,
        packet: &Packet,
        payload_len: usize,
        reason: Option<ResetReason>,
        cache: &mut PoolCache,
    ) {
        let Some(tcp) = reset_for(&packet.tcp, payload_len) else { return };
        if self.strays.len() >= STRAYS_MAX {
            return;
        }
        let mut options = TcpOptions::default();
        options.mptcp.extend(reason.map(reset_option));
        let path = self.answering_path(port, packet);
        let segment = SegmentRepr { link: &path.link, tuple: packet.tuple, ecn: 0, tcp, options: &options };
        if let Some(reset) = self.emitter.write_stray(&segment, &path, cache) {
            self.counters.resets_sent += 1;
            self.strays.push_back((port, reset));
        }
    }
}
