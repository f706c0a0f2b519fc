//! MPTCP, and TCP, with the kernel at the other end, each way round: what changes while a connection runs (joins, addresses,
//! backups, flapping links), how it ends, and what middleboxes do to it. On real kernels in the lab, so as root; each test
//! that cannot run says so aloud.
//!
//! Every case moves data both ways, compares SHA-256 at both ends, and looks at all of the kernel's counters of MPTCP
//! (`MPTcpExt` in /proc/net/netstat): none may have risen that tells of trouble, but for those that the case means to
//! raise, and those must have. `tcp.rs` is about TCP alone: loss, reordering, missing options, closed windows; `routed.rs`
//! about TCP through a router, and how long its packets may be. Transfers of files and the fair use of paths are in
//! `tests/interop.rs`.
//!
//! Read `stage.rs` first.

#[path = "../support/capture.rs"]
mod capture;
mod closing;
mod counters;
mod crowd;
mod ends;
mod families;
mod middleboxes;
mod paths;
mod routed;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tcp;
