//! A lab with the kernel at one host and Braid at the other, and conversations between them.

// The tests' own clock is no part of the core.
#![allow(clippy::disallowed_methods)]

use crate::capture::{CAPTURE_TOOLS, Capture, MPTCP_COMPLAINTS, Snap};
use crate::counters::Counters;
use crate::ends::{Action, Child, End, Ours, Over, PORT, Told};
use crate::support::{self, BRAID, eventually, run};
use braid::lab::{Host, Lab, LabOptions, Rate};
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing takes longer, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(30);
/// The rate of each path.
const RATE_MBIT: u32 = 200;

/// Who accepts the connection. The server is at b, the client at a.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    KernelServes,
    BraidServes,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::KernelServes, Way::BraidServes];

    /// Where the kernel's MPTCP runs.
    pub fn kernel(self) -> Host {
        match self {
            Way::KernelServes => Host::B,
            Way::BraidServes => Host::A,
        }
    }

    /// Where Braid runs.
    pub fn braid(self) -> Host {
        match self {
            Way::KernelServes => Host::A,
            Way::BraidServes => Host::B,
        }
    }
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Kernel,
    Braid,
}

impl Who {
    pub const BOTH: [Who; 2] = [Who::Kernel, Who::Braid];
}

/// The address of a host on a path.
pub fn address(host: Host, path: u8) -> String {
    braid::lab::ipv4(host, path).expect("an end").to_string()
}

/// The same, of IPv6.
pub fn address6(host: Host, path: u8) -> String {
    braid::lab::ipv6(host, path).expect("an end").to_string()
}

/// A lab for the cases of one test.
#[derive(Debug)]
pub struct Stage {
    pub lab: Lab,
    folder: tempfile::TempDir,
    /// So that files of one case aren't those of another.
    files: Cell<u32>,
}

impl Stage {
    /// `None`, said aloud, where the test cannot run.
    pub fn new(test: &str) -> Option<Stage> {
        let tools = [&CAPTURE_TOOLS[..], &[("nft", "nftables"), ("tc", "iproute2")]].concat();
        let options = LabOptions { rate: Some(Rate::from_mbit(RATE_MBIT)), ..LabOptions::default() };
        let lab = support::lab(test, &tools, &options)?;
        if !Path::new("/proc/sys/net/mptcp/enabled").exists() {
            support::skip(test, "this kernel has no MPTCP");
            return None;
        }
        let folder = tempfile::tempdir().expect("there is room for scratch files");
        Some(Stage { lab, folder, files: Cell::new(0) })
    }

    /// Runs a command line at a host; it must succeed.
    #[track_caller]
    pub fn at(&self, host: Host, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        run(self.lab.exec(host).args(words), LIMIT).expect_success(line).stdout
    }

    /// `ip mptcp` at the kernel's host.
    #[track_caller]
    pub fn ip_mptcp(&self, way: Way, line: &str) {
        self.at(way.kernel(), &format!("ip mptcp {line}"));
    }

    /// Writes a switch of /proc/sys/net/mptcp at the kernel's host.
    #[track_caller]
    pub fn sysctl(&self, way: Way, name: &str, value: u32) {
        self.at(way.kernel(), &format!("sysctl -q -w net.mptcp.{name}={value}"));
    }

    /// `braid ctl` to the Braid of the running case; the result.
    #[track_caller]
    pub fn ctl(&self, line: &str) -> Value {
        let mut command = Command::new(BRAID);
        command.args(["ctl", "-j", "--socket"]).arg(self.ctl_path()).args(line.split(' '));
        let said = run(&mut command, LIMIT).expect_success(line).stdout;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
    }

    /// The only connection that Braid has.
    #[track_caller]
    pub fn connection(&self) -> Value {
        let mut list = self.ctl("connections");
        assert_eq!(list["total"], 1, "{list:#}");
        list["connections"][0].take()
    }

