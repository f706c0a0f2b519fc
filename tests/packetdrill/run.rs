//! Runs packetdrill scripts against Braid, each with a time limit, and says which passed, folder by folder. Read [`main`]
//! first. Under another name (`sysctl`, `ip`, ...) the same program is the stub of that command: see `command.rs`.
//!
//! `packetdrill-run --packetdrill BINARY --scripts FOLDER [--json] [--ip VERSIONS] [--filter TEXT]`

#![allow(missing_docs)]

#[path = "run/command.rs"]
mod command;
#[path = "run/job.rs"]
mod job;
#[path = "run/report.rs"]
mod report;

use clap::Parser;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs packetdrill scripts against Braid.
#[derive(Debug, Parser)]
#[command(name = "packetdrill-run")]
struct Arguments {
    /// The packetdrill binary
    #[arg(long)]
    packetdrill: PathBuf,
    /// A script, or a folder of scripts
    #[arg(long)]
    scripts: PathBuf,
    /// The shim (default: beside this program)
    #[arg(long)]
    shim: Option<PathBuf>,
    /// IP versions, with commas: ipv4, ipv6, ipv4-mapped-ipv6
    #[arg(long, value_delimiter = ',', default_value = "ipv4")]
    ip: Vec<job::IpVersion>,
    /// Only scripts whose path has this text
    #[arg(long, default_value = "")]
    filter: String,
    /// Seconds that a script may take
    #[arg(long, default_value_t = 30)]
    limit: u64,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Have packetdrill tell of every packet, and show what it says
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if command::NAMES.contains(&name.as_str()) {
        return command::main(&name);
    }
    match run(&Arguments::parse()) {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("packetdrill-run: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<report::Report> {
    let program = std::env::current_exe()?;
    let shim = match &arguments.shim {
        Some(shim) => shim.clone(),
        None => program.with_file_name("libpacketdrill.so"),
    };
    anyhow::ensure!(shim.is_file(), "no shim at {}: build it with `make packetdrill`", shim.display());
    let packetdrill = arguments
        .packetdrill
        .canonicalize()
        .map_err(|error| anyhow::anyhow!("no packetdrill at {}: {error}", arguments.packetdrill.display()))?;
    let mut scripts = Vec::new();
    find(&arguments.scripts.canonicalize()?, &mut scripts)?;
    scripts.retain(|script| script.to_string_lossy().contains(&arguments.filter));
    scripts.sort();
    anyhow::ensure!(!scripts.is_empty(), "no scripts below {}", arguments.scripts.display());

    // Whatever the scripts do to the network happens here, and goes with this process.
    #[allow(deprecated)]
    // Of this process, which has one thread yet, only the network namespace is unshared.
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET)
        .map_err(|error| anyhow::anyhow!("cannot make a network namespace ({error}): run this as root"))?;

    let place = tempfile::tempdir()?;
    command::install(&program, place.path())?;
    let jobs: Vec<job::Job> = scripts
        .iter()
        .flat_map(|script| arguments.ip.iter().map(move |version| (script, *version)))
        .filter(|(script, version)| version.suits(script))
        .map(|(script, version)| job::Job { script: script.clone(), version })
        .collect();
    let setting = job::Setting {
        packetdrill,
        shim,
        place: place.path().to_owned(),
        limit_s: arguments.limit,
        verbose: arguments.verbose,
    };
    let results = run_all(&setting, &jobs)?;
    let report = report::Report::new(results);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report)
}

/// All jobs, as many at a time as there are cores.
fn run_all(setting: &job::Setting, jobs: &[job::Job]) -> anyhow::Result<Vec<job::Outcome>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = job.run(setting)?;
                        results.lock().map_err(|_| anyhow::anyhow!("a worker panicked"))?.push(outcome);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked")).and_then(|result| result)
        })
    })?;
    Ok(results.into_inner()?)
}

/// All scripts below `path`.
fn find(path: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            find(&entry?.path(), into)?;
        }
    } else if path.extension() == Some(OsStr::new("pkt")) {
        into.push(path.to_owned());
    }
    Ok(())
}
