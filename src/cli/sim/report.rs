//! What plans gave, as text for a terminal, as a page, and as files for machines.

use crate::sim::lab::findings::{Findings, Verdict};
use crate::sim::lab::plan::word;
use crate::sim::lab::plot;
use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// The page with all tables.
pub(super) const PAGE: &str = "README.md";

/// Plans and what they gave.
pub(super) struct Report<'a> {
    findings: &'a [(Findings<'a>, &'a str)],
    /// What is said of each plan, by its name.
    verdicts: Vec<(&'a str, Verdict)>,
}

/// A table: the first row is its head.
type Table = Vec<Vec<String>>;

impl<'a> Report<'a> {
    /// Of these findings, each with its plan's name for files.
    pub(super) fn new(findings: &'a [(Findings<'a>, &'a str)]) -> Self {
        let of_plan = |(findings, _): &'a (Findings<'a>, &'a str)| {
            let name = findings.plan().name.as_str();
            findings.verdicts().into_iter().map(move |verdict| (name, verdict))
        };
        Self { findings, verdicts: findings.iter().flat_map(of_plan).collect() }
    }

    /// Whether all was as expected.
    pub(super) fn is_good(&self) -> bool {
        self.verdicts.iter().all(|(_, verdict)| verdict.is_good)
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (findings, _) in self.findings {
            let plan = findings.plan();
            let _ = writeln!(text, "{}: {} ({} seeds)", plan.name, plan.about, plan.seeds);
            text += &aligned(&measures(findings));
            text.push('\n');
        }
        if !self.verdicts.is_empty() {
            text += &aligned(&self.verdicts());
        }
        text
    }

    fn verdicts(&self) -> Table {
        let head = ["plan", "setting", "measure", "expected", "by", "got", "difference", "verdict"];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        for &(plan, ref verdict) in &self.verdicts {
            let word = if verdict.is_good { "as expected" } else { "NOT AS EXPECTED" };
            let Verdict { setting, measure, expected, got, difference, by, is_good: _ } = verdict;
            let cells = [plan, setting, measure, expected, by.name(), got, difference, word];
            table.push(cells.map(str::to_owned).to_vec());
        }
        table
    }

    /// Writes the page, and each plan's files.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |name: String, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        for (findings, name) in self.findings {
            let rows = rows(findings);
            write(format!("{name}.csv"), csv(&rows))?;
            write(format!("{name}.json"), serde_json::to_string_pretty(&rows)? + "\n")?;
            write(format!("{name}.svg"), plot::draw(findings).map_err(|error| anyhow!("{name}: {error}"))?)?;
        }
        write(PAGE.into(), self.page())
    }

    fn page(&self) -> String {
        let mut page = String::from(
            "# Experiments\n\nMade by `braid sim run`: every host runs Braid's worker and stack, and a seed fixes every bit of a \
             run. A value is a mean over the seeds ± the standard deviation of a run.\n",
        );
        if !self.verdicts.is_empty() {
            page += "\n## What was expected, and what came out\n\n";
            page += &markdown(&self.verdicts());
        }
        for (findings, name) in self.findings {
            let plan = findings.plan();
            let _ = writeln!(page, "\n## {}: {}\n", plan.name, plan.about);
            page += &markdown(&measures(findings));
            let _ = writeln!(
                page,
                "\n{} seeds; {} packets with payload in all; {} connections broke. Every run: [CSV]({name}.csv), \
                 [JSON]({name}.json).\n\n![{name}]({name}.svg)",
                plan.seeds,
                findings.packets(),
                findings.failed()
            );
        }
        page
    }
}

/// For each setting what was measured.
fn measures(findings: &Findings<'_>) -> Table {
    let names: Vec<String> = findings
        .plan()
        .settings
        .first()
        .map_or_else(Vec::new, |setting| setting.values.iter().map(|(name, _)| name.clone()).collect());
    let measures = findings.measures();
    let mut table = vec![names.into_iter().chain(measures.iter().map(|name| (*name).to_owned())).collect()];
    for (place, (setting, _)) in findings.settings().enumerate() {
        let values = setting.values.iter().map(|(_, value)| word(value));
        let got = measures.iter().map(|measure| {
            findings.statistic(place, measure).map_or_else(|| "-".into(), |value| value.words())
        });
        table.push(values.chain(got).collect());
    }
    table
}

/// One object a run.
fn rows(findings: &Findings<'_>) -> Vec<Map<String, Value>> {
    let mut rows = Vec::new();
    for (setting, runs) in findings.settings() {
        for run in runs {
            let mut row = Map::new();
            for (name, value) in &setting.values {
                row.insert(name.clone(), serde_json::to_value(value).unwrap_or(Value::Null));
            }
            row.insert("seed".into(), run.seed.into());
            for (name, value) in &run.measured {
                row.insert(name.clone(), json!(value));
            }
            row.insert("packets".into(), run.packets.into());
            row.insert("failed".into(), run.failed.into());
            row.insert("trace".into(), run.trace.clone().into());
            rows.push(row);
        }
    }
    rows
}

/// One line a run; names and values with a comma or a quotation mark are quoted.
fn csv(rows: &[Map<String, Value>]) -> String {
    let quoted = |text: &str| match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let field = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    };
    let mut text = String::new();
    if let Some(first) = rows.first() {
        text += &(first.keys().map(|name| quoted(name)).collect::<Vec<_>>().join(",") + "\n");
    }
    for row in rows {
        text += &(row.values().map(field).collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

/// With columns as wide as they have to be.
fn aligned(table: &Table) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn markdown(table: &Table) -> String {
    let mut text = String::new();
    for (place, row) in table.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if place == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
        }
    }
    text
}
