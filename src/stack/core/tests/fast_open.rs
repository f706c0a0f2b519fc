//! TCP Fast Open (RFC 7413) between two stacks.

use super::flood::{BACKLOG, flood_segment};
use super::pair::*;
use super::peer::{ACK, FIN, RST, SYN};
use crate::base::time::Duration;
use crate::base::{PortId, SeqNum};
use crate::mptcp::crypto::KeyMaterial;
use crate::mptcp::{ConnectOptions, Connection, Setup, Tuning};
use crate::stack::counters::FastOpenCounters;
use crate::stack::fast_open::PENDING_MAX;
use crate::stack::message::Command;
use crate::stack::stream::{AcceptQueue, FastOpenUse, StreamShared, StreamState};
use crate::tcp::{CloseReason, TcpConfig};
use crate::wire::mptcp::Key;
use crate::wire::tcp::OPTIONS_MAX;
use crate::wire::{Endpoint, FastOpen, FastOpenCookie, FourTuple};
use std::sync::Arc;

/// How long nothing must happen for a run to end: less than a time-out.
const QUIET: Duration = Duration::from_millis(60);

fn options(mptcp: bool) -> ConnectOptions {
    ConnectOptions { mptcp, fast_open: true, ..Default::default() }
}

/// The client opens a connection from `port`, with `first` already written.
fn open(pair: &mut Pair, port: u16, options: ConnectOptions, first: &[u8]) -> Arc<StreamShared> {
    let stream = StreamShared::new(Arc::clone(&pair.client.doorbell));
    pair.client.write(&stream, first);
    let (local, remote) = (Endpoint::new(address(1, 0), port), Endpoint::new(address(2, 0), 80));
    let (path, tuple) = (pair.client.path(0), FourTuple { local, remote });
    let command = Command::Connect { tuple, path, options, stream: Arc::clone(&stream) };
    pair.client.stack.handle_command(pair.now, command, &mut pair.client.cache);
    stream
}

/// Lets packets pass, and keeps those with a SYN.
fn run(pair: &mut Pair, patience: Duration) -> Vec<Segment> {
    let mut syns = Vec::new();
    pair.run(patience, &mut |_, bytes| {
        let segment = Segment::parse(&bytes);
        if segment.has(SYN) {
            syns.push(segment);
        }
        Some(bytes)
    });
    syns
}

/// A pair whose client has a cookie of the server's.
fn acquainted(mptcp: bool) -> Pair {
    let mut pair = Pair::new();
    pair.server.listen(80, options(mptcp));
    let client = open(&mut pair, 40_000, options(mptcp), b"");
    client.flush();
    let syns = run(&mut pair, QUIET);
    assert_eq!(syns[0].options.fast_open, Some(FastOpen::Request));
    assert!(matches!(syns[1].options.fast_open, Some(FastOpen::Cookie(_))), "{:?}", syns[1].options);
    let counters = &pair.server.stack.counters().fast_open;
    assert_eq!((counters.requests, counters.cookies_given), (1, 1));
    assert_eq!(pair.client.stack.counters().fast_open.learned, 1);
    pair.server.accept.pop().expect("accepted");
    pair
}

/// The same, and the SYN with 300 bytes that has left the client for the server.
fn syn_with_data() -> (Pair, Arc<StreamShared>, Vec<u8>) {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    let (_, syn) = pair.client.turn(pair.now).swap_remove(0);
    (pair, client, syn)
}

fn accepted(pair: &mut Pair) -> Arc<StreamShared> {
    pair.server.accept.pop().expect("accepted")
}

