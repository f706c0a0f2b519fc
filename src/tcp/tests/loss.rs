//! Loss and its repair: RFC 5681, RFC 6298, RFC 6582, RFC 9937. What RACK and TLP find is in `rack.rs`.

use super::script::{ACK, Script, arriving, plain};
use crate::base::time::Duration;
use crate::tcp::{OutgoingKind, TcpConfig, TcpEvent};
use crate::wire::mptcp::{AddressId, RemoveAddr};
use crate::wire::{Endpoint, FourTuple, IcmpError, IcmpErrorKind, MptcpOption, Mss};

/// Ten segments of 1000 bytes in flight for 20 ms, a round trip.
pub(super) fn ten_in_flight(config: TcpConfig) -> Script {
    let mut script = Script::established(config);
    script.queue(10, 1000);
    assert_eq!(script.sent_data().len(), 10);
    script.pass(20);
    script
}

pub(super) fn without_sack() -> TcpConfig {
    TcpConfig { sack: false, ..plain() }
}

#[test]
fn three_segments_beyond_a_hole_make_it_lost() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 2001)]));
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 3001)]));
    assert!(script.sent().is_empty());
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    let again = script.sent_one();
    assert_eq!((again.seq, again.len, again.retransmission, again.data_seq), (1, 1000, true, 0));
    let info = script.tcb.info();
    // RFC 5681 §3.2: half of what was outstanding.
    assert_eq!((info.ssthresh, info.cwnd), (5000, 5000));
    assert_eq!((info.counters.fast_recoveries, info.counters.lost), (1, 1));
    // 10 - 3 held - 1 lost + 1 again = 7 in the network: nothing new before two more have left.
    script.queue(5, 1000);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 6001)]));
    assert!(script.sent().is_empty());
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 7001)]));
    assert_eq!(script.sent_data(), [(10_001, 1000)]);
    // All that was outstanding at the loss: recovered, and the window is what it was set to.
    script.arrive(arriving(ACK, 1, 10_001));
    assert_eq!(script.tcb.info().cwnd, 5000);
    assert_eq!(script.sent_data().len(), 4);
}

#[test]
fn blocks_of_an_ack_that_was_overtaken_count() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 3001).window(9000));
    let window = script.tcb.info().peer_window;
    // It left when the fourth was missing, too; its window is out of date.
    script.arrive(arriving(ACK, 1, 2001).sack(&[(4001, 7001)]).window(100));
    assert_eq!(script.sent_data(), [(3001, 1000)]);
    let info = script.tcb.info();
    assert_eq!((info.sacked_segments, info.counters.lost, info.peer_window), (3, 1, window));
    // Without blocks it says nothing.
    script.arrive_times(5, arriving(ACK, 1, 2001));
    assert!(script.sent_data().is_empty());
}

#[test]
fn one_ack_with_blocks_is_enough() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(9001, 10_001), (5001, 7001), (2001, 3001)]));
    // Held: 3, 6, 7, 10. All others were sent before the tenth, and are lost.
    assert_eq!(script.tcb.info().counters.lost, 6);
    // RFC 9937: four were delivered, so four leave, and none of them is new data.
    assert_eq!(script.tcb.send_room(), 0);
    assert_eq!(script.sent_data(), [(1, 1000), (1001, 1000), (3001, 1000), (4001, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 3001).sack(&[(9001, 10_001), (5001, 7001)]));
    assert_eq!(script.sent_data(), [(7001, 1000), (8001, 1000)]);
    assert_eq!(script.tcb.info().counters.fast_recoveries, 1);
}

