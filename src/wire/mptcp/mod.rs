//! The options of MPTCP version 1 (RFC 8684 §3): TCP option kind 30, by subtype. The types are
//! here, their codec beside them.

mod emit;
mod parse;

pub(super) use parse::parse;

use crate::base::DataSeq;
use crate::wire::checksum;
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// TCP option kind of MPTCP.
pub const KIND: u8 = 30;
/// RFC 8684 §3.1: the version that we speak.
pub const VERSION: u8 = 1;

/// The subtypes (RFC 8684 §7.2).
mod subtype {
    pub(super) const CAPABLE: u8 = 0;
    pub(super) const JOIN: u8 = 1;
    pub(super) const DSS: u8 = 2;
    pub(super) const ADD_ADDR: u8 = 3;
    pub(super) const REMOVE_ADDR: u8 = 4;
    pub(super) const PRIO: u8 = 5;
    pub(super) const FAIL: u8 = 6;
    pub(super) const FAST_CLOSE: u8 = 7;
    pub(super) const RESET: u8 = 8;
}

/// A host's key for one connection (RFC 8684 §3.1), as the eight bytes on the wire read as a big-endian number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(pub u64);

/// The most significant 32 bits of the key's SHA-256: names the connection at the host that owns the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token(pub u32);

/// Names an address of a host within one connection; 0 is the address of the first subflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct AddressId(pub u8);

impl fmt::Display for Token {
    /// As the kernel's tools write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for AddressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One MPTCP option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MptcpOption {
    /// Subtype 0, §3.1.
    Capable(MpCapable),
    /// Subtype 1, §3.2.
    Join(MpJoin),
    /// Subtype 2, §3.3.
    Dss(Dss),
    /// Subtype 3, §3.4.1.
    AddAddr(AddAddr),
    /// Subtype 4, §3.4.2.
    RemoveAddr(RemoveAddr),
    /// Subtype 5, §3.3.8.
    Prio(MpPrio),
    /// Subtype 6, §3.7.
    Fail(MpFail),
    /// Subtype 7, §3.5.
    FastClose(MpFastClose),
    /// Subtype 8, §3.6.
    Reset(MpTcpRst),
}

/// The flags of MP_CAPABLE (§3.1), as the byte on the wire: A is the leftmost bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapableFlags(pub u8);

impl CapableFlags {
    /// A: checksums required.
    pub const CHECKSUM: u8 = 0x80;
    /// B: extensibility; must be 0.
    pub const EXTENSIBILITY: u8 = 0x40;
    /// C: the sender accepts no further subflows to this address and port.
    pub const NO_JOIN_HERE: u8 = 0x20;
    /// H: HMAC-SHA256.
    pub const HMAC_SHA256: u8 = 0x01;

    /// Whether a flag is set.
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// The forms of MP_CAPABLE, told apart by their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MpCapable {
    /// On the SYN, 4 bytes.
    Syn {
        /// Protocol version asked for.
        version: u8,
        /// Flags.
        flags: CapableFlags,
    },
    /// On the SYN/ACK, 12 bytes.
    SynAck {
        /// Version agreed.
        version: u8,
        /// Flags.
        flags: CapableFlags,
        /// The listener's key.
        sender_key: Key,
    },
    /// On the third ACK, 20 bytes.
    Ack {
        /// Version agreed.
        version: u8,
        /// Flags.
        flags: CapableFlags,
        /// The initiator's key.
        sender_key: Key,
        /// The listener's key.
        receiver_key: Key,
    },
    /// On the first data, 22 bytes, or 24 with a checksum.
    Data {
        /// Version agreed.
        version: u8,
        /// Flags.
        flags: CapableFlags,
        /// The initiator's key.
        sender_key: Key,
        /// The listener's key.
        receiver_key: Key,
        /// Length of the mapping, which begins at the first data byte.
        data_len: u16,
        /// DSS checksum.
        checksum: Option<u16>,
    },
}

impl MpCapable {
    /// The version in the header.
    pub const fn version(&self) -> u8 {
        match *self {
            MpCapable::Syn { version, .. }
            | MpCapable::SynAck { version, .. }
            | MpCapable::Ack { version, .. }
            | MpCapable::Data { version, .. } => version,
        }
    }

    /// The flags.
    pub const fn flags(&self) -> CapableFlags {
        match *self {
            MpCapable::Syn { flags, .. }
            | MpCapable::SynAck { flags, .. }
            | MpCapable::Ack { flags, .. }
            | MpCapable::Data { flags, .. } => flags,
        }
    }
}

