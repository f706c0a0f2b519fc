//! Peers that misbehave, written by hand.

use crate::program::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const COOKIE: &[u8; 37] = b"abcdefghijklmnopqrstuvwxyz2345672345\0";
const PARAMETERS: &str = r#"{"tcp":true,"time":60,"parallel":1,"len":131072}"#;

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn introduce(server: &Server, cookie: &[u8; 37]) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(cookie).unwrap();
    stream
}

fn send_json(stream: &mut TcpStream, json: &str) {
    stream.write_all(&(json.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(json.as_bytes()).unwrap();
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

/// What comes until the other end closes, orderly or not.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

/// A test that waits for data: its control connection and its data connection.
fn begin_test(server: &Server) -> (TcpStream, TcpStream) {
    let mut control = introduce(server, COOKIE);
    expect(&mut control, &[9]);
    send_json(&mut control, PARAMETERS);
    expect(&mut control, &[10]);
    let data = introduce(server, COOKIE);
    expect(&mut control, &[1, 2]);
    (control, data)
}

#[test]
fn strangers_are_turned_away() {
    let server = Server::start(&[]);
    let mut stream = connect(&server);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n").unwrap();
    expect(&mut stream, &[0xff]);
    let mut stream = introduce(&server, &[b'\n'; 37]);
    expect(&mut stream, &[0xff]);
    server.expect_service();
}

#[test]
fn more_streams_than_were_agreed_are_turned_away() {
    let server = Server::start(&[]);
    let (_control, _data) = begin_test(&server);
    let mut more = introduce(&server, COOKIE);
    expect(&mut more, &[0xff]);
    assert!(rest(&mut more).is_empty());
    server.expect_service();
}

#[test]
fn a_silent_client_holds_nobody_up() {
    let server = Server::start(&[]);
    let _silent: Vec<TcpStream> = (0..20).map(|_| connect(&server)).collect();
    let mut half = connect(&server);
    half.write_all(&COOKIE[..10]).unwrap();
    // This one stops after its cookie, and that one after its parameters.
    let mut third = introduce(&server, COOKIE);
    expect(&mut third, &[9]);
    let mut fourth = introduce(&server, b"bbcdefghijklmnopqrstuvwxyz2345672345\0");
    expect(&mut fourth, &[9]);
    send_json(&mut fourth, r#"{"tcp":true,"time":1,"parallel":3,"len":131072}"#);
    expect(&mut fourth, &[10]);
    server.expect_service();
    // And none of them keeps the server from ending.
    server.stop();
}

#[test]
fn a_crowd_of_strangers_is_limited() {
    let server = Server::start(&[]);
    // Over 256 that say nothing: those beyond are refused at once.
    let mut crowd: Vec<TcpStream> = (0..300).map(|_| connect(&server)).collect();
    let mut last = crowd.pop().unwrap();
    expect(&mut last, &[0xff]);
    drop(crowd);
    // Room again, as soon as the server has seen that they are gone.
    while !server.client(&["-n", "1M"]).finish().status.success() {}
    server.stop();
}

#[test]
fn bad_parameters_are_refused_by_number() {
    let server = Server::start(&[]);
    for (json, code) in [
        (r#"{"udp":true,"time":1}"#, 131),
        (r#"{"sctp":true,"time":1}"#, 18),
        (r#"{"tcp":true,"parallel":4000000000}"#, 6),
        (r#"{"tcp":true,"time":1e300}"#, 5),
        (r#"{"tcp":true,"len":-3}"#, 7),
        ("[[[[[", 114),
        ("", 114),
        // Nesting that would overflow the stack of a careless parser.
        (&"[".repeat(8192), 114),
    ] {
        let mut control = introduce(&server, COOKIE);
        expect(&mut control, &[9]);
        send_json(&mut control, json);
        expect(&mut control, &[0xfe, 0, 0, 0, code, 0, 0, 0, 0]);
        assert!(rest(&mut control).is_empty(), "{json}");
    }
    // A length far beyond any parameters: refused by the length alone.
    let mut control = introduce(&server, COOKIE);
    expect(&mut control, &[9]);
    control.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap();
    expect(&mut control, &[0xfe, 0, 0, 0, 114, 0, 0, 0, 0]);
    server.expect_service();
    server.stop();
}

#[test]
fn a_client_that_breaks_the_protocol_ends_only_its_own_test() {
    let server = Server::start(&[]);
    for bytes in
        [&[77u8][..], &[9], &[4, 0xff, 0xff, 0xff, 0xff], &[4, 0, 0, 0, 2, b'[', b'['], &[13], &[0xfe]]
    {
        let (mut control, _data) = begin_test(&server);
        control.write_all(bytes).unwrap();
        // It is told (11, after 13 where it had ended the test) and dropped.
        let told = rest(&mut control);
        assert_eq!(told.last(), Some(&11), "{bytes:?}: {told:?}");
    }
    server.expect_service();
    server.stop();
}

#[test]
fn a_test_without_progress_is_given_up() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let (mut control, _data) = begin_test(&server);
    expect(&mut control, &[11]);
    server.expect_service();
    let served = server.stop();
    assert!(served.stderr.contains("no data moved for 1 s"), "{}", served.stderr);
}

/// A server that reads a cookie and then says only this. The client must end, with these words.
#[track_caller]
fn false_server(says: &'static [u8], words: &[&str]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut cookie = [0; 37];
        stream.read_exact(&mut cookie).unwrap();
        stream.write_all(says).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    client(port, &["-t", "1"]).finish().failed(1, words);
    server.join().unwrap();
}

#[test]
fn a_server_may_say_anything() {
    false_server(&[0xff], &["busy"]);
    false_server(&[], &["the server is gone"]);
    false_server(&[42], &["unknown state 42"]);
    false_server(&[2], &["out of turn"]);
    false_server(&[9, 9], &["out of turn"]);
    false_server(&[0xfe, 0, 0, 0, 131, 0, 0, 0, 0], &["has not got that protocol", "131"]);
    false_server(&[0xfe, 0, 0], &["the server is gone"]);
    false_server(&[9, 11], &["the server has ended the test"]);
    false_server(b"SSH-2.0-OpenSSH_10.0\r\n", &["is that an iperf3 peer?"]);
}

#[test]
fn a_stream_that_breaks_before_the_server_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let accept = || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 37]).unwrap();
            stream
        };
        let mut control = accept();
        control.write_all(&[9]).unwrap();
        let mut len = [0; 4];
        control.read_exact(&mut len).unwrap();
        control.read_exact(&mut vec![0; u32::from_be_bytes(len) as usize]).unwrap();
        control.write_all(&[10]).unwrap();
        let mut data = accept();
        control.write_all(&[1, 2]).unwrap();
        data.read_exact(&mut [0; 1000]).unwrap();
        // What was not read makes it a reset.
        drop(data);
        // The client has seen that, and says so to us; only now comes the reason.
        thread::sleep(Duration::from_millis(100));
        control.write_all(&[11]).unwrap();
        let _ = control.read_to_end(&mut Vec::new());
    });
    client(port, &["-t", "60"]).finish().failed(1, &["the server has ended the test"]);
    server.join().unwrap();
}
