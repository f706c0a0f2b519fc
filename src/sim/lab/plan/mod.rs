//! Plans: experiments as files, so that anybody can repeat them. A plan is TOML: a network, who sends over it, what is
//! measured, what is varied, and what should come out. What is wrong in a plan is told with its line and with what would be
//! right.
//!
//! A plan is read once as it stands, and once for each combination of what is varied, with these values in it: a
//! [`Setting`] has an [`Experiment`] of its own. `bench/plans/README.md` teaches how plans are written.

pub mod flows;
pub mod measure;
pub mod network;
pub mod values;

mod check;
mod settings;

use crate::base::names::find;
use flows::{ChangePlan, CrossPlan, FlowPlan};
use measure::{Expectation, Measure};
use network::{BCubePlan, LinePlan, TreePlan};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use toml::Spanned;
use values::{Algorithm, Millis, OneOrMore, Positive, Subflows};

/// The plans that come with the program, by name.
pub const PLANS: &[(&str, &str)] = &[
    ("e1", include_str!("../../../../bench/plans/e1.toml")),
    ("e2", include_str!("../../../../bench/plans/e2.toml")),
    ("e3", include_str!("../../../../bench/plans/e3.toml")),
    ("e4", include_str!("../../../../bench/plans/e4.toml")),
    ("e5", include_str!("../../../../bench/plans/e5.toml")),
    ("e6", include_str!("../../../../bench/plans/e6.toml")),
    ("e7", include_str!("../../../../bench/plans/e7.toml")),
    ("e8", include_str!("../../../../bench/plans/e8.toml")),
    ("e9", include_str!("../../../../bench/plans/e9.toml")),
    ("e10", include_str!("../../../../bench/plans/e10.toml")),
    ("e11", include_str!("../../../../bench/plans/e11.toml")),
    ("e12", include_str!("../../../../bench/plans/e12.toml")),
    ("e13", include_str!("../../../../bench/plans/e13.toml")),
    ("e14", include_str!("../../../../bench/plans/e14.toml")),
    ("e15", include_str!("../../../../bench/plans/e15.toml")),
    ("e16", include_str!("../../../../bench/plans/e16.toml")),
    ("e17", include_str!("../../../../bench/plans/e17.toml")),
    ("e18", include_str!("../../../../bench/plans/e18.toml")),
    ("bbr", include_str!("../../../../bench/plans/bbr.toml")),
    ("dctcp", include_str!("../../../../bench/plans/dctcp.toml")),
    ("golden", include_str!("../../../../bench/plans/golden.toml")),
    ("staleness", include_str!("../../../../bench/plans/staleness.toml")),
];

/// What stands in a plan's file besides its [`Experiment`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Frame {
    name: String,
    about: String,
    seeds: Positive,
    #[serde(default)]
    vary: BTreeMap<String, Spanned<OneOrMore<toml::Value>>>,
    #[serde(default)]
    case: BTreeMap<String, Spanned<BTreeMap<String, toml::Value>>>,
    #[serde(default)]
    expect: Vec<Spanned<Expectation>>,
}

