//! TCP Fast Open (RFC 7413) of a worker's connections: what is said on their SYNs and SYN/ACKs, and what came of it.

use super::{ConnectionId, Stack};
use crate::base::{Chunk, Instant, PoolCache};
use crate::mptcp::Connection;
use crate::stack::fast_open::Offer;
use crate::stack::slot::FastOpenStage;
use crate::stack::stream::FastOpenUse;
use crate::tcp::{CloseReason, CookieAge, fast_open_cookie, fast_open_cookie_age};
use crate::wire::{FastOpen, Packet};

impl Stack {
    /// RFC 7413 §4.2.2: what the SYN of a connection says.
    pub(super) fn ask_fast_open(&mut self, now: Instant, connection: &mut Connection) -> FastOpenStage {
        let asked = match self.fast_open_cache.offer(now, &connection.first_tuple()) {
            Offer::Nothing => {
                self.counters.fast_open.blocked += 1;
                false
            }
            Offer::Request => {
                let asked = connection.offer_fast_open(FastOpen::Request);
                self.counters.fast_open.asked += u64::from(asked);
                asked
            }
            Offer::Cookie(cookie, server_mss) => connection.open_with_data(now, cookie, server_mss),
        };
        if asked { FastOpenStage::Asked } else { FastOpenStage::Over }
    }

    /// RFC 7413 §4.2.2: what the SYN `packet` says, and its payload, to a listener that wants it.
    pub(super) fn answer_fast_open(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        packet: &Packet,
        payload: &mut Option<Chunk>,
        cache: &mut PoolCache,
    ) -> FastOpenStage {
        let Some(option) = packet.options.fast_open else { return FastOpenStage::Over };
        let client = packet.tuple.remote.addr;
        let age = match &option {
            FastOpen::Request => {
                self.counters.fast_open.requests += 1;
                CookieAge::Invalid
            }
            FastOpen::Cookie(cookie) => {
                let age = fast_open_cookie_age(&self.secret, now, client, cookie);
                self.counters.fast_open.bad_cookies += u64::from(age == CookieAge::Invalid);
                age
            }
        };
        if age != CookieAge::Current {
            let fresh = FastOpen::Cookie(fast_open_cookie(&self.secret, now, client));
            self.counters.fast_open.cookies_given += u64::from(connection.offer_fast_open(fresh));
        }
        if age == CookieAge::Invalid {
            return FastOpenStage::Over;
        }
        // RFC 7413 §4.2: too many, and there is no Fast Open until there are less.
        if !self.pending_fast_opens.has_room(now) {
            self.counters.fast_open.overflows += 1;
            return FastOpenStage::Over;
        }
        // §4.2.2: without data, too, the application may begin to send.
        let with_data = payload.is_some();
        if !connection.take_syn_payload(packet, payload.take(), cache) {
            self.counters.fast_open.declined += u64::from(with_data);
            return FastOpenStage::Over;
        }
        self.counters.fast_open.accepted += u64::from(with_data);
        self.pending_fast_opens.begin();
        FastOpenStage::Unconfirmed { with_data }
    }

    /// The SYN/ACK is here: what it says of what we asked, for the next time and for the application.
    pub(super) fn learn_fast_open(&mut self, now: Instant, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.fast_open != FastOpenStage::Asked {
            return;
        }
        slot.fast_open = FastOpenStage::Over;
        let Some(report) = slot.connection.fast_open() else { return };
        let counters = &mut self.counters.fast_open;
        let used = match (report.sent_bytes, report.acked_bytes) {
            (0, _) => FastOpenUse::Unused,
            (_, 0) => {
                counters.sent_ignored += 1;
                FastOpenUse::Ignored
            }
            _ => {
                counters.sent_accepted += 1;
                FastOpenUse::Accepted
            }
        };
        counters.learned += u64::from(report.answer.is_some());
        slot.stream.iter().for_each(|stream| stream.set_fast_open(used));
        let worked = self.fast_open_cache.learn(now, &slot.connection.first_tuple(), &report);
        counters.failures += u64::from(!worked);
    }

    /// A connection that began before its handshake was over has ended it.
    pub(super) fn confirm_fast_open(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        let stage = std::mem::replace(&mut slot.fast_open, FastOpenStage::Over);
        if let FastOpenStage::Unconfirmed { .. } = stage {
            self.pending_fast_opens.confirm();
        }
    }

    /// A connection is over, perhaps before its handshake was.
    pub(super) fn end_fast_open(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        match std::mem::replace(&mut slot.fast_open, FastOpenStage::Over) {
            FastOpenStage::Over => {}
            FastOpenStage::Unconfirmed { .. } => self.pending_fast_opens.fail(now),
            // RFC 7413 §4.1.3.1: silence, ICMP errors; and a reset may be a middlebox's, too. What ends at our end says nothing.
            FastOpenStage::Asked => {
                let by_network = match reason {
                    CloseReason::Refused | CloseReason::TimedOut | CloseReason::Unreachable => true,
                    CloseReason::Finished
                    | CloseReason::Reset
                    | CloseReason::Aborted
                    | CloseReason::PathDown
                    | CloseReason::NoResources
                    | CloseReason::Protocol => false,
                };
                if by_network {
                    self.fast_open_cache.fail(now, &slot.connection.first_tuple());
                    self.counters.fast_open.failures += 1;
                }
            }
        }
    }
}
