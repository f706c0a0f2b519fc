//! What a test runs over: Braid, or the kernel's own stack, with the same calls.

use crate::app::perf::error::PerfError;
use crate::app::perf::kernel::{self, KernelNet, KernelStream};
use crate::app::{Listener as BraidListener, Stream};
use crate::base::Instant;
use crate::base::time::Duration;
use crate::runtime::{Clock, Runtime, Stalls};
use crate::stack::stream::{ConnectionInfo, FastOpenUse, SubflowInfo};
use crate::stack::{ConnectOptions, FallbackReason, ListenOptions};
use crate::xdp::PortInfo;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// How long a thread that only waits for the end looks away.
const SLICE: Duration = Duration::from_millis(100);
/// How long last words may take to arrive.
const LINGER: Duration = Duration::from_millis(500);

/// A transport.
#[derive(Debug)]
pub enum Net {
    /// Multipath TCP in user space.
    Braid(Box<BraidNet>),
    /// The kernel's sockets.
    Kernel(KernelNet),
}

/// Braid as a transport.
#[derive(Debug)]
pub struct BraidNet {
    /// Attached and running.
    pub runtime: Runtime,
    /// What connections are like.
    pub options: ConnectOptions,
}

/// Whether a connection is MPTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multipath {
    /// It is not known yet, or the kernel's sockets don't tell.
    Unknown,
    /// Both ends agreed on it.
    Agreed,
    /// It is plain TCP.
    Plain(Option<FallbackReason>),
}

impl Net {
    /// The name for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Net::Braid(net) if net.options.mptcp => "braid (MPTCP over AF_XDP)",
            Net::Braid(_) => "braid (TCP over AF_XDP)",
            Net::Kernel(KernelNet { mptcp: true, .. }) => "kernel MPTCP",
            Net::Kernel(KernelNet { mptcp: false, .. }) => "kernel TCP",
        }
    }

    /// The NICs that it is attached to; the kernel's stack is attached to none.
    pub fn ports(&self) -> &[PortInfo] {
        match self {
            Net::Braid(net) => net.runtime.ports(),
            Net::Kernel(_) => &[],
        }
    }

    /// Which of the NICs give nothing back.
    pub fn stalls(&self) -> Option<Stalls> {
        match self {
            Net::Braid(net) => Some(net.runtime.stalls().clone()),
            Net::Kernel(_) => None,
        }
    }

    /// The congestion control of connections, where the transport has one for all.
    pub fn congestion(&self) -> Option<&str> {
        match self {
            Net::Braid(net) => Some(net.options.congestion.name()),
            Net::Kernel(net) => net.congestion.as_deref(),
        }
    }

    /// Connects within `timeout`. Over Braid `first` is written at once; with Fast Open it may go with the SYN. Over the
    /// kernel's sockets, which want options before data, it is not: [`Connection::write_first`] does that.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn connect(
        &self,
        remote: SocketAddr,
        first: &[u8],
        timeout: Duration,
    ) -> Result<Connection, PerfError> {
        let timeout = timeout.into();
        match self {
            Net::Braid(net) => {
                Ok(Connection::Braid(net.runtime.connect_with(remote, net.options, first, timeout)?))
            }
            Net::Kernel(net) => match net.connect(remote, timeout) {
                Ok(stream) => Ok(Connection::Kernel(stream)),
                Err(source) => Err(PerfError::Connect { remote, source }),
            },
        }
    }

    /// Listens at `port` of `addr`, or of every local address.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn listen(&self, addr: Option<std::net::IpAddr>, port: u16) -> Result<Listener, PerfError> {
        let any = addr.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let local = SocketAddr::new(any, port);
        match self {
            Net::Braid(net) => {
                let options = ListenOptions { connection: net.options };
                Ok(Listener::Braid(net.runtime.listen(local, options)?))
            }
            Net::Kernel(net) => {
                let listener = match net.listen(local) {
                    // A kernel without IPv6.
                    Err(error) if addr.is_none() && error.kind() != ErrorKind::AddrInUse => {
                        net.listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
                    }
                    result => result,
                };
                listener.map(Listener::Kernel).map_err(|source| PerfError::Listen { local, source })
            }
        }
    }
}

/// Accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// Braid's.
    Braid(BraidListener),
    /// The kernel's.
    Kernel(TcpListener),
}

impl Listener {
    /// The next connection; `None` when `timeout` passed first.
    ///
    /// # Errors
    /// The listener is of no more use, or (the kernel) out of resources for now.
    pub fn accept(&self, timeout: Duration) -> io::Result<Option<Connection>> {
        let timeout = timeout.into();
        match self {
            Listener::Braid(listener) => Ok(listener.accept(Some(timeout))?.map(Connection::Braid)),
            Listener::Kernel(listener) => Ok(kernel::accept(listener, timeout)?.map(Connection::Kernel)),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Braid(listener) => Ok(listener.local_addr()),
            Listener::Kernel(listener) => listener.local_addr(),
        }
    }
}

/// A connection, of either kind. One thread may read while another writes.
#[derive(Debug)]
pub enum Connection {
    /// Braid's.
    Braid(Stream),
    /// The kernel's.
    Kernel(KernelStream),
}

impl Connection {
    /// Our end (of the first subflow).
    pub fn local_addr(&self) -> SocketAddr {
        match self {
            Connection::Braid(stream) => stream.local_addr(),
            Connection::Kernel(stream) => stream.local_addr(),
        }
    }

    /// The peer's end (of the first subflow).
    pub fn peer_addr(&self) -> SocketAddr {
        match self {
            Connection::Braid(stream) => stream.remote_addr(),
            Connection::Kernel(stream) => stream.peer_addr(),
        }
    }

