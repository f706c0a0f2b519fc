//! More handshakes than there is room for: the SYN queue and cookies, the accept queue, half-open joins.

use super::pair::*;
use super::peer::*;
use crate::base::time::Duration;
use crate::base::{Instant, PortId, SeqNum};
use crate::mptcp::{ConnectOptions, FallbackReason};
use crate::stack::core::joins::PER_SOURCE_MAX;
use crate::stack::stream::{AcceptQueue, StreamState};
use crate::wire::mptcp::{MptcpOption, ResetReason};
use crate::wire::{Endpoint, FourTuple, LinkHeader, MacAddr, Mss, TcpFlags, TcpOptions, TcpRepr};
use std::net::IpAddr;

/// Who floods.
const FLOODER: [u8; 4] = [10, 9, 9, 9];
/// The SYN queue, and the accept queue.
pub(super) const BACKLOG: usize = 3;

fn options(mptcp: bool) -> ConnectOptions {
    ConnectOptions { mptcp, ..Default::default() }
}

/// A segment from the flooder's `port` to the server's port 80.
pub(super) fn flood_segment(port: u16, flags: TcpFlags, ack: u32) -> Segment {
    let link = LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    let tuple = FourTuple {
        local: Endpoint::new(IpAddr::from(FLOODER), port),
        remote: Endpoint::new(address(2, 0), 80),
    };
    let tcp = TcpRepr { seq: SeqNum::new(7), ack: SeqNum::new(ack), flags, window: 1000, urgent: 0 };
    Segment { link, tuple, tcp, options: TcpOptions::default(), payload: Vec::new() }
}

/// A pair whose server's SYN queue is full.
fn flooded(server: ConnectOptions) -> Pair {
    let mut pair = Pair::new();
    pair.server.accept = AcceptQueue::new(BACKLOG);
    pair.server.listen(80, server);
    for port in 1..=BACKLOG as u16 {
        pair.server.deliver(pair.now, PortId(0), &flood_segment(port, TcpFlags::SYN, 0).emit());
    }
    assert_eq!(pair.server.stack.connection_count(), BACKLOG);
    pair
}

/// Whether a packet is not for the flooder, who hears nothing.
fn is_heard(bytes: &[u8]) -> bool {
    Segment::parse(bytes).tuple.remote.addr != IpAddr::from(FLOODER)
}

