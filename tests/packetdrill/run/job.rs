//! One script: packetdrill in a process group of its own, with a time limit.

use crate::command;
use clap::ValueEnum;
use serde::Serialize;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How often a running script is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The variants in which packetdrill runs a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum IpVersion {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4 through IPv6 sockets.
    Ipv4MappedIpv6,
}

impl IpVersion {
    /// Some scripts are for one family only, and named so.
    pub fn suits(self, script: &Path) -> bool {
        let name = script.to_string_lossy();
        match self {
            IpVersion::Ipv4 | IpVersion::Ipv4MappedIpv6 => !name.ends_with("v6.pkt"),
            IpVersion::Ipv6 => !name.ends_with("v4.pkt"),
        }
    }

    fn local(self) -> &'static str {
        match self {
            IpVersion::Ipv4 | IpVersion::Ipv4MappedIpv6 => "192.168.0.1",
            IpVersion::Ipv6 => "fd3d:0a0b:17d6::1",
        }
    }

    /// As for Ethernet; with IPv6 so much more that segments have the same size.
    fn mtu(self) -> u16 {
        match self {
            IpVersion::Ipv4 | IpVersion::Ipv4MappedIpv6 => 1500,
            IpVersion::Ipv6 => 1520,
        }
    }

    /// What both trees' own runners give packetdrill. The MPTCP scripts have several remote addresses.
    fn arguments(self, script: &Path) -> Vec<String> {
        let several = script.components().any(|part| part.as_os_str() == "mptcp");
        let (name, remote, prefix, cookie, level, rest) = match self {
            IpVersion::Ipv4 => ("ipv4", "192.0.2.1", "/24", V4_COOKIE, "SOL_IP IP_RECVERR", V4_ARGUMENTS),
            IpVersion::Ipv4MappedIpv6 => {
                ("ipv4-mapped-ipv6", "192.0.2.1", "/24", V4_COOKIE, "SOL_IPV6 IPV6_RECVERR", V4_ARGUMENTS)
            }
            IpVersion::Ipv6 => {
                ("ipv6", "fd3d:fa7b:d17d::1", "/32", V6_COOKIE, "SOL_IPV6 IPV6_RECVERR", V6_ARGUMENTS)
            }
        };
        let (level, kind) = level.split_once(' ').unwrap_or_default();
        let mut arguments = vec![
            format!("--ip_version={name}"),
            format!("--local_ip={}", self.local()),
            format!("--remote_ip={remote}{}", if several { prefix } else { "" }),
        ];
        arguments.extend(rest.split_whitespace().map(str::to_owned));
        for definition in [
            format!("TFO_COOKIE={cookie}"),
            "CODE=host_unreachable".to_owned(),
            format!("CMSG_LEVEL_IP={level}"),
            format!("CMSG_TYPE_RECVERR={kind}"),
        ] {
            arguments.extend(["-D".to_owned(), definition]);
        }
        arguments
    }
}

/// The Fast Open cookies that the scripts' key gives for the two remote addresses.
const V4_COOKIE: &str = "3021b9d889017eeb";
const V6_COOKIE: &str = "c1d1e9742a47a9bc";
const V4_ARGUMENTS: &str = "--gateway_ip=192.168.0.1 --netmask_ip=255.255.0.0";
const V6_ARGUMENTS: &str = "--mtu=1520 --gateway_ip=fd3d:0a0b:17d6:8888::1";

/// What all jobs share.
#[derive(Debug)]
pub struct Setting {
    /// The packetdrill binary.
    pub packetdrill: PathBuf,
    /// The shim.
    pub shim: PathBuf,
    /// A folder of this run's own, with the stubs.
    pub place: PathBuf,
    /// Seconds that a script may take.
    pub limit_s: u64,
    /// packetdrill tells of every packet.
    pub verbose: bool,
}

/// A script in one variant.
#[derive(Debug)]
pub struct Job {
    /// Its file.
    pub script: PathBuf,
    /// The variant.
    pub version: IpVersion,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As the script says.
    Passed,
    /// Otherwise.
    Failed,
    /// The process died by a signal: a panic of ours, or an assertion of packetdrill's.
    Crashed,
    /// It took too long.
    Hung,
}

