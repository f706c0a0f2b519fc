//! The data stream: RFC 8684 §3.3.

use super::*;
use crate::base::time::Duration;
use crate::mptcp::SubflowId;
use crate::mptcp::crypto::KeyMaterial;
use crate::stack::StreamShared;
use crate::wire::checksum;
use crate::wire::mptcp::{CapableFlags, Dss, DssMapping, Key, ShortOrLong, dss_checksum};
use std::collections::BTreeSet;

/// The low half of this key's initial data sequence number is 0xfffffa5a: it wraps after 1,446 bytes.
const WRAPS_SOON: Key = Key(0x3d9a2);

/// A server with an MPTCP connection from a peer, before any data.
fn connected(flags: u8) -> (Host, Peer, std::sync::Arc<StreamShared>) {
    let mut host = server(options());
    let mut peer = client_of(0);
    peer.local = KeyMaterial::new(WRAPS_SOON);
    let stream = peer.connect(&mut host, NOW, CapableFlags(CapableFlags::HMAC_SHA256 | flags));
    (host, peer, stream)
}

fn shorten(dss: &mut Dss) {
    let short = |number: ShortOrLong| match number {
        ShortOrLong::Long(full) => ShortOrLong::Short(full as u32),
        short => short,
    };
    dss.data_ack = dss.data_ack.map(short);
    if let Some(mapping) = &mut dss.mapping {
        mapping.data_seq = short(mapping.data_seq);
    }
}

/// The last data ACK among these segments.
fn acked(peer: &Peer, segments: &[Segment]) -> Option<i64> {
    let ack = segments.iter().filter_map(|segment| segment.options.dss()?.data_ack).next_back()?;
    Some(ack.resolve(peer.data_seq(0)).distance(peer.data_seq(0)))
}

#[test]
fn pitfall_32_short_numbers_wrap_and_are_expanded_near_what_is_known() {
    let (mut host, mut peer, stream) = connected(0);
    let bytes = pattern(4_000);
    // The second half first: it lies behind the wrap, and what fills the gap before it.
    let first = peer.seq;
    for (offset, len) in [(2_000, 1_000), (3_000, 1_000), (0, 1_000), (1_000, 1_000)] {
        let payload = &bytes[offset..offset + len];
        let mut dss = peer.dss(offset as u64, payload, 0, false);
        shorten(&mut dss);
        peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(dss)], payload);
    }
    assert_eq!(peer.seq.distance(first), 4_000);
    let said = peer.receive(&mut host, NOW);
    assert_eq!(acked(&peer, &said), Some(4_000));
    assert!(host.read(&stream) == bytes);
    // The other way: a short data ACK of what we sent.
    host.write(&stream, &bytes[..500]);
    peer.receive(&mut host, NOW);
    let mut dss =
        Dss { data_ack: Some(ShortOrLong::Long(peer.host_data_seq(500).raw())), ..Default::default() };
    shorten(&mut dss);
    peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(dss)], b"");
    peer.receive(&mut host, NOW);
    stream.close_send();
    let fin = peer.receive(&mut host, NOW);
    assert!(fin.iter().any(|segment| segment.options.dss().is_some_and(|dss| dss.data_fin)));
    host.finish();
}

#[test]
fn pitfall_33_the_checksum_and_mp_fail_have_all_64_bits_of_a_short_number() {
    let send = |host: &mut Host, peer: &mut Peer, data_seq: u64| {
        let (subflow_seq, sum) = (peer.subflow_seq(), checksum::sum(0, b"hello"));
        let mut dss = peer.dss(0, b"hello", 0, true);
        shorten(&mut dss);
        if let Some(mapping) = &mut dss.mapping {
            mapping.checksum = Some(dss_checksum(crate::base::DataSeq::new(data_seq), subflow_seq, 5, sum));
        }
        peer.send(host, NOW, ACK, &[MptcpOption::Dss(dss)], b"hello");
        peer.receive(host, NOW)
    };
    let (mut host, mut peer, stream) = connected(CapableFlags::CHECKSUM);
    let full = peer.data_seq(0).raw();
    let said = send(&mut host, &mut peer, full);
    assert_eq!((acked(&peer, &said), host.read(&stream)), (Some(5), b"hello".to_vec()));
    host.finish();

    let (mut host, mut peer, stream) = connected(CapableFlags::CHECKSUM);
    let said = send(&mut host, &mut peer, full & 0xffff_ffff);
    assert_eq!((acked(&peer, &said), host.read(&stream)), (Some(0), b"".to_vec()));
    let fail =
        said.iter().find_map(|segment| match segment.option(|it| matches!(it, MptcpOption::Fail(_))) {
            Some(MptcpOption::Fail(fail)) => Some(fail.data_seq),
            _ => None,
        });
    assert_eq!(fail, Some(peer.data_seq(0)), "all of it");
    host.finish();
}

