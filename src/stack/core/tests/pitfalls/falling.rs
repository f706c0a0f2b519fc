//! Falling back: RFC 8684 §3.7.

use super::*;
use crate::base::time::Duration;
use crate::stack::StreamShared;
use crate::wire::mptcp::{CapableFlags, Dss, DssMapping, MpFail, MpJoin, ShortOrLong};

fn fail_of(segment: &Segment) -> Option<MpFail> {
    segment.options.mptcp.iter().find_map(|option| match option {
        MptcpOption::Fail(fail) => Some(*fail),
        _ => None,
    })
}

fn is_infinite(segment: &Segment) -> bool {
    segment.options.dss().and_then(|dss| dss.mapping).is_some_and(|mapping| mapping.len == 0)
}

/// Changes a byte of the payload of the first data segment that goes up over this path, and behind it those at the same
/// place of the stream, as a middlebox that rewrites what it knows would.
fn meddler(path: u8) -> impl FnMut(bool, Vec<u8>) -> Option<Vec<u8>> {
    let mut at = None;
    move |up, frame| {
        let segment = Segment::parse(&frame);
        if !up || path_of(&frame) != path || segment.payload.is_empty() {
            return Some(frame);
        }
        let at = *at.get_or_insert(segment.tcp.seq + 3);
        let place = at.distance(segment.tcp.seq);
        Some(edit(&frame, |segment| {
            if let Some(byte) = usize::try_from(place).ok().and_then(|place| segment.payload.get_mut(place)) {
                *byte ^= 0x40;
            }
        }))
    }
}

#[test]
fn pitfall_36_with_other_subflows_the_changed_one_is_reset_with_mp_fail() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, with_checksums());
    let mut meddle = meddler(1);
    let (mut mapped, mut failed) = (None, None);
    let bytes = pattern(400_000);
    let arrived = pair.upload(&client, &server, &bytes, &mut |up, frame| {
        let segment = Segment::parse(&frame);
        if up && path_of(&frame) == 1 && mapped.is_none() {
            mapped = segment.options.dss().and_then(|dss| dss.mapping).map(|mapping| mapping.data_seq);
        }
        if !up && segment.has(RST) {
            failed = fail_of(&segment).map(|fail| (path_of(&frame), fail.data_seq, reset_reason(&[segment])));
        }
        meddle(up, frame)
    });
    assert!(arrived == bytes, "it was sent again on the other subflow");
    let start = mapped.expect("data went over the second path").resolve(Default::default());
    assert_eq!(failed, Some((1, start, Some(ResetReason::MiddleboxInterference))));
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
    let bad = pair.server.stack.connection(name_of(&server)).map(|it| it.misbehaviour().bad_checksums);
    assert_eq!(bad, Some(1));
}

#[test]
fn pitfall_36_the_only_subflow_falls_back_by_mp_fail_and_an_infinite_mapping() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(with_checksums(), with_checksums());
    let mut meddle = meddler(0);
    let (mut fails, mut infinite) = ([0, 0], [0, 0]);
    let bytes = pattern(400_000);
    let mut plain = 0;
    let arrived = pair.upload(&client, &server, &bytes, &mut |up, frame| {
        let segment = Segment::parse(&frame);
        assert!(!segment.has(RST));
        fails[usize::from(up)] += u32::from(fail_of(&segment).is_some());
        infinite[usize::from(up)] += u32::from(is_infinite(&segment));
        plain += u32::from(up && segment.options.mptcp.is_empty() && !segment.payload.is_empty());
        meddle(up, frame)
    });
    let mut expected = bytes;
    expected[3] ^= 0x40;
    assert!(arrived == expected, "what the middlebox made of it, as plain TCP would have it");
    assert!(fails[0] >= 1 && fails[1] >= 1, "MP_FAIL both ways: {fails:?}");
    assert!(infinite[1] >= 1, "an infinite mapping of what is sent: {infinite:?}");
    assert!(plain > 100, "and no option behind that: {plain}");
    assert_eq!(client.fallback(), fell_back(FallbackReason::PeerSawBadChecksum));
    assert_eq!(server.fallback(), fell_back(FallbackReason::BadChecksum));
    // Both directions, to the end.
    pair.server.write(&server, &pattern(50_000));
    server.close_send();
    client.close_send();
    pair.run_clean();
    assert!(pair.client.read(&client) == pattern(50_000));
    assert!(client.is_sent() && server.is_sent() && client.is_drained() && server.is_drained());
}