    /// Waits until Braid has a connection with so many subflows that can carry data.
    #[track_caller]
    pub fn await_subflows(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.usable_subflows() != Some(count) {
            assert!(
                Instant::now() < deadline,
                "there are not {count} subflows: {:#}\n{}",
                self.ctl("connections"),
                self.ctl("counters")
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Subflows of Braid's first connection that can carry data; none while there is no such connection, or no Braid.
    fn usable_subflows(&self) -> Option<usize> {
        let mut command = Command::new(BRAID);
        command.args(["ctl", "-j", "--socket"]).arg(self.ctl_path()).arg("connections");
        let list: Value = serde_json::from_str(&run(&mut command, LIMIT).stdout).unwrap_or_default();
        let subflows = list["connections"][0]["subflows"].as_array()?;
        Some(subflows.iter().filter(|one| one["usable"] == true).count())
    }

    pub fn ctl_path(&self) -> PathBuf {
        self.folder.path().join("ctl.sock")
    }

    /// The name of a file that there is not yet.
    pub fn file(&self) -> PathBuf {
        self.files.set(self.files.get() + 1);
        self.folder.path().join(self.files.get().to_string())
    }

    /// Bytes that have crossed a path, both ways together.
    pub fn crossed(&self, path: u8) -> u64 {
        self.lab.crossed_bytes(path).expect("the bridge counts")
    }

    /// Waits until a path has carried so many bytes more.
    #[track_caller]
    pub fn await_crossing(&self, path: u8, bytes: u64) {
        let before = self.crossed(path);
        let deadline = Instant::now() + LIMIT;
        while self.crossed(path) < before + bytes {
            assert!(
                Instant::now() < deadline,
                "{} of {bytes} bytes have crossed path {path} in {LIMIT:?}\n{:#}\n{}\n{}",
                self.crossed(path) - before,
                self.ctl("connections"),
                self.ctl("counters"),
                Host::ENDS.map(|host| self.at(host, "ss -H -t -n -i")).join("\n"),
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Puts a middlebox into a path: rules of nft for what crosses the bridge. Without rules it is taken away.
    #[track_caller]
    pub fn middlebox(&self, path: u8, rules: &[&str]) {
        let host = Host::Middle(path);
        self.at(host, "nft add table bridge box");
        self.at(host, "nft delete table bridge box");
        if !rules.is_empty() {
            let rules = rules.join("\n");
            let table = format!(
                "table bridge box {{ chain forward {{ type filter hook forward priority 0;\n{rules}\n}}\n}}"
            );
            run(self.lab.exec(host).args(["nft", &table]), LIMIT).expect_success(&table);
        }
    }

    /// A case with the kernel's state as at the beginning.
    pub fn case<'a>(&'a self, name: &str, way: Way) -> Case<'a> {
        self.ip_mptcp(way, "endpoint flush");
        for path in 1..=2 {
            self.middlebox(path, &[]);
        }
        Case {
            stage: self,
            name: format!("{name}, {way:?}"),
            way,
            ours: Ours { ctl: Some(self.ctl_path()), ..Ours::default() },
            theirs: Over::Kernel,
            server: ("0.0.0.0".to_owned(), address(Host::B, 1)),
            before: Counters::of(&self.lab, way.kernel()),
        }
    }
}

/// One connection to come.
#[derive(Debug)]
pub struct Case<'a> {
    stage: &'a Stage,
    name: String,
    pub way: Way,
    /// How Braid is started.
    pub ours: Ours,
    /// What of the kernel's is at the other end.
    theirs: Over,
    /// Where the server listens, and where the client connects to.
    pub server: (String, String),
    before: Counters,
}

impl<'a> Case<'a> {
    /// Both ends do TCP, and nothing else.
    pub fn plain(mut self) -> Self {
        self.ours.plain_tcp = true;
        self.theirs = Over::KernelTcp;
        self
    }

    /// Begins it: what the kernel's end does, and what Braid's does.
    pub fn talk(self, kernel: Vec<Action>, braid: Vec<Action>) -> Talk<'a> {
        let Case { stage, name, way, ours, theirs, server: (at, to), before } = self;
        let socket = |addr: &str| SocketAddr::new(addr.parse().expect("an address"), PORT);
        let end = |host: Host, stack: Over, actions: Vec<Action>| {
            let listens = host == Host::B;
            let address = socket(if listens { &at } else { &to });
            move || Child::start(&stage.lab, host, &End { stack, listens, address, actions })
        };
        let kernel = end(way.kernel(), theirs, kernel);
        let braid = end(way.braid(), Over::Braid(ours), braid);
        // The server first.
        let (kernel, braid) = match way {
            Way::KernelServes => {
                let kernel = kernel();
                (kernel, braid())
            }
            Way::BraidServes => {
                let braid = braid();
                (kernel(), braid)
            }
        };
        Talk { stage, name, way, kernel, braid, before, begin: None, done: None }
    }

    /// Begins it: `sender` sends until it is told that it's [`enough`](Talk::enough), and ends its direction; then the
    /// other one answers, and does the same. More than the first bytes it sends only when it is told to
    /// [`begin`](Talk::begin).
    ///
    /// Joins to a kernel that reads at the same time must not happen here, but for what `paths.rs` says of it: let it send.
    pub fn load(self, sender: Who) -> Talk<'a> {
        let [begin, done] = [self.stage.file(), self.stage.file()];
        let loading = vec![
            Action::Send(1000),
            Action::Await(begin.clone()),
            Action::SendUntil(done.clone()),
            Action::Finish,
            Action::Drain,
        ];
        let taking = vec![Action::Drain, Action::Send(1_000_003), Action::Finish];
        let talk = match sender {
            Who::Kernel => self.talk(loading, taking),
            Who::Braid => self.talk(taking, loading),
        };
        Talk { done: Some(done), begin: Some(begin), ..talk }
    }
}

/// A running case.
#[derive(Debug)]
pub struct Talk<'a> {
    stage: &'a Stage,
    name: String,
    way: Way,
    pub kernel: Child,
    pub braid: Child,
    before: Counters,
    begin: Option<PathBuf>,
    done: Option<PathBuf>,
}

