//! What goes wrong around Braid: each a clear message, a status that is not 0, no hang, and nothing left behind.
//! On real kernels in the lab, so as root; each test that cannot run says so aloud.

mod support;

use braid::lab::{Host, Lab, LabOptions};
use rustix::process::Signal;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use support::{BRAID, Background, alone, eventually, run};

/// No fault takes longer to be told, and no small transfer takes longer.
const LIMIT: Duration = Duration::from_secs(40);

fn lab(test: &str) -> Option<Lab> {
    support::lab(test, &[("iperf3", "iperf3")], &LabOptions::default())
}

fn braid(lab: &Lab, host: Host, words: &[&str]) -> Command {
    let mut command = lab.exec(host);
    command.arg(BRAID).args(words);
    command
}

/// Whether an XDP program is attached to any NIC of a host.
fn is_attached(lab: &Lab, host: Host) -> bool {
    let links =
        run(lab.exec(host).args(["ip", "-json", "link", "show"]), LIMIT).expect_success("ip link").stdout;
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    links.as_array().unwrap().iter().any(|link| link.get("xdp").is_some())
}

#[track_caller]
fn expect_detached(lab: &Lab, host: Host) {
    // The kernel takes the program off when the last descriptor is closed, which may be a moment after the end.
    eventually("no program is attached", LIMIT, || !is_attached(lab, host));
}

/// A server that stays, at b.
fn serve(lab: &Lab) -> Background {
    let mut server = Background::start(&mut braid(lab, Host::B, &["server"]));
    server.wait_for("Server listening", LIMIT);
    server
}

/// A client of a long test, with data on its way.
fn long_client(lab: &Lab) -> Background {
    let mut client = Background::start(&mut braid(lab, Host::A, &["client", "10.71.1.2", "-t", "60"]));
    // The report of the first second.
    client.wait_for("1.00", LIMIT);
    client
}

/// A whole, small test succeeds: nothing is in the way of it.
#[track_caller]
fn expect_service(lab: &Lab) {
    let words = ["client", "10.71.1.2", "-n", "1M"];
    eventually("a client is served", LIMIT, || run(&mut braid(lab, Host::A, &words), LIMIT).success());
}

#[test]
fn a_nic_that_does_not_exist() {
    let _alone = alone();
    let Some(lab) = lab("missing_nic") else { return };
    for words in [&["server", "--nic", "nope"][..], &["client", "10.71.1.2", "--nic", "nope"]] {
        let outcome = run(&mut braid(&lab, Host::A, words), LIMIT);
        outcome.expect_failure("a missing NIC", &["nope"]);
        assert!(
            outcome.stderr.contains("p1"),
            "the message names the NICs that there are: {}",
            outcome.stderr
        );
    }
}

#[test]
fn zero_copy_that_cannot_be_had() {
    let _alone = alone();
    let Some(lab) = lab("zero_copy") else { return };
    for words in [&["server"][..], &["client", "10.71.1.2"]] {
        let words = [words, &["--zero-copy", "require"]].concat();
        let outcome = run(&mut braid(&lab, Host::A, &words), LIMIT);
        outcome.expect_failure("zero-copy on veth", &["p1 cannot"]);
        for part in ["veth has no zero-copy", "newer kernel", "--zero-copy prefer"] {
            assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
        }
        expect_detached(&lab, Host::A);
    }
    // What is refused when it is required is told when it is only preferred, and not when it is not wanted.
    let _server = serve(&lab);
    for (how, reason) in [("prefer", "driver veth has no zero-copy"), ("off", "switched off")] {
        let words = ["client", "10.71.1.2", "-n", "1M", "--zero-copy", how];
        let text = run(&mut braid(&lab, Host::A, &words), LIMIT).expect_success(how).stdout;
        assert!(text.contains(&format!("copy ({reason}; ")), "{text}");
        let words = ["client", "10.71.1.2", "-n", "1M", "-J", "--zero-copy", how];
        let text = run(&mut braid(&lab, Host::A, &words), LIMIT).expect_success(how).stdout;
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let port = &report["start"]["ports"][0];
        assert!(port["copy_reason"].as_str().is_some_and(|told| told.contains(reason)), "{port}");
        assert!(port["copy_remedy"].is_string() && port["zero_copy"] == false, "{port}");
    }
}

