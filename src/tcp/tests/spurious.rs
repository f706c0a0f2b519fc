//! Recovery that was for nothing: D-SACK (RFC 2883, RFC 3708), Eifel (RFC 3522, RFC 4015), F-RTO (RFC 5682).

use super::loss::{ten_in_flight, without_sack};
use super::script::{ACK, Script, arriving, modern, plain};
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::tcp::{RecoveryPhase, TcpConfig};
use crate::wire::{TcpFlags, Timestamps};

/// With timestamps, and ten segments of 1000 bytes in flight for 20 ms. Gives the timestamp they carry.
fn stamped(sack: bool) -> (Script, u32) {
    let config = TcpConfig { timestamps: true, sack, ..plain() };
    let mut script = Script::established_with(config, |options| {
        modern(options);
        options.timestamps = Some(Timestamps { value: 1, echo: 0 });
    });
    script.queue(10, 1000);
    let sent = script.sent();
    assert_eq!(sent.len(), 10);
    let stamp = sent[0].options.timestamps.expect("agreed").value;
    script.pass(20);
    (script, stamp)
}

/// To the retransmission time-out, and past the loss probe.
fn time_out(script: &mut Script) {
    while script.tcb.info().counters.timeouts == 0 {
        script.pass_to_timer();
        script.sent();
    }
}

#[test]
fn a_retransmission_that_arrives_twice_undoes_fast_recovery() {
    for congestion in [CongestionAlgorithm::Reno, CongestionAlgorithm::Cubic] {
        let mut script = ten_in_flight(TcpConfig { congestion, ..plain() });
        let before = script.tcb.info();
        script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
        assert_eq!(script.sent_data(), [(1, 1000)]);
        assert!(script.tcb.info().cwnd < before.cwnd);
        script.pass(5);
        script.arrive(arriving(ACK, 1, 10_001));
        script.pass(15);
        // RFC 2883 §4.1.1: below the cumulative acknowledgment.
        script.arrive(arriving(ACK, 1, 10_001).sack(&[(1, 1001)]));
        let info = script.tcb.info();
        assert_eq!((info.cwnd, info.ssthresh, info.counters.undone), (before.cwnd, before.ssthresh, 1));
        assert!(info.reorderings > 0, "what was taken for loss was reordering");
    }
}

#[test]
fn one_of_two_that_arrives_twice_undoes_nothing() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(2001, 10_001)]));
    assert_eq!(script.sent_data(), [(1, 1000), (1001, 1000)]);
    script.pass(5);
    script.arrive(arriving(ACK, 1, 1001).sack(&[(2001, 10_001)]));
    script.pass(15);
    // RFC 2883 §4.1.3: within the second block, where the first lies beyond the acknowledgment; and both at once.
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(1, 1001)]));
    let info = script.tcb.info();
    assert_eq!((info.duplicates_reported, info.counters.undone), (1, 0));
    assert_eq!(info.cwnd, 5000);
}

#[test]
fn two_that_arrive_twice_may_be_told_together() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(2001, 10_001)]));
    assert_eq!(script.sent_data(), [(1, 1000), (1001, 1000)]);
    script.pass(5);
    script.arrive(arriving(ACK, 1, 10_001));
    script.pass(15);
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(1, 2001)]));
    assert_eq!((script.tcb.info().counters.undone, script.tcb.info().cwnd), (1, 14_600));
}

#[test]
fn a_duplicate_within_held_data_is_one() {
    let mut script = ten_in_flight(plain());
    script.arrive(arriving(ACK, 1, 1).sack(&[(3001, 4001), (2001, 6001)]));
    let info = script.tcb.info();
    assert_eq!((info.duplicates_reported, info.sacked_segments), (1, 4));
    // The network's doing: nothing was sent twice, so nothing is learned from it.
    assert_eq!(info.reorderings, 0);
}

#[test]
fn duplicates_of_the_network_do_not_enlarge_the_reordering_window() {
    let mut script = ten_in_flight(plain());
    for start in (1..5001).step_by(1000) {
        script.arrive(arriving(ACK, 1, start + 1000).sack(&[(start, start + 1000)]));
    }
    script.queue(3, 1000);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(11_001, 12_001)]));
    assert_eq!(script.pass_to_timer(), Some(Duration::from_millis(5)), "min_RTT / 4");
}

#[test]
fn an_echo_from_before_the_retransmission_undoes_fast_recovery() {
    // RFC 3522: no D-SACK needed, and at once.
    let (mut script, stamp) = stamped(true);
    let before = script.tcb.info();
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]).timestamps(2, stamp));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    script.pass(3);
    // The original came late. What is outstanding beyond it is on its way, and not lost.
    script.arrive(arriving(ACK, 1, 4001).timestamps(3, stamp));
    let info = script.tcb.info();
    assert_eq!((info.cwnd, info.counters.undone, info.recovery), (before.cwnd, 1, RecoveryPhase::Open));
    assert!(script.sent().is_empty());
}

#[test]
fn an_echo_of_the_retransmission_undoes_nothing() {
    let (mut script, stamp) = stamped(true);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]).timestamps(2, stamp));
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 4001).timestamps(3, stamp + 20));
    let info = script.tcb.info();
    assert_eq!((info.counters.undone, info.recovery), (0, RecoveryPhase::Fast));
}

