//! How much of what AF_XDP moves is left when Braid runs over it: goodput and frame rate over one path and two, beside
//! the raw frame rate on the same veth pairs, in one run; and two paths that a middle hop limits, beside one.
//!
//! `cargo bench --bench wire -- [--rounds N] [--seconds N] [--json FILE]`, as root, on a quiet machine. Each round
//! measures everything once, one after the other, so that what disturbs the machine disturbs all alike.

use braid::lab::{Host, Lab, LabOptions, Rate, ipv4, nic};
use braid::xdp::{probe_nic, raw};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The whole frame of a full segment at an MTU of 1500.
const FRAME: usize = 1514;
/// Its payload: 1500 less IPv4, TCP, timestamps and a DSS with 64-bit numbers.
const PAYLOAD: f64 = 1420.0;
/// Payload on plain TCP.
const PLAIN_PAYLOAD: f64 = 1448.0;
/// What the middle hop lets through on each path.
const LIMIT_MBIT: u32 = 500;

struct Settings {
    rounds: usize,
    seconds: u64,
    json: Option<String>,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("raw-send") => return raw_send(&arguments[1..]),
        Some("raw-count") => return raw_count(&arguments[1..]),
        _ => {}
    }
    let settings = settings(&arguments)?;
    let mut rows = Vec::new();
    {
        let lab = Lab::up(&format!("bw{}", std::process::id()), &LabOptions::default())?;
        for round in 0..settings.rounds {
            eprintln!("round {} of {}: open paths", round + 1, settings.rounds);
            record(&mut rows, "raw AF_XDP, one path", raw(&lab, &settings)?);
            record(
                &mut rows,
                "braid, MPTCP, two paths",
                frames(&lab, &settings, &["--nic", "p1", "--nic", "p2"], PAYLOAD)?,
            );
            record(&mut rows, "braid, MPTCP, one path", frames(&lab, &settings, &["--nic", "p1"], PAYLOAD)?);
            let plain = ["--nic", "p1", "--plain-tcp"];
            record(&mut rows, "braid, plain TCP, one path", frames(&lab, &settings, &plain, PLAIN_PAYLOAD)?);
        }
    }
    let options =
        LabOptions { middle: true, rate: Some(Rate::from_mbit(LIMIT_MBIT)), ..LabOptions::default() };
    let lab = Lab::up(&format!("bs{}", std::process::id()), &options)?;
    for round in 0..settings.rounds {
        eprintln!("round {} of {}: paths limited to {LIMIT_MBIT} Mbit/s", round + 1, settings.rounds);
        record(&mut rows, "limited, one path", goodput(&lab, &settings, &["--nic", "p1"])? / 1e6);
        record(
            &mut rows,
            "limited, two paths",
            goodput(&lab, &settings, &["--nic", "p1", "--nic", "p2"])? / 1e6,
        );
    }
    report(&rows, &settings)
}

fn settings(arguments: &[String]) -> Outcome<Settings> {
    let mut settings = Settings { rounds: 5, seconds: 5, json: None };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--rounds" => settings.rounds = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--json" => settings.json = Some(value.clone()),
            _ => return Err(format!("unknown option {word}: --rounds N, --seconds N, --json FILE").into()),
        }
    }
    Ok(settings)
}

type Rows = Vec<(&'static str, Vec<f64>)>;

fn record(rows: &mut Rows, name: &'static str, value: f64) {
    eprintln!("  {name}: {value:.0}");
    match rows.iter_mut().find(|(known, _)| *known == name) {
        Some((_, values)) => values.push(value),
        None => rows.push((name, vec![value])),
    }
}

/// Median, smallest, largest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    (median, sorted[0], sorted[sorted.len() - 1])
}

fn report(rows: &Rows, settings: &Settings) -> Outcome<()> {
    let median =
        |name: &str| rows.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, v)| spread(v).0);
    let (raw_rate, one_limited) = (median("raw AF_XDP, one path"), median("limited, one path"));
    println!("\n{:<30} {:>12} {:>12} {:>12}  {:>6}", "", "median", "least", "most", "ratio");
    let mut lines = Vec::new();
    for (name, values) in rows {
        let (middle, least, most) = spread(values);
        let limited = name.starts_with("limited");
        let ratio = middle / if limited { one_limited } else { raw_rate };
        let unit = if limited { "Mbit/s" } else { "frames/s" };
        println!("{name:<30} {middle:>12.0} {least:>12.0} {most:>12.0}  {ratio:>6.2} {unit}");
        lines.push(json!({ "name": name, "unit": unit, "median": middle, "min": least, "max": most, "ratio": ratio }));
    }
    println!("\nRatios: frame rates to raw AF_XDP at {FRAME} bytes; limited paths to one of them.");
    if let Some(file) = &settings.json {
        let machine =
            json!({ "kernel": read("/proc/sys/kernel/osrelease"), "cpu": cpu(), "commit": commit() });
        std::fs::write(file, serde_json::to_string_pretty(&json!({ "machine": machine, "rows": lines }))?)?;
    }
    Ok(())
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

