//! What is simulated: hosts, links, connections and faults, made at random from a seed for each kind of suite.

use crate::base::time::Duration;
use crate::base::{Instant, PortId, Prng};
use crate::mptcp::ConnectOptions;
use crate::sim::app::{AppSpec, CloseWhen};
use crate::sim::host::{HostSpec, NicSpec};
use crate::sim::middlebox::Middlebox;
use crate::sim::network::{HostId, Link, Nic};
use crate::sim::pipe::{PipeConfig, QueueLimit};
use crate::sim::port::RingSizes;
use crate::sim::wish::{PathSpec, TimedWish, Wish, random_paths};
use crate::stack::ListenOptions;
use crate::wire::{LinkHeader, MacAddr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod chaos;

/// Tells the dice of [`Scenario::draw_fast_open`] from the others of a seed.
const FAST_OPEN_DICE: u64 = 0x9fb2_1c65_1e98_df25;

/// A kind of scenario: what is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing goes wrong but full queues.
    Clean,
    /// Up to 5 % of the packets are lost.
    Loss,
    /// Packets overtake each other.
    Reordering,
    /// Packets arrive twice.
    Duplication,
    /// Bytes change on the way.
    Corruption,
    /// A path dies and stays dead; the hosts may see it or not.
    PathDies,
    /// A path dies and comes back.
    PathReturns,
    /// Data goes both ways.
    BothWays,
    /// No MPTCP at all.
    PlainTcp,
    /// A middlebox or the peer prevents MPTCP.
    Fallback,
    /// Readers that are slower than the network, small buffers and small pools.
    SlowReader,
    /// All of it together.
    Everything,
    /// A NIC gives nothing back any more, for ever or for a while.
    NicStalls,
    /// Policies, endpoints and limits of every kind at both ends, addresses of both families, and users who change all
    /// that meanwhile.
    Policies,
    /// Links that lose and regain their carrier ten times under load.
    Flaps,
    /// All of it at random, with middleboxes, on up to eight paths.
    Chaos,
    /// Loss, reordering, duplication and corruption, and an attacker who forges segments of every flow that it sees.
    Hostile,
}

impl Kind {
    /// All kinds, with their names.
    pub const ALL: &[(&'static str, Kind)] = &[
        ("clean", Kind::Clean),
        ("loss", Kind::Loss),
        ("reordering", Kind::Reordering),
        ("duplication", Kind::Duplication),
        ("corruption", Kind::Corruption),
        ("path_dies", Kind::PathDies),
        ("path_returns", Kind::PathReturns),
        ("both_ways", Kind::BothWays),
        ("plain_tcp", Kind::PlainTcp),
        ("fallback", Kind::Fallback),
        ("slow_reader", Kind::SlowReader),
        ("everything", Kind::Everything),
        ("nic_stalls", Kind::NicStalls),
        ("policies", Kind::Policies),
        ("flaps", Kind::Flaps),
        ("chaos", Kind::Chaos),
        ("hostile", Kind::Hostile),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("unnamed", |(name, _)| name)
    }
}

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At a time.
    At(Instant),
    /// When so many application bytes have been received and every connection has a subflow on every link.
    AfterBytes(u64),
}

/// A link that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which, in the order of the links.
    pub link: usize,
    /// When.
    pub when: When,
    /// For how long; `None`: for ever.
    pub lasts: Option<Duration>,
    /// Who sees that the carrier is lost.
    pub seen_by: SeenBy,
}

/// A NIC that reads what it is given, and does not say so any more: it gives no frame back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Which NIC.
    pub nic: Nic,
    /// From when on.
    pub at: Instant,
    /// For how long; `None`: for ever.
    pub lasts: Option<Duration>,
}

/// Which ends of a link see that it fails. To the others packets just vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenBy {
    /// A switch in between hides it from both.
    Neither,
    /// It hides it from one.
    Client,
    /// And from the other.
    Server,
    /// The hosts are joined by a cable.
    Both,
}

impl SeenBy {
    /// All, in an order that seeds go by.
    const ALL: [SeenBy; 4] = [SeenBy::Neither, SeenBy::Both, SeenBy::Client, SeenBy::Server];

    /// Whether the host sees it: the client is host 0, the server host 1.
    pub fn is(self, host: HostId) -> bool {
        match self {
            SeenBy::Neither => false,
            SeenBy::Client => host == HostId(0),
            SeenBy::Server => host == HostId(1),
            SeenBy::Both => true,
        }
    }
}

