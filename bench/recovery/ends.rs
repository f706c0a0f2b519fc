//! The kernel's TCP at both ends of a lab's path: threads in the network namespaces of its hosts.

use braid::lab::{Host, Lab};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Whatever went wrong.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How long an end waits before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of a read or a write.
const BLOCK: usize = 256 << 10;

/// Moves this thread into the network namespace of a host.
pub fn enter(lab: &Lab, host: Host) -> io::Result<()> {
    let space = File::open(format!("/run/netns/{}-{host}", lab.name()))?;
    let network = rustix::thread::LinkNameSpaceType::Network;
    Ok(rustix::thread::move_into_link_name_space(space.as_fd(), Some(network))?)
}

/// An address of the lab's first path.
pub fn address(host: Host, port: u16) -> SocketAddr {
    SocketAddr::new(braid::lab::ipv4(host, 1).expect("an end").into(), port)
}

fn socket() -> io::Result<rustix::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    // A port serves one case after the other.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

/// A socket of b's that accepts at `port`; this thread has to be in b.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(address(Host::B, port))
}

/// A connection from a to b's `port`, from the port of the same number, with a congestion control of the kernel's; this
/// thread has to be in a.
pub fn connect(port: u16, algorithm: &str) -> io::Result<TcpStream> {
    let socket = socket()?;
    sockopt::set_tcp_congestion(&socket, algorithm)?;
    rustix::net::bind(&socket, &address(Host::A, port))?;
    rustix::net::connect(&socket, &address(Host::B, port))?;
    Ok(socket.into())
}

/// Ends a connection with RST: neither TIME-WAIT nor what is still to be sent stays behind.
pub fn abort(stream: TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?)
}

/// Sends until it is to stop.
pub fn send(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_write_timeout(Some(LOOK))?;
    let block = vec![0x5a; BLOCK];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&block) {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            // The receiver may have been told first.
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    abort(stream)
}

/// Accepts a connection and counts what it brings, until it is to stop.
pub fn receive(listener: &TcpListener, stop: &AtomicBool, bytes: &AtomicU64) -> Result<(), Failure> {
    sockopt::set_socket_timeout(listener, sockopt::Timeout::Recv, Some(LOOK))?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if is_timeout(&error) && !stop.load(Ordering::Relaxed) => {}
            Err(error) => return Err(format!("no connection came: {error}").into()),
        }
    };
    stream.set_read_timeout(Some(LOOK))?;
    let mut block = vec![0; BLOCK];
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(count) => {
                bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if is_timeout(&error) => {}
            // The sender has done so, in the end.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(abort(stream)?)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The kernel's own account of a host's TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpAccount {
    /// Segments that left, once or again.
    pub out: u64,
    /// Segments that came.
    pub received: u64,
    /// Expirations of retransmission timers.
    pub timeouts: u64,
}

impl TcpAccount {
    /// What there was since the beginning.
    pub fn of(lab: &Lab, host: Host) -> Result<TcpAccount, Failure> {
        let text = run(lab, host, "cat /proc/net/snmp /proc/net/netstat")?;
        let get = |group: &str, name: &str| -> Result<u64, Failure> {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
            let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            let mut pairs = names.split(' ').zip(values.split(' '));
            let (_, value) =
                pairs.find(|(word, _)| *word == name).ok_or_else(|| format!("no count of {name}"))?;
            Ok(value.parse()?)
        };
        Ok(TcpAccount {
            out: get("Tcp: ", "OutSegs")? + get("Tcp: ", "RetransSegs")?,
            received: get("Tcp: ", "InSegs")?,
            timeouts: get("TcpExt: ", "TCPTimeouts")?,
        })
    }
}

/// What the kernel tells of a connection of a's to `port`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketInfo {
    /// Segments that were sent again.
    pub retransmits: u64,
    /// The shortest round trip, in milliseconds.
    pub min_rtt_ms: f64,
    /// Milliseconds in which there was something to send or to be acknowledged.
    pub busy_ms: u64,
    /// And those of them in which it was no congestion window that held it back: the receiver's window did, or the
    /// program was to send more and the buffer too small.
    pub held_back_ms: u64,
}

impl SocketInfo {
    pub fn of(lab: &Lab, port: u16) -> Result<SocketInfo, Failure> {
        let text = run(lab, Host::A, &format!("ss -H -t -n -i -O state established dport = :{port}"))?;
        let value = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
        // `retrans:0/12`: now on their way, and all together; what there is none of is left out.
        let retransmits = value("retrans:").and_then(|pair| pair.split('/').nth(1)).unwrap_or("0");
        let min_rtt_ms = value("minrtt:").ok_or_else(|| format!("ss tells no round trip: '{text}'"))?;
        // `busy:812ms rwnd_limited:8ms(1.0%)`.
        let ms = |name: &str| -> Result<u64, Failure> {
            Ok(value(name).and_then(|words| words.split("ms").next()).unwrap_or("0").parse()?)
        };
        Ok(SocketInfo {
            retransmits: retransmits.parse()?,
            min_rtt_ms: min_rtt_ms.parse()?,
            busy_ms: ms("busy:")?,
            held_back_ms: ms("rwnd_limited:")? + ms("sndbuf_limited:")?,
        })
    }
}

/// Runs a command line at a host.
pub fn run(lab: &Lab, host: Host, line: &str) -> Result<String, Failure> {
    command(lab.exec(host).args(line.split(' ')))
}

/// Runs a command; it must succeed.
pub fn command(command: &mut Command) -> Result<String, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