/// Closes both ends, and sees to it that all that was sent came once.
fn end(mut pair: Pair, client: &StreamShared, server: &StreamShared) {
    client.close_send();
    server.close_send();
    pair.run_clean();
    assert!(pair.server.read(server).is_empty() && pair.client.read(client).is_empty(), "more than was sent");
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn data_goes_with_the_syn_and_the_answer_comes_before_the_third_ack() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    // From the client nothing but the SYN comes through.
    let (mut syns, mut lost) = (Vec::new(), 0);
    let mut only_syns = |up: bool, bytes: Vec<u8>| {
        let segment = Segment::parse(&bytes);
        if segment.has(SYN) {
            syns.push(segment);
        } else if up {
            lost += 1;
            return None;
        }
        Some(bytes)
    };
    pair.run(QUIET, &mut only_syns);
    let server = accepted(&mut pair);
    assert_eq!((server.state(), pair.server.read(&server)), (StreamState::Open, pattern(300)));
    pair.server.write(&server, &pattern(5_000));
    pair.run(QUIET, &mut only_syns);
    assert!(lost > 0, "the third ACK was lost");
    assert_eq!(pair.client.read(&client), pattern(5_000));
    assert_eq!((syns[0].payload.len(), syns[1].payload.len()), (300, 0));
    assert_eq!(syns[1].tcp.ack, syns[0].tcp.seq + 301);
    assert_eq!(syns[1].options.fast_open, None, "the cookie is still the current one");
    assert_eq!((client.fast_open(), server.fast_open()), (FastOpenUse::Accepted, FastOpenUse::Accepted));
    assert!(!pair.server.stack.pending_fast_opens.is_empty());
    pair.client.write(&client, &pattern(3_000));
    run(&mut pair, Duration::from_secs(2));
    assert_eq!(pair.server.read(&server), pattern(3_000));
    assert!(pair.server.stack.pending_fast_opens.is_empty(), "it is confirmed");
    assert_eq!(pair.server.stack.counters().fast_open.accepted, 1);
    assert_eq!(pair.client.stack.counters().fast_open.sent_accepted, 1);
    end(pair, &client, &server);
}

#[test]
fn a_server_that_speaks_first_need_not_wait_for_the_third_ack() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), b"");
    client.flush();
    let syn = pair.client.turn(pair.now);
    assert!(Segment::parse(&syn[0].1).payload.is_empty());
    pair.server.deliver(pair.now, PortId(0), &syn[0].1);
    let syn_ack = pair.server.turn(pair.now);
    let server = accepted(&mut pair);
    assert_eq!((server.state(), server.fast_open()), (StreamState::Open, FastOpenUse::Unused));
    assert!(!pair.server.stack.pending_fast_opens.is_empty());
    pair.server.write(&server, &pattern(3_000));
    for (_, bytes) in syn_ack.iter().chain(&pair.server.turn(pair.now)) {
        pair.client.deliver(pair.now, PortId(0), bytes);
    }
    pair.client.stack.settle(pair.now, &mut pair.client.cache);
    assert_eq!(pair.client.read(&client), pattern(3_000));
    run(&mut pair, QUIET);
    assert!(pair.server.stack.pending_fast_opens.is_empty(), "it is confirmed");
    assert_eq!(pair.server.stack.counters().fast_open.accepted, 0, "no data of a SYN");
    end(pair, &client, &server);
}

#[test]
fn what_does_not_fit_into_the_syn_follows_the_handshake_and_so_does_the_end() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(10_000));
    client.close_send();
    let syns = run(&mut pair, QUIET);
    assert!((1000..1460).contains(&syns[0].payload.len()), "{}", syns[0].payload.len());
    let server = accepted(&mut pair);
    assert_eq!(pair.server.read(&server), pattern(10_000));
    assert!(server.is_drained());
    end(pair, &client, &server);
}

