//! Ends of subflows and of connections: RFC 8684 §3.3.3, §3.5, §3.6.

use super::*;
use crate::base::time::Duration;
use crate::mptcp::SubflowId;
use crate::stack::message::Command;
use crate::stack::stream::StreamState;
use crate::tcp::CloseReason;
use crate::wire::mptcp::{DssMapping, Key, MpFastClose, MpTcpRst, ShortOrLong};

fn fast_close(key: Key) -> MptcpOption {
    MptcpOption::FastClose(MpFastClose { receiver_key: key })
}

fn fast_closes(segments: &[Segment]) -> usize {
    let has =
        |segment: &&Segment| segment.option(|option| matches!(option, MptcpOption::FastClose(_))).is_some();
    segments.iter().filter(has).count()
}

#[test]
fn pitfall_42_fin_and_rst_of_a_subflow_are_not_the_connections() {
    for by_reset in [false, true] {
        for first_ends in [false, true] {
            let (mut host, peer, joined, stream) = two_subflows();
            let (mut ends, mut stays) = if first_ends { (peer, joined) } else { (joined, peer) };
            if by_reset {
                ends.send(&mut host, NOW, RST | ACK, &[], b"");
            } else {
                ends.data_ack(&mut host, NOW, 0);
                let dss = MptcpOption::Dss(Default::default());
                ends.send(&mut host, NOW, FIN | ACK, &[dss], b"");
            }
            ends.receive(&mut host, NOW);
            assert_eq!(stream.state(), StreamState::Open);
            assert!(!stream.is_drained(), "the data has not ended");
            stays.send_data(&mut host, NOW, 5, b"world");
            stays.receive(&mut host, NOW);
            assert_eq!(host.read(&stream), b"world");
            host.write(&stream, b"answer");
            let said = stays.receive(&mut host, NOW);
            assert!(said.iter().any(|segment| segment.payload == b"answer"));
            host.finish();
        }
    }
}

#[test]
fn pitfall_42_the_last_subflow_carries_the_rest_of_ours_though_the_peer_has_ended_it() {
    for with_the_fin in [false, true] {
        let mut host = server(options());
        let mut peer = client_of(0);
        let stream = peer.connect(&mut host, NOW, H);
        // The peer half-closes: its DATA_FIN, and then, or with it, a FIN.
        let mut end = peer.dss(0, b"", 0, false);
        end.data_fin = true;
        end.mapping.iter_mut().for_each(|mapping| (mapping.subflow_seq, mapping.len) = (0, 1));
        if !with_the_fin {
            peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(end)], b"");
            peer.receive(&mut host, NOW);
            end.mapping = None;
            end.data_fin = false;
        }
        peer.send(&mut host, NOW, FIN | ACK, &[MptcpOption::Dss(end)], b"");
        assert!(peer.receive(&mut host, NOW).iter().all(|segment| !segment.has(FIN)), "{with_the_fin}");
        assert!(stream.is_drained());
        host.write(&stream, b"answer");
        let said = peer.receive(&mut host, NOW);
        assert!(said.iter().any(|segment| segment.payload == b"answer"));
        stream.close_send();
        peer.data_ack(&mut host, NOW, 6);
        peer.receive(&mut host, NOW);
        // Once our end is acknowledged the subflow has served.
        peer.data_ack(&mut host, NOW, 7);
        assert!(peer.receive(&mut host, NOW).iter().any(|segment| segment.has(FIN)));
        host.finish();
    }
}

