//! What a client asks of a test: the parameters of the iperf3 protocol, to JSON and, checked, from it.

use crate::app::perf::protocol::{STREAMS_MAX, Violation, parse_object};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Bytes that are read and written at a time when nobody says otherwise: 128 KiB.
pub const BLOCK_DEFAULT: u32 = 128 << 10;
/// The longest block: 1 MiB.
pub const BLOCK_MAX: u32 = 1 << 20;
/// The longest test, in seconds: a day.
pub const TIME_MAX_SECS: u32 = 86400;
/// The longest part that is not counted, in seconds.
pub const OMIT_MAX_SECS: u32 = 600;
/// The largest socket buffer, in bytes: 512 MiB.
pub const WINDOW_MAX: u32 = 512 << 20;
/// The largest segment, in bytes.
pub const MSS_MAX: u32 = 32767;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The client.
    #[default]
    Forward,
    /// The server.
    Reverse,
    /// Both, each over streams of their own.
    Bidirectional,
}

/// A test, as the client's parameters describe it. 0 means "not set" for every number but `len`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Seconds at the beginning that don't count.
    pub omit_secs: u32,
    /// Seconds that count; 0: until something else ends the test.
    pub time_secs: u32,
    /// Bytes after which a direction is done, over all of its streams.
    pub num: u64,
    /// The same in blocks of `len` bytes.
    pub blockcount: u64,
    /// Streams in each direction.
    pub parallel: u32,
    /// Who sends.
    pub direction: Direction,
    /// Bytes to read and write at a time.
    pub len: u32,
    /// The rate of each stream in bit/s.
    pub bandwidth: u64,
    /// Send small segments without delay.
    pub nodelay: bool,
    /// Size of the kernel's socket buffers, in bytes.
    pub window: u32,
    /// Congestion control.
    pub congestion: Option<String>,
    /// A name for the test.
    pub title: Option<String>,
    /// Anything, for the JSON reports.
    pub extra_data: Option<String>,
    /// The client wants to show the server's text too.
    pub get_server_output: bool,
    /// The data connections are MPTCP sockets of the client's kernel.
    pub mptcp: bool,
    /// Whoever has finished sending half-closes its data connections, and the other end reads up to there before it
    /// reports: so nothing is missing from a file. Braid's own; stock iperf3 ignores it.
    pub half_close: bool,
    /// The client's program.
    pub client_version: Option<String>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            omit_secs: 0,
            time_secs: 10,
            num: 0,
            blockcount: 0,
            parallel: 1,
            direction: Direction::Forward,
            len: BLOCK_DEFAULT,
            bandwidth: 0,
            nodelay: false,
            window: 0,
            congestion: None,
            title: None,
            extra_data: None,
            get_server_output: false,
            mptcp: false,
            half_close: false,
            client_version: None,
        }
    }
}

/// Why a server can't run the test that these parameters ask for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unacceptable {
    /// Not JSON, or values of wrong types.
    #[error("unreadable parameters: {0}")]
    Malformed(Violation),
    /// UDP.
    #[error("the client asks for UDP; only TCP (and so MPTCP) is spoken here")]
    Udp,
    /// SCTP.
    #[error("the client asks for SCTP; only TCP (and so MPTCP) is spoken here")]
    Sctp,
    /// Not one protocol, or more than one.
    #[error("the client does not say which transport protocol to use")]
    NoProtocol,
    /// A number that is too large.
    #[error("'{key}' is {value}: it must be in {min}..={max}")]
    OutOfRange {
        /// Its key.
        key: &'static str,
        /// The number.
        value: i128,
        /// The least that would do.
        min: u32,
        /// The most that would do.
        max: u32,
    },
    /// Both directions in two ways.
    #[error("the client asks for reverse and bidirectional at once")]
    TwoDirections,
}

impl Unacceptable {
    /// iperf3's number of the error, that its clients know words for.
    pub fn code(&self) -> i32 {
        match self {
            Unacceptable::Malformed(_) => 114,
            Unacceptable::Udp | Unacceptable::NoProtocol => 131,
            Unacceptable::Sctp => 18,
            Unacceptable::TwoDirections => 25,
            Unacceptable::OutOfRange { key, .. } => match *key {
                "time" => 5,
                "parallel" => 6,
                "len" => 7,
                "window" => 8,
                "MSS" => 10,
                "omit" => 12,
                _ => 114,
            },
        }
    }
}

