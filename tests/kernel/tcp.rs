//! TCP with the kernel's TCP at the other end, each way round: through loss and reordering, on a path whose MTU shrinks
//! without a word, without the options that the peer has switched off, against windows that close, and in a crowd.

use crate::crowd::{self, Crowd};
use crate::ends::{Action, PORT};
use crate::stage::{Case, LIMIT, Stage, Way, Who, address};
use crate::support::{alone, eventually, run};
use braid::lab::Host;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Bytes that go each way, one direction after the other.
const BULK: usize = 3_000_001;
/// More than all buffers of a connection with a small receive buffer hold.
const FLOOD: usize = 16_000_000;
/// A small receive buffer.
const SMALL: u32 = 65_536;
/// The path must carry that much before something happens to it, and after.
const LOADED: u64 = 3_000_000;

/// Questions and answers, then bulk each way.
fn conversation(case: Case<'_>) {
    let client = vec![
        Action::Send(300),
        Action::Receive(300),
        Action::Send(BULK),
        Action::Receive(BULK),
        Action::Finish,
        Action::Drain,
    ];
    let server = vec![
        Action::Receive(300),
        Action::Send(300),
        Action::Receive(BULK),
        Action::Send(BULK),
        Action::Drain,
        Action::Finish,
    ];
    let (kernel, braid) = match case.way {
        Way::KernelServes => (server, client),
        Way::BraidServes => (client, server),
    };
    case.plain().talk(kernel, braid).finish(&[], &[]);
}

/// A conversation through a middlebox that has to do with some of its packets.
fn through(stage: &Stage, way: Way, name: &str, rule: &str) {
    let case = stage.case(name, way);
    stage.middlebox(1, &[rule]);
    conversation(case);
    assert!(met(stage) > 0, "{name}, {way:?}: the middlebox had nothing to do");
}

/// How many packets the rules of path 1's middlebox have been about.
fn met(stage: &Stage) -> u64 {
    let rules = stage.at(Host::Middle(1), "nft list table bridge box");
    let counts = rules.split("counter packets ").skip(1);
    counts.map(|rest| rest.split(' ').next().expect("a number").parse::<u64>().expect("a number")).sum()
}

#[test]
fn tcp_gets_through_loss() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_loss") else { return };
    for way in Way::BOTH {
        for per_mille in [1, 10, 30] {
            let rule = format!("ip protocol tcp numgen random mod 1000 < {per_mille} counter drop");
            through(&stage, way, &format!("{per_mille} of 1000 packets are lost"), &rule);
        }
    }
}

#[test]
fn tcp_gets_through_reordering() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_reordering") else { return };
    // A tenth of the packets takes a lane that is ten times slower.
    for port in ["a", "b"] {
        for line in [
            format!("tc qdisc replace dev {port} root handle 1: htb default 1"),
            format!("tc class add dev {port} parent 1: classid 1:1 htb rate 200mbit"),
            format!("tc class add dev {port} parent 1: classid 1:2 htb rate 20mbit"),
        ] {
            stage.at(Host::Middle(1), &line);
        }
    }
    for way in Way::BOTH {
        let rule = "ip protocol tcp numgen random mod 10 == 0 counter meta priority set 1:2";
        through(&stage, way, "a tenth of the packets comes late", rule);
    }
}

#[test]
fn tcp_does_without_what_the_peer_has_switched_off() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_options") else { return };
    for way in Way::BOTH {
        let switches = ["tcp_window_scaling", "tcp_timestamps", "tcp_sack"];
        let set = |switch: &str, on: u32| {
            stage.at(way.kernel(), &format!("sysctl -q -w net.ipv4.{switch}={on}"));
        };
        for off in [&switches[..1], &switches[1..2], &switches[2..], &switches[..]] {
            let case = stage.case(&format!("without {off:?}"), way);
            // With a loss now and then, so that something has to be told without the option.
            stage.middlebox(1, &["ip protocol tcp numgen random mod 1000 < 3 counter drop"]);
            off.iter().for_each(|switch| set(switch, 0));
            conversation(case);
            off.iter().for_each(|switch| set(switch, 1));
        }
    }
}

