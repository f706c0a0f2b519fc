//! What the laboratory costs: a permutation over a FatTree (E8 of the experiments), CPU time for each delivered packet
//! with payload, events a second, the peak of memory, and how much of the optimum the flows get.
//!
//! `cargo bench --bench sim -- [--k N] [--subflows N,N] [--millis N] [--seed N]` runs in this one thread. CPU time is that of the
//! thread, setting up not included, so that others on the machine weigh little; the rate is that of the second half.

use braid::base::time::Duration;
use braid::sim::lab::flow::Group;
use braid::sim::lab::graph::Choice;
use braid::sim::lab::laboratory::{Laboratory, Setup};
use braid::sim::lab::line::LineConfig;
use braid::sim::lab::topology::tree::FatTree;
use braid::sim::lab::workload;
use braid::stack::ConnectOptions;
use std::error::Error;

/// The longest time between the beginnings of two flows.
const STARTS_WITHIN: Duration = Duration::from_millis(10);
/// Frames a host: what 1 MB of receive buffer and as much of send buffer need at most.
const FRAMES_PER_HOST: usize = 2048;
const BUFFER: u32 = 1 << 20;

struct Settings {
    k: usize,
    subflows: Vec<usize>,
    millis: u64,
    seed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    println!(
        "{:>8} {:>6} {:>10} {:>12} {:>12} {:>10} {:>10} {:>10} {:>8} {:>17}",
        "subflows",
        "hosts",
        "CPU s",
        "packets",
        "µs/packet",
        "events",
        "ns/event",
        "optimum %",
        "MiB",
        "trace"
    );
    for subflows in &settings.subflows {
        run(&settings, *subflows)?;
    }
    Ok(())
}

fn settings() -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings { k: 8, subflows: vec![1, 8], millis: 2000, seed: 1 };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--k" => settings.k = value.parse()?,
            "--subflows" => {
                settings.subflows = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--millis" => settings.millis = value.parse()?,
            "--seed" => settings.seed = value.parse()?,
            _ => return Err(format!("{word}: not known").into()),
        }
    }
    Ok(settings)
}

fn run(settings: &Settings, subflows: usize) -> Result<(), Box<dyn Error>> {
    let Settings { k, millis, seed, .. } = *settings;
    let link = LineConfig { delay: Duration::from_micros(1), ..LineConfig::default() };
    let link_mbps = link.rate_bps as f64 / 1e6;
    let tree = FatTree { k, link, oversubscription: 1, choice: Choice::Distinct, answers_aside: false };
    let hosts = tree.hosts();
    let options = ConnectOptions { receive_buffer: BUFFER, send_buffer: BUFFER, ..ConnectOptions::default() };
    let mut lab = Laboratory::new(Setup {
        groups: vec![Group { name: "bulk".into(), options }],
        flows: workload::permutation(hosts, subflows, STARTS_WITHIN, seed),
        ..Setup::new(seed, tree.build(seed), hosts * FRAMES_PER_HOST)
    });
    let before = cpu_seconds()?;
    lab.run_until(braid::base::Instant::from_millis(millis / 2))?;
    let first: u64 = lab.flows().list().iter().map(|flow| flow.received).sum();
    lab.run_until(braid::base::Instant::from_millis(millis))?;
    let cpu = cpu_seconds()? - before;
    let second: u64 = lab.flows().list().iter().map(|flow| flow.received).sum();
    let (_, packets) = lab.packets();
    let events = lab.event_count() as f64;
    let mbps = (second - first) as f64 * 8.0 / (millis as f64 / 2.0) / 1e3 / hosts as f64;
    println!(
        "{subflows:>8} {hosts:>6} {cpu:>10.2} {packets:>12} {:>12.3} {events:>10} {:>10.0} {:>10.1} {:>8} {:>17x}",
        cpu * 1e6 / packets as f64,
        cpu * 1e9 / events,
        100.0 * mbps / link_mbps,
        peak_mib()?,
        lab.trace()
    );
    lab.close()?;
    Ok(())
}

/// CPU time of this thread.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().unwrap_or_default();
    Ok(nanos.parse::<f64>()? * 1e-9)
}

/// The most memory that the process ever had.
fn peak_mib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
