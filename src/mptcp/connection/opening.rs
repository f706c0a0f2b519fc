//! Data in the handshake of plain TCP: Fast Open (RFC 7413).
//!
//! A connection that may become MPTCP has none. RFC 8684 appendix B keeps such data out of the data sequence space, where
//! neither mappings nor checksums tell of it; here it is left to the data that follows the handshake, which §B.3 has as the
//! case of a listener without Fast Open. Cookies are asked for and given nevertheless (§B.1).

use super::{Connection, ConnectionEvent, Mode, SendSide};
use crate::base::time::Duration;
use crate::base::{Chunk, Instant, PoolCache};
use crate::mptcp::subflow::Phase;
use crate::mptcp::subflow_set::SubflowSet;
use crate::tcp::{FastOpenReport, State};
use crate::wire::{FastOpen, FastOpenCookie, Mss, Packet};
use serde::{Deserialize, Serialize};

/// How long a SYN with a cookie waits for the data that it shall carry. The application writes at once, or not at all; it may
/// have to be given a processor first.
const DATA_WAIT: Duration = Duration::from_millis(10);

/// A SYN that waits for data.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AwaitedData {
    /// The MSS that the server gave the last time.
    server_mss: Mss,
    until: Instant,
}

impl Connection {
    /// Our SYN, or our SYN/ACK, says this; false where it has no room for it.
    pub fn offer_fast_open(&mut self, option: FastOpen) -> bool {
        let signalling = self.signalling();
        let capable_len = self.subflows.first().map_or(0, |subflow| subflow.handshake_len(&signalling));
        self.subflows.first_mut().is_some_and(|subflow| subflow.tcb.offer_fast_open(option, capable_len))
    }

    /// Our SYN brings the server's cookie, and what the application writes first: it waits for that, until the application has
    /// flushed or closed its side or a moment has passed. False, and nothing of the kind happens, where the SYN has no room, or
    /// offers MPTCP.
    pub fn open_with_data(&mut self, now: Instant, cookie: FastOpenCookie, server_mss: Mss) -> bool {
        let possible = !matches!(self.mode, Mode::Offering) && self.offer_fast_open(FastOpen::Cookie(cookie));
        if possible {
            self.awaited_data = Some(AwaitedData { server_mss, until: now + DATA_WAIT });
        }
        possible
    }

    /// Payload bytes that go with our SYN, while it waits for them; `None` when it does not, or no longer.
    pub fn syn_room(&self) -> Option<usize> {
        let awaited = self.awaited_data?;
        self.subflows.first().map(|subflow| subflow.tcb.syn_payload_max(awaited.server_mss))
    }

    /// The SYN need not wait any longer.
    pub(super) fn release_syn(&mut self) {
        if let Some(awaited) = &mut self.awaited_data {
            awaited.until = Instant::ZERO;
        }
    }

    /// When the SYN leaves without data.
    pub(super) fn awaited_until(&self) -> Option<Instant> {
        self.awaited_data.map(|awaited| awaited.until)
    }

    /// Whether the SYN still waits. When the data has come it is put onto it.
    pub(super) fn waits_for_data(&mut self, now: Instant, cache: &mut PoolCache) -> bool {
        let Some(AwaitedData { server_mss, until }) = self.awaited_data else { return false };
        if !self.send.has_unsent() && self.send_side == SendSide::Open && now < until {
            return true;
        }
        self.awaited_data = None;
        let Some(subflow) = self.subflows.first_mut() else { return false };
        let room = subflow.tcb.syn_payload_max(server_mss);
        let carriers = SubflowSet::of(subflow.slot);
        if room > 0
            && let Some(piece) = self.send.take_new(room, carriers, cache.pool())
        {
            // Nagle's algorithm waits for segments that are small for want of more, as this one need not be.
            let full = piece.chunk.len() == room || self.send.has_unsent();
            subflow.tcb.enqueue(piece.chunk, piece.data_seq);
            self.on_new_enqueued(0, full);
        }
        false
    }

    /// Data has left with a SYN that is not answered yet: the end of what was written waits for the answer.
    pub(super) fn is_opening_with_data(&self) -> bool {
        self.is_opening() && self.send.next().after(self.send.una())
    }

    /// What came of Fast Open, on a connection that we opened; `None` where our SYN said nothing about it.
    pub fn fast_open(&self) -> Option<FastOpenReport> {
        self.subflows.first().and_then(|subflow| subflow.tcb.fast_open())
    }

    /// Whether what `packet` has beside its SYN is left to the peer's retransmission: no mapping is there for data on a SYN/ACK,
    /// of whose place in the data sequence space RFC 8684 says nothing.
    pub(super) fn leaves_syn_ack_data(&self, index: usize, packet: &Packet) -> bool {
        // First what nearly all packets fail at.
        self.subflows[index].tcb.state() == State::SynSent
            && match self.mode {
                Mode::Plain(_) => false,
                Mode::Offering => !packet.options.mptcp.is_empty(),
                Mode::Answering | Mode::Multipath { .. } => true,
            }
    }

    /// The SYN `packet` brought a valid cookie, and perhaps this payload: the application gets it now, and may answer. False
    /// where it is left to the handshake: the connection is to become MPTCP, or there is no room.
    pub fn take_syn_payload(
        &mut self,
        packet: &Packet,
        payload: Option<Chunk>,
        cache: &mut PoolCache,
    ) -> bool {
        let room = self.receive_free();
        let plain = matches!(self.mode, Mode::Plain(_));
        let Some(subflow) = self.subflows.first_mut().filter(|_| plain) else {
            payload.into_iter().for_each(|payload| cache.free_chunk(payload));
            return false;
        };
        if !subflow.tcb.take_syn_payload(room, payload, cache) {
            return false;
        }
        subflow.phase = Phase::Ready;
        subflow.established = true;
        self.send_edge = self.send.una() + u64::from(packet.tcp.window);
        self.events.push_back(ConnectionEvent::Established);
        self.deliver_plain(0, cache);
        true
    }
}