#[test]
fn tcp_finds_out_that_large_packets_no_longer_pass() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_mtu") else { return };
    let mtu = |bytes: u32| {
        for port in ["a", "b"] {
            // A bridge drops what is too large, and tells nobody.
            stage.at(Host::Middle(1), &format!("ip link set dev {port} mtu {bytes}"));
        }
    };
    for way in Way::BOTH {
        for sender in Who::BOTH {
            mtu(1500);
            // The kernel looks for black holes only if it is told to.
            stage.at(way.kernel(), "sysctl -q -w net.ipv4.tcp_mtu_probing=1");
            let mut talk = stage.case(&format!("{sender:?} meets a black hole"), way).plain().load(sender);
            talk.begin();
            stage.await_crossing(1, LOADED);
            mtu(1300);
            stage.await_crossing(1, LOADED);
            talk.enough();
            talk.finish(&[], &[]);
        }
    }
}

#[test]
fn tcp_waits_for_a_window_that_has_closed() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_window") else { return };
    for way in Way::BOTH {
        let sizes = format!("net.ipv4.tcp_rmem=4096 {SMALL} {SMALL}");
        run(stage.lab.exec(way.kernel()).args(["sysctl", "-q", "-w", &sizes]), LIMIT).expect_success(&sizes);
        for sender in Who::BOTH {
            let mut case = stage.case(&format!("{sender:?} meets a closed window"), way).plain();
            case.ours.receive_buffer = Some(SMALL);
            let wakes = stage.file();
            let before = stage.crossed(1);
            let sends = vec![Action::Send(FLOOD), Action::Finish, Action::Drain];
            let sleeps =
                vec![Action::Receive(1), Action::Await(wakes.clone()), Action::Drain, Action::Finish];
            let talk = match sender {
                Who::Kernel => case.talk(sends, sleeps),
                Who::Braid => case.talk(sleeps, sends),
            };
            stage.await_crossing(1, 1);
            let mut last = 0;
            eventually("the window closes", LIMIT, || {
                sleep(Duration::from_millis(300));
                let now = stage.crossed(1) - before;
                // A probe now and then is all that moves.
                let still = now > u64::from(SMALL) / 2 && now < last + 2000;
                last = now;
                still
            });
            assert!(last < FLOOD as u64, "everything went into a window of {SMALL} bytes");
            // Long enough for probes that are answered with a window of nothing.
            sleep(Duration::from_secs(1));
            fs::write(wakes, "").expect("there is room for scratch files");
            talk.finish(&[], &[]);
        }
    }
}

#[test]
fn tcp_ends_one_direction_before_the_other() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_half_close") else { return };
    let first = || vec![Action::Send(BULK), Action::Finish, Action::Drain];
    let second = || vec![Action::Drain, Action::Send(BULK + 1), Action::Finish];
    for way in Way::BOTH {
        for who in Who::BOTH {
            let case = stage.case(&format!("{who:?} finishes first"), way).plain();
            let talk = match who {
                Who::Kernel => case.talk(first(), second()),
                Who::Braid => case.talk(second(), first()),
            };
            talk.finish(&[], &[]);
        }
    }
}

#[test]
fn ten_thousand_short_connections() {
    let _alone = alone();
    let Some(stage) = Stage::new("tcp_crowd") else { return };
    let to = address(Host::B, 1).parse().expect("an address");
    for way in Way::BOTH {
        let end = |host: Host| {
            let crowd = Crowd {
                braid: host == way.braid(),
                listens: host == Host::B,
                address: std::net::SocketAddr::new(to, PORT),
                connections: 10_000,
                side_by_side: 16,
            };
            crowd::Child::start(&stage.lab, host, &crowd)
        };
        let server = end(Host::B);
        let client = end(Host::A);
        server.finish(&format!("{way:?}: the server"));
        client.finish(&format!("{way:?}: the clients"));
    }
}
