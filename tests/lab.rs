//! The lab on the real kernel: that it is what it says, and that nothing stays behind.

mod support;

use braid::lab::{self, Host, Lab, LabError, LabOptions, Rate};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};
use support::{BRAID, Background, alone, eventually, run};

const LIMIT: Duration = Duration::from_secs(20);

fn spaces() -> String {
    run(Command::new("ip").args(["netns", "list"]), LIMIT).expect_success("ip netns list").stdout
}

/// What `program` says at `host`.
fn say(lab: &Lab, host: Host, program: &str) -> String {
    let words: Vec<&str> = program.split(' ').collect();
    run(lab.exec(host).args(&words), LIMIT).expect_success(program).stdout
}

#[test]
fn the_hosts_are_as_described() {
    let _alone = alone();
    let options = LabOptions { mtu: 3000, queues: 2, ..LabOptions::default() };
    let Some(lab) = support::lab("hosts_as_described", &[], &options) else { return };
    for host in Host::ENDS {
        for path in 1..=2 {
            let nic = lab::nic(path);
            let link = say(&lab, host, &format!("ip -details addr show dev {nic}"));
            assert!(link.contains("mtu 3000") && link.contains("numrxqueues 2"), "{link}");
            assert!(link.contains(&format!("{}/24", lab::ipv4(host, path).unwrap())), "{link}");
            assert!(link.contains(&format!("{}/64", lab::ipv6(host, path).unwrap())), "{link}");
            assert!(link.contains("LOWER_UP") && !link.contains("tentative"), "{link}");
            let offloads = say(&lab, host, &format!("ethtool -k {nic}"));
            assert!(offloads.contains("tx-checksumming: off"), "{offloads}");
        }
        assert!(say(&lab, host, "ip link show dev lo").contains("UP"));
    }
    assert_eq!(lab.hosts(), Host::ENDS);
}

#[test]
fn a_name_can_be_taken_once_and_is_free_again() {
    let _alone = alone();
    let Some(lab) = support::lab("taken_once", &[], &LabOptions::default()) else { return };
    let name = lab.name().to_owned();
    assert!(Lab::list().unwrap().contains(&name));
    let error = Lab::up(&name, &LabOptions::default()).unwrap_err();
    assert!(error.to_string().contains(&format!("braid lab down {name}")), "{error}");
    assert!(Lab::list().unwrap().contains(&name), "a refused name must not remove what stands");

    // Found, not owned: it outlives this handle.
    let found = Lab::find(&name).unwrap();
    assert_eq!((found.paths(), found.has_middle()), (2, false));
    drop(found);
    assert!(Lab::list().unwrap().contains(&name));

    lab.down().unwrap();
    assert!(!spaces().contains(&name));
    assert!(matches!(Lab::find(&name), Err(LabError::Unknown(_))));
}

#[test]
fn dropping_it_ends_its_processes() {
    let _alone = alone();
    let Some(lab) = support::lab("dropping_ends", &[], &LabOptions::default()) else { return };
    let name = lab.name().to_owned();
    let mut sleeper = Background::start(lab.exec(Host::A).args(["sleep", "100"]));
    // It is in the namespace only once ip has become sleep.
    eventually("the process is in the namespace", LIMIT, || {
        say(&lab, Host::B, &format!("ip netns pids {name}-a")).contains(&sleeper.id().to_string())
    });
    drop(lab);
    eventually("the process ends", LIMIT, || !sleeper.is_running());
    assert!(!spaces().contains(&name));
}

#[test]
fn what_a_lab_did_not_make_it_does_not_touch() {
    let _alone = alone();
    let Some(lab) = support::lab("did_not_make", &[], &LabOptions::default()) else { return };
    let name = format!("{}x", lab.name());
    // A namespace that a lab did not make stands where its second host would be.
    let stranger = format!("{name}-b");
    run(Command::new("ip").args(["netns", "add", &stranger]), LIMIT).expect_success("netns add");
    let taken = Lab::up(&name, &LabOptions::default());
    let found = Lab::find(&name);
    let standing = spaces();
    run(Command::new("ip").args(["netns", "del", &stranger]), LIMIT).expect_success("netns del");
    assert!(matches!(taken, Err(LabError::Taken(_))), "{taken:?}");
    assert!(matches!(found, Err(LabError::NotALab(_))), "{found:?}");
    assert!(standing.contains(&stranger), "a stranger's namespace must stay: {standing}");
    assert!(!standing.contains(&format!("{name}-a")), "{standing}");
}

#[test]
fn a_link_comes_back_with_its_addresses() {
    let _alone = alone();
    let Some(lab) = support::lab("link_back", &[], &LabOptions::default()) else { return };
    lab.set_link(Host::A, 2, false).unwrap();
    let peer = say(&lab, Host::B, "ip link show dev p2");
    assert!(peer.contains("NO-CARRIER"), "{peer}");
    lab.set_link(Host::A, 2, true).unwrap();
    let link = say(&lab, Host::A, "ip addr show dev p2");
    assert!(link.contains("10.71.2.1/24") && link.contains("fd71:2::1/64"), "{link}");
    assert!(say(&lab, Host::A, "ip route get 10.71.2.2").contains("dev p2"));
}

