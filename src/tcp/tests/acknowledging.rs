//! When ACKs leave, and what they say: RFC 9293 §3.8.6.3, RFC 5681 §4.2, RFC 2018, RFC 2883.

use super::script::{ACK, Script, arriving, plain};
use crate::base::time::Duration;
use crate::tcp::{OutgoingKind, TcpConfig};

#[test]
fn a_single_segment_is_acknowledged_by_the_timer() {
    let (mut script, seq) = Script::seasoned(plain());
    script.arrive(arriving(ACK, seq, 1).payload(1000));
    assert!(script.sent().is_empty());
    script.pass(30);
    assert!(script.sent().is_empty());
    assert_eq!(script.pass_to_timer(), Some(Duration::from_millis(10)));
    assert_eq!(script.sent_one().ack, seq + 1000);
    assert_eq!(script.tcb.poll_timeout(), None);
}

#[test]
fn one_ack_answers_a_whole_batch() {
    let (mut script, seq) = Script::seasoned(plain());
    for segment in 0..10 {
        script.arrive(arriving(ACK, seq + 1000 * segment, 1).payload(1000));
    }
    assert_eq!(script.sent_one().ack, seq + 10_000);
    assert_eq!(script.tcb.poll_timeout(), None);
    // RFC 9293 §3.8.6.3: every second full segment.
    script.arrive(arriving(ACK, seq + 10_000, 1).payload(1000));
    assert!(script.sent().is_empty());
    script.arrive(arriving(ACK, seq + 11_000, 1).payload(1000));
    assert_eq!(script.sent_one().ack, seq + 12_000);
}

#[test]
fn data_carries_the_acknowledgment() {
    let (mut script, seq) = Script::seasoned(plain());
    script.arrive(arriving(ACK, seq, 1).payload(1000));
    script.queue(1, 500);
    let sent = script.sent_one();
    assert_eq!((sent.kind, sent.ack), (OutgoingKind::Data, seq + 1000));
    assert!(script.tcb.poll_timeout().is_some_and(|at| at.since(script.now) > Duration::from_millis(40)));
}

#[test]
fn a_requested_ack_leaves_at_once() {
    let (mut script, seq) = Script::seasoned(plain());
    assert!(!script.tcb.has_to_send(script.now));
    script.tcb.request_ack();
    assert!(script.tcb.has_to_send(script.now));
    assert_eq!(script.sent_one().ack, seq);
    // Payload does not stand in for it: the caller has options that need the room.
    script.queue(1, 100);
    script.tcb.request_ack();
    let kinds: Vec<_> = script.sent().iter().map(|sent| sent.kind).collect();
    assert_eq!(kinds, [OutgoingKind::Ack, OutgoingKind::Data]);
}

#[test]
fn data_beyond_a_gap_is_reported_latest_first() {
    let (mut script, seq) = Script::seasoned(plain());
    let block = |index: u32| (seq + 1000 * index, seq + 1000 * index + 1000);
    for index in [1, 5, 3] {
        script.arrive(arriving(ACK, block(index).0, 1).payload(1000));
        let ack = script.sent_one();
        assert_eq!((ack.ack, ack.sack.first()), (seq, Some(&block(index))));
    }
    script.arrive(arriving(ACK, block(4).0, 1).payload(1000));
    let ack = script.sent_one();
    assert_eq!(ack.sack, [(block(3).0, block(5).1), block(1)]);
    script.arrive(arriving(ACK, seq, 1).payload(1000));
    let ack = script.sent_one();
    assert_eq!((ack.ack, ack.sack), (seq + 2000, vec![(block(3).0, block(5).1)]));
    script.arrive(arriving(ACK, block(2).0, 1).payload(1000));
    let ack = script.sent_one();
    assert_eq!((ack.ack, ack.sack), (seq + 6000, vec![]));
    assert_eq!(script.read(), 6000);
}

#[test]
fn a_batch_with_many_gaps_is_told_by_as_many_acks_as_it_takes() {
    let (mut script, seq) = Script::seasoned(plain());
    script.reserved = (8, 20);
    for index in 0..10 {
        script.arrive(arriving(ACK, seq + 1000 + 2000 * index, 1).payload(1000));
    }
    let acks = script.sent();
    assert_eq!(acks.len(), 4, "three blocks fit beside 8 bytes");
    let mut told: Vec<_> = acks.iter().flat_map(|ack| ack.sack.iter().map(|block| block.0)).collect();
    told.sort();
    told.dedup();
    let all: Vec<_> = (0..10).map(|index| seq + 1000 + 2000 * index).collect();
    assert_eq!(told, all);
    assert_eq!(acks[3].sack[0].0, all[9], "the latest comes with the last");
    assert!(acks[0].sack.iter().all(|block| block.0 <= all[2]), "the oldest come first");
}

