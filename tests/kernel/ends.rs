//! The two ends of one connection: this test binary, started again in a host of the lab, over the kernel's MPTCP or over
//! Braid. It does what a list of [`Action`]s says, and tells what it has sent and received by length and SHA-256.

use crate::support::Background;
use braid::app::Stream;
use braid::base::Prng;
use braid::lab::{Host, Lab};
use braid::mptcp::ChecksumPolicy;
use braid::runtime::{CtlPath, PathConfig, Runtime, RuntimeConfig};
use braid::stack::{ConnectOptions, ListenOptions};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, sockopt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// The port of every server here.
pub const PORT: u16 = 7000;
/// Nothing waits longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the child finds what it is to do.
const VARIABLE: &str = "BRAID_TEST_END";
/// In front of what it tells.
const RESULT: &str = "END ";

/// One end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct End {
    /// Over what.
    pub stack: Over,
    /// Accept one connection here; otherwise connect to there.
    pub listens: bool,
    /// There.
    pub address: SocketAddr,
    /// What to do with it.
    pub actions: Vec<Action>,
}

/// Whose MPTCP, or TCP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Over {
    /// The kernel's MPTCP, set up by `ip mptcp` and sysctl.
    Kernel,
    /// The kernel's TCP.
    KernelTcp,
    /// Ours.
    Braid(Ours),
}

/// How Braid is started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ours {
    /// TCP, and no MPTCP.
    pub plain_tcp: bool,
    /// The receive buffer, in bytes; `None`: the default.
    pub receive_buffer: Option<u32>,
    /// Checksums of mappings on every connection.
    pub dss_checksum: bool,
    /// Both families of a NIC, side by side.
    pub dual_stack: bool,
    /// As with `--endpoint`; none: everything there is.
    pub endpoints: Vec<String>,
    /// Our first address cannot be joined (flag C).
    pub no_join_here: bool,
    /// Where `braid ctl` finds it.
    pub ctl: Option<PathBuf>,
}

/// What an end does, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Action {
    /// Sends so many random bytes.
    Send(usize),
    /// Sends these.
    Say(String),
    /// Sends random bytes until there is a file of this name.
    SendUntil(PathBuf),
    /// Waits until there is.
    Await(PathBuf),
    /// Receives so many bytes.
    Receive(usize),
    /// Receives until the peer has ended its direction.
    Drain,
    /// Ends its own direction.
    Finish,
    /// Ends the connection at once: what a linger time of 0 does.
    Abort,
    /// Receives until the connection is reset; it must be.
    ExpectReset,
}

/// This test binary once more, in a host: the ignored test `name`, which finds what it is to do in `variable`.
pub fn start_again(lab: &Lab, host: Host, name: &str, variable: &str, what: &impl Serialize) -> Background {
    let mut command = lab.exec(host);
    command.arg(env::current_exe().expect("this is a test binary"));
    command.args([name, "--exact", "--ignored", "--nocapture"]);
    command.env(variable, serde_json::to_string(what).expect("plain data"));
    Background::start(&mut command)
}

/// A running end.
#[derive(Debug)]
pub struct Child(Background);

impl Child {
    pub fn start(lab: &Lab, host: Host, end: &End) -> Child {
        let mut child = start_again(lab, host, "ends::one_end_of_a_connection", VARIABLE, end);
        if end.listens {
            child.wait_for("LISTENING", PATIENCE);
        }
        Child(child)
    }

    /// Fails the test when it has ended, which it may not yet.
    #[track_caller]
    pub fn expect_running(&mut self) {
        assert!(self.0.is_running(), "it ended too early:\n{}\n{}", self.0.stdout(), self.0.stderr());
    }