#[test]
fn pitfall_43_a_fast_close_is_said_on_an_ack_until_it_is_answered_and_resets_the_others() {
    let (mut host, mut peer, mut joined, stream) = two_subflows();
    host.write(&stream, &pattern(5_000));
    stream.reset();
    let mut now = NOW;
    let first: Vec<Segment> = host.turn(now).iter().map(|(_, bytes)| Segment::parse(bytes)).collect();
    let (acks, resets): (Vec<_>, Vec<_>) = first.into_iter().partition(|segment| !segment.has(RST));
    assert_eq!((acks.len(), fast_closes(&acks), resets.len()), (1, 1, 1));
    assert_eq!(acks[0].options.mptcp.first(), Some(&fast_close(peer.local.key)), "the peer's key");
    assert_eq!(stream.close_reason(), Some(CloseReason::Aborted), "the application is told at once");
    // The subflow that it was said on.
    let told = if acks[0].tuple == peer.tuple.reversed() { &mut peer } else { &mut joined };
    let mut times = Vec::new();
    let mut last = Vec::new();
    for _ in 0..100 {
        now += Duration::from_millis(100);
        let said = told.receive(&mut host, now);
        if !said.is_empty() {
            assert_eq!((said.len(), fast_closes(&said)), (1, 1));
            times.push(now.as_millis());
            last = said;
        }
    }
    assert_eq!(times.len(), 4, "three times more, and then a reset: {times:?}");
    assert!(last[0].has(RST));
    assert_eq!(host.stack.connection_count(), 0);
    host.finish();
}

#[test]
fn pitfall_43_the_answer_to_a_fast_close_ends_it() {
    for simultaneous in [false, true] {
        let (mut host, mut peer, stream) = {
            let (host, peer, _, stream) = two_subflows();
            (host, peer, stream)
        };
        stream.reset();
        let said: Vec<Segment> = host.turn(NOW).iter().map(|(_, bytes)| Segment::parse(bytes)).collect();
        let ack = said.iter().find(|segment| !segment.has(RST)).expect("an ACK");
        if ack.tuple != peer.tuple.reversed() {
            peer = peer.another(ack.tuple.remote, ack.tuple.local, 1);
            peer.seq = ack.tcp.ack;
        }
        peer.ack = ack.tcp.seq;
        let now = NOW + Duration::from_millis(10);
        if simultaneous {
            let key = peer.remote.expect("known").key;
            peer.send(&mut host, now, ACK, &[fast_close(key)], b"");
            assert!(peer.receive(&mut host, now)[0].has(RST), "both have closed at once: answered by a RST");
        } else {
            peer.send(&mut host, now, RST, &[], b"");
            assert!(peer.receive(&mut host, now).is_empty());
        }
        assert_eq!(host.stack.connection_count(), 0);
        host.finish();
    }
}

#[test]
fn pitfall_43_either_form_closes_the_connection_and_a_plain_rst_does_not() {
    for (flags, with_key, closes) in
        [(ACK, true, true), (RST | ACK, true, true), (ACK, false, false), (RST | ACK, false, false)]
    {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        let right = joined.remote.expect("known").key;
        let key = if with_key { right } else { Key(right.0 ^ 1) };
        joined.send(&mut host, NOW, flags, &[fast_close(key)], b"");
        let said: Vec<Segment> = host.turn(NOW).iter().map(|(_, bytes)| Segment::parse(bytes)).collect();
        let resets = |on: &Peer| said.iter().any(|it| it.has(RST) && it.tuple == on.tuple.reversed());
        assert_eq!(stream.close_reason(), closes.then_some(CloseReason::Reset));
        assert_eq!(resets(&peer), closes, "every other subflow is reset");
        assert_eq!(resets(&joined), closes && !flags.contains(RST), "a RST is not answered by one");
        if !closes {
            peer.send_data(&mut host, NOW, 5, b"on");
            peer.receive(&mut host, NOW);
            assert_eq!(host.read(&stream), b"on");
        }
        host.finish();
    }
}

#[test]
fn pitfall_43_a_reset_that_overtook_data_or_whose_data_was_lost_still_closes() {
    for (ahead, closes) in [(0, true), (3_000, true), (1 << 30, false)] {
        let (mut host, _peer, joined, stream) = two_subflows();
        let key = joined.remote.expect("known").key;
        joined.send_at(&mut host, NOW, joined.seq + ahead, RST | ACK, &[fast_close(key)], b"");
        host.turn(NOW);
        assert_eq!(stream.close_reason(), closes.then_some(CloseReason::Reset), "{ahead} bytes ahead");
        host.finish();
    }
}

