//! With stock iperf3 at the other end.

use crate::program::*;
use std::process::{Command, Stdio};

/// Whether the stock program is there; without it a test says that it does nothing.
fn iperf3_is_there(test: &str) -> bool {
    let version = Command::new("iperf3").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_err() {
        eprintln!("SKIPPED {test}: iperf3 is not installed (apt-get install iperf3)");
    }
    version.is_ok()
}

fn iperf_client(port: u16, more: &[&str]) -> Running {
    let port = port.to_string();
    start(Command::new("iperf3").args(["-c", "127.0.0.1", "-p", &port, "--forceflush"]).args(more))
}

/// A stock server for one test.
fn iperf_server() -> (Running, u16) {
    let port = free_port();
    let mut command = Command::new("iperf3");
    command.args(["-s", "-1", "--forceflush", "-p", &port.to_string()]);
    (start_until(&mut command, "listening", false).0, port)
}

#[test]
fn our_client_tests_with_a_stock_server() {
    if !iperf3_is_there("our_client_tests_with_a_stock_server") {
        return;
    }
    for more in [
        &["-t", "1"][..],
        &["-t", "1", "-R"],
        &["-t", "1", "-P", "4"],
        &["-t", "1", "--bidir"],
        &["-n", "32M"],
        &["-n", "32M", "-R", "-P", "2"],
        &["-t", "1", "-O", "1", "-i", "0.5"],
    ] {
        let (server, port) = iperf_server();
        let said = client(port, more).finish().ok().stdout;
        assert!(said.contains("sender") && said.contains("receiver"), "{more:?}: {said}");
        let served = server.finish().ok().stdout;
        assert!(served.contains("0.00-") && !served.contains("error"), "{more:?}: {served}");
    }
}

#[test]
fn our_json_of_a_test_with_a_stock_server_has_iperf3s_shape() {
    if !iperf3_is_there("our_json_of_a_test_with_a_stock_server_has_iperf3s_shape") {
        return;
    }
    let (server, port) = iperf_server();
    let report = client(port, &["-n", "64M", "-R", "-P", "2", "-J"]).finish().ok().json();
    server.finish().ok();
    assert_eq!(number(&report, "/start/test_start/num_streams"), 2.0);
    assert_eq!(report["start"]["connected"].as_array().unwrap().len(), 2);
    assert_eq!(number(&report, "/start/connecting_to/port"), f64::from(port));
    assert!(number(&report, "/end/sum_received/bytes") >= 64.0 * MIB);
    assert!(number(&report, "/end/sum_sent/bytes") >= number(&report, "/end/sum_received/bytes"));
    assert!(number(&report, "/end/sum_received/bits_per_second") > 0.0);
    assert!(number(&report, "/end/cpu_utilization_percent/remote_total") >= 0.0);
    assert_eq!(report["end"]["streams"].as_array().unwrap().len(), 2);
    assert_eq!(report["end"]["streams"][0]["sender"]["sender"], false);
    let shown: f64 = report["intervals"].as_array().unwrap().iter().map(|i| number(i, "/sum/bytes")).sum();
    assert!(shown > 0.0 && shown <= number(&report, "/end/sum_received/bytes"));
    assert!(report.get("error").is_none());
}

#[test]
fn a_stock_client_tests_with_our_server() {
    if !iperf3_is_there("a_stock_client_tests_with_our_server") {
        return;
    }
    let server = Server::start(&[]);
    for more in [
        &["-t", "1"][..],
        &["-t", "1", "-R"],
        &["-t", "1", "-P", "4", "-R"],
        &["-t", "1", "--bidir"],
        &["-n", "32M"],
        &["-k", "100", "-R"],
        &["-t", "1", "-O", "1"],
        &["-t", "1", "-N", "-w", "256K", "-M", "1400", "-Z", "-S", "4", "--extra-data", "x", "-T", "title"],
    ] {
        let said = iperf_client(server.port, more).finish().ok().stdout;
        assert!(said.contains("receiver"), "{more:?}: {said}");
    }
    let report = iperf_client(server.port, &["-n", "32M", "-J", "--get-server-output"]).finish().ok().json();
    // The receiver's figure is ours: we read on to the last byte.
    assert_eq!(number(&report, "/end/sum_received/bytes"), number(&report, "/end/sum_sent/bytes"));
    assert!(text(&report, "/server_output_text").contains("receiver"));
    let served = server.stop();
    assert!(served.stderr.is_empty(), "{}", served.stderr);
}

#[test]
fn a_stock_client_hears_what_we_cannot_do() {
    if !iperf3_is_there("a_stock_client_hears_what_we_cannot_do") {
        return;
    }
    let server = Server::start(&[]);
    iperf_client(server.port, &["-u", "-t", "1"]).finish().failed(1, &["protocol does not exist"]);
    // The test of a client that is killed is not the server's last.
    let mut lost = iperf_client(server.port, &["-t", "60", "-P", "2"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(lost.is_running());
    lost.child.kill().unwrap();
    server.expect_service();
    iperf_client(server.port, &["-n", "1M"]).finish().ok();
}
