//! The states of RFC 9293 §3.3.2, and what each allows. LISTEN is not here: a listener has no connection yet.

use serde::{Deserialize, Serialize};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Our SYN awaits an answer.
    SynSent,
    /// We know the peer's SYN, and ours is not acknowledged.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We have closed; our FIN is not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged; the peer still sends.
    FinWait2,
    /// The peer has closed; we still send.
    CloseWait,
    /// Both closed at once; our FIN is not acknowledged.
    Closing,
    /// The peer closed first, then we; our FIN is not acknowledged.
    LastAck,
    /// Both closed; answers a peer that missed our last ACK.
    TimeWait,
    /// No connection.
    Closed,
}

impl State {
    /// Whether the application may send: the peer is known, and we have not closed.
    pub fn takes_data(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// Whether segments of the send queue (data and FIN) may leave.
    pub fn transmits(self) -> bool {
        use State::*;
        match self {
            Established | CloseWait | FinWait1 | Closing | LastAck => true,
            SynSent | SynReceived | FinWait2 | TimeWait | Closed => false,
        }
    }

    /// Whether payload is expected: the peer's FIN has not been consumed.
    pub fn receives_data(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// RFC 9293 §3.10.4: after CLOSE in a state that takes data.
    pub(super) fn after_close(self) -> State {
        match self {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            other => other,
        }
    }

    /// RFC 9293 §3.10.7.4 eighth: the peer's FIN was consumed.
    pub(super) fn after_peer_fin(self) -> State {
        match self {
            State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            other => other,
        }
    }

    /// RFC 9293 §3.10.7.4 fifth: our FIN was acknowledged.
    pub(super) fn after_fin_acked(self) -> State {
        match self {
            State::FinWait1 => State::FinWait2,
            State::Closing => State::TimeWait,
            State::LastAck => State::Closed,
            other => other,
        }
    }
}
