//! What a connection is made with.

use crate::base::{PortId, SeqNum};
use crate::cc::CongestionAlgorithm;
use crate::mptcp::crypto::KeyMaterial;
use crate::tcp::TcpConfig;
use crate::wire::{FourTuple, LinkHeader};

/// How packets of a subflow leave: the NIC and the link header. The control thread makes it from routes and
/// neighbours; a passive subflow answers the way its SYN came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The NIC.
    pub port: PortId,
    /// What goes in front of the IP header.
    pub link: LinkHeader,
    /// The NIC's MTU, in bytes of IP packet.
    pub mtu: u16,
}

/// How to open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Offer MPTCP (or be plain TCP).
    pub mptcp: bool,
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// Receive buffer of the connection, in bytes.
    pub receive_buffer: u32,
    /// Send buffer of the connection, in bytes.
    pub send_buffer: u32,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            mptcp: true,
            congestion: CongestionAlgorithm::default(),
            receive_buffer: 6 << 20,
            send_buffer: 6 << 20,
        }
    }
}

/// What a connection is made with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The ends of the first subflow.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// How the application wants it.
    pub options: ConnectOptions,
    /// The stack's settings of TCP; path and options refine them.
    pub tcp: TcpConfig,
    /// Our key.
    pub key: KeyMaterial,
    /// Initial sequence number of the first subflow.
    pub iss: SeqNum,
}
