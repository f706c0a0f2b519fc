//! Both windows at work: RFC 9293 §3.8.6, RFC 5681 §3.1.

use super::script::{ACK, Script, arriving, modern, plain};
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::tcp::{CloseReason, OutgoingKind, TcpConfig, TcpEvent, WindowOwner};

#[test]
fn the_initial_window_is_ten_segments() {
    let mut script = Script::established(plain());
    assert_eq!(script.tcb.send_room(), 14_600);
    script.queue(4, 1460);
    assert_eq!((script.tcb.send_room(), script.tcb.unsent()), (14_600 - 4 * 1460, 4 * 1460));
    script.sent();
    assert_eq!((script.tcb.send_room(), script.tcb.in_flight()), (14_600 - 4 * 1460, 4 * 1460));
    script.queue(8, 1460);
    assert_eq!(script.sent_data().len(), 6);
    // Slow start: a byte for a byte.
    script.arrive(arriving(ACK, 1, 14_601));
    assert_eq!(script.tcb.info().cwnd, 29_200);
    assert_eq!(script.sent_data().len(), 2);
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut script = Script::established(plain());
    let mut seq = 1;
    for _ in 0..20 {
        script.queue(1, 1000);
        script.sent();
        seq += 1000;
        script.arrive(arriving(ACK, 1, seq));
    }
    assert_eq!(script.tcb.info().cwnd, 14_600);
}

#[test]
fn a_window_that_is_no_longer_used_stops_growing() {
    // In congestion avoidance.
    let mut script = Script::established(plain());
    script.queue(10, 1460);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1).sack(&[(1461, 4 * 1460 + 1)]));
    assert_eq!(script.sent_data().len(), 1);
    let mut seq = 14_601;
    script.pass(20);
    script.arrive(arriving(ACK, 1, seq));
    script.queue(5, 1460);
    script.sent();
    seq += 7_300;
    script.pass(20);
    script.arrive(arriving(ACK, 1, seq));
    assert_eq!(script.tcb.info().cwnd, 7_300 + 1460);
    for _ in 0..40 {
        script.queue(1, 1000);
        script.sent();
        seq += 1000;
        script.arrive(arriving(ACK, 1, seq));
    }
    assert_eq!(script.tcb.info().cwnd, 7_300 + 1460);
}

#[test]
fn an_idle_connection_keeps_its_window_for_five_minutes() {
    let mut script = Script::established(plain());
    script.queue(10, 1460);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 14_601));
    assert_eq!(script.tcb.info().cwnd, 29_200);
    script.pass(299_000);
    script.queue(1, 1460);
    script.sent();
    assert_eq!(script.tcb.info().cwnd, 29_200, "RFC 7661 §4.4: preserved");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 16_061));
    script.pass(2_000);
    script.queue(1, 1460);
    script.sent();
    assert_eq!(script.tcb.info().cwnd, 14_600, "RFC 7661 §4.4.3: halved after the non-validated period");
    assert_eq!(script.tcb.info().ssthresh, u64::MAX);
}

#[test]
fn a_restart_after_a_pause_begins_with_the_initial_window_where_that_is_wanted() {
    // RFC 5681 §4.1, for each algorithm: whoever does not keep the window. BBR does, and paces (draft-ietf-ccwg-bbr-06 §5.4.1).
    for (name, congestion) in CongestionAlgorithm::ALL {
        let config = TcpConfig { restart_after_idle: true, congestion: *congestion, ..plain() };
        let mut script = Script::established(config);
        script.queue(10, 1460);
        script.sent();
        script.pass(20);
        script.arrive(arriving(ACK, 1, 14_601));
        let grown = script.tcb.info().cwnd;
        assert!(grown > 14_600, "{name}");
        let rto = script.tcb.info().rto.as_millis();
        // Not quite a time-out since data was sent; what arrives meanwhile says nothing.
        script.pass(rto - 25);
        script.queue(1, 1000);
        script.sent();
        assert_eq!(script.tcb.info().cwnd, grown, "{name}");
        script.pass(20);
        script.arrive(arriving(ACK, 1, 15_601));
        script.pass(rto);
        script.arrive(arriving(ACK, 1, 15_601).payload(100));
        script.queue(20, 1000);
        if *congestion == CongestionAlgorithm::Bbr {
            script.sent();
            assert_eq!(script.tcb.info().cwnd, grown + 1000);
            continue;
        }
        assert_eq!(script.sent_data().len(), 14, "{name}: 14600 bytes");
        assert_eq!((script.tcb.info().cwnd, script.tcb.info().ssthresh), (14_600, u64::MAX), "{name}");
    }
}

#[test]
fn a_loss_in_an_unused_window_counts_what_was_used() {
    // RFC 7661 §4.4.1. A window of 29200 of which 14600 were used a minute ago, and little since.
    let mut script = Script::established(plain());
    script.queue(10, 1460);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 14_601));
    script.pass(60_000);
    script.queue(5, 1000);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 14_601).sack(&[(15_601, 18_601)]));
    assert_eq!(script.sent_data(), [(14_601, 1000)]);
    assert_eq!(script.tcb.info().ssthresh, 2 * 1460, "half of 5000, and two segments at least");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 19_601));
    assert_eq!(script.tcb.info().cwnd, 2_000, "less what was retransmitted: (5000 - 1000) / 2");
}

