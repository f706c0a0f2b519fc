//! What one exchange costs: the latency of requests and answers (rr), and connections a second, each set up, used for one
//! exchange and closed (crr). Over Braid, over the kernel's TCP and MPTCP, and with no stack at all: a frame of AF_XDP that is
//! sent back. All through the same veth pairs, in one run.
//!
//! `cargo bench --bench exchange -- [--rounds N] [--seconds N] [--only TEXT] [--json FILE]`, as root, on a quiet machine. Each
//! round measures everything once, one after the other, so that what disturbs the machine disturbs all alike; or only that of which
//! "case, stack" has the text.

#[path = "common/mod.rs"]
mod common;
#[path = "exchange/ends.rs"]
mod ends;
#[path = "common/frames.rs"]
mod frames;
#[path = "common/hosts.rs"]
mod hosts;
#[path = "common/stack.rs"]
mod stack;

use braid::lab::{Host, Lab, LabOptions, ipv4};
use common::{Outcome, Reaped, Spread, done, machine, write_json};
use ends::Percentiles;
use frames::hardware_address;
use hosts::kernel_paths;
use serde_json::{Value, json};
use stack::Stack;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Bytes of a request, and of its answer.
const SIZES: [usize; 2] = [1, 1024];
/// Requests a second of a client that is not busy.
const PACE: u64 = 1000;

struct Settings {
    rounds: usize,
    seconds: u64,
    only: String,
    json: Option<String>,
}

/// What is measured, but for the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Requests of so many bytes, one after the other.
    Busy(usize),
    /// So many a second: their time runs from when they should have been sent.
    Paced(usize),
    /// Connections.
    Connections,
}

impl Case {
    fn all() -> impl Iterator<Item = Case> {
        SIZES.map(Case::Busy).into_iter().chain(SIZES.map(Case::Paced)).chain([Case::Connections])
    }

    fn name(self) -> String {
        match self {
            Case::Busy(bytes) => format!("{bytes} bytes, one after the other"),
            Case::Paced(bytes) => format!("{bytes} bytes, {PACE} a second"),
            Case::Connections => "connections".to_owned(),
        }
    }

    /// The client's arguments.
    fn arguments(self, seconds: u64) -> [String; 4] {
        let (what, bytes, pace) = match self {
            Case::Busy(bytes) => ("rr", bytes, 0),
            Case::Paced(bytes) => ("rr", bytes, PACE),
            Case::Connections => ("crr", 1, 0),
        };
        [what.to_owned(), bytes.to_string(), pace.to_string(), seconds.to_string()]
    }
}

/// A stack in a case: what came out in each round.
struct Row {
    stack: Stack,
    case: Case,
    /// Exchanges a second.
    rates: Vec<f64>,
    /// Microseconds of an exchange.
    times: Vec<Percentiles>,
}

fn main() -> Outcome<()> {
    let arguments = common::arguments();
    match arguments.first().map(String::as_str) {
        Some("serve") => return ends::serve(&arguments[1..]),
        Some("ask") => return ends::ask(&arguments[1..]),
        _ => {}
    }
    let settings = settings(&arguments)?;
    let lab = Lab::up(&format!("bx{}", std::process::id()), &LabOptions::default())?;
    for host in [Host::A, Host::B] {
        // A port that waits for old duplicates may be used again, and there are many: else the kernel's client would run out.
        done(lab.exec(host).args(["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"]))?;
        done(lab.exec(host).args(["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"]))?;
    }
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..settings.rounds {
        for case in Case::all() {
            eprintln!("round {} of {}: {}", round + 1, settings.rounds, case.name());
            for stack in Stack::ALL {
                let name = format!("{}, {}", case.name(), stack.name());
                if !name.contains(&settings.only) || (stack == Stack::Raw && case == Case::Connections) {
                    continue;
                }
                let (rate, times) = measure(&lab, stack, case, settings.seconds)?;
                eprintln!("  {}: {rate:.0} a second, median {:.1} us", stack.name(), times.p50);
                match rows.iter_mut().find(|row| row.stack == stack && row.case == case) {
                    Some(row) => {
                        row.rates.push(rate);
                        row.times.push(times);
                    }
                    None => rows.push(Row { stack, case, rates: vec![rate], times: vec![times] }),
                }
            }
        }
    }
    report(&rows, &settings)
}

