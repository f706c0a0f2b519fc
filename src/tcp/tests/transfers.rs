//! Whole transfers over good and bad links.

use super::pair::{Link, Pair};
use crate::base::time::Duration;
use crate::tcp::{CloseReason, TcpConfig, TcpEvent, WindowOwner};
use crate::wire::{IcmpError, IcmpErrorKind, Mss, TcpFlags};

fn bad_link(loss: f64, jitter_ms: u64) -> Link {
    Link { loss, jitter: Duration::from_millis(jitter_ms), duplication: 0.01, ..Link::clean() }
}

/// Moves data both ways over `link` and checks that all arrived.
fn transfer(seed: u64, config: TcpConfig, link: Link) -> Pair {
    let mut pair = Pair::new(seed, [config; 2], link);
    pair.connect();
    let (there, back) = (pair.prng.below(200_000) as usize, pair.prng.below(100_000) as usize);
    pair.load(0, there);
    pair.load(1, back);
    pair.run();
    pair.check_complete();
    pair
}

fn data_in_flight(pair: &Pair) -> usize {
    pair.flying.iter().filter(|segment| segment.to == 1 && !segment.payload.is_empty()).count()
}

#[test]
fn bytes_go_both_ways_and_both_close() {
    let mut pair = Pair::new(1, [TcpConfig::default(); 2], Link::clean());
    pair.connect();
    pair.load(0, 1_000_000);
    pair.load(1, 300_000);
    pair.run();
    pair.check_complete();
    for host in &pair.hosts {
        let finished = TcpEvent::Closed(CloseReason::Finished);
        assert_eq!(host.events, [TcpEvent::Established, TcpEvent::PeerFinished, finished]);
    }
    assert!(pair.log.iter().all(|segment| !segment.retransmission), "nothing is lost on a clean link");
}

#[test]
fn every_byte_survives_a_bad_link() {
    for seed in 0..60 {
        let config = TcpConfig {
            sack: seed % 2 == 0,
            timestamps: seed % 3 != 0,
            retries: 40,
            syn_retries: 12,
            window_scale: (seed % 5) as u8 * 2,
            ..TcpConfig::default()
        };
        transfer(seed, config, bad_link([0.0, 0.01, 0.05, 0.2][seed as usize % 4], seed % 7 * 3));
    }
}

#[test]
fn every_byte_survives_when_the_connection_owns_the_window() {
    for seed in 100..120 {
        let config =
            TcpConfig { window_owner: WindowOwner::Connection, syn_retries: 12, ..TcpConfig::default() };
        transfer(seed, config, bad_link(0.03, 4));
    }
}

#[test]
fn a_single_loss_costs_one_retransmission_and_no_time_out() {
    for sack in [true, false] {
        let config = TcpConfig { sack, ..TcpConfig::default() };
        let mut pair = Pair::new(3, [config; 2], Link::clean());
        pair.connect();
        pair.load(0, 400_000);
        pair.run_until(|pair| pair.hosts[1].received.len() > 30_000 && data_in_flight(pair) > 20);
        let victim = pair.flying.iter().position(|segment| segment.to == 1 && !segment.payload.is_empty());
        pair.flying.remove(victim.expect("data is in the air"));
        pair.run();
        pair.check_complete();
        let counters = pair.hosts[0].tcb().info().counters;
        assert_eq!((counters.fast_recoveries, counters.timeouts, counters.retransmits), (1, 0, 1), "{sack}");
    }
}

#[test]
fn many_losses_in_a_window_are_repaired_in_one_episode() {
    for (sack, timeouts) in [(true, 0), (false, 0)] {
        let config = TcpConfig { sack, ..TcpConfig::default() };
        let mut pair = Pair::new(4, [config; 2], Link::clean());
        pair.connect();
        pair.load(0, 600_000);
        pair.run_until(|pair| pair.hosts[1].received.len() > 30_000 && data_in_flight(pair) > 40);
        let mut lost = 0;
        let mut seen = 0;
        pair.flying.retain(|segment| {
            let data = segment.to == 1 && !segment.payload.is_empty();
            seen += usize::from(data);
            let keep = !(data && seen % 4 == 1 && seen < 40);
            lost += u64::from(!keep);
            keep
        });
        assert!(lost >= 5, "{lost}");
        pair.run();
        pair.check_complete();
        let counters = pair.hosts[0].tcb().info().counters;
        assert_eq!((counters.fast_recoveries, counters.timeouts), (1, timeouts), "sack {sack}");
        assert_eq!(counters.retransmits, lost, "sack {sack}: each lost segment once");
    }
}