#[test]
fn falling_back_survives_the_loss_of_what_is_said_about_it() {
    // MP_FAIL is lost once or twice on its way down, and the answers on their way up.
    for (lost_fails, lost_answers) in [(1, 0), (3, 0), (0, 1), (0, 2), (2, 2)] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect(with_checksums(), with_checksums());
        let mut meddle = meddler(0);
        let (mut fails, mut answers) = (0, 0);
        let bytes = pattern(60_000);
        let arrived = pair.upload(&client, &server, &bytes, &mut |up, frame| {
            let segment = Segment::parse(&frame);
            if !up && fail_of(&segment).is_some() {
                fails += 1;
                if fails <= lost_fails {
                    return None;
                }
            }
            if up && (is_infinite(&segment) || fail_of(&segment).is_some()) {
                answers += 1;
                if answers <= lost_answers {
                    return None;
                }
            }
            meddle(up, frame)
        });
        let mut expected = bytes;
        expected[3] ^= 0x40;
        assert!(arrived == expected, "{lost_fails} and {lost_answers}: {} bytes", arrived.len());
        assert_eq!(client.fallback(), fell_back(FallbackReason::PeerSawBadChecksum));
        assert_eq!(server.fallback(), fell_back(FallbackReason::BadChecksum));
    }
}

/// A server with a connection from a peer, with checksums; the peer has sent a good "hello".
fn summed() -> (Host, Peer, std::sync::Arc<StreamShared>) {
    let mut host = server(options());
    let mut peer = client_of(0);
    let stream =
        peer.connect(&mut host, NOW, CapableFlags(CapableFlags::HMAC_SHA256 | CapableFlags::CHECKSUM));
    let dss = MptcpOption::Dss(peer.dss(0, b"hello", 0, true));
    peer.send(&mut host, NOW, ACK, &[dss], b"hello");
    peer.receive(&mut host, NOW);
    (host, peer, stream)
}

fn infinite(peer: &Peer, offset: u64, subflow_seq: u32) -> MptcpOption {
    let data_seq = ShortOrLong::Long(peer.data_seq(offset).raw());
    let mapping = DssMapping { data_seq, subflow_seq, len: 0, checksum: Some(0) };
    MptcpOption::Dss(Dss { data_ack: None, mapping: Some(mapping), data_fin: false })
}

#[test]
fn pitfall_37_an_infinite_mapping_begins_before_what_was_received_and_nothing_comes_twice() {
    let (mut host, mut peer, stream) = summed();
    // "world" with a checksum of something else; the peer's last DATA_ACK was of nothing: it maps from the first byte.
    let dss = MptcpOption::Dss(peer.dss(5, b"wOrld", 0, true));
    peer.send(&mut host, NOW, ACK, &[dss], b"world");
    let said = peer.receive(&mut host, NOW);
    assert_eq!(said.iter().find_map(fail_of).map(|fail| fail.data_seq), Some(peer.data_seq(5)));
    let mapping = infinite(&peer, 0, 1);
    peer.send(&mut host, NOW, ACK, &[mapping], b"again");
    peer.receive(&mut host, NOW);
    assert_eq!(host.read(&stream), b"helloworldagain");
    assert_eq!(stream.fallback(), fell_back(FallbackReason::BadChecksum));
    // Without an option it goes on.
    peer.send(&mut host, NOW, ACK, &[], b"!");
    peer.receive(&mut host, NOW);
    assert_eq!(host.read(&stream), b"!");
    host.finish();
}

