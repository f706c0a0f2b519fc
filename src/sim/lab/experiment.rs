//! Runs the cells of a plan. A result is a function of the plan and of the cell.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::sim::lab::flow::Group;
use crate::sim::lab::laboratory::{Fault, Laboratory, Setup};
use crate::sim::lab::plan::{Cell, Plan, Workload, WorkloadKind};
use crate::sim::lab::workload;
use crate::stack::ConnectOptions;
use serde::Serialize;

/// Frames a host, besides what its two buffers need: what is on its way, and what is held for a little payload.
const FRAMES_PER_HOST: usize = 512;
/// Bytes of a frame's payload at least, on average, where buffers are full.
const PAYLOAD: usize = 1024;

/// What a cell gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellResult {
    /// Congestion control.
    pub algorithm: &'static str,
    /// Subflows of each connection.
    pub subflows: usize,
    /// Its seed.
    pub seed: u64,
    /// The flows' mean goodput, in Mbit/s, and the least and the most of them.
    pub goodput_mbps: f64,
    /// The slowest flow's.
    pub least_mbps: f64,
    /// The fastest flow's.
    pub most_mbps: f64,
    /// The mean goodput in percent of a link's rate.
    pub percent: f64,
    /// Jain's index of fairness between the flows: 1 where all get the same.
    pub jain: f64,
    /// Packets that queues dropped, in percent of those that came to a line, over the whole run.
    pub drops_percent: f64,
    /// Packets with payload that arrived, over the whole run.
    pub packets: u64,
    /// One number for every packet that arrived: the same in every run of this cell.
    pub trace: String,
}

/// Runs a cell.
///
/// # Errors
/// What went wrong in the simulation: our own fault, or too few frames.
pub fn run(plan: &Plan, cell: &Cell) -> Result<CellResult, Fault> {
    let mut lab = Laboratory::new(setup(plan, cell));
    let received =
        |lab: &Laboratory| -> Vec<u64> { lab.flows().list().iter().map(|flow| flow.received).collect() };
    let (from, end) = (plan.measure_from_ms, u64::from(plan.duration_ms.get()));
    lab.run_until(Instant::from_millis(from))?;
    let before = received(&lab);
    lab.run_until(Instant::from_millis(end))?;
    let bits_a_millisecond = |bytes: u64| bytes as f64 * 8.0 / (end - from) as f64;
    let rates: Vec<f64> = received(&lab)
        .iter()
        .zip(before)
        .map(|(after, before)| bits_a_millisecond(after - before) / 1000.0)
        .collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let counters = lab.fabric().lines().iter().map(|line| line.counters());
    let (offered, drops) =
        counters.fold((0, 0), |(offered, drops), line| (offered + line.offered(), drops + line.queue_drops));
    let result = CellResult {
        algorithm: cell.algorithm.0.name(),
        subflows: cell.subflows.get(),
        seed: cell.seed,
        goodput_mbps: mean,
        least_mbps: rates.iter().copied().fold(f64::INFINITY, f64::min),
        most_mbps: rates.iter().copied().fold(0.0, f64::max),
        percent: 100.0 * mean / f64::from(plan.link.rate_mbps.get()),
        jain: jain(&rates),
        drops_percent: 100.0 * drops as f64 / offered.max(1) as f64,
        packets: lab.packets().1,
        trace: format!("{:016x}", lab.trace()),
    };
    lab.close()?;
    Ok(result)
}

fn setup(plan: &Plan, cell: &Cell) -> Setup {
    let Workload { kind, starts_within_ms, buffer_bytes } = plan.workload;
    let (tree, within) = (plan.tree(), Duration::from_millis(starts_within_ms));
    let (hosts, subflows, seed) = (tree.hosts(), cell.subflows.get(), cell.seed);
    let flows = match kind {
        WorkloadKind::Permutation => workload::permutation(hosts, subflows, within, seed),
        WorkloadKind::Random => workload::random(hosts, subflows, within, seed),
    };
    let buffer = buffer_bytes.get();
    let options = ConnectOptions {
        congestion: cell.algorithm.0,
        receive_buffer: buffer,
        send_buffer: buffer,
        ..ConnectOptions::default()
    };
    let frames = hosts * (FRAMES_PER_HOST + 2 * buffer as usize / PAYLOAD);
    Setup {
        groups: vec![Group { name: "all".into(), options }],
        flows,
        ..Setup::new(seed, tree.build(seed), frames)
    }
}

/// Jain's index: the square of the mean over the mean of the squares.
fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares > 0.0 { sum * sum / (rates.len() as f64 * squares) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::lab::plan::PLANS;

    #[test]
    fn jains_index_is_one_for_equals_and_an_nth_for_one_alone() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(jain(&[0.0, 4.0]), 0.5);
        assert_eq!(jain(&[0.0, 0.0]), 1.0);
    }

    #[test]
    fn a_cell_gives_the_same_result_each_time() {
        let text = PLANS[0].1.replace("k = 8", "k = 4").replace("duration-ms = 2000", "duration-ms = 120");
        let plan =
            Plan::parse(&text.replace("measure-from-ms = 1000", "measure-from-ms = 60")).expect("a plan");
        let cell = plan.cells()[0];
        let first = run(&plan, &cell).expect("nothing goes wrong");
        assert_eq!(first, run(&plan, &cell).expect("nothing goes wrong"));
        let CellResult { least_mbps, goodput_mbps, most_mbps, percent, .. } = first;
        // A flow may wait for its retransmission timer all of that time.
        assert!(least_mbps < goodput_mbps && 20.0 < goodput_mbps && goodput_mbps < most_mbps);
        assert!(most_mbps < 100.0 && (percent - goodput_mbps).abs() < 1e-9, "of 100 Mbit/s");
        assert!((0.3..1.0).contains(&first.jain), "{}", first.jain);
    }
}