/// A macvlan over p2 at a: what it sends waits in p2's queue, and p2's shaper decides when it is completed.
fn put_a_queue_below_p2(lab: &Lab) {
    for words in [
        "ip addr flush dev p2",
        "ip link add m2 link p2 type macvlan mode bridge",
        "ip addr add 10.71.2.1/24 dev m2",
        "ip link set dev m2 up",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        run(lab.exec(Host::A).args(&words), LIMIT).expect_success(words[1]);
    }
}

/// A packet takes minutes from now on; or nothing is in the way again.
fn hold_up_p2(lab: &Lab, held_up: bool) {
    let words = if held_up {
        "tc qdisc replace dev p2 root tbf rate 100bit burst 1600 limit 20000000"
    } else {
        "tc qdisc del dev p2 root"
    };
    let words: Vec<&str> = words.split(' ').collect();
    run(lab.exec(Host::A).args(&words), LIMIT).expect_success("tc");
}

#[test]
fn a_nic_that_completes_nothing() {
    let _alone = alone();
    let tools = [("tc", "iproute2")];
    let Some(lab) = support::lab("completes_nothing", &tools, &LabOptions::default()) else { return };
    put_a_queue_below_p2(&lab);
    let _server = serve(&lab);
    let words = ["client", "10.71.1.2", "--nic", "p1", "--nic", "m2", "-t", "15"];
    let mut client = Background::start(&mut braid(&lab, Host::A, &words));
    client.wait_for("1.00", LIMIT);
    hold_up_p2(&lab, true);
    client.wait_for("NIC m2 completes no transmissions any more", LIMIT);
    hold_up_p2(&lab, false);
    client.wait_for("NIC m2 completes transmissions again", LIMIT);
    let text = client.finish(LIMIT).expect_success("the other path carries on").stdout;
    assert!(text.contains("3 subflows, MPTCP"), "it ended, and was joined again: {text}");
    expect_detached(&lab, Host::A);
}