#[test]
fn pitfall_37_an_empty_mapping_beside_a_data_ack_and_no_data_is_none() {
    let mut host = server(options());
    let mut peer = client_of(0);
    let stream = peer.connect(&mut host, NOW, H);
    peer.send_data(&mut host, NOW, 0, b"hello");
    let (dss, infinite) = (peer.dss(5, b"", 0, false), infinite(&peer, 5, 6));
    // Beside a DATA_ACK, on a segment that only acknowledges.
    peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(dss)], b"");
    peer.receive(&mut host, NOW);
    assert_eq!(stream.fallback(), Some(None));
    // Without one it tells of a fall-back, whether or not there is data.
    peer.send(&mut host, NOW, ACK, &[infinite], b"");
    peer.receive(&mut host, NOW);
    assert_eq!(stream.fallback(), fell_back(FallbackReason::PeerFellBack));
    host.read(&stream);
    host.finish();
}

#[test]
fn behind_a_wrong_checksum_a_data_fin_is_not_answered_each_time() {
    let (mut host, mut peer, stream) = summed();
    let dss = MptcpOption::Dss(peer.dss(5, b"wOrld", 0, true));
    peer.send(&mut host, NOW, ACK, &[dss], b"world");
    assert!(peer.receive(&mut host, NOW).iter().any(|segment| fail_of(segment).is_some()));
    // Linux answers our MP_FAIL by it, when it has no more data that could bear an infinite mapping.
    let mut fin = peer.dss(10, b"", 0, true);
    fin.data_fin = true;
    fin.mapping.iter_mut().for_each(|mapping| mapping.len = 1);
    for _ in 0..3 {
        peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(fin)], b"");
        assert_eq!(peer.receive(&mut host, NOW).len(), 0);
    }
    // MP_FAIL is said again in time.
    let later = NOW + Duration::from_secs(2);
    assert!(peer.receive(&mut host, later).iter().any(|segment| fail_of(segment).is_some()));
    assert_eq!(host.read(&stream), b"hello");
    host.finish();
}

#[test]
fn an_infinite_mapping_that_leaves_something_out_is_refused() {
    let (mut host, mut peer, stream) = summed();
    let mapping = infinite(&peer, 7, 6);
    peer.send(&mut host, NOW, ACK, &[mapping], b"x");
    assert_eq!(reset_reason(&peer.receive(&mut host, NOW)), Some(ResetReason::MptcpError));
    assert_eq!(host.read(&stream), b"hello");
    host.finish();
}

#[test]
fn pitfall_38_receiving_falls_back_before_sending_and_joins_do_not_come_in_between() {
    let (mut host, mut peer, stream) = summed();
    let dss = MptcpOption::Dss(peer.dss(5, b"wOrld", 0, true));
    peer.send(&mut host, NOW, ACK, &[dss], b"world");
    peer.receive(&mut host, NOW);
    // Until the peer has answered, what we send is still mapped, and none of its data acknowledged.
    host.write(&stream, b"up");
    let said = peer.receive(&mut host, NOW);
    let data = said.iter().find(|segment| !segment.payload.is_empty()).expect("our data");
    let mapping = data.options.dss().and_then(|dss| dss.mapping).expect("mapped");
    assert!(mapping.len == 2 && mapping.checksum.is_some());
    let acks = said.iter().filter_map(|segment| segment.options.dss()?.data_ack);
    assert!(acks.into_iter().all(|ack| ack.resolve(peer.data_seq(0)) == peer.data_seq(5)));
    assert_eq!(stream.fallback(), Some(None));
    // A join that comes now is refused.
    let mut joining = second_of(&peer);
    joining.send(&mut host, NOW, SYN, &[joining.join_syn(1, 77)], b"");
    assert_eq!(reset_reason(&joining.receive(&mut host, NOW)), Some(ResetReason::MptcpError));
    // The peer's MP_FAIL ends our side, too.
    peer.send(&mut host, NOW, ACK, &[MptcpOption::Fail(MpFail { data_seq: peer.host_data_seq(0) })], b"");
    peer.receive(&mut host, NOW);
    assert_eq!(stream.fallback(), fell_back(FallbackReason::BadChecksum));
    assert_eq!(host.read(&stream), b"helloworld");
    host.write(&stream, b"more");
    let said = peer.receive(&mut host, NOW);
    let data = said.iter().find(|segment| segment.payload == b"more").expect("our data");
    assert!(is_infinite(data));
    host.finish();
}

