//! What a runtime is started with.

use super::ctl::CtlPath;
use super::paths::PathConfig;
use crate::base::time::Duration;
use crate::wire::ChecksumMode;
use crate::xdp::ZeroCopy;

/// How to start a [`super::Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// NICs by name. Empty: every NIC that is up and has a usable address (global scope, not loopback).
    pub nics: Vec<String>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Queues of each NIC to use. `None`: all that it has.
    pub queues: Option<usize>,
    /// The core of each worker, in turn. Empty: chosen, where the machine has cores enough to give some away.
    pub cores: Vec<usize>,
    /// Workers never sleep: lowest latency, one core each.
    pub spin: bool,
    /// How long a worker without work spins before it sleeps, unless it always spins; `None`: 50 µs. Where the machine
    /// has not cores enough to give one to each worker, it lets others run meanwhile, and sleeps at once while data
    /// arrives in bulk, for the kernel's part of the work needs the core.
    pub idle_spell: Option<Duration>,
    /// Frames of 4096 bytes, for all connections and NICs together.
    pub frames: usize,
    /// Whether NICs move packets by themselves, or the kernel copies them.
    pub zero_copy: ZeroCopy,
    /// Who makes and checks TCP checksums.
    pub checksum: ChecksumMode,
    /// Connections of one worker.
    pub max_connections: usize,
    /// Which subflows connections get, and from where.
    pub paths: PathConfig,
    /// Where users can look on and change that (`braid ctl`).
    pub ctl: CtlPath,
    /// Connections that wait for `accept`, for each listener.
    pub backlog: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            nics: Vec::new(),
            workers: 1,
            queues: None,
            cores: Vec::new(),
            spin: false,
            idle_spell: None,
            frames: 32768,
            zero_copy: ZeroCopy::default(),
            checksum: ChecksumMode::Software,
            max_connections: 16384,
            paths: PathConfig::default(),
            ctl: CtlPath::default(),
            backlog: 128,
        }
    }
}
