//! All that can be said of one connection, gathered when somebody asks. It costs a connection that nobody asks about
//! nothing but three points in time.

use crate::base::time::Duration;
use crate::base::{DataSeq, Instant, PortId};
use crate::cc::CongestionAlgorithm;
use crate::mptcp::{FallbackReason, SchedulerKind, SubflowId};
use crate::tcp::{State, TcpInfo};
use crate::wire::mptcp::{AddressId, Token};
use crate::wire::{FourTuple, Mss};
use serde::{Deserialize, Serialize};

/// A connection, as its worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDetails {
    /// Names it, while it is MPTCP.
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
    /// The peer's key is known.
    pub remote_key_received: bool,
    /// Mappings have checksums.
    pub checksum: bool,
    /// Behind the last byte that the application gave.
    pub write_seq: DataSeq,
    /// The first byte that the peer has not acknowledged as data.
    pub snd_una: DataSeq,
    /// The next byte that we expect.
    pub rcv_nxt: DataSeq,
    /// Bytes sent, those that were sent again not counted.
    pub bytes_sent: u64,
    /// Bytes acknowledged as data.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Pieces that were sent again on another subflow.
    pub retransmits: u64,
    /// Their bytes.
    pub bytes_retrans: u64,
    /// Since data was sent; `None`: none was.
    pub last_data_sent: Option<Duration>,
    /// Since data was received.
    pub last_data_recv: Option<Duration>,
    /// Since data was acknowledged.
    pub last_ack_recv: Option<Duration>,
    /// The subflows that there are, the oldest first.
    pub subflows: Vec<SubflowDetails>,
}

/// A subflow, as its worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubflowDetails {
    /// Names it within the connection.
    pub id: SubflowId,
    /// Its ends.
    pub tuple: FourTuple,
    /// Its NIC.
    pub port: PortId,
    /// Our id of its local address.
    pub local_id: AddressId,
    /// The peer's id of its remote address.
    pub remote_id: AddressId,
    /// It was opened by MP_CAPABLE, not by MP_JOIN.
    pub initial: bool,
    /// The peer opened it.
    pub by_peer: bool,
    /// TCP's state.
    pub state: State,
    /// It can carry data, and has lately shown life.
    pub usable: bool,
    /// We have asked the peer to use it only as a backup.
    pub backup_asked: bool,
    /// The peer has asked us.
    pub backup_wanted: bool,
    /// Effective segment size.
    pub mss: Mss,
    /// TCP's figures.
    pub tcp: TcpInfo,
}

/// When data moved last.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Activity {
    /// It was sent.
    pub sent: Option<Instant>,
    /// It was received.
    pub received: Option<Instant>,
    /// It was acknowledged.
    pub acked: Option<Instant>,
}
