//! The two ends of an exchange, each a process in its host: one answers, one asks and takes the time.

use crate::common::Outcome;
use crate::frames::{parse_hardware_address, stop_with_input};
use crate::hosts::pin;
use crate::stack::Stack;
use braid::app::perf::Net;
use braid::app::perf::net::Connection;
use braid::base::time::Duration as Timeout;
use braid::lab::nic;
use braid::xdp::raw;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

/// What the answering end says once it listens.
pub const READY: &str = "ready";
const PORT: u16 = 5300;
/// Longer than anything takes here.
const PATIENCE: Timeout = Timeout::from_secs(5);
/// Exchanges before the first that counts.
const WARM_UP: u64 = 500;
/// A raw frame that is not back by then is lost.
const LOST: Duration = Duration::from_millis(100);
/// Bytes of the headers of a request: Ethernet, IPv4, TCP and timestamps.
const HEADERS: usize = 14 + 52;

/// Microseconds that so many of a hundred exchanges took at most.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
}

/// `serve STACK`: answers until it is killed, or its standard input ends.
pub fn serve(arguments: &[String]) -> Outcome<()> {
    let [stack] = arguments else { return Err("serve STACK".into()) };
    // Each host has one core, with all threads that it needs.
    pin(1);
    let Some(net) = Stack::find(stack)?.start()? else { return reflect() };
    let listener = net.listen(None, PORT)?;
    println!("{READY}");
    loop {
        let Some(connection) = listener.accept(PATIENCE)? else { continue };
        connection.send_at_once();
        // A client that ends in the middle is no trouble of ours: the next one comes.
        if let Err(error) = echo(&connection) {
            eprintln!("a connection failed: {error}");
        }
    }
}

fn reflect() -> Outcome<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| stop_with_input(&stop));
        println!("{READY}");
        Ok(raw::reflect(&nic(1), &stop)?)
    })
}

/// Sends back all that comes.
fn echo(connection: &Connection) -> Outcome<()> {
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer, None)? {
            Some(0) => break,
            Some(read) => write(connection, &buffer[..read])?,
            None => {}
        }
    }
    connection.close_send();
    Ok(())
}

fn write(connection: &Connection, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        let written = connection.write(bytes, Some(PATIENCE))?.ok_or("nothing can be written any more")?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// `ask STACK ADDRESS MAC rr|crr BYTES PACE SECONDS`: prints what came out. A pace of 0 is none.
pub fn ask(arguments: &[String]) -> Outcome<()> {
    let [stack, address, hardware, what, bytes, pace, seconds] = arguments else {
        return Err("ask STACK ADDRESS MAC rr|crr BYTES PACE SECONDS".into());
    };
    pin(0);
    // The kernel would let a sleep last 50 us longer than it was asked to.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let bytes: usize = bytes.parse()?;
    let remote = SocketAddr::new(address.parse::<IpAddr>()?, PORT);
    let interval = match pace.parse::<u32>()? {
        0 => None,
        pace => Some(Duration::from_secs(1) / pace),
    };
    let mut watch = Watch::new(interval, Duration::from_secs(seconds.parse()?))?;
    match (Stack::find(stack)?.start()?, what.as_str()) {
        (None, "rr") => bounce(&mut watch, bytes + HEADERS, hardware)?,
        (Some(net), "rr") => {
            let connection = net.connect(remote, &[], PATIENCE)?;
            connection.send_at_once();
            let (request, mut answer) = (vec![b'x'; bytes], vec![0; bytes]);
            while watch.next() {
                exchange(&connection, &request, &mut answer)?;
                watch.done();
            }
            finish(&connection)?;
        }
        (Some(net), "crr") => {
            while watch.next() {
                connect(&net, remote)?;
                watch.done();
            }
        }
        _ => return Err(format!("nothing called {what} over {stack}").into()),
    }
    println!("{}", json!({ "rate_per_s": watch.rate(), "time_us": watch.percentiles() }));
    Ok(())
}

fn exchange(connection: &Connection, request: &[u8], answer: &mut [u8]) -> Outcome<()> {
    write(connection, request)?;
    let mut have = 0;
    while have < answer.len() {
        match connection.read(&mut answer[have..], Some(PATIENCE))? {
            Some(0) | None => return Err("no answer".into()),
            Some(read) => have += read,
        }
    }
    Ok(())
}

/// A connection that is set up, used once and closed, by us first.
fn connect(net: &Net, remote: SocketAddr) -> Outcome<()> {
    let connection = net.connect(remote, &[], PATIENCE)?;
    connection.send_at_once();
    exchange(&connection, b"x", &mut [0])?;
    finish(&connection)
}

/// We are done, and wait until the other end is, too.
fn finish(connection: &Connection) -> Outcome<()> {
    connection.close_send();
    match connection.read(&mut [0], Some(PATIENCE))? {
        Some(0) => Ok(()),
        _ => Err("no end".into()),
    }
}

fn bounce(watch: &mut Watch, len: usize, hardware: &str) -> Outcome<()> {
    let to = parse_hardware_address(hardware)?;
    watch.next();
    let sent_at = Cell::new(now());
    let returned = || {
        watch.done();
        let more = watch.next();
        sent_at.set(now());
        more
    };
    let is_lost = || {
        let lost = sent_at.get().elapsed() > LOST;
        if lost {
            sent_at.set(now());
        }
        lost
    };
    Ok(raw::bounce(&nic(1), len, to, returned, is_lost)?)
}

/// Takes the time of exchanges.
struct Watch {
    histogram: Histogram<u64>,
    /// Between two exchanges, where they have a pace.
    interval: Option<Duration>,
    lasts: Duration,
    begun: u64,
    /// When the first that counts began.
    first_at: Instant,
    /// When the one that runs began, or should have.
    due_at: Instant,
    last_at: Instant,
}

impl Watch {
    fn new(interval: Option<Duration>, lasts: Duration) -> Outcome<Watch> {
        let histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
        let start = now();
        Ok(Watch { histogram, interval, lasts, begun: 0, first_at: start, due_at: start, last_at: start })
    }

    /// Waits until the next exchange is due. False when there has been time enough.
    fn next(&mut self) -> bool {
        let before = now();
        self.begun += 1;
        if self.begun == WARM_UP {
            self.first_at = before;
            self.due_at = before;
        }
        match self.interval {
            // Time runs from when it should have begun: a slow one makes the next one late, and that is theirs, too.
            Some(interval) => {
                self.due_at += interval;
                thread::sleep(self.due_at.saturating_duration_since(before));
            }
            None => self.due_at = before,
        }
        self.begun <= WARM_UP || self.first_at.elapsed() < self.lasts
    }

    fn done(&mut self) {
        self.last_at = now();
        if self.begun > WARM_UP {
            // Longer than the histogram reaches is as long as it reaches.
            self.histogram.saturating_record((self.last_at - self.due_at).as_nanos() as u64);
        }
    }

    fn rate(&self) -> f64 {
        self.histogram.len() as f64 / (self.last_at - self.first_at).as_secs_f64()
    }

    fn percentiles(&self) -> Percentiles {
        let at = |percentile| self.histogram.value_at_percentile(percentile) as f64 / 1000.0;
        Percentiles { p50: at(50.0), p99: at(99.0), p999: at(99.9), p9999: at(99.99) }
    }
}

// A benchmark's clock is no part of the core.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
