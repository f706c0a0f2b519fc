//! What both ends tell each other after a test: the results of the iperf3 protocol, to JSON and, checked, from it.

use crate::app::perf::protocol::{STREAMS_MAX, Violation, parse_object};
use serde_json::{Map, Value, json};

/// One end's figures of one stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamResult {
    /// Its name on the wire.
    pub id: u32,
    /// Bytes that this end sent or received, without those of the omitted seconds.
    pub bytes: u64,
    /// Segments that this end sent again; `None` where it doesn't know, or does not send.
    pub retransmits: Option<u64>,
    /// Where the counted part begins, in seconds from the start of the data.
    pub start_secs: f64,
    /// Where it ends.
    pub end_secs: f64,
    /// SHA-256 of the file that was read or written, in hexadecimal. Braid's own.
    pub file_sha256: Option<String>,
}

/// Share of the processors that a process used, in percent of one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CpuUse {
    /// Both together.
    pub total: f64,
    /// In the program.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// One end's figures of a test.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// Its use of processors.
    pub cpu: CpuUse,
    /// Whether `retransmits` of the streams that it sends on are known; `None` when it only receives.
    pub sender_has_retransmits: Option<bool>,
    /// Its congestion control.
    pub congestion_used: Option<String>,
    /// Its whole text, where the client asked for it.
    pub server_output_text: Option<String>,
    /// Its streams.
    pub streams: Vec<StreamResult>,
}

impl Results {
    /// As they are sent.
    pub fn to_json(&self) -> Value {
        let streams: Vec<Value> = self.streams.iter().map(stream_to_json).collect();
        let has_retransmits = match self.sender_has_retransmits {
            None => -1,
            Some(known) => i32::from(known),
        };
        let mut object = Map::new();
        object.insert("cpu_util_total".to_owned(), json!(self.cpu.total));
        object.insert("cpu_util_user".to_owned(), json!(self.cpu.user));
        object.insert("cpu_util_system".to_owned(), json!(self.cpu.system));
        object.insert("sender_has_retransmits".to_owned(), json!(has_retransmits));
        if let Some(name) = &self.congestion_used {
            object.insert("congestion_used".to_owned(), json!(name));
        }
        if let Some(text) = &self.server_output_text {
            object.insert("server_output_text".to_owned(), json!(text));
        }
        object.insert("streams".to_owned(), Value::Array(streams));
        Value::Object(object)
    }

    /// From the peer's message.
    ///
    /// # Errors
    /// It is not results.
    pub fn parse(text: &[u8]) -> Result<Self, Violation> {
        let object = parse_object(text)?;
        let streams = match object.get("streams") {
            Some(Value::Array(streams)) => streams,
            _ => return Err(Violation::Malformed("results without 'streams'".to_owned())),
        };
        if streams.len() > 2 * STREAMS_MAX as usize {
            return Err(Violation::Malformed(format!("results of {} streams", streams.len())));
        }
        let number = |key| object.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let text_of = |key| object.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            cpu: CpuUse {
                total: number("cpu_util_total"),
                user: number("cpu_util_user"),
                system: number("cpu_util_system"),
            },
            sender_has_retransmits: match object.get("sender_has_retransmits").and_then(Value::as_i64) {
                Some(0) => Some(false),
                Some(1) => Some(true),
                // iperf3 3.12 writes -1 as 2^64 - 1, too large for as_i64.
                _ => None,
            },
            congestion_used: text_of("congestion_used").map(visible),
            server_output_text: text_of("server_output_text"),
            streams: streams.iter().map(stream_from_json).collect::<Result<_, _>>()?,
        })
    }

    /// The stream of this name.
    pub fn stream(&self, id: u32) -> Option<&StreamResult> {
        self.streams.iter().find(|stream| stream.id == id)
    }
}

fn visible(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn stream_to_json(stream: &StreamResult) -> Value {
    let retransmits = stream.retransmits.map_or(json!(-1), |count| json!(count));
    let mut object = json!({
        "id": stream.id,
        "bytes": stream.bytes,
        "retransmits": retransmits,
        "jitter": 0,
        "errors": 0,
        "packets": 0,
        "start_time": stream.start_secs,
        "end_time": stream.end_secs,
    });
    if let Some(digest) = &stream.file_sha256 {
        object["file_sha256"] = json!(digest);
    }
    object
}

fn stream_from_json(value: &Value) -> Result<StreamResult, Violation> {
    let missing = |key| Violation::Malformed(format!("a stream's results without '{key}'"));
    let count = |key: &str| {
        // Counts come as integers or as floats; -1 and 2^64 - 1 both mean "not known".
        let number = value.get(key)?;
        number.as_u64().or_else(|| number.as_f64().filter(|float| *float >= 0.0).map(|float| float as u64))
    };
    let seconds = |key: &str| {
        value.get(key).and_then(Value::as_f64).filter(|seconds| seconds.is_finite()).unwrap_or(0.0)
    };
    let id = count("id").and_then(|id| u32::try_from(id).ok()).ok_or_else(|| missing("id"))?;
    Ok(StreamResult {
        id,
        bytes: count("bytes").ok_or_else(|| missing("bytes"))?,
        retransmits: count("retransmits").filter(|retransmits| i64::try_from(*retransmits).is_ok()),
        start_secs: seconds("start_time"),
        end_secs: seconds("end_time"),
        file_sha256: value.get("file_sha256").and_then(Value::as_str).map(|text| visible(text.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stock_server_is_understood() {
        let results = Results::parse(
            br#"{"cpu_util_total":3.5,"cpu_util_user":1,"cpu_util_system":2.5,
                "sender_has_retransmits":18446744073709551615,"streams":[{"id":1,"bytes":4327473152,
                "retransmits":18446744073709551615,"jitter":0,"errors":0,"packets":0,"start_time":0,
                "end_time":2.0005}]}"#,
        )
        .unwrap();
        assert_eq!(results.sender_has_retransmits, None);
        let stream = results.stream(1).unwrap();
        assert_eq!((stream.bytes, stream.retransmits, stream.end_secs), (4327473152, None, 2.0005));
        assert_eq!(results.stream(3), None);
    }

    #[test]
    fn what_is_no_results_is_refused() {
        for text in
            ["", "{}", "[]", r#"{"streams":7}"#, r#"{"streams":[7]}"#, r#"{"streams":[{"id":-1,"bytes":1}]}"#]
        {
            assert!(Results::parse(text.as_bytes()).is_err(), "{text}");
        }
        let many = vec![StreamResult::default(); 2 * STREAMS_MAX as usize + 1];
        let results = Results { streams: many, ..Results::default() };
        assert!(Results::parse(results.to_json().to_string().as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Results::parse(&bytes);
        }

        #[test]
        fn results_survive_the_wire(
            ids in proptest::collection::vec(1..300u32, 0..8),
            bytes: u64,
            retransmits in proptest::option::of(0..u64::MAX / 2),
            eighths in 0..720_000u32,
            known in proptest::option::of(any::<bool>()),
        ) {
            // Fractions that decimals hold exactly.
            let end_secs = f64::from(eighths) / 8.0;
            let stream = |id| StreamResult {
                id, bytes, retransmits, start_secs: 0.0, end_secs, file_sha256: Some("00ff".to_owned()),
            };
            let results = Results {
                sender_has_retransmits: known,
                congestion_used: Some("reno".to_owned()),
                streams: ids.into_iter().map(stream).collect(),
                ..Results::default()
            };
            prop_assert_eq!(Results::parse(results.to_json().to_string().as_bytes()), Ok(results));
        }
    }
}
