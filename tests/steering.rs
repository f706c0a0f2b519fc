//! Steering: the real program, run by bpf_prog_test_run, against `stack::owner`, packet by packet. What each packet
//! ought to do is also written down, so that the two cannot be wrong together.

use braid::base::{Prng, WorkerId};
use braid::stack::owner::{Locals, Reason, Tables, Verdict, flow_key, local_key, owner};
use braid::wire::{Endpoint, FourTuple};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramInput};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

#[allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

const WORKERS: u32 = 3;
/// The home of the queue that packets arrive at in the test: not 0, so that a forgotten home shows.
const HOME: WorkerId = WorkerId(2);
/// A worker without a socket, to which one flow is pinned.
const ABSENT: WorkerId = WorkerId(1);
/// The loopback device, which is 1 in every network namespace; bpf_prog_test_run pretends that packets come from it.
const LOOPBACK: u32 = 1;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// TCP flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;
const RST: u8 = 0x04;

const SERVER4: &str = "10.0.0.1";
const CLIENT4: &str = "10.0.0.2";
const SERVER6: &str = "fd00::1";
const CLIENT6: &str = "fd00::2";
/// A port that is ours at one address of each version.
const OURS: u16 = 443;
/// A port that is ours at any address.
const ANYWHERE: u16 = 5201;
/// A port where only MPTCP is ours.
const MPTCP_ONLY: u16 = 8080;
/// A port where what is ours differs by address.
const DIFFERENT: u16 = 8081;
/// Remote ports of flows that are pinned to worker 0, and to [`ABSENT`].
const PINNED: u16 = 50_000;
const PINNED_ABSENT: u16 = 50_001;

fn endpoint(addr: &str, port: u16) -> Endpoint {
    Endpoint::new(addr.parse().expect("an address"), port)
}

fn locals() -> Vec<(Endpoint, bool)> {
    vec![
        (endpoint(SERVER4, OURS), false),
        (endpoint(SERVER6, OURS), false),
        (endpoint("0.0.0.0", ANYWHERE), false),
        (endpoint("::", MPTCP_ONLY), true),
        // Only MPTCP is ours here, but for one address of each version.
        (endpoint("::", DIFFERENT), true),
        (endpoint(SERVER4, DIFFERENT), false),
        (endpoint(SERVER6, DIFFERENT), false),
    ]
}

fn pinned() -> Vec<(FourTuple, WorkerId)> {
    let mut flows = Vec::new();
    for (server, client) in [(SERVER4, CLIENT4), (SERVER6, CLIENT6)] {
        for port in [OURS, MPTCP_ONLY] {
            for (remote, worker) in [(PINNED, WorkerId(0)), (PINNED_ABSENT, ABSENT)] {
                let (local, remote) = (endpoint(server, port), endpoint(client, remote));
                flows.push((FourTuple { local, remote }, worker));
            }
        }
    }
    flows
}

fn tables() -> Tables {
    let mut tables = Tables::new(WORKERS as usize, 1000);
    locals().into_iter().for_each(|(local, mptcp_only)| tables.steer_local(local, mptcp_only));
    pinned().into_iter().for_each(|(tuple, worker)| tables.pin(tuple, worker).expect("there is room"));
    tables
}

/// A packet under construction, from the inside out.
struct Packet(Vec<u8>);

