//! `braid ctl` on a running connection: a client of ours talks to a server of ours over one path of two, and what is asked
//! for over the control socket happens to the connection. On real veth pairs in the lab, so as root; each test that cannot
//! run says so aloud.

mod support;

use braid::lab::{Host, Lab, LabOptions, Rate, ipv4};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::{BRAID, Background, alone, eventually, run};

/// Nothing takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(40);
/// So many bytes on a path are more than handshakes and what is under way.
const LOADED: u64 = 500_000;

fn braid(lab: &Lab, host: Host, words: &[&str]) -> Command {
    let mut command = lab.exec(host);
    command.arg(BRAID).args(words);
    command
}

fn address(host: Host, path: u8) -> String {
    ipv4(host, path).expect("an end").to_string()
}

/// A client that sends over the first path for as long as the test takes, and opens no subflow by itself.
struct Scene {
    // Dropped first.
    client: Background,
    _server: Background,
    folder: tempfile::TempDir,
    lab: Lab,
}

impl Scene {
    /// `None`, said aloud, where the test cannot run.
    fn new(test: &str) -> Option<Scene> {
        Scene::with(test, &[])
    }

    /// The same, with more options of the client.
    fn with(test: &str, more: &[&str]) -> Option<Scene> {
        let options = LabOptions { rate: Some(Rate::from_mbit(50)), ..LabOptions::default() };
        let lab = support::lab(test, &[("tc", "iproute2")], &options)?;
        let folder = tempfile::tempdir().expect("there is room for scratch files");
        let quiet = ["--policy", "endpoints"];
        let words = [&["server", "--ctl", "none"], &quiet[..]].concat();
        let mut server = Background::start(&mut braid(&lab, Host::B, &words));
        server.wait_for("Server listening", LIMIT);
        let (to, socket) = (address(Host::B, 1), folder.path().join("ctl"));
        let socket = socket.to_str().expect("a plain path");
        let words = [&["client", &to, "-t", "300", "--ctl", socket], &quiet[..], more].concat();
        let mut client = Background::start(&mut braid(&lab, Host::A, &words));
        // The report of the first second.
        client.wait_for("1.00", LIMIT);
        Some(Scene { client, _server: server, folder, lab })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("ctl")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(BRAID);
        command.arg("ctl").arg("--socket").arg(self.socket()).args(line.split(' '));
        command
    }

    /// `braid ctl` with these words is refused with one of these.
    #[track_caller]
    fn expect_refusal(&self, line: &str, told: &str) {
        let outcome = run(&mut self.command(line), LIMIT);
        outcome.expect_failure(line, &[told]);
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(1), "{line}");
    }

    /// What it answers, in JSON.
    #[track_caller]
    fn ctl(&self, line: &str) -> Value {
        let said = run(self.command(line).arg("-j"), LIMIT).expect_success(line).stdout;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
    }

    /// The connection that carries the data; the other one is for the test's own words.
    #[track_caller]
    fn connection(&self) -> Value {
        let list = self.ctl("connections");
        let sent = |connection: &&Value| connection["info"]["bytes_sent"].as_u64();
        let all = list["connections"].as_array().expect("a list");
        all.iter().max_by_key(sent).unwrap_or_else(|| panic!("no connection: {list:#}")).clone()
    }

    #[track_caller]
    fn token(&self) -> String {
        self.connection()["token"].as_str().expect("it is MPTCP").to_owned()
    }

    /// Its subflows that can carry data: from where, and their ids.
    #[track_caller]
    fn subflows(&self) -> Vec<(String, u64)> {
        let connection = self.connection();
        let all = connection["subflows"].as_array().expect("a list");
        let usable = all.iter().filter(|subflow| subflow["usable"] == true);
        let local = |subflow: &Value| {
            subflow["local"].as_str().and_then(|it| it.split(':').next()).map(str::to_owned)
        };
        usable.map(|it| (local(it).expect("an address"), it["id"].as_u64().expect("an id"))).collect()
    }

    /// Waits until there are so many.
    #[track_caller]
    fn await_subflows(&self, count: usize) -> Vec<(String, u64)> {
        eventually(&format!("{count} subflows"), LIMIT, || self.subflows().len() == count);
        self.subflows()
    }

    /// Waits until a path has carried so much more that it bears a load.
    #[track_caller]
    fn await_load(&mut self, path: u8) {
        let crossed = |lab: &Lab| lab.crossed_bytes(path).expect("the bridge counts");
        let before = crossed(&self.lab);
        eventually(&format!("data on path {path}"), LIMIT, || crossed(&self.lab) >= before + LOADED);
        assert!(self.client.is_running(), "{}\n{}", self.client.stdout(), self.client.stderr());
    }
}

