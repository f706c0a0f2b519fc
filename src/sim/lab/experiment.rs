//! Runs an [`Experiment`]: makes its network, its hosts and its flows, and measures. A result is a function of the
//! experiment and of the seed.

mod observation;
mod setup;

use crate::base::Instant;
use crate::sim::lab::laboratory::{Fault, Laboratory};
use crate::sim::lab::plan::Experiment;
use observation::{Snapshot, Watched};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// What was measured, by name. None: there was nothing to measure, as no flow that came to its end.
    pub measured: BTreeMap<String, Option<f64>>,
    /// Packets with payload that arrived, over the whole run.
    pub packets: u64,
    /// Connections that broke.
    pub failed: usize,
    /// One number for every packet that arrived: the same in every run of this setting and seed.
    pub trace: String,
}

/// Runs an experiment.
///
/// # Errors
/// What went wrong in the simulation: our own fault, or too few frames.
pub fn run(experiment: &Experiment, seed: u64) -> Result<RunResult, Fault> {
    let (setup, layout) = setup::setup(experiment, seed);
    let mut lab = Laboratory::new(setup);
    let start = Instant::ZERO + experiment.measure_from_ms.get();
    let end = Instant::ZERO + experiment.duration_ms.get();
    lab.run_until(start)?;
    lab.forget_stalls();
    let before = Snapshot::of(&lab);
    lab.run_until(end)?;
    let watched = Watched { lab: &lab, experiment, layout: &layout, before, start, end };
    let measured =
        experiment.measure.iter().map(|(name, measure)| (name.clone(), watched.measure(measure))).collect();
    let result = RunResult {
        seed,
        measured,
        packets: lab.packets().1,
        failed: lab.flows().list().iter().filter(|flow| flow.failed.is_some()).count(),
        trace: format!("{:016x}", lab.trace()),
    };
    lab.close()?;
    Ok(result)
}

#[cfg(test)]
mod tests;
