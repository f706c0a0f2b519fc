//! Braid: Multipath TCP (RFC 8684) in user space on AF_XDP.

pub mod base;
pub mod cc;
pub mod mptcp;
pub mod port;
pub mod sim;
pub mod stack;
pub mod tcp;
pub mod wire;
pub mod xdp;
