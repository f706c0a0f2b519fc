//! Plans: experiments as files, so that anybody can repeat them. A plan is TOML: a FatTree, its links, who sends to whom,
//! and over what to sweep; every combination is a [`Cell`]. What is wrong in a plan is told with its line and with what
//! would be right.

use crate::base::names::find;
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::mptcp::connection::SUBFLOWS_MAX;
use crate::sim::lab::graph::Choice;
use crate::sim::lab::line::{FULL_PACKET, LineConfig};
use crate::sim::lab::topology::tree::FatTree;
use crate::sim::pipe::QueueLimit;
use serde::Deserialize;

/// The plans that come with the program, by name.
pub const PLANS: &[(&str, &str)] = &[("e8", include_str!("../../../bench/plans/e8.toml"))];

/// A plan.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// What results call it.
    pub name: String,
    /// What it shows, in a line.
    pub about: String,
    /// How long each run lasts, in simulated milliseconds.
    pub duration_ms: Positive,
    /// What is before counts for nothing.
    pub measure_from_ms: u64,
    /// The network.
    pub fat_tree: Tree,
    /// Its links.
    pub link: Link,
    /// Who sends.
    pub workload: Workload,
    /// What is varied.
    pub sweep: Sweep,
    /// What should come out.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// A FatTree, see [`FatTree`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tree {
    /// Ports of a switch.
    pub k: Ports,
    /// So many times more hosts than the tree is made for.
    #[serde(default = "Positive::one")]
    pub oversubscription: Positive,
    /// How ways are chosen: ecmp, random or distinct.
    pub ways: Ways,
}

/// What every link is like.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Mbit/s.
    pub rate_mbps: Positive,
    /// Propagation, in microseconds.
    pub delay_us: u64,
    /// Full packets that a queue holds.
    pub queue_packets: Positive,
}

/// Who sends to whom.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// The pattern.
    pub kind: WorkloadKind,
    /// Flows begin at random within this time, in milliseconds.
    pub starts_within_ms: u64,
    /// Send buffer and receive buffer of a connection, in bytes.
    pub buffer_bytes: Positive,
}

/// The workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// Every host sends to one and receives from one.
    Permutation,
    /// Every host sends to one by lot.
    Random,
}

/// What is varied.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sweep {
    /// Subflows of a connection; one is plain TCP's case.
    pub subflows: OneOrMore<Subflows>,
    /// Congestion control, by the names of `--cc`.
    pub algorithms: OneOrMore<Algorithm>,
    /// Each seed is a run of its own.
    pub seeds: OneOrMore<u64>,
}

/// What a cell should give, on average over the seeds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectation {
    /// Of which cells.
    pub subflows: Subflows,
    /// Of which cells.
    pub algorithm: Algorithm,
    /// Goodput in percent of the links' rate.
    pub percent: f64,
    /// By how many points it may differ.
    pub within: f64,
}

/// A whole number from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Positive(u32);

impl Positive {
    fn one() -> Self {
        Self(1)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Positive {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let whole = u32::try_from(number).ok().filter(|whole| *whole > 0);
        whole.map(Self).ok_or_else(|| format!("{number} is not between 1 and {}", u32::MAX))
    }
}

/// Ports of a FatTree's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Ports(usize);

impl TryFrom<i64> for Ports {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match number {
            4..=32 if number % 2 == 0 => Ok(Self(number as usize)),
            _ => Err(format!("a FatTree's k is even, from 4 to 32, and not {number}")),
        }
    }
}

/// Subflows of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Subflows(usize);

impl Subflows {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for Subflows {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let subflows = usize::try_from(number).ok().filter(|count| (1..=SUBFLOWS_MAX).contains(count));
        subflows
            .map(Self)
            .ok_or_else(|| format!("a connection has from 1 to {SUBFLOWS_MAX} subflows, not {number}"))
    }
}

/// How ways are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ways(Choice);

impl TryFrom<String> for Ways {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        find(Choice::ALL, &name, format_args!("'{name}'")).map(Self)
    }
}

/// A congestion control algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Algorithm(pub CongestionAlgorithm);

impl TryFrom<String> for Algorithm {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        find(CongestionAlgorithm::ALL, &name, format_args!("'{name}'")).map(Self)
    }
}

/// A list that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<T>")]
pub struct OneOrMore<T>(Vec<T>);

impl<T> TryFrom<Vec<T>> for OneOrMore<T> {
    type Error = String;

