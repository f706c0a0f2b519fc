//! What is varied in a plan: its combinations, each an experiment of its own. A parameter is named as its place in the
//! file: `flows.mptcp.count` is `count` in the table `[flows.mptcp]`.

use super::{Experiment, Frame, Setting, is_same, word};
use std::ops::Range;
use toml::{Table, Value};

/// What is wrong, and where in the file.
type Wrong = (usize, String);

/// Settings that a plan has at most: more is a mistake.
const SETTINGS_MAX: usize = 10_000;

/// A combination of what is varied.
#[derive(Debug, Clone)]
struct Combination {
    /// Parameters and their values.
    values: Vec<(String, Value)>,
    /// The file with these values in it.
    table: Table,
    /// Where in the file the parameter stands that made it what it is: errors are told there.
    at: Range<usize>,
}

impl Combination {
    /// The same with one more parameter.
    fn with(&self, path: &str, value: &Value, at: &Range<usize>) -> Result<Self, Wrong> {
        let mut next = self.clone();
        assign(&mut next.table, path, value).map_err(|what| (at.start, what))?;
        next.values.push((path.to_owned(), value.clone()));
        if read(&next.table).is_err() {
            next.at = at.clone();
        }
        Ok(next)
    }

    fn setting(self) -> Result<Setting, Wrong> {
        let experiment = read(&self.table).map_err(|what| {
            let said = self.values.iter().map(|(name, value)| format!("{name} = {}", word(value)));
            (self.at.start, format!("with {}: {what}", said.collect::<Vec<_>>().join(", ")))
        })?;
        Ok(Setting { values: self.values, experiment })
    }
}

/// All settings of a plan, of which `table` is the file.
pub(super) fn settings(frame: &Frame, table: &Table) -> Result<Vec<Setting>, Wrong> {
    let base = Combination { values: Vec::new(), table: table.clone(), at: 0..0 };
    let mut combinations: Vec<Combination> = Vec::new();
    for (name, values) in &frame.case {
        let mut case = base.clone();
        case.at = values.span();
        for (path, value) in values.get_ref() {
            assign(&mut case.table, path, value).map_err(|what| (case.at.start, what))?;
        }
        case.values.push(("case".into(), Value::String(name.clone())));
        combinations.push(case);
    }
    if combinations.is_empty() {
        combinations.push(base);
    }
    for (path, values) in &frame.vary {
        let (at, values) = (values.span(), values.get_ref().list());
        for (place, value) in values.iter().enumerate() {
            if values[..place].iter().any(|other| is_same(other, value)) {
                return Err((at.start, format!("{path}: {} is there twice", word(value))));
            }
        }
        if combinations.len() * values.len() > SETTINGS_MAX {
            return Err((at.start, format!("more than {SETTINGS_MAX} combinations")));
        }
        let with = |before: &Combination| {
            values.iter().map(|value| before.with(path, value, &at)).collect::<Result<Vec<_>, Wrong>>()
        };
        let next: Result<Vec<_>, Wrong> = combinations.iter().map(with).collect();
        combinations = next?.into_iter().flatten().collect();
    }
    combinations.into_iter().map(Combination::setting).collect()
}

fn read(table: &Table) -> Result<Experiment, String> {
    let experiment: Experiment = Value::Table(table.clone())
        .try_into()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    experiment.check().map_err(|wrong| wrong.what)?;
    Ok(experiment)
}

/// Puts a value at a place. The table that it is in has to be there.
fn assign(table: &mut Table, path: &str, value: &Value) -> Result<(), String> {
    let mut here = table;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            here.insert(part.to_owned(), value.clone());
            return Ok(());
        }
        let names = here.keys().cloned().collect::<Vec<_>>().join(", ");
        here = match here.get_mut(part) {
            Some(Value::Table(table)) => table,
            _ => return Err(format!("{path}: there is no table '{part}'; there are: {names}")),
        };
    }
    Ok(())
}
