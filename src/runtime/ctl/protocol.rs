//! What goes through the control socket: lines of JSON, one object each, both ways. [`DOCUMENTATION`] says what users
//! need to know.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The protocol in words, for users.
pub const DOCUMENTATION: &str = include_str!("protocol.txt");

/// The longest request, in bytes.
pub const REQUEST_MAX: usize = 64 << 10;
/// Connections that one response lists, at most.
pub const CONNECTIONS_MAX: usize = 1024;
/// The same where the request says nothing of it.
pub const CONNECTIONS_DEFAULT: usize = 256;

/// A request without its tag. The names are the words of `braid ctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", deny_unknown_fields)]
pub enum CtlRequest {
    /// Adds an endpoint.
    #[serde(rename = "endpoint add")]
    EndpointAdd {
        /// Its address.
        addr: IpAddr,
        /// The port that peers are told to join at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// The NIC that it is used on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dev: Option<String>,
        /// Its id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u8>,
        /// Its flags.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
    },
    /// Deletes an endpoint; with id 0, the first subflow's address of each connection that has this one.
    #[serde(rename = "endpoint delete")]
    EndpointDelete {
        /// Its id.
        id: u8,
        /// With id 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        addr: Option<IpAddr>,
    },
    /// Changes flags of an endpoint, named by its id or its address.
    #[serde(rename = "endpoint change")]
    EndpointChange {
        /// Its id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u8>,
        /// Its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        addr: Option<IpAddr>,
        /// And its port, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// `backup`, `nobackup`, `fullmesh`, `nofullmesh`.
        flags: Vec<String>,
    },
    /// Lists endpoints.
    #[serde(rename = "endpoint show")]
    EndpointShow {
        /// Only this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u8>,
    },
    /// Deletes all endpoints.
    #[serde(rename = "endpoint flush")]
    EndpointFlush {},
    /// Tells the limits and the policy.
    #[serde(rename = "limits show")]
    LimitsShow {},
    /// Changes limits.
    #[serde(rename = "limits set")]
    LimitsSet {
        /// Subflows beside the first one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subflows: Option<usize>,
        /// Addresses of a peer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        add_addr_accepted: Option<usize>,
    },
    /// Opens a subflow.
    #[serde(rename = "subflow add")]
    SubflowAdd {
        /// Of this connection.
        token: String,
        /// From this address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        local: Option<IpAddr>,
        /// To this address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<IpAddr>,
        /// To this port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// As a backup.
        #[serde(default)]
        backup: bool,
    },
    /// Resets a subflow.
    #[serde(rename = "subflow remove")]
    SubflowRemove {
        /// Of this connection.
        token: String,
        /// This one.
        id: u32,
    },
    /// Makes a subflow a backup, or no backup any more.
    #[serde(rename = "subflow backup")]
    SubflowBackup {
        /// Of this connection.
        token: String,
        /// This one.
        id: u32,
        /// A backup.
        backup: bool,
    },
    /// Changes how a connection is run.
    #[serde(rename = "connection")]
    Connection {
        /// This one.
        token: String,
        /// Congestion control.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cc: Option<String>,
        /// The scheduler.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sched: Option<String>,
    },
    /// Lists connections with their subflows.
    #[serde(rename = "connections")]
    Connections {
        /// Only this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// At most so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Tells all counters.
    #[serde(rename = "counters")]
    Counters {},
    /// Tells what each worker has and has counted.
    #[serde(rename = "workers")]
    Workers {},
    /// Tells events from now on.
    #[serde(rename = "monitor")]
    Monitor {},
}

/// The names of all requests.
pub const KNOWN: [&str; 15] = [
    "endpoint add",
    "endpoint delete",
    "endpoint change",
    "endpoint show",
    "endpoint flush",
    "limits show",
    "limits set",
    "subflow add",
    "subflow remove",
    "subflow backup",
    "connection",
    "connections",
    "counters",
    "workers",
    "monitor",
];

/// An answer without its tag: a result or why there is none.
pub type Answer = Result<Value, Refusal>;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// In words.
    pub error: String,
    /// There is no such request; these there are.
    known: bool,
}

impl Refusal {
    /// In these words.
    pub fn new(error: impl ToString) -> Self {
        Self { error: error.to_string(), known: false }
    }
}

/// Takes a line apart: the tag, and the request or what is wrong with it.
pub(super) fn read_request(line: &[u8]) -> (Value, Result<CtlRequest, Refusal>) {
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(value) => value,
        Err(error) => return (Value::Null, Err(Refusal::new(format!("not a line of JSON: {error}")))),
    };
    let Value::Object(mut object) = value else {
        return (Value::Null, Err(Refusal::new("a request is a JSON object: {\"request\": ...}")));
    };
    let tag = object.remove("tag").unwrap_or(Value::Null);
    (tag, read_object(object))
}