    fn try_from(list: Vec<T>) -> Result<Self, String> {
        if list.is_empty() { Err("an empty list: nothing would be run".into()) } else { Ok(Self(list)) }
    }
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Subflows of each connection.
    pub subflows: Subflows,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// Where all randomness comes from.
    pub seed: u64,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// What is wrong, in which line, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if plan.measure_from_ms >= u64::from(plan.duration_ms.get()) {
            return Err(format!(
                "measure-from-ms = {} leaves nothing to measure: it has to be less than duration-ms = {}",
                plan.measure_from_ms,
                plan.duration_ms.get()
            ));
        }
        Ok(plan)
    }

    /// The runs: those that differ only in their seeds stand together.
    pub fn cells(&self) -> Vec<Cell> {
        let Sweep { subflows, algorithms, seeds } = &self.sweep;
        let mut cells = Vec::new();
        for &algorithm in &algorithms.0 {
            for &subflows in &subflows.0 {
                cells.extend(seeds.0.iter().map(|&seed| Cell { subflows, algorithm, seed }));
            }
        }
        cells
    }

    /// The network of every run.
    pub fn tree(&self) -> FatTree {
        let Link { rate_mbps, delay_us, queue_packets } = self.link;
        let link = LineConfig {
            rate_bps: u64::from(rate_mbps.get()) * 1_000_000,
            delay: Duration::from_micros(delay_us),
            queue: QueueLimit::Bytes(queue_packets.get() as usize * FULL_PACKET),
            ..LineConfig::default()
        };
        let Tree { k, oversubscription, ways } = self.fat_tree;
        FatTree { k: k.0, link, oversubscription: oversubscription.get() as usize, choice: ways.0 }
    }

    /// What cells of this kind should give.
    pub fn expected(&self, cell: &Cell) -> Option<&Expectation> {
        self.expect
            .iter()
            .find(|expect| expect.subflows == cell.subflows && expect.algorithm == cell.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const E8: &str = PLANS[0].1;

    #[test]
    fn the_plans_that_come_with_the_program_can_be_read() {
        for (name, text) in PLANS {
            let plan = Plan::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!plan.cells().is_empty() && !plan.about.is_empty(), "{name}");
            for expect in &plan.expect {
                let cells = plan.cells();
                assert!(cells.iter().any(|cell| plan.expected(cell) == Some(expect)), "{name}: {expect:?}");
            }
        }
    }

    #[test]
    fn every_combination_is_a_cell() {
        let plan = Plan::parse(E8).expect("a plan");
        let cells = plan.cells();
        let Sweep { subflows, algorithms, seeds } = &plan.sweep;
        assert_eq!(cells.len(), subflows.0.len() * algorithms.0.len() * seeds.0.len());
        assert!((1..cells.len()).all(|place| !cells[..place].contains(&cells[place])));
        assert_eq!(plan.tree().hosts(), 128);
    }

    /// E8 with one line of it replaced.
    fn broken(line: &str, by: &str) -> String {
        assert!(E8.contains(line), "{line}");
        Plan::parse(&E8.replace(line, by)).expect_err("a bad plan")
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_would_be_right() {
        let line_of = |text: &str| {
            let place = E8.lines().position(|line| line.starts_with(text)).expect("there");
            format!("line {}", place + 1)
        };
        for (line, by, words) in [
            ("k = 8", "k = 7", "even"),
            ("rate-mbps = 100", "rate-mbps = 0", "between 1"),
            ("ways = \"distinct\"", "ways = \"shortest\"", "ecmp, random, distinct"),
            ("kind = \"permutation\"", "kind = \"all\"", "`permutation` or `random`"),
            ("delay-us = 1", "delay-us = 1\ndelay-ms = 1", "unknown field"),
        ] {
            let error = broken(line, by);
            assert!(error.contains(words), "{error}");
            assert!(error.contains("at line "), "{error}");
            if !by.contains('\n') {
                assert!(error.contains(&line_of(line)), "{error}");
            }
        }
        let seeds = E8.lines().find(|line| line.starts_with("seeds")).expect("there");
        assert!(broken(seeds, "seeds = [1, -2]").contains("-2"));
        assert!(broken(seeds, "seeds = []").contains("empty"));
        assert!(broken("measure-from-ms = 1000", "measure-from-ms = 2000").contains("less than duration-ms"));
        assert!(Plan::parse("no plan").expect_err("no TOML").contains("line 1"));
    }
}