/// The forms of MP_JOIN, told apart by their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MpJoin {
    /// On the SYN, 12 bytes.
    Syn {
        /// B: use only as a backup.
        backup: bool,
        /// The sender's id of the address it sends from.
        address_id: AddressId,
        /// The receiver's token.
        token: Token,
        /// A random number against replay.
        nonce: u32,
    },
    /// On the SYN/ACK, 16 bytes.
    SynAck {
        /// B: use only as a backup.
        backup: bool,
        /// The sender's id of its address.
        address_id: AddressId,
        /// Leftmost 64 bits of the HMAC.
        hmac: u64,
        /// A random number against replay.
        nonce: u32,
    },
    /// On the third ACK, 24 bytes.
    Ack {
        /// Leftmost 160 bits of the HMAC.
        hmac: [u8; 20],
    },
}

impl MpJoin {
    /// B.
    const FLAG_BACKUP: u8 = 0x01;
}

/// A number that comes with 32 or with 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShortOrLong {
    /// The low 32 bits.
    Short(u32),
    /// All 64.
    Long(u64),
}

impl ShortOrLong {
    /// The full number, near `near`.
    pub fn resolve(self, near: DataSeq) -> DataSeq {
        match self {
            ShortOrLong::Short(low) => near.expand(low),
            ShortOrLong::Long(full) => DataSeq::new(full),
        }
    }
}

/// Data Sequence Signal (§3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dss {
    /// Data acknowledgment.
    pub data_ack: Option<ShortOrLong>,
    /// Mapping of subflow bytes onto the data stream.
    pub mapping: Option<DssMapping>,
    /// F: the mapping (or, with length 1 and subflow sequence 0, the bare DSN) ends the data stream.
    pub data_fin: bool,
}

impl Dss {
    /// A: there is a data acknowledgment.
    const FLAG_ACK: u8 = 0x01;
    /// a: it has 64 bits.
    const FLAG_ACK_LONG: u8 = 0x02;
    /// M: there is a mapping.
    const FLAG_MAPPING: u8 = 0x04;
    /// m: its data sequence number has 64 bits.
    const FLAG_DATA_SEQ_LONG: u8 = 0x08;
    /// F: the data stream ends.
    const FLAG_DATA_FIN: u8 = 0x10;
}

/// The mapping of a DSS option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DssMapping {
    /// Data sequence number of the first byte.
    pub data_seq: ShortOrLong,
    /// Relative subflow sequence number: 1 is the first byte after the SYN; 0 with no data (a bare DATA_FIN).
    pub subflow_seq: u32,
    /// Bytes mapped, a DATA_FIN included; 0 means an infinite mapping (§3.7).
    pub len: u16,
    /// DSS checksum, where it was negotiated.
    pub checksum: Option<u16>,
}

/// The DSS checksum (§3.3.1) of a mapping whose data has the one's complement sum `payload_sum`. It covers all 64 bits of
/// the data sequence number, however many of them the option carries; `len` is the option's, a DATA_FIN included.
pub fn dss_checksum(data_seq: DataSeq, subflow_seq: u32, len: u16, payload_sum: u16) -> u16 {
    let [a, b, c, d, e, f, g, h] = data_seq.raw().to_be_bytes();
    let subflow_seq = subflow_seq.to_be_bytes();
    let [len_high, len_low] = len.to_be_bytes();
    let pseudo_header = [[a, b, c, d], [e, f, g, h], subflow_seq, [len_high, len_low, 0, 0]];
    !checksum::add(checksum::sum_words(&pseudo_header), payload_sum)
}

/// ADD_ADDR (§3.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddAddr {
    /// E = 0: an announcement, with the rightmost 64 bits of its HMAC.
    Announce {
        /// The sender's id of the address.
        address_id: AddressId,
        /// The address.
        addr: IpAddr,
        /// The port, where it isn't that of the subflow.
        port: Option<u16>,
        /// Rightmost 64 bits of the HMAC over id, address and port.
        hmac: u64,
    },
    /// E = 1: the receiver repeats it.
    Echo {
        /// The id that was announced.
        address_id: AddressId,
        /// The address.
        addr: IpAddr,
        /// The port.
        port: Option<u16>,
    },
}

impl AddAddr {
    /// E.
    const FLAG_ECHO: u8 = 0x01;
}