#[test]
fn a_mark_makes_the_reduction_right_all_the_same() {
    // RFC 4015 §3.1 step 9.
    let config = TcpConfig { ecn: crate::tcp::EcnMode::Request, ..plain() };
    let mut script = Script::connect(config);
    script.sent();
    script.pass(20);
    script.arrive(arriving(super::script::SYN | ACK | TcpFlags::ECE, 0, 1).options(modern));
    script.sent();
    script.queue(10, 1000);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    script.sent();
    script.pass(5);
    script.arrive(arriving(ACK, 1, 10_001));
    script.pass(15);
    script.arrive(arriving(ACK | TcpFlags::ECE, 1, 10_001).sack(&[(1, 1001)]));
    assert_eq!(script.tcb.info().counters.undone, 0);
}

#[test]
fn frto_finds_a_time_out_spurious_without_options() {
    // RFC 5682 §2.1.
    let mut script = ten_in_flight(without_sack());
    let before = script.tcb.info();
    time_out(&mut script);
    assert_eq!(script.tcb.info().cwnd, 1460);
    script.arrive(arriving(ACK, 1, 1001));
    script.queue(2, 1000);
    assert_eq!(script.sent_data(), [(10_001, 1000), (11_001, 1000)], "step 2b: new data");
    script.arrive(arriving(ACK, 1, 2001));
    let info = script.tcb.info();
    assert_eq!((info.counters.undone, info.recovery, info.lost_segments), (1, RecoveryPhase::Open, 0));
    assert_eq!((info.cwnd, info.ssthresh), (before.cwnd + 1000, before.ssthresh), "and slow start goes on");
    assert!(script.sent().is_empty(), "no go-back-N");
    script.arrive(arriving(ACK, 1, 12_001));
    assert_eq!(script.tcb.info().counters.retransmits, 1);
}

#[test]
fn frto_finds_a_time_out_right() {
    let mut script = ten_in_flight(without_sack());
    time_out(&mut script);
    script.arrive(arriving(ACK, 1, 1001));
    script.queue(2, 1000);
    script.sent();
    // Step 3a: the new data makes a duplicate, so what lies before it is lost.
    script.arrive(arriving(ACK, 1, 1001));
    assert_eq!(script.sent_data()[0], (1001, 1000));
    assert_eq!(script.tcb.info().counters.undone, 0);
}

#[test]
fn with_sack_the_first_block_of_late_data_shows_it() {
    // RFC 5682 §3.1 step 3b.
    let mut script = ten_in_flight(plain());
    let before = script.tcb.info();
    time_out(&mut script);
    script.arrive(arriving(ACK, 1, 2001));
    let info = script.tcb.info();
    assert_eq!((info.counters.undone, info.lost_segments), (1, 0));
    assert!(info.cwnd >= before.cwnd, "{info:?}");
    script.pass(0);
    assert!(script.sent().is_empty());
    // And the time-out is longer from now on (RFC 4015 §3.1 step 11).
    script.arrive(arriving(ACK, 1, 9001));
    assert!(script.tcb.info().rttvar >= Some(Duration::from_millis(100)), "{:?}", script.tcb.info());
}

#[test]
fn a_second_time_out_of_the_same_segment_can_be_spurious_too() {
    let mut script = ten_in_flight(without_sack());
    time_out(&mut script);
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(1, 1000)]);
    assert_eq!(script.tcb.info().counters.timeouts, 2);
    script.arrive(arriving(ACK, 1, 1001));
    script.queue(1, 1000);
    script.sent();
    script.arrive(arriving(ACK, 1, 2001));
    let info = script.tcb.info();
    assert_eq!((info.counters.undone, info.cwnd), (1, 14_600 + 1000), "what was before the first one");
}

#[test]
fn in_a_recovery_a_time_out_is_believed() {
    // RFC 5682 §2.1 step 1.
    let mut script = ten_in_flight(without_sack());
    script.arrive_times(3, arriving(ACK, 1, 1));
    assert_eq!(script.sent_data(), [(1, 1000)]);
    time_out(&mut script);
    script.arrive(arriving(ACK, 1, 1001));
    assert_eq!(script.sent_data()[0], (1001, 1000));
}

#[test]
fn the_echo_shows_a_spurious_time_out_with_the_first_acknowledgment() {
    let (mut script, stamp) = stamped(false);
    let before = script.tcb.info();
    time_out(&mut script);
    script.arrive(arriving(ACK, 1, 1001).timestamps(2, stamp));
    let info = script.tcb.info();
    assert_eq!((info.counters.undone, info.cwnd), (1, before.cwnd + 1000));
    script.pass(0);
    assert!(script.sent().is_empty());
}

#[test]
fn lost_acknowledgments_make_no_time_out_spurious() {
    // RFC 3522 §3.3: all of the flight had arrived, and every ACK was lost.
    let (mut script, stamp) = stamped(true);
    time_out(&mut script);
    script.arrive(arriving(ACK, 1, 10_001).sack(&[(1, 1001)]).timestamps(2, stamp));
    assert_eq!(script.tcb.info().counters.undone, 0);
}

#[test]
fn what_comes_by_itself_costs_nothing() {
    // Recovery begins, and before anything could be sent again the missing segment is there.
    let mut script = ten_in_flight(plain());
    let before = script.tcb.info();
    script.arrive(arriving(ACK, 1, 1).sack(&[(1001, 4001)]));
    assert!(script.tcb.info().cwnd < before.cwnd);
    script.arrive(arriving(ACK, 1, 10_001));
    let info = script.tcb.info();
    assert_eq!((info.counters.undone, info.ssthresh), (1, before.ssthresh));
    assert!(info.cwnd >= before.cwnd);
}
