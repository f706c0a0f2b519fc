//! Networks that the literature measures on.

pub mod bcube;
pub mod shared;
pub mod tree;

use crate::base::time::Duration;
use crate::sim::lab::fabric::{LineId, Router};
use crate::sim::lab::graph::{Graph, NodeId};
use crate::sim::lab::laboratory::Network;
use crate::sim::lab::line::LineConfig;
use crate::sim::pipe::QueueLimit;

/// The rate of lines that limit nobody, in bits a second.
const ACCESS_BPS: u64 = 100_000_000_000;

/// A line that limits nobody.
fn access(delay: Duration) -> LineConfig {
    LineConfig {
        rate_bps: ACCESS_BPS,
        delay,
        queue: QueueLimit::Bytes(usize::MAX / 2),
        ..LineConfig::default()
    }
}

/// A graph with its lines, while it is built.
#[derive(Debug)]
struct Builder {
    lines: Vec<(String, LineConfig)>,
    nics: Vec<u16>,
    graph: Graph,
}

impl Builder {
    fn new(hosts: usize, graph: Graph) -> Self {
        Self { lines: Vec::new(), nics: vec![0; hosts], graph }
    }

    fn line(&mut self, name: &str, config: &LineConfig) -> LineId {
        self.lines.push((name.to_owned(), config.clone()));
        LineId(self.lines.len() as u32 - 1)
    }

    /// Joins two switches both ways.
    fn join(&mut self, a: NodeId, b: NodeId, names: [&str; 2], config: &LineConfig) {
        let there = self.line(names[0], config);
        let back = self.line(names[1], config);
        self.graph.join(a, b, there, back);
    }

    /// Gives a host one more NIC, at a switch. A host's NICs come one after the other, and hosts in their order.
    fn plug(&mut self, host: usize, switch: NodeId, names: [&str; 2], config: &LineConfig) {
        let up = self.line(names[0], config);
        let down = self.line(names[1], config);
        self.nics[host] += 1;
        self.graph.plug(host, switch, up, down);
    }

    /// Answers go over a line of each NIC's own that limits nobody.
    fn answer_aside(&mut self, delay: Duration) {
        let nics: u16 = self.nics.iter().sum();
        let lines = (0..nics).map(|_| self.line("", &access(delay))).collect();
        self.graph.answer_over(lines);
    }

    fn build(self) -> Network {
        let Self { lines, nics, graph } = self;
        Network { lines, nics, router: Router::Graph(Box::new(graph)) }
    }
}
