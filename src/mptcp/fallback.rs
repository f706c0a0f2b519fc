//! Falling back to TCP (RFC 8684 §3.7).

use std::fmt;

/// Why a connection is plain TCP although MPTCP was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FallbackReason {
    /// Nobody asked for MPTCP here (`--plain-tcp`).
    NotWanted,
    /// The peer's SYN had no MP_CAPABLE.
    SynWithoutCapable,
    /// The peer's SYN/ACK had no MP_CAPABLE: the peer doesn't speak MPTCP, or a middlebox removed it.
    SynAckWithoutCapable,
    /// We sent SYNs with MP_CAPABLE in vain, then one without it.
    SynWithoutAnswer,
    /// The third ACK, or the first data, came without MP_CAPABLE.
    AckWithoutCapable,
    /// Data or acknowledgments came without DSS before MPTCP was confirmed.
    NoDss,
    /// The peer asked for something that we don't do: another version, checksums, no HMAC-SHA256.
    Unsupported,
    /// The peer fell back (MP_FAIL, or an infinite mapping).
    PeerFellBack,
}

impl FallbackReason {
    /// All reasons, in an order that does not change within a process.
    pub const ALL: &[FallbackReason] = &[
        FallbackReason::NotWanted,
        FallbackReason::SynWithoutCapable,
        FallbackReason::SynAckWithoutCapable,
        FallbackReason::SynWithoutAnswer,
        FallbackReason::AckWithoutCapable,
        FallbackReason::NoDss,
        FallbackReason::Unsupported,
        FallbackReason::PeerFellBack,
    ];

    /// In words, for reports.
    pub fn describe(self) -> &'static str {
        match self {
            FallbackReason::NotWanted => "plain TCP was asked for",
            FallbackReason::SynWithoutCapable => "the peer's SYN had no MP_CAPABLE",
            FallbackReason::SynAckWithoutCapable => {
                "the peer's SYN/ACK had no MP_CAPABLE (no MPTCP there, or a middlebox removed it)"
            }
            FallbackReason::SynWithoutAnswer => "SYNs with MP_CAPABLE were not answered",
            FallbackReason::AckWithoutCapable => "the peer's third ACK had no MP_CAPABLE",
            FallbackReason::NoDss => "the peer's first segments had no DSS",
            FallbackReason::Unsupported => "the peer asked for a version or flags that are not supported",
            FallbackReason::PeerFellBack => "the peer fell back",
        }
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}
