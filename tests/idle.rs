//! What an idle connection costs in memory: two stacks in one process open many connections to each other, each asks and
//! answers once, and then rests. The figure is what the process has grown by, a connection and end: the connection, its
//! tables, its rings, and what the allocator adds.
//!
//! `BRAID_IDLE=100000` opens so many.

use braid::base::pool::{RX_HEADROOM, TX_HEADROOM};
use braid::base::time::Duration;
use braid::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame, WorkerId};
use braid::mptcp::{ConnectOptions, Path};
use braid::stack::message::Command as StackCommand;
use braid::stack::stream::{Doorbell, Wake};
use braid::stack::{AcceptQueue, ListenOptions, ListenerId, PortConfig, Stack, StackConfig, StreamShared};
use braid::tcp::TcpConfig;
use braid::wire::{ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr};
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

/// Connections, unless the environment says otherwise.
const CONNECTIONS: usize = 10_000;
/// Connections that are opened at a time.
const BATCH: usize = 100;
/// What one may cost at one end. A million then take less than 2.5 GiB.
const BYTES_MAX: usize = 2048;

#[derive(Debug)]
struct NobodySleeps;
impl Wake for NobodySleeps {
    fn wake(&self) {}
}

struct Host {
    stack: Stack,
    cache: PoolCache,
    doorbell: Arc<Doorbell>,
    streams: Vec<Arc<StreamShared>>,
}

impl Host {
    fn new(number: u64, connections: usize) -> Self {
        let doorbell = Arc::new(Doorbell::new(1024, Box::new(NobodySleeps)));
        let config = StackConfig {
            worker: WorkerId(0),
            workers: 1,
            seed: number,
            max_connections: connections,
            tcp: TcpConfig::default(),
            ports: vec![PortConfig { checksum: ChecksumMode::Software, mtu: 1500 }],
        };
        let stack = Stack::new(config, Arc::clone(&doorbell));
        let cache = PoolCache::new(FramePool::new_heap(2048));
        Self { stack, cache, doorbell, streams: Vec::with_capacity(connections) }
    }

    /// Takes what has arrived; gives what it sends.
    fn turn(&mut self, now: Instant, arrived: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        for bytes in arrived {
            let mut frame = self.cache.alloc().expect("a frame");
            let pool = Arc::clone(self.cache.pool_arc());
            pool.bytes_mut(&mut frame)[RX_HEADROOM..RX_HEADROOM + bytes.len()].copy_from_slice(&bytes);
            let received =
                RxFrame { frame, offset: RX_HEADROOM as u16, len: bytes.len() as u16, more: false };
            self.stack.handle_frame(now, PortId(0), received, &mut self.cache);
        }
        self.stack.handle_timeout(now, &mut self.cache);
        self.stack.handle_doorbell();
        self.stack.settle(now, &mut self.cache);
        while self.stack.poll_report().is_some() {}
        let mut sent = Vec::new();
        while let Some((_, packet)) = self.stack.poll_transmit(now, &[64], &mut self.cache) {
            sent.push(self.cache.pool().tx_bytes(&packet).to_vec());
            self.cache.complete(packet.index);
        }
        sent
    }

    /// Writes a hundred bytes to each of the last connections.
    fn write(&mut self, last: usize) {
        let first = self.streams.len() - last;
        for stream in &self.streams[first..] {
            let frame = self.cache.alloc().expect("a frame");
            stream.push(Chunk::new(frame, TX_HEADROOM, 100)).expect("room");
            stream.ring();
        }
    }

    /// Reads all that came on the last connections.
    fn read(&mut self, last: usize) {
        let first = self.streams.len() - last;
        for stream in &self.streams[first..] {
            let chunk = stream.pop().expect("a hundred bytes");
            assert_eq!((chunk.len(), stream.pop().is_none()), (100, true));
            self.cache.free_chunk(chunk);
        }
    }
}

/// Carries packets between the two for so long.
fn run(now: &mut Instant, hosts: &mut [Host; 2], ms: u64) {
    let [a, b] = hosts;
    let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
    for _ in 0..ms {
        let (from_a, from_b) = (a.turn(*now, to_a), b.turn(*now, to_b));
        (to_a, to_b) = (from_b, from_a);
        *now += Duration::from_millis(1);
    }
}

