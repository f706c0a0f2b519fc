//! Networks of switches: who is joined to whom, and which way a flow takes. A way is chosen once for each direction of
//! each subflow, among the shortest ones: by the hash of its ports and addresses at every switch, as ECMP does it, or by
//! lot.

use crate::base::Prng;
use crate::sim::lab::fabric::{LineId, NicId};
use std::collections::HashMap;

/// How a flow's way is chosen among the shortest ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// Every switch hashes the flow's addresses and ports with a seed of its own: what ECMP does in a datacentre.
    #[default]
    Ecmp,
    /// Any, by lot.
    Random,
    /// By lot, but flows between the same two NICs share a way only when there is no other left.
    Distinct,
}

impl Choice {
    /// All, with their names in plans.
    pub const ALL: &[(&'static str, Choice)] =
        &[("ecmp", Choice::Ecmp), ("random", Choice::Random), ("distinct", Choice::Distinct)];
}

/// Names a host or a switch of a graph: hosts come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Where a NIC is plugged in.
#[derive(Debug, Clone, Copy)]
struct Plug {
    host: NodeId,
    /// The line out of it, and where that ends.
    out: (LineId, NodeId),
    /// The line into it, and where that begins.
    into: (LineId, NodeId),
}

/// What is known of the ways to one NIC.
#[derive(Debug)]
struct Ways {
    /// Hops from each node to the node in front of the NIC; `u16::MAX`: none.
    hops: Vec<u16>,
    /// How many shortest ways there are from each node.
    count: Vec<u64>,
}

/// A network of hosts and switches.
#[derive(Debug)]
pub struct Graph {
    choice: Choice,
    /// Whether hosts pass packets on from one NIC to another, as in BCube.
    hosts_relay: bool,
    hosts: usize,
    /// For each node the lines out of it, and where they end.
    out: Vec<Vec<(LineId, NodeId)>>,
    /// The same the other way.
    into: Vec<Vec<NodeId>>,
    plugs: Vec<Plug>,
    /// For each NIC the line of its answers, where those go by themselves.
    answers: Vec<LineId>,
    /// Each switch's own seed of the hash.
    seeds: Vec<u64>,
    prng: Prng,
    ways: HashMap<NicId, Ways>,
    /// With [`Choice::Distinct`], ways that were given to flows between two NICs.
    given: HashMap<(NicId, NicId), Vec<u64>>,
}

impl Graph {
    /// `hosts` hosts and `switches` switches that are not joined yet.
    pub fn new(hosts: usize, switches: usize, choice: Choice, hosts_relay: bool, seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let nodes = hosts + switches;
        Self {
            choice,
            hosts_relay,
            hosts,
            out: vec![Vec::new(); nodes],
            into: vec![Vec::new(); nodes],
            plugs: Vec::new(),
            answers: Vec::new(),
            seeds: (0..nodes).map(|_| prng.next_u64()).collect(),
            prng,
            ways: HashMap::new(),
            given: HashMap::new(),
        }
    }

    /// The node of a switch.
    pub fn switch(&self, number: usize) -> NodeId {
        NodeId((self.hosts + number) as u32)
    }

    /// Joins two switches.
    pub fn join(&mut self, a: NodeId, b: NodeId, a_to_b: LineId, b_to_a: LineId) {
        self.out[a.0 as usize].push((a_to_b, b));
        self.into[b.0 as usize].push(a);
        self.out[b.0 as usize].push((b_to_a, a));
        self.into[a.0 as usize].push(b);
    }

    /// Plugs the next NIC, one of `host`, into a switch.
    pub fn plug(&mut self, host: usize, switch: NodeId, up: LineId, down: LineId) {
        let host = NodeId(host as u32);
        self.join(host, switch, up, down);
        self.plugs.push(Plug { host, out: (up, switch), into: (down, switch) });
    }

    /// What a NIC sends as an answer goes over a line of its own, one for each NIC, straight to where it is for: data meets
    /// no acknowledgments then, and these wait for nothing.
    pub fn answer_over(&mut self, lines: Vec<LineId>) {
        self.answers = lines;
    }

    /// The line that answers of a NIC take, where they go by themselves.
    pub fn answer_line(&self, from: NicId) -> Option<LineId> {
        self.answers.get(from.0 as usize).copied()
    }

    /// The lines out of each NIC.
    pub fn up_lines(&self) -> impl Iterator<Item = LineId> + '_ {
        self.plugs.iter().map(|plug| plug.out.0).chain(self.answers.iter().copied())
    }

    /// The lines from one NIC to another, for the flow of a hash. None: there is no way.
    pub fn route(&mut self, from: NicId, to: NicId, hash: u64) -> Option<Vec<LineId>> {
        let (source, target) = (*self.plugs.get(from.0 as usize)?, *self.plugs.get(to.0 as usize)?);
        let ways = match self.ways.remove(&to) {
            Some(ways) => ways,
            None => self.find_ways(source.host, &target),
        };
        let route = self.choose(&ways, (from, source), (to, target), hash);
        if !self.hosts_relay {
            // Where hosts pass packets on, the ways from another host are others.
            self.ways.insert(to, ways);
        }
        route
    }

    fn choose(
        &mut self,
        ways: &Ways,
        (from, source): (NicId, Plug),
        (to, target): (NicId, Plug),
        hash: u64,
    ) -> Option<Vec<LineId>> {
        let (first, mut at) = source.out;
        let count = ways.count[at.0 as usize];
        if count == 0 {
            return None;
        }
        let mut number = match self.choice {
            Choice::Ecmp => 0,
            Choice::Random => self.prng.below(count),
            Choice::Distinct => self.draw_distinct((from, to), count),
        };
        let mut route = vec![first];
        while at != target.into.1 {
            let left = ways.hops[at.0 as usize] - 1;
            let closer = || {
                let out = self.out[at.0 as usize].iter();
                out.filter(|(_, node)| ways.hops[node.0 as usize] == left && ways.count[node.0 as usize] > 0)
            };
            let (line, next) = match self.choice {
                Choice::Ecmp => {
                    let lot = mix(hash ^ self.seeds[at.0 as usize]);
                    let place = (u128::from(lot) * closer().count() as u128) >> 64;
                    *closer().nth(place as usize)?
                }
                Choice::Random | Choice::Distinct => *closer().find(|(_, node)| {
                    let share = ways.count[node.0 as usize];
                    let found = number < share;
                    number -= if found { 0 } else { share };
                    found
                })?,
            };
            route.push(line);
            at = next;
        }
        route.push(target.into.0);
        Some(route)
    }

    fn draw_distinct(&mut self, pair: (NicId, NicId), count: u64) -> u64 {
        let given = self.given.entry(pair).or_default();
        if given.len() as u64 >= count {
            given.clear();
        }
        loop {
            let number = self.prng.below(count);
            if !given.contains(&number) {
                given.push(number);
                return number;
            }
        }
    }

    /// The shortest ways to the node in front of a NIC, without passing its host, nor `source`.
    fn find_ways(&self, source: NodeId, target: &Plug) -> Ways {
        let passes = |node: NodeId| {
            let is_host = (node.0 as usize) < self.hosts;
            !is_host || (self.hosts_relay && node != source && node != target.host)
        };
        let nodes = self.out.len();
        let mut ways = Ways { hops: vec![u16::MAX; nodes], count: vec![0; nodes] };
        let goal = target.into.1;
        ways.hops[goal.0 as usize] = 0;
        ways.count[goal.0 as usize] = 1;
        let mut ring = vec![goal];
        while !ring.is_empty() {
            let mut next = Vec::new();
            for node in ring {
                let (hops, count) = (ways.hops[node.0 as usize], ways.count[node.0 as usize]);
                for &before in self.into[node.0 as usize].iter().filter(|before| passes(**before)) {
                    let known = &mut ways.hops[before.0 as usize];
                    if *known == u16::MAX {
                        *known = hops + 1;
                        next.push(before);
                    }
                    if *known == hops + 1 {
                        let sum = &mut ways.count[before.0 as usize];
                        *sum = sum.saturating_add(count);
                    }
                }
            }
            ring = next;
        }
        ways
    }
}

/// Mixes a hash so that all of its bits depend on all bits.
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Two hosts, each with a switch, and `width` lines between the switches.
    fn ladder(width: u32, choice: Choice) -> Graph {
        let mut graph = Graph::new(2, 2, choice, false, 9);
        let (a, b) = (graph.switch(0), graph.switch(1));
        graph.plug(0, a, LineId(0), LineId(1));
        graph.plug(1, b, LineId(2), LineId(3));
        for rung in 0..width {
            graph.join(a, b, LineId(10 + 2 * rung), LineId(11 + 2 * rung));
        }
        graph
    }

