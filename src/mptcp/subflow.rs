//! One subflow of a connection: a TCP endpoint with what MPTCP knows about it, and the writing of its segments with
//! their MPTCP options.

use crate::base::pool::TX_HEADROOM;
use crate::base::{Chunk, DataSeq, Frame, FramePool, Instant, PoolCache, TxFrame};
use crate::mptcp::crypto::{KeyMaterial, Keys};
use crate::mptcp::mapping::MappingTable;
use crate::mptcp::{Path, SubflowId};
use crate::tcp::{Outgoing, OutgoingKind, State, Tcb};
use crate::wire::mptcp::{
    AddressId, CapableFlags, Dss, DssMapping, MpCapable, MpFastClose, MpJoin, MpTcpRst, ResetReason,
    ShortOrLong, VERSION,
};
use crate::wire::tcp::OPTIONS_MAX;
use crate::wire::{ChecksumMode, FourTuple, MptcpOption, SegmentRepr, TcpOptions, emit};
use std::collections::VecDeque;

/// Option bytes that MPTCP adds to a data segment at most: a DSS with 64-bit DATA_ACK and 64-bit mapping.
pub const DATA_OPTIONS: usize = 28;
/// Option bytes of a DSS with nothing but a 64-bit DATA_ACK.
const ACK_OPTIONS: usize = 12;
/// Option bytes of the signals, each alone in its segment: the longest is ADD_ADDR over IPv6 with a port.
const SIGNAL_OPTIONS: usize = 28;
/// SYNs that offer MP_CAPABLE before one without it is tried (RFC 8684 §3.1: local policy; pitfall 48).
const CAPABLE_SYNS: u32 = 3;

/// How a subflow came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The first one, by MP_CAPABLE (or a plain TCP connection).
    Initial,
    /// We joined it.
    JoinActive {
        /// Our nonce.
        nonce: u32,
        /// The peer's, from its SYN/ACK.
        remote_nonce: Option<u32>,
    },
    /// The peer joined it.
    JoinPassive {
        /// Our nonce.
        nonce: u32,
        /// The peer's.
        remote_nonce: u32,
    },
}

/// Where a subflow stands as MPTCP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The three-way handshake runs.
    Handshake,
    /// RFC 8684 §3.2: our third ACK with the HMAC has to be acknowledged before data may be sent. Repeated at this
    /// time, counted.
    Confirming {
        /// When the ACK is sent again.
        repeat_at: Instant,
        /// How often it was.
        repeats: u32,
    },
    /// It can carry data.
    Ready,
}

/// How the connection signals on its segments.
#[derive(Debug, Clone, Copy)]
pub enum Signalling {
    /// Plain TCP: no MPTCP option at all.
    Plain,
    /// We offer MP_CAPABLE on our SYN.
    Offering,
    /// We answered a SYN with our key, and wait for the peer's.
    Answering(KeyMaterial),
    /// Both keys are known.
    Multipath {
        /// The keys.
        keys: Keys,
        /// The peer has shown by a DSS that options pass; until then the initiator repeats the keys.
        confirmed: bool,
        /// We opened the connection.
        initiator: bool,
        /// The next data byte that we expect.
        data_ack: DataSeq,
        /// The number of our DATA_FIN, while it is not acknowledged.
        data_fin: Option<DataSeq>,
        /// A fast close: resets say so.
        fast_close: bool,
    },
}

/// What writing a segment needs beside the subflow itself.
#[derive(Debug, Default)]
pub struct Emitter {
    /// A frame for headers, so that a segment that TCP counts as sent does not fail for want of one.
    spare: Option<Frame>,
    /// Per port.
    checksums: Vec<ChecksumMode>,
}

impl Emitter {
    /// An emitter for ports with these checksum modes.
    pub fn new(checksums: Vec<ChecksumMode>) -> Self {
        Self { spare: None, checksums }
    }

    /// Gets hold of a frame; false when the pool is exhausted, and then nothing can be sent.
    pub fn prepare(&mut self, cache: &mut PoolCache) -> bool {
        if self.spare.is_none() {
            self.spare = cache.alloc();
        }
        self.spare.is_some()
    }