#[test]
fn a_fast_close_ends_both_ends_of_a_pair_though_packets_are_lost() {
    for lost in 0..4 {
        let mut pair = Pair::new();
        let (client, server) = pair.connect_joined(2, options());
        pair.client.write(&client, &pattern(20_000));
        client.reset();
        let mut seen = 0;
        pair.run(Duration::from_secs(10), &mut |up, bytes| {
            let closes = up && fast_closes(&[Segment::parse(&bytes)]) > 0;
            seen += u32::from(closes);
            (!closes || seen > lost).then_some(bytes)
        });
        assert_eq!(server.close_reason(), Some(CloseReason::Reset), "{lost} lost");
        assert_eq!(pair.client.stack.connection_count() + pair.server.stack.connection_count(), 0);
        assert!(pair.client.stack.poll_timeout().is_none());
        pair.server.read(&server);
        pair.client.finish();
        pair.server.finish();
    }
}

/// Whether one of the segments is a keep-alive: an old sequence number, which asks for an ACK.
fn asks(peer: &Peer, segments: &[Segment]) -> bool {
    segments.iter().any(|segment| segment.tcp.seq.before(peer.ack) && !segment.has(RST))
}

#[test]
fn where_a_join_is_refused_the_other_subflows_are_asked_whether_they_live() {
    for answers in [true, false] {
        let (mut host, mut peer, _, stream) = two_subflows();
        let (mut now, mut asked, mut reset) = (NOW, 0, false);
        for round in 1..=8 {
            // The path manager wants none of what the peer opens.
            let close = Command::CloseSubflow { connection: name_of(&stream), subflow: SubflowId(round) };
            host.stack.handle_command(now, close, &mut host.cache);
            for _ in 0..97 {
                let said = peer.receive(&mut host, now);
                reset |= said.iter().any(|segment| segment.has(RST));
                now += Duration::from_millis(50);
                if asks(&peer, &said) {
                    asked += 1;
                    if answers {
                        peer.data_ack(&mut host, now, 0);
                    }
                }
            }
            let local = Endpoint::new(address(9, 1), 50_001 + round as u16);
            peer.another(local, Endpoint::new(address(2, 1), PORT), 1).join(&mut host, now, 1);
        }
        // Asked once for each refusal, where it answers; otherwise 2, 4, 8 s later again, and given up with the refusal after that.
        assert_eq!((asked, reset), if answers { (8, false) } else { (4, true) });
        host.finish();
    }
}

#[test]
fn a_question_whether_a_subflow_lives_is_asked_again_until_it_is_answered() {
    let (mut host, mut peer, mut joined, _stream) = two_subflows();
    joined.send(&mut host, NOW, RST | ACK, &[], b"");
    let (mut now, mut times) = (NOW, Vec::new());
    for _ in 0..3_000 {
        let said = peer.receive(&mut host, now);
        now += Duration::from_millis(100);
        if asks(&peer, &said) {
            times.push(now.since(NOW).as_millis() / 1000);
            if times.len() == 8 {
                peer.data_ack(&mut host, now, 0);
            }
        }
    }
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 123, 183]);
    host.finish();
}

