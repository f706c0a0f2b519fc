//! Two runtimes in network namespaces of their own, over real links: the control thread, the workers and the
//! streams together.

use super::{FastOpenUse, Mptcp, Stream};
use crate::base::Prng;
use crate::pm::{Policy, RequestError, SubflowRequest};
use crate::runtime::netns::{Host, joined};
use crate::runtime::{
    AskError, ConnectError, CtlPath, ListenError, PathConfig, PortError, Runtime, RuntimeConfig, StartError,
};
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

#[test]
fn an_application_sees_and_changes_the_paths_of_its_connection() {
    let Some((left, right)) = joined_twice() else { return };
    let (client, server) = (start(&left), start(&right));
    let (near, far) = connect(&client, &server);
    assert_eq!((near.is_mptcp(), far.is_mptcp()), (Some(true), Some(true)));
    transfer(&near, &far, &random(100_000));
    let (near_paths, far_paths) = (near.mptcp(), far.mptcp());
    let count = |paths: &Mptcp| paths.subflows().map(|subflows| subflows.len());
    wait("a second subflow", || count(&near_paths) == Ok(2) && count(&far_paths) == Ok(2));

    let status = near_paths.status().expect("it lives");
    let info = status.info;
    assert_eq!((status.initiator, status.fallback), (true, None));
    assert_eq!(near_paths.connection_id(), Ok(status.token));
    assert_eq!(Some(info.token), status.token.map(|token| token.0));
    assert_eq!((info.subflows, info.subflows_total, info.add_addr_accepted), (1, 2, 1));
    assert_eq!((info.bytes_sent, info.bytes_acked, info.bytes_received), (100_000, 100_000, 0));
    assert_eq!(info.write_seq.wrapping_sub(info.snd_una), 0);
    assert!(info.last_data_sent_ms.is_some() && info.last_data_recv_ms.is_none());
    let peer = far_paths.info().expect("it lives");
    assert_eq!((peer.bytes_received, peer.add_addr_signal), (100_000, 1));
    let ends: Vec<(SocketAddr, SocketAddr)> =
        status.subflows.iter().map(|it| (it.tuple.local.into(), it.tuple.remote.into())).collect();
    assert_eq!(ends[0], (near.local_addr(), near.remote_addr()));
    assert!(ends[1].0.ip() == at("10.9.1.1:1").ip() && ends[1].1.ip() == at("10.9.1.2:1").ip(), "{ends:?}");
    assert!((1200..=1460).contains(&status.subflows[0].mss.raw()), "{:?}", status.subflows[0]);

    // A backup at one end is one at the other.
    let second = status.subflows[1].id;
    assert_eq!(near_paths.set_backup(second, true), Ok(()));
    let wanted = |paths: &Mptcp| {
        let subflows = paths.subflows().expect("it lives");
        subflows.iter().filter(|it| it.backup_wanted).count()
    };
    wait("a backup", || wanted(&far_paths) == 1);
    assert_eq!(near_paths.set_backup(second, false), Ok(()));
    wait("no backup", || wanted(&far_paths) == 0);

    // A subflow comes and goes as the application wants.
    let request = SubflowRequest { local: Some([10, 9, 1, 1].into()), ..SubflowRequest::default() };
    let request = SubflowRequest { remote: Some([10, 9, 1, 2].into()), ..request };
    assert_eq!(near_paths.add_subflow(request), Ok(()));
    wait("a third subflow", || count(&near_paths) == Ok(3) && count(&far_paths) == Ok(3));
    assert_eq!(near_paths.remove_subflow(second), Ok(()));
    wait("its end", || count(&near_paths) == Ok(2) && count(&far_paths) == Ok(2));
    assert_eq!(near_paths.remove_address([10, 9, 1, 1].into()), Ok(()));
    wait("the end of the address", || count(&near_paths) == Ok(1) && count(&far_paths) == Ok(1));
    transfer(&far, &near, &random(100_000));
    assert_eq!(near_paths.add_address([10, 9, 1, 1].into()), Ok(()));
    wait("its return", || count(&near_paths) == Ok(2));
    let foreign = near_paths.add_address([10, 9, 7, 7].into());
    assert_eq!(foreign, Err(AskError::Request(RequestError::NotOurs([10, 9, 7, 7].into()))));

    drop((near, far));
    // Both ends close at once, so both may wait in TIME-WAIT.
    wait("the end", || match near_paths.status() {
        Ok(status) => !status.subflows.iter().any(|subflow| subflow.usable),
        Err(error) => error == AskError::NoConnection,
    });
    client.shutdown();
    assert_eq!(near_paths.status(), Err(AskError::ShutDown));
    server.shutdown();
}

