//! What a plan's parts say of each other.

use super::flows::{ChangePlan, FlowPlan, Pattern, Protocol};
use super::measure::{Demand, Expectation, Measure, Quality};
use super::{Experiment, Setting, is_same, word};
use crate::sim::lab::topology::bcube::BCube;
use crate::sim::lab::topology::tree::FatTree;
use std::collections::BTreeMap;

/// In a measure, the flows of every name.
const ALL_FLOWS: &str = "all";

/// What is wrong, and a word of the file that stands where it is.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) what: String,
    word: String,
}

impl Wrong {
    fn new(word: impl Into<String>, what: impl Into<String>) -> Self {
        Self { what: what.into(), word: word.into() }
    }

    /// In words, with the line.
    pub(super) fn at_its_line(&self, text: &str) -> String {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
        match lines.find(|(_, line)| line.contains(&self.word)) {
            Some((place, _)) => format!("at line {}: {}", place + 1, self.what),
            None => self.what.clone(),
        }
    }
}

/// What is there under a name, or those that there are.
fn known<T>(there: &BTreeMap<String, T>, kind: &str, name: &str) -> Result<(), Wrong> {
    among(&there.keys().map(String::as_str).collect::<Vec<_>>(), kind, name)
}

fn among(names: &[&str], kind: &str, name: &str) -> Result<(), Wrong> {
    if names.contains(&name) {
        return Ok(());
    }
    let names = if names.is_empty() { "none".into() } else { names.join(", ") };
    Err(Wrong::new(format!("\"{name}\""), format!("there is no {kind} '{name}'; there are: {names}")))
}