    /// Gives the spare frame back, at the end.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.spare.take().into_iter().for_each(|frame| cache.free(frame));
    }

    /// Writes headers in front of `chunk`, or of nothing.
    fn write(
        &mut self,
        segment: &SegmentRepr<'_>,
        path: &Path,
        chunk: Option<&mut Chunk>,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        let checksum = self.checksums.get(path.port.index()).copied().unwrap_or_default();
        let pool: &FramePool = cache.pool();
        if let Some(chunk) = chunk {
            let payload = chunk.offset as usize..chunk.offset as usize + chunk.len as usize;
            // In place only where nothing but headroom lies in front of the payload, and no NIC is reading the frame.
            if payload.start == TX_HEADROOM && !pool.in_flight(&chunk.frame) {
                let end = payload.end;
                let start = emit(segment, pool.bytes_mut(&mut chunk.frame), payload, checksum);
                return Some(pool.start_transmit(&chunk.frame, start, end - start));
            }
            let mut copy = self.spare.take()?;
            let end = TX_HEADROOM + payload.len();
            let bytes = pool.bytes_mut(&mut copy);
            bytes[TX_HEADROOM..end].copy_from_slice(&pool.bytes(&chunk.frame)[payload]);
            let start = emit(segment, bytes, TX_HEADROOM..end, checksum);
            let packet = pool.start_transmit(&copy, start, end - start);
            cache.free(copy);
            return Some(packet);
        }
        let mut frame = self.spare.take()?;
        let start = emit(segment, pool.bytes_mut(&mut frame), TX_HEADROOM..TX_HEADROOM, checksum);
        let packet = pool.start_transmit(&frame, start, TX_HEADROOM - start);
        cache.free(frame);
        Some(packet)
    }

    /// A segment that belongs to no subflow: a reset in answer to one.
    pub fn write_stray(
        &mut self,
        segment: &SegmentRepr<'_>,
        path: &Path,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        if !self.prepare(cache) {
            return None;
        }
        self.write(segment, path, None, cache)
    }
}

/// The wait for an answer on a path that the peer says is gone.
#[derive(Debug, Clone, Copy)]
struct Removal {
    asked_at: Instant,
    ends_at: Instant,
}

/// A subflow.
#[derive(Debug)]
pub struct Subflow {
    /// Its name.
    pub id: SubflowId,
    /// The TCP endpoint.
    pub tcb: Tcb,
    /// Its ends.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// How it came about.
    pub role: Role,
    /// Where it stands.
    pub phase: Phase,
    /// Our id of its local address.
    pub local_id: AddressId,
    /// The peer's id of its remote address.
    pub remote_id: AddressId,
    /// We want it used only as a backup.
    pub local_backup: bool,
    /// The peer does.
    pub remote_backup: bool,
    /// Where received bytes belong.
    pub mappings: MappingTable,
    /// Received bytes whose mapping is not known yet, with their offsets.
    pub unmapped: VecDeque<(u64, Chunk)>,
    /// Offset behind the last byte that was passed on to the connection.
    pub delivered: u64,
    /// Signals to send, each on an ACK of its own.
    pub signals: VecDeque<MptcpOption>,
    /// What a reset of ours says.
    pub reset_reason: ResetReason,
    /// The peer has withdrawn its address.
    removal: Option<Removal>,
    /// It was reported as established.
    pub established: bool,
    /// SYNs sent so far.
    syns: u32,
}

impl Subflow {
    /// A subflow whose handshake begins.
    pub fn new(id: SubflowId, tcb: Tcb, tuple: FourTuple, path: Path, role: Role) -> Self {
        Self {
            id,
            tcb,
            tuple,
            path,
            role,
            phase: Phase::Handshake,
            local_id: AddressId(0),
            remote_id: AddressId(0),
            local_backup: false,
            remote_backup: false,
            mappings: MappingTable::default(),
            unmapped: VecDeque::new(),
            delivered: 0,
            signals: VecDeque::new(),
            reset_reason: ResetReason::Unspecified,
            removal: None,
            established: false,
            syns: 0,
        }
    }

    /// Whether it was opened by MP_CAPABLE.
    pub fn is_initial(&self) -> bool {
        self.role == Role::Initial
    }

    /// Used only as a backup, because either side wants it.
    pub fn is_backup(&self) -> bool {
        self.local_backup || self.remote_backup
    }

    /// It can carry data, and has lately shown life.
    pub fn is_usable(&self) -> bool {
        self.phase == Phase::Ready
            && self.tcb.is_established()
            && self.tcb.consecutive_timeouts() == 0
            && self.removal.is_none()
    }

    /// RFC 8684 §3.4.2: the peer has withdrawn its address; the path is asked whether it still lives.
    pub fn begin_removal(&mut self, now: Instant) {
        let ends_at = now + self.tcb.rto();
        self.removal.get_or_insert(Removal { asked_at: now, ends_at });
        self.tcb.probe(now);
    }

    /// Something has arrived. It is an answer if it can be one: what was on its way before the path went proves nothing.
    pub fn handle_sign_of_life(&mut self, now: Instant) {
        let shortest = self.tcb.min_rtt().unwrap_or_default();
        self.removal.take_if(|removal| now.since(removal.asked_at) >= shortest);
    }

