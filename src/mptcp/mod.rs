//! One connection over its subflows (RFC 8684), sans-IO. Read `connection.rs` first.

use serde::{Deserialize, Serialize};

pub mod addr;
pub mod autotune;
pub mod batching;
pub mod connection;
pub mod crypto;
pub mod data_recv;
pub mod data_send;
pub mod details;
pub mod emitter;
pub mod event;
pub mod fallback;
pub mod inbound;
pub mod mapping;
pub mod mib;
pub mod negotiation;
pub mod options;
pub mod sched;
pub mod signalling;
pub mod signals;
pub mod subflow;
pub mod subflow_set;
pub mod subflows;
pub mod tuning;

pub use connection::{AbortBy, Connection, Tally, Transmit};
pub use details::{ConnectionDetails, SubflowDetails};
pub use event::{ConnectionEvent, Misbehaviour, SubflowFigures};
pub use fallback::FallbackReason;
pub use mib::{Mib, MptcpCounters};
pub use options::{ChecksumPolicy, ConnectOptions, CouplingScope, Path, Setup};
pub use sched::SchedulerKind;
pub use tuning::Tuning;

/// Names a subflow of one connection; counts up, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubflowId(pub u32);
