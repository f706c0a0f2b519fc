//! How fast TCP is under loss, in the simulator, beside what each algorithm's law says: goodput for losses from 0 to 3 %,
//! round trips from 0.1 to 100 ms and lines from 100 Mbit/s to 10 Gbit/s, with NewReno and CUBIC, and how many
//! retransmission time-outs it took.
//!
//! `cargo bench --bench recovery -- [--only SUBSTRING] [--seed N] [--out FOLDER]` runs the table on all cores and writes
//! `recovery.json` and `recovery.md` there. A run is a function of its seed: the files change only when the code does.
//!
//! With `--kernel [--seconds N]`, as root, the kernel's TCP runs in those of the cells that a path in user space can carry
//! (`kernel.rs`), each for so many seconds at most. That goes into `recovery-kernel.json`, and into the table beside the
//! simulator's figures. Real time, so the figures differ a little from run to run, and the machine should be quiet; of cells
//! that are not measured (again), or could not be, the file keeps what it has.

#[path = "recovery/cells.rs"]
mod cells;
#[path = "recovery/ends.rs"]
mod ends;
#[path = "recovery/kernel.rs"]
mod kernel;
#[path = "recovery/law.rs"]
mod law;
#[path = "recovery/plan.rs"]
mod plan;
#[path = "recovery/relay.rs"]
mod relay;
#[path = "recovery/report.rs"]
mod report;

use braid::base::time::Duration;
use braid::cc::CongestionAlgorithm;
use cells::{Cell, CellResult};
use ends::Failure;
use report::{KernelTable, Place, Row, markdown};
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const LOSSES: [f64; 5] = [0.0, 0.0001, 0.001, 0.01, 0.03];
const RTTS_US: [u64; 4] = [100, 1_000, 10_000, 100_000];
const RATES: [u64; 3] = [100_000_000, 1_000_000_000, 10_000_000_000];

/// The lines that a path in user space is tried with: above that the cells that it could carry are the same ones, for loss
/// limits them and not the line.
const KERNEL_RATE_MAX: u64 = 1_000_000_000;

struct Settings {
    only: Option<String>,
    seed: u64,
    out: Option<PathBuf>,
    kernel: bool,
    /// The longest measurement of the kernel's.
    seconds: f64,
}

fn main() -> Result<(), Failure> {
    let settings = settings()?;
    let mut cells: Vec<Cell> = table(settings.seed);
    cells.retain(|cell| settings.only.as_ref().is_none_or(|only| name(cell).contains(only)));
    if settings.kernel {
        cells.retain(|cell| cell.rate_bps <= KERNEL_RATE_MAX);
        return kernel::table(&cells, settings.seconds, |table| {
            settings.out.as_deref().map_or(Ok(()), |folder| save_kernel(folder, table))
        });
    }
    let rows = simulate(cells)?;
    let folder = settings.out.as_deref();
    let kernel = folder.map(|folder| read::<KernelTable>(&folder.join("recovery-kernel.json")));
    let markdown = markdown(&rows, kernel.transpose()?.flatten().as_ref());
    println!("{markdown}");
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("recovery.md"), markdown)?;
        write(&folder.join("recovery.json"), &rows)?;
    }
    Ok(())
}

/// Writes what was measured with the kernel, and the table with it; the simulator's figures stay as they are.
fn save_kernel(folder: &Path, table: &KernelTable) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("recovery-kernel.json");
    let table = match read(&path)? {
        Some(before) => table.clone().or_else(before),
        None => table.clone(),
    };
    write(&path, &table)?;
    if let Some(rows) = read::<Vec<Row>>(&folder.join("recovery.json"))? {
        std::fs::write(folder.join("recovery.md"), markdown(&rows, Some(&table)))?;
    }
    Ok(())
}

/// Runs the cells on all cores.
fn simulate(cells: Vec<Cell>) -> Result<Vec<Row>, Failure> {
    let count = cells.len();
    let (queue, results) = (Mutex::new(cells), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics with the lock").pop();
                    let Some(cell) = next else { return };
                    let result = cell.run();
                    let mut results = results.lock().expect("no thread panics with the lock");
                    eprintln!("{} of {count}: {}", results.len() + 1, line(&cell, result.as_ref()));
                    results.push(result);
                }
            });
        }
    });
    let results: Result<Vec<CellResult>, String> =
        results.into_inner().expect("no thread panicked with the lock").into_iter().collect();
    let mut rows: Vec<Row> = results?.iter().map(Row::of).collect();
    rows.sort_by_key(|row| row.place.key());
    Ok(rows)
}

fn write(path: &Path, what: &impl serde::Serialize) -> Result<(), Failure> {
    Ok(std::fs::write(path, serde_json::to_string_pretty(what)? + "\n")?)
}

/// What a file has, if there is one.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            Ok(Some(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn settings() -> Result<Settings, Failure> {
    let mut settings = Settings { only: None, seed: 1, out: None, kernel: false, seconds: 100.0 };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        if word == "--kernel" {
            settings.kernel = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--only" => settings.only = Some(value),
            "--seed" => settings.seed = value.parse()?,
            "--out" => settings.out = Some(value.into()),
            "--seconds" => settings.seconds = value.parse()?,
            _ => return Err(format!("{word}: not known").into()),
        }
    }
    Ok(settings)
}

/// All cells, those that take longest last: they are taken from the end.
fn table(seed: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for algorithm in [CongestionAlgorithm::Reno, CongestionAlgorithm::Cubic] {
        for loss in LOSSES.into_iter().rev() {
            for rtt_us in RTTS_US {
                for rate_bps in RATES {
                    let rtt = Duration::from_micros(rtt_us);
                    cells.push(Cell { algorithm, loss, rtt, rate_bps, seed });
                }
            }
        }
    }
    cells.sort_by(|a, b| b.loss.total_cmp(&a.loss).then(a.rate_bps.cmp(&b.rate_bps)));
    cells
}

fn name(cell: &Cell) -> String {
    Place::of(cell).name()
}

fn line(cell: &Cell, result: Result<&CellResult, &String>) -> String {
    match result {
        Ok(result) => format!(
            "{}: {:.2} Mbit/s, law {:.2}, by rounds {:.2}, ratio {:.3}, {} time-outs, {} packets",
            name(cell),
            result.measured / 1e6,
            result.law / 1e6,
            result.by_rounds / 1e6,
            result.ratio(),
            result.measurement.tcp[0].timeouts,
            result.measurement.packets
        ),
        Err(wrong) => format!("{}: {wrong}", name(cell)),
    }
}
