//! The path manager: which subflows a connection should have, and which addresses its peer should hear of. Sans-IO:
//! reports of workers, events of the network and a user's wishes come in, [`PmCommand`]s go out. Read `manager.rs`
//! first, then `plan.rs`, which decides.
//!
//! It speaks the vocabulary of `ip mptcp`: *endpoints* (local addresses with flags, `endpoint.rs`) and *limits*. A
//! *policy* (`policy.rs`) says what addresses are for where no endpoint does.

mod bundle;
mod connection;
mod endpoint;
mod health;
mod manager;
mod plan;
mod policy;
mod requests;
mod routes;

pub use bundle::Bundles;
pub use endpoint::{EndpointError, EndpointSpec, Flags, LocalEndpoint};
pub use health::PortHealth;
pub use manager::{Manager, PmCounters};
pub use policy::{NDIFFPORTS_MAX, Policy, UnknownPolicy};
pub use requests::{ConnectionView, RequestError, SubflowRequest, SubflowView};
pub use routes::{Prefix, Route, Routes};

use crate::base::{PortId, WorkerId};
use crate::mptcp::addr::ADDRESSES_MAX;
use crate::mptcp::connection::SUBFLOWS_MAX;
use crate::stack::{ConnectionId, SubflowId};
use crate::wire::Endpoint;
use crate::wire::mptcp::AddressId;
use std::net::IpAddr;

/// How much a path manager may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Subflows of one connection beside its first one, those under way and those that the peer opened included. One
    /// that the peer opens beyond it is reset. What there is when the limit is lowered stays.
    pub subflows: usize,
    /// Addresses that a peer announces and that are kept, for one connection. Further announcements are not acted upon.
    pub add_addr_accepted: usize,
    /// Connections. Those beyond keep their first subflow and are not managed; that is counted.
    pub connections: usize,
}

impl Limits {
    /// The most subflows beside the first one.
    pub const SUBFLOWS_MAX: usize = SUBFLOWS_MAX - 1;
    /// The most addresses of a peer.
    pub const ADD_ADDR_ACCEPTED_MAX: usize = ADDRESSES_MAX;
}

impl Default for Limits {
    fn default() -> Self {
        Self { subflows: 7, add_addr_accepted: 8, connections: 16384 }
    }
}

/// How a path manager goes about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PmConfig {
    /// What addresses are for where no endpoint of the user's says it.
    pub policy: Policy,
    /// The policy uses IPv4 and IPv6 addresses of a NIC side by side, with a subflow over each. Otherwise those of the
    /// first subflow's family, and the others only of a NIC that has none or comes nowhere with them.
    pub dual_stack: bool,
    /// How much it may do.
    pub limits: Limits,
    /// NICs whose addresses are used only as backups.
    pub backup: Vec<PortId>,
}

/// A NIC can carry packets, or can't (no carrier, set down).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEvent {
    /// The NIC.
    pub port: PortId,
    /// Whether it can.
    pub up: bool,
}

/// A usable address (global scope, not tentative) came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressEvent {
    /// Its NIC.
    pub port: PortId,
    /// The address.
    pub addr: IpAddr,
    /// It came (or it went).
    pub added: bool,
}

/// What the path manager wants done. The runtime finds the way and a local port and makes a
/// [`crate::stack::Command`] of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PmCommand {
    /// Open a subflow. If that cannot even be begun, say so by [`Manager::handle_open_failed`].
    OpenSubflow {
        /// The connection's worker.
        worker: WorkerId,
        /// The connection.
        connection: ConnectionId,
        /// From here.
        local: IpAddr,
        /// Through this NIC.
        port: PortId,
        /// To there.
        remote: Endpoint,
        /// Our id of the local address.
        local_id: AddressId,
        /// The peer's id of its address.
        remote_id: AddressId,
        /// Use it only as a backup.
        backup: bool,
    },
    /// Reset a subflow.
    CloseSubflow {
        /// The connection's worker.
        worker: WorkerId,
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
    },
    /// Ask the peer to use a subflow only as a backup, or again as any other, and do the same.
    SetBackup {
        /// The connection's worker.
        worker: WorkerId,
        /// The connection.
        connection: ConnectionId,
        /// The subflow.
        subflow: SubflowId,
        /// Only as a backup.
        backup: bool,
    },
    /// Tell the peer of an address.
    Announce {
        /// The connection's worker.
        worker: WorkerId,
        /// The connection.
        connection: ConnectionId,
        /// Our id of it.
        id: AddressId,
        /// The address.
        addr: IpAddr,
        /// The port to join at; `None`: that of the first subflow.
        port: Option<u16>,
    },
    /// Tell the peer that an address is gone.
    Withdraw {
        /// The connection's worker.
        worker: WorkerId,
        /// The connection.
        connection: ConnectionId,
        /// Our id of it.
        id: AddressId,
    },
}

impl PmCommand {
    /// The connection that it is about.
    fn key(&self) -> (WorkerId, ConnectionId) {
        match *self {
            PmCommand::OpenSubflow { worker, connection, .. }
            | PmCommand::CloseSubflow { worker, connection, .. }
            | PmCommand::SetBackup { worker, connection, .. }
            | PmCommand::Announce { worker, connection, .. }
            | PmCommand::Withdraw { worker, connection, .. } => (worker, connection),
        }
    }
}

#[cfg(test)]
mod tests;
