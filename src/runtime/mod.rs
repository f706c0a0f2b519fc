//! The process around the core: starts the workers' threads, follows the kernel's links, addresses, routes and
//! neighbours by netlink, runs the path manager, and turns what programs ask for into commands. Read `launch.rs`
//! first, then `control.rs`.

pub mod clock;
mod config;
mod control;
mod error;
mod handle;
mod launch;
mod local_ports;
mod netlink;
#[cfg(test)]
pub(crate) mod netns;
mod network;
mod openings;
mod reserve;
mod stalls;
mod thread;
mod wake;

pub use clock::Clock;
pub use config::RuntimeConfig;
pub use error::{ConnectError, ListenError, PortError, StartError};
pub use handle::{Bound, ControlHandle, Opening};
pub use launch::Runtime;
pub use netlink::usable_addresses;
pub use stalls::Stalls;
