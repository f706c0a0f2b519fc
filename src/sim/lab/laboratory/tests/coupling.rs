//! What coupling is for: subflows together take what one TCP connection takes, and go where there is less loss.

use super::*;
use crate::cc::{CongestionAlgorithm, CoupledAlgorithm};
use crate::mptcp::CouplingScope;
use crate::sim::lab::topology::shared::SharedLines;
use crate::sim::pipe::QueueLimit;

const LIA: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Lia);
const OLIA: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Olia);
const BALIA: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Balia);
const EWTCP: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Ewtcp);
const FULL: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Full);
const WVEGAS: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Wvegas);
/// What is before counts nowhere.
const WARM_UP_S: u64 = 10;

fn line(mbps: u64, packets: usize, loss: f64) -> LineConfig {
    LineConfig {
        rate_bps: mbps * 1_000_000,
        queue: QueueLimit::Packets(packets),
        loss,
        ..LineConfig::default()
    }
}

fn group(name: &str, congestion: CongestionAlgorithm, mptcp: bool) -> Group {
    let options = ConnectOptions { congestion, mptcp, ..ConnectOptions::default() };
    Group { name: name.into(), options }
}

/// Runs user 0 with the first group and all others with the second. Bytes of each flow between the warm-up and the end.
fn run(shared: &SharedLines, groups: [Group; 2], seed: u64, seconds: u64) -> (Vec<u64>, Laboratory) {
    let mut prng = Prng::new(seed);
    let mut flow = |user: usize| {
        let start = Instant::from_nanos(prng.below(1_000_000_000));
        shared.flow(user, user.min(1), start)
    };
    let flows = (0..shared.users.len()).map(&mut flow).collect();
    run_flows(shared, groups, flows, seed, seconds)
}

/// The same with flows of any user and group.
fn run_flows(
    shared: &SharedLines,
    groups: [Group; 2],
    flows: Vec<FlowSpec>,
    seed: u64,
    seconds: u64,
) -> (Vec<u64>, Laboratory) {
    let groups = groups.into();
    let mut lab = Laboratory::new(Setup { groups, flows, ..Setup::new(seed, shared.build(), 16_384) });
    let received = |lab: &Laboratory| -> Vec<u64> { lab.flows().list().iter().map(|f| f.received).collect() };
    lab.run_until(ms(WARM_UP_S * 1000)).expect("nothing goes wrong");
    let before = received(&lab);
    lab.run_until(ms((WARM_UP_S + seconds) * 1000)).expect("nothing goes wrong");
    (received(&lab).iter().zip(before).map(|(after, before)| after - before).collect(), lab)
}

/// What a connection with `subflows` over one bottleneck gets, in parts of what a TCP connection beside it gets.
fn share(congestion: CongestionAlgorithm, subflows: usize) -> f64 {
    let shared = SharedLines::dumbbell(line(10, 40, 0.0), &[1, subflows], Duration::from_millis(20));
    let groups = || [group("tcp", CongestionAlgorithm::Reno, false), group("multipath", congestion, true)];
    let mut sums = [0, 0];
    for seed in 1..=3 {
        let (got, lab) = run(&shared, groups(), seed, 30);
        lab.close().expect("every frame comes back");
        sums.iter_mut().zip(got).for_each(|(sum, got)| *sum += got);
    }
    sums[1] as f64 / sums[0] as f64
}

#[test]
fn coupled_subflows_together_take_one_share_and_others_one_each() {
    let uncoupled = share(CongestionAlgorithm::Reno, 2);
    assert!((1.6..2.5).contains(&uncoupled), "uncoupled: {uncoupled}");
    for algorithm in [LIA, OLIA, BALIA, EWTCP, FULL] {
        let coupled = share(algorithm, 2);
        assert!((0.7..1.4).contains(&coupled), "{algorithm:?}: {coupled}");
    }
}