#[test]
fn a_runtime_tells_what_is_wrong_with_its_paths_before_it_attaches_for_good() {
    let Some((left, _right)) = joined() else { return };
    let start_with = |paths: PathConfig, ctl: CtlPath| {
        let config = RuntimeConfig { frames: 4096, paths, ctl, ..RuntimeConfig::default() };
        left.run(|| Runtime::start(config).map(drop))
    };
    let endpoint = |text: &str| PathConfig {
        endpoints: vec![text.parse().expect("an endpoint")],
        ..PathConfig::default()
    };
    for (paths, told) in [
        (endpoint("10.9.0.1 dev eth9 subflow"), "eth9 is not an attached NIC; those are: va"),
        (endpoint("10.9.0.77 port 5000 signal"), "does not give 10.9.0.77:5000"),
        (PathConfig { backup: vec!["eth9".into()], ..PathConfig::default() }, "no NIC named eth9"),
        (PathConfig { subflows: 32, ..PathConfig::default() }, "paths.subflows is 32"),
    ] {
        let error = start_with(paths, CtlPath::None).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
    let ctl = CtlPath::At("/nonexistent/braid.sock".into());
    let error = start_with(PathConfig::default(), ctl).expect_err("no folder").to_string();
    assert!(error.contains("/nonexistent"), "{error}");
    assert!(start_with(PathConfig::default(), CtlPath::Default).is_ok(), "nothing is left attached");
}

#[test]
fn peers_join_at_the_address_and_port_that_an_endpoint_announces() {
    let Some((left, right)) = joined() else { return };
    let paths = PathConfig {
        policy: Policy::Endpoints,
        endpoints: vec!["10.9.0.2 port 7777 signal".parse().expect("an endpoint")],
        ..PathConfig::default()
    };
    let config = RuntimeConfig { frames: 8192, paths, ..RuntimeConfig::default() };
    let (client, server) = (start(&left), right.run(|| Runtime::start(config)).expect("it starts"));
    let (near, far) = connect(&client, &server);
    transfer(&near, &far, &random(10_000));
    let joined = || {
        let subflows = near.mptcp().subflows().expect("it lives");
        subflows.iter().any(|subflow| subflow.tuple.remote.port == 7777)
    };
    wait("a subflow to the announced port", joined);
    transfer(&far, &near, &random(10_000));
    // A connection does not begin there, neither MPTCP nor plain.
    for mptcp in [true, false] {
        let options = ConnectOptions { mptcp, ..ConnectOptions::default() };
        let refused = client.connect(at("10.9.0.2:7777"), options, TIMEOUT).map(drop);
        assert!(matches!(refused, Err(ConnectError::Refused { .. })), "{refused:?}");
    }
    drop((near, far));
    client.shutdown();
    server.shutdown();
}

#[test]
fn a_listener_that_is_bound_to_an_address_keeps_its_connections_there() {
    let Some((left, right)) = joined_twice() else { return };
    let (client, server) = (start(&left), start(&right));
    let listener = server.listen(at("10.9.0.2:0"), ListenOptions::default()).expect("it listens");
    let near =
        client.connect(listener.local_addr(), ConnectOptions::default(), TIMEOUT).expect("it connects");
    let far = listener.accept(Some(TIMEOUT)).expect("it is open").expect("a connection");
    transfer(&near, &far, &random(100_000));
    assert_eq!(far.mptcp().info().map(|info| info.add_addr_signal), Ok(0));
    // What its application adds is announced, and can be joined.
    assert_eq!(far.mptcp().add_address([10, 9, 1, 2].into()), Ok(()));
    wait("a subflow to the other address", || near.mptcp().subflows().map(|it| it.len()) == Ok(2));
    transfer(&near, &far, &random(100_000));
    drop((near, far, listener));
    client.shutdown();
    server.shutdown();
}

#[test]
fn the_first_data_of_a_second_connection_goes_with_its_syn() {
    let Some((left, right)) = joined_twice() else { return };
    let (client, server) = (start(&left), start(&right));
    let connection = ConnectOptions { mptcp: false, fast_open: true, ..ConnectOptions::default() };
    let listener = server.listen(at("10.9.0.2:0"), ListenOptions { connection }).expect("it listens");
    for expected in [FastOpenUse::Unused, FastOpenUse::Accepted] {
        let first = random(600);
        let near = client.connect_with(listener.local_addr(), connection, &first, TIMEOUT);
        let near = near.expect("it connects");
        let far = listener.accept(Some(TIMEOUT)).expect("it is open").expect("a connection");
        let mut received = vec![0; first.len()];
        (&far).read_exact(&mut received).expect("read");
        assert!(received == first, "other bytes arrived");
        assert_eq!((near.fast_open(), far.fast_open()), (expected, expected));
        transfer(&near, &far, &random(10_000));
        transfer(&far, &near, &random(10_000));
    }
    // Without data there is nothing to wait for, and nothing to risk.
    let near = client.connect(listener.local_addr(), connection, TIMEOUT).expect("it connects");
    assert_eq!(near.fast_open(), FastOpenUse::Unused);
    drop((near, listener));
    client.shutdown();
    server.shutdown();
}