#[test]
fn the_flight_comes_down_with_the_acknowledgments() {
    // RFC 9937: 20 segments in flight, the first is lost. No half window of silence, and no burst.
    let mut script = Script::established(plain());
    script.queue(10, 1460);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 14_601));
    script.queue(40, 1460);
    assert_eq!(script.sent_data().len(), 20);
    script.pass(20);
    let at = |segment: u32| 14_601 + 1460 * segment;
    let mut counts = Vec::new();
    for segment in 1..20 {
        script.arrive(arriving(ACK, 1, at(0)).sack(&[(at(1), at(segment + 1))]));
        counts.push(script.sent_data().len());
    }
    // Limited transmit, limited transmit, the retransmission; then every second one until ten are in flight.
    assert_eq!(counts[..3], [1, 1, 1]);
    assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
    assert!(!counts[3..].windows(3).any(|three| three == [0, 0, 0]), "{counts:?}");
    let info = script.tcb.info();
    assert!(info.pipe <= 11 * 1460 && info.pipe >= 9 * 1460, "{info:?}");
    assert_eq!(info.ssthresh, 14_600, "half of 20, whatever limited transmit has added");
    script.pass(20);
    script.arrive(arriving(ACK, 1, at(22)));
    assert_eq!(script.tcb.info().cwnd, 14_600);
}

#[test]
fn the_first_retransmission_gets_a_whole_time_out() {
    let mut script = ten_in_flight(plain());
    script.pass(130);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    assert_eq!(script.pass_to_timer(), Some(Duration::from_millis(220)));
}

#[test]
fn losses_beyond_the_recovery_point_are_another_episode() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    script.queue(10, 1000);
    assert_eq!(script.sent_data(), [(1, 1000)]);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 10_001)]));
    let new = script.sent_data();
    assert_eq!(new[0], (10_001, 1000));
    script.pass(20);
    // The retransmission arrives, and of the new ones the first does not.
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(11_001, 14_001)]));
    let info = script.tcb.info();
    assert_eq!((info.counters.fast_recoveries, info.counters.undone, info.lost_segments), (2, 0, 1));
    assert_eq!(script.sent_data()[0], (10_001, 1000));
}

#[test]
fn what_a_time_out_leaves_lost_is_another_episode() {
    let mut script = ten_in_flight(without_sack());
    script.pass_to_timer();
    script.sent();
    script.arrive(arriving(ACK, 1, 1001));
    script.queue(1, 1000);
    assert_eq!(script.sent_data(), [(10_001, 1000)], "F-RTO: something new");
    // A duplicate: the time-out was right, and slow start goes over what is lost.
    script.arrive(arriving(ACK, 1, 1001));
    assert_eq!(script.sent_data()[0], (1001, 1000));
    assert_eq!(script.tcb.info().counters.fast_recoveries, 0, "not while the time-out is being repaired");
    script.arrive(arriving(ACK, 1, 10_001));
    script.queue(4, 1000);
    assert_eq!(script.sent_data().len(), 4);
    script.arrive_times(3, arriving(ACK, 1, 10_001));
    assert_eq!(
        script.tcb.info().counters.fast_recoveries,
        0,
        "RFC 6582 §3.2 step 2: una is not beyond recover"
    );
}

#[test]
fn the_loss_of_a_retransmission_is_another_indication_of_congestion() {
    // RFC 5681 §4.3, RFC 8985 §3.4.
    let mut script = ten_in_flight(plain());
    script.queue(20, 1000);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 10_001)]));
    let new = script.sent_data();
    assert_eq!(new[0], (10_001, 1000));
    assert_eq!(script.tcb.info().ssthresh, 5000);
    script.pass(20);
    // What was sent behind the retransmission arrives, and it does not.
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 11_001)]));
    let again = script.sent();
    assert_eq!((again[0].seq, again[0].retransmission), (1, true), "{again:?}");
    let info = script.tcb.info();
    assert_eq!((info.counters.fast_recoveries, info.ssthresh), (2, 2 * 1460));
    assert_eq!(info.counters.timeouts, 0);
    // Once a round trip: the next block is about the same window.
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 12_001)]));
    assert_eq!(script.tcb.info().counters.fast_recoveries, 2);
}