fn settings(arguments: &[String]) -> Outcome<Settings> {
    let mut settings = Settings { rounds: 5, seconds: 3, only: String::new(), json: None };
    common::options(arguments, "--rounds N, --seconds N, --only TEXT, --json FILE", |word, value| {
        match word {
            "--rounds" => settings.rounds = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--only" => settings.only = value.to_owned(),
            "--json" => settings.json = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if settings.rounds == 0 || settings.seconds == 0 {
        return Err("at least one round of one second".into());
    }
    Ok(settings)
}

/// Exchanges a second, and what they took.
fn measure(lab: &Lab, stack: Stack, case: Case, seconds: u64) -> Outcome<(f64, Percentiles)> {
    kernel_paths(lab, stack == Stack::KernelMptcp)?;
    let program = std::env::current_exe()?;
    let hardware = hardware_address(lab)?;
    let mut server = lab.exec(Host::B);
    let server = server.arg(&program).args(["serve", stack.name()]);
    let mut server = Reaped(server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines();
    if !lines.by_ref().map_while(Result::ok).any(|line| line == ends::READY) {
        return Err(format!("the server of {} did not start", stack.name()).into());
    }
    let host = ipv4(Host::B, 1).ok_or("host b has an address")?.to_string();
    let mut client = lab.exec(Host::A);
    let client = client.arg(&program).args(["ask", stack.name(), &host, &hardware]);
    let result = output(client.args(case.arguments(seconds)))?;
    let rate = result["rate_per_s"].as_f64().ok_or("no rate")?;
    Ok((rate, serde_json::from_value(result["time_us"].clone())?))
}

fn output(command: &mut Command) -> Outcome<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn report(rows: &[Row], settings: &Settings) -> Outcome<()> {
    let mut documents = Vec::new();
    for case in Case::all() {
        let heading = ["a second", "p50 us", "p99", "p99.9", "p99.99", "of raw", "of kernel TCP"];
        let [rate, p50, p99, p999, p9999, raw, kernel] = heading;
        println!(
            "\n{:<34} {rate:>9} {p50:>8} {p99:>8} {p999:>8} {p9999:>8} {raw:>7} {kernel:>14}",
            case.name()
        );
        let of_case = || rows.iter().filter(|row| row.case == case);
        let median_of = |stack| of_case().find(|row| row.stack == stack).map(|row| row.times().p50);
        let (raw, kernel) = (median_of(Stack::Raw), median_of(Stack::KernelTcp));
        for row in of_case() {
            let (rate, times) = (Spread::of(&row.rates), row.times());
            let ratio = |base: Option<f64>| base.map(|base| times.p50 / base);
            let shown = |base| ratio(base).map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let Percentiles { p50, p99, p999, p9999 } = times;
            println!(
                "{:<34} {:>9.0} {p50:>8.1} {p99:>8.1} {p999:>8.1} {p9999:>8.1} {:>7} {:>14}",
                row.stack.name(),
                rate.median,
                shown(raw),
                shown(kernel)
            );
            documents.push(json!({
                "case": case.name(), "stack": row.stack.name(), "time_us": times,
                "rate_per_s": rate.median, "least_rate_per_s": rate.least, "most_rate_per_s": rate.most,
                "p50_of_raw": ratio(raw), "p50_of_kernel_tcp": ratio(kernel),
            }));
        }
    }
    println!("\nMedians of the rounds. Paced requests: their time runs from when they were due.");
    if let Some(file) = &settings.json {
        let document = json!({
            "machine": machine(), "rounds": settings.rounds, "seconds": settings.seconds, "rows": documents,
        });
        write_json(file, &document)?;
    }
    Ok(())
}

impl Row {
    /// Each percentile's median over the rounds.
    fn times(&self) -> Percentiles {
        let median =
            |one: fn(&Percentiles) -> f64| Spread::of(&self.times.iter().map(one).collect::<Vec<_>>()).median;
        Percentiles {
            p50: median(|times| times.p50),
            p99: median(|times| times.p99),
            p999: median(|times| times.p999),
            p9999: median(|times| times.p9999),
        }
    }
}
