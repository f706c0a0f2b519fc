//! The kernel's own TCP and MPTCP over the lab's links: iperf3, and iperf3 under `mptcpize run`.

use super::common::{Outcome, Reaped, done};
use super::hosts::kernel_paths;
use braid::lab::{Host, Lab, ipv4, nic};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// What a NIC does for the kernel's TCP, that AF_XDP has nothing of.
const OFFLOADS: [&str; 5] = ["tso", "gso", "gro", "tx", "rx"];
/// The second of two paths that carries less than this part of what both do has not been used.
const USED_PART: f64 = 0.1;

/// What the kernel is to do.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// MPTCP over both paths; else TCP over one.
    pub multipath: bool,
    /// Segmentation, aggregation and checksums of the NIC. Without them it sends the same frames as we do.
    pub offloads: bool,
}

impl Kernel {
    /// All that is measured.
    pub const ALL: [Kernel; 4] = [
        Kernel { multipath: false, offloads: false },
        Kernel { multipath: false, offloads: true },
        Kernel { multipath: true, offloads: false },
        Kernel { multipath: true, offloads: true },
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match (self.multipath, self.offloads) {
            (false, false) => "kernel TCP, one path, no offloads",
            (false, true) => "kernel TCP, one path, offloads",
            (true, false) => "kernel MPTCP, two paths, no offloads",
            (true, true) => "kernel MPTCP, two paths, offloads",
        }
    }

    /// Received bits a second of a transfer from host a to host b.
    pub fn goodput(self, lab: &Lab, seconds: u64) -> Outcome<f64> {
        for (host, path) in [(Host::A, 1), (Host::A, 2), (Host::B, 1), (Host::B, 2)] {
            let state = if self.offloads { "on" } else { "off" };
            let switches = OFFLOADS.iter().flat_map(|offload| [*offload, state]);
            done(lab.exec(host).args(["ethtool", "-K", &nic(path)]).args(switches))?;
        }
        kernel_paths(lab, self.multipath)?;
        let before = (arrived(lab, 1)?, arrived(lab, 2)?);
        let rate = self.transfer(lab, seconds)?;
        let paths = (arrived(lab, 1)? - before.0, arrived(lab, 2)? - before.1);
        if self.multipath && paths.1 < USED_PART * (paths.0 + paths.1) {
            return Err("the kernel's MPTCP used one path only".into());
        }
        Ok(rate)
    }

    fn transfer(self, lab: &Lab, seconds: u64) -> Outcome<f64> {
        let iperf3: &[&str] = if self.multipath { &["mptcpize", "run", "iperf3"] } else { &["iperf3"] };
        let mut server = lab.exec(Host::B);
        let server = server.args(iperf3).args(["-s", "-1", "--forceflush"]).stdout(Stdio::piped());
        let mut server = Reaped(server.spawn()?);
        let mut lines = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines();
        lines.by_ref().map_while(Result::ok).find(|line| line.contains("listening"));
        let host = ipv4(Host::B, 1).ok_or("host b has an address")?.to_string();
        let seconds = seconds.to_string();
        let output =
            lab.exec(Host::A).args(iperf3).args(["-c", &host, "-J", "-i", "0", "-t", &seconds]).output()?;
        let result: Value = serde_json::from_slice(&output.stdout)?;
        if let Some(error) = result["error"].as_str() {
            return Err(format!("iperf3: {error}").into());
        }
        lines.for_each(drop);
        server.0.wait()?;
        result["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(|| "no figure of iperf3".into())
    }
}

/// Bytes that have come to host b on a path.
fn arrived(lab: &Lab, path: u8) -> Outcome<f64> {
    let file = format!("/sys/class/net/{}/statistics/rx_bytes", nic(path));
    let output = lab.exec(Host::B).args(["cat", &file]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
