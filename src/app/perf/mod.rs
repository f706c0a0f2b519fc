//! Measuring what a network carries: a client and a server that speak the iperf3 protocol, so that a stock iperf3 can
//! be either end, over Braid or over the kernel's own stack.
//!
//! Read `protocol.rs` first, then `client.rs`, `server.rs` and `session.rs`. A test's data connections have a thread
//! each (`stream_task.rs`); everything that happens ends up in one queue of events (`control.rs`), and one thread at
//! each end works through it (`run.rs`).

pub mod client;
pub mod control;
mod cpu;
pub mod error;
pub mod interval;
mod json;
pub mod kernel;
pub mod net;
pub mod parameters;
mod payload;
pub mod protocol;
pub mod report;
pub mod results;
pub mod run;
pub mod server;
mod session;
mod stall_notes;
pub mod stream_task;
pub mod text;
pub mod units;

pub use client::{ClientOptions, Family};
pub use control::Interrupt;
pub use error::PerfError;
pub use json::error_document;
pub use kernel::KernelNet;
pub use net::{BraidNet, Net};
pub use parameters::{Direction, Parameters};
pub use report::{Output, Report};
pub use run::Timing;
pub use server::ServerOptions;

use crate::base::Prng;
use crate::runtime::clock::since_epoch;

/// A cookie that nobody can guess.
fn random_cookie() -> protocol::Cookie {
    let mut seed = [0; 8];
    // Without the system's randomness the date has to do: a cookie only has to differ from those of other clients.
    if getrandom::fill(&mut seed).is_err() {
        seed = (since_epoch().as_nanos() as u64).to_ne_bytes();
    }
    protocol::Cookie::random(&mut Prng::new(u64::from_ne_bytes(seed)))
}
