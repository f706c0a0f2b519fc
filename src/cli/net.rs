//! What `braid client` and `braid server` have in common: over what they run.

use crate::app::perf::units::parse_bytes;
use crate::app::perf::{BraidNet, KernelNet, Net};
use crate::base::names;
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::cli::paths::PathArguments;
use crate::mptcp::{ChecksumPolicy, CouplingScope, SchedulerKind};
use crate::runtime::{Runtime, RuntimeConfig};
use crate::stack::ConnectOptions;
use crate::wire::ChecksumMode;
use crate::xdp::ZeroCopy;
use anyhow::anyhow;
use clap::builder::{PossibleValuesParser, TypedValueParser};
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

/// Whether NICs move packets by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ZeroCopyChoice {
    /// They must: where a NIC cannot, this ends with the reason and the remedy.
    Require,
    /// They do where all of them can; else the kernel copies each packet once, and the report says why.
    Prefer,
    /// The kernel copies.
    Off,
}

/// Over what a test runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Transport")]
pub(super) struct NetArguments {
    /// Use this NIC; repeat it for several. Default: every NIC that is up and has a usable address.
    #[arg(long, value_name = "NAME")]
    nic: Vec<String>,
    /// Congestion control: reno (default), cubic, bbr (by a model of the path: for lossy or deeply buffered ones), dctcp (for data
    /// centres: both ends need it, and switches that mark); or, coupling a connection's subflows, lia, olia, balia, wvegas, ewtcp, coupled.
    #[arg(long, short = 'C', visible_alias = "congestion", value_name = "NAME")]
    cc: Option<String>,
    /// With what a coupled congestion control (lia, olia, balia, wvegas, ewtcp, coupled) couples a connection's subflows. connection:
    /// with each other, so that they take of a shared bottleneck what one TCP connection takes. bundle: with those of all
    /// connections of this process to the same host, too, so that all of them take that together (-P 8 is no advantage then).
    #[arg(long, value_name = "WITH", default_value = "connection", value_parser = choice(CouplingScope::ALL))]
    couple: CouplingScope,
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
    #[arg(long, default_value = "32M", value_name = "BYTES", value_parser = parse_buffer)]
    buffer: u32,
    /// Pin worker threads to these cores, in turn (0,2). Default: from core 1 on where there are cores enough.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    cores: Vec<usize>,
    /// How many microseconds a worker without work spins before it sleeps; where the machine has no cores to spare it
    /// lets others run meanwhile. Default: 50.
    #[arg(long, value_name = "US", conflicts_with = "spin")]
    idle_spell: Option<u64>,
    /// Let workers spin and never sleep: lowest latency, one processor each.
    #[arg(long)]
    spin: bool,
    /// Whether NICs read and write packets in Braid's memory themselves, without a copy by the kernel. One NIC that
    /// cannot makes all copy: they share that memory.
    #[arg(long, default_value = "prefer", value_name = "HOW")]
    zero_copy: ZeroCopyChoice,
    /// Who makes and checks TCP checksums.
    #[arg(long, default_value = "software", value_name = "HOW")]
    checksum: Checksum,
    /// Which subflows carry the next piece of data. lowest-rtt: the one with room where it would arrive first. round-robin:
    /// each in turn. weighted: each in proportion to what it can carry. redundant: all of them, a copy each; what comes
    /// first counts. blest, ecf: as lowest-rtt, but they wait for a fast path rather than let a slow one hold up the rest
    /// (by the peer's window; by the time of completion). backup-only: one at a time, the others stand by. Each end chooses
    /// for what it sends.
    #[arg(long, value_name = "SCHEDULER", default_value = "lowest-rtt", value_parser = choice(SchedulerKind::ALL))]
    sched: SchedulerKind,
    /// Checksums of MPTCP's mappings, which find what a middlebox has changed in the payload. required: always; both ends
    /// then use them. when-asked: if the other end requires them. never: not even then, and such a peer gets plain TCP.
    #[arg(long, value_name = "WHEN", default_value = "when-asked", value_parser = choice(ChecksumPolicy::ALL))]
    dss_checksum: ChecksumPolicy,
    /// Tell peers that they cannot open subflows to the address and port of a connection's first one at this host (flag C of
    /// RFC 8684), but only to those that are announced: for a server, a load balancer in front of it would send them
    /// elsewhere. Announce addresses or ports that go past it: --endpoint ADDRESS,signal,port=N.
    #[arg(long, conflicts_with = "plain_tcp")]
    behind_load_balancer: bool,
    /// TCP Fast Open (RFC 7413), which saves a round trip at the start of plain TCP connections. A client asks the server for a
    /// cookie with its first connection; later ones (of the same process, to the same server) bring it, and their first data
    /// goes with the SYN. A server gives cookies, and takes such data before the handshake is over. Both ends need it; one
    /// without takes no harm. A network can deliver a SYN twice, and the server's application may then get that data twice:
    /// a test's first bytes can stand that. Connections that offer MPTCP ask for a cookie, and send no data on the SYN: add
    /// --plain-tcp at the client. The report says of each stream whether data went with its SYN.
    #[arg(long)]
    fast_open: bool,
    #[command(flatten)]
    paths: PathArguments,
    /// Measure the kernel's own stack with the same program, for comparison.
    #[arg(
        long,
        value_name = "STACK",
        conflicts_with_all = ["nic", "plain_tcp", "workers", "queues", "cores", "idle_spell", "spin", "zero_copy", "checksum", "sched", "couple", "dss_checksum", "behind_load_balancer", "fast_open", "subflows", "add_addr_accepted", "policy", "dual_stack", "endpoint", "backup", "ctl"]
    )]
    kernel: Option<KernelStack>,
}

