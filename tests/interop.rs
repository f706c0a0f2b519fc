//! Braid with peers that we did not write: the kernel's MPTCP and TCP, stock iperf3, and tshark as a reader of what is
//! on the wire. On real kernels in the lab, so as root; each test that cannot run says so aloud.
//!
//! Both paths are limited to the same rate and must both carry data, counted at the bridges in the middle, not taken
//! from Braid's own report. `BRAID_LONG=1` moves 1 GiB instead of 64 MiB. `BRAID_STAND_IN=1` puts the kernel's MPTCP
//! in Braid's place: what fails then is the lab or the suite.

#[path = "support/capture.rs"]
mod capture;
mod support;

use braid::lab::{self, Host, Lab, LabOptions, Rate};
use capture::{CAPTURE_TOOLS, COMPLAINTS, Capture, MPTCP_COMPLAINTS, Snap, ZERO_AS_ONES};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use support::{BRAID, Background, Outcome, alone, eventually, long, run};

/// What every test needs.
const TOOLS: [(&str, &str); 3] = [("iperf3", "iperf3"), ("mptcpize", "mptcpize"), ("tc", "iproute2")];
/// No transfer here takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Who is at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Braid.
    Braid,
    /// Our program over the kernel's MPTCP: it alone moves files whole (iperf3 sends again what was half written).
    KernelMptcp,
    /// Our program over the kernel's TCP.
    KernelTcp,
    /// Stock iperf3 over the kernel's TCP.
    Iperf,
    /// Stock iperf3 over the kernel's MPTCP.
    IperfMptcp,
}

impl End {
    /// A command at `host` that is the end in the role `role`: `client` or `server`.
    fn command(self, lab: &Lab, host: Host, role: &str) -> Command {
        let mut command = lab.exec(host);
        let flag = if role == "server" { "-s" } else { "-c" };
        match self {
            End::Braid if stand_in() => command.args([BRAID, role, "--kernel", "mptcp"]),
            End::Braid => command.args([BRAID, role]),
            End::KernelMptcp => command.args([BRAID, role, "--kernel", "mptcp"]),
            End::KernelTcp => command.args([BRAID, role, "--kernel", "tcp"]),
            End::Iperf => command.args(["iperf3", "--forceflush", flag]),
            End::IperfMptcp => command.args(["mptcpize", "run", "iperf3", "--forceflush", flag]),
        };
        command
    }
}

/// Whether the kernel's MPTCP runs in Braid's place.
fn stand_in() -> bool {
    std::env::var_os("BRAID_STAND_IN").is_some()
}

/// Bytes of one transfer.
fn size() -> u64 {
    if long() { 1 << 30 } else { 64 << 20 }
}

/// A lab whose two paths are limited to 400 Mbit/s each. The kernel at b announces its second address.
fn two_paths(test: &str) -> Option<Lab> {
    let options = LabOptions { rate: Some(Rate::from_mbit(400)), ..LabOptions::default() };
    let lab = support::lab(test, &TOOLS, &options)?;
    if !Path::new("/proc/sys/net/mptcp/enabled").exists() {
        support::skip(test, "this kernel has no MPTCP");
        return None;
    }
    let announce = ["ip", "mptcp", "endpoint", "add", "10.71.2.2", "dev", "p2", "signal"];
    run(lab.exec(Host::B).args(announce), LIMIT).expect_success("ip mptcp endpoint add");
    Some(lab)
}

/// Bytes that have crossed a path, both ways together.
fn crossed(lab: &Lab, path: u8) -> u64 {
    lab.crossed_bytes(path).unwrap()
}

/// One server for one test at b, ready for its client.
fn serve(lab: &Lab, end: End, more: &[&str]) -> Background {
    let mut server = Background::start(end.command(lab, Host::B, "server").arg("-1").args(more));
    server.wait_for("Server listening", LIMIT);
    server
}

