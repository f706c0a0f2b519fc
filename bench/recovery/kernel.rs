//! The kernel's TCP in the same cells: two hosts of a lab, and between them a path in user space with the simulator's pipes
//! (`relay.rs`). A cell is refused where that path was not what it says: later than a tenth of the round trip, or with
//! losses that the pipes did not mean.

use crate::cells::Cell;
use crate::ends::{self, Failure, SocketInfo, TcpAccount};
use crate::plan::{LANES, Planned, batches};
use crate::relay::{Account, Lane, Relay};
use crate::report::{KernelRow, KernelTable, Measured, Place};
use braid::base::Instant;
use braid::base::time::Duration;
use braid::cc::CongestionAlgorithm;
use braid::lab::{Host, Lab, LabOptions, require_tool};
use braid::runtime::Clock;
use braid::sim::pipe::{PipeConfig, QueueLimit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Both ends of lane 0; the next ones have the next ports.
const FIRST_PORT: u16 = 7100;
/// Lines that the relay is tried with.
const RATES: [u64; 5] = [2_000_000_000, 1_000_000_000, 500_000_000, 250_000_000, 100_000_000];
/// How often a cell is tried that the rest of the machine disturbs.
const TRIES: usize = 3;
/// How wrong the path may be, as a part of the round trip, and the ends: half of that, as a part of the time.
const TOLERANCE: f64 = 0.1;
/// How often a second the relay may be away for longer than a full queue takes.
const LONG_NAPS: f64 = 1.0;
/// Round trips whose middle one is the relay's own.
const TRIPS: usize = 201;
/// The kernel's window must hold two bandwidth-delay products of the largest cell.
const BUFFER: u32 = 128 << 20;
/// What the sender's buffer holds from the beginning: enough for the time that its program may have to wait for a core.
const SEND_BUFFER: u32 = 8 << 20;

/// The lab, and what its path can do.
struct Stage {
    lab: Lab,
    relay: Relay,
    clock: Clock,
    /// The relay's own round trip, which it takes off those of the cells.
    idle: Duration,
    /// The fastest line that it carries, in bits a second.
    carries: u64,
}

/// Measures the kernel in those of the cells that such a path can carry, none longer than so many seconds. `save` gets what
/// there is again and again: it takes long.
pub fn table(
    cells: &[Cell],
    longest: f64,
    mut save: impl FnMut(&KernelTable) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let _first = SessionFirst::new();
    let mut stage = Stage::new()?;
    let carries_mbit = stage.carries / 1_000_000;
    eprintln!("the relay's own round trip: {:?}; it carries a line of {carries_mbit} Mbit/s", stage.idle);
    let planned: Vec<Planned> = cells.iter().map(|cell| Planned::new(*cell, longest)).collect();
    let (good, too_fast): (Vec<Planned>, Vec<Planned>) =
        planned.into_iter().partition(|one| one.law <= stage.carries as f64);
    let reason = || Err(format!("the relay carries {carries_mbit} Mbit/s"));
    let mut table = KernelTable {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cores: thread::available_parallelism().map_or(1, |cores| cores.get()),
        relay_round_trip_us: (stage.idle.as_nanos() as f64 / 100.0).round() / 10.0,
        relay_carries_mbit: carries_mbit,
        cells: too_fast.iter().map(|one| row(one, reason())).collect(),
    };
    let batches = batches(good, stage.carries as f64);
    let count = batches.len();
    for (number, batch) in batches.into_iter().enumerate() {
        let mut left = batch;
        for last in (0..TRIES).map(|again| again + 1 == TRIES) {
            let measured = stage.measure(&left)?;
            let mut again = Vec::new();
            for (one, row) in left.into_iter().zip(measured) {
                eprintln!("{} of {count}: {}", number + 1, row.line());
                if row.is_refused() && !last { again.push(one) } else { table.cells.push(row) }
            }
            left = again;
            if left.is_empty() {
                break;
            }
        }
        table.cells.sort_by_key(|row| row.place.key());
        save(&table)?;
    }
    Ok(())
}

impl Stage {
    fn new() -> Result<Stage, Failure> {
        require_tool("ss", "iproute2")?;
        require_tool("tc", "iproute2")?;
        Lab::sweep("braid-bench-")?;
        let options = LabOptions { paths: 1, middle: true, ..LabOptions::default() };
        let lab = Lab::up(&format!("braid-bench-{}", std::process::id()), &options)?;
        for host in Host::ENDS {
            // A packet is a segment, on both sides and in both directions.
            ends::run(&lab, host, "ethtool -K p1 tx off tso off gso off gro off")?;
            // A burst waits in front of the veth, whose own ring is short. (Linux 6.16 and later heed that.)
            ends::run(&lab, host, "tc qdisc add dev p1 root pfifo limit 100000")?;
            let sizes =
                [format!("tcp_rmem=4096 {BUFFER} {BUFFER}"), format!("tcp_wmem=4096 {SEND_BUFFER} {BUFFER}")];
            for setting in sizes.iter().map(String::as_str).chain(["tcp_no_metrics_save=1"]) {
                ends::command(lab.exec(host).args(["sysctl", "-q", "-w", &format!("net.ipv4.{setting}")]))?;
            }
        }
        let middle = || -> Result<Relay, Failure> {
            ends::enter(&lab, Host::Middle(1))?;
            Ok(Relay::open(["a", "b"], FIRST_PORT, LANES as u16)?)
        };
        let relay = thread::scope(|scope| scope.spawn(middle).join().expect("it does not panic"))?;
        let (clock, idle, carries) = (Clock::start(), Duration::ZERO, u64::MAX);
        let mut stage = Stage { lab, relay, clock, idle, carries };
        stage.idle = stage.own_round_trip()?;
        stage.carries = stage.largest_rate()?;
        Ok(stage)
    }

    /// The time that a connect() takes, in the middle of many, where the path itself takes none.
    fn own_round_trip(&mut self) -> Result<Duration, Failure> {
        let (lab, clock) = (&self.lab, self.clock);
        let stop = AtomicBool::new(false);
        let lanes = [bare()];
        let relay = &mut self.relay;
        let trips = thread::scope(|scope| {
            let carrier = scope.spawn(|| carry(relay, &lanes, &stop));
            let trips = scope
                .spawn(|| -> Result<Vec<Duration>, Failure> {
                    take_core(Part::End);
                    ends::enter(lab, Host::B)?;
                    let listener = ends::listen(FIRST_PORT)?;
                    ends::enter(lab, Host::A)?;
                    let mut trips = Vec::new();
                    while trips.len() < TRIPS {
                        let before = clock.now();
                        let stream = ends::connect(FIRST_PORT, "reno")?;
                        trips.push(clock.now().since(before));
                        ends::abort(stream)?;
                        listener.accept()?;
                    }
                    Ok(trips)
                })
                .join()
                .expect("it does not panic");
            // What is on its way must not come to the next run.
            sleep(0.1);
            stop.store(true, Ordering::Relaxed);
            carrier.join().expect("it does not panic");
            trips
        });
        let mut trips = trips?;
        trips.sort_unstable();
        Ok(trips[trips.len() / 2])
    }

    /// The fastest line that it carries without losing anything of itself.
    fn largest_rate(&mut self) -> Result<u64, Failure> {
        for rate_bps in RATES {
            let rtt = Duration::from_millis(10);
            let cell = Cell { algorithm: CongestionAlgorithm::Cubic, loss: 0.0, rtt, rate_bps, seed: 0 };
            let run = self.run(&["cubic"], &[lane(&cell, self.idle, 0)], 0.5, 2.0)?;
            let goodput = run.goodput(0) / 1e6;
            match run.flaw() {
                None => return Ok(rate_bps),
                Some(flaw) => {
                    eprintln!("a line of {} Mbit/s: {goodput:.0}, but {flaw}", rate_bps / 1_000_000)
                }
            }
        }
        Err("the relay carries no line: the machine does too much beside".into())
    }

    /// Measures a batch, as long as the one that takes longest.
    fn measure(&mut self, batch: &[Planned]) -> Result<Vec<KernelRow>, Failure> {
        let lanes: Vec<Lane> =
            batch.iter().enumerate().map(|(number, one)| lane(&one.cell, self.idle, number)).collect();
        let longest = |time: fn(&Planned) -> f64| batch.iter().map(time).fold(0.0, f64::max);
        let algorithms: Vec<&str> = batch.iter().map(|one| one.cell.algorithm.name()).collect();
        let run = self.run(&algorithms, &lanes, longest(|one| one.lead), longest(|one| one.long))?;
        Ok(batch.iter().enumerate().map(|(number, one)| row(one, run.of(number, one))).collect())
    }

    /// Runs a connection on each lane.
    fn run(&mut self, algorithms: &[&str], lanes: &[Lane], lead: f64, long: f64) -> Result<Run, Failure> {
        let before = self.accounts()?;
        let (lab, clock, relay) = (&self.lab, self.clock, &mut self.relay);
        let (stop, stop_relay) = (AtomicBool::new(false), AtomicBool::new(false));
        let bytes: Vec<AtomicU64> = lanes.iter().map(|_| AtomicU64::new(0)).collect();
        let longest_delay = lanes.iter().map(|lane| lane.there.delay).max().unwrap_or_default();
        let drain = longest_delay * 6;
        // Slow starts of one after the other: together they would be more than the relay carries.
        let slow_start = longest_delay * 30;
        let (samples, ended, account) = thread::scope(|scope| {
            let carrier = scope.spawn(|| carry(relay, lanes, &stop_relay));
            let mut ends = Vec::new();
            for ((port, algorithm), bytes) in (FIRST_PORT..).zip(algorithms).zip(&bytes) {
                let stop = &stop;
                ends.push(scope.spawn(move || both_ends(lab, port, algorithm, stop, bytes)));
                if ends.len() < lanes.len() {
                    sleep(slow_start.as_secs_f64());
                }
            }
            let sample = |seconds| {
                sleep(seconds);
                Sample::take(lab, clock, &bytes)
            };
            let samples = [sample(lead), sample(long)];
            stop.store(true, Ordering::Relaxed);
            let ended: Result<(), Failure> =
                ends.into_iter().try_for_each(|end| end.join().expect("it does not panic"));
            // What is on its way is answered, too.
            sleep(drain.as_secs_f64() + 0.1);
            stop_relay.store(true, Ordering::Relaxed);
            (samples, ended, carrier.join().expect("it does not panic"))
        });
        ended?;
        let after = self.accounts()?;
        let [first, last] = samples;
        let went_astray = (0..2).map(|way| {
            let sent = after[way].out - before[way].out;
            let came = after[1 - way].received - before[1 - way].received;
            let meant: u64 = account.lanes.iter().map(|lane| lane[way].lost + lane[way].queue_drops).sum();
            sent.abs_diff(came + meant)
        });
        Ok(Run { first: first?, last: last?, went_astray: went_astray.sum(), account })
    }

    fn accounts(&self) -> Result<[TcpAccount; 2], Failure> {
        Ok([TcpAccount::of(&self.lab, Host::A)?, TcpAccount::of(&self.lab, Host::B)?])
    }
}

/// A lane that limits nothing.
fn bare() -> Lane {
    let config = PipeConfig {
        rate_bps: 100_000_000_000,
        delay: Duration::ZERO,
        queue: QueueLimit::Bytes(8 << 20),
        ..PipeConfig::default()
    };
    Lane { there: config.clone(), back: config, seed: 0 }
}

/// The path of a cell, as the simulator has it.
fn lane(cell: &Cell, own: Duration, number: usize) -> Lane {
    let back = PipeConfig {
        rate_bps: cell.rate_bps,
        delay: cell.rtt.saturating_sub(own) / 2,
        queue: QueueLimit::Bytes(cell.queue_bytes() as usize),
        ..PipeConfig::default()
    };
    let there = PipeConfig { loss: cell.loss, ..back.clone() };
    Lane { there, back, seed: cell.seed.wrapping_mul(1000).wrapping_add(number as u64) }
}

fn sleep(seconds: f64) {
    thread::sleep(std::time::Duration::from_secs_f64(seconds));
}

/// Who wants a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Relay,
    End,
}

