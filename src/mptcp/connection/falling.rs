//! Falling back to TCP (RFC 8684 §3.7), in each of its ways: options that do not pass, a checksum that fails here or at the
//! peer, an infinite mapping. Where it is not possible the subflow is reset instead, and the connection goes on.

use super::{Connection, ConnectionEvent, Mode, SendSide};
use crate::base::{DataSeq, Instant, PoolCache};
use crate::mptcp::fallback::{Failure, Farewell};
use crate::mptcp::signalling::ResetWords;
use crate::mptcp::subflow::{Phase, Subflow};
use crate::mptcp::{FallbackReason, SubflowId};
use crate::tcp::{CloseReason, WindowOwner};
use crate::wire::mptcp::{Dss, DssMapping, MpFail, ResetReason};
use crate::wire::{MptcpOption, Packet};

impl Connection {
    /// Pitfall 17: only if all of our data is contiguous on this subflow, the one that there ever was. A join that the
    /// peer may count as made is too much; one that has only begun is given up.
    pub(super) fn can_fall_back(&self, index: usize) -> bool {
        let confirming = |phase| matches!(phase, Phase::Confirming { .. });
        self.can_follow(index) && !self.subflows.iter().any(|subflow| confirming(subflow.phase))
    }

    /// The same where the peer has fallen back: a join that it counted as made it would not have.
    fn can_follow(&self, index: usize) -> bool {
        self.subflows[index].is_initial() && !self.ever_joined && self.send.reinjected_bytes() == 0
    }

    /// All that has come on this subflow was the next data: what follows without a mapping can only be the next, too. A
    /// DATA_FIN has a number, and is no byte of the subflow.
    fn is_received_contiguous(&self, index: usize) -> bool {
        let delivered = self.receive_base + self.subflows[index].inbound.delivered();
        self.receive.next() == delivered + u64::from(self.receive.is_finished())
    }

    /// There is no other subflow. A join of ours that nothing has answered is none: it cannot count as made at the peer.
    pub(super) fn is_only(&self, index: usize) -> bool {
        self.others(index).all(Subflow::is_unanswered_join)
    }

    /// There may be no other: there are joins that we have answered, too, whose third ACK has not come. Either they count as
    /// made at the peer, which cannot fall back then and says so by a RST, or it gives them up and falls back.
    pub(super) fn may_be_only(&self, index: usize) -> bool {
        self.others(index).all(|other| other.is_unanswered_join() || other.is_unconfirmed_join())
    }

    fn others(&self, index: usize) -> impl Iterator<Item = &Subflow> {
        let (before, rest) = self.subflows.split_at(index);
        before.iter().chain(&rest[1..])
    }

    /// Both ways, all data is contiguous on this subflow: TCP could go on with it where MPTCP's options end.
    pub(super) fn is_contiguous(&self, index: usize) -> bool {
        self.can_fall_back(index) && self.is_received_contiguous(index)
    }

    /// Whether only the peer knows that this one is left, and can become TCP.
    pub(super) fn waits_for_joins(&self, index: usize) -> bool {
        self.may_be_only(index) && !self.is_only(index) && self.is_contiguous(index)
    }

    /// Bytes without a mapping have come, and what happens to those joins decides: they are asked.
    pub(super) fn ask_about_joins(&mut self, index: usize) {
        if self.waits_for_joins(index) {
            let joins = self.subflows.iter_mut().filter(|subflow| subflow.is_unconfirmed_join());
            joins.for_each(|join| join.tcb.repeat_syn_ack());
        }
    }

    /// Falls back to TCP on the first subflow, where that is possible; otherwise that subflow is reset. Pitfall 38: the
    /// decision and the end of joins that are under way are one step.
    pub(super) fn fall_back(
        &mut self,
        now: Instant,
        index: usize,
        reason: FallbackReason,
        cache: &mut PoolCache,
    ) {
        if !self.can_fall_back(index) {
            self.subflows[index].reset(now, ResetReason::MiddleboxInterference.into());
            return;
        }
        self.become_plain(now, index, reason, cache);
    }

    fn become_plain(&mut self, now: Instant, index: usize, reason: FallbackReason, cache: &mut PoolCache) {
        let id = self.subflows[index].id;
        self.end_joins(now, id, cache);
        self.mode = Mode::Plain(reason);
        self.failure = None;
        self.farewell = match reason {
            FallbackReason::NoDss | FallbackReason::OptionsLost | FallbackReason::BadChecksum => {
                self.index(id).map(|index| self.farewell(index, None))
            }
            // RFC 8684 §3.7: the receiver of a MP_FAIL answers with one.
            FallbackReason::PeerSawBadChecksum => {
                let fail = Some(self.receive.next());
                self.index(id).map(|index| self.farewell(index, fail))
            }
            // The peer knows already.
            FallbackReason::PeerFellBack
            | FallbackReason::NotWanted
            | FallbackReason::SynWithoutCapable
            | FallbackReason::SynAckWithoutCapable
            | FallbackReason::SynWithoutAnswer
            | FallbackReason::AckWithoutCapable
            | FallbackReason::Unsupported => None,
        };
        self.events.push_back(ConnectionEvent::FellBack(reason));
        let Some(index) = self.index(id) else { return };
        let subflow = &mut self.subflows[index];
        // Pitfall 39: TCP goes on with the window that was shown last.
        subflow.tcb.set_window_owner(WindowOwner::Subflow);
        subflow.clear_signals();
        if self.farewell.is_some() {
            subflow.tcb.request_ack();
        }
        if self.send_side == SendSide::FinSent {
            // The end is said by FIN from now on.
            self.send_side = SendSide::Closing;
        }
        self.data_timer = None;
        self.settle_plain_acknowledgment(index, cache);
        self.deliver(now, id, cache);
    }