#[test]
fn duplicates_of_what_an_episode_sent_again_begin_no_other() {
    let mut script = ten_in_flight(without_sack());
    script.pass_to_timer();
    script.sent();
    script.arrive(arriving(ACK, 1, 10_001));
    script.queue(5, 1000);
    script.sent();
    // RFC 6582 §3.2 step 2: the peer received segments twice, and says so.
    script.arrive_times(4, arriving(ACK, 1, 10_001));
    assert!(script.sent().is_empty());
    assert_eq!(script.tcb.info().counters.fast_recoveries, 0);
}

#[test]
fn three_duplicates_make_the_first_segment_lost() {
    let mut script = ten_in_flight(without_sack());
    script.arrive(arriving(ACK, 1, 1));
    script.arrive(arriving(ACK, 1, 1));
    assert!(script.sent().is_empty());
    script.arrive(arriving(ACK, 1, 1).window(50_000));
    assert!(script.sent().is_empty(), "a window update is no duplicate");
    script.arrive(arriving(ACK, 1, 1).window(50_000));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    assert_eq!(script.tcb.info().cwnd, 5000);
    // RFC 6582 §3.2: the next hole follows from a partial acknowledgment.
    script.arrive(arriving(ACK, 1, 4001).window(50_000));
    assert_eq!(script.sent_data(), [(4001, 1000)]);
    script.arrive(arriving(ACK, 1, 10_001).window(50_000));
    assert_eq!((script.tcb.in_flight(), script.tcb.info().counters.fast_recoveries), (0, 1));
}

#[test]
fn duplicates_make_room_and_a_partial_acknowledgment_takes_it_back() {
    let mut script = ten_in_flight(without_sack());
    script.queue(9, 1000);
    script.arrive_times(7, arriving(ACK, 1, 1));
    // Of 10000 outstanding bytes 7000 have left the network; the window is 5000.
    let sent = script.sent_data();
    assert_eq!(sent, [(1, 1000), (10_001, 1000), (11_001, 1000)]);
    // Two of the seven are acknowledged now: five of nine outstanding are beyond the new hole.
    script.arrive(arriving(ACK, 1, 3001));
    assert_eq!(script.sent_data(), [(3001, 1000), (12_001, 1000)]);
}

#[test]
fn duplicates_after_a_time_out_make_no_room() {
    let mut script = ten_in_flight(without_sack());
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(1, 1000)]);
    script.arrive_times(5, arriving(ACK, 1, 1));
    assert!(script.sent().is_empty());
}

#[test]
fn limited_transmit_sends_new_data_on_the_first_duplicates() {
    // RFC 3042.
    let mut script = Script::established(without_sack());
    script.queue(12, 1460);
    assert_eq!(script.sent_data().len(), 10);
    script.arrive(arriving(ACK, 1, 1));
    assert_eq!(script.sent_data(), [(14_601, 1460)]);
    script.arrive(arriving(ACK, 1, 1));
    assert_eq!(script.sent_data(), [(16_061, 1460)]);
    // It was reordering. What the two duplicates stood for does not grow the window.
    script.arrive(arriving(ACK, 1, 4_381));
    assert_eq!(script.tcb.info().cwnd, 14_600 + 1460);
    // Nor is it taken off what comes next.
    script.arrive(arriving(ACK, 1, 7_301));
    assert_eq!(script.tcb.info().cwnd, 14_600 + 3 * 1460);
}

#[test]
fn duplicates_before_a_time_out_take_nothing_from_slow_start_behind_it() {
    let mut script = ten_in_flight(without_sack());
    script.arrive_times(2, arriving(ACK, 1, 1));
    while script.tcb.info().counters.timeouts == 0 {
        script.pass_to_timer().expect("a timer runs");
        script.sent();
    }
    script.arrive_times(2, arriving(ACK, 1, 1));
    script.arrive(arriving(ACK, 1, 1461));
    assert_eq!(script.tcb.info().cwnd, 2 * 1460);
}

