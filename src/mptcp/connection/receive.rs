//! Arriving packets: to TCP first, then the options of RFC 8684, then the data in order.

use super::establish::Admission;
use super::{Connection, ConnectionEvent, Mode, SendSide};
use crate::base::{Chunk, DataSeq, Instant, PoolCache};
use crate::mptcp::mapping::{Mapping, MappingError};
use crate::mptcp::subflow::{Phase, Subflow};
use crate::mptcp::{FallbackReason, SubflowId};
use crate::tcp::{CloseReason, TcpEvent};
use crate::wire::mptcp::{AddAddr, AddressId, Dss, DssMapping, MpCapable, ResetReason};
use crate::wire::{Endpoint, MptcpOption, Packet};
use arrayvec::ArrayVec;

/// Bytes without a mapping that a subflow may hold before it counts as broken (RFC 8684 §3.3.1: a receive window's
/// worth at most; a mapping that comes late comes within a few segments).
const UNMAPPED_MAX: usize = 256 * 1024;

impl Connection {
    /// A segment of subflow `id` has arrived, its payload (if any) in `chunk`.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        id: SubflowId,
        packet: &Packet,
        chunk: Option<Chunk>,
        cache: &mut PoolCache,
    ) {
        let Some(index) = self.index(id) else {
            return chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk));
        };
        match self.admit(index, packet) {
            Admission::Admit => {}
            Admission::Drop => return chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk)),
            Admission::Reset => {
                chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk));
                self.subflows[index].reset_reason = ResetReason::MptcpError;
                self.subflows[index].tcb.abort(now);
                return self.drain_events(now, id, Some(packet), cache);
            }
        }
        let has_payload = chunk.is_some();
        let subflow = &mut self.subflows[index];
        let verdict = subflow.tcb.handle_segment(now, &packet.tcp, &packet.options, packet.ecn, chunk, cache);
        let fast_close = verdict.accepted && self.is_fast_close(packet);
        self.drain_events(now, id, Some(packet), cache);
        if fast_close {
            return self.handle_fast_close(now, cache);
        }
        self.reopened |= verdict.reopen;
        if !verdict.accepted {
            return;
        }
        let Some(index) = self.index(id) else { return };
        self.subflows[index].handle_sign_of_life(now);
        match self.mode {
            Mode::Multipath { .. } => self.handle_options(now, index, packet, has_payload, cache),
            Mode::Plain(_) => self.settle_plain_acknowledgment(index, cache),
            Mode::Offering | Mode::Answering => {}
        }
        self.deliver(now, id, cache);
        self.advance_close(now);
    }

    /// Events of a subflow's TCP. `packet` is what caused them, if a packet did.
    pub(super) fn drain_events(
        &mut self,
        now: Instant,
        id: SubflowId,
        packet: Option<&Packet>,
        cache: &mut PoolCache,
    ) {
        while let Some(index) = self.index(id)
            && let Some(event) = self.subflows[index].tcb.poll_event()
        {
            match event {
                TcpEvent::Established => {
                    let packet = packet.expect("only a packet ends a handshake");
                    self.handle_established(now, index, packet);
                }
                TcpEvent::PeerFinished => self.handle_subflow_fin(now, index, packet, cache),
                TcpEvent::RetransmissionTimeout => self.handle_subflow_timeout(index),
                TcpEvent::Closed(reason) => self.end_subflow(now, id, reason, cache),
            }
        }
    }

    /// A retransmission time-out: what the subflow holds goes out on others, too (pitfall 45: and stays with it).
    fn handle_subflow_timeout(&mut self, index: usize) {
        let id = self.subflows[index].id;
        if self.is_multipath() && self.subflows.iter().any(|other| other.id != id && other.is_usable()) {
            self.send.reinject_from(id);
        }
    }

    fn handle_options(
        &mut self,
        now: Instant,
        index: usize,
        packet: &Packet,
        has_payload: bool,
        cache: &mut PoolCache,
    ) {
        let id = self.subflows[index].id;
        if let Phase::Confirming { .. } = self.subflows[index].phase
            && !packet.tcp.flags.contains(crate::wire::TcpFlags::SYN)
        {
            // RFC 8684 §3.2: the ACK of our third ACK; data may be sent now.
            self.join_is_ready(index);
        }
        // A DSS, or another sign that the options of a segment without payload are as the peer made them.
        let mut dss_seen = false;
        for option in &packet.options.mptcp {
            match option {
                MptcpOption::Dss(dss) => {
                    dss_seen = true;
                    self.handle_dss(now, index, dss, packet, cache);
                }
                MptcpOption::Capable(MpCapable::Data { data_len, .. }) => {
                    // The initiator repeats its keys on the first data until that is acknowledged.
                    dss_seen = true;
                    if self.subflows[index].is_initial() && !self.initiator {
                        self.map_first_data(index, *data_len);
                        self.confirm();
                    }
                }
                // Repeated third ACKs: known already.
                MptcpOption::Capable(_) | MptcpOption::Join(_) => dss_seen |= !has_payload,
                // Options pass, and a pure ACK with a signal need not have a DSS: one that overtakes the first DSS is
                // no sign of a middlebox.
                MptcpOption::AddAddr(add) => {
                    dss_seen |= !has_payload;
                    self.handle_add_addr(index, add);
                }
                MptcpOption::RemoveAddr(removal) => {
                    dss_seen |= !has_payload;
                    for id in &removal.address_ids {
                        self.handle_remove_addr(now, *id);
                    }
                }
                MptcpOption::Prio(prio) => {
                    dss_seen |= !has_payload;
                    self.subflows[index].remote_backup = prio.backup;
                }
                // RFC 8684 §3.7: the peer's checksum failed. We negotiate none, so this can only be a peer in error,
                // or one that falls back.
                MptcpOption::Fail(_) => self.fall_back(now, index, FallbackReason::PeerFellBack, cache),
                MptcpOption::FastClose(_) | MptcpOption::Reset(_) => {}
            }
            if self.index(id) != Some(index) || !self.is_multipath() {
                return;
            }
        }
        if self.mode == (Mode::Multipath { confirmed: false }) && !dss_seen {
            let data_acked = self.subflows[index].tcb.acked_bytes() > 0;
            // RFC 8684 §3.7: data, or an ACK of data, without DSS on the first subflow.
            if has_payload || data_acked {
                self.fall_back(now, index, FallbackReason::NoDss, cache);
            }
        }
    }

    fn handle_dss(&mut self, now: Instant, index: usize, dss: &Dss, packet: &Packet, cache: &mut PoolCache) {
        if let Some(mapping) = &dss.mapping
            && mapping.len == 0
        {
            // RFC 8684 §3.7: an infinite mapping.
            return self.fall_back(now, index, FallbackReason::PeerFellBack, cache);
        }
        self.confirm();
        if let Some(data_ack) = dss.data_ack {
            let data_ack = data_ack.resolve(self.send.una());
            let window = u64::from(self.subflows[index].tcb.scaled_window(&packet.tcp));
            self.handle_data_ack(now, data_ack, window, cache);
        }
        if let Some(mapping) = dss.mapping {
            self.handle_mapping(index, mapping, dss.data_fin);
        }
    }

    /// RFC 8684 §3.3.2 and §3.3.5: frees what is acknowledged; the window counts from the DATA_ACK, and its right edge
    /// moves only forward.
    fn handle_data_ack(&mut self, now: Instant, data_ack: DataSeq, window: u64, cache: &mut PoolCache) {
        let fin = self.send.end() + 1;
        let fin_acked = self.send_side == SendSide::FinSent && data_ack == fin;
        if data_ack.after(self.send.next()) && !fin_acked {
            self.misbehaviour.bad_data_acks += 1;
            return;
        }
        let acked = if fin_acked { self.send.end() } else { data_ack };
        if self.send.acknowledge(acked, cache) {
            self.batching.on_acknowledged();
            self.data_backoff = 0;
            self.rearm_data_timer(now);
        }
        if fin_acked {
            self.send_side = SendSide::Finished;
            self.rearm_data_timer(now);
        }
        self.send_edge = self.send_edge.max(data_ack + window);
    }

    fn handle_mapping(&mut self, index: usize, mapping: DssMapping, data_fin: bool) {
        let data_seq = mapping.data_seq.resolve(self.receive.next());
        let mut len = u64::from(mapping.len);
        if data_fin {
            // RFC 8684 §3.3.3: the DATA_FIN is the last number of the mapping.
            len -= 1;
            if !self.receive.set_fin(data_seq + len) && !self.receive.is_finished() {
                self.misbehaviour.mapping_conflicts += 1;
            }
            // It is acknowledged even if it is not new: our DATA_ACK may have been lost.
            self.subflows[index].tcb.request_ack();
        }
        if len == 0 {
            return;
        }
        // RFC 8684 §3.3.1: relative to the SYN; the stream's first byte is 1. 32 bits, expanded near what has come.
        let near = DataSeq::new(self.subflows[index].tcb.received_bytes());
        let offset = near.expand(mapping.subflow_seq.wrapping_sub(1));
        if near.distance(offset) > 1 << 31 || offset.raw() > u64::MAX / 2 {
            return;
        }
        self.declare(index, Mapping { offset: offset.raw(), data_seq, len: len as u32 });
    }

    pub(super) fn declare(&mut self, index: usize, mapping: Mapping) {
        let subflow = &mut self.subflows[index];
        // Wholly behind what was passed on: a retransmission.
        if mapping.offset + u64::from(mapping.len) <= subflow.delivered {
            return;
        }
        match subflow.mappings.insert(mapping) {
            Ok(()) => {}
            Err(MappingError::Conflict) => self.misbehaviour.mapping_conflicts += 1,
            Err(MappingError::Full) => self.misbehaviour.mappings_refused += 1,
        }
    }

    /// Passes what TCP has in order on to the connection.
    pub(super) fn deliver(&mut self, now: Instant, id: SubflowId, cache: &mut PoolCache) {
        let Some(index) = self.index(id) else { return };
        if let Mode::Plain(_) = self.mode {
            let subflow = &mut self.subflows[index];
            let waiting = std::mem::take(&mut subflow.unmapped);
            for (offset, chunk) in
                waiting.into_iter().chain(std::iter::from_fn(|| subflow.tcb.poll_received()))
            {
                // TCP has kept to the window it promised; the queue's edge is told by it.
                self.receive.window(u64::MAX / 4);
                self.receive.insert(self.receive_base + offset, chunk, cache);
            }
            return;
        }
        if !self.is_multipath() {
            return;
        }
        while let Some((offset, chunk)) = self.subflows[index].tcb.poll_received() {
            self.subflows[index].unmapped.push_back((offset, chunk));
            self.deliver_mapped(index, cache);
        }
        self.deliver_mapped(index, cache);
        let held: usize = self.subflows[index].unmapped.iter().map(|(_, chunk)| chunk.len()).sum();
        if held > UNMAPPED_MAX {
            // RFC 8684 §3.7: options are lost on the way; no data can be delivered from this subflow.
            self.misbehaviour.unmapped += 1;
            self.subflows[index].reset_reason = ResetReason::MiddleboxInterference;
            self.subflows[index].tcb.abort(now);
        }
    }

    fn deliver_mapped(&mut self, index: usize, cache: &mut PoolCache) {
        let subflow = &mut self.subflows[index];
        while let Some((offset, mut chunk)) = subflow.unmapped.pop_front() {
            let Some((data_seq, len)) = subflow.mappings.resolve(offset) else {
                subflow.unmapped.push_front((offset, chunk));
                return;
            };
            // Pitfall 34: bytes of two mappings are never taken together.
            if chunk.len() > len {
                let mut rest = cache.pool().share_chunk(&chunk);
                rest.trim_front(len);
                chunk.truncate(len);
                subflow.unmapped.push_front((offset + len as u64, rest));
            }
            subflow.delivered = offset + chunk.len as u64;
            self.receive.insert(data_seq, chunk, cache);
        }
    }

    /// FIN on a subflow. Pitfall 42: its scope is the subflow, except on plain TCP.
    fn handle_subflow_fin(
        &mut self,
        now: Instant,
        index: usize,
        packet: Option<&Packet>,
        cache: &mut PoolCache,
    ) {
        let id = self.subflows[index].id;
        if self.mode == (Mode::Multipath { confirmed: false })
            && packet.is_some_and(|packet| packet.options.mptcp.is_empty())
        {
            // RFC 8684 §3.7: the peer's first sequence number behind its SYN comes without DSS. Before the FIN is
            // answered: it ends the peer's data only, and not the subflow that ours needs.
            self.fall_back(now, index, FallbackReason::NoDss, cache);
        }
        self.deliver(now, id, cache);
        let Some(index) = self.index(id) else { return };
        if self.is_multipath() {
            // The peer is done with this subflow; we have nothing more to say on it, either. What it still holds is
            // sent to its end by TCP, and again elsewhere if it fails.
            self.subflows[index].tcb.close(now);
        } else {
            self.receive.finish();
        }
    }

    fn is_fast_close(&self, packet: &Packet) -> bool {
        self.is_multipath()
            && packet.options.mptcp.iter().any(|option| match option {
                MptcpOption::FastClose(close) => close.receiver_key == self.local.key,
                _ => false,
            })
    }

    /// RFC 8684 §3.5: the peer has closed the connection at once.
    fn handle_fast_close(&mut self, now: Instant, cache: &mut PoolCache) {
        for subflow in &mut self.subflows {
            subflow.tcb.abort(now);
        }
        self.finish(CloseReason::Reset, cache);
    }

    fn handle_add_addr(&mut self, index: usize, add: &AddAddr) {
        let Some(keys) = self.keys() else { return };
        match *add {
            AddAddr::Echo { address_id, addr, port } => self.addresses.handle_echo(address_id, addr, port),
            AddAddr::Announce { address_id, addr, port, hmac } => {
                // RFC 8684 §3.4.1: one that can't be validated is silently ignored.
                if hmac != keys.announce_hmac_expected(address_id, addr, port) {
                    self.misbehaviour.bad_announcements += 1;
                    return;
                }
                let echo = AddAddr::Echo { address_id, addr, port };
                self.subflows[index].signal(MptcpOption::AddAddr(echo));
                // Pitfall 20: without a port, that of the subflow which carries the signal.
                let remote = Endpoint::new(addr, port.unwrap_or(self.subflows[index].tuple.remote.port));
                if self.addresses.handle_announcement(address_id, remote) {
                    self.events.push_back(ConnectionEvent::AddressAnnounced(address_id, remote));
                }
            }
        }
    }

    /// RFC 8684 §3.4.2, pitfall 28: a path is first asked whether it still lives; what arrives on it then saves it.
    fn handle_remove_addr(&mut self, now: Instant, id: AddressId) {
        self.addresses.handle_removal(id);
        let mut leaving = ArrayVec::<SubflowId, { super::SUBFLOWS_MAX }>::new();
        for subflow in self
            .subflows
            .iter_mut()
            .filter(|subflow| subflow.remote_id == id && subflow.phase == Phase::Ready)
        {
            subflow.begin_removal(now);
            leaving.push(subflow.id);
        }
        // It is most likely gone: what it holds need not wait for the answer.
        if self.subflows.iter().any(Subflow::is_usable) {
            leaving.into_iter().for_each(|id| self.send.reinject_from(id));
        }
        self.events.push_back(ConnectionEvent::AddressWithdrawn(id));
    }
}
