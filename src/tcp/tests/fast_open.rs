//! Data in the handshake (RFC 7413 §4.2).

use super::pair::chunk_of;
use super::script::{ACK, Arriving, FIN, RST, SYN, Script, Sent, arriving, modern, plain};
use crate::base::time::Duration;
use crate::tcp::{CloseReason, OutgoingKind, State, TcpConfig, TcpEvent};
use crate::wire::tcp::OPTIONS_MAX;
use crate::wire::{Endpoint, FastOpen, FastOpenCookie, FourTuple, IcmpError, IcmpErrorKind, Mss};

/// MP_CAPABLE on a SYN, and on a SYN/ACK.
const CAPABLE_SYN: usize = 4;
const CAPABLE_SYN_ACK: usize = 12;

fn cookie(len: usize) -> FastOpen {
    FastOpen::Cookie(FastOpenCookie::new(&[9; 16][..len]).expect("a length that cookies have"))
}

/// A client whose SYN has left with `len` bytes.
fn opened_with(config: TcpConfig, len: usize) -> (Script, Sent) {
    let mut script = Script::connect(config);
    assert!(script.tcb.offer_fast_open(cookie(8), 0));
    script.queue(1, len);
    let syn = script.sent_one();
    (script, syn)
}

fn syn_ack(ack: u32) -> Arriving {
    arriving(SYN | ACK, 0, ack).options(modern)
}

#[test]
fn options_of_a_handshake_never_pass_40_bytes() {
    for timestamps in [true, false] {
        let config = TcpConfig { timestamps, ..TcpConfig::default() };
        for (len, beside) in (0..=8).flat_map(|words| [(2 * words, 0), (2 * words, CAPABLE_SYN)]) {
            let option = match len {
                0 => FastOpen::Request,
                2 => continue,
                len => cookie(len),
            };
            let mut script = Script::connect(config);
            let fits = script.tcb.offer_fast_open(option, beside);
            // Of all that a SYN may have only the longest cookie beside MP_CAPABLE and timestamps is too much.
            assert_eq!(fits, !(timestamps && len == 16 && beside > 0), "{len} beside {beside}");
            let syn = script.sent_one();
            assert_eq!(syn.options.fast_open, fits.then_some(option));
            assert!(syn.options.wire_len() + beside <= OPTIONS_MAX);
        }
        // Our own cookies fit beside MP_CAPABLE on a SYN/ACK with all that we offer.
        let syn = arriving(SYN, 0, 0).options(modern).timestamps(500, 0);
        let mut script = Script::accept(config, syn);
        assert!(script.tcb.offer_fast_open(cookie(6), CAPABLE_SYN_ACK));
        assert!(script.sent_one().options.wire_len() + CAPABLE_SYN_ACK <= OPTIONS_MAX);
    }
    let syn = arriving(SYN, 0, 0).options(modern).timestamps(500, 0);
    let mut script = Script::accept(TcpConfig::default(), syn);
    assert!(!script.tcb.offer_fast_open(cookie(8), CAPABLE_SYN_ACK), "two bytes too many");
    assert_eq!(script.sent_one().options.fast_open, None);
}

#[test]
fn a_syn_with_a_cookie_takes_what_the_server_took_before_and_no_more_than_we_send() {
    let mut script = Script::connect(TcpConfig::default());
    assert_eq!(script.tcb.syn_payload_max(Mss::new(1460)), 0, "no cookie");
    script.tcb.offer_fast_open(FastOpen::Request, 0);
    assert_eq!(script.tcb.syn_payload_max(Mss::new(1460)), 0, "no cookie");
    script.tcb.offer_fast_open(cookie(8), 0);
    // Middleboxes may fill the options up.
    assert_eq!(script.tcb.syn_payload_max(Mss::new(1000)), 1000 - OPTIONS_MAX);
    assert_eq!(script.tcb.syn_payload_max(Mss::new(9000)), 1460 - OPTIONS_MAX);
    script.sent();
    assert_eq!(script.tcb.syn_payload_max(Mss::new(1460)), 0, "it has left");
}

