//! Connections that rest: when they are put to sleep, who wakes them, and that nobody notices.

use super::pair::*;
use crate::base::time::Duration;
use crate::mptcp::{ConnectOptions, SubflowId};
use crate::stack::StreamShared;
use crate::stack::message::Command;
use crate::stack::stream::StreamState;
use crate::tcp::KeepAlive;
use std::sync::Arc;

/// A connection of two subflows that has carried data both ways.
fn used() -> (Pair, Arc<StreamShared>, Arc<StreamShared>) {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, ConnectOptions::default());
    exchange(&mut pair, &client, &server);
    (pair, client, server)
}

/// Some data both ways, and the time that both hosts need to be quiet.
fn exchange(pair: &mut Pair, client: &StreamShared, server: &StreamShared) {
    let bytes: Vec<u8> = (0..30_000).map(|n: u32| (n % 251) as u8).collect();
    pair.client.write(client, &bytes);
    pair.server.write(server, &bytes);
    pair.run(Duration::from_millis(300), &mut |_, frame| Some(frame));
    assert!(pair.server.read(server) == bytes && pair.client.read(client) == bytes);
    pass(pair, 10);
}

/// Lets time pass.
fn pass(pair: &mut Pair, ms: u64) {
    pair.run(Duration::from_millis(ms), &mut |_, frame| Some(frame));
}

fn finish(pair: Pair) {
    pair.client.finish();
    pair.server.finish();
}

fn asleep(pair: &Pair) -> (usize, usize) {
    (pair.client.stack.asleep_count(), pair.server.stack.asleep_count())
}

#[test]
fn after_a_second_it_sleeps_and_data_from_either_end_wake_both() {
    let (mut pair, client, server) = used();
    assert_eq!(asleep(&pair), (0, 0));
    for _ in 0..2 {
        pass(&mut pair, 2500);
        assert_eq!(asleep(&pair), (1, 1));
        pair.client.write(&client, b"from the client");
        pass(&mut pair, 20);
        assert_eq!((asleep(&pair), pair.server.read(&server)), ((0, 0), b"from the client".to_vec()));
        pass(&mut pair, 2500);
        assert_eq!(asleep(&pair), (1, 1));
        pair.server.write(&server, b"from the server");
        pass(&mut pair, 20);
        assert_eq!((asleep(&pair), pair.client.read(&client)), ((0, 0), b"from the server".to_vec()));
        exchange(&mut pair, &client, &server);
    }
    finish(pair);
}

#[test]
fn what_is_said_of_it_is_the_same_asleep_and_awake_and_wakes_nobody() {
    let (mut pair, client, server) = used();
    let connection = name_of(&client);
    let awake = format!("{:?}", pair.client.stack.connection(connection).expect("alive").details(pair.now));
    let (then, counted) = (pair.now, pair.client.stack.worker_counters());
    pass(&mut pair, 2500);
    assert_eq!(asleep(&pair), (1, 1));
    let resting = format!("{:?}", pair.client.stack.connection(connection).expect("alive").details(then));
    assert_eq!(resting, awake);
    assert_eq!(format!("{:?}", pair.client.stack.worker_counters()), format!("{counted:?}"));
    assert_eq!(asleep(&pair), (1, 1));
    // Awake it counts on from there.
    pair.client.write(&client, b"more");
    pass(&mut pair, 20);
    let (before, after) = (counted.stack.tcp, pair.client.stack.worker_counters().stack.tcp);
    assert_eq!(asleep(&pair), (0, 0));
    assert!((1..6).contains(&(after.segments_sent - before.segments_sent)), "{before:?} {after:?}");
    assert_eq!(pair.server.read(&server), b"more");
    finish(pair);
}

