//! Arriving packets: to TCP first, then the options of RFC 8684, then the data in order.

use super::establish::Admission;
use super::{Connection, ConnectionEvent, Mode, SendSide};
use crate::base::{Chunk, DataSeq, Instant, PoolCache};
use crate::mptcp::addr::News;
use crate::mptcp::inbound::Delivery;
use crate::mptcp::mapping::{Mapping, MappingError};
use crate::mptcp::subflow::{Phase, Subflow};
use crate::mptcp::{FallbackReason, SubflowId};
use crate::tcp::{CloseReason, State, TcpEvent};
use crate::wire::mptcp::{
    AddAddr, AddressId, Dss, DssMapping, MpCapable, MpJoin, MpTcpRst, ResetReason, ShortOrLong,
};
use crate::wire::{Endpoint, MptcpOption, Packet, TcpFlags};

/// Bytes without a mapping that a subflow may hold before it counts as broken (RFC 8684 §3.3.1: a receive window's
/// worth at most; a mapping that comes late comes within a few segments).
const UNMAPPED_MAX: usize = 256 * 1024;

/// So many retransmission time-outs in a row are enough where others live: with a time-out of 200 ms, 51 s of silence.
const TIMEOUTS_MAX: u32 = 8;

/// The infinite mapping of a packet (RFC 8684 §3.7).
fn infinite_mapping(packet: &Packet) -> Option<DssMapping> {
    packet.options.dss()?.mapping.filter(|mapping| mapping.len == 0)
}

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
        let free = |chunk: Option<Chunk>, cache: &mut PoolCache| {
            chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk));
        };
        let Some(index) = self.index(id) else { return free(chunk, cache) };
        if self.closed {
            return self.handle_after_close(now, id, packet, chunk, cache);
        }
        self.forget_pattern();
        self.note_syn(index, packet);
        match self.admit(index, packet) {
            Admission::Admit => {}
            Admission::Drop => return free(chunk, cache),
            Admission::Reset => {
                free(chunk, cache);
                self.subflows[index].reset(now, ResetReason::MptcpError.into());
                return self.drain_events(now, id, Some(packet), cache);
            }
        }
        if self.is_fast_close_by_reset(index, packet) {
            free(chunk, cache);
            return self.handle_fast_close(now, Some(id), cache);
        }
        let (mut chunk, mut tcp) = (chunk, packet.tcp);
        if self.leaves_syn_ack_data(index, packet) {
            free(chunk.take(), cache);
            tcp.flags = tcp.flags.without(TcpFlags::FIN);
        }
        let has_payload = chunk.is_some();
        let subflow = &mut self.subflows[index];
        let verdict = subflow.tcb.handle_segment(now, &tcp, &packet.options, packet.ecn, chunk, cache);
        let fast_close = verdict.accepted && self.names_our_key(packet);
        self.drain_events(now, id, Some(packet), cache);
        if fast_close {
            return self.handle_fast_close(now, None, cache);
        }
        self.reopened |= verdict.reopen;
        if !verdict.accepted {
            return;
        }
        let Some(index) = self.index(id) else { return };
        if has_payload {
            self.activity.received = Some(now);
        }
        self.subflows[index].handle_sign_of_life(now, has_payload);
        self.couple_if_due(now);
        match self.mode {
            Mode::Multipath { .. } => self.handle_options(now, index, packet, has_payload, cache),
            Mode::Plain(_) => {
                self.settle_plain_acknowledgment(index, cache);
                self.handle_plain_options(index, packet);
            }
            Mode::Offering | Mode::Answering => {}
        }
        self.deliver(now, id, cache);
        self.advance_close(now, cache);
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
            && self.subflows[index].tcb.has_event()
            && let Some(event) = self.subflows[index].tcb.poll_event()
        {
            match event {
                TcpEvent::Established => {
                    let packet = packet.expect("only a packet ends a handshake");
                    self.handle_established(now, index, packet);
                }
                TcpEvent::PeerFinished => self.handle_subflow_fin(now, index, packet, cache),
                TcpEvent::RetransmissionTimeout => self.handle_subflow_timeout(now, index),
                TcpEvent::Closed(reason) => {
                    let reason = match reason {
                        CloseReason::Aborted => self.subflows[index].close_reason,
                        other => other,
                    };
                    let by_reset = matches!(reason, CloseReason::Reset | CloseReason::Refused);
                    let words = packet.filter(|_| by_reset).and_then(reset_words);
                    self.end_subflow(now, id, reason, words, cache);
                }
            }
        }
    }

    /// Events of subflows whose TCP is over without a packet, or a timer of theirs, that would have told.
    pub(super) fn drain_ended(&mut self, now: Instant, cache: &mut PoolCache) {
        let is_over = |subflow: &&Subflow| subflow.tcb.state() == State::Closed;
        let ids: Vec<SubflowId> = self.subflows.iter().filter(is_over).map(|subflow| subflow.id).collect();
        ids.into_iter().for_each(|id| self.drain_events(now, id, None, cache));
    }

    /// A retransmission time-out: what only dead subflows hold goes out on others, too (pitfall 45: and stays with them).
    /// Also where no other is alive now: one may be again, before this one times out once more.
    fn handle_subflow_timeout(&mut self, now: Instant, index: usize) {
        if !self.is_multipath() || self.subflows.len() == 1 {
            return;
        }
        self.send.strand(self.unusable());
        let subflow = &mut self.subflows[index];
        subflow.note_timeout(now);
        if subflow.tcb.consecutive_timeouts() >= TIMEOUTS_MAX && !self.usable().is_empty() {
            // RFC 8684 §3.3.6: a subflow that performs so badly may be reset. The path manager tries again.
            self.subflows[index].reset(now, ResetReason::UnacceptablePerformance.into());
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
            && !packet.tcp.flags.contains(TcpFlags::SYN)
        {
            // RFC 8684 §3.2: the ACK of our third ACK; data may be sent now.
            self.join_is_ready(index);
            self.subflows[index].begin_settling(now);
        }
        self.subflows[index].bare = packet.options.mptcp.is_empty();
        // A DSS, or another sign that the options of a segment without payload are as the peer made them.
        let mut options_pass = false;
        for option in &packet.options.mptcp {
            // Options pass, and a pure ACK with a signal need not have a DSS: one that overtakes the first DSS is no sign of
            // a middlebox (pitfall 18).
            options_pass |= !has_payload;
            match option {
                MptcpOption::Dss(dss) => {
                    options_pass = true;
                    self.handle_dss(now, index, dss, packet, cache);
                }
                MptcpOption::Capable(MpCapable::Data { data_len, checksum, .. }) => {
                    // The initiator repeats its keys on the first data until that is acknowledged.
                    options_pass = true;
                    if self.subflows[index].is_initial() && !self.initiator {
                        self.map_first_data(now, index, *data_len, *checksum);
                        self.confirm(index);
                    }
                }
                // RFC 8684 §3.2: the third ACK of a join triggers an ACK, each time: the last one may have been lost.
                MptcpOption::Join(MpJoin::Ack { .. }) => self.subflows[index].tcb.request_ack(),
                // Repeated third ACKs: known already.
                MptcpOption::Capable(_) | MptcpOption::Join(_) => {}
                MptcpOption::AddAddr(add) => self.handle_add_addr(now, index, add),
                MptcpOption::RemoveAddr(removal) => {
                    for id in &removal.address_ids {
                        self.handle_remove_addr(now, *id);
                    }
                }
                MptcpOption::Prio(prio) => {
                    let backup = prio.backup;
                    if std::mem::replace(&mut self.subflows[index].remote_backup, backup) != backup {
                        self.events.push_back(ConnectionEvent::PriorityChanged { id, backup });
                    }
                }
                MptcpOption::Fail(fail) => self.handle_fail(now, index, fail, cache),
                // They have their place on resets, and are looked at before.
                MptcpOption::FastClose(_) | MptcpOption::Reset(_) => {}
            }
            if self.index(id) != Some(index) || !self.is_multipath() {
                return;
            }
        }
        if !options_pass {
            self.handle_segment_without_dss(now, index, has_payload, cache);
        }
    }

    /// RFC 8684 §3.7: data, or an ACK of data, without DSS before any has come. Later a mapping may cover it that came
    /// before, and a DATA_ACK that says nothing new may be left out.
    fn handle_segment_without_dss(
        &mut self,
        now: Instant,
        index: usize,
        has_payload: bool,
        cache: &mut PoolCache,
    ) {
        let subflow = &mut self.subflows[index];
        let about_data = has_payload || subflow.tcb.acked_bytes() > 0;
        if subflow.dss_seen || !about_data {
            return;
        }
        if subflow.is_initial() {
            self.fall_back(now, index, FallbackReason::NoDss, cache);
        } else {
            // Pitfall 16.
            subflow.reset(now, ResetReason::MiddleboxInterference.into());
        }
    }

    fn handle_dss(&mut self, now: Instant, index: usize, dss: &Dss, packet: &Packet, cache: &mut PoolCache) {
        let has_payload = !packet.payload.is_empty();
        if let Some(mapping) = &dss.mapping {
            if mapping.len == 0 && (has_payload || dss.data_ack.is_none()) {
                return self.handle_infinite_mapping(now, index, mapping, cache);
            }
            // RFC 8684 §3.7: an infinite mapping is for the first data of one who has fallen back, and who has no more use for
            // DATA_ACKs. A length of 0 beside a DATA_ACK and no data maps nothing.
            if mapping.len > 0 && !self.is_as_agreed(now, index, mapping.checksum) {
                return;
            }
            // The rule is about data that has come: a DATA_FIN alone has none, and what lies behind a gap has not.
            let come = self.subflows[index].tcb.received_bytes() as u32;
            let in_order = (mapping.subflow_seq.wrapping_sub(1).wrapping_sub(come) as i32) < 0;
            if in_order && usize::from(mapping.len) > usize::from(dss.data_fin) {
                self.short_data_acks = matches!(mapping.data_seq, ShortOrLong::Short(_));
            }
        }
        self.confirm(index);
        if let Some(data_ack) = dss.data_ack {
            let data_ack = data_ack.resolve(self.send.una());
            let window = u64::from(self.subflows[index].tcb.scaled_window(&packet.tcp));
            self.handle_data_ack(now, data_ack, window, cache);
        }
        if let Some(mapping) = dss.mapping.filter(|mapping| mapping.len > 0) {
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
        self.activity.acked = Some(now);
        let acked = if fin_acked { self.send.end() } else { data_ack };
        if self.send.acknowledge(acked, cache) {
            self.batching.on_acknowledged();
            self.data_backoff = 0;
            self.asked_at = None;
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
            // It is acknowledged even if it is not new: our DATA_ACK may have been lost. Not while data before it is damaged:
            // our ACKs then carry MP_FAIL, which a peer that has nothing more to send (Linux 6.18) answers by its DATA_FIN,
            // and so for ever. Our timer says it again.
            if self.failure.is_none() {
                self.subflows[index].tcb.request_ack();
            }
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
        let DssMapping { checksum, .. } = mapping;
        self.declare(index, Mapping { offset: offset.raw(), data_seq, len: len as u32, checksum, data_fin });
    }

    pub(super) fn declare(&mut self, index: usize, mapping: Mapping) {
        match self.subflows[index].inbound.declare(mapping) {
            Ok(()) => {}
            Err(MappingError::Conflict) => self.misbehaviour.mapping_conflicts += 1,
            Err(MappingError::Full) => self.misbehaviour.mappings_refused += 1,
        }
    }

    /// Passes what TCP has in order on to the connection.
    pub(super) fn deliver(&mut self, now: Instant, id: SubflowId, cache: &mut PoolCache) {
        let Some(index) = self.index(id) else { return };
        match self.mode {
            Mode::Plain(_) => self.deliver_plain(index, cache),
            Mode::Multipath { .. } => self.deliver_mapped(now, index, cache),
            Mode::Offering | Mode::Answering => {}
        }
    }

    pub(super) fn deliver_plain(&mut self, index: usize, cache: &mut PoolCache) {
        let subflow = &mut self.subflows[index];
        while let Some((offset, chunk)) =
            subflow.inbound.poll_unmapped().or_else(|| subflow.tcb.poll_received())
        {
            // TCP has kept to the window it promised; the queue's edge is told by it.
            self.receive.window(u64::MAX / 4);
            self.receive.insert(self.receive_base + offset, chunk, cache);
        }
    }

    fn deliver_mapped(&mut self, now: Instant, index: usize, cache: &mut PoolCache) {
        let subflow = &mut self.subflows[index];
        loop {
            let received = subflow.tcb.poll_received();
            let more = received.is_some();
            if let Some((offset, chunk)) = received {
                subflow.inbound.push(offset, chunk);
            }
            loop {
                match subflow.inbound.poll(now, cache.pool()) {
                    Delivery::Data(data_seq, chunk) => self.receive.insert(data_seq, chunk, cache),
                    Delivery::Damaged(data_seq) => return self.handle_damage(now, index, data_seq, cache),
                    Delivery::Nothing => break,
                }
            }
            if !more {
                break;
            }
        }
        let Some((bytes, since)) = subflow.inbound.unmapped() else { return };
        if since == now {
            self.joins_asked_again = false;
            self.ask_about_joins(index);
        }
        if bytes > UNMAPPED_MAX {
            match self.waits_for_joins(index) {
                // No time for an answer.
                true => self.reset_for_lost_options(now, index),
                false => self.handle_lost_options(now, index, cache),
            }
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
        let bare = packet.is_some_and(|packet| packet.options.mptcp.is_empty());
        if self.is_multipath() && bare {
            self.handle_bare_fin(now, index, cache);
        }
        // A peer that falls back with its last word says so on its FIN: then it is that of TCP, and ends its data only.
        if self.is_multipath()
            && let Some(mapping) = packet.and_then(infinite_mapping)
        {
            self.handle_infinite_mapping(now, index, &mapping, cache);
        }
        self.deliver(now, id, cache);
        let Some(index) = self.index(id) else { return };
        if self.is_multipath() {
            // The peer is done with this subflow; we have nothing more to say on it, either. What it still holds is
            // sent to its end by TCP, and again elsewhere if it fails. RFC 8684 §3.3.3: not all subflows may be closed before
            // our data is through. Where the peer has said all and this one is the last that works, our half stays open.
            let slot = self.subflows[index].slot;
            let is_last = self.usable().iter().all(|usable| usable == slot);
            let said_all = self.receive.has_fin() || packet.is_some_and(has_data_fin);
            if !(is_last && said_all && self.send_side != SendSide::Finished) {
                self.subflows[index].tcb.close(now);
            }
        } else {
            self.receive.finish();
        }
    }

    /// A FIN without any option. Where MPTCP was not confirmed it is the peer's first sequence number behind its SYN, and
    /// comes without DSS (RFC 8684 §3.7). Later, on the only subflow, it is most likely one whose DATA_FIN has fallen to a
    /// middlebox, or one that ends the peer's half of a connection that has become TCP there. This comes before the FIN is
    /// answered: it ends the peer's data only, and not the subflow that ours needs.
    fn handle_bare_fin(&mut self, now: Instant, index: usize, cache: &mut PoolCache) {
        let subflow = &self.subflows[index];
        if !subflow.dss_seen {
            self.fall_back(now, index, FallbackReason::NoDss, cache);
            return;
        }
        // A peer that has said its DATA_FIN needs no FIN while our data is still to come.
        let unexpected =
            !self.receive.has_fin() || (self.send_side != SendSide::Finished && self.is_contiguous(index));
        // Nor does it end the subflow that carries its data while another has only begun.
        if self.may_be_only(index) && subflow.bare && unexpected {
            self.handle_lost_options(now, index, cache);
        }
    }

    fn handle_add_addr(&mut self, now: Instant, index: usize, add: &AddAddr) {
        let Some(keys) = self.keys() else { return };
        match *add {
            AddAddr::Echo { address_id, addr, port } => self.addresses.handle_echo(address_id, addr, port),
            AddAddr::Announce { address_id, addr, port, hmac } => {
                // RFC 8684 §3.4.1: one that can't be validated is silently ignored.
                if hmac != keys.announce_hmac_expected(address_id, addr, port) {
                    self.misbehaviour.bad_announcements += 1;
                    return;
                }
                // RFC 8684 §3.1: keys are repeated for a peer that may lack ours. One that signs with it has it.
                self.keys_proven = true;
                let echo = AddAddr::Echo { address_id, addr, port };
                self.subflows[index].signal(now, MptcpOption::AddAddr(echo));
                // Pitfall 20: without a port, that of the subflow which carries the signal.
                let remote = Endpoint::new(addr, port.unwrap_or(self.subflows[index].tuple.remote.port));
                let news = self.addresses.handle_announcement(address_id, remote);
                if news == News::Moved {
                    self.handle_address_gone(now, address_id);
                }
                if news != News::None {
                    self.events.push_back(ConnectionEvent::AddressAnnounced(address_id, remote));
                }
            }
        }
    }

    /// RFC 8684 §3.4.2, pitfall 28: a path is first asked whether it still lives; what arrives on it then saves it.
    fn handle_remove_addr(&mut self, now: Instant, id: AddressId) {
        if self.addresses.handle_removal(id) {
            self.handle_address_gone(now, id);
        }
    }

    /// The peer's address `id` is gone, says the peer.
    fn handle_address_gone(&mut self, now: Instant, id: AddressId) {
        let is_there = |subflow: &&mut Subflow| subflow.remote_id == id && subflow.phase == Phase::Ready;
        self.subflows.iter_mut().filter(is_there).for_each(|subflow| subflow.begin_removal(now));
        // It is most likely gone: what it holds need not wait for the answer.
        self.send.strand(self.unusable());
        self.events.push_back(ConnectionEvent::AddressWithdrawn(id));
    }
}

/// Whether a packet says the end of the peer's data.
fn has_data_fin(packet: &Packet) -> bool {
    packet.options.dss().is_some_and(|dss| dss.data_fin)
}

/// What a reset says about itself.
fn reset_words(packet: &Packet) -> Option<MpTcpRst> {
    packet.options.mptcp.iter().find_map(|option| match option {
        MptcpOption::Reset(reset) => Some(*reset),
        _ => None,
    })
}
