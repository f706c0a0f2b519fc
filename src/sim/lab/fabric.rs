//! The network of a laboratory: lines, the NICs at their ends, and packets on their way. A packet travels by reference:
//! its frame stays where the sender wrote it, in the one pool that all hosts share, and what moves is its descriptor.
//! The frame is in flight from the sender's transmission until the packet has arrived or is lost, so that nobody
//! rewrites its headers meanwhile.

use crate::base::pool::prefetch;
use crate::base::time::Duration;
use crate::base::{FramePool, Instant, PoolCache, Prng, RxFrame, TxFrame};
use crate::sim::lab::graph::{Graph, mix};
use crate::sim::lab::host::FIRST_PORT;
use crate::sim::lab::line::{Fate, Line, LineConfig};
use crate::wire::{ethernet, ipv4};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Names one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineId(pub u32);

/// Names a NIC; all NICs of all hosts are counted through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NicId(pub u32);

impl LineId {
    /// As an index into the list of lines.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NicId {
    /// Its address.
    pub fn addr(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(NETWORK + 1 + self.0))
    }

    /// Whose address it is.
    pub fn from_addr(addr: Ipv4Addr) -> Self {
        NicId(addr.to_bits().wrapping_sub(NETWORK + 1))
    }
}

/// The NICs' network, 10.0.0.0/8.
const NETWORK: u32 = 10 << 24;
/// Of a step of a route: a NIC, where the packet arrives; otherwise a line.
const ARRIVAL: u32 = 1 << 31;
/// The arrival of packets that are for nobody.
const SINK: u32 = u32::MAX;
/// The route of packets that have no way.
const NOWHERE: u32 = u32::MAX;
/// The frame of packets without bytes.
const NO_FRAME: u32 = u32::MAX;
/// Where the fields of the headers are that the fabric reads. All hosts use IPv4 without options or tags.
const TOS: usize = ethernet::HEADER_LEN + 1;
const IP_CHECKSUM: usize = ethernet::HEADER_LEN + 10;
/// The addresses, and behind them the ports.
pub(super) const SOURCE: usize = ethernet::HEADER_LEN + 12;
const DESTINATION: usize = SOURCE + 4;
/// Where the ports are; the sequence and acknowledgment numbers follow them.
pub(super) const PORTS: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub struct Flying {
    frame: u32,
    /// The next step of its route.
    route: u32,
    offset: u16,
    len: u16,
}

impl Flying {
    /// Bytes of the packet.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Never: a packet has headers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What becomes of a packet at the end of a line.
#[derive(Debug)]
pub enum Hop {
    /// It goes on, and comes to the end of the next line.
    Next(Instant, Flying),
    /// It has arrived.
    Arrived(NicId, RxFrame),
    /// It is lost, or it was for nobody.
    Gone,
}

/// How ways are found.
#[derive(Debug)]
pub enum Router {
    /// The ways between two NICs are listed; a flow gets any of them by its hash.
    Paths(HashMap<(NicId, NicId), Vec<Vec<LineId>>>),
    /// The shortest ways of a graph.
    Graph(Box<Graph>),
}

impl Router {
    /// The lines that only one NIC sends into, where each has one.
    fn own_lines(&self) -> Vec<LineId> {
        match self {
            Router::Paths(_) => Vec::new(),
            Router::Graph(graph) => graph.up_lines().collect(),
        }
    }

