//! The path manager: which subflows a connection should have, and which addresses its peer should hear of. Sans-IO:
//! reports of workers and events of the network come in, [`PmCommand`]s go out. Read `manager.rs` first.
//!
//! The policy is a full mesh within limits. The initiator opens a subflow from each of its own usable addresses to
//! each address that it knows of the peer, wherever a route leads that way. The acceptor announces its addresses and
//! opens none: it could not reach an initiator behind a NAT (RFC 8684 §3.2 lets either do it; the kernel's default
//! is the same convention).

mod connection;
mod health;
mod manager;
mod routes;

pub use health::PortHealth;
pub use manager::{Manager, PmCounters};
pub use routes::{Prefix, Route, Routes};

use crate::base::{PortId, WorkerId};
use crate::stack::{ConnectionId, SubflowId};
use crate::wire::Endpoint;
use crate::wire::mptcp::AddressId;
use std::net::IpAddr;

/// How much a path manager may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Subflows of one connection, those under way and those that the peer opened included.
    pub subflows: usize,
    /// Addresses announced to the peer of one connection, and addresses of the peer that are kept.
    pub addresses: usize,
    /// Connections. Those beyond keep their first subflow and are not managed; that is counted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { subflows: 8, addresses: 8, connections: 16384 }
    }
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
    /// Tell the peer of an address.
    Announce {
        /// The connection's worker.
        worker: WorkerId,
        /// The connection.
        connection: ConnectionId,
        /// Our id of it.
        id: AddressId,
        /// The address, to be joined at the port of the first subflow.
        addr: IpAddr,
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

#[cfg(test)]
mod tests;