    /// When the wait for an answer ends.
    pub fn removal_at(&self) -> Option<Instant> {
        self.removal.map(|removal| removal.ends_at)
    }

    /// Whether the wait has ended without an answer.
    pub fn end_removal(&mut self, now: Instant) -> bool {
        self.removal.take_if(|removal| removal.ends_at <= now).is_some()
    }

    /// It can send ACKs, and with them signals.
    pub fn can_signal(&self) -> bool {
        self.phase == Phase::Ready && self.tcb.state() != State::Closed
    }

    /// Payload bytes of a full data segment.
    pub fn payload_max(&self, multipath: bool) -> usize {
        self.tcb.payload_max(if multipath { DATA_OPTIONS } else { 0 })
    }

    /// Sends `signal` on an ACK soon.
    pub fn signal(&mut self, signal: MptcpOption) {
        self.signals.push_back(signal);
        self.tcb.request_ack();
    }

    /// Frees every frame that the subflow holds.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.tcb.drop_all(cache);
        self.unmapped.drain(..).for_each(|(_, chunk)| cache.free_chunk(chunk));
    }

    /// Writes the next segment that TCP has to send. `None` when there is none, or no frame.
    pub fn emit(
        &mut self,
        now: Instant,
        signalling: &Signalling,
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        if !emitter.prepare(cache) {
            return None;
        }
        let (reserved_ack, reserved_data) = self.reserve(signalling);
        let Self {
            tcb, role, phase, signals, syns, tuple, path, local_id, local_backup, reset_reason, ..
        } = self;
        let Outgoing { tcp, mut options, payload, kind, retransmission: _, ecn } =
            tcb.poll_transmit(now, reserved_ack, reserved_data)?;
        let data = payload.as_ref().map(|payload| Data {
            data_seq: payload.data_seq,
            offset: payload.offset,
            len: payload.chunk.len,
        });
        if kind == OutgoingKind::Syn {
            *syns += 1;
        }
        let join = JoinSide { role, local_id: *local_id, backup: *local_backup };
        let option = match kind {
            OutgoingKind::Syn | OutgoingKind::SynAck => on_handshake(signalling, &join, kind, *syns),
            OutgoingKind::Reset => on_reset(signalling, *reset_reason),
            OutgoingKind::Data | OutgoingKind::Ack | OutgoingKind::Fin | OutgoingKind::Probe => {
                if data.is_none() && *phase == Phase::Ready && !matches!(signalling, Signalling::Plain) {
                    signals.pop_front().into_iter().for_each(|signal| push_signal(&mut options, signal));
                }
                on_segment(signalling, &join, *phase, data)
            }
        };
        if let Some(option) = option {
            let fits = options.mptcp.is_empty() || {
                let mut both = options.clone();
                both.mptcp.push(option.clone());
                both.wire_len() <= OPTIONS_MAX
            };
            if fits {
                options.mptcp.push(option);
            }
        }
        let segment = SegmentRepr { link: &path.link, tuple: *tuple, ecn, tcp, options: &options };
        let packet = emitter.write(&segment, path, payload.map(|payload| payload.chunk), cache);
        if !self.signals.is_empty() {
            self.tcb.request_ack();
        }
        packet
    }

    /// Option bytes that MPTCP will add to a pure ACK and to a data segment.
    fn reserve(&self, signalling: &Signalling) -> (usize, usize) {
        match signalling {
            Signalling::Plain | Signalling::Offering | Signalling::Answering(_) => (0, 0),
            Signalling::Multipath { confirmed, data_fin, initiator, .. } => {
                let keys_due = self.is_initial() && *initiator && !confirmed;
                let ack = if self.phase != Phase::Ready {
                    24
                } else if !self.signals.is_empty() {
                    SIGNAL_OPTIONS
                } else if data_fin.is_some() {
                    DATA_OPTIONS
                } else if keys_due {
                    20
                } else {
                    ACK_OPTIONS
                };
                (ack, DATA_OPTIONS)
            }
        }
    }
}

/// What of a data segment its mapping says.
#[derive(Debug, Clone, Copy)]
struct Data {
    data_seq: DataSeq,
    offset: u64,
    len: u16,
}

/// What of the subflow a join says.
struct JoinSide<'a> {
    role: &'a Role,
    local_id: AddressId,
    backup: bool,
}

const FLAGS: CapableFlags = CapableFlags(CapableFlags::HMAC_SHA256);

