//! Figures of a connection.

use crate::base::time::Duration;
use crate::tcp::{RecoveryPhase, State};
use serde::{Deserialize, Serialize};
use std::ops::{AddAssign, SubAssign};

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Loss probes sent (RFC 8985 §7).
    pub loss_probes: u64,
    /// Episodes of recovery that turned out to have been for nothing, and were undone.
    pub undone: u64,
    /// Payload bytes that left again.
    pub bytes_retransmitted: u64,
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

impl TcpCounters {
    /// Each count with the other's.
    fn with(self, other: Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let Self {
            segments_received,
            segments_sent,
            retransmits,
            lost,
            fast_recoveries,
            timeouts,
            loss_probes,
            undone,
            bytes_retransmitted,
            out_of_order,
            duplicates,
            dropped,
            not_acceptable,
            paws,
            challenges,
            probes,
            congestion_marks,
        } = self;
        Self {
            segments_received: op(segments_received, other.segments_received),
            segments_sent: op(segments_sent, other.segments_sent),
            retransmits: op(retransmits, other.retransmits),
            lost: op(lost, other.lost),
            fast_recoveries: op(fast_recoveries, other.fast_recoveries),
            timeouts: op(timeouts, other.timeouts),
            loss_probes: op(loss_probes, other.loss_probes),
            undone: op(undone, other.undone),
            bytes_retransmitted: op(bytes_retransmitted, other.bytes_retransmitted),
            out_of_order: op(out_of_order, other.out_of_order),
            duplicates: op(duplicates, other.duplicates),
            dropped: op(dropped, other.dropped),
            not_acceptable: op(not_acceptable, other.not_acceptable),
            paws: op(paws, other.paws),
            challenges: op(challenges, other.challenges),
            probes: op(probes, other.probes),
            congestion_marks: op(congestion_marks, other.congestion_marks),
        }
    }
}

impl AddAssign for TcpCounters {
    fn add_assign(&mut self, other: Self) {
        *self = self.with(other, |own, other| own + other);
    }
}

impl SubAssign for TcpCounters {
    /// Takes out what was added.
    fn sub_assign(&mut self, other: Self) {
        *self = self.with(other, |own, other| own - other);
    }
}

/// The figures now: what Linux tells in `struct tcp_info`, in bytes where that counts segments and we know bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// State of the connection.
    pub state: State,
    /// Where loss recovery stands.
    pub recovery: RecoveryPhase,
    /// What both ends agreed on.
    pub agreed: AgreedOptions,
    /// Smoothed round trip.
    pub srtt: Option<Duration>,
    /// Its variation.
    pub rttvar: Option<Duration>,
    /// The shortest round trip of the last minutes.
    pub min_rtt: Option<Duration>,
    /// Retransmission time-out, back-off included.
    pub rto: Duration,
    /// How often it was doubled since the last round trip was measured.
    pub backoff: u32,
    /// How long an ACK of ours may be delayed.
    pub ato: Duration,
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
    /// Bytes queued and never sent.
    pub unsent: u32,
    /// Bytes sent and not acknowledged.
    pub in_flight: u32,
    /// Bytes of them that are thought to be in the network, each retransmission once more (RFC 6675 §4).
    pub pipe: u32,
    /// Segments sent and not acknowledged.
    pub unacked_segments: u32,
    /// Those of them that are selectively acknowledged.
    pub sacked_segments: u32,
    /// Those of them that are taken to be lost.
    pub lost_segments: u32,
    /// Those of them of which a retransmission is on its way.
    pub resent_segments: u32,
    /// Effective maximum segment size: what we send.
    pub mss: usize,
    /// The largest segment that has arrived.
    pub receive_mss: u32,
    /// Duplicate acknowledgments that would have been needed to tell loss from the reordering that was seen (RFC 5681's
    /// three at least).
    pub reordering_segments: u32,
    /// How often segments were seen to arrive behind their successors.
    pub reorderings: u32,
    /// How often the peer reported that something arrived twice (RFC 2883).
    pub duplicates_reported: u64,
    /// Bytes of sequence space that were delivered, selective acknowledgments included.
    pub delivered: u64,
    /// Those of them that were acknowledged with a congestion mark.
    pub delivered_marked: u64,
    /// The latest rate at which the network delivered, in bytes a second.
    pub delivery_rate: Option<u64>,
    /// That rate, or what comes now, is limited by what there is to send and not by the network.
    pub app_limited: bool,
    /// How fast segments may leave, in bytes a second; `None` where only windows limit it.
    pub pacing_rate: Option<u64>,
    /// Time with something to send or to be acknowledged. The next two are part of it.
    pub busy: Duration,
    /// Time in which the peer's window was the limit.
    pub peer_window_limited: Duration,
    /// Time in which our owner's send buffer was.
    pub send_buffer_limited: Duration,
    /// Chunks that wait for a gap to be filled.
    pub reassembly_chunks: usize,
    /// What happened so far.
    pub counters: TcpCounters,
}

/// What both ends agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgreedOptions {
    /// Timestamps (RFC 7323).
    pub timestamps: bool,
    /// Selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: bool,
    /// The shifts of the peer's window and of ours, where both scale.
    pub window_shifts: Option<(u8, u8)>,
}
