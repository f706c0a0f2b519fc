//! Pacing at work.

use super::script::{ACK, Script, arriving, plain};
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::tcp::recovery::Phase;
use crate::tcp::{TcpConfig, WindowOwner};

fn paced() -> TcpConfig {
    let pacing = Some(Duration::from_micros(500));
    TcpConfig { pacing, window_owner: WindowOwner::Connection, ..plain() }
}

#[test]
fn a_window_leaves_in_bursts_over_half_a_round_trip() {
    // Ten segments at 20 ms: twice the window in a round trip, two segments each 2 ms.
    let mut script = Script::established(paced());
    script.queue(10, 1460);
    let mut bursts = vec![script.sent_data().len()];
    let mut waits = Vec::new();
    while script.tcb.unsent() > 0 {
        assert_eq!(script.tcb.send_room(), 0, "the scheduler sees no room");
        waits.push(script.pass_to_timer().expect("and is told when there is some"));
        bursts.push(script.sent_data().len());
    }
    assert_eq!(bursts, [2, 2, 2, 2, 2]);
    assert!(waits.iter().all(|wait| *wait == Duration::from_millis(2)), "{waits:?}");
}

#[test]
fn the_room_comes_back_with_the_timer() {
    let mut script = Script::established(paced());
    script.queue(2, 1460);
    script.sent();
    assert_eq!(script.tcb.send_room(), 0);
    assert_eq!(script.tcb.poll_timeout().map(|at| at.since(script.now)), Some(Duration::from_millis(2)));
    assert!(!script.tcb.has_to_send(script.now));
    script.pass_to_timer();
    assert_eq!(script.tcb.send_room(), 8 * 1460);
}

#[test]
fn pacing_costs_no_throughput_and_makes_no_bursts() {
    // A line that takes a segment each 4 ms, and 20 ms of delay: five segments fill it.
    let mut script = Script::established(paced());
    script.queue(700, 1460);
    let mut line_free = script.now;
    let mut arrivals = std::collections::VecDeque::new();
    let mut longest = 0;
    for _ in 0..2_000 {
        let sent = script.sent_data();
        longest = longest.max(sent.len());
        for (seq, len) in sent {
            line_free = line_free.max(script.now) + Duration::from_millis(4);
            arrivals.push_back((line_free + Duration::from_millis(16), seq + len as u32));
        }
        script.pass(1);
        while let Some((_, ack)) = arrivals.front().copied().filter(|(at, _)| *at <= script.now) {
            arrivals.pop_front();
            script.arrive(arriving(ACK, 1, ack));
        }
    }
    let acked = script.tcb.acked_bytes() / 1460;
    assert!(acked >= 490, "{acked} segments in 2 s, where 495 fit");
    assert!(longest <= 4, "{longest} segments at once");
}

#[test]
fn a_window_is_filled_at_once_when_the_queue_on_its_path_has_drained() {
    // Of round trips of 40 ms 30 are a queue. It overflows; all whose segments it loses send half as much then, and it is gone.
    const LEN: u32 = 1460;
    let mut script = Script::established(paced());
    script.queue(400, LEN as usize);
    let mut acks = std::collections::VecDeque::new();
    let (mut hole, mut highest, mut drained) = (None, 1, false);
    let mut flights = Vec::new();
    while flights.len() < 10 {
        for (seq, _) in script.sent_data() {
            if !drained && script.tcb.congestion_window() > 40 * u64::from(LEN) {
                (hole, drained) = (Some(seq), true);
                continue;
            }
            highest = highest.max(seq + LEN);
            hole.take_if(|hole| *hole == seq);
            let round_trip = Duration::from_millis(if drained { 10 } else { 40 });
            acks.push_back((script.now + round_trip, hole, highest));
        }
        let info = script.tcb.info();
        let is_over = info.counters.fast_recoveries > 0 && info.recovery == Phase::Open;
        if is_over {
            flights.push(script.tcb.in_flight() as u64);
        }
        script.pass(1);
        while let Some((_, hole, highest)) = acks.pop_front_if(|(at, ..)| *at <= script.now) {
            script.arrive(match hole {
                Some(hole) => arriving(ACK, 1, hole).sack(&[(hole + LEN, highest)]),
                None => arriving(ACK, 1, highest),
            });
        }
    }
    let window = script.tcb.congestion_window();
    assert!(flights.iter().all(|flight| flight * 10 >= window * 8), "{flights:?} of {window}");
}

#[test]
fn short_paths_are_not_paced() {
    let config = TcpConfig { pacing: Some(Duration::from_millis(21)), ..paced() };
    let mut script = Script::established(config);
    script.queue(10, 1460);
    assert_eq!(script.sent_data().len(), 10);
    assert_eq!(script.tcb.info().pacing_rate, None);
}

#[test]
fn the_first_retransmission_does_not_wait() {
    let mut script = Script::established(paced());
    script.queue(12, 1460);
    let mut sent = 0;
    while sent < 10 {
        sent += script.sent_data().len();
        script.pass_to_timer();
    }
    script.pass(10);
    script.tcb.send_room();
    script.arrive(arriving(ACK, 1, 1).sack(&[(1461, 2921)]));
    script.sent();
    script.arrive(arriving(ACK, 1, 1).sack(&[(1461, 5841)]));
    assert_eq!(script.sent_data().first(), Some(&(1, 1460)));
}

#[test]
fn bbr_is_paced_on_the_shortest_path_and_no_reduction_holds_it_back() {
    let pacing = Some(Duration::from_secs(1));
    let mut script =
        Script::established(TcpConfig { pacing, congestion: CongestionAlgorithm::Bbr, ..paced() });
    script.queue(30, 1460);
    let mut sent = script.sent_data().len();
    assert!(
        sent < 10,
        "others send all that the window lets on a path that is shorter than they are paced on: {sent}"
    );
    while script.tcb.unsent() > 20 * 1460 {
        script.pass_to_timer().expect("the rest waits for its time");
        sent += script.sent_data().len();
    }
    assert_eq!(sent, 10);
    // The first is lost. The window stays, and what has left the network makes room.
    let cwnd = script.tcb.info().cwnd;
    script.arrive(arriving(ACK, 1, 1).sack(&[(1461, 14_601)]));
    assert_eq!(script.tcb.info().counters.fast_recoveries, 1);
    assert!(script.tcb.info().cwnd >= cwnd, "{} of {cwnd}", script.tcb.info().cwnd);
}

#[test]
fn only_who_has_nothing_to_queue_is_limited_by_the_application() {
    // The caller queues what there is room for: nothing is queued when an ACK comes, and yet there is more.
    let mut script = Script::established(plain());
    script.queue(10, 1460);
    script.sent();
    script.tcb.note_nothing_to_queue();
    assert!(!script.tcb.info().app_limited, "there is no room");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 14_601));
    script.queue(5, 1460);
    script.sent();
    assert!(!script.tcb.info().app_limited, "room for more, and nobody said that there is none");
    script.tcb.note_nothing_to_queue();
    assert!(script.tcb.info().app_limited);
    script.pass(20);
    script.arrive(arriving(ACK, 1, 21_901));
    script.queue(30, 1460);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK, 1, 30_000));
    assert!(!script.tcb.info().app_limited, "what was short has been delivered");
}