#[test]
fn pitfall_38_a_join_under_way_ends_with_the_decision() {
    let (mut host, mut peer, stream) = summed();
    let mut joining = second_of(&peer);
    let nonce = 77;
    joining.send(&mut host, NOW, SYN, &[joining.join_syn(1, nonce)], b"");
    let answers = joining.receive(&mut host, NOW);
    let Some(MptcpOption::Join(MpJoin::SynAck { nonce: host_nonce, .. })) = answers[0].options.mptcp.first()
    else {
        panic!("no MP_JOIN")
    };
    let hmac = joining.keys().join_hmac_sent(nonce, *host_nonce).ack();
    let dss = MptcpOption::Dss(peer.dss(5, b"wOrld", 0, true));
    peer.send(&mut host, NOW, ACK, &[dss], b"world");
    let said = peer.receive(&mut host, NOW);
    assert!(said.iter().any(|segment| fail_of(segment).is_some()));
    joining.send(&mut host, NOW, ACK, &[MptcpOption::Join(MpJoin::Ack { hmac })], b"");
    assert!(
        joining.receive(&mut host, NOW).iter().any(|segment| segment.has(RST)),
        "it belongs to nothing any more"
    );
    let mapping = infinite(&peer, 5, 6);
    peer.send(&mut host, NOW, ACK, &[mapping], b"");
    peer.receive(&mut host, NOW);
    assert_eq!(stream.fallback(), fell_back(FallbackReason::BadChecksum));
    assert_eq!(host.read(&stream), b"helloworld");
    host.finish();
}

#[test]
fn pitfall_39_the_window_goes_on_after_falling_back() {
    let small = ConnectOptions { receive_buffer: 30_000, ..with_checksums() };
    for drops_options in [true, false] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect(small, small);
        let mut meddle = meddler(0);
        let bytes = pattern(200_000);
        let mut arrived = Vec::new();
        // The window is full again and again: the server reads only when nothing moves any more.
        for part in bytes.chunks(100_000) {
            pair.client.write(&client, part);
            for _ in 0..8 {
                pair.run(Duration::from_millis(600), &mut |up, frame| {
                    if drops_options {
                        return Some(strip(&frame, |_| true));
                    }
                    meddle(up, frame)
                });
                let read = pair.server.read(&server);
                // A buffer's worth, and once what a peer that falls back counts from its last ACK instead of the DATA_ACK.
                assert!(read.len() <= 61_000, "{} bytes at once", read.len());
                arrived.extend(read);
            }
        }
        assert_eq!(arrived.len(), bytes.len(), "options dropped: {drops_options}");
        assert!(matches!(client.fallback(), Some(Some(_))) && matches!(server.fallback(), Some(Some(_))));
    }
}

#[test]
fn checksums_that_were_not_agreed_or_are_missing_reset_the_subflow() {
    for agreed in [false, true] {
        let mut host = server(options());
        let mut peer = client_of(0);
        let flags = if agreed { CapableFlags::CHECKSUM } else { 0 };
        let stream = peer.connect(&mut host, NOW, CapableFlags(CapableFlags::HMAC_SHA256 | flags));
        let dss = MptcpOption::Dss(peer.dss(0, b"hello", 0, !agreed));
        peer.send(&mut host, NOW, ACK, &[dss], b"hello");
        assert_eq!(reset_reason(&peer.receive(&mut host, NOW)), Some(ResetReason::MptcpError));
        assert!(host.read(&stream).is_empty());
        host.finish();
    }
}

/// An upload on the only subflow, whose options are lost from the n-th data segment on.
fn options_lost(
    from: u32,
    up: bool,
    down: bool,
    len: usize,
) -> (Vec<u8>, [Option<Option<FallbackReason>>; 2]) {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(), options());
    let mut data = 0;
    let mut arrived = pair.upload(&client, &server, &pattern(len), &mut |upwards, frame| {
        data += u32::from(upwards && !Segment::parse(&frame).payload.is_empty());
        let strips = data > from && if upwards { up } else { down };
        Some(if strips { strip(&frame, |_| true) } else { frame })
    });
    client.close_send();
    server.close_send();
    pair.run(Duration::from_secs(20), &mut |upwards, frame| {
        let strips = if upwards { up } else { down };
        Some(if strips { strip(&frame, |_| true) } else { frame })
    });
    arrived.extend(pair.server.read(&server));
    assert!(client.is_sent() && server.is_drained(), "{up} {down}: the end has come through");
    assert!(server.is_sent() && client.is_drained(), "{up} {down}: and the other one");
    (arrived, [client.fallback(), server.fallback()])
}

