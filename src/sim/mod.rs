//! The deterministic simulator: hosts with several NICs that run the very same `Worker` as production, links with a
//! rate, a delay, a queue and faults, and checkers that look at every packet and every byte. A run is a function of
//! its seed: a failure names the seed, and the seed repeats it.
//!
//! From the bottom: [`event`] (what happens when), [`pipe`] (one direction of a link), [`port`] (a NIC),
//! [`middlebox`], [`losses`] (chosen ones), [`network`] (who is connected to whom); [`pattern`] (checkable bytes), [`app`], [`control`],
//! [`check`] (every packet sent), [`progress`] (no transfer stalls), [`trace`], [`host`]; [`scenario`] (what is simulated), [`simulation`] (the loop).

pub mod app;
pub mod attacker;
pub mod check;
pub mod control;
pub mod event;
pub mod host;
pub mod lab;
pub mod losses;
pub mod middlebox;
pub mod network;
pub mod pattern;
pub mod pipe;
pub mod port;
pub mod progress;
pub mod scenario;
pub mod simulation;
pub mod trace;
pub mod wish;

pub use scenario::{Kind, Scenario};
pub use simulation::{Failure, Measurement, Outcome, measure, run};