impl Talk<'_> {
    /// What the kernel has counted since the case began.
    pub fn gained(&self) -> Counters {
        Counters::of(&self.stage.lab, self.way.kernel()).since(&self.before)
    }

    /// Waits until a counter of the kernel's has risen in this case.
    #[track_caller]
    pub fn await_counter(&self, name: &str) {
        eventually(&format!("{}: {name} rises", self.name), LIMIT, || self.gained().get(name) > 0);
    }

    /// The one that sends shall go on, which both ends are there for.
    #[track_caller]
    pub fn begin(&mut self) {
        eventually(&format!("{}: Braid has the connection", self.name), LIMIT, || {
            self.kernel.expect_running();
            self.braid.expect_running();
            self.stage.usable_subflows() > Some(0)
        });
        let begin = self.begin.as_ref().expect("a load");
        fs::write(begin, "").expect("there is room for scratch files");
    }

    /// The one that sends shall end.
    pub fn enough(&mut self) {
        self.kernel.expect_running();
        self.braid.expect_running();
        let done = self.done.as_ref().expect("a load");
        fs::write(done, "").expect("there is room for scratch files");
    }

    /// Waits for both ends. What one has sent the other has received; the kernel has counted no trouble but `meant`,
    /// which it has, and `tolerated`.
    #[track_caller]
    pub fn finish(self, meant: &[&str], tolerated: &[&str]) -> Ending {
        self.end(meant, tolerated, |told| told)
    }

    /// The same where a middlebox has changed what was sent, but not how much.
    #[track_caller]
    pub fn finish_changed(self, meant: &[&str], tolerated: &[&str]) -> Ending {
        self.end(meant, tolerated, |told| told.split(',').next().unwrap_or_default())
    }

    #[track_caller]
    fn end(self, meant: &[&str], tolerated: &[&str], what: impl Fn(&str) -> &str) -> Ending {
        let Talk { stage, name, way, kernel, braid, before, begin: _, done: _ } = self;
        let braid = braid.finish(&format!("{name}: Braid's end"));
        let kernel = kernel.finish(&format!("{name}: the kernel's end"));
        assert_eq!(what(&kernel.sent), what(&braid.received), "{name}: from the kernel to Braid");
        assert_eq!(what(&braid.sent), what(&kernel.received), "{name}: from Braid to the kernel");
        let gained = Counters::of(&stage.lab, way.kernel()).since(&before);
        gained.expect(&name, meant, tolerated);
        Ending { name, braid }
    }
}

/// How a case ended.
#[derive(Debug)]
pub struct Ending {
    name: String,
    pub braid: Told,
}

impl Ending {
    /// It has been MPTCP to the end.
    #[track_caller]
    pub fn expect_mptcp(&self) {
        assert_eq!(self.braid.multipath, Some(true), "{}: {:?}", self.name, self.braid);
    }

    /// It fell back, for a reason that has these words.
    #[track_caller]
    pub fn expect_fallback(&self, reason: &str) {
        let told = self.braid.fallback.as_deref().unwrap_or("it is MPTCP");
        assert!(told.contains(reason), "{}: fell back because of '{reason}'? {told}", self.name);
    }
}

/// A capture of the headers, from now until [`Watched::expect_clean`].
pub struct Watched(Capture);

impl Watched {
    pub fn start(stage: &Stage) -> Watched {
        Watched(Capture::start(&stage.lab, Snap::Headers))
    }

    /// tshark has understood everything, and has a mapping for every byte.
    #[track_caller]
    pub fn expect_clean(mut self, case: &str) {
        self.0.stop();
        let mapped = self.0.read("tcp.options.mptcp.subtype == 2", &["-c", "100"]).len();
        assert!(mapped > 0, "{case}: no DSS in the capture");
        let mut complaints = self.0.read(MPTCP_COMPLAINTS, &[]);
        complaints.extend(self.0.unmapped());
        let shown = &complaints[..complaints.len().min(20)];
        assert!(complaints.is_empty(), "{case}: tshark complains {} times: {shown:#?}", complaints.len());
    }

    /// Segments whose bytes have no mapping.
    pub fn unmapped(mut self) -> usize {
        self.0.stop();
        self.0.unmapped().len()
    }
}
