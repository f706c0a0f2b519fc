//! Bulk data from one worker of ours to another. What carries packets in between is no part of the figures.

use super::memory::{Host, carry, path, timed};
use super::{Case, Cost, WINDOW};
use braid::base::pool::TX_HEADROOM;
use braid::base::time::Duration;
use braid::base::{Chunk, Instant, RxFrame};
use braid::mptcp::ConnectOptions;
use braid::stack::message::{Command, Report};
use braid::stack::{AcceptQueue, ListenOptions, ListenerId, StreamShared};
use braid::wire::mptcp::AddressId;
use braid::wire::{ChecksumMode, Endpoint, FourTuple, checksum};
use std::collections::VecDeque;
use std::sync::Arc;

/// Virtual time that passes between turns: far less than a time-out, and long enough that pacing holds nothing back.
const STEP: Duration = Duration::from_micros(20);
/// And between two turns of the receiver.
const BETWEEN: Duration = Duration::from_nanos(100);
/// Turns without a data segment after which something is wrong.
const SILENCE: usize = 100_000;
const PORT: u16 = 80;
/// Longer than any ACK.
const ACK_LEN_MAX: u16 = 150;

struct Bench {
    case: Case,
    now: Instant,
    client: Host,
    server: Host,
    to_server: VecDeque<RxFrame>,
    to_client: Vec<RxFrame>,
    sender: Arc<StreamShared>,
    receiver: Option<Arc<StreamShared>>,
    accept: Arc<AcceptQueue>,
    /// Chunks that the application has filled.
    written: Vec<Chunk>,
    cost: Cost,
}

/// A run of bulk data over plain TCP, or over MPTCP with so many subflows; it goes on with every call.
pub fn run(case: Case, subflows: usize) -> Result<impl FnMut(u64) -> Result<Cost, String>, String> {
    let mut bench = Bench::new(case, subflows)?;
    Ok(move |segments| {
        bench.cost = Cost::default();
        let mut silent = 0;
        while bench.cost.segments < segments {
            let before = bench.cost.segments;
            bench.turn();
            silent = if bench.cost.segments == before { silent + 1 } else { 0 };
            if silent > SILENCE {
                return Err(format!("{case:?}: nothing moves after {} segments", bench.cost.segments));
            }
        }
        Ok(bench.cost)
    })
}

impl Bench {
    fn new(case: Case, subflows: usize) -> Result<Self, String> {
        let checksum = if case.checksum { ChecksumMode::Software } else { ChecksumMode::Off };
        let client = Host::new(1, checksum, case.mtu, 1);
        let server = Host::new(2, checksum, case.mtu, 1);
        let sender = StreamShared::new(Arc::clone(&client.handle.doorbell));
        let accept = AcceptQueue::new(1);
        let options = ConnectOptions {
            mptcp: subflows > 0,
            receive_buffer: WINDOW,
            send_buffer: WINDOW,
            ..ConnectOptions::default()
        };
        server.command(Command::Listen {
            id: ListenerId(1),
            port: PORT,
            addr: None,
            options: ListenOptions { connection: options },
            accept: Arc::clone(&accept),
        })?;
        let path = path(case.mtu);
        let tuple = |number: usize| FourTuple {
            local: Endpoint::new([10, 0, 0, 1].into(), 40_000 + number as u16),
            remote: Endpoint::new([10, 0, 0, 2].into(), PORT),
        };
        let stream = Arc::clone(&sender);
        client.command(Command::Connect { tuple: tuple(0), path, options, stream })?;
        let mut bench = Self {
            case,
            now: Instant::from_millis(1000),
            client,
            server,
            to_server: VecDeque::new(),
            to_client: Vec::new(),
            sender,
            receiver: None,
            accept,
            written: Vec::new(),
            cost: Cost::default(),
        };
        bench.join(subflows, |connection, number| Command::OpenSubflow {
            connection,
            tuple: tuple(number),
            path,
            local_id: AddressId(0),
            remote_id: AddressId(0),
            backup: false,
        })?;
        Ok(bench)
    }

    /// Carries data until all subflows are there.
    fn join(
        &mut self,
        subflows: usize,
        open: impl Fn(braid::stack::message::ConnectionId, usize) -> Command,
    ) -> Result<(), String> {
        let mut missing = subflows.saturating_sub(1);
        for _ in 0..10_000 {
            self.turn();
            while let Some(report) = self.client.handle.reports.pop() {
                match report {
                    Report::JoinsAllowed { connection } => {
                        (1..subflows).try_for_each(|number| self.client.command(open(connection, number)))?;
                    }
                    Report::SubflowEstablished { .. } => missing -= 1,
                    _ => {}
                }
            }
            while self.server.handle.reports.pop().is_some() {}
            if missing == 0 && self.cost.segments > 0 {
                let agreed = self.sender.fallback() == Some(None);
                return if agreed == (subflows > 0) { Ok(()) } else { Err("MPTCP was not agreed".into()) };
            }
        }
        Err(format!("{missing} of {subflows} subflows have not come about"))
    }

    fn turn(&mut self) {
        self.now += STEP;
        self.write_room();
        timed(&mut self.cost.sender_ns, || self.client.worker.turn(self.now));
        self.carry_down();
        while !self.to_server.is_empty() {
            for _ in 0..self.case.batch {
                let Some(packet) = self.to_server.pop_front() else { break };
                self.server.port().deliver(packet);
            }
            // Time passes: what comes in another turn is not of the same run.
            self.now += BETWEEN;
            timed(&mut self.cost.receiver_ns, || self.server.worker.turn(self.now));
            self.read();
        }
        self.carry_up();
    }

    /// The application writes as much as there is room for.
    fn write_room(&mut self) {
        let len = self.sender.chunk_len();
        while self.written.len() < self.sender.push_room() {
            let Some(frame) = self.client.cache.alloc() else { break };
            self.written.push(Chunk::new(frame, TX_HEADROOM, len));
        }
        if self.case.checksum {
            let pool = self.client.cache.pool();
            timed(&mut self.cost.sender_ns, || {
                self.written.iter_mut().for_each(|chunk| chunk.set_sum(checksum::sum(0, pool.chunk(chunk))));
            });
        }
        for chunk in self.written.drain(..) {
            if let Err(refused) = self.sender.push(chunk) {
                self.client.cache.free_chunk(refused);
            }
        }
        self.sender.ring();
    }

    /// The application takes what has come.
    fn read(&mut self) {
        if self.receiver.is_none() {
            self.receiver = self.accept.pop();
        }
        let Some(receiver) = &self.receiver else { return };
        while let Some(chunk) = receiver.pop() {
            self.cost.payload_bytes += chunk.len() as u64;
            self.server.cache.free_chunk(chunk);
        }
    }

    fn carry_down(&mut self) {
        let Self { client, server, to_server, cost, .. } = self;
        carry(client, &mut server.cache, |packet| {
            cost.segments += u64::from(packet.len > ACK_LEN_MAX);
            to_server.push_back(packet);
        });
    }

    fn carry_up(&mut self) {
        let Self { client, server, to_client, cost, .. } = self;
        carry(server, &mut client.cache, |packet| to_client.push(packet));
        cost.acks += to_client.len() as u64;
        to_client.drain(..).for_each(|packet| client.port().deliver(packet));
    }
}
