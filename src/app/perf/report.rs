//! What is told of a test, and to whom: text as it goes, or one JSON document at the end.

use crate::app::perf::control::Role;
use crate::app::perf::error::PerfError;
use crate::app::perf::interval::{Interval, Totals};
use crate::app::perf::json::JsonReport;
use crate::app::perf::net::Multipath;
use crate::app::perf::parameters::Parameters;
use crate::app::perf::protocol::Cookie;
use crate::app::perf::results::{CpuUse, Results};
use crate::app::perf::text::TextReport;
use crate::stack::stream::FastOpenUse;
use crate::xdp::PortInfo;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

/// A connection of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionReport {
    /// The stream's name on the wire.
    pub id: u32,
    /// Whether this end sends.
    pub sender: bool,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub peer: SocketAddr,
    /// Whether it is MPTCP.
    pub multipath: Multipath,
}

/// What is known when the data begins to flow.
#[derive(Debug, Clone)]
pub struct Start {
    /// Which end we are.
    pub role: Role,
    /// What the test runs over.
    pub transport: &'static str,
    /// The NICs that it may use.
    pub ports: Vec<PortInfo>,
    /// The server as the user named it, or the client as it came.
    pub peer: (String, u16),
    /// The cookie.
    pub cookie: Cookie,
    /// What was agreed.
    pub parameters: Parameters,
    /// The date, in seconds since the beginning of 1970.
    pub date_secs: u64,
    /// The streams.
    pub connections: Vec<ConnectionReport>,
    /// Where files are read from or written to.
    pub file: Option<std::path::PathBuf>,
    /// Seconds between reports; 0: none.
    pub interval_secs: f64,
}

/// One stream at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEnd {
    /// Whether it was MPTCP.
    pub multipath: Multipath,
    /// Whether data went with its SYN; `None` where nobody tells.
    pub fast_open: Option<FastOpenUse>,
    /// Bytes sent once more on another subflow, because theirs was late or gone; `None` where nobody counts them.
    pub reinjected_bytes: Option<u64>,
    /// SHA-256 of the file at our end.
    pub local_sha256: Option<String>,
}

/// What is known at the end.
#[derive(Debug, Clone)]
pub struct End {
    /// Our figures.
    pub totals: Totals,
    /// More of our streams, in the same order.
    pub streams: Vec<StreamEnd>,
    /// Our use of processors.
    pub cpu: CpuUse,
    /// Our congestion control.
    pub congestion: Option<String>,
    /// The peer's figures, when it came to that.
    pub remote: Option<Results>,
}

/// Where a report goes.
#[derive(Debug, Default)]
pub struct Output {
    /// Goes in front of every line: the tests of a server that run at the same time are told apart by it.
    tag: String,
    /// What was written, to be sent to a client that asked for it.
    record: Option<String>,
    /// A server goes on when nobody reads its output any more.
    indifferent: bool,
}

impl Output {
    /// Standard output of a server, with a tag in front of every line. That nobody reads it is no error.
    pub fn of_server(tag: String) -> Self {
        Self { tag, record: None, indifferent: true }
    }

    /// Keeps what is written, from now on.
    pub fn keep_record(&mut self) {
        self.record.get_or_insert_default();
    }

    /// What was kept.
    pub fn record(&self) -> Option<&str> {
        self.record.as_deref()
    }

    /// Writes lines, each with its end.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn write(&mut self, lines: &str) -> Result<(), PerfError> {
        if let Some(record) = &mut self.record {
            record.push_str(lines);
        }
        let tagged: String = lines.split_inclusive('\n').flat_map(|line| [self.tag.as_str(), line]).collect();
        match print(&tagged) {
            Err(PerfError::OutputClosed) if self.indifferent => Ok(()),
            result => result,
        }
    }
}

/// Writes to standard output at once.
///
/// # Errors
/// Nobody reads it any more.
pub fn print(text: &str) -> Result<(), PerfError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(PerfError::OutputClosed),
        Err(error) => Err(PerfError::Output(error)),
    }
}

/// Tells of one test.
#[derive(Debug)]
pub enum Report {
    /// As it goes.
    Text(Box<TextReport>),
    /// All at the end.
    Json(Box<JsonReport>),
}

impl Report {
    /// In JSON, or as text to `output`.
    pub fn new(json: bool, output: Output) -> Self {
        if json {
            Report::Json(Box::new(JsonReport::new(output)))
        } else {
            Report::Text(Box::new(TextReport::new(output)))
        }
    }

    /// Something worth a line of text.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn note(&mut self, line: &str) -> Result<(), PerfError> {
        match self {
            Report::Text(text) => text.note(line),
            Report::Json(_) => Ok(()),
        }
    }

    /// Something that the reader should do something about.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn warn(&mut self, line: &str) -> Result<(), PerfError> {
        match self {
            Report::Text(text) => text.note(line),
            Report::Json(json) => {
                json.warn(line);
                Ok(())
            }
        }
    }

    /// Data begins to flow.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn start(&mut self, start: Start) -> Result<(), PerfError> {
        match self {
            Report::Text(text) => text.start(start),
            Report::Json(json) => {
                json.start(start);
                Ok(())
            }
        }
    }

    /// An interval has ended.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn interval(&mut self, interval: &Interval) -> Result<(), PerfError> {
        match self {
            Report::Text(text) => text.interval(interval),
            Report::Json(json) => {
                json.interval(interval);
                Ok(())
            }
        }
    }

    /// The test is over; what it came to.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn end(&mut self, end: End) -> Result<(), PerfError> {
        match self {
            Report::Text(text) => text.end(&end),
            Report::Json(json) => {
                json.end(end);
                Ok(())
            }
        }
    }

    /// What was shown so far, as text, if it was recorded.
    pub fn record(&self) -> Option<&str> {
        match self {
            Report::Text(text) => text.record(),
            Report::Json(_) => None,
        }
    }

    /// Records what is shown from now on.
    pub fn keep_record(&mut self) {
        match self {
            Report::Text(text) => text.keep_record(),
            Report::Json(_) => {}
        }
    }

    /// Nothing more follows; in JSON everything is written now, the error too.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn finish(self, error: Option<&PerfError>) -> Result<(), PerfError> {
        match self {
            Report::Text(_) => Ok(()),
            Report::Json(json) => json.finish(error),
        }
    }
}
