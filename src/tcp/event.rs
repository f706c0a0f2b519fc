//! What a connection tells its owner.

use crate::tcp::CloseReason;

/// Something that happened. [`crate::tcp::Tcb::poll_event`] gives it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpEvent {
    /// The handshake is complete.
    Established,
    /// The retransmission timer expired: all that is in flight is taken to be lost.
    RetransmissionTimeout,
    /// The peer's FIN arrived, and all data before it.
    PeerFinished,
    /// The connection is gone. After TIME-WAIT, where there is one.
    Closed(CloseReason),
}

/// Events that wait to be polled: each kind at most once, in the order in which they can happen.
#[derive(Debug, Default)]
pub(super) struct Events {
    established: bool,
    timeout: bool,
    peer_finished: bool,
    closed: Option<CloseReason>,
}

impl Events {
    /// Adds one.
    pub(super) fn push(&mut self, event: TcpEvent) {
        match event {
            TcpEvent::Established => self.established = true,
            TcpEvent::RetransmissionTimeout => self.timeout = true,
            TcpEvent::PeerFinished => self.peer_finished = true,
            TcpEvent::Closed(reason) => self.closed = Some(reason),
        }
    }

    /// Whether there is one.
    pub(super) fn has_some(&self) -> bool {
        let Self { established, timeout, peer_finished, closed } = self;
        *established || *timeout || *peer_finished || closed.is_some()
    }

    /// Takes the next.
    pub(super) fn poll(&mut self) -> Option<TcpEvent> {
        if std::mem::take(&mut self.established) {
            return Some(TcpEvent::Established);
        }
        if std::mem::take(&mut self.timeout) {
            return Some(TcpEvent::RetransmissionTimeout);
        }
        if std::mem::take(&mut self.peer_finished) {
            return Some(TcpEvent::PeerFinished);
        }
        self.closed.take().map(TcpEvent::Closed)
    }
}
