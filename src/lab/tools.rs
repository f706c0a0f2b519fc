//! The lab's hands: one network namespace through `ip` and its like, and what can go wrong.

use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// How long processes in a namespace have to end after SIGTERM, before SIGKILL: tries, and the pause between.
const END_TRIES: usize = 50;
const END_PAUSE: Duration = Duration::from_millis(20);

/// Why something about a lab failed. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Network namespaces need privilege.
    #[error("the lab needs root, for it makes network namespaces: run it with sudo")]
    NotRoot,
    /// A name that is no part of a namespace's name.
    #[error("'{0}' cannot name a lab: up to 40 of a-z, 0-9 and '-', not at either end")]
    BadName(String),
    /// No such place in any lab.
    #[error("'{0}' is no host of a lab: a, b, or m1, m2, … for the bridges")]
    BadHost(String),
    /// A rate that cannot be read.
    #[error("'{0}' is no rate: write 500mbit or 1gbit, at least 100kbit")]
    BadRate(String),
    /// An option out of its range.
    #[error("{what} {value} is out of range: {least} to {most}")]
    OutOfRange {
        /// Which option.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// The least that works.
        least: u64,
        /// The most that works.
        most: u64,
    },
    /// The name is in use.
    #[error("a lab named {0} stands already: remove it with `braid lab down {0}`, or choose another name")]
    Taken(String),
    /// There is no such lab.
    #[error("there is no lab named {0}: `braid lab list` shows those that stand")]
    Unknown(String),
    /// A namespace has the name of a lab's but was made by somebody else.
    #[error(
        "the network namespace {0} was not made by braid: remove it with `ip netns del {0}`, or choose another name"
    )]
    NotALab(String),
    /// The lab has no bridges.
    #[error("lab {0} has no bridges in the middle: make it with --middle or --rate")]
    NoMiddle(String),
    /// A program is not installed.
    #[error("`{tool}` is missing: apt-get install {package}")]
    NoTool {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program could not be started.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// The command line.
        command: String,
        /// The first line it wrote to standard error.
        message: String,
    },
}

/// Whether `tool` is in PATH.
///
/// # Errors
/// [`LabError::NoTool`], with the Debian package to install.
pub fn require_tool(tool: &'static str, package: &'static str) -> Result<(), LabError> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(tool).is_file()) {
        Ok(())
    } else {
        Err(LabError::NoTool { tool, package })
    }
}

/// One network namespace, by name. Making this makes nothing.
#[derive(Debug)]
pub(super) struct Namespace(String);

impl Namespace {
    pub(super) fn new(name: String) -> Namespace {
        Namespace(name)
    }

    /// The names of all there are.
    pub(super) fn list() -> Result<Vec<String>, LabError> {
        let output = run(Command::new("ip").args(["netns", "list"]))?;
        Ok(output.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect())
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// A command that runs in it, still without its program.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]);
        command
    }

