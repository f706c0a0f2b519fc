//! The figures as files: JSON for programs, a table for people.

use crate::cells::{Cell, CellResult};
use braid::cc::CongestionAlgorithm;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Which cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub algorithm: String,
    pub loss: f64,
    pub rtt_ms: f64,
    pub line_mbit: u64,
    pub seed: u64,
}

impl Place {
    pub fn of(cell: &Cell) -> Place {
        Place {
            algorithm: cell.algorithm.name().to_owned(),
            loss: cell.loss,
            rtt_ms: cell.rtt.as_secs_f64() * 1e3,
            line_mbit: cell.rate_bps / 1_000_000,
            seed: cell.seed,
        }
    }

    /// The table's order; two cells that differ in more than their seeds have two keys.
    pub fn key(&self) -> (bool, u64, u64, u64) {
        (
            self.algorithm != "reno",
            self.line_mbit,
            (self.rtt_ms * 1e3).round() as u64,
            (self.loss * 1e6) as u64,
        )
    }

    pub fn name(&self) -> String {
        format!("{} {} Mbit/s {} ms {} %", self.algorithm, self.line_mbit, self.rtt_ms, self.loss * 100.0)
    }
}

/// A cell in the simulator. Rates are goodput in Mbit/s.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub place: Place,
    pub measured_mbit: f64,
    pub closed_form_mbit: f64,
    pub by_rounds_mbit: f64,
    pub ratio: f64,
    pub timeouts: u64,
    pub loss_probes: u64,
    pub fast_recoveries: u64,
    pub retransmits: u64,
    pub undone: u64,
    pub seconds: f64,
}

impl Row {
    pub fn of(result: &CellResult) -> Row {
        let round = |bits: f64| (bits / 1e4).round() / 100.0;
        let counters = result.measurement.tcp[0];
        Row {
            place: Place::of(&result.cell),
            measured_mbit: round(result.measured),
            closed_form_mbit: round(result.law),
            by_rounds_mbit: round(result.by_rounds),
            ratio: (result.ratio() * 1e3).round() / 1e3,
            timeouts: counters.timeouts,
            loss_probes: counters.loss_probes,
            fast_recoveries: counters.fast_recoveries,
            retransmits: counters.retransmits,
            undone: counters.undone,
            seconds: (result.seconds * 1e3).round() / 1e3,
        }
    }
}

/// The kernel's TCP in the same cells, and the machine that it was measured on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KernelTable {
    pub kernel: String,
    pub cores: usize,
    /// What the path in user space takes of itself for a round trip, in the latest run; it is taken off the cells' round trips.
    pub relay_round_trip_us: f64,
    /// The fastest line that it carries.
    pub relay_carries_mbit: u64,
    pub cells: Vec<KernelRow>,
}

/// A cell with the kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KernelRow {
    #[serde(flatten)]
    pub place: Place,
    pub by_rounds_mbit: f64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Measured(Measured),
    /// Why the path in user space was not what the cell asks for.
    Refused {
        refused: String,
    },
}

impl From<Result<Measured, String>> for Outcome {
    fn from(result: Result<Measured, String>) -> Outcome {
        match result {
            Ok(measured) => Outcome::Measured(measured),
            Err(refused) => Outcome::Refused { refused },
        }
    }
}

/// What was measured with the kernel.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Measured {
    /// Goodput at the receiver.
    pub measured_mbit: f64,
    /// Against the law, by round trips.
    pub ratio: f64,
    /// Segments that the kernel sent again meanwhile.
    pub retransmits: u64,
    /// Expirations of its retransmission timer meanwhile, where the cell had the hosts to itself.
    pub timeouts: Option<u64>,
    /// Packets that chance took, and that found the queue full, in the connection's whole life.
    pub lost: u64,
    pub queue_drops: u64,
    pub seconds: f64,
    /// The shortest round trip that the kernel saw.
    pub shortest_rtt_ms: f64,
    /// How late the relay was in a round trip, on average, and its longest time away.
    pub late_us: f64,
    pub longest_nap_us: f64,
}

impl KernelTable {
    /// With what was measured before with the same kernel, of cells that were not now.
    pub fn or_else(mut self, before: KernelTable) -> KernelTable {
        if before.kernel != self.kernel {
            return self;
        }
        for old in before.cells {
            match self.cells.iter_mut().find(|new| new.place.key() == old.place.key()) {
                None => self.cells.push(old),
                Some(new) if new.is_refused() => *new = old,
                Some(_) => {}
            }
        }
        self.cells.sort_by_key(|row| row.place.key());
        self
    }
}

impl KernelRow {
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused { .. })
    }

    pub fn line(&self) -> String {
        let name = self.place.name();
        match &self.outcome {
            Outcome::Measured(measured) => format!(
                "{name}: {:.2} Mbit/s, by rounds {:.2}, ratio {:.3}, {} time-outs, {} losses, shortest round trip {} ms, {} us late, once {} us away",
                measured.measured_mbit,
                self.by_rounds_mbit,
                measured.ratio,
                measured.timeouts.map_or("?".to_owned(), |count| count.to_string()),
                measured.lost,
                measured.shortest_rtt_ms,
                measured.late_us,
                measured.longest_nap_us,
            ),
            Outcome::Refused { refused } => format!("{name}: refused, {refused}"),
        }
    }
}

/// The table, with the kernel's figures where there are some.
pub fn markdown(rows: &[Row], kernel: Option<&KernelTable>) -> String {
    let mut text = String::from(
        "# Speed of recovery\n\n\
         Goodput in Mbit/s in the simulator (plain TCP, one path, a queue of one bandwidth-delay product), made by\n\
         `cargo bench --bench recovery -- --out bench/results`. *closed form*: Mathis for NewReno, RFC 9438 §5.1 for\n\
         CUBIC, or the line. *law*: the same law by round trips, which holds for small windows and full lines, too.\n\
         *RTO*: retransmission time-outs.\n",
    );
    if let Some(kernel) = kernel {
        let _ = write!(
            text,
            "\n*kernel*: the TCP of Linux {} on {} cores, offloads off, on a path in user space with the same pipes against\n\
             the real clock (`--kernel`). The path's own round trip, {:.0} µs, is taken off; it carries a line of {} Mbit/s. A dash: not\n\
             on such a path.\n",
            kernel.kernel, kernel.cores, kernel.relay_round_trip_us, kernel.relay_carries_mbit
        );
    }
    for algorithm in [CongestionAlgorithm::Reno, CongestionAlgorithm::Cubic].map(|algorithm| algorithm.name())
    {
        let _ = write!(
            text,
            "\n## {algorithm}\n\n\
             | line | RTT ms | loss % | closed form | law | measured | measured / law | RTO | kernel | kernel / law |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in rows.iter().filter(|row| row.place.algorithm == algorithm) {
            let place = &row.place;
            let theirs = kernel
                .and_then(|kernel| kernel.cells.iter().find(|theirs| theirs.place.key() == place.key()));
            let theirs = match theirs.map(|theirs| &theirs.outcome) {
                Some(Outcome::Measured(theirs)) => {
                    format!("{:.2} | {:.2}", theirs.measured_mbit, theirs.ratio)
                }
                Some(Outcome::Refused { .. }) | None => "- | -".to_owned(),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {theirs} |",
                place.line_mbit,
                place.rtt_ms,
                place.loss * 100.0,
                row.closed_form_mbit,
                row.by_rounds_mbit,
                row.measured_mbit,
                row.ratio,
                row.timeouts
            );
        }
    }
    text
}