    /// Joins that are under way are of a connection that is no more.
    fn end_joins(&mut self, now: Instant, stays: SubflowId, cache: &mut PoolCache) {
        let others: Vec<SubflowId> =
            self.subflows.iter().map(|subflow| subflow.id).filter(|id| *id != stays).collect();
        for id in others {
            self.end_subflow(now, id, CloseReason::Protocol, None, cache);
        }
    }

    /// RFC 8684 §3.7: the infinite mapping begins with the oldest byte that was not acknowledged as data. All of our data
    /// went over this subflow, so byte n of the one is byte n of the other.
    fn farewell(&self, index: usize, fail: Option<DataSeq>) -> Farewell {
        let offset = self.send.una().distance(self.local.first_byte());
        Farewell {
            data_seq: self.send.una(),
            subflow_seq: (offset as u32).wrapping_add(1),
            fail,
            sent_bytes: self.subflows[index].tcb.sent_bytes(),
        }
    }

    /// On plain TCP what the subflow's ACK covers is acknowledged as data.
    pub(super) fn settle_plain_acknowledgment(&mut self, index: usize, cache: &mut PoolCache) {
        let acked_bytes = self.subflows[index].tcb.acked_bytes();
        if self.send.acknowledge(self.local.first_byte() + acked_bytes, cache) {
            self.batching.on_acknowledged();
        }
        // What was sent after the fall-back has arrived, and with it what we had to say.
        self.farewell.take_if(|farewell| acked_bytes > farewell.sent_bytes);
    }

    /// A packet on a connection that has fallen back: the peer may not have heard of it, or have heard of ours.
    pub(super) fn handle_plain_options(&mut self, index: usize, packet: &Packet) {
        for option in &packet.options.mptcp {
            match option {
                MptcpOption::Fail(_)
                    if self.mode == Mode::Plain(FallbackReason::PeerSawBadChecksum)
                        && self.fail_answers < FAIL_ANSWERS =>
                {
                    // Our answer was lost. Two that answer each other would never end.
                    self.fail_answers += 1;
                    self.farewell = Some(self.farewell(index, Some(self.receive.next())));
                    self.subflows[index].tcb.request_ack();
                }
                MptcpOption::Dss(Dss { mapping: Some(mapping), .. }) if mapping.len == 0 => {
                    self.farewell = None
                }
                MptcpOption::Dss(Dss { mapping: Some(mapping), .. }) => {
                    self.follow_mapping(index, mapping, packet.payload.len());
                }
                _ => {}
            }
        }
    }

    /// We have gone on without mappings, and the peer, which does not know yet, maps what comes next: it may be what we have
    /// already, sent again because no DATA_ACK has told it so. Its bytes are known by their mapping, and so are those
    /// behind them.
    fn follow_mapping(&mut self, index: usize, mapping: &DssMapping, payload_len: usize) {
        // Only of a segment that has come in order: its bytes are the next ones that are delivered.
        let offset = self.subflows[index].tcb.received_bytes().wrapping_sub(payload_len as u64);
        let is_next = payload_len > 0 && mapping.subflow_seq == (offset as u32).wrapping_add(1);
        let base = mapping.data_seq.resolve(self.receive.next()) - offset;
        if self.mode == Mode::Plain(FallbackReason::OptionsLost) && is_next && base.before(self.receive_base)
        {
            self.receive_base = base;
        }
    }

    /// What the farewell had to say once was said on a segment without payload.
    pub(super) fn on_farewell_sent(&mut self) {
        if let Some(farewell) = &mut self.farewell {
            farewell.fail = None;
        }
    }

    /// A mapping with a wrong checksum begins at `data_seq`. Pitfall 36.
    pub(super) fn handle_damage(
        &mut self,
        now: Instant,
        index: usize,
        data_seq: DataSeq,
        cache: &mut PoolCache,
    ) {
        self.misbehaviour.bad_checksums += 1;
        let id = self.subflows[index].id;
        if !self.can_fall_back(index) {
            let words = ResetWords { reason: ResetReason::MiddleboxInterference, fail: Some(data_seq) };
            self.subflows[index].reset(now, words);
            return;
        }
        self.end_joins(now, id, cache);
        let Some(index) = self.index(id) else { return };
        let tcb = &mut self.subflows[index].tcb;
        tcb.request_ack();
        self.failure = Some(Failure::new(now, id, data_seq, tcb.rto()));
    }

