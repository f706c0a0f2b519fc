//! What the tests on real kernels share: labs with unique names, children with a time limit, loud skips.

// Each test binary uses its part of this. The tests' own clock is no part of the core.
#![allow(dead_code, clippy::disallowed_methods)]

use braid::lab::{Lab, LabOptions, require_tool};
use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The binary under test.
pub const BRAID: &str = env!("CARGO_BIN_EXE_braid");

/// What every lab of the tests is called, before what it is for and the process id.
const PREFIX: &str = "braid-test";

/// Long forms are asked for with BRAID_LONG=1.
pub fn long() -> bool {
    std::env::var_os("BRAID_LONG").is_some_and(|value| value != "0")
}

/// Says aloud, past the test harness's capture, that a test did not run, and why.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// One test at a time: they measure, and the machine may have two cores.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lab for the test `test`, or `None` after a loud skip where there is no root or a tool is missing.
pub fn lab(test: &str, tools: &[(&'static str, &'static str)], options: &LabOptions) -> Option<Lab> {
    static SWEEP: Once = Once::new();
    if !rustix::process::geteuid().is_root() {
        skip(test, "needs root");
        return None;
    }
    let base = [("ip", "iproute2"), ("ethtool", "ethtool")];
    for (tool, package) in base.iter().chain(tools) {
        if let Err(error) = require_tool(tool, package) {
            skip(test, &error.to_string());
            return None;
        }
    }
    let short: String = test.replace('_', "-").chars().take(16).collect();
    SWEEP.call_once(|| {
        for name in Lab::list().expect("root and ip are here") {
            if let Some((prefix, _)) = name.rsplit_once('-').filter(|(prefix, _)| prefix.starts_with(PREFIX))
            {
                Lab::sweep(&format!("{prefix}-")).expect("labs of dead processes can be removed");
            }
        }
    });
    let name = format!("{PREFIX}-{}-{}", short.trim_end_matches('-'), std::process::id());
    Some(Lab::up(&name, options).expect("the lab can be made"))
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// `None`: it ran past its limit and was killed.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Fails the test, with all that the command wrote, unless it succeeded.
    #[track_caller]
    pub fn expect_success(self, what: &str) -> Outcome {
        assert!(self.success(), "{what} failed: {:?}\n{}\n{}", self.status, self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command itself failed, in time, with a message that has one of `words`.
    #[track_caller]
    pub fn expect_failure(&self, what: &str, words: &[&str]) {
        let status = self.status.unwrap_or_else(|| panic!("{what} hung:\n{}\n{}", self.stdout, self.stderr));
        assert!(!status.success(), "{what} did not fail:\n{}", self.stdout);
        assert!(status.code().is_some(), "{what} was killed: {status}\n{}", self.stderr);
        let text = self.stderr.to_lowercase();
        assert!(!text.contains("panicked"), "{what} panicked:\n{}", self.stderr);
        assert!(
            words.iter().any(|word| text.contains(&word.to_lowercase())),
            "{what}: none of {words:?} in the message:\n{}",
            self.stderr
        );
    }
}

/// A child that ends with its handle; what it writes is kept.
#[derive(Debug)]
pub struct Background {
    child: Child,
    stdout: File,
    stderr: File,
}

impl Background {
    pub fn start(command: &mut Command) -> Background {
        let [stdout, stderr] =
            [(); 2].map(|()| tempfile::tempfile().expect("there is room for scratch files"));
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().expect("a descriptor is free"))
            .stderr(stderr.try_clone().expect("a descriptor is free"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Background { child, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written to standard output.
    pub fn stdout(&self) -> String {
        whole(&self.stdout)
    }

    /// What it has written to standard error.
    pub fn stderr(&self) -> String {
        whole(&self.stderr)
    }

    /// Waits until standard output or error has `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let running = self.is_running();
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return;
            }
            assert!(
                running && Instant::now() < deadline,
                "no '{text}' (still running: {running}):\n{}\n{}",
                self.stdout(),
                self.stderr()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end; kills it past the limit.
    pub fn finish(mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("a child of ours can be waited for") {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline => break None,
                None => sleep(Duration::from_millis(10)),
            }
        };
        self.kill();
        Outcome { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM or SIGINT).
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("a child of ours can be signalled");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end, at most for `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    Background::start(command).finish(limit)
}

/// Tries `check` until it holds or the limit is over.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !check() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// The child shares the file offset with us, so read at places and leave it alone.
fn whole(file: &File) -> String {
    use std::os::unix::fs::FileExt;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(length).expect("output fits in memory")];
    let _ = file.read_exact_at(&mut bytes, 0);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A copy of the binary where a user without privilege can run it (the build may be below a closed folder).
pub fn binary_for_everyone() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::fs::{Permissions, copy, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("there is room for scratch files");
    let binary = folder.path().join("braid");
    copy(BRAID, &binary).expect("the binary can be copied");
    for path in [folder.path(), &binary] {
        set_permissions(path, Permissions::from_mode(0o755)).expect("a file of ours");
    }
    (folder, binary)
}
