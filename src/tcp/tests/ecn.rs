//! Congestion marks: RFC 3168, and the accurate echo of RFC 8257.

use super::script::{ACK, RST, SYN, Script, arriving, modern, plain};
use crate::cc::CongestionAlgorithm;
use crate::tcp::{CloseReason, EcnEcho, EcnMode, OutgoingKind, RecoveryPhase, TcpConfig, TcpEvent};
use crate::wire::TcpFlags;

const ECE: TcpFlags = TcpFlags::ECE;
const CWR: TcpFlags = TcpFlags::CWR;
/// ECT(0), and CE.
const CAPABLE: u8 = 2;
const MARKED: u8 = 3;

fn asking() -> TcpConfig {
    TcpConfig { ecn: EcnMode::Request, ..plain() }
}

/// A client that asked and was answered.
fn agreed() -> Script {
    let mut script = Script::connect(asking());
    let syn = script.sent_one();
    assert!(syn.flags.contains(ECE | CWR), "an ECN-setup SYN");
    assert_eq!(syn.ecn, 0, "RFC 3168 §6.1.1: a host MUST NOT set ECT on SYN packets");
    script.pass(20);
    script.arrive(arriving(SYN | ACK | ECE, 0, 1).options(modern));
    assert_eq!(script.sent_one().ecn, 0, "RFC 3168 §6.1.4: nor on pure acknowledgments");
    script.events();
    assert!(script.tcb.info().agreed.ecn);
    script
}

/// A server that was asked.
fn accepted(config: TcpConfig) -> Script {
    let mut script = Script::accept(config, arriving(SYN | ECE | CWR, 0, 0).options(modern));
    let syn_ack = script.sent_one();
    assert!(syn_ack.flags.contains(ECE) && !syn_ack.flags.contains(CWR), "an ECN-setup SYN/ACK");
    script.pass(20);
    script.arrive(arriving(ACK, 1, 1));
    script.events();
    script
}

#[test]
fn only_new_data_is_capable() {
    let mut script = agreed();
    script.queue(4, 1000);
    assert!(script.sent().iter().all(|sent| sent.ecn == CAPABLE));
    script.pass_to_timer();
    let probe = script.sent_one();
    assert_eq!((probe.retransmission, probe.ecn), (true, 0), "RFC 3168 §6.1.5");
    script.tcb.close(script.now);
    assert_eq!(script.sent_one().ecn, 0, "no data in a FIN");
}

#[test]
fn nobody_asks_by_default_and_who_is_asked_accepts() {
    let mut script = Script::connect(plain());
    assert_eq!(script.sent_one().flags, SYN);
    let script = accepted(plain());
    assert!(script.tcb.info().agreed.ecn);
    let mut off = Script::accept(
        TcpConfig { ecn: EcnMode::Off, ..plain() },
        arriving(SYN | ECE | CWR, 0, 0).options(modern),
    );
    assert_eq!(off.sent_one().flags, SYN | ACK);
}

#[test]
fn an_echo_halves_once_a_window_and_is_answered() {
    for (congestion, window) in [(CongestionAlgorithm::Reno, 7_300), (CongestionAlgorithm::Cubic, 10_220)] {
        let mut script = Script::connect(TcpConfig { congestion, ..asking() });
        script.sent();
        script.pass(20);
        script.arrive(arriving(SYN | ACK | ECE, 0, 1).options(modern));
        script.sent();
        script.queue(10, 1460);
        script.sent();
        script.pass(20);
        for ack in 1..=10 {
            script.arrive(arriving(ACK | ECE, 1, 1 + ack * 1460));
        }
        let info = script.tcb.info();
        assert_eq!((info.cwnd, info.delivered_marked), (window, 14_600), "{congestion:?}");
        script.queue(2, 1000);
        let sent = script.sent();
        assert!(sent[0].flags.contains(CWR) && !sent[1].flags.contains(CWR), "the first new data says so");
        script.pass(20);
        // The peer does not know yet when it sends this.
        script.arrive(arriving(ACK | ECE, 1, 14_601));
        script.arrive(arriving(ACK, 1, 16_601));
        // It may grow by what follows, but is not halved again.
        assert!((window..window + 1000).contains(&script.tcb.info().cwnd), "{:?}", script.tcb.info());
        script.queue(2, 1000);
        script.sent();
        script.pass(20);
        script.arrive(arriving(ACK | ECE, 1, 18_601));
        assert!(script.tcb.info().cwnd < window, "a mark in the next window");
    }
}

#[test]
fn the_window_comes_down_over_a_round_trip() {
    // RFC 9937 for marks, as for losses: no half window of silence.
    let mut script = agreed();
    script.queue(30, 1460);
    assert_eq!(script.sent_data().len(), 10);
    script.pass(20);
    let counts: Vec<usize> = (1..=10)
        .map(|ack| {
            script.arrive(arriving(ACK | ECE, 1, 1 + ack * 1460));
            script.sent().len()
        })
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 5, "{counts:?}");
    assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
}