    /// Reads into `buffer`, 0 bytes at the end; `None` when nothing came within `timeout`.
    ///
    /// # Errors
    /// The connection is over.
    pub fn read(&self, buffer: &mut [u8], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        let timeout = timeout.map(Into::into);
        match self {
            Connection::Braid(stream) => {
                stream.set_read_timeout(timeout);
                in_time(stream, Read::read(&mut &*stream, buffer))
            }
            Connection::Kernel(stream) => stream.read(buffer, timeout),
        }
    }

    /// Writes some of `bytes`; `None` when there was no room within `timeout`.
    ///
    /// # Errors
    /// The connection is over.
    pub fn write(&self, bytes: &[u8], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        let timeout = timeout.map(Into::into);
        match self {
            Connection::Braid(stream) => {
                stream.set_write_timeout(timeout);
                in_time(stream, Write::write(&mut &*stream, bytes))
            }
            Connection::Kernel(stream) => stream.write(bytes, timeout),
        }
    }

    /// Writes all of `bytes` by `deadline`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], or the connection is over.
    pub fn write_all(&self, mut bytes: &[u8], clock: Clock, deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = time_left(clock, deadline)?;
            match self.write(bytes, Some(left))? {
                None => {}
                Some(0) => return Err(ErrorKind::WriteZero.into()),
                Some(written) => bytes = &bytes[written..],
            }
        }
        Ok(())
    }

    /// After [`Net::connect`] with `first`: writes it where that did not.
    ///
    /// # Errors
    /// As [`Connection::write_all`].
    pub fn write_first(&self, first: &[u8], clock: Clock, deadline: Instant) -> io::Result<()> {
        match self {
            Connection::Braid(_) => Ok(()),
            Connection::Kernel(_) => self.write_all(first, clock, deadline),
        }
    }

    /// Whether data went with its SYN; `None` where that was not asked for, or the transport doesn't tell.
    pub fn fast_open(&self) -> Option<FastOpenUse> {
        match self {
            Connection::Braid(stream) => Some(stream.fast_open()),
            Connection::Kernel(_) => None,
        }
    }

    /// Fills `buffer` by `deadline`, as long as that is `wanted`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]; [`ErrorKind::Interrupted`] when it is wanted no more; [`ErrorKind::UnexpectedEof`]
    /// when the peer finished before; or the connection is over.
    pub fn read_exact(
        &self,
        buffer: &mut [u8],
        clock: Clock,
        deadline: Instant,
        wanted: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            if !wanted() {
                return Err(ErrorKind::Interrupted.into());
            }
            let left = time_left(clock, deadline)?;
            match self.read(&mut buffer[filled..], Some(left.min(SLICE)))? {
                None => {}
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(read) => filled += read,
            }
        }
        Ok(())
    }

    /// Sends small segments at once, where the transport would wait (Nagle's algorithm). Best effort: it only saves time.
    pub fn send_at_once(&self) {
        if let Connection::Kernel(stream) = self {
            let _ = stream.set_nodelay();
        }
    }

    /// Ends our direction.
    pub fn close_send(&self) {
        match self {
            Connection::Braid(stream) => stream.close_send(),
            Connection::Kernel(stream) => stream.close_send(),
        }
    }

    /// After [`Connection::close_send`]: waits until the peer has acknowledged everything, or `give_up` says so. The
    /// kernel's sockets don't tell, so there is nothing to wait for.
    pub fn wait_sent(&self, mut give_up: impl FnMut() -> bool) {
        if let Connection::Braid(stream) = self {
            while matches!(stream.wait_sent(Some(SLICE.into())), Ok(false)) && !give_up() {}
        }
    }

    /// After the last words: leaves them time to arrive before the transport itself may end.
    pub fn linger(&self) {
        if let Connection::Braid(stream) = self {
            stream.close_send();
            // Best effort: a peer that is gone acknowledges nothing.
            let _ = stream.wait_sent(Some(LINGER.into()));
        }
    }

    /// Ends both directions, so that a thread which waits at the connection soon returns.
    pub fn close(&self) {
        match self {
            // A reader has a time-out, or the peer's end; dropping the stream does the rest.
            Connection::Braid(stream) => stream.close_send(),
            Connection::Kernel(stream) => stream.close(),
        }
    }

    /// Whether it is MPTCP.
    pub fn multipath(&self) -> Multipath {
        match self {
            Connection::Braid(stream) => match stream.fallback() {
                None => Multipath::Unknown,
                Some(None) => Multipath::Agreed,
                Some(reason) => Multipath::Plain(reason),
            },
            Connection::Kernel(_) => Multipath::Unknown,
        }
    }

    /// Figures of its subflows; none where the transport doesn't tell.
    pub fn subflows(&self) -> Vec<SubflowInfo> {
        let Connection::Braid(stream) = self else { return Vec::new() };
        stream
            .info()
            .map_or_else(Vec::new, |info: ConnectionInfo| info.subflow.into_iter().flatten().collect())
    }

    /// Bytes that were sent once more on another subflow; `None` where the transport doesn't tell.
    pub fn reinjected_bytes(&self) -> Option<u64> {
        let Connection::Braid(stream) = self else { return None };
        stream.info().map(|info: ConnectionInfo| info.reinjected)
    }

    /// Congestion control in use, where the connection itself knows.
    pub fn congestion(&self) -> Option<String> {
        match self {
            Connection::Braid(_) => None,
            Connection::Kernel(stream) => stream.congestion(),
        }
    }
}

/// Tells a time-out of the call, which is no error, from one of the connection, which ends it.
pub(super) fn in_time<T>(stream: &Stream, result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::TimedOut && stream.close_reason().is_none() => Ok(None),
        result => result.map(Some),
    }
}

fn time_left(clock: Clock, deadline: Instant) -> io::Result<Duration> {
    match deadline.since(clock.now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}
