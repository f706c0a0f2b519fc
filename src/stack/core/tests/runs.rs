//! Runs: several segments to one decision of the scheduler, where the windows are wide, and no longer than they may be.

use super::pair::*;
use crate::base::pool::TX_HEADROOM;
use crate::base::time::Duration;
use crate::base::{Chunk, PortId};
use crate::mptcp::ConnectOptions;
use crate::mptcp::sched::SchedulerKind;
use crate::stack::StreamShared;
use crate::wire::mptcp::ShortOrLong;
use std::sync::Arc;

/// What the application has waiting: less than makes it wait.
const WAITING: usize = 170;

/// Two paths, between hosts that have exchanged so much that their windows are wide.
fn warm(scheduler: SchedulerKind) -> (Pair, Arc<StreamShared>) {
    let (pair, client, _) = warm_both(scheduler);
    (pair, client)
}

fn warm_both(scheduler: SchedulerKind) -> (Pair, Arc<StreamShared>, Arc<StreamShared>) {
    let mut pair = Pair::new();
    let options = ConnectOptions { scheduler, ..Default::default() };
    let (client, server) = pair.connect_joined(1, options);
    for _ in 0..12 {
        write_segments(&mut pair.client, &client, WAITING);
        pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
        pair.server.read(&server);
    }
    (pair, client, server)
}

/// Writes whole segments, as an application does that asks how long they are.
fn write_segments(host: &mut Host, stream: &StreamShared, segments: usize) {
    let len = stream.chunk_len();
    for _ in 0..segments {
        let frame = host.cache.alloc().expect("a frame");
        stream.push(Chunk::new(frame, TX_HEADROOM, len)).expect("room");
    }
    stream.ring();
}

/// The paths of the data segments that leave at once.
fn paths_of_a_turn(pair: &mut Pair) -> Vec<u8> {
    let packets = pair.client.turn(pair.now);
    let data = packets.iter().filter(|(_, frame)| !Segment::parse(frame).payload.is_empty());
    data.map(|(_, frame)| path_of(frame)).collect()
}

/// What the client's application has written comes to its connection.
fn settle(pair: &mut Pair) {
    pair.client.stack.handle_doorbell();
    pair.client.stack.settle(pair.now, &mut pair.client.cache);
}

/// The client's next segment, where each NIC has room, and its NIC.
fn next_segment(pair: &mut Pair) -> (PortId, Segment) {
    let Pair { client, now, .. } = pair;
    let (port, packet) = client.stack.poll_transmit(*now, &[64; PORTS], &mut client.cache).expect("data");
    let segment = Segment::parse(client.cache.pool().tx_bytes(&packet));
    client.cache.complete(packet.index);
    (port, segment)
}

fn longest_run(paths: &[u8]) -> usize {
    paths.chunk_by(|a, b| a == b).map(<[u8]>::len).max().unwrap_or_default()
}

#[test]
fn wide_windows_are_filled_in_runs_and_narrow_ones_segment_by_segment() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connect_joined(1, ConnectOptions::default());
    write_segments(&mut pair.client, &client, WAITING);
    let first = paths_of_a_turn(&mut pair);
    assert!(first.len() >= 18 && longest_run(&first) <= 2, "two windows of ten: {first:?}");
    let (mut pair, client) = warm(SchedulerKind::LowestRtt);
    write_segments(&mut pair.client, &client, WAITING);
    let wide = paths_of_a_turn(&mut pair);
    let longest = longest_run(&wide);
    assert!((4..=33).contains(&longest), "{longest}: {wide:?}");
    // The last ones of what waits are spread one by one.
    assert!(wide.len() == WAITING && longest_run(&wide[WAITING - 16..]) <= 2, "{wide:?}");
}

#[test]
fn a_scheduler_that_counts_segments_is_asked_for_each() {
    let (mut pair, client) = warm(SchedulerKind::RoundRobin);
    write_segments(&mut pair.client, &client, WAITING);
    let paths = paths_of_a_turn(&mut pair);
    assert_eq!((paths.len(), longest_run(&paths)), (WAITING, 1), "{paths:?}");
}

#[test]
fn a_run_ends_where_its_nic_takes_no_more() {
    let (mut pair, client) = warm(SchedulerKind::LowestRtt);
    write_segments(&mut pair.client, &client, WAITING);
    settle(&mut pair);
    let mut next = |rooms: &[usize]| {
        let (port, packet) = pair.client.stack.poll_transmit(pair.now, rooms, &mut pair.client.cache)?;
        pair.client.cache.complete(packet.index);
        Some(port)
    };
    let first = next(&[64; PORTS]).expect("data");
    assert_eq!(next(&[64; PORTS]), Some(first), "a run");
    let mut rooms = [64; PORTS];
    rooms[first.index()] = 0;
    assert_eq!(next(&rooms), Some(PortId(1 - first.0)));
    assert_eq!(next(&[0; PORTS]), None);
    assert!(next(&[64; PORTS]).is_some(), "and all goes on");
}

