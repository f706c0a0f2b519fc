//! Which cells are measured with the kernel at the same time, and for how long: real time is dear.

use crate::cells::Cell;
use crate::law::PAYLOAD;
use braid::base::time::Duration;
use std::collections::BTreeMap;

/// Connections side by side.
pub const LANES: usize = 16;
/// Up to this round trip a cell has the machine to itself: microseconds count.
const ALONE: Duration = Duration::from_millis(1);
/// What connections side by side may bring together, of what the path carries: they must not wait for each other.
const SHARE: f64 = 0.3;
/// Losses that a cell should see, and some before.
const LOSSES: f64 = 400.0;
const LOSSES_BEFORE: f64 = 8.0;
/// The least time to measure, in seconds.
const SHORTEST: f64 = 4.0;

/// A cell to come.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub cell: Cell,
    /// What the law says, by round trips, in bits a second.
    pub law: f64,
    /// Seconds to wait, and seconds to measure then.
    pub lead: f64,
    pub long: f64,
}

impl Planned {
    /// No longer than `longest` seconds.
    pub fn new(cell: Cell, longest: f64) -> Planned {
        let (path, rtt) = (cell.path(), cell.rtt.as_secs_f64());
        let law = path.by_rounds(cell.algorithm);
        let losses_a_second = losses_a_second(cell.loss, law);
        let is_full = law > 0.95 * path.line_goodput();
        let (lead, long) = if is_full {
            ((60.0 * rtt).max(cell.rise()).max(1.0), 50.0 * rtt)
        } else {
            let lead = (LOSSES_BEFORE / losses_a_second).clamp(0.5, longest / 4.0);
            (lead.max(30.0 * rtt), LOSSES / losses_a_second)
        };
        Planned { cell, law, lead, long: long.min(longest).max(SHORTEST) }
    }

    /// As the law has it.
    pub fn losses_a_second(&self) -> f64 {
        losses_a_second(self.cell.loss, self.law)
    }
}

fn losses_a_second(loss: f64, law: f64) -> f64 {
    loss * law / (8.0 * PAYLOAD)
}

/// Groups of one round trip each, not too many, and not too fast together. What takes equally long goes together.
pub fn batches(planned: Vec<Planned>, carries: f64) -> Vec<Vec<Planned>> {
    let mut by_rtt: BTreeMap<Duration, Vec<Planned>> = BTreeMap::new();
    for one in planned {
        by_rtt.entry(one.cell.rtt).or_default().push(one);
    }
    let mut batches: Vec<Vec<Planned>> = Vec::new();
    for (rtt, mut group) in by_rtt {
        group.sort_by(|a, b| a.long.total_cmp(&b.long).then(a.law.total_cmp(&b.law)));
        let first = batches.len();
        let lanes = if rtt <= ALONE { 1 } else { LANES };
        for one in group {
            let has_room = |batch: &&mut Vec<Planned>| {
                let together: f64 = batch.iter().map(|other| other.law).sum();
                batch.len() < lanes && together + one.law <= SHARE * carries
            };
            match batches[first..].iter_mut().find(has_room) {
                Some(batch) => batch.push(one),
                None => batches.push(vec![one]),
            }
        }
    }
    batches
}