/// REMOVE_ADDR (§3.4.2): a list of ids. We send at most eight in one option; a longer list is read whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveAddr {
    /// The ids that are gone.
    pub address_ids: ArrayVec<AddressId, 37>,
}

/// MP_PRIO (§3.3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MpPrio {
    /// B: use this subflow only as a backup.
    pub backup: bool,
}

impl MpPrio {
    /// B.
    const FLAG_BACKUP: u8 = 0x01;
}

/// MP_FAIL (§3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MpFail {
    /// Where the mapping that failed began: always 64 bits.
    pub data_seq: DataSeq,
}

/// MP_FASTCLOSE (§3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MpFastClose {
    /// The key of the host that receives this.
    pub receiver_key: Key,
}

/// MP_TCPRST (§3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MpTcpRst {
    /// T: the condition may pass, the peer may try again.
    pub transient: bool,
    /// The other flag bits (U, V, W), as on the wire.
    pub flags: u8,
    /// The reason code.
    pub reason: ResetReason,
}

impl MpTcpRst {
    /// T.
    const FLAG_TRANSIENT: u8 = 0x01;
}

/// Reason codes of MP_TCPRST (§3.6, IANA "MPTCP MP_TCPRST Reason Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetReason {
    /// 0x00.
    Unspecified,
    /// 0x01: MPTCP-specific error.
    MptcpError,
    /// 0x02: lack of resources.
    LackOfResources,
    /// 0x03: administratively prohibited.
    Prohibited,
    /// 0x04: too much outstanding data.
    TooMuchOutstanding,
    /// 0x05: unacceptable performance.
    UnacceptablePerformance,
    /// 0x06: middlebox interference.
    MiddleboxInterference,
    /// One that we don't know.
    Other(u8),
}

impl ResetReason {
    /// From the option's byte.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0x00 => ResetReason::Unspecified,
            0x01 => ResetReason::MptcpError,
            0x02 => ResetReason::LackOfResources,
            0x03 => ResetReason::Prohibited,
            0x04 => ResetReason::TooMuchOutstanding,
            0x05 => ResetReason::UnacceptablePerformance,
            0x06 => ResetReason::MiddleboxInterference,
            other => ResetReason::Other(other),
        }
    }

    /// Whether it is about one subflow of a connection that whoever says so still has (RFC 8684 §3.6). Who has lost the
    /// connection resets without a reason, or answers to a join that the token is unknown (§3.2): code 0x01.
    pub const fn is_of_a_subflow(self) -> bool {
        match self {
            ResetReason::Unspecified
            | ResetReason::LackOfResources
            | ResetReason::Prohibited
            | ResetReason::TooMuchOutstanding
            | ResetReason::UnacceptablePerformance
            | ResetReason::MiddleboxInterference => true,
            ResetReason::MptcpError | ResetReason::Other(_) => false,
        }
    }

    /// Whether what is said may pass, so that the peer may try again (§3.6, flag T).
    pub const fn is_transient(self) -> bool {
        match self {
            ResetReason::LackOfResources
            | ResetReason::TooMuchOutstanding
            | ResetReason::UnacceptablePerformance => true,
            ResetReason::Unspecified
            | ResetReason::MptcpError
            | ResetReason::Prohibited
            | ResetReason::MiddleboxInterference
            | ResetReason::Other(_) => false,
        }
    }

    /// In words, for reports.
    pub const fn describe(self) -> &'static str {
        match self {
            ResetReason::Unspecified => "no reason given",
            ResetReason::MptcpError => "an error in MPTCP",
            ResetReason::LackOfResources => "lack of resources",
            ResetReason::Prohibited => "prohibited by the administrator",
            ResetReason::TooMuchOutstanding => "too much outstanding data",
            ResetReason::UnacceptablePerformance => "unacceptable performance",
            ResetReason::MiddleboxInterference => "interference of a middlebox",
            ResetReason::Other(_) => "a reason that is not known",
        }
    }

    /// The option's byte.
    pub const fn code(self) -> u8 {
        match self {
            ResetReason::Unspecified => 0x00,
            ResetReason::MptcpError => 0x01,
            ResetReason::LackOfResources => 0x02,
            ResetReason::Prohibited => 0x03,
            ResetReason::TooMuchOutstanding => 0x04,
            ResetReason::UnacceptablePerformance => 0x05,
            ResetReason::MiddleboxInterference => 0x06,
            ResetReason::Other(code) => code,
        }
    }
}
