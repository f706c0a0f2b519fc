//! A few lines that flows share: the small networks of the literature on coupling. Every user is a sender and a receiver of
//! its own, with a NIC at both for each of its paths. Only the shared lines are slow: what lies before and behind them has
//! a delay, and all the rate and room that there can be.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::sim::lab::fabric::{LineId, NicId, Router};
use crate::sim::lab::flow::{Ends, FlowSpec};
use crate::sim::lab::laboratory::Network;
use crate::sim::lab::line::LineConfig;
use crate::sim::lab::topology::access;
use std::collections::HashMap;

/// A path of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The shared lines that data crosses, by their places. Acknowledgments cross none.
    pub over: Vec<usize>,
    /// The round trip without queues.
    pub rtt: Duration,
}

/// Shared lines, and who uses them.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedLines {
    /// The lines and their names.
    pub lines: Vec<(String, LineConfig)>,
    /// For each user its paths; the first opens the connection.
    pub users: Vec<Vec<Way>>,
}

impl SharedLines {
    /// One line for all: users with so many paths each, all over it.
    pub fn dumbbell(line: LineConfig, paths: &[usize], rtt: Duration) -> Self {
        let way = Way { over: vec![0], rtt };
        Self {
            lines: vec![("bottleneck".into(), line)],
            users: paths.iter().map(|paths| vec![way.clone(); *paths]).collect(),
        }
    }

    /// Each path over a line of its own, for a single user.
    pub fn parallel(paths: Vec<(LineConfig, Duration)>) -> Self {
        let way = |(place, (_, rtt)): (usize, &(LineConfig, Duration))| Way { over: vec![place], rtt: *rtt };
        let users = vec![paths.iter().enumerate().map(way).collect()];
        Self { lines: named(paths.into_iter().map(|(line, _)| line)), users }
    }

    /// Three lines; each user has a path over one, and one over the other two (Wischik et al., NSDI 2011, fig. 2).
    pub fn triangle(line: &LineConfig, rtt: Duration) -> Self {
        let ways = |user| {
            vec![Way { over: vec![user], rtt }, Way { over: vec![(user + 1) % 3, (user + 2) % 3], rtt }]
        };
        Self { lines: named(vec![line.clone(); 3]), users: (0..3).map(ways).collect() }
    }

    /// Each user has a path over one line and one over the next (Wischik et al., NSDI 2011, fig. 3).
    pub fn chain(lines: Vec<LineConfig>, rtt: Duration) -> Self {
        let ways = |user| vec![Way { over: vec![user], rtt }, Way { over: vec![user + 1], rtt }];
        let users = (0..lines.len().saturating_sub(1)).map(ways).collect();
        Self { lines: named(lines), users }
    }

    /// A chain that bites its tail (Wischik et al., NSDI 2011, §3).
    pub fn torus(lines: Vec<LineConfig>, rtt: Duration) -> Self {
        let count = lines.len();
        let ways = |user| vec![Way { over: vec![user], rtt }, Way { over: vec![(user + 1) % count], rtt }];
        Self { lines: named(lines), users: (0..count).map(ways).collect() }
    }

    /// A flow of a user, of as many bytes as there is time for.
    pub fn flow(&self, user: usize, group: usize, start: Instant) -> FlowSpec {
        let ends = |path| Ends { from: path as u16, to: path as u16 };
        let subflows = (0..self.users[user].len()).map(ends).collect();
        FlowSpec { group, from: 2 * user, to: 2 * user + 1, subflows, start, size: None }
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        2 * self.users.len()
    }

    /// The network. The shared lines are its first lines.
    pub fn build(&self) -> Network {
        let mut lines = self.lines.clone();
        let mut nics = Vec::new();
        let mut paths = HashMap::new();
        let mut next_nic = 0;
        for ways in &self.users {
            let count = ways.len() as u32;
            for (place, way) in ways.iter().enumerate() {
                let (sender, receiver) = (next_nic + place as u32, next_nic + count + place as u32);
                let mut access = || {
                    lines.push((String::new(), access(way.rtt / 2)));
                    LineId(lines.len() as u32 - 1)
                };
                let (there, back) = (access(), access());
                let shared = way.over.iter().map(|line| LineId(*line as u32));
                let there = std::iter::once(there).chain(shared).collect();
                paths.insert((NicId(sender), NicId(receiver)), vec![there]);
                paths.insert((NicId(receiver), NicId(sender)), vec![vec![back]]);
            }
            nics.extend([ways.len() as u16; 2]);
            next_nic += 2 * count;
        }
        Network { lines, nics, router: Router::Paths(paths) }
    }
}

fn named(lines: impl IntoIterator<Item = LineConfig>) -> Vec<(String, LineConfig)> {
    lines.into_iter().enumerate().map(|(place, line)| (format!("line {}", place + 1), line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    fn over(network: &SharedLines) -> Vec<Vec<Vec<usize>>> {
        let of_user = |ways: &Vec<Way>| ways.iter().map(|way| way.over.clone()).collect();
        network.users.iter().map(of_user).collect()
    }

    #[test]
    fn the_networks_are_those_of_the_papers() {
        let line = LineConfig::default();
        let torus = SharedLines::torus(vec![line.clone(); 5], RTT);
        assert_eq!(over(&torus)[0], [[0], [1]]);
        assert_eq!(over(&torus)[4], [[4], [0]]);
        let triangle = SharedLines::triangle(&line, RTT);
        assert_eq!(over(&triangle)[2], [vec![2], vec![0, 1]]);
        let chain = SharedLines::chain(vec![line.clone(); 4], RTT);
        assert_eq!(over(&chain), [[[0], [1]], [[1], [2]], [[2], [3]]]);
        let dumbbell = SharedLines::dumbbell(line.clone(), &[1, 2], RTT);
        assert_eq!(over(&dumbbell), [vec![vec![0]], vec![vec![0]; 2]]);
        let parallel = SharedLines::parallel(vec![(line.clone(), RTT), (line, RTT * 2)]);
        assert_eq!((over(&parallel), parallel.users[0][1].rtt), (vec![vec![vec![0], vec![1]]], RTT * 2));
    }

    #[test]
    fn every_path_has_nics_of_its_own_and_a_way_back() {
        let network = SharedLines::triangle(&LineConfig::default(), RTT).build();
        assert_eq!((network.nics, network.lines.len()), (vec![2; 6], 3 + 3 * 2 * 2));
        let Router::Paths(paths) = network.router else { panic!("paths are listed") };
        assert_eq!(paths.len(), 12);
        // The second path of the third user: NICs 8 to 11 are its.
        let there = &paths[&(NicId(9), NicId(11))][0];
        assert_eq!(there[1..], [LineId(0), LineId(1)]);
        assert!(there[0] >= LineId(3), "its own line first");
        assert!(paths[&(NicId(11), NicId(9))][0][0] >= LineId(3), "acknowledgments cross no shared line");
        assert_eq!(network.lines[there[0].index()].1.delay, RTT / 2);
    }
}
