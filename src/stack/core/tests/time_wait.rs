//! A table with many connections that only wait for old duplicates.

use super::pair::*;
use crate::base::PortId;
use crate::base::time::Duration;
use crate::mptcp::ConnectOptions;
use crate::stack::StreamShared;
use crate::stack::message::{Command, Report};
use crate::stack::stream::StreamState;
use crate::tcp::CloseReason;
use crate::wire::{Endpoint, FourTuple, TcpFlags};
use std::sync::Arc;

/// The limit of the hosts here.
const LIMIT: usize = 16;

/// A connection from this port, and its other end.
fn connect(
    pair: &mut Pair,
    port: u16,
    options: ConnectOptions,
) -> (Arc<StreamShared>, Option<Arc<StreamShared>>) {
    let stream = StreamShared::new(Arc::clone(&pair.client.doorbell));
    let local = Endpoint::new(address(1, 0), port);
    let tuple = FourTuple { local, remote: Endpoint::new(address(2, 0), 80) };
    let path = pair.client.path(0);
    let command = Command::Connect { tuple, path, options, stream: Arc::clone(&stream) };
    pair.client.tell(pair.now, command);
    pair.run(Duration::from_millis(100), &mut |_, bytes| Some(bytes));
    (stream, pair.server.accept.pop())
}

/// Opens, uses and ends so many connections; those that waited longest give way.
fn one_after_the_other(mptcp: bool) {
    let options = ConnectOptions { mptcp, ..ConnectOptions::default() };
    let mut pair = Pair::new();
    pair.server.listen(80, options);
    for port in 0..3 * LIMIT as u16 {
        let (client, server) = connect(&mut pair, 40_000 + port, options);
        assert_eq!(client.state(), StreamState::Open, "connection {port}, MPTCP {mptcp}");
        let server = server.expect("accepted");
        pair.client.write(&client, b"hello");
        pair.run_clean();
        assert_eq!(pair.server.read(&server), b"hello");
        client.abandon();
        server.abandon();
        pair.run_clean();
    }
    let ends = Pair::reports(&mut pair.client).into_iter();
    let given_back =
        ends.filter(|report| matches!(report, Report::SubflowClosed { reason: CloseReason::Finished, .. }));
    let (waiting, cut) = (LIMIT / 2, 3 * LIMIT - LIMIT / 2);
    assert_eq!(given_back.count(), cut, "as many ports were given back, MPTCP {mptcp}");
    assert_eq!(pair.client.stack.connection_count(), waiting);
    assert_eq!(pair.client.stack.counters().cut_time_waits, cut as u64);
    assert_eq!(pair.server.stack.counters().refused_connections, 0);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn those_that_wait_longest_give_way() {
    one_after_the_other(false);
    one_after_the_other(true);
}

#[test]
fn those_that_are_in_use_do_not() {
    let options = ConnectOptions::default();
    let mut pair = Pair::new();
    pair.server.listen(80, options);
    let open: Vec<_> = (0..LIMIT as u16).map(|port| connect(&mut pair, 40_000 + port, options)).collect();
    assert!(open.iter().all(|(client, _)| client.state() == StreamState::Open));
    let (refused, _) = connect(&mut pair, 50_000, options);
    assert_eq!(refused.close_reason(), Some(CloseReason::NoResources));
    // One of them ends: there is room for one, and for no more.
    let (client, server) = &open[3];
    client.abandon();
    server.iter().for_each(|server| server.abandon());
    pair.run_clean();
    let (next, _other_end) = connect(&mut pair, 50_001, options);
    assert_eq!(next.state(), StreamState::Open);
    let (refused, _) = connect(&mut pair, 50_002, options);
    assert_eq!(refused.close_reason(), Some(CloseReason::NoResources));
    assert!(open.iter().enumerate().all(|(n, (client, _))| n == 3 || client.state() == StreamState::Open));
    pair.client.finish();
    pair.server.finish();
}

/// A connection on which something was said.
fn in_use() -> (Pair, Arc<StreamShared>, Arc<StreamShared>) {
    let options = ConnectOptions::default();
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options, options);
    pair.client.write(&client, b"hello");
    pair.run_clean();
    pair.server.read(&server);
    (pair, client, server)
}

#[test]
fn a_join_that_is_under_way_when_all_ends_holds_nothing() {
    let (mut pair, client, server) = in_use();
    pair.join(&client, 1, false);
    client.abandon();
    server.abandon();
    // Its SYN is longer under way than the end takes.
    let mut late = None;
    pair.run(Duration::from_millis(50), &mut |_, bytes| {
        let segment = Segment::parse(&bytes);
        let is_join = segment.tuple.local.addr == address(1, 1) && segment.tcp.flags == TcpFlags::SYN;
        if is_join {
            late = Some(bytes);
            return None;
        }
        Some(bytes)
    });
    let ports: Vec<u16> = Pair::reports(&mut pair.client)
        .into_iter()
        .filter_map(|report| match report {
            Report::SubflowClosed { tuple, established: false, .. } => Some(tuple.local.port),
            _ => None,
        })
        .collect();
    assert_eq!(ports, [40_001], "its port is free");
    // The peer's answer is for nobody, which the peer is told.
    pair.server.deliver(pair.now, PortId(1), &late.expect("its SYN"));
    pair.run_clean();
    assert!(pair.server.stack.connections.views().all(|connection| connection.is_in_time_wait()));
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn one_whose_application_has_left_rests_at_once() {
    let (mut pair, client, server) = in_use();
    client.close_send();
    pair.run_clean();
    server.abandon();
    pair.run_clean();
    let finished = |pair: &mut Pair| {
        let reports = Pair::reports(&mut pair.client).into_iter();
        reports.filter(|report| matches!(report, Report::Finished { .. })).count()
    };
    assert_eq!(finished(&mut pair), 1, "control hears that it only waits");
    assert_eq!(pair.client.stack.asleep_count(), 0, "its application may look at it");
    client.abandon();
    pair.run_clean();
    assert_eq!((pair.client.stack.asleep_count(), pair.client.stack.connection_count()), (1, 1));
    assert_eq!(finished(&mut pair), 0, "it has heard");
    pair.client.finish();
    pair.server.finish();
}
