//! What is measured in a laboratory between two points in time.

use super::setup::Layout;
use crate::base::Instant;
use crate::sim::lab::flow::Flow;
use crate::sim::lab::laboratory::Laboratory;
use crate::sim::lab::line::{FULL_PACKET, LineCounters};
use crate::sim::lab::plan::Experiment;
use crate::sim::lab::plan::measure::{Measure, Quality};
use std::collections::BTreeSet;

/// How things stood.
#[derive(Debug)]
pub(super) struct Snapshot {
    received: Vec<u64>,
    arrived: Vec<u64>,
    lines: Vec<LineCounters>,
}

impl Snapshot {
    /// How they stand now.
    pub(super) fn of(lab: &Laboratory) -> Self {
        Self {
            received: lab.flows().list().iter().map(|flow| flow.received).collect(),
            arrived: lab.data_bytes().to_vec(),
            lines: lab.fabric().lines().iter().map(|line| line.counters()).collect(),
        }
    }
}

/// A laboratory that has run.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    pub(super) lab: &'a Laboratory,
    pub(super) experiment: &'a Experiment,
    pub(super) layout: &'a Layout,
    pub(super) before: Snapshot,
    pub(super) start: Instant,
    pub(super) end: Instant,
}

/// Bits of a full packet.
const FULL_PACKET_BITS: f64 = FULL_PACKET as f64 * 8.0;

