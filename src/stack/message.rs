//! The vocabulary between control and workers: [`Command`] down, [`Report`] up. One ring each way for each worker.

use crate::base::PortId;
pub use crate::cc::CongestionAlgorithm;
use crate::cc::PathSnapshot;
use crate::mptcp::ConnectionDetails;
pub use crate::mptcp::{ConnectOptions, FallbackReason, Path, SchedulerKind, SubflowId};
use crate::stack::counters::WorkerCounters;
use crate::stack::stream::{AcceptQueue, StreamShared};
pub use crate::tcp::CloseReason;
use crate::wire::mptcp::{AddressId, MpTcpRst, Token};
use crate::wire::{Endpoint, FourTuple, MacAddr};
use std::net::IpAddr;
use std::sync::Arc;

slotmap::new_key_type! {
    /// Names a connection of one worker; never reused for another.
    pub struct ConnectionId;
}

/// Names a listener; the same at every worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// How to accept connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenOptions {
    /// What an accepted connection is like; `mptcp: false` answers every SYN as plain TCP, and with `fast_open` a connection may
    /// be accepted before its handshake is over, with data that a replayed SYN can bring once more.
    pub connection: ConnectOptions,
}

/// From control to a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept connections at `port`, on every local address of the host (those whose packets are steered here).
    Listen {
        /// Its name.
        id: ListenerId,
        /// The TCP port.
        port: u16,
        /// Only at this address, or at any.
        addr: Option<IpAddr>,
        /// How.
        options: ListenOptions,
        /// Where accepted connections go.
        accept: Arc<AcceptQueue>,
    },
    /// Stop accepting. Connections stay.
    Unlisten(ListenerId),
    /// Open a connection. The local port is reserved in the kernel and in `local_map` already.
    Connect {
        /// The ends of the first subflow.
        tuple: FourTuple,
        /// Its way out.
        path: Path,
        /// How.
        options: ConnectOptions,
        /// The application's side; told of success and failure.
        stream: Arc<StreamShared>,
    },
    /// Join a further subflow to a connection. The local port is reserved already.
    OpenSubflow {
        /// The connection.
        connection: ConnectionId,
        /// The ends of the subflow.
        tuple: FourTuple,
        /// Its way out.
        path: Path,
        /// Our id of the local address.
        local_id: AddressId,
        /// The peer's id of its address, 0 for that of the first subflow.
        remote_id: AddressId,
        /// Use it only as a backup.
        backup: bool,
    },
    /// Reset a subflow; what it held is sent on others.
    CloseSubflow {
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
    },
    /// Ask the peer to use a subflow only as a backup, or again as any other (MP_PRIO); and do so ourselves.
    SetBackup {
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
        /// Only as a backup.
        backup: bool,
    },
    /// Spread the data of a connection in another way from now on.
    SetScheduler {
        /// The connection.
        connection: ConnectionId,
        /// How.
        scheduler: SchedulerKind,
    },
    /// Hold the windows of a connection's subflows by another algorithm from now on.
    SetCongestion {
        /// The connection.
        connection: ConnectionId,
        /// By this one.
        congestion: CongestionAlgorithm,
    },
    /// What the other connections of its bundle do: couple with those, too ([`Report::Paths`]).
    SetBeside {
        /// The connection.
        connection: ConnectionId,
        /// The paths of the others.
        paths: Vec<PathSnapshot>,
    },
    /// Tell the peer of an address (ADD_ADDR), until it is echoed.
    Announce {
        /// The connection.
        connection: ConnectionId,
        /// Our id of the address.
        id: AddressId,
        /// The address; a port of `None` means that of the first subflow.
        addr: IpAddr,
        /// Another port to join at.
        port: Option<u16>,
    },
    /// Tell the peer that addresses are gone (REMOVE_ADDR) and reset the subflows from them.
    Withdraw {
        /// The connection.
        connection: ConnectionId,
        /// Our id of the address.
        id: AddressId,
    },
    /// A NIC lost its carrier, was set down or gives nothing back (`up: false`), or can be used again.
    PortState {
        /// The NIC.
        port: PortId,
        /// Whether packets can pass.
        up: bool,
    },
    /// The next hop's link address has changed.
    Neighbour {
        /// The NIC.
        port: PortId,
        /// The link address until now.
        before: MacAddr,
        /// The link address from now on.
        after: MacAddr,
    },
    /// Tell all that there is to say about a connection: answered by [`Report::Described`].
    Describe {
        /// The connection.
        connection: ConnectionId,
        /// Comes back with the answer.
        ticket: u64,
    },
    /// Tell the counts: answered by [`Report::Counted`].
    Count {
        /// Comes back with the answer.
        ticket: u64,
    },
    /// Reset all connections with notice to their peers and applications: the process is about to end.
    Shutdown,
}

