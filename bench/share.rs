//! What share of a bottleneck Braid takes beside the kernel's TCP (Reno): one connection of each through a middle hop that limits
//! them (TBF), Braid's with one subflow or two, coupled or not. And what two coupled subflows find of two bottlenecks that
//! nobody else uses.
//!
//! `cargo bench --bench share -- [--rounds N] [--seconds N] [--json FILE]`, as root, on a quiet machine.

#[path = "common/mod.rs"]
mod common;

use braid::lab::{Host, Lab, LabOptions, Rate, ipv4};
use common::{Outcome, Reaped, Spread, done, machine, write_json};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const BRAID: &str = env!("CARGO_BIN_EXE_braid");
/// What the middle hop lets through on each path. Its queue holds 20 ms.
const LIMIT_MBIT: u32 = 50;
/// Payload's part of a full frame of MPTCP.
const PAYLOAD: f64 = 1420.0 / 1514.0;
/// Seconds that count for nothing.
const OMITTED: u32 = 5;
const KERNEL_PORT: &str = "5301";

/// Something that is measured.
struct Case {
    what: &'static str,
    algorithm: &'static str,
    subflows: u8,
    /// Over one path beside a connection of the kernel, or over two alone.
    paths: u8,
    /// What is to come out.
    goal: (f64, f64),
}

const CASES: [Case; 5] = [
    Case { what: "one subflow, Reno", algorithm: "reno", subflows: 1, paths: 1, goal: (0.7, 1.3) },
    Case { what: "two subflows, LIA", algorithm: "lia", subflows: 2, paths: 1, goal: (0.7, 1.3) },
    Case { what: "two subflows, OLIA", algorithm: "olia", subflows: 2, paths: 1, goal: (0.7, 1.3) },
    Case { what: "two subflows, Reno", algorithm: "reno", subflows: 2, paths: 1, goal: (1.6, 2.4) },
    Case { what: "two bottlenecks, LIA", algorithm: "lia", subflows: 2, paths: 2, goal: (1.9, 2.01) },
];

fn main() -> Outcome<()> {
    let (mut rounds, mut seconds, mut file) = (5, 20, None);
    common::options(&common::arguments(), "--rounds N, --seconds N, --json FILE", |word, value| {
        match word {
            "--rounds" => rounds = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--json" => file = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if rounds == 0 || seconds == 0 {
        return Err("at least one round, and one second".into());
    }
    let mut shares: Vec<Vec<f64>> = CASES.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (case, shares) in CASES.iter().zip(&mut shares) {
            let share = measure(case, seconds)?;
            eprintln!("round {} of {rounds}: {}: {share:.2}", round + 1, case.what);
            shares.push(share);
        }
    }
    println!("{:<22} {:>7} {:>12} {:>10}", "Braid", "share", "", "goal");
    let mut rows = Vec::new();
    for (case, shares) in CASES.iter().zip(&shares) {
        let Spread { median, least, most } = Spread::of(shares);
        let (from, to) = case.goal;
        let (spread, goal) = (format!("{least:.2}-{most:.2}"), format!("{from}-{to}"));
        println!("{:<22} {median:>7.2} {spread:>12} {goal:>10}", case.what);
        rows.push(
            json!({ "braid": case.what, "share": median, "least": least, "most": most, "goal": [from, to] }),
        );
    }
    println!(
        "\nA path of {LIMIT_MBIT} Mbit/s with 20 ms of queue: goodput in parts of that of a connection of the kernel's (Reno) \
         beside it; and over two such paths alone, in parts of what one can carry. Medians of {rounds} rounds of {seconds} s."
    );
    if let Some(file) = file {
        write_json(
            &file,
            &json!({ "machine": machine(), "rounds": rounds, "seconds": seconds, "rows": rows }),
        )?;
    }
    Ok(())
}

fn measure(case: &Case, seconds: u32) -> Outcome<f64> {
    let rate = Some(Rate::from_mbit(LIMIT_MBIT));
    let options = LabOptions { paths: case.paths, middle: true, rate, ..LabOptions::default() };
    let lab = Lab::up(&format!("bs{}", std::process::id()), &options)?;
    let beside = case.paths == 1;
    let address = ipv4(Host::B, 1).ok_or("host b has an address")?.to_string();
    let _server = start(lab.exec(Host::B).args([BRAID, "server", "-1"]))?;
    let mut kernel = None;
    if beside {
        forget_senders(&lab)?;
        let server = start(lab.exec(Host::B).args(["iperf3", "-s", "-1", "-p", KERNEL_PORT]))?;
        sleep(Duration::from_secs(1));
        let client = command(&lab, &["iperf3", "-c", &address, "-p", KERNEL_PORT, "-C", "reno"], seconds);
        kernel = Some((server, spawn_reading(client)?));
    } else {
        sleep(Duration::from_secs(1));
    }
    let mut client = command(&lab, &[BRAID, "client", &address, "--cc", case.algorithm], seconds);
    if beside {
        client.args(["--policy", &format!("ndiffports={}", case.subflows)]);
    }
    let braid = rate_of(spawn_reading(client)?)?;
    match kernel {
        Some((_server, child)) => Ok(braid / rate_of(child)?),
        None => Ok(braid / (f64::from(LIMIT_MBIT) * 1e6 * PAYLOAD)),
    }
}

/// A client with what both kinds take.
fn command(lab: &Lab, words: &[&str], seconds: u32) -> Command {
    let mut command = lab.exec(Host::A);
    command.args(words).args(["-J", "-t", &seconds.to_string(), "-O", &OMITTED.to_string()]);
    command
}

fn start(command: &mut Command) -> Outcome<Reaped> {
    Ok(Reaped(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

fn spawn_reading(mut command: Command) -> Outcome<std::process::Child> {
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// Bits a second that a client's peer has received.
fn rate_of(child: std::process::Child) -> Outcome<f64> {
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.ok_or_else(|| format!("no rate in {report}").into())
}

/// Has packets forget whose they are on their way through the middle. A packet of the kernel's TCP belongs to its socket until
/// it is freed, through all network namespaces of a machine: the kernel would take what waits at the middle hop for what waits
/// at its own NIC, of which it keeps little (TCP small queues), and never fill it. Real machines have no such thing. A copy
/// belongs to nobody, and a bridge that knows no addresses copies for all ports but the one that joined it first: so it learns
/// none, and one more port is there before the others.
fn forget_senders(lab: &Lab) -> Outcome<()> {
    for words in [
        "ip link add spare type veth peer unused",
        "ip link set dev unused up",
        "ip link set dev spare master bridge up",
        "ip link set dev a nomaster",
        "ip link set dev b nomaster",
        "ip link set dev a master bridge",
        "ip link set dev b master bridge",
        "ip link set dev a type bridge_slave learning off fdb_flush",
        "ip link set dev b type bridge_slave learning off fdb_flush",
    ] {
        done(lab.exec(Host::Middle(1)).args(words.split(' ')))?;
    }
    Ok(())
}