#[test]
fn a_syn_without_room_for_more_holds_no_small_segment_back() {
    const ROOM: usize = 1_460 - OPTIONS_MAX;
    /// With timestamps.
    const SEGMENT: usize = 1_448;
    let nagle = ConnectOptions { tuning: Tuning { nodelay: false, ..Tuning::default() }, ..options(false) };
    // More is there when the SYN leaves; or it is full, and more comes behind the handshake.
    for (first, before, behind) in [(1_000, 4_500, 0), (ROOM, 0, 4_500)] {
        let mut pair = acquainted(false);
        let client = open(&mut pair, 40_001, nagle, b"");
        pair.client.write_in(first, &client, &pattern(first));
        pair.client.write_in(SEGMENT, &client, &pattern(before));
        let syn = pair.client.turn(pair.now);
        assert_eq!(Segment::parse(&syn[0].1).payload.len(), first);
        // The server has forgotten the cookie.
        let without_data = edit(&syn[0].1, |segment| segment.payload.clear());
        pair.server.deliver(pair.now, PortId(0), &without_data);
        let syn_ack = pair.server.turn(pair.now);
        pair.client.deliver(pair.now, PortId(0), &syn_ack[0].1);
        pair.client.write_in(SEGMENT, &client, &pattern(behind));
        let sent = pair.client.turn(pair.now);
        let sent: usize = sent.iter().map(|(_, bytes)| Segment::parse(bytes).payload.len()).sum();
        assert_eq!(sent, first + 4_500, "the end of it waits for no acknowledgment");
        client.reset();
        pair.run_clean();
        while let Some(server) = pair.server.accept.pop() {
            server.reset();
            pair.server.read(&server);
        }
        pair.run_clean();
        pair.client.finish();
        pair.server.finish();
    }
}

#[test]
fn an_end_behind_data_that_fits_waits_for_the_handshake() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(100));
    client.close_send();
    let syns = run(&mut pair, QUIET);
    assert_eq!(syns[0].payload.len(), 100);
    let server = accepted(&mut pair);
    assert!(pair.server.read(&server) == pattern(100) && server.is_drained());
    end(pair, &client, &server);
}

#[test]
fn a_wrong_cookie_is_replaced_and_the_data_comes_again() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    let wrong = FastOpenCookie::new(&[1; 8]).map(FastOpen::Cookie);
    pair.run(QUIET, &mut |up, bytes| {
        let is_syn = up && Segment::parse(&bytes).has(SYN);
        Some(if is_syn { edit(&bytes, |segment| segment.options.fast_open = wrong) } else { bytes })
    });
    let server = accepted(&mut pair);
    assert_eq!(pair.server.read(&server), pattern(300));
    assert_eq!((client.fast_open(), server.fast_open()), (FastOpenUse::Ignored, FastOpenUse::Unused));
    let counters = &pair.server.stack.counters().fast_open;
    assert_eq!((counters.bad_cookies, counters.cookies_given, counters.accepted), (1, 2, 0));
    let counters = &pair.client.stack.counters().fast_open;
    assert_eq!((counters.sent_ignored, counters.learned, counters.failures), (1, 2, 0));
    end(pair, &client, &server);
}

#[test]
fn an_old_cookie_is_good_once_more_and_is_replaced_and_an_older_one_is_only_replaced() {
    /// How often servers change their key.
    const PERIOD: Duration = Duration::from_secs(30 * 60);
    for (periods, taken) in [(1, true), (2, false)] {
        let mut pair = acquainted(false);
        pair.now += PERIOD * periods;
        let client = open(&mut pair, 40_001, options(false), &pattern(300));
        let syns = run(&mut pair, QUIET);
        assert_eq!(syns[0].payload.len(), 300);
        let covered = if taken { 301 } else { 1 };
        assert_eq!(syns[1].tcp.ack, syns[0].tcp.seq + covered, "after {periods} periods");
        assert_ne!(syns[1].options.fast_open, syns[0].options.fast_open);
        let server = accepted(&mut pair);
        assert_eq!(pair.server.read(&server), pattern(300));
        let counters = &pair.server.stack.counters().fast_open;
        let (accepted_count, bad) = (u64::from(taken), u64::from(!taken));
        assert_eq!(
            (counters.accepted, counters.bad_cookies, counters.cookies_given),
            (accepted_count, bad, 2)
        );
        // The one that came back is the current one.
        let next = open(&mut pair, 40_002, options(false), &pattern(200));
        let again = run(&mut pair, QUIET);
        assert_eq!(again[0].options.fast_open, syns[1].options.fast_open);
        assert_eq!((again[1].tcp.ack, again[1].options.fast_open), (again[0].tcp.seq + 201, None));
        let other = accepted(&mut pair);
        assert_eq!(pair.server.read(&other), pattern(200));
        next.close_send();
        other.close_send();
        end(pair, &client, &server);
    }
}

