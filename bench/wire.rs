//! How much of what AF_XDP moves is left when Braid runs over it: goodput and frame rate over one path and two, beside
//! the raw frame rate and the kernel's TCP and MPTCP on the same veth pairs, in one run, for several MTUs; and two paths that a
//! middle hop limits, beside one.
//!
//! `cargo bench --bench wire -- [--rounds N] [--seconds N] [--mtu N]... [--json FILE]`, as root, on a quiet machine. Each round
//! measures everything once, one after the other, so that what disturbs the machine disturbs all alike.

#[path = "common/mod.rs"]
mod common;
#[path = "common/frames.rs"]
mod frames;
#[path = "common/hosts.rs"]
mod hosts;
#[path = "wire/kernel.rs"]
mod kernel;
#[path = "common/transfer.rs"]
mod transfer;

use braid::lab::{Host, Lab, LabOptions, Rate, nic};
use braid::xdp::{probe_nic, raw};
use common::{Outcome, Reaped, Spread, machine, write_json};
use frames::{hardware_address, parse_hardware_address, stop_with_input};
use hosts::pin;
use kernel::Kernel;
use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use transfer::{CORES_TO_PIN, IDLE_SPELL_US, Transfer, cores};

/// What one frame of AF_XDP holds at most is the second (see `braid check`); the third takes three.
const MTUS: [u32; 3] = [1500, 3498, 9000];
/// Bytes of the Ethernet header.
const LINK: usize = 14;
/// What a full packet is more than its payload: IPv4, TCP, timestamps, and the room for a DSS with 64-bit numbers.
const HEADERS: usize = 80;
/// The same on plain TCP.
const PLAIN_HEADERS: usize = 52;
/// What the middle hop lets through on each path.
const LIMIT_MBIT: u32 = 500;
/// What all others of an MTU are compared with.
const RAW: &str = "raw AF_XDP, one path";

struct Settings {
    rounds: usize,
    seconds: u64,
    mtus: Vec<u32>,
    json: Option<String>,
}

/// A transfer of ours over open paths.
struct Ours {
    name: &'static str,
    options: &'static [&'static str],
    headers: usize,
}

const OURS: [Ours; 3] = [
    Ours { name: "braid, MPTCP, two paths", options: &["--nic", "p1", "--nic", "p2"], headers: HEADERS },
    Ours { name: "braid, MPTCP, one path", options: &["--nic", "p1"], headers: HEADERS },
    Ours {
        name: "braid, plain TCP, one path",
        options: &["--nic", "p1", "--plain-tcp"],
        headers: PLAIN_HEADERS,
    },
];

/// One thing that was measured in each round.
struct Row {
    name: &'static str,
    mtu: u32,
    /// Bits of payload a second, of each round.
    rates: Vec<f64>,
    /// Bytes of payload of a frame, where all frames are full ones.
    payload: Option<usize>,
}

fn main() -> Outcome<()> {
    let arguments = common::arguments();
    match arguments.first().map(String::as_str) {
        Some("raw-send") => return raw_send(&arguments[1..]),
        Some("raw-count") => return raw_count(&arguments[1..]),
        _ => {}
    }
    let settings = settings(&arguments)?;
    let mut rows = Vec::new();
    for mtu in &settings.mtus {
        open_paths(*mtu, &settings, &mut rows)?;
    }
    let mut limited = Vec::new();
    let options =
        LabOptions { middle: true, rate: Some(Rate::from_mbit(LIMIT_MBIT)), ..LabOptions::default() };
    let mtu = options.mtu;
    let lab = Lab::up(&format!("bs{}", std::process::id()), &options)?;
    for round in 0..settings.rounds {
        eprintln!("round {} of {}: paths limited to {LIMIT_MBIT} Mbit/s", round + 1, settings.rounds);
        for (name, options) in
            [("limited, one path", OURS[1].options), ("limited, two paths", OURS[0].options)]
        {
            record(&mut limited, name, mtu, None, goodput(&lab, &settings, options)?);
        }
    }
    report(&rows, &limited, &settings)
}

fn open_paths(mtu: u32, settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    let options = LabOptions { mtu, ..LabOptions::default() };
    let lab = Lab::up(&format!("bw{}", std::process::id()), &options)?;
    let packet = mtu as usize;
    for round in 0..settings.rounds {
        eprintln!("round {} of {}: open paths, MTU {mtu}", round + 1, settings.rounds);
        // What it would carry of our payload.
        let payload = packet - HEADERS;
        let rate = raw(&lab, settings, packet + LINK)? * payload as f64 * 8.0;
        record(rows, RAW, mtu, Some(payload), rate);
        for Ours { name, options, headers } in &OURS {
            record(rows, name, mtu, Some(packet - headers), goodput(&lab, settings, options)?);
        }
        for kernel in Kernel::ALL {
            record(rows, kernel.name(), mtu, None, kernel.goodput(&lab, settings.seconds)?);
        }
    }
    Ok(())
}

