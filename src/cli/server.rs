//! `braid server`: serves clients that measure.

use crate::app::perf::protocol::DEFAULT_PORT;
use crate::app::perf::{self, ServerOptions, error_document};
use crate::cli::client::{parse_interval, timing};
use crate::cli::net::NetArguments;
use crate::cli::signals;
use crate::runtime::Clock;
use clap::Args;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  braid server                             until Ctrl-C, over every NIC there is
  braid server --nic eth1 --nic eth2 -1    one test over two NICs, then end
  braid server --endpoint 10.0.2.2,signal  announce only that address
  braid server --behind-load-balancer --endpoint 10.0.2.2,signal,port=5202
                                           no joins to the address that clients
                                           know, but to this one
  braid server -F copy.img                 what comes becomes a file; its SHA-256
  braid server --kernel mptcp              over the kernel's MPTCP, to compare

Clients may be `braid client` or a stock `iperf3 -c`, several at the same time. Exit status: 0 it has served, \
1 it could not, 2 the arguments are wrong.";

/// Arguments of `braid server`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServerArguments {
    /// Listen at this port; 0: any that is free.
    #[arg(short, long, default_value_t = DEFAULT_PORT, value_name = "PORT")]
    port: u16,
    /// Listen only at this address.
    #[arg(short = 'B', long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Serve one test, then end.
    #[arg(short = '1', long)]
    one_off: bool,
    /// Seconds between reports; 0: only at the end.
    #[arg(short, long, default_value_t = 1.0, value_name = "SECONDS", value_parser = parse_interval)]
    interval: f64,
    /// Write what comes to this file, one test at a time; with a client's -R, send it.
    #[arg(short = 'F', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Report in JSON: a document for each test.
    #[arg(short = 'J', long)]
    json: bool,
    /// End a test in which no data has moved for so many seconds.
    #[arg(long, default_value_t = 40, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    idle_timeout: u64,
    #[command(flatten)]
    net: NetArguments,
}

/// Serves.
pub(super) fn run(arguments: &ServerArguments) -> anyhow::Result<ExitCode> {
    let interrupt = signals::interrupt()?;
    let options = ServerOptions {
        bind: arguments.bind,
        port: arguments.port,
        one_off: arguments.one_off,
        file: arguments.file.clone(),
        json: arguments.json,
        timing: timing(arguments.interval, arguments.idle_timeout),
    };
    let json = arguments.json;
    let net = match arguments.net.start() {
        Ok(net) => net,
        Err(error) => return fail(&format!("{error:#}"), json),
    };
    match perf::server::serve(net, options, Clock::start(), interrupt) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // What went wrong with a test is in its document already.
        Err(error) if json && error.is_of_a_test() => Ok(ExitCode::FAILURE),
        Err(error) => fail(&error.to_string(), json),
    }
}

/// The error, in JSON on standard output or for standard error.
fn fail(error: &str, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        perf::report::print(&error_document(error))?;
        return Ok(ExitCode::FAILURE);
    }
    Err(anyhow::Error::msg(error.to_owned()))
}
