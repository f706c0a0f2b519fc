//! What coupling is for: subflows together take what one TCP connection takes, and go where there is less loss.

use super::*;
use crate::cc::{CongestionAlgorithm, CoupledAlgorithm};
use crate::sim::lab::topology::shared::SharedLines;
use crate::sim::pipe::QueueLimit;

const LIA: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Lia);
const OLIA: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Olia);
const BALIA: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Balia);
const EWTCP: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Ewtcp);
const FULL: CongestionAlgorithm = CongestionAlgorithm::Coupled(CoupledAlgorithm::Full);
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
    let mut lab = Laboratory::new(Setup {
        groups: groups.into(),
        flows: (0..shared.users.len()).map(&mut flow).collect(),
        ..Setup::new(seed, shared.build(), 16_384)
    });
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