#[test]
fn what_a_server_sends_before_the_third_ack_keeps_to_the_window_of_the_syn() {
    let (mut pair, client, syn) = syn_with_data();
    let narrow = edit(&syn, |segment| segment.tcp.window = 2_000);
    pair.server.deliver(pair.now, PortId(0), &narrow);
    pair.server.turn(pair.now);
    let server = accepted(&mut pair);
    assert_eq!(server.info().map(|info| info.send_window), Some(2_000));
    pair.server.write(&server, &pattern(10_000));
    let early = pair.server.turn(pair.now);
    let sent: usize = early.iter().map(|(_, bytes)| Segment::parse(bytes).payload.len()).sum();
    assert_eq!(sent, 2_000);
    client.reset();
    server.reset();
    pair.run_clean();
    pair.server.read(&server);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn no_more_of_a_syn_is_taken_than_the_application_has_room_for() {
    let mut pair = Pair::new();
    pair.server.listen(80, ConnectOptions { receive_buffer: 200, ..options(false) });
    let first = open(&mut pair, 40_000, options(false), b"");
    first.flush();
    run(&mut pair, QUIET);
    let earlier = accepted(&mut pair);
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    let syns = run(&mut pair, QUIET);
    assert_eq!(syns[1].tcp.ack, syns[0].tcp.seq + 201);
    let server = accepted(&mut pair);
    let mut arrived = pair.server.read(&server);
    for _ in 0..10 {
        pair.run_clean();
        arrived.extend(pair.server.read(&server));
    }
    assert_eq!(arrived, pattern(300));
    first.close_send();
    earlier.close_send();
    end(pair, &client, &server);
}

#[test]
fn a_path_that_drops_such_syns_costs_one_time_out_and_is_then_left_alone() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    let mut dropped = 0;
    pair.run(Duration::from_millis(1500), &mut |_, bytes| {
        let is_dropped = Segment::parse(&bytes).options.fast_open.is_some();
        dropped += usize::from(is_dropped);
        (!is_dropped).then_some(bytes)
    });
    assert_eq!(dropped, 1, "the second SYN has no such option");
    let server = accepted(&mut pair);
    assert_eq!(pair.server.read(&server), pattern(300));
    assert_eq!(pair.client.stack.counters().fast_open.failures, 1);
    let next = open(&mut pair, 40_002, options(false), &pattern(300));
    let syns = run(&mut pair, QUIET);
    assert_eq!((syns[0].options.fast_open, syns[0].payload.len()), (None, 0));
    assert_eq!(pair.client.stack.counters().fast_open.blocked, 1);
    let other = accepted(&mut pair);
    assert_eq!(pair.server.read(&other), pattern(300));
    next.close_send();
    other.close_send();
    end(pair, &client, &server);
}

#[test]
fn a_connection_that_is_refused_counts_against_the_path_and_one_that_is_given_up_does_not() {
    for (refused, failures) in [(true, 1), (false, 0)] {
        let (mut pair, client, syn) = syn_with_data();
        if refused {
            let reset = edit(&syn, |segment| {
                segment.tuple = segment.tuple.reversed();
                (segment.tcp.ack, segment.tcp.flags) = (segment.tcp.seq + 301, RST | ACK);
                segment.payload.clear();
            });
            pair.client.deliver(pair.now, PortId(0), &reset);
            pair.client.turn(pair.now);
            assert_eq!(client.close_reason(), Some(CloseReason::Refused));
        } else {
            client.abandon();
            pair.client.turn(pair.now);
        }
        assert_eq!(pair.client.stack.counters().fast_open.failures, failures);
        pair.client.finish();
        pair.server.finish();
    }
}