impl Parameters {
    /// As a client sends them.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("tcp", json!(true));
        put("omit", json!(self.omit_secs));
        put("time", json!(self.time_secs));
        put("num", json!(self.num));
        put("blockcount", json!(self.blockcount));
        put("parallel", json!(self.parallel));
        put("len", json!(self.len));
        put("pacing_timer", json!(1000));
        match self.direction {
            Direction::Forward => {}
            Direction::Reverse => drop(put("reverse", json!(true))),
            Direction::Bidirectional => drop(put("bidirectional", json!(true))),
        }
        for (key, on) in
            [("nodelay", self.nodelay), ("mptcp", self.mptcp), ("braid_half_close", self.half_close)]
        {
            if on {
                put(key, json!(true));
            }
        }
        if self.get_server_output {
            put("get_server_output", json!(1));
        }
        if self.window != 0 {
            put("window", json!(self.window));
        }
        if self.bandwidth != 0 {
            put("bandwidth", json!(self.bandwidth));
        }
        for (key, text) in [
            ("congestion", &self.congestion),
            ("title", &self.title),
            ("extra_data", &self.extra_data),
            ("client_version", &self.client_version),
        ] {
            if let Some(text) = text {
                put(key, json!(text));
            }
        }
        Value::Object(object)
    }

    /// From a client's message.
    ///
    /// # Errors
    /// It is malformed, or asks for what can't be had.
    pub fn parse(text: &[u8]) -> Result<Self, Unacceptable> {
        let object = parse_object(text).map_err(Unacceptable::Malformed)?;
        let flag = |key| matches!(object.get(key), Some(Value::Bool(true)));
        match (flag("tcp"), flag("udp"), flag("sctp")) {
            (true, false, false) => {}
            (_, true, false) => return Err(Unacceptable::Udp),
            (_, false, true) => return Err(Unacceptable::Sctp),
            _ => return Err(Unacceptable::NoProtocol),
        }
        let direction = match (flag("reverse"), flag("bidirectional")) {
            (false, false) => Direction::Forward,
            (true, false) => Direction::Reverse,
            (false, true) => Direction::Bidirectional,
            (true, true) => return Err(Unacceptable::TwoDirections),
        };
        ranged(&object, "MSS", 0, 0, MSS_MAX)?;
        Ok(Self {
            omit_secs: ranged(&object, "omit", 0, 0, OMIT_MAX_SECS)?,
            time_secs: ranged(&object, "time", 0, 0, TIME_MAX_SECS)?,
            num: count(&object, "num")?,
            blockcount: count(&object, "blockcount")?,
            parallel: ranged(&object, "parallel", 1, 1, STREAMS_MAX)?,
            direction,
            len: ranged(&object, "len", BLOCK_DEFAULT, 1, BLOCK_MAX)?,
            bandwidth: count(&object, "bandwidth")?,
            nodelay: flag("nodelay"),
            window: ranged(&object, "window", 0, 0, WINDOW_MAX)?,
            congestion: text_of(&object, "congestion")?,
            title: text_of(&object, "title")?,
            extra_data: text_of(&object, "extra_data")?,
            get_server_output: integer(&object, "get_server_output", 0)? != 0,
            mptcp: flag("mptcp"),
            half_close: flag("braid_half_close"),
            client_version: text_of(&object, "client_version")?,
        })
    }

    /// Streams in all directions together.
    pub fn streams(&self) -> usize {
        let each = self.parallel as usize;
        if self.direction == Direction::Bidirectional { 2 * each } else { each }
    }

    /// Whether the client sends on the `index`-th stream. In both directions: its sending streams come first.
    pub fn client_sends(&self, index: usize) -> bool {
        match self.direction {
            Direction::Forward => true,
            Direction::Reverse => false,
            Direction::Bidirectional => index < self.parallel as usize,
        }
    }

    /// Bytes after which a direction is done, if a number of bytes or blocks ends the test.
    pub fn target_bytes(&self) -> Option<u64> {
        let blocks = self.blockcount.saturating_mul(u64::from(self.len));
        match (self.num, blocks) {
            (0, 0) => None,
            (num, 0) => Some(num),
            (0, blocks) => Some(blocks),
            (num, blocks) => Some(num.min(blocks)),
        }
    }
}

fn malformed(key: &str, what: &str) -> Unacceptable {
    Unacceptable::Malformed(Violation::Malformed(format!("'{key}' is not {what}")))
}

fn integer(object: &Map<String, Value>, key: &'static str, absent: i128) -> Result<i128, Unacceptable> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(absent),
        Some(Value::Bool(value)) => Ok(i128::from(*value)),
        // Casts from f64 saturate, and -n 1e9 arrives as a float from some clients.
        Some(Value::Number(number)) => number
            .as_i128()
            .or_else(|| number.as_f64().map(|float| float as i128))
            .ok_or_else(|| malformed(key, "a number")),
        Some(_) => Err(malformed(key, "a number")),
    }
}

fn ranged(
    object: &Map<String, Value>,
    key: &'static str,
    absent: u32,
    min: u32,
    max: u32,
) -> Result<u32, Unacceptable> {
    let value = integer(object, key, i128::from(absent))?;
    match u32::try_from(value) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Unacceptable::OutOfRange { key, value, min, max }),
    }
}