/// The option of a SYN or a SYN/ACK.
fn on_handshake(
    signalling: &Signalling,
    join: &JoinSide<'_>,
    kind: OutgoingKind,
    syns: u32,
) -> Option<MptcpOption> {
    let JoinSide { role, local_id: address_id, backup } = *join;
    match (signalling, *role, kind) {
        (Signalling::Offering, Role::Initial, OutgoingKind::Syn) if syns <= CAPABLE_SYNS => {
            Some(MptcpOption::Capable(MpCapable::Syn { version: VERSION, flags: FLAGS }))
        }
        (Signalling::Answering(local), Role::Initial, _) => Some(MptcpOption::Capable(MpCapable::SynAck {
            version: VERSION,
            flags: FLAGS,
            sender_key: local.key,
        })),
        (Signalling::Multipath { keys, .. }, Role::JoinActive { nonce, .. }, _) => {
            Some(MptcpOption::Join(MpJoin::Syn { backup, address_id, token: keys.remote.token, nonce }))
        }
        (Signalling::Multipath { keys, .. }, Role::JoinPassive { nonce, remote_nonce }, _) => {
            let hmac = keys.join_hmac_sent(nonce, remote_nonce).syn_ack();
            Some(MptcpOption::Join(MpJoin::SynAck { backup, address_id, hmac, nonce }))
        }
        _ => None,
    }
}

/// The option of a reset.
fn on_reset(signalling: &Signalling, reason: ResetReason) -> Option<MptcpOption> {
    match signalling {
        // RFC 8684 §3.5: a fast close names the peer's key, on every subflow.
        Signalling::Multipath { keys, fast_close: true, .. } => {
            Some(MptcpOption::FastClose(MpFastClose { receiver_key: keys.remote.key }))
        }
        Signalling::Multipath { .. } => {
            Some(MptcpOption::Reset(MpTcpRst { transient: false, flags: 0, reason }))
        }
        Signalling::Plain | Signalling::Offering | Signalling::Answering(_) => None,
    }
}

/// The option of any other segment.
fn on_segment(
    signalling: &Signalling,
    join: &JoinSide<'_>,
    phase: Phase,
    data: Option<Data>,
) -> Option<MptcpOption> {
    let Signalling::Multipath { keys, confirmed, initiator, data_ack, data_fin, .. } = signalling else {
        return None;
    };
    let capable = *join.role == Role::Initial && *initiator && !confirmed;
    match (*join.role, phase, data) {
        // RFC 8684 §3.2: the third ACK of a join carries the HMAC until it is acknowledged.
        (Role::JoinActive { nonce, remote_nonce: Some(remote_nonce) }, Phase::Confirming { .. }, _) => {
            Some(MptcpOption::Join(MpJoin::Ack { hmac: keys.join_hmac_sent(nonce, remote_nonce).ack() }))
        }
        (_, _, None) if capable && data_fin.is_none() => Some(MptcpOption::Capable(MpCapable::Ack {
            version: VERSION,
            flags: FLAGS,
            sender_key: keys.local.key,
            receiver_key: keys.remote.key,
        })),
        // RFC 8684 §3.1: the first data repeats both keys; its length field is its mapping.
        (_, _, Some(Data { offset: 0, len, .. })) if capable => Some(MptcpOption::Capable(MpCapable::Data {
            version: VERSION,
            flags: FLAGS,
            sender_key: keys.local.key,
            receiver_key: keys.remote.key,
            data_len: len,
            checksum: None,
        })),
        (_, _, Some(data)) => Some(MptcpOption::Dss(Dss {
            data_ack: Some(ShortOrLong::Long(data_ack.raw())),
            mapping: Some(DssMapping {
                data_seq: ShortOrLong::Long(data.data_seq.raw()),
                // RFC 8684 §3.3.1: relative to the SYN, which has number 0.
                subflow_seq: (data.offset as u32).wrapping_add(1),
                len: data.len,
                checksum: None,
            }),
            data_fin: false,
        })),
        (_, _, None) => Some(MptcpOption::Dss(Dss {
            data_ack: Some(ShortOrLong::Long(data_ack.raw())),
            // RFC 8684 §3.3.3: a DATA_FIN without data has subflow sequence number 0 and length 1.
            mapping: data_fin.map(|fin| DssMapping {
                data_seq: ShortOrLong::Long(fin.raw()),
                subflow_seq: 0,
                len: 1,
                checksum: None,
            }),
            data_fin: data_fin.is_some(),
        })),
    }
}

/// Adds a signal. Pitfall 22: where it does not fit beside the timestamps, they are left out of this segment.
fn push_signal(options: &mut TcpOptions, signal: MptcpOption) {
    options.mptcp.push(signal);
    if options.wire_len() > OPTIONS_MAX {
        options.sack.clear();
    }
    if options.wire_len() > OPTIONS_MAX {
        options.timestamps = None;
    }
}