#[test]
fn what_arrives_within_a_run_is_acknowledged_by_the_next_of_it() {
    // On the path of the run, and on the other one.
    for same_path in [true, false] {
        let (mut pair, client, server) = warm_both(SchedulerKind::LowestRtt);
        // So many that ACKs are delayed.
        for _ in 0..40 {
            write_segments(&mut pair.server, &server, 1);
            pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
            pair.client.read(&client);
        }
        write_segments(&mut pair.server, &server, 1);
        let data = pair.server.turn(pair.now);
        let [(port, data)] = &data[..] else { panic!("a segment: {data:?}") };
        write_segments(&mut pair.client, &client, WAITING);
        settle(&mut pair);
        let mut row: Vec<(PortId, Segment)> = Vec::new();
        while row.len() < 3 || (row[0].0 == *port) != same_path {
            let one = next_segment(&mut pair);
            row.retain(|(on, _)| *on == one.0);
            row.push(one);
        }
        pair.client.deliver(pair.now, *port, data);
        let (on, after) = next_segment(&mut pair);
        let (last_on, last) = row.last().expect("three");
        assert_eq!(on, *last_on, "it goes on");
        let dss = |segment: &Segment| segment.options.dss().copied().expect("a DSS");
        assert!(dss(&after).mapping.is_some() && dss(last).mapping.is_some());
        assert_ne!(dss(&after).data_ack, dss(last).data_ack);
        assert_eq!(after.tcp.ack != last.tcp.ack, same_path);
        pair.client.finish();
        pair.server.finish();
    }
}

#[test]
fn what_is_read_within_a_run_is_told_of_by_the_next_of_it() {
    let mut pair = Pair::new();
    // So small that the window is not scaled: each byte of it shows.
    let plain = || ConnectOptions { mptcp: false, receive_buffer: 65_000, ..Default::default() };
    let (client, server) = pair.connect(plain(), plain());
    for _ in 0..6 {
        write_segments(&mut pair.client, &client, 30);
        pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
        pair.server.read(&server);
    }
    write_segments(&mut pair.server, &server, 20);
    pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
    write_segments(&mut pair.client, &client, 30);
    let window = |pair: &mut Pair| next_segment(pair).1.tcp.window;
    settle(&mut pair);
    let before = [(); 3].map(|()| window(&mut pair));
    assert_eq!(before, [before[0]; 3]);
    let read = pair.client.read(&client).len();
    settle(&mut pair);
    assert_eq!(usize::from(window(&mut pair)), usize::from(before[0]) + read);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn a_run_ends_with_the_window_of_the_peer() {
    let mut pair = Pair::new();
    // So small that the window is not scaled.
    let options = ConnectOptions { receive_buffer: 65_000, ..Default::default() };
    let (client, server) = pair.connect_joined(1, options);
    let low = |number: ShortOrLong| match number {
        ShortOrLong::Short(low) => low,
        ShortOrLong::Long(all) => all as u32,
    };
    let (mut edge, mut room_left, mut run) = (None, Vec::new(), Vec::new());
    for _ in 0..60 {
        write_segments(&mut pair.client, &client, WAITING.min(client.push_room()));
        pair.run(Duration::from_millis(20), &mut |up, frame| {
            let segment = Segment::parse(&frame);
            let dss = segment.options.dss();
            if !up && let Some(ack) = dss.and_then(|dss| dss.data_ack) {
                let shown = low(ack).wrapping_add(u32::from(segment.tcp.window));
                let is_later = |before: &u32| shown.wrapping_sub(*before) as i32 > 0;
                edge = edge.filter(|before| !is_later(before)).or(Some(shown));
            }
            if up && let (Some(mapping), Some(edge)) = (dss.and_then(|dss| dss.mapping), edge) {
                let end = low(mapping.data_seq).wrapping_add(u32::from(mapping.len));
                room_left.push(edge.wrapping_sub(end) as i32);
                run.push(path_of(&frame));
            }
            Some(frame)
        });
        pair.server.read(&server);
    }
    assert!(room_left.len() > 1_000 && longest_run(&run) > 2, "runs of {}", longest_run(&run));
    let least = room_left.into_iter().min().expect("some");
    assert!((0..client.chunk_len() as i32).contains(&least), "filled and not beyond: {least}");
}