#[test]
fn another_reset_brings_the_next_question_forward() {
    let (mut host, mut peer, mut joined, _stream) = two_subflows();
    joined.send(&mut host, NOW, RST | ACK, &[], b"");
    let (mut now, mut times) = (NOW, Vec::new());
    for tenth in 0..60 {
        if tenth == 40 {
            let local = Endpoint::new(address(9, 1), 50_002);
            let mut third = peer.another(local, Endpoint::new(address(2, 1), PORT), 1);
            third.join(&mut host, now, 1);
            third.send(&mut host, now, RST | ACK, &[], b"");
        }
        let said = peer.receive(&mut host, now);
        if asks(&peer, &said) {
            times.push(tenth / 10);
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(times, [1, 3, 4], "and not after 7 s");
    host.finish();
}

#[test]
fn where_the_peer_resets_a_subflow_the_others_are_asked_too() {
    let (mut host, mut peer, mut joined, _stream) = two_subflows();
    joined.send(&mut host, NOW, RST | ACK, &[], b"");
    assert!(peer.receive(&mut host, NOW).is_empty(), "it may still show life");
    let now = NOW + Duration::from_secs(2);
    let said = peer.receive(&mut host, now);
    assert!(asks(&peer, &said));
    // It knows nothing of this one, either.
    peer.send(&mut host, now, RST, &[], b"");
    host.turn(now);
    let closed = |report: &Report| matches!(report, Report::SubflowClosed { .. });
    assert_eq!(reports(&mut host).iter().filter(|report| closed(report)).count(), 2);
    host.finish();
}

#[test]
fn a_subflow_that_shows_life_after_a_reset_of_another_is_asked_nothing() {
    let (mut host, mut peer, mut joined, _stream) = two_subflows();
    joined.send(&mut host, NOW, RST | ACK, &[], b"");
    host.turn(NOW);
    let mut now = NOW + Duration::from_millis(500);
    peer.data_ack(&mut host, now, 0);
    for _ in 0..100 {
        assert!(peer.receive(&mut host, now).is_empty());
        now += Duration::from_millis(100);
    }
    host.finish();
}

#[test]
fn where_we_reset_a_subflow_as_its_options_end_the_others_are_asked_too() {
    let (mut host, mut peer, mut joined, stream) = two_subflows();
    joined.send_data(&mut host, NOW, 5, b"x");
    joined.receive(&mut host, NOW);
    joined.send(&mut host, NOW, ACK, &[], b"y");
    joined.receive(&mut host, NOW);
    let now = NOW + Duration::from_secs(1);
    assert_eq!(reset_reason(&joined.receive(&mut host, now)), Some(ResetReason::MiddleboxInterference));
    let said = peer.receive(&mut host, now + Duration::from_secs(2));
    assert!(asks(&peer, &said), "the peer may have had no other");
    assert_eq!(host.read(&stream), b"x", "what had no mapping does not count");
    host.finish();
}

#[test]
fn options_that_end_again_between_the_same_addresses_are_not_waited_for_as_long() {
    let (mut host, peer, mut joined, stream) = two_subflows();
    let ends_within = |subflow: &mut Peer, host: &mut Host, offset: u64, now: Instant, wait_ms: u64| {
        subflow.send_data(host, now, offset, b"x");
        subflow.receive(host, now);
        subflow.send(host, now, ACK, &[], b"?");
        subflow.receive(host, now);
        reset_reason(&subflow.receive(host, now + Duration::from_millis(wait_ms))).is_some()
    };
    assert!(!ends_within(&mut joined, &mut host, 5, NOW, 100));
    let mut now = NOW + Duration::from_secs(1);
    assert!(joined.receive(&mut host, now).iter().any(|segment| segment.has(RST)));
    for (path, soon) in [(1, true), (2, false)] {
        let (local, remote) =
            (Endpoint::new(address(9, path), 50_007), Endpoint::new(address(2, path), PORT));
        let mut next = peer.another(local, remote, path);
        next.join(&mut host, now, path as u8);
        assert_eq!(ends_within(&mut next, &mut host, 5 + path as u64, now, 100), soon, "path {path}");
        now += Duration::from_secs(1);
        next.receive(&mut host, now);
    }
    assert_eq!(host.read(&stream), b"xxx");
    host.finish();
}

#[test]
fn a_connection_that_is_finished_waits_a_moment_for_a_peer_that_has_reset_its_last_subflow() {
    for joins in [true, false] {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        stream.close_send();
        let mut fin = peer.dss(5, b"", 0, false);
        fin.data_fin = true;
        let data_seq = ShortOrLong::Long(peer.data_seq(5).raw());
        fin.mapping = Some(DssMapping { data_seq, subflow_seq: 0, len: 1, checksum: None });
        peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(fin)], b"");
        peer.receive(&mut host, NOW);
        // Our DATA_FIN is acknowledged; what acknowledges the peer's gets lost with the subflows.
        peer.data_ack(&mut host, NOW, 1);
        peer.receive(&mut host, NOW);
        assert!(stream.is_sent() && stream.is_drained());
        for subflow in [&mut peer, &mut joined] {
            subflow.send(&mut host, NOW, RST | ACK, &[], b"");
        }
        host.turn(NOW);
        let now = NOW + Duration::from_secs(1);
        if joins {
            let (local, remote) = (Endpoint::new(address(9, 2), 50_002), Endpoint::new(address(2, 2), PORT));
            let mut again = peer.another(local, remote, 2);
            again.join(&mut host, now, 2);
            again.send(&mut host, now, ACK, &[MptcpOption::Dss(fin)], b"");
            let said = again.receive(&mut host, now);
            let acks = |segment: &Segment| segment.options.dss().and_then(|dss| dss.data_ack);
            let acked =
                said.iter().filter_map(acks).any(|ack| ack.resolve(peer.data_seq(0)) == peer.data_seq(6));
            assert!(acked, "the peer has its DATA_ACK");
        } else {
            assert_eq!(stream.state(), StreamState::Open);
            host.turn(NOW + Duration::from_secs(4));
            assert_eq!(stream.close_reason(), Some(CloseReason::Finished));
        }
        host.finish();
    }
}

