//! `braid sim`: experiments in the laboratory ([`crate::sim::lab`]), by plans.

mod campaign;
mod report;

use crate::cc::CongestionAlgorithm;
use crate::mptcp::sched::SchedulerKind;
use crate::sim::lab::graph::Choice;
use crate::sim::lab::plan::{PLANS, Plan};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The experiments of the literature.
const ALL: &str = include_str!("../../../bench/plans/all.toml");

/// The subcommands of `braid sim`.
#[derive(Debug, Subcommand)]
pub(super) enum SimCommand {
    /// Run every setting of a plan with every seed, and print what was expected and what came out.
    ///
    /// A plan is a TOML file, or one of those that come with Braid; `all` are the experiments
    /// of the literature, E1 to E18. With --out the results are kept:
    /// what was run already, by the same program, is not run again. The status is 1 if something was not as expected.
    Run(RunArguments),
    /// List the plans that come with Braid, and what plans can name.
    List,
    /// Print a plan that comes with Braid, to begin one's own with.
    Show {
        /// Its name (`braid sim list`).
        #[arg(value_name = "PLAN")]
        plan: String,
    },
}

/// What to run.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Files, or names of plans that come with Braid (`braid sim list`); all: E1 to E18.
    #[arg(value_name = "PLAN", required = true)]
    plans: Vec<PathBuf>,
    /// Write results into this folder: a page with all tables, and for each plan PLAN.csv, PLAN.json and PLAN.svg. What lies
    /// there from a run that was interrupted is used.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Cells to run at the same time. Default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Run each setting with so many seeds, whatever its plan says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seeds: Option<u32>,
}

/// Runs the subcommand.
pub(super) fn run(command: SimCommand) -> anyhow::Result<ExitCode> {
    match command {
        SimCommand::Run(arguments) => run_plans(&arguments),
        SimCommand::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        SimCommand::Show { plan } => {
            let text = crate::base::names::find(PLANS, &plan, format_args!("plan '{plan}'"));
            print!("{}", text.map_err(|error| anyhow!(error))?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list() {
    println!("plans (all: e1 to e18, the experiments of the literature):");
    for (name, text) in PLANS {
        let about = Plan::parse(text).map_or_else(|error| error, |plan| plan.about);
        println!("  {name:<10} {about}");
    }
    let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    println!("algorithms: {}", names(&mut CongestionAlgorithm::ALL.iter().map(|(name, _)| *name)));
    println!("schedulers: {}", names(&mut SchedulerKind::ALL.iter().map(|(name, _)| *name)));
    println!("networks: lines (dumbbell, two links, triangle, chain, torus, ...), fat-tree, bcube");
    println!("ways in trees and cubes: {}", names(&mut Choice::ALL.iter().map(|(name, _)| *name)));
    println!("patterns in trees and cubes: permutation, random, neighbours");
    println!("a plan to begin with: braid sim show e2 > my-plan.toml");
}

/// A file that lists plans.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanList {
    plans: Vec<PathBuf>,
}

/// Plans, with their names for files.
fn load(path: &Path) -> anyhow::Result<Vec<(Plan, String)>> {
    let of_braid = |(name, text): &(&str, &str)| Ok((parse(text, name)?, (*name).to_owned()));
    if path == Path::new("all") {
        let PlanList { plans } = toml::from_str(ALL).context("the list of Braid's plans")?;
        let stems: Vec<_> = plans.iter().map(|plan| plan.file_stem().unwrap_or_default()).collect();
        return PLANS
            .iter()
            .filter(|(name, _)| stems.iter().any(|stem| stem == name))
            .map(of_braid)
            .collect();
    }
    if let Some(known) = PLANS.iter().find(|(name, _)| path == Path::new(name)) {
        return Ok(vec![of_braid(known)?]);
    }
    let text = std::fs::read_to_string(path).with_context(|| {
        let names: Vec<&str> = PLANS.iter().map(|(name, _)| *name).collect();
        format!("{}: neither a file nor one of Braid's plans ({}, all)", path.display(), names.join(", "))
    })?;
    if let Ok(PlanList { plans }) = toml::from_str(&text) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let loaded: anyhow::Result<Vec<_>> = plans.iter().map(|plan| load(&folder.join(plan))).collect();
        return Ok(loaded?.into_iter().flatten().collect());
    }
    let stem = path.file_stem().map_or_else(|| "plan".into(), |stem| stem.to_string_lossy().into_owned());
    Ok(vec![(parse(&text, &path.display().to_string())?, stem)])
}

fn parse(text: &str, from: &str) -> anyhow::Result<Plan> {
    Plan::parse(text).map_err(|error| anyhow!("{from}: {error}"))
}

fn run_plans(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let RunArguments { plans, out, jobs, seeds } = arguments;
    let loaded: anyhow::Result<Vec<_>> = plans.iter().map(|path| load(path)).collect();
    let mut plans: Vec<(Plan, String)> = loaded?.into_iter().flatten().collect();
    for (plan, _) in &mut plans {
        plan.seeds = seeds.unwrap_or(plan.seeds);
    }
    let threads = jobs.map_or(0, usize::from);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    let campaign = campaign::Campaign::new(&plans, out.as_deref())?;
    let findings = pool.install(|| campaign.run())?;
    let report = report::Report::new(&findings);
    print!("{}", report.text());
    if let Some(folder) = out {
        report.write(folder)?;
        println!("\nwritten: {}", folder.join(report::PAGE).display());
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests;
