//! What programs use: [`Stream`] and [`Listener`] over a [`crate::runtime::Runtime`].

pub mod mptcp;
pub mod perf;
pub mod stream;

pub use crate::stack::stream::FastOpenUse;
pub use mptcp::Mptcp;
pub use stream::{Listener, RecvChunk, Stream};

#[cfg(test)]
mod tests;
