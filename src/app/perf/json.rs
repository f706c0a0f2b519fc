//! A test as one JSON document in iperf3's shape, with more where Braid knows more: `start.transport`,
//! `start.ports`, `warnings`, and `mptcp` and `file_sha256` of streams.

use crate::app::perf::control::Role;
use crate::app::perf::error::PerfError;
use crate::app::perf::interval::{Interval, StreamFigures};
use crate::app::perf::net::Multipath;
use crate::app::perf::parameters::Direction;
use crate::app::perf::report::{End, Output, Start};
use crate::app::perf::results::{CpuUse, StreamResult};
use crate::app::perf::text::{both_ends, rate};
use crate::stack::stream::FastOpenUse;
use crate::wire::ChecksumMode;
use crate::xdp::{Mode, PortInfo};
use serde_json::{Map, Value, json};

/// Collects a test and writes it at its end.
#[derive(Debug)]
pub struct JsonReport {
    output: Output,
    start: Option<Start>,
    intervals: Vec<Value>,
    warnings: Vec<String>,
    end: Option<End>,
}

/// A document that says only that there was no test, and why.
pub fn error_document(error: &str) -> String {
    pretty(&json!({ "start": { "version": version() }, "intervals": [], "end": {}, "error": error }))
}

fn version() -> String {
    format!("braid {}", env!("CARGO_PKG_VERSION"))
}

fn pretty(value: &Value) -> String {
    // The alternate form of a Value's Display is indented.
    format!("{value:#}\n")
}

impl JsonReport {
    /// Writes to `output`.
    pub fn new(output: Output) -> Self {
        Self { output, start: None, intervals: Vec::new(), warnings: Vec::new(), end: None }
    }

    /// Data begins to flow.
    pub fn start(&mut self, start: Start) {
        self.start = Some(start);
    }

    /// An interval has ended.
    pub fn interval(&mut self, interval: &Interval) {
        let value = self.interval_value(interval);
        self.intervals.push(value);
    }

    /// Something that the reader should do something about.
    pub fn warn(&mut self, line: &str) {
        self.warnings.push(line.to_owned());
    }

    /// The test is over.
    pub fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Writes the document.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn finish(mut self, error: Option<&PerfError>) -> Result<(), PerfError> {
        let document = self.document(error);
        self.output.write(&pretty(&document))
    }

    fn document(&mut self, error: Option<&PerfError>) -> Value {
        let intervals = std::mem::take(&mut self.intervals);
        let mut document = json!({
            "start": self.start_value(),
            "intervals": intervals,
            "end": self.end_value(),
        });
        if !self.warnings.is_empty() {
            document["warnings"] = json!(self.warnings);
        }
        if let Some(error) = error {
            document["error"] = json!(error.to_string());
        }
        let title = self.start.as_ref().and_then(|start| start.parameters.title.as_ref());
        if let Some(title) = title {
            document["title"] = json!(title);
        }
        document
    }

    fn start_value(&self) -> Value {
        let Some(start) = &self.start else { return json!({ "version": version() }) };
        let parameters = &start.parameters;
        let connected: Vec<Value> = start
            .connections
            .iter()
            .map(|connection| {
                json!({
                    "socket": connection.id,
                    "local_host": connection.local.ip().to_string(),
                    "local_port": connection.local.port(),
                    "remote_host": connection.peer.ip().to_string(),
                    "remote_port": connection.peer.port(),
                })
            })
            .collect();
        let seconds = start.date_secs;
        let (peer_key, host, port) = match start.role {
            Role::Client => ("connecting_to", &start.peer.0, start.peer.1),
            Role::Server => ("accepted_connection", &start.peer.0, start.peer.1),
        };
        let mut value = json!({
            "connected": connected,
            "version": version(),
            "system_info": system_info(),
            "timestamp": { "time": http_date(seconds), "timesecs": seconds },
            peer_key: { "host": host, "port": port },
            "cookie": start.cookie.to_string(),
            "target_bitrate": parameters.bandwidth,
            "sock_bufsize": parameters.window,
            "transport": start.transport,
            "ports": start.ports.iter().map(port_value).collect::<Vec<_>>(),
            "test_start": {
                "protocol": "TCP",
                "num_streams": parameters.parallel,
                "blksize": parameters.len,
                "omit": parameters.omit_secs,
                "duration": parameters.time_secs,
                "bytes": parameters.num,
                "blocks": parameters.blockcount,
                "reverse": i32::from(parameters.direction == Direction::Reverse),
                "bidir": i32::from(parameters.direction == Direction::Bidirectional),
                "tos": 0,
                "target_bitrate": parameters.bandwidth,
                "interval": start.interval_secs,
            },
        });
        if let Some(extra) = &parameters.extra_data {
            value["extra_data"] = json!(extra);
        }
        if let Some(file) = &start.file {
            value["file"] = json!(file.display().to_string());
        }
        value
    }

