//! What a worker counts: packets by fate, and every reason for which something was refused.

use crate::tcp::TcpCounters;

/// Counts of one worker. All only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that [`crate::wire::parse`] refused, by reason; the order is that of [`crate::wire::Malformed`].
    pub malformed: [u64; MALFORMED_REASONS],
    /// Segments to a port where nothing listens, or of a connection that is no more.
    pub stray: u64,
    /// Resets sent in answer to those.
    pub resets_sent: u64,
    /// ICMP errors about connections of ours.
    pub icmp: u64,
    /// Connections opened by us.
    pub opened: u64,
    /// Connections opened by peers.
    pub accepted: u64,
    /// SYNs dropped because there are too many connections.
    pub refused_connections: u64,
    /// Connections reset because nobody took them from the accept queue.
    pub accept_overflows: u64,
    /// Joins with a token that we don't know.
    pub unknown_tokens: u64,
    /// Joins refused by a limit.
    pub refused_joins: u64,
    /// Flows that could not be pinned to this worker.
    pub pin_failures: u64,
    /// Connections over.
    pub closed: u64,
    /// What TCP counted on their subflows.
    pub tcp: TcpCounters,
}

/// How many reasons [`crate::wire::Malformed`] has.
pub const MALFORMED_REASONS: usize = 16;
