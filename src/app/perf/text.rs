//! A test as text: iperf3's lines, and below each stream its subflows.

use crate::app::perf::control::Role;
use crate::app::perf::error::PerfError;
use crate::app::perf::interval::{Interval, StreamFigures, SubflowFigures, Totals};
use crate::app::perf::net::Multipath;
use crate::app::perf::parameters::Direction;
use crate::app::perf::report::{End, Output, Start, StreamEnd};
use crate::app::perf::results::{Results, StreamResult};
use crate::app::perf::units;
use crate::stack::stream::FastOpenUse;
use crate::wire::ChecksumMode;
use crate::xdp::{Mode, PortInfo};
use std::fmt::Write;

const RULE: &str = "- - - - - - - - - - - - - - - - - - - - - - - - -\n";

/// Tells of one test in text.
#[derive(Debug)]
pub struct TextReport {
    output: Output,
    start: Option<Start>,
    /// The heading of the intervals was shown.
    heading: bool,
}

/// What a line says besides interval, transfer and rate.
#[derive(Debug, Clone, Copy)]
enum Extra {
    None,
    Retransmits(u64),
    RetransmitsAndWindow(u64, u64),
}

impl TextReport {
    /// Writes to `output`.
    pub fn new(output: Output) -> Self {
        Self { output, start: None, heading: false }
    }

    /// What was shown so far, if it was recorded.
    pub fn record(&self) -> Option<&str> {
        self.output.record()
    }

    /// Records what is shown from now on.
    pub fn keep_record(&mut self) {
        self.output.keep_record();
    }