/// What four connections over one bottleneck get together, in parts of what a TCP connection beside them gets.
fn share_of_four(coupling: CouplingScope, mptcp: bool) -> f64 {
    let shared = SharedLines::dumbbell(line(20, 60, 0.0), &[1, 2], Duration::from_millis(20));
    let options = ConnectOptions { congestion: LIA, mptcp, coupling, ..ConnectOptions::default() };
    let mut sums = [0, 0];
    for seed in 1..=3 {
        let groups = [group("tcp", CongestionAlgorithm::Reno, false), Group { name: "four".into(), options }];
        let flow = |flow: u64| {
            let user = usize::from(flow > 0);
            let mut spec = shared.flow(user, user, Instant::from_millis(100 * flow));
            spec.subflows.truncate(if mptcp { 2 } else { 1 });
            spec
        };
        let (got, lab) = run_flows(&shared, groups, (0..5).map(flow).collect(), seed, 30);
        lab.close().expect("every frame comes back");
        sums[0] += got[0];
        sums[1] += got[1..].iter().sum::<u64>();
    }
    sums[1] as f64 / sums[0] as f64
}

#[test]
fn a_bundle_of_connections_takes_one_share_and_others_one_each() {
    for mptcp in [false, true] {
        let each = share_of_four(CouplingScope::Connection, mptcp);
        assert!((2.8..5.6).contains(&each), "each for itself: {each} ({mptcp})");
        let bundle = share_of_four(CouplingScope::Bundle, mptcp);
        assert!((0.6..1.6).contains(&bundle), "a bundle: {bundle} ({mptcp})");
    }
}

/// The part of its data that a connection sends over the first of two paths, of which the first loses more.
fn over_the_lossy_path(congestion: CongestionAlgorithm) -> f64 {
    let rtt = Duration::from_millis(20);
    let shared = SharedLines::parallel(vec![(line(1000, 1000, 0.02), rtt), (line(1000, 1000, 0.005), rtt)]);
    let groups = [group("multipath", congestion, true), group("nobody", congestion, true)];
    let (_, lab) = run(&shared, groups, 1, 30);
    let sent = |line: usize| lab.fabric().lines()[line].counters().sent_bytes as f64;
    let part = sent(0) / (sent(0) + sent(1));
    lab.close().expect("every frame comes back");
    part
}

#[test]
fn coupled_windows_leave_the_path_that_loses_more() {
    // Uncoupled windows go with 1/sqrt(p): one to two. LIA's with 1/p: one to four. OLIA and the fully coupled keep a segment
    // or two there.
    let [reno, lia, olia, full] = [CongestionAlgorithm::Reno, LIA, OLIA, FULL].map(over_the_lossy_path);
    assert!((0.28..0.39).contains(&reno), "{reno}");
    assert!((0.14..0.26).contains(&lia), "{lia}");
    assert!(olia < lia && full < lia, "{lia} {olia} {full}");
}

/// What one connection gets of two links of 10 and 20 Mbit/s, in parts of both, and how many packets their queues drop.
fn fills(congestion: CongestionAlgorithm) -> (f64, u64) {
    let rtt = Duration::from_millis(20);
    let shared = SharedLines::parallel(vec![(line(10, 60, 0.0), rtt), (line(20, 60, 0.0), rtt)]);
    let groups = [group("multipath", congestion, true), group("nobody", congestion, true)];
    let (got, lab) = run(&shared, groups, 1, 30);
    let dropped = lab.fabric().lines().iter().map(|line| line.counters().queue_drops).sum();
    lab.close().expect("every frame comes back");
    (got.iter().sum::<u64>() as f64 * 8.0 / (30.0 * 30e6), dropped)
}

#[test]
fn wvegas_fills_both_links_and_their_queues_do_not_overflow() {
    let (part, dropped) = fills(WVEGAS);
    assert!(part > 0.85 && dropped == 0, "{part}, {dropped}");
    let (part, dropped) = fills(LIA);
    assert!(part > 0.85 && dropped > 20, "loss is what LIA goes by: {part}, {dropped}");
}