    /// What it tells in the end, which must be a good one.
    #[track_caller]
    pub fn finish(self, what: &str) -> Told {
        let said = self.0.finish(2 * PATIENCE).expect_success(what);
        let line = said.stdout.lines().find_map(|line| line.split_once(RESULT).map(|(_, json)| json));
        let line = line.unwrap_or_else(|| panic!("{what} told nothing:\n{}\n{}", said.stdout, said.stderr));
        let told: Value = serde_json::from_str(line).expect("it tells JSON");
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        Told {
            sent: text("sent").expect("it tells what it has sent"),
            received: text("received").expect("it tells what it has received"),
            multipath: told["multipath"].as_bool(),
            fallback: text("fallback"),
        }
    }
}

/// What an end has done: lengths and digests, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub sent: String,
    pub received: String,
    /// Whether it was MPTCP; only ours tells.
    pub multipath: Option<bool>,
    /// Why not.
    pub fallback: Option<String>,
}

/// Not a test, but what the tests start: see above.
#[test]
#[ignore = "a child of the other tests"]
fn one_end_of_a_connection() {
    let Ok(end) = env::var(VARIABLE) else { return };
    let end: End = serde_json::from_str(&end).expect("a test gives it");
    match &end.stack {
        Over::Kernel => over_the_kernel(&end, ipproto::MPTCP),
        Over::KernelTcp => over_the_kernel(&end, ipproto::TCP),
        Over::Braid(ours) => over_braid(&end, ours),
    }
    .expect("the connection does what it should");
}

fn over_the_kernel(end: &End, protocol: Protocol) -> io::Result<()> {
    let family = if end.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(protocol))?;
    if !end.listens {
        rustix::net::connect(&socket, &end.address)?;
        return run(Connection::Kernel(TcpStream::from(socket)), &end.actions);
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if end.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &end.address)?;
    rustix::net::listen(&socket, 16)?;
    // Kept to the end: joins come to it.
    let listener = TcpListener::from(socket);
    println!("LISTENING");
    run(Connection::Kernel(listener.accept()?.0), &end.actions)
}

impl Ours {
    /// Braid's runtime.
    pub fn start(&self) -> io::Result<Runtime> {
        let endpoints =
            self.endpoints.iter().map(|words| words.parse().expect("an endpoint")).collect::<Vec<_>>();
        let policy =
            if endpoints.is_empty() { PathConfig::default().policy } else { braid::pm::Policy::Endpoints };
        let config = RuntimeConfig {
            frames: 16384,
            paths: PathConfig { dual_stack: self.dual_stack, endpoints, policy, ..PathConfig::default() },
            ctl: self.ctl.clone().map_or(CtlPath::None, CtlPath::At),
            ..RuntimeConfig::default()
        };
        Runtime::start(config).map_err(io::Error::other)
    }

    /// How its connections are made.
    pub fn options(&self) -> ConnectOptions {
        let defaults = ConnectOptions::default();
        ConnectOptions {
            mptcp: !self.plain_tcp,
            checksum: if self.dss_checksum { ChecksumPolicy::Required } else { defaults.checksum },
            no_join_here: self.no_join_here,
            receive_buffer: self.receive_buffer.unwrap_or(defaults.receive_buffer),
            ..defaults
        }
    }
}

fn over_braid(end: &End, ours: &Ours) -> io::Result<()> {
    let (runtime, options) = (ours.start()?, ours.options());
    if !end.listens {
        let stream = runtime.connect(end.address, options, PATIENCE).map_err(io::Error::other)?;
        return run(Connection::Braid(Box::new(stream)), &end.actions);
    }
    let listener =
        runtime.listen(end.address, ListenOptions { connection: options }).map_err(io::Error::other)?;
    println!("LISTENING");
    let stream = listener.accept(Some(PATIENCE))?.ok_or(ErrorKind::TimedOut)?;
    run(Connection::Braid(Box::new(stream)), &end.actions)
}

enum Connection {
    Kernel(TcpStream),
    Braid(Box<Stream>),
}