fn settings(arguments: &[String]) -> Outcome<Settings> {
    let mut settings = Settings { rounds: 5, seconds: 5, mtus: Vec::new(), json: None };
    let known = "--rounds N, --seconds N, --mtu N (repeat it), --json FILE";
    common::options(arguments, known, |word, value| {
        match word {
            "--rounds" => settings.rounds = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--mtu" => settings.mtus.push(value.parse()?),
            "--json" => settings.json = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if settings.rounds == 0 || settings.seconds == 0 {
        return Err("at least one round of one second".into());
    }
    if settings.mtus.is_empty() {
        settings.mtus.extend(MTUS);
    }
    Ok(settings)
}

fn record(rows: &mut Vec<Row>, name: &'static str, mtu: u32, payload: Option<usize>, rate: f64) {
    eprintln!("  {name}: {:.0} Mbit/s", rate / 1e6);
    match rows.iter_mut().find(|row| row.name == name && row.mtu == mtu) {
        Some(row) => row.rates.push(rate),
        None => rows.push(Row { name, mtu, rates: vec![rate], payload }),
    }
}

impl Row {
    fn spread(&self) -> Spread {
        Spread::of(&self.rates)
    }

    /// Full frames a second.
    fn frames(&self) -> Option<f64> {
        self.payload.map(|payload| self.spread().median / 8.0 / payload as f64)
    }

    /// By frames where both are known, else by payload.
    fn to(&self, base: &Row) -> f64 {
        match (self.frames(), base.frames()) {
            (Some(ours), Some(theirs)) => ours / theirs,
            _ => self.spread().median / base.spread().median,
        }
    }

    fn document(&self, base: &Row) -> Value {
        let Spread { median, least, most } = self.spread();
        let mbit = |rate: f64| rate / 1e6;
        json!({
            "name": self.name, "mtu_bytes": self.mtu, "ratio": self.to(base), "frames_per_s": self.frames(),
            "median_mbit_per_s": mbit(median), "least_mbit_per_s": mbit(least), "most_mbit_per_s": mbit(most),
        })
    }
}

fn report(rows: &[Row], limited: &[Row], settings: &Settings) -> Outcome<()> {
    let mut documents = Vec::new();
    let mut print = |row: &Row, base: &Row| {
        let Spread { median, least, most } = row.spread();
        let frames = row.frames().map_or(String::new(), |frames| format!("{frames:.0}"));
        let range = format!("{:.0}-{:.0}", least / 1e6, most / 1e6);
        println!("{:<40} {:>8.0} {range:>13} {frames:>9} {:>6.2}", row.name, median / 1e6, row.to(base));
        documents.push(row.document(base));
    };
    for mtu in &settings.mtus {
        println!(
            "\n{:<40} {:>8} {:>13} {:>9} {:>6}",
            format!("MTU {mtu}"),
            "Mbit/s",
            "",
            "frames/s",
            "ratio"
        );
        let of_mtu = || rows.iter().filter(|row| row.mtu == *mtu);
        let base = of_mtu().find(|row| row.name == RAW).ok_or("no raw rate")?;
        of_mtu().for_each(|row| print(row, base));
    }
    println!("\n{:<40} {:>8}", format!("{LIMIT_MBIT} Mbit/s a path, MTU 1500"), "Mbit/s");
    let base = limited.first().ok_or("no limited path")?;
    limited.iter().for_each(|row| print(row, base));
    println!(
        "\nMedians of payload, least and most. Ratios: to raw AF_XDP of the same frames; of limited paths, to one."
    );
    if let Some(file) = &settings.json {
        let document = json!({ "machine": machine(), "rounds": settings.rounds, "seconds": settings.seconds, "rows": documents });
        write_json(file, &document)?;
    }
    Ok(())
}

/// Received bits a second of a transfer from host a to host b.
fn goodput(lab: &Lab, settings: &Settings, options: &[&str]) -> Outcome<f64> {
    let mut server: Vec<&str> = options.iter().copied().filter(|word| *word != "--plain-tcp").collect();
    let mut client = options.to_vec();
    // Each on the core of its raw counterpart. With fewer cores the kernel places threads better than we do; with more, and
    // without being told, both ends would take the same.
    if cores().len() >= CORES_TO_PIN {
        client.extend(["--cores", "0", "--idle-spell", IDLE_SPELL_US]);
        server.extend(["--cores", "1", "--idle-spell", IDLE_SPELL_US]);
    }
    let transfer = Transfer { lab, seconds: settings.seconds, client, server };
    Ok(transfer.run(|_, _| Ok(()))?.0)
}

/// Frames a second that AF_XDP carries with no protocol at all.
fn raw(lab: &Lab, settings: &Settings, frame_len: usize) -> Outcome<f64> {
    let program = std::env::current_exe()?;
    let to = hardware_address(lab)?;
    let seconds = settings.seconds.to_string();
    let mut counter = lab.exec(Host::B);
    let counter = counter.arg(&program).args(["raw-count", &nic(1), &seconds]).stdout(Stdio::piped());
    let mut counter = Reaped(counter.spawn()?);
    let mut sender = lab.exec(Host::A);
    let _sender = Reaped(
        sender
            .arg(&program)
            .args(["raw-send", &nic(1), &to, &frame_len.to_string()])
            .stdin(Stdio::piped())
            .spawn()?,
    );
    let mut text = String::new();
    counter.0.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    if !counter.0.wait()?.success() {
        return Err("the raw receiver failed".into());
    }
    Ok(text.trim().parse()?)
}

/// `raw-send NIC MAC BYTES`: until standard input ends.
fn raw_send(arguments: &[String]) -> Outcome<()> {
    let [nic, to, frame_len] = arguments else { return Err("raw-send NIC MAC BYTES".into()) };
    let frame_len: usize = frame_len.parse()?;
    let to = parse_hardware_address(to)?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Outcome<()> {
        scope.spawn(|| stop_with_input(&stop));
        pin(0);
        raw::blast(nic, frame_len, to, &stop, &sent)?;
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
