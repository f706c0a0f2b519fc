//! The laboratory of an experiment: everything in it follows from the plan and the seed.

use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::sim::lab::fabric::LineId;
use crate::sim::lab::filler::{FillerSpec, exponential};
use crate::sim::lab::flow::{Ends, FlowSpec, Group};
use crate::sim::lab::host::HostConfig;
use crate::sim::lab::laboratory::{Change, Setup};
use crate::sim::lab::plan::Experiment;
use crate::sim::lab::plan::flows::{ChangePlan, FlowPlan, Pattern, Protocol, WayPlan};
use crate::sim::lab::plan::values::Positive;
use crate::sim::lab::topology::bcube::BCube;
use crate::sim::lab::topology::shared::{SharedLines, Way};
use crate::sim::lab::workload;
use crate::stack::ConnectOptions;

/// Frames a host, besides what buffers need: what is on its way, and what is held for a little payload.
const FRAMES_PER_HOST: usize = 512;
/// Bytes of a frame's payload at least, on average, where buffers are full.
const PAYLOAD: usize = 1024;
/// Send and receive buffer of a connection of which nothing else is said.
const BUFFER: Positive = Positive::new(1 << 20).expect("it is not 0");

/// What is where in the laboratory.
#[derive(Debug)]
pub(super) struct Layout {
    /// The names of its lines, in their order; those of access lines are empty.
    pub(super) lines: Vec<String>,
}

/// Makes the laboratory.
pub(super) fn setup(experiment: &Experiment, seed: u64) -> (Setup, Layout) {
    let mut maker = Maker { experiment, prng: Prng::new(seed), flows: Vec::new() };
    let (network, hosts) = if let Some(tree) = &experiment.fat_tree {
        let tree = tree.tree();
        maker.spread(tree.hosts(), None);
        (tree.build(seed), tree.hosts())
    } else if let Some(cube) = &experiment.bcube {
        let cube = cube.bcube();
        maker.spread(cube.hosts(), Some(&cube));
        (cube.build(seed), cube.hosts())
    } else {
        let shared = maker.shared_lines();
        (shared.build(), shared.hosts())
    };
    let flows = maker.flows;
    let groups: Vec<Group> = experiment
        .flows
        .iter()
        .map(|(name, plan)| Group { name: name.clone(), options: options(experiment, plan) })
        .collect();
    let buffers = |flow: &FlowSpec| {
        let options = &groups[flow.group].options;
        let most = |buffer: u32| flow.size.unwrap_or(u64::MAX).min(u64::from(buffer)) as usize;
        (most(options.send_buffer) + most(options.receive_buffer)) / PAYLOAD
    };
    let frames = hosts * FRAMES_PER_HOST + flows.iter().map(buffers).sum::<usize>();
    let layout = Layout { lines: network.lines.iter().map(|(name, _)| name.clone()).collect() };
    let mut host = HostConfig::default();
    if let Some(least) = experiment.min_rto_ms {
        host.tcp.min_rto = least.get();
    }
    host.pattern = experiment.check_payload.then_some(seed);
    let mut setup = Setup { groups, flows, host, ..Setup::new(seed, network, frames) };
    let line = |name: &String| LineId(place_of(experiment, name) as u32);
    for cross in experiment.cross.values() {
        let lines = cross.over.list().iter().map(line).collect();
        let spec = cross.spec().expect("a plan whose cross traffic is wrong was refused");
        setup.fillers.push(FillerSpec { lines, ..spec });
    }
    setup.changes = experiment.change.iter().flat_map(|plan| change(plan, line(&plan.line))).collect();
    (setup, layout)
}

/// The place of a line among those of its network.
fn place_of(experiment: &Experiment, name: &String) -> usize {
    let place = experiment.lines.keys().position(|known| known == name);
    place.expect("a plan that names a line which is not there was refused")
}

/// How a group's connections are opened.
fn options(experiment: &Experiment, plan: &FlowPlan) -> ConnectOptions {
    let buffer = plan.buffer_bytes.unwrap_or(BUFFER).get();
    let algorithm = plan.algorithm.or(experiment.algorithm).map(|algorithm| algorithm.0).unwrap_or_default();
    ConnectOptions {
        mptcp: plan.protocol == Protocol::Mptcp,
        congestion: algorithm,
        coupling: plan.couple.into(),
        coupling_period: experiment.coupling_period_ms.get(),
        scheduler: plan.scheduler.0,
        receive_buffer: buffer,
        send_buffer: buffer,
        ..ConnectOptions::default()
    }
}

fn change(plan: &ChangePlan, line: LineId) -> Option<(Instant, Change)> {
    let ChangePlan { at_ms, line: _, down_for_ms, delay_ms, rate_mbps, loss_percent } = plan;
    let down = down_for_ms.map(|lasts| Change::Down(line, Some(lasts.millis())));
    let change = down
        .or(delay_ms.map(|delay| Change::Delay(line, delay.get())))
        .or(rate_mbps.map(|rate| Change::Rate(line, (rate.get() * 1e6) as u64)))
        .or(loss_percent.map(|loss| Change::Loss(line, loss.share())));
    change.map(|change| (Instant::ZERO + at_ms.get(), change))
}

