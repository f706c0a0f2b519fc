//! Braid: Multipath TCP (RFC 8684) in user space on AF_XDP.

pub mod app;
pub mod base;
pub mod cc;
pub mod cli;
pub mod mptcp;
pub mod port;
pub mod runtime;
pub mod stack;
pub mod tcp;
pub mod wire;
