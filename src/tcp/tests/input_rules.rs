//! Which segments are believed: RFC 9293 §3.10.7.4, RFC 5961, RFC 7323 §5.

use super::script::{ACK, FIN, RST, SYN, Script, arriving, modern, plain};
use crate::tcp::ack::ChallengeLimit;
use crate::tcp::{CloseReason, OutgoingKind, State, TcpConfig, TcpEvent};

#[test]
fn a_reset_needs_the_exact_sequence_number() {
    let mut script = Script::established(plain());
    assert!(!script.arrive(arriving(RST, 2, 0)).accepted);
    let challenge = script.sent_one();
    assert_eq!((challenge.kind, challenge.seq, challenge.ack), (OutgoingKind::Ack, 1, 1));
    assert!(!script.arrive(arriving(RST, 100_000, 0)).accepted, "outside of the window: silence");
    assert!(script.sent().is_empty());
    assert_eq!(script.state(), State::Established);
    assert!(script.arrive(arriving(RST, 1, 0)).accepted);
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Reset)]);
    assert!(script.sent().is_empty() && script.tcb.poll_timeout().is_none());
}

#[test]
fn a_syn_is_challenged_wherever_it_points() {
    let mut script = Script::established(plain());
    for seq in [0, 1, 500, 1 << 30] {
        assert!(!script.arrive(arriving(SYN, seq, 0)).accepted);
        assert_eq!(script.sent_one().kind, OutgoingKind::Ack, "{seq}");
    }
    assert_eq!(script.state(), State::Established);
}

#[test]
fn challenges_are_limited_each_second() {
    let mut script = Script::established(plain());
    let challenge = |script: &mut Script| {
        script.arrive(arriving(SYN, 9, 0));
        script.sent().len()
    };
    let sent: usize = (0..100).map(|_| challenge(&mut script)).sum();
    assert_eq!(sent, ChallengeLimit::PER_SECOND as usize);
    script.pass(1000);
    assert_eq!(challenge(&mut script), 1);
    assert_eq!(script.tcb.info().counters.challenges, 101);
}

#[test]
fn acknowledgments_must_be_of_something_sent_and_not_too_old() {
    let mut script = Script::established(plain());
    script.queue(2, 1000);
    script.sent();
    assert!(!script.arrive(arriving(ACK, 1, 2002)).accepted, "never sent");
    assert_eq!(script.sent_one().kind, OutgoingKind::Ack);
    let accepted = script.arrive(arriving(ACK, 1, 1001));
    assert!(accepted.accepted && accepted.ack_advanced);
    let accepted = script.arrive(arriving(ACK, 1, 1));
    assert!(accepted.accepted && !accepted.ack_advanced, "old, but within the largest window");
    assert!(!script.arrive(arriving(ACK, 1, 0u32.wrapping_sub(60_000))).accepted, "RFC 5961 §5.2");
    assert_eq!(script.tcb.acked_bytes(), 1000);
}

#[test]
fn a_segment_without_ack_is_dropped() {
    let mut script = Script::established(plain());
    let none = crate::wire::TcpFlags::NONE;
    assert!(!script.arrive(arriving(none, 1, 0).payload(100)).accepted);
    assert_eq!((script.read(), script.cache.pool().used()), (0, 0));
}

#[test]
fn what_lies_outside_of_the_window_is_answered_and_dropped() {
    let mut script = Script::established(plain());
    script.tcb.set_receive_window(10_000);
    script.tcb.request_ack();
    let window = u32::from(script.sent_one().window);
    assert!(!script.arrive(arriving(ACK, 1 + window, 1).payload(10)).accepted);
    assert_eq!(script.sent_one().ack, 1);
    assert!(!script.arrive(arriving(ACK, 0, 1)).accepted, "a keep-alive probe");
    assert_eq!(script.sent_one().ack, 1);
    // A part of it fits: that part is taken.
    assert!(script.arrive(arriving(ACK, window - 4, 1).payload(100)).accepted);
    assert!(script.arrive(arriving(ACK, 1, 1).payload(1460)).accepted);
    assert_eq!(script.read(), 1460);
    assert_eq!(script.sent_one().sack, [(window - 4, window + 1)]);
}

#[test]
fn an_acknowledgment_behind_a_full_window_counts() {
    let mut script = Script::established(plain());
    script.queue(1, 1000);
    script.sent();
    script.tcb.set_receive_window(2_000);
    script.tcb.request_ack();
    let window = u32::from(script.sent_one().window);
    // The peer has filled the window, its data is still on the way.
    assert!(script.arrive(arriving(ACK, 1 + window, 1001)).ack_advanced);
}

