//! How cost grows with connections: two workers in memory, one thread, from one connection to a hundred thousand, with one, two and
//! eight subflows each. Nanoseconds a data segment at both ends, and what a connection takes of memory at one end, once it has moved
//! data; beside it what one of the kernel's takes.
//!
//! `cargo bench --bench scale -- [--rounds N] [--segments N] [--connections N,N] [--subflows N,N] [--kernel N] [--json FILE]`. Connections
//! have their turns one after the other, so that none is in a cache when its turn comes again. Bulk: 32 segments on one connection.
//! Spread: two segments on each of 16. The application that writes and reads is no part of the figures.
//! Every row runs in a process of its own, so that memory is counted from nothing.

#[allow(dead_code, reason = "children and commands are what the benchmarks of the lab need")]
#[path = "common/mod.rs"]
mod common;
#[path = "common/memory.rs"]
mod memory;

use braid::base::pool::TX_HEADROOM;
use braid::base::time::Duration;
use braid::base::{Chunk, Instant, RxFrame};
use braid::mptcp::ConnectOptions;
use braid::stack::message::{Command, ConnectionId, Report};
use braid::stack::{AcceptQueue, ListenOptions, ListenerId, StreamShared};
use braid::wire::mptcp::AddressId;
use braid::wire::{ChecksumMode, Endpoint, FourTuple};
use common::{Outcome, Spread};
use memory::{Host, carry, path, timed};
use rustix::net::{self, AddressFamily, SocketType, ipproto};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;

const MTU: u16 = 1500;
const PORT: u16 = 80;
/// Virtual time of a turn.
const STEP: Duration = Duration::from_micros(20);
/// Data segments of a turn of the worker.
const TURN_SEGMENTS: usize = 32;
/// Those of a connection in its turn: in bulk, and spread.
const BULK: usize = TURN_SEGMENTS;
const SPREAD: usize = 2;
/// Subflows that are opened at a time: a listener has no more joins from one address half open.
const OPENED_AT_ONCE: usize = 64;
/// More than all that is in a handshake at a time, subflows included.
const BACKLOG: usize = 1024;
/// Local ports of an address.
const PORTS: usize = 50_000;
/// What a connection may hold at most, in bytes.
const BUFFER: u32 = 256 * 1024;
/// Longer than any ACK.
const ACK_LEN_MAX: u16 = 150;
/// Turns for which a connection is read after its own.
const READ_FOR: usize = 8;
/// Turns after which something that should have come has not.
const PATIENCE: usize = 20_000;
const KNOWN: &str =
    "there are --rounds N, --segments N, --connections N,N, --subflows N,N, --kernel N and --json FILE";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    connections: usize,
    /// None: plain TCP.
    subflows: usize,
}

struct Bench {
    case: Case,
    now: Instant,
    client: Host,
    server: Host,
    to_server: Vec<RxFrame>,
    to_client: Vec<RxFrame>,
    senders: Vec<Arc<StreamShared>>,
    receivers: Vec<Arc<StreamShared>>,
    accept: Arc<AcceptQueue>,
    /// Whose turn is next, and whose it was: what a window has held back comes after it.
    next: usize,
    visited: VecDeque<Range<usize>>,
    busy_ns: u64,
    segments: u64,
    payload_bytes: u64,
}

/// The ends of a connection's subflow.
fn tuple(connection: usize, subflow: usize, subflows: usize) -> FourTuple {
    let number = connection * subflows.max(1) + subflow;
    let (address, port) = (number / PORTS, 10_000 + number % PORTS);
    let local = std::net::Ipv4Addr::from(0x0a01_0000 + address as u32 + 1);
    FourTuple {
        local: Endpoint::new(local.into(), port as u16),
        remote: Endpoint::new([10, 0, 0, 2].into(), PORT),
    }
}

