//! Ends of a connection: RFC 9293 §3.6, §3.10.4, §3.10.5.

use super::script::{ACK, FIN, PSH, RST, SYN, Script, arriving, plain};
use crate::base::time::Duration;
use crate::tcp::{CloseReason, OutgoingKind, State, TcpConfig, TcpEvent};

const FINISHED: TcpEvent = TcpEvent::Closed(CloseReason::Finished);

#[test]
fn closing_first_goes_through_time_wait() {
    let mut script = Script::established(plain());
    script.tcb.close(script.now);
    assert_eq!((script.state(), script.tcb.send_room()), (State::FinWait1, 0));
    let fin = script.sent_one();
    assert_eq!((fin.kind, fin.flags, fin.seq), (OutgoingKind::Fin, FIN | ACK, 1));
    script.arrive(arriving(ACK, 1, 2));
    assert_eq!((script.state(), script.tcb.is_fin_acked()), (State::FinWait2, true));
    // The peer still sends.
    script.arrive(arriving(ACK, 1, 2).payload(100));
    assert_eq!(script.read(), 100);
    script.arrive(arriving(ACK | FIN, 101, 2));
    assert_eq!((script.state(), script.sent().last().map(|ack| ack.ack)), (State::TimeWait, Some(102)));
    assert_eq!(script.events(), [TcpEvent::PeerFinished]);
    // The peer did not get that ACK: 2 MSL begin anew.
    script.pass(50_000);
    script.arrive(arriving(ACK | FIN, 101, 2));
    assert_eq!(script.sent_one().ack, 102);
    assert_eq!(script.pass_to_timer(), Some(Duration::from_secs(60)));
    assert_eq!((script.state(), script.events()), (State::Closed, vec![FINISHED]));
    assert_eq!((script.tcb.sent_bytes(), script.tcb.acked_bytes()), (0, 0));
}

#[test]
fn closing_second_goes_through_last_ack() {
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK | FIN, 1, 1));
    assert_eq!((script.state(), script.sent_one().ack), (State::CloseWait, 2));
    script.queue(1, 300);
    script.tcb.close(script.now);
    assert_eq!(script.state(), State::LastAck);
    let sent = script.sent_one();
    assert_eq!((sent.kind, sent.len, sent.flags), (OutgoingKind::Data, 300, FIN | PSH | ACK));
    assert_eq!((script.tcb.sent_bytes(), script.tcb.in_flight()), (300, 301));
    script.arrive(arriving(ACK, 2, 301));
    assert_eq!((script.state(), script.tcb.is_fin_acked()), (State::LastAck, false));
    script.arrive(arriving(ACK, 2, 302));
    assert_eq!((script.state(), script.events()), (State::Closed, vec![TcpEvent::PeerFinished, FINISHED]));
    assert_eq!((script.tcb.acked_bytes(), script.tcb.in_flight()), (300, 0));
}

#[test]
fn closing_at_once_goes_through_closing() {
    let mut script = Script::established(plain());
    script.tcb.close(script.now);
    script.sent();
    script.arrive(arriving(ACK | FIN, 1, 1));
    assert_eq!((script.state(), script.sent_one().ack), (State::Closing, 2));
    script.arrive(arriving(ACK, 2, 2));
    assert_eq!(script.state(), State::TimeWait);
}

#[test]
fn a_fin_that_acknowledges_ours_leads_to_time_wait_directly() {
    let mut script = Script::established(plain());
    script.tcb.close(script.now);
    script.sent();
    script.arrive(arriving(ACK | FIN, 1, 2));
    assert_eq!(script.state(), State::TimeWait);
}

#[test]
fn a_fin_beyond_a_gap_waits() {
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK | FIN, 101, 1).payload(100));
    assert_eq!((script.state(), script.events()), (State::Established, vec![]));
    script.arrive(arriving(ACK, 1, 1).payload(100));
    assert_eq!((script.state(), script.events()), (State::CloseWait, vec![TcpEvent::PeerFinished]));
    assert_eq!((script.read(), script.sent_one().ack), (200, 202));
}

#[test]
fn nothing_is_taken_from_beyond_the_fin() {
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK | FIN, 101, 1).payload(100));
    script.arrive(arriving(ACK, 151, 1).payload(200));
    script.arrive(arriving(ACK, 301, 1).payload(10));
    script.arrive(arriving(ACK, 1, 1).payload(500));
    assert_eq!((script.read(), script.state()), (200, State::CloseWait));
    assert_eq!(script.cache.pool().used(), 0);
}

#[test]
fn a_lost_fin_is_repeated() {
    let mut script = Script::established(plain());
    script.tcb.close(script.now);
    script.sent();
    script.pass_to_timer();
    let fin = script.sent_one();
    assert!(fin.kind == OutgoingKind::Fin && fin.retransmission && fin.seq == 1);
}