/// From a worker to control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A connection is established.
    Established {
        /// The connection.
        connection: ConnectionId,
        /// Our token, when it is MPTCP; `None` for plain TCP, to which no subflow can be added.
        token: Option<Token>,
        /// We opened it (and, by convention, we add subflows).
        initiator: bool,
        /// The ends of the first subflow.
        tuple: FourTuple,
        /// The NIC of the first subflow.
        port: PortId,
        /// Flag C of the peer: no subflow may be opened to `tuple.remote` (RFC 8684 §3.1).
        no_join_remote: bool,
    },
    /// MPTCP is confirmed by a first DSS: subflows may be joined from now on (RFC 8684 §3.2).
    JoinsAllowed {
        /// The connection.
        connection: ConnectionId,
    },
    /// A joined subflow (ours or the peer's) is established.
    SubflowEstablished {
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
        /// Its ends.
        tuple: FourTuple,
        /// Its NIC.
        port: PortId,
        /// Our id of its local address.
        local_id: AddressId,
        /// The peer's id of its address.
        remote_id: AddressId,
        /// Either side wants it used only as a backup.
        backup: bool,
    },
    /// The peer wants a subflow used only as a backup, or again as any other (MP_PRIO).
    PriorityChanged {
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
        /// Only as a backup.
        backup: bool,
    },
    /// A subflow has ended, or a join failed.
    SubflowClosed {
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
        /// Its ends: the local port can be given back to the kernel.
        tuple: FourTuple,
        /// Why.
        reason: CloseReason,
        /// What the peer said about it on its reset (RFC 8684 §3.6).
        reset: Option<MpTcpRst>,
        /// Whether it had been established.
        established: bool,
    },
    /// What the paths of a connection are whose congestion control is coupled with that of others to the same peer; answered
    /// by [`Command::SetBeside`].
    Paths {
        /// The connection.
        connection: ConnectionId,
        /// Its peer: where the first subflow leads.
        peer: IpAddr,
        /// Its paths that can carry data.
        paths: Vec<PathSnapshot>,
    },
    /// The peer announced an address.
    AddressAnnounced {
        /// The connection.
        connection: ConnectionId,
        /// The peer's id of it.
        id: AddressId,
        /// Where to join; the port is filled in where the peer left it out.
        remote: Endpoint,
    },
    /// The peer withdrew an address; its subflows are gone already.
    AddressWithdrawn {
        /// The connection.
        connection: ConnectionId,
        /// The peer's id of it.
        id: AddressId,
    },
    /// The answer to [`Command::Describe`].
    Described {
        /// The question's.
        ticket: u64,
        /// `None`: there is no such connection any more.
        details: Option<Box<ConnectionDetails>>,
    },
    /// The answer to [`Command::Count`].
    Counted {
        /// The question's.
        ticket: u64,
        /// The counts.
        counters: Box<WorkerCounters>,
    },
    /// Nothing that was given to a NIC comes back from it, or something does again.
    PortStalled {
        /// The NIC.
        port: PortId,
        /// Whether nothing does.
        stalled: bool,
    },
    /// Both directions of a connection have ended, and it only waits for old duplicates (TIME-WAIT): no path is of use to it any
    /// more.
    Finished {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection has ended; its id is void. Every subflow was reported closed before.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

impl Report {
    /// Whether control may hear of it a little later, together with others: nobody waits for what it does then. What it does
    /// of its own accord, further subflows above all, is of no use to a connection that is over so soon (RFC 8684 §3.9.2).
    pub fn can_wait(&self) -> bool {
        match self {
            Report::Established { .. }
            | Report::JoinsAllowed { .. }
            | Report::SubflowEstablished { .. }
            | Report::SubflowClosed { reason: CloseReason::Finished, .. }
            | Report::Finished { .. }
            | Report::Closed { .. } => true,
            Report::SubflowClosed { .. }
            | Report::PriorityChanged { .. }
            | Report::Paths { .. }
            | Report::AddressAnnounced { .. }
            | Report::AddressWithdrawn { .. }
            | Report::Described { .. }
            | Report::Counted { .. }
            | Report::PortStalled { .. } => false,
        }
    }
}