fn read_object(object: Map<String, Value>) -> Result<CtlRequest, Refusal> {
    let unknown = |error: String| Refusal { error, known: true };
    match object.get("request").map(Value::as_str) {
        None => return Err(unknown("a request has a member 'request' that names it".to_owned())),
        Some(None) => return Err(unknown("the name of a request is a string".to_owned())),
        Some(Some(name)) if !KNOWN.contains(&name) => {
            return Err(unknown(format!("there is no request '{name}'")));
        }
        Some(Some(_)) => {}
    }
    serde_json::from_value(Value::Object(object)).map_err(Refusal::new)
}

/// The line of a response, with its end.
pub(super) fn write_response(tag: Value, answer: Answer) -> Vec<u8> {
    let mut object = Map::new();
    if !tag.is_null() {
        object.insert("tag".to_owned(), tag);
    }
    object.insert("ok".to_owned(), Value::Bool(answer.is_ok()));
    match answer {
        Ok(result) => {
            object.insert("result".to_owned(), result);
        }
        Err(Refusal { error, known }) => {
            object.insert("error".to_owned(), Value::String(error));
            if known {
                object.insert("known".to_owned(), json!(KNOWN));
            }
        }
    }
    write_line(&Value::Object(object))
}

/// A line of JSON, with its end.
pub(super) fn write_line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (Value, Result<CtlRequest, Refusal>) {
        read_request(line.as_bytes())
    }

    #[test]
    fn requests_are_read_as_they_are_written_and_every_name_is_known() {
        let addr = IpAddr::from([10, 0, 0, 1]);
        let token = || "0000002a".to_owned();
        let (id, port, dev, flags) = (Some(3), Some(80), Some("p1".to_owned()), vec!["signal".to_owned()]);
        let all = [
            CtlRequest::EndpointAdd { addr, port, dev, id, flags: flags.clone() },
            CtlRequest::EndpointDelete { id: 0, addr: Some(addr) },
            CtlRequest::EndpointChange { id, addr: None, port: None, flags },
            CtlRequest::EndpointShow { id },
            CtlRequest::EndpointFlush {},
            CtlRequest::LimitsShow {},
            CtlRequest::LimitsSet { subflows: Some(1), add_addr_accepted: None },
            CtlRequest::SubflowAdd { token: token(), local: Some(addr), remote: None, port, backup: true },
            CtlRequest::SubflowRemove { token: token(), id: 1 },
            CtlRequest::SubflowBackup { token: token(), id: 1, backup: false },
            CtlRequest::Connection { token: token(), cc: Some("olia".to_owned()), sched: None },
            CtlRequest::Connections { token: None, limit: Some(1) },
            CtlRequest::Counters {},
            CtlRequest::Workers {},
            CtlRequest::Monitor {},
        ];
        for (request, name) in all.into_iter().zip(KNOWN) {
            let mut value = serde_json::to_value(&request).expect("it can be written");
            assert_eq!(value["request"], name);
            value["tag"] = json!([1, "x"]);
            assert_eq!(read(&value.to_string()), (json!([1, "x"]), Ok(request)));
        }
    }

    #[test]
    fn every_request_and_limit_is_documented() {
        let is_documented =
            |name: &str| DOCUMENTATION.lines().any(|line| line.starts_with(&format!("  {name}")));
        assert!(KNOWN.iter().all(|name| is_documented(name)));
        for number in [REQUEST_MAX, CONNECTIONS_DEFAULT, CONNECTIONS_MAX] {
            assert!(DOCUMENTATION.contains(&number.to_string()), "{number}");
        }
        for flag in crate::pm::Flags::NAMES {
            assert!(DOCUMENTATION.contains(flag), "{flag}");
        }
    }

    #[test]
    fn what_is_no_request_is_told() {
        for (line, told) in [
            ("", "not a line of JSON"),
            ("{", "not a line of JSON"),
            ("\u{1}\u{ff}", "not a line of JSON"),
            ("[]", "a request is a JSON object"),
            ("{}", "a request has a member"),
            (r#"{"request": 7}"#, "is a string"),
            (r#"{"request": "endpoint"}"#, "there is no request 'endpoint'"),
            (r#"{"request": "endpoint add"}"#, "missing field `addr`"),
            (r#"{"request": "endpoint add", "addr": "p1"}"#, "invalid IP address"),
            (r#"{"request": "endpoint flush", "id": 1}"#, "unknown field `id`"),
            (r#"{"request": "subflow remove", "token": "1", "id": -1}"#, "-1"),
        ] {
            let (_, refused) = read(line);
            let error = refused.expect_err(line).error;
            assert!(error.contains(told), "{line}: {error}");
        }
        let response = write_response(json!("t"), read(r#"{"request": "x"}"#).1.map(|_| Value::Null));
        let response: Value = serde_json::from_slice(&response).expect("JSON");
        assert_eq!((&response["ok"], &response["tag"]), (&json!(false), &json!("t")));
        assert_eq!(response["known"].as_array().map(Vec::len), Some(KNOWN.len()));
    }
}