#[test]
fn a_cookie_keeps_all_that_was_agreed_and_both_ends_are_mptcp() {
    let mut pair = flooded(options(true));
    let (client_options, remote) = (options(true), Endpoint::new(address(2, 0), 80));
    let client = pair.client.connect(pair.now, remote, client_options);
    // While the SYN/ACK is on its way there is nothing at the server that tells of the client.
    pair.now += Duration::from_millis(1);
    let syn = pair.client.turn(pair.now);
    pair.server.deliver(pair.now, PortId(0), &syn[0].1);
    let answers = pair.server.turn(pair.now);
    assert_eq!(pair.server.stack.connection_count(), BACKLOG, "no connection");
    assert_eq!(pair.server.stack.counters().cookies_sent, 1);
    let answer = answers.iter().find(|(_, bytes)| is_heard(bytes)).expect("an answer to the client");
    pair.client.deliver(pair.now, PortId(0), &answer.1);
    let mut passing = |_: bool, bytes: Vec<u8>| is_heard(&bytes).then_some(bytes);
    pair.run(Duration::from_millis(300), &mut passing);
    assert_eq!(pair.server.stack.counters().cookies_received, 1);
    let server = pair.server.accept.pop().expect("accepted");
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
    for (host, stream) in [(&pair.client, &client), (&pair.server, &server)] {
        let connection = host.stack.connection(name_of(stream)).expect("there");
        let info = connection.figures().next().expect("a subflow");
        let agreed = info.tcp.agreed;
        assert!(agreed.timestamps && agreed.sack, "{agreed:?}");
        assert_eq!(agreed.window_shifts, Some((10, 10)), "32 MB need a shift of 10");
        assert_eq!(info.mss, Mss::new(1460));
    }
    // Joined, and with data both ways: the keys are right at either end.
    let (up, down) = (pattern(100_000), pattern(70_000));
    pair.client.write(&client, &up[..10]);
    pair.run(Duration::from_millis(300), &mut passing);
    pair.join(&client, 1, false);
    pair.run(Duration::from_millis(300), &mut passing);
    pair.client.write(&client, &up[10..]);
    pair.server.write(&server, &down);
    client.close_send();
    server.close_send();
    pair.run(Duration::from_millis(300), &mut passing);
    assert!(pair.server.read(&server) == up && pair.client.read(&client) == down, "the bytes differ");
    assert_eq!(server.info().map(|info| info.subflows), Some(2));
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn a_cookie_for_plain_tcp_says_why() {
    for (client_mptcp, server_mptcp, strips, expected) in [
        (false, true, false, FallbackReason::SynWithoutCapable),
        (true, false, false, FallbackReason::NotWanted),
        (true, true, true, FallbackReason::AckWithoutCapable),
    ] {
        let mut pair = flooded(options(server_mptcp));
        let remote = Endpoint::new(address(2, 0), 80);
        let client = pair.client.connect(pair.now, remote, options(client_mptcp));
        let mut passing = |up: bool, bytes: Vec<u8>| {
            let syn = Segment::parse(&bytes).has(SYN);
            let bytes = if strips && up && !syn { strip(&bytes, |_| true) } else { bytes };
            is_heard(&bytes).then_some(bytes)
        };
        pair.run(Duration::from_millis(300), &mut passing);
        let server = pair.server.accept.pop().expect("accepted");
        assert_eq!(server.fallback(), Some(Some(expected)));
        pair.client.write(&client, &pattern(50_000));
        client.close_send();
        pair.run(Duration::from_secs(3), &mut passing);
        assert!(pair.server.read(&server) == pattern(50_000), "the bytes differ");
        assert!(pair.server.stack.counters().cookies_received == 1 && server.is_drained());
        pair.client.finish();
        pair.server.finish();
    }
}

/// RFC 8684 §3.1: the keys are on the first data again, so that the third ACK may be lost, with no state behind it.
#[test]
fn the_first_data_brings_the_cookie_when_the_third_ack_is_lost() {
    let mut pair = flooded(options(true));
    let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), 80), options(true));
    let mut lost = 0;
    let mut passing = |up: bool, bytes: Vec<u8>| {
        let segment = Segment::parse(&bytes);
        let third = up && segment.payload.is_empty() && !segment.has(SYN) && lost == 0;
        lost += usize::from(third);
        (is_heard(&bytes) && !third).then_some(bytes)
    };
    pair.run(Duration::from_millis(300), &mut passing);
    assert!(pair.server.accept.pop().is_none() && client.state() == StreamState::Open);
    pair.client.write(&client, &pattern(5000));
    pair.run(Duration::from_millis(300), &mut passing);
    let server = pair.server.accept.pop().expect("accepted");
    assert_eq!(server.fallback(), Some(None));
    assert_eq!(pair.server.read(&server), pattern(5000));
    assert_eq!(lost, 1);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn an_ack_that_guesses_is_answered_with_a_reset() {
    let mut pair = flooded(options(true));
    let guess = |port| flood_segment(port, TcpFlags::ACK, 12_345).emit();
    pair.server.deliver(pair.now, PortId(0), &guess(100));
    assert_eq!(pair.server.stack.counters().cookies_failed, 0, "none is out: nobody looks");
    pair.server.deliver(pair.now, PortId(0), &flood_segment(101, TcpFlags::SYN, 0).emit());
    let cookie = pair
        .server
        .turn(pair.now)
        .iter()
        .map(|(_, bytes)| Segment::parse(bytes))
        .find(|segment| segment.tuple.remote.port == 101);
    let iss = cookie.expect("a SYN/ACK").tcp.seq;
    pair.server.deliver(pair.now, PortId(0), &guess(100));
    assert_eq!(pair.server.stack.counters().cookies_failed, 1);
    assert_eq!(pair.server.stack.counters().resets_sent, 2);
    // After its life the right one is no better.
    let mut late = flood_segment(101, TcpFlags::ACK, 0);
    (late.tcp.seq, late.tcp.ack) = (SeqNum::new(8), iss + 1);
    pair.server.deliver(pair.now + crate::tcp::COOKIE_LIFE, PortId(0), &late.emit());
    assert_eq!(pair.server.stack.counters().cookies_received, 0);
    pair.server.deliver(pair.now, PortId(0), &late.emit());
    assert_eq!(pair.server.stack.counters().cookies_received, 1);
    pair.server.turn(pair.now);
    pair.server.finish();
}

