//! Our client with our server.

use crate::program::*;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Time for a test to be on its way.
const UNDER_WAY: Duration = Duration::from_millis(700);

#[test]
fn a_whole_test_reports_the_same_at_both_ends() {
    for more in [&["-n", "50M", "-P", "3"][..], &["-n", "50M", "-R"], &["-k", "400"]] {
        // In JSON the server does not say where it listens.
        let port = free_port();
        let mut server = Command::new(BRAID);
        server.args(["server", "-p", &port.to_string(), "-1", "-J", "--kernel", "tcp"]);
        let server = start(&mut server);
        let ours = loop {
            let outcome = client(port, &[&["-J"], more].concat()).finish();
            if !outcome.stdout.contains("refused") {
                break outcome.ok().json();
            }
        };
        let theirs = server.finish().ok().json();
        for report in [&ours, &theirs] {
            for sum in ["/end/sum_sent/bytes", "/end/sum_received/bytes"] {
                assert_eq!(number(report, sum), 50.0 * MIB, "{more:?} {sum}");
            }
        }
        assert_eq!(text(&ours, "/start/cookie"), text(&theirs, "/start/cookie"));
        assert_eq!(ours["end"]["sum_sent"]["sender"], !more.contains(&"-R"));
        assert_eq!(theirs["end"]["sum_sent"]["sender"], more.contains(&"-R"));
    }
}

#[test]
fn omitted_seconds_and_both_directions() {
    let server = Server::start(&[]);
    let report = server.client(&["-t", "1", "-O", "1", "--bidir", "-P", "2", "-J"]).finish().ok().json();
    let intervals = report["intervals"].as_array().unwrap();
    assert_eq!(intervals[0]["sum"]["omitted"], true);
    assert_eq!(intervals[1]["sum"]["omitted"], false);
    assert_eq!(intervals[0]["streams"].as_array().unwrap().len(), 4);
    for sum in ["sum_sent", "sum_received", "sum_sent_bidir_reverse", "sum_received_bidir_reverse"] {
        assert!(number(&report, &format!("/end/{sum}/bytes")) > 0.0, "{sum}");
    }
    server.stop();
}

#[test]
fn a_file_arrives_whole_and_both_ends_tell_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // No multiple of any block or segment.
    let content: Vec<u8> = (0..20_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(path("source"), &content).unwrap();

    let server = Server::start(&["-1", "-F", &path("copy")]);
    let report = server.client(&["-F", &path("source"), "-J"]).finish().ok().json();
    let served = server.running.finish().ok().stdout;
    assert!(std::fs::read(path("copy")).unwrap() == content, "the copy differs");
    let digest = text(&report, "/end/streams/0/sender/file_sha256");
    assert_eq!(digest.len(), 64);
    assert_eq!(digest, text(&report, "/end/streams/0/receiver/file_sha256"));
    assert!(served.contains(digest) && served.contains("the same"), "{served}");

    let server = Server::start(&["-1", "-F", &path("source")]);
    let said = server.client(&["-F", &path("back"), "-R", "-t", "0"]).finish().ok().stdout;
    server.running.finish().ok();
    assert!(std::fs::read(path("back")).unwrap() == content, "the copy differs");
    assert_eq!(said.matches(digest).count(), 2, "{said}");
}

#[test]
fn an_empty_file_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("source"), b"").unwrap();
    let server = Server::start(&["-1", "-F", &path("copy")]);
    server.client(&["-F", &path("source")]).finish().ok();
    server.running.finish().ok();
    assert_eq!(std::fs::read(path("copy")).unwrap(), b"");
}

#[test]
fn a_server_writes_its_file_for_one_stream_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy").to_str().unwrap().to_owned();
    let server = Server::start(&["-F", &copy]);
    server.client(&["-n", "1M", "-P", "2"]).finish().failed(1, &["file"]);
    let first = server.client(&["-t", "60", "-b", "10M"]);
    sleep(UNDER_WAY);
    server.client(&["-n", "1M"]).finish().failed(1, &["file"]);
    first.interrupt();
    first.finish().failed(1, &["interrupted"]);
    server.client(&["-F", "/nonexistent/file"]).finish().failed(1, &["cannot read '/nonexistent/file'"]);
    server.expect_service();
}

#[test]
fn clients_are_served_at_the_same_time() {
    let server = Server::start(&[]);
    let mut long = server.client(&["-t", "60"]);
    sleep(UNDER_WAY);
    for _ in 0..3 {
        server.client(&["-n", "8M", "-R"]).finish().ok();
    }
    assert!(long.is_running());
    long.interrupt();
    long.finish().failed(1, &["interrupted"]);
    server.stop();
}

