//! What is told of a connection: [`TcpInfo`], and what limits it.

use super::Tcb;
use crate::base::Instant;
use crate::cc::{CongestionAlgorithm, Controller, Coupling, LossHistory, PathSnapshot};
use crate::tcp::chrono::{Limit, Times};
use crate::tcp::recovery::DUPLICATES_THRESHOLD;
use crate::tcp::{AgreedOptions, TcpInfo, WindowOwner};

impl Tcb {
    /// Whether no payload is in any of its queues.
    pub fn holds_nothing(&self) -> bool {
        self.send.is_empty() && self.receive.is_empty()
    }

    /// The figures now.
    pub fn info(&self) -> TcpInfo {
        let (sacked_segments, _) = self.send.sacked();
        // As many duplicate acknowledgments as a segment that was late caused would have been one too few.
        let segments = self.rack.reordering_distance() / self.mss.get() as u32 + 1;
        let Times { busy, peer_window, send_buffer } = self.chrono.times(self.now);
        TcpInfo {
            state: self.state,
            recovery: self.recovery.phase(),
            agreed: AgreedOptions {
                timestamps: self.agreed.timestamps,
                sack: self.agreed.sack,
                ecn: self.ecn.is_agreed(),
                window_shifts: self.agreed.shifts,
            },
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            min_rtt: self.rtt.shortest(),
            rto: self.rtt.rto(),
            backoff: self.rtt.backoff(),
            ato: self.config.delayed_ack,
            cwnd: self.congestion.window(),
            ssthresh: self.congestion.ssthresh(),
            peer_window: self.peer_window.bytes(),
            bytes_sent: self.sent_bytes(),
            bytes_acked: self.acked_bytes(),
            bytes_received: self.received_bytes(),
            unsent: self.send.unsent(),
            in_flight: self.send.flight(),
            pipe: self.pipe(),
            unacked_segments: self.send.segments_in_flight() as u32,
            sacked_segments,
            lost_segments: self.send.lost_segments() as u32,
            resent_segments: self.send.resent_segments() as u32,
            mss: self.mss.get(),
            receive_mss: self.acks.full_bytes(),
            reordering_segments: segments.max(DUPLICATES_THRESHOLD),
            reorderings: self.rack.reorderings(),
            duplicates_reported: self.undo.duplicates(),
            delivered: self.delivery.delivered(),
            delivered_marked: self.delivered_marked,
            delivery_rate: self.delivery.rate().map(|rate| rate.bytes_per_second()),
            app_limited: self.delivery.is_app_limited(),
            pacing_rate: self.pacing_rate(),
            busy,
            peer_window_limited: peer_window,
            send_buffer_limited: send_buffer,
            reassembly_chunks: self.receive.waiting_chunks(),
            counters: self.counters,
        }
    }

    /// What coupling has to know of this connection as one of several. `None`: its window is not coupled, or no round trip has
    /// been measured.
    pub fn path_snapshot(&self) -> Option<PathSnapshot> {
        let (segment_bytes, LossHistory { since_bytes, between_bytes }) = self.congestion.coupled()?;
        // RFC 6356 §3: of a connection that has less to send, what it uses.
        let window_bytes = self.congestion.window().min(self.validation.peak()).max(segment_bytes);
        Some(PathSnapshot {
            window_bytes,
            segment_bytes,
            rtt: self.rtt.srtt()?,
            since_loss_bytes: since_bytes,
            between_losses_bytes: between_bytes,
        })
    }

    /// Goes on with the same window by another algorithm.
    pub fn set_congestion(&mut self, algorithm: CongestionAlgorithm) {
        self.config.congestion = algorithm;
        self.congestion.switch(algorithm);
    }

    /// What a coupled window goes by from now on.
    pub fn set_coupling(&mut self, coupling: Coupling) {
        self.congestion.set_coupling(coupling);
    }

    /// The owner has more to send, its buffer is full, and all that is in it has been sent.
    pub fn note_send_buffer_full(&mut self, now: Instant) {
        if self.send.flight() > 0 && self.send.unsent() == 0 {
            self.chrono.set(now, Limit::SendBuffer);
        }
    }

    /// What limits the sender after an acknowledgment.
    pub(super) fn update_chrono(&mut self, now: Instant) {
        let segment = self.payload_max(0) as u64;
        let room = self.window().saturating_sub(u64::from(self.pipe()));
        let window_closed = self.config.window_owner == WindowOwner::Subflow
            && u64::from(self.usable_window()) < segment
            && room >= segment;
        let limit = match (self.send.flight(), self.send.unsent()) {
            (0, 0) => Limit::Idle,
            _ if window_closed => Limit::PeerWindow,
            _ => Limit::Network,
        };
        self.chrono.set(now, limit);
    }
}
