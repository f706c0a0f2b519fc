//! What an application, or a user, is told of a connection: the kernel's MPTCP_INFO and more.

use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::mptcp::{ConnectionDetails, FallbackReason, SchedulerKind, SubflowDetails};
use crate::pm::{ConnectionView, Limits};
use crate::wire::FourTuple;
use crate::wire::mptcp::Token;

/// The fields of the kernel's `struct mptcp_info`, with its names (`mptcpi_` left out). All zero but for the bytes where
/// the connection is plain TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MptcpInfo {
    /// Subflows beside the first one.
    pub subflows: u32,
    /// Addresses announced to the peer.
    pub add_addr_signal: u32,
    /// Addresses that the peer announced and that are kept.
    pub add_addr_accepted: u32,
    /// The most subflows beside the first one.
    pub subflows_max: u32,
    /// Endpoints that are announced.
    pub add_addr_signal_max: u32,
    /// The most addresses of the peer.
    pub add_addr_accepted_max: u32,
    /// MPTCP_INFO_FLAG_FALLBACK: it is plain TCP.
    pub fallback: bool,
    /// MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED: the peer's key is known.
    pub remote_key_received: bool,
    /// Names the connection at this host.
    pub token: u32,
    /// Data sequence number behind the last byte that the application wrote.
    pub write_seq: u64,
    /// The first that the peer has not acknowledged.
    pub snd_una: u64,
    /// The next that we expect.
    pub rcv_nxt: u64,
    /// Local addresses in use beside the first one's.
    pub local_addr_used: u32,
    /// Endpoints from which subflows are opened.
    pub local_addr_max: u32,
    /// Mappings have checksums.
    pub csum_enabled: bool,
    /// Pieces of data that were sent again on another subflow.
    pub retransmits: u64,
    /// Their bytes.
    pub bytes_retrans: u64,
    /// Bytes sent, those sent again not counted.
    pub bytes_sent: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Bytes acknowledged.
    pub bytes_acked: u64,
    /// Subflows, the first one included.
    pub subflows_total: u32,
    /// Endpoints that are laminar.
    pub endp_laminar_max: u32,
    /// Endpoints that are fullmesh.
    pub endp_fullmesh_max: u32,
    /// Milliseconds since data was sent; `None`: none was.
    pub last_data_sent_ms: Option<u64>,
    /// Milliseconds since data was received.
    pub last_data_recv_ms: Option<u64>,
    /// Milliseconds since data was acknowledged.
    pub last_ack_recv_ms: Option<u64>,
}

/// A connection, with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Names it at this host (RFC 6897: the connection identifier). `None`: it is plain TCP.
    pub token: Option<Token>,
    /// We opened it.
    pub initiator: bool,
    /// The ends of its first subflow.
    pub first: FourTuple,
    /// Why it is plain TCP, if it is.
    pub fallback: Option<FallbackReason>,
    /// What holds its subflows' windows.
    pub congestion: CongestionAlgorithm,
    /// What spreads its data.
    pub scheduler: SchedulerKind,
    /// What the kernel tells of a connection.
    pub info: MptcpInfo,
    /// The subflows that there are, each with its ends, its state and TCP's figures.
    pub subflows: Vec<SubflowDetails>,
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn millis(since: Option<Duration>) -> Option<u64> {
    since.map(Duration::as_millis)
}

impl ConnectionStatus {
    /// From what its worker and the path manager say.
    pub(super) fn new(details: ConnectionDetails, view: Option<ConnectionView>, limits: Limits) -> Self {
        let ConnectionDetails { token, initiator, first, fallback, congestion, scheduler, subflows, .. } =
            details;
        let mut info = MptcpInfo {
            subflows: small(subflows.len().saturating_sub(1)),
            fallback: fallback.is_some(),
            remote_key_received: details.remote_key_received,
            token: token.map_or(0, |token| token.0),
            write_seq: details.write_seq.raw(),
            snd_una: details.snd_una.raw(),
            rcv_nxt: details.rcv_nxt.raw(),
            csum_enabled: details.checksum,
            retransmits: details.retransmits,
            bytes_retrans: details.bytes_retrans,
            bytes_sent: details.bytes_sent,
            bytes_received: details.bytes_received,
            bytes_acked: details.bytes_acked,
            subflows_total: small(subflows.len()),
            last_data_sent_ms: millis(details.last_data_sent),
            last_data_recv_ms: millis(details.last_data_recv),
            last_ack_recv_ms: millis(details.last_ack_recv),
            ..MptcpInfo::default()
        };
        if let Some(view) = view {
            let [signal, subflow, fullmesh, laminar] = view.endpoints.map(small);
            info.add_addr_signal = small(view.announced);
            info.add_addr_accepted = small(view.accepted);
            info.local_addr_used = small(view.local_addresses);
            info.subflows_max = small(limits.subflows);
            info.add_addr_accepted_max = small(limits.add_addr_accepted);
            info.add_addr_signal_max = signal;
            info.local_addr_max = subflow;
            info.endp_fullmesh_max = fullmesh;
            info.endp_laminar_max = laminar;
        }
        Self { token, initiator, first, fallback, congestion, scheduler, info, subflows }
    }
}
