//! How an application calls a worker that may be asleep.

use crate::stack::message::ConnectionId;
use crossbeam::queue::ArrayQueue;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes a worker that sleeps in poll(2). The runtime's is an eventfd; the simulator's does nothing.
pub trait Wake: Debug + Send + Sync {
    /// Makes the worker's poll return.
    fn wake(&self);
}

/// Of a worker that never sleeps by itself: simulators and tests run it when it has something to do.
#[derive(Debug)]
pub struct NobodySleeps;

impl Wake for NobodySleeps {
    fn wake(&self) {}
}

/// A worker's doorbell: which connections have something from the application, and the means to wake the worker.
#[derive(Debug)]
pub struct Doorbell {
    ready: ArrayQueue<ConnectionId>,
    /// `ready` was full: the worker looks at all of its connections.
    all: AtomicBool,
    sleeping: AtomicBool,
    wake: Box<dyn Wake>,
}

impl Doorbell {
    /// A doorbell whose queue holds `capacity` connections.
    pub fn new(capacity: usize, wake: Box<dyn Wake>) -> Self {
        Self {
            ready: ArrayQueue::new(capacity),
            all: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            wake,
        }
    }

    /// The application: `connection` wants attention.
    pub fn ring(&self, connection: ConnectionId) {
        if self.ready.push(connection).is_err() {
            self.all.store(true, Ordering::Release);
        }
        self.nudge();
    }

    /// Wakes the worker if it sleeps (after a command was put into its ring).
    pub fn nudge(&self) {
        // SeqCst, against prepare_sleep: either we see it sleeping, or it sees what we have pushed before.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }

    /// The worker: the next connection that rang.
    pub fn next(&self) -> Option<ConnectionId> {
        // Nearly always it is empty, and to see that costs less than to pop in vain. Who rings meanwhile sees to it that the
        // worker comes again.
        if self.ready.is_empty() { None } else { self.ready.pop() }
    }

    /// The worker: whether so many rang that all have to be looked at. Resets it.
    pub fn take_all(&self) -> bool {
        self.all.load(Ordering::Relaxed) && self.all.swap(false, Ordering::AcqRel)
    }

    /// The worker is about to sleep. It must look at its inputs once more after this, and only then sleep.
    pub fn prepare_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// The worker is awake.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Whether nothing is waiting for the worker.
    pub fn is_quiet(&self) -> bool {
        self.ready.is_empty() && !self.all.load(Ordering::Acquire)
    }
}
