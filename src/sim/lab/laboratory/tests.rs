//! Whole experiments, small ones: they are functions of their seeds, bytes arrive as they were sent, and every frame comes
//! back.

use super::*;
use crate::sim::lab::flow::Ends;
use crate::sim::lab::graph::Choice;
use crate::sim::lab::topology::tree::FatTree;
use crate::sim::lab::workload;
use crate::stack::ConnectOptions;

mod coupling;

const FRAMES_PER_HOST: usize = 2048;

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn tree(choice: Choice, loss: f64) -> FatTree {
    let link = LineConfig { delay: Duration::from_micros(5), loss, ..LineConfig::default() };
    FatTree { k: 4, link, oversubscription: 1, choice, answers_aside: false }
}

fn permutation(seed: u64, subflows: usize, choice: Choice) -> Setup {
    let tree = tree(choice, 0.0);
    let options =
        ConnectOptions { receive_buffer: 1 << 20, send_buffer: 1 << 20, ..ConnectOptions::default() };
    Setup {
        groups: vec![Group { name: "bulk".into(), options }],
        flows: workload::permutation(tree.hosts(), subflows, Duration::from_millis(5), seed),
        ..Setup::new(seed, tree.build(seed), tree.hosts() * FRAMES_PER_HOST)
    }
}

/// The trace of a run of `millis`, and the bytes that each flow's receiver has read.
fn run(setup: Setup, millis: u64) -> (u64, Vec<u64>) {
    let mut lab = Laboratory::new(setup);
    lab.run_until(ms(millis)).expect("nothing goes wrong");
    assert_eq!(lab.fabric().unroutable(), 0);
    let received = lab.flows().list().iter().map(|flow| flow.received).collect();
    let trace = lab.trace();
    lab.close().expect("every frame comes back");
    (trace, received)
}

#[test]
fn a_seed_gives_one_trace_in_every_run_and_another_seed_another() {
    for (subflows, choice) in [(1, Choice::Ecmp), (3, Choice::Random), (4, Choice::Distinct)] {
        let first = run(permutation(7, subflows, choice), 60);
        assert_eq!(first, run(permutation(7, subflows, choice), 60), "{choice:?}");
        assert_ne!(first.0, run(permutation(8, subflows, choice), 60).0, "{choice:?}");
        assert!(first.1.iter().all(|received| *received > 0), "every flow runs: {:?}", first.1);
    }
}

#[test]
fn a_run_in_pieces_is_the_same_run() {
    let whole = run(permutation(3, 2, Choice::Ecmp), 40);
    let mut lab = Laboratory::new(permutation(3, 2, Choice::Ecmp));
    let mut prng = Prng::new(5);
    let mut at = Instant::ZERO;
    while at < ms(40) {
        at = (at + Duration::from_nanos(prng.below(700_000))).min(ms(40));
        lab.run_until(at).expect("nothing goes wrong");
    }
    assert_eq!(lab.trace(), whole.0);
    lab.close().expect("every frame comes back");
}

#[test]
fn more_subflows_find_more_of_the_fabric() {
    let received =
        |subflows| run(permutation(1, subflows, Choice::Distinct), 400).1.iter().sum::<u64>() as f64;
    let (one, four) = (received(1), received(4));
    let optimum = 16.0 * 100e6 / 8.0 * 0.4;
    assert!(one > 0.3 * optimum && four < optimum, "one: {}, four: {}", one / optimum, four / optimum);
    assert!(four > 1.1 * one, "one: {}, four: {}", one / optimum, four / optimum);
}

#[test]
fn over_lossy_lines_every_byte_arrives_as_it_was_sent() {
    let mut setup = permutation(2, 2, Choice::Ecmp);
    setup.network = tree(Choice::Ecmp, 0.01).build(2);
    setup.host.pattern = Some(99);
    setup.flows.iter_mut().for_each(|flow| flow.size = Some(300_000));
    let mut lab = Laboratory::new(setup);
    lab.run_until(ms(20_000)).expect("nothing goes wrong");
    for flow in lab.flows().list() {
        assert_eq!((flow.received, flow.failed), (300_000, None));
        assert!(
            flow.completion_time().expect("finished") >= Duration::from_millis(24),
            "as fast as the line"
        );
    }
    lab.close().expect("every frame comes back");
}

#[test]
fn a_line_that_goes_down_takes_its_flows_with_it_and_others_carry_on() {
    // The first host's line into the fabric: both subflows of the first flow need it, those of others do not.
    let mut setup = permutation(4, 2, Choice::Ecmp);
    setup.changes = vec![(ms(50), Change::Down(LineId(0), None))];
    let mut lab = Laboratory::new(setup);
    lab.run_until(ms(100)).expect("nothing goes wrong");
    let received = |lab: &Laboratory| -> Vec<u64> { lab.flows().list().iter().map(|f| f.received).collect() };
    let before = received(&lab);
    lab.run_until(ms(200)).expect("nothing goes wrong");
    let grown: Vec<bool> = received(&lab).iter().zip(&before).map(|(after, before)| after > before).collect();
    // Besides what host 0 sends, the acknowledgments of what it receives are gone.
    assert!(!grown[0], "the first flow has stopped");
    assert_eq!(grown.iter().filter(|grown| **grown).count(), 14, "{grown:?}");
    assert!(lab.fabric().lines()[0].counters().lost_down > 0);
    lab.close().expect("every frame comes back");
}

#[test]
fn a_run_for_which_the_frames_do_not_suffice_says_so() {
    let mut setup = permutation(5, 1, Choice::Ecmp);
    setup.frames = 16 * 40;
    setup.flows.truncate(2);
    setup.flows.push(FlowSpec { subflows: vec![Ends { from: 0, to: 0 }], ..setup.flows[0].clone() });
    let mut lab = Laboratory::new(setup);
    let fault = lab.run_until(ms(100)).expect_err("there are too few frames");
    assert!(fault.what.contains("0 of 640 frames are free"), "{fault}");
    lab.close().expect("every frame comes back");
}