#[test]
fn data_leaves_with_a_syn_only_where_a_cookie_does_and_the_option_is_given_before() {
    for option in [None, Some(FastOpen::Request)] {
        let mut script = Script::connect(plain());
        option.into_iter().for_each(|option| assert!(script.tcb.offer_fast_open(option, 0)));
        assert_eq!(script.tcb.fast_open(), None, "nothing was said yet");
        script.queue(1, 300);
        let syn = script.sent_one();
        assert_eq!((syn.kind, syn.len, syn.options.fast_open), (OutgoingKind::Syn, 0, option));
        assert!(!script.tcb.offer_fast_open(cookie(8), 0), "the SYN has left");
        assert_eq!(script.tcb.fast_open().map(|report| report.asked), option);
        // A cookie that nobody asked for says nothing.
        script.arrive(syn_ack(1).options(|options| options.fast_open = Some(cookie(6))));
        assert_eq!(script.sent().iter().map(|sent| sent.len).sum::<usize>(), 300);
        let answer = script.tcb.fast_open().map(|report| report.answer.map(FastOpen::Cookie));
        assert_eq!(answer, option.map(|_| Some(cookie(6))));
        script.tcb.check();
    }
    // What a server says is no report of what it asked.
    let mut script = Script::accept(plain(), arriving(SYN, 0, 0).options(modern));
    assert!(script.tcb.offer_fast_open(cookie(6), 0));
    assert_eq!(script.sent_one().options.fast_open, Some(cookie(6)));
    assert_eq!(script.tcb.fast_open(), None);
}

#[test]
fn data_of_a_syn_that_is_acknowledged_is_done() {
    let (mut script, syn) = opened_with(plain(), 300);
    assert_eq!((syn.kind, syn.flags, syn.seq, syn.len), (OutgoingKind::Syn, SYN, 0, 300));
    assert_eq!(syn.options.fast_open, Some(cookie(8)));
    script.pass(20);
    script.arrive(syn_ack(301).options(|options| options.fast_open = Some(cookie(6))));
    let ack = script.sent_one();
    assert_eq!((ack.kind, ack.seq, ack.ack), (OutgoingKind::Ack, 301, 1));
    assert_eq!(script.events(), [TcpEvent::Established]);
    assert_eq!((script.tcb.acked_bytes(), script.tcb.in_flight(), script.tcb.unsent()), (300, 0, 0));
    assert_eq!(script.tcb.poll_timeout(), None, "nothing is outstanding");
    let report = script.tcb.fast_open().expect("asked");
    assert_eq!((report.asked, report.sent_bytes, report.acked_bytes), (cookie(8), 300, 300));
    assert_eq!(report.answer.map(FastOpen::Cookie), Some(cookie(6)));
    script.queue(1, 100);
    assert_eq!(script.sent_data(), [(301, 100)]);
    script.tcb.check();
}

#[test]
fn data_of_a_syn_that_is_not_acknowledged_follows_the_handshake_at_once() {
    for (acked, rest) in [(0, (1, 300)), (120, (121, 180))] {
        let (mut script, _) = opened_with(plain(), 300);
        script.pass(20);
        script.arrive(syn_ack(1 + acked));
        let sent = script.sent();
        // With the third ACK, not behind it.
        let data: Vec<_> = sent.iter().map(|sent| (sent.seq, sent.len)).collect();
        assert_eq!(data, [rest], "{sent:?}");
        // Its loss is no sign of congestion.
        assert_eq!(script.tcb.info().cwnd, 10 * 1460);
        script.tcb.check();
        script.pass(20);
        script.arrive(arriving(ACK, 1, 301));
        assert_eq!((script.tcb.acked_bytes(), script.tcb.poll_timeout()), (300, None));
        assert_eq!(script.tcb.fast_open().map(|report| report.acked_bytes), Some(acked));
    }
}

#[test]
fn an_answer_on_the_syn_ack_is_read_and_acknowledged_by_the_third_ack() {
    for fin in [false, true] {
        let (mut script, _) = opened_with(plain(), 300);
        script.pass(20);
        let flags = if fin { SYN | ACK | FIN } else { SYN | ACK };
        script.arrive(arriving(flags, 0, 301).options(modern).payload(100));
        let ack = script.sent_one();
        assert_eq!((ack.kind, ack.seq, ack.ack), (OutgoingKind::Ack, 301, 101 + u32::from(fin)));
        assert_eq!(script.read(), 100);
        let events = script.events();
        match fin {
            false => {
                assert_eq!((script.state(), &events[..]), (State::Established, &[TcpEvent::Established][..]))
            }
            true => assert_eq!(
                (script.state(), &events[..]),
                (State::CloseWait, &[TcpEvent::Established, TcpEvent::PeerFinished][..])
            ),
        }
        script.tcb.check();
    }
}

