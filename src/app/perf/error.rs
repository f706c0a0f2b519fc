//! Why a test was not run, or ended before its time: each in one line, with what can be done about it.

use crate::app::perf::parameters::Unacceptable;
use crate::app::perf::protocol::{ServerError, Violation};
use crate::runtime::{ConnectError, ListenError};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Why a test was not run, or ended before its time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PerfError {
    /// The name of the server means nothing.
    #[error("cannot find the host '{host}': {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Braid could not connect.
    #[error("cannot connect: {0}")]
    BraidConnect(#[from] ConnectError),
    /// Braid could not listen.
    #[error("cannot listen: {0}")]
    BraidListen(#[from] ListenError),
    /// The kernel could not connect.
    #[error("cannot connect to {remote}: {source}{}", connect_advice(source))]
    Connect {
        /// The server.
        remote: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel could not listen.
    #[error("cannot listen at {local}: {source}{}", listen_advice(source))]
    Listen {
        /// Where.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server said no.
    #[error("the server is busy with another test, or refuses us; try again later")]
    AccessDenied,
    /// The server said why not.
    #[error("the server cannot run this test: {}", .0.describe())]
    Server(ServerError),
    /// The server ended the test.
    #[error("the server has ended the test")]
    ServerTerminated,
    /// The client ended the test.
    #[error("the client has ended the test")]
    ClientTerminated,
    /// The peer went away.
    #[error("the {peer} is gone: the control connection {}", lost(source))]
    ControlLost {
        /// Who.
        peer: &'static str,
        /// How.
        source: io::Error,
    },
    /// The peer was silent where it should have spoken.
    #[error("the {peer} did not {action} in time")]
    Silent {
        /// Who.
        peer: &'static str,
        /// What we waited for.
        action: &'static str,
    },
    /// The peer does not speak the protocol.
    #[error("the {peer} does not follow the iperf3 protocol: {violation}")]
    Violation {
        /// Who.
        peer: &'static str,
        /// How.
        violation: Violation,
    },
    /// The client asks for what this server can't do.
    #[error("{0}")]
    Unacceptable(#[from] Unacceptable),
    /// A data connection broke.
    #[error("stream {id} broke: {source}")]
    Stream {
        /// Its name on the wire.
        id: u32,
        /// How.
        source: io::Error,
    },
    /// Nothing moved for too long.
    #[error("no data moved for {secs} s: the other end, or the path to it, is gone")]
    Idle {
        /// How long.
        secs: u64,
    },
    /// The test took longer than it may.
    #[error("the test did not end in time")]
    Overdue,
    /// The file of `-F`.
    #[error("cannot {action} '{}': {source}", path.display())]
    File {
        /// What we wanted with it.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of a server takes one stream at a time.
    #[error("the server's file is in use, or the test has more than one stream that would write to it")]
    FileBusy,
    /// A socket option.
    #[error("cannot set the {option} of a connection: {source}")]
    Option {
        /// Which.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread could not be had.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// Nobody reads our output any more.
    #[error("standard output was closed")]
    OutputClosed,
    /// Our output can't be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// Ctrl-C, or a signal that asks to end.
    #[error("interrupted")]
    Interrupted,
}

impl PerfError {
    /// Whether it ended a test, rather than kept a server from serving at all.
    pub fn is_of_a_test(&self) -> bool {
        !matches!(self, Self::BraidListen(_) | Self::Listen { .. } | Self::Output(_) | Self::OutputClosed)
    }

    /// Of a read or write on the control connection.
    pub fn control(peer: &'static str, action: &'static str, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::TimedOut => Self::Silent { peer, action },
            ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::ControlLost { peer, source },
        }
    }
}

fn lost(source: &io::Error) -> String {
    match source.kind() {
        ErrorKind::UnexpectedEof => "was closed".to_owned(),
        _ => format!("broke ({source})"),
    }
}

fn connect_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::ConnectionRefused => {
            "; is the server running there, at this port? (braid server, iperf3 -s)"
        }
        ErrorKind::TimedOut => "; is the address right, and no firewall in between?",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "; ip route get ADDRESS says which way",
        _ => protocol_advice(source),
    }
}

fn listen_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::AddrInUse => {
            "; the port is in use by another program (ss -ltnp says which); choose another with -p"
        }
        ErrorKind::PermissionDenied => "; ports below 1024 need root",
        ErrorKind::AddrNotAvailable => "; ip address shows the addresses of this machine",
        _ => protocol_advice(source),
    }
}

fn protocol_advice(source: &io::Error) -> &'static str {
    use rustix::io::Errno;
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PROTONOSUPPORT | Errno::NOPROTOOPT) => {
            "; this kernel has no MPTCP, or it is off (sysctl net.mptcp.enabled=1)"
        }
        _ => "",
    }
}