#[test]
fn pitfall_34_bytes_of_two_mappings_are_never_taken_together() {
    let (mut host, mut peer, stream) = connected(0);
    // "hello" and "world" are mapped in this order of the subflow but not of the data, and cut elsewhere.
    let map = |peer: &Peer, offset: u64, subflow_seq: u32| {
        let data_seq = ShortOrLong::Long(peer.data_seq(offset).raw());
        let mapping = DssMapping { data_seq, subflow_seq, len: 5, checksum: None };
        MptcpOption::Dss(Dss { data_ack: None, mapping: Some(mapping), data_fin: false })
    };
    let (second, first) = (map(&peer, 5, 1), map(&peer, 0, 6));
    peer.send(&mut host, NOW, ACK, &[second], b"wor");
    peer.send(&mut host, NOW, ACK, &[first], b"ldhel");
    peer.send(&mut host, NOW, ACK, &[], b"lo");
    peer.receive(&mut host, NOW);
    assert_eq!(host.read(&stream), b"helloworld");
    host.finish();
}

#[test]
fn pitfall_35_bytes_that_come_twice_count_once() {
    let (mut host, mut peer, stream) = connected(0);
    let bytes = pattern(100);
    // Sent again on the same subflow, shifted, overlapping at either end, and wholly inside.
    for (offset, len) in [(0, 40), (20, 40), (10, 10), (80, 20), (50, 40), (0, 100)] {
        peer.send_data(&mut host, NOW, offset as u64, &bytes[offset..offset + len]);
    }
    let said = peer.receive(&mut host, NOW);
    assert_eq!((acked(&peer, &said), host.read(&stream)), (Some(100), bytes));
    host.finish();
}

/// Whether a frame has a DATA_FIN.
fn has_fin(bytes: &[u8]) -> bool {
    Segment::parse(bytes).options.dss().is_some_and(|dss| dss.data_fin)
}

#[test]
fn pitfall_40_a_data_fin_alone_is_repeated_after_one_time_out() {
    let (mut host, mut peer, stream) = connected(0);
    stream.close_send();
    let (mut now, mut times) = (NOW, Vec::new());
    while times.len() < 4 {
        let said = peer.receive(&mut host, now);
        let ends = |segment: &Segment| segment.options.dss().is_some_and(|dss| dss.data_fin);
        times.extend(said.iter().any(ends).then(|| (now - NOW).as_millis()));
        now += Duration::from_millis(10);
    }
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // With nothing measured the time-out is the first one, of a second.
    assert_eq!(waits, [waits[0], waits[0], 2 * waits[0]], "{times:?}");
    host.finish();
}

#[test]
fn pitfall_40_a_data_fin_that_is_lost_is_said_again_also_after_close() {
    for abandoned in [false, true] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect_joined(1, options());
        pair.client.write(&client, &pattern(1_000));
        let mut end = None;
        pair.run(Duration::from_millis(300), &mut |up, bytes| {
            let mapping = Segment::parse(&bytes).options.dss().and_then(|dss| dss.mapping).filter(|_| up);
            end = mapping.map(|it| it.data_seq.resolve(Default::default()) + u64::from(it.len)).or(end);
            Some(bytes)
        });
        client.close_send();
        if abandoned {
            client.abandon();
        }
        let mut lost = 0;
        let mut last_ack = None;
        pair.run(Duration::from_secs(8), &mut |up, bytes| {
            if up && has_fin(&bytes) && lost < 3 {
                lost += 1;
                return None;
            }
            if !up {
                last_ack = Segment::parse(&bytes).options.dss().and_then(|dss| dss.data_ack).or(last_ack);
            }
            Some(bytes)
        });
        assert_eq!(lost, 3);
        assert!(pair.server.read(&server) == pattern(1_000) && server.is_drained());
        assert!(client.is_sent(), "it is acknowledged");
        let end = end.expect("data was sent").raw();
        assert_eq!(
            last_ack.map(|ack| ack.resolve(Default::default()).raw()),
            Some(end + 1),
            "it takes one number"
        );
    }
}

