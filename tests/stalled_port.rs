//! A worker over a NIC that takes packets and gives no frame back: nothing waits for room that never comes.

use braid::base::time::Duration;
use braid::base::{FramePool, Instant, PoolCache, PortId, WorkerId};
use braid::mptcp::Path;
use braid::port::Port;
use braid::sim::port::{RingSizes, SimPort, SimSteering};
use braid::stack::stream::Wake;
use braid::stack::{Command, ConnectOptions, Report, StreamShared};
use braid::wire::{Endpoint, FourTuple, LinkHeader, MacAddr};
use braid::worker::{Worker, WorkerConfig, WorkerHandle};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What the NIC's ring takes.
const RING: usize = 4;
/// Connections that are opened: more than that.
const CONNECTIONS: u16 = 10;
const PORT: PortId = PortId(0);
const USUALLY: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct NobodySleeps;

impl Wake for NobodySleeps {
    fn wake(&self) {}
}

struct Bench {
    worker: Worker<SimPort, SimSteering>,
    handle: WorkerHandle,
    now: Instant,
}

impl Bench {
    /// A worker whose only NIC gives nothing back, and that opens connections.
    fn new() -> Self {
        let mut cache = PoolCache::new(FramePool::new_heap(256));
        let mut port = SimPort::new(PORT, RingSizes { fill: 8, transmit: RING }, &mut cache);
        port.stop_completions();
        let handle = WorkerHandle::new(Box::new(NobodySleeps));
        let config = WorkerConfig::new(WorkerId(0), 1, 7);
        let worker = Worker::new(config, vec![port], SimSteering::new(64), cache, handle.clone());
        let bench = Self { worker, handle, now: Instant::from_millis(1) };
        for number in 0..CONNECTIONS {
            let end = |host, port| Endpoint::new(Ipv4Addr::new(10, 0, 0, host).into(), port);
            let link = LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([4; 6]), vlan: None };
            let command = Command::Connect {
                tuple: FourTuple { local: end(1, 1000 + number), remote: end(2, 80) },
                path: Path { port: PORT, link, mtu: 1500 },
                options: ConnectOptions::default(),
                stream: StreamShared::new(Arc::clone(&bench.handle.doorbell)),
            };
            bench.handle.command(command).expect("there is room");
        }
        bench
    }

    /// Lets `span` pass, a turn each millisecond; the NIC reads what it gets. Gives what the worker said of it.
    fn pass(&mut self, span: Duration) -> Vec<bool> {
        let end = self.now + span;
        let mut told = Vec::new();
        while self.now < end {
            self.worker.turn(self.now);
            while let Some(tx) = self.worker.ports_mut()[0].take_transmitted() {
                for frame in tx {
                    self.worker.ports_mut()[0].complete(frame.index);
                }
            }
            while let Some(report) = self.handle.reports.pop() {
                if let Report::PortStalled { port: PORT, stalled } = report {
                    told.push(stalled);
                }
            }
            self.now += Duration::from_millis(1);
        }
        told
    }

    fn pending(&self) -> usize {
        self.worker.ports()[0].pending()
    }
}

#[test]
fn what_waits_for_room_at_a_dead_nic_is_lost_instead() {
    let mut bench = Bench::new();
    assert!(bench.pass(Duration::from_millis(900)).is_empty(), "it may be only slow");
    assert_eq!((bench.pending(), bench.worker.lost()), (RING, 0));
    assert!(!bench.worker.is_quiet(), "SYNs wait for room");
    assert_eq!(bench.worker.reclaim_within(USUALLY), Some(USUALLY));

    assert_eq!(bench.pass(Duration::from_millis(600)), [true]);
    assert!(bench.worker.lost() >= u64::from(CONNECTIONS) - RING as u64, "{}", bench.worker.lost());
    assert!(bench.worker.is_quiet(), "nothing waits any more");
    assert_eq!(bench.pending(), RING, "and no further frame went in");
    let seldom = bench.worker.reclaim_within(USUALLY).expect("what it holds may come back");
    assert!(seldom > USUALLY, "nobody looks a thousand times a second");
}

#[test]
fn a_nic_that_gives_frames_back_is_used_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.pass(Duration::from_millis(1_500)), [true]);
    bench.worker.ports_mut()[0].resume_completions();
    assert_eq!(bench.pass(Duration::from_millis(2)), [false]);
    let lost = bench.worker.lost();
    // SYNs are sent again, at the latest after a few seconds.
    let before = bench.worker.ports()[0].counters().transmitted;
    bench.pass(Duration::from_secs(4));
    assert!(bench.worker.ports()[0].counters().transmitted > before);
    assert_eq!((bench.worker.lost(), bench.pending()), (lost, 0));
}

#[test]
fn a_link_that_comes_up_starts_anew() {
    let mut bench = Bench::new();
    assert_eq!(bench.pass(Duration::from_millis(1_500)), [true]);
    bench.handle.command(Command::PortState { port: PORT, up: true }).expect("there is room");
    assert_eq!(bench.pass(Duration::from_millis(2)), [false], "control hears that it is forgiven");
    bench.worker.ports_mut()[0].resume_completions();
    let before = bench.worker.ports()[0].counters().transmitted;
    assert!(bench.pass(Duration::from_secs(4)).is_empty());
    assert!(bench.worker.ports()[0].counters().transmitted > before);
}