#[test]
fn data_without_room_still_acknowledges() {
    let mut script = Script::established(plain());
    script.queue(1, 1000);
    script.sent();
    let window = u32::from(u16::MAX);
    let mut seq = 1;
    while seq <= window {
        let len = (1 + window - seq).min(1460);
        script.arrive(arriving(ACK, seq, 1).payload(len as usize));
        seq += len;
        script.tcb.set_receive_window(0);
    }
    assert_eq!(script.sent().last().map(|ack| ack.window), Some(0));
    let accepted = script.arrive(arriving(ACK, seq, 1001).payload(1));
    assert!(accepted.ack_advanced);
    assert_eq!((script.sent_one().ack, script.tcb.info().counters.dropped), (seq, 1));
    assert_eq!(script.read() as u32, window);
}

fn with_timestamps() -> Script {
    let config = TcpConfig { timestamps: true, ..plain() };
    Script::established_with(config, |options| {
        modern(options);
        options.timestamps = Some(crate::wire::Timestamps { value: 1000, echo: 0 });
    })
}

#[test]
fn an_old_timestamp_marks_an_old_segment() {
    let mut script = with_timestamps();
    assert!(script.arrive(arriving(ACK, 1, 1).timestamps(1005, 0).payload(10)).accepted);
    assert_eq!(script.sent_one().options.timestamps.map(|timestamps| timestamps.echo), Some(1005));
    assert!(!script.arrive(arriving(ACK, 11, 1).timestamps(1004, 0).payload(10)).accepted);
    assert_eq!(script.sent_one().ack, 11, "RFC 7323 §5.3 R1: an ACK");
    assert_eq!((script.read(), script.tcb.info().counters.paws), (10, 1));
    assert!(script.arrive(arriving(ACK, 11, 1).payload(10)).accepted, "no option: no check");
    assert!(script.arrive(arriving(RST, 21, 0).timestamps(1, 0)).accepted, "RST is exempt");
}

#[test]
fn a_bare_acknowledgment_may_have_been_overtaken() {
    let mut script = with_timestamps();
    script.queue(1, 2000);
    script.sent();
    assert!(script.arrive(arriving(ACK, 1, 1001).timestamps(1005, 0)).ack_advanced);
    // Another processor of the peer sent it: it may carry what comes once, as an MP_PRIO.
    let overtaken = script.arrive(arriving(ACK, 1, 1).timestamps(1004, 0));
    assert!(overtaken.accepted && !overtaken.ack_advanced);
    assert!(script.sent().is_empty(), "and it is no reason to answer");
    let rto_ms = script.tcb.rto().as_millis() as u32;
    let oldest = 1005 - rto_ms;
    assert!(script.arrive(arriving(ACK, 1, 1).timestamps(oldest, 0)).accepted);
    assert!(!script.arrive(arriving(ACK, 1, 1).timestamps(oldest - 1, 0)).accepted, "that is no reordering");
    assert!(!script.arrive(arriving(ACK | FIN, 1, 1).timestamps(1004, 0)).accepted, "a FIN is text");
    assert_eq!(script.tcb.info().counters.paws, 2);
    script.tcb.request_ack();
    assert_eq!(script.sent()[0].options.timestamps.map(|timestamps| timestamps.echo), Some(1005));
}

#[test]
fn the_echo_is_of_the_segment_that_the_acknowledgment_is_for() {
    let mut script = with_timestamps();
    script.arrive(arriving(ACK, 101, 1).timestamps(1010, 0).payload(100));
    assert_eq!(script.sent_one().options.timestamps.map(|timestamps| timestamps.echo), Some(1000));
    script.arrive(arriving(ACK, 1, 1).timestamps(1007, 0).payload(100));
    assert_eq!(script.sent_one().options.timestamps.map(|timestamps| timestamps.echo), Some(1007));
}

#[test]
fn timestamps_give_way_to_a_large_option() {
    let mut script = with_timestamps();
    script.tcb.request_ack();
    script.reserved = (28, 0);
    assert!(script.sent_one().options.timestamps.is_some());
    script.tcb.request_ack();
    script.reserved = (32, 0);
    assert!(script.sent_one().options.timestamps.is_none());
}

#[test]
fn text_behind_the_fin_is_ignored() {
    let mut script = Script::established(plain());
    assert!(script.arrive(arriving(ACK | FIN, 1, 1).payload(10)).accepted);
    assert_eq!(script.events(), [TcpEvent::PeerFinished]);
    script.sent();
    script.arrive(arriving(ACK, 12, 1).payload(10));
    script.arrive(arriving(ACK | FIN, 12, 1));
    assert_eq!((script.read(), script.state()), (10, State::CloseWait));
    assert!(script.events().is_empty());
    assert_eq!(script.tcb.received_bytes(), 10);
}
