//! What the steering program costs a packet: the program itself, run by bpf_prog_test_run on a data segment, beside the
//! one that gives everything to one socket without looking.
//!
//! `cargo bench --bench steering -- [--json FILE]`, as root. Each figure is the least of several runs of 200,000 packets;
//! what else the machine does can only add to it.

use braid::stack::owner::{Locals, local_key};
use braid::wire::Endpoint;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramInput, ProgramMut};
use serde_json::json;
use std::error::Error;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

#[allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

type Outcome<T> = Result<T, Box<dyn Error>>;

const REPEAT: u32 = 200_000;
const RUNS: usize = 15;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 5201;
/// The loopback device's number: bpf_prog_test_run pretends that packets come from it.
const LOOPBACK: u32 = 1;

/// What a packet meets.
struct Case {
    name: &'static str,
    workers: u32,
    /// Where we listen.
    local: Option<Endpoint>,
    /// Flows are pinned, though not this one.
    pins: bool,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let json = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--json", file] => Some(file.to_owned()),
        _ => return Err("options: --json FILE".into()),
    };
    let any = Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    let here = Endpoint::new(SERVER.into(), PORT);
    let cases = [
        Case { name: "not ours", workers: 1, local: None, pins: false },
        Case { name: "ours at any address, one worker", workers: 1, local: Some(any), pins: false },
        Case { name: "ours at one address, one worker", workers: 1, local: Some(here), pins: false },
        Case { name: "ours at any address, two workers", workers: 2, local: Some(any), pins: false },
        Case { name: "ours at one address, two workers", workers: 2, local: Some(here), pins: false },
        Case {
            name: "ours at one address, two workers, some pinned",
            workers: 2,
            local: Some(here),
            pins: true,
        },
    ];
    let mut rows = vec![("take everything, without looking", measure(None)?)];
    for case in &cases {
        rows.push((case.name, measure(Some(case))?));
    }
    for (name, nanos) in &rows {
        println!("{name:<36} {nanos:>5.0} ns");
    }
    if let Some(file) = json {
        let rows: Vec<_> = rows.iter().map(|(name, nanos)| json!({ "name": name, "ns": nanos })).collect();
        std::fs::write(file, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

/// Nanoseconds a packet.
fn measure(case: Option<&Case>) -> Outcome<f64> {
    let mut object = MaybeUninit::uninit();
    let mut open = skel::SteerSkelBuilder::default().open(&mut object)?;
    let workers = case.map_or(1, |case| case.workers);
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        (rodata.workers, rodata.queues, rodata.ports) = (workers, 1, 1);
        rodata.ifindexes[0] = LOOPBACK;
    }
    open.maps.homes.set_max_entries(1)?;
    open.maps.xsks.set_max_entries(workers)?;
    let skel = open.load()?;
    let family = rustix::net::AddressFamily::from_raw(44); // AF_XDP
    let socket = rustix::net::socket(family, rustix::net::SocketType::RAW, None)?;
    for worker in 0..workers {
        let fd = socket.as_raw_fd() as u32;
        skel.maps.xsks.update(&worker.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?;
    }
    if let Some(local) = case.and_then(|case| case.local) {
        let mut locals = Locals::default();
        locals.steer(local, false);
        let (port, kinds) = (u32::from(local.port), locals.kinds(local.port));
        skel.maps.local_ports.update(&port.to_ne_bytes(), &kinds.to_ne_bytes(), MapFlags::ANY)?;
        if let Some(flags) = locals.at_one_address(local) {
            skel.maps.local_map.update(&local_key(local), &flags.to_ne_bytes(), MapFlags::ANY)?;
        }
    }
    if case.is_some_and(|case| case.pins) {
        skel.maps.pinned_any.update(&0_u32.to_ne_bytes(), &1_u32.to_ne_bytes(), MapFlags::ANY)?;
    }
    let program = if case.is_some() { &skel.progs.steer } else { &skel.progs.take_all };
    let runs = (0..RUNS).map(|_| run(program)).collect::<Outcome<Vec<f64>>>()?;
    Ok(runs.into_iter().fold(f64::INFINITY, f64::min))
}

fn run(program: &ProgramMut<'_>) -> Outcome<f64> {
    let packet = packet();
    let input = ProgramInput { data_in: Some(&packet), repeat: REPEAT, ..Default::default() };
    Ok(program.test_run(input)?.duration.as_nanos() as f64)
}

/// A full data segment with timestamps and a DSS; its checksums are of no interest here.
fn packet() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    bytes.extend([0x45, 0]);
    bytes.extend(1500u16.to_be_bytes());
    bytes.extend([0, 7, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(CLIENT.octets());
    bytes.extend(SERVER.octets());
    bytes.extend(40_000u16.to_be_bytes());
    bytes.extend(PORT.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 15 << 4, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.resize(1514, 1);
    bytes
}
