//! Words to requests, and results to words.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    ctl: CtlArguments,
}

fn request(line: &str) -> Result<CtlRequest, String> {
    let words = ["ctl"].into_iter().chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    line.ctl.command.request().map(|request| request.expect("one that needs a process"))
}

fn flags(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn lines_as_those_of_ip_mptcp_become_requests() {
    let addr = "10.0.0.1".parse().expect("an address");
    let token = || "5a3e1f0c".to_owned();
    let (id, port) = (Some(3), Some(80));
    for (line, expected) in [
        (
            "endpoint add 10.0.0.1 port 80 dev p1 id 3 signal backup",
            CtlRequest::EndpointAdd {
                addr,
                port,
                dev: Some("p1".to_owned()),
                id,
                flags: flags(&["signal", "backup"]),
            },
        ),
        ("endpoint delete id 3", CtlRequest::EndpointDelete { id: 3, addr: None }),
        ("endpoint del id 0 10.0.0.1", CtlRequest::EndpointDelete { id: 0, addr: Some(addr) }),
        ("endpoint show", CtlRequest::EndpointShow { id: None }),
        ("endpoint show id 3", CtlRequest::EndpointShow { id }),
        ("endpoint flush", CtlRequest::EndpointFlush {}),
        (
            "endpoint change id 3 nobackup fullmesh",
            CtlRequest::EndpointChange {
                id,
                addr: None,
                port: None,
                flags: flags(&["nobackup", "fullmesh"]),
            },
        ),
        (
            "endpoint change 10.0.0.1 port 80 backup",
            CtlRequest::EndpointChange { id: None, addr: Some(addr), port, flags: flags(&["backup"]) },
        ),
        ("limits show", CtlRequest::LimitsShow {}),
        (
            "limits set subflow 2 add_addr_accepted 4",
            CtlRequest::LimitsSet { subflows: Some(2), add_addr_accepted: Some(4) },
        ),
        (
            "subflow add token 5a3e1f0c local 10.0.0.1 port 80 backup",
            CtlRequest::SubflowAdd { token: token(), local: Some(addr), remote: None, port, backup: true },
        ),
        ("subflow remove 5a3e1f0c 1", CtlRequest::SubflowRemove { token: token(), id: 1 }),
        (
            "subflow backup token 5a3e1f0c id 1 off",
            CtlRequest::SubflowBackup { token: token(), id: 1, backup: false },
        ),
        (
            "connection token 5a3e1f0c sched blest cc olia",
            CtlRequest::Connection {
                token: token(),
                cc: Some("olia".to_owned()),
                sched: Some("blest".to_owned()),
            },
        ),
        ("connections 5a3e1f0c --limit 7", CtlRequest::Connections { token: Some(token()), limit: Some(7) }),
        ("counters --zeros", CtlRequest::Counters {}),
        ("workers -j", CtlRequest::Workers {}),
        ("monitor --json", CtlRequest::Monitor {}),
    ] {
        assert_eq!(request(line), Ok(expected), "{line}");
    }
}

#[test]
fn lines_that_are_wrong_are_told_what_is_right() {
    for (line, told) in [
        ("endpoint add", "begins with an address"),
        ("endpoint add 10.0.0.1 turbulent", "signal, subflow"),
        ("endpoint delete", "an id is missing"),
        ("endpoint delete id x", "'x' is not an id"),
        ("endpoint delete id 1 10.0.0.1 2", "one word too many"),
        ("endpoint change id 1", "what to change?"),
        ("endpoint change", "an id (id ID) or an address is missing"),
        ("limits set", "which limit?"),
        ("limits set hope 1", "subflows, add_addr_accepted"),
        ("subflow add", "a token (braid ctl connections"),
        ("subflow add token 1 from 10.0.0.1", "local IFADDR"),
        ("subflow remove token 1", "the id of a subflow"),
        ("subflow backup token 1 id 1 maybe", "on or off"),
        ("connection token 1", "what to change? cc NAME"),
        ("connection token 1 cc", "a congestion control is missing"),
        ("connection token 1 speed 9", "cc NAME, sched NAME"),
        ("turbulence", "unrecognized subcommand"),
    ] {
        let error = request(line).expect_err(line);
        assert!(error.contains(told), "{line}: {error}");
    }
}

#[test]
fn results_read_like_those_of_ip_mptcp_and_nstat() {
    let endpoint = json!({"id": 1, "addr": "10.0.0.1", "port": 5001, "dev": "p1", "flags": ["signal", "backup"],
        "implicit": true, "usable": false});
    assert_eq!(
        text::endpoints(&json!([endpoint])),
        "10.0.0.1 port 5001 id 1 signal backup implicit dev p1\n"
    );
    assert!(text::added_endpoint(&endpoint).contains("waits"));
    let limits = json!({"add_addr_accepted": 8, "subflows": 7, "connections": 9, "policy": "fullmesh"});
    assert_eq!(text::limits(&limits), "add_addr_accepted 8 subflows 7 policy fullmesh\n");
    let counters = json!({"MPTcpExtAddAddr": 3, "BraidStray": 0});
    assert_eq!(text::counters(&counters, false), format!("{:<32}3\n", "MPTcpExtAddAddr"));
    assert_eq!(text::counters(&counters, true).lines().count(), 2);
    let workers = json!([
        {"worker": 0, "connections": 2, "frames_received": 9, "frames_received_as_guest": 4, "frames_sent": 7,
            "stray_segments": 0},
        {"worker": 1, "connections": 3, "frames_received": null}]);
    assert_eq!(
        text::workers(&workers),
        "worker 0 connections 2 received 9 as-guest 4 sent 7 stray 0\nworker 1 connections 3 (it has not answered)\n"
    );
    let event = json!({"event": "SF_CLOSED", "token": "0000002a", "saddr": "10.0.0.1", "daddr": "fd00::1",
        "backup": true, "error": 104, "reason": "the peer reset it"});
    assert_eq!(
        text::event(&event),
        "[       SF_CLOSED] token=0000002a saddr4=10.0.0.1 daddr6=fd00::1 backup=1 error=104 reason='the peer reset it'\n"
    );
    let connections = json!({"total": 2, "connections": [{
        "token": "0000002a", "initiator": true, "local": "10.0.0.1:9", "remote": "10.0.0.2:80", "fallback": null,
        "cc": "olia", "sched": "blest",
        "info": {"bytes_sent": 1, "bytes_acked": 2, "bytes_received": 3, "bytes_retrans": 4},
        "subflows": [{"id": 0, "local": "10.0.0.1:9", "remote": "10.0.0.2:80", "dev": "p1", "locid": 0, "remid": 0,
            "state": "Established", "usable": true, "backup": true, "by_peer": false, "rtt_us": 1500,
            "rttvar_us": null, "cwnd": 14000, "bytes_sent": 5, "bytes_received": 6, "retransmits": 7}]}]});
    let told = text::connections(&connections);
    let expected = "token 0000002a client 10.0.0.1:9 > 10.0.0.2:80 cc olia sched blest sent 1 acked 2 received 3 reinjected 4\n    \
        0 10.0.0.1:9 > 10.0.0.2:80 dev p1 locid 0 remid 0 established backup rtt 1.500/- ms cwnd 14000 sent 5 \
        received 6 retrans 7\n1 of 2 connections (--limit N shows more)\n";
    assert_eq!(told, expected);
}
