//! Arbitrary segments, timers and calls: nothing panics, nothing is lost from the pool, and the counts stay true.

use super::script::{Script, plain};
use crate::base::{Prng, SeqNum};
use crate::tcp::{State, TcpConfig, WindowOwner};
use crate::wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

/// A number near one of `centers`, or anywhere.
fn near(prng: &mut Prng, centers: &[SeqNum]) -> SeqNum {
    if prng.chance(0.05) {
        return SeqNum::new(prng.next_u32());
    }
    let center = centers[prng.below(centers.len() as u64) as usize];
    match prng.below(4) {
        0 => center,
        1 => center + prng.below(3) as u32,
        2 => center - prng.below(3) as u32,
        _ => center + prng.below(20_000) as u32 - 10_000,
    }
}

fn segment(prng: &mut Prng, script: &Script) -> (TcpRepr, TcpOptions) {
    let tcb = &script.tcb;
    let ours = [tcb.snd_una(), tcb.snd_nxt(), tcb.iss()];
    let flags = match prng.below(20) {
        0 => prng.next_u32() as u8,
        1 => (TcpFlags::ACK | TcpFlags::FIN).bits(),
        2 => (TcpFlags::ACK | TcpFlags::SYN).bits(),
        _ => TcpFlags::ACK.bits(),
    };
    // A RST with the right number would end most runs early.
    let flags = if prng.chance(0.95) { flags & !TcpFlags::RST.bits() } else { flags };
    let mut options = TcpOptions::default();
    for _ in 0..prng.below(4) {
        options.sack.push((near(prng, &ours), near(prng, &ours)));
    }
    if prng.chance(0.7) {
        options.timestamps = Some(Timestamps { value: prng.below(50) as u32, echo: prng.next_u32() });
    }
    let tcp = TcpRepr {
        seq: near(prng, &[tcb.rcv_nxt(), tcb.irs()]),
        ack: near(prng, &ours),
        flags: TcpFlags::from_bits(flags),
        window: prng.below(0x1_0000) as u16 >> prng.below(16),
        urgent: 0,
    };
    (tcp, options)
}

fn act(prng: &mut Prng, script: &mut Script) {
    // As likely small as large.
    let amount = prng.next_u64() & ((1 << prng.below(20)) - 1);
    match prng.below(12) {
        0..=5 => {
            let (tcp, options) = segment(prng, script);
            let len = if prng.chance(0.5) { 0 } else { prng.below(1500) as usize };
            let payload = super::pair::chunk_of(&mut script.cache, &vec![0; len], 300);
            script.tcb.handle_segment(script.now, &tcp, &options, 3, payload, &mut script.cache);
        }
        6 => {
            let len = 1 + prng.below(3000) as usize;
            if script.tcb.send_room() >= len {
                script.queue(1, len);
            }
        }
        7 => script.reserved = (4 * prng.below(9) as usize, 4 * prng.below(7) as usize),
        8 => script.pass(amount >> 4),
        9 => script.tcb.set_receive_window(amount as u32),
        10 => {
            script.read();
        }
        _ => {
            if prng.chance(0.02) {
                script.tcb.close(script.now);
            }
            let tuple = crate::wire::FourTuple {
                local: crate::wire::Endpoint::new([10, 0, 0, 1].into(), 1),
                remote: crate::wire::Endpoint::new([10, 0, 0, 2].into(), 2),
            };
            let kind = crate::wire::IcmpErrorKind::TooBig { mtu: prng.below(2000) as u32 };
            let seq = near(prng, &[script.tcb.snd_una()]);
            if prng.chance(0.05) {
                script.tcb.handle_icmp(script.now, &crate::wire::IcmpError { tuple, seq, kind });
            }
        }
    }
}

#[test]
fn nothing_that_arrives_breaks_a_connection() {
    let mut ends = [0; 2];
    for seed in 0..400 {
        let mut prng = Prng::new(seed);
        let config = TcpConfig {
            timestamps: seed % 2 == 0,
            sack: seed % 3 != 0,
            window_owner: if seed % 5 == 0 { WindowOwner::Connection } else { WindowOwner::Subflow },
            retries: 100,
            ..plain()
        };
        let mut script = Script::established(config);
        for _ in 0..400 {
            act(&mut prng, &mut script);
            for sent in script.sent() {
                assert!(sent.len + sent.sack.len() * 8 <= 1460, "{sent:?}");
            }
            script.tcb.check();
        }
        ends[usize::from(script.state() == State::Closed)] += 1;
        script.tcb.drop_all(&mut script.cache);
        assert_eq!(script.cache.pool().used(), 0, "seed {seed}");
    }
    assert!(ends[0] > 100, "most runs see the whole of it: {ends:?}");
}