#[test]
fn signals_of_mptcp_are_no_duplicates() {
    let mut script = ten_in_flight(without_sack());
    for _ in 0..5 {
        let signal =
            MptcpOption::RemoveAddr(RemoveAddr { address_ids: [AddressId(3)].into_iter().collect() });
        script.arrive(arriving(ACK, 1, 1).options(|options| options.mptcp.push(signal)));
    }
    assert!(script.sent().is_empty());
}

#[test]
fn a_time_out_takes_all_for_lost_and_backs_off() {
    let mut script = ten_in_flight(without_sack());
    // RTO = SRTT + max(200 ms, 4 * RTTVAR), of one round trip of 20 ms.
    assert_eq!(script.pass_to_timer(), Some(Duration::from_millis(200)));
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
    assert_eq!(script.sent_data(), [(1, 1000)], "the window is one segment");
    let info = script.tcb.info();
    assert_eq!((info.cwnd, info.ssthresh), (1460, 5000));
    assert_eq!(script.pass_to_timer(), Some(Duration::from_millis(440)));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    assert_eq!((script.tcb.consecutive_timeouts(), script.tcb.info().ssthresh), (2, 5000));
    assert_eq!(script.pass_to_timer(), Some(Duration::from_millis(880)));
    script.sent();
    // Slow start over what is lost, once it is clear that there is nothing new to send (RFC 5682 §2.1 step 2b).
    script.arrive(arriving(ACK, 1, 1001));
    assert_eq!(script.tcb.consecutive_timeouts(), 0);
    assert!(script.sent().is_empty());
    script.pass(0);
    assert_eq!(script.sent_data(), [(1001, 1000), (2001, 1000)]);
    // Karn: no sample of a segment that was sent again, so the back-off stays.
    assert_eq!(script.tcb.rto(), Duration::from_millis(1760));
    script.arrive(arriving(ACK, 1, 10_001));
    assert_eq!((script.tcb.in_flight(), script.tcb.poll_timeout()), (0, None));
    script.queue(1, 1000);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 11_001));
    assert!(script.tcb.rto() < Duration::from_millis(300));
}

#[test]
fn the_back_off_has_a_cap() {
    let mut script = ten_in_flight(without_sack());
    let waits: Vec<Duration> = (0..15)
        .map(|_| {
            let waited = script.pass_to_timer().expect("it goes on");
            // Shorter from the fifth on: it may be the length (RFC 8899 §4.3).
            let sent = script.sent_data();
            assert_eq!((sent.len(), sent[0].0), (1, 1));
            waited
        })
        .collect();
    assert_eq!(waits[9], Duration::from_millis(220 << 9));
    assert_eq!(waits[10..], [Duration::from_secs(120); 5], "RFC 6298 §2.5");
}

#[test]
fn a_time_out_spares_what_was_sent_lately() {
    // RFC 8985 §6.3, with its own example: one segment an RTO ago, two more just before its timer expires.
    let mut script = Script::established(plain());
    script.queue(1, 1000);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1001));
    script.queue(1, 1000);
    script.sent();
    script.pass_to_timer();
    assert!(script.sent_one().retransmission, "the loss probe");
    let left = script.tcb.poll_timeout().expect("the time-out").since(script.now).as_millis();
    script.pass(left - 1);
    script.queue(2, 1000);
    assert_eq!(script.sent_data().len(), 2);
    script.pass(1);
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
    assert_eq!(script.sent_data(), [(1001, 1000)]);
    let info = script.tcb.info();
    assert_eq!((info.lost_segments, info.unacked_segments), (1, 3));
}

#[test]
fn with_timestamps_a_retransmission_can_be_timed() {
    let config = TcpConfig { timestamps: true, ..plain() };
    let mut script = Script::established_with(config, |options| {
        super::script::modern(options);
        options.timestamps = Some(crate::wire::Timestamps { value: 1, echo: 0 });
    });
    script.queue(1, 1000);
    script.sent();
    // The loss probe, and the time-out.
    (0..2).for_each(|_| {
        script.pass_to_timer();
    });
    let again = script.sent_one();
    let echo = again.options.timestamps.map(|timestamps| timestamps.value).expect("agreed");
    script.pass(30);
    script.arrive(arriving(ACK, 1, 1001).timestamps(2, echo));
    assert!(script.tcb.rto() < Duration::from_millis(300), "{:?}", script.tcb.rto());
}