/// Frames a second of a transfer from host a to host b.
fn frames(lab: &Lab, settings: &Settings, options: &[&str], payload: f64) -> Outcome<f64> {
    Ok(goodput(lab, settings, options)? / 8.0 / payload)
}

/// Received bits a second of a transfer from host a to host b.
fn goodput(lab: &Lab, settings: &Settings, options: &[&str]) -> Outcome<f64> {
    let braid = env!("CARGO_BIN_EXE_braid");
    let mut server = lab.exec(Host::B);
    let nics = options.iter().filter(|word| **word != "--plain-tcp");
    let mut server =
        Reaped(server.arg(braid).args(["server", "-1"]).args(nics).stdout(Stdio::piped()).spawn()?);
    // Its first lines say that it listens.
    let mut banner = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines();
    banner.by_ref().map_while(Result::ok).find(|line| line.contains("listening"));
    let rest = thread::spawn(move || banner.for_each(drop));
    let host = ipv4(Host::B, 1).ok_or("host b has an address")?.to_string();
    let seconds = settings.seconds.to_string();
    let output = lab
        .exec(Host::A)
        .arg(braid)
        .args(["client", &host, "-J", "-i", "0", "-t", &seconds])
        .args(options)
        .output()?;
    let result: Value = serde_json::from_slice(&output.stdout)?;
    let status = server.0.wait()?;
    drop(rest.join());
    if let Some(error) = result["error"].as_str() {
        return Err(format!("the client failed: {error}").into());
    }
    if !status.success() {
        return Err("the server failed".into());
    }
    result["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(|| "no figure in the report".into())
}

/// Frames a second that AF_XDP carries with no protocol at all.
fn raw(lab: &Lab, settings: &Settings) -> Outcome<f64> {
    let program = std::env::current_exe()?;
    let to = {
        let mut output = lab.exec(Host::B);
        let output = output.args(["cat", &format!("/sys/class/net/{}/address", nic(1))]).output()?;
        String::from_utf8(output.stdout)?.trim().to_owned()
    };
    let seconds = settings.seconds.to_string();
    let mut counter = lab.exec(Host::B);
    let counter = counter.arg(&program).args(["raw-count", &nic(1), &seconds]).stdout(Stdio::piped());
    let mut counter = Reaped(counter.spawn()?);
    let mut sender = lab.exec(Host::A);
    let _sender =
        Reaped(sender.arg(&program).args(["raw-send", &nic(1), &to]).stdin(Stdio::piped()).spawn()?);
    let mut text = String::new();
    counter.0.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    if !counter.0.wait()?.success() {
        return Err("the raw receiver failed".into());
    }
    Ok(text.trim().parse()?)
}

fn pin(number: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(number % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}

/// `raw-send NIC MAC`: until standard input ends.
fn raw_send(arguments: &[String]) -> Outcome<()> {
    let [nic, to] = arguments else { return Err("raw-send NIC MAC".into()) };
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(to.split(':')) {
        *byte = u8::from_str_radix(text, 16)?;
    }
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Outcome<()> {
        scope.spawn(|| {
            // Whoever started us holds the other end; its end is ours.
            drop(std::io::stdin().read_to_end(&mut Vec::new()));
            stop.store(true, Ordering::Relaxed);
        });
        pin(0);
        raw::blast(nic, FRAME, braid::wire::MacAddr(mac), &stop, &sent)?;
        Ok(())
    })
}

/// `raw-count NIC SECONDS`: prints frames a second.
fn raw_count(arguments: &[String]) -> Outcome<()> {
    let [nic, seconds] = arguments else { return Err("raw-count NIC SECONDS".into()) };
    let seconds: u64 = seconds.parse()?;
    probe_nic(nic)?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Outcome<()> {
        let counter = scope.spawn(|| {
            pin(1);
            raw::count(nic, &stop, &received)
        });
        while received.load(Ordering::Relaxed) == 0 && !counter.is_finished() {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(500));
        let before = received.load(Ordering::Relaxed);
        thread::sleep(Duration::from_secs(seconds));
        let after = received.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        counter.join().map_err(|_| "the receiver panicked")??;
        println!("{}", (after - before) as f64 / seconds as f64);
        Ok(())
    })
}

/// A child that ends with its owner.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Closing its standard input tells a sender to end; killing makes sure of it. Both may find it gone.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