#[test]
fn a_loss_and_a_mark_in_one_window_count_once() {
    let mut script = agreed();
    script.queue(10, 1460);
    script.sent();
    script.pass(20);
    script.arrive(arriving(ACK | ECE, 1, 1461));
    let window = script.tcb.info().cwnd;
    script.arrive(arriving(ACK | ECE, 1, 1461).sack(&[(2921, 7301)]));
    let info = script.tcb.info();
    assert_eq!((info.cwnd, info.recovery), (window, RecoveryPhase::Fast));
    assert_eq!(script.sent_data(), [(1461, 1460)]);
}

#[test]
fn with_one_segment_the_next_waits_for_a_time_out() {
    // RFC 3168 §6.1.2.
    let mut script = agreed();
    script.queue(20, 1460);
    loop {
        let sent = script.sent_data();
        let Some((seq, len)) = sent.last() else { break };
        script.pass(20);
        script.arrive(arriving(ACK | ECE, 1, seq + *len as u32));
    }
    assert_eq!((script.tcb.info().cwnd, script.tcb.in_flight()), (1460, 0));
    let rto = script.tcb.rto();
    assert_eq!(script.pass_to_timer(), Some(rto));
    assert!(!script.sent_data().is_empty());
}

#[test]
fn marks_are_echoed_until_the_sender_has_reduced() {
    let mut script = accepted(plain());
    script.arrive(arriving(ACK, 1, 1).payload(1000).ecn(MARKED));
    assert!(script.sent_one().flags.contains(ECE));
    script.arrive(arriving(ACK, 1001, 1).payload(1000).ecn(CAPABLE));
    assert!(script.sent_one().flags.contains(ECE), "RFC 3168 §6.1.3: in case the first ACK was lost");
    script.arrive(arriving(ACK | CWR, 2001, 1).payload(1000).ecn(CAPABLE));
    assert!(!script.sent_one().flags.contains(ECE));
    // RFC 3168 §6.1.5: a duplicate says nothing.
    script.arrive(arriving(ACK, 1, 1).payload(1000).ecn(MARKED));
    assert!(!script.sent_one().flags.contains(ECE));
}

#[test]
fn the_accurate_echo_is_told_at_each_change() {
    let config = TcpConfig { ecn_echo: EcnEcho::Accurate, ..plain() };
    let mut script = accepted(config);
    // Beyond the quick ACKs of the beginning.
    let mut seq = 1;
    for _ in 0..16 {
        script.arrive(arriving(ACK, seq, 1).payload(1000).ecn(CAPABLE));
        seq += 1000;
        assert!(!script.sent_one().flags.contains(ECE));
    }
    script.arrive(arriving(ACK, seq, 1).payload(1000).ecn(CAPABLE));
    assert!(script.sent().is_empty(), "delayed");
    script.arrive(arriving(ACK, seq + 1000, 1).payload(1000).ecn(MARKED));
    script.arrive(arriving(ACK, seq + 2000, 1).payload(1000).ecn(MARKED));
    script.arrive(arriving(ACK, seq + 3000, 1).payload(1000).ecn(CAPABLE));
    let told: Vec<(u32, bool)> =
        script.sent().iter().map(|ack| (ack.ack - seq, ack.flags.contains(ECE))).collect();
    assert_eq!(told, [(1000, false), (3000, true), (4000, false)], "RFC 8257 §3.2: what was before, apart");
}

#[test]
fn a_syn_without_an_answer_is_repeated_without_the_request() {
    let mut script = Script::connect(asking());
    assert!(script.sent_one().flags.contains(ECE | CWR));
    script.pass_to_timer();
    assert_eq!(script.sent_one().flags, SYN, "RFC 3168 §6.1.1.1");
    script.arrive(arriving(SYN | ACK | ECE, 0, 1).options(modern));
    assert!(!script.tcb.info().agreed.ecn, "RFC 3168 §6.1.1: it has sent a non-ECN-setup SYN");
}

#[test]
fn a_refusal_may_be_due_to_the_request() {
    let mut script = Script::connect(asking());
    script.sent();
    script.arrive(arriving(RST | ACK, 0, 1));
    assert_eq!(script.sent_one().flags, SYN);
    script.arrive(arriving(RST | ACK, 0, 1));
    assert_eq!(script.events(), [TcpEvent::Closed(CloseReason::Refused)]);
    let mut plain = Script::connect(plain());
    plain.sent();
    plain.arrive(arriving(RST | ACK, 0, 1));
    assert_eq!(plain.events(), [TcpEvent::Closed(CloseReason::Refused)], "nothing to blame it on");
}

#[test]
fn without_agreement_marks_mean_nothing() {
    let mut script = Script::established(plain());
    script.arrive(arriving(ACK, 1, 1).payload(1000).ecn(MARKED));
    assert_eq!(script.sent_one().flags, ACK);
    script.queue(10, 1460);
    assert!(script.sent().iter().all(|sent| sent.ecn == 0));
    script.pass(20);
    script.arrive(arriving(ACK | ECE, 1001, 14_601));
    assert_eq!(script.tcb.info().ssthresh, u64::MAX);
    assert_eq!(script.tcb.info().counters.congestion_marks, 1);
    assert!(script.sent().iter().all(|sent| sent.kind != OutgoingKind::Data));
}