/// Runs a server at b and a client at a to their ends, both of which must be good.
fn transfer(
    lab: &Lab,
    (server, server_more): (End, &[&str]),
    (client, client_more): (End, &[&str]),
) -> Outcome {
    let serving = serve(lab, server, server_more);
    let mut command = client.command(lab, Host::A, "client");
    let outcome = run(command.arg("10.71.1.2").args(client_more), LIMIT);
    let said = outcome.expect_success(&format!("client {client:?} of {server:?} {client_more:?}"));
    serving.finish(LIMIT).expect_success(&format!("server {server:?} of {client:?} {client_more:?}"));
    said
}

/// A transfer of `bytes` in each direction, of which both paths carry data, not only handshakes. How fair a share that
/// is depends on losses early on; the benchmarks look at it.
fn both_paths_both_directions(lab: &Lab, server: End, client: End, bytes: u64) {
    let amount = bytes.to_string();
    for direction in [&["-n", &amount][..], &["-n", &amount, "-R"]] {
        let before = [1, 2].map(|path| crossed(lab, path));
        transfer(lab, (server, &[]), (client, direction));
        let [one, two] = [1, 2].map(|path: u8| crossed(lab, path) - before[usize::from(path) - 1]);
        // iperf3 ends when it has written what it was told to, and drops what its kernel has not sent then.
        assert!(
            one + two > bytes - bytes / 8,
            "{client:?} to {server:?}: {one} and {two} of {bytes} crossed"
        );
        assert!(one.min(two) > bytes / 32, "{client:?} to {server:?} {direction:?}: only {one} and {two}");
    }
}

/// A folder with a file of random bytes, and where its copy goes.
struct Files {
    _folder: tempfile::TempDir,
    source: String,
    copy: String,
    digest: [u8; 32],
}

impl Files {
    fn new(bytes: u64) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let [source, copy] =
            ["source", "copy"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
        let mut file = File::create(&source).unwrap();
        let mut block = vec![0; 1 << 20];
        for _ in 0..bytes >> 20 {
            getrandom::fill(&mut block).unwrap();
            file.write_all(&block).unwrap();
        }
        let digest = digest(&source);
        Files { _folder: folder, source, copy, digest }
    }

    /// The copy must be the source, bit by bit; it is removed.
    #[track_caller]
    fn expect_same(&self, what: &str) {
        let [there, here] =
            [&self.source, &self.copy].map(|path| fs::metadata(path).map_or(0, |file| file.len()));
        assert_eq!(there, here, "{what}: the copy has another length");
        assert_eq!(self.digest, digest(&self.copy), "{what}: the copy has other bytes");
        fs::remove_file(&self.copy).unwrap();
    }
}

fn digest(path: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut HashWriter(&mut hash)).unwrap();
    hash.finalize().into()
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Moves a file each way between the two, and compares.
fn files_both_directions(lab: &Lab, server: End, client: End, files: &Files) {
    let (source, copy) = (files.source.as_str(), files.copy.as_str());
    transfer(lab, (server, &["-F", copy]), (client, &["-F", source]));
    files.expect_same(&format!("{client:?} to {server:?}"));
    // The sender ends it, at the end of the file.
    transfer(lab, (server, &["-F", source]), (client, &["-F", copy, "-R", "-t", "0"]));
    files.expect_same(&format!("{server:?} to {client:?}"));
}

#[test]
fn the_lab_carries_kernel_to_kernel_over_both_paths() {
    let _alone = alone();
    let Some(lab) = two_paths("kernel_to_kernel") else { return };
    both_paths_both_directions(&lab, End::IperfMptcp, End::IperfMptcp, 32 << 20);
}

#[test]
fn ours_to_ours_over_both_paths() {
    let _alone = alone();
    let Some(lab) = two_paths("ours_to_ours") else { return };
    both_paths_both_directions(&lab, End::Braid, End::Braid, size());
}

#[test]
fn ours_to_ours_moves_files_whole_at_full_speed() {
    let _alone = alone();
    let Some(lab) = support::lab("ours_full_speed", &TOOLS, &LabOptions::default()) else { return };
    files_both_directions(&lab, End::Braid, End::Braid, &Files::new(4 * size()));
}

#[test]
fn ours_to_ours_survives_loss() {
    let _alone = alone();
    let options = LabOptions { middle: true, ..LabOptions::default() };
    let Some(lab) = support::lab("ours_loss", &[TOOLS[0], ("nft", "nftables")], &options) else { return };
    for path in 1..=2 {
        lab.set_loss(path, 10).unwrap();
    }
    files_both_directions(&lab, End::Braid, End::Braid, &Files::new(16 << 20));
}

