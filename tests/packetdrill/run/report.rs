//! The summary: by folder, by group, every failure, and what scripts asked for in vain.

use crate::job::{Outcome, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Which scripts belong to which group of neutral ones: one to a line, `GROUP FOLDER/NAME`.
const GROUPS: &str = include_str!("../groups.txt");

/// Passed, and all.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Tally {
    passed: usize,
    total: usize,
}

impl Tally {
    fn add(&mut self, passed: bool) {
        self.passed += usize::from(passed);
        self.total += 1;
    }
}

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    total: Tally,
    crashed: usize,
    hung: usize,
    folders: BTreeMap<String, Tally>,
    groups: BTreeMap<String, Tally>,
    wants: BTreeMap<String, usize>,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// From the results.
    pub fn new(mut outcomes: Vec<Outcome>) -> Self {
        outcomes.sort_by(|one, other| {
            (&one.script, one.version as u8).cmp(&(&other.script, other.version as u8))
        });
        let groups: BTreeSet<(&str, &str)> = GROUPS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .collect();
        let mut report = Self {
            total: Tally::default(),
            crashed: 0,
            hung: 0,
            folders: BTreeMap::new(),
            groups: BTreeMap::new(),
            wants: BTreeMap::new(),
            outcomes: Vec::new(),
        };
        for outcome in &outcomes {
            let passed = outcome.verdict == Verdict::Passed;
            report.total.add(passed);
            report.crashed += usize::from(outcome.verdict == Verdict::Crashed);
            report.hung += usize::from(outcome.verdict == Verdict::Hung);
            let folder = outcome.script.rsplit_once('/').map_or("", |(folder, _)| folder);
            report.folders.entry(folder.to_owned()).or_default().add(passed);
            for (group, _) in groups.iter().filter(|(_, script)| *script == outcome.script) {
                report.groups.entry((*group).to_owned()).or_default().add(passed);
            }
            for want in &outcome.wants {
                *report.wants.entry(want.clone()).or_default() += 1;
            }
        }
        report.outcomes = outcomes;
        report
    }

    /// No crash, and nothing that hung. Failures are what the figures are about.
    pub fn is_clean(&self) -> bool {
        self.crashed == 0 && self.hung == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in self.outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Passed) {
            let Outcome { script, version, verdict, message, output, .. } = outcome;
            writeln!(f, "{verdict:?} {script} ({version:?})")?;
            message.split(" | ").try_for_each(|line| writeln!(f, "    {line}"))?;
            output.lines().try_for_each(|line| writeln!(f, "        {line}"))?;
        }
        writeln!(f, "\nAsked for in vain, by how many scripts:")?;
        let mut wants: Vec<_> = self.wants.iter().collect();
        wants.sort_by_key(|(want, count)| (std::cmp::Reverse(**count), *want));
        for (want, count) in wants {
            writeln!(f, "  {count:4}  {want}")?;
        }
        writeln!(f, "\nPassed, of all:")?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, tally: &Tally| {
            writeln!(f, "  {:4} of {:4}  {name}", tally.passed, tally.total)
        };
        for (folder, tally) in &self.folders {
            line(f, folder, tally)?;
        }
        for (group, tally) in &self.groups {
            line(f, &format!("group {group}"), tally)?;
        }
        line(f, "all", &self.total)?;
        writeln!(f, "  {} crashed, {} hung", self.crashed, self.hung)
    }
}