/// This thread comes before all others of the machine: the relay on the last core, where it leaves nothing to anybody, and
/// the ends on the rest of them. Where that is not allowed, the account tells.
fn take_core(part: Part) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let place = match part {
        Part::Relay => cores.len().checked_sub(1),
        Part::End => (cores.len() > 1).then_some(0),
    };
    if let Some(core) = place.and_then(|place| cores.get(place)) {
        core_affinity::set_for_current(*core);
    }
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
}

/// Carries on a core of its own.
fn carry(relay: &mut Relay, lanes: &[Lane], stop: &AtomicBool) -> Account {
    take_core(Part::Relay);
    relay.carry(lanes, stop)
}

/// Where the scheduler shares the processor between sessions, a thread's priority counts only within its own: this is
/// the session's, put up as long as it lives.
struct SessionFirst {
    before: Option<String>,
}

impl SessionFirst {
    const FILE: &str = "/proc/self/autogroup";

    fn new() -> SessionFirst {
        // `/autogroup-12 nice 0`. Where there is none, or it is not ours to set, the account of the relay tells.
        let text = std::fs::read_to_string(Self::FILE).unwrap_or_default();
        let before = text.split_whitespace().last().map(str::to_owned);
        let raised = std::fs::write(Self::FILE, "-20").is_ok();
        SessionFirst { before: before.filter(|_| raised) }
    }
}