/// Runs iperf3 from a to b on a path; gives bits per second received, and the client's whole report.
fn iperf(lab: &Lab, path: u8, more: &[&str]) -> (f64, serde_json::Value) {
    let address = lab::ipv4(Host::B, path).unwrap().to_string();
    let mut server = Background::start(lab.exec(Host::B).args(["iperf3", "-s", "-1", "--forceflush"]));
    server.wait_for("Server listening", LIMIT);
    let client = run(lab.exec(Host::A).args(["iperf3", "-c", &address, "-J"]).args(more), LIMIT)
        .expect_success("iperf3");
    let report: serde_json::Value = serde_json::from_str(&client.stdout).unwrap();
    (report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap(), report)
}

#[test]
fn the_middle_throttles_and_loses() {
    let _alone = alone();
    let options = LabOptions { rate: Some(Rate::from_mbit(100)), ..LabOptions::default() };
    let tools = [("iperf3", "iperf3"), ("tc", "iproute2"), ("nft", "nftables")];
    let Some(lab) = support::lab("middle_throttles", &tools, &options) else { return };
    assert_eq!(lab.hosts().len(), 4);
    for direction in [&["--bytes=5M"][..], &["--bytes=5M", "-R"]] {
        let (rate, _) = iperf(&lab, 1, direction);
        assert!((50e6..110e6).contains(&rate), "a path of 100 Mbit/s carried {rate}");
    }
    let retransmits = |report: &serde_json::Value| report["end"]["sum_sent"]["retransmits"].as_u64().unwrap();
    lab.set_loss(2, 20).unwrap();
    let (_, lossy) = iperf(&lab, 2, &["--bytes=5M"]);
    assert!(retransmits(&lossy) > 10, "2 % of 3,600 packets should be lost: {}", retransmits(&lossy));
    lab.set_loss(2, 0).unwrap();
    let dropped = say(&lab, Host::Middle(2), "nft list ruleset");
    assert!(!dropped.contains("drop"), "{dropped}");
}

#[test]
fn loss_needs_a_middle() {
    let _alone = alone();
    let Some(lab) = support::lab("loss_needs", &[], &LabOptions::default()) else { return };
    assert!(matches!(lab.set_loss(1, 10), Err(LabError::NoMiddle(_))));
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    let _alone = alone();
    let Some(lab) = support::lab("half_way", &[], &LabOptions::default()) else { return };
    let name = format!("{}x", lab.name());
    // An ethtool that fails: the namespaces and the first path stand by then.
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("ethtool");
    fs::write(&tool, "#!/bin/sh\necho no such feature >&2\nexit 1\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), env::var("PATH").unwrap());
    let outcome = run(Command::new(BRAID).args(["lab", "up", &name]).env("PATH", path), LIMIT);
    outcome.expect_failure("lab up", &["ethtool -K p1 tx off` failed: no such feature"]);
    assert!(!spaces().contains(&name), "{}", spaces());
}

#[test]
fn the_command_line_makes_uses_and_removes_a_lab() {
    let _alone = alone();
    let Some(lab) = support::lab("command_line", &[], &LabOptions::default()) else { return };
    let name = format!("{}x", lab.name());
    let braid = |words: &[&str]| run(Command::new(BRAID).arg("lab").args(words), LIMIT);
    braid(&["up", &name, "--paths", "3", "--mtu", "9000", "--rate", "1gbit"]).expect_success("lab up");
    assert!(braid(&["list"]).stdout.lines().any(|line| line == name));
    braid(&["up", &name]).expect_failure("lab up again", &["stands already"]);
    let shown =
        braid(&["run", &name, "b", "--", "ip", "addr", "show", "dev", "p3"]).expect_success("lab run");
    assert!(shown.stdout.contains("10.71.3.2/24") && shown.stdout.contains("mtu 9000"), "{}", shown.stdout);
    let status = braid(&["run", &name, "m3", "--", "sh", "-c", "exit 7"]).status.unwrap();
    assert_eq!(status.code(), Some(7), "the status is the command's");
    braid(&["run", &name, "m4", "--", "true"]).expect_failure("no such bridge", &["no host m4"]);
    braid(&["run", &name, "z", "--", "true"]).expect_failure("no such host", &["no host of a lab"]);
    braid(&["down", &name]).expect_success("lab down");
    braid(&["down", &name]).expect_failure("lab down again", &["no lab named"]);
    assert!(!spaces().contains(&name), "{}", spaces());
}

#[test]
fn without_root_it_says_so() {
    let _alone = alone();
    // Only root can become nobody.
    let Some(_lab) = support::lab("without_root", &[("setpriv", "util-linux")], &LabOptions::default())
    else {
        return;
    };
    let (_folder, binary) = support::binary_for_everyone();
    let nobody = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    let outcome = run(Command::new("setpriv").args(nobody).arg(&binary).args(["lab", "up", "x"]), LIMIT);
    outcome.expect_failure("lab up as nobody", &["needs root"]);
}
