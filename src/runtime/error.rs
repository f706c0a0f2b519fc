//! Why something could not be started, connected or listened to: each with what can be done about it.

use super::ctl::CtlError;
use crate::stack::CloseReason;
use crate::xdp::XdpError;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no NIC to use.
    #[error(
        "no NIC is up with a usable address; name one with --nic, or set one up with ip link and ip address"
    )]
    NoNic,
    /// A NIC was asked for that does not exist.
    #[error("there is no NIC named {name}; there are: {}", others.join(", "))]
    NoSuchNic {
        /// The name.
        name: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// A NIC was asked for that is down.
    #[error("NIC {name} is down; set it up with: ip link set {name} up")]
    NicDown {
        /// The name.
        name: String,
    },
    /// A NIC was asked for that cannot carry Ethernet.
    #[error("NIC {name} has no Ethernet address (a loopback or a tunnel?)")]
    NotEthernet {
        /// The name.
        name: String,
    },
    /// A number in the configuration makes no sense.
    #[error("{what} is {value}; it must be between {min} and {max}")]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A NIC could not be opened.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// The kernel did not answer about links, addresses and routes.
    #[error("cannot ask the kernel for its links and addresses: {0}")]
    Netlink(#[source] io::Error),
    /// An endpoint cannot be used.
    #[error("endpoint {endpoint}: {why}")]
    Endpoint {
        /// Which.
        endpoint: String,
        /// Why not.
        why: String,
    },
    /// The control socket could not be opened.
    #[error(transparent)]
    Ctl(#[from] CtlError),
    /// A thread or a descriptor could not be had.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The kernel has no route.
    #[error("no route to {addr} (ip route get {addr} says more)")]
    NoRoute {
        /// The destination.
        addr: IpAddr,
    },
    /// The route leads through a NIC that we are not attached to.
    #[error(
        "the route to {addr} leaves through {nic}, which is not one of the attached NICs; add --nic {nic}"
    )]
    OtherNic {
        /// The destination.
        addr: IpAddr,
        /// The NIC of the route.
        nic: String,
    },
    /// The destination is this host.
    #[error("{addr} is an address of this host; packets to it never reach a NIC")]
    LocalAddress {
        /// The destination.
        addr: IpAddr,
    },
    /// The next hop does not answer.
    #[error("{remote} is unreachable: {next_hop} does not answer ARP or neighbour discovery on {nic}")]
    NoNeighbour {
        /// The destination.
        remote: SocketAddr,
        /// The destination itself, or the router towards it.
        next_hop: IpAddr,
        /// The NIC.
        nic: String,
    },
    /// The NIC of the route gives nothing back.
    #[error(
        "{remote} cannot be reached: {nic}, where the route leaves, completes no transmissions (fewer queues may help: --queues N; or --zero-copy off)"
    )]
    NicStalled {
        /// The destination.
        remote: SocketAddr,
        /// The NIC.
        nic: String,
    },
    /// No local port.
    #[error("no local port for {remote}: {source}")]
    LocalPort {
        /// The destination.
        remote: SocketAddr,
        /// Why.
        source: PortError,
    },
    /// The peer refused.
    #[error("{remote} refused the connection (nothing listens there)")]
    Refused {
        /// The destination.
        remote: SocketAddr,
    },
    /// No answer.
    #[error("{remote} did not answer in time")]
    TimedOut {
        /// The destination.
        remote: SocketAddr,
    },
    /// ICMP said that the destination cannot be reached.
    #[error("{remote} cannot be reached")]
    Unreachable {
        /// The destination.
        remote: SocketAddr,
    },
    /// It ended otherwise.
    #[error("{remote}: {}", reason.describe())]
    Closed {
        /// The destination.
        remote: SocketAddr,
        /// How.
        reason: CloseReason,
    },
    /// Too much is waiting for a worker already.
    #[error("too many connections are being opened at once; try again")]
    Busy,
    /// The runtime is shutting down.
    #[error("the runtime is shut down")]
    ShutDown,
}

impl ConnectError {
    /// From the way in which a connection ended before it was open.
    pub fn from_close(remote: SocketAddr, reason: CloseReason) -> Self {
        match reason {
            CloseReason::Refused => Self::Refused { remote },
            CloseReason::TimedOut => Self::TimedOut { remote },
            CloseReason::Unreachable => Self::Unreachable { remote },
            CloseReason::Finished
            | CloseReason::Reset
            | CloseReason::Aborted
            | CloseReason::PathDown
            | CloseReason::NoResources
            | CloseReason::Protocol => Self::Closed { remote, reason },
        }
    }
}

/// Why a local port cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Another program has it.
    #[error("port {} is in use by another program (ss -tanp shows which); choose another", local.port())]
    InUse {
        /// What was asked for.
        local: SocketAddr,
    },
    /// The kernel refused otherwise.
    #[error("the kernel does not give {local}: {source}")]
    Kernel {
        /// What was asked for.
        local: SocketAddr,
        /// What it said.
        source: io::Error,
    },
    /// The steering program could not be told of it.
    #[error(transparent)]
    Steering(#[from] XdpError),
    /// As many places for joins alone as there can be.
    #[error("{0} addresses with ports that are announced are the most")]
    TooManyJoins(usize),
}

impl PortError {
    /// From the error of binding to `local`.
    pub(super) fn from_bind(local: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { local },
            _ => Self::Kernel { local, source },
        }
    }
}

/// Why a listener was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The port cannot be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Not an address of an attached NIC.
    #[error("{addr} is not an address of an attached NIC")]
    NotOurs {
        /// The address.
        addr: IpAddr,
    },
    /// As many listeners as there can be.
    #[error("{0} listeners are the most")]
    TooMany(usize),
    /// The runtime is shutting down.
    #[error("the runtime is shut down")]
    ShutDown,
}
