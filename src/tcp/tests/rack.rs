//! What RACK and TLP find: RFC 8985.

use super::loss::ten_in_flight;
use super::script::{ACK, Script, arriving, modern, plain};
use crate::base::time::Duration;
use crate::tcp::{TcpConfig, TcpEvent};
use crate::wire::Timestamps;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `count` segments of 1000 bytes, queued and sent, and nothing else.
fn send(script: &mut Script, count: usize) {
    script.queue(count, 1000);
    assert_eq!(script.sent_data().len(), count);
}

#[test]
fn one_later_segment_is_enough_after_a_quarter_of_a_round_trip() {
    // §6.2 step 5. DupThresh would wait for two more for ever.
    let mut script = Script::established(plain());
    send(&mut script, 2);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 2001)]));
    assert!(script.sent().is_empty(), "it may be late");
    assert_eq!(script.pass_to_timer(), Some(ms(5)), "min_RTT / 4");
    assert_eq!(script.sent_data(), [(1, 1000)]);
    assert_eq!(script.tcb.info().counters.fast_recoveries, 1);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 2001));
    assert_eq!((script.tcb.in_flight(), script.tcb.poll_timeout()), (0, None));
    assert_eq!(script.tcb.info().counters.timeouts, 0);
}

#[test]
fn blocks_beyond_a_gap_grow_the_window_only_on_a_path_that_reorders() {
    // RFC 3042 §2, and RFC 5681 §3.1.
    let mut script = Script::established(plain());
    script.queue(40, 1460);
    assert_eq!(script.sent_data().len(), 10);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1461, 4381)]));
    script.sent();
    assert_eq!(script.tcb.info().cwnd, 14_600, "no duplicate changes it");
    script.arrive(arriving(ACK, 1, 4381));
    assert_eq!(script.tcb.info().cwnd, 14_600 + 1460, "what was news is one segment");
    script.sent();
    script.arrive(arriving(ACK, 1, 4381).sack(&[(5841, 8761)]));
    assert_eq!(script.tcb.info().cwnd, 14_600 + 1460);
    script.arrive(arriving(ACK, 1, 8761));
    assert_eq!(script.tcb.info().cwnd, 14_600 + 4 * 1460, "it reorders: all counts, once the gap is filled");
}

#[test]
fn what_reordering_waits_for_puts_the_time_out_off() {
    // §8: of the two timers one runs. A path that reorders: RACK waits for a quarter of a round trip, in recovery, too.
    let mut script = Script::established(plain());
    send(&mut script, 2);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 2001)]));
    script.arrive(arriving(ACK, 1, 2001));
    send(&mut script, 10);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 2001).sack(&[(3001, 10_001)]));
    assert_eq!(script.pass_to_timer(), Some(ms(5)));
    assert_eq!(script.sent_data(), [(2001, 1000)]);
    let rto = script.tcb.info().rto.as_millis();
    // For each that arrives another may leave (RFC 9937).
    script.arrive(arriving(ACK, 1, 2001).sack(&[(3001, 12_001)]));
    // The retransmission is lost, too. Shortly before the time-out two more leave, of which only the second arrives.
    script.pass(rto - 25);
    send(&mut script, 1);
    script.pass(1);
    send(&mut script, 1);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 2001).sack(&[(13_001, 14_001), (3001, 12_001)]));
    // Nothing leaves meanwhile: the NIC is full.
    assert_eq!(script.pass_to_timer(), Some(ms(5)), "and not the time-out, a millisecond before");
    let counters = script.tcb.info().counters;
    assert_eq!((counters.timeouts, counters.lost), (0, 3), "all three that were lost");
}

#[test]
fn a_segment_that_is_late_by_less_is_not_lost() {
    let mut script = Script::established(plain());
    send(&mut script, 2);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 2001)]));
    script.pass(4);
    script.arrive(arriving(ACK, 1, 2001));
    assert!(script.sent().is_empty());
    let info = script.tcb.info();
    assert_eq!((info.reorderings, info.counters.lost, info.counters.fast_recoveries), (1, 0, 0));
    assert_eq!(script.tcb.poll_timeout(), None);
}

#[test]
fn the_reordering_that_was_seen_is_told_in_duplicates() {
    let mut script = ten_in_flight(plain());
    assert_eq!(script.tcb.info().reordering_segments, 3);
    // The fifth was late by 5000 bytes, which are three segments of the 1460 bytes that might have been.
    script.arrive(arriving(ACK, 1, 1).sack(&[(9001, 10_001)]));
    script.arrive(arriving(ACK, 1, 1).sack(&[(4001, 5001), (9001, 10_001)]));
    assert_eq!(script.tcb.info().reordering_segments, 4);
}

