//! What a data segment costs with nothing beneath: two workers in memory, one thread, bulk data from one to the other. Nanoseconds a
//! segment at the sender and at the receiver, of TCP and of MPTCP with one, two and eight subflows, with checksums and without;
//! beside smoltcp's TCP at the same MTU, in the same run. And allocations a segment, of which there should be none.
//!
//! `cargo bench --bench core -- [--rounds N] [--segments N] [--only TEXT] [--json FILE]`. Each round measures everything once, one after the
//! other, so that what disturbs the machine disturbs all alike. Frames change hands as they are: nothing is copied that the stack
//! itself does not copy. What the application does is no part of the figures, but for the sums that it makes of what it writes.

#[path = "common/memory.rs"]
mod memory;
#[path = "core/braid.rs"]
mod ours;
#[path = "core/smoltcp.rs"]
mod theirs;

use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::error::Error;
use std::fmt;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that the receiver's window lets go.
const WINDOW: u32 = 256 * 1024;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    stack: Stack,
    mtu: u16,
    checksum: bool,
    /// Data segments that a receiver finds waiting, and acknowledges together.
    batch: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stack {
    Smoltcp,
    Tcp,
    /// With so many subflows.
    Mptcp(usize),
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Segments with payload that the sender transmitted.
    pub segments: u64,
    /// Packets of the receiver.
    pub acks: u64,
    /// Bytes that the receiver's application got.
    pub payload_bytes: u64,
    /// Time of the sender, and of its sums.
    pub sender_ns: u64,
    /// Time of the receiver.
    pub receiver_ns: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    sender: f64,
    receiver: f64,
    gbit: f64,
    acks: f64,
    allocations: f64,
}

struct Settings {
    rounds: usize,
    segments: u64,
    /// Cases with another name are left out.
    only: String,
    json: Option<String>,
}

fn settings() -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings { rounds: 5, segments: 1_000_000, only: String::new(), json: None };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} takes a value"));
        match word.as_str() {
            "--rounds" => settings.rounds = value()?.parse()?,
            "--segments" => settings.segments = value()?.parse()?,
            "--only" => settings.only = value()?,
            "--json" => settings.json = Some(value()?),
            _ => {
                return Err(format!(
                    "{word}: there are --rounds N, --segments N, --only TEXT and --json FILE"
                )
                .into());
            }
        }
    }
    if settings.rounds == 0 || settings.segments < 1000 {
        return Err("at least one round of 1,000 segments".into());
    }
    Ok(settings)
}

fn cases() -> Vec<Case> {
    let stacks = [Stack::Smoltcp, Stack::Tcp, Stack::Mptcp(1), Stack::Mptcp(2), Stack::Mptcp(8)];
    let mut cases = Vec::new();
    for (mtu, batch) in [(1500, 2), (1500, 32), (3498, 32)] {
        for checksum in [false, true] {
            cases.extend(stacks.map(|stack| Case { stack, mtu, checksum, batch }));
        }
    }
    cases
}

fn measure(case: Case, segments: u64) -> Result<Figures, Box<dyn Error>> {
    // The first part warms caches and lets windows open.
    let mut run: Box<dyn FnMut(u64) -> Result<Cost, String>> = match case.stack {
        Stack::Smoltcp => Box::new(theirs::run(case)?),
        Stack::Tcp => Box::new(ours::run(case, 0)?),
        Stack::Mptcp(subflows) => Box::new(ours::run(case, subflows)?),
    };
    run(segments / 10)?;
    let region = Region::new(ALLOCATOR);
    let cost = run(segments)?;
    let allocations = region.change().allocations;
    let each = |total: u64| total as f64 / cost.segments as f64;
    Ok(Figures {
        sender: each(cost.sender_ns),
        receiver: each(cost.receiver_ns),
        gbit: cost.payload_bytes as f64 * 8.0 / (cost.sender_ns + cost.receiver_ns) as f64,
        acks: cost.acks as f64 / cost.segments as f64,
        allocations: allocations as f64 / cost.segments as f64,
    })
}

/// The middle one by the sum of both ends, and the sums of the least and the most.
fn middle(mut runs: Vec<Figures>) -> (Figures, f64, f64) {
    let sum = |figures: &Figures| figures.sender + figures.receiver;
    runs.sort_by(|a, b| sum(a).total_cmp(&sum(b)));
    (runs[runs.len() / 2], sum(&runs[0]), sum(&runs[runs.len() - 1]))
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stack::Smoltcp => write!(f, "smoltcp"),
            Stack::Tcp => write!(f, "braid TCP"),
            Stack::Mptcp(subflows) => write!(f, "braid MPTCP {subflows}"),
        }
    }
}

/// Its name, as `--only` takes it.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { stack, mtu, checksum, batch } = self;
        write!(f, "{stack}, MTU {mtu}, {batch} at a time, {} sums", if *checksum { "with" } else { "no" })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    let mut cases = cases();
    cases.retain(|case| case.to_string().contains(&settings.only));
    if cases.is_empty() {
        return Err(format!("--only {}: no case has that in its name", settings.only).into());
    }
    let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); cases.len()];
    for round in 1..=settings.rounds {
        eprintln!("round {round} of {}", settings.rounds);
        for (case, runs) in cases.iter().zip(&mut runs) {
            runs.push(measure(*case, settings.segments)?);
        }
    }
    println!(
        "{:<48} {:>8} {:>8} {:>8} {:>11} {:>7} {:>6} {:>7} {:>10}",
        "ns a segment", "sender", "receiver", "both", "least-most", "Gbit/s", "acks", "allocs", "to smoltcp"
    );
    let mut table: Vec<Value> = Vec::new();
    // The case that the next ones are compared with.
    let mut theirs = f64::NAN;
    for (case, runs) in cases.iter().zip(runs) {
        let (figures, least, most) = middle(runs);
        let Figures { sender, receiver, gbit, acks, allocations } = figures;
        let both = sender + receiver;
        if case.stack == Stack::Smoltcp {
            theirs = both;
        }
        let (ratio, range) = (both / theirs, format!("{least:.0}-{most:.0}"));
        println!(
            "{:<48} {sender:>8.1} {receiver:>8.1} {both:>8.1} {range:>11} {gbit:>7.1} {acks:>6.2} {allocations:>7.3} {ratio:>10.2}",
            case.to_string(),
        );
        table.push(json!({
            "stack": case.stack.to_string(), "mtu_bytes": case.mtu, "batch": case.batch, "checksum": case.checksum,
            "sender_ns": sender, "receiver_ns": receiver, "both_least_ns": least, "both_most_ns": most,
            "payload_gbit_per_s": gbit, "acks_per_segment": acks,
            "allocations_per_segment": allocations, "to_smoltcp": ratio,
        }));
    }
    if let Some(path) = settings.json {
        let document = json!({ "segments": settings.segments, "rounds": settings.rounds, "cases": table });
        std::fs::write(path, serde_json::to_string_pretty(&document)? + "\n")?;
    }
    Ok(())
}