/// Compiles a program that passes everything and attaches it to p1 at a; it goes with the lab.
fn attach_a_stranger(lab: &Lab) {
    let folder = tempfile::tempdir().unwrap();
    let [source, object] =
        ["pass.c", "pass.o"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let text = "__attribute__((section(\"xdp\"), used)) int pass(void *context) { return 2; }\n";
    fs::write(&source, text).unwrap();
    run(Command::new("clang").args(["-O2", "-target", "bpf", "-c", &source, "-o", &object]), LIMIT)
        .expect_success("clang");
    let attach = ["ip", "link", "set", "dev", "p1", "xdpdrv", "obj", &object, "sec", "xdp"];
    run(lab.exec(Host::A).args(attach), LIMIT).expect_success("ip link set xdp");
}

#[test]
fn a_nic_with_a_program_on_it() {
    let _alone = alone();
    let tools = [("clang", "clang")];
    let Some(lab) = support::lab("nic_with_program", &tools, &LabOptions::default()) else { return };
    attach_a_stranger(&lab);
    assert!(is_attached(&lab, Host::A));
    let outcome = run(&mut braid(&lab, Host::A, &["client", "10.71.1.2", "--nic", "p1"]), LIMIT);
    outcome.expect_failure("a NIC in use", &["already has an XDP program"]);
    assert!(is_attached(&lab, Host::A), "the stranger's program is still there");
    let check = run(&mut braid(&lab, Host::A, &["check", "--nic", "p1"]), LIMIT);
    assert!(!check.success() && check.stdout.contains("is attached"), "{}", check.stdout);
}

#[test]
fn no_privilege() {
    let _alone = alone();
    let Some(lab) = support::lab("no_privilege", &[("setpriv", "util-linux")], &LabOptions::default()) else {
        return;
    };
    let (_folder, binary) = support::binary_for_everyone();
    let mut command = lab.exec(Host::A);
    command.args(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    command.arg(&binary).args(["client", "10.71.1.2", "--nic", "p1"]);
    let outcome = run(&mut command, LIMIT);
    outcome.expect_failure("without privilege", &["root", "setcap", "cap_"]);
    assert!(!is_attached(&lab, Host::A));
}

#[test]
fn too_little_memory_may_be_locked() {
    let _alone = alone();
    let Some(lab) = support::lab("memlock", &[("setpriv", "util-linux")], &LabOptions::default()) else {
        return;
    };
    let mut command = lab.exec(Host::A);
    command.args([
        "prlimit",
        "--memlock=1048576:1048576",
        "setpriv",
        "--bounding-set=-ipc_lock,-sys_resource",
    ]);
    command.args([BRAID, "client", "10.71.1.2"]);
    run(&mut command, LIMIT).expect_failure("with little locked memory", &["memlock", "ulimit -l"]);
    expect_detached(&lab, Host::A);
}

#[test]
fn a_port_in_use() {
    let _alone = alone();
    let Some(lab) = lab("port_in_use") else { return };
    let mut other = Background::start(lab.exec(Host::B).args(["iperf3", "-s", "--forceflush"]));
    other.wait_for("Server listening", LIMIT);
    let outcome = run(&mut braid(&lab, Host::B, &["server"]), LIMIT);
    outcome.expect_failure("a port in use", &["in use"]);
    assert!(outcome.stderr.contains("5201"), "{}", outcome.stderr);
    expect_detached(&lab, Host::B);
}

#[test]
fn a_host_that_cannot_be_reached() {
    let _alone = alone();
    let Some(lab) = lab("unreachable") else { return };
    let words = ["unreachable", "no route", "does not answer", "did not answer", "cannot be reached"];
    for host in ["10.71.1.99", "10.99.0.1", "fd71:1::99"] {
        run(&mut braid(&lab, Host::A, &["client", host]), LIMIT).expect_failure(host, &words);
    }
    expect_detached(&lab, Host::A);
}

#[test]
fn a_host_that_refuses() {
    let _alone = alone();
    let Some(lab) = lab("refused") else { return };
    let outcome = run(&mut braid(&lab, Host::A, &["client", "10.71.1.2", "-p", "5999"]), LIMIT);
    outcome.expect_failure("nobody listens", &["refused"]);
    expect_detached(&lab, Host::A);
}

#[test]
fn a_peer_that_dies() {
    let _alone = alone();
    let Some(lab) = lab("peer_dies") else { return };
    for program in
        [&["iperf3", "-s", "--forceflush"][..], &["mptcpize", "run", "iperf3", "-s", "--forceflush"]]
    {
        let mut server = Background::start(lab.exec(Host::B).args(program));
        server.wait_for("Server listening", LIMIT);
        let client = long_client(&lab);
        assert!(is_attached(&lab, Host::A), "this is how it looks while it runs");
        // Its kernel resets the connections: data is unread.
        server.kill();
        client.finish(LIMIT).expect_failure(program[0], &["reset", "closed", "gone", "broke", "no data"]);
        expect_detached(&lab, Host::A);
    }
}

#[test]
fn a_killed_client_does_not_stop_the_server() {
    let _alone = alone();
    let Some(lab) = lab("killed_client") else { return };
    let mut server = serve(&lab);
    for _ in 0..2 {
        let mut client = long_client(&lab);
        client.kill();
        expect_detached(&lab, Host::A);
        expect_service(&lab);
    }
    assert!(server.is_running(), "{}", server.stderr());
}

#[test]
fn a_killed_server_leaves_nothing() {
    let _alone = alone();
    let Some(lab) = lab("killed_server") else { return };
    let mut server = serve(&lab);
    let client = long_client(&lab);
    assert!(is_attached(&lab, Host::B));
    server.kill();
    expect_detached(&lab, Host::B);
    client
        .finish(LIMIT)
        .expect_failure("a client whose server is gone", &["reset", "closed", "gone", "broke", "no data"]);
    // Port and NICs are free again at once.
    let _server = serve(&lab);
    expect_service(&lab);
}

#[test]
fn signals_end_it_cleanly() {
    let _alone = alone();
    let Some(lab) = lab("signals") else { return };
    for signal in [Signal::INT, Signal::TERM] {
        let server = serve(&lab);
        let client = long_client(&lab);
        client.signal(signal);
        let said = client.finish(LIMIT);
        assert!(said.status.is_some_and(|status| status.code().is_some()), "{signal:?}: {said:?}");
        expect_detached(&lab, Host::A);
        sleep(Duration::from_millis(200));
        server.signal(signal);
        let said = server.finish(LIMIT);
        assert!(said.status.is_some_and(|status| status.code().is_some()), "{signal:?}: {said:?}");
        expect_detached(&lab, Host::B);
    }
}
