//! What came out of a plan, over its seeds, and whether it was as expected.

use crate::sim::lab::experiment::RunResult;
use crate::sim::lab::plan::measure::{Demand, Expectation, Source};
use crate::sim::lab::plan::{Plan, Setting, is_same, word};
use std::collections::BTreeMap;

/// A plan and its results.
#[derive(Debug)]
pub struct Findings<'a> {
    plan: &'a Plan,
    /// For each setting its runs.
    runs: Vec<Vec<RunResult>>,
}

/// A mean, and how much the values differ: the standard deviation of the sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistic {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, 0 for a single value.
    pub spread: f64,
}

/// What an expectation says of one setting, and what came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Which setting, in words.
    pub setting: String,
    /// Which measure.
    pub measure: String,
    /// What was expected.
    pub expected: String,
    /// What came out.
    pub got: String,
    /// How far that is from what was expected, where that is a number.
    pub difference: String,
    /// Who expects it.
    pub by: Source,
    /// It came.
    pub is_good: bool,
}

impl Statistic {
    /// Of these values; none of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        (!values.is_empty()).then_some(Self { mean, spread })
    }

    /// Mean and spread, with the digits that mean something.
    pub fn words(&self) -> String {
        format!("{} ± {}", number(self.mean), number_like(self.spread, self.mean))
    }
}

/// A number with three digits or four.
fn number(value: f64) -> String {
    number_like(value, value)
}

/// A number with as many decimals as one of the size of `like` has.
fn number_like(value: f64, like: f64) -> String {
    match like.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl<'a> Findings<'a> {
    /// Of the runs of each setting of a plan, in its order.
    pub fn new(plan: &'a Plan, runs: Vec<Vec<RunResult>>) -> Self {
        Self { plan, runs }
    }

    /// The plan.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Each setting with its runs.
    pub fn settings(&self) -> impl Iterator<Item = (&'a Setting, &[RunResult])> {
        self.plan.settings.iter().zip(self.runs.iter().map(Vec::as_slice))
    }

    /// The names of all measures.
    pub fn measures(&self) -> Vec<&'a str> {
        let first = self.plan.settings.first();
        first.map_or_else(Vec::new, |setting| setting.experiment.measure.keys().map(String::as_str).collect())
    }

    /// What a measure gave in a setting.
    pub fn statistic(&self, setting: usize, measure: &str) -> Option<Statistic> {
        let values: Vec<f64> =
            self.runs[setting].iter().filter_map(|run| *run.measured.get(measure)?).collect();
        Statistic::of(&values)
    }

    /// Packets with payload that arrived, in all runs.
    pub fn packets(&self) -> u64 {
        self.runs.iter().flatten().map(|run| run.packets).sum()
    }

    /// Connections that broke, in all runs.
    pub fn failed(&self) -> usize {
        self.runs.iter().flatten().map(|run| run.failed).sum()
    }

    /// What each expectation says of each setting that it is about.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.plan.expect.iter().flat_map(|expectation| self.judge(expectation)).collect()
    }

    fn judge(&self, expectation: &Expectation) -> Vec<Verdict> {
        // A plan whose expectations demand nothing was refused.
        let Ok(demand) = expectation.demand() else { return Vec::new() };
        let matching =
            self.plan.settings.iter().enumerate().filter(|(_, setting)| setting.matches(&expectation.when));
        match demand {
            Demand::Order(over, order) => self.judge_order(expectation, &over, &order),
            Demand::Near(is, within) => matching
                .map(|(place, _)| {
                    let expected = format!("{} ± {}", number(is), number_like(within, is));
                    self.judge_value(expectation, place, expected, Some(is), |got| (got - is).abs() <= within)
                })
                .collect(),
            Demand::AtLeast(least) => matching
                .map(|(place, _)| {
                    self.judge_value(expectation, place, format!("≥ {}", number(least)), None, |got| {
                        got >= least
                    })
                })
                .collect(),
            Demand::AtMost(most) => matching
                .map(|(place, _)| {
                    self.judge_value(expectation, place, format!("≤ {}", number(most)), None, |got| {
                        got <= most
                    })
                })
                .collect(),
        }
    }

    fn judge_value(
        &self,
        expectation: &Expectation,
        place: usize,
        expected: String,
        is: Option<f64>,
        is_good: impl Fn(f64) -> bool,
    ) -> Verdict {
        let got = self.statistic(place, &expectation.measure);
        let difference = got.zip(is).map(|(got, is)| {
            let off = got.mean - is;
            let percent = if is == 0.0 { String::new() } else { format!(" ({:+.1} %)", 100.0 * off / is) };
            format!("{}{}{percent}", if off < 0.0 { "" } else { "+" }, number_like(off, is))
        });
        Verdict {
            setting: self.plan.settings[place].title(),
            measure: expectation.measure.clone(),
            expected,
            got: got.map_or_else(|| "nothing".into(), |got| got.words()),
            difference: difference.unwrap_or_default(),
            by: expectation.by,
            is_good: got.is_some_and(|got| is_good(got.mean)),
        }
    }

    /// For every combination of the other parameters: whether the measure falls in this order.
    fn judge_order(&self, expectation: &Expectation, over: &str, order: &[toml::Value]) -> Vec<Verdict> {
        let mut groups: BTreeMap<String, Vec<(usize, &toml::Value)>> = BTreeMap::new();
        for (place, setting) in self.plan.settings.iter().enumerate() {
            let Some(value) = setting.value(over).filter(|_| setting.matches(&expectation.when)) else {
                continue;
            };
            groups.entry(setting.title_without(over)).or_default().push((place, value));
        }
        let judge = |(setting, members): (String, Vec<(usize, &toml::Value)>)| {
            let means: Vec<Option<f64>> = order
                .iter()
                .map(|wanted| {
                    let found = members.iter().find(|(_, value)| is_same(value, wanted))?;
                    Some(self.statistic(found.0, &expectation.measure)?.mean)
                })
                .collect();
            let got: Vec<String> = means.iter().map(|mean| mean.map_or("nothing".into(), number)).collect();
            Verdict {
                setting,
                measure: expectation.measure.clone(),
                expected: order.iter().map(word).collect::<Vec<_>>().join(" > "),
                got: got.join(" > "),
                difference: String::new(),
                by: expectation.by,
                is_good: means.windows(2).all(|pair| pair[0].zip(pair[1]).is_some_and(|(a, b)| a > b)),
            }
        };
        groups.into_iter().map(judge).collect()
    }
}

#[cfg(test)]
mod tests;
