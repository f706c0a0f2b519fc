//! Which options of MPTCP go onto which segment (RFC 8684 §3). What they say is the connection's and the subflow's; here
//! is only what fits where.

use crate::base::DataSeq;
use crate::mptcp::crypto::Keys;
use crate::mptcp::fallback::Farewell;
use crate::mptcp::subflow::{Phase, Role};
use crate::tcp::OutgoingKind;
use crate::wire::MptcpOption;
use crate::wire::mptcp::{
    AddressId, CapableFlags, Dss, DssMapping, Key, MpCapable, MpFail, MpFastClose, MpJoin, MpTcpRst,
    ResetReason, ShortOrLong, VERSION, dss_checksum,
};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// Option bytes that MPTCP adds to a data segment at most: a DSS with 64-bit DATA_ACK and 64-bit mapping, with or without
/// its checksum.
pub const DATA_OPTIONS: usize = 28;
/// What MPTCP may add to a segment that has timestamps, too.
const ROOM: usize = 28;
/// Option bytes of an infinite mapping.
const INFINITE_OPTIONS: usize = 20;
/// SYNs that offer MP_CAPABLE before one without it is tried (RFC 8684 §3.1: local policy; pitfall 48).
pub const CAPABLE_SYNS: u32 = 3;

/// Options of one segment.
pub type Options = ArrayVec<MptcpOption, 3>;

/// How the connection signals on its segments.
#[derive(Debug, Clone, Copy)]
pub enum Signalling {
    /// Plain TCP: no MPTCP option at all.
    Plain,
    /// We offer MP_CAPABLE on our SYN.
    Offering(CapableFlags),
    /// We answered a SYN with our key, and wait for the peer's.
    Answering(CapableFlags, Key),
    /// Both keys are known.
    Multipath(Signals),
    /// We have fallen back, and the peer may not know yet.
    Falling(Farewell, CapableFlags),
}

/// What the segments of an MPTCP connection say.
#[derive(Debug, Clone, Copy)]
pub struct Signals {
    /// The keys.
    pub keys: Keys,
    /// What was agreed; with [`CapableFlags::CHECKSUM`] mappings have checksums.
    pub flags: CapableFlags,
    /// We opened the connection, and the peer has not shown by a DSS that it has our key: we repeat both keys.
    pub keys_due: bool,
    /// The next data byte that we expect.
    pub data_ack: ShortOrLong,
    /// Some data has come: there is something to acknowledge.
    pub data_came: bool,
    /// The number of our DATA_FIN, once it may be said and while it is not acknowledged.
    pub data_fin: Option<DataSeq>,
    /// It is said on segments without payload, too.
    pub data_fin_alone: bool,
    /// A mapping that began here had a wrong checksum, and the peer has not answered yet.
    pub fail: Option<DataSeq>,
    /// A fast close: resets and ACKs say so.
    pub fast_close: bool,
}

/// What of the subflow its segments say.
#[derive(Debug, Clone, Copy)]
pub struct SubflowSide {
    /// How it came about.
    pub role: Role,
    /// Where it stands.
    pub phase: Phase,
    /// Our id of its local address.
    pub local_id: AddressId,
    /// We want it used only as a backup.
    pub backup: bool,
    /// The last DATA_ACK that it has said.
    pub said: Option<ShortOrLong>,
}

/// What of a data segment its mapping says.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    /// Its first byte in the data stream.
    pub data_seq: DataSeq,
    /// Its first byte in the subflow's stream; 0 is the first behind the SYN.
    pub offset: u64,
    /// Bytes.
    pub len: u16,
    /// Their one's complement sum; of no meaning unless [`Signalling::wants_sum`].
    pub sum: u16,
}

/// What a reset of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetWords {
    /// Why.
    pub reason: ResetReason,
    /// The mapping that began here had a wrong checksum.
    pub fail: Option<DataSeq>,
}

impl Default for ResetWords {
    fn default() -> Self {
        Self { reason: ResetReason::Unspecified, fail: None }
    }
}

impl From<ResetReason> for ResetWords {
    fn from(reason: ResetReason) -> Self {
        Self { reason, fail: None }
    }
}

/// The option with which we give a reason for a reset. RFC 8684 §3.6: T where the peer may try again.
pub fn reset_option(reason: ResetReason) -> MptcpOption {
    MptcpOption::Reset(MpTcpRst { transient: reason.is_transient(), flags: 0, reason })
}

impl Signalling {
    /// Whether mappings need the payload's sum.
    pub fn wants_sum(&self) -> bool {
        match self {
            Signalling::Multipath(signals) => signals.flags.has(CapableFlags::CHECKSUM),
            Signalling::Plain
            | Signalling::Offering(_)
            | Signalling::Answering(..)
            | Signalling::Falling(..) => false,
        }
    }