#[test]
fn a_subflow_over_which_no_data_fin_gets_to_the_peer_is_reset() {
    for (answers, knows) in [(true, false), (true, true), (false, false)] {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        peer.send(&mut host, NOW, RST | ACK, &[], b"");
        stream.close_send();
        let (mut now, mut reason) = (NOW, None);
        for _ in 0..100 {
            let said = joined.receive(&mut host, now);
            reason = reason.or(reset_reason(&said));
            // A middlebox takes the options away on the way there, and leaves what a TCP has to answer.
            if answers && asks(&joined, &said) {
                joined.data_ack(&mut host, now + Duration::from_millis(20), u64::from(knows));
            }
            now += Duration::from_millis(100);
        }
        // Nor is it where nothing is answered: then the path may be down.
        assert_eq!(reason, (answers && !knows).then_some(ResetReason::MiddleboxInterference));
        host.finish();
    }
}

#[test]
fn pitfall_49_without_a_subflow_a_connection_waits_for_a_join() {
    for joined_again in [true, false] {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        let mut now = NOW + Duration::from_secs(1);
        for subflow in [&mut peer, &mut joined] {
            let gone =
                MptcpOption::Reset(MpTcpRst { transient: true, flags: 0, reason: ResetReason::Unspecified });
            subflow.send(&mut host, now, RST | ACK, &[gone], b"");
        }
        host.turn(now);
        assert_eq!(stream.state(), StreamState::Open);
        now += Duration::from_secs(2);
        if joined_again {
            let (local, remote) = (Endpoint::new(address(9, 2), 50_002), Endpoint::new(address(2, 2), PORT));
            let mut again = peer.another(local, remote, 2);
            again.join(&mut host, now, 2);
            again.send_data(&mut host, now, 5, b"back");
            again.receive(&mut host, now);
            assert_eq!(host.read(&stream), b"back");
        }
        let mut state = StreamState::Open;
        for _ in 0..100 {
            now += Duration::from_secs(1);
            host.turn(now);
            state = stream.state();
        }
        assert_eq!(state, if joined_again { StreamState::Open } else { StreamState::Closed });
        assert_eq!(stream.close_reason(), (!joined_again).then_some(CloseReason::TimedOut));
        host.finish();
    }
}

#[test]
fn pitfall_49_a_peer_that_says_why_it_resets_is_waited_for_longer_than_one_that_knows_nothing() {
    let reasons = [
        (None, false),
        (Some(ResetReason::MptcpError), false),
        (Some(ResetReason::Unspecified), true),
        (Some(ResetReason::MiddleboxInterference), true),
    ];
    for (reason, waits) in reasons {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        let words = reason.map(|reason| MpTcpRst { transient: false, flags: 0, reason });
        let words: Vec<MptcpOption> = words.into_iter().map(MptcpOption::Reset).collect();
        for subflow in [&mut peer, &mut joined] {
            subflow.send(&mut host, NOW, RST | ACK, &words, b"");
        }
        host.turn(NOW);
        host.turn(NOW + Duration::from_secs(20));
        assert_eq!(stream.state() == StreamState::Open, waits, "{reason:?}");
        host.turn(NOW + Duration::from_secs(80));
        assert_eq!(stream.close_reason(), Some(CloseReason::TimedOut), "{reason:?}: in the end");
        host.finish();
    }
}