    /// One line.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn note(&mut self, line: &str) -> Result<(), PerfError> {
        self.output.write(&format!("{line}\n"))
    }

    /// Data begins to flow.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn start(&mut self, start: Start) -> Result<(), PerfError> {
        let mut text = String::new();
        if let Some(title) = &start.parameters.title {
            line(&mut text, format_args!("Title: {title}"));
        }
        line(&mut text, format_args!("Transport: {}", start.transport));
        for port in &start.ports {
            line(&mut text, format_args!("{}", describe_port(port)));
        }
        let server_sends = match start.role {
            Role::Client if start.parameters.direction == Direction::Reverse => true,
            Role::Client | Role::Server => false,
        };
        if server_sends {
            line(&mut text, format_args!("Reverse mode, the server is sending"));
        }
        for connection in &start.connections {
            let (local, peer) = (connection.local, connection.peer);
            line(
                &mut text,
                format_args!(
                    "[{:>3}] local {} port {} connected to {} port {}{}",
                    connection.id,
                    local.ip(),
                    local.port(),
                    peer.ip(),
                    peer.port(),
                    describe_multipath(connection.multipath)
                ),
            );
        }
        self.start = Some(start);
        self.output.write(&text)
    }

    fn bidirectional(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.parameters.direction == Direction::Bidirectional)
    }

    fn role(&self) -> Role {
        self.start.as_ref().map_or(Role::Client, |start| start.role)
    }

    /// `[TX-C]` and its like, in a test of both directions.
    fn tag(&self, sender: bool) -> &'static str {
        match (self.bidirectional(), self.role(), sender) {
            (false, ..) => "",
            (true, Role::Client, true) => "[TX-C]",
            (true, Role::Client, false) => "[RX-C]",
            (true, Role::Server, true) => "[TX-S]",
            (true, Role::Server, false) => "[RX-S]",
        }
    }

    fn heading(&self, text: &mut String, columns: &str) {
        let role = if self.bidirectional() { "[Role]" } else { "" };
        line(text, format_args!("[ ID]{role} Interval           Transfer     Bitrate{columns}"));
    }

    fn port_name(&self, subflow: &SubflowFigures) -> String {
        let ports = self.start.as_ref().map(|start| start.ports.as_slice()).unwrap_or_default();
        let port = ports.iter().find(|port| port.id == subflow.info.port);
        port.map_or_else(|| subflow.info.port.to_string(), |port| port.name.clone())
    }

    /// An interval has ended.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn interval(&mut self, interval: &Interval) -> Result<(), PerfError> {
        let mut text = String::new();
        if !self.heading {
            self.heading = true;
            let retransmits = interval.streams.iter().any(|s| s.sender && s.retransmits.is_some());
            self.heading(&mut text, if retransmits { "         Retr  Cwnd" } else { "" });
        }
        let end = if interval.omitted { "(omitted)" } else { "" };
        let span = (interval.start_secs, interval.end_secs);
        for stream in &interval.streams {
            let extra = match (stream.sender, stream.retransmits, stream.cwnd()) {
                (true, Some(count), Some(cwnd)) => Extra::RetransmitsAndWindow(count, cwnd),
                (true, Some(count), None) => Extra::Retransmits(count),
                _ => Extra::None,
            };
            let name = stream_name(stream.id);
            row(&mut text, &name, self.tag(stream.sender), span, stream.bytes, extra, end);
            self.subflow_rows(&mut text, stream, span);
        }
        for sender in [true, false] {
            let streams = interval.streams.iter().filter(|stream| stream.sender == sender);
            if streams.clone().count() > 1 {
                let bytes = streams.clone().map(|stream| stream.bytes).sum();
                let retransmits: Option<u64> = streams.map(|stream| stream.retransmits).sum();
                let extra = retransmits.filter(|_| sender).map_or(Extra::None, Extra::Retransmits);
                row(&mut text, "[SUM]", self.tag(sender), span, bytes, extra, end);
            }
        }
        self.output.write(&text)
    }

    fn subflow_rows(&self, text: &mut String, stream: &StreamFigures, span: (f64, f64)) {
        let ends = |subflow: &SubflowFigures| subflow.info.tuple.to_string();
        let width = |of: &dyn Fn(&SubflowFigures) -> String| {
            stream.subflows.iter().map(|subflow| of(subflow).len()).max().unwrap_or(0)
        };
        let (ends_width, nic_width) = (width(&ends), width(&|subflow| self.port_name(subflow)));
        for subflow in &stream.subflows {
            let info = &subflow.info;
            let state = match (info.alive, info.backup) {
                (false, _) => "  down",
                (true, true) => "  backup",
                (true, false) => "",
            };
            let rtt = match info.srtt_us {
                0 => "-".to_owned(),
                us => units::microseconds(f64::from(us)),
            };
            let mut sending = String::new();
            if stream.sender {
                let cwnd = units::bytes(f64::from(info.cwnd));
                sending = format!("  retr {:>3}  cwnd {cwnd:>11}", subflow.retransmits);
            }
            line(
                text,
                format_args!(
                    "      {:ends_width$}  {:nic_width$}  {:>11}  {:>14}  rtt {rtt:>8}{sending}{state}",
                    ends(subflow),
                    self.port_name(subflow),
                    units::bytes(subflow.bytes as f64),
                    units::bits_per_second(rate(subflow.bytes, span.1 - span.0)),
                ),
            );
        }
    }

    /// The test is over.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn end(&mut self, end: &End) -> Result<(), PerfError> {
        let mut text = String::from(RULE);
        let retransmits = end.totals.streams.iter().any(|total| total.figures.retransmits.is_some())
            || end.remote.as_ref().is_some_and(|remote| remote.sender_has_retransmits == Some(true));
        self.heading(&mut text, if retransmits { "         Retr" } else { "" });
        for total in &end.totals.streams {
            let figures = &total.figures;
            let (sent, received) = both_ends(figures, &end.totals, end.remote.as_ref());
            for (side, label) in [(sent, "sender"), (received, "receiver")] {
                let Some(side) = side else { continue };
                let extra = side.retransmits.map_or(Extra::None, Extra::Retransmits);
                let name = stream_name(figures.id);
                let span = (0.0, side.end_secs);
                row(&mut text, &name, self.tag(figures.sender), span, side.bytes, extra, label);
            }
        }
        for sender in [true, false] {
            self.sums(&mut text, end, sender);
        }
        for (total, stream) in end.totals.streams.iter().zip(&end.streams) {
            self.stream_end(&mut text, &total.figures, stream, end);
        }
        if self.role() == Role::Client && end.remote.is_some() {
            text.push_str("\nDone.\n");
        }
        if let Some(theirs) = end.remote.as_ref().and_then(|remote| remote.server_output_text.as_ref()) {
            line(&mut text, format_args!("\nServer output:\n{}", printable(theirs)));
        }
        self.output.write(&text)
    }

    fn sums(&self, text: &mut String, end: &End, sender: bool) {
        let streams: Vec<_> =
            end.totals.streams.iter().filter(|total| total.figures.sender == sender).collect();
        if streams.len() < 2 {
            return;
        }
        let sides: Vec<_> =
            streams.iter().map(|total| both_ends(&total.figures, &end.totals, end.remote.as_ref())).collect();
        for (label, side) in [("sender", 0), ("receiver", 1)] {
            let all: Option<Vec<&StreamResult>> =
                sides.iter().map(|ends| if side == 0 { ends.0.as_ref() } else { ends.1.as_ref() }).collect();
            let Some(all) = all else { continue };
            let bytes = all.iter().map(|result| result.bytes).sum();
            let longest = all.iter().map(|result| result.end_secs).fold(0.0, f64::max);
            let retransmits: Option<u64> = all.iter().map(|result| result.retransmits).sum();
            let extra = retransmits.map_or(Extra::None, Extra::Retransmits);
            row(text, "[SUM]", self.tag(sender), (0.0, longest), bytes, extra, label);
        }
    }

    /// What iperf3 has no line for: the subflows of the whole test, MPTCP or not, digests.
    fn stream_end(&self, text: &mut String, figures: &StreamFigures, stream: &StreamEnd, end: &End) {
        let name = stream_name(figures.id);
        if stream.multipath != Multipath::Unknown || !figures.subflows.is_empty() {
            line(
                text,
                format_args!(
                    "{name} {} subflow{}{}{}{}",
                    figures.subflows.len(),
                    if figures.subflows.len() == 1 { "" } else { "s" },
                    describe_multipath(stream.multipath),
                    describe_fast_open(stream.fast_open),
                    describe_reinjections(stream.reinjected_bytes)
                ),
            );
            self.subflow_rows(text, figures, (0.0, end.totals.seconds));
        }
        let remote = end.remote.as_ref().and_then(|remote| remote.stream(figures.id));
        let theirs = remote.and_then(|result| result.file_sha256.as_deref());
        let ours = stream.local_sha256.as_deref();
        let (sent, received) = if figures.sender { (ours, theirs) } else { (theirs, ours) };
        for (what, digest) in [("sent    ", sent), ("received", received)] {
            if let Some(digest) = digest {
                line(text, format_args!("{name} SHA-256 {what} {digest}"));
            }
        }
        if let (Some(sent), Some(received)) = (sent, received) {
            let verdict = if sent == received { "the same" } else { "DIFFERENT" };
            line(text, format_args!("{name} the file is {verdict} at both ends"));
        }
    }
}