#[test]
fn silence_counts_against_the_path() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    pair.run(Duration::from_secs(64), &mut |_, _| None);
    assert_eq!(client.close_reason(), Some(CloseReason::TimedOut));
    assert_eq!(pair.client.stack.counters().fast_open.failures, 1);
    let next = open(&mut pair, 40_002, options(false), &pattern(300));
    let syn = pair.client.turn(pair.now);
    assert_eq!(Segment::parse(&syn[0].1).options.fast_open, None);
    next.reset();
    pair.client.turn(pair.now);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn a_syn_waits_a_moment_for_its_data_and_not_when_there_will_be_none() {
    let mut pair = acquainted(false);
    let client = open(&mut pair, 40_001, options(false), b"");
    assert!(pair.client.turn(pair.now).is_empty(), "it waits");
    pair.now += Duration::from_millis(3);
    pair.client.write(&client, &pattern(50));
    let syn = pair.client.turn(pair.now);
    assert_eq!(Segment::parse(&syn[0].1).payload, pattern(50));
    open(&mut pair, 40_002, options(false), b"");
    assert!(pair.client.turn(pair.now).is_empty(), "it waits");
    pair.now += Duration::from_millis(10);
    let syn = pair.client.turn(pair.now);
    let syn = Segment::parse(&syn[0].1);
    assert!(syn.payload.is_empty() && matches!(syn.options.fast_open, Some(FastOpen::Cookie(_))));
    let flushed = open(&mut pair, 40_003, options(false), b"");
    flushed.flush();
    assert_eq!(pair.client.turn(pair.now).len(), 1);
    let finished = open(&mut pair, 40_004, options(false), b"");
    finished.close_send();
    assert_eq!(pair.client.turn(pair.now).len(), 1, "there will be nothing to wait for");
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn mptcp_gets_its_cookie_and_sends_no_data_on_the_syn() {
    let mut pair = acquainted(true);
    let client = open(&mut pair, 40_001, options(true), &pattern(300));
    let syns = run(&mut pair, QUIET);
    assert_eq!((syns[0].options.fast_open, syns[0].payload.len()), (None, 0));
    let server = accepted(&mut pair);
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
    assert_eq!(pair.server.read(&server), pattern(300));
    end(pair, &client, &server);
}

#[test]
fn data_on_a_syn_with_mp_capable_is_left_to_the_handshake() {
    let mut pair = Pair::new();
    pair.server.listen(80, options(true));
    let first = open(&mut pair, 40_000, options(true), b"");
    let syns = run(&mut pair, QUIET);
    // RFC 8684 §B.1: all that a SYN/ACK can have, to the last byte.
    assert_eq!(syns[1].options.wire_len(), OPTIONS_MAX);
    let cookie = syns[1].options.fast_open;
    let earlier = accepted(&mut pair);
    let client = open(&mut pair, 40_001, options(true), &pattern(300));
    pair.run(QUIET, &mut |up, bytes| {
        let is_syn = up && Segment::parse(&bytes).has(SYN);
        let with_data = |segment: &mut Segment| {
            segment.options.fast_open = cookie;
            segment.payload = pattern(300);
        };
        Some(if is_syn { edit(&bytes, with_data) } else { bytes })
    });
    let server = accepted(&mut pair);
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)), "it is MPTCP");
    assert_eq!(pair.server.read(&server), pattern(300));
    let counters = &pair.server.stack.counters().fast_open;
    assert_eq!((counters.declined, counters.accepted, counters.bad_cookies), (1, 0, 0));
    first.close_send();
    earlier.close_send();
    end(pair, &client, &server);
}

