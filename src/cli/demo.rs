//! `braid demo`, behind `make demo`: two hosts and two paths on this machine, ten seconds of traffic, then a file that
//! must arrive whole while one of the paths fails and comes back.
//!
//! Whatever ends it (its own end, an error, Ctrl-C, SIGTERM, a panic), it ends its children and removes lab and files.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::lab::{self, Host, Lab, LabOptions, Rate};
use crate::runtime::Clock;
use anyhow::{Context, bail, ensure};
use clap::Args;
use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, ExitStatus, Stdio, id};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;

/// Names of the demo's labs and folders, before the process id.
const PREFIX: &str = "braid-demo-";
/// Bytes hashed or written at once.
const BLOCK: usize = 1 << 20;
/// How often it looks at its children.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a server may take to listen, and to end after its client.
const SERVER_LIMIT: Duration = Duration::from_secs(20);
/// A transfer that moves nothing for so long has failed.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// The path that fails.
const FAILING: u8 = 2;
/// It fails when so many hundredths of the file are there, and is back at so many.
const FAILS_AT: u64 = 30;
const RETURNS_AT: u64 = 50;
/// A path that carried fewer bytes than this carried no data, only handshakes.
const LEAST_DATA: u64 = 1 << 20;
/// What each path is limited to while the file is sent, in Mbit/s.
const FILE_RATE_MBIT: u32 = 1000;

/// How large a demo.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Seconds of traffic before the file.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    time: u32,
    /// Size of the file in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB", value_parser = clap::value_parser!(u64).range(256..=1 << 20))]
    size: u64,
    /// MTU of the paths.
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    mtu: u32,
    /// Limit each path (500mbit). By default nothing limits the traffic, and 1gbit the file: so that one path is not
    /// enough for it, and that the path which comes back is needed.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Use the kernel's MPTCP instead of Braid, for comparison.
    #[arg(long)]
    kernel: bool,
}

/// Runs the demo.
///
/// # Errors
/// Something could not be made, or a transfer failed. A file that arrived otherwise than it was sent, and a second
/// path that carried nothing, are failures told in the summary.
pub(super) fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in signal_hook::consts::TERM_SIGNALS {
        signal_hook::flag::register(*signal, Arc::clone(&interrupted))?;
    }
    Lab::sweep(PREFIX)?;
    Folder::sweep().context("cannot remove the files that an earlier demo left behind")?;
    let mut demo = Demo::new(arguments, interrupted)?;
    let traffic = demo.traffic(arguments.time)?;
    let file = demo.file(arguments.size * BLOCK as u64)?;
    let good = traffic.is_good() && file.is_good();
    print!("{}", summary(&traffic, &file));
    demo.remove()?;
    println!("  removed                the lab, its processes, the files");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the seconds of traffic showed.
#[derive(Debug)]
struct Traffic {
    seconds: f64,
    /// Bytes that crossed each path.
    paths: Vec<u64>,
}

impl Traffic {
    fn is_good(&self) -> bool {
        self.paths.iter().all(|bytes| *bytes >= LEAST_DATA)
    }
}

/// What the transfer of the file showed.
#[derive(Debug)]
struct Transfer {
    bytes: u64,
    seconds: f64,
    sent: String,
    received: String,
    /// Bytes that crossed the failing path before it failed, and after it was back.
    before: u64,
    after: u64,
}

impl Transfer {
    fn is_good(&self) -> bool {
        self.sent == self.received && self.before.min(self.after) >= LEAST_DATA
    }
}

/// All that the demo has made. Dropping it removes it: children first, for the lab's removal counts on that.
#[derive(Debug)]
struct Demo {
    children: Vec<Child>,
    lab: Option<Lab>,
    name: String,
    mtu: u32,
    rate: Option<Rate>,
    folder: Folder,
    interrupted: Arc<AtomicBool>,
    clock: Clock,
    kernel: bool,
}