    /// Runs a program in it.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<(), LabError> {
        run(self.command().arg(program).args(arguments)).map(drop)
    }

    /// Runs `ip` on it.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result<(), LabError> {
        run(Command::new("ip").args(["-n", &self.0]).args(arguments)).map(drop)
    }

    /// Makes it and writes `mark` on it.
    pub(super) fn add(&self, mark: &str) -> Result<(), LabError> {
        run(Command::new("ip").args(["netns", "add", &self.0]))?;
        self.ip(&["link", "set", "dev", "lo", "alias", mark])
    }

    /// Whether it bears `mark`.
    pub(super) fn is_marked(&self, mark: &str) -> bool {
        let shown = run(Command::new("ip").args(["-n", &self.0, "link", "show", "dev", "lo"]));
        shown.is_ok_and(|text| text.lines().any(|line| line.trim() == format!("alias {mark}")))
    }

    /// The names of its links, `lo` left out.
    pub(super) fn links(&self) -> Result<Vec<String>, LabError> {
        let shown = run(Command::new("ip").args(["-n", &self.0, "-brief", "link", "show"]))?;
        let names = shown.lines().filter_map(|line| line.split([' ', '@']).next());
        Ok(names.filter(|name| *name != "lo").map(str::to_owned).collect())
    }

    /// Bytes that a link has received and sent, together.
    pub(super) fn link_bytes(&self, link: &str) -> Result<u64, LabError> {
        let arguments = ["-n", &self.0, "-json", "-stats", "link", "show", "dev", link];
        let mut command = Command::new("ip");
        let text = run(command.args(arguments))?;
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let bytes = |way: &str| shown[0]["stats64"][way]["bytes"].as_u64();
        bytes("rx").zip(bytes("tx")).map(|(received, sent)| received + sent).ok_or_else(|| LabError::Failed {
            command: describe(&command),
            message: "it gave no counters".to_owned(),
        })
    }

    /// Makes a veth pair from a NIC here to a NIC there, both with so many queues.
    pub(super) fn add_veth(
        &self,
        here: &str,
        queues: u16,
        there: &Namespace,
        name: &str,
    ) -> Result<(), LabError> {
        let queues = queues.to_string();
        let sizes = ["numrxqueues", &queues, "numtxqueues", &queues];
        let left = ["link", "add", "dev", here];
        let right = ["type", "veth", "peer", "name", name, "netns", &there.0];
        self.ip(&[&left[..], &sizes, &right, &sizes].concat())
    }

    /// Writes a file of /proc/sys, named by its path below that, as this namespace sees it.
    pub(super) fn sysctl(&self, path: &str, value: &str) -> Result<(), LabError> {
        let mut command = self.command();
        command.args(["tee", &format!("/proc/sys/{path}")]).stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let text = describe(&command);
        let start = |source| LabError::Start { command: text.clone(), source };
        let mut child = command.spawn().map_err(start)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(value.as_bytes()).map_err(start)?;
        }
        let output = child.wait_with_output().map_err(start)?;
        finish(text.clone(), &output).map(drop)
    }

    /// Whether there is such a file of /proc/sys.
    pub(super) fn has_sysctl(&self, path: &str) -> bool {
        self.run("test", &["-e", &format!("/proc/sys/{path}")]).is_ok()
    }

    /// Ends the processes in it, removes its links (a veth would outlive its name while a process holds it), then it.
    pub(super) fn remove(&self) -> Result<(), LabError> {
        self.end_processes()?;
        for link in self.links()? {
            // The other end may have taken it along already.
            let _ = self.ip(&["link", "del", "dev", &link]);
        }
        run(Command::new("ip").args(["netns", "del", &self.0])).map(drop)
    }

    fn end_processes(&self) -> Result<(), LabError> {
        for signal in [Signal::TERM, Signal::KILL] {
            let processes = self.processes()?;
            for process in &processes {
                // Gone already is what we want.
                let _ = kill_process(*process, signal);
            }
            for _ in 0..END_TRIES {
                if self.processes()?.is_empty() {
                    return Ok(());
                }
                sleep(END_PAUSE);
            }
        }
        Ok(())
    }

    /// The processes in it, our own left out.
    fn processes(&self) -> Result<Vec<Pid>, LabError> {
        let listed = run(Command::new("ip").args(["netns", "pids", &self.0]))?;
        let ids = listed.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?));
        Ok(ids.filter(|id| *id != rustix::process::getpid()).collect())
    }
}

/// Runs a command to its end and gives what it wrote.
fn run(command: &mut Command) -> Result<String, LabError> {
    let text = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Start { command: text.clone(), source })?;
    finish(text, &output)
}

fn finish(command: String, output: &std::process::Output) -> Result<String, LabError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = match String::from_utf8_lossy(&output.stderr).trim() {
        "" => output.status.to_string(),
        text => text.lines().next().unwrap_or(text).to_owned(),
    };
    Err(LabError::Failed { command, message })
}

/// The command line, for messages.
fn describe(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    format!("{} {}", command.get_program().to_string_lossy(), words.join(" "))
}
