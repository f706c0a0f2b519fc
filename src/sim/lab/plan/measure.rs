//! What is measured in a plan, and what should come out.

use super::values::{Number, Positive, Quantity};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A measure: one number of each run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Measure {
    /// Of what.
    pub of: Quality,
    /// Of these flows.
    pub flows: Option<String>,
    /// Of this line, or of all lines of this name.
    pub line: Option<String>,
    /// Of this way of theirs, counted from 1.
    pub way: Option<Positive>,
    /// In parts of the same of these flows, or of this line.
    pub per: Option<String>,
    /// In parts of this number.
    pub per_number: Option<Quantity>,
}

/// What can be measured, all from `measure-from-ms` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Of flows: bytes that were read, in Mbit/s, on average.
    GoodputMbps,
    /// Of flows: what arrived, with headers and what came twice, in Mbit/s, on average.
    RateMbps,
    /// The same of all together.
    TotalMbps,
    /// Of flows: what arrived, in full packets a second, on average.
    RatePackets,
    /// Of flows: the rate of all that a host sends, on average over the hosts that do.
    HostMbps,
    /// Of flows: the rate in percent of that of a host's link, in a tree or a cube.
    Percent,
    /// Of flows: Jain's index of fairness, 1 where all get the same.
    Jain,
    /// Of flows: what arrived over a way, in Mbit/s, on average.
    WayMbps,
    /// Of flows: what arrived over a way, in percent of all that did.
    WayPercent,
    /// Of flows with an end: how long they took, on average.
    CompletionMs,
    /// Of flows with an end: how much that varies (the standard deviation).
    CompletionSdMs,
    /// Of flows: the longest time that one had to wait for something to read.
    StallMs,
    /// Of flows with an end: how many of them came to it, in percent.
    FinishedPercent,
    /// Of lines: packets that it dropped or lost, in percent.
    LossPercent,
    /// Of lines: how much of its rate it used, in percent.
    UsePercent,
}

impl Quality {
    /// Whether it is of lines.
    pub fn is_of_lines(self) -> bool {
        matches!(self, Quality::LossPercent | Quality::UsePercent)
    }

    /// Whether it is of a way of flows.
    pub fn is_of_a_way(self) -> bool {
        matches!(self, Quality::WayMbps | Quality::WayPercent)
    }
}

/// What runs of a setting should give, on average over the seeds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectation {
    /// Which measure.
    pub measure: String,
    /// In which settings: parameters that are varied, or `case`, and their values.
    #[serde(default)]
    pub when: BTreeMap<String, toml::Value>,
    /// What it should be.
    pub is: Option<Number>,
    /// What it should be at least.
    pub at_least: Option<Number>,
    /// What it should be at most.
    pub at_most: Option<Number>,
    /// By how much it may differ from `is`, in the measure's unit.
    pub within: Option<Quantity>,
    /// By how much it may differ from `is`, in percent of it.
    pub within_percent: Option<Quantity>,
    /// Or this: values of the parameter `over`, those with the larger measure first.
    pub order: Option<Vec<toml::Value>>,
    /// The parameter that `order` is about.
    pub over: Option<String>,
    /// Who says so.
    pub by: Source,
}

/// Who says what is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// It follows from theory.
    Theory,
    /// It was measured with htsim.
    Htsim,
    /// It stands in the paper, and is rather a direction and a rough size.
    Paper,
    /// It is what Braid is to do.
    Goal,
}

impl Source {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Source::Theory => "theory",
            Source::Htsim => "htsim",
            Source::Paper => "paper",
            Source::Goal => "goal",
        }
    }
}

/// What an expectation demands.
#[derive(Debug, Clone, PartialEq)]
pub enum Demand {
    /// A value, and how far from it is near enough.
    Near(f64, f64),
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// Values of a parameter, those with the larger measure first.
    Order(String, Vec<toml::Value>),
}

impl Expectation {
    /// What it demands.
    ///
    /// # Errors
    /// More than one thing, or nothing.
    pub fn demand(&self) -> Result<Demand, String> {
        let Self { is, at_least, at_most, within, within_percent, order, over, .. } = self;
        let near = |is: f64| match (within, within_percent) {
            (Some(within), None) => Ok(Demand::Near(is, within.get())),
            (None, Some(percent)) => Ok(Demand::Near(is, is.abs() * percent.get() / 100.0)),
            _ => Err("'is' takes either within or within-percent".to_owned()),
        };
        match (is, at_least, at_most, order, over) {
            (Some(is), None, None, None, None) => near(is.get()),
            (None, Some(least), None, None, None) => Ok(Demand::AtLeast(least.get())),
            (None, None, Some(most), None, None) => Ok(Demand::AtMost(most.get())),
            (None, None, None, Some(order), Some(over)) if order.len() > 1 => {
                Ok(Demand::Order(over.clone(), order.clone()))
            }
            _ => Err(
                "an expectation has one of: is, at-least, at-most, or order (two values or more) with over"
                    .into(),
            ),
        }
    }
}