#[test]
fn after_reordering_three_blocks_are_not_enough() {
    // §6.2 step 4: RACK does not go by DupThresh any more.
    let mut script = Script::established(plain());
    send(&mut script, 2);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 2001)]));
    script.arrive(arriving(ACK, 1, 2001));
    send(&mut script, 10);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 2001).sack(&[(3001, 8001)]));
    assert!(script.sent().is_empty());
    assert_eq!(script.pass_to_timer(), Some(ms(5)));
    assert_eq!(script.sent_data(), [(2001, 1000)]);
}

#[test]
fn duplicates_enlarge_the_window_round_by_round() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    // The first one arrives after all, and then its retransmission.
    script.pass(10);
    script.arrive(arriving(ACK, 1, 10_001));
    script.pass(10);
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(1, 1001)]));
    let info = script.tcb.info();
    assert_eq!((info.duplicates_reported, info.counters.undone), (1, 1));
    send(&mut script, 10);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(11_001, 14_001)]));
    assert!(script.sent().is_empty());
    assert_eq!(script.pass_to_timer(), Some(ms(10)), "2 * min_RTT / 4");
}

#[test]
fn a_lost_retransmission_is_seen_by_what_was_sent_after_it() {
    // §3.4: P1 and P2 are lost, and P1's retransmission, too.
    let mut script = Script::established(plain());
    send(&mut script, 6);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1001).sack(&[(3001, 6001)]));
    assert_eq!(script.sent_data(), [(1001, 1000), (2001, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1001).sack(&[(2001, 6001)]));
    assert_eq!(script.sent_data(), [(1001, 1000)], "in recovery without reordering no time is lost");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 6001));
    assert_eq!((script.tcb.in_flight(), script.tcb.info().counters.timeouts), (0, 0));
}

#[test]
fn the_probe_shows_what_of_the_tail_is_lost() {
    // §3.4: the last three of four are lost.
    let mut script = Script::established(plain());
    send(&mut script, 4);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1001));
    assert_eq!(script.pass_to_timer(), Some(ms(42)), "2 * SRTT, and a margin");
    assert_eq!(script.sent_data(), [(3001, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1001).sack(&[(3001, 4001)]));
    assert_eq!(script.tcb.info().lost_segments, 2);
    // RFC 9937: one was delivered, so one leaves, and slow start begins when it arrives.
    assert_eq!(script.sent_data(), [(1001, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 2001).sack(&[(3001, 4001)]));
    assert_eq!(script.sent_data(), [(2001, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 4001));
    assert_eq!((script.tcb.in_flight(), script.tcb.info().counters.timeouts), (0, 0));
}

#[test]
fn the_first_and_the_last_of_a_flight_need_no_time_out() {
    // §9.1 example 1.
    let mut script = Script::established(plain());
    for _ in 0..3 {
        send(&mut script, 1);
        script.pass(6);
    }
    script.pass(8);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 2001)]));
    assert_eq!(script.sent_data(), [(1, 1000)], "sent 6 ms earlier");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 2001));
    assert_eq!(script.sent_data(), [(2001, 1000)], "sent before the retransmission, and not seen");
    assert_eq!(script.tcb.info().counters.timeouts, 0);
}

#[test]
fn timestamps_tell_that_a_retransmission_was_not_what_arrived() {
    // §6.2 step 2, check 1: RACK must not take the ACK of an original for that of its retransmission.
    let config = TcpConfig { timestamps: true, ..plain() };
    let mut script = Script::established_with(config, |options| {
        modern(options);
        options.timestamps = Some(Timestamps { value: 1, echo: 0 });
    });
    send(&mut script, 3);
    let before = script.now.as_millis() as u32;
    let pass_to_probe = script.pass_to_timer();
    assert_eq!(pass_to_probe, Some(ms(42)));
    assert_eq!(script.sent_data(), [(2001, 1000)]);
    send(&mut script, 1);
    // The original of the third arrives, very late; it says nothing about the fourth, nor about the probe.
    script.pass(30);
    script.arrive(arriving(ACK, 1, 3001).timestamps(2, before));
    assert!(script.sent().is_empty());
    assert_eq!(script.tcb.info().counters.lost, 0);
}

