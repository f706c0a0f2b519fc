//! How an application waits for its worker.

use crossbeam::sync::{Parker, Unparker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// Lets one application thread wait for the worker. The worker's side takes no lock unless somebody waits.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    waiting: AtomicBool,
    /// From the first time that somebody waits.
    parking: OnceLock<Box<Parking>>,
}

/// What it takes to wait.
#[derive(Debug)]
struct Parking {
    parker: Mutex<Parker>,
    unparker: Unparker,
}

impl Default for Parking {
    fn default() -> Self {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        Self { parker: Mutex::new(parker), unparker }
    }
}

impl Waiter {
    /// Ends the wait, if there is one.
    pub(super) fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst) {
            // Who waits has made it before.
            if let Some(parking) = self.parking.get() {
                parking.unparker.unpark();
            }
        }
    }

    /// Waits until `ready` says so; false when `timeout` passed first. Two threads that wait at the same end of a
    /// stream wait for each other.
    pub(super) fn wait(&self, timeout: Option<std::time::Duration>, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        let parking = self.parking.get_or_init(Default::default);
        let parker = parking.parker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut left = timeout;
        loop {
            self.waiting.store(true, Ordering::SeqCst);
            std::sync::atomic::fence(Ordering::SeqCst);
            if ready() {
                self.waiting.store(false, Ordering::SeqCst);
                return true;
            }
            // Slices of at most 100 ms need no clock to count down the time-out, and are a belt to the braces.
            let slice = std::time::Duration::from_millis(100);
            let slice = left.map_or(slice, |left| left.min(slice));
            parker.park_timeout(slice);
            if let Some(left) = &mut left {
                *left = left.saturating_sub(slice);
                if left.is_zero() {
                    self.waiting.store(false, Ordering::SeqCst);
                    return ready();
                }
            }
        }
    }
}