#[test]
fn the_timer_restarts_with_each_advance() {
    let mut script = ten_in_flight(without_sack());
    script.pass(180);
    script.arrive(arriving(ACK, 1, 1001));
    script.pass(100);
    assert!(script.sent().is_empty() && script.events().is_empty());
    assert!(script.pass_to_timer().is_some_and(|waited| waited > Duration::from_millis(100)));
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
}

#[test]
fn what_is_held_is_not_sent_again_after_a_time_out() {
    let mut script = ten_in_flight(plain());
    // Two blocks are not enough, and the rest was sent after what they are about: only the time-out is left.
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 3001)]));
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(1, 1000)], "RACK's timer: the first one is late");
    script.pass_to_timer();
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
    assert_eq!(script.sent_data(), [(1, 1000)]);
    script.arrive(arriving(ACK, 1, 3001));
    script.pass(0);
    assert_eq!(script.sent_data().first(), Some(&(3001, 1000)));
}

#[test]
fn a_peer_that_reneges_gets_all_again() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 3001)]));
    // The first segment arrives, and yet the peer acknowledges no more: it has dropped what it held.
    script.arrive(arriving(ACK, 1, 1001));
    while script.events().is_empty() {
        script.pass_to_timer();
    }
    assert_eq!(script.sent_data(), [(1001, 1000)]);
    script.arrive(arriving(ACK, 1, 2001));
    script.pass(0);
    assert_eq!(script.sent_data().first(), Some(&(2001, 1000)));
}

#[test]
fn blocks_that_make_no_sense_are_ignored() {
    let mut script = ten_in_flight(plain());
    let nonsense = [(10_001, 12_001), (500, 400), (1u32.wrapping_sub(500), 1), (3000, 3000)];
    for _ in 0..5 {
        script.arrive(arriving(ACK, 1, 1).sack(&nonsense));
    }
    assert!(script.sent().is_empty());
    assert_eq!(script.tcb.info().sacked_segments, 0);
    // A part of a segment is not the segment.
    script.arrive(arriving(ACK, 1, 1).sack(&[(1500, 4500)]));
    assert_eq!(script.tcb.info().sacked_segments, 2);
    assert!(script.sent().is_empty(), "two whole segments");
    script.arrive(arriving(ACK, 1, 1).sack(&[(1500, 5500)]));
    assert_eq!(script.sent_data().first(), Some(&(1, 1000)), "three");
}

#[test]
fn an_acknowledgment_within_a_segment_keeps_its_rest_and_its_tag() {
    let mut script = ten_in_flight(without_sack());
    script.arrive(arriving(ACK, 1, 1501));
    assert_eq!((script.tcb.acked_bytes(), script.tcb.in_flight()), (1500, 8500));
    script.pass_to_timer();
    let again = script.sent_one();
    assert_eq!((again.seq, again.len, again.data_seq, again.in_place), (1501, 500, 1500, false));
}