    /// The peer has found a wrong checksum in our data, or answers to ours. Returns whether something has changed.
    pub(super) fn handle_fail(&mut self, now: Instant, index: usize, _fail: &MpFail, cache: &mut PoolCache) {
        let id = self.subflows[index].id;
        if self.failure.is_some_and(|failure| failure.subflow == id) {
            return self.fall_back(now, index, FallbackReason::BadChecksum, cache);
        }
        if self.can_fall_back(index) {
            return self.fall_back(now, index, FallbackReason::PeerSawBadChecksum, cache);
        }
        // RFC 8684 §3.7: data that is not contiguous: RST with MP_FAIL. What it held goes elsewhere.
        let fail = Some(self.receive.next());
        self.subflows[index].reset(now, ResetWords { reason: ResetReason::MiddleboxInterference, fail });
    }

    /// RFC 8684 §3.7: the peer's data is mapped without an end, from a byte on that we may have (pitfall 37: what was
    /// received already is skipped).
    pub(super) fn handle_infinite_mapping(
        &mut self,
        now: Instant,
        index: usize,
        mapping: &DssMapping,
        cache: &mut PoolCache,
    ) {
        let received = DataSeq::new(self.subflows[index].tcb.received_bytes());
        let offset = received.expand(mapping.subflow_seq.wrapping_sub(1));
        let base = mapping.data_seq.resolve(self.receive.next()) - offset.raw();
        let next = base + self.subflows[index].inbound.delivered();
        if next.after(self.receive.next()) {
            // Data between what we have and what it speaks of would be lost.
            self.misbehaviour.mapping_conflicts += 1;
            self.subflows[index].reset(now, ResetReason::MptcpError.into());
            return;
        }
        let reason = match self.failure {
            Some(_) => FallbackReason::BadChecksum,
            None => FallbackReason::PeerFellBack,
        };
        if !self.can_follow(index) {
            self.subflows[index].reset(now, ResetReason::MiddleboxInterference.into());
            return;
        }
        self.receive_base = base;
        self.become_plain(now, index, reason, cache);
    }

    /// Mappings carry checksums if, and only if, that was agreed (RFC 8684 §3.3). Otherwise the subflow is reset.
    pub(super) fn is_as_agreed(&mut self, now: Instant, index: usize, checksum: Option<u16>) -> bool {
        let agreed = checksum.is_some() == self.negotiation.checksum();
        if !agreed {
            self.misbehaviour.unagreed_checksums += 1;
            self.subflows[index].reset(now, ResetReason::MptcpError.into());
        }
        agreed
    }

    /// Bytes of a subflow have had no mapping for too long, or they are too many: options do not pass any more. RFC 8684
    /// §3.7 has the subflow reset. Where it is the only one, and all that came so far was contiguous, that would be the
    /// end of a connection that TCP can save: then we fall back, and say so as at its beginning.
    pub(super) fn handle_lost_options(&mut self, now: Instant, index: usize, cache: &mut PoolCache) {
        if self.may_be_only(index) && self.is_contiguous(index) && self.failure.is_none() {
            return self.fall_back(now, index, FallbackReason::OptionsLost, cache);
        }
        self.reset_for_lost_options(now, index);
    }

    pub(super) fn reset_for_lost_options(&mut self, now: Instant, index: usize) {
        self.misbehaviour.unmapped += 1;
        let tuple = self.subflows[index].tuple;
        self.options_lost = Some((tuple.local.addr, tuple.remote.addr));
        self.subflows[index].reset(now, ResetReason::MiddleboxInterference.into());
    }

    /// All of our data is acknowledged on the only subflow and none of it as data, and the peer's segments have lost their
    /// options: the same, seen by the sender. True if we have fallen back.
    pub(super) fn fall_back_without_data_acks(&mut self, now: Instant, cache: &mut PoolCache) -> bool {
        let Some(index) = self.subflows.iter().position(Subflow::is_initial) else { return false };
        let subflow = &self.subflows[index];
        let lost = subflow.bare || self.data_backoff >= DATA_REPEATS;
        if !lost || subflow.tcb.in_flight() > 0 || !self.is_only(index) || !self.is_contiguous(index) {
            return false;
        }
        self.fall_back(now, index, FallbackReason::OptionsLost, cache);
        true
    }

    /// A checksum has failed, and the peer has not answered yet.
    pub(super) fn handle_failure_timer(&mut self, now: Instant) {
        let Some(failure) = &mut self.failure else { return };
        let Some(subflow) = self.subflows.iter_mut().find(|subflow| subflow.id == failure.subflow) else {
            self.failure = None;
            return;
        };
        if failure.repeat_at > now {
            return;
        }
        if failure.repeat(now, subflow.tcb.rto()) {
            subflow.tcb.request_ack();
        } else {
            subflow.reset(now, ResetReason::MiddleboxInterference.into());
            self.failure = None;
        }
    }
}

/// How often a MP_FAIL that comes again is answered again.
const FAIL_ANSWERS: u8 = 8;
/// So often data, or the DATA_FIN, was repeated in vain, and ours have.
const DATA_REPEATS: u32 = 7;
