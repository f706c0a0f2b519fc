//! What a connection tells its worker: events, figures of its subflows, and what its peer did wrong.

use crate::mptcp::{FallbackReason, Path, SubflowId};
use crate::tcp::{CloseReason, TcpInfo};
use crate::wire::mptcp::{AddressId, MpTcpRst};
use crate::wire::{Endpoint, FourTuple, Mss};
use serde::{Deserialize, Serialize};

/// What happened, for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionEvent {
    /// The first handshake is over, or began with data (RFC 7413).
    Established,
    /// The handshake is over of a connection that began with data.
    Confirmed,
    /// It is known now whether the connection is MPTCP: a fall-back after establishment changes it.
    FellBack(FallbackReason),
    /// Subflows may be joined from now on.
    JoinsAllowed,
    /// A joined subflow is established.
    SubflowEstablished(SubflowId),
    /// The peer wants a subflow used only as a backup, or again as any other (MP_PRIO).
    PriorityChanged {
        /// Which.
        id: SubflowId,
        /// Only as a backup.
        backup: bool,
    },
    /// A subflow is over.
    SubflowClosed {
        /// Which.
        id: SubflowId,
        /// Its ends.
        tuple: FourTuple,
        /// Why.
        reason: CloseReason,
        /// What the peer said about it on its reset (RFC 8684 §3.6).
        reset: Option<MpTcpRst>,
        /// It had been established.
        established: bool,
    },
    /// Its paths are to be told to whoever couples it with other connections.
    PathsDue,
    /// The peer announced an address.
    AddressAnnounced(AddressId, Endpoint),
    /// The peer withdrew an address.
    AddressWithdrawn(AddressId),
    /// The connection is over. Nothing follows.
    Closed(CloseReason),
}
/// Figures of a subflow, dead or alive.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SubflowFigures {
    /// Its name.
    pub id: SubflowId,
    /// Its ends.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// Whether it can carry data.
    pub alive: bool,
    /// Used only as a backup.
    pub backup: bool,
    /// Effective segment size.
    pub mss: Mss,
    /// TCP's figures.
    pub tcp: TcpInfo,
}

/// What peers did that they should not, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misbehaviour {
    /// Mappings that contradict earlier ones.
    pub mapping_conflicts: u64,
    /// Mappings beyond the table's limit.
    pub mappings_refused: u64,
    /// Announcements with a wrong HMAC.
    pub bad_announcements: u64,
    /// Joins with a wrong HMAC, or without one.
    pub bad_joins: u64,
    /// DATA_ACKs of what was never sent.
    pub bad_data_acks: u64,
    /// Segments that no mapping covers, on subflows that were reset for it.
    pub unmapped: u64,
    /// Mappings whose checksum was wrong.
    pub bad_checksums: u64,
    /// Mappings with a checksum that was not agreed, or without one that was.
    pub unagreed_checksums: u64,
}
