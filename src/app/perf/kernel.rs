//! The kernel's own stack as a transport, TCP or MPTCP: to measure it with the same program, for comparison.

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Connections that may wait for `accept`.
const BACKLOG: i32 = 128;

/// Which of the kernel's protocols, and how.
#[derive(Debug, Clone, Default)]
pub struct KernelNet {
    /// MPTCP sockets (protocol 262) instead of TCP's.
    pub mptcp: bool,
    /// Congestion control; the system's default otherwise.
    pub congestion: Option<String>,
}

impl KernelNet {
    fn socket(&self, remote_or_local: SocketAddr) -> io::Result<OwnedFd> {
        let family = if remote_or_local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let protocol = if self.mptcp { ipproto::MPTCP } else { ipproto::TCP };
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(protocol))?;
        if let Some(congestion) = &self.congestion {
            sockopt::set_tcp_congestion(&socket, congestion).map_err(|errno| {
                let text = format!(
                    "the kernel has no congestion control '{congestion}' (modprobe tcp_{congestion} may help)"
                );
                io::Error::new(io::Error::from(errno).kind(), text)
            })?;
        }
        Ok(socket)
    }

    /// Connects within `timeout`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(&self, remote: SocketAddr, timeout: Duration) -> io::Result<KernelStream> {
        let socket = self.socket(remote)?;
        // On Linux the send time-out bounds connect, too; it then fails with EINPROGRESS.
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
        loop {
            match rustix::net::connect(&socket, &remote) {
                Ok(()) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::INPROGRESS) => return Err(ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        KernelStream::new(TcpStream::from(socket))
    }

    /// Listens at `local`; an unspecified IPv6 address takes IPv4 connections as well.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(local)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if local.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        rustix::net::bind(&socket, &local)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

/// The next connection of a listener; `None` when `timeout` passed first.
///
/// # Errors
/// The kernel's: out of descriptors, for one.
pub fn accept(listener: &TcpListener, timeout: Duration) -> io::Result<Option<KernelStream>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(false)?;
            KernelStream::new(stream).map(Some)
        }
        // Gone between poll and accept.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A connection of the kernel's.
#[derive(Debug)]
pub struct KernelStream {
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    /// The time-outs that the socket has, in nanoseconds; 0: none. To set them only when they change.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
}

/// `::ffff:10.0.0.1` as `10.0.0.1`.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl KernelStream {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_write_timeout(None)?;
        Ok(Self {
            local: canonical(stream.local_addr()?),
            peer: canonical(stream.peer_addr()?),
            stream,
            read_timeout: AtomicU64::new(0),
            write_timeout: AtomicU64::new(0),
        })
    }

    /// Our end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The peer's end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Sends small segments at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    /// Sets both socket buffers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_window(&self, bytes: u32) -> io::Result<()> {
        sockopt::set_socket_send_buffer_size(&self.stream, bytes as usize)?;
        sockopt::set_socket_recv_buffer_size(&self.stream, bytes as usize)?;
        Ok(())
    }

    /// Sets the congestion control of this connection.
    ///
    /// # Errors
    /// The kernel has no such algorithm.
    pub fn set_congestion(&self, name: &str) -> io::Result<()> {
        Ok(sockopt::set_tcp_congestion(&self.stream, name)?)
    }

    /// The congestion control in use.
    pub fn congestion(&self) -> Option<String> {
        sockopt::tcp_congestion(&self.stream).ok()
    }

    /// Reads; `None` when nothing came within `timeout`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, buffer: &mut [u8], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        if changed(&self.read_timeout, timeout) {
            self.stream.set_read_timeout(timeout)?;
        }
        timed(|| (&self.stream).read(buffer))
    }

    /// Writes some; `None` when there was no room within `timeout`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, bytes: &[u8], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        if changed(&self.write_timeout, timeout) {
            self.stream.set_write_timeout(timeout)?;
        }
        timed(|| (&self.stream).write(bytes))
    }

    /// Ends our direction.
    pub fn close_send(&self) {
        // It fails only where the connection is over already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both directions; who waits in a read or a write returns.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn changed(now: &AtomicU64, timeout: Option<Duration>) -> bool {
    let nanos = timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    now.swap(nanos, Ordering::Relaxed) != nanos
}

/// Repeats what a signal interrupted, and calls a time-out `None`.
fn timed(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            done => return done.map(Some),
        }
    }
}