impl Packet {
    fn tcp(source: u16, destination: u16, flags: u8, options: &[u8]) -> Self {
        assert_eq!(options.len() % 4, 0);
        let mut bytes = Vec::new();
        bytes.extend(source.to_be_bytes());
        bytes.extend(destination.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        bytes.extend([((5 + options.len() / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        Packet(bytes)
    }

    fn icmp(kind: u8, code: u8, quoted: &[u8]) -> Self {
        let mut bytes = vec![kind, code, 0, 0, 0, 0, 5, 0xdc];
        bytes.extend(quoted);
        Packet(bytes)
    }

    /// An IP header in front. `options` only in version 4.
    fn ip_with(self, source: &str, destination: &str, protocol: u8, options: &[u8]) -> Self {
        let ends = (source.parse().expect("an address"), destination.parse().expect("an address"));
        let mut bytes = Vec::new();
        match ends {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend([0x45 + (options.len() / 4) as u8, 0]);
                bytes.extend((20 + options.len() as u16 + self.0.len() as u16).to_be_bytes());
                bytes.extend([0, 7, 0x40, 0, 64, protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(options);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend((self.0.len() as u16).to_be_bytes());
                bytes.extend([protocol, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
            }
            _ => panic!("two versions in one packet"),
        }
        bytes.extend(self.0);
        Packet(bytes)
    }

    fn ip(self, source: &str, destination: &str) -> Self {
        self.ip_with(source, destination, 6, &[])
    }

    fn icmp_ip(self, source: &str, destination: &str) -> Self {
        let protocol = if source.contains(':') { 58 } else { 1 };
        self.ip_with(source, destination, protocol, &[])
    }

    fn ethertype(&self) -> [u8; 2] {
        if self.0[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] }
    }

    fn frame(self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        bytes.extend(self.ethertype());
        bytes.extend(self.0);
        bytes
    }

    fn tagged(self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x60, 5];
        bytes.extend(self.ethertype());
        bytes.extend(self.0);
        bytes
    }
}

/// MP_CAPABLE of a SYN, between other options.
const CAPABLE: [u8; 12] = [2, 4, 5, 0xb4, 1, 3, 3, 7, 30, 4, 0x01, 0x01];
/// MP_JOIN of a SYN, behind NOPs and timestamps; the worker is the token modulo [`WORKERS`].
fn join(token: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 30, 12, 0x10, 3];
    options.extend(token.to_be_bytes());
    options.extend([9, 9, 9, 9]);
    options
}

type Case = (String, Vec<u8>, Verdict);

/// The packets of one IP version whose fate is written down.
fn cases_of(server: &str, client: &str, other: &str) -> Vec<Case> {
    use Verdict::{Drop, Pass, Worker};
    let home = Worker(HOME, Reason::Home);
    let flow = Worker(WorkerId(0), Reason::Flow);
    let joined = |worker| Worker(WorkerId(worker), Reason::Join);
    let tcp = |source, destination, flags, options: &[u8]| {
        Packet::tcp(source, destination, flags, options).ip(client, server)
    };
    let quote = |local, remote| Packet::tcp(local, remote, ACK, &[]).ip(server, client).0;
    let (unreachable, echo): (u8, u8) = if server.contains(':') { (1, 128) } else { (3, 8) };
    let error = |kind, quoted: &[u8]| Packet::icmp(kind, 4, quoted).icmp_ip(other, server).frame();
    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("data to an address and port of ours", tcp(40_000, OURS, ACK, &[]).frame(), home),
        ("the same with a VLAN tag", tcp(40_000, OURS, ACK, &[]).tagged(), home),
        ("a plain SYN", tcp(40_000, OURS, SYN, &[]).frame(), home),
        ("a SYN with MP_CAPABLE", tcp(40_000, OURS, SYN, &CAPABLE).frame(), home),
        ("another port", tcp(40_000, 22, ACK, &[]).frame(), Pass(Reason::NotLocal)),
        (
            "our port at another address",
            Packet::tcp(40_000, OURS, ACK, &[]).ip(client, other).frame(),
            Pass(Reason::NotLocal),
        ),
        (
            "a port that is ours at any address",
            Packet::tcp(40_000, ANYWHERE, ACK, &[]).ip(client, other).frame(),
            home,
        ),
        ("a join, token of worker 0", tcp(40_000, OURS, SYN, &join(3)).frame(), joined(0)),
        ("a join, token of worker 2", tcp(40_000, OURS, SYN, &join(0xffff_fffe)).tagged(), joined(2)),
        ("a join to worker without socket", tcp(40_000, OURS, SYN, &join(4)).frame(), Drop(Reason::NoSocket)),
        ("a join where the 4-tuple is pinned", tcp(PINNED, OURS, SYN, &join(5)).frame(), joined(2)),
        ("MP_JOIN on a SYN/ACK is no join", tcp(PINNED, OURS, SYN | ACK, &join(5)).frame(), flow),
        ("MP_JOIN on SYN and FIN is no join", tcp(PINNED, OURS, SYN | FIN, &join(5)).frame(), flow),
        ("MP_JOIN on SYN and RST is no join", tcp(PINNED, OURS, SYN | RST, &join(5)).frame(), flow),
        ("a pinned flow", tcp(PINNED, OURS, ACK, &[]).frame(), flow),
        ("a pinned flow's FIN", tcp(PINNED, OURS, FIN | ACK, &[]).frame(), flow),
        ("a flow pinned to no socket", tcp(PINNED_ABSENT, OURS, ACK, &[]).frame(), Drop(Reason::NoSocket)),
        ("one address: plain SYN", tcp(40_000, DIFFERENT, SYN, &[]).frame(), home),
        (
            "another address: plain SYN",
            Packet::tcp(40_000, DIFFERENT, SYN, &[]).ip(client, other).frame(),
            Pass(Reason::PlainTcp),
        ),
        ("MPTCP only: MP_CAPABLE", tcp(40_000, MPTCP_ONLY, SYN, &CAPABLE).frame(), home),
        ("MPTCP only: MP_JOIN", tcp(40_000, MPTCP_ONLY, SYN, &join(3)).frame(), joined(0)),
        ("MPTCP only: plain SYN", tcp(40_000, MPTCP_ONLY, SYN, &[]).frame(), Pass(Reason::PlainTcp)),
        ("MPTCP only: other ACK", tcp(40_000, MPTCP_ONLY, ACK, &[]).frame(), Pass(Reason::PlainTcp)),
        ("MPTCP only: pinned", tcp(PINNED, MPTCP_ONLY, ACK, &[]).frame(), flow),
        (
            "an error about a flow at home",
            error(unreachable, &quote(OURS, 40_000)),
            Worker(HOME, Reason::Icmp),
        ),
        (
            "an error about a pinned flow",
            error(unreachable, &quote(OURS, PINNED)),
            Worker(WorkerId(0), Reason::Icmp),
        ),
        (
            "an error that quotes 8 bytes of TCP",
            error(unreachable, &quote(OURS, PINNED)[..quote(OURS, PINNED).len() - 12]),
            Worker(WorkerId(0), Reason::Icmp),
        ),
        (
            "an error that quotes 7 bytes of TCP",
            error(unreachable, &quote(OURS, PINNED)[..quote(OURS, PINNED).len() - 13]),
            Pass(Reason::Malformed),
        ),
        ("an error about the kernel's", error(unreachable, &quote(22, 40_000)), Pass(Reason::NotLocal)),
        ("an error about plain TCP", error(unreachable, &quote(MPTCP_ONLY, 40_000)), Pass(Reason::PlainTcp)),
        (
            "an error about a flow to no socket",
            error(unreachable, &quote(OURS, PINNED_ABSENT)),
            Drop(Reason::NoSocket),
        ),
        ("an echo request", error(echo, &quote(OURS, PINNED)), Pass(Reason::NotTcp)),
        ("UDP", Packet(vec![0; 20]).ip_with(client, server, 17, &[]).frame(), Pass(Reason::NotTcp)),
    ];
    let version = if server.contains(':') { "IPv6" } else { "IPv4" };
    cases.into_iter().map(|(name, frame, verdict)| (format!("{version}: {name}"), frame, verdict)).collect()
}

/// Headers that are wrong, and what only one version has.
fn odd_cases() -> Vec<Case> {
    use Verdict::{Pass, Worker};
    let home = Worker(HOME, Reason::Home);
    let malformed = Pass(Reason::Malformed);
    let v4 = || Packet::tcp(40_000, OURS, ACK, &[]).ip(CLIENT4, SERVER4).frame();
    let v6 = || Packet::tcp(40_000, OURS, ACK, &[]).ip(CLIENT6, SERVER6).frame();
    let edit = |mut frame: Vec<u8>, at: usize, byte: u8| {
        frame[at] = byte;
        frame
    };
    let syn = |options: &[u8]| Packet::tcp(40_000, OURS, SYN, options).ip(CLIENT4, SERVER4).frame();
    let with_options = Packet::tcp(PINNED, OURS, ACK, &[]);
    let nops_then_join = |nops: usize| {
        let mut options = vec![1; nops];
        options.extend(&join(3)[12..]);
        options
    };
    let quoted_fragment = edit(Packet::tcp(OURS, PINNED, ACK, &[]).ip(SERVER4, CLIENT4).0, 7, 1);
    let quoted_with_options = Packet::tcp(OURS, PINNED, ACK, &[]).ip_with(SERVER4, CLIENT4, 6, &[1; 40]).0;
    let mapped = Packet::tcp(40_000, OURS, ACK, &[]).ip("::ffff:10.0.0.2", "::ffff:10.0.0.1").frame();
    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("ARP", edit(v4(), 13, 6), Pass(Reason::NotIp)),
        (
            "two VLAN tags",
            edit(edit(Packet(v4()[14..].to_vec()).tagged(), 16, 0x81), 17, 0),
            Pass(Reason::NotIp),
        ),
        (
            "IPv4 options",
            with_options.ip_with(CLIENT4, SERVER4, 6, &[1; 40]).frame(),
            Worker(WorkerId(0), Reason::Flow),
        ),
        ("IPv4 with version 5", edit(v4(), 14, 0x55), malformed),
        ("IPv4 header of 16 bytes", edit(v4(), 14, 0x44), malformed),
        ("IPv4 total length below its header", edit(v4(), 17, 19), malformed),
        ("IPv4 total length inside the TCP header", edit(v4(), 17, 39), malformed),
        ("IPv4 first fragment", edit(v4(), 20, 0x20), Pass(Reason::Fragment)),
        ("IPv4 later fragment", edit(v4(), 21, 1), Pass(Reason::Fragment)),
        ("TCP data offset of 4 words", edit(v4(), 46, 0x40), malformed),
        ("TCP data offset beyond the packet", edit(v4(), 46, 0x60), malformed),
        ("IPv6 with version 4", edit(v6(), 14, 0x40), malformed),
        ("IPv6 payload length inside the TCP header", edit(v6(), 19, 19), malformed),
        ("IPv6 fragment", edit(v6(), 20, 44), Pass(Reason::Fragment)),
        ("IPv6 hop-by-hop options", edit(v6(), 20, 0), Pass(Reason::NotTcp)),
        ("IPv6 with v4-mapped addresses", mapped, home),
        (
            "packet too big",
            Packet::icmp(2, 0, &Packet::tcp(OURS, PINNED, ACK, &[]).ip(SERVER6, CLIENT6).0)
                .icmp_ip(CLIENT6, SERVER6)
                .frame(),
            Worker(WorkerId(0), Reason::Icmp),
        ),
        (
            "an error that quotes IPv4 options",
            Packet::icmp(3, 4, &quoted_with_options).icmp_ip(CLIENT4, SERVER4).frame(),
            Worker(WorkerId(0), Reason::Icmp),
        ),
        (
            "an error that quotes a fragment",
            Packet::icmp(3, 4, &quoted_fragment).icmp_ip(CLIENT4, SERVER4).frame(),
            Pass(Reason::Fragment),
        ),
        ("a join after 28 NOPs", syn(&nops_then_join(28)), Worker(WorkerId(0), Reason::Join)),
        ("a join behind the end of options", syn(&[&[0; 4][..], &join(3)[12..]].concat()), home),
        ("a join behind an option of length 0", syn(&[&[5, 0, 1, 1][..], &join(3)[12..]].concat()), home),
        ("a join behind an option of length 1", syn(&[&[5, 1, 1, 1][..], &join(3)[12..]].concat()), home),
        ("a join behind an option that runs over", syn(&[&[5, 30, 1, 1][..], &join(3)[12..]].concat()), home),
        ("a join of 16 bytes", syn(&[&[30, 16, 0x10, 3][..], &[0; 12]].concat()), home),
        ("a join cut off at the end", syn(&[1, 1, 1, 1, 30, 12, 0x10, 3, 0, 0, 0, 1]), home),
        ("an option without length at the end", syn(&[1, 1, 1, 30]), home),
        ("forty NOPs", syn(&[1; 40]), home),
        ("MP_CAPABLE before MP_JOIN", syn(&[&CAPABLE[8..], &join(3)[12..]].concat()), home),
        ("an MPTCP option of 2 bytes", syn(&[30, 2, 0x10, 0]), home),
    ];
    cases.into_iter().map(|(name, frame, verdict)| (name.to_owned(), frame, verdict)).collect()
}

fn cases() -> Vec<Case> {
    let mut cases = cases_of(SERVER4, CLIENT4, "10.0.0.9");
    cases.extend(cases_of(SERVER6, CLIENT6, "fd00::9"));
    cases.extend(odd_cases());
    cases
}

/// `owner`, and what the kernel adds to it: a worker without a socket gets nothing.
fn expect(packet: &[u8], tables: &Tables) -> Verdict {
    match owner(packet, tables, Some(HOME)) {
        Verdict::Worker(ABSENT, _) => Verdict::Drop(Reason::NoSocket),
        verdict => verdict,
    }
}

#[test]
fn owner_decides_as_written_down() {
    let tables = tables();
    for (name, frame, verdict) in cases() {
        assert_eq!(expect(&frame, &tables), verdict, "{name}");
    }
}

#[test]
fn owner_drops_what_arrives_at_a_queue_that_nobody_serves() {
    for (name, frame, _) in cases() {
        let verdict = owner(&frame, &tables(), None);
        assert!(!matches!(verdict, Verdict::Worker(..)), "{name}: {verdict:?}");
    }
}

/// The program, loaded into the kernel, with its maps filled as [`tables`] are.
struct Kernel<'obj> {
    skel: skel::SteerSkel<'obj>,
    _socket: OwnedFd,
}

fn set(map: &impl MapCore, key: &[u8], value: u32) {
    map.update(key, &value.to_ne_bytes(), MapFlags::ANY).expect("the map takes it");
}

impl<'obj> Kernel<'obj> {
    /// `Err` says why it can't be tried here.
    fn load(object: &'obj mut MaybeUninit<libbpf_rs::OpenObject>) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        let mut open = skel::SteerSkelBuilder::default().open(object).expect("the object is sound");
        let rodata = open.maps.rodata_data.as_deref_mut().expect("the program has constants");
        (rodata.workers, rodata.queues, rodata.ports) = (WORKERS, 1, 1);
        rodata.ifindexes[0] = LOOPBACK;
        rodata.testing = 1;
        open.maps.homes.set_max_entries(1).expect("not loaded yet");
        open.maps.xsks.set_max_entries(WORKERS).expect("not loaded yet");
        let skel = match open.load() {
            Ok(skel) => skel,
            Err(error) if error.kind() == libbpf_rs::ErrorKind::PermissionDenied => {
                return Err(format!("bpf is not allowed here: {error}"));
            }
            Err(error) => panic!("the program does not load: {error:?}"),
        };
        let maps = &skel.maps;
        let mut known = Locals::default();
        locals().into_iter().for_each(|(local, mptcp_only)| known.steer(local, mptcp_only));
        for (local, _) in locals() {
            set(&maps.local_ports, &u32::from(local.port).to_ne_bytes(), known.kinds(local.port));
            if let Some(flags) = known.at_one_address(local) {
                set(&maps.local_map, &local_key(local), flags);
            }
        }
        for (tuple, worker) in pinned() {
            set(&maps.flow_map, &flow_key(tuple), worker.0.into());
            set(&maps.pinned_any, &0_u32.to_ne_bytes(), 1);
        }
        set(&maps.homes, &0u32.to_ne_bytes(), HOME.0.into());
        // The map takes sockets that aren't bound; a test run never delivers to them.
        let family = rustix::net::AddressFamily::from_raw(44);
        let socket =
            rustix::net::socket(family, rustix::net::SocketType::RAW, None).expect("an AF_XDP socket");
        for worker in (0..WORKERS).filter(|worker| *worker != u32::from(ABSENT.0)) {
            let fd = socket.as_raw_fd() as u32;
            set(&maps.xsks, &worker.to_ne_bytes(), fd);
        }
        Ok(Self { skel, _socket: socket })
    }

    fn counter(&self, reason: Reason) -> u64 {
        let key = (reason as u32).to_ne_bytes();
        let counts = self.skel.maps.counters.lookup_percpu(&key, MapFlags::ANY).expect("readable");
        let counts = counts.expect("an array has all of its elements");
        counts.iter().map(|count| u64::from_ne_bytes(count[..8].try_into().expect("8 bytes"))).sum()
    }

    fn decide(&self, packet: &[u8]) -> Verdict {
        let input = ProgramInput { data_in: Some(packet), repeat: 1, ..Default::default() };
        let output = self.skel.progs.steer.test_run(input).expect("the program runs");
        let last = self.skel.maps.last_verdict.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let last = last.expect("readable").expect("an array has all of its elements");
        let field = |at: usize| u32::from_ne_bytes(last[at..at + 4].try_into().expect("4 bytes"));
        let reason = Reason::ALL[field(0) as usize];
        match output.return_value {
            XDP_PASS => Verdict::Pass(reason),
            // One port with one queue: the socket's index is the worker.
            XDP_REDIRECT => Verdict::Worker(WorkerId(field(4) as u16), reason),
            XDP_DROP => Verdict::Drop(reason),
            other => panic!("the program returned {other}"),
        }
    }
}

#[test]
fn the_program_decides_as_owner_does() {
    let mut object = MaybeUninit::uninit();
    let kernel = match Kernel::load(&mut object) {
        Ok(kernel) => kernel,
        Err(reason) => return eprintln!("SKIPPED steering: {reason}"),
    };
    let tables = tables();
    let mut runs = 0;
    let mut compare = |name: &str, packet: &[u8]| {
        runs += 1;
        let (ours, kernels) = (expect(packet, &tables), kernel.decide(packet));
        assert_eq!(ours, kernels, "{name}: owner, then the program, on {packet:02x?}");
    };
    let cases = cases();
    for (name, frame, verdict) in &cases {
        assert_eq!(kernel.decide(frame), *verdict, "{name}");
        // Ethernet's 14 bytes are the least that a test run takes.
        for len in 14..frame.len() {
            compare(&format!("{name}, cut to {len}"), &frame[..len]);
        }
        let mut padded = frame.clone();
        padded.resize(frame.len() + 64, 30);
        compare(&format!("{name}, padded"), &padded);
    }
    let mut prng = Prng::new(7);
    for round in 0..40_000 {
        let (name, frame, _) = &cases[prng.below(cases.len() as u64) as usize];
        let mut frame = frame.clone();
        for _ in 0..1 + prng.below(3) {
            let at = prng.below(frame.len() as u64) as usize;
            frame[at] = mutate(&mut prng, frame[at]);
        }
        compare(&format!("{name}, mutation {round}"), &frame);
    }
    println!("{runs} packets compared");
}

/// Small changes as often as wild ones: lengths and kinds that are off by one find more than noise does.
fn mutate(prng: &mut Prng, byte: u8) -> u8 {
    match prng.below(4) {
        0 => byte.wrapping_add(1),
        1 => byte.wrapping_sub(1),
        2 => byte ^ (1 << prng.below(8)),
        _ => prng.below(256) as u8,
    }
}

#[test]
fn every_packet_is_counted_once_by_its_reason() {
    let mut object = MaybeUninit::uninit();
    let kernel = match Kernel::load(&mut object) {
        Ok(kernel) => kernel,
        Err(reason) => return eprintln!("SKIPPED steering: {reason}"),
    };
    let tables = tables();
    let mut expected = [0; Reason::ALL.len()];
    for (_, frame, _) in cases() {
        expected[expect(&frame, &tables).reason() as usize] += 1;
        kernel.decide(&frame);
    }
    for reason in Reason::ALL {
        assert!(expected[reason as usize] > 0, "no packet is {}", reason.name());
        assert_eq!(kernel.counter(reason), expected[reason as usize], "{}", reason.name());
    }
}
