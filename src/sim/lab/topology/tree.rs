//! FatTree (Al-Fares, Loukissas and Vahdat, SIGCOMM 2008): three layers of equal switches, as much bandwidth between any
//! two halves as the hosts have together, and as many shortest ways between hosts of different pods as there are core
//! switches.

use super::Builder;
use crate::sim::lab::graph::{Choice, Graph};
use crate::sim::lab::laboratory::Network;
use crate::sim::lab::line::LineConfig;

/// A FatTree.
#[derive(Debug, Clone, PartialEq)]
pub struct FatTree {
    /// Ports of a switch; even, and at least 2. There are k³/4 hosts.
    pub k: usize,
    /// What every link is like, both ways.
    pub link: LineConfig,
    /// So many times more hosts at each edge switch than the tree is made for.
    pub oversubscription: usize,
    /// How ways are chosen.
    pub choice: Choice,
    /// Answers take lines of their own that limit nobody, see [`Graph::answer_over`].
    pub answers_aside: bool,
}

/// Lines of the longest way: up to a core switch, and down again.
const LONGEST_WAY: u32 = 6;

impl FatTree {
    /// The names of its lines.
    pub const LINES: &[&str] = &["access-up", "access-down", "edge-up", "edge-down", "core-up", "core-down"];

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.k.pow(3) / 4 * self.oversubscription
    }

    /// The network.
    ///
    /// # Panics
    /// When `k` is odd or 0.
    pub fn build(&self, seed: u64) -> Network {
        let Self { k, ref link, oversubscription, choice, answers_aside } = *self;
        assert!(k >= 2 && k.is_multiple_of(2), "a FatTree's switches have an even number of ports");
        let half = k / 2;
        let (edges, hosts) = (k * half, self.hosts());
        let graph = Graph::new(hosts, 2 * edges + half * half, choice, false, seed);
        let mut builder = Builder::new(hosts, graph);
        let edge = |graph: &Graph, pod: usize, place: usize| graph.switch(pod * half + place);
        let aggregation = |graph: &Graph, pod: usize, place: usize| graph.switch(edges + pod * half + place);
        let hosts_an_edge = half * oversubscription;
        for host in 0..hosts {
            let switch = builder.graph.switch(host / hosts_an_edge);
            builder.plug(host, switch, ["access-up", "access-down"], link);
        }
        for pod in 0..k {
            for low in 0..half {
                for high in 0..half {
                    let (a, b) = (edge(&builder.graph, pod, low), aggregation(&builder.graph, pod, high));
                    builder.join(a, b, ["edge-up", "edge-down"], link);
                }
            }
            for high in 0..half {
                for core in 0..half {
                    let a = aggregation(&builder.graph, pod, high);
                    let b = builder.graph.switch(2 * edges + high * half + core);
                    builder.join(a, b, ["core-up", "core-down"], link);
                }
            }
        }
        if answers_aside {
            builder.answer_aside(LONGEST_WAY * link.delay);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::lab::fabric::{NicId, Router};
    use std::collections::BTreeSet;

    fn tree(k: usize, choice: Choice) -> FatTree {
        FatTree { k, link: LineConfig::default(), oversubscription: 1, choice, answers_aside: false }
    }

    #[test]
    fn answers_go_aside_over_a_line_of_each_host_and_data_takes_the_ways_that_it_took() {
        let plain = tree(4, Choice::Random).build(1);
        let aside = FatTree { answers_aside: true, ..tree(4, Choice::Random) }.build(1);
        let (Router::Graph(mut graph), Router::Graph(mut other)) = (aside.router, plain.router) else {
            panic!("graphs")
        };
        let count = plain.lines.len();
        assert_eq!((aside.lines[..count].to_vec(), aside.lines.len()), (plain.lines, count + 16));
        assert_eq!(other.answer_line(NicId(3)), None);
        assert_eq!(graph.answer_line(NicId(3)).map(|line| line.index()), Some(count + 3));
        assert_eq!(graph.route(NicId(0), NicId(15), 7), other.route(NicId(0), NicId(15), 7));
    }

    #[test]
    fn it_has_the_hosts_links_and_ways_of_the_paper() {
        for (k, hosts, links) in [(4, 16, 48), (8, 128, 384)] {
            let tree = tree(k, Choice::Random);
            let network = tree.build(1);
            assert_eq!((tree.hosts(), network.nics.len(), network.lines.len()), (hosts, hosts, 2 * links));
            assert!(network.lines.iter().all(|(name, _)| FatTree::LINES.contains(&name.as_str())));
            let Router::Graph(mut graph) = network.router else { panic!("a graph") };
            // In one rack, in one pod, and between pods: hops, and ways.
            let half = k / 2;
            for (to, hops, count) in [(1, 2, 1), (half, 4, half), (hosts - 1, 6, half * half)] {
                let routes: BTreeSet<_> = (0..1000)
                    .map(|hash| graph.route(NicId(0), NicId(to as u32), hash).expect("a way"))
                    .collect();
                assert_eq!(routes.len(), count, "k {k} to {to}");
                assert!(routes.iter().all(|route| route.len() == hops), "k {k} to {to}");
            }
        }
    }
}
