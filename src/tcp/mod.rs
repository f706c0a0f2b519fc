//! One subflow: a TCP connection (RFC 9293), sans-IO.

use std::fmt;

/// Why a connection or a subflow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
mod config;
mod event;
mod info;
mod state;
mod stub;
pub use config::*;
pub use event::*;
pub use info::*;
pub use state::*;
pub use stub::*;
