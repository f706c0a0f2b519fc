//! Connections against each other over a bad link, and against scripts.

mod acknowledging;
mod closing;
mod ecn;
mod fast_open;
mod handshake;
mod input_rules;
mod loss;
mod noise;
mod pacing;
mod pair;
mod path_mtu;
mod rack;
mod script;
mod spurious;
mod transfers;
mod windows;