#[test]
fn the_kernels_mptcp_serves_us() {
    let _alone = alone();
    let Some(lab) = two_paths("kernel_serves_us") else { return };
    both_paths_both_directions(&lab, End::IperfMptcp, End::Braid, size());
}

#[test]
fn we_serve_the_kernels_mptcp() {
    let _alone = alone();
    let Some(lab) = two_paths("we_serve_kernel") else { return };
    both_paths_both_directions(&lab, End::Braid, End::IperfMptcp, size());
}

#[test]
fn files_to_and_from_the_kernels_mptcp_are_whole() {
    let _alone = alone();
    let Some(lab) = two_paths("files_mptcp") else { return };
    let files = Files::new(size());
    files_both_directions(&lab, End::KernelMptcp, End::Braid, &files);
    files_both_directions(&lab, End::Braid, End::KernelMptcp, &files);
}

#[test]
fn files_to_and_from_the_kernels_tcp_are_whole() {
    let _alone = alone();
    let Some(lab) = two_paths("files_tcp") else { return };
    let files = Files::new(size());
    files_both_directions(&lab, End::KernelTcp, End::Braid, &files);
    files_both_directions(&lab, End::Braid, End::KernelTcp, &files);
}

#[test]
fn stock_iperf3_over_plain_tcp_both_ways() {
    let _alone = alone();
    let Some(lab) = two_paths("stock_iperf3") else { return };
    let amount = (size() / 2).to_string();
    for more in [&["-n", &amount][..], &["-n", &amount, "-R"], &["-t", "1", "-P", "3"]] {
        transfer(&lab, (End::Iperf, &[]), (End::Braid, more));
        transfer(&lab, (End::Braid, &[]), (End::Iperf, more));
    }
}

#[test]
fn ipv6_works_like_ipv4() {
    let _alone = alone();
    let Some(lab) = two_paths("ipv6") else { return };
    for (server, client) in
        [(End::Braid, End::Braid), (End::IperfMptcp, End::Braid), (End::Braid, End::Iperf)]
    {
        let serving = serve(&lab, server, &[]);
        let mut command = client.command(&lab, Host::A, "client");
        run(command.args(["fd71:1::2", "-n", "16M"]), LIMIT)
            .expect_success(&format!("{client:?} to {server:?}"));
        serving.finish(LIMIT).expect_success("the server");
    }
}

/// A path that fails while both carry a transfer of five seconds or more, and is back one and a half later.
fn path_fails_and_returns(test: &str, fail: impl Fn(&Lab, bool)) {
    let _alone = alone();
    let options = LabOptions { rate: Some(Rate::from_mbit(200)), ..LabOptions::default() };
    let Some(lab) = support::lab(test, &[TOOLS[0], ("nft", "nftables")], &options) else { return };
    let announce = ["ip", "mptcp", "endpoint", "add", "10.71.2.2", "dev", "p2", "signal"];
    run(lab.exec(Host::B).args(announce), LIMIT).expect_success("ip mptcp endpoint add");
    let files = Files::new(256 << 20);
    let server = serve(&lab, End::Braid, &["-F", &files.copy]);
    let mut command = End::Braid.command(&lab, Host::A, "client");
    let client = Background::start(command.args(["10.71.1.2", "-F", &files.source]));
    eventually("the second path carries data", LIMIT, || crossed(&lab, 2) > 5 << 20);
    fail(&lab, true);
    sleep(Duration::from_millis(1500));
    fail(&lab, false);
    let back = crossed(&lab, 2);
    client.finish(LIMIT).expect_success("the client");
    server.finish(LIMIT).expect_success("the server");
    files.expect_same(test);
    let since = crossed(&lab, 2) - back;
    assert!(since > 5 << 20, "only {since} bytes crossed the second path after it came back");
}

#[test]
fn the_senders_nic_goes_down_and_comes_back() {
    path_fails_and_returns("sender_nic_down", |lab, down| lab.set_link(Host::A, 2, !down).unwrap());
}