/// Bytes of memory that the process has in use.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Opens so many connections; what each costs at one end.
fn cost(count: usize, mptcp: bool) -> usize {
    let options = ConnectOptions { mptcp, ..ConnectOptions::default() };
    // A day: what is written down of a time grows with it.
    let mut now = Instant::from_millis(86_400_000);
    let mut hosts = [Host::new(1, count), Host::new(2, count)];
    let accept = AcceptQueue::new(2 * BATCH);
    let listen = StackCommand::Listen {
        id: ListenerId(1),
        port: 80,
        addr: None,
        options: ListenOptions { connection: options },
        accept: Arc::clone(&accept),
    };
    let [client, server] = &mut hosts;
    server.stack.handle_command(now, listen, &mut server.cache);
    // Every frame is touched once, so that the pool is not counted.
    for host in [client, server] {
        let frames: Vec<_> = std::iter::from_fn(|| host.cache.alloc()).collect();
        frames.into_iter().for_each(|mut frame| {
            host.cache.pool().bytes_mut(&mut frame).fill(1);
            host.cache.free(frame);
        });
    }
    let before = resident();
    let link = LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    for first in (0..count).step_by(BATCH) {
        for number in first..first + BATCH {
            let client = &mut hosts[0];
            let stream = StreamShared::new(Arc::clone(&client.doorbell));
            let addr = IpAddr::from([10, 0, (number / 10_000) as u8, 1]);
            let tuple = FourTuple {
                local: Endpoint::new(addr, 1024 + (number % 10_000) as u16),
                remote: Endpoint::new([10, 9, 9, 9].into(), 80),
            };
            let path = Path { port: PortId(0), link, mtu: 1500 };
            let command = StackCommand::Connect { tuple, path, options, stream: Arc::clone(&stream) };
            client.stack.handle_command(now, command, &mut client.cache);
            client.streams.push(stream);
        }
        run(&mut now, &mut hosts, 4);
        while let Some(stream) = accept.pop() {
            assert_eq!(stream.fallback() == Some(None), mptcp);
            hosts[1].streams.push(stream);
        }
        assert_eq!(hosts[1].streams.len(), first + BATCH, "all are accepted");
        for asking in [0, 1] {
            hosts[asking].write(BATCH);
            run(&mut now, &mut hosts, 4);
            hosts[1 - asking].read(BATCH);
        }
        // A thousand a second: the others rest by then.
        run(&mut now, &mut hosts, 90);
    }
    // Delayed acknowledgments, the last figures, and the second after which they are put to sleep.
    run(&mut now, &mut hosts, 2500);
    assert!(hosts.iter().all(|host| host.stack.asleep_count() == count), "all rest");
    let grown = resident().saturating_sub(before);
    let [client, server] = &hosts;
    assert_eq!((client.stack.connection_count(), server.stack.connection_count()), (count, count));
    grown / (2 * count)
}

/// Says which kind a process of its own is to measure: what one leaves in the allocator would hide what the next takes.
const KIND: &str = "BRAID_IDLE_KIND";

/// Measures one kind in this process, where another asks for it.
#[test]
fn one_kind() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let count = std::env::var("BRAID_IDLE").map_or(CONNECTIONS, |text| text.parse().expect("a number"));
    println!("bytes: {}", cost(count, kind == "MPTCP"));
}

#[test]
fn an_idle_connection_is_small() {
    let mut each = Vec::new();
    for kind in ["TCP", "MPTCP"] {
        let test = Command::new(std::env::current_exe().expect("a path"))
            .args(["one_kind", "--exact", "--nocapture"])
            .env(KIND, kind)
            .output()
            .expect("this test runs again");
        let said = String::from_utf8_lossy(&test.stdout);
        let bytes = said.lines().find_map(|line| line.split("bytes: ").nth(1));
        let bytes: usize = bytes.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_else(|| {
            panic!("{kind}: {said}{}", String::from_utf8_lossy(&test.stderr));
        });
        let million = bytes as f64 * 1e6 / f64::from(1 << 30);
        println!("idle: {kind}: {bytes} bytes a connection; a million take {million:.2} GiB");
        each.push(bytes);
    }
    println!(
        "sizes: Connection {}, Tcb {}, StreamShared {}",
        size_of::<braid::mptcp::Connection>(),
        size_of::<braid::tcp::Tcb>(),
        size_of::<StreamShared>(),
    );
    assert!(each.iter().all(|bytes| *bytes <= BYTES_MAX), "{each:?} bytes");
}