impl Connection {
    fn set_timeouts(&self) -> io::Result<()> {
        match self {
            Connection::Kernel(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
            Connection::Braid(stream) => {
                stream.set_read_timeout(Some(PATIENCE));
                stream.set_write_timeout(Some(PATIENCE));
                Ok(())
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Kernel(stream) => stream.read(buffer),
            Connection::Braid(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Connection::Kernel(stream) => stream.write_all(bytes),
            Connection::Braid(stream) => stream.write_all(bytes),
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            Connection::Kernel(stream) => stream.shutdown(Shutdown::Write),
            Connection::Braid(stream) => {
                stream.close_send();
                Ok(())
            }
        }
    }

    fn abort(self) -> io::Result<()> {
        match self {
            Connection::Kernel(stream) => {
                sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
                drop(stream);
            }
            Connection::Braid(stream) => {
                stream.abort();
                // The process must not end before the packet has left.
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        Ok(())
    }
}

/// Bytes that went one way.
struct Digested {
    bytes: usize,
    hash: Sha256,
}

impl Digested {
    fn new() -> Digested {
        Digested { bytes: 0, hash: Sha256::new() }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.hash.update(bytes);
    }

    fn tell(self) -> String {
        let digest: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} bytes, SHA-256 {digest}", self.bytes)
    }
}

fn run(mut connection: Connection, actions: &[Action]) -> io::Result<()> {
    connection.set_timeouts()?;
    let (mut sent, mut received) = (Digested::new(), Digested::new());
    let mut chance = Prng::new(u64::from(std::process::id()));
    let mut block = vec![0; 64 << 10];
    let mut aborts = false;
    for action in actions {
        let mut send = |bytes: &[u8], connection: &mut Connection| {
            connection.write_all(bytes)?;
            sent.add(bytes);
            io::Result::Ok(())
        };
        match action {
            Action::Send(bytes) => {
                let mut bytes = *bytes;
                while bytes > 0 {
                    let part = bytes.min(block.len());
                    chance.fill(&mut block[..part]);
                    send(&block[..part], &mut connection)?;
                    bytes -= part;
                }
            }
            Action::Say(words) => send(words.as_bytes(), &mut connection)?,
            Action::SendUntil(file) => {
                while !file.exists() {
                    chance.fill(&mut block);
                    send(&block, &mut connection)?;
                }
            }
            Action::Await(file) => {
                while !file.exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Action::Receive(bytes) => {
                let mut bytes = *bytes;
                while bytes > 0 {
                    let part = bytes.min(block.len());
                    let got = connection.read(&mut block[..part])?;
                    if got == 0 {
                        return Err(io::Error::new(
                            ErrorKind::UnexpectedEof,
                            format!("{bytes} bytes are missing"),
                        ));
                    }
                    received.add(&block[..got]);
                    bytes -= got;
                }
            }
            Action::Drain => loop {
                match connection.read(&mut block)? {
                    0 => break,
                    got => received.add(&block[..got]),
                }
            },
            Action::Finish => connection.finish()?,
            Action::Abort => {
                aborts = true;
                break;
            }
            Action::ExpectReset => loop {
                match connection.read(&mut block) {
                    Ok(0) => return Err(io::Error::other("it was finished, not reset")),
                    Ok(got) => received.add(&block[..got]),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => return Err(error),
                }
            },
        }
    }
    let (multipath, fallback) = match &connection {
        Connection::Kernel(_) => (None, None),
        Connection::Braid(stream) => (stream.is_mptcp(), stream.fallback().flatten()),
    };
    if aborts {
        connection.abort()?;
    } else if let Connection::Braid(stream) = &connection {
        // The peer may have reset it in the last action.
        stream.close_send();
        let _ = stream.wait_sent(Some(PATIENCE));
    }
    let told = json!({
        "sent": sent.tell(),
        "received": received.tell(),
        "multipath": multipath,
        "fallback": fallback.map(|reason| reason.describe()),
    });
    println!("\n{RESULT}{told}");
    Ok(())
}
