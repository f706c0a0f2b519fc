//! AF_XDP on real veth pairs. Each test has a network namespace of its own, that of its thread: it ends with the thread,
//! and nothing is left behind.

use braid::base::{Frame, Instant, PoolCache, PortId, RxFrame, WorkerId};
use braid::port::{PinError, Port, Steering};
use braid::wire::{ChecksumMode, Endpoint, FourTuple};
use braid::xdp::probe::Answer;
use braid::xdp::{
    Mode, NicReport, Trial, Xdp, XdpConfig, XdpError, XdpPort, XdpSteering, ZeroCopy, probe_nic,
    try_zero_copy,
};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const OURS: u16 = 5201;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// Runs a test in a network namespace with a veth pair, `left` and `right`, of so many queues each. Without root it says that
/// it did not run.
fn with_pair(name: &str, queues: usize, test: fn()) {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED {name}: needs root");
    }
    let run = move || {
        unshare();
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        ip(&format!("link add left {queues} type veth peer name right {queues}"));
        ip("link set left up");
        ip("link set right up");
        test();
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

#[allow(unsafe_code)]
fn unshare() {
    // SAFETY: only this thread's network namespace changes; no other thread's file descriptors are concerned.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("root may");
}

fn ip(arguments: &str) {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn config(nic: &str, workers: usize) -> XdpConfig {
    XdpConfig {
        nics: vec![nic.to_owned()],
        workers,
        queues: None,
        frames: 4096,
        zero_copy: ZeroCopy::Prefer,
        checksum: ChecksumMode::Software,
    }
}

/// One host: its NIC, and what each of its workers holds.
struct Host {
    xdp: Xdp,
    workers: Vec<Worker>,
}

struct Worker {
    cache: PoolCache,
    ports: Vec<XdpPort>,
    steering: XdpSteering,
}

impl Host {
    fn open(nic: &str, workers: usize) -> Self {
        let mut xdp = Xdp::open(&config(nic, workers)).expect("root may, and the NIC is free");
        let workers = (0..workers as u16).map(|worker| Worker::take(&mut xdp, worker)).collect();
        Self { xdp, workers }
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.xdp.counters();
        counters.iter().find(|(counter, _)| *counter == name).expect("there is such a counter").1
    }
}

impl Worker {
    fn take(xdp: &mut Xdp, worker: u16) -> Self {
        let mut cache = PoolCache::new(Arc::clone(xdp.pool()));
        let io = xdp.take_worker(WorkerId(worker), &mut cache);
        Self { cache, ports: io.ports, steering: io.steering }
    }

    fn send(&mut self, packet: &[u8], offset: usize) {
        self.send_at(0, packet, offset);
    }

    fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.receive_at(0, count)
    }

    /// Sends `packet` from somewhere in a frame, as the stack does.
    fn send_at(&mut self, nic: usize, packet: &[u8], offset: usize) {
        let port = &mut self.ports[nic];
        let mut frame = self.cache.alloc().expect("the pool is not exhausted");
        let pool = Arc::clone(self.cache.pool_arc());
        pool.bytes_mut(&mut frame)[offset..offset + packet.len()].copy_from_slice(packet);
        let tx = pool.start_transmit(&frame, offset, packet.len());
        assert!(port.transmit_room(&mut self.cache) > 0);
        port.transmit(now(), tx, &mut self.cache);
        port.flush(now());
        self.cache.free(frame);
    }

    /// Waits for `count` packets, and gives back their bytes. Less than that is what came in two seconds.
    fn receive_at(&mut self, nic: usize, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for _ in 0..400 {
            self.ports[nic].receive(now(), 64, &mut self.cache, &mut frames);
            if frames.len() >= count {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let pool = Arc::clone(self.cache.pool_arc());
        let bytes =
            |rx: &RxFrame| pool.bytes(&rx.frame)[rx.offset.into()..usize::from(rx.offset + rx.len)].to_vec();
        let packets = frames.iter().map(bytes).collect();
        frames.into_iter().for_each(|rx| self.cache.free(rx.frame));
        packets
    }

    /// What is there already.
    fn receive_now(&mut self) -> usize {
        let mut frames = Vec::new();
        self.ports[0].receive(now(), 64, &mut self.cache, &mut frames);
        let count = frames.len();
        frames.into_iter().for_each(|rx| self.cache.free(rx.frame));
        count
    }

    fn wait_until_sent(&mut self) {
        for _ in 0..400 {
            self.ports[0].flush(now());
            self.ports[0].transmit_room(&mut self.cache);
            if self.ports[0].pending() == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{} transmissions do not complete", self.ports[0].pending());
    }
}

fn now() -> Instant {
    Instant::default()
}

/// A TCP segment to us, with its number as the payload.
fn segment(source: u16, destination: u16, number: u32) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    packet.extend([0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(CLIENT.octets());
    packet.extend(SERVER.octets());
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(number.to_be_bytes());
    packet.extend([0; 2]);
    packet
}

fn tuple(source: u16) -> FourTuple {
    FourTuple { local: Endpoint::new(SERVER.into(), OURS), remote: Endpoint::new(CLIENT.into(), source) }
}

#[test]
fn packets_arrive_whole_and_frames_come_back() {
    with_pair("packets_arrive_whole_and_frames_come_back", 1, || {
        let (mut server, mut client) = (Host::open("left", 1), Host::open("right", 1));
        server
            .xdp
            .steer_local(Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), OURS), false)
            .expect("there is room");
        let before = (server.xdp.pool().used(), client.xdp.pool().used());
        let (receiver, sender) = (&mut server.workers[0], &mut client.workers[0]);
        // More than the rings hold, so that each comes round; at offsets that are and are not at a frame's start.
        for round in 0..200 {
            for number in 0..64 {
                let offset = [0, 14, 256, 4000][number as usize % 4];
                sender.send(&segment(1000, OURS, round * 64 + number), offset);
            }
            let packets = receiver.receive(64);
            assert_eq!(packets.len(), 64, "round {round}");
            for (number, packet) in packets.iter().enumerate() {
                assert_eq!(packet, &segment(1000, OURS, round * 64 + number as u32));
            }
        }
        sender.wait_until_sent();
        assert_eq!(client.xdp.pool().used(), before.1, "the sender's frames came back");
        // What was received was given back, and has refilled the fill ring but for less than a batch.
        let used = server.xdp.pool().used();
        assert!(used <= before.0 && used + 64 > before.0, "{used} of {} frames in use", before.0);
        assert_eq!(server.counter("redirected-home"), 200 * 64);
    });
}

#[test]
fn only_what_is_steered_arrives() {
    with_pair("only_what_is_steered_arrives", 1, || {
        let (mut server, mut client) = (Host::open("left", 1), Host::open("right", 1));
        let local = Endpoint::new(SERVER.into(), OURS);
        client.workers[0].send(&segment(1, OURS, 1), 0);
        server.xdp.steer_local(local, false).expect("there is room");
        client.workers[0].send(&segment(1, OURS, 2), 0);
        client.workers[0].send(&segment(1, 22, 3), 0);
        server.xdp.unsteer_local(local);
        client.workers[0].send(&segment(1, OURS, 4), 0);
        assert_eq!(server.workers[0].receive(1), [segment(1, OURS, 2)]);
        assert_eq!(server.workers[0].receive_now(), 0);
        // The kernel's own packets (neighbour discovery) are among those that are passed, but not these.
        assert!(server.counter("passed-not-local") == 3 && server.counter("redirected-home") == 1);
        server.xdp.steer_local(local, true).expect("there is room");
        client.workers[0].send(&segment(1, OURS, 5), 0);
        assert_eq!(server.workers[0].receive_now(), 0);
        assert_eq!(server.counter("passed-plain-tcp"), 1);
    });
}

#[test]
fn home_and_guest_workers_both_receive_and_transmit() {
    with_pair("home_and_guest_workers_both_receive_and_transmit", 2, || {
        let (mut server, mut client) = (Host::open("left", 2), Host::open("right", 2));
        assert_eq!(server.xdp.ports()[0].queues, 2);
        server.xdp.steer_local(Endpoint::new(SERVER.into(), OURS), false).expect("there is room");
        // On veth a packet arrives at the queue that it was sent from; worker w of the client sends from queue w.
        for queue in 0..2 {
            client.workers[queue].send(&segment(10 + queue as u16, OURS, 0), 0);
            assert_eq!(
                server.workers[queue].receive(1),
                [segment(10 + queue as u16, OURS, 0)],
                "home {queue}"
            );
            assert_eq!(server.workers[1 - queue].receive_now(), 0);
        }
        // Pinned flows go to the other worker, a guest on the queue.
        for queue in 0..2u16 {
            let guest = 1 - queue;
            let source = 20 + queue;
            server.workers[0].steering.pin(tuple(source), WorkerId(guest)).expect("there is room");
            client.workers[usize::from(queue)].send(&segment(source, OURS, 1), 0);
            assert_eq!(
                server.workers[usize::from(guest)].receive(1),
                [segment(source, OURS, 1)],
                "guest {guest}"
            );
            assert_eq!(server.workers[usize::from(queue)].receive_now(), 0);
            server.workers[0].steering.unpin(tuple(source));
            client.workers[usize::from(queue)].send(&segment(source, OURS, 2), 0);
            assert_eq!(server.workers[usize::from(queue)].receive(1), [segment(source, OURS, 2)]);
        }
        // Three packets went to each worker, one of them at the other's home.
        for worker in &server.workers {
            assert_eq!(worker.ports[0].received_as_guest(), 1);
        }
        for worker in &mut client.workers {
            worker.wait_until_sent();
        }
    });
}

#[test]
fn every_worker_is_present_on_every_nic() {
    with_pair("every_worker_is_present_on_every_nic", 2, || {
        let both = XdpConfig { nics: vec!["left".to_owned(), "right".to_owned()], ..config("left", 3) };
        let mut xdp = Xdp::open(&both).expect("root may, and the NICs are free");
        xdp.steer_local(Endpoint::new(SERVER.into(), OURS), false).expect("there is room");
        let mut workers: Vec<_> = (0..3).map(|worker| Worker::take(&mut xdp, worker)).collect();
        for receiver in 0..3u16 {
            workers[0].steering.pin(tuple(receiver), WorkerId(receiver)).expect("there is room");
        }
        for (nic, other) in [(0, 1), (1, 0)] {
            for sender in 0..3 {
                for receiver in 0..3u16 {
                    let packet = segment(receiver, OURS, sender as u32);
                    workers[sender].send_at(nic, &packet, 100);
                    let received = workers[usize::from(receiver)].receive_at(other, 1);
                    assert_eq!(received, [packet], "{sender} to {receiver} from NIC {nic}");
                }
            }
        }
    });
}

#[test]
fn a_guest_lives_while_the_home_sleeps() {
    with_pair("a_guest_lives_while_the_home_sleeps", 1, || {
        let (mut server, mut client) = (Host::open("left", 2), Host::open("right", 2));
        server.xdp.steer_local(Endpoint::new(SERVER.into(), OURS), false).expect("there is room");
        server.workers[0].steering.pin(tuple(7), WorkerId(1)).expect("there is room");
        // Worker 0 is the home of the only queue, on both sides, and does nothing. The guests go through more packets
        // than all rings hold.
        for round in 0..200 {
            for number in 0..64 {
                client.workers[1].send(&segment(7, OURS, round * 64 + number), 0);
            }
            assert_eq!(server.workers[1].receive(64).len(), 64, "round {round}");
        }
        client.workers[1].wait_until_sent();
        assert_eq!(server.counter("redirected-flow"), 200 * 64);
        assert_eq!(server.workers[1].ports[0].received_as_guest(), 200 * 64);
    });
}

#[test]
fn a_full_ring_drops_and_counts() {
    with_pair("a_full_ring_drops_and_counts", 1, || {
        let mut host = Host::open("right", 1);
        let worker = &mut host.workers[0];
        let pool = Arc::clone(worker.cache.pool_arc());
        let before = pool.used();
        let frame = worker.cache.alloc().expect("the pool is not exhausted");
        let room = worker.ports[0].transmit_room(&mut worker.cache);
        assert!(room > 0);
        for _ in 0..room + 3 {
            let tx = pool.start_transmit(&frame, 0, 60);
            worker.ports[0].transmit(now(), tx, &mut worker.cache);
        }
        assert_eq!((worker.ports[0].pending(), worker.ports[0].dropped()), (room, 3));
        worker.wait_until_sent();
        assert!(!pool.in_flight(&frame), "completed as often as it was sent");
        worker.cache.free(frame);
        assert_eq!(pool.used(), before);
    });
}

#[test]
fn a_link_that_is_down_loses_packets_but_no_frames() {
    with_pair("a_link_that_is_down_loses_packets_but_no_frames", 1, || {
        let mut host = Host::open("right", 1);
        let before = host.xdp.pool().used();
        ip("link set left down");
        for number in 0..100 {
            host.workers[0].send(&segment(1, 2, number), 0);
        }
        host.workers[0].wait_until_sent();
        ip("link set right down");
        for number in 0..100 {
            host.workers[0].send(&segment(1, 2, number), 0);
        }
        ip("link set right up");
        ip("link set left up");
        host.workers[0].wait_until_sent();
        assert_eq!(host.xdp.pool().used(), before);
    });
}

#[test]
fn zero_copy_is_refused_and_switched_off_in_words() {
    with_pair("zero_copy_is_refused_and_switched_off_in_words", 2, || {
        let opened = |zero_copy| Xdp::open(&XdpConfig { zero_copy, ..config("left", 1) });
        let error = opened(ZeroCopy::Require).expect_err("veth has none");
        assert!(
            matches!(&error, XdpError::ZeroCopyRefused(why) if why.nic.as_deref() == Some("left")),
            "{error}"
        );
        for words in ["left cannot", "veth has no zero-copy", "newer kernel", "--zero-copy prefer"] {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
        assert_eq!(probe_nic("left").expect("it is there").xdp_attached, None, "nothing stays attached");
        let xdp = opened(ZeroCopy::Off).expect("root may, and the NIC is free");
        let mode = &xdp.ports()[0].mode;
        assert!(matches!(mode, Mode::Copy(why) if why.reason == "switched off"), "{mode:?}");
    });
}

#[test]
fn a_trial_of_zero_copy_tells_what_the_kernel_answers_and_leaves_the_nic_as_it_was() {
    with_pair("a_trial_of_zero_copy_tells_what_the_kernel_answers_and_leaves_the_nic_as_it_was", 2, || {
        let nic = probe_nic("left").expect("it is there");
        let Trial::Refused(why) = try_zero_copy(&nic) else { panic!("veth says that it has none") };
        assert_eq!((why.queue, why.reason.as_str()), (None, "driver veth has no zero-copy"));
        // A driver that does not say so is asked.
        let silent = NicReport { zero_copy: Answer::Unknown, ..nic };
        let Trial::Refused(why) = try_zero_copy(&silent) else { panic!("veth has none") };
        assert_eq!(why.queue, Some(0));
        assert!(why.reason.contains("queue 0") && why.reason.contains("EOPNOTSUPP"), "{why:?}");

        let xdp = Xdp::open(&config("left", 1)).expect("a trial leaves the queues free");
        let in_use = NicReport { zero_copy: Answer::Unknown, ..probe_nic("left").expect("it is there") };
        let Trial::NotTried(why) = try_zero_copy(&in_use) else { panic!("nobody may be disturbed") };
        assert!(why.contains("XDP program"), "{why}");
        drop(xdp);
    });
}

#[test]
fn a_nic_is_opened_once_and_released_completely() {
    with_pair("a_nic_is_opened_once_and_released_completely", 1, || {
        let first = Xdp::open(&config("left", 1)).expect("root may, and the NIC is free");
        let port = &first.ports()[0];
        assert_eq!((port.id, port.driver.as_str(), port.native, port.queues), (PortId(0), "veth", true, 1));
        assert!(matches!(&port.mode, Mode::Copy(why) if why.reason.contains("veth")), "{:?}", port.mode);
        assert_eq!(port.mac, probe_nic("left").expect("it is there").mac);
        let attached = probe_nic("left").expect("it is there").xdp_attached;
        assert!(attached.is_some());

        let error = Xdp::open(&config("left", 1)).expect_err("it is in use");
        let program = attached.expect("checked above");
        assert!(matches!(error, XdpError::ProgramAttached { program: Some(id), .. } if id == program));
        assert!(error.to_string().contains("ip link show dev left"), "{error}");

        drop(first);
        assert_eq!(probe_nic("left").expect("it is there").xdp_attached, None);
        for _ in 0..3 {
            Xdp::open(&config("left", 1)).expect("it was released");
        }
        assert_eq!(probe_nic("left").expect("it is there").xdp_attached, None);
    });
}

#[test]
fn a_failure_on_the_second_nic_releases_the_first() {
    with_pair("a_failure_on_the_second_nic_releases_the_first", 1, || {
        let held = Xdp::open(&config("right", 1)).expect("root may, and the NIC is free");
        let both = XdpConfig { nics: vec!["left".to_owned(), "right".to_owned()], ..config("left", 1) };
        let error = Xdp::open(&both).expect_err("right is in use");
        assert!(matches!(&error, XdpError::ProgramAttached { name, .. } if name == "right"), "{error}");
        assert_eq!(probe_nic("left").expect("it is there").xdp_attached, None);
        drop(held);
        let xdp = Xdp::open(&both).expect("both are free");
        assert_eq!(xdp.ports().iter().map(|port| port.id).collect::<Vec<_>>(), [PortId(0), PortId(1)]);
    });
}

#[test]
fn the_flow_map_is_full_at_its_limit_and_takes_more_after_an_unpin() {
    with_pair("the_flow_map_is_full_at_its_limit_and_takes_more_after_an_unpin", 1, || {
        let mut host = Host::open("left", 1);
        let steering = &mut host.workers[0].steering;
        let numbered = |number: u32| FourTuple {
            remote: Endpoint::new(Ipv4Addr::from(0x0b00_0000 + (number >> 8)).into(), number as u16 & 0xff),
            ..tuple(0)
        };
        let mut pinned = 0;
        let error = loop {
            match steering.pin(numbered(pinned), WorkerId(0)) {
                Ok(()) => pinned += 1,
                Err(error) => break error,
            }
            assert!(pinned <= 65536, "there is a limit");
        };
        assert_eq!((error, pinned), (PinError::Full, 65536));
        assert_eq!(steering.pin(numbered(5), WorkerId(0)), Ok(()), "one that is in it already");
        steering.unpin(numbered(5));
        assert_eq!(steering.pin(numbered(pinned), WorkerId(0)), Ok(()));
    });
}

#[test]
fn capabilities_that_are_missing_are_named() {
    with_pair("capabilities_that_are_missing_are_named", 1, || {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None).expect("one's own can be read");
        sets.effective.remove(CapabilitySet::NET_RAW | CapabilitySet::BPF | CapabilitySet::SYS_ADMIN);
        set_capabilities(None, sets).expect("fewer are always allowed");
        let error = Xdp::open(&config("left", 1)).expect_err("not allowed");
        let XdpError::NoPrivilege { missing, .. } = &error else { panic!("{error}") };
        assert_eq!(missing, &["CAP_NET_RAW", "CAP_BPF"]);
    });
}

#[test]
fn a_pool_too_small_for_its_rings_still_moves_packets() {
    with_pair("a_pool_too_small_for_its_rings_still_moves_packets", 1, || {
        let mut xdp = Xdp::open(&XdpConfig { frames: 256, ..config("left", 1) }).expect("small, but enough");
        let mut receiver = Worker::take(&mut xdp, 0);
        assert!(xdp.pool().used() <= 128, "at most half waits for packets");
        xdp.steer_local(Endpoint::new(SERVER.into(), OURS), false).expect("there is room");
        // Hold all other frames: the pool is exhausted, what is in the fill ring is all there is.
        let held: Vec<Frame> = std::iter::from_fn(|| receiver.cache.alloc()).collect();
        let mut client = Host::open("right", 1);
        for round in 0..100 {
            client.workers[0].send(&segment(1, OURS, round), 0);
            assert_eq!(receiver.receive(1), [segment(1, OURS, round)], "round {round}");
        }
        held.into_iter().for_each(|frame| receiver.cache.free(frame));
    });
}