impl Drop for SessionFirst {
    fn drop(&mut self) {
        if let Some(nice) = &self.before {
            let _ = std::fs::write(Self::FILE, nice);
        }
    }
}

/// A connection, both of whose ends run until they are to stop.
fn both_ends(
    lab: &Lab,
    port: u16,
    algorithm: &str,
    stop: &AtomicBool,
    bytes: &AtomicU64,
) -> Result<(), Failure> {
    // The threads that it starts stay there.
    take_core(Part::End);
    ends::enter(lab, Host::B)?;
    let listener = ends::listen(port)?;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| ends::receive(&listener, stop, bytes));
        let sender = scope.spawn(|| -> Result<(), Failure> {
            ends::enter(lab, Host::A)?;
            Ok(ends::send(ends::connect(port, algorithm)?, stop)?)
        });
        sender.join().expect("it does not panic")?;
        receiver.join().expect("it does not panic")
    })
}

/// What there is of each connection at a time.
struct Sample {
    at: Instant,
    bytes: Vec<u64>,
    sockets: Vec<SocketInfo>,
    /// All senders' together.
    timeouts: u64,
}

impl Sample {
    fn take(lab: &Lab, clock: Clock, bytes: &[AtomicU64]) -> Result<Sample, Failure> {
        let bytes: Vec<u64> = bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
        let at = clock.now();
        let sockets: Result<_, Failure> =
            (FIRST_PORT..).zip(&bytes).map(|(port, _)| SocketInfo::of(lab, port)).collect();
        Ok(Sample { at, bytes, sockets: sockets?, timeouts: TcpAccount::of(lab, Host::A)?.timeouts })
    }
}

