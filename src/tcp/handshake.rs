//! Options of the three-way handshake: what we offer, and what both ends agreed on.

use crate::base::Instant;
use crate::tcp::TcpConfig;
use crate::wire::{Mss, TcpOptions, Timestamps};
use serde::{Deserialize, Serialize};

/// RFC 7323 §2.3.
const SHIFT_MAX: u8 = 14;
/// Bytes of the timestamp option with its padding.
pub(super) const TIMESTAMPS_LEN: usize = 12;

/// What both ends agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreed {
    /// What the peer said it takes.
    pub(super) peer_mss: Mss,
    /// Timestamps on every segment.
    pub(super) timestamps: bool,
    /// Selective acknowledgments.
    pub(super) sack: bool,
    /// The shifts of the peer's window and of ours, where both scale.
    pub(super) shifts: Option<(u8, u8)>,
}

impl Agreed {
    /// Before the peer's SYN.
    pub(super) fn nothing() -> Self {
        Self { peer_mss: Mss::DEFAULT_V4, timestamps: false, sack: false, shifts: None }
    }

    /// From what we offer and the peer's SYN or SYN/ACK.
    pub(super) fn new(config: &TcpConfig, peer: &TcpOptions) -> Self {
        Self {
            // RFC 9293 §3.7.1: 536 where the option is missing. (1220 over IPv6; the smaller is safe for both.)
            peer_mss: peer.mss.filter(|mss| *mss > 0).map_or(Mss::DEFAULT_V4, Mss::new),
            // RFC 7323 §3.2, RFC 2018 §2: only when both ends said so.
            timestamps: config.timestamps && peer.timestamps.is_some(),
            sack: config.sack && peer.sack_permitted,
            // RFC 7323 §2.2: scaling works in both directions or in none.
            shifts: peer.window_scale.map(|shift| (shift.min(SHIFT_MAX), config.window_scale.min(SHIFT_MAX))),
        }
    }

    /// Bytes of our own options on every segment.
    pub(super) fn options_len(&self) -> usize {
        if self.timestamps { TIMESTAMPS_LEN } else { 0 }
    }
}

/// The options of our SYN.
pub(super) fn syn_options(config: &TcpConfig, timestamps: Timestamps) -> TcpOptions {
    TcpOptions {
        mss: Some(config.mss.raw()),
        window_scale: Some(config.window_scale.min(SHIFT_MAX)),
        sack_permitted: config.sack,
        timestamps: config.timestamps.then_some(timestamps),
        ..TcpOptions::default()
    }
}

/// The options of our SYN/ACK: only what the peer's SYN offered too.
pub(super) fn syn_ack_options(config: &TcpConfig, agreed: &Agreed, timestamps: Timestamps) -> TcpOptions {
    TcpOptions {
        mss: Some(config.mss.raw()),
        window_scale: agreed.shifts.map(|(_, ours)| ours),
        sack_permitted: agreed.sack,
        timestamps: agreed.timestamps.then_some(timestamps),
        ..TcpOptions::default()
    }
}

/// Our SYN or SYN/ACK, until it is acknowledged.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handshake {
    due: bool,
    transmissions: u32,
    /// `None`: nobody remembers.
    sent_at: Option<Instant>,
}

impl Handshake {
    /// A SYN or SYN/ACK is to be sent.
    pub(super) fn new() -> Self {
        Self { due: true, transmissions: 0, sent_at: None }
    }

    /// Whether it has to leave now.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// It has to leave (again).
    pub(super) fn send_again(&mut self) {
        self.due = true;
    }

    /// It leaves. True when it left before.
    pub(super) fn on_sent(&mut self, now: Instant) -> bool {
        self.due = false;
        self.sent_at = Some(now);
        self.transmissions += 1;
        self.transmissions > 1
    }

    /// How often it was sent.
    pub(super) fn transmissions(&self) -> u32 {
        self.transmissions
    }

    /// When it was sent, unless more than once: then nobody knows which transmission an answer is for (Karn).
    pub(super) fn sent_once_at(&self) -> Option<Instant> {
        self.sent_at.filter(|_| self.transmissions == 1)
    }

    /// It was sent, at a time that was not kept (RFC 4987 §3.6).
    pub(super) fn forget_time(&mut self) {
        self.sent_at = None;
    }
}
