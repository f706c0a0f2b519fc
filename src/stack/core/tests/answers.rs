//! ACKs that wait a moment for the answer of an application that was woken, and leave with it.

use super::pair::*;
use crate::base::time::Duration;
use crate::base::{Instant, PortId};
use crate::mptcp::ConnectOptions;
use crate::stack::StreamShared;
use crate::stack::message::Command;
use crate::wire::mptcp::MpCapable;
use crate::wire::{Endpoint, FourTuple, MptcpOption, TcpFlags};
use std::sync::Arc;

type Packets = Vec<(PortId, Vec<u8>)>;

/// A connection whose client has just sent a byte; and the packets, which the server has not had.
fn asked(mptcp: bool) -> (Pair, Arc<StreamShared>, Arc<StreamShared>, Packets) {
    let options = ConnectOptions { mptcp, ..ConnectOptions::default() };
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options, options);
    pair.client.write(&client, b"before");
    pair.run_clean();
    pair.server.read(&server);
    pair.client.write(&client, b"x");
    let request = pair.client.turn(pair.now);
    assert_eq!(request.len(), 1);
    (pair, client, server, request)
}

/// The server has the packets; its application, which has waited for them, is woken.
fn wake(pair: &mut Pair, server: &StreamShared, packets: &[(PortId, Vec<u8>)]) -> Instant {
    let now = pair.now;
    packets.iter().for_each(|(port, bytes)| pair.server.deliver(now, *port, bytes));
    pair.server.stack.connections.get_mut(name_of(server)).expect("alive").expect_answer(now);
    assert!(pair.server.turn(now).is_empty(), "the ACK waits");
    assert!(pair.server.stack.awaits_answers());
    now
}

fn finish(mut pair: Pair) {
    pair.run_clean();
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn an_answer_in_time_carries_the_ack() {
    for mptcp in [false, true] {
        let (mut pair, client, server, request) = asked(mptcp);
        let now = wake(&mut pair, &server, &request);
        assert_eq!(pair.server.read(&server), b"x");
        pair.server.write(&server, b"y");
        let answer = pair.server.turn(now + Duration::from_micros(20));
        let [(port, bytes)] = &answer[..] else { panic!("{} packets", answer.len()) };
        let (asked, said) = (Segment::parse(&request[0].1), Segment::parse(bytes));
        assert_eq!(said.tcp.ack, asked.tcp.seq + 1);
        pair.client.deliver(now, *port, bytes);
        pair.run_clean();
        assert_eq!(pair.client.read(&client), b"y");
        finish(pair);
    }
}

#[test]
fn without_an_answer_the_ack_leaves_a_moment_later() {
    let (mut pair, _client, server, request) = asked(true);
    let now = wake(&mut pair, &server, &request);
    let due = pair.server.stack.poll_timeout().expect("it is due");
    assert_eq!(due, now + Duration::from_micros(50));
    assert!(pair.server.turn(now + Duration::from_micros(49)).is_empty());
    let acks = pair.server.turn(due);
    assert_eq!(acks.len(), 1);
    assert!(!pair.server.stack.awaits_answers());
    for (port, bytes) in acks {
        pair.client.deliver(due, port, &bytes);
    }
    assert_eq!(pair.server.read(&server), b"x");
    finish(pair);
}

#[test]
fn one_that_ends_instead_of_an_answer_waits_for_nothing() {
    let (mut pair, _client, server, request) = asked(true);
    let now = wake(&mut pair, &server, &request);
    pair.server.read(&server);
    server.close_send();
    let packets = pair.server.turn(now + Duration::from_micros(1));
    assert!(!packets.is_empty(), "the end leaves at once");
    for (port, bytes) in packets {
        pair.client.deliver(now, port, &bytes);
    }
    finish(pair);
}

#[test]
fn data_that_is_there_leaves_with_the_third_ack() {
    let options = ConnectOptions::default();
    let mut pair = Pair::new();
    pair.server.listen(80, options);
    let stream = StreamShared::new(Arc::clone(&pair.client.doorbell));
    let tuple =
        FourTuple { local: Endpoint::new(address(1, 0), 40_000), remote: Endpoint::new(address(2, 0), 80) };
    let path = pair.client.path(0);
    pair.client.tell(pair.now, Command::Connect { tuple, path, options, stream: Arc::clone(&stream) });
    pair.client.write(&stream, b"hello");
    let mut third = None;
    pair.run(Duration::from_millis(100), &mut |_, bytes| {
        let segment = Segment::parse(&bytes);
        if segment.tuple == tuple && segment.tcp.flags.contains(TcpFlags::ACK) {
            third.get_or_insert(segment);
        }
        Some(bytes)
    });
    let third = third.expect("the handshake has ended");
    let with_length = |option: &MptcpOption| matches!(option, MptcpOption::Capable(MpCapable::Data { .. }));
    assert!(third.option(with_length).is_some(), "one packet has both");
    let server = pair.server.accept.pop().expect("accepted");
    assert_eq!(pair.server.read(&server), b"hello");
    finish(pair);
}

/// Two subflows of which only the second one's NIC takes packets, whose window so many segments, and some bytes more, were written
/// for. How many leave; and what is the next packet when data of the server has come on both.
fn beside_a_full_nic(segments: usize) -> (usize, Option<PortId>) {
    const MORE: usize = 1000;
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, ConnectOptions::default());
    pair.server.write_in(1400, &server, &pattern(100_000));
    let from_server = pair.server.turn(pair.now);
    let len = client.chunk_len();
    pair.client.write_in(len, &client, &pattern(segments * len + MORE));
    pair.client.stack.handle_doorbell();
    pair.client.stack.settle(pair.now, &mut pair.client.cache);
    let mut rooms = [64; PORTS];
    rooms[0] = 0;
    let next = |host: &mut Host| {
        let (port, packet) = host.stack.poll_transmit(pair.now, &rooms, &mut host.cache)?;
        host.cache.complete(packet.index);
        Some(port)
    };
    let left = std::iter::from_fn(|| next(&mut pair.client)).count();
    for (port, bytes) in from_server {
        pair.client.deliver(pair.now, port, &bytes);
    }
    let then = next(&mut pair.client);
    pair.run_clean();
    assert_eq!(pair.server.read(&server).len(), segments * len + MORE);
    pair.client.read(&client);
    finish(pair);
    (left, then)
}

#[test]
fn acks_do_not_wait_for_data_that_cannot_leave() {
    let (window, _) = beside_a_full_nic(100);
    assert!((10..100).contains(&window), "{window} segments");
    assert_eq!(beside_a_full_nic(window), (window, Some(PortId(1))));
}