/// The sender's and the receiver's figures of a stream: ours, and the peer's if it told us.
pub fn both_ends(
    figures: &StreamFigures,
    totals: &Totals,
    remote: Option<&Results>,
) -> (Option<StreamResult>, Option<StreamResult>) {
    let ours = StreamResult {
        id: figures.id,
        bytes: figures.bytes,
        retransmits: figures.retransmits.filter(|_| figures.sender),
        start_secs: 0.0,
        end_secs: totals.seconds,
        file_sha256: None,
    };
    let theirs = remote.and_then(|remote| {
        let mut theirs = remote.stream(figures.id)?.clone();
        // Some peers count from the start of the omitted part; only the length matters here.
        theirs.end_secs = (theirs.end_secs - theirs.start_secs).max(0.0);
        theirs.start_secs = 0.0;
        let told = !figures.sender && remote.sender_has_retransmits == Some(true);
        theirs.retransmits = theirs.retransmits.filter(|_| told);
        Some(theirs)
    });
    if figures.sender { (Some(ours), theirs) } else { (theirs, Some(ours)) }
}

/// A rate in bit/s.
pub fn rate(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 * 8.0 / seconds } else { 0.0 }
}

fn stream_name(id: u32) -> String {
    format!("[{id:>3}]")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{arguments}");
}

