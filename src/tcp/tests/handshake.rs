//! Opening a connection (RFC 9293 §3.5): options, retries, refusals, and opens that cross.

use super::script::{ACK, RST, SYN, Script, arriving, modern, plain};
use crate::base::time::Duration;
use crate::tcp::{CloseReason, OutgoingKind, State, TcpConfig, TcpEvent, WindowOwner};
use crate::wire::{Endpoint, FourTuple, IcmpError, IcmpErrorKind, Mss};

#[test]
fn a_syn_offers_what_the_configuration_says() {
    let mut script = Script::connect(TcpConfig { window_scale: 9, ..TcpConfig::default() });
    let syn = script.sent_one();
    assert_eq!((syn.kind, syn.flags, syn.seq), (OutgoingKind::Syn, SYN, 0));
    assert_eq!(syn.options.mss, Some(1460));
    assert_eq!(syn.options.window_scale, Some(9));
    assert!(syn.options.sack_permitted && syn.options.timestamps.is_some());
    assert_eq!(
        (script.tcb.snd_una().raw(), script.tcb.snd_nxt()),
        (script.tcb.iss().raw(), script.tcb.iss() + 1)
    );
    assert_eq!(script.tcb.send_room(), 0);
}

#[test]
fn an_active_open_takes_only_what_both_ends_offer() {
    let mut script = Script::connect(TcpConfig::default());
    script.sent();
    script.pass(20);
    let accepted = script.arrive(arriving(SYN | ACK, 0, 1).options(|options| options.mss = Some(1000)));
    assert!(accepted.accepted && accepted.ack_advanced);
    let ack = script.sent_one();
    assert_eq!((ack.kind, ack.seq, ack.ack), (OutgoingKind::Ack, 1, 1));
    assert_eq!(ack.options.timestamps, None);
    assert_eq!((script.tcb.mss(), script.tcb.payload_max(20)), (Mss::new(1000), 980));
    assert_eq!(script.tcb.srtt(), Some(Duration::from_millis(20)));
    assert_eq!(script.tcb.poll_timeout(), None, "nothing is outstanding");
    assert_eq!(script.events(), [TcpEvent::Established]);
}

#[test]
fn a_passive_open_answers_with_what_was_offered() {
    let syn = arriving(SYN, 0, 0).options(modern).timestamps(500, 0).window(1_000);
    let mut script = Script::accept(TcpConfig { window_scale: 3, ..TcpConfig::default() }, syn);
    let answer = script.sent_one();
    assert_eq!((answer.kind, answer.flags), (OutgoingKind::SynAck, SYN | ACK));
    assert_eq!((answer.seq, answer.ack), (0, 1));
    assert_eq!(answer.options.window_scale, Some(3));
    assert_eq!(answer.options.timestamps.map(|timestamps| timestamps.echo), Some(500));
    assert!(answer.options.sack_permitted);
    assert_eq!(script.state(), State::SynReceived);
    script.pass(30);
    // Payload may come with the third ACK.
    let accepted = script.arrive(arriving(ACK, 1, 1).timestamps(530, 0).payload(100));
    assert!(accepted.accepted && accepted.ack_advanced);
    assert_eq!((script.state(), script.read()), (State::Established, 100));
    assert_eq!(script.events(), [TcpEvent::Established]);
    assert_eq!(script.tcb.srtt(), Some(Duration::from_millis(30)));
}

#[test]
fn a_passive_open_offers_nothing_that_was_not_asked_for() {
    let mut script = Script::accept(TcpConfig::default(), arriving(SYN, 0, 0));
    let answer = script.sent_one();
    assert_eq!(answer.options.mss, Some(1460));
    assert_eq!((answer.options.window_scale, answer.options.timestamps), (None, None));
    assert!(!answer.options.sack_permitted);
    assert_eq!(script.tcb.mss(), Mss::DEFAULT_V4, "RFC 9293 §3.7.1");
}

#[test]
fn the_window_of_a_syn_is_not_scaled_and_a_large_shift_is_14() {
    let mut script =
        Script::connect(TcpConfig { window_scale: 20, timestamps: false, ..TcpConfig::default() });
    assert_eq!(script.sent_one().options.window_scale, Some(14));
    script.arrive(arriving(SYN | ACK, 0, 1).window(500).options(|options| options.window_scale = Some(30)));
    assert_eq!(script.tcb.info().peer_window, 500);
    script.arrive(arriving(ACK, 1, 1).window(3));
    assert_eq!(script.tcb.info().peer_window, 3 << 14);
}

#[test]
fn a_syn_is_repeated_with_back_off_and_then_given_up() {
    let mut script = Script::connect(TcpConfig { syn_retries: 3, ..plain() });
    assert!(!script.sent_one().retransmission);
    for (seconds, round) in [(1, 1), (2, 2), (4, 3)] {
        assert_eq!(script.pass_to_timer(), Some(Duration::from_secs(seconds)));
        assert_eq!(script.events(), [TcpEvent::RetransmissionTimeout]);
        assert_eq!(script.tcb.consecutive_timeouts(), round);
        let syn = script.sent_one();
        assert!(syn.retransmission && syn.kind == OutgoingKind::Syn && syn.seq == 0);
    }
    assert_eq!(script.pass_to_timer(), Some(Duration::from_secs(8)));
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::TimedOut)]);
    assert_eq!((script.state(), script.tcb.poll_timeout()), (State::Closed, None));
}