impl Bench {
    fn new(case: Case) -> Outcome<Self> {
        let accept = AcceptQueue::new(BACKLOG);
        let bench = Self {
            case,
            now: Instant::from_millis(1000),
            client: Host::new(1, ChecksumMode::Off, MTU, case.connections),
            server: Host::new(2, ChecksumMode::Off, MTU, case.connections),
            to_server: Vec::new(),
            to_client: Vec::new(),
            senders: Vec::with_capacity(case.connections),
            receivers: Vec::with_capacity(case.connections),
            accept: Arc::clone(&accept),
            next: 0,
            visited: VecDeque::new(),
            busy_ns: 0,
            segments: 0,
            payload_bytes: 0,
        };
        let options = ListenOptions { connection: bench.options() };
        bench.server.command(Command::Listen {
            id: ListenerId(1),
            port: PORT,
            addr: None,
            options,
            accept,
        })?;
        Ok(bench)
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            mptcp: self.case.subflows > 0,
            receive_buffer: BUFFER,
            send_buffer: BUFFER,
            ..ConnectOptions::default()
        }
    }

    /// Opens some connections, with all their subflows.
    fn open(&mut self, count: usize) -> Outcome<()> {
        let subflows = self.case.subflows;
        let first = self.senders.len();
        let mut ids: HashMap<FourTuple, usize> = HashMap::new();
        let mut connections: HashMap<ConnectionId, usize> = HashMap::new();
        for number in first..first + count {
            let tuple = tuple(number, 0, subflows);
            let stream = StreamShared::new(Arc::clone(&self.client.handle.doorbell));
            self.senders.push(Arc::clone(&stream));
            ids.insert(tuple, number);
            self.client.command(Command::Connect {
                tuple,
                path: path(MTU),
                options: self.options(),
                stream,
            })?;
        }
        let mut missing = count * subflows.saturating_sub(1);
        for turn in 0.. {
            if turn == PATIENCE {
                return Err(format!(
                    "{missing} subflows, of {first} connections and {count} more, have not come"
                )
                .into());
            }
            self.exchange();
            while let Some(report) = self.client.handle.reports.pop() {
                match report {
                    Report::Established { connection, tuple, .. } => {
                        let number = ids.get(&tuple).ok_or("a connection that nobody has opened")?;
                        connections.insert(connection, *number);
                    }
                    Report::JoinsAllowed { connection } => {
                        let number = connections[&connection];
                        for subflow in 1..subflows {
                            let tuple = tuple(number, subflow, subflows);
                            let (local_id, remote_id) = (AddressId(0), AddressId(0));
                            let (path, backup) = (path(MTU), false);
                            let open =
                                Command::OpenSubflow { connection, tuple, path, local_id, remote_id, backup };
                            self.client.command(open)?;
                        }
                    }
                    Report::SubflowEstablished { .. } => missing -= 1,
                    Report::SubflowClosed { tuple, reason, .. } => {
                        return Err(format!("a subflow was refused: {tuple:?}: {reason:?}").into());
                    }
                    _ => {}
                }
            }
            while self.server.handle.reports.pop().is_some() {}
            while let Some(stream) = self.accept.pop() {
                self.receivers.push(stream);
            }
            if self.receivers.len() == first + count {
                if missing == 0 {
                    return Ok(());
                }
                // What is confirmed by data may be joined.
                self.visit(first..first + count, 1)?;
            }
        }
        Ok(())
    }

    /// Writes to some connections, moves what they send, and reads it.
    fn visit(&mut self, which: Range<usize>, segments: usize) -> Outcome<()> {
        for number in which.clone() {
            let stream = &self.senders[number];
            let len = stream.chunk_len();
            for _ in 0..segments.min(stream.push_room()) {
                let Some(frame) = self.client.cache.alloc() else { break };
                let chunk = Chunk::new(frame, TX_HEADROOM, len);
                stream.push(chunk).map_err(|_| "there was room")?;
            }
            stream.ring();
        }
        self.exchange();
        self.visited.push_back(which);
        if self.visited.len() > READ_FOR {
            self.visited.pop_front();
        }
        for number in self.visited.iter().cloned().flatten() {
            while let Some(chunk) = self.receivers[number].pop() {
                self.payload_bytes += chunk.len() as u64;
                self.server.cache.free_chunk(chunk);
            }
        }
        Ok(())
    }

    /// A turn of both, one after the other.
    fn exchange(&mut self) {
        let Self { client, server, to_server, to_client, busy_ns, segments, .. } = self;
        self.now += STEP;
        to_client.drain(..).for_each(|packet| client.port().deliver(packet));
        timed(busy_ns, || client.worker.turn(self.now));
        carry(client, &mut server.cache, |packet| {
            *segments += u64::from(packet.len > ACK_LEN_MAX);
            to_server.push(packet);
        });
        to_server.drain(..).for_each(|packet| server.port().deliver(packet));
        timed(busy_ns, || server.worker.turn(self.now));
        carry(server, &mut client.cache, |packet| to_client.push(packet));
    }

    /// Moves so many segments round all connections, `each` on one in its turn. Nanoseconds a segment, and Gbit/s.
    fn run(&mut self, segments: u64, each: usize) -> Outcome<[f64; 2]> {
        (self.busy_ns, self.segments, self.payload_bytes) = (0, 0, 0);
        let visits = (TURN_SEGMENTS / each).min(self.case.connections);
        let mut silent = 0;
        while self.segments < segments {
            let before = self.segments;
            let first = if self.next + visits > self.case.connections { 0 } else { self.next };
            self.visit(first..first + visits, each)?;
            self.next = first + visits;
            silent = if self.segments == before { silent + 1 } else { 0 };
            if silent == PATIENCE {
                return Err(format!("{:?}: nothing moves after {} segments", self.case, self.segments).into());
            }
        }
        let busy = self.busy_ns as f64;
        Ok([busy / self.segments as f64, self.payload_bytes as f64 * 8.0 / busy])
    }
}

