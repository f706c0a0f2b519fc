//! Two runtimes in network namespaces of their own, over real links: the control thread, the workers and the
//! streams together.

use super::Stream;
use crate::base::Prng;
use crate::runtime::netns::{Host, joined};
use crate::runtime::{ConnectError, ListenError, PortError, Runtime, RuntimeConfig, StartError};
use crate::stack::ConnectOptions;
use crate::stack::{CloseReason, ListenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
const NO_WAIT: Duration = Duration::ZERO;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn start(host: &Host) -> Runtime {
    let config = RuntimeConfig { frames: 8192, ..RuntimeConfig::default() };
    host.run(|| Runtime::start(config)).expect("it starts")
}

/// Two hosts with two links between them: 10.9.0.0/24 and 10.9.1.0/24.
fn joined_twice() -> Option<(Host, Host)> {
    let (left, right) = joined()?;
    left.ip(&format!("link add name vc type veth peer name vd netns {}", right.thread()));
    for (host, name, addr) in [(&left, "vc", "10.9.1.1"), (&right, "vd", "10.9.1.2")] {
        host.ip(&format!("address add {addr}/24 dev {name}"));
        host.ip(&format!("link set {name} up"));
    }
    Some((left, right))
}

/// A connection over `client` and `server`, from both of its ends.
fn connect(client: &Runtime, server: &Runtime) -> (Stream, Stream) {
    let listener = server.listen(at("0.0.0.0:0"), ListenOptions::default()).expect("it listens");
    let remote = SocketAddr::new([10, 9, 0, 2].into(), listener.local_addr().port());
    let near = client.connect(remote, ConnectOptions::default(), TIMEOUT).expect("it connects");
    let far = listener.accept(Some(TIMEOUT)).expect("it is open").expect("a connection");
    (near, far)
}

/// Sends `bytes` from one end to the other and checks that they arrive.
fn transfer(from: &Stream, to: &Stream, bytes: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = from;
            sender.write_all(bytes).expect("written");
        });
        let mut received = vec![0; bytes.len()];
        let mut receiver = to;
        receiver.read_exact(&mut received).expect("read");
        assert!(received == bytes, "other bytes arrived");
    });
}

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Prng::new(len as u64).fill(&mut bytes);
    bytes
}

/// Waits until `wanted` holds.
fn wait(what: &str, mut wanted: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if wanted() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

fn subflows(stream: &Stream) -> usize {
    let info = stream.info();
    info.map_or(0, |info| info.subflow.iter().flatten().filter(|subflow| subflow.alive).count())
}

#[test]
fn a_connection_uses_both_paths_and_gets_a_lost_one_back() {
    let Some((left, right)) = joined_twice() else { return };
    let (client, server) = (start(&left), start(&right));
    let (near, far) = connect(&client, &server);
    assert_eq!(near.fallback(), Some(None), "MPTCP");
    transfer(&near, &far, &random(1 << 20));
    transfer(&far, &near, &random(1 << 20));
    wait("a second subflow", || subflows(&near) == 2 && subflows(&far) == 2);

    right.ip("link set vd down");
    wait("its end", || subflows(&near) == 1);
    transfer(&near, &far, &random(1 << 20));
    right.ip("link set vd up");
    wait("its return", || subflows(&near) == 2 && subflows(&far) == 2);
    transfer(&far, &near, &random(1 << 20));

    near.close_send();
    far.close_send();
    let (mut receiver, mut other) = (&far, &near);
    assert_eq!(receiver.read(&mut [0; 1]).expect("the end"), 0);
    assert_eq!(other.read(&mut [0; 1]).expect("the end"), 0);
    assert!(near.wait_sent(Some(TIMEOUT)).expect("acknowledged"));
    drop((near, far));
    client.shutdown();
    server.shutdown();
}

#[test]
fn what_cannot_be_reached_is_a_clear_error() {
    let Some((left, right)) = joined() else { return };
    let (client, server) = (start(&left), start(&right));
    let connect = |remote| client.connect(at(remote), ConnectOptions::default(), TIMEOUT).map(drop);
    assert!(matches!(connect("192.0.2.1:1"), Err(ConnectError::NoRoute { .. })));
    assert!(matches!(connect("10.9.0.99:1"), Err(ConnectError::NoNeighbour { .. })));
    assert!(matches!(connect("10.9.0.2:1"), Err(ConnectError::Refused { .. })), "by the kernel");
    left.ip("link set lo up");
    assert!(matches!(connect("10.9.0.1:1"), Err(ConnectError::LocalAddress { .. })));
    drop(server);
}

#[test]
fn a_port_in_use_and_a_foreign_address_are_clear_errors() {
    let Some((left, _right)) = joined() else { return };
    let runtime = start(&left);
    let first = runtime.listen(at("10.9.0.1:5000"), ListenOptions::default()).expect("it listens");
    let again = runtime.listen(at("0.0.0.0:5000"), ListenOptions::default()).expect_err("in use");
    assert!(matches!(again, ListenError::Port(PortError::InUse { .. })), "{again}");
    let foreign = runtime.listen(at("10.9.0.2:5001"), ListenOptions::default()).expect_err("not ours");
    assert!(matches!(foreign, ListenError::NotOurs { .. }), "{foreign}");
    first.close();
    assert_eq!(first.accept(Some(NO_WAIT)).expect_err("closed").kind(), ErrorKind::NotConnected);
    // In a moment: a child that another test forks holds copies of all descriptors until it runs its program.
    wait("a free port", || runtime.listen(at("0.0.0.0:5000"), ListenOptions::default()).is_ok());
}

#[test]
fn the_end_of_a_runtime_resets_its_peers() {
    let Some((left, right)) = joined() else { return };
    let (client, server) = (start(&left), start(&right));
    let (near, far) = connect(&client, &server);
    transfer(&near, &far, b"hello");
    client.shutdown();
    let mut receiver = &far;
    far.set_read_timeout(Some(TIMEOUT));
    let error = receiver.read(&mut [0; 1]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert_eq!(near.close_reason(), Some(CloseReason::Aborted));
    server.shutdown();
}

#[test]
fn a_runtime_leaves_nothing_attached() {
    let Some((left, _right)) = joined() else { return };
    start(&left).shutdown();
    // Another could not attach where a program is left.
    start(&left).shutdown();
    let config = RuntimeConfig { workers: 0, ..RuntimeConfig::default() };
    let error = left.run(|| Runtime::start(config)).map(drop).expect_err("no workers");
    assert!(matches!(error, StartError::OutOfRange { .. }), "{error}");
}