impl Watched<'_> {
    /// What a measure gives. None: there is nothing that could be measured.
    pub(super) fn measure(&self, measure: &Measure) -> Option<f64> {
        let name = if measure.of.is_of_lines() { &measure.line } else { &measure.flows };
        let value = self.quality(measure, name.as_ref()?)?;
        let unit = match (&measure.per, measure.per_number) {
            (Some(other), _) => self.quality(measure, other)?,
            (None, Some(number)) => number.get(),
            (None, None) => 1.0,
        };
        Some(value / unit).filter(|value| value.is_finite())
    }

    fn quality(&self, measure: &Measure, name: &str) -> Option<f64> {
        if measure.of.is_of_lines() {
            return self.line_quality(measure.of, name);
        }
        // None: all.
        let group = self.experiment.flows.keys().position(|known| known == name);
        let flows: Vec<(usize, &Flow)> = self
            .lab
            .flows()
            .list()
            .iter()
            .enumerate()
            .filter(|(_, flow)| group.is_none_or(|group| flow.spec.group == group))
            .collect();
        let way = measure.way.map_or(0, |way| way.get() as usize - 1);
        self.flow_quality(measure.of, &flows, way)
    }

    fn flow_quality(&self, of: Quality, flows: &[(usize, &Flow)], way: usize) -> Option<f64> {
        let goodputs: Vec<f64> = flows.iter().map(|(place, flow)| self.goodput_mbps(*place, flow)).collect();
        let total = goodputs.iter().sum::<f64>();
        let count = flows.len() as f64;
        let ended = || {
            let begun = flows.iter().filter(|(_, flow)| flow.spec.start >= self.start);
            begun.map(|(_, flow)| flow.completion_time().map(|time| time.as_nanos() as f64 / 1e6))
        };
        let times: Vec<f64> = ended().flatten().collect();
        Some(match of {
            Quality::GoodputMbps => mean(&goodputs)?,
            Quality::RateMbps => mean(&goodputs)? * self.overhead(flows)?,
            Quality::TotalMbps => total * self.overhead(flows)?,
            Quality::RatePackets => mean(&goodputs)? * self.overhead(flows)? * 1e6 / FULL_PACKET_BITS,
            Quality::HostMbps => {
                let hosts: BTreeSet<usize> = flows.iter().map(|(_, flow)| flow.spec.from).collect();
                total * self.overhead(flows)? / hosts.len() as f64
            }
            Quality::Percent => {
                let tree = self.experiment.fat_tree.as_ref().map(|tree| tree.link);
                let link = tree.or(self.experiment.bcube.as_ref().map(|cube| cube.link))?;
                100.0 * mean(&goodputs)? * self.overhead(flows)? / link.rate_mbps()
            }
            Quality::Jain => jain(&goodputs),
            Quality::WayMbps => self.mbps(self.arrived_over(flows, Some(way))) / count,
            Quality::WayPercent => {
                let all = self.arrived_over(flows, None);
                (all > 0).then(|| 100.0 * self.arrived_over(flows, Some(way)) as f64 / all as f64)?
            }
            Quality::CompletionMs => mean(&times)?,
            Quality::CompletionSdMs => {
                let mean = mean(&times)?;
                let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
                (squares / times.len() as f64).sqrt()
            }
            Quality::StallMs => {
                let stall = |flow: &Flow| match flow.finished {
                    Some(_) => flow.stall,
                    None => flow.stall.max(self.end.since(flow.read_at)),
                };
                flows.iter().map(|(_, flow)| stall(flow).as_nanos() as f64 / 1e6).fold(0.0, f64::max)
            }
            Quality::FinishedPercent => 100.0 * times.len() as f64 / ended().count() as f64,
            Quality::LossPercent | Quality::UsePercent => return None,
        })
    }

    fn mbps(&self, bytes: u64) -> f64 {
        let nanos = self.end.since(self.start).as_nanos() as f64;
        bytes as f64 * 8e3 / nanos
    }

    fn goodput_mbps(&self, place: usize, flow: &Flow) -> f64 {
        self.mbps(flow.received - self.before.received.get(place).copied().unwrap_or(0))
    }

    /// Bytes with headers that arrived for each that was read, at the receivers of these flows.
    fn overhead(&self, flows: &[(usize, &Flow)]) -> Option<f64> {
        let (receivers, arrived) = (receivers(flows), self.arrived_over(flows, None));
        let all = self.lab.flows().list().iter().enumerate();
        let read = all.filter(|(_, flow)| receivers.contains(&flow.spec.to));
        let read: u64 = read.map(|(place, flow)| flow.received - self.before.received[place]).sum();
        Some(if read > 0 { arrived as f64 / read as f64 } else { 1.0 })
    }

    fn arrived(&self, nic: usize) -> u64 {
        self.lab.data_bytes()[nic] - self.before.arrived[nic]
    }

    /// Bytes that arrived at the receivers of these flows, over a way or over all.
    fn arrived_over(&self, flows: &[(usize, &Flow)], way: Option<usize>) -> u64 {
        let of_host = |host: &usize| -> u64 {
            let nics = self.lab.nics_of(*host).enumerate();
            nics.filter(|(place, _)| way.is_none_or(|way| way == *place))
                .map(|(_, nic)| self.arrived(nic))
                .sum()
        };
        receivers(flows).iter().map(of_host).sum()
    }

    fn line_quality(&self, of: Quality, name: &str) -> Option<f64> {
        let lines = self.lab.fabric().lines().iter().zip(&self.before.lines).zip(&self.layout.lines);
        let (mut offered, mut lost, mut sent_bits, mut room) = (0, 0, 0.0, 0.0);
        let seconds = self.end.since(self.start).as_nanos() as f64 / 1e9;
        for ((line, before), _) in lines.filter(|(_, known)| *known == name) {
            let counters = line.counters().since(before);
            offered += counters.offered();
            lost += counters.queue_drops + counters.lost + counters.lost_down;
            sent_bits += counters.sent_bytes as f64 * 8.0;
            room += line.rate_bps() as f64 * seconds;
        }
        match of {
            Quality::LossPercent => (offered > 0).then(|| 100.0 * lost as f64 / offered as f64),
            _ => (room > 0.0).then(|| 100.0 * sent_bits / room),
        }
    }
}

/// The hosts that receive these flows.
fn receivers(flows: &[(usize, &Flow)]) -> BTreeSet<usize> {
    flows.iter().map(|(_, flow)| flow.spec.to).collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Jain's index: the square of the mean over the mean of the squares.
pub(super) fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares > 0.0 { sum * sum / (rates.len() as f64 * squares) } else { 1.0 }
}
