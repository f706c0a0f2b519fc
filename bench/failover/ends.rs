//! The two ends of a transfer under which a path dies, each a process in its host: one sends as fast as it may, one notes when
//! what arrives.

use crate::common::Outcome;
use crate::hosts::pin;
use crate::stack::Stack;
use braid::base::time::Duration as Timeout;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What the receiving end says once it listens.
pub const READY: &str = "ready";
const PORT: u16 = 5301;
const PATIENCE: Timeout = Timeout::from_secs(5);
/// Arrivals closer together are noted as one.
const GRAIN: Duration = Duration::from_micros(100);

/// When how many bytes have arrived: time on [`clock`], in order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arrivals(Vec<(Duration, u64)>);

/// What the sender knows at its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes that went once more over the other path, where the stack tells.
    pub reinjected: Option<u64>,
    /// The smoothed round trip of the path that is left, in milliseconds, where the stack tells.
    pub rtt_ms: Option<f64>,
}

impl Arrivals {
    /// When the first came.
    pub fn first(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The longest time without an arrival that began from `start` to `end`, and when it was over. One that nothing ended has
    /// lasted until the last arrival of all.
    pub fn longest_silence(&self, start: Duration, end: Duration) -> (Duration, Duration) {
        let pairs = self.0.windows(2).filter(|pair| pair[1].0 > start && pair[0].0 < end);
        pairs.map(|pair| (pair[1].0 - pair[0].0, pair[1].0)).max().unwrap_or((end - start, end))
    }

    /// Bits a second between two times.
    pub fn rate(&self, start: Duration, end: Duration) -> f64 {
        let bytes: u64 =
            self.0.iter().filter(|(at, _)| (start..end).contains(at)).map(|(_, bytes)| bytes).sum();
        bytes as f64 * 8.0 / (end.saturating_sub(start)).as_secs_f64()
    }
}

/// Time that all processes of the machine see alike.
pub fn clock() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// `sink STACK`: takes one connection, and tells when what came.
pub fn sink(arguments: &[String]) -> Outcome<()> {
    let [stack] = arguments else { return Err("sink STACK".into()) };
    pin(1);
    let net = Stack::find(stack)?.start()?.ok_or("a stack, not frames alone")?;
    let listener = net.listen(None, PORT)?;
    println!("{READY}");
    let connection = listener.accept(PATIENCE)?.ok_or("nobody has come")?;
    let mut buffer = vec![0; 256 * 1024];
    let mut arrivals: Vec<(Duration, u64)> = Vec::new();
    loop {
        let read = connection.read(&mut buffer, Some(PATIENCE))?.ok_or("nothing comes any more")?;
        if read == 0 {
            break;
        }
        let now = clock();
        match arrivals.last_mut() {
            Some((at, bytes)) if now - *at < GRAIN => *bytes += read as u64,
            _ => arrivals.push((now, read as u64)),
        }
    }
    println!("{}", serde_json::to_string(&Arrivals(arrivals))?);
    Ok(())
}

/// `source STACK ADDRESS SECONDS`: sends for so long.
pub fn source(arguments: &[String]) -> Outcome<()> {
    let [stack, address, seconds] = arguments else { return Err("source STACK ADDRESS SECONDS".into()) };
    pin(0);
    let net = Stack::find(stack)?.start()?.ok_or("a stack, not frames alone")?;
    let connection = net.connect(SocketAddr::new(address.parse::<IpAddr>()?, PORT), &[], PATIENCE)?;
    let block = vec![b'x'; 128 * 1024];
    let end = clock() + Duration::from_secs(seconds.parse()?);
    while clock() < end {
        connection.write(&block, Some(PATIENCE))?.ok_or("nothing can be sent any more")?;
    }
    let reinjected = connection.reinjected_bytes();
    let alive = connection.subflows().into_iter().filter(|subflow| subflow.alive);
    let rtt_ms = alive.map(|subflow| f64::from(subflow.srtt_us) / 1e3).reduce(f64::max);
    connection.close_send();
    connection.wait_sent(|| false);
    println!("{}", serde_json::to_string(&Sent { reinjected, rtt_ms })?);
    Ok(())
}
