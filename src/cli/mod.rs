//! Arguments and subcommands of the `braid` command.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

mod check;
mod client;
mod ctl;
mod demo;
mod lab;
mod net;
mod paths;
mod server;
mod signals;
mod sim;

/// Multipath TCP (RFC 8684) in user space on AF_XDP.
#[derive(Debug, Parser)]
#[command(name = "braid", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what the network carries to a server (braid server, or iperf3 -s).
    Client(client::ClientArguments),
    /// Serve clients that measure (braid client, or iperf3 -c).
    Server(server::ServerArguments),
    /// Look at a running server or client, and change its paths: endpoints, limits, subflows, events, counters.
    Ctl(ctl::CtlArguments),
    /// Show what this machine and its NICs can do for Braid, and what to do about what is missing.
    ///
    /// As root it tries zero-copy on every queue of a NIC that announces it, unless an XDP program is attached to the NIC;
    /// a queue receives nothing for the moment of its trial.
    Check(check::CheckArguments),
    /// Make, use and remove a testbed of two hosts and several paths on this machine.
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Repeat the experiments of the literature in a simulator that runs the same code.
    #[command(subcommand)]
    Sim(sim::SimCommand),
    /// Show two paths at work on this machine: traffic, then a file while a path fails.
    Demo(demo::DemoArguments),
}

/// Ends the process with status 2 and how to say it right.
fn wrong_usage(text: String) -> ! {
    Arguments::command().error(ErrorKind::ValueValidation, text).exit()
}

/// Runs the command line; errors are told on standard error.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Client(arguments) => client::run(&arguments),
        Command::Server(arguments) => server::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Lab(command) => lab::run(command),
        Command::Sim(command) => sim::run(command),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("braid: {error:#}");
        ExitCode::FAILURE
    })
}