#[test]
fn a_fin_that_rode_on_data_is_repeated_with_it() {
    let mut script = Script::established(plain());
    script.queue(2, 100);
    script.tcb.close(script.now);
    let flags: Vec<_> = script.sent().iter().map(|sent| sent.flags).collect();
    assert_eq!(flags, [ACK, FIN | PSH | ACK]);
    script.arrive(arriving(ACK, 1, 101));
    assert_eq!((script.state(), script.tcb.in_flight()), (State::FinWait1, 101));
    // By whatever timer, the last data and the FIN go out again, in one segment or in two.
    let (mut data_again, mut fin_again) = (false, false);
    while !(data_again && fin_again) {
        script.pass_to_timer().expect("a timer runs");
        for sent in script.sent() {
            data_again |= sent.len == 100 && sent.seq == 101;
            fin_again |= sent.flags.contains(FIN);
        }
        assert!(script.tcb.consecutive_timeouts() < 5, "data {data_again}, FIN {fin_again}");
    }
    script.arrive(arriving(ACK, 1, 202));
    assert_eq!((script.state(), script.tcb.in_flight()), (State::FinWait2, 0));
}

#[test]
fn a_close_before_the_handshake_is_complete() {
    let mut script = Script::connect(plain());
    script.sent();
    script.tcb.close(script.now);
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Aborted)]);

    let mut script = Script::accept(plain(), arriving(SYN, 0, 0));
    script.sent();
    script.tcb.close(script.now);
    assert!(script.sent().is_empty());
    script.arrive(arriving(ACK, 1, 1));
    assert_eq!(script.state(), State::FinWait1);
    assert_eq!(script.sent_one().kind, OutgoingKind::Fin);
}

#[test]
fn an_abort_resets_where_the_peer_knows_of_us() {
    let mut script = Script::established(plain());
    script.queue(2, 100);
    script.sent();
    script.queue(1, 100);
    script.tcb.abort(script.now);
    assert!(script.events().is_empty(), "not before the RST has left");
    let reset = script.sent_one();
    assert_eq!((reset.kind, reset.flags, reset.seq, reset.ack), (OutgoingKind::Reset, RST | ACK, 201, 1));
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Aborted)]);
    assert_eq!(script.tcb.poll_timeout(), None);
    script.tcb.drop_all(&mut script.cache);
    assert_eq!(script.cache.pool().used(), 0);

    let mut script = Script::connect(plain());
    script.sent();
    script.tcb.abort(script.now);
    assert!(script.sent().is_empty());
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Aborted)]);
}

#[test]
fn an_abort_behind_what_was_lost_goes_by_the_peers_word() {
    let mut script = Script::established(plain());
    script.queue(2, 100);
    script.sent();
    script.arrive(arriving(ACK, 1, 101));
    while script.tcb.consecutive_timeouts() == 0 {
        script.pass_to_timer().expect("a timer runs");
        script.sent();
    }
    script.tcb.abort(script.now);
    let reset = script.sent_one();
    assert_eq!(
        (reset.kind, reset.flags, reset.seq),
        (OutgoingKind::Reset, RST, 101),
        "what the peer expects"
    );
    assert_eq!(script.events().last(), Some(&TcpEvent::Closed(CloseReason::Aborted)));

    // Once something is acknowledged, what is in flight counts as on its way again.
    let mut script = Script::established(plain());
    script.queue(2, 100);
    script.sent();
    while script.tcb.consecutive_timeouts() == 0 {
        script.pass_to_timer().expect("a timer runs");
        script.sent();
    }
    script.arrive(arriving(ACK, 1, 101));
    script.tcb.abort(script.now);
    assert_eq!(script.sent_one().seq, 201);
}

#[test]
fn a_reset_leaves_even_after_the_chunks_are_gone() {
    let mut script = Script::established(plain());
    script.queue(2, 100);
    script.sent();
    script.tcb.abort(script.now);
    script.tcb.drop_all(&mut script.cache);
    assert_eq!((script.sent_one().kind, script.cache.pool().used()), (OutgoingKind::Reset, 0));
}

/// In TIME-WAIT, with the peer's next number 2.
fn time_wait(config: TcpConfig) -> Script {
    let mut script = Script::established(config);
    script.tcb.close(script.now);
    script.sent();
    script.arrive(arriving(ACK | FIN, 1, 2));
    script.sent();
    script.events();
    assert_eq!(script.state(), State::TimeWait);
    script
}

#[test]
fn a_later_syn_ends_time_wait() {
    let mut script = time_wait(plain());
    assert!(!script.arrive(arriving(SYN, 2, 0)).reopen, "not later");
    assert_eq!(script.sent_one().kind, OutgoingKind::Ack);
    assert!(script.arrive(arriving(SYN, 3, 0)).reopen);
    assert_eq!((script.state(), script.events()), (State::Closed, vec![FINISHED]));
}

#[test]
fn a_reset_in_time_wait_is_no_error() {
    let mut script = time_wait(plain());
    script.arrive(arriving(RST, 2, 0));
    assert_eq!(script.events(), [FINISHED]);
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let mut script = Script::established(TcpConfig { retries: 3, ..plain() });
    script.queue(1, 100);
    script.sent();
    let mut timeouts = 0;
    while script.pass_to_timer().is_some() {
        script.sent();
        timeouts += script.events().iter().filter(|event| **event == TcpEvent::RetransmissionTimeout).count();
        if script.state() == State::Closed {
            break;
        }
    }
    let counters = script.tcb.info().counters;
    assert_eq!((timeouts, counters.loss_probes, counters.retransmits), (3, 1, 4));
    script.tcb.drop_all(&mut script.cache);
    assert_eq!(script.cache.pool().used(), 0);
}