    /// The direction whose sums have the plain names: the client's sending, except in reverse.
    fn main_direction_is_sending(&self) -> bool {
        let Some(start) = &self.start else { return true };
        let client_sends = start.parameters.direction != Direction::Reverse;
        client_sends == (start.role == Role::Client)
    }

    fn interval_value(&self, interval: &Interval) -> Value {
        let (from, to) = (interval.start_secs, interval.end_secs);
        let span = |bytes: u64| {
            json!({
                "start": from,
                "end": to,
                "seconds": to - from,
                "bytes": bytes,
                "bits_per_second": rate(bytes, to - from),
            })
        };
        let streams: Vec<Value> = interval
            .streams
            .iter()
            .map(|stream| {
                let mut value = span(stream.bytes);
                value["socket"] = json!(stream.id);
                if let Some(retransmits) = stream.retransmits.filter(|_| stream.sender) {
                    value["retransmits"] = json!(retransmits);
                    value["snd_cwnd"] = json!(stream.cwnd());
                }
                if let Some((rtt_us, rttvar_us)) = stream.rtt_us() {
                    value["rtt"] = json!(rtt_us);
                    value["rttvar"] = json!(rttvar_us);
                }
                value["omitted"] = json!(interval.omitted);
                value["sender"] = json!(stream.sender);
                if !stream.subflows.is_empty() {
                    value["mptcp"] = json!({ "subflows": self.subflow_values(stream, to - from) });
                }
                value
            })
            .collect();
        let mut value = json!({ "streams": streams });
        let main = self.main_direction_is_sending();
        for (sender, key) in [(main, "sum"), (!main, "sum_bidir_reverse")] {
            let streams = interval.streams.iter().filter(|stream| stream.sender == sender);
            if streams.clone().next().is_none() {
                continue;
            }
            let mut sum = span(streams.clone().map(|stream| stream.bytes).sum());
            let retransmits: Option<u64> = streams.map(|stream| stream.retransmits).sum();
            if let Some(retransmits) = retransmits.filter(|_| sender) {
                sum["retransmits"] = json!(retransmits);
            }
            sum["omitted"] = json!(interval.omitted);
            sum["sender"] = json!(sender);
            value[key] = sum;
        }
        value
    }

    fn subflow_values(&self, stream: &StreamFigures, seconds: f64) -> Vec<Value> {
        let ports = self.start.as_ref().map(|start| start.ports.as_slice()).unwrap_or_default();
        let values = stream.subflows.iter().map(|subflow| {
            let info = &subflow.info;
            let port = ports.iter().find(|port| port.id == info.port);
            json!({
                "local_host": info.tuple.local.addr.to_string(),
                "local_port": info.tuple.local.port,
                "remote_host": info.tuple.remote.addr.to_string(),
                "remote_port": info.tuple.remote.port,
                "nic": port.map_or_else(|| info.port.to_string(), |port| port.name.clone()),
                "bytes": subflow.bytes,
                "bits_per_second": rate(subflow.bytes, seconds),
                "retransmits": subflow.retransmits,
                "rtt": info.srtt_us,
                "rttvar": info.rttvar_us,
                "snd_cwnd": info.cwnd,
                "mss": info.mss,
                "alive": info.alive,
                "backup": info.backup,
            })
        });
        values.collect()
    }