#[test]
fn what_the_servers_mss_is_too_small_for_is_cut_when_it_is_sent_again() {
    let (mut script, syn) = opened_with(plain(), 1200);
    assert_eq!(syn.len, 1200);
    script.arrive(syn_ack(1).options(|options| options.mss = Some(500)));
    let sent = script.sent();
    let data: Vec<_> = sent.iter().filter(|sent| sent.len > 0).map(|sent| (sent.seq, sent.len)).collect();
    assert_eq!(data, [(1, 500), (501, 500), (1001, 200)]);
    script.tcb.check();
}

#[test]
fn a_syn_that_is_sent_again_has_neither_data_nor_cookie_and_a_late_answer_counts() {
    for acked in [0, 300] {
        let (mut script, _) = opened_with(plain(), 300);
        script.pass_to_timer();
        let again = script.sent_one();
        assert!(again.retransmission && again.kind == OutgoingKind::Syn);
        assert_eq!((again.seq, again.len, again.options.fast_open), (0, 0, None));
        script.pass(20);
        // The answer to the second SYN, or to the first one after all.
        let accepted = script.arrive(syn_ack(1 + acked));
        assert!(accepted.accepted && script.state() == State::Established);
        let resent: usize = script.sent().iter().map(|sent| sent.len).sum();
        assert_eq!(resent as u32, 300 - acked);
        script.tcb.check();
    }
}

#[test]
fn an_answer_to_more_than_was_sent_is_refused() {
    let (mut script, _) = opened_with(plain(), 300);
    assert!(!script.arrive(syn_ack(302)).accepted);
    let reset = script.sent_one();
    assert_eq!((reset.kind, reset.seq), (OutgoingKind::Reset, 302));
    assert!(!script.arrive(syn_ack(0)).accepted);
    assert_eq!(script.state(), State::SynSent);
    // A reset counts that acknowledges the SYN or what went with it.
    script.sent();
    script.arrive(arriving(RST | ACK, 0, 301));
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Refused)]);
    assert_eq!(script.tcb.fast_open().map(|report| report.acked_bytes), Some(0));
}

#[test]
fn a_syn_that_is_too_long_for_the_path_leaves_again_without_its_data() {
    let (mut script, _) = opened_with(plain(), 1200);
    let addr = [10, 0, 0, 1].into();
    let tuple = FourTuple { local: Endpoint::new(addr, 1), remote: Endpoint::new(addr, 2) };
    let error = IcmpError { tuple, seq: script.tcb.iss(), kind: IcmpErrorKind::TooBig { mtu: 1000 } };
    script.tcb.handle_icmp(script.now, &error);
    let again = script.sent_one();
    assert_eq!((again.kind, again.len, again.options.fast_open), (OutgoingKind::Syn, 0, None));
    assert_eq!(again.options.mss, Some(960));
    script.tcb.handle_icmp(script.now, &error);
    assert!(script.sent().is_empty(), "once is enough");
    let (mut late, _) = opened_with(plain(), 1200);
    late.pass_to_timer();
    late.sent_one();
    late.tcb.handle_icmp(late.now, &error);
    assert!(late.sent().is_empty(), "it has left again by now");
    script.arrive(syn_ack(1));
    assert_eq!(script.sent_data(), [(1, 960), (961, 240)]);
    script.tcb.check();
}

#[test]
fn opens_that_cross_keep_the_data_of_the_syn() {
    let (mut script, _) = opened_with(plain(), 300);
    script.arrive(arriving(SYN, 0, 0).options(modern).payload(50));
    let answer = script.sent_one();
    assert_eq!((answer.kind, answer.ack, answer.len), (OutgoingKind::SynAck, 1, 0));
    assert_eq!(answer.options.fast_open, None, "it was said");
    script.arrive(syn_ack(1));
    assert_eq!(script.state(), State::Established);
    assert_eq!(script.sent().iter().map(|sent| sent.len).sum::<usize>(), 300);
    assert_eq!(script.read(), 0, "its data comes again");
    script.tcb.check();
}

