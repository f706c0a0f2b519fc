//! The network of a plan: a few lines that flows share, a FatTree, or a BCube.

use super::values::{Millis, Percent, Ports, Positive, Quantity, Small, Ways};
use crate::base::time::Duration;
use crate::sim::lab::line::{EarlyDrop, FULL_PACKET, LineConfig};
use crate::sim::lab::topology::bcube::BCube;
use crate::sim::lab::topology::tree::FatTree;
use crate::sim::pipe::QueueLimit;
use serde::Deserialize;

/// A FatTree, see [`FatTree`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TreePlan {
    /// Ports of a switch.
    pub k: Ports,
    /// So many times more hosts than the tree is made for.
    #[serde(default = "Positive::one")]
    pub oversubscription: Positive,
    /// How ways are chosen: ecmp, random or distinct.
    #[serde(default)]
    pub ways: Ways,
    /// What answers the data takes lines that limit nobody, as in simulators that model one direction only.
    #[serde(default)]
    pub acknowledgments_aside: bool,
    /// Its links.
    pub link: LinePlan,
}

/// A BCube, see [`BCube`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BCubePlan {
    /// Ports of a switch.
    pub ports: Small,
    /// Levels of switches: NICs of a host.
    pub levels: Small,
    /// How ways are chosen: ecmp, random or distinct.
    #[serde(default)]
    pub ways: Ways,
    /// Its links.
    pub link: LinePlan,
}

/// One direction of a link, as it stands in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLine {
    rate_mbps: Option<Quantity>,
    rate_packets: Option<Quantity>,
    #[serde(default)]
    delay_ms: Millis,
    queue_packets: Option<Positive>,
    queue_ms: Option<Quantity>,
    early_drop_packets: Option<Positive>,
    early_drop_percent: Option<Percent>,
    mark_above_packets: Option<Positive>,
    #[serde(default)]
    loss_percent: Percent,
}

/// One direction of a link: how fast it is (`rate-mbps`, or `rate-packets`: full packets a second), how long it is (`delay-ms`),
/// how long its queue may get (`queue-packets`, full ones, or `queue-ms`), how many of its last places drop by lot, and how many
/// percent they drop (`early-drop-packets`, `early-drop-percent`), from where on it marks (`mark-above-packets`), and how much it
/// loses (`loss-percent`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "RawLine")]
pub struct LinePlan {
    rate_bps: u64,
    delay: Duration,
    queue_bytes: usize,
    early_drop: Option<EarlyDrop>,
    mark_above_bytes: Option<usize>,
    loss: Percent,
}

/// Full packets that a queue holds where nothing else is said.
const QUEUE_PACKETS: f64 = 100.0;

impl TryFrom<RawLine> for LinePlan {
    type Error = String;

    fn try_from(raw: RawLine) -> Result<Self, String> {
        let RawLine {
            rate_mbps,
            rate_packets,
            delay_ms,
            queue_packets,
            queue_ms,
            early_drop_packets,
            early_drop_percent,
            mark_above_packets,
            loss_percent,
        } = raw;
        let full_packet = FULL_PACKET as f64;
        let rate_bps = match (rate_mbps, rate_packets) {
            (Some(mbps), None) => mbps.get() * 1e6,
            (None, Some(packets)) => packets.get() * full_packet * 8.0,
            _ => return Err("a line has either rate-mbps or rate-packets (full packets a second)".into()),
        };
        let queue_bytes = match (queue_packets, queue_ms) {
            (None, None) => QUEUE_PACKETS * full_packet,
            (Some(packets), None) => f64::from(packets.get()) * full_packet,
            (None, Some(ms)) => (rate_bps / 8e3 * ms.get()).max(full_packet),
            (Some(_), Some(_)) => return Err("a line has queue-packets or queue-ms, not both".into()),
        };
        let early_drop = match (early_drop_packets, early_drop_percent) {
            (None, None) => None,
            (Some(packets), Some(percent)) => Some(early_drop(queue_bytes, packets, percent)?),
            _ => return Err("a queue that drops early has early-drop-packets and early-drop-percent".into()),
        };
        Ok(Self {
            rate_bps: (rate_bps as u64).max(1),
            delay: delay_ms.get(),
            queue_bytes: queue_bytes as usize,
            early_drop,
            mark_above_bytes: mark_above_packets.map(|packets| packets.get() as usize * FULL_PACKET),
            loss: loss_percent,
        })
    }
}

/// Drops by lot in the last places of a queue. The first place stays out of it: a packet that finds the line idle is never
/// in anybody's way.
fn early_drop(queue_bytes: f64, packets: Positive, percent: Percent) -> Result<EarlyDrop, String> {
    let last_bytes = f64::from(packets.get()) * FULL_PACKET as f64;
    let above_bytes = queue_bytes - last_bytes;
    if above_bytes < FULL_PACKET as f64 {
        return Err("early-drop-packets has to be less than what the queue holds".into());
    }
    Ok(EarlyDrop { above: QueueLimit::Bytes(above_bytes as usize), probability: percent.share() })
}

impl LinePlan {
    /// For the laboratory.
    pub fn config(&self) -> LineConfig {
        let Self { rate_bps, delay, queue_bytes, early_drop, mark_above_bytes, loss } = *self;
        LineConfig {
            rate_bps,
            delay,
            queue: QueueLimit::Bytes(queue_bytes),
            early_drop,
            mark_above: mark_above_bytes.map(QueueLimit::Bytes),
            loss: loss.share(),
            ..LineConfig::default()
        }
    }

    /// Mbit/s.
    pub fn rate_mbps(&self) -> f64 {
        self.rate_bps as f64 / 1e6
    }
}

impl TreePlan {
    /// The network.
    pub fn tree(&self) -> FatTree {
        let Self { k, oversubscription, ways, acknowledgments_aside, link } = self;
        FatTree {
            k: k.0,
            link: link.config(),
            oversubscription: oversubscription.get() as usize,
            choice: ways.0,
            answers_aside: *acknowledgments_aside,
        }
    }
}

impl BCubePlan {
    /// The network.
    pub fn bcube(&self) -> BCube {
        let Self { ports, levels, ways, link } = self;
        BCube { ports: ports.0, levels: levels.0, link: link.config(), choice: ways.0 }
    }
}
