//! Flows whose next hop is being resolved.

use super::error::ConnectError;
use super::handle::Opening;
use super::local_ports::Key;
use super::network::Way;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::stack::ConnectOptions;
use crate::wire::Endpoint;
use crate::wire::mptcp::AddressId;
use crossbeam::channel::Sender;
use std::net::SocketAddr;

/// How long a next hop has to answer.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Flows that wait at a time; further ones are refused.
pub(super) const WAITING_MAX: usize = 1024;

/// What is to be opened.
#[derive(Debug)]
pub(super) enum Wanted {
    /// A connection.
    Connect { remote: SocketAddr, options: ConnectOptions, reply: Sender<Result<Opening, ConnectError>> },
    /// A further subflow.
    Join { connection: Key, remote: Endpoint, local_id: AddressId, remote_id: AddressId, backup: bool },
}

/// One flow that waits for its next hop.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) way: Way,
    pub(super) deadline: Instant,
    pub(super) wanted: Wanted,
}