/// What came of a job.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The script, by its last two path components.
    pub script: String,
    /// The variant.
    pub version: IpVersion,
    /// How it went.
    pub verdict: Verdict,
    /// packetdrill's message.
    pub message: String,
    /// What it asked for in vain.
    pub wants: Vec<String>,
    /// All that was printed, when that was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl Job {
    /// Runs it.
    ///
    /// # Errors
    /// packetdrill cannot be started, or its output not be read.
    pub fn run(&self, setting: &Setting) -> anyhow::Result<Outcome> {
        let own = tempfile::tempdir_in(&setting.place)?;
        let (control, wants, output) =
            (own.path().join("control"), own.path().join("wants"), own.path().join("output"));
        let written = File::create(&output)?;
        let shim_flags = format!(
            "local={},mtu={},control={},wants={}",
            self.version.local(),
            self.version.mtu(),
            control.display(),
            wants.display()
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new(&setting.packetdrill)
            .arg(format!("--so_filename={}", setting.shim.display()))
            .arg(format!("--so_flags={shim_flags}"))
            .arg("--send_omit_free")
            .args(self.version.arguments(&self.script))
            .args(setting.verbose.then_some("-v"))
            .arg(self.script.file_name().unwrap_or_default())
            .current_dir(self.script.parent().unwrap_or(Path::new("/")))
            .env("PATH", format!("{}:{path}", setting.place.display()))
            .env(command::PATH, &path)
            .env(command::CONTROL, &control)
            .env("LD_PRELOAD", &setting.shim)
            .process_group(0)
            .stdout(written.try_clone()?)
            .stderr(written)
            .spawn()?;
        let pid = child.id();
        let status = wait(&mut child, Duration::from_secs(setting.limit_s))?;
        // What `set_sysctls.py` left for the script's last line.
        let _ = std::fs::remove_file(format!("/tmp/sysctl_restore_{pid}.sh"));
        let output = String::from_utf8_lossy(&std::fs::read(&output)?).into_owned();
        let wants = std::fs::read_to_string(&wants).unwrap_or_default().lines().map(str::to_owned).collect();
        let verdict = match status {
            None => Verdict::Hung,
            Some(status) if status.success() => Verdict::Passed,
            Some(status) if status.signal().is_some() => Verdict::Crashed,
            Some(_) => Verdict::Failed,
        };
        let message = if verdict == Verdict::Passed { String::new() } else { message(&output) };
        Ok(Outcome {
            script: short(&self.script),
            version: self.version,
            verdict,
            message,
            wants,
            output: if setting.verbose { output } else { String::new() },
        })
    }
}

/// The script's last two path components, by which groups name it too.
fn short(script: &Path) -> String {
    let parts: Vec<_> =
        script.components().rev().take(3).map(|part| part.as_os_str().to_string_lossy()).collect();
    // Google's Fast Open scripts lie a level deeper.
    let depth =
        if parts.get(1).is_some_and(|folder| folder == "client" || folder == "server") { 3 } else { 2 };
    parts.iter().take(depth).rev().map(|part| &**part).collect::<Vec<_>>().join("/")
}

/// Waits until the child has ended; `None` when it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut waited = Duration::ZERO;
    while waited < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
        waited += LOOK;
    }
    // Its process group: the shell of a script's line goes with it.
    if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    child.wait()?;
    Ok(None)
}

/// The line in which packetdrill (or a panic) says what is wrong, with the two packets where it compares packets.
fn message(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    if let Some(place) = panic {
        return lines[place..].iter().take(2).copied().collect::<Vec<_>>().join(" | ");
    }
    let said = |line: &&&str| {
        line.contains(".pkt:")
            || line.contains("AssertionError")
            || line.contains("actual packet:")
            || line.contains("script packet:")
            || line.contains("actual #")
    };
    let found: Vec<&str> = lines.iter().filter(said).copied().collect();
    match found.is_empty() {
        true => lines.last().copied().unwrap_or("(nothing was printed)").to_owned(),
        false => found.join(" | "),
    }
}