#[test]
fn pitfall_49_a_peer_that_seems_gone_is_waited_for_longer_where_a_join_is_not_answered() {
    for refused in [false, true] {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        for subflow in [&mut peer, &mut joined] {
            subflow.send(&mut host, NOW, RST | ACK, &[], b"");
        }
        let mut again =
            peer.another(Endpoint::new(address(9, 2), 50_002), Endpoint::new(address(2, 2), 40_002), 2);
        host.open(NOW, &stream, again.tuple.reversed(), 2, false);
        assert!(again.receive(&mut host, NOW).iter().any(|segment| segment.has(SYN)));
        let late = NOW + Duration::from_secs(20);
        host.turn(late);
        assert_eq!(stream.state(), StreamState::Open, "the path may be down, and the peer behind it");
        again.receive(&mut host, late);
        if refused {
            again.send(&mut host, late, RST | ACK, &[], b"");
        }
        let mut now = late;
        while stream.state() == StreamState::Open && now < NOW + Duration::from_secs(100) {
            now += Duration::from_secs(1);
            again.receive(&mut host, now);
        }
        let waited = now.since(NOW).as_secs();
        assert_eq!(waited, if refused { 23 } else { 60 });
        assert_eq!(stream.close_reason(), Some(CloseReason::TimedOut));
        host.finish();
    }
}

#[test]
fn pitfall_49_a_peer_that_has_come_back_once_is_expected_to_come_again() {
    for by_join in [true, false] {
        let (mut host, mut peer, mut joined, stream) = two_subflows();
        for subflow in [&mut peer, &mut joined] {
            subflow.send(&mut host, NOW, RST | ACK, &[], b"");
        }
        host.turn(NOW);
        let (local, remote) = (Endpoint::new(address(9, 2), 50_002), Endpoint::new(address(2, 2), PORT));
        let mut again = peer.another(local, remote, 2);
        let mut now = NOW + Duration::from_secs(2);
        if by_join {
            again.join(&mut host, now, 2);
            again.data_ack(&mut host, now, 0);
        } else {
            // A SYN that nothing follows shows little: anybody can have heard the token.
            again.send(&mut host, now, SYN, &[again.join_syn(2, 77)], b"");
        }
        // Something strips what its reset says.
        again.seq += u32::from(!by_join);
        again.send(&mut host, now, RST | ACK, &[], b"");
        host.turn(now);
        now += Duration::from_secs(20);
        host.turn(now);
        assert_eq!(stream.state() == StreamState::Open, by_join);
        host.turn(now + Duration::from_secs(60));
        assert_eq!(stream.close_reason(), Some(CloseReason::TimedOut), "in the end");
        host.finish();
    }
}

#[test]
fn the_only_subflow_is_reset_where_options_end_and_tcp_cannot_take_over() {
    let (mut host, mut peer, mut joined, stream) = two_subflows();
    joined.data_ack(&mut host, NOW, 0);
    peer.send(&mut host, NOW, RST | ACK, &[], b"");
    host.turn(NOW);
    let mut now = NOW + Duration::from_secs(1);
    host.write(&stream, b"answer");
    let said = joined.receive(&mut host, now);
    assert!(said.iter().any(|segment| segment.payload == b"answer"));
    // The peer's TCP has it; whether its MPTCP has is not said any more.
    joined.send(&mut host, now, ACK, &[], b"");
    let mut said = Vec::new();
    for _ in 0..20 {
        now += Duration::from_millis(100);
        said.extend(joined.receive(&mut host, now));
    }
    assert!(
        said.iter().all(|segment| segment.payload.is_empty()),
        "no mapping passes: repeating helps nobody"
    );
    assert_eq!(reset_reason(&said), Some(ResetReason::MiddleboxInterference));
    assert_eq!(stream.state(), StreamState::Open, "for a join");
    host.finish();
}