/// A server that has taken `len` bytes of a SYN.
fn accepted_with(len: usize) -> Script {
    let syn = arriving(SYN, 0, 0).options(modern);
    let mut script = Script::accept(plain(), syn);
    let payload = chunk_of(&mut script.cache, &vec![7; len], 300).expect("not empty");
    assert!(script.tcb.take_syn_payload(1 << 16, Some(payload), &mut script.cache));
    script
}

#[test]
fn a_server_acknowledges_what_it_took_and_sends_before_the_handshake_is_over() {
    let mut script = accepted_with(200);
    assert_eq!(script.read(), 200, "the application has it");
    assert!(script.tcb.is_established() && script.state() == State::SynReceived);
    assert!(script.tcb.send_room() >= 4 * 1460, "an initial window");
    script.queue(2, 1000);
    let sent = script.sent();
    let told: Vec<_> = sent.iter().map(|sent| (sent.kind, sent.seq, sent.ack, sent.len)).collect();
    assert_eq!(
        told,
        [
            (OutgoingKind::SynAck, 0, 201, 0),
            (OutgoingKind::Data, 1, 201, 1000),
            (OutgoingKind::Data, 1001, 201, 1000)
        ]
    );
    script.tcb.check();
    script.pass(20);
    // The third ACK, with more data, acknowledges the first segment.
    script.arrive(arriving(ACK, 201, 1001).payload(50));
    assert_eq!((script.state(), script.read()), (State::Established, 50));
    assert_eq!(script.events(), [TcpEvent::Established]);
    assert_eq!((script.tcb.acked_bytes(), script.tcb.in_flight()), (1000, 1000));
    script.arrive(arriving(ACK, 251, 2001));
    assert_eq!((script.tcb.acked_bytes(), script.tcb.in_flight()), (2000, 0));
    script.tcb.check();
}

#[test]
fn early_data_that_was_lost_is_repaired_once_the_handshake_is_over() {
    let mut script = accepted_with(200);
    script.queue(1, 1000);
    assert_eq!(script.sent().len(), 2);
    // Nothing came through. The SYN/ACK is sent again, with what it acknowledges and nothing else.
    script.pass_to_timer();
    let again = script.sent_one();
    assert_eq!((again.kind, again.ack, again.len), (OutgoingKind::SynAck, 201, 0));
    script.pass(20);
    script.arrive(arriving(ACK, 201, 1));
    assert_eq!((script.state(), script.tcb.in_flight()), (State::Established, 1000));
    let waited = (0..4).find_map(|_| {
        script.pass_to_timer()?;
        script.sent().into_iter().find(|sent| (sent.seq, sent.len) == (1, 1000))
    });
    assert!(waited.is_some_and(|sent| sent.retransmission), "somebody watches");
    script.tcb.check();
}

#[test]
fn a_close_before_the_end_of_the_handshake_waits_for_it() {
    let mut script = accepted_with(200);
    script.queue(1, 100);
    script.tcb.close(script.now);
    let kinds: Vec<_> = script.sent().iter().map(|sent| (sent.kind, sent.flags)).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(kinds.iter().all(|(_, flags)| !flags.contains(FIN)), "{kinds:?}");
    script.pass(20);
    script.arrive(arriving(ACK, 201, 101));
    assert_eq!((script.state(), script.sent_one().kind), (State::FinWait1, OutgoingKind::Fin));
    script.tcb.check();
}

#[test]
fn no_more_of_a_syn_is_taken_than_there_is_room_for() {
    let syn = arriving(SYN, 0, 0).options(modern);
    let mut script = Script::accept(plain(), syn);
    let payload = chunk_of(&mut script.cache, &[7; 500], 300).expect("not empty");
    assert!(script.tcb.take_syn_payload(120, Some(payload), &mut script.cache));
    assert_eq!((script.read(), script.sent_one().ack), (120, 121));
}

#[test]
fn a_reset_ends_a_connection_that_began_with_data() {
    let mut script = accepted_with(200);
    script.queue(1, 100);
    script.sent();
    script.arrive(arriving(RST, 201, 0));
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Reset)]);
    assert_eq!(script.pass_to_timer(), None::<Duration>);
}
