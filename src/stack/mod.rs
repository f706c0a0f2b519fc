//! All that one worker owns: connections and listeners, the table from packets to subflows, timers; and the vocabulary
//! of messages between control, workers and applications. Read `message.rs` and `stream.rs` first.

pub mod connections;
pub mod core;
pub mod counters;
pub mod fast_open;
pub mod message;
pub mod owner;
pub mod slot;
pub mod stream;
pub mod timers;

pub use core::{Action, PortConfig, Stack, StackConfig};
pub use counters::{Counters, FastOpenCounters, WorkerCounters};

pub use message::{
    CloseReason, Command, ConnectOptions, ConnectionId, FallbackReason, ListenOptions, ListenerId, Path,
    Report, SubflowId,
};
pub use stream::{AcceptQueue, Doorbell, StreamShared};