#[test]
fn a_probe_is_new_data_where_there_is_some() {
    let config = TcpConfig { window_owner: crate::tcp::WindowOwner::Connection, ..plain() };
    let mut script = Script::established(config);
    script.queue(12, 1460);
    assert_eq!(script.sent_data().len(), 10, "the window is full");
    assert_eq!(script.pass_to_timer(), Some(ms(42)));
    // §7.3: one segment beyond the window.
    assert_eq!(script.sent_data(), [(14_601, 1460)]);
    let info = script.tcb.info();
    assert_eq!((info.counters.loss_probes, info.counters.retransmits), (1, 0));
    assert!(script.pass_to_timer() > Some(ms(200)), "the time-out is next, and a whole one");
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
}

#[test]
fn a_lone_segment_waits_for_a_delayed_acknowledgment() {
    let mut script = Script::established(plain());
    send(&mut script, 1);
    assert_eq!(script.pass_to_timer(), Some(ms(2 * 20 + 50)), "§7.2: max_ack_delay");
    assert_eq!(script.sent_data(), [(1, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1001));
    assert_eq!(script.tcb.poll_timeout(), None);
    // No second probe before a round trip was measured: that ACK was for either of the two.
    send(&mut script, 1);
    assert!(script.pass_to_timer() >= Some(ms(220)));
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
}

#[test]
fn a_loss_that_only_the_probe_repairs_is_answered() {
    // §7.4.2.
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 9001));
    let window = script.tcb.info().cwnd;
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(9001, 1000)]);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 10_001));
    assert_eq!(script.tcb.info().ssthresh, u64::MAX, "nobody knows yet");
    send(&mut script, 2);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 12_001));
    let info = script.tcb.info();
    assert!(info.cwnd < window && info.ssthresh < u64::MAX, "{info:?}");
    assert_eq!((info.counters.timeouts, info.counters.fast_recoveries), (0, 0));
}

#[test]
fn a_probe_that_arrives_twice_is_no_loss() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 9001));
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(9001, 1000)]);
    script.pass(1);
    script.arrive(arriving(ACK, 1, 10_001));
    script.pass(19);
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(9001, 10_001)]));
    send(&mut script, 2);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 12_001));
    assert_eq!(script.tcb.info().ssthresh, u64::MAX);
}

#[test]
fn the_answer_to_a_probe_that_arrived_twice_lets_the_next_one_be_asked() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 8001));
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(9001, 1000)]);
    script.pass(1);
    // Of what was sent once: a round trip. Then the original of the probe, and new data while its fate is not known.
    script.arrive(arriving(ACK, 1, 9001));
    script.arrive(arriving(ACK, 1, 10_001));
    send(&mut script, 3);
    // It acknowledges nothing new, and yet nothing else would ask for what was sent meanwhile.
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(9001, 10_001)]));
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(12_001, 1000)]);
    assert_eq!((script.tcb.info().counters.timeouts, script.events().len()), (0, 0));
}

#[test]
fn an_acknowledgment_calls_the_probe_off() {
    let mut script = ten_in_flight(plain());
    script.pass(15);
    script.arrive(arriving(ACK, 1, 10_001));
    assert_eq!(script.tcb.poll_timeout(), None);
    send(&mut script, 2);
    script.pass(42 + 5);
    // The probe is due, and before it can leave all is acknowledged.
    script.arrive(arriving(ACK, 1, 12_001));
    assert!(script.sent().is_empty());
}

#[test]
fn the_fin_is_probed_for_too() {
    let mut script = Script::established(plain());
    send(&mut script, 1);
    script.tcb.close(script.now);
    assert_eq!(script.sent_one().kind, crate::tcp::OutgoingKind::Fin);
    script.pass_to_timer();
    let probe = script.sent_one();
    assert_eq!((probe.seq, probe.len), (1, 1000), "not every peer can say that it holds a FIN");
    assert!(probe.flags.contains(super::script::FIN), "both at once");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1002));
    assert_eq!((script.tcb.in_flight(), script.tcb.info().counters.timeouts), (0, 0));
    // On its own.
    let mut script = Script::established(plain());
    script.tcb.close(script.now);
    script.sent();
    assert_eq!(script.pass_to_timer(), Some(ms(90)));
    assert_eq!(script.sent_one().kind, crate::tcp::OutgoingKind::Fin);
}

#[test]
fn a_fin_that_arrives_tells_of_what_precedes_it() {
    let mut script = Script::established(plain());
    send(&mut script, 2);
    script.tcb.close(script.now);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(2001, 2002)]));
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(1, 1000)]);
    assert_eq!(script.tcb.info().lost_segments, 2);
}

#[test]
fn without_sack_there_are_no_probes() {
    let mut script = Script::established(super::loss::without_sack());
    send(&mut script, 4);
    assert_eq!(script.pass_to_timer(), Some(ms(220)));
    assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
}
