//! `braid sim`: experiments in the laboratory ([`crate::sim::lab`]), by plans.

use crate::cc::CongestionAlgorithm;
use crate::sim::lab::experiment::{self, CellResult};
use crate::sim::lab::graph::Choice;
use crate::sim::lab::plan::{Cell, PLANS, Plan};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The subcommands of `braid sim`.
#[derive(Debug, Subcommand)]
pub(super) enum SimCommand {
    /// Run every cell of a plan, and print what was expected and what came out.
    ///
    /// The status is 1 if something was not as expected.
    Run(RunArguments),
    /// List the plans that come with Braid, and what plans can name.
    List,
}

/// What to run.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// A file, or the name of a plan that comes with Braid (`braid sim list`).
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// Write all results into this folder, too, as PLAN.csv and PLAN.json.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Cells to run at the same time. Default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

/// Runs the subcommand.
pub(super) fn run(command: SimCommand) -> anyhow::Result<ExitCode> {
    match command {
        SimCommand::Run(arguments) => run_plan(&arguments),
        SimCommand::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list() {
    println!("plans:");
    for (name, text) in PLANS {
        let about = Plan::parse(text).map_or_else(|error| error, |plan| plan.about);
        println!("  {name:<6} {about}");
    }
    let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    println!("algorithms: {}", names(&mut CongestionAlgorithm::ALL.iter().map(|(name, _)| *name)));
    println!("ways: {}", names(&mut Choice::ALL.iter().map(|(name, _)| *name)));
    println!("workloads: permutation, random");
}

/// The plan, and its name for files.
fn load(path: &Path) -> anyhow::Result<(Plan, String)> {
    let builtin = PLANS.iter().find(|(name, _)| path == Path::new(name));
    let text = match builtin {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(path).with_context(|| {
            let names: Vec<&str> = PLANS.iter().map(|(name, _)| *name).collect();
            format!("{}: neither a file nor one of Braid's plans ({})", path.display(), names.join(", "))
        })?,
    };
    let plan = Plan::parse(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let stem = path.file_stem().map_or_else(|| "plan".into(), |stem| stem.to_string_lossy().into_owned());
    Ok((plan, stem))
}

fn run_plan(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let (plan, stem) = load(&arguments.plan)?;
    let cells = plan.cells();
    let threads = arguments.jobs.map_or(0, usize::from);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    let done = AtomicUsize::new(0);
    let run_cell = |cell: &Cell| {
        let result = experiment::run(&plan, cell).with_context(|| title(cell))?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("{done} of {}: {}: {:.1} %", cells.len(), title(cell), result.percent);
        Ok(result)
    };
    let results: anyhow::Result<Vec<CellResult>> = pool.install(|| cells.par_iter().map(run_cell).collect());
    let results = results?;
    let (table, as_expected) = table(&plan, &cells, &results);
    print!("{table}");
    if let Some(folder) = &arguments.out {
        write_results(folder, &stem, &results)?;
    }
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn title(cell: &Cell) -> String {
    format!("{}, {} subflows, seed {}", cell.algorithm.0.name(), cell.subflows.get(), cell.seed)
}

/// What came out, over the seeds, and whether all was as expected.
fn table(plan: &Plan, cells: &[Cell], results: &[CellResult]) -> (String, bool) {
    let mut text = format!("{}: {}\n", plan.name, plan.about);
    let _ = writeln!(
        text,
        "{:<10} {:>8} {:>6} {:>9} {:>7} {:>9} {:>9} {:>7}  verdict",
        "algorithm", "subflows", "seeds", "optimum %", "spread", "expected", "off by", "Jain"
    );
    let mut as_expected = true;
    let mut start = 0;
    while let Some(cell) = cells.get(start) {
        let alike = |other: &&Cell| (other.algorithm, other.subflows) == (cell.algorithm, cell.subflows);
        let count = cells[start..].iter().take_while(alike).count();
        let group = &results[start..start + count];
        start += count;
        let (mean, spread) = mean_and_spread(group.iter().map(|result| result.percent));
        let (jain, _) = mean_and_spread(group.iter().map(|result| result.jain));
        let (expected, off, verdict) = match plan.expected(cell) {
            None => (String::new(), String::new(), ""),
            Some(expect) => {
                let off = mean - expect.percent;
                let is_near = off.abs() <= expect.within;
                as_expected &= is_near;
                let verdict = if is_near { "as expected" } else { "NOT AS EXPECTED" };
                (format!("{:.1}", expect.percent), format!("{off:+.1}"), verdict)
            }
        };
        let (name, subflows) = (cell.algorithm.0.name(), cell.subflows.get());
        let line = format!(
            "{name:<10} {subflows:>8} {count:>6} {mean:>9.1} {spread:>7.1} {expected:>9} {off:>9} {jain:>7.3}  {verdict}"
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    (text, as_expected)
}

/// The mean, and the standard deviation of the sample.
fn mean_and_spread(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

fn write_results(folder: &Path, stem: &str, results: &[CellResult]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{stem}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(results)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = folder.join(format!("{stem}.csv"));
    std::fs::write(&path, csv(results)?).with_context(|| format!("cannot write {}", path.display()))
}

/// One line a cell; no value has a comma or a quotation mark.
fn csv(results: &[CellResult]) -> anyhow::Result<String> {
    let mut text = String::new();
    for result in results {
        let serde_json::Value::Object(fields) = serde_json::to_value(result)? else {
            unreachable!("a struct is an object")
        };
        if text.is_empty() {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            text = names.join(",") + "\n";
        }
        let values = fields.values().map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        text += &(values.collect::<Vec<_>>().join(",") + "\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(seed: u64, percent: f64) -> CellResult {
        CellResult {
            algorithm: "lia",
            subflows: 1,
            seed,
            goodput_mbps: percent,
            least_mbps: 1.0,
            most_mbps: 99.5,
            percent,
            jain: 0.5,
            drops_percent: 0.25,
            packets: 7,
            trace: "00ff".into(),
        }
    }

    fn two_seeds() -> Plan {
        let text = PLANS[0].1;
        let line = |start| text.lines().find(|line| line.starts_with(start)).expect("there");
        let text = text.replace(line("seeds"), "seeds = [1, 2]");
        Plan::parse(&text.replace(line("subflows = ["), "subflows = [1]")).expect("a plan")
    }

    #[test]
    fn what_is_as_expected_says_so_and_what_is_not_too() {
        let plan = two_seeds();
        let cells = plan.cells();
        let (text, good) = table(&plan, &cells, &[result(1, 52.0), result(2, 56.0)]);
        assert!(good, "{text}");
        assert!(text.lines().any(|line| line.starts_with("lia")
            && line.split_whitespace().eq("lia 1 2 54.0 2.8 53.9 +0.1 0.500 as expected".split(' '))));
        let (text, good) = table(&plan, &cells, &[result(1, 40.0), result(2, 42.0)]);
        assert!(!good && text.contains("NOT AS EXPECTED") && text.contains("-12.9"), "{text}");
    }

    #[test]
    fn results_are_a_line_a_cell() {
        let text = csv(&[result(1, 52.5), result(2, 56.0)]).expect("numbers");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("algorithm,subflows,seed,goodput_mbps"));
        assert_eq!(lines[2], "lia,1,2,56.0,1.0,99.5,56.0,0.5,0.25,7,00ff");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_plan_that_is_nowhere_is_told_with_those_that_there_are() {
        let error = load(Path::new("/nowhere/plan.toml")).expect_err("no such file");
        assert!(error.to_string().contains("e8"), "{error}");
        assert_eq!(load(Path::new("e8")).expect("Braid's").1, "e8");
    }
}