fn count(object: &Map<String, Value>, key: &'static str) -> Result<u64, Unacceptable> {
    u64::try_from(integer(object, key, 0)?).map_err(|_| malformed(key, "a count"))
}

fn text_of(object: &Map<String, Value>, key: &'static str) -> Result<Option<String>, Unacceptable> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        // Shown on terminals: what a peer sends must not move a cursor there.
        Some(Value::String(text)) => Ok(Some(text.chars().filter(|c| !c.is_control()).collect())),
        Some(_) => Err(malformed(key, "a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Parameters, Unacceptable> {
        Parameters::parse(text.as_bytes())
    }

    #[test]
    fn the_least_that_a_client_may_send_is_enough() {
        let parameters = parse(r#"{"tcp":true,"time":1,"parallel":1,"len":131072}"#);
        assert_eq!(parameters, Ok(Parameters { time_secs: 1, ..Parameters::default() }));
    }

    #[test]
    fn a_stock_client_is_understood() {
        let parameters = parse(
            r#"{"tcp":true,"omit":1,"time":0,"num":1000,"blockcount":0,"parallel":4,"reverse":true,"nodelay":true,
                "len":131072,"pacing_timer":1000,"congestion":"reno","client_version":"3.12","MSS":1400}"#,
        )
        .unwrap();
        assert_eq!(parameters.direction, Direction::Reverse);
        assert_eq!(parameters.target_bytes(), Some(1000));
        assert_eq!((parameters.parallel, parameters.omit_secs, parameters.nodelay), (4, 1, true));
        assert_eq!(parameters.congestion.as_deref(), Some("reno"));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_its_number() {
        for (text, code) in [
            (r#"{"udp":true}"#, 131),
            (r#"{"sctp":true}"#, 18),
            (r#"{}"#, 131),
            (r#"{"tcp":true,"parallel":129}"#, 6),
            (r#"{"tcp":true,"parallel":0}"#, 6),
            (r#"{"tcp":true,"parallel":1e99}"#, 6),
            (r#"{"tcp":true,"time":86401}"#, 5),
            (r#"{"tcp":true,"time":-1}"#, 5),
            (r#"{"tcp":true,"omit":601}"#, 12),
            (r#"{"tcp":true,"len":0}"#, 7),
            (r#"{"tcp":true,"len":1048577}"#, 7),
            (r#"{"tcp":true,"window":536870913}"#, 8),
            (r#"{"tcp":true,"MSS":32768}"#, 10),
            (r#"{"tcp":true,"num":-5}"#, 114),
            (r#"{"tcp":true,"time":"ten"}"#, 114),
            (r#"{"tcp":true,"title":7}"#, 114),
            (r#"{"tcp":true,"reverse":true,"bidirectional":true}"#, 25),
            (r#"[1,2"#, 114),
            ("", 114),
        ] {
            assert_eq!(parse(text).map_err(|error| error.code()).err(), Some(code), "{text}");
        }
    }

    #[test]
    fn a_direction_has_its_streams() {
        let both = Parameters { direction: Direction::Bidirectional, parallel: 2, ..Parameters::default() };
        assert_eq!(both.streams(), 4);
        assert_eq!([0, 1, 2, 3].map(|index| both.client_sends(index)), [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parameters::parse(&bytes);
        }

        #[test]
        fn no_value_panics(key in 0usize..18, value in "[-0-9.eE\"{}\\[\\]a-z]{0,12}") {
            let keys = ["omit", "time", "num", "blockcount", "parallel", "len", "MSS", "window", "bandwidth",
                "reverse", "bidirectional", "congestion", "title", "extra_data", "get_server_output", "nodelay",
                "client_version", "tcp"];
            let _ = parse(&format!("{{\"tcp\":true,\"{}\":{value}}}", keys[key]));
        }

        #[test]
        fn parameters_survive_the_wire(
            (omit_secs, time_secs, num, blockcount) in (0..=600u32, 0..=86400u32, any::<u64>(), any::<u64>()),
            (parallel, len, bandwidth, window) in (1..=128u32, 1..=BLOCK_MAX, any::<u64>(), 0..=WINDOW_MAX),
            direction in prop_oneof![
                Just(Direction::Forward), Just(Direction::Reverse), Just(Direction::Bidirectional)],
            flags in any::<[bool; 4]>(),
            title in proptest::option::of("[ -~äß]{0,20}"),
        ) {
            let [nodelay, get_server_output, mptcp, half_close] = flags;
            let parameters = Parameters {
                omit_secs, time_secs, num, blockcount, parallel, direction, len, bandwidth, nodelay, window,
                congestion: title.clone(), extra_data: title.clone(), client_version: None, title,
                get_server_output, mptcp, half_close,
            };
            prop_assert_eq!(Parameters::parse(parameters.to_json().to_string().as_bytes()), Ok(parameters));
        }
    }
}