#[test]
fn pitfall_41_a_data_fin_is_taken_in_each_of_its_forms_and_wakes_the_reader() {
    let bare = |peer: &Peer, offset: u64| {
        let data_seq = ShortOrLong::Long(peer.data_seq(offset).raw());
        let mapping = DssMapping { data_seq, subflow_seq: 0, len: 1, checksum: None };
        MptcpOption::Dss(Dss { data_ack: None, mapping: Some(mapping), data_fin: true })
    };
    let with_data = |peer: &Peer, offset: u64, payload: &[u8]| {
        let mut dss = peer.dss(offset, payload, 0, false);
        dss.data_fin = true;
        if let Some(mapping) = &mut dss.mapping {
            mapping.len += 1;
        }
        MptcpOption::Dss(dss)
    };
    for form in ["bare", "with data", "on a FIN", "on a FIN with data", "before the data"] {
        let (mut host, mut peer, stream) = connected(0);
        match form {
            "bare" => {
                peer.send_data(&mut host, NOW, 0, b"hello");
                let fin = bare(&peer, 5);
                peer.send(&mut host, NOW, ACK, &[fin], b"");
            }
            "with data" => {
                let fin = with_data(&peer, 0, b"hello");
                peer.send(&mut host, NOW, ACK, &[fin], b"hello");
            }
            "on a FIN" => {
                peer.send_data(&mut host, NOW, 0, b"hello");
                let fin = bare(&peer, 5);
                peer.send(&mut host, NOW, ACK | FIN, &[fin], b"");
            }
            "on a FIN with data" => {
                let fin = with_data(&peer, 0, b"hello");
                peer.send(&mut host, NOW, ACK | FIN, &[fin], b"hello");
            }
            _ => {
                let fin = bare(&peer, 5);
                peer.send(&mut host, NOW, ACK, &[fin], b"");
                peer.receive(&mut host, NOW);
                assert!(!stream.is_drained());
                peer.send_data(&mut host, NOW, 0, b"hello");
            }
        }
        let said = peer.receive(&mut host, NOW);
        assert_eq!(acked(&peer, &said), Some(6), "{form}");
        assert!(stream.wait_readable(Some(std::time::Duration::ZERO)));
        assert_eq!(host.read(&stream), b"hello");
        assert!(stream.is_drained(), "{form}");
        host.finish();
    }
}

#[test]
fn the_end_comes_with_the_last_data_where_it_is_known_by_then() {
    for options in [options(), with_checksums()] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect_joined(1, options);
        pair.client.write(&client, &pattern(2_500));
        client.close_send();
        let mut fins = Vec::new();
        pair.run(Duration::from_millis(300), &mut |up, bytes| {
            if up && has_fin(&bytes) {
                fins.push(Segment::parse(&bytes).payload.len());
            }
            Some(bytes)
        });
        assert_eq!(fins, [500]);
        assert!(pair.server.read(&server) == pattern(2_500) && server.is_drained() && client.is_sent());
    }
}

#[test]
fn pitfall_44_the_window_counts_from_the_data_ack_for_all_subflows_together() {
    let mut host = server(options());
    let mut peer = client_of(0);
    peer.window = 6_000;
    let stream = peer.connect(&mut host, NOW, H);
    peer.send_data(&mut host, NOW, 0, b"x");
    peer.receive(&mut host, NOW);
    let mut joined = second_of(&peer);
    joined.window = 6_000;
    joined.join(&mut host, NOW, 1);
    host.read(&stream);
    host.write(&stream, &pattern(30_000));
    // One turn: both subflows have windows of ten segments, and 6 kB are what they may send together.
    let sent = |host: &mut Host, peer: &mut Peer, joined: &mut Peer| {
        let mut bytes = BTreeSet::new();
        for (_, frame) in host.turn(NOW) {
            let segment = Segment::parse(&frame);
            if let Some(mapping) = segment.options.dss().and_then(|dss| dss.mapping) {
                let start = mapping.data_seq.resolve(peer.host_data_seq(0)).distance(peer.host_data_seq(0));
                bytes.extend(start..start + i64::from(mapping.len));
            }
            for end in [&mut *peer, joined] {
                if segment.tuple == end.tuple.reversed() {
                    end.ack = end.ack.max(segment.tcp.seq + segment.payload.len() as u32);
                }
            }
        }
        bytes
    };
    let first = sent(&mut host, &mut peer, &mut joined);
    assert_eq!(
        (first.first(), first.last()),
        (Some(&0), Some(&5_999)),
        "the window of the handshake, shared"
    );
    // An ACK that is older, or a smaller window, moves nothing back.
    peer.data_ack(&mut host, NOW, 3_000);
    joined.window = 1_000;
    joined.data_ack(&mut host, NOW, 3_000);
    let second = sent(&mut host, &mut peer, &mut joined);
    assert_eq!((second.first(), second.last()), (Some(&6_000), Some(&8_999)));
    // Nor does an ACK without DATA_ACK open it.
    joined.window = 60_000;
    joined.send(&mut host, NOW, ACK, &[], b"");
    assert!(sent(&mut host, &mut peer, &mut joined).is_empty());
    host.finish();
}

