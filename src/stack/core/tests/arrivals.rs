//! Runs of data segments that arrive at once: the short way that most of them take comes to what the long one does.

use super::pair::*;
use crate::base::PortId;
use crate::base::time::Duration;
use crate::mptcp::ConnectOptions;
use crate::stack::StreamShared;
use crate::stack::counters::WorkerCounters;
use crate::wire::mptcp::{Dss, DssMapping, ShortOrLong};
use crate::wire::{MptcpOption, TcpFlags};
use serde_json::Value;
use std::sync::Arc;

/// Segments that leave at once.
const BURST: usize = 40;
/// The one of them to which something happens.
const PLACE: usize = 6;

/// What happens to one segment, or to those around it.
type Change = fn(&mut Vec<(PortId, Vec<u8>)>);

/// What a server made of what came.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<(PortId, Vec<u8>)>,
    read: Vec<u8>,
    counted: WorkerCounters,
    /// The connection, when all of the first burst had come.
    state: Value,
    in_runs: u64,
}

fn options(mptcp: bool) -> ConnectOptions {
    ConnectOptions { mptcp, ..ConnectOptions::default() }
}

/// A burst of a client with so many subflows, or of plain TCP without any, of which one is changed, comes to a server; if
/// `apart` there is something else between any two of them, which ends runs. Then another one comes as it is.
fn outcome(subflows: usize, change: Change, apart: bool) -> Outcome {
    let mut pair = Pair::new();
    let (client, server) = match subflows {
        0 => pair.connect(options(false), options(false)),
        _ => pair.connect_joined(subflows - 1, options(true)),
    };
    // Windows in which a burst has room.
    for _ in 0..12 {
        pair.client.write_in(client.chunk_len(), &client, &pattern(240_000));
        pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
        pair.server.read(&server);
    }
    let before = pair.server.stack.worker_counters();
    let mut answers = Vec::new();
    let mut read = Vec::new();
    let mut state = Value::Null;
    for round in 0..2 {
        let mut burst = burst(&mut pair, &client);
        if round == 0 {
            assert!(burst.len() >= BURST, "{} segments", burst.len());
            change(&mut burst);
        }
        for (port, bytes) in burst {
            pair.server.deliver(pair.now, port, &bytes);
            if apart {
                pair.server.deliver(pair.now, port, b"something else");
            }
        }
        if let Some(connection) = pair.server.stack.connections().next().filter(|_| round == 0) {
            state = serde_json::to_value(&*connection).expect("a state");
            // Which of them are forgotten already makes no difference.
            erase(&mut state, "mappings");
        }
        answers.extend(pair.server.turn(pair.now));
        read.extend(pair.server.read(&server));
        // The window that it tells, when its application has read; and what it delays.
        for _ in 0..100 {
            pair.now += Duration::from_millis(1);
            answers.extend(pair.server.turn(pair.now));
        }
        for (port, bytes) in &answers {
            pair.client.deliver(pair.now, *port, bytes);
        }
    }
    let mut counted = pair.server.stack.worker_counters();
    let in_runs = counted.stack.received_in_runs - before.stack.received_in_runs;
    counted.stack.received = 0;
    counted.stack.received_in_runs = 0;
    counted.stack.malformed = Default::default();
    Outcome { answers, read, counted, state, in_runs }
}

