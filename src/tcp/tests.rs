//! Connections against each other over a bad link, and against scripts.

mod acknowledging;
mod closing;
mod handshake;
mod input_rules;
mod loss;
mod noise;
mod pair;
mod script;
mod transfers;
mod windows;