impl Demo {
    fn new(arguments: &DemoArguments, interrupted: Arc<AtomicBool>) -> anyhow::Result<Demo> {
        let folder = Folder::new(2 * arguments.size * BLOCK as u64)?;
        let mut demo = Demo {
            children: Vec::new(),
            lab: None,
            name: format!("{PREFIX}{}", id()),
            mtu: arguments.mtu,
            rate: arguments.rate,
            folder,
            interrupted,
            clock: Clock::start(),
            kernel: arguments.kernel,
        };
        demo.make_lab(arguments.rate)?;
        let (name, lab) = (&demo.name, demo.lab());
        println!("Made two hosts, {name}-a and {name}-b, joined by {} paths:", lab.paths());
        for path in 1..=lab.paths() {
            let [a, b] = Host::ENDS.map(|host| lab::ipv4(host, path).map(|addr| addr.to_string()));
            println!("  {}: {} - {}", lab::nic(path), a.unwrap_or_default(), b.unwrap_or_default());
        }
        Ok(demo)
    }

    /// Makes the lab, in the place of the one that there is.
    fn make_lab(&mut self, rate: Option<Rate>) -> anyhow::Result<()> {
        self.lab.take().map_or(Ok(()), Lab::down)?;
        let options = LabOptions { mtu: self.mtu, rate, ..LabOptions::default() };
        self.lab = Some(Lab::up(&self.name, &options)?);
        if self.kernel {
            self.announce_second_path()?;
        }
        Ok(())
    }

    fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("new() makes the lab, and only remove() takes it for good")
    }

    /// What Braid's path manager does by itself, the kernel is told to do.
    fn announce_second_path(&self) -> anyhow::Result<()> {
        let mut command = self.lab().exec(Host::B);
        command.args(["ip", "mptcp", "endpoint", "add", "10.71.2.2", "dev", "p2", "signal"]);
        ensure!(command.status()?.success(), "cannot set the kernel's MPTCP up");
        Ok(())
    }

    /// Seconds of traffic from a to b, with the client's own report.
    fn traffic(&mut self, seconds: u32) -> anyhow::Result<Traffic> {
        println!("\n1. {seconds} seconds of traffic from a to b\n");
        let before = self.crossed()?;
        let server = self.serve("server-1", &[])?;
        let client =
            self.start(Host::A, "client", &["10.71.1.2", "-t", &seconds.to_string()], Stdio::inherit())?;
        self.finish(client, "client", &["server-1"])?;
        self.finish_server(server, "server-1")?;
        let paths = self.crossed()?.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
        Ok(Traffic { seconds: f64::from(seconds), paths })
    }

    /// A file from a to b, while a path fails and comes back.
    fn file(&mut self, bytes: u64) -> anyhow::Result<Transfer> {
        let rate = self.rate.unwrap_or(Rate::from_mbit(FILE_RATE_MBIT));
        println!(
            "\n2. A file of {} MiB from a to b, over paths of {:.1} Gbit/s, while path {} fails and comes back\n",
            bytes >> 20,
            rate.bits_per_second() as f64 / 1e9,
            lab::nic(FAILING)
        );
        self.make_lab(Some(rate))?;
        let [source, copy] = ["source", "copy"].map(|name| self.folder.path.join(name));
        let sent = self.write_random(&source, bytes)?;
        let [source_text, copy_text] = [&source, &copy].map(|path| path.to_string_lossy().into_owned());
        let server = self.serve("server-2", &["-F", &copy_text])?;
        let log = self.folder.log("client-2")?;
        let began = self.clock.now();
        let client = self.start(Host::A, "client", &["10.71.1.2", "-F", &source_text], log)?;
        let (before, back) = self.watch_file(client, &copy, bytes)?;
        let seconds = self.clock.now().since(began).as_secs_f64();
        self.finish(client, "client", &["client-2", "server-2"])?;
        self.finish_server(server, "server-2")?;
        let after = self.lab().crossed_bytes(FAILING)?.saturating_sub(back);
        println!("  comparing SHA-256 of both files");
        let received = self.digest(&copy)?;
        Ok(Transfer { bytes, seconds, sent, received, before, after })
    }

    /// Shows how the copy grows, and takes the path down and up, until the client ends. Returns the bytes that
    /// crossed the failing path before it failed, and its counter when it was back.
    fn watch_file(&mut self, client: usize, copy: &Path, bytes: u64) -> anyhow::Result<(u64, u64)> {
        let start = self.lab().crossed_bytes(FAILING)?;
        let (mut before, mut back) = (0, None);
        let mut down = false;
        let mut meter = Meter::new(self.clock.now(), self.crossed()?);
        let mut progress = (0, self.clock.now());
        while self.status(client)?.is_none() {
            sleep(PAUSE.into());
            let there = fs::metadata(copy).map_or(0, |file| file.len());
            let now = self.clock.now();
            if there > progress.0 {
                progress = (there, now);
            }
            ensure!(
                now.since(progress.1) < STALL_LIMIT,
                "nothing has arrived for {} s",
                STALL_LIMIT.as_secs()
            );
            if !down && back.is_none() && there >= bytes * FAILS_AT / 100 {
                before = self.lab().crossed_bytes(FAILING)?.saturating_sub(start);
                self.lab().set_link(Host::B, FAILING, false)?;
                down = true;
                println!("  --- path {} goes down", lab::nic(FAILING));
            } else if down && there >= bytes * RETURNS_AT / 100 {
                self.lab().set_link(Host::B, FAILING, true)?;
                back = Some(self.lab().crossed_bytes(FAILING)?);
                down = false;
                println!("  --- path {} is back", lab::nic(FAILING));
            }
            if let Some(rates) = meter.tick(now, || self.crossed())? {
                println!("  {:>6} of {} MiB   {rates}", there >> 20, bytes >> 20);
            }
        }
        let end = self.lab().crossed_bytes(FAILING)?;
        Ok((before, back.unwrap_or(end)))
    }

    /// Starts a server for one test at b; returns once it listens.
    fn serve(&mut self, name: &str, more: &[&str]) -> anyhow::Result<usize> {
        let log = self.folder.log(name)?;
        let server = self.start(Host::B, "server", &[&["-1"][..], more].concat(), log)?;
        let deadline = self.clock.now() + SERVER_LIMIT;
        while !self.folder.read_log(name).contains("Server listening") {
            if let Some(status) = self.status(server)? {
                bail!("the server ended ({status}):\n{}", self.folder.read_log(name));
            }
            ensure!(
                self.clock.now() < deadline,
                "the server does not listen:\n{}",
                self.folder.read_log(name)
            );
            sleep(PAUSE.into());
        }
        Ok(server)
    }

    /// Starts this program at a host; returns its place among the children.
    fn start(
        &mut self,
        host: Host,
        role: &str,
        more: &[&str],
        output: impl Into<Output>,
    ) -> anyhow::Result<usize> {
        let Output { stdout, stderr } = output.into();
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = self.lab().exec(host);
        command.arg(program).arg(role).args(more);
        if self.kernel {
            command.args(["--kernel", "mptcp"]);
        }
        // A group of its own: Ctrl-C reaches the demo alone, which then ends its children.
        command.process_group(0).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = command.spawn().with_context(|| format!("cannot start the {role}"))?;
        self.children.push(child);
        Ok(self.children.len() - 1)
    }

    /// How a child ended, if it has.
    fn status(&mut self, child: usize) -> anyhow::Result<Option<ExitStatus>> {
        self.go_on()?;
        Ok(self.children[child].try_wait()?)
    }

    /// Waits for a child's good end; shows logs where that is not good.
    fn finish(&mut self, child: usize, role: &str, logs: &[&str]) -> anyhow::Result<()> {
        let status = loop {
            match self.status(child)? {
                Some(status) => break status,
                None => sleep(PAUSE.into()),
            }
        };
        let logs = || {
            logs.iter().map(|name| format!("{name}:\n{}\n", self.folder.read_log(name))).collect::<String>()
        };
        ensure!(status.success(), "the {role} failed ({status})\n{}", logs());
        Ok(())
    }

    /// A server ends soon after its client.
    fn finish_server(&mut self, child: usize, log: &str) -> anyhow::Result<()> {
        let deadline = self.clock.now() + SERVER_LIMIT;
        while self.status(child)?.is_none() {
            ensure!(self.clock.now() < deadline, "the server does not end:\n{}", self.folder.read_log(log));
            sleep(PAUSE.into());
        }
        self.finish(child, "server", &[log])
    }

    /// An error once a signal asked to end.
    fn go_on(&self) -> anyhow::Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted; the lab and the files are removed");
        Ok(())
    }

    /// The counters of all paths.
    fn crossed(&self) -> anyhow::Result<Vec<u64>> {
        (1..=self.lab().paths()).map(|path| Ok(self.lab().crossed_bytes(path)?)).collect()
    }

    /// Fills a file with random bytes; returns their SHA-256.
    fn write_random(&self, path: &Path, bytes: u64) -> anyhow::Result<String> {
        println!("  writing {} MiB of random bytes", bytes >> 20);
        let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut hash = Sha256::new();
        let mut block = vec![0; BLOCK];
        for _ in 0..bytes / BLOCK as u64 {
            self.go_on()?;
            getrandom::fill(&mut block).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
            hash.update(&block);
            file.write_all(&block).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(hexadecimal(&hash.finalize()))
    }

    /// The SHA-256 of a file.
    fn digest(&self, path: &Path) -> anyhow::Result<String> {
        let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut hash = Sha256::new();
        let mut block = vec![0; BLOCK];
        loop {
            self.go_on()?;
            match file.read(&mut block).with_context(|| format!("cannot read {}", path.display()))? {
                0 => return Ok(hexadecimal(&hash.finalize())),
                length => hash.update(&block[..length]),
            }
        }
    }

    /// Removes all, and tells what could not be.
    fn remove(mut self) -> anyhow::Result<()> {
        self.end_children();
        self.lab.take().map_or(Ok(()), Lab::down)?;
        Ok(())
    }

    fn end_children(&mut self) {
        for child in &mut self.children {
            // Ended already is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.end_children();
    }
}

/// Where a child writes.
struct Output {
    stdout: Stdio,
    stderr: Stdio,
}

impl From<Stdio> for Output {
    fn from(stdout: Stdio) -> Output {
        Output { stdout, stderr: Stdio::inherit() }
    }
}

impl From<[File; 2]> for Output {
    fn from([stdout, stderr]: [File; 2]) -> Output {
        Output { stdout: stdout.into(), stderr: stderr.into() }
    }
}

/// A folder for the files and logs, which goes with it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Removes the folders that demos left behind when they were killed.
    fn sweep() -> anyhow::Result<()> {
        for entry in fs::read_dir(env::temp_dir())? {
            let entry = entry?;
            if lab::is_left_behind(&entry.file_name().to_string_lossy(), PREFIX) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes it, where so many bytes are free.
    fn new(bytes: u64) -> anyhow::Result<Folder> {
        let place = env::temp_dir();
        let space =
            rustix::fs::statvfs(&place).with_context(|| format!("cannot look at {}", place.display()))?;
        let free = space.f_bavail * space.f_frsize;
        ensure!(
            free > bytes,
            "{} has {} MiB free, {} are needed: set TMPDIR to a place with more, or use a smaller --size",
            place.display(),
            free >> 20,
            bytes >> 20
        );
        let path = place.join(format!("{PREFIX}{}", id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder { path })
    }

    /// Standard output and standard error of a child, in one file.
    fn log(&self, name: &str) -> anyhow::Result<[File; 2]> {
        let path = self.path.join(name);
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok([file.try_clone()?, file])
    }

    fn read_log(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("braid: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Turns counters of paths into a line each second.
#[derive(Debug)]
struct Meter {
    since: Instant,
    counters: Vec<u64>,
}

impl Meter {
    fn new(now: Instant, counters: Vec<u64>) -> Meter {
        Meter { since: now, counters }
    }

    /// The rate of each path, once a second has passed since the last.
    fn tick(
        &mut self,
        now: Instant,
        read: impl FnOnce() -> anyhow::Result<Vec<u64>>,
    ) -> anyhow::Result<Option<String>> {
        let seconds = now.since(self.since).as_secs_f64();
        if seconds < 1.0 {
            return Ok(None);
        }
        let counters = read()?;
        let rates = counters.iter().zip(&self.counters).zip(1..).map(|((now, then), path)| {
            format!("{} {:>6.2} Gbit/s", lab::nic(path), gigabits(now.saturating_sub(*then), seconds))
        });
        let text = rates.collect::<Vec<_>>().join("   ");
        *self = Meter { since: now, counters };
        Ok(Some(text))
    }
}

fn gigabits(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / 1e9 / seconds
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The table at the end.
fn summary(traffic: &Traffic, file: &Transfer) -> String {
    let mut lines = vec!["\nSummary".to_owned()];
    let mut line = |what: &str, found: String| lines.push(format!("  {what:<22} {found}"));
    let total = traffic.paths.iter().sum();
    line("traffic", format!("{:.2} Gbit/s on the wire, both ways", gigabits(total, traffic.seconds)));
    for (bytes, path) in traffic.paths.iter().zip(1..) {
        let share = 100 * bytes / total.max(1);
        let verdict = if *bytes < LEAST_DATA { "  NO DATA: the subflow is missing" } else { "" };
        let rate = gigabits(*bytes, traffic.seconds);
        line(&format!("  path {}", lab::nic(path)), format!("{rate:.2} Gbit/s, {share} %{verdict}"));
    }
    let rate = gigabits(file.bytes, file.seconds);
    line("file", format!("{} MiB in {:.1} s, {rate:.2} Gbit/s", file.bytes >> 20, file.seconds));
    let failing = lab::nic(FAILING);
    let verdict = if file.before < LEAST_DATA { "  NO DATA: the subflow is missing" } else { "" };
    line(&format!("  {failing} before it failed"), format!("{} MiB{verdict}", file.before >> 20));
    let verdict = if file.after < LEAST_DATA { "  NOT USED AGAIN" } else { "" };
    line(&format!("  {failing} after it was back"), format!("{} MiB{verdict}", file.after >> 20));
    line("SHA-256 sent", file.sent.clone());
    line("SHA-256 received", file.received.clone());
    let verdict =
        if file.sent == file.received { "the same" } else { "DIFFERENT: the file did not arrive whole" };
    line("  they are", verdict.to_owned());
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(received: &str, before: u64, after: u64) -> Transfer {
        Transfer { bytes: 1 << 30, seconds: 2.0, sent: "aa".into(), received: received.into(), before, after }
    }

    #[test]
    fn different_hashes_and_an_unused_path_are_failures() {
        assert!(transfer("aa", LEAST_DATA, LEAST_DATA).is_good());
        assert!(!transfer("ab", LEAST_DATA, LEAST_DATA).is_good());
        assert!(!transfer("aa", LEAST_DATA - 1, LEAST_DATA).is_good());
        assert!(!transfer("aa", LEAST_DATA, LEAST_DATA - 1).is_good());
        assert!(Traffic { seconds: 1.0, paths: vec![LEAST_DATA, LEAST_DATA] }.is_good());
        assert!(!Traffic { seconds: 1.0, paths: vec![1 << 40, LEAST_DATA - 1] }.is_good());
    }

    #[test]
    fn the_summary_says_what_is_wrong() {
        let traffic = Traffic { seconds: 10.0, paths: vec![10_000_000_000, 0] };
        let text = summary(&traffic, &transfer("ab", 0, 0));
        assert!(text.contains("8.00 Gbit/s, 100 %\n") && text.contains("NO DATA"), "{text}");
        assert!(text.contains("DIFFERENT") && text.contains("NOT USED AGAIN"), "{text}");
        let good = summary(&traffic, &transfer("aa", LEAST_DATA, LEAST_DATA));
        assert!(good.contains("the same"), "{good}");
    }

    #[test]
    fn the_meter_ticks_once_a_second() {
        let mut meter = Meter::new(Instant::ZERO, vec![0, 0]);
        assert_eq!(meter.tick(Instant::from_millis(900), || panic!("too early")).unwrap(), None);
        let text = meter.tick(Instant::from_millis(2000), || Ok(vec![250_000_000, 0])).unwrap().unwrap();
        assert_eq!(text, "p1   1.00 Gbit/s   p2   0.00 Gbit/s");
        assert_eq!(meter.tick(Instant::from_millis(2900), || panic!("too early")).unwrap(), None);
    }
}
