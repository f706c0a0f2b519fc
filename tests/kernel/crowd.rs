//! Many short connections: each is opened, asks, is answered, and is closed, over the kernel's TCP or over Braid. As in
//! `ends.rs` each end is this test binary, started again in a host of the lab.

use crate::ends::{Ours, start_again};
use crate::support::Background;
use braid::app::Stream;
use braid::base::Prng;
use braid::lab::{Host, Lab};
use serde::{Deserialize, Serialize};
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Nothing waits longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the whole crowd.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Where the child finds what it is to do.
const VARIABLE: &str = "BRAID_TEST_CROWD";
/// What is asked and answered, at most.
const QUESTION_MAX: u64 = 5000;

/// One end of all of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Crowd {
    /// Over Braid's TCP, or over the kernel's.
    pub braid: bool,
    /// Accept them here; otherwise connect to there.
    pub listens: bool,
    /// There.
    pub address: SocketAddr,
    /// How many.
    pub connections: usize,
    /// How many at a time.
    pub side_by_side: usize,
}

/// A running end.
#[derive(Debug)]
pub struct Child(Background);

impl Child {
    pub fn start(lab: &Lab, host: Host, crowd: &Crowd) -> Child {
        let mut child = start_again(lab, host, "crowd::one_end_of_a_crowd", VARIABLE, crowd);
        if crowd.listens {
            child.wait_for("LISTENING", PATIENCE);
        }
        Child(child)
    }

    /// Fails unless every connection did what it should.
    #[track_caller]
    pub fn finish(self, what: &str) {
        self.0.finish(LIMIT).expect_success(what);
    }
}

/// Not a test, but what the tests start: see above.
#[test]
#[ignore = "a child of the other tests"]
fn one_end_of_a_crowd() {
    let Ok(crowd) = env::var(VARIABLE) else { return };
    let crowd: Crowd = serde_json::from_str(&crowd).expect("a test gives it");
    let ours = Ours { plain_tcp: true, ..Ours::default() };
    if crowd.braid {
        let runtime = ours.start().expect("Braid starts");
        let options = ours.options();
        if crowd.listens {
            let options = braid::stack::ListenOptions { connection: options };
            let listener = runtime.listen(crowd.address, options).expect("the port is free");
            println!("LISTENING");
            serve(&crowd, || listener.accept(Some(PATIENCE))?.ok_or(ErrorKind::TimedOut.into()));
        } else {
            ask(&crowd, || runtime.connect(crowd.address, options, PATIENCE).map_err(io::Error::other));
        }
    } else if crowd.listens {
        let listener = TcpListener::bind(crowd.address).expect("the port is free");
        println!("LISTENING");
        serve(&crowd, || listener.accept().map(|(stream, _)| stream));
    } else {
        ask(&crowd, || TcpStream::connect(crowd.address));
    }
}

/// Either kind of stream.
trait Talks: Read + Write {
    fn be_patient(&self);
    /// No more is sent.
    fn end(&self);
    /// Waits until what was sent has arrived, where it would not once the process has ended.
    fn see_off(&self);
}

impl Talks for TcpStream {
    fn be_patient(&self) {
        self.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
    }

    fn end(&self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }

    fn see_off(&self) {}
}

impl Talks for Stream {
    fn be_patient(&self) {
        self.set_read_timeout(Some(PATIENCE));
    }

    fn end(&self) {
        self.close_send();
    }

    fn see_off(&self) {
        assert!(self.wait_sent(Some(PATIENCE)).expect("nobody resets it"), "the answer does not arrive");
    }
}

/// Runs `one` so many times, on as many threads as there are to be connections at a time.
fn all(crowd: &Crowd, one: impl Fn(usize) + Sync) {
    let begun = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..crowd.side_by_side {
            scope.spawn(|| {
                loop {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    if number >= crowd.connections {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
}

/// Answers each with what it has asked, when that has ended.
fn serve<S: Talks>(crowd: &Crowd, accept: impl Fn() -> io::Result<S> + Sync) {
    all(crowd, |number| {
        let mut stream =
            accept().unwrap_or_else(|error| panic!("connection {number} is not accepted: {error}"));
        stream.be_patient();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap_or_else(|error| panic!("question {number}: {error}"));
        stream.write_all(&question).unwrap_or_else(|error| panic!("answer {number}: {error}"));
        stream.end();
        stream.see_off();
    });
}

/// Asks, and compares the answer.
fn ask<S: Talks>(crowd: &Crowd, connect: impl Fn() -> io::Result<S> + Sync) {
    all(crowd, |number| {
        let mut chance = Prng::new(number as u64);
        let mut question = vec![0; 1 + chance.below(QUESTION_MAX) as usize];
        chance.fill(&mut question);
        let mut stream = connect().unwrap_or_else(|error| panic!("connection {number}: {error}"));
        stream.be_patient();
        stream.write_all(&question).unwrap_or_else(|error| panic!("question {number}: {error}"));
        stream.end();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("answer {number}: {error}"));
        assert!(answer == question, "answer {number} is another one");
    });
}