    /// Whether a mapping may be of several segments, which may be sent again one by one.
    pub fn maps_freely(&self) -> bool {
        match self {
            Signalling::Plain => true,
            Signalling::Multipath(_) => !self.wants_sum(),
            Signalling::Offering(_) | Signalling::Answering(..) | Signalling::Falling(..) => false,
        }
    }

    /// Whether signals may be sent at all.
    pub fn takes_signals(&self) -> bool {
        matches!(self, Signalling::Multipath(signals) if signals.fail.is_none() && !signals.fast_close)
    }

    /// The same on a subflow that has selective acknowledgments to give. A DATA_FIN alone leaves no room for them, and
    /// can wait: the gap is closed by a retransmission, which without them takes a time-out for a whole window.
    pub fn beside_sack(self) -> Self {
        match self {
            Signalling::Multipath(signals) => {
                Signalling::Multipath(Signals { data_fin_alone: false, ..signals })
            }
            other => other,
        }
    }

    /// Option bytes of a data segment.
    pub fn data_len(&self) -> usize {
        match self {
            Signalling::Plain | Signalling::Offering(_) | Signalling::Answering(..) => 0,
            Signalling::Multipath(_) => DATA_OPTIONS,
            Signalling::Falling(..) => INFINITE_OPTIONS,
        }
    }

    /// Option bytes of a segment without payload that has nothing but a DATA_ACK; `None` where there is more to say.
    pub fn simple_ack_len(&self, phase: Phase) -> Option<usize> {
        match self {
            Signalling::Plain | Signalling::Offering(_) | Signalling::Answering(..) => Some(0),
            Signalling::Multipath(signals)
                if phase == Phase::Ready
                    && !signals.keys_due
                    && !signals.data_fin_alone
                    && signals.fail.is_none()
                    && !signals.fast_close =>
            {
                Some(4 + signals.data_ack.wire_len())
            }
            Signalling::Multipath(_) | Signalling::Falling(..) => None,
        }
    }

    /// The option of a SYN or a SYN/ACK; `syns` were sent, this one included.
    pub fn on_handshake(&self, side: &SubflowSide, kind: OutgoingKind, syns: u32) -> Option<MptcpOption> {
        let SubflowSide { role, local_id: address_id, backup, .. } = *side;
        match (self, role, kind) {
            (Signalling::Offering(flags), Role::Initial, OutgoingKind::Syn) if syns <= CAPABLE_SYNS => {
                Some(MptcpOption::Capable(MpCapable::Syn { version: VERSION, flags: *flags }))
            }
            (Signalling::Answering(flags, key), Role::Initial, _) => {
                Some(MptcpOption::Capable(MpCapable::SynAck {
                    version: VERSION,
                    flags: *flags,
                    sender_key: *key,
                }))
            }
            (Signalling::Multipath(Signals { keys, .. }), Role::JoinActive { nonce, .. }, _) => {
                Some(MptcpOption::Join(MpJoin::Syn { backup, address_id, token: keys.remote.token, nonce }))
            }
            (Signalling::Multipath(Signals { keys, .. }), Role::JoinPassive { nonce, remote_nonce }, _) => {
                let hmac = keys.join_hmac_sent(nonce, remote_nonce).syn_ack();
                Some(MptcpOption::Join(MpJoin::SynAck { backup, address_id, hmac, nonce }))
            }
            _ => None,
        }
    }

    /// The options of a reset.
    pub fn on_reset(&self, words: &ResetWords) -> Options {
        let mut options = Options::new();
        let Signalling::Multipath(signals) = self else { return options };
        if signals.fast_close {
            // RFC 8684 §3.5: a fast close names the peer's key, on every subflow.
            options.push(fast_close(signals));
            return options;
        }
        options.extend(words.fail.map(|data_seq| MptcpOption::Fail(MpFail { data_seq })));
        options.push(reset_option(words.reason));
        options
    }

    /// The option of a segment with payload.
    pub fn on_data(&self, side: &SubflowSide, data: &Data) -> Option<MptcpOption> {
        let signals = match self {
            Signalling::Multipath(signals) => signals,
            Signalling::Falling(farewell, flags) => return Some(infinite(farewell, *flags, false)),
            Signalling::Plain | Signalling::Offering(_) | Signalling::Answering(..) => return None,
        };
        // RFC 8684 §3.3.1: relative to the SYN, which has number 0.
        let subflow_seq = (data.offset as u32).wrapping_add(1);
        let checksum = |len| {
            let has = signals.flags.has(CapableFlags::CHECKSUM);
            has.then(|| dss_checksum(data.data_seq, subflow_seq, len, data.sum))
        };
        if signals.keys_due && side.role == Role::Initial && data.offset == 0 {
            // RFC 8684 §3.1: the first data repeats both keys; its length field is its mapping.
            return Some(MptcpOption::Capable(MpCapable::Data {
                version: VERSION,
                flags: signals.flags,
                sender_key: signals.keys.local.key,
                receiver_key: signals.keys.remote.key,
                data_len: data.len,
                checksum: checksum(data.len),
            }));
        }
        // RFC 8684 §3.3.3: the DATA_FIN may come with the last data, and counts in its length.
        let data_fin = signals.data_fin == Some(data.data_seq + u64::from(data.len));
        let len = data.len + u16::from(data_fin);
        Some(MptcpOption::Dss(Dss {
            data_ack: Some(signals.data_ack),
            mapping: Some(DssMapping {
                data_seq: ShortOrLong::Long(data.data_seq.raw()),
                subflow_seq,
                len,
                checksum: checksum(len),
            }),
            data_fin,
        }))
    }

