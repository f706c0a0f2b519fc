//! The laboratory: networks of any size with the production worker on every host, for experiments with thousands of flows
//! and millions of packets a second. The other half of [`crate::sim`] finds faults in two hosts and looks at every byte;
//! this one measures, and is fast: a packet travels by reference, a hop is one event, and payload is not touched.
//!
//! From the bottom: [`wheel`] (what happens when), [`line`](mod@line) (one direction of a link), [`graph`] (which way), [`fabric`]
//! (packets on their way), [`port`], [`flow`], [`app`], [`host`], [`filler`] (cross traffic), [`laboratory`] (the loop);
//! beside them [`topology`] and [`workload`], what experiments begin with; above them [`plan`] (experiments as files),
//! [`experiment`] (their runs), [`findings`] (what came out, and what was to) and [`plot`]; [`law`] is theory.

pub mod app;
pub mod experiment;
pub mod fabric;
pub mod filler;
pub mod findings;
pub mod flow;
pub mod graph;
pub mod host;
pub mod laboratory;
pub mod law;
pub mod line;
pub mod plan;
pub mod plot;
pub mod port;
pub mod topology;
pub mod wheel;
pub mod workload;