/// A connection from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectionSpec {
    /// When it is opened.
    pub start: Instant,
    /// From which NIC, to the server's NIC of the same number.
    pub nic: usize,
    /// How.
    pub options: ConnectOptions,
    /// What the client does.
    pub client: AppSpec,
    /// What the server does.
    pub server: AppSpec,
}

/// One simulation. Its whole course follows from what stands here.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Where all randomness during the run comes from.
    pub seed: u64,
    /// The hosts: the client, then the server.
    pub hosts: Vec<HostSpec>,
    /// The links.
    pub links: Vec<Link>,
    /// How the server accepts.
    pub listen: ListenOptions,
    /// The connections.
    pub connections: Vec<ConnectionSpec>,
    /// What fails.
    pub faults: Vec<Fault>,
    /// Where completions stop.
    pub stops: Vec<Stop>,
    /// What users want.
    pub wishes: Vec<TimedWish>,
    /// How late at most a worker looks at what has arrived.
    pub poll_delay: Duration,
    /// When all applications must have finished.
    pub deadline: Duration,
    /// How long after that timers may still run.
    pub linger: Duration,
    /// Print every packet that arrives, and what passes between workers and control planes, to standard error.
    pub log: bool,
    /// Complain of transfers that stall ([`crate::sim::progress`]).
    pub watch_progress: bool,
}

impl Scenario {
    /// `paths` clean links of default pipes between two hosts, and one connection that uploads `bytes`.
    pub fn plain(seed: u64, paths: usize, bytes: u64) -> Self {
        let mut hosts = vec![
            HostSpec {
                nics: Vec::new(),
                frames: 4096,
                rings: RingSizes::default(),
                paths: PathSpec::default(),
            };
            2
        ];
        let nic = |host, number: usize| Nic { host: HostId(host), port: PortId(number as u16) };
        let links = (0..paths).map(|number| Link {
            a: nic(0, number),
            b: nic(1, number),
            a_to_b: PipeConfig::default(),
            b_to_a: PipeConfig::default(),
            middlebox: Middlebox::None,
            attacks: 0.0,
            completion_delay: Duration::from_micros(50),
        });
        for (side, host) in hosts.iter_mut().enumerate() {
            host.nics = (0..paths).map(|number| nic_spec(side, number, false, 1500)).collect();
        }
        Self {
            seed,
            hosts,
            links: links.collect(),
            listen: ListenOptions::default(),
            connections: vec![ConnectionSpec {
                start: Instant::from_millis(1),
                nic: 0,
                options: ConnectOptions::default(),
                client: AppSpec::new(bytes, 0),
                server: AppSpec::new(0, bytes),
            }],
            faults: Vec::new(),
            stops: Vec::new(),
            wishes: Vec::new(),
            poll_delay: Duration::from_micros(20),
            deadline: Duration::from_secs(600),
            linger: Duration::from_secs(1200),
            log: false,
            watch_progress: false,
        }
    }

    /// The scenario of a kind and a seed.
    pub fn random(kind: Kind, seed: u64) -> Self {
        let mut scenario = if kind == Kind::Chaos { Self::chaos(seed) } else { Self::random_of(kind, seed) };
        scenario.draw_fast_open(kind, seed);
        scenario
    }

