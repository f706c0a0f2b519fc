//! Handshakes: MP_CAPABLE (RFC 8684 §3.1), MP_JOIN (§3.2), and falling back to TCP (§3.7).

use super::{Connection, ConnectionEvent, Mode, SUBFLOWS_MAX, Setup};
use crate::base::{DataSeq, Instant, PoolCache, SeqNum};
use crate::mptcp::crypto::KeyMaterial;
use crate::mptcp::data_recv::ReceiveQueue;
use crate::mptcp::mapping::Mapping;
use crate::mptcp::subflow::{Phase, Role};
use crate::mptcp::{FallbackReason, Path, SubflowId};
use crate::tcp::{State, Tcb, WindowOwner};
use crate::wire::mptcp::{AddressId, CapableFlags, MpCapable, MpJoin, ResetReason, VERSION};
use crate::wire::{FourTuple, MptcpOption, Packet, TcpFlags, TcpOptions};

/// A subflow to open.
#[derive(Debug, Clone, Copy)]
pub struct JoinRequest {
    /// Its ends.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// Our id of the local address.
    pub local_id: AddressId,
    /// The peer's id of the remote address.
    pub remote_id: AddressId,
    /// We want it used only as a backup.
    pub backup: bool,
    /// A random number.
    pub nonce: u32,
    /// Initial sequence number.
    pub iss: SeqNum,
}

/// How to answer a SYN: the mode, and the peer's flag C.
pub(super) fn answer(wanted: bool, syn: &Packet) -> (Mode, bool) {
    if !wanted {
        return (Mode::Plain(FallbackReason::NotWanted), false);
    }
    match capable(&syn.options) {
        None => (Mode::Plain(FallbackReason::SynWithoutCapable), false),
        // RFC 8684 §3.1: the responder answers with the highest version that it knows; a higher one in the SYN is no
        // reason to fall back. A lower one is (version 0 has another handshake).
        Some(MpCapable::Syn { version, flags }) if *version >= VERSION && acceptable(*flags) => {
            (Mode::Answering, flags.has(CapableFlags::NO_JOIN_HERE))
        }
        Some(_) => (Mode::Plain(FallbackReason::Unsupported), false),
    }
}

/// RFC 8684 §3.1: B must be 0; H is the only algorithm there is; A asks for checksums, which we do not do yet, so we
/// ignore the option, as a host that does not want them must.
fn acceptable(flags: CapableFlags) -> bool {
    !flags.has(CapableFlags::EXTENSIBILITY)
        && flags.has(CapableFlags::HMAC_SHA256)
        && !flags.has(CapableFlags::CHECKSUM)
}

fn capable(options: &TcpOptions) -> Option<&MpCapable> {
    options
        .mptcp
        .iter()
        .find_map(|option| if let MptcpOption::Capable(it) = option { Some(it) } else { None })
}

fn join(options: &TcpOptions) -> Option<&MpJoin> {
    options.mptcp.iter().find_map(|option| if let MptcpOption::Join(it) = option { Some(it) } else { None })
}

/// What to do with a packet before TCP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// TCP takes it.
    Admit,
    /// It is dropped: the peer will send it again.
    Drop,
    /// The subflow is reset.
    Reset,
}

impl Connection {
    /// Opens a further subflow. `None` when that is not allowed: plain TCP, not confirmed yet, or too many.
    pub fn open_subflow(&mut self, now: Instant, request: &JoinRequest) -> Option<SubflowId> {
        // RFC 8684 §3.2, pitfall 50: no join before a DSS has been received.
        if !self.joins_allowed || !self.is_multipath() || self.subflows.len() >= SUBFLOWS_MAX || self.closed {
            return None;
        }
        let JoinRequest { tuple, path, local_id, remote_id, backup, nonce, iss } = *request;
        let config = self.subflow_config(&path, tuple, WindowOwner::Connection);
        let tcb = Tcb::connect(now, config, iss);
        let id = self.push_subflow(tcb, tuple, path, Role::JoinActive { nonce, remote_nonce: None });
        let subflow = self.subflows.last_mut()?;
        (subflow.local_id, subflow.remote_id, subflow.local_backup) = (local_id, remote_id, backup);
        Some(id)
    }