#[test]
fn one_that_holds_data_stays_awake() {
    let (mut pair, client, server) = used();
    // More than the rings take: the connection keeps the rest.
    for _ in 0..2 {
        pair.client.write(&client, &vec![7; 200_000]);
        pass(&mut pair, 300);
    }
    pass(&mut pair, 3000);
    assert_eq!(pair.server.stack.asleep_count(), 0);
    while !pair.server.read(&server).is_empty() {
        server.ring();
        pass(&mut pair, 50);
    }
    pass(&mut pair, 2500);
    assert_eq!(asleep(&pair), (1, 1));
    finish(pair);
}

#[test]
fn its_timers_wake_it_and_one_that_has_them_often_does_not_sleep() {
    let (mut pair, client, _server) = used();
    let idle = Duration::from_secs(5);
    client.tune(|tuning| tuning.keep_alive = Some(KeepAlive { idle, interval: idle, probes: 3 }));
    client.ring();
    pass(&mut pair, 2500);
    assert_eq!(pair.client.stack.asleep_count(), 1);
    let sent = |pair: &Pair| pair.client.stack.worker_counters().stack.tcp.segments_sent;
    let before = sent(&pair);
    pass(&mut pair, 3000);
    assert!(sent(&pair) > before, "it asks whether the peer is there");
    let often = Duration::from_millis(700);
    client.tune(|tuning| tuning.keep_alive = Some(KeepAlive { idle: often, interval: often, probes: 3 }));
    client.ring();
    for _ in 0..50 {
        let packets = pair.client.turn(pair.now);
        packets.into_iter().for_each(|(port, bytes)| pair.server.deliver(pair.now, port, &bytes));
        let packets = pair.server.turn(pair.now);
        packets.into_iter().for_each(|(port, bytes)| pair.client.deliver(pair.now, port, &bytes));
        pair.now += Duration::from_millis(100);
        assert_eq!(pair.client.stack.asleep_count(), 0);
    }
    finish(pair);
}

#[test]
fn a_doorbell_that_overflows_wakes_those_alone_whose_applications_rang() {
    let (mut pair, client, _server) = used();
    pass(&mut pair, 2500);
    let doorbell = Arc::clone(&pair.client.doorbell);
    // Of connections that are gone, until it is full.
    (0..100).for_each(|_| doorbell.ring(Default::default()));
    pair.client.turn(pair.now);
    assert_eq!(asleep(&pair), (1, 1));
    (0..100).for_each(|_| doorbell.ring(Default::default()));
    client.ring();
    pair.client.turn(pair.now);
    assert_eq!(asleep(&pair), (0, 1));
    finish(pair);
}

#[test]
fn control_finds_it_and_the_end_finds_it() {
    let (mut pair, client, server) = used();
    pass(&mut pair, 2500);
    assert_eq!(asleep(&pair), (1, 1));
    let close = Command::CloseSubflow { connection: name_of(&client), subflow: SubflowId(1) };
    pair.client.stack.handle_command(pair.now, close, &mut pair.client.cache);
    pass(&mut pair, 100);
    let details = pair.client.stack.connection(name_of(&client)).expect("alive").details(pair.now);
    assert_eq!(details.subflows.len(), 1);
    // What the server would still do about it is due within a second, so that its second begins anew.
    pass(&mut pair, 4000);
    assert_eq!(asleep(&pair), (1, 1));
    server.close_send();
    server.ring();
    client.close_send();
    client.ring();
    // A TIME-WAIT, too.
    pass(&mut pair, 70_000);
    assert_eq!((client.state(), server.state()), (StreamState::Closed, StreamState::Closed));
    assert_eq!(pair.client.stack.connection_count() + pair.server.stack.connection_count(), 0);
    // Those that are closed with everything else.
    let (mut pair, client, _server) = used();
    pass(&mut pair, 2500);
    assert_eq!(asleep(&pair), (1, 1));
    pair.client.stack.clear(pair.now, &mut pair.client.cache);
    assert_eq!((client.state(), pair.client.stack.connection_count()), (StreamState::Closed, 0));
    assert_eq!(asleep(&pair), (0, 1));
    finish(pair);
}