/// One experiment: everything that a run follows from, besides its seed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    /// How long a run lasts, in simulated time.
    pub duration_ms: Millis,
    /// What is before counts for nothing.
    #[serde(default)]
    pub measure_from_ms: Millis,
    /// Congestion control of all flows that do not name theirs.
    pub algorithm: Option<Algorithm>,
    /// Subflows of all connections that do not name theirs.
    pub subflows: Option<Subflows>,
    /// Subflows are coupled anew only so often, as where a thread of its own does it; 0: once a round trip, by the connection
    /// itself.
    #[serde(default)]
    pub coupling_period_ms: Millis,
    /// Applications send a pattern, and readers look at every byte.
    #[serde(default)]
    pub check_payload: bool,
    /// The least retransmission time-out.
    pub min_rto_ms: Option<Millis>,
    /// The network, if it is a FatTree.
    pub fat_tree: Option<TreePlan>,
    /// The network, if it is a BCube.
    pub bcube: Option<BCubePlan>,
    /// The network, if it is a few lines that flows share: by name.
    #[serde(default)]
    pub lines: BTreeMap<String, LinePlan>,
    /// Who sends, by name.
    pub flows: BTreeMap<String, FlowPlan>,
    /// Cross traffic, by name.
    #[serde(default)]
    pub cross: BTreeMap<String, CrossPlan>,
    /// What changes.
    #[serde(default)]
    pub change: Vec<ChangePlan>,
    /// What is measured, by name.
    pub measure: BTreeMap<String, Measure>,
    // The frame's, which stands in the same file.
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
    #[serde(default, rename = "about")]
    _about: IgnoredAny,
    #[serde(default, rename = "seeds")]
    _seeds: IgnoredAny,
    #[serde(default, rename = "vary")]
    _vary: IgnoredAny,
    #[serde(default, rename = "case")]
    _case: IgnoredAny,
    #[serde(default, rename = "expect")]
    _expect: IgnoredAny,
}

/// A combination of what is varied.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Parameters and their values, in the order of results.
    pub values: Vec<(String, toml::Value)>,
    /// The experiment with these values.
    pub experiment: Experiment,
}

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What results call it.
    pub name: String,
    /// What it shows, in a line.
    pub about: String,
    /// So many runs of each setting, with seeds from 1 on.
    pub seeds: u32,
    /// All combinations of what is varied.
    pub settings: Vec<Setting>,
    /// What should come out.
    pub expect: Vec<Expectation>,
}

impl Setting {
    /// The setting in words; empty where nothing is varied.
    pub fn title(&self) -> String {
        self.title_without("")
    }

    /// The same without one of the parameters.
    pub fn title_without(&self, parameter: &str) -> String {
        let others = self.values.iter().filter(|(name, _)| name != parameter);
        others.map(|(name, value)| format!("{name} {}", word(value))).collect::<Vec<_>>().join(", ")
    }

    /// Whether all of these parameters have these values.
    pub fn matches(&self, when: &BTreeMap<String, toml::Value>) -> bool {
        when.iter().all(|(name, wanted)| self.value(name).is_some_and(|value| is_same(value, wanted)))
    }

    /// The value of a parameter.
    pub fn value(&self, name: &str) -> Option<&toml::Value> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// A value in words.
pub fn word(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(whole) => whole.to_string(),
        toml::Value::Float(real) => real.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

/// Whether two values are the same: 1 and 1.0 are.
pub fn is_same(a: &toml::Value, b: &toml::Value) -> bool {
    let number = |value: &toml::Value| match value {
        toml::Value::Integer(whole) => Some(*whole as f64),
        toml::Value::Float(real) => Some(*real),
        _ => None,
    };
    a == b || number(a).is_some_and(|a| number(b) == Some(a))
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// What is wrong, in which line, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let told = |error: toml::de::Error| error.to_string();
        let table: toml::Table = toml::from_str(text).map_err(told)?;
        let experiment: Experiment = toml::from_str(text).map_err(told)?;
        let frame: Frame = toml::from_str(text).map_err(told)?;
        let line_of = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        experiment.check().map_err(|wrong| wrong.at_its_line(text))?;
        let settings = settings::settings(&frame, &table)
            .map_err(|(at, what)| format!("at line {}: {what}", line_of(at)))?;
        let Frame { name, about, seeds, expect, .. } = frame;
        for expectation in &expect {
            check::expectation(expectation.get_ref(), &settings)
                .map_err(|what| format!("at line {}: {what}", line_of(expectation.span().start)))?;
        }
        let expect = expect.into_iter().map(Spanned::into_inner).collect();
        Ok(Self { name, about, seeds: seeds.get(), settings, expect })
    }

    /// A plan that comes with the program.
    ///
    /// # Errors
    /// There is none of this name; the error names those that there are.
    pub fn of_braid(name: &str) -> Result<Self, String> {
        Self::parse(find(PLANS, name, format_args!("plan '{name}'"))?)
    }
}

#[cfg(test)]
mod tests;