    /// Answers a SYN with MP_JOIN whose token is ours.
    ///
    /// # Errors
    /// What the reset in answer says.
    pub fn accept_join(
        &mut self,
        now: Instant,
        setup: &Setup,
        nonce: u32,
        syn: &Packet,
    ) -> Result<SubflowId, ResetReason> {
        let Some(MpJoin::Syn { backup, address_id, token, nonce: remote_nonce }) =
            join(&syn.options).copied()
        else {
            return Err(ResetReason::MptcpError);
        };
        if !self.is_multipath() || token != self.local.token || self.closed {
            return Err(ResetReason::MptcpError);
        }
        if self.subflows.len() >= SUBFLOWS_MAX {
            return Err(ResetReason::LackOfResources);
        }
        let config = self.subflow_config(&setup.path, setup.tuple, WindowOwner::Connection);
        let tcb = Tcb::accept(now, config, setup.iss, &syn.tcp, &syn.options);
        let id = self.push_subflow(tcb, setup.tuple, setup.path, Role::JoinPassive { nonce, remote_nonce });
        if let Some(subflow) = self.subflows.last_mut() {
            subflow.remote_id = address_id;
            subflow.remote_backup = backup;
            // Our id of the address that was joined: 0 for that of the first subflow.
            if setup.tuple.local.addr != self.first_tuple.local.addr {
                subflow.local_id = self.addresses.id_of(setup.tuple.local.addr).unwrap_or(AddressId(0));
            }
        }
        Ok(id)
    }