fn row(text: &mut String, name: &str, tag: &str, span: (f64, f64), bytes: u64, extra: Extra, end: &str) {
    let (start, stop) = span;
    let amount = units::bytes(bytes as f64);
    let speed = units::bits_per_second(rate(bytes, stop - start));
    let extra = match extra {
        Extra::None => " ".repeat(18),
        Extra::Retransmits(count) => format!("  {count:>3}             "),
        Extra::RetransmitsAndWindow(count, cwnd) => {
            format!("  {count:>3}   {:>11}", units::bytes(cwnd as f64))
        }
    };
    let whole = format!("{name}{tag} {start:6.2}-{stop:<6.2} sec  {amount}  {speed}{extra} {end}");
    line(text, format_args!("{}", whole.trim_end()));
}

fn describe_port(port: &PortInfo) -> String {
    format!(
        "NIC {}: driver {}, {}{}, {} queue{}, checksums {}, MTU {}",
        port.name,
        port.driver,
        match &port.mode {
            Mode::ZeroCopy => "zero-copy".to_owned(),
            Mode::Copy(why) => format!("copy ({}; {})", why.reason, why.remedy),
        },
        if port.native { "" } else { ", generic XDP (slow)" },
        port.queues,
        if port.queues == 1 { "" } else { "s" },
        match port.checksum {
            ChecksumMode::Software => "in software",
            ChecksumMode::Off => "off",
        },
        port.mtu,
    )
}

fn describe_multipath(multipath: Multipath) -> String {
    match multipath {
        Multipath::Unknown => String::new(),
        Multipath::Agreed => ", MPTCP".to_owned(),
        Multipath::Plain(Some(reason)) => format!(", plain TCP: {reason}"),
        Multipath::Plain(None) => ", plain TCP".to_owned(),
    }
}

/// Nothing where no data went with a SYN: that is how it is without Fast Open.
fn describe_fast_open(used: Option<FastOpenUse>) -> &'static str {
    match used {
        None | Some(FastOpenUse::Unused) => "",
        Some(FastOpenUse::Accepted) => ", data in the SYN",
        Some(FastOpenUse::Ignored) => ", data in the SYN was ignored and sent again",
    }
}

/// Nothing where nothing was reinjected: that is how it should be.
fn describe_reinjections(bytes: Option<u64>) -> String {
    match bytes {
        None | Some(0) => String::new(),
        Some(bytes) => format!(", {} reinjected", units::bytes(bytes as f64)),
    }
}

/// What a peer sends is shown on a terminal: no control characters but line ends.
fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_look_like_those_of_iperf3() {
        let mut text = String::new();
        row(
            &mut text,
            "[  5]",
            "",
            (0.0, 1.0),
            1 << 30,
            Extra::RetransmitsAndWindow(4, 916_480),
            "(omitted)",
        );
        assert_eq!(
            text,
            "[  5]   0.00-1.00   sec  1.00 GBytes  8.59 Gbits/sec    4    895 KBytes (omitted)\n"
        );
        text.clear();
        row(&mut text, "[SUM]", "", (0.0, 10.0), 1 << 30, Extra::Retransmits(2), "sender");
        assert_eq!(text, "[SUM]   0.00-10.00  sec  1.00 GBytes   859 Mbits/sec    2              sender\n");
        text.clear();
        row(&mut text, "[  5]", "[RX-C]", (0.0, 0.0), 0, Extra::None, "");
        assert_eq!(text, "[  5][RX-C]   0.00-0.00   sec  0.00 Bytes  0.00 bits/sec\n");
    }

    #[test]
    fn a_peers_text_moves_no_cursor() {
        assert_eq!(printable("a\x1b[2Jb\nc\r"), "a[2Jb\nc");
    }
}
