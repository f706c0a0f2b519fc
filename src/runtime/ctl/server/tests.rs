//! Clients over real sockets; the test plays the runtime.

use super::super::events::PathEvent;
use super::*;
use crate::wire::mptcp::Token;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
    events: Arc<EventQueue>,
    thread: Option<CtlThread>,
}

/// A server whose answers are the requests' own names; `counters` are `bytes` long.
fn serve_with(bytes: usize) -> Fixture {
    let folder = tempfile::tempdir().expect("there is room for scratch files");
    let path = folder.path().join("a.sock");
    let wake = WakeFd::new().expect("a descriptor is free");
    let events = Arc::new(EventQueue::new(wake.clone()));
    let socket = BoundSocket::open(&path).expect("it can be opened");
    let handle = move |request: CtlRequest| match request {
        CtlRequest::Counters {} => Ok(Value::String("x".repeat(bytes))),
        CtlRequest::LimitsSet { .. } => Err(Refusal::new("no")),
        other => Ok(serde_json::to_value(other).expect("it can be written")),
    };
    let thread = CtlThread::start(socket, Arc::clone(&events), wake, handle).expect("it starts");
    Fixture { _folder: folder, path, events, thread: Some(thread) }
}

struct Peer(BufReader<UnixStream>);

impl Fixture {
    fn connect(&self) -> Peer {
        let stream = UnixStream::connect(&self.path).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        Peer(BufReader::new(stream))
    }
}

impl Peer {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("it is open");
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let len = self.0.read_line(&mut line).expect("a line in time");
        (len > 0).then(|| serde_json::from_str(&line).expect("JSON"))
    }

    fn ask(&mut self, text: &str) -> Value {
        self.send(&format!("{text}\n"));
        self.line().expect("an answer")
    }
}

#[test]
fn requests_are_answered_in_order_however_they_come_in_pieces() {
    let fixture = serve_with(1);
    let mut peer = fixture.connect();
    assert_eq!(peer.ask(r#"{"request":"limits show","tag":1}"#)["result"]["request"], "limits show");
    peer.send("{\"request\":\"endpoint flush\",\"tag\":2}\n\n{\"request\":\"nonsense\",\"tag\":3}\n{\"requ");
    peer.send("est\":\"limits set\",\"tag\":4}\n");
    let answers: Vec<Value> = (0..3).filter_map(|_| peer.line()).collect();
    let seen: Vec<(&Value, &Value)> = answers.iter().map(|answer| (&answer["tag"], &answer["ok"])).collect();
    let expected = [(2, true), (3, false), (4, false)].map(|(tag, ok)| (json!(tag), json!(ok)));
    assert_eq!(seen, expected.iter().map(|(tag, ok)| (tag, ok)).collect::<Vec<_>>());
    assert!(answers[1]["known"].is_array() && answers[2]["known"].is_null());
    assert_eq!(answers[2]["error"], "no");
}

#[test]
fn a_request_that_is_too_long_ends_the_client_with_a_word() {
    let fixture = serve_with(1);
    let mut peer = fixture.connect();
    peer.send(&"x".repeat(REQUEST_MAX + 1));
    let answer = peer.line().expect("a word");
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("bytes")), "{answer}");
    // What the server has not read makes the kernel cut the connection rather than end it.
    let end = peer.0.read_line(&mut String::new());
    assert!(matches!(end, Ok(0) | Err(_)));
    let mut other = fixture.connect();
    assert_eq!(other.ask(r#"{"request":"limits show"}"#)["ok"], true, "the others go on");
}

#[test]
fn a_client_that_asks_and_leaves_is_forgotten_and_one_that_ends_its_side_gets_its_answers() {
    let fixture = serve_with(1);
    fixture.connect().send("{\"request\":\"limits show\"}\n");
    let mut peer = fixture.connect();
    peer.send("{\"request\":\"limits show\"}\n{\"half");
    peer.0.get_mut().shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(peer.line().expect("an answer")["ok"], true);
    assert_eq!(peer.line(), None);
}

#[test]
fn many_clients_are_served_and_one_too_many_is_told_so() {
    let fixture = serve_with(1);
    let mut peers: Vec<Peer> = (0..CLIENTS_MAX).map(|_| fixture.connect()).collect();
    for peer in &mut peers {
        assert_eq!(peer.ask(r#"{"request":"limits show"}"#)["ok"], true);
    }
    let mut late = fixture.connect();
    let told = late.line().expect("a word");
    assert!(told["error"].as_str().is_some_and(|error| error.contains("64")), "{told}");
    assert_eq!(late.line(), None);
    peers.clear();
    let served = (0..1000).any(|_| {
        let mut peer = fixture.connect();
        peer.send("{\"request\":\"limits show\"}\n");
        std::thread::sleep(Duration::from_millis(1));
        peer.line().is_some_and(|answer| answer["ok"] == true)
    });
    assert!(served, "there is room again");
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_hears_later_what_it_has_missed() {
    let fixture = serve_with(100_000);
    let mut deaf = fixture.connect();
    assert_eq!(deaf.ask(r#"{"request":"monitor"}"#)["ok"], true);
    let mut watcher = fixture.connect();
    assert_eq!(watcher.ask(r#"{"request":"monitor"}"#)["ok"], true);
    // Responses that wait: no more are made for it than fit.
    deaf.send(&"{\"request\":\"counters\"}\n".repeat(50));
    let token = Token(7);
    let mut sent = 0;
    for _ in 0..40 {
        for _ in 0..500 {
            fixture.events.push(PathEvent::Established { token });
            sent += 1;
        }
        // The one that reads has every one of them.
        for _ in 0..500 {
            assert_eq!(watcher.line().expect("an event")["event"], "ESTABLISHED");
        }
    }
    let mut responses = 0;
    let mut events = 0;
    let mut lost = 0;
    while responses < 50 || events + lost < sent {
        let line = deaf.line().expect("it is still served");
        match line["event"].as_str() {
            Some("LOST") => lost += line["count"].as_u64().expect("a number"),
            Some(_) => events += 1,
            None => responses += 1,
        }
    }
    assert!(lost > 0, "the events were more than it has room for");
    assert_eq!((responses, events + lost), (50, sent), "each is there, or counted");
}

#[test]
fn events_are_made_only_while_somebody_watches() {
    let fixture = serve_with(1);
    assert!(!fixture.events.is_watched());
    let mut peer = fixture.connect();
    assert_eq!(peer.ask(r#"{"request":"monitor","tag":"m"}"#)["tag"], "m");
    let watched = |wanted| {
        (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            fixture.events.is_watched() == wanted
        })
    };
    assert!(watched(true));
    fixture.events.push(PathEvent::Established { token: Token(1) });
    assert_eq!(peer.line().expect("an event"), json!({"event": "ESTABLISHED", "token": "00000001"}));
    drop(peer);
    assert!(watched(false));
}

#[test]
fn the_end_removes_the_socket() {
    let mut fixture = serve_with(1);
    let mut peer = fixture.connect();
    assert_eq!(peer.ask(r#"{"request":"limits show"}"#)["ok"], true);
    drop(fixture.thread.take());
    assert!(!fixture.path.exists());
    assert_eq!(peer.line(), None);
}
