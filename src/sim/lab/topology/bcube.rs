//! BCube (Guo et al., SIGCOMM 2009): hosts with a NIC at a switch of each level pass packets on for each other. A host's
//! number has a digit for each level; a switch of a level joins the hosts that differ in that level's digit alone.

use super::Builder;
use crate::base::Prng;
use crate::sim::lab::flow::Ends;
use crate::sim::lab::graph::{Choice, Graph};
use crate::sim::lab::laboratory::Network;
use crate::sim::lab::line::LineConfig;

/// A BCube.
#[derive(Debug, Clone, PartialEq)]
pub struct BCube {
    /// Ports of a switch: the base of a host's number.
    pub ports: usize,
    /// Levels of switches: the digits of a host's number, and its NICs.
    pub levels: usize,
    /// What every link is like, both ways.
    pub link: LineConfig,
    /// How ways are chosen.
    pub choice: Choice,
}

impl BCube {
    /// The names of its lines.
    pub const LINES: &[&str] = &["host-up", "host-down"];

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.ports.pow(self.levels as u32)
    }

    /// The digit of a host's number at a level.
    fn digit(&self, host: usize, level: usize) -> usize {
        host / self.ports.pow(level as u32) % self.ports
    }

    /// The switch of a level at which a host has its NIC: named by the host's other digits.
    fn switch(&self, host: usize, level: usize) -> usize {
        let below = self.ports.pow(level as u32);
        let rest = host / (below * self.ports) * below + host % below;
        level * self.hosts() / self.ports + rest
    }

    /// The network.
    pub fn build(&self, seed: u64) -> Network {
        let hosts = self.hosts();
        let graph = Graph::new(hosts, self.levels * hosts / self.ports, self.choice, true, seed);
        let mut builder = Builder::new(hosts, graph);
        for host in 0..hosts {
            for level in 0..self.levels {
                let switch = builder.graph.switch(self.switch(host, level));
                builder.plug(host, switch, ["host-up", "host-down"], &self.link);
            }
        }
        builder.build()
    }

    /// The hosts that differ from one in a single digit: its neighbours at some switch.
    pub fn neighbours(&self, host: usize) -> Vec<usize> {
        let differs = |other: usize, level: &usize| self.digit(host, *level) != self.digit(other, *level);
        let digits = |other: usize| (0..self.levels).filter(|level| differs(other, level)).count();
        (0..self.hosts()).filter(|other| digits(*other) == 1).collect()
    }

    /// Switches on the shortest way from one NIC of a host to one of another, that passes neither on its way. Every switch
    /// corrects one digit, the first and the last those of the NICs.
    fn hops(&self, from: usize, to: usize, ends: Ends) -> usize {
        let (first, last) = (usize::from(ends.from), usize::from(ends.to));
        let differs = |level: usize| self.digit(from, level) != self.digit(to, level);
        let others =
            (0..self.levels).filter(|level| ![first, last].contains(level) && differs(*level)).count();
        if first == last {
            return if others == 0 && differs(first) { 1 } else { others + 2 };
        }
        // A digit that was right has to be made wrong first, and right again.
        let cost = |level| if differs(level) { 1 } else { 2 };
        // The straight way would pass one of the two hosts themselves.
        let detour = usize::from(others == 0 && differs(first) != differs(last));
        others + cost(first) + cost(last) + detour
    }

    /// NICs for `subflows` subflows, each at both ends another one as long as there are any, so that all ways together are
    /// as short as can be. One is as short as can be for itself; among equals the lot decides.
    pub fn ends(&self, from: usize, to: usize, subflows: usize, prng: &mut Prng) -> Vec<Ends> {
        let mut all: Vec<Vec<Ends>> = Vec::new();
        self.extend(&mut Vec::new(), subflows.min(self.levels), &mut all);
        let length = |ends: &Vec<Ends>| ends.iter().map(|ends| self.hops(from, to, *ends)).sum::<usize>();
        let least = all.iter().map(length).min().unwrap_or(0);
        all.retain(|ends| length(ends) == least);
        let chosen = all.swap_remove(prng.below(all.len() as u64) as usize);
        chosen.iter().copied().cycle().take(subflows).collect()
    }

    /// All choices of `count` pairs of NICs in which none comes twice at either end.
    fn extend(&self, chosen: &mut Vec<Ends>, count: usize, all: &mut Vec<Vec<Ends>>) {
        if chosen.len() == count {
            return all.push(chosen.clone());
        }
        for from in 0..self.levels as u16 {
            for to in 0..self.levels as u16 {
                // The order of subflows does not count, except who is first.
                let is_new = chosen.iter().all(|ends| ends.from != from && ends.to != to);
                if is_new {
                    chosen.push(Ends { from, to });
                    self.extend(chosen, count, all);
                    chosen.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::lab::fabric::{NicId, Router};

    fn cube() -> BCube {
        BCube { ports: 5, levels: 3, link: LineConfig::default(), choice: Choice::Random }
    }

    #[test]
    fn it_has_the_hosts_switches_and_links_of_the_paper() {
        let cube = cube();
        let network = cube.build(1);
        assert_eq!((cube.hosts(), network.nics), (125, vec![3; 125]));
        assert_eq!(network.lines.len(), 125 * 3 * 2);
        assert!(network.lines.iter().all(|(name, _)| BCube::LINES.contains(&name.as_str())));
        let mut members = [0; 75];
        for (host, level) in (0..125).flat_map(|host| (0..3).map(move |level| (host, level))) {
            members[cube.switch(host, level)] += 1;
        }
        assert_eq!(members, [5; 75]);
        assert_eq!(cube.neighbours(0), [1, 2, 3, 4, 5, 10, 15, 20, 25, 50, 75, 100]);
    }

    #[test]
    fn ways_are_as_long_as_the_digits_say() {
        let cube = cube();
        let Router::Graph(mut graph) = cube.build(1).router else { panic!("a graph") };
        for (from, to) in [(0, 1), (0, 25), (0, 6), (0, 31), (7, 124), (62, 63)] {
            for ends in (0..3).flat_map(|from| (0..3).map(move |to| Ends { from, to })) {
                let nic = |host: usize, nic: u16| NicId((3 * host) as u32 + u32::from(nic));
                let route = graph.route(nic(from, ends.from), nic(to, ends.to), 1).expect("a way");
                // Two lines for each switch.
                assert_eq!(route.len(), 2 * cube.hops(from, to, ends), "{from} to {to}, {ends:?}");
            }
        }
    }

    #[test]
    fn subflows_have_nics_of_their_own_and_the_first_one_the_shortest_way() {
        let (cube, mut prng) = (cube(), Prng::new(1));
        assert_eq!(cube.ends(0, 5, 1, &mut prng), [Ends { from: 1, to: 1 }], "one digit differs");
        for to in 1..125 {
            for subflows in 1..=6 {
                let ends = cube.ends(0, to, subflows, &mut prng);
                assert_eq!(ends.len(), subflows);
                for (place, one) in ends.iter().enumerate().take(3) {
                    assert!(ends[..place].iter().all(|other| other.from != one.from && other.to != one.to));
                }
            }
        }
    }
}
