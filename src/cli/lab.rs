//! `braid lab`: makes, uses and removes the testbed by name.

use crate::lab::{Host, Lab, LabOptions, Rate};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two hosts as network namespaces, joined by veth paths.
#[derive(Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Make a lab: namespaces NAME-a and NAME-b, joined by NICs p1, p2, … with addresses 10.71.<path>.1 and .2.
    Up(UpArguments),
    /// Run a command on a host of a lab.
    Run {
        /// The lab's name.
        name: String,
        /// Where: a, b, or m1, m2, … for the bridges in the middle.
        host: Host,
        /// The command and its arguments, after `--`.
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Remove a lab, and end what runs in it.
    Down {
        /// The lab's name.
        name: String,
    },
    /// Show the labs that stand.
    List,
}

/// What a lab is like.
#[derive(Debug, Args)]
pub(super) struct UpArguments {
    /// The lab's name: a-z, 0-9 and '-'.
    name: String,
    /// How many paths.
    #[arg(long, default_value_t = 2, value_name = "N")]
    paths: u8,
    /// MTU of every link, in bytes.
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    mtu: u32,
    /// RX and TX queues of each NIC.
    #[arg(long, default_value_t = 1, value_name = "N")]
    queues: u16,
    /// Limit each path in each direction (500mbit, 1gbit), at a bridge in the middle.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Put a bridge in the middle of each path without a limit, for captures and loss.
    #[arg(long)]
    middle: bool,
    /// Lose so many of 100 packets at the bridge in the middle (0.5 is one in 200).
    #[arg(long, value_name = "PERCENT", value_parser = per_mille)]
    loss: Option<u16>,
}

/// Reads a percentage with one decimal into thousandths.
fn per_mille(text: &str) -> Result<u16, String> {
    match text.trim_end_matches('%').parse::<f32>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok((percent * 10.0).round() as u16),
        _ => Err("a percentage from 0 to 100".into()),
    }
}

/// Does what `braid lab …` asks for.
///
/// # Errors
/// Those of [`Lab`], and of the command that could not be started.
pub(super) fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::Up(arguments) => up(&arguments)?,
        LabCommand::Run { name, host, command } => execute(&name, host, &command)?,
        LabCommand::Down { name } => Lab::find(&name)?.down()?,
        LabCommand::List => {
            for name in Lab::list()? {
                println!("{name}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(arguments: &UpArguments) -> anyhow::Result<()> {
    let UpArguments { ref name, paths, mtu, queues, rate, middle, loss } = *arguments;
    // A signal half-way must not leave half a lab.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in signal_hook::consts::TERM_SIGNALS {
        signal_hook::flag::register(*signal, Arc::clone(&interrupted))?;
    }
    let middle = middle || loss.is_some();
    let lab = Lab::up(name, &LabOptions { paths, mtu, queues, rate, middle })?;
    if let Some(loss) = loss {
        for path in 1..=paths {
            lab.set_loss(path, loss)?;
        }
    }
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted: lab {name} is removed again");
    }
    let hosts: Vec<String> = lab.hosts().iter().map(|host| format!("{name}-{host}")).collect();
    println!("lab {name} stands: {}", hosts.join(", "));
    println!("  braid lab run {name} a -- ip addr");
    println!("  braid lab down {name}");
    lab.keep();
    Ok(())
}

/// Becomes the command, so that its signals and its exit status are its own.
fn execute(name: &str, host: Host, words: &[OsString]) -> anyhow::Result<()> {
    let lab = Lab::find(name)?;
    if !lab.hosts().contains(&host) {
        bail!("lab {name} has no host {host}: it was made without bridges, or with fewer paths");
    }
    let error = lab.exec(host).args(words).exec();
    Err(error).context("cannot run ip netns exec")
}
