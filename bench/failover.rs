//! What it costs that a path dies under load: how long the receiving application gets nothing, over Braid and over the kernel's
//! MPTCP, in one run. Two paths, each limited by a middle hop; one of them dies while both are full.
//!
//! `cargo bench --bench failover -- [--rounds N] [--json FILE]`, as root, on a quiet machine.

#[path = "common/mod.rs"]
mod common;
#[path = "failover/ends.rs"]
mod ends;
#[path = "common/hosts.rs"]
mod hosts;
#[path = "common/stack.rs"]
mod stack;

use braid::lab::{Host, Lab, LabOptions, Rate, ipv4};
use common::{Outcome, Reaped, Spread, machine, write_json};
use ends::{Arrivals, Sent};
use hosts::kernel_paths;
use serde_json::json;
use stack::Stack;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// What the middle hop lets through on each path.
const LIMIT_MBIT: u32 = 200;
/// Until the path dies: time to fill both.
const BEFORE: Duration = Duration::from_secs(2);
/// And after it.
const AFTER: Duration = Duration::from_secs(3);

/// How a path dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// The sender's NIC is set down: it knows at once.
    SenderDown,
    /// The receiver's is: the receiver knows, and may say so.
    ReceiverDown,
    /// Nothing comes through any more, and nobody is told.
    Silent,
}

impl Death {
    const ALL: [Death; 3] = [Death::SenderDown, Death::ReceiverDown, Death::Silent];

    fn name(self) -> &'static str {
        match self {
            Death::SenderDown => "the sender's NIC goes down",
            Death::ReceiverDown => "the receiver's NIC goes down",
            Death::Silent => "the path goes silent",
        }
    }

    fn strike(self, lab: &Lab, path: u8) -> Outcome<()> {
        match self {
            Death::SenderDown => lab.set_link(Host::A, path, false)?,
            Death::ReceiverDown => lab.set_link(Host::B, path, false)?,
            Death::Silent => lab.set_loss(path, 1000)?,
        }
        Ok(())
    }
}

/// A stack under a death: what came out in each round.
struct Row {
    stack: Stack,
    death: Death,
    /// Milliseconds of the longest time without data, while both paths lived.
    usual_ms: Vec<f64>,
    /// The same after one died.
    silence_ms: Vec<f64>,
    /// What is delivered then, of what the other path carries.
    rest_mbit: Vec<f64>,
    /// What the sender knows.
    sent: Vec<Sent>,
}

