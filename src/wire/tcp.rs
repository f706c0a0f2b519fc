//! The TCP header (RFC 9293 §3.1) and its options: maximum segment size, window scale and timestamps (RFC 7323),
//! SACK (RFC 2018), Fast Open (RFC 7413), and those of MPTCP. `options.rs` reads and writes the options.

use crate::base::SeqNum;
use crate::wire::{FastOpen, MptcpOption};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::BitOr;

/// The most bytes that the options of one segment take (RFC 9293 §3.1: data offset is 4 bits of 32-bit words).
pub const OPTIONS_MAX: usize = 40;
/// The TCP header without options.
pub const HEADER_LEN: usize = 20;

/// A maximum segment size: payload bytes of a segment without options. At least 88 (RFC 9293's 536 is the default
/// where the peer says nothing; peers that say less than 88 are treated as if they had said 88).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mss(u16);

impl Mss {
    /// The smallest that we work with: below it, options leave no room for data.
    pub const MIN: Mss = Mss(88);
    /// RFC 9293 §3.7.1: what holds when the peer sends no option, over IPv4.
    pub const DEFAULT_V4: Mss = Mss(536);
    /// The same over IPv6.
    pub const DEFAULT_V6: Mss = Mss(1220);

    /// From the option's value, not below [`Mss::MIN`].
    pub const fn new(raw: u16) -> Self {
        if raw < Self::MIN.0 { Self::MIN } else { Mss(raw) }
    }

    /// In bytes.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The option's value.
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// The control bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No bit.
    pub const NONE: TcpFlags = TcpFlags(0);
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer is significant.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// From the header's byte.
    pub const fn from_bits(bits: u8) -> Self {
        TcpFlags(bits)
    }

    /// The header's byte.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// All of these but `other`.
    #[inline]
    pub const fn without(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(TcpFlags, &str); 8] = [
            (TcpFlags::FIN, "F"),
            (TcpFlags::SYN, "S"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
            (TcpFlags::URG, "U"),
            (TcpFlags::ECE, "E"),
            (TcpFlags::CWR, "W"),
        ];
        f.write_str("[")?;
        NAMES.iter().filter(|(flag, _)| self.contains(*flag)).try_for_each(|(_, name)| f.write_str(name))?;
        f.write_str("]")
    }
}

/// The fixed part of a TCP header, without ports (those are in the packet's [`crate::wire::FourTuple`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpRepr {
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: SeqNum,
    /// Next sequence number expected; meaningful only with [`TcpFlags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
}

impl TcpRepr {
    /// Source port, destination port, and the rest of a header. Its data offset and checksum are for the caller.
    #[inline]
    pub(super) fn parse(header: &[u8; HEADER_LEN]) -> (u16, u16, Self) {
        let (words, _) = header.as_chunks::<4>();
        let word = |index: usize| u32::from_be_bytes(words[index]);
        let repr = Self {
            seq: SeqNum::new(word(1)),
            ack: SeqNum::new(word(2)),
            flags: TcpFlags::from_bits(header[13]),
            window: word(3) as u16,
            urgent: word(4) as u16,
        };
        ((word(0) >> 16) as u16, word(0) as u16, repr)
    }

    /// Writes a header with its options into `out`, as long as both together; the checksum is left zero.
    #[inline]
    pub(super) fn emit(&self, src_port: u16, dst_port: u16, out: &mut [u8], options: &TcpOptions) {
        let (words, _) = out.as_chunks_mut::<4>();
        let offset = words.len() as u32;
        let (header, _) = words.split_at_mut(HEADER_LEN / 4);
        header[0] = (u32::from(src_port) << 16 | u32::from(dst_port)).to_be_bytes();
        header[1] = self.seq.raw().to_be_bytes();
        header[2] = self.ack.raw().to_be_bytes();
        header[3] =
            (offset << 28 | u32::from(self.flags.bits()) << 16 | u32::from(self.window)).to_be_bytes();
        header[4] = u32::from(self.urgent).to_be_bytes();
        options.emit(&mut out[HEADER_LEN..]);
    }
}

/// The checksum field of a header.
pub(super) const fn checksum_of(header: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes([header[16], header[17]])
}

/// Writes the checksum field of a header.
#[inline]
pub(super) fn set_checksum(header: &mut [u8], checksum: u16) {
    header[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 7323 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the peer's clock, echoed.
    pub echo: u32,
}

/// SACK blocks, each from its first byte to the byte after its last. RFC 2018: at most four fit.
pub type SackBlocks = ArrayVec<(SeqNum, SeqNum), 4>;

/// The most MPTCP options that one segment can hold (the shortest has 3 bytes, but no sensible segment has more).
pub const MPTCP_OPTIONS_MAX: usize = 4;

/// The options of a segment, as we use them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size; SYN only. Zero is as good as absent.
    pub mss: Option<u16>,
    /// Window scale shift, at most 14 (RFC 7323 §2.3: a larger one is read as 14); SYN only.
    pub window_scale: Option<u8>,
    /// SACK permitted; SYN only.
    pub sack_permitted: bool,
    /// A Fast Open cookie, or the request for one; SYN only.
    pub fast_open: Option<FastOpen>,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// The options of kind 30 that were well-formed and that we know, in order.
    pub mptcp: ArrayVec<MptcpOption, MPTCP_OPTIONS_MAX>,
}

impl TcpOptions {
    /// The DSS option, if there is one.
    pub fn dss(&self) -> Option<&crate::wire::mptcp::Dss> {
        self.mptcp.iter().find_map(|option| if let MptcpOption::Dss(dss) = option { Some(dss) } else { None })
    }
}