    /// The way of a flow. `is_answer`: it is from where a connection was opened to.
    fn route(&mut self, from: NicId, to: NicId, hash: u64, is_answer: bool) -> Option<Vec<LineId>> {
        if is_answer
            && let Router::Graph(graph) = self
            && let Some(line) = graph.answer_line(from)
        {
            return Some(vec![line]);
        }
        match self {
            Router::Paths(paths) => {
                let ways = paths.get(&(from, to))?;
                let place = (u128::from(mix(hash)) * ways.len() as u128) >> 64;
                ways.get(place as usize).cloned()
            }
            Router::Graph(graph) => graph.route(from, to, hash),
        }
    }
}

/// What a NIC remembers of the flows that it sends.
#[derive(Debug)]
struct Flows {
    routes: HashMap<u64, u32, FixedState>,
    /// The last one, which is mostly the next one.
    last: (u64, u32),
}

/// The network.
#[derive(Debug)]
pub struct Fabric {
    lines: Vec<Line>,
    /// All routes, one behind the other: lines, then an arrival.
    routes: Vec<u32>,
    flows: Vec<Flows>,
    router: Router,
    /// Seeds the hash of flows.
    seed: u64,
    pool: Arc<FramePool>,
    cache: PoolCache,
    unroutable: u64,
    hops: u64,
}

impl Fabric {
    /// A network of `lines` and `nics` NICs.
    pub fn new(
        lines: &[LineConfig],
        nics: usize,
        router: Router,
        pool: Arc<FramePool>,
        mut prng: Prng,
    ) -> Self {
        let seed = prng.next_u64();
        let flows =
            || Flows { routes: HashMap::with_hasher(FixedState::with_seed(seed)), last: (0, NOWHERE) };
        Self {
            lines: lines.iter().map(|config| Line::new(config, Prng::new(prng.next_u64()))).collect(),
            routes: Vec::new(),
            flows: (0..nics).map(|_| flows()).collect(),
            router,
            seed,
            cache: PoolCache::new(Arc::clone(&pool)),
            pool,
            unroutable: 0,
            hops: 0,
        }
    }

    /// A host transmits a packet. Gives when it comes to the end of its first line, unless it is lost.
    #[inline]
    pub fn transmit(&mut self, now: Instant, from: NicId, tx: TxFrame) -> Option<(Instant, Flying)> {
        let TxFrame { index: frame, offset, len, more } = tx;
        debug_assert!(!more, "the laboratory's packets are of one frame");
        let fields = self.pool.tx_bytes(&tx)[DESTINATION..PORTS + 4].first_chunk();
        let key = fields.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let route = self.route_of(from, key);
        let flying = Flying { frame, route, offset, len };
        if route == NOWHERE {
            self.unroutable += 1;
            self.lose(flying);
            return None;
        }
        match self.step(now, flying) {
            Hop::Next(at, flying) => Some((at, flying)),
            Hop::Gone => None,
            Hop::Arrived(..) => unreachable!("a route begins with a line"),
        }
    }

    /// Sends a packet of `len` bytes that are nobody's, along a route of [`Fabric::sink_route`].
    pub fn transmit_filler(&mut self, now: Instant, route: u32, len: u16) -> Option<(Instant, Flying)> {
        match self.step(now, Flying { frame: NO_FRAME, route, offset: 0, len }) {
            Hop::Next(at, flying) => Some((at, flying)),
            Hop::Gone | Hop::Arrived(..) => None,
        }
    }

    /// A route along `lines`, at whose end packets vanish.
    pub fn sink_route(&mut self, lines: &[LineId]) -> u32 {
        self.push_route(lines, SINK)
    }

    /// A packet has come to the end of a line.
    #[inline]
    pub fn step(&mut self, now: Instant, flying: Flying) -> Hop {
        let step = self.routes[flying.route as usize];
        if step & ARRIVAL != 0 {
            return self.arrive(step, flying);
        }
        self.hops += 1;
        match self.lines[step as usize].offer(now, flying.len as usize) {
            Fate::Arrives { at, mark } => {
                if mark {
                    self.mark(flying);
                }
                Hop::Next(at, Flying { route: flying.route + 1, ..flying })
            }
            Fate::Lost => {
                self.lose(flying);
                Hop::Gone
            }
        }
    }

    /// The line that a packet comes to next will be needed soon.
    #[inline]
    pub fn prefetch(&self, flying: &Flying) {
        let step = self.routes[flying.route as usize];
        if step & ARRIVAL == 0 {
            prefetch(&self.lines[step as usize]);
        }
    }

    fn arrive(&mut self, step: u32, flying: Flying) -> Hop {
        if step == SINK {
            self.lose(flying);
            return Hop::Gone;
        }
        let Flying { frame, offset, len, .. } = flying;
        let frame = self.pool.land(TxFrame { index: frame, offset, len, more: false });
        Hop::Arrived(NicId(step & !ARRIVAL), RxFrame { frame, offset, len, more: false })
    }