#[test]
fn a_subflow_is_added_and_removed_while_data_moves() {
    let _alone = alone();
    let Some(mut scene) = Scene::new("ctl_subflow") else { return };
    let (first, second) = (address(Host::A, 1), address(Host::A, 2));
    let token = scene.token();
    let begun = scene.await_subflows(1);
    assert_eq!(begun[0].0, first);

    scene.ctl(&format!("subflow add token {token} local {second} remote {}", address(Host::B, 2)));
    let both = scene.await_subflows(2);
    let id = both.iter().find(|(local, _)| *local == second).expect("from the second address").1;
    scene.await_load(2);

    // Another congestion control and another scheduler, with data on both.
    let runs_by = |scene: &Scene, cc: &str, sched: &str| {
        let connection = scene.connection();
        (connection["cc"].as_str(), connection["sched"].as_str()) == (Some(cc), Some(sched))
    };
    assert!(runs_by(&scene, "reno", "lowest-rtt"));
    scene.ctl(&format!("connection token {token} cc olia sched round-robin"));
    assert!(runs_by(&scene, "olia", "round-robin"));
    scene.await_load(2);
    scene.expect_refusal(&format!("connection token {token} cc hope"), "there are: reno, cubic");
    scene.ctl(&format!("connection token {token} sched lowest-rtt"));
    assert!(runs_by(&scene, "olia", "lowest-rtt"));

    // The other one goes: what it held comes over the new one, and the transfer goes on there alone.
    scene.ctl(&format!("subflow remove token {token} id {}", begun[0].1));
    assert_eq!(scene.await_subflows(1), [(second, id)]);
    scene.await_load(2);
    scene.expect_refusal(&format!("subflow remove token {token} id {id}"), "last subflow");
    scene.expect_refusal(&format!("subflow remove token {token} id 99"), "no subflow 99");
    assert_eq!(scene.token(), token, "it is the same connection");
}

#[test]
fn limits_refuse_one_more_subflow_and_take_it_when_they_are_raised() {
    let _alone = alone();
    let Some(scene) = Scene::new("ctl_limits") else { return };
    let token = scene.token();
    let add =
        format!("subflow add token {token} local {} remote {}", address(Host::A, 2), address(Host::B, 2));
    let before = scene.ctl("limits show");
    assert_eq!(scene.ctl("limits set subflows 0")["subflows"], 0);
    scene.expect_refusal(&add, "0 subflows beside its first one");
    assert_eq!(scene.subflows().len(), 1);

    scene.ctl("limits set subflows 1");
    scene.ctl(&add);
    scene.await_subflows(2);
    scene.expect_refusal(&add, "1 subflows beside its first one");
    // Other limits stay as they were, and what there is beyond a lower one stays, too.
    let after = scene.ctl("limits set subflows 0");
    assert_eq!((&after["add_addr_accepted"], &after["subflows"]), (&before["add_addr_accepted"], &json!(0)));
    assert_eq!(scene.subflows().len(), 2);
    assert_eq!(scene.connection()["info"]["subflows_max"], 0);
    scene.expect_refusal("limits set subflows 99", "31");
}

