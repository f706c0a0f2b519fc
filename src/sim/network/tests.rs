use super::*;
use crate::base::PoolCache;
use crate::port::Port;
use crate::sim::port::{RingSizes, SimPort};

/// Two hosts with a NIC each, without a stack.
struct Bench {
    network: Network,
    events: EventHeap<NetworkEvent>,
    caches: Vec<PoolCache>,
    ports: Vec<SimPort>,
    arrived: Vec<(Instant, u8)>,
    rewritten: usize,
}

impl Bench {
    fn new(a_to_b: PipeConfig, completion_delay: Duration) -> Self {
        let nic = |host| Nic { host: HostId(host), port: PortId(0) };
        let b_to_a = a_to_b.clone();
        let link = Link {
            a: nic(0),
            b: nic(1),
            a_to_b,
            b_to_a,
            middlebox: Middlebox::None,
            attacks: 0.0,
            completion_delay,
        };
        let mut caches: Vec<_> = (0..2).map(|_| PoolCache::new(FramePool::new_heap(512))).collect();
        let ports =
            caches.iter_mut().map(|cache| SimPort::new(PortId(0), RingSizes::default(), cache)).collect();
        let network = Network::new(&[link], Prng::new(9));
        Self { network, events: EventHeap::default(), caches, ports, arrived: Vec::new(), rewritten: 0 }
    }

    fn send(&mut self, byte: u8) -> u32 {
        let cache = &mut self.caches[0];
        let mut frame = cache.alloc().expect("free");
        let index = frame.index();
        cache.pool_arc().clone().bytes_mut(&mut frame)[..1000].fill(byte);
        let tx = cache.pool().start_transmit(&frame, 0, 1000);
        cache.free(frame);
        self.ports[0].transmit(Instant::ZERO, tx, cache);
        let nic = Nic { host: HostId(0), port: PortId(0) };
        while let Some(tx) = self.ports[0].take_transmitted() {
            self.network.transmit(Instant::ZERO, nic, tx, self.caches[0].pool(), &mut self.events);
        }
        index
    }

    fn run(&mut self) {
        while let Some((now, event)) = self.events.pop() {
            match event {
                NetworkEvent::LineFree(pipe) => {
                    let pool = self.caches[self.network.source(pipe).host.0].pool();
                    self.network.handle_line_free(now, pipe, pool, &mut self.events);
                }
                NetworkEvent::Released(pipe) => self.network.handle_released(now, pipe, &mut self.events),
                NetworkEvent::Completed { nic, tx } => {
                    self.rewritten += usize::from(!tx.is_untouched(self.caches[nic.host.0].pool()));
                    for frame in &tx.tx {
                        self.ports[nic.host.0].complete(frame.index);
                    }
                }
                NetworkEvent::Arrived { pipe, packet, damaged: _ } => {
                    let host = self.network.destination(pipe).host.0;
                    self.ports[host].deliver(&packet);
                    let mut frames = Vec::new();
                    self.ports[host].receive(now, 64, &mut self.caches[host], &mut frames);
                    for rx in frames {
                        let byte = self.caches[host].pool().bytes(&rx.frame)[rx.offset as usize + 999];
                        self.arrived.push((now, byte));
                        self.caches[host].free(rx.frame);
                    }
                }
            }
        }
    }
}

#[test]
fn packets_cross_a_link_in_order_and_every_frame_comes_back() {
    let mut bench = Bench::new(PipeConfig::default(), Duration::from_micros(200));
    for byte in 0..50 {
        bench.send(byte);
    }
    bench.run();
    // 1000 bytes at 100 Mbit/s: 80 µs each, and 5 ms of delay.
    let expected: Vec<_> =
        (0..50).map(|n| (Instant::from_nanos(80_000 * (u64::from(n) + 1) + 5_000_000), n)).collect();
    assert_eq!(bench.arrived, expected);
    assert_eq!(bench.rewritten, 0);
    for (port, cache) in bench.ports.iter_mut().zip(&mut bench.caches) {
        assert_eq!(port.transmit_room(cache), 256);
        assert_eq!(cache.pool().used(), port.held());
    }
}

#[test]
fn packets_that_a_full_queue_drops_complete_too() {
    let queue = crate::sim::pipe::QueueLimit::Packets(10);
    let mut bench = Bench::new(PipeConfig { queue, ..Default::default() }, Duration::ZERO);
    for byte in 0..50 {
        bench.send(byte);
    }
    bench.run();
    assert_eq!((bench.arrived.len(), bench.network.counters()[0].queue_drops), (11, 39));
    assert_eq!(bench.ports[0].transmit_room(&mut bench.caches[0]), 256);
    assert_eq!(bench.caches[0].pool().used(), bench.ports[0].held());
}

#[test]
fn a_frame_that_is_rewritten_before_its_completion_is_noticed() {
    let mut bench = Bench::new(PipeConfig::default(), Duration::ZERO);
    bench.send(1);
    let index = bench.send(2);
    // What a faulty host would do: believe in a completion that never came, and use the frame again.
    bench.caches[0].complete(index);
    bench.send(3);
    bench.run();
    assert_eq!(bench.arrived.iter().map(|(_, byte)| *byte).collect::<Vec<_>>(), [1, 3, 3]);
    assert!(bench.rewritten > 0);
}
