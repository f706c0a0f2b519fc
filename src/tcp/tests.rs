//! Connections against each other over a bad link, and against scripts.

mod pair;
mod transfers;