#[test]
fn the_peers_window_holds_back_and_is_probed() {
    let mut script = Script::established_with(plain(), modern);
    script.arrive(arriving(ACK, 1, 1).window(3_000));
    assert_eq!(script.tcb.send_room(), 3_000);
    script.queue(2, 1460);
    script.sent();
    assert_eq!(script.tcb.send_room(), 80);
    script.arrive(arriving(ACK, 1, 2921).window(0));
    assert_eq!(script.tcb.send_room(), 1460, "one segment may wait for the window");
    script.queue(1, 1460);
    assert_eq!(script.tcb.send_room(), 0);
    assert!(script.sent().is_empty());
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        let waited = script.pass_to_timer().expect("the persist timer runs");
        assert!(waited >= 2 * last, "{waited:?} after {last:?}: back-off");
        last = waited;
        let probe = script.sent_one();
        assert_eq!((probe.kind, probe.seq, probe.len), (OutgoingKind::Probe, 2920, 0));
        script.arrive(arriving(ACK, 1, 2921).window(0));
    }
    script.arrive(arriving(ACK, 1, 2921).window(10_000));
    assert_eq!(script.sent_data(), [(2921, 1460)]);
    script.arrive(arriving(ACK, 1, 4381).window(10_000));
    assert_eq!(script.tcb.poll_timeout(), None);
}

#[test]
fn probes_without_an_answer_end_the_connection() {
    let mut script = Script::established(TcpConfig { retries: 3, ..plain() });
    script.arrive(arriving(ACK, 1, 1).window(0));
    script.queue(1, 100);
    while script.pass_to_timer().is_some() {
        script.sent();
    }
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::TimedOut)]);
    assert_eq!(script.tcb.info().counters.probes, 3);
}

#[test]
fn a_peer_that_closed_its_window_on_us_is_alive() {
    let mut script = Script::established(TcpConfig { retries: 3, ..plain() });
    script.queue(1, 100);
    script.sent();
    for _ in 0..10 {
        script.pass_to_timer();
        assert_eq!(script.sent_one().len, 100);
        script.arrive(arriving(ACK, 1, 1).window(0));
    }
    assert_eq!(script.state(), crate::tcp::State::Established);
}

#[test]
fn no_timer_runs_on_a_closed_window_with_nothing_to_send() {
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK, 1, 1).window(0));
    assert_eq!(script.tcb.poll_timeout(), None);
}

#[test]
fn a_small_window_waits_for_the_override_time_out() {
    // RFC 9293 §3.8.6.2.1.
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK, 1, 1).window(500));
    script.queue(1, 1460);
    assert!(script.sent().is_empty(), "500 of the largest 60000 is not worth a segment");
    script.pass_to_timer();
    assert_eq!(script.sent_data(), [(1, 500)]);
    script.arrive(arriving(ACK, 1, 501).window(5_000));
    let rest = script.sent_one();
    assert_eq!((rest.seq, rest.len, rest.data_seq, rest.in_place), (501, 960, 500, false));
    // The next one waits again.
    script.queue(1, 1460);
    script.arrive(arriving(ACK, 1, 1461).window(500));
    assert!(script.sent().is_empty());
    assert!(script.tcb.poll_timeout().is_some());
}

#[test]
fn a_fin_waits_for_the_window_too() {
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK, 1, 1).window(0));
    script.tcb.close(script.now);
    assert!(script.sent().is_empty());
    script.pass_to_timer();
    assert_eq!(script.sent_one().kind, OutgoingKind::Probe);
    script.arrive(arriving(ACK, 1, 1).window(1));
    assert_eq!(script.sent_one().kind, OutgoingKind::Fin);
}

#[test]
fn the_connection_sees_to_its_own_window() {
    let config = TcpConfig { window_owner: WindowOwner::Connection, ..plain() };
    let mut script = Script::established(config);
    script.arrive(arriving(ACK, 1, 1).window(0));
    assert_eq!(script.tcb.send_room(), 14_600);
    script.queue(1, 1460);
    assert_eq!(script.sent_data(), [(1, 1460)]);
    script.arrive(arriving(ACK, 1, 1461).window(0));
    assert_eq!(script.tcb.poll_timeout(), None);
    script.tcb.probe(script.now);
    let probe = script.sent_one();
    assert_eq!((probe.kind, probe.seq), (OutgoingKind::Probe, 1460));
    // Fallback to TCP: the window holds from now on.
    script.tcb.set_window_owner(WindowOwner::Subflow);
    script.queue(1, 1460);
    assert!(script.sent().is_empty() && script.tcb.poll_timeout().is_some());
}

#[test]
fn reading_opens_the_window_and_tells_it() {
    let mut script = Script::connect(plain());
    script.tcb.set_receive_window(4_000);
    assert_eq!(script.sent_one().window, 4_000);
    script.arrive(super::script::arriving(super::script::SYN | ACK, 0, 1).options(modern));
    script.sent();
    script.arrive(arriving(ACK, 1, 1).payload(1460));
    script.arrive(arriving(ACK, 1461, 1).payload(1460));
    script.arrive(arriving(ACK, 2921, 1).payload(1080));
    assert_eq!(script.sent_one().window, 0);
    script.tcb.set_receive_window(4_000);
    assert!(script.sent().is_empty(), "nothing was read yet");
    assert_eq!(script.read(), 4_000);
    script.tcb.set_receive_window(4_000);
    let update = script.sent_one();
    assert_eq!((update.kind, update.ack, update.window), (OutgoingKind::Ack, 4_001, 4_000));
}
