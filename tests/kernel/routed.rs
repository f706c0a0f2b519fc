//! TCP with the kernel's TCP beyond a router, whose link on the other side becomes one of shorter packets in mid-transfer:
//! with the ICMP error that tells so, and with a filter that keeps it back. Over IPv4 and IPv6.

// The tests' own clock is no part of the core.
#![allow(clippy::disallowed_methods)]

use crate::stage::{LIMIT, Stage, Way, Who, address, address6};
use crate::support::{alone, eventually, run};
use braid::lab::Host;
use serde_json::Value;

/// The path must carry that much before its link changes, and after.
const LOADED: u64 = 3_000_000;
/// Bytes of a packet that the link takes at first, and then.
const LONG: u64 = 1500;
const SHORT: u64 = 1300;
/// RFC 8899 leaves it to us when a search ends; ours leaves less than so many bytes unfound.
const UNFOUND: u64 = 32;
/// The router's addresses, of which its ICMP errors come.
const ROUTER: [&str; 2] = ["10.71.1.254/32", "fd71:1::fe/128"];

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// The MSS of a link: without IP's header and TCP's, which has no options here.
    fn mss(self, mtu: u64) -> u64 {
        match self {
            Family::V4 => mtu - 40,
            Family::V6 => mtu - 60,
        }
    }

    /// Where a server listens, and where its client connects to.
    fn server(self) -> (String, String) {
        match self {
            Family::V4 => ("0.0.0.0".to_owned(), address(Host::B, 1)),
            Family::V6 => ("::".to_owned(), address6(Host::B, 1)),
        }
    }
}

/// Makes the bridge in the middle of path 1 a router. The ends notice nothing: it answers each for the other (proxy ARP, and
/// the same for IPv6).
fn make_router(stage: &Stage) {
    let router = Host::Middle(1);
    let set = |setting: &str| {
        stage.at(router, &format!("sysctl -q -w net.{setting}"));
    };
    set("ipv6.conf.all.disable_ipv6=0");
    set("ipv6.conf.all.forwarding=1");
    set("ipv4.ip_forward=1");
    for (here, there) in [(Host::A, Host::B), (Host::B, Host::A)] {
        // The router's NICs are called as the hosts that they lead to.
        stage.at(router, &format!("ip link set dev {here} nomaster"));
        // An address that is being looked for elsewhere first (RFC 4862 §5.4) answers nobody for a second or two.
        set(&format!("ipv6.conf.{here}.accept_dad=0"));
        set(&format!("ipv6.conf.{here}.disable_ipv6=0"));
        for (table, switch) in [("conf", "proxy_arp=1"), ("neigh", "proxy_delay=0")] {
            set(&format!("ipv4.{table}.{here}.{switch}"));
        }
        for (table, switch) in [("conf", "proxy_ndp=1"), ("neigh", "proxy_delay=0")] {
            set(&format!("ipv6.{table}.{here}.{switch}"));
        }
        stage.at(router, &format!("ip route add {}/32 dev {here}", address(here, 1)));
        stage.at(router, &format!("ip -6 route add {}/128 dev {here}", address6(here, 1)));
        stage.at(router, &format!("ip -6 neigh add proxy {} dev {here}", address6(there, 1)));
    }
    for address in ROUTER {
        stage.at(router, &format!("ip address add {address} dev a"));
    }
    for host in Host::ENDS {
        stage.at(host, "ip neigh flush dev p1");
    }
}

/// A filter at the router's output for its ICMP errors.
fn keep_errors_back(stage: &Stage) {
    let rules = "type filter hook output priority 0\n\
                 icmp type destination-unreachable counter drop\n\
                 icmpv6 type packet-too-big counter drop";
    let table = format!("table inet quiet {{ chain output {{\n{rules}\n}}\n}}");
    run(stage.lab.exec(Host::Middle(1)).args(["nft", &table]), LIMIT).expect_success(&table);
}

/// The errors that the filter has met.
fn kept_back(stage: &Stage) -> u64 {
    let table = stage.at(Host::Middle(1), "nft list table inet quiet");
    let counts = table.split("counter packets ").skip(1);
    counts.map(|rest| rest.split(' ').next().expect("a number").parse::<u64>().expect("a number")).sum()
}

/// The only subflow that Braid has.
fn subflow(stage: &Stage) -> Value {
    stage.connection()["subflows"][0].take()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name}: {value:#}"))
}

/// Braid sends, and the router's link to the kernel becomes shorter meanwhile. `is_known` tells of an MSS whether that was
/// found out. What became of the subflow.
fn meet_a_shorter_link(stage: &Stage, way: Way, family: Family, is_known: impl Fn(u64) -> bool) -> Value {
    let name = format!("a link becomes shorter, {way:?}, {family:?}");
    let mtu = |host: Host, bytes: u64| {
        // Both ends of the link: what is too long for a veth is dropped where it comes, too, and nobody is told.
        stage.at(Host::Middle(1), &format!("ip link set dev {host} mtu {bytes}"));
        stage.at(host, &format!("ip link set dev p1 mtu {bytes}"));
    };
    Host::ENDS.into_iter().for_each(|host| mtu(host, LONG));
    let mut case = stage.case(&name, way).plain();
    case.server = family.server();
    let mut talk = case.load(Who::Braid);
    // When the connection is there: what crosses the path before may be the last of another talk.
    talk.begin();
    stage.await_crossing(1, LOADED);
    let before = subflow(stage);
    assert_eq!(number(&before, "mss"), family.mss(LONG), "{name}: {before:#}");
    mtu(way.kernel(), SHORT);
    let mut after = Value::Null;
    eventually(&format!("{name}: the MSS fits {SHORT} bytes"), LIMIT, || {
        after = subflow(stage);
        is_known(number(&after, "mss"))
    });
    stage.await_crossing(1, LOADED);
    let settled = number(&subflow(stage), "mss");
    assert!(is_known(settled), "{name}: {settled} does not last");
    talk.enough();
    talk.finish(&[], &[]);
    after
}

#[test]
fn tcp_hears_from_a_router_that_packets_are_too_long() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_too_long") else { return };
    make_router(&stage);
    for (way, family) in Way::BOTH.into_iter().zip([Family::V4, Family::V6]) {
        // Nothing but the error tells it to the byte.
        let after = meet_a_shorter_link(&stage, way, family, |mss| mss == family.mss(SHORT));
        assert_eq!(number(&after, "timeouts"), 0, "{way:?}: what is told needs no time-out: {after:#}");
    }
}

#[test]
fn tcp_finds_out_what_a_router_may_not_tell() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_not_told") else { return };
    make_router(&stage);
    keep_errors_back(&stage);
    for (way, family) in Way::BOTH.into_iter().zip([Family::V6, Family::V4]) {
        let before = kept_back(&stage);
        let fits = family.mss(SHORT) - UNFOUND..=family.mss(SHORT);
        meet_a_shorter_link(&stage, way, family, |mss| fits.contains(&mss));
        assert!(kept_back(&stage) > before, "{way:?}: there was nothing to keep back");
    }
}
