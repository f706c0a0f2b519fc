//! One subflow: a TCP connection (RFC 9293), sans-IO. Read [`Tcb`] first.
//!
//! [`Tcb`] composes one struct for each concern and dispatches between them: `handshake` (options), `send` with
//! `scoreboard` (what is in flight and what of it the peer holds), `recv` with `assembler` (the peer's stream), `window`
//! (both windows), `ack` (when to acknowledge), `timestamps`, `timer`, `fast_open` (data in
//! the handshake).
//!
//! What a loss is, and what it costs: `rtt`; `rack` (what is lost, by time) and `loss_probe` (asking when nothing comes);
//! `recovery` (when loss is being repaired) and `prr` (how fast meanwhile); `undo` and `frto` (whether it was for nothing);
//! `ecn`; `validation` (what of the window was used); `delivery` (how fast the network is); `pacing`;
//! `path_mtu` (how long segments may be). None of them knows which congestion algorithm runs (`crate::cc`).
//!
//! The order of calls in a turn: [`Tcb::handle_segment`] for all that arrived and [`Tcb::handle_timeout`], then
//! [`Tcb::poll_event`] and [`Tcb::poll_received`] until they are empty, [`Tcb::enqueue`] while there is
//! [`Tcb::send_room`], [`Tcb::poll_transmit`] until it is empty, [`Tcb::note_nothing_to_queue`] where room was left, and
//! [`Tcb::poll_timeout`] last.

mod ack;
mod assembler;
mod chrono;
mod config;
mod cookie;
mod delivery;
mod ecn;
mod event;
mod fast_open;
mod frto;
mod handshake;
mod info;
mod keep_alive;
mod listen;
mod loss_probe;
mod pacing;
mod packs;
mod path_mtu;
mod prr;
mod rack;
mod recovery;
mod recv;
mod rtt;
mod scoreboard;
mod send;
mod state;
mod tcb;
mod timer;
mod timestamps;
mod undo;
mod validation;
mod window;

#[cfg(test)]
mod tests;

pub use config::{TcpConfig, WindowOwner};
pub use cookie::{COOKIE_LIFE, Cookie};
pub use ecn::{EcnEcho, EcnMode};
pub use event::TcpEvent;
pub use fast_open::{CookieAge, FastOpenReport, fast_open_cookie, fast_open_cookie_age};
pub use info::{AgreedOptions, TcpCounters, TcpInfo};
pub use keep_alive::KeepAlive;
pub use listen::{initial_sequence, reset_for};
pub use recovery::Phase as RecoveryPhase;
pub use state::State;
pub use tcb::{Accepted, Following, Outgoing, OutgoingKind, OutgoingPayload, Tcb};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a connection or a subflow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum CloseReason {
    /// Both ends closed it in order.
    Finished = 1,
    /// The peer refused it: RST in answer to the SYN.
    Refused = 2,
    /// The peer reset it.
    Reset = 3,
    /// No answer to the SYN, or retransmissions in vain.
    TimedOut = 4,
    /// ICMP said that the peer can't be reached.
    Unreachable = 5,
    /// We ended it: close with unread data, a command, the process's end.
    Aborted = 6,
    /// Its NIC or address went away.
    PathDown = 7,
    /// A limit of ours: connections, subflows, frames, flow map.
    NoResources = 8,
    /// The peer broke the protocol: a wrong HMAC, an unknown token, a joined subflow without options.
    Protocol = 9,
}

impl CloseReason {
    /// In words, for errors.
    pub fn describe(self) -> &'static str {
        match self {
            CloseReason::Finished => "closed",
            CloseReason::Refused => "connection refused by the peer (nothing listens there)",
            CloseReason::Reset => "connection reset by the peer",
            CloseReason::TimedOut => "the peer did not answer in time",
            CloseReason::Unreachable => "the peer cannot be reached",
            CloseReason::Aborted => "connection aborted",
            CloseReason::PathDown => "the network path went down",
            CloseReason::NoResources => "out of connections, subflows or frames",
            CloseReason::Protocol => "the peer broke the protocol",
        }
    }

    /// From the number that `StreamShared` keeps.
    pub fn from_code(code: u8) -> Option<Self> {
        use CloseReason::*;
        [Finished, Refused, Reset, TimedOut, Unreachable, Aborted, PathDown, NoResources, Protocol]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}