/// Makes flows.
struct Maker<'a> {
    experiment: &'a Experiment,
    prng: Prng,
    flows: Vec<FlowSpec>,
}

impl Maker<'_> {
    /// Flows over lines that they share: everybody has two hosts for itself.
    fn shared_lines(&mut self) -> SharedLines {
        let experiment = self.experiment;
        let lines = experiment.lines.iter().map(|(name, line)| (name.clone(), line.config())).collect();
        let place = |name: &String| place_of(experiment, name);
        let mut users: Vec<Vec<Way>> = Vec::new();
        for (group, plan) in experiment.flows.values().enumerate() {
            let Some(ways) = &plan.ways else { continue };
            let way =
                |way: &WayPlan| Way { over: way.over.iter().map(place).collect(), rtt: way.rtt_ms.get() };
            let ways: Vec<Way> = ways.list().iter().map(way).collect();
            for _ in 0..plan.count.get() {
                let hosts = (2 * users.len(), 2 * users.len() + 1);
                for _ in 0..plan.connections.get() {
                    let subflows = self.lots(plan, ways.len());
                    self.send(group, plan, hosts, subflows, None);
                }
                users.push(ways.clone());
            }
        }
        SharedLines { lines, users }
    }

    /// Which ways the subflows of a connection take.
    fn lots(&mut self, plan: &FlowPlan, ways: usize) -> Vec<Ends> {
        let count = match (plan.protocol, plan.subflows.or(self.experiment.subflows)) {
            (Protocol::Tcp, _) => 1,
            (Protocol::Mptcp, Some(count)) => count.get(),
            (Protocol::Mptcp, None) => ways,
        };
        let way = |place: usize| {
            let way = if plan.draw { self.prng.below(ways as u64) as usize } else { place % ways };
            Ends { from: way as u16, to: way as u16 }
        };
        (0..count).map(way).collect()
    }

    /// Flows between the hosts of a tree or a cube.
    fn spread(&mut self, hosts: usize, cube: Option<&BCube>) {
        let mut order: Vec<usize> = (0..hosts).collect();
        workload::shuffle(&mut order, &mut self.prng);
        let mut first = 0.0;
        for (group, plan) in self.experiment.flows.values().enumerate() {
            let last = first + plan.hosts_percent.share();
            let place = |share: f64| ((share * hosts as f64).round() as usize).min(hosts);
            // Beyond all hosts it begins with the first ones again: then some send both.
            let senders: Vec<usize> = match place(last) > place(first) {
                true => order[place(first)..place(last)].to_vec(),
                false => order[..place(plan.hosts_percent.share())].to_vec(),
            };
            first = last;
            let permutation = workload::derangement(hosts, &mut self.prng);
            for from in senders {
                let to = match (plan.pattern, cube) {
                    (Some(Pattern::Neighbours), Some(cube)) => cube.neighbours(from),
                    (Some(Pattern::Permutation), _) => vec![permutation[from]],
                    _ => vec![workload::another(from, hosts, &mut self.prng)],
                };
                for to in to {
                    let subflows = self.nics(plan, cube, (from, to));
                    let redraw = plan.pattern == Some(Pattern::Random);
                    self.send(group, plan, (from, to), subflows, redraw.then_some((hosts, cube)));
                }
            }
        }
    }

    /// Which NICs the subflows of a connection take.
    fn nics(&mut self, plan: &FlowPlan, cube: Option<&BCube>, (from, to): (usize, usize)) -> Vec<Ends> {
        let count = match plan.protocol {
            Protocol::Tcp => 1,
            Protocol::Mptcp => plan.subflows.or(self.experiment.subflows).map_or(1, |count| count.get()),
        };
        match cube {
            Some(cube) => cube.ends(from, to, count, &mut self.prng),
            None => vec![Ends { from: 0, to: 0 }; count],
        }
    }

    /// The flows of one sender: one, or one after the other. With `redraw` each goes to another host.
    fn send(
        &mut self,
        group: usize,
        plan: &FlowPlan,
        (from, mut to): (usize, usize),
        mut subflows: Vec<Ends>,
        redraw: Option<(usize, Option<&BCube>)>,
    ) {
        let within = plan.starts_within_ms.get().as_nanos().max(1);
        let mut start = Instant::ZERO + plan.start_ms.get() + Duration::from_nanos(self.prng.below(within));
        let size = plan.size_bytes.map(|size| u64::from(size.get()));
        let end = Instant::ZERO + self.experiment.duration_ms.get();
        loop {
            if let Some(every) = plan.every_ms {
                start += exponential(&mut self.prng, every.millis());
                if start >= end {
                    return;
                }
            }
            self.flows.push(FlowSpec { group, from, to, subflows: subflows.clone(), start, size });
            if plan.every_ms.is_none() {
                return;
            }
            if let Some((hosts, cube)) = redraw {
                to = workload::another(from, hosts, &mut self.prng);
                subflows = self.nics(plan, cube, (from, to));
            }
        }
    }
}
