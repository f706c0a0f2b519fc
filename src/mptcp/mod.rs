//! One connection over its subflows (RFC 8684), sans-IO. Read `connection.rs` first.

pub mod addr;
pub mod autotune;
pub mod connection;
pub mod crypto;
pub mod data_recv;
pub mod data_send;
pub mod mapping;
pub mod sched;
pub mod subflow;
pub mod tuning;

pub use connection::{Connection, ConnectionEvent, Setup, Transmit};
pub use tuning::Tuning;

use crate::base::PortId;
use crate::cc::CongestionAlgorithm;
use crate::wire::{LinkHeader, Mss};
use std::fmt;

/// Names a subflow of one connection; counts up, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubflowId(pub u32);

/// How packets of a subflow leave: the NIC and the link header. The control thread makes it from routes and
/// neighbours; a passive subflow answers the way its SYN came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The NIC.
    pub port: PortId,
    /// What goes in front of the IP header.
    pub link: LinkHeader,
    /// The NIC's MTU, in bytes of IP packet.
    pub mtu: u16,
}

/// How to open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Offer MPTCP (or be plain TCP).
    pub mptcp: bool,
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// Receive buffer of the connection, in bytes.
    pub receive_buffer: u32,
    /// Send buffer of the connection, in bytes.
    pub send_buffer: u32,
    /// No larger segment is asked for or sent, whatever the path would take.
    pub max_segment: Option<Mss>,
    /// What can be changed later, too.
    pub tuning: Tuning,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            mptcp: true,
            congestion: CongestionAlgorithm::default(),
            receive_buffer: 6 << 20,
            send_buffer: 6 << 20,
            max_segment: None,
            tuning: Tuning::default(),
        }
    }
}

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