#[test]
fn a_full_accept_queue_drops_syns_and_cookies_until_somebody_accepts() {
    let mut pair = flooded(options(true));
    let now = pair.now;
    // Cookies for more than the accept queue takes.
    let handshakes: Vec<Segment> = (0..=BACKLOG as u16)
        .map(|n| {
            pair.server.deliver(now, PortId(0), &flood_segment(200 + n, TcpFlags::SYN, 0).emit());
            let sent = pair.server.turn(now);
            let answer = sent.iter().map(|(_, bytes)| Segment::parse(bytes));
            let answer = answer.into_iter().find(|answer| answer.tuple.remote.port == 200 + n);
            let mut ack = flood_segment(200 + n, TcpFlags::ACK, 0);
            (ack.tcp.seq, ack.tcp.ack) = (SeqNum::new(8), answer.expect("a SYN/ACK").tcp.seq + 1);
            ack
        })
        .collect();
    for ack in &handshakes {
        pair.server.deliver(now, PortId(0), &ack.emit());
        pair.server.turn(now);
    }
    let resets = pair.server.stack.counters().resets_sent;
    assert_eq!((pair.server.stack.counters().accept_overflows, resets), (1, 0));
    pair.server.deliver(now, PortId(0), &flood_segment(300, TcpFlags::SYN, 0).emit());
    assert_eq!(pair.server.stack.counters().accept_overflows, 2);
    assert!(pair.server.turn(now).is_empty(), "no answer");
    // Somebody accepts, and the last of them, which has waited, comes again.
    assert!(pair.server.accept.pop().is_some());
    pair.server.deliver(now, PortId(0), &handshakes[BACKLOG].emit());
    pair.server.turn(now);
    assert_eq!(pair.server.stack.counters().cookies_received, BACKLOG as u64 + 1);
    assert!(pair.server.accept.is_full());
    pair.server.finish();
}

#[test]
fn handshakes_that_end_or_die_leave_the_syn_queue() {
    let mut pair = flooded(options(true));
    // The flooder resets one of its own, and leaves the others to time out.
    let mut reset = flood_segment(1, RST, 0);
    reset.tcp.seq = SeqNum::new(8);
    pair.server.deliver(pair.now, PortId(0), &reset.emit());
    pair.server.turn(pair.now);
    pair.server.deliver(pair.now, PortId(0), &flood_segment(50, SYN, 0).emit());
    assert_eq!((pair.server.stack.connection_count(), pair.server.stack.counters().cookies_sent), (3, 0));
    pair.run(Duration::from_secs(70), &mut |_, bytes| is_heard(&bytes).then_some(bytes));
    assert_eq!(pair.server.stack.connection_count(), 0, "their SYN/ACKs were not answered");
    (60..63).for_each(|port| {
        pair.server.deliver(pair.now, PortId(0), &flood_segment(port, SYN, 0).emit());
    });
    assert_eq!((pair.server.stack.connection_count(), pair.server.stack.counters().cookies_sent), (3, 0));
    pair.server.finish();
}

#[test]
fn half_open_joins_of_one_source_are_limited() {
    let mut host = Host::new(2, 1500);
    host.listen(80, options(true));
    let now = Instant::from_millis(10);
    let (remote, source) = (Endpoint::new(address(2, 0), 80), IpAddr::from([10, 0, 1, 1]));
    let mut streams = Vec::new();
    let mut tried = 0;
    let mut answers = Vec::new();
    for number in 0..3 {
        let mut peer = Peer::new(Endpoint::new(address(1, 0), 40_000 + number), remote, 0);
        streams.push(peer.connect(&mut host, now, H));
        peer.send_data(&mut host, now, 0, b"x");
        peer.receive(&mut host, now);
        for port in 0..30 {
            if tried > PER_SOURCE_MAX {
                break;
            }
            tried += 1;
            let mut join = peer.another(Endpoint::new(source, 1000 * (number + 1) + port), remote, 1);
            join.send(&mut host, now, SYN, &[peer.join_syn(1, 9)], b"");
            answers.extend(join.receive(&mut host, now));
        }
    }
    assert_eq!(tried, PER_SOURCE_MAX + 1);
    let (last, all) = answers.split_last().expect("answers");
    assert!(all.iter().all(|answer| answer.has(SYN)), "the others are answered");
    assert!(last.has(RST) && !last.has(SYN));
    let says = |option: &MptcpOption| matches!(option, MptcpOption::Reset(reset) if reset.reason == ResetReason::LackOfResources);
    assert!(last.option(says).is_some(), "{:?}", last.options);
    assert_eq!(host.stack.counters().refused_joins, 1);
    // Nobody answers the SYN/ACKs: with their end there is room again.
    let later = now + Duration::from_secs(200);
    for seconds in 0..200 {
        host.turn(now + Duration::from_secs(seconds));
    }
    let mut peer = Peer::new(Endpoint::new(address(1, 0), 50_000), remote, 0);
    streams.push(peer.connect(&mut host, later, H));
    peer.send_data(&mut host, later, 0, b"x");
    peer.receive(&mut host, later);
    let mut join = peer.another(Endpoint::new(source, 9), remote, 1);
    join.send(&mut host, later, SYN, &[peer.join_syn(1, 9)], b"");
    assert!(join.receive(&mut host, later)[0].has(SYN));
    streams.iter().for_each(|stream| stream.abandon());
    host.turn(later);
    for stream in &streams {
        host.read(stream);
    }
    host.finish();
}
