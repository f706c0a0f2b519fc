//! Results and events in words, as `ip mptcp` and `nstat` write them where they have the same to say.

use serde_json::Value;
use std::fmt::Write;

/// A member as a word: strings without quotes, nothing for what is missing.
fn word(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is(value: &Value, name: &str) -> bool {
    value[name].as_bool().unwrap_or(false)
}

/// `10.0.0.1 port 5001 id 1 signal backup dev eth0`.
fn endpoint(value: &Value) -> String {
    let mut line = word(value, "addr");
    if !value["port"].is_null() {
        let _ = write!(line, " port {}", word(value, "port"));
    }
    let _ = write!(line, " id {}", word(value, "id"));
    for flag in list(&value["flags"]) {
        let _ = write!(line, " {}", flag.as_str().unwrap_or_default());
    }
    if is(value, "implicit") {
        line.push_str(" implicit");
    }
    if !value["dev"].is_null() {
        let _ = write!(line, " dev {}", word(value, "dev"));
    }
    line
}

pub(super) fn endpoints(result: &Value) -> String {
    list(result).iter().map(|value| endpoint(value) + "\n").collect()
}

/// Nothing, as with ip, unless there is something to say about it.
pub(super) fn added_endpoint(result: &Value) -> String {
    if is(result, "usable") {
        return String::new();
    }
    format!(
        "{}: waits, for no attached NIC that is up has this address (or not the NIC that was named)\n",
        endpoint(result)
    )
}

pub(super) fn limits(result: &Value) -> String {
    let [accepted, subflows, policy] =
        ["add_addr_accepted", "subflows", "policy"].map(|name| word(result, name));
    format!("add_addr_accepted {accepted} subflows {subflows} policy {policy}\n")
}

pub(super) fn counters(result: &Value, zeros: bool) -> String {
    let all = result.as_object().into_iter().flatten();
    let shown = all.filter(|(_, count)| zeros || count.as_u64() != Some(0));
    shown.map(|(name, count)| format!("{name:<32}{count}\n")).collect()
}

/// `worker 0 connections 2 received 9120 as-guest 4410 sent 6001 stray 0`.
pub(super) fn workers(result: &Value) -> String {
    let line = |value: &Value| {
        let mut line = format!("worker {} connections {}", word(value, "worker"), word(value, "connections"));
        if value["frames_received"].is_null() {
            return line + " (it has not answered)\n";
        }
        for (told, name) in [
            ("received", "frames_received"),
            ("as-guest", "frames_received_as_guest"),
            ("sent", "frames_sent"),
            ("stray", "stray_segments"),
        ] {
            let _ = write!(line, " {told} {}", word(value, name));
        }
        line + "\n"
    };
    list(result).iter().map(line).collect()
}

/// Microseconds as milliseconds.
fn millis(value: &Value, name: &str) -> String {
    value[name].as_u64().map_or_else(|| "-".to_owned(), |us| format!("{:.3}", us as f64 / 1000.0))
}

fn subflow(value: &Value) -> String {
    let [id, local, remote, dev, locid, remid, state] =
        ["id", "local", "remote", "dev", "locid", "remid", "state"].map(|name| word(value, name));
    let mut line = format!("    {id} {local} > {remote} dev {dev} locid {locid} remid {remid}");
    let _ = write!(line, " {}", state.to_lowercase());
    for (name, told) in [("backup", "backup"), ("by_peer", "by-peer")] {
        if is(value, name) {
            let _ = write!(line, " {told}");
        }
    }
    if !is(value, "usable") {
        line.push_str(" unusable");
    }
    let _ = write!(
        line,
        " rtt {}/{} ms cwnd {} sent {} received {} retrans {}",
        millis(value, "rtt_us"),
        millis(value, "rttvar_us"),
        word(value, "cwnd"),
        word(value, "bytes_sent"),
        word(value, "bytes_received"),
        word(value, "retransmits"),
    );
    line
}

pub(super) fn connections(result: &Value) -> String {
    let shown = list(&result["connections"]);
    let mut text = String::new();
    for connection in shown {
        let [local, remote] = ["local", "remote"].map(|name| word(connection, name));
        let name = match connection["token"].as_str() {
            Some(token) => format!("token {token}"),
            None => "plain TCP".to_owned(),
        };
        let side = if is(connection, "initiator") { "client" } else { "server" };
        let info = &connection["info"];
        let _ = write!(
            text,
            "{name} {side} {local} > {remote} cc {} sched {} sent {} acked {} received {} reinjected {}",
            word(connection, "cc"),
            word(connection, "sched"),
            word(info, "bytes_sent"),
            word(info, "bytes_acked"),
            word(info, "bytes_received"),
            word(info, "bytes_retrans"),
        );
        if !connection["fallback"].is_null() {
            let _ = write!(text, " ({})", word(connection, "fallback"));
        }
        text.push('\n');
        for line in list(&connection["subflows"]) {
            text.push_str(&subflow(line));
            text.push('\n');
        }
    }
    let total = result["total"].as_u64().unwrap_or(0);
    if total > shown.len() as u64 {
        let _ = writeln!(text, "{} of {total} connections (--limit N shows more)", shown.len());
    }
    text
}

/// `[  SF_ESTABLISHED] token=5a3e1f0c remid=0 locid=1 saddr4=10.0.0.1 daddr4=10.0.0.2 sport=40000 dport=80 backup=0`.
pub(super) fn event(event: &Value) -> String {
    let mut line = format!("[{:>16}]", word(event, "event"));
    for (name, value) in event.as_object().into_iter().flatten() {
        let (name, value) = match (name.as_str(), value) {
            ("event", _) => continue,
            ("saddr" | "daddr", Value::String(addr)) => {
                let family = if addr.contains(':') { 6 } else { 4 };
                (format!("{name}{family}"), addr.clone())
            }
            (_, Value::Bool(flag)) => (name.clone(), u8::from(*flag).to_string()),
            (_, Value::String(text)) if text.contains(' ') => (name.clone(), format!("'{text}'")),
            (_, Value::String(text)) => (name.clone(), text.clone()),
            (_, other) => (name.clone(), other.to_string()),
        };
        let _ = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}