#[test]
fn the_receivers_nic_goes_down_and_comes_back() {
    path_fails_and_returns("receiver_nic_dn", |lab, down| lab.set_link(Host::B, 2, !down).unwrap());
}

#[test]
fn a_path_dies_silently_and_comes_back() {
    path_fails_and_returns("silent_path", |lab, down| lab.set_loss(2, if down { 1000 } else { 0 }).unwrap());
}

/// A lab to capture in, with the kernel at b ready to announce its second address.
fn capture_lab(test: &str) -> Option<Lab> {
    let options = LabOptions { rate: Some(Rate::from_mbit(400)), ..LabOptions::default() };
    let lab = support::lab(test, &[&CAPTURE_TOOLS[..], &TOOLS[..1]].concat(), &options)?;
    let announce = ["ip", "mptcp", "endpoint", "add", "10.71.2.2", "dev", "p2", "signal"];
    run(lab.exec(Host::B).args(announce), LIMIT).expect_success("ip mptcp endpoint add");
    Some(lab)
}

#[test]
fn tshark_finds_nothing_wrong_with_our_packets() {
    let _alone = alone();
    let Some(lab) = capture_lab("tshark_content") else { return };
    let pairs = [(End::Braid, End::Braid), (End::IperfMptcp, End::Braid), (End::Braid, End::IperfMptcp)];
    for (server, client) in pairs {
        let mut capture = Capture::start(&lab, Snap::Whole);
        for direction in [&["-n", "8M"][..], &["-n", "8M", "-R"]] {
            transfer(&lab, (server, &[]), (client, direction));
        }
        capture.stop();
        let ours_alone = server == End::Braid && client == End::Braid && !stand_in();
        let mut complaints = capture.read(&format!("{COMPLAINTS} || {MPTCP_COMPLAINTS}"), &[]);
        if !ours_alone {
            let excused = capture.read(ZERO_AS_ONES, &[]);
            complaints.retain(|line| !excused.contains(line));
        }
        complaints.extend(capture.unmapped());
        assert!(
            complaints.is_empty(),
            "{client:?} to {server:?}: {:#?}",
            &complaints[..complaints.len().min(20)]
        );
        let fields = ["-T", "fields", "-e", "tcp.options.mptcp.subtype"];
        let mut seen: Vec<String> = capture.read("mptcp || tcp.options.mptcp.subtype", &fields);
        seen = seen.iter().flat_map(|line| line.split(',')).map(str::to_owned).collect();
        for (subtype, name) in [("0", "MP_CAPABLE"), ("1", "MP_JOIN"), ("2", "DSS"), ("3", "ADD_ADDR")] {
            let count = seen.iter().filter(|one| *one == subtype).count();
            assert!(count > 0, "{client:?} to {server:?}: no {name} in the capture");
        }
    }
}

#[test]
fn packets_of_nine_thousand_bytes_are_whole_between_us_and_the_kernel() {
    let _alone = alone();
    let options = LabOptions { mtu: 9000, middle: true, ..LabOptions::default() };
    let tools = [&CAPTURE_TOOLS[..], &TOOLS[..1]].concat();
    let Some(lab) = support::lab("jumbo", &tools, &options) else { return };
    let announce = ["ip", "mptcp", "endpoint", "add", "10.71.2.2", "dev", "p2", "signal"];
    run(lab.exec(Host::B).args(announce), LIMIT).expect_success("ip mptcp endpoint add");
    let files = Files::new(8 << 20);
    for other in [End::Braid, End::KernelMptcp, End::KernelTcp] {
        let mut capture = Capture::start(&lab, Snap::Whole);
        files_both_directions(&lab, other, End::Braid, &files);
        capture.stop();
        let complaints = capture.read(COMPLAINTS, &[]);
        assert!(complaints.is_empty(), "{other:?}: {:#?}", &complaints[..complaints.len().min(20)]);
        let ours = "frame.len > 8900 && (ip.src == 10.71.1.1 || ip.src == 10.71.2.1)";
        let count = capture.read(ours, &[]).len();
        // Of the 900 or so that the file is, one way.
        assert!(stand_in() || count > 400, "{other:?}: {count} long packets");
    }
}