#[test]
fn options_that_stop_passing_on_the_only_subflow_make_plain_tcp_of_it() {
    let lost = fell_back(FallbackReason::OptionsLost);
    let told = fell_back(FallbackReason::PeerFellBack);
    for len in [20_000, 400_000] {
        let (arrived, reasons) = options_lost(15, true, true, len);
        assert!(arrived == pattern(len), "{} of {len}", arrived.len());
        assert_eq!(reasons, [lost, lost]);
        let (arrived, reasons) = options_lost(15, true, false, len);
        assert!(arrived == pattern(len), "{} of {len}", arrived.len());
        assert_eq!(reasons, [told, lost], "the server told the client by an infinite mapping");
        let (arrived, reasons) = options_lost(15, false, true, len);
        assert!(arrived == pattern(len), "{} of {len}", arrived.len());
        assert_eq!(reasons, [lost, told], "and the client the server");
    }
}

/// The packets of a join that get lost at first.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Syn,
    SynAck,
    ThirdAck,
}

/// Options end on the first path, both ways, while a join is under way, whose first `times` of `lost` get lost: what
/// became of either end. All data of both comes through.
fn options_lost_beside_a_join(lost: Lost, times: u32) -> [Option<Option<FallbackReason>>; 2] {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(), options());
    assert_eq!(pair.upload(&client, &server, b"up", &mut |_, frame| Some(frame)), b"up");
    pair.join(&client, 1, false);
    let mut join_packets = 0;
    let mut middlebox = |_, frame: Vec<u8>| {
        if path_of(&frame) == 0 {
            return Some(strip(&frame, |_| true));
        }
        let join = Segment::parse(&frame).options.mptcp.iter().any(|option| match (lost, option) {
            (Lost::Syn, MptcpOption::Join(join)) => matches!(join, MpJoin::Syn { .. }),
            (Lost::SynAck, MptcpOption::Join(join)) => matches!(join, MpJoin::SynAck { .. }),
            (Lost::ThirdAck, MptcpOption::Join(join)) => matches!(join, MpJoin::Ack { .. }),
            _ => false,
        });
        join_packets += u32::from(join);
        (!join || join_packets > times).then_some(frame)
    };
    // The join goes first.
    pair.run(Duration::from_millis(3), &mut middlebox);
    pair.client.write(&client, &pattern(20_000));
    pair.server.write(&server, &pattern(30_000));
    client.close_send();
    server.close_send();
    pair.run(Duration::from_secs(20), &mut middlebox);
    assert!(pair.server.read(&server) == pattern(20_000), "{lost:?}");
    assert!(pair.client.read(&client) == pattern(30_000), "{lost:?}");
    assert!(client.is_sent() && server.is_drained(), "{lost:?}: the end has come through");
    assert!(server.is_sent() && client.is_drained(), "{lost:?}: and the other one");
    let reasons = [client.fallback(), server.fallback()];
    pair.client.finish();
    pair.server.finish();
    reasons
}

#[test]
fn a_join_that_cannot_count_as_made_keeps_nobody_from_falling_back() {
    let fallen = fell_back(FallbackReason::OptionsLost);
    let multipath = Some(None);
    // Who has asked knows that the other cannot take the join for made.
    assert_eq!(options_lost_beside_a_join(Lost::Syn, 1), [fallen; 2]);
    // Who has answered asks for the third ACK, with which the connection goes on there; without it, it is given up.
    assert_eq!(options_lost_beside_a_join(Lost::SynAck, 1), [multipath; 2]);
    assert_eq!(options_lost_beside_a_join(Lost::SynAck, 2), [fallen; 2]);
    assert_eq!(options_lost_beside_a_join(Lost::ThirdAck, 1), [multipath; 2]);
}