impl Experiment {
    /// Sees that its parts fit together.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.measure_from_ms.get() >= self.duration_ms.get() {
            let what = "measure-from-ms leaves nothing to measure: it has to be less than duration-ms";
            return Err(Wrong::new("measure-from-ms", what));
        }
        let networks = [self.fat_tree.is_some(), self.bcube.is_some(), !self.lines.is_empty()]
            .iter()
            .filter(|is| **is)
            .count();
        if networks != 1 {
            let what = "a plan has one network: [fat-tree], [bcube], or lines by name ([lines.NAME])";
            return Err(Wrong::new("[", what));
        }
        if self.flows.is_empty() {
            return Err(Wrong::new("[", "nobody sends: a plan has flows ([flows.NAME])"));
        }
        for (name, flows) in &self.flows {
            self.check_flows(name, flows)?;
        }
        for (name, cross) in &self.cross {
            cross.over.list().iter().try_for_each(|line| known(&self.lines, "line", line))?;
            cross.spec().map_err(|what| Wrong::new(format!("[cross.{name}]"), what))?;
        }
        self.change.iter().try_for_each(|change| self.check_change(change))?;
        if self.measure.is_empty() {
            return Err(Wrong::new("[", "nothing is measured: a plan has measures ([measure.NAME])"));
        }
        self.measure.iter().try_for_each(|(name, measure)| self.check_measure(name, measure))
    }

    fn check_flows(&self, name: &str, flows: &FlowPlan) -> Result<(), Wrong> {
        let wrong = |what: &str| Err(Wrong::new(format!("[flows.{name}]"), format!("flows.{name}: {what}")));
        if self.lines.is_empty() {
            if flows.ways.is_some() || flows.draw || flows.connections.get() > 1 {
                return wrong(
                    "ways, draw and connections are for lines; in a tree or a cube it has a pattern",
                );
            }
            match flows.pattern {
                None => {
                    return wrong("in a tree or a cube it has a pattern: permutation, random or neighbours");
                }
                Some(Pattern::Neighbours) if self.bcube.is_none() => {
                    return wrong("only hosts of a BCube have neighbours");
                }
                Some(_) => {}
            }
        } else {
            let Some(ways) = &flows.ways else { return wrong("on lines it has ways") };
            if flows.pattern.is_some() {
                return wrong("a pattern is for a tree or a cube; on lines it has ways");
            }
            for way in ways.list() {
                way.over.iter().try_for_each(|line| known(&self.lines, "line", line))?;
            }
        }
        if flows.every_ms.is_some() && flows.size_bytes.is_none() {
            return wrong("flows that come one after the other have an end: size-bytes");
        }
        if flows.protocol == Protocol::Tcp && flows.subflows.is_some_and(|subflows| subflows.get() > 1) {
            return wrong("plain TCP has no subflows");
        }
        Ok(())
    }

    fn check_change(&self, change: &ChangePlan) -> Result<(), Wrong> {
        let ChangePlan { at_ms: _, line, down_for_ms, delay_ms, rate_mbps, loss_percent } = change;
        known(&self.lines, "line", line)?;
        let said = [down_for_ms.is_some(), delay_ms.is_some(), rate_mbps.is_some(), loss_percent.is_some()];
        match said.iter().filter(|said| **said).count() {
            1 => Ok(()),
            _ => Err(Wrong::new(
                "[[change]]",
                "a change has one of: down-for-ms, delay-ms, rate-mbps, loss-percent",
            )),
        }
    }

    fn check_measure(&self, name: &str, measure: &Measure) -> Result<(), Wrong> {
        let Measure { of, flows, line, way, per, per_number } = measure;
        let table = format!("[measure.{name}]");
        let wrong = |what: &str| Err(Wrong::new(table.clone(), format!("measure.{name}: {what}")));
        if per.is_some() && per_number.is_some() {
            return wrong("it is in parts of one thing: per or per-number");
        }
        if of.is_of_a_way() != way.is_some() {
            return wrong("way-mbps and way-percent have a way, counted from 1, and the others have none");
        }
        let names = [Some(if of.is_of_lines() { line } else { flows }), Some(per)];
        if of.is_of_lines() != line.is_some() || of.is_of_lines() == flows.is_some() {
            return wrong("loss-percent and use-percent are of a line, and the others of flows");
        }
        for name in names.into_iter().flatten().flatten() {
            match (of.is_of_lines(), self.lines.is_empty()) {
                (true, false) => known(&self.lines, "line", name)?,
                (true, true) if self.bcube.is_some() => among(BCube::LINES, "line", name)?,
                (true, true) => among(FatTree::LINES, "line", name)?,
                (false, _) if name == ALL_FLOWS => {}
                (false, _) => known(&self.flows, "flows", name)?,
            }
        }
        if *of == Quality::Percent && !self.lines.is_empty() {
            return wrong(
                "percent is in parts of a host's link, in a tree or a cube; on lines there is use-percent",
            );
        }
        Ok(())
    }
}

/// Sees that an expectation is about something.
pub(super) fn expectation(expectation: &Expectation, settings: &[Setting]) -> Result<(), String> {
    let measures = &settings[0].experiment.measure;
    known(measures, "measure", &expectation.measure).map_err(|wrong| wrong.what)?;
    let there = |name: &String, value: &toml::Value| {
        let values: Vec<&toml::Value> = settings.iter().filter_map(|setting| setting.value(name)).collect();
        if values.iter().any(|known| is_same(known, value)) {
            return Ok(());
        }
        let mut words: Vec<String> = values.into_iter().map(word).collect();
        words.dedup();
        let words = if words.is_empty() { "it is not varied".into() } else { words.join(", ") };
        Err(format!("{name} is never {}: {words}", word(value)))
    };
    expectation.when.iter().try_for_each(|(name, value)| there(name, value))?;
    if let Demand::Order(over, order) = expectation.demand()? {
        order.iter().try_for_each(|value| there(&over, value))?;
    }
    if settings.iter().any(|setting| setting.matches(&expectation.when)) {
        Ok(())
    } else {
        Err("no setting has all of these values".into())
    }
}
