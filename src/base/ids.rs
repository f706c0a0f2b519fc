//! Small identifiers, each of its own type so that they cannot be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A NIC that Braid is attached to: its place in the list of ports that the process was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortId(pub u16);

/// A worker thread (or, in the simulator, a worker of a host).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

impl PortId {
    /// As an index into a table of ports.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl WorkerId {
    /// As an index into a table of workers.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}
