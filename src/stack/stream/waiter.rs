//! How an application waits for its worker.

use crossbeam::sync::{Parker, Unparker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// The longest that a wait goes on without a look.
const SLICE: std::time::Duration = std::time::Duration::from_millis(100);

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
    /// Ends the wait; false when there is none.
    pub(super) fn wake(&self) -> bool {
        std::sync::atomic::fence(Ordering::SeqCst);
        let waits = self.waiting.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst);
        // Who waits has made it before.
        if waits && let Some(parking) = self.parking.get() {
            parking.unparker.unpark();
        }
        waits
    }

    /// Waits until `ready` says so; false when `timeout` passed first.
    pub(super) fn wait_until(&self, timeout: Option<std::time::Duration>, ready: impl Fn() -> bool) -> bool {
        self.wait(timeout, || ready().then_some(())).is_some()
    }

    /// Waits until `ready` gives something; `None` when `timeout` passed first. The time-out is one of silence: where
    /// somebody wakes who waits, and it was not that, the slice that had begun does not count.
    ///
    /// Threads that wait at the same end of a stream wait for each other. What one of them gets no other does: `ready`
    /// takes what it gives.
    pub(super) fn wait<T>(
        &self,
        timeout: Option<std::time::Duration>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if let Some(got) = ready() {
            return Some(got);
        }
        let parking = self.parking.get_or_init(Default::default);
        let parker = parking.parker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut left = timeout;
        loop {
            self.waiting.store(true, Ordering::SeqCst);
            std::sync::atomic::fence(Ordering::SeqCst);
            if let Some(got) = ready() {
                self.waiting.store(false, Ordering::SeqCst);
                return Some(got);
            }
            // Slices need no clock to count down the time-out, and are a belt to the braces.
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            parker.park_timeout(slice);
            // Who wakes takes the mark away.
            let passed = self.waiting.load(Ordering::SeqCst);
            if let Some(left) = left.as_mut().filter(|_| passed) {
                *left = left.saturating_sub(slice);
                if left.is_zero() {
                    self.waiting.store(false, Ordering::SeqCst);
                    return ready();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn being_woken_for_nothing_uses_up_no_time() {
        // Many more times than the time-out has slices.
        let (waiter, ready) = (Waiter::default(), AtomicBool::new(false));
        let slices = 50;
        thread::scope(|scope| {
            let waits = scope
                .spawn(|| waiter.wait(Some(SLICE * slices), || ready.load(Ordering::SeqCst).then_some(())));
            for _ in 0..4 * slices {
                while !waits.is_finished() && !waiter.waiting.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                waiter.wake();
            }
            ready.store(true, Ordering::SeqCst);
            waiter.wake();
            assert_eq!(waits.join().expect("it does not panic"), Some(()), "the time-out came too early");
        });
    }

    #[test]
    fn a_timeout_passes() {
        let waiter = Waiter::default();
        assert_eq!(waiter.wait(Some(std::time::Duration::from_millis(1)), || None::<()>), None);
        assert!(!waiter.waiting.load(Ordering::SeqCst));
    }
}
