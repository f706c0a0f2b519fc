//! Figures of a connection.

use crate::base::time::Duration;

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpCounters {
    /// Segments that arrived.
    pub segments_received: u64,
    /// Segments that left.
    pub segments_sent: u64,
    /// Segments that left again, by any cause.
    pub retransmits: u64,
    /// Segments taken to be lost by duplicate acknowledgments or SACK.
    pub lost: u64,
    /// Episodes of fast recovery.
    pub fast_recoveries: u64,
    /// Expirations of the retransmission timer.
    pub timeouts: u64,
    /// Segments that arrived beyond a gap.
    pub out_of_order: u64,
    /// Segments that held nothing new.
    pub duplicates: u64,
    /// Payload dropped: beyond the window, or the assembler was full.
    pub dropped: u64,
    /// Segments outside of the window (RFC 9293 §3.10.7.4 first).
    pub not_acceptable: u64,
    /// Segments with an old timestamp (RFC 7323 §5).
    pub paws: u64,
    /// Segments that were answered with a challenge (RFC 5961), or would have been but for the limit.
    pub challenges: u64,
    /// Window probes sent.
    pub probes: u64,
    /// Packets that arrived with a congestion mark (RFC 3168).
    pub congestion_marks: u64,
}

/// The figures now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpInfo {
    /// Smoothed round trip.
    pub srtt: Option<Duration>,
    /// Its variation.
    pub rttvar: Option<Duration>,
    /// The shortest round trip so far.
    pub min_rtt: Option<Duration>,
    /// Retransmission time-out, back-off included.
    pub rto: Duration,
    /// Congestion window, in bytes.
    pub cwnd: u64,
    /// Slow start threshold, in bytes; `u64::MAX` before the first loss.
    pub ssthresh: u64,
    /// The peer's window, in bytes.
    pub peer_window: u32,
    /// Payload bytes sent, retransmissions not counted.
    pub bytes_sent: u64,
    /// Payload bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Bytes sent and not acknowledged.
    pub in_flight: u32,
    /// Effective maximum segment size.
    pub mss: usize,
    /// Chunks that wait for a gap to be filled.
    pub reassembly_chunks: usize,
    /// What happened so far.
    pub counters: TcpCounters,
}
