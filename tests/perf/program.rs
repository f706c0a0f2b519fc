//! Programs that run beside a test, and what they say.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub const BRAID: &str = env!("CARGO_BIN_EXE_braid");
/// Nothing here takes longer, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const MIB: f64 = 1_048_576.0;

/// A program that runs, and what it says. Killed when dropped.
pub struct Running {
    pub child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

fn collect(stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = BufReader::new(stream).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Starts a program.
pub fn start(command: &mut Command) -> Running {
    let mut child = spawn(command);
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    Running { child, stdout, stderr }
}

/// Starts a program, and returns its first line that holds `words`; what follows is collected, unless `deaf`: then
/// nobody reads it any more.
pub fn start_until(command: &mut Command, words: &str, deaf: bool) -> (Running, String) {
    let mut child = spawn(command);
    let stderr = child.stderr.take().map(collect);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "{command:?} ended before it said '{words}'");
    }
    let stdout = if deaf { thread::spawn(String::new) } else { collect(stdout) };
    (Running { child, stdout: Some(stdout), stderr }, line)
}

impl Running {
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(waited < LIMIT, "a program hangs");
            thread::sleep(step);
            waited += step;
        };
        let text = |thread: &mut Option<JoinHandle<String>>| thread.take().unwrap().join().unwrap();
        Finished { status, stdout: text(&mut self.stdout), stderr: text(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no '{word}' in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A `braid server` over the kernel's TCP, on a port of its own.
pub struct Server {
    pub running: Running,
    pub port: u16,
}

impl Server {
    pub fn start(more: &[&str]) -> Server {
        let mut command = Command::new(BRAID);
        command.args(["server", "-p", "0", "--kernel", "tcp"]).args(more);
        let (running, line) = start_until(&mut command, "Server listening on ", false);
        let port = line.trim_start_matches("Server listening on ").split(',').next().unwrap();
        Server { running, port: port.parse().unwrap() }
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.running.interrupt();
        let finished = self.running.finish().ok();
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        finished
    }

    pub fn client(&self, more: &[&str]) -> Running {
        client(self.port, more)
    }

    /// A small test works.
    #[track_caller]
    pub fn expect_service(&self) {
        self.client(&["-n", "1M"]).finish().ok();
    }
}

pub fn client_command(port: u16, more: &[&str]) -> Command {
    let mut command = Command::new(BRAID);
    command.args(["client", "127.0.0.1", "-p", &port.to_string(), "--kernel", "tcp"]).args(more);
    command
}

pub fn client(port: u16, more: &[&str]) -> Running {
    start(&mut client_command(port, more))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[track_caller]
pub fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path} in {value:#}"))
}

#[track_caller]
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {path} in {value:#}"))
}