    fn rungs(graph: &mut Graph, flows: u64) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for hash in 0..flows {
            let route = graph.route(NicId(0), NicId(1), hash).expect("a way");
            assert_eq!((route.len(), route[0], route[2]), (3, LineId(0), LineId(3)));
            *counts.entry(route[1].0).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_hash_or_a_lot_spreads_flows_evenly_over_parallel_lines() {
        for choice in [Choice::Ecmp, Choice::Random] {
            let counts = rungs(&mut ladder(4, choice), 4000);
            assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [10, 12, 14, 16]);
            assert!(counts.values().all(|count| (900..1100).contains(count)), "{choice:?} {counts:?}");
        }
    }

    #[test]
    fn one_hash_takes_one_way_and_distinct_flows_differ_while_they_can() {
        let mut graph = ladder(4, Choice::Ecmp);
        assert_eq!(graph.route(NicId(0), NicId(1), 7), graph.route(NicId(0), NicId(1), 7));
        let counts = rungs(&mut ladder(4, Choice::Distinct), 8);
        assert!(counts.len() == 4 && counts.values().all(|count| *count == 2), "{counts:?}");
    }

    #[test]
    fn hosts_pass_packets_on_only_where_they_relay() {
        // Two switches that only a host in the middle joins.
        for (relay, expected) in
            [(true, Some(vec![LineId(0), LineId(3), LineId(4), LineId(7)])), (false, None)]
        {
            let mut graph = Graph::new(3, 2, Choice::Ecmp, relay, 1);
            let (a, b) = (graph.switch(0), graph.switch(1));
            graph.plug(0, a, LineId(0), LineId(1));
            graph.plug(1, a, LineId(2), LineId(3));
            graph.plug(1, b, LineId(4), LineId(5));
            graph.plug(2, b, LineId(6), LineId(7));
            assert_eq!(graph.route(NicId(0), NicId(3), 5), expected);
        }
    }
}
