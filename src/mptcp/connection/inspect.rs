//! What a connection is: its state and figures, for those who look.

use super::{Connection, Mode, SubflowFigures};
use crate::base::DataSeq;
use crate::mptcp::subflow::Subflow;
use crate::mptcp::{FallbackReason, Misbehaviour, Path, SubflowId, Tuning};
use crate::tcp::State;
use crate::wire::FourTuple;
use crate::wire::mptcp::{AddressId, Token};

impl Connection {
    /// Our token, once the connection is MPTCP.
    pub fn token(&self) -> Option<Token> {
        matches!(self.mode, Mode::Multipath { .. }).then_some(self.local.token)
    }

    /// Our token, whatever became of it: the worker's table knows it until the end.
    pub fn reserved_token(&self) -> Token {
        self.local.token
    }

    /// We opened it.
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// We have answered a SYN with MP_CAPABLE, and wait for the keys.
    pub fn is_answering(&self) -> bool {
        self.mode == Mode::Answering
    }

    /// Why it is not MPTCP; `None` while it is, or may become so.
    pub fn fallback(&self) -> Option<FallbackReason> {
        match self.mode {
            Mode::Plain(reason) => Some(reason),
            Mode::Offering | Mode::Answering | Mode::Multipath { .. } => None,
        }
    }

    /// The first subflow's ends.
    pub fn first_tuple(&self) -> FourTuple {
        self.first_tuple
    }

    /// Flag C of the peer: no subflow may be opened to the first subflow's remote address and port.
    pub fn no_join_remote(&self) -> bool {
        self.negotiation.no_join_remote()
    }

    /// We opened it, and the peer has not answered.
    pub fn is_opening(&self) -> bool {
        !self.closed && self.subflows.iter().any(|s| s.is_initial() && s.tcb.state() == State::SynSent)
    }

    /// A SYN that begins a new connection has ended its TIME-WAIT (RFC 9293 §3.6.1): it is for a listener.
    pub fn is_reopened(&self) -> bool {
        self.reopened
    }

    /// Nothing is left of it but subflows that wait for old duplicates.
    pub fn is_in_time_wait(&self) -> bool {
        !self.subflows.is_empty() && self.subflows.iter().all(|s| s.tcb.state() == State::TimeWait)
    }

    /// The settings that may change while it runs.
    pub fn tuning(&self) -> Tuning {
        self.options.tuning
    }

    /// It is over for its application. Something may still have to be said to the peer ([`Connection::has_last_words`]).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// It is about to rest: what it keeps only to be fast, or is told again, is of no use then.
    pub fn prepare_rest(&mut self) {
        self.beside = None;
        self.receive.forget_spare();
        self.subflows.iter_mut().for_each(|subflow| subflow.tcb.prepare_rest());
    }

    /// Neither queue of its own holds data.
    pub fn is_drained(&self) -> bool {
        self.send.is_empty() && self.receive.is_empty()
    }

    /// It holds no data, in no queue: it can be written down as it is, and be read back.
    pub fn is_at_rest(&self) -> bool {
        let quiet = |subflow: &Subflow| subflow.tcb.holds_nothing() && subflow.inbound.is_empty();
        self.is_drained() && self.subflows.iter().all(quiet)
    }

    /// Whether mappings have checksums.
    pub fn has_checksums(&self) -> bool {
        self.is_multipath() && self.negotiation.checksum()
    }

    /// What the peer did wrong.
    pub fn misbehaviour(&self) -> Misbehaviour {
        self.misbehaviour
    }

    /// Bytes sent again on another subflow.
    pub fn reinjected_bytes(&self) -> u64 {
        self.send.reinjected_bytes()
    }

    /// The peer's window beyond what it has acknowledged, in bytes.
    pub fn send_window(&self) -> u64 {
        self.send_edge.distance(self.send.una()).max(0) as u64
    }

    /// Bytes of the application that the peer has acknowledged.
    pub fn acknowledged_bytes(&self) -> u64 {
        self.send.una().distance(self.local.first_byte()).max(0) as u64
    }

    /// The next data byte expected.
    pub fn data_ack(&self) -> DataSeq {
        self.receive.next()
    }

    /// Figures of all subflows, the first ones first, ended ones included.
    pub fn figures(&self) -> impl Iterator<Item = SubflowFigures> + '_ {
        self.history
            .iter()
            .copied()
            .chain(self.subflows.iter().map(|subflow| figures(subflow, subflow.established)))
    }

    /// How many subflows there are and were.
    pub fn subflow_count(&self) -> usize {
        self.subflows.len() + self.history.len()
    }

    /// The subflow with these ends.
    pub fn subflow_by_tuple(&self, tuple: &FourTuple) -> Option<SubflowId> {
        self.subflows.iter().find(|subflow| subflow.tuple == *tuple).map(|subflow| subflow.id)
    }

    /// The ends of every subflow, and the port that it uses.
    pub fn tuples(&self) -> impl Iterator<Item = (SubflowId, FourTuple, Path)> + '_ {
        self.subflows.iter().map(|subflow| (subflow.id, subflow.tuple, subflow.path))
    }

    /// As [`Connection::tuples`], with the peer's id of its address.
    pub fn tuples_with_ids(&self) -> impl Iterator<Item = (SubflowId, FourTuple, Path, AddressId)> + '_ {
        self.subflows.iter().map(|subflow| (subflow.id, subflow.tuple, subflow.path, subflow.remote_id))
    }
}

/// The figures of a subflow.
pub(super) fn figures(subflow: &Subflow, alive: bool) -> SubflowFigures {
    SubflowFigures {
        id: subflow.id,
        tuple: subflow.tuple,
        path: subflow.path,
        alive,
        backup: subflow.is_backup(),
        mss: subflow.tcb.mss(),
        tcp: subflow.tcb.info(),
    }
}
