//! What everything else stands on, and what imports nothing of ours: time, sequence numbers, identifiers,
//! a generator of reproducible random numbers, frames, and the seqlock of published values.

pub mod ids;
pub mod names;
pub mod pool;
pub mod prng;
pub mod seq;
pub mod snapshot;
pub mod time;

pub use ids::{PortId, WorkerId};
pub use pool::{Chunk, Frame, FramePool, PoolCache, RxFrame, TxFrame};
pub use prng::Prng;
pub use seq::{DataSeq, SeqNum};
pub use time::Instant;