#[test]
fn without_sack_each_segment_out_of_order_gets_an_ack_of_its_own() {
    let (mut script, seq) = Script::seasoned(TcpConfig { sack: false, ..plain() });
    for index in [1, 2, 3] {
        script.arrive(arriving(ACK, seq + 1000 * index, 1).payload(1000));
    }
    // New data does not stand in for them: the peer counts pure ACKs only.
    script.queue(1, 100);
    let sent = script.sent();
    let duplicates = sent.iter().filter(|sent| sent.kind == OutgoingKind::Ack && sent.ack == seq).count();
    assert_eq!((sent.len(), duplicates), (4, 3));
    assert!(sent.iter().all(|sent| sent.sack.is_empty()));
}

#[test]
fn a_duplicate_is_reported_once() {
    let (mut script, seq) = Script::seasoned(plain());
    script.arrive(arriving(ACK, seq - 1000, 1).payload(1000));
    assert_eq!(script.sent_one().sack, [(seq - 1000, seq)]);
    script.tcb.request_ack();
    assert!(script.sent_one().sack.is_empty());
    // A part of a segment, too.
    script.arrive(arriving(ACK, seq - 500, 1).payload(1000));
    script.pass(40);
    assert_eq!(script.sent_one().sack, [(seq - 500, seq)]);
    let seq = seq + 500;
    // And beyond a gap.
    script.arrive(arriving(ACK, seq + 1000, 1).payload(1000));
    script.sent();
    script.arrive(arriving(ACK, seq + 1000, 1).payload(500));
    let block = (seq + 1000, seq + 2000);
    assert_eq!(script.sent_one().sack, [(seq + 1000, seq + 1500), block]);
}

#[test]
fn a_full_segment_has_no_room_for_blocks_so_an_ack_has() {
    let (mut script, seq) = Script::seasoned(plain());
    script.arrive(arriving(ACK, seq + 1000, 1).payload(1000));
    script.queue(2, 1460);
    let sent = script.sent();
    assert_eq!(sent[0].kind, OutgoingKind::Ack);
    assert_eq!(sent[0].sack, [(seq + 1000, seq + 2000)]);
    assert!(sent[1..].iter().all(|sent| sent.kind == OutgoingKind::Data && sent.sack.is_empty()));
    // A short segment has room.
    script.queue(1, 100);
    assert_eq!(script.sent_one().sack, [(seq + 1000, seq + 2000)]);
}

#[test]
fn the_assembler_is_bounded_and_says_so() {
    let mut script = Script::established(plain());
    script.tcb.set_receive_window(60_000);
    let most = crate::tcp::assembler::CHUNKS_MAX as u32;
    for index in 0..most + 10 {
        script.arrive(arriving(ACK, 3 + 2 * index, 1).payload(1));
    }
    let info = script.tcb.info();
    assert_eq!((info.reassembly_chunks, info.counters.dropped), (most as usize, 10));
    // Tiny ones do not hold a frame each.
    assert!(script.cache.pool().used() <= 128, "{} frames", script.cache.pool().used());
    script.tcb.drop_all(&mut script.cache);
    assert_eq!(script.cache.pool().used(), 0);
}

#[test]
fn a_fin_that_came_early_is_told() {
    // RFC 2018 in sequence space: alone, and at the end of what is held before it.
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK | super::script::FIN, 2001, 1));
    assert_eq!(script.sent_one().sack, [(2001, 2002)]);
    script.arrive(arriving(ACK, 1001, 1).payload(1000));
    assert_eq!(script.sent_one().sack, [(1001, 2002)]);
    script.arrive(arriving(ACK, 1, 1).payload(1000));
    let ack = script.sent_one();
    assert_eq!((ack.ack, ack.sack.len()), (2002, 0));
}

#[test]
fn after_a_gap_acknowledgments_are_not_delayed() {
    let (mut script, seq) = Script::seasoned(plain());
    script.arrive(arriving(ACK, seq + 1000, 1).payload(1000));
    script.arrive(arriving(ACK, seq, 1).payload(1000));
    assert_eq!(script.sent_one().ack, seq + 2000);
    let sent: Vec<usize> = (2..20)
        .map(|later| {
            script.arrive(arriving(ACK, seq + 1000 * later, 1).payload(1000));
            script.sent().len()
        })
        .collect();
    assert_eq!(sent[..16], [1; 16]);
    assert_eq!(sent[16..], [0, 1], "every second segment");
}
