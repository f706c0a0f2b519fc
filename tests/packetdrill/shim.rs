//! Braid behind packetdrill: a shared object for `packetdrill --so_filename`, over the sans-IO core in virtual time.
//! `run.rs` runs scripts with it (`make packetdrill`); `main.rs` is its self-test.
//!
//! Read `world.rs` first. `table.rs` is what packetdrill calls and `preload.rs` what it finds
//! in place of the C library, the only unsafe code; `kernel.rs` lets two threads call
//! into one world; `sockets.rs`, `fast_open.rs`, `options.rs` and `ready.rs` are the system calls; `stubs.rs` answers the shell commands of
//! scripts; `persona.rs` has the settings that scripts expect of Linux, `info.rs` its `tcp_info`, `super_segments.rs` its
//! PSH bits. `hashes.rs` stands in for a part of the kernel that packetdrill itself uses.
//!
//! packetdrill itself is nowhere in here: the interface is described in its README and its packetdrill.h, and none of
//! either is copied.

#![allow(missing_docs)]

mod cookies;
mod fast_open;
mod hashes;
mod info;
mod kernel;
mod options;
mod persona;
mod preload;
mod ready;
mod sockets;
mod stubs;
mod super_segments;
mod table;
mod wants;
mod world;