    fn end_value(&self) -> Value {
        let Some(end) = &self.end else { return json!({}) };
        let streams: Vec<Value> =
            (0..end.totals.streams.len()).map(|index| self.stream_end(end, index)).collect();
        let remote_cpu = end.remote.as_ref().map(|remote| remote.cpu);
        let mut value = json!({ "streams": streams });
        let main = self.main_direction_is_sending();
        for (sender, suffix) in [(main, ""), (!main, "_bidir_reverse")] {
            let of_direction = end.totals.streams.iter().filter(|total| total.figures.sender == sender);
            let sides: Vec<_> = of_direction
                .map(|total| both_ends(&total.figures, &end.totals, end.remote.as_ref()))
                .collect();
            if sides.is_empty() {
                continue;
            }
            let (sent, received): (Vec<_>, Vec<_>) = sides.into_iter().unzip();
            value[format!("sum_sent{suffix}")] = sum_value(sent, sender);
            value[format!("sum_received{suffix}")] = sum_value(received, sender);
        }
        value["cpu_utilization_percent"] = cpu_value(end.cpu, remote_cpu);
        let theirs = end.remote.as_ref().and_then(|remote| remote.congestion_used.as_ref());
        let (sender, receiver) =
            if main { (end.congestion.as_ref(), theirs) } else { (theirs, end.congestion.as_ref()) };
        for (key, name) in [("sender_tcp_congestion", sender), ("receiver_tcp_congestion", receiver)] {
            if let Some(name) = name {
                value[key] = json!(name);
            }
        }
        if let Some(text) = end.remote.as_ref().and_then(|remote| remote.server_output_text.as_ref()) {
            value["server_output_text"] = json!(text);
        }
        value
    }

    fn stream_end(&self, end: &End, index: usize) -> Value {
        let total = &end.totals.streams[index];
        let figures = &total.figures;
        let more = end.streams.get(index);
        let (sent, received) = both_ends(figures, &end.totals, end.remote.as_ref());
        let mut sender = side_value(figures.id, sent.as_ref(), figures.sender);
        if figures.sender && figures.retransmits.is_some() {
            sender["max_snd_cwnd"] = json!(total.extremes.max_cwnd);
            sender["max_rtt"] = json!(total.extremes.max_rtt_us);
            sender["min_rtt"] = json!(total.extremes.min_rtt_us);
            sender["mean_rtt"] = json!(total.extremes.mean_rtt_us);
        }
        let mut receiver = side_value(figures.id, received.as_ref(), figures.sender);
        let ours = more.and_then(|stream| stream.local_sha256.clone());
        let theirs = end.remote.as_ref().and_then(|remote| remote.stream(figures.id)?.file_sha256.clone());
        let (sent_digest, received_digest) = if figures.sender { (ours, theirs) } else { (theirs, ours) };
        for (side, digest) in [(&mut sender, sent_digest), (&mut receiver, received_digest)] {
            if let Some(digest) = digest {
                side["file_sha256"] = json!(digest);
            }
        }
        let (agreed, reason) = match more.map_or(Multipath::Unknown, |stream| stream.multipath) {
            Multipath::Unknown => (Value::Null, Value::Null),
            Multipath::Agreed => (json!(true), Value::Null),
            Multipath::Plain(reason) => (json!(false), json!(reason.map(|reason| reason.describe()))),
        };
        json!({
            "sender": sender,
            "receiver": receiver,
            "mptcp": {
                "agreed": agreed,
                "fallback_reason": reason,
                "data_in_syn": more.and_then(|stream| stream.fast_open).map(|used| match used {
                    FastOpenUse::Unused => "none",
                    FastOpenUse::Accepted => "accepted",
                    FastOpenUse::Ignored => "ignored",
                }),
                "reinjected_bytes": more.and_then(|stream| stream.reinjected_bytes),
                "subflows": self.subflow_values(figures, end.totals.seconds),
            },
        })
    }
}