#[test]
fn a_smaller_path_splits_without_blaming_congestion() {
    let mut script = ten_in_flight(plain());
    let tuple = FourTuple {
        local: Endpoint::new([10, 0, 0, 1].into(), 1),
        remote: Endpoint::new([10, 0, 0, 2].into(), 2),
    };
    let error = |mtu| IcmpError { tuple, seq: super::script::OURS + 1, kind: IcmpErrorKind::TooBig { mtu } };
    let window = script.tcb.info().cwnd;
    script.tcb.handle_icmp(script.now, &error(640));
    assert_eq!((script.tcb.mss(), script.tcb.payload_max(20)), (Mss::new(600), 580));
    assert_eq!(script.tcb.info().cwnd, window);
    let sent = script.sent();
    assert_eq!(sent.len(), 20, "every segment in two");
    assert!(sent.iter().all(|sent| sent.retransmission && sent.kind == OutgoingKind::Data));
    assert_eq!((sent[0].seq, sent[0].len, sent[0].in_place), (1, 600, true));
    assert_eq!((sent[1].seq, sent[1].len, sent[1].data_seq, sent[1].in_place), (601, 400, 600, false));
    script.arrive(arriving(ACK, 1, 601));
    assert_eq!(script.cache.pool().used(), 10, "the frame is the second half's");
    script.arrive(arriving(ACK, 1, 10_001));
    assert_eq!(script.cache.pool().used(), 0);
    // No router tells less than this and is believed.
    script.queue(1, 100);
    script.sent();
    let seq = script.tcb.snd_una();
    script.tcb.handle_icmp(script.now, &IcmpError { seq, ..error(0) });
    assert_eq!(script.tcb.mss(), Mss::new(536));
}

#[test]
fn short_segments_between_split_ones_can_be_lost_too() {
    let mut script = Script::established(plain());
    for _ in 0..4 {
        script.queue(1, 1000);
        script.queue(1, 400);
    }
    script.sent();
    let tuple = FourTuple {
        local: Endpoint::new([10, 0, 0, 1].into(), 1),
        remote: Endpoint::new([10, 0, 0, 2].into(), 2),
    };
    let kind = IcmpErrorKind::TooBig { mtu: 640 };
    script.tcb.handle_icmp(script.now, &IcmpError { tuple, seq: super::script::OURS + 1, kind });
    assert_eq!(script.sent().len(), 8);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1401, 4201)]));
    // Of what is held, some are retransmissions of split ones: all that left before the last of them is lost.
    assert_eq!(script.sent_data(), [(1, 600), (601, 400), (1001, 400), (5201, 400)]);
}

#[test]
fn drop_all_returns_split_segments_once() {
    let mut script = Script::established(without_sack());
    script.queue(3, 3000);
    let sent = script.sent_data();
    assert_eq!(&sent[..3], &[(1, 1460), (1461, 1460), (2921, 80)]);
    // A window of one segment takes a part of what is queued in one piece.
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(1, 1460)]);
    script.tcb.drop_all(&mut script.cache);
    assert_eq!(script.cache.pool().used(), 0);
}

#[test]
fn a_large_window_with_many_holes_is_cheap_to_repair() {
    // Thousands of segments with every second one lost, reported block by block. What matters is that each segment
    // is touched a few times and not once for each ACK; a quadratic scoreboard would make this test crawl.
    let mut script =
        Script::established(TcpConfig { window_owner: crate::tcp::WindowOwner::Connection, ..plain() });
    let mut acked = 1;
    let mut end = 1;
    while script.tcb.info().cwnd < 4_000_000 {
        while script.tcb.send_room() >= 1460 {
            script.queue(1, 1460);
            end += 1460;
            script.sent();
        }
        while acked < end {
            acked += 1460;
            script.arrive(arriving(ACK, 1, acked));
        }
    }
    let base = acked;
    for _ in 0..2000 {
        script.queue(1, 1460);
        script.sent();
    }
    let block = |index: u32| (base + 1460 * index, base + 1460 * (index + 1));
    for index in (1..2000).step_by(2) {
        script.arrive(arriving(ACK, 1, base).sack(&[block(index)]));
    }
    let mut resent = 0;
    for _ in 0..2000 {
        let data = script.sent_data();
        resent += data.len();
        if let Some((seq, _)) = data.last() {
            script.arrive(arriving(ACK, 1, *seq + 2 * 1460));
        }
    }
    assert!((990..=1001).contains(&resent), "{resent}");
    assert_eq!(script.tcb.info().counters.fast_recoveries, 1);
}
