//! [`StallNotes`]: tells a test's report of NICs that give back nothing of what they are given.

use crate::app::perf::net::Net;
use crate::base::PortId;
use crate::runtime::Stalls;
use crate::xdp::{Mode, PortInfo};

/// The NICs of a test, and what was told of each.
#[derive(Debug)]
pub struct StallNotes {
    stalls: Option<Stalls>,
    ports: Vec<(PortInfo, bool)>,
}

impl StallNotes {
    /// Nothing was told yet.
    pub fn new(net: &Net) -> Self {
        Self { stalls: net.stalls(), ports: net.ports().iter().map(|port| (port.clone(), false)).collect() }
    }

    /// What has changed since the last call, in words.
    pub fn changes(&mut self) -> Vec<String> {
        match self.stalls.clone() {
            Some(stalls) => self.note(|port| stalls.is_stalled(port)),
            None => Vec::new(),
        }
    }

    fn note(&mut self, is_stalled: impl Fn(PortId) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        for (port, told) in &mut self.ports {
            let stalled = is_stalled(port.id);
            if std::mem::replace(told, stalled) != stalled {
                lines.push(describe(port, stalled));
            }
        }
        lines
    }
}

fn describe(port: &PortInfo, stalled: bool) -> String {
    let (name, driver) = (&port.name, &port.driver);
    if !stalled {
        return format!("NIC {name} completes transmissions again: its path is used again");
    }
    let remedy = match &port.mode {
        Mode::ZeroCopy => format!(
            "driver {driver} may lack a CPU for each queue (--queues N, no more than CPUs), or fail at zero-copy \
             (--zero-copy off)"
        ),
        Mode::Copy(_) => format!(
            "driver {driver} may lack a CPU for each queue (--queues N, no more than CPUs), or be held up by what lies \
             below it (tc -s qdisc shows queues)"
        ),
    };
    format!("NIC {name} completes no transmissions any more: its path counts as down until it does; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ChecksumMode, MacAddr};
    use crate::xdp::Refusal;

    #[test]
    fn a_nic_is_told_of_once_with_what_to_do() {
        let port = PortInfo {
            id: PortId(0),
            name: "p1".to_owned(),
            ifindex: 2,
            mac: MacAddr::default(),
            mtu: 1500,
            mtu_most: 1500,
            driver: "virtio_net".to_owned(),
            mode: Mode::ZeroCopy,
            native: true,
            queues: 4,
            checksum: ChecksumMode::Software,
        };
        let mut notes = StallNotes { stalls: None, ports: vec![(port, false)] };
        assert!(notes.changes().is_empty(), "the kernel's stack has no such NICs");
        assert!(notes.note(|_| false).is_empty());
        let told = notes.note(|_| true);
        assert_eq!(told.len(), 1);
        for part in ["NIC p1", "counts as down", "virtio_net", "--queues N", "--zero-copy off"] {
            assert!(told[0].contains(part), "{part}: {told:?}");
        }
        assert!(notes.note(|_| true).is_empty(), "once is enough");
        assert!(notes.note(|_| false)[0].contains("again"));
        let why = Refusal { nic: None, queue: None, reason: String::new(), remedy: String::new() };
        notes.ports[0].0.mode = Mode::Copy(why);
        let told = notes.note(|_| true);
        assert!(told[0].contains("tc -s qdisc") && !told[0].contains("--zero-copy"), "{told:?}");
    }
}