#[test]
fn a_simultaneous_open_carries_data() {
    for seed in 0..20 {
        let config = TcpConfig { syn_retries: 12, ..TcpConfig::default() };
        let mut pair = Pair::new(seed, [config; 2], bad_link(0.02 * (seed % 3) as f64, 1));
        pair.connect_both();
        pair.load(0, 50_000);
        pair.load(1, 50_000);
        pair.run();
        pair.check_complete();
        assert!(pair.hosts.iter().all(|host| host.events.first() == Some(&TcpEvent::Established)
            || host.events.contains(&TcpEvent::Established)));
    }
}

#[test]
fn a_reader_that_stops_closes_the_window_and_probes_open_it_again() {
    let mut pair = Pair::new(5, [TcpConfig::default(); 2], Link::clean());
    pair.hosts[1].buffer = 40_000;
    pair.hosts[1].reads = false;
    pair.connect();
    pair.load(0, 200_000);
    let stop = pair.now + Duration::from_secs(30);
    pair.run_until(|pair| pair.now > stop);
    assert!(pair.hosts[1].received.is_empty());
    let probes = pair.hosts[0].tcb().info().counters.probes;
    assert!((4..12).contains(&probes), "{probes} probes in 30 s, with back-off");
    assert_eq!(pair.hosts[0].tcb().info().counters.retransmits, 0);
    // The window update that reading causes is lost; a probe finds the window open.
    pair.hosts[1].reads = true;
    pair.link.loss = 1.0;
    let instant = pair.now;
    pair.run_until(|pair| pair.now >= instant);
    pair.link.loss = 0.0;
    pair.run();
    pair.check_complete();
}

#[test]
fn a_slow_reader_never_gets_more_than_its_buffer() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed, [TcpConfig::default(); 2], bad_link(0.01, 2));
        pair.hosts[1].buffer = 3_000 + 777 * seed as u32;
        pair.connect();
        pair.load(0, 60_000);
        pair.run();
        pair.check_complete();
        assert_eq!(pair.hosts[1].tcb().info().counters.dropped, 0, "the sender kept to the window");
    }
}

#[test]
fn half_closed_both_ways() {
    for sender in [0, 1] {
        let mut pair = Pair::new(6, [TcpConfig::default(); 2], Link::clean());
        pair.connect();
        pair.hosts[sender].closes = false;
        pair.run_until(move |pair| pair.hosts[sender].events.contains(&TcpEvent::PeerFinished));
        pair.load(sender, 100_000);
        pair.hosts[sender].closes = true;
        pair.run();
        pair.check_complete();
    }
}

#[test]
fn a_path_that_shrinks_splits_what_is_in_flight_and_queued() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed, [TcpConfig::default(); 2], bad_link(0.01, 1));
        pair.connect();
        pair.load(0, 300_000);
        pair.run_until(|pair| pair.hosts[1].received.len() > 60_000);
        let window = pair.hosts[0].tcb().info().cwnd;
        let tcb = pair.hosts[0].tcb();
        let seq = tcb.snd_una();
        let tuple = crate::wire::FourTuple {
            local: crate::wire::Endpoint::new([10, 0, 0, 1].into(), 1),
            remote: crate::wire::Endpoint::new([10, 0, 0, 2].into(), 2),
        };
        assert!(tcb.in_flight() > 0);
        let now = pair.now;
        let tcb = pair.hosts[0].tcb();
        tcb.handle_icmp(now, &IcmpError { tuple, seq: seq - 1, kind: IcmpErrorKind::TooBig { mtu: 700 } });
        assert_eq!(tcb.mss(), Mss::new(1460), "not in flight: not believed (RFC 5927)");
        tcb.handle_icmp(now, &IcmpError { tuple, seq, kind: IcmpErrorKind::TooBig { mtu: 700 } });
        assert_eq!(tcb.mss(), Mss::new(660));
        assert_eq!(tcb.info().cwnd, window, "no congestion");
        tcb.handle_icmp(now, &IcmpError { tuple, seq, kind: IcmpErrorKind::TooBig { mtu: 1400 } });
        assert_eq!(tcb.mss(), Mss::new(660), "never raised");
        let before = pair.log.len();
        pair.run();
        pair.check_complete();
        assert!(pair.log[before..].iter().any(|segment| segment.retransmission));
    }
}

#[test]
fn a_peer_without_options_is_served() {
    for seed in 0..5 {
        let config = TcpConfig { sack: false, timestamps: false, ..TcpConfig::default() };
        let mut pair = Pair::new(seed, [TcpConfig::default(), config], bad_link(0.02, 1));
        pair.connect();
        pair.load(0, 80_000);
        pair.run();
        pair.check_complete();
        let plain = pair.log.iter().filter(|segment| !segment.tcp.flags.contains(TcpFlags::SYN));
        assert!(plain.into_iter().all(|s| s.options.timestamps.is_none() && s.options.sack.is_empty()));
    }
}
