//! Runs all cells of some plans, a cell being a setting with a seed, on all cores. With a folder each result is written down
//! when it is there, and one that is there already is not worked out again: an interrupted campaign goes on where it was.

use crate::sim::lab::experiment::{self, RunResult};
use crate::sim::lab::findings::Findings;
use crate::sim::lab::plan::{Plan, Setting};
use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;

/// Where results are written down, in the campaign's folder.
const JOURNAL: &str = "journal.jsonl";

/// The plans, and what is known of them.
#[derive(Debug)]
pub(super) struct Campaign<'a> {
    plans: &'a [(Plan, String)],
    /// Names this program: another one may give other results.
    program: String,
    known: HashMap<String, RunResult>,
    journal: Option<Mutex<File>>,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: String,
    result: RunResult,
}

/// One run to do.
struct Cell<'a> {
    plan: &'a str,
    setting: &'a Setting,
    seed: u64,
}

impl<'a> Campaign<'a> {
    /// Some plans, each with its name for files.
    pub(super) fn new(plans: &'a [(Plan, String)], folder: Option<&Path>) -> anyhow::Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self { plans, program: String::new(), known: HashMap::new(), journal: None });
        };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(JOURNAL);
        let written = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // The last line may be cut where the program was ended: that run is done again.
        let entries = written.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        let known = entries.map(|entry| (entry.key, entry.result)).collect();
        let journal = OpenOptions::new().create(true).append(true).open(&path);
        let mut journal = journal.with_context(|| format!("cannot write {}", path.display()))?;
        if !written.is_empty() && !written.ends_with('\n') {
            writeln!(journal).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let program = std::env::current_exe().and_then(std::fs::read).context("cannot read this program")?;
        Ok(Self { plans, program: hash(&program), known, journal: Some(Mutex::new(journal)) })
    }

    /// Runs what is not known yet.
    pub(super) fn run(&self) -> anyhow::Result<Vec<(Findings<'a>, &'a str)>> {
        let mut cells = Vec::new();
        for (plan, name) in self.plans {
            for setting in &plan.settings {
                cells.extend((1..=u64::from(plan.seeds)).map(|seed| Cell { plan: name, setting, seed }));
            }
        }
        let bar = progress_bar(cells.len());
        let results: anyhow::Result<Vec<RunResult>> =
            cells.par_iter().map(|cell| self.run_cell(cell, &bar)).collect();
        bar.finish_and_clear();
        let mut results = results?.into_iter();
        let mut findings = Vec::new();
        for (plan, name) in self.plans {
            let runs = plan.settings.iter().map(|_| results.by_ref().take(plan.seeds as usize).collect());
            findings.push((Findings::new(plan, runs.collect()), name.as_str()));
        }
        Ok(findings)
    }

    fn run_cell(&self, cell: &Cell<'_>, bar: &ProgressBar) -> anyhow::Result<RunResult> {
        let key = self.key(cell);
        let result = match self.known.get(&key) {
            Some(known) => known.clone(),
            None => {
                let result =
                    experiment::run(&cell.setting.experiment, cell.seed).with_context(|| title(cell))?;
                self.write_down(key, &result)?;
                result
            }
        };
        bar.set_message(title(cell));
        bar.inc(1);
        if bar.is_hidden() {
            eprintln!("{} of {}: {}", bar.position(), bar.length().unwrap_or(0), title(cell));
        }
        Ok(result)
    }

    /// Everything that a result follows from.
    fn key(&self, cell: &Cell<'_>) -> String {
        if self.journal.is_none() {
            return String::new();
        }
        hash(format!("{} {} {:?}", self.program, cell.seed, cell.setting.experiment).as_bytes())
    }

    fn write_down(&self, key: String, result: &RunResult) -> anyhow::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let line = serde_json::to_string(&Entry { key, result: result.clone() })? + "\n";
        let mut journal = journal.lock().map_err(|_| anyhow!("another cell ended in a panic"))?;
        journal.write_all(line.as_bytes()).context("cannot write the journal")
    }
}

fn title(cell: &Cell<'_>) -> String {
    let setting = cell.setting.title();
    let setting = if setting.is_empty() { String::new() } else { format!(", {setting}") };
    format!("{}{setting}, seed {}", cell.plan, cell.seed)
}

fn progress_bar(cells: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        // A line for each cell instead.
        let bar = ProgressBar::hidden();
        bar.set_length(cells as u64);
        return bar;
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len}, {eta} left  {msg}");
    ProgressBar::new(cells as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
