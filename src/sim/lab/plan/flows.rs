//! Who sends in a plan, what crosses, and what changes.

use super::values::{Algorithm, Millis, OneOrMore, Percent, Positive, Quantity, Scheduler, Subflows};
use crate::mptcp::CouplingScope;
use crate::sim::lab::filler::FillerSpec;
use serde::Deserialize;

/// Flows of a kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FlowPlan {
    /// MPTCP, or plain TCP.
    #[serde(default)]
    pub protocol: Protocol,
    /// Its congestion control; without it, the plan's.
    pub algorithm: Option<Algorithm>,
    /// Which subflow carries what.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// With what the windows are coupled: "connection", or "bundle": all connections between two hosts.
    #[serde(default)]
    pub couple: Couple,
    /// Subflows of a connection; without it, one for each way, or the plan's.
    pub subflows: Option<Subflows>,
    /// On lines: how many there are.
    #[serde(default = "Positive::one")]
    pub count: Positive,
    /// On lines: connections that each of them has, between the same two hosts.
    #[serde(default = "Positive::one")]
    pub connections: Positive,
    /// On lines: its ways. Subflows take them in turn.
    pub ways: Option<OneOrMore<WayPlan>>,
    /// On lines: each subflow takes a way by lot, as where a network hashes ports.
    #[serde(default)]
    pub draw: bool,
    /// In a tree or a cube: who sends to whom.
    pub pattern: Option<Pattern>,
    /// In a tree or a cube: which part of the hosts sends so.
    #[serde(default = "Percent::all")]
    pub hosts_percent: Percent,
    /// Send and receive buffer of a connection, in bytes.
    pub buffer_bytes: Option<Positive>,
    /// What a flow carries; without it, as much as there is time for.
    pub size_bytes: Option<Positive>,
    /// Each sender opens one after the other, with random times between that are so long on average.
    pub every_ms: Option<Quantity>,
    /// The first begin at this time.
    #[serde(default)]
    pub start_ms: Millis,
    /// And the last so much later, at random: of equal speed, and at once, they would go in step for ever.
    #[serde(default = "FlowPlan::starts_within_ms")]
    pub starts_within_ms: Millis,
}

impl FlowPlan {
    fn starts_within_ms() -> Millis {
        Millis::new(10)
    }
}

/// MPTCP or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Multipath TCP.
    #[default]
    Mptcp,
    /// Plain TCP, over the first way.
    Tcp,
}

/// With what a connection is coupled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Couple {
    /// Its own subflows.
    #[default]
    Connection,
    /// All connections between two hosts.
    Bundle,
}

impl From<Couple> for CouplingScope {
    fn from(couple: Couple) -> Self {
        match couple {
            Couple::Connection => CouplingScope::Connection,
            Couple::Bundle => CouplingScope::Bundle,
        }
    }
}

/// Who sends to whom in a tree or a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Every host to one, that nobody else sends to.
    Permutation,
    /// Every host to one by lot; short flows each to another one.
    Random,
    /// In a cube: every host to all that are at a switch with it.
    Neighbours,
}

/// A way on lines.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WayPlan {
    /// The lines that data crosses, by name. Acknowledgments cross none.
    pub over: Vec<String>,
    /// The round trip without queues, besides the delays of the lines.
    pub rtt_ms: Millis,
}

/// Cross traffic that nobody answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CrossPlan {
    /// The lines that it takes.
    pub over: OneOrMore<String>,
    /// Its rate while it is on.
    pub rate_mbps: Quantity,
    /// On and off for random times that are so long on average; without them it is always on.
    pub on_ms: Option<Quantity>,
    /// See `on-ms`.
    pub off_ms: Option<Quantity>,
    /// When it begins.
    #[serde(default)]
    pub start_ms: Millis,
}

impl CrossPlan {
    /// For the laboratory; the lines are to be filled in.
    ///
    /// # Errors
    /// One of two times alone.
    pub fn spec(&self) -> Result<FillerSpec, String> {
        let on_off = match (self.on_ms, self.off_ms) {
            (None, None) => None,
            (Some(on), Some(off)) => Some((on.millis(), off.millis())),
            _ => return Err("it has either both on-ms and off-ms, or none of them".into()),
        };
        Ok(FillerSpec {
            lines: Vec::new(),
            rate_bps: (self.rate_mbps.get() * 1e6) as u64,
            packet_len: crate::sim::lab::line::FULL_PACKET as u16,
            on_off,
            start: crate::base::Instant::ZERO + self.start_ms.get(),
        })
    }
}

/// Something that changes at a line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChangePlan {
    /// When.
    pub at_ms: Millis,
    /// Which line.
    pub line: String,
    /// Nothing passes it for so long.
    pub down_for_ms: Option<Quantity>,
    /// Its new delay.
    pub delay_ms: Option<Millis>,
    /// Its new rate.
    pub rate_mbps: Option<Quantity>,
    /// Its new loss.
    pub loss_percent: Option<Percent>,
}
