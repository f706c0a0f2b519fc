//! What an application turns while its connection runs, for the worker to see at its next look. The application's side
//! may wait for itself; the worker's never does.

use crate::base::snapshot::Snapshot;
use crate::mptcp::Tuning;
use crate::mptcp::tuning::TUNING_WORDS;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The settings, from the first time that they are other than usual.
#[derive(Debug, Default)]
struct Settings {
    /// The application's own copy, and its threads' turn to change it.
    tuning: Mutex<Tuning>,
    shown: Snapshot<TUNING_WORDS>,
}

/// The knobs of one stream.
#[derive(Debug, Default)]
pub(super) struct Knobs {
    settings: OnceLock<Box<Settings>>,
    /// Buffer sizes in bytes; 0 leaves them as they are.
    send_buffer: AtomicU32,
    receive_buffer: AtomicU32,
    turned: AtomicBool,
    more: AtomicBool,
    flushing: AtomicBool,
}

/// What was turned.
#[derive(Debug, Clone, Copy)]
pub struct Turned {
    /// The settings, if they were changed at any time.
    pub tuning: Option<Tuning>,
    /// The send buffer's size in bytes, if it was.
    pub send_buffer: Option<u32>,
    /// The receive buffer's.
    pub receive_buffer: Option<u32>,
}

impl Knobs {
    pub(super) fn new(tuning: Tuning) -> Self {
        let knobs = Self::default();
        if tuning != Tuning::default() {
            knobs
                .settings
                .get_or_init(|| Box::new(Settings { tuning: Mutex::new(tuning), ..Settings::default() }));
        }
        knobs
    }

    pub(super) fn tuning(&self) -> Tuning {
        let own = |settings: &Settings| *settings.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        self.settings.get().map_or_else(Tuning::default, |settings| own(settings))
    }

    pub(super) fn tune(&self, change: impl FnOnce(&mut Tuning)) {
        let settings = self.settings.get_or_init(Default::default);
        let mut tuning = settings.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut tuning);
        settings.shown.publish(&*tuning);
        self.turned.store(true, Ordering::Release);
    }

    pub(super) fn set_buffers(&self, send: Option<u32>, receive: Option<u32>) {
        send.into_iter().for_each(|bytes| self.send_buffer.store(bytes.max(1), Ordering::Relaxed));
        receive.into_iter().for_each(|bytes| self.receive_buffer.store(bytes.max(1), Ordering::Relaxed));
        self.turned.store(true, Ordering::Release);
    }

    pub(super) fn set_more(&self, more: bool) {
        self.more.store(more, Ordering::Release);
    }

    pub(super) fn has_more(&self) -> bool {
        self.more.load(Ordering::Acquire)
    }

    pub(super) fn flush(&self) {
        self.flushing.store(true, Ordering::Release);
    }

    pub(super) fn take_flush(&self) -> bool {
        self.flushing.load(Ordering::Relaxed) && self.flushing.swap(false, Ordering::AcqRel)
    }

    /// The worker: what was turned since it looked last.
    pub(super) fn take_turned(&self) -> Option<Turned> {
        if !self.turned.load(Ordering::Relaxed) || !self.turned.swap(false, Ordering::AcqRel) {
            return None;
        }
        let size = |bytes: &AtomicU32| Some(bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != 0);
        Some(Turned {
            tuning: self.settings.get().and_then(|settings| settings.shown.read()),
            send_buffer: size(&self.send_buffer),
            receive_buffer: size(&self.receive_buffer),
        })
    }
}
