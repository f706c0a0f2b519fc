//! How fast TCP is under loss, in the simulator, beside what each algorithm's law says: goodput for losses from 0 to 3 %,
//! round trips from 0.1 to 100 ms and lines from 100 Mbit/s to 10 Gbit/s, with NewReno and CUBIC, and how many
//! retransmission time-outs it took.
//!
//! `cargo bench --bench recovery -- [--only SUBSTRING] [--seed N] [--out FOLDER]` runs the table on all cores and writes
//! `recovery.json` and `recovery.md` there. A run is a function of its seed: the files change only when the code does.

#[path = "recovery/cells.rs"]
mod cells;
#[path = "recovery/law.rs"]
mod law;

use braid::base::time::Duration;
use braid::cc::CongestionAlgorithm;
use cells::{Cell, CellResult};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

const LOSSES: [f64; 5] = [0.0, 0.0001, 0.001, 0.01, 0.03];
const RTTS_US: [u64; 4] = [100, 1_000, 10_000, 100_000];
const RATES: [u64; 3] = [100_000_000, 1_000_000_000, 10_000_000_000];

struct Settings {
    only: Option<String>,
    seed: u64,
    out: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    let mut cells: Vec<Cell> = table(settings.seed);
    cells.retain(|cell| settings.only.as_ref().is_none_or(|only| name(cell).contains(only)));
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
    let mut results = results?;
    results.sort_by_key(|result| {
        let cell = result.cell;
        (cell.algorithm.name() != "reno", cell.rate_bps, cell.rtt, (cell.loss * 1e6) as u64)
    });
    let markdown = markdown(&results);
    println!("{markdown}");
    if let Some(folder) = settings.out {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("recovery.md"), markdown)?;
        let rows: Vec<Value> = results.iter().map(row).collect();
        std::fs::write(folder.join("recovery.json"), serde_json::to_string_pretty(&json!(rows))? + "\n")?;
    }
    Ok(())
}

fn settings() -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings { only: None, seed: 1, out: None };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--only" => settings.only = Some(value),
            "--seed" => settings.seed = value.parse()?,
            "--out" => settings.out = Some(value.into()),
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
    format!(
        "{} {} Mbit/s {} ms {} %",
        cell.algorithm.name(),
        cell.rate_bps / 1_000_000,
        cell.rtt.as_secs_f64() * 1e3,
        cell.loss * 100.0
    )
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

fn row(result: &CellResult) -> Value {
    let Cell { algorithm, loss, rtt, rate_bps, seed } = result.cell;
    let round = |bits: f64| (bits / 1e4).round() / 100.0;
    let counters = result.measurement.tcp[0];
    json!({
        "algorithm": algorithm.name(),
        "loss": loss,
        "rtt_ms": rtt.as_secs_f64() * 1e3,
        "line_mbit": rate_bps / 1_000_000,
        "seed": seed,
        "measured_mbit": round(result.measured),
        "closed_form_mbit": round(result.law),
        "by_rounds_mbit": round(result.by_rounds),
        "ratio": (result.ratio() * 1e3).round() / 1e3,
        "timeouts": counters.timeouts,
        "loss_probes": counters.loss_probes,
        "fast_recoveries": counters.fast_recoveries,
        "retransmits": counters.retransmits,
        "undone": counters.undone,
        "seconds": (result.seconds * 1e3).round() / 1e3,
    })
}

fn markdown(results: &[CellResult]) -> String {
    let mut text = String::from(
        "# Speed of recovery\n\n\
         Goodput in Mbit/s in the simulator (plain TCP, one path, a queue of one bandwidth-delay product), made by\n\
         `cargo bench --bench recovery -- --out bench/results`. *closed form*: Mathis for NewReno, RFC 9438 §5.1 for\n\
         CUBIC, or the line. *law*: the same law by round trips, which holds for small windows and full lines, too.\n\
         *RTO*: retransmission time-outs.\n",
    );
    for algorithm in [CongestionAlgorithm::Reno, CongestionAlgorithm::Cubic] {
        let _ = write!(
            text,
            "\n## {}\n\n| line | RTT ms | loss % | closed form | law | measured | measured / law | RTO |\n\
             |---|---|---|---|---|---|---|---|\n",
            algorithm.name()
        );
        for result in results.iter().filter(|result| result.cell.algorithm == algorithm) {
            let cell = result.cell;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
                cell.rate_bps / 1_000_000,
                cell.rtt.as_secs_f64() * 1e3,
                cell.loss * 100.0,
                result.law / 1e6,
                result.by_rounds / 1e6,
                result.measured / 1e6,
                result.ratio(),
                result.measurement.tcp[0].timeouts
            );
        }
    }
    text
}