#[test]
fn a_rate_is_not_exceeded() {
    let server = Server::start(&[]);
    let report = server.client(&["-t", "1", "-b", "80M", "-J"]).finish().ok().json();
    let bytes = number(&report, "/end/sum_sent/bytes");
    let seconds = number(&report, "/end/sum_sent/seconds");
    assert!(bytes > 0.0 && bytes <= 10e6 * seconds + 2.0 * 131_072.0, "{bytes} bytes in {seconds} s");
}

#[test]
fn a_killed_client_leaves_the_server_serving() {
    let server = Server::start(&[]);
    for more in [&["-t", "60"][..], &["-t", "60", "-R", "-P", "2"]] {
        let mut lost = server.client(more);
        sleep(UNDER_WAY);
        assert!(lost.is_running());
        lost.child.kill().unwrap();
        server.expect_service();
    }
    let served = server.stop();
    assert_eq!(served.stderr.matches("the client is gone").count(), 2, "{}", served.stderr);
}

#[test]
fn an_interrupted_client_says_what_it_has_measured() {
    let server = Server::start(&[]);
    for (more, end) in [(&["-t", "60"][..], "sender"), (&["-t", "60", "-R"], "receiver")] {
        let (client, _) = start_until(&mut client_command(server.port, more), "0.00-1.0", false);
        client.interrupt();
        let said = client.finish().failed(1, &["interrupted"]).stdout;
        assert!(said.trim_end().ends_with(end), "{said}");
    }
    let served = server.stop();
    assert_eq!(served.stderr.matches("the client has ended the test").count(), 2, "{}", served.stderr);
}

#[test]
fn an_interrupted_server_tells_its_clients() {
    let server = Server::start(&[]);
    let client = server.client(&["-t", "60"]);
    sleep(UNDER_WAY);
    server.stop();
    client.finish().failed(1, &["the server has ended the test"]);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_client() {
    let server = Server::start(&[]);
    let mut command = client_command(server.port, &["-t", "60", "-i", "0.2"]);
    let (client, _) = start_until(&mut command, "Connecting", true);
    client.finish().failed(1, &[]);
    server.expect_service();
}

#[test]
fn a_server_goes_on_without_a_reader() {
    let port = free_port();
    let mut command = Command::new(BRAID);
    command.args(["server", "-p", &port.to_string(), "--kernel", "tcp"]);
    let (server, _) = start_until(&mut command, "listening", true);
    let server = Server { running: server, port };
    server.expect_service();
    server.expect_service();
    server.stop();
}

#[test]
fn one_off_serves_one_test() {
    let server = Server::start(&["-1"]);
    let (client, _) = start_until(&mut client_command(server.port, &["-t", "3"]), "0.00-1.0", false);
    server.client(&["-t", "1"]).finish().failed(1, &["busy"]);
    client.finish().ok();
    server.running.finish().ok();

    let server = Server::start(&["-1"]);
    let mut lost = server.client(&["-t", "60"]);
    sleep(UNDER_WAY);
    lost.child.kill().unwrap();
    server.running.finish().failed(1, &["the client is gone"]);
}

#[test]
fn what_cannot_be_done_is_said_in_a_line() {
    let port = free_port();
    let words = ["refused", "braid server", &port.to_string()];
    let refused = client(port, &["-t", "1"]).finish().failed(1, &words);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    assert_eq!(refused.stderr.matches("refused").count(), 1, "{}", refused.stderr);
    let document = client(port, &["-t", "1", "-J"]).finish().failed(1, &[]).json();
    assert!(text(&document, "/error").contains("refused"));

    let server = Server::start(&[]);
    let port = server.port.to_string();
    let mut second = Command::new(BRAID);
    second.args(["server", "-p", &port, "--kernel", "tcp"]);
    start(&mut second).finish().failed(1, &["in use by another program", &port]);
    let document = start(second.arg("-J")).finish().failed(1, &[]).json();
    assert!(text(&document, "/error").contains("in use"));
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    for wrong in [
        &["-t", "-1"][..],
        &["-n", "7X"],
        &["-P", "129"],
        &["-i", "0.01"],
        &["-l", "2M"],
        &["--bidir", "-R"],
        &["-R", "-F", "x", "-P", "2"],
        &["--nic", "eth0"],
        &["--frobnicate"],
    ] {
        client(5201, wrong).finish().failed(2, &["error"]);
    }
    let help = start(Command::new(BRAID).args(["client", "--help"])).finish().ok();
    assert!(help.stdout.contains("Examples:"));
    let version = start(Command::new(BRAID).arg("--version")).finish().ok();
    assert_eq!(version.stdout.trim(), format!("braid {}", env!("CARGO_PKG_VERSION")));
}
