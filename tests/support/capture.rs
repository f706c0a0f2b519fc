//! What passes the bridges of a lab, captured by tcpdump and read by tshark, whose dissector of MPTCP we did not write.
//! The test crates' own `mod capture` reads this file by its path.

// Each test binary uses its part of this.
#![allow(dead_code)]

use crate::support::{Background, run};
use braid::lab::{Host, Lab};
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// No reading takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What a lab needs for captures: programs, and the packages that have them.
pub const CAPTURE_TOOLS: [(&str, &str); 3] =
    [("tcpdump", "tcpdump"), ("tshark", "tshark"), ("mergecap", "wireshark-common")];

/// What tshark must not find in whole packets.
pub const COMPLAINTS: &str = "_ws.malformed || tcp.checksum.status == Bad || ip.checksum.status == Bad";
/// What it must not find in the headers of MPTCP, beside bytes without a mapping ([`Capture::unmapped`]).
pub const MPTCP_COMPLAINTS: &str = "_ws.malformed || mptcp.dss.infinite_mapping || \
     mptcp.connection.echoed_key_mismatch || mptcp.connection.missing_algorithm || \
     mptcp.connection.unsupported_algorithm";
/// The kernel writes a checksum of 0 as 0xffff, which sums up alike, but which tshark takes for wrong (RFC 1624 §3).
pub const ZERO_AS_ONES: &str = "tcp.checksum.status == Bad && tcp.checksum == 0xffff";

/// How much of each packet is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snap {
    /// All of it: checksums can be checked.
    Whole,
    /// The headers, with all options.
    Headers,
}

/// Captures of all paths at the bridges, joined when they end.
#[derive(Debug)]
pub struct Capture {
    folder: tempfile::TempDir,
    dumps: Vec<Background>,
}

impl Capture {
    /// Captures from now on.
    pub fn start(lab: &Lab, snap: Snap) -> Capture {
        let folder = tempfile::tempdir().unwrap();
        let length = match snap {
            Snap::Whole => "0",
            // Ethernet with a tag, IPv6, TCP with 40 bytes of options.
            Snap::Headers => "118",
        };
        let dumps = (1..=lab.paths()).map(|path| {
            let file = folder.path().join(format!("{path}.pcap"));
            let file = file.to_str().unwrap();
            // -Z root: or tcpdump gives up the right to write there. -B: room for a burst, in KiB. Port `a` of a bridge
            // sees what the client's host sends before the box in the middle, and what the server sends behind it.
            let words = ["-Z", "root", "-U", "-B", "65536", "-s", length, "-i", "a", "-w", file];
            let mut dump = Background::start(lab.exec(Host::Middle(path)).arg("tcpdump").args(words));
            dump.wait_for("listening on", LIMIT);
            dump
        });
        let dumps = dumps.collect();
        Capture { folder, dumps }
    }

    /// Ends it; nothing may have been missed.
    pub fn stop(&mut self) {
        sleep(Duration::from_millis(300));
        for dump in self.dumps.drain(..) {
            dump.signal(rustix::process::Signal::INT);
            let said = dump.finish(LIMIT).expect_success("tcpdump").stderr;
            assert!(said.contains("0 packets dropped by kernel"), "the capture is incomplete: {said}");
        }
        let files = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.collect();
        let all = self.folder.path().join("all.pcap");
        run(Command::new("mergecap").arg("-w").arg(all).args(files), LIMIT).expect_success("mergecap");
    }

    /// The lines that tshark gives for a display filter, with more options of tshark.
    pub fn read(&self, filter: &str, more: &[&str]) -> Vec<String> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(self.folder.path().join("all.pcap"));
        tshark
            .args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", filter])
            .args(more);
        let said = run(&mut tshark, LIMIT).expect_success("tshark").stdout;
        said.lines().map(str::to_owned).collect()
    }

    /// Segments with bytes that no mapping speaks of, as tshark sees it with `mptcp.analyze_mappings`, one a line. tshark
    /// 4.0 does not find again what came out of order, and says so of segments that bear their own mapping; those are left
    /// out. It also misses mappings on segments without payload, where none belongs.
    pub fn unmapped(&self) -> Vec<String> {
        let filter = "mptcp.dss.missing_mapping && tcp.len > 0";
        let mut more = vec!["-o", "mptcp.analyze_mappings:TRUE", "-T", "fields"];
        let fields = [
            "tcp.seq",
            "tcp.len",
            "tcp.options.mptcp.subflowseqno",
            "tcp.options.mptcp.datalvllen",
            "frame.number",
            "ip.src",
            "ipv6.src",
        ];
        more.extend(fields.iter().flat_map(|field| ["-e", *field]));
        let mut lines = self.read(filter, &more);
        lines.retain(|line| !bears_its_mapping(line));
        lines
    }
}

/// Whether the mapping on a segment covers all of its bytes: relative sequence number, length, and the same of the mapping.
fn bears_its_mapping(line: &str) -> bool {
    let mut numbers = line.split('\t').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    match (next(), next(), next(), next()) {
        (Some(seq), Some(len), Some(mapped), Some(mapped_len)) => {
            mapped <= seq && seq + len <= mapped + mapped_len
        }
        _ => false,
    }
}