/// Takes what has this name out, wherever it is.
fn erase(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(name);
            fields.values_mut().for_each(|value| erase(value, name));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| erase(value, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whole segments of the client that leave at once.
fn burst(pair: &mut Pair, client: &Arc<StreamShared>) -> Vec<(PortId, Vec<u8>)> {
    let len = client.chunk_len();
    pair.client.write_in(len, client, &pattern(BURST * len));
    pair.client.turn(pair.now)
}

fn change_one(burst: &mut [(PortId, Vec<u8>)], change: impl FnOnce(&mut Segment)) {
    let bytes = &mut burst[PLACE].1;
    *bytes = edit(bytes, change);
}

fn change_mapping(burst: &mut [(PortId, Vec<u8>)], change: impl Fn(&mut Dss, &mut DssMapping)) {
    change_mapping_at(PLACE, burst, change);
}

fn change_mapping_at(
    place: usize,
    burst: &mut [(PortId, Vec<u8>)],
    change: impl Fn(&mut Dss, &mut DssMapping),
) {
    let bytes = &mut burst[place].1;
    *bytes = edit(bytes, |segment| {
        for option in &mut segment.options.mptcp {
            if let MptcpOption::Dss(dss) = option
                && let Some(mut mapping) = dss.mapping
            {
                change(dss, &mut mapping);
                dss.mapping = Some(mapping);
            }
        }
    });
}

const CHANGES: [(&str, Change); 19] = [
    ("nothing", |_| {}),
    ("lost", |burst| drop(burst.remove(PLACE))),
    ("overtaken", |burst| burst.swap(PLACE, PLACE + 1)),
    ("twice", |burst| burst.insert(PLACE, burst[PLACE].clone())),
    ("damaged", |burst| *burst[PLACE].1.last_mut().expect("payload") ^= 1),
    ("the last flag", |burst| change_one(burst, |segment| segment.tcp.flags = TcpFlags::ACK | TcpFlags::FIN)),
    ("pushed", |burst| change_one(burst, |segment| segment.tcp.flags = TcpFlags::ACK | TcpFlags::PSH)),
    ("reset", |burst| change_one(burst, |segment| segment.tcp.flags = TcpFlags::RST)),
    ("another window", |burst| change_one(burst, |segment| segment.tcp.window /= 2)),
    ("an ACK of what was not sent", |burst| change_one(burst, |segment| segment.tcp.ack += 100_000)),
    ("no timestamps", |burst| change_one(burst, |segment| segment.options.timestamps = None)),
    ("an old timestamp", |burst| {
        change_one(burst, |segment| {
            if let Some(timestamps) = &mut segment.options.timestamps {
                timestamps.value = timestamps.value.wrapping_sub(1000);
            }
        });
    }),
    ("no option of MPTCP", |burst| change_one(burst, |segment| segment.options.mptcp.clear())),
    ("DATA_FIN", |burst| {
        change_mapping(burst, |dss, mapping| {
            dss.data_fin = true;
            mapping.len += 1;
        });
    }),
    ("elsewhere in the data", |burst| {
        change_mapping(burst, |_, mapping| {
            if let ShortOrLong::Long(data_seq) = &mut mapping.data_seq {
                *data_seq += 3000;
            }
        });
    }),
    ("elsewhere on the subflow", |burst| change_mapping(burst, |_, mapping| mapping.subflow_seq += 700)),
    ("all elsewhere on the subflow", |burst| {
        (0..burst.len()).for_each(|place| {
            change_mapping_at(place, burst, |_, mapping| mapping.subflow_seq += 700);
        });
    }),
    ("all said at first, and otherwise", |burst| {
        change_mapping_at(0, burst, |_, mapping| {
            mapping.len = 60_000;
            if let ShortOrLong::Long(data_seq) = &mut mapping.data_seq {
                *data_seq += 3000;
            }
        });
    }),
    ("the end at first", |burst| {
        let last = burst.len() - 1;
        let last_port = burst[last].0;
        change_mapping_at(last, burst, |dss, mapping| {
            dss.data_fin = true;
            mapping.len += 1;
        });
        // Overtaken on its own subflow; or all that another one carries comes behind it, and ends the data.
        match burst.iter().any(|(port, _)| *port != burst[last].0) {
            true => burst.sort_by_key(|(port, _)| *port != last_port),
            false => burst.rotate_right(1),
        }
    }),
];

#[test]
fn the_short_way_comes_to_what_the_long_one_does() {
    for subflows in 0..=2 {
        for (name, change) in CHANGES {
            let short = outcome(subflows, change, false);
            let long = outcome(subflows, change, true);
            // What happens may keep a run from beginning.
            let is_short = short.in_runs > 0 || name != "nothing";
            assert!(is_short && long.in_runs == 0, "{name}: {} and {}", short.in_runs, long.in_runs);
            let long = Outcome { in_runs: short.in_runs, ..long };
            assert_eq!(short.read, long.read, "{name}, {subflows} subflows: what was read");
            assert_eq!(short, long, "{name}, {subflows} subflows");
        }
    }
}

#[test]
fn a_whole_burst_goes_the_short_way_behind_its_first_segments() {
    for subflows in [0, 1] {
        let Outcome { in_runs, .. } = outcome(subflows, |_| {}, false);
        // The first three, and the last one, which pushes.
        assert_eq!(in_runs, 2 * (BURST as u64 - 4), "{subflows} subflows");
    }
}

#[test]
fn who_waits_for_an_answer_looks_at_all_that_comes() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(0, options(true));
    pair.client.write(&client, &pattern(40_000));
    pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
    pair.server.read(&server);
    pair.server.write(&server, &pattern(1000));
    assert!(!pair.server.turn(pair.now).is_empty(), "something in flight");
    let begin = pair.server.stack.worker_counters().stack.received_in_runs;
    for (port, bytes) in burst(&mut pair, &client) {
        pair.server.deliver(pair.now, port, &bytes);
    }
    assert_eq!(pair.server.stack.worker_counters().stack.received_in_runs, begin);
}

#[test]
fn parts_of_packets_are_no_run() {
    // Frames that look like the next segment, but belong to a packet that has not come to its end.
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(false), options(false));
    pair.client.write(&client, &pattern(40_000));
    pair.run(Duration::from_millis(50), &mut |_, frame| Some(frame));
    pair.server.read(&server);
    let packets = burst(&mut pair, &client);
    let begin = pair.server.stack.worker_counters().stack.received_in_runs;
    for (port, bytes) in &packets[..4] {
        pair.server.deliver(pair.now, *port, bytes);
    }
    assert_eq!(pair.server.stack.worker_counters().stack.received_in_runs, begin + 1);
    let (port, bytes) = &packets[4];
    pair.server.deliver_part(pair.now, *port, bytes, true);
    pair.server.deliver(pair.now, *port, &packets[5].1);
    pair.server.deliver(pair.now, *port, &packets[6].1);
    assert_eq!(pair.server.stack.worker_counters().stack.received_in_runs, begin + 1);
}