#[test]
fn an_answer_on_the_syn_ack_is_read_by_plain_tcp_and_left_to_retransmission_by_mptcp() {
    let (mut pair, client, syn) = syn_with_data();
    pair.server.deliver(pair.now, PortId(0), &syn);
    let syn_ack = pair.server.turn(pair.now);
    let with_data = edit(&syn_ack[0].1, |segment| segment.payload = pattern(200));
    pair.client.deliver(pair.now, PortId(0), &with_data);
    let ack = pair.client.turn(pair.now);
    let syn_ack = Segment::parse(&with_data);
    assert_eq!(Segment::parse(&ack[0].1).tcp.ack, syn_ack.tcp.seq + 201);
    assert_eq!(pair.client.read(&client), pattern(200));

    let mut pair = Pair::new();
    pair.server.listen(80, options(true));
    let client = open(&mut pair, 40_000, options(true), &pattern(300));
    pair.run(QUIET, &mut |up, bytes| {
        let is_syn_ack = !up && Segment::parse(&bytes).has(SYN);
        let with_end = |segment: &mut Segment| {
            segment.payload = pattern(200);
            segment.tcp.flags = segment.tcp.flags | FIN;
        };
        Some(if is_syn_ack { edit(&bytes, with_end) } else { bytes })
    });
    let server = accepted(&mut pair);
    assert_eq!((client.fallback(), client.state()), (Some(None), StreamState::Open));
    assert_eq!(pair.server.read(&server), pattern(300));
    pair.server.write(&server, &pattern(400));
    pair.run_clean();
    assert_eq!(pair.client.read(&client), pattern(400));
    end(pair, &client, &server);
}

#[test]
fn an_option_has_room_beside_that_of_mptcp_or_is_not_there() {
    let mut pair = Pair::new();
    let (local, remote) = (Endpoint::new(address(1, 0), 40_000), Endpoint::new(address(2, 0), 80));
    for mptcp in [true, false] {
        let setup = Setup {
            tuple: FourTuple { local, remote },
            path: pair.client.path(0),
            options: options(mptcp),
            tcp: TcpConfig::default(),
            key: KeyMaterial::new(Key(1)),
            iss: SeqNum::new(1),
        };
        let mut connection = Connection::connect(pair.now, &setup);
        let longest = FastOpenCookie::new(&[1; 16]).map(FastOpen::Cookie).expect("a cookie");
        assert_eq!(connection.offer_fast_open(longest), !mptcp);
        assert!(connection.offer_fast_open(FastOpen::Request));
        connection.release(&mut pair.client.cache);
    }
}

#[test]
fn a_listener_that_was_not_asked_for_it_knows_nothing_of_it() {
    let mut pair = Pair::new();
    pair.server.listen(80, ConnectOptions { fast_open: false, ..options(false) });
    let client = open(&mut pair, 40_000, options(false), &pattern(300));
    let syns = run(&mut pair, QUIET);
    assert_eq!((syns[0].payload.len(), syns[1].options.fast_open), (0, None));
    let server = accepted(&mut pair);
    assert_eq!(pair.server.read(&server), pattern(300));
    assert_eq!(pair.server.stack.counters().fast_open, FastOpenCounters::default());
    assert_eq!(pair.client.stack.counters().fast_open.failures, 1, "it is not asked again for a while");
    end(pair, &client, &server);
}

#[test]
fn too_many_unconfirmed_connections_turn_it_off_until_there_are_less() {
    let mut pair = acquainted(false);
    let pending = &mut pair.server.stack.pending_fast_opens;
    (0..PENDING_MAX).for_each(|_| pending.begin());
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    let syns = run(&mut pair, QUIET);
    assert_eq!((syns[0].payload.len(), syns[1].tcp.ack), (300, syns[0].tcp.seq + 1));
    let counters = &pair.server.stack.counters().fast_open;
    assert_eq!((counters.overflows, counters.accepted), (1, 0));
    let server = accepted(&mut pair);
    assert_eq!(pair.server.read(&server), pattern(300));
    assert_eq!(client.fast_open(), FastOpenUse::Ignored);
    let pending = &mut pair.server.stack.pending_fast_opens;
    (0..PENDING_MAX).for_each(|_| pending.confirm());
    // The client leaves the path alone for a minute.
    pair.now += Duration::from_secs(60);
    let again = open(&mut pair, 40_002, options(false), &pattern(200));
    run(&mut pair, QUIET);
    let other = accepted(&mut pair);
    assert_eq!((again.fast_open(), pair.server.read(&other)), (FastOpenUse::Accepted, pattern(200)));
    again.close_send();
    other.close_send();
    end(pair, &client, &server);
}

