//! What the workers of both ends have seen of a transfer, as `braid ctl workers` tells it.

use crate::common::{Outcome, done};
use crate::transfer::braid;
use serde_json::{Value, json};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// When to ask, of the time that a transfer takes. Afterwards the programs are gone.
const MOMENT: f64 = 0.8;

/// What one worker has seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Connections at most, of several moments.
    connections: u64,
    received: u64,
    as_guest: u64,
    strays: u64,
}

/// What the workers of one end have seen, in their order.
#[derive(Debug, Default)]
pub struct End(Vec<Seen>);

/// Both.
#[derive(Debug, Default)]
pub struct Ends {
    pub client: End,
    pub server: End,
}

impl Ends {
    /// Adds what was seen at another time.
    pub fn add(&mut self, other: &Ends) {
        self.client.add(&other.client);
        self.server.add(&other.server);
    }
}

impl End {
    fn add(&mut self, other: &End) {
        let len = self.0.len().max(other.0.len());
        self.0.resize(len, Seen::default());
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            let Seen { connections, received, as_guest, strays } = *more;
            own.connections = own.connections.max(connections);
            own.received += received;
            own.as_guest += as_guest;
            own.strays += strays;
        }
    }

    fn sum(&self, of: fn(&Seen) -> u64) -> u64 {
        self.0.iter().map(of).sum()
    }

    /// How many of the frames came to a queue whose home is another worker.
    pub fn guest_share(&self) -> f64 {
        self.sum(|seen| seen.as_guest) as f64 / self.sum(|seen| seen.received).max(1) as f64
    }

    /// Segments that came to a worker which knows no connection of theirs.
    pub fn strays(&self) -> u64 {
        self.sum(|seen| seen.strays)
    }

    /// A list, an object for each worker.
    pub fn document(&self) -> Value {
        let one = |seen: &Seen| {
            let Seen { connections, received, as_guest, strays } = seen;
            json!({
                "connections": connections, "frames_received": received, "frames_received_as_guest": as_guest,
                "stray_segments": strays,
            })
        };
        self.0.iter().map(one).collect()
    }
}

/// Asks both programs shortly before a transfer of so many seconds ends.
pub fn look(client: u32, server: u32, seconds: u64) -> Outcome<Ends> {
    thread::sleep(Duration::from_secs(seconds).mul_f64(MOMENT));
    Ok(Ends { client: ask(client)?, server: ask(server)? })
}

fn ask(process: u32) -> Outcome<End> {
    let process = process.to_string();
    let answer = done(Command::new(braid()).args(["ctl", "--pid", &process, "workers", "-j"]))?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let workers = answer.as_array().ok_or("braid ctl workers tells no list")?;
    let one = |worker: &Value| {
        let figure =
            |name: &str| worker[name].as_u64().ok_or_else(|| format!("a worker does not tell {name}"));
        Ok(Seen {
            connections: figure("connections")?,
            received: figure("frames_received")?,
            as_guest: figure("frames_received_as_guest")?,
            strays: figure("stray_segments")?,
        })
    };
    Ok(End(workers.iter().map(one).collect::<Outcome<_>>()?))
}
