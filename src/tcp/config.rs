//! What is chosen before a connection begins.

use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::tcp::KeepAlive;
use crate::tcp::ecn::{EcnEcho, EcnMode};
use crate::wire::Mss;
use serde::{Deserialize, Serialize};

/// Who enforces the peer's window, and to whom the receive window belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowOwner {
    /// This subflow: plain TCP.
    Subflow,
    /// The MPTCP connection (RFC 8684 §3.3.1: one window for all subflows, relative to the DATA_ACK).
    Connection,
}

/// The choices for one subflow.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TcpConfig {
    /// What we advertise, from the path's MTU; also the most that we send.
    pub mss: Mss,
    /// The shift of our receive window (RFC 7323 §2), at most 14. Offered always; 0 scales nothing.
    pub window_scale: u8,
    /// Offer timestamps (RFC 7323 §3).
    pub timestamps: bool,
    /// Offer selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Who enforces the peer's window, until [`crate::tcp::Tcb::set_window_owner`] changes it.
    pub window_owner: WindowOwner,
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// Random for each connection; added to our millisecond clock so that timestamps tell nothing about the host.
    pub timestamp_offset: u32,
    /// The retransmission time-out before a round trip was measured (RFC 6298 §2.1).
    pub initial_rto: Duration,
    /// What the time-out exceeds the smoothed round trip by, at least: more than a peer's delayed ACK.
    pub min_rto: Duration,
    /// The longest time-out, back-off included (RFC 6298 §2.5).
    pub max_rto: Duration,
    /// How often a SYN or SYN/ACK is sent again before the connection times out.
    pub syn_retries: u32,
    /// How many retransmission time-outs (or window probes) in a row may pass in vain before it times out.
    pub retries: u32,
    /// How long an ACK may be delayed (RFC 9293 §3.8.6.3: less than 0.5 s).
    pub delayed_ack: Duration,
    /// Ask a silent peer whether it is still there (RFC 9293 §3.8.4), until [`crate::tcp::Tcb::tune`] changes it.
    pub keep_alive: Option<KeepAlive>,
    /// How long something may wait for the peer before the connection is over (RFC 5482), until
    /// [`crate::tcp::Tcb::tune`] changes it. `None`: `retries` decides.
    pub user_timeout: Option<Duration>,
    /// How long the peer may delay an ACK, as a loss probe for a lone segment supposes (RFC 8985 §7.2: max_ack_delay). A
    /// peer that delays more gets that segment twice.
    pub peer_ack_delay: Duration,
    /// How long TIME-WAIT lasts (RFC 9293 §3.6.1: 2 MSL).
    pub time_wait: Duration,
    /// Whether congestion marks are used (RFC 3168).
    pub ecn: EcnMode,
    /// How marks are echoed to the peer.
    pub ecn_echo: EcnEcho,
    /// Begin anew with the initial window after a pause of a time-out (RFC 5681 §4.1). Without it the window is kept for
    /// minutes (RFC 7661), and pacing sees to it that no burst leaves.
    pub restart_after_idle: bool,
    /// Pace segments on paths whose shortest round trip is at least this long; `None`: never. On shorter ones a timer's
    /// delay is a good part of a round trip, and acknowledgments space segments well enough.
    pub pacing: Option<Duration>,
}

impl TcpConfig {
    /// The same with another congestion control, and the marks that it needs.
    pub fn with_congestion(self, congestion: CongestionAlgorithm) -> Self {
        match congestion {
            // RFC 8257 §3: both ends use ECN, and echo marks exactly.
            CongestionAlgorithm::Dctcp => {
                Self { congestion, ecn: EcnMode::Request, ecn_echo: EcnEcho::Accurate, ..self }
            }
            CongestionAlgorithm::Reno
            | CongestionAlgorithm::Cubic
            | CongestionAlgorithm::Bbr
            | CongestionAlgorithm::Coupled(_) => Self { congestion, ..self },
        }
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            mss: Mss::new(1460),
            window_scale: 8,
            timestamps: true,
            sack: true,
            window_owner: WindowOwner::Subflow,
            congestion: CongestionAlgorithm::default(),
            timestamp_offset: 0,
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            syn_retries: 5,
            retries: 15,
            delayed_ack: Duration::from_millis(40),
            keep_alive: None,
            user_timeout: None,
            peer_ack_delay: Duration::from_millis(50),
            time_wait: Duration::from_secs(60),
            ecn: EcnMode::default(),
            ecn_echo: EcnEcho::default(),
            restart_after_idle: false,
            pacing: Some(Duration::from_micros(500)),
        }
    }
}