    /// Checks what has to be right before TCP takes a packet as the end of a handshake.
    pub(super) fn admit(&mut self, index: usize, packet: &Packet) -> Admission {
        let subflow = &self.subflows[index];
        let flags = packet.tcp.flags;
        if subflow.tcb.state() != State::SynReceived || flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
            return Admission::Admit;
        }
        match subflow.role {
            Role::JoinPassive { nonce, remote_nonce } => {
                let Some(keys) = self.keys() else { return Admission::Reset };
                let expected = keys.join_hmac_expected(nonce, remote_nonce).ack();
                match join(&packet.options) {
                    Some(MpJoin::Ack { hmac }) if *hmac == expected => Admission::Admit,
                    // RFC 8684 §3.2: a wrong HMAC, or no MP_JOIN on the ACK, ends the subflow.
                    _ => {
                        self.misbehaviour.bad_joins += 1;
                        Admission::Reset
                    }
                }
            }
            // Data overtook the third ACK and the first data, which bring the key: wait for those.
            Role::Initial
                if self.mode == Mode::Answering
                    && capable(&packet.options).is_none()
                    && packet.options.dss().is_some() =>
            {
                Admission::Drop
            }
            Role::Initial | Role::JoinActive { .. } => Admission::Admit,
        }
    }

    /// TCP's handshake of a subflow is over; `packet` ended it.
    pub(super) fn handle_established(&mut self, now: Instant, index: usize, packet: &Packet) {
        match self.subflows[index].role {
            Role::Initial => {
                match self.mode {
                    Mode::Offering => self.agree_as_initiator(index, packet),
                    Mode::Answering => self.agree_as_responder(index, packet),
                    Mode::Plain(_) => {}
                    Mode::Multipath { .. } => unreachable!("the first handshake ends once"),
                }
                let subflow = &mut self.subflows[index];
                subflow.phase = Phase::Ready;
                subflow.established = true;
                let window = u64::from(subflow.tcb.scaled_window(&packet.tcp));
                self.send_edge = self.send.una() + window;
                self.events.push_back(ConnectionEvent::Established);
            }
            Role::JoinActive { nonce, .. } => self.confirm_join(now, index, nonce, packet),
            Role::JoinPassive { .. } => {
                let subflow = &mut self.subflows[index];
                // RFC 8684 §3.2: the third ACK of a join is acknowledged, so that the peer may send data.
                subflow.tcb.request_ack();
                self.join_is_ready(index);
            }
        }
    }

    fn agree_as_initiator(&mut self, index: usize, packet: &Packet) {
        match capable(&packet.options) {
            Some(MpCapable::SynAck { version, flags, sender_key })
                if packet.tcp.flags.contains(TcpFlags::ACK) =>
            {
                if *version == VERSION && acceptable(*flags) {
                    self.no_join_remote = flags.has(CapableFlags::NO_JOIN_HERE);
                    self.agree(index, KeyMaterial::new(*sender_key));
                } else {
                    self.mode = Mode::Plain(FallbackReason::Unsupported);
                }
            }
            // Also a simultaneous open, whose SYN carries no key.
            _ => self.mode = Mode::Plain(FallbackReason::SynAckWithoutCapable),
        }
    }

    fn agree_as_responder(&mut self, index: usize, packet: &Packet) {
        let (flags, sender, receiver, data_len) = match capable(&packet.options) {
            Some(MpCapable::Ack { flags, sender_key, receiver_key, .. }) => {
                (*flags, *sender_key, *receiver_key, None)
            }
            Some(MpCapable::Data { flags, sender_key, receiver_key, data_len, .. }) => {
                (*flags, *sender_key, *receiver_key, Some(*data_len))
            }
            _ => {
                self.mode = Mode::Plain(FallbackReason::AckWithoutCapable);
                return;
            }
        };
        if receiver != self.local.key || !acceptable(flags) {
            self.mode = Mode::Plain(FallbackReason::AckWithoutCapable);
            return;
        }
        self.agree(index, KeyMaterial::new(sender));
        if let Some(len) = data_len {
            self.map_first_data(index, len);
        }
    }

    /// RFC 8684 §3.1: MP_CAPABLE on data maps it from the first byte on both levels.
    pub(super) fn map_first_data(&mut self, index: usize, len: u16) {
        let mapping = Mapping { offset: 0, data_seq: self.receive_base, len: u32::from(len) };
        self.declare(index, mapping);
    }

    fn agree(&mut self, index: usize, remote: KeyMaterial) {
        self.remote = Some(remote);
        self.receive_base = remote.first_byte();
        self.receive = ReceiveQueue::new(remote.first_byte());
        // What the SYN promised holds at the connection's level, too.
        self.receive.window(self.receive_free().min(0xffff));
        self.mode = Mode::Multipath { confirmed: false };
        self.subflows[index].tcb.set_window_owner(WindowOwner::Connection);
    }

    fn confirm_join(&mut self, now: Instant, index: usize, nonce: u32, packet: &Packet) {
        let keys = self.keys();
        let subflow = &mut self.subflows[index];
        let verified = match (join(&packet.options), keys) {
            (Some(MpJoin::SynAck { backup, address_id, hmac, nonce: remote_nonce }), Some(keys))
                if *hmac == keys.join_hmac_expected(nonce, *remote_nonce).syn_ack() =>
            {
                subflow.role = Role::JoinActive { nonce, remote_nonce: Some(*remote_nonce) };
                subflow.remote_backup = *backup;
                // The id that the responder gives its address. What we joined to was known by its announcement.
                subflow.remote_id = if *address_id == AddressId(0) { subflow.remote_id } else { *address_id };
                true
            }
            _ => false,
        };
        if verified {
            subflow.phase = Phase::Confirming { repeat_at: now + subflow.tcb.rto(), repeats: 0 };
        } else {
            // RFC 8684 §3.2: no MP_JOIN on the SYN/ACK, or a wrong HMAC: RST.
            self.misbehaviour.bad_joins += 1;
            subflow.reset_reason = ResetReason::MptcpError;
            subflow.tcb.abort(now);
        }
    }

    /// A join is through: it can carry data.
    pub(super) fn join_is_ready(&mut self, index: usize) {
        self.ever_joined = true;
        self.orphan_at = None;
        let subflow = &mut self.subflows[index];
        subflow.phase = Phase::Ready;
        subflow.established = true;
        self.events.push_back(ConnectionEvent::SubflowEstablished(subflow.id));
    }

    /// A DSS has come: options pass in both directions.
    pub(super) fn confirm(&mut self) {
        self.mode = Mode::Multipath { confirmed: true };
        if !self.joins_allowed {
            self.joins_allowed = true;
            self.events.push_back(ConnectionEvent::JoinsAllowed);
        }
    }

    /// Falls back to TCP on the first subflow, where that is possible; otherwise that subflow is reset.
    pub(super) fn fall_back(
        &mut self,
        now: Instant,
        index: usize,
        reason: FallbackReason,
        cache: &mut PoolCache,
    ) {
        // RFC 8684 §3.7, pitfall 17: only if all data is contiguous on the one subflow that there ever was.
        let contiguous =
            self.subflows[index].is_initial() && !self.ever_joined && self.send.reinjected_bytes() == 0;
        if !contiguous {
            let subflow = &mut self.subflows[index];
            subflow.reset_reason = ResetReason::MiddleboxInterference;
            subflow.tcb.abort(now);
            return;
        }
        // Joins that are under way are of a connection that is no more.
        let others: Vec<SubflowId> = self
            .subflows
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, s)| s.id)
            .collect();
        let id = self.subflows[index].id;
        for other in others {
            self.end_subflow(now, other, crate::tcp::CloseReason::Protocol, cache);
        }
        self.mode = Mode::Plain(reason);
        self.events.push_back(ConnectionEvent::FellBack(reason));
        let Some(index) = self.index(id) else { return };
        let subflow = &mut self.subflows[index];
        subflow.tcb.set_window_owner(WindowOwner::Subflow);
        subflow.signals.clear();
        if self.send_side == super::SendSide::FinSent {
            // The end is said by FIN from now on.
            self.send_side = super::SendSide::Closing;
        }
        self.data_timer = None;
        self.settle_plain_acknowledgment(index, cache);
        self.deliver(now, id, cache);
    }

    /// On plain TCP what the subflow's ACK covers is acknowledged as data.
    pub(super) fn settle_plain_acknowledgment(&mut self, index: usize, cache: &mut PoolCache) {
        let base: DataSeq = self.local.first_byte();
        let acked = base + self.subflows[index].tcb.acked_bytes();
        if self.send.acknowledge(acked, cache) {
            self.batching.on_acknowledged();
        }
    }
}
