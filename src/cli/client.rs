//! `braid client`: measures what the network carries to a server.

use crate::app::perf::parameters::{BLOCK_DEFAULT, BLOCK_MAX, OMIT_MAX_SECS, TIME_MAX_SECS, WINDOW_MAX};
use crate::app::perf::protocol::{DEFAULT_PORT, STREAMS_MAX};
use crate::app::perf::{
    self, ClientOptions, Direction, Family, Net, Output, Parameters, PerfError, Report, Timing,
    error_document, units,
};
use crate::base::time::Duration;
use crate::cli::net::NetArguments;
use crate::cli::{signals, wrong_usage};
use crate::runtime::Clock;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Seconds of a test when nothing else ends it.
const TIME_DEFAULT_SECS: u32 = 10;

const EXAMPLES: &str = "\
Examples:
  braid client 10.0.0.2                  ten seconds over every NIC there is
  braid client 10.0.0.2 --nic eth1 --nic eth2
  braid client 10.0.0.2 -R -P 4          the server sends, 4 connections
  braid client 10.0.0.2 -F disk.img      send a file; both ends tell its SHA-256
  braid client 10.0.0.2 -n 10G -J        10 GiB, and a JSON report
  braid client 10.0.0.2 --sched redundant
                                         a copy of everything on every path
  braid client 10.0.0.2 --kernel mptcp   the same over the kernel's MPTCP

The server may be `braid server` or a stock `iperf3 -s`. Exit status: 0 the test was done, 1 it was not, \
2 the arguments are wrong.";

/// Arguments of `braid client`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClientArguments {
    /// The server: a name or an address.
    host: String,
    /// Its port.
    #[arg(short, long, default_value_t = DEFAULT_PORT, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How long to test, in seconds; 0: until something else ends it. Default: 10, and with -n, -k or -F no limit.
    #[arg(short = 't', long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=i64::from(TIME_MAX_SECS)))]
    time: Option<u32>,
    /// End after so many bytes over all streams (K, M, G: powers of 1024).
    #[arg(short = 'n', long, value_name = "BYTES", value_parser = units::parse_bytes)]
    bytes: Option<u64>,
    /// End after so many blocks over all streams.
    #[arg(short = 'k', long, value_name = "BLOCKS", value_parser = units::parse_bytes, conflicts_with = "bytes")]
    blockcount: Option<u64>,
    /// Bytes to read and write at a time (K, M).
    #[arg(short, long, value_name = "BYTES", value_parser = units::parse_bytes)]
    length: Option<u64>,
    /// Seconds between reports; 0: only at the end.
    #[arg(short, long, default_value_t = 1.0, value_name = "SECONDS", value_parser = parse_interval)]
    interval: f64,
    /// Streams, a connection each.
    #[arg(short = 'P', long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(STREAMS_MAX)))]
    parallel: u32,
    /// The server sends.
    #[arg(short = 'R', long)]
    reverse: bool,
    /// Both send, over streams of their own.
    #[arg(long, conflicts_with_all = ["reverse", "file"])]
    bidir: bool,
    /// Seconds at the beginning that don't count.
    #[arg(short = 'O', long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=i64::from(OMIT_MAX_SECS)))]
    omit: u32,
    /// Send this file, and end the test at its end; with -R, write to it what comes.
    #[arg(short = 'F', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Report in JSON, in the shape of iperf3 -J and with more.
    #[arg(short = 'J', long)]
    json: bool,
    /// Rate of each stream in bit/s (K, M, G: powers of 1000); 0: as fast as it goes.
    #[arg(short, long, default_value = "0", value_name = "RATE", value_parser = units::parse_rate)]
    bitrate: u64,
    /// Size of the kernel's socket buffers, with --kernel and on a stock server (K, M).
    #[arg(short, long, value_name = "BYTES", value_parser = units::parse_bytes)]
    window: Option<u64>,
    /// A name for the test, in its reports.
    #[arg(short = 'T', long, value_name = "TEXT")]
    title: Option<String>,
    /// Show the server's report as well.
    #[arg(long)]
    get_server_output: bool,
    /// Only IPv4 addresses of the server.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6 addresses of the server.
    #[arg(short = '6', long)]
    ipv6: bool,
    /// How long a connection may take to come about, in milliseconds.
    #[arg(long, default_value_t = 5000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    connect_timeout: u64,
    /// Give up when no data has moved for so many seconds.
    #[arg(long, default_value_t = 40, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    idle_timeout: u64,
    #[command(flatten)]
    net: NetArguments,
}