#[test]
fn both_ends_that_close_at_once_end_in_order() {
    for lost in [0, 1, 2, 3] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect_joined(1, options());
        pair.client.write(&client, &pattern(3_000));
        pair.server.write(&server, &pattern(4_000));
        client.close_send();
        server.close_send();
        let mut fins = 0;
        pair.run(Duration::from_secs(5), &mut |_, bytes| {
            let is_fin = Segment::parse(&bytes).options.dss().is_some_and(|dss| dss.data_fin);
            fins += u32::from(is_fin);
            (!is_fin || fins > lost).then_some(bytes)
        });
        assert!(pair.server.read(&server) == pattern(3_000) && pair.client.read(&client) == pattern(4_000));
        assert!(client.is_sent() && server.is_sent() && client.is_drained() && server.is_drained());
        client.abandon();
        server.abandon();
        pair.run(Duration::from_secs(70), &mut |_, bytes| Some(bytes));
        assert_eq!(pair.client.stack.connection_count() + pair.server.stack.connection_count(), 0);
        pair.client.finish();
        pair.server.finish();
    }
}

#[test]
fn half_closed_the_other_direction_goes_on_and_close_delivers_what_was_written() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    client.close_send();
    pair.run_clean();
    assert!(server.is_drained() && client.is_sent() && !server.is_sent());
    pair.server.write(&server, &pattern(200_000));
    // The application leaves before anything is sent.
    server.abandon();
    let mut arrived = Vec::new();
    for _ in 0..4 {
        pair.run_clean();
        arrived.extend(pair.client.read(&client));
    }
    assert!(arrived == pattern(200_000) && client.is_drained());
}

#[test]
fn a_subflow_that_still_holds_what_others_have_delivered_is_reset_at_the_end() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    pair.client.write(&client, &pattern(100_000));
    let mut reset = None;
    let mut run = |pair: &mut Pair, dead: bool| {
        pair.run(Duration::from_millis(300), &mut |up, bytes| {
            let on_dead = path_of(&bytes) == 1;
            let segment = Segment::parse(&bytes);
            if up && on_dead && segment.has(RST) {
                reset = reset_reason(&[segment]);
            }
            (!on_dead || !dead).then_some(bytes)
        });
    };
    run(&mut pair, true);
    client.close_send();
    server.close_send();
    run(&mut pair, true);
    assert!(pair.server.read(&server) == pattern(100_000));
    assert!(client.is_sent() && client.is_drained());
    assert_eq!(reset, Some(ResetReason::TooMuchOutstanding));
}

#[test]
fn a_subflow_that_control_closes_says_that_it_is_policy() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connect_joined(1, options());
    let close = Command::CloseSubflow { connection: name_of(&client), subflow: crate::mptcp::SubflowId(1) };
    pair.client.stack.handle_command(pair.now, close, &mut pair.client.cache);
    reports(&mut pair.server);
    pair.run_clean();
    let told = reports(&mut pair.server).into_iter().find_map(|report| match report {
        Report::SubflowClosed { reset, .. } => reset,
        _ => None,
    });
    assert_eq!(told, Some(MpTcpRst { transient: false, flags: 0, reason: ResetReason::Prohibited }));
}

#[test]
fn a_process_that_ends_after_both_data_fins_does_not_fast_close_what_is_finished() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    pair.client.write(&client, &pattern(3_000));
    client.close_send();
    server.close_send();
    for _ in 0..100 {
        if client.is_sent() && client.is_drained() {
            break;
        }
        pair.run(Duration::from_millis(1), &mut |_, bytes| Some(bytes));
    }
    assert!(client.is_sent() && client.is_drained());
    assert!(pair.client.stack.connection_count() == 1, "the subflows have not ended yet");
    pair.client.stack.handle_command(pair.now, Command::Shutdown, &mut pair.client.cache);
    // What the peer's subflows still say is answered by RST: nobody is there.
    let mut told = 0;
    pair.run(Duration::from_secs(70), &mut |_, bytes| {
        told += fast_closes(&[Segment::parse(&bytes)]);
        Some(bytes)
    });
    assert_eq!((told, client.close_reason()), (0, Some(CloseReason::Finished)));
    assert!(pair.server.read(&server) == pattern(3_000) && server.is_sent() && server.is_drained());
    assert_eq!(pair.client.stack.connection_count(), 0);
}