    /// The options of a segment without payload, `signal` among them if there is one. As many as fit, the more urgent
    /// ones first.
    pub fn on_ack(&self, side: &SubflowSide, signal: Option<&MptcpOption>) -> Options {
        let mut options = Options::new();
        let signals = match self {
            Signalling::Multipath(signals) => signals,
            Signalling::Falling(farewell, flags) => {
                options.extend(farewell.fail.map(|data_seq| MptcpOption::Fail(MpFail { data_seq })));
                options.push(infinite(farewell, *flags, farewell.fail.is_some()));
                return options;
            }
            Signalling::Plain | Signalling::Offering(_) | Signalling::Answering(..) => return options,
        };
        // RFC 8684 §3.2: the third ACK of a join carries the HMAC until it is acknowledged.
        if let (Role::JoinActive { nonce, remote_nonce: Some(remote_nonce) }, Phase::Confirming { .. }) =
            (side.role, side.phase)
        {
            let hmac = signals.keys.join_hmac_sent(nonce, remote_nonce).ack();
            options.push(MptcpOption::Join(MpJoin::Ack { hmac }));
            return options;
        }
        if signals.fast_close {
            push_if_room(&mut options, fast_close(signals));
        }
        options.extend(signal.cloned());
        if let Some(data_seq) = signals.fail {
            push_if_room(&mut options, MptcpOption::Fail(MpFail { data_seq }));
        }
        // RFC 8684 §3.4.1: ADD_ADDR and its echo often go on a pure ACK. Where that has nothing else to say they go alone, as
        // from Linux: no more than they need, of what little room timestamps and IPv6 leave.
        let news = signals.keys_due
            || signals.data_fin_alone
            || (signals.data_came && side.said != Some(signals.data_ack));
        if news || !matches!(signal, Some(MptcpOption::AddAddr(_))) {
            push_if_room(&mut options, own_option(signals, side));
        }
        options
    }
}

/// What a segment without payload says when there is no signal.
fn own_option(signals: &Signals, side: &SubflowSide) -> MptcpOption {
    let data_fin = signals.data_fin.filter(|_| signals.data_fin_alone);
    if signals.keys_due && side.role == Role::Initial && data_fin.is_none() {
        return MptcpOption::Capable(MpCapable::Ack {
            version: VERSION,
            flags: signals.flags,
            sender_key: signals.keys.local.key,
            receiver_key: signals.keys.remote.key,
        });
    }
    // RFC 8684 §3.3.3: a DATA_FIN without data has subflow sequence number 0 and length 1.
    let mapping = data_fin.map(|fin| DssMapping {
        data_seq: ShortOrLong::Long(fin.raw()),
        subflow_seq: 0,
        len: 1,
        checksum: signals.flags.has(CapableFlags::CHECKSUM).then(|| dss_checksum(fin, 0, 1, 0)),
    });
    MptcpOption::Dss(Dss { data_ack: Some(signals.data_ack), mapping, data_fin: data_fin.is_some() })
}

fn fast_close(signals: &Signals) -> MptcpOption {
    MptcpOption::FastClose(MpFastClose { receiver_key: signals.keys.remote.key })
}

/// RFC 8684 §3.7: an infinite mapping has the length 0, and the checksum 0 if it has one. `short` leaves room for MP_FAIL.
fn infinite(farewell: &Farewell, flags: CapableFlags, short: bool) -> MptcpOption {
    let data_seq = match short {
        true => ShortOrLong::Short(farewell.data_seq.raw() as u32),
        false => ShortOrLong::Long(farewell.data_seq.raw()),
    };
    let checksum = flags.has(CapableFlags::CHECKSUM).then_some(0);
    let mapping = DssMapping { data_seq, subflow_seq: farewell.subflow_seq, len: 0, checksum };
    MptcpOption::Dss(Dss { data_ack: None, mapping: Some(mapping), data_fin: false })
}

/// Option bytes together, padding included.
pub fn options_len(options: &Options) -> usize {
    options.iter().map(MptcpOption::wire_len).sum::<usize>().next_multiple_of(4)
}

fn push_if_room(options: &mut Options, option: MptcpOption) {
    if options.is_empty() || (options_len(options) + option.wire_len()).next_multiple_of(4) <= ROOM {
        options.push(option);
    }
}