#[test]
fn tshark_would_find_a_wrong_checksum() {
    let _alone = alone();
    let Some(lab) = capture_lab("tshark_finds") else { return };
    // With checksums left to a NIC that makes none, the kernel's packets go out half-made.
    run(lab.exec(Host::A).args(["ethtool", "-K", "p1", "tx", "on"]), LIMIT).expect_success("ethtool");
    let mut capture = Capture::start(&lab, Snap::Whole);
    transfer(&lab, (End::Iperf, &[]), (End::Iperf, &["-n", "1M"]));
    capture.stop();
    assert!(!capture.read(COMPLAINTS, &[]).is_empty());
}

/// A client of the kernel's that sends the 37 bytes with which iperf3 begins by MSG_FASTOPEN, twice: the second time the kernel
/// has a cookie. Each test has a name of its own: a second connection with the first one's would be one for its data, if the
/// server has not seen yet that the first has ended.
const FAST_OPEN_CLIENT: &str = r#"
import socket, sys
for name in b"x", b"y":
    client = socket.socket()
    client.sendto(name * 36 + b"\0", socket.MSG_FASTOPEN, (sys.argv[1], 5201))
    if not client.recv(1):
        sys.exit("no answer")
    client.close()
"#;

/// How many SYNs with data a capture has, and how many SYN/ACKs that acknowledge some.
fn syn_data(capture: &Capture) -> (usize, usize) {
    let syns = capture.read("tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.len > 0", &[]);
    // Relative numbers: 1 is the SYN alone.
    let answers = capture.read("tcp.flags.syn == 1 && tcp.flags.ack == 1 && tcp.ack > 1", &[]);
    (syns.len(), answers.len())
}

#[test]
fn fast_open_with_the_kernel_and_with_ourselves() {
    let _alone = alone();
    if stand_in() {
        return support::skip("fast_open", "the kernel's end of our program has no Fast Open");
    }
    let tools = [&CAPTURE_TOOLS[..], &TOOLS[..1], &[("python3", "python3")]].concat();
    let options = LabOptions { middle: true, ..LabOptions::default() };
    let Some(lab) = support::lab("fast_open", &tools, &options) else { return };
    for host in [Host::A, Host::B] {
        // Clients, servers, and every listener whether it asks or not.
        run(lab.exec(host).args(["sysctl", "-w", "net.ipv4.tcp_fastopen=0x403"]), LIMIT)
            .expect_success("sysctl");
    }
    // The control connection asks for a cookie; those of the data bring it, and their first bytes.
    let ours = &["--plain-tcp", "--fast-open", "--workers", "1", "-P", "2", "-n", "1M"][..];
    for (server, more) in [(End::Iperf, &[][..]), (End::Braid, &["--fast-open"][..])] {
        let mut capture = Capture::start(&lab, Snap::Whole);
        transfer(&lab, (server, more), (End::Braid, ours));
        capture.stop();
        assert_eq!(syn_data(&capture), (2, 2), "we connect to {server:?}");
        assert_eq!(capture.read(COMPLAINTS, &[]), [""; 0], "we connect to {server:?}");
    }
    let mut serving = Background::start(End::Braid.command(&lab, Host::B, "server").arg("--fast-open"));
    serving.wait_for("Server listening", LIMIT);
    let mut capture = Capture::start(&lab, Snap::Whole);
    run(lab.exec(Host::A).args(["python3", "-c", FAST_OPEN_CLIENT, "10.71.1.2"]), LIMIT)
        .expect_success("the kernel's client");
    // tcpdump is handed few packets once a second.
    sleep(Duration::from_millis(1200));
    capture.stop();
    serving.signal(rustix::process::Signal::INT);
    assert_eq!(syn_data(&capture), (1, 1), "the kernel connects to us");
}

#[test]
fn addresses_of_the_lab_are_those_the_suite_counts_on() {
    assert_eq!(lab::ipv4(Host::B, 1).unwrap().to_string(), "10.71.1.2");
    assert_eq!(lab::ipv4(Host::B, 2).unwrap().to_string(), "10.71.2.2");
    assert_eq!(lab::ipv6(Host::B, 1).unwrap().to_string(), "fd71:1::2");
}