fn side_value(id: u32, side: Option<&StreamResult>, sender: bool) -> Value {
    let mut value = Map::new();
    value.insert("socket".to_owned(), json!(id));
    if let Some(side) = side {
        value.insert("start".to_owned(), json!(0));
        value.insert("end".to_owned(), json!(side.end_secs));
        value.insert("seconds".to_owned(), json!(side.end_secs));
        value.insert("bytes".to_owned(), json!(side.bytes));
        value.insert("bits_per_second".to_owned(), json!(rate(side.bytes, side.end_secs)));
        if let Some(retransmits) = side.retransmits {
            value.insert("retransmits".to_owned(), json!(retransmits));
        }
    }
    value.insert("sender".to_owned(), json!(sender));
    Value::Object(value)
}

fn sum_value(sides: Vec<Option<StreamResult>>, sender: bool) -> Value {
    let Some(sides) = sides.into_iter().collect::<Option<Vec<StreamResult>>>() else {
        return json!({ "sender": sender });
    };
    let bytes = sides.iter().map(|side| side.bytes).sum();
    let seconds = sides.iter().map(|side| side.end_secs).fold(0.0, f64::max);
    let mut value = json!({
        "start": 0,
        "end": seconds,
        "seconds": seconds,
        "bytes": bytes,
        "bits_per_second": rate(bytes, seconds),
    });
    let retransmits: Option<u64> = sides.iter().map(|side| side.retransmits).sum();
    if let Some(retransmits) = retransmits {
        value["retransmits"] = json!(retransmits);
    }
    value["sender"] = json!(sender);
    value
}

fn cpu_value(host: CpuUse, remote: Option<CpuUse>) -> Value {
    let remote = remote.unwrap_or_default();
    json!({
        "host_total": host.total,
        "host_user": host.user,
        "host_system": host.system,
        "remote_total": remote.total,
        "remote_user": remote.user,
        "remote_system": remote.system,
    })
}

fn port_value(port: &PortInfo) -> Value {
    let why = match &port.mode {
        Mode::ZeroCopy => None,
        Mode::Copy(why) => Some(why),
    };
    json!({
        "nic": port.name,
        "driver": port.driver,
        "mtu": port.mtu,
        "native_xdp": port.native,
        "zero_copy": port.mode == Mode::ZeroCopy,
        "copy_reason": why.map(|why| &why.reason),
        "copy_remedy": why.map(|why| &why.remedy),
        "copy_because_of": why.and_then(|why| why.nic.as_ref()).map(|nic| {
            json!({ "nic": nic, "queue": why.and_then(|why| why.queue) })
        }),
        "queues": port.queues,
        "checksum": match port.checksum {
            ChecksumMode::Software => "software",
            ChecksumMode::Off => "off",
        },
    })
}

fn system_info() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.nodename(), name.release(), name.version(), name.machine()]
        .map(|part| part.to_string_lossy().into_owned())
        .join(" ")
}

/// A time in seconds since 1970 as in RFC 9110 §5.6.7: `Mon, 23 Nov 2026 16:55:52 GMT`.
fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = seconds / 86400;
    let (mut year, mut rest) = (1970, days);
    loop {
        let length = 365 + u64::from(leap(year));
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let mut month = 0;
    loop {
        let length = MONTHS[month].1 + u64::from(month == 1 && leap(year));
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[month].0);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(1_735_603_200), "Tue, 31 Dec 2024 00:00:00 GMT");
    }

    #[test]
    fn warnings_are_told_where_there_are_any() {
        let mut report = JsonReport::new(Output::default());
        assert_eq!(report.document(None).get("warnings"), None);
        report.warn("NIC p1 gives nothing back");
        assert_eq!(report.document(None)["warnings"], json!(["NIC p1 gives nothing back"]));
    }

    #[test]
    fn an_error_before_a_test_is_a_document_too() {
        let document: Value = serde_json::from_str(&error_document("no \"route\"")).unwrap();
        assert_eq!(document["error"], "no \"route\"");
    }
}
