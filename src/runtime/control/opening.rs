//! How flows are opened: a way, its next hop, a local port, and the command to a worker.

use super::Control;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::mptcp::Path;
use crate::runtime::error::ConnectError;
use crate::runtime::handle::Opening;
use crate::runtime::network::NoWay;
use crate::runtime::openings::{RESOLVE_TIMEOUT, WAITING_MAX, Waiting, Wanted};
use crate::stack::{Command, ConnectOptions, StreamShared};
use crate::wire::Endpoint;
use crossbeam::channel::Sender;
use std::net::SocketAddr;
use std::sync::Arc;

impl Control {
    /// A connection is wanted: it waits for its next hop, be it known already.
    pub(super) fn begin_connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        options: ConnectOptions,
        timeout: Duration,
        reply: &Sender<Result<Opening, ConnectError>>,
    ) -> Result<(), ConnectError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(ConnectError::Busy);
        }
        let addr = remote.ip().to_canonical();
        let way = self.network.way_to(addr, None).map_err(|reason| match reason {
            NoWay::NoRoute => ConnectError::NoRoute { addr },
            NoWay::Local => ConnectError::LocalAddress { addr },
            NoWay::OtherNic(nic) => ConnectError::OtherNic { addr, nic },
        })?;
        if self.health.is_stalled(way.port) {
            return Err(ConnectError::NicStalled { remote, nic: self.network.name(way.port) });
        }
        let remote = SocketAddr::new(addr, remote.port());
        let deadline = now + timeout.min(RESOLVE_TIMEOUT);
        let wanted = Wanted::Connect { remote, options, reply: reply.clone() };
        self.network.use_next_hop(&way);
        self.waiting.push(Waiting { way, deadline, wanted });
        Ok(())
    }

    /// Opens what waited for its next hop, and gives up what waited too long.
    pub(super) fn progress(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.waiting);
        for waiting in waiting {
            match self.network.path(&waiting.way) {
                Some(path) => self.open(now, waiting, path),
                None if waiting.deadline <= now => self.give_up(now, waiting),
                None => self.waiting.push(waiting),
            }
        }
    }

    fn open(&mut self, now: Instant, waiting: Waiting, path: Path) {
        let local = waiting.way.source;
        match waiting.wanted {
            Wanted::Connect { remote, options, reply } => {
                self.departures.learn(now, remote.ip(), local, path);
                let worker = self.next_worker;
                self.next_worker = (worker + 1) % self.workers.len();
                let doorbell = Arc::clone(&self.workers[worker].handle.doorbell);
                let stream = StreamShared::with_tuning(doorbell, options.tuning);
                let opened = self.ports.open(local, Endpoint::from(remote), &stream);
                let opened =
                    opened.map_err(|source| ConnectError::LocalPort { remote, source }).map(|tuple| {
                        let opening = Opening { stream, tuple };
                        self.workers[worker].push(opening.command(path, options));
                        opening
                    });
                if let Err(unsent) = reply.send(opened) {
                    // Whoever asked has given up: the connection is closed as soon as it is open.
                    if let Ok(opening) = unsent.into_inner() {
                        opening.stream.abandon();
                    }
                }
            }
            Wanted::Join { connection: (worker, connection), remote, local_id, remote_id, backup } => {
                match self.ports.join(local, remote, (worker, connection)) {
                    Ok(tuple) => self.command(
                        worker,
                        Command::OpenSubflow { connection, tuple, path, local_id, remote_id, backup },
                    ),
                    Err(_) => self.manager.handle_open_failed(now, worker, connection, (local, remote)),
                }
            }
        }
    }

    fn give_up(&mut self, now: Instant, waiting: Waiting) {
        match waiting.wanted {
            Wanted::Connect { remote, reply, .. } => {
                let nic = self.network.name(waiting.way.port);
                let next_hop = waiting.way.next_hop;
                let _ = reply.send(Err(ConnectError::NoNeighbour { remote, next_hop, nic }));
            }
            Wanted::Join { connection: (worker, connection), remote, .. } => {
                let pair = (waiting.way.source, remote);
                self.manager.handle_open_failed(now, worker, connection, pair);
            }
        }
    }

    /// Keeps ports ready for those who open connections themselves.
    pub(super) fn stock_departures(&self) {
        for (addr, missing) in self.departures.missing() {
            for _ in 0..missing {
                // Where there is none any more, whoever asks for one hears why.
                let Ok(spare) = self.ports.spare(addr) else { break };
                if let Some(unwanted) = self.departures.stock(spare) {
                    self.ports.release(unwanted);
                }
            }
        }
    }
}
