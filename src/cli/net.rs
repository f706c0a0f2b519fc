//! What `braid client` and `braid server` have in common: over what they run.

use crate::app::perf::net::congestion_algorithm;
use crate::app::perf::units::parse_bytes;
use crate::app::perf::{BraidNet, KernelNet, Net};
use crate::cc::CongestionAlgorithm;
use crate::runtime::{Runtime, RuntimeConfig};
use crate::stack::ConnectOptions;
use crate::wire::ChecksumMode;
use anyhow::anyhow;
use clap::{Args, ValueEnum};

/// The kernel's stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KernelStack {
    /// Plain TCP.
    Tcp,
    /// MPTCP (its limits and endpoints are set with `ip mptcp`).
    Mptcp,
}

/// Who makes and checks TCP checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Checksum {
    /// The processor.
    Software,
    /// Nobody: only between two Braid hosts that both say so, to see what checksums cost.
    Off,
}

/// Over what a test runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Transport")]
pub(super) struct NetArguments {
    /// Use this NIC; repeat it for several. Default: every NIC that is up and has a usable address.
    #[arg(long, value_name = "NAME")]
    nic: Vec<String>,
    /// Congestion control of each subflow.
    #[arg(long, short = 'C', visible_alias = "congestion", value_name = "NAME")]
    cc: Option<String>,
    /// Don't offer MPTCP: one path, plain TCP.
    #[arg(long)]
    plain_tcp: bool,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Queues of each NIC to use. Default: all that it has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    queues: Option<u16>,
    /// Send buffer and receive buffer of each connection, in bytes (K, M, G).
    #[arg(long, default_value = "6M", value_name = "BYTES", value_parser = parse_buffer)]
    buffer: u32,
    /// Pin worker threads to these cores, in turn (0,2). Default: from core 1 on where there are cores enough.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    cores: Vec<usize>,
    /// Let workers spin and never sleep: lowest latency, one processor each.
    #[arg(long)]
    spin: bool,
    /// Who makes and checks TCP checksums.
    #[arg(long, default_value = "software", value_name = "HOW")]
    checksum: Checksum,
    /// Measure the kernel's own stack with the same program, for comparison.
    #[arg(
        long,
        value_name = "STACK",
        conflicts_with_all = ["nic", "plain_tcp", "workers", "queues", "cores", "spin", "checksum"]
    )]
    kernel: Option<KernelStack>,
}

impl NetArguments {
    /// Starts the transport.
    pub fn start(&self) -> anyhow::Result<Net> {
        if let Some(stack) = self.kernel {
            let mptcp = stack == KernelStack::Mptcp;
            return Ok(Net::Kernel(KernelNet { mptcp, congestion: self.cc.clone() }));
        }
        let congestion = match &self.cc {
            Some(name) => congestion_algorithm(name).map_err(|error| anyhow!("--cc: {error}"))?,
            None => CongestionAlgorithm::default(),
        };
        let config = RuntimeConfig {
            nics: self.nic.clone(),
            workers: usize::from(self.workers),
            queues: self.queues.map(usize::from),
            cores: self.cores.clone(),
            spin: self.spin,
            checksum: match self.checksum {
                Checksum::Software => ChecksumMode::Software,
                Checksum::Off => ChecksumMode::Off,
            },
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::start(config)
            .map_err(|error| anyhow!("cannot start (braid check says what is missing): {error}"))?;
        let options = ConnectOptions {
            mptcp: !self.plain_tcp,
            congestion,
            receive_buffer: self.buffer,
            send_buffer: self.buffer,
        };
        Ok(Net::Braid(BraidNet { runtime, options }))
    }
}

/// The largest that a window of 16 bits with a shift of 14 can tell of.
const BUFFER_MAX: u64 = 1 << 30;

fn parse_buffer(text: &str) -> Result<u32, String> {
    match parse_bytes(text)? {
        bytes @ 4096..=BUFFER_MAX => Ok(bytes as u32),
        _ => Err("between 4K and 1G".to_owned()),
    }
}
