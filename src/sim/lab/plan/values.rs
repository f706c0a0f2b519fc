//! What stands in a plan: numbers within their limits, and names. Each says what would be right when it is not.

use crate::base::names::find;
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::mptcp::connection::SUBFLOWS_MAX;
use crate::mptcp::sched::SchedulerKind;
use crate::sim::lab::graph::Choice;
use serde::Deserialize;

/// A whole number from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Positive(u32);

impl Positive {
    /// One.
    pub const ONE: Self = Self(1);

    pub(super) fn one() -> Self {
        Self::ONE
    }

    /// The number, which is not 0.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
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

/// A number, whole or not, that TOML has two kinds of.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// Whole.
    Whole(i64),
    /// Not whole.
    Real(f64),
}

impl Number {
    /// As one kind.
    pub fn get(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Real(real) => real,
        }
    }
}

/// A quantity above 0: a rate, a mean time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Number")]
pub struct Quantity(f64);

impl Quantity {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// So many milliseconds.
    pub fn millis(self) -> Duration {
        Duration::from_nanos((self.0 * 1e6) as u64)
    }
}

impl TryFrom<Number> for Quantity {
    type Error = String;

    fn try_from(number: Number) -> Result<Self, String> {
        let number = number.get();
        let is_good = number > 0.0 && number <= 1e12;
        if is_good { Ok(Self(number)) } else { Err(format!("{number} is not above 0")) }
    }
}

/// A time, from 0 to a day.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(try_from = "Number")]
pub struct Millis(f64);

impl Millis {
    /// A whole number of milliseconds.
    pub const fn new(millis: u32) -> Self {
        Self(millis as f64)
    }

    /// The time.
    pub fn get(self) -> Duration {
        Duration::from_nanos((self.0 * 1e6) as u64)
    }
}

impl TryFrom<Number> for Millis {
    type Error = String;

    fn try_from(number: Number) -> Result<Self, String> {
        let number = number.get();
        let is_good = (0.0..=86_400_000.0).contains(&number);
        if is_good { Ok(Self(number)) } else { Err(format!("{number} is no time between 0 and a day")) }
    }
}

/// A share, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(try_from = "Number")]
pub struct Percent(f64);

impl Percent {
    /// All.
    pub fn all() -> Self {
        Self(100.0)
    }

    /// In parts of one.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl TryFrom<Number> for Percent {
    type Error = String;

    fn try_from(number: Number) -> Result<Self, String> {
        let number = number.get();
        let is_good = (0.0..=100.0).contains(&number);
        if is_good { Ok(Self(number)) } else { Err(format!("{number} is not between 0 and 100 percent")) }
    }
}

/// Ports of a FatTree's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Ports(pub(super) usize);

impl TryFrom<i64> for Ports {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match number {
            4..=32 if number % 2 == 0 => Ok(Self(number as usize)),
            _ => Err(format!("a FatTree's k is even, from 4 to 32, and not {number}")),
        }
    }
}

/// Ports of a BCube's switch, and levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Small(pub(super) usize);

impl TryFrom<i64> for Small {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match number {
            2..=8 => Ok(Self(number as usize)),
            _ => Err(format!("a BCube has from 2 to 8 ports a switch and from 2 to 8 levels, not {number}")),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Ways(pub(super) Choice);

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
        find(CongestionAlgorithm::ALL, &name, format_args!("algorithm '{name}'")).map(Self)
    }
}

/// A scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Scheduler(pub SchedulerKind);

impl TryFrom<String> for Scheduler {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        find(SchedulerKind::ALL, &name, format_args!("scheduler '{name}'")).map(Self)
    }
}

/// A list that is not empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Vec<T>")]
pub struct OneOrMore<T>(Vec<T>);

impl<T> OneOrMore<T> {
    /// All.
    pub fn list(&self) -> &[T] {
        &self.0
    }
}

impl<T> TryFrom<Vec<T>> for OneOrMore<T> {
    type Error = String;

    fn try_from(list: Vec<T>) -> Result<Self, String> {
        if list.is_empty() { Err("an empty list: nothing would be run".into()) } else { Ok(Self(list)) }
    }
}
