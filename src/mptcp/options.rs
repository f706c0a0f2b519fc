//! What a connection is made with.

use crate::base::time::Duration;
use crate::base::{PortId, SeqNum};
use crate::cc::CongestionAlgorithm;
use crate::mptcp::Tuning;
use crate::mptcp::crypto::KeyMaterial;
use crate::mptcp::sched::SchedulerKind;
use crate::tcp::TcpConfig;
use crate::wire::{FourTuple, LinkHeader, Mss};
use serde::{Deserialize, Serialize};

/// How packets of a subflow leave: the NIC and the link header. The control thread makes it from routes and
/// neighbours; a passive subflow answers the way its SYN came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The NIC.
    pub port: PortId,
    /// What goes in front of the IP header.
    pub link: LinkHeader,
    /// The NIC's MTU, in bytes of IP packet.
    pub mtu: u16,
}

/// Whether mappings carry checksums (RFC 8684 §3.1, flag A). They are used if either host requires them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ChecksumPolicy {
    /// Only if the peer requires them: the payload has TCP's checksum already, and a middlebox that changes it is rare.
    #[default]
    WhenAsked,
    /// Always.
    Required,
    /// Never: a peer that requires them gets plain TCP.
    Never,
}

impl ChecksumPolicy {
    /// All, with their names on the command line.
    pub const ALL: &[(&'static str, ChecksumPolicy)] = &[
        ("when-asked", ChecksumPolicy::WhenAsked),
        ("required", ChecksumPolicy::Required),
        ("never", ChecksumPolicy::Never),
    ];
}

/// With what a connection's congestion control is coupled, where it is ([`CongestionAlgorithm::is_coupled`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CouplingScope {
    /// Its own subflows: it takes of a shared bottleneck what one TCP connection takes.
    #[default]
    Connection,
    /// Those of all connections of ours to the same host that have it so, too: all together take that.
    Bundle,
}

impl CouplingScope {
    /// All, with their names on the command line.
    pub const ALL: &[(&'static str, CouplingScope)] =
        &[("connection", CouplingScope::Connection), ("bundle", CouplingScope::Bundle)];
}

/// How to open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectOptions {
    /// Offer MPTCP (or be plain TCP).
    pub mptcp: bool,
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// With what that is coupled.
    pub coupling: CouplingScope,
    /// The windows are coupled anew so often, at most; 0: once in the shortest round trip.
    pub coupling_period: Duration,
    /// Which subflow carries what.
    pub scheduler: SchedulerKind,
    /// Checksums of mappings.
    pub checksum: ChecksumPolicy,
    /// Tell the peer that it cannot open subflows to the local address and port of the first one (RFC 8684 §3.1, flag
    /// C): a load balancer in front of us would not know whose they are.
    pub no_join_here: bool,
    /// Receive buffer of the connection, in bytes, at most: it begins small and follows what the paths carry
    /// ([`crate::mptcp::autotune`]), as far as the pool has frames.
    pub receive_buffer: u32,
    /// Send buffer of the connection, in bytes, at most: what the congestion windows let go, and little that waits.
    pub send_buffer: u32,
    /// No larger segment is asked for or sent, whatever the path would take.
    pub max_segment: Option<Mss>,
    /// Use TCP Fast Open (RFC 7413): the first data of a plain TCP connection may go with its SYN, to a server that has given
    /// us a cookie before, and a listener takes such data and hands it to its application before the handshake is over.
    ///
    /// A SYN may be duplicated on the way and arrive after its connection has ended: **the server's application may then get
    /// that data once more**, as of a new connection. Only for applications to which that does no harm (§6.1).
    ///
    /// A connection that offers MPTCP asks for a cookie and sends no data on its SYN.
    pub fast_open: bool,
    /// What can be changed later, too.
    pub tuning: Tuning,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            mptcp: true,
            congestion: CongestionAlgorithm::default(),
            coupling: CouplingScope::default(),
            coupling_period: Duration::ZERO,
            scheduler: SchedulerKind::default(),
            checksum: ChecksumPolicy::default(),
            no_join_here: false,
            receive_buffer: 32 << 20,
            send_buffer: 32 << 20,
            max_segment: None,
            fast_open: false,
            tuning: Tuning::default(),
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