fn main() -> Outcome<()> {
    let arguments = common::arguments();
    match arguments.first().map(String::as_str) {
        Some("sink") => return ends::sink(&arguments[1..]),
        Some("source") => return ends::source(&arguments[1..]),
        _ => {}
    }
    let (mut rounds, mut file) = (5, None);
    common::options(&arguments, "--rounds N, --json FILE", |word, value| {
        match word {
            "--rounds" => rounds = value.parse()?,
            "--json" => file = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if rounds == 0 {
        return Err("at least one round".into());
    }
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for death in Death::ALL {
            eprintln!("round {} of {rounds}: {}", round + 1, death.name());
            for stack in [Stack::BraidTwoPaths, Stack::KernelMptcp] {
                measure(stack, death, &mut rows)?;
            }
        }
    }
    report(&rows, rounds, file.as_deref())
}

fn measure(stack: Stack, death: Death, rows: &mut Vec<Row>) -> Outcome<()> {
    let options =
        LabOptions { middle: true, rate: Some(Rate::from_mbit(LIMIT_MBIT)), ..LabOptions::default() };
    let lab = Lab::up(&format!("bf{}", std::process::id()), &options)?;
    kernel_paths(&lab, true)?;
    let program = std::env::current_exe()?;
    let mut sink = lab.exec(Host::B);
    let mut sink = Reaped(sink.arg(&program).args(["sink", stack.name()]).stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(sink.0.stdout.take().ok_or("no output")?).lines();
    if !lines.by_ref().map_while(Result::ok).any(|line| line == ends::READY) {
        return Err(format!("the server of {} did not start", stack.name()).into());
    }
    let host = ipv4(Host::B, 1).ok_or("host b has an address")?.to_string();
    let seconds = (BEFORE + AFTER).as_secs().to_string();
    let mut source = lab.exec(Host::A);
    let source = source.arg(&program).args(["source", stack.name(), &host, &seconds]);
    let source = source.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut source = Reaped(source);
    sleep(BEFORE);
    // The second: the first one carries the handshake, and in the kernel more than that.
    let struck_at = ends::clock();
    death.strike(&lab, 2)?;
    let mut said = BufReader::new(source.0.stdout.take().ok_or("no output")?).lines();
    let sent: Sent = serde_json::from_str(&said.next().ok_or("the sender has failed")??)?;
    let arrivals: Arrivals = serde_json::from_str(&lines.next().ok_or("the receiver has failed")??)?;
    let begun = arrivals.first().ok_or("nothing has arrived")?;
    // Not the slow start.
    let usual = arrivals.longest_silence(begun + Duration::from_secs(1), struck_at);
    let (silence, ends_at) = arrivals.longest_silence(struck_at, struck_at + AFTER / 2);
    let rest = arrivals.rate(ends_at + Duration::from_millis(500), struck_at + AFTER * 3 / 4);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    eprintln!("  {}: {:.1} ms, then {:.0} Mbit/s", stack.name(), ms(silence), rest / 1e6);
    let known = rows.iter().position(|row| row.stack == stack && row.death == death);
    let place = known.unwrap_or_else(|| {
        let none = Vec::new;
        let (usual_ms, silence_ms, rest_mbit) = (none(), none(), none());
        rows.push(Row { stack, death, usual_ms, silence_ms, rest_mbit, sent: Vec::new() });
        rows.len() - 1
    });
    let row = &mut rows[place];
    row.usual_ms.push(ms(usual.0));
    row.silence_ms.push(ms(silence));
    row.rest_mbit.push(rest / 1e6);
    row.sent.push(sent);
    Ok(())
}

fn report(rows: &[Row], rounds: usize, file: Option<&str>) -> Outcome<()> {
    let mut documents = Vec::new();
    for death in Death::ALL {
        println!(
            "\n{:<30} {:>11} {:>17} {:>10} {:>7} {:>8} {:>12}",
            death.name(),
            "silence ms",
            "",
            "before ms",
            "RTT ms",
            "Mbit/s",
            "reinjected"
        );
        for row in rows.iter().filter(|row| row.death == death) {
            let [silence, usual, rest] =
                [&row.silence_ms, &row.usual_ms, &row.rest_mbit].map(|figures| Spread::of(figures));
            let reinjected = row.told(|sent| sent.reinjected.map(|bytes| bytes as f64));
            let rtt_ms = row.told(|sent| sent.rtt_ms);
            let shown =
                |figure: Option<f64>, digits: usize| figure.map(|figure| format!("{figure:.digits$}"));
            println!(
                "{:<30} {:>11.1} {:>17} {:>10.1} {:>7} {:>8.0} {:>12}",
                row.stack.name(),
                silence.median,
                format!("{:.1}-{:.1}", silence.least, silence.most),
                usual.median,
                shown(rtt_ms, 1).unwrap_or_default(),
                rest.median,
                shown(reinjected, 0).unwrap_or_default()
            );
            documents.push(json!({
                "death": death.name(), "stack": row.stack.name(),
                "silence_ms": silence.median, "least_silence_ms": silence.least, "most_silence_ms": silence.most,
                "usual_silence_ms": usual.median, "rest_mbit_per_s": rest.median, "reinjected_bytes": reinjected, "rtt_ms": rtt_ms,
            }));
        }
    }
    println!(
        "\nTwo paths of {LIMIT_MBIT} Mbit/s, one dies. The longest time in which the receiving application gets nothing: medians, \
         least and most; the same while both paths live; the round trip of the path that is left, what it then carries, and \
         bytes that went once more over it."
    );
    if let Some(file) = file {
        let document = json!({ "machine": machine(), "rounds": rounds, "rows": documents });
        write_json(file, &document)?;
    }
    Ok(())
}

impl Row {
    /// The median of a figure of the sender's; none where its stack does not tell.
    fn told(&self, figure: impl Fn(&Sent) -> Option<f64>) -> Option<f64> {
        let figures: Vec<f64> = self.sent.iter().filter_map(figure).collect();
        (!figures.is_empty()).then(|| Spread::of(&figures).median)
    }
}
