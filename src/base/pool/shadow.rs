//! [`Shadow`]: a second account of every frame, in debug and test builds only. The use counts of the pool say how often
//! a frame is used; the shadow says by whom, refuses every step that a frame can't take from where it is, and remembers
//! the last steps and the lines of code that took them. So a frame that was given back twice, that a NIC returned
//! without having it, or that was never given back is told with its history. In release builds it holds and does nothing.

use std::fmt;
use std::panic::Location;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Steps of a frame that are remembered.
const HISTORY: usize = 6;

/// Something that happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It left the free list, with one hold.
    Allocated,
    /// One more hold.
    Shared,
    /// One hold less.
    Freed,
    /// Its only hold became the NIC's, which writes a packet into it: it is in a fill ring.
    FillStarted,
    /// It came back with a packet, and the hold is ours.
    Received,
    /// A descriptor of it is on its way into a TX ring.
    TransmitStarted,
    /// That descriptor came back, or never got there.
    TransmitEnded,
    /// That descriptor came to another host of a simulation, which has a hold now.
    Landed,
    /// Its bytes are written to.
    Written,
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a free list, or in the depot.
    Free,
    /// In a fill ring, or in a NIC's hands: nobody else touches it.
    Filling,
    /// In `holds` hands of ours, and in a TX ring `transmits` times; at least one of the two.
    Used { holds: u32, transmits: u32 },
}

impl Place {
    /// Where `step` leads from here; `None` where it can't be taken.
    fn after(self, step: Step) -> Option<Place> {
        match (self, step) {
            (Place::Free, Step::Allocated) => Some(Place::Used { holds: 1, transmits: 0 }),
            (Place::Filling, Step::Received) => Some(Place::Used { holds: 1, transmits: 0 }),
            (Place::Used { holds, transmits }, step) => match step {
                Step::Shared if holds > 0 => Some(Self::used(holds + 1, transmits)),
                Step::Freed if holds > 0 => Some(Self::used(holds - 1, transmits)),
                Step::FillStarted if (holds, transmits) == (1, 0) => Some(Place::Filling),
                Step::TransmitStarted if holds > 0 => Some(Self::used(holds, transmits + 1)),
                Step::TransmitEnded if transmits > 0 => Some(Self::used(holds, transmits - 1)),
                Step::Landed if transmits > 0 => Some(Self::used(holds + 1, transmits - 1)),
                Step::Written if holds > 0 && transmits == 0 => Some(self),
                _ => None,
            },
            (Place::Free | Place::Filling, _) => None,
        }
    }

    fn used(holds: u32, transmits: u32) -> Self {
        if holds + transmits == 0 { Place::Free } else { Place::Used { holds, transmits } }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Free => write!(f, "free"),
            Place::Filling => write!(f, "in a fill ring"),
            Place::Used { holds, transmits } => {
                write!(f, "held {holds} times, in TX rings {transmits} times")
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    place: Place,
    /// The last steps, the latest last.
    history: [Option<(Step, &'static Location<'static>)>; HISTORY],
}

impl Record {
    const NEW: Self = Self { place: Place::Free, history: [None; HISTORY] };

    fn tell(&self) -> String {
        let steps = self.history.iter().flatten().map(|(step, at)| format!("\n    {step:?} at {at}"));
        format!("{}; what happened to it last:{}", self.place, steps.collect::<String>())
    }
}

/// The account of all frames of a pool.
#[derive(Debug)]
pub(super) struct Shadow {
    /// Empty in release builds.
    records: Box<[Mutex<Record>]>,
}

impl Shadow {
    /// Of `frames` free frames.
    pub(super) fn new(frames: usize) -> Self {
        let count = if cfg!(debug_assertions) { frames } else { 0 };
        Self { records: (0..count).map(|_| Mutex::new(Record::NEW)).collect() }
    }

    /// A step of frame `index`.
    ///
    /// # Panics
    /// In debug builds, when it can't be taken.
    #[track_caller]
    pub(super) fn step(&self, index: u32, step: Step) {
        if !cfg!(debug_assertions) {
            return;
        }
        let at = Location::caller();
        let mut record = self.record(index);
        let Some(after) = record.place.after(step) else {
            panic!("frame {index}: {step:?} at {at}, but it is {}", record.tell());
        };
        record.place = after;
        if step != Step::Written {
            record.history.rotate_left(1);
            record.history[HISTORY - 1] = Some((step, at));
        }
    }

    /// The frames that somebody of ours still holds, in words. None in release builds.
    pub(super) fn held(&self) -> Vec<String> {
        let held = |index: usize| {
            let record = self.record(index as u32);
            let is_held = matches!(record.place, Place::Used { holds, .. } if holds > 0);
            is_held.then(|| format!("frame {index} is {}", record.tell()))
        };
        (0..self.records.len()).filter_map(held).collect()
    }

    fn record(&self, index: u32) -> MutexGuard<'_, Record> {
        self.records[index as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
