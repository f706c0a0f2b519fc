//! What passes the bridges of a lab, captured by tcpdump and read by tshark, whose dissector of MPTCP we did not write.
//! The test crates' own `mod capture` reads this file by its path.

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
/// What it must not find in the headers of MPTCP: bytes without a mapping (with `mptcp.analyze_mappings`), keys and
/// algorithms at odds. tshark misses a mapping on segments without payload, too, where none belongs.
pub const MPTCP_COMPLAINTS: &str = "_ws.malformed || (mptcp.dss.missing_mapping && tcp.len > 0) || \
     mptcp.dss.infinite_mapping || mptcp.connection.echoed_key_mismatch || mptcp.connection.missing_algorithm || \
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

    /// The lines that tshark gives for a display filter, with more options of tshark. It looks for the mapping of every
    /// byte, which it does not by default.
    pub fn read(&self, filter: &str, more: &[&str]) -> Vec<String> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(self.folder.path().join("all.pcap"));
        for preference in ["tcp.check_checksum:TRUE", "ip.check_checksum:TRUE", "mptcp.analyze_mappings:TRUE"]
        {
            tshark.args(["-o", preference]);
        }
        let said = run(tshark.args(["-Y", filter]).args(more), LIMIT).expect_success("tshark").stdout;
        said.lines().map(str::to_owned).collect()
    }
}