pub(super) fn parse_interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds == 0.0 || (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("an interval is 0 or between 0.1 and 60 seconds".to_owned()),
    }
}

pub(super) fn timing(interval_secs: f64, idle_timeout_secs: u64) -> Timing {
    Timing {
        interval: (interval_secs != 0.0).then(|| Duration::from_secs_f64(interval_secs)),
        idle_timeout: Duration::from_secs(idle_timeout_secs),
    }
}

fn limited(what: &str, value: Option<u64>, absent: u32, max: u32) -> u32 {
    match value {
        None => absent,
        Some(value) => match u32::try_from(value) {
            Ok(value) if (1..=max).contains(&value) => value,
            _ => wrong_usage(format!("{what} must be between 1 and {max} bytes")),
        },
    }
}

impl ClientArguments {
    fn parameters(&self) -> Parameters {
        let sends_file = self.file.is_some() && !self.reverse;
        let bounded =
            self.bytes.is_some_and(|bytes| bytes != 0) || self.blockcount.is_some_and(|blocks| blocks != 0);
        let default_time = if bounded || sends_file { 0 } else { TIME_DEFAULT_SECS };
        if self.file.is_some() && self.reverse && self.parallel > 1 {
            wrong_usage("a file takes what one stream brings: -F with -R needs -P 1".to_owned());
        }
        Parameters {
            omit_secs: self.omit,
            time_secs: self.time.unwrap_or(default_time),
            num: self.bytes.unwrap_or(0),
            blockcount: self.blockcount.unwrap_or(0),
            parallel: self.parallel,
            direction: match (self.reverse, self.bidir) {
                (_, true) => Direction::Bidirectional,
                (true, false) => Direction::Reverse,
                (false, false) => Direction::Forward,
            },
            len: limited("--length", self.length, BLOCK_DEFAULT, BLOCK_MAX),
            bandwidth: self.bitrate,
            nodelay: false,
            window: limited("--window", self.window, 0, WINDOW_MAX),
            congestion: None,
            title: self.title.clone(),
            extra_data: None,
            get_server_output: self.get_server_output,
            mptcp: false,
            half_close: bounded || self.file.is_some(),
            client_version: Some(format!("braid {}", env!("CARGO_PKG_VERSION"))),
        }
    }

    fn options(&self) -> ClientOptions {
        ClientOptions {
            host: self.host.clone(),
            port: self.port,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Family::V4,
                (false, true) => Family::V6,
                (false, false) => Family::Any,
            },
            connect_timeout: Duration::from_millis(self.connect_timeout),
            parameters: self.parameters(),
            file: self.file.clone(),
            timing: timing(self.interval, self.idle_timeout),
        }
    }
}

/// Runs a test.
pub(super) fn run(arguments: &ClientArguments) -> anyhow::Result<ExitCode> {
    let options = arguments.options();
    let interrupt = signals::interrupt()?;
    let net = match arguments.net.start() {
        Ok(net) => net,
        Err(error) if arguments.json => {
            perf::report::print(&error_document(&format!("{error:#}")))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error),
    };
    let mut report = Report::new(arguments.json, Output::default());
    let result = perf::client::run(&net, &options, Clock::start(), &interrupt, &mut report);
    let told = report.finish(result.as_ref().err());
    // Connections end with notice to their peers before the process does.
    drop::<Net>(net);
    match result.and(told) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // A reader that has seen enough: `braid client … | head`.
        Err(PerfError::OutputClosed) => Ok(ExitCode::FAILURE),
        Err(_) if arguments.json => Ok(ExitCode::FAILURE),
        // An error of ours says all in its one line, its causes too.
        Err(error) => Err(anyhow::Error::msg(error.to_string())),
    }
}