#[test]
fn pitfall_44_what_we_show_never_moves_back() {
    let small = ConnectOptions { receive_buffer: 40_000, ..options() };
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, small);
    let bytes = pattern(60_000);
    let mut edge = None;
    let mut watch = |up: bool, frame: Vec<u8>| {
        let segment = Segment::parse(&frame);
        if let Some(ack) = segment.options.dss().and_then(|dss| dss.data_ack).filter(|_| !up) {
            // A buffer of 40,000 bytes needs no shift.
            let shown = ack.resolve(Default::default()) + u64::from(segment.tcp.window);
            assert!(edge.is_none_or(|edge| shown.at_or_after(edge)), "the edge went back");
            edge = Some(shown);
        }
        Some(frame)
    };
    // Nobody reads until the window is full; then all is read, and the rest comes.
    pair.client.write(&client, &bytes);
    pair.run(Duration::from_secs(1), &mut watch);
    let mut arrived = pair.server.read(&server);
    assert!((38_000..=42_000).contains(&arrived.len()), "{}", arrived.len());
    pair.run(Duration::from_secs(2), &mut watch);
    arrived.extend(pair.server.read(&server));
    assert!(arrived == bytes);
}

fn reinjected(host: &Host, stream: &StreamShared) -> u64 {
    host.stack.connection(name_of(stream)).map(|it| it.reinjected_bytes()).expect("alive")
}

#[test]
fn pitfall_45_what_times_out_goes_out_elsewhere_and_stays_where_it_was() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    let bytes = pattern(100_000);
    pair.client.write(&client, &bytes);
    let (mut lost, mut again) = (BTreeSet::new(), BTreeSet::new());
    let data_on_second = |up: bool, frame: &[u8]| {
        let segment = Segment::parse(frame);
        (up && path_of(frame) == 1 && !segment.payload.is_empty()).then_some(segment.tcp.seq.raw())
    };
    // The second path is silent for as long as it takes to time out.
    pair.run(Duration::from_millis(300), &mut |up, frame| {
        lost.extend(data_on_second(up, &frame));
        (path_of(&frame) != 1).then_some(frame)
    });
    assert!(pair.server.read(&server) == bytes, "the other has carried all of it");
    assert!(!lost.is_empty() && reinjected(&pair.client, &client) >= 1_000 * lost.len() as u64);
    pair.run(Duration::from_secs(3), &mut |up, frame| {
        again.extend(data_on_second(up, &frame));
        Some(frame)
    });
    assert_eq!(again, lost, "and where it was it comes, too");
}

#[test]
fn pitfall_45_and_what_is_only_lost_once_does_not() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    let bytes = pattern(150_000);
    let mut lost = 0;
    let arrived = pair.upload(&client, &server, &bytes, &mut |up, frame| {
        let has_payload = up && path_of(&frame) == 1 && !Segment::parse(&frame).payload.is_empty();
        // The third segment of a flight: duplicate ACKs tell.
        lost += u32::from(has_payload);
        (!has_payload || lost != 3).then_some(frame)
    });
    assert!(arrived == bytes && lost > 10);
    assert_eq!(reinjected(&pair.client, &client), 0, "TCP repairs it on its own");
    let connection = pair.client.stack.connection(name_of(&client)).expect("alive");
    let retransmits: Vec<_> = connection.figures().map(|it| (it.id, it.tcp.counters.retransmits)).collect();
    assert_eq!(retransmits, [(SubflowId(0), 0), (SubflowId(1), 1)]);
}

#[test]
fn pitfall_46_reordering_between_subflows_is_no_loss() {
    let mut pair = Pair::new();
    pair.delays[1] = Duration::from_millis(60);
    let (client, server) = pair.connect_joined(1, options());
    let bytes = pattern(800_000);
    let arrived = pair.upload(&client, &server, &bytes, &mut |_, frame| Some(frame));
    assert!(arrived == bytes);
    let figures: Vec<_> = pair.client.stack.connection(name_of(&client)).expect("alive").figures().collect();
    for subflow in &figures {
        // Before the first path's window had grown so far that it took all: windows outlive pauses (RFC 7661).
        assert!(subflow.tcp.bytes_sent > 10_000, "{:?} carried a part", subflow.id);
        assert_eq!(subflow.tcp.counters.retransmits, 0);
        assert_eq!(subflow.tcp.ssthresh, u64::MAX, "no window was cut");
    }
    let waiting = pair.server.stack.connection(name_of(&server)).map(|it| it.misbehaviour());
    assert_eq!(waiting, Some(Default::default()), "nor is it anything against the peer");
}