    fn random_of(kind: Kind, seed: u64) -> Self {
        let mut prng = Prng::new(seed ^ (kind as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let paths = match kind {
            Kind::PathDies | Kind::PathReturns | Kind::NicStalls | Kind::Flaps => 2 + prng.below(2) as usize,
            _ => 1 + prng.below(3) as usize,
        };
        let mut scenario = Scenario::plain(prng.next_u64(), paths, 0);
        scenario.poll_delay = Duration::from_micros(prng.below(100));
        scenario.draw_nics(&mut prng);
        scenario.draw_links(&mut prng);
        let down_rate: u64 = scenario.links.iter().map(|link| link.a_to_b.rate_bps).sum();
        // About half a second's worth of the links together, so that slow start ends and queues fill.
        let bytes = (down_rate / 16).clamp(50_000, 1_500_000);
        let bytes = bytes / 2 + prng.below(bytes);
        scenario.draw_connection(&mut prng, bytes);
        let everything = matches!(kind, Kind::Everything | Kind::Hostile);
        if kind == Kind::Loss || everything {
            scenario.each_pipe(&mut prng, |pipe, prng| pipe.loss = prng.unit() * 0.05);
        }
        if kind == Kind::Reordering || everything {
            scenario.each_pipe(&mut prng, |pipe, prng| {
                pipe.reorder = prng.unit() * 0.1;
                pipe.reorder_delay = Duration::from_micros(100 + prng.below(20_000));
            });
        }
        if kind == Kind::Duplication || everything {
            scenario.each_pipe(&mut prng, |pipe, prng| pipe.duplicate = prng.unit() * 0.1);
        }
        if kind == Kind::Corruption || everything {
            scenario.each_pipe(&mut prng, |pipe, prng| pipe.corrupt = prng.unit() * 0.03);
        }
        if kind == Kind::BothWays || (everything && prng.chance(0.5)) {
            let connection = &mut scenario.connections[0];
            connection.client = AppSpec::new(bytes, bytes / 2);
            connection.server = AppSpec::new(bytes / 2, bytes);
        }
        match kind {
            Kind::PlainTcp => scenario.make_plain_tcp(),
            Kind::Fallback => scenario.draw_fallback(&mut prng),
            Kind::PathDies => scenario.draw_fault(&mut prng, bytes, false),
            Kind::PathReturns => scenario.draw_fault(&mut prng, bytes, true),
            Kind::SlowReader => scenario.draw_slow_reader(&mut prng),
            Kind::Everything => scenario.draw_everything(&mut prng, bytes),
            Kind::NicStalls => scenario.draw_stop(&mut prng),
            Kind::Policies => scenario.draw_paths(&mut prng),
            Kind::Hostile => scenario.draw_attacks(&mut prng),
            Kind::Flaps => scenario.draw_flaps(&mut prng),
            Kind::Chaos
            | Kind::Clean
            | Kind::Loss
            | Kind::Reordering
            | Kind::Duplication
            | Kind::Corruption
            | Kind::BothWays => {}
        }
        scenario
    }

    fn draw_nics(&mut self, prng: &mut Prng) {
        let v6 = prng.chance(0.3);
        for number in 0..self.links.len() {
            let mtu = [1500, 1500, 1500, 1280, 3498][prng.below(5) as usize];
            for (side, host) in self.hosts.iter_mut().enumerate() {
                host.nics[number] = nic_spec(side, number, v6, mtu);
            }
        }
    }

    fn draw_links(&mut self, prng: &mut Prng) {
        for link in &mut self.links {
            let rate_bps =
                [2, 5, 10, 20, 50, 100][prng.below(6) as usize] * 1_000_000 + prng.below(1_000_000);
            let delay = Duration::from_micros([100, 1_000, 5_000, 20_000, 40_000][prng.below(5) as usize]);
            let queue = if prng.chance(0.5) {
                QueueLimit::Packets(20 + prng.below(200) as usize)
            } else {
                QueueLimit::Bytes(30_000 + prng.below(300_000) as usize)
            };
            link.a_to_b = PipeConfig { rate_bps, delay, queue, ..PipeConfig::default() };
            link.b_to_a = link.a_to_b.clone();
            // Behind a shaper a packet's frame comes back when the packet has left it, and retransmissions may not wait.
            let completions_within_us = [100, 500, 20_000, 300_000][prng.below(4) as usize];
            link.completion_delay = Duration::from_micros(prng.below(completions_within_us));
        }
    }

    fn draw_connection(&mut self, prng: &mut Prng, bytes: u64) {
        let nic = prng.below(self.links.len() as u64) as usize;
        let connection = &mut self.connections[0];
        connection.nic = nic;
        let upload = prng.chance(0.5);
        let (sent, received) = if upload { (bytes, 0) } else { (0, bytes) };
        connection.client = AppSpec::new(sent, received);
        connection.server = AppSpec::new(received, sent);
        // At most one end may wait for the other, or both wait for ever.
        match prng.below(3) {
            0 => connection.client.close = CloseWhen::PeerFinished,
            1 => connection.server.close = CloseWhen::PeerFinished,
            _ => {}
        }
        if prng.chance(0.2) {
            connection.client.short_chunks = 0.3;
            connection.server.short_chunks = 0.3;
        }
    }

    fn each_pipe(&mut self, prng: &mut Prng, mut change: impl FnMut(&mut PipeConfig, &mut Prng)) {
        for link in &mut self.links {
            change(&mut link.a_to_b, prng);
            change(&mut link.b_to_a, prng);
        }
    }

    /// Some ends use TCP Fast Open. The dice are its own, so that seeds keep the course that they had without it. Plain TCP,
    /// where data goes with SYNs, has further connections then, which have a cookie; and SYNs that are lost.
    fn draw_fast_open(&mut self, kind: Kind, seed: u64) {
        let mut prng = Prng::new(seed ^ (kind as u64 + 1).wrapping_mul(FAST_OPEN_DICE));
        self.listen.connection.fast_open = prng.chance(0.5);
        for connection in &mut self.connections {
            connection.options.fast_open = prng.chance(0.5);
        }
        let first = self.connections[0];
        if kind != Kind::PlainTcp || !first.options.fast_open {
            return;
        }
        for _ in 0..1 + prng.below(4) {
            let mut connection = first;
            connection.start += Duration::from_millis(prng.below(2_000));
            self.connections.push(connection);
        }
        let loss = prng.unit() * 0.05 * f64::from(u8::from(prng.chance(0.5)));
        self.each_pipe(&mut prng, |pipe, _| pipe.loss = loss);
    }

    fn make_plain_tcp(&mut self) {
        self.listen.connection.mptcp = false;
        for connection in &mut self.connections {
            connection.options.mptcp = false;
        }
    }

    fn draw_fallback(&mut self, prng: &mut Prng) {
        let middleboxes = [
            Middlebox::StripAll,
            Middlebox::StripSyn,
            Middlebox::StripSynAck,
            Middlebox::StripNonSyn,
            Middlebox::DropSynWithMptcp,
        ];
        match prng.below(7) {
            0 => self.listen.connection.mptcp = false,
            1 => self.connections[0].options.mptcp = false,
            place => {
                for link in &mut self.links {
                    link.middlebox = middleboxes[place as usize - 2];
                }
            }
        }
    }

    fn draw_fault(&mut self, prng: &mut Prng, bytes: u64, returns: bool) {
        let link = prng.below(self.links.len() as u64) as usize;
        let when = When::AfterBytes(bytes / 10 + prng.below(bytes / 2));
        let lasts = returns.then(|| Duration::from_millis(100 + prng.below(6_000)));
        self.faults.push(Fault { link, when, lasts, seen_by: SeenBy::ALL[prng.below(4) as usize] });
    }

    fn draw_stop(&mut self, prng: &mut Prng) {
        let host = HostId(prng.below(2) as usize);
        let port = PortId(prng.below(self.links.len() as u64) as u16);
        let at = Instant::from_millis(prng.below(1_000));
        let lasts = prng.chance(0.5).then(|| Duration::from_millis(100 + prng.below(6_000)));
        self.stops.push(Stop { nic: Nic { host, port }, at, lasts });
    }

    /// Path managers of every kind, and users who change what they do. A link may fail for a while.
    fn draw_paths(&mut self, prng: &mut Prng) {
        for number in 0..self.links.len() {
            let other = prng.chance(0.5);
            for (side, host) in self.hosts.iter_mut().enumerate() {
                let nic = &mut host.nics[number];
                // Side by side, or at one end only.
                if other || prng.chance(0.2) {
                    nic.other = Some(nic_spec(side, number, nic.addr.is_ipv4(), nic.mtu).addr);
                }
            }
        }
        let addresses = |host: &HostSpec| {
            host.nics.iter().flat_map(|nic| std::iter::once(nic.addr).chain(nic.other)).collect()
        };
        let addresses: Vec<Vec<IpAddr>> = self.hosts.iter().map(addresses).collect();
        for (host, own) in self.hosts.iter_mut().zip(&addresses) {
            host.paths = random_paths(prng, own, host.nics.len());
        }
        let remover = prng.below(2) as usize;
        for _ in 0..prng.below(12) {
            let side = prng.below(2) as usize;
            let at = Instant::from_millis(prng.below(2_000));
            let wish = Wish::random(prng, &addresses[side], &addresses[1 - side]);
            if side == remover || !wish.removes() {
                self.wishes.push(TimedWish { at, host: HostId(side), wish });
            }
        }
        if prng.chance(0.5) {
            let link = prng.below(self.links.len() as u64) as usize;
            let when = When::At(Instant::from_millis(prng.below(1_500)));
            let lasts = Some(Duration::from_millis(100 + prng.below(3_000)));
            self.faults.push(Fault { link, when, lasts, seen_by: SeenBy::ALL[prng.below(4) as usize] });
        }
    }

    /// Ten flaps of each of some links, never of all at once for long.
    fn draw_flaps(&mut self, prng: &mut Prng) {
        for link in &mut self.links {
            let rate_bps = 1_000_000 + prng.below(3_000_000);
            link.a_to_b.rate_bps = rate_bps;
            link.b_to_a.rate_bps = rate_bps;
        }
        let flapping = 1 + prng.below(self.links.len() as u64) as usize;
        let mut end = 0;
        for link in 0..flapping {
            let seen_by = SeenBy::ALL[prng.below(4) as usize];
            let mut at = prng.below(500);
            for _ in 0..10 {
                at += 20 + prng.below(600);
                let lasts = 20 + prng.below(300);
                let when = When::At(Instant::from_millis(at));
                self.faults.push(Fault { link, when, lasts: Some(Duration::from_millis(lasts)), seen_by });
                at += lasts;
            }
            end = end.max(at);
        }
        // Enough to last until the last of them, at the rate of all links together.
        let rate: u64 = self.links.iter().map(|link| link.a_to_b.rate_bps).sum();
        let bytes = rate / 8 * end / 1000;
        let connection = &mut self.connections[0];
        let upload = connection.client.send > 0;
        for (app, sends) in [(&mut connection.client, upload), (&mut connection.server, !upload)] {
            (app.send, app.receive) = if sends { (bytes, 0) } else { (0, bytes) };
        }
    }

    fn draw_slow_reader(&mut self, prng: &mut Prng) {
        let receive_buffer = 16_384 + prng.below(100_000) as u32;
        let send_buffer = 16_384 + prng.below(100_000) as u32;
        let read_every = Duration::from_micros(1_000 + prng.below(50_000));
        let read_chunks = 1 + prng.below(50) as usize;
        self.listen.connection.receive_buffer = receive_buffer;
        self.listen.connection.send_buffer = send_buffer;
        for connection in &mut self.connections {
            connection.options.receive_buffer = receive_buffer;
            connection.options.send_buffer = send_buffer;
            for app in [&mut connection.client, &mut connection.server] {
                app.send = app.send.min(200_000);
                app.receive = app.receive.min(200_000);
                app.read_every = read_every;
                app.read_chunks = read_chunks;
            }
        }
        for host in &mut self.hosts {
            host.frames = 1024 + prng.below(1024) as usize;
        }
    }

    fn draw_attacks(&mut self, prng: &mut Prng) {
        if prng.chance(0.3) {
            self.make_plain_tcp();
        }
        for link in &mut self.links {
            link.attacks = prng.unit() * 0.1;
        }
    }

    fn draw_everything(&mut self, prng: &mut Prng, bytes: u64) {
        if self.links.len() > 1 && prng.chance(0.5) {
            let returns = prng.chance(0.5);
            self.draw_fault(prng, bytes, returns);
        }
        if prng.chance(0.2) {
            self.draw_slow_reader(prng);
        }
        for _ in 0..prng.below(3) {
            let mut connection = self.connections[0];
            connection.start += Duration::from_millis(prng.below(500));
            connection.nic = prng.below(self.links.len() as u64) as usize;
            self.connections.push(connection);
        }
    }
}

fn nic_spec(side: usize, number: usize, v6: bool, mtu: u16) -> NicSpec {
    let (host, net) = (side as u8 + 1, number as u8);
    let addr = if v6 {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, u16::from(net), 0, 0, 0, u16::from(host)))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, 0, net, host))
    };
    let mac = |host| MacAddr([2, 0, 0, 0, host, net]);
    let link = LinkHeader { src: mac(host), dst: mac(3 - host), vlan: None };
    NicSpec { addr, other: None, link, mtu }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_scenario_and_kinds_differ() {
        for (name, kind) in Kind::ALL {
            let scenario = Scenario::random(*kind, 5);
            assert_eq!(scenario, Scenario::random(*kind, 5), "{name}");
            assert_ne!(scenario, Scenario::random(*kind, 6), "{name}");
            assert_eq!(kind.name(), *name);
            assert!(scenario.connections.iter().all(|connection| connection.nic < scenario.links.len()));
        }
    }

    #[test]
    fn no_connection_has_two_ends_that_wait_for_each_other() {
        for seed in 0..200 {
            for connection in Scenario::random(Kind::Everything, seed).connections {
                let waits = |app: AppSpec| app.close == CloseWhen::PeerFinished;
                assert!(!(waits(connection.client) && waits(connection.server)));
            }
        }
    }
}