impl NetArguments {
    /// What connections are like.
    fn options(&self, congestion: CongestionAlgorithm) -> ConnectOptions {
        ConnectOptions {
            mptcp: !self.plain_tcp,
            congestion,
            coupling: self.couple,
            scheduler: self.sched,
            checksum: self.dss_checksum,
            no_join_here: self.behind_load_balancer,
            fast_open: self.fast_open,
            receive_buffer: self.buffer,
            send_buffer: self.buffer,
            ..ConnectOptions::default()
        }
    }

    /// Starts the transport.
    pub fn start(&self) -> anyhow::Result<Net> {
        if let Some(stack) = self.kernel {
            let mptcp = stack == KernelStack::Mptcp;
            return Ok(Net::Kernel(KernelNet { mptcp, congestion: self.cc.clone() }));
        }
        let congestion = match &self.cc {
            Some(name) => {
                names::find(CongestionAlgorithm::ALL, name, format_args!("congestion control '{name}'"))
                    .map_err(|error| anyhow!("--cc: {error}"))?
            }
            None => CongestionAlgorithm::default(),
        };
        let config = RuntimeConfig {
            nics: self.nic.clone(),
            workers: usize::from(self.workers),
            queues: self.queues.map(usize::from),
            cores: self.cores.clone(),
            spin: self.spin,
            idle_spell: self.idle_spell.map(Duration::from_micros),
            zero_copy: match self.zero_copy {
                ZeroCopyChoice::Require => ZeroCopy::Require,
                ZeroCopyChoice::Prefer => ZeroCopy::Prefer,
                ZeroCopyChoice::Off => ZeroCopy::Off,
            },
            checksum: match self.checksum {
                Checksum::Software => ChecksumMode::Software,
                Checksum::Off => ChecksumMode::Off,
            },
            paths: self.paths.config(),
            ctl: self.paths.ctl(),
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::start(config)
            .map_err(|error| anyhow!("cannot start (braid check says what is missing): {error}"))?;
        if let Err(error) = runtime.ctl() {
            eprintln!("braid: braid ctl will not find this process: {error}");
        }
        Ok(Net::Braid(Box::new(BraidNet { runtime, options: self.options(congestion) })))
    }
}

/// Reads one of the names of a list.
fn choice<T: Copy + Send + Sync + 'static>(
    list: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(list.iter().map(|(name, _)| *name))
        .try_map(move |name| names::find(list, &name, format_args!("'{name}'")))
}

/// The largest that a window of 16 bits with a shift of 14 can tell of.
const BUFFER_MAX: u64 = 1 << 30;

fn parse_buffer(text: &str) -> Result<u32, String> {
    match parse_bytes(text)? {
        bytes @ 4096..=BUFFER_MAX => Ok(bytes as u32),
        _ => Err("between 4K and 1G".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        net: NetArguments,
    }

    fn options(line: &str) -> Result<ConnectOptions, String> {
        let words = ["braid"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.net.options(CongestionAlgorithm::default()))
    }

    #[test]
    fn every_scheduler_and_checksum_policy_can_be_named() {
        let default = ConnectOptions::default();
        assert_eq!(options("").expect("nothing"), default);
        for (name, scheduler) in SchedulerKind::ALL {
            let expected = ConnectOptions { scheduler: *scheduler, ..default };
            assert_eq!(options(&format!("--sched {name}")).expect(name), expected);
        }
        for (name, checksum) in ChecksumPolicy::ALL {
            let expected = ConnectOptions { checksum: *checksum, ..default };
            assert_eq!(options(&format!("--dss-checksum {name}")).expect(name), expected);
        }
        for (name, coupling) in CouplingScope::ALL {
            let expected = ConnectOptions { coupling: *coupling, ..default };
            assert_eq!(options(&format!("--couple {name}")).expect(name), expected);
        }
        assert!(options("--behind-load-balancer").expect("a flag").no_join_here);
        assert!(options("--fast-open --plain-tcp").expect("flags").fast_open);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        for (line, told) in [
            ("--sched fastest", "lowest-rtt, round-robin, weighted, redundant, blest, ecf, backup-only"),
            ("--couple everything", "connection, bundle"),
            ("--dss-checksum maybe", "when-asked, required, never"),
            ("--kernel mptcp --sched ecf", "cannot be used with"),
            ("--kernel mptcp --dss-checksum required", "cannot be used with"),
            ("--kernel mptcp --fast-open", "cannot be used with"),
        ] {
            let error = options(line).expect_err(line);
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