/// A run of all lanes.
struct Run {
    first: Sample,
    last: Sample,
    account: Account,
    /// Segments that were lost though no pipe meant it, or came though none was sent.
    went_astray: u64,
}

impl Run {
    fn seconds(&self) -> f64 {
        self.last.at.since(self.first.at).as_secs_f64()
    }

    /// Bits a second that came.
    fn goodput(&self, lane: usize) -> f64 {
        (self.last.bytes[lane] - self.first.bytes[lane]) as f64 * 8.0 / self.seconds()
    }

    /// Why nothing that was measured here counts.
    fn flaw(&self) -> Option<String> {
        let astray = self.went_astray.max(self.account.overrun);
        (astray > 0).then(|| format!("{astray} packets went astray beside the pipes"))
    }

    fn of(&self, lane: usize, one: &Planned) -> Result<Measured, String> {
        if let Some(flaw) = self.flaw() {
            return Err(flaw);
        }
        // A full segment's, on an idle line.
        let (rtt, late) = (one.cell.path().rtt, self.account.late);
        if late > TOLERANCE * rtt {
            return Err(format!("the relay was {:.0} us late on average", late * 1e6));
        }
        // Each may cost a window, as a loss does.
        let long_naps = f64::from(self.account.long_naps) / self.account.seconds;
        if long_naps > LONG_NAPS.max(TOLERANCE / 2.0 * one.losses_a_second()) {
            return Err(format!(
                "the relay was away for longer than a full queue takes, {long_naps:.1} times a second"
            ));
        }
        let [before, after] = [&self.first, &self.last].map(|sample| sample.sockets[lane]);
        let busy = (after.busy_ms - before.busy_ms) as f64 / 1e3;
        let waited = self.seconds() - busy + (after.held_back_ms - before.held_back_ms) as f64 / 1e3;
        if waited > TOLERANCE / 2.0 * self.seconds() {
            return Err(format!("the sender had nothing to send, or no window, for {waited:.1} s"));
        }
        let [there, back] = self.account.lanes[lane];
        let round = |value: f64, parts: f64| (value * parts).round() / parts;
        let measured = self.goodput(lane);
        Ok(Measured {
            measured_mbit: round(measured / 1e6, 100.0),
            ratio: round(measured / one.law, 1000.0),
            retransmits: after.retransmits - before.retransmits,
            // The kernel counts them for a host, not for a connection.
            timeouts: (self.account.lanes.len() == 1).then(|| self.last.timeouts - self.first.timeouts),
            lost: there.lost,
            queue_drops: there.queue_drops + back.queue_drops,
            seconds: round(self.seconds(), 1000.0),
            shortest_rtt_ms: after.min_rtt_ms,
            late_us: round(late * 1e6, 10.0),
            longest_nap_us: (self.account.longest_nap * 1e6).round(),
        })
    }
}

fn row(one: &Planned, outcome: Result<Measured, String>) -> KernelRow {
    let by_rounds_mbit = (one.law / 1e4).round() / 100.0;
    KernelRow { place: Place::of(&one.cell), by_rounds_mbit, outcome: outcome.into() }
}
