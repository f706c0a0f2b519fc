//! What the benchmarks of the lab share: how they are called and what they write, children that end with their owner, spreads of figures, and what machine it was.

use serde_json::{Value, json};
use std::error::Error;
use std::process::{Child, Command};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A child that ends with its owner.
pub struct Reaped(pub Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Closing its standard input tells a child to end; killing makes sure of it. Both may find it gone.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of some figures.
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Spread { median: (below + above) / 2.0, least: sorted[0], most: sorted[sorted.len() - 1] }
    }
}

/// What a benchmark was called with.
pub fn arguments() -> Vec<String> {
    // Cargo adds --bench.
    std::env::args().skip(1).filter(|argument| argument != "--bench").collect()
}

/// Reads options that take a value each: `take` says whether it knows one. `known` tells users which there are.
pub fn options(
    arguments: &[String],
    known: &str,
    mut take: impl FnMut(&str, &str) -> Outcome<bool>,
) -> Outcome<()> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
        if !take(word, value)? {
            return Err(format!("unknown option {word}: {known}").into());
        }
    }
    Ok(())
}

/// Writes what was found.
pub fn write_json(file: &str, document: &Value) -> Outcome<()> {
    Ok(std::fs::write(file, serde_json::to_string_pretty(document)? + "\n")?)
}

/// Where figures come from.
pub fn machine() -> Value {
    json!({ "kernel": read("/proc/sys/kernel/osrelease"), "cpu": cpu(), "commit": commit() })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu() -> String {
    let info = read("/proc/cpuinfo");
    let name =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    name.map_or_else(String::new, |(_, name)| name.to_owned())
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command that has to succeed. Gives what it wrote to standard output.
pub fn done(command: &mut Command) -> Outcome<Vec<u8>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
