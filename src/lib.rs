//! Braid: Multipath TCP (RFC 8684) in user space on AF_XDP.
//!
//! The architecture, on one page. The modules below stand in the order of their dependencies: each imports only from
//! those above it (`tests/layering.rs` holds that).
//!
//! An eBPF program (`bpf/`) steers MPTCP flows into AF_XDP rings, per NIC, and leaves everything else to the kernel.
//! Pinned polling threads, the *workers*, run TCP and MPTCP on the frames where the NIC put them. A *control* thread
//! manages paths. Applications exchange chunks of frames with workers through rings.
//!
//! ```text
//!  netlink ─► CONTROL ──Command──► WORKER i, pinned ──► AF_XDP TX ──► NICs
//!               ▲  ▲                   ▲   │  ▲
//!    CLI, API ──┘  └─────Report────────┼───┘  └──────── AF_XDP RX ◄── steering program
//!  APPLICATION ◄── chunks, doorbell ───┘
//! ```
//!
//! **The sans-IO line.** Everything from [`base`] to [`pm`] decides and does nothing: packets, commands and the time go
//! in (`handle_*`), packets, events and the next deadline come out (`poll_*`). There is no clock, socket, thread or
//! random device there. The [`worker`] joins it to the traits of [`port`], which [`xdp`] implements with AF_XDP and
//! [`sim`] with simulated links: the same code runs on both, and a simulation is a function of its seed.
//!
//! **A packet's way in.** [`xdp`] takes it from a ring as an [`base::RxFrame`]; [`stack`] has [`wire`] check it, once, and
//! finds its connection; [`mptcp::Connection`] gives the segment to the subflow's [`tcp::Tcb`], then reads its MPTCP
//! options, maps its bytes into the data stream, and puts them in order; the slot of the connection hands chunks to the
//! application's [`stack::StreamShared`]. The payload has not moved.
//!
//! **A byte's way out.** The application fills a frame behind its headroom; the chunk waits in the connection's send queue
//! until it is data-acknowledged. When a subflow has room, the scheduler puts it there; TCP says with which header, MPTCP
//! adds its options, [`wire::emit`] writes both in front of the payload, and the frame goes into the ring of the subflow's
//! NIC. A retransmission, or a reinjection on another NIC, writes new headers in front of the same payload, once
//! the NIC has given the frame back; before that it is sent from a copy.
//!
//! **Who owns what.** A [`base::Frame`] is a hold on a frame; frames in TX rings are counted apart (see [`base::pool`]).
//! A connection belongs to one worker for life: the key that it chose has a token that says which one, and the steering
//! program reads it from MP_JOIN. Nothing on the data path takes a lock or waits for another thread.
//!
//! **One that rests** for a second is written down, in a fifth of its memory, and read back when a packet, its application,
//! control or a timer asks for it ([`stack::connections`]): a million idle connections take less than 2 GiB. All of its
//! state is plain data for that reason, and what holds frames is empty then.
//!
//! **Threads meet** only in rings (crossbeam's `ArrayQueue`, and a smaller one while little is in it), in the frame pool's depot, and in
//! [`base::snapshot`]s. A worker that has nothing to do sleeps in poll(2); its [`stack::Doorbell`] wakes it.
//!
//! Where this departs from the first design, and why:
//! - `base/` has no SPSC ring of its own (crossbeam's queue serves), connections have no routing table (a [`mptcp::Path`]
//!   comes with the command, or from the SYN that is answered), and timers are a heap with lazy entries, no wheel: a
//!   connection's deadline moves with nearly every packet, and nearly always later.
//! - A queue's fill and completion rings are not its home worker's alone: whoever works on the queue takes them by a
//!   `try_lock` that never waits. A sleeping home would starve its guests.
//! - Zero-copy is one choice for the process: one memory region has one mode, so a NIC without it puts all into copy mode.
//! - The lowest round trip that the scheduler looks for is the one that a segment sent now can expect
//!   ([`tcp::Tcb::expected_rtt`]), not the smoothed one, which stays as it was on a path that fell idle.
//! - A decision of that scheduler holds for a run of segments where windows are wide: to decide on each costs as much as to
//!   write it. The others are asked for each. What leaves in such a run is alike but for its numbers, and written from a
//!   pattern ([`wire::pattern`]); debug builds write each header in the usual way, too, and compare.
//! - So is what arrives in a run: from its fourth segment on one is compared with what is expected ([`wire::sequel`]), and only
//!   what its payload changes is done ([`mptcp::Connection::follow`]). A twin test does it both ways, whatever happens to a
//!   segment, and compares whole connections.
//! - An application that waited and was woken has 50 µs to answer before a bare ACK leaves (`stack/slot.rs`): its answer, or its end,
//!   carries the ACK.
//! - What a connection asks all of its subflows with every packet (something to send? room? a timer?) it keeps until one is
//!   touched ([`mptcp::subflows`]): most of them are in no cache. Debug builds ask anew, and compare.
//! - In copy mode no more than two system calls' worth of packets waits in a transmit ring: only our own next call takes
//!   them out, and nobody's congestion control would hear of that queue. And the headroom of frames is such that the kernel's
//!   copy is fast ([`base::pool::TX_HEADROOM`]).
//! - Where there is no core to spare a worker that has nothing to do spins, too, but yields the core to whoever wants it; and it
//!   naps while data arrives in bulk, even between small batches (`runtime/pace.rs`): on a small machine a spinning worker keeps the
//!   kernel's softirqs, its own other half, from running, and every batch has an ACK of its own.
//! - Short connections hardly concern control. Applications open them themselves, with what control left for them
//!   (`runtime/departures.rs`), and it hears of them a millisecond later, of many at once ([`stack::Report::can_wait`]). One that
//!   is over by then gets no further subflow: RFC 8684 §3.9.2 has hosts delay them, for that reason.
//! - Receive windows start at 1 MB and follow what the paths carry ([`mptcp::autotune`]); little waits unsent. What is
//!   more only makes queues, and falls out of the caches.
//! - Coupling is in [`cc`], not in [`pm`], and a connection couples its subflows itself, once in the shortest round trip, with
//!   what it sees of them at that moment. Control knows what no connection knows: the paths of the other connections to the same
//!   host, where those are to be coupled, too ([`pm::Bundles`]); it tells them, and they are as old as that takes.
//! - The core's [`base::time::Duration`] is not the standard library's, which is twice as large: a connection has some eighty
//!   times and spans of time. What applications call takes the standard one.
//! - `lab` stands before `cli`, which uses it.
//! - The simulator is two: [`sim`] finds faults in two hosts and looks at every byte, [`sim::lab`] measures networks of any
//!   size and is fast. Both run the worker and the stack as they are.
//! - Where packets are longer than a frame (MTU 9000), a segment is still the bytes of one frame, everywhere: several leave in one
//!   packet ([`tcp::Tcb::packs`]) and are several again when they arrive (`stack/core/scattered.rs`). What is lost is sent
//!   again segment by segment, and windows grow by those segments, less than RFC 5681 would let them.
//! - TCP Fast Open (RFC 7413) is for plain TCP. RFC 8684 appendix B would let data go with the SYN of an MPTCP connection,
//!   outside of the data sequence space. Ours asks for a cookie there and sends no such data, and a server leaves what a peer
//!   sends to the handshake, after which it comes again with a mapping (§B.3): paths are worth more than a round trip.
//!   Cookies are known to the worker that learned them ([`stack::fast_open`]); all workers of a server make the same ones.
//! - `unsafe` code is in `wire::checksum` (SIMD), too, and outside of the crate in two files of the packetdrill shim
//!   (`tests/packetdrill/`): a shared object that a C program loads cannot be without. `tests/layering.rs` holds that.

pub mod base;

pub mod wire;

pub mod cc;

pub mod tcp;

pub mod mptcp;

pub mod stack;

pub mod pm;

pub mod port;

pub mod worker;

pub mod xdp;

pub mod sim;

pub mod runtime;

pub mod app;

pub mod lab;

pub mod cli;

/// The examples of the README are compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