#[test]
fn a_repeated_syn_begins_carefully() {
    let mut script = Script::connect(plain());
    script.sent();
    script.pass_to_timer();
    script.sent();
    script.pass(20);
    script.arrive(arriving(SYN | ACK, 0, 1).options(modern));
    // RFC 6298 §5.7, and RFC 5681 §3.1.
    assert_eq!((script.tcb.srtt(), script.tcb.rto()), (None, Duration::from_secs(3)));
    assert_eq!(script.tcb.info().cwnd, 1460);
}

#[test]
fn a_syn_ack_is_repeated_by_timer_and_for_a_repeated_syn() {
    let syn = || arriving(SYN, 0, 0).options(modern);
    let mut script = Script::accept(TcpConfig { syn_retries: 1, ..plain() }, syn());
    script.sent();
    script.arrive(syn());
    let again = script.sent_one();
    assert!(again.kind == OutgoingKind::SynAck && again.retransmission);
    script.pass_to_timer();
    assert_eq!(script.sent_one().kind, OutgoingKind::SynAck);
    script.pass_to_timer();
    assert_eq!(script.events().last(), Some(&TcpEvent::Closed(CloseReason::TimedOut)));
}

#[test]
fn a_reset_refuses_a_syn_only_with_the_right_acknowledgment() {
    let mut script = Script::connect(plain());
    script.sent();
    assert!(!script.arrive(arriving(RST, 0, 0)).accepted);
    assert!(!script.arrive(arriving(RST | ACK, 0, 2)).accepted);
    assert_eq!((script.state(), script.sent()), (State::SynSent, Vec::new()));
    assert!(script.arrive(arriving(RST | ACK, 0, 1)).accepted);
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Refused)]);
}

#[test]
fn a_wrong_acknowledgment_of_a_syn_is_reset() {
    let mut script = Script::connect(plain());
    script.sent();
    assert!(!script.arrive(arriving(SYN | ACK, 0, 77)).accepted);
    let reset = script.sent_one();
    assert_eq!((reset.kind, reset.flags, reset.seq), (OutgoingKind::Reset, RST, 77));
    assert_eq!(script.state(), State::SynSent);

    let mut script = Script::accept(plain(), arriving(SYN, 0, 0));
    script.sent();
    assert!(!script.arrive(arriving(ACK, 1, 2)).accepted);
    assert_eq!((script.sent_one().flags, script.state()), (RST, State::SynReceived));
    assert!(script.arrive(arriving(ACK, 1, 1)).accepted);
    assert_eq!(script.state(), State::Established);
}

#[test]
fn a_reset_ends_a_passive_open() {
    let mut script = Script::accept(plain(), arriving(SYN, 0, 0));
    script.sent();
    assert!(script.arrive(arriving(RST, 1, 0)).accepted);
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Reset)]);
}

#[test]
fn opens_that_cross_meet_in_one_connection() {
    let mut script = Script::connect(plain());
    script.sent();
    let scaled = |options: &mut crate::wire::TcpOptions| options.window_scale = Some(4);
    assert!(script.arrive(arriving(SYN, 0, 0).window(100).options(scaled)).accepted);
    assert_eq!(script.state(), State::SynReceived);
    let answer = script.sent_one();
    assert_eq!((answer.kind, answer.seq, answer.ack), (OutgoingKind::SynAck, 0, 1));
    assert!(script.arrive(arriving(SYN | ACK, 0, 1).window(200).options(scaled)).accepted);
    assert_eq!((script.state(), script.events()), (State::Established, vec![TcpEvent::Established]));
    assert_eq!(script.tcb.info().peer_window, 200, "the window of a SYN is not scaled");
    // RFC 9293 §3.5: one that is refused goes back to where it came from, which was no listener.
    let mut script = Script::connect(plain());
    script.sent();
    script.arrive(arriving(SYN, 0, 0));
    script.arrive(arriving(RST, 1, 0));
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Refused)]);
}

#[test]
fn unreachable_is_fatal_only_before_the_connection() {
    let tuple = FourTuple {
        local: Endpoint::new([10, 0, 0, 1].into(), 1),
        remote: Endpoint::new([10, 0, 0, 2].into(), 2),
    };
    let kind = IcmpErrorKind::Unreachable { code: 1 };
    let mut script = Script::connect(plain());
    script.sent();
    let seq = script.tcb.iss();
    script.tcb.handle_icmp(script.now, &IcmpError { tuple, seq: seq + 1, kind });
    assert_eq!(script.state(), State::SynSent, "a sequence number that is not in flight");
    script.tcb.handle_icmp(script.now, &IcmpError { tuple, seq, kind });
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Unreachable)]);

    let mut script = Script::established(plain());
    script.queue(1, 100);
    script.sent();
    let seq = script.tcb.snd_una();
    script.tcb.handle_icmp(script.now, &IcmpError { tuple, seq, kind });
    assert_eq!(script.state(), State::Established);
}

#[test]
fn a_window_owned_by_the_connection_is_shown_as_told() {
    let mut script = Script::connect(TcpConfig { window_owner: WindowOwner::Connection, ..plain() });
    script.tcb.set_receive_window(1_000_000);
    assert_eq!(script.sent_one().window, u16::MAX);
    script.arrive(arriving(SYN | ACK, 0, 1).options(modern));
    script.tcb.set_receive_window(5_000);
    assert_eq!(script.sent_one().window, 5_000);
    script.tcb.set_receive_window(100);
    script.tcb.request_ack();
    assert_eq!(script.sent_one().window, 100, "the caller keeps the edge");
}
