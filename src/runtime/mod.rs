//! The process around the core: starts the workers' threads, follows the kernel's links, addresses, routes and
//! neighbours by netlink, runs the path manager, and turns what programs ask for into commands. Read `launch.rs`
//! first, then `control.rs`.

mod asks;
pub mod clock;
mod config;
mod control;
pub mod ctl;
mod departures;
mod error;
mod handle;
mod info;
mod launch;
mod local_ports;
mod netlink;
#[cfg(test)]
pub(crate) mod netns;
mod network;
mod openings;
mod pace;
mod paths;
mod reserve;
mod stalls;
mod thread;
mod wake;

pub use asks::AskError;
pub use clock::Clock;
pub use config::RuntimeConfig;
pub use ctl::{CtlError, CtlPath};
pub use error::{ConnectError, ListenError, PortError, StartError};
pub use handle::{Action, Bound, ControlHandle, Opening};
pub use info::{ConnectionStatus, MptcpInfo};
pub use launch::Runtime;
pub use netlink::usable_addresses;
pub use paths::{EndpointConfig, EndpointSyntax, PathConfig};
pub use stalls::Stalls;
