//! Handshakes: MP_CAPABLE (RFC 8684 §3.1) and MP_JOIN (§3.2).

use super::{Connection, ConnectionEvent, Mode, SUBFLOWS_MAX, Setup};
use crate::base::{Instant, SeqNum};
use crate::mptcp::crypto::KeyMaterial;
use crate::mptcp::data_recv::ReceiveQueue;
use crate::mptcp::mapping::Mapping;
use crate::mptcp::signalling::CAPABLE_SYNS;
use crate::mptcp::subflow::{Phase, Role, Subflow};
use crate::mptcp::{FallbackReason, Path, SubflowId};
use crate::tcp::{State, Tcb, WindowOwner};
use crate::wire::mptcp::{AddressId, MpCapable, MpJoin, ResetReason};
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
        // RFC 8684 §3.1, pitfall 50: no join before a DSS has been received; pitfall 38: nor to a connection that is about
        // to fall back.
        let allowed = self.joins_allowed && self.is_multipath() && self.failure.is_none() && !self.closed;
        // RFC 8684 §3.1, flag C.
        let refused = self.negotiation.no_join_remote() && request.tuple.remote == self.first_tuple.remote;
        if !allowed || refused || self.subflows.len() >= SUBFLOWS_MAX {
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
        if !self.is_multipath() || token != self.local.token || self.closed || self.failure.is_some() {
            return Err(ResetReason::MptcpError);
        }
        if self.negotiation.no_join_here() && setup.tuple.local == self.first_tuple.local {
            return Err(ResetReason::Prohibited);
        }
        if self.subflows.len() >= SUBFLOWS_MAX {
            return Err(ResetReason::LackOfResources);
        }
        let config = self.subflow_config(&setup.path, setup.tuple, WindowOwner::Connection);
        let tcb = Tcb::accept(now, config, setup.iss, &syn.tcp, &syn.options);
        let id = self.push_subflow(tcb, setup.tuple, setup.path, Role::JoinPassive { nonce, remote_nonce });
        // Our id of the address that was joined: 0 for that of the first subflow.
        let local_id = match setup.tuple.local.addr == self.first_tuple.local.addr {
            true => AddressId(0),
            false => self.addresses.id_of(setup.tuple.local.addr),
        };
        if let Some(subflow) = self.subflows.last_mut() {
            (subflow.local_id, subflow.remote_id, subflow.remote_backup) = (local_id, address_id, backup);
        }
        Ok(id)
    }

    /// Decides how to answer a SYN.
    pub(super) fn answer(&mut self, syn: &Packet) {
        self.mode = match capable(&syn.options) {
            _ if !self.options.mptcp => Mode::Plain(FallbackReason::NotWanted),
            None => Mode::Plain(FallbackReason::SynWithoutCapable),
            Some(option) if self.negotiation.take_syn(option) => Mode::Answering,
            Some(_) => Mode::Plain(FallbackReason::Unsupported),
        };
    }

    /// RFC 8684 §3.1, pitfall 8: a SYN that comes again without MP_CAPABLE is answered without it, and what follows is
    /// plain TCP.
    pub(super) fn note_syn(&mut self, index: usize, packet: &Packet) {
        let is_syn = packet.tcp.flags.contains(TcpFlags::SYN) && !packet.tcp.flags.contains(TcpFlags::ACK);
        let again = is_syn && packet.tcp.seq == self.subflows[index].tcb.irs();
        if again && self.mode == Mode::Answering && capable(&packet.options).is_none() {
            self.mode = Mode::Plain(FallbackReason::SynWithoutCapable);
        }
    }

    /// A SYN of ours has left. After some with MP_CAPABLE in vain it had none, and what follows is plain TCP, whatever
    /// answers the earlier ones still bring (pitfall 8).
    pub(super) fn on_syn_sent(&mut self, index: usize) {
        if self.mode == Mode::Offering && self.subflows[index].syns() > CAPABLE_SYNS {
            self.mode = Mode::Plain(FallbackReason::SynWithoutAnswer);
        }
    }

    /// Checks what has to be right before TCP takes a packet as the end of a handshake.
    pub(super) fn admit(&mut self, index: usize, packet: &Packet) -> Admission {
        let subflow = &self.subflows[index];
        let (tcb, tcp) = (&subflow.tcb, &packet.tcp);
        // RFC 8684 §3: what is not valid as TCP means nothing to MPTCP, and TCP says so itself.
        let ends_handshake = tcb.state() == State::SynReceived
            && !tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST)
            && tcp.flags.contains(TcpFlags::ACK)
            && tcp.ack == tcb.snd_nxt();
        if !ends_handshake {
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
            // Something overtook the third ACK and the first data, which bring the key: wait for those.
            Role::Initial
                if self.mode == Mode::Answering
                    && capable(&packet.options).is_none()
                    && !packet.options.mptcp.is_empty() =>
            {
                Admission::Drop
            }
            Role::Initial | Role::JoinActive { .. } => Admission::Admit,
        }
    }

    /// TCP's handshake of a subflow is over; `packet` ended it.
    pub(super) fn handle_established(&mut self, now: Instant, index: usize, packet: &Packet) {
        match self.subflows[index].role {
            // It began with data: its application has it already.
            Role::Initial if self.subflows[index].established => {
                self.events.push_back(ConnectionEvent::Confirmed);
            }
            Role::Initial => {
                match self.mode {
                    Mode::Offering => self.agree_as_initiator(index, packet),
                    Mode::Answering => self.agree_as_responder(now, index, packet),
                    Mode::Plain(_) => {}
                    Mode::Multipath { .. } => unreachable!("the first handshake ends once"),
                }
                let subflow = &mut self.subflows[index];
                subflow.phase = Phase::Ready;
                subflow.established = true;
                // RFC 8684 §3.1: the third ACK's MP_CAPABLE may be on data. That of a join may not: it is acknowledged first.
                subflow.tcb.let_payload_acknowledge();
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
        match capable(&packet.options).filter(|_| packet.tcp.flags.contains(TcpFlags::ACK)) {
            // None, or our own option sent back by a middlebox that does not know it. Also a simultaneous open, whose SYN
            // carries no key.
            None | Some(MpCapable::Syn { .. }) => {
                self.mode = Mode::Plain(FallbackReason::SynAckWithoutCapable)
            }
            Some(option) => match self.negotiation.take_syn_ack(option) {
                Some(key) => self.agree(index, KeyMaterial::new(key)),
                None => self.mode = Mode::Plain(FallbackReason::Unsupported),
            },
        }
    }

    fn agree_as_responder(&mut self, now: Instant, index: usize, packet: &Packet) {
        let third = capable(&packet.options).and_then(|option| self.negotiation.take_third(option));
        let Some(third) = third.filter(|third| third.receiver_key == self.local.key) else {
            self.mode = Mode::Plain(FallbackReason::AckWithoutCapable);
            return;
        };
        self.agree(index, KeyMaterial::new(third.sender_key));
        if let Some((len, checksum)) = third.mapping {
            self.map_first_data(now, index, len, checksum);
        }
    }

    /// RFC 8684 §3.1: MP_CAPABLE on data maps it from the first byte on both levels.
    pub(super) fn map_first_data(&mut self, now: Instant, index: usize, len: u16, checksum: Option<u16>) {
        if self.is_as_agreed(now, index, checksum) {
            // The data sequence number of this mapping is implied, with all of its bits. As with a DSS, the rule is about data
            // that has come.
            if self.subflows[index].tcb.received_bytes() > 0 {
                self.short_data_acks = false;
            }
            let (data_seq, len) = (self.receive_base, u32::from(len));
            self.declare(index, Mapping { offset: 0, data_seq, len, checksum, data_fin: false });
        }
    }

    fn agree(&mut self, index: usize, remote: KeyMaterial) {
        self.remote = Some(remote);
        self.receive_base = remote.first_byte();
        self.receive = ReceiveQueue::new(remote.first_byte());
        // What the SYN promised holds at the connection's level, too.
        self.receive.window(self.receive_free().min(0xffff));
        self.mode = Mode::Multipath { confirmed: false };
        self.note_addresses(index);
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
            subflow.reset(now, ResetReason::MptcpError.into());
        }
    }

    /// A join is through: it can carry data.
    pub(super) fn join_is_ready(&mut self, index: usize) {
        self.ever_joined = true;
        let was_orphan = self.orphan_at.is_some();
        (self.orphan_at, self.orphan_latest_at) = (None, None);
        self.note_addresses(index);
        let subflow = &mut self.subflows[index];
        self.came_back |= was_orphan && matches!(subflow.role, Role::JoinPassive { .. });
        subflow.phase = Phase::Ready;
        subflow.established = true;
        self.events.push_back(ConnectionEvent::SubflowEstablished(subflow.id));
    }

    /// RFC 8684 §3.2: both hosts know now which ids the ends of a subflow have.
    fn note_addresses(&mut self, index: usize) {
        let Subflow { local_id, remote_id, tuple, .. } = self.subflows[index];
        self.addresses.note_joined(local_id);
        self.addresses.note_seen(remote_id, tuple.remote.addr);
    }

    /// A DSS has come: options pass in both directions.
    pub(super) fn confirm(&mut self, index: usize) {
        self.subflows[index].dss_seen = true;
        self.mode = Mode::Multipath { confirmed: true };
        if !self.joins_allowed {
            self.joins_allowed = true;
            self.events.push_back(ConnectionEvent::JoinsAllowed);
        }
    }
}