#[test]
fn a_reset_before_the_third_ack_ends_the_connection_and_keeps_its_place() {
    let (mut pair, _client, syn) = syn_with_data();
    pair.server.deliver(pair.now, PortId(0), &syn);
    pair.server.turn(pair.now);
    let server = accepted(&mut pair);
    let reset = edit(&syn, |segment| {
        (segment.tcp.seq, segment.tcp.flags) = (segment.tcp.seq + 301, RST);
        segment.options = Default::default();
        segment.payload.clear();
    });
    pair.server.deliver(pair.now, PortId(0), &reset);
    pair.server.turn(pair.now);
    assert_eq!(server.close_reason(), Some(CloseReason::Reset));
    let pending = &mut pair.server.stack.pending_fast_opens;
    (1..PENDING_MAX).for_each(|_| pending.begin());
    assert!(!pending.has_room(pair.now), "the place of the one that was reset");
    assert!(pending.has_room(pair.now + Duration::from_secs(60)));
    assert_eq!(pair.server.read(&server), pattern(300));
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn under_syn_cookies_there_is_none() {
    let mut pair = Pair::new();
    pair.server.accept = AcceptQueue::new(BACKLOG);
    pair.server.listen(80, options(false));
    let first = open(&mut pair, 40_000, options(false), b"");
    run(&mut pair, QUIET);
    let earlier = accepted(&mut pair);
    for port in 1..=BACKLOG as u16 {
        pair.server.deliver(pair.now, PortId(0), &flood_segment(port, SYN, 0).emit());
    }
    let client = open(&mut pair, 40_001, options(false), &pattern(300));
    let mut syns = Vec::new();
    pair.run(QUIET, &mut |_, bytes| {
        let segment = Segment::parse(&bytes);
        let is_ours = segment.tuple.local.port == 40_001 || segment.tuple.remote.port == 40_001;
        if segment.has(SYN) && is_ours {
            syns.push(segment);
        }
        is_ours.then_some(bytes)
    });
    assert_eq!((syns[0].payload.len(), syns[1].tcp.ack), (300, syns[0].tcp.seq + 1));
    assert_eq!(syns[1].options.fast_open, None);
    assert_eq!(pair.server.stack.counters().cookies_received, 1);
    let server = accepted(&mut pair);
    assert_eq!(pair.server.read(&server), pattern(300));
    first.close_send();
    earlier.close_send();
    pair.client.finish();
    pair.server.finish();
    drop((client, server));
}

#[test]
fn payload_of_a_syn_that_counts_for_nothing_is_given_back() {
    let mut pair = Pair::new();
    pair.server.listen(80, options(false));
    for port in [80, 81] {
        let mut syn = flood_segment(9, SYN, 0);
        syn.tuple.remote.port = port;
        syn.payload = pattern(100);
        pair.server.deliver(pair.now, PortId(0), &syn.emit());
    }
    let answers = pair.server.turn(pair.now);
    let acks: Vec<_> = answers.iter().map(|(_, bytes)| Segment::parse(bytes).tcp.ack.raw()).collect();
    // RFC 9293 §3.10.7.1: the reset of the second acknowledges all of it.
    assert!(acks.contains(&8) && acks.contains(&108), "{acks:?}");
    pair.client.finish();
    pair.server.finish();
}
