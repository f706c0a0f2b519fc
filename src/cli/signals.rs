//! Ctrl-C and its like: the first one asks for an orderly end, the second one ends at once.

use crate::app::perf::Interrupt;
use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// An interrupt that the first signal raises.
pub(super) fn interrupt() -> anyhow::Result<Interrupt> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        // In this order: the first signal only sets the flag, which makes the second one end the process.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&raised))
            .and_then(|_| flag::register(signal, Arc::clone(&raised)))
            .context("cannot handle signals")?;
    }
    let mut signals = Signals::new(ENDING).context("cannot handle signals")?;
    let (trigger, interrupt) = Interrupt::new();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            signals.forever().next();
            drop(trigger);
        })
        .context("cannot start a thread")?;
    Ok(interrupt)
}