/// A figure of `/proc`, in bytes.
fn proc_bytes(file: &str, field: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 =
        line.ok_or_else(|| format!("{file} has no {field}"))?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// One row, in this process: prints nanoseconds a segment in bulk and spread, memory a connection and end, and Gbit/s in bulk.
fn measure(case: Case, segments: u64) -> Outcome<()> {
    let mut bench = Bench::new(case)?;
    // Every frame is touched once, so that the pools are not counted.
    for host in [&mut bench.client, &mut bench.server] {
        let frames: Vec<_> = std::iter::from_fn(|| host.cache.alloc()).collect();
        for mut frame in frames {
            host.cache.pool().bytes_mut(&mut frame).fill(1);
            host.cache.free(frame);
        }
    }
    let before = proc_bytes("/proc/self/status", "VmRSS:")?;
    while bench.senders.len() < case.connections {
        let at_once = OPENED_AT_ONCE / case.subflows.max(1);
        bench.open(at_once.min(case.connections - bench.senders.len()))?;
    }
    // Each has moved data before it is measured, and windows are open.
    bench.run((4 * case.connections * SPREAD) as u64 + 10_000, SPREAD)?;
    let each = (proc_bytes("/proc/self/status", "VmRSS:")? - before) / (2 * case.connections) as f64;
    let [spread, _] = bench.run(segments, SPREAD)?;
    let once_round = (case.connections * BULK) as u64;
    bench.run(2 * once_round, BULK)?;
    let [bulk, gbit] = bench.run(segments.max(once_round), BULK)?;
    println!("{bulk} {spread} {each} {gbit}");
    Ok(())
}

/// What so many connections of the kernel take, in this network namespace: prints bytes a connection and end. They have moved data,
/// and none waits.
fn measure_kernel(connections: usize, mptcp: bool) -> Outcome<()> {
    let protocol = if mptcp { ipproto::MPTCP } else { ipproto::TCP };
    let address: SocketAddr = ([127, 0, 0, 1], 4000).into();
    let socket = || net::socket(AddressFamily::INET, SocketType::STREAM, Some(protocol));
    let listener = socket()?;
    net::bind(&listener, &address)?;
    net::listen(&listener, 1024)?;
    let mut open = Vec::with_capacity(2 * connections);
    let mut pair = || -> Outcome<()> {
        let client = socket()?;
        net::connect(&client, &address)?;
        let (mut client, mut server) = (TcpStream::from(client), TcpStream::from(net::accept(&listener)?));
        let mut buffer = [0; 1000];
        client.write_all(&buffer)?;
        server.read_exact(&mut buffer)?;
        open.extend([client, server]);
        Ok(())
    };
    pair()?;
    let before = proc_bytes("/proc/meminfo", "Slab:")?;
    (0..connections).try_for_each(|_| pair())?;
    println!("{}", (proc_bytes("/proc/meminfo", "Slab:")? - before) / (2 * connections) as f64);
    Ok(())
}

/// Runs this program again for one row; the figures that it prints.
fn in_a_process(arguments: &[String], private_network: bool) -> Outcome<Vec<f64>> {
    let program = std::env::current_exe()?;
    let mut command = if private_network {
        let mut command = std::process::Command::new("unshare");
        let script = "ip link set lo up && exec \"$0\" \"$@\"";
        command.args(["--net", "sh", "-c", script]).arg(program);
        command
    } else {
        std::process::Command::new(program)
    };
    let output = command.args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

fn list(value: &str) -> Outcome<Vec<usize>> {
    Ok(value.split(',').map(str::parse).collect::<Result<_, _>>()?)
}

struct Settings {
    rounds: usize,
    segments: u64,
    connections: Vec<usize>,
    subflows: Vec<usize>,
    kernel: usize,
    json: Option<String>,
}

fn settings(arguments: &[String]) -> Outcome<Settings> {
    let mut settings = Settings {
        rounds: 5,
        segments: 400_000,
        connections: vec![1, 100, 10_000, 100_000],
        subflows: vec![0, 1, 2, 8],
        kernel: 9_000,
        json: None,
    };
    common::options(arguments, KNOWN, |word, value| {
        match word {
            "--rounds" => settings.rounds = value.parse()?,
            "--segments" => settings.segments = value.parse()?,
            "--connections" => settings.connections = list(value)?,
            "--subflows" => settings.subflows = list(value)?,
            "--kernel" => settings.kernel = value.parse()?,
            "--json" => settings.json = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if settings.rounds == 0
        || settings.connections.contains(&0)
        || settings.subflows.iter().any(|count| *count > 8)
    {
        return Err("at least one round, one connection, and no more than 8 subflows (0: plain TCP)".into());
    }
    Ok(settings)
}

/// What a row is of.
fn name(subflows: usize) -> String {
    if subflows == 0 { "TCP".into() } else { format!("MPTCP {subflows}") }
}

fn main() -> Outcome<()> {
    let arguments = common::arguments();
    let numbers = |words: &[String]| -> Outcome<Vec<usize>> {
        Ok(words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?)
    };
    match arguments.first().map(String::as_str) {
        Some("row") => match numbers(&arguments[1..])?[..] {
            [connections, subflows, segments] => {
                return measure(Case { connections, subflows }, segments as u64);
            }
            _ => return Err("row takes connections, subflows and segments".into()),
        },
        Some("kernel-row") => match numbers(&arguments[1..])?[..] {
            [connections, mptcp] => return measure_kernel(connections, mptcp == 1),
            _ => return Err("kernel-row takes connections, and 1 for MPTCP".into()),
        },
        Some(_) | None => {}
    }
    let settings = settings(&arguments)?;
    let cases: Vec<Case> = settings
        .subflows
        .iter()
        .flat_map(|subflows| {
            settings
                .connections
                .iter()
                .map(|connections| Case { connections: *connections, subflows: *subflows })
        })
        .collect();
    let mut rows: Vec<Vec<Vec<f64>>> = vec![Vec::new(); cases.len()];
    for round in 1..=settings.rounds {
        eprintln!("round {round} of {}", settings.rounds);
        for (case, row) in cases.iter().zip(&mut rows) {
            let numbers = [case.connections, case.subflows, settings.segments as usize];
            let words: Vec<String> =
                std::iter::once("row".to_owned()).chain(numbers.map(|number| number.to_string())).collect();
            row.push(in_a_process(&words, false)?);
        }
    }
    println!(
        "{:<12} {:>11} {:>8} {:>12} {:>7} {:>8} {:>12} {:>7} {:>7} {:>12}",
        "ns a segment",
        "connections",
        "bulk",
        "least-most",
        "to one",
        "spread",
        "least-most",
        "to one",
        "Gbit/s",
        "bytes an end"
    );
    let mut table: Vec<Value> = Vec::new();
    let mut one = [f64::NAN; 2];
    for (case, row) in cases.iter().zip(&rows) {
        let column = |index: usize| Spread::of(&row.iter().map(|figures| figures[index]).collect::<Vec<_>>());
        let (bulk, spread, each, gbit) = (column(0), column(1), column(2), column(3));
        if case.connections == settings.connections[0] {
            one = [bulk.median, spread.median];
        }
        let to_one = [bulk.median / one[0], spread.median / one[1]];
        // A single one is not told from what the process takes anyway.
        let each = (case.connections >= 100).then_some(each.median);
        let range = |column: &Spread| format!("{:.0}-{:.0}", column.least, column.most);
        println!(
            "{:<12} {:>11} {:>8.0} {:>12} {:>7.2} {:>8.0} {:>12} {:>7.2} {:>7.1} {:>12}",
            name(case.subflows),
            case.connections,
            bulk.median,
            range(&bulk),
            to_one[0],
            spread.median,
            range(&spread),
            to_one[1],
            gbit.median,
            each.map_or("-".to_owned(), |each| format!("{each:.0}")),
        );
        table.push(json!({
            "stack": name(case.subflows), "connections": case.connections, "connection_bytes": each, "bulk_gbit_per_s": gbit.median,
            "bulk": { "segment_ns": bulk.median, "least_ns": bulk.least, "most_ns": bulk.most, "to_one": to_one[0] },
            "spread": { "segment_ns": spread.median, "least_ns": spread.least, "most_ns": spread.most, "to_one": to_one[1] },
        }));
    }
    if settings.kernel > 0 {
        for (mptcp, name) in [(0, "kernel TCP"), (1, "kernel MPTCP")] {
            let words = ["kernel-row".to_owned(), settings.kernel.to_string(), mptcp.to_string()];
            let each = in_a_process(&words, true)?[0];
            println!("{name:<12} {:>11} {each:>77.0}", settings.kernel);
            table.push(json!({ "stack": name, "connections": settings.kernel, "connection_bytes": each }));
        }
    }
    if let Some(file) = &settings.json {
        common::write_json(
            file,
            &json!({ "machine": common::machine(), "segments": settings.segments, "rounds": settings.rounds, "rows": table }),
        )?;
    }
    Ok(())
}