#[test]
fn frames_reach_the_worker_whose_connection_it_is_as_a_guest_where_another_is_at_home() {
    let _alone = alone();
    // One queue, whose home is worker 0. The test's own words are its connection, the next is the other worker's.
    let Some(mut scene) = Scene::with("ctl_workers", &["--workers", "2", "--queues", "1"]) else { return };
    scene.await_load(1);
    let all = scene.ctl("workers");
    let of =
        |worker: usize, name: &str| all[worker][name].as_u64().unwrap_or_else(|| panic!("{name}: {all:#}"));
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert_eq!([0, 1].map(|worker| of(worker, "connections")), [1, 1], "{all:#}");
    assert!(of(0, "frames_received") > 0 && of(1, "frames_received") > 0, "{all:#}");
    assert_eq!(of(0, "frames_received_as_guest"), 0, "{all:#}");
    assert_eq!(of(1, "frames_received_as_guest"), of(1, "frames_received"), "{all:#}");
    assert_eq!([0, 1].map(|worker| of(worker, "stray_segments")), [0, 0], "{all:#}");
    // What counters tells is of both; frames have come since.
    let sum = scene.ctl("counters");
    let guests = sum["BraidReceivedAsGuest"].as_u64().expect("a count");
    assert!(guests >= of(1, "frames_received_as_guest"), "{sum:#}");
    let text = run(&mut scene.command("workers"), LIMIT).expect_success("workers").stdout;
    assert!(text.lines().count() == 2 && text.starts_with("worker 0 connections 1 received "), "{text}");
}

#[test]
fn the_monitor_tells_of_what_happens_a_line_of_json_each() {
    let _alone = alone();
    let Some(mut scene) = Scene::new("ctl_monitor") else { return };
    let token = scene.token();
    let second = address(Host::A, 2);

    // Over the socket itself, as a program would.
    let mut socket = UnixStream::connect(scene.socket()).expect("the client serves it");
    socket.set_read_timeout(Some(LIMIT)).expect("a socket");
    socket.write_all(b"{\"request\": \"monitor\", \"tag\": \"watch\"}\n").expect("it reads");
    let mut lines = BufReader::new(socket).lines();
    let mut next = move || -> Value {
        let line = lines.next().expect("it stays open").expect("an event comes");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let answer = next();
    assert_eq!((&answer["tag"], &answer["ok"]), (&json!("watch"), &json!(true)));
    // By the command, which says nothing before the first event: asked for until it is there.
    let mut command = Background::start(scene.command("monitor").arg("-j"));
    let mut backup = false;
    eventually("the monitor sees an event", LIMIT, || {
        backup = !backup;
        let word = if backup { "on" } else { "off" };
        scene.ctl(&format!("subflow backup token {token} id 0 {word}"));
        command.stdout().contains("SF_PRIO")
    });

    scene.ctl(&format!("subflow add token {token} local {second} remote {}", address(Host::B, 2)));
    let both = scene.await_subflows(2);
    let id = both.iter().find(|(local, _)| *local == second).expect("from the second address").1;
    scene.ctl(&format!("subflow remove token {token} id {id}"));
    scene.await_subflows(1);
    let mut after = |name: &str| loop {
        let event = next();
        if event["event"] == name {
            return event;
        }
        assert_eq!(event["event"], "SF_PRIO", "{event}");
    };
    for name in ["SF_ESTABLISHED", "SF_CLOSED"] {
        let event = after(name);
        assert_eq!((&event["token"], &event["subflow"]), (&json!(token), &json!(id)), "{event}");
        assert_eq!(event["saddr"], json!(second), "{event}");
    }
    command.wait_for("SF_CLOSED", LIMIT);
    let names: Vec<Value> = command
        .stdout()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .map(|event| event["event"].clone())
        .filter(|name| name != "SF_PRIO")
        .collect();
    assert_eq!(names, ["SF_ESTABLISHED", "SF_CLOSED"]);

    // The end of the process is the end of the monitor, and no failure of it.
    scene.client.kill();
    command.finish(LIMIT).expect_success("a monitor whose process has ended");
}