    /// A packet comes to nothing.
    pub fn lose(&mut self, flying: Flying) {
        if flying.frame != NO_FRAME {
            self.cache.complete(flying.frame);
        }
    }

    /// The first step of a flow's route. `key` is the destination address, then the ports.
    fn route_of(&mut self, from: NicId, key: u64) -> u32 {
        let flows = &mut self.flows[from.0 as usize];
        if flows.last.0 == key {
            return flows.last.1;
        }
        if let Some(route) = flows.routes.get(&key) {
            flows.last = (key, *route);
            return *route;
        }
        let to = NicId::from_addr(Ipv4Addr::from_bits((key >> 32) as u32));
        let hash = mix(key ^ mix(self.seed ^ u64::from(from.0)));
        let from_port = (key >> 16) as u16;
        let is_answer = from_port < FIRST_PORT;
        let route = match self.router.route(from, to, hash, is_answer) {
            Some(lines) => self.push_route(&lines, ARRIVAL | to.0),
            None => NOWHERE,
        };
        let flows = &mut self.flows[from.0 as usize];
        flows.routes.insert(key, route);
        flows.last = (key, route);
        route
    }

    fn push_route(&mut self, lines: &[LineId], end: u32) -> u32 {
        let start = self.routes.len() as u32;
        self.routes.extend(lines.iter().map(|line| line.0));
        self.routes.push(end);
        start
    }

    /// RFC 3168 §5: a packet that can be marked gets "congestion experienced"; the others pass as they are.
    fn mark(&mut self, flying: Flying) {
        if flying.frame == NO_FRAME {
            return;
        }
        let mut tx = TxFrame { index: flying.frame, offset: flying.offset, len: flying.len, more: false };
        let bytes = self.pool.tx_bytes_mut(&mut tx);
        let before = bytes[TOS];
        if before & 3 != 0 && before & 3 != 3 {
            bytes[TOS] |= 3;
            // RFC 1624 §3, equation 3: the checksum of the header with one word changed.
            let word = |tos: u8| u32::from(u16::from_be_bytes([0x45, tos]));
            let old = u32::from(u16::from_be_bytes([bytes[IP_CHECKSUM], bytes[IP_CHECKSUM + 1]]));
            let sum = (!old & 0xffff) + (!word(before) & 0xffff) + word(before | 3);
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
            bytes[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        let TxFrame { .. } = tx;
    }

    /// The lines, in the order in which they were given.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// A line, to change it.
    pub fn line_mut(&mut self, line: LineId) -> &mut Line {
        &mut self.lines[line.index()]
    }

    /// How long it takes at least until anybody else can notice what a host sends: nothing where hosts share their first
    /// lines.
    pub fn look_ahead(&self) -> Duration {
        let lines = self.router.own_lines();
        lines.iter().map(|line| self.lines[line.index()].shortest_time()).min().unwrap_or_default()
    }

    /// Packets for which there was no way.
    pub fn unroutable(&self) -> u64 {
        self.unroutable
    }

    /// How often a packet came to a line.
    pub fn hops(&self) -> u64 {
        self.hops
    }

    /// The frames of all hosts.
    pub fn pool(&self) -> &Arc<FramePool> {
        &self.pool
    }

    /// The lines that the flow with this destination and these ports, from `from`, has taken so far. For looking at.
    pub fn route_lines(&self, from: NicId, to: NicId, ports: (u16, u16)) -> Option<Vec<LineId>> {
        let IpAddr::V4(addr) = to.addr() else { return None };
        let ports = u32::from(ports.0) << 16 | u32::from(ports.1);
        let key = u64::from(addr.to_bits()) << 32 | u64::from(ports);
        let start = *self.flows.get(from.0 as usize)?.routes.get(&key)?;
        if start == NOWHERE {
            return None;
        }
        let steps = self.routes[start as usize..].iter();
        Some(steps.take_while(|step| **step & ARRIVAL == 0).map(|step| LineId(*step)).collect())
    }
}
