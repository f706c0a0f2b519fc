//! The shim's self-test: the table that packetdrill is given, driven through a whole connection in virtual time, with a
//! second thread that blocks. Without packetdrill: it keeps the shim from rotting.

#![allow(unsafe_code, missing_docs, dead_code)]

mod cookies;
mod fast_open;
mod hashes;
mod info;
mod kernel;
mod options;
mod persona;
mod ready;
mod sockets;
mod stubs;
mod super_segments;
mod table;
mod wants;
mod world;

use braid::base::SeqNum;
use braid::wire::{
    ChecksumMode, Endpoint, FastOpen, FourTuple, LinkHeader, MacAddr, Packet, Parsed, SegmentRepr, TcpFlags,
    TcpOptions, TcpRepr, emit, parse,
};
use libc::{c_int, c_longlong, c_void, sockaddr_in, socklen_t};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr::{null, null_mut};
use table::{Interface, packetdrill_interface_init};
use wants::Wants;
use world::World;

const NOBODY: *mut c_void = null_mut();
const SERVER: ([u8; 4], u16) = ([192, 168, 0, 1], 8080);
const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 5555);
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags::FIN;

/// An IP packet of the client's.
fn packet(flags: TcpFlags, seq: u32, ack: SeqNum, payload: &[u8]) -> Vec<u8> {
    let end = |(addr, port): ([u8; 4], u16)| Endpoint::new(addr.into(), port);
    let mut frame = vec![0; 4096];
    frame[128..128 + payload.len()].copy_from_slice(payload);
    let options = TcpOptions { mss: flags.contains(SYN).then_some(1000), ..TcpOptions::default() };
    let segment = SegmentRepr {
        link: &LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([2; 6]), vlan: None },
        tuple: FourTuple { local: end(CLIENT), remote: end(SERVER) },
        ecn: 0,
        tcp: TcpRepr { seq: SeqNum::new(seq), ack, flags, window: 30_000, urgent: 0 },
        options: &options,
    };
    let start = emit(&segment, &mut frame, 128..128 + payload.len(), ChecksumMode::Software);
    frame[start + 14..128 + payload.len()].to_vec()
}

/// The table, as packetdrill would use it.
struct Driver(Interface);

// SAFETY: the table is functions and a pointer that nobody follows; they are made for several threads.
unsafe impl Sync for Driver {}

impl Driver {
    fn new() -> Self {
        let mut interface = MaybeUninit::uninit();
        // SAFETY: no flags, and room for the table, which is filled.
        let interface = unsafe {
            packetdrill_interface_init(null(), interface.as_mut_ptr());
            interface.assume_init()
        };
        Self(interface)
    }

    fn inject(&self, packet: &[u8]) {
        // SAFETY: a packet of that length.
        assert_eq!(unsafe { (self.0.netdev_send)(NOBODY, packet.as_ptr().cast(), packet.len()) }, 0);
    }

    /// The next packet out, and its time in microseconds; `None` when there is none.
    fn sniff(&self) -> Option<(Packet, Vec<u8>, c_longlong)> {
        let mut frame = vec![0_u8; 4096];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let (mut count, mut at) = (4000, 0);
        // SAFETY: there is room for as many bytes as is said.
        let result =
            unsafe { (self.0.netdev_receive)(NOBODY, frame[14..].as_mut_ptr().cast(), &mut count, &mut at) };
        assert_eq!(result, 0);
        if count == 0 {
            return None;
        }
        frame.truncate(14 + count);
        let Ok(Parsed::Tcp(packet)) = parse(&frame, ChecksumMode::Software) else { panic!("a good packet") };
        let payload = frame[packet.payload.clone()].to_vec();
        Some((packet, payload, at))
    }

    fn sniff_one(&self) -> (Packet, Vec<u8>, c_longlong) {
        self.sniff().expect("a packet")
    }

    fn now_us(&self) -> i64 {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: room for a time.
        assert_eq!(unsafe { (self.0.gettimeofday)(NOBODY, &mut time, NOBODY) }, 0);
        time.tv_sec * 1_000_000 + time.tv_usec
    }

    fn read(&self, fd: c_int, len: usize) -> Result<Vec<u8>, c_int> {
        let mut buffer = vec![0; len];
        // SAFETY: a buffer of that length.
        let got = unsafe { (self.0.read)(NOBODY, fd, buffer.as_mut_ptr().cast(), len) };
        usize::try_from(got).map_err(|_| errno()).map(|got| buffer[..got].to_vec())
    }

    fn write(&self, fd: c_int, bytes: &[u8]) -> Result<usize, c_int> {
        // SAFETY: bytes of that length.
        let put = unsafe { (self.0.write)(NOBODY, fd, bytes.as_ptr().cast(), bytes.len()) };
        usize::try_from(put).map_err(|_| errno())
    }

    fn set(&self, fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<(), c_int> {
        let len = size_of::<c_int>() as socklen_t;
        // SAFETY: the value has that length.
        let done = unsafe { (self.0.setsockopt)(NOBODY, fd, level, name, (&raw const value).cast(), len) };
        if done == 0 { Ok(()) } else { Err(errno()) }
    }

    fn listening(&self) -> c_int {
        let fd = (self.0.socket)(NOBODY, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP);
        assert!(fd >= 0, "errno {}", errno());
        let local = sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: SERVER.1.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(SERVER.0) },
            sin_zero: [0; 8],
        };
        let len = size_of::<sockaddr_in>() as socklen_t;
        // SAFETY: an address of that length.
        assert_eq!(unsafe { (self.0.bind)(NOBODY, fd, (&raw const local).cast(), len) }, 0);
        assert_eq!((self.0.listen)(NOBODY, fd, 1), 0);
        fd
    }

    fn accept(&self, fd: c_int) -> c_int {
        // SAFETY: no address is wanted.
        unsafe { (self.0.accept)(NOBODY, fd, null_mut(), null_mut()) }
    }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[test]
fn a_connection_through_packetdrills_table() {
    let driver = Driver::new();
    let listener = driver.listening();
    driver.inject(&packet(SYN, 0, SeqNum::default(), &[]));
    let (syn_ack, _, _) = driver.sniff_one();
    assert!(syn_ack.tcp.flags.contains(SYN | ACK) && syn_ack.options.mss == Some(1460));
    let first = syn_ack.tcp.seq + 1;
    driver.inject(&packet(ACK, 1, first, &[]));
    let fd = driver.accept(listener);
    assert!(fd >= 0 && fd != listener, "errno {}", errno());

    // A thread that blocks is woken by data, at the very time of its arrival.
    let begun = driver.now_us();
    let read_at = std::thread::scope(|scope| {
        let reader = scope.spawn(|| (driver.read(fd, 100), driver.now_us()));
        // It sleeps before the clock moves.
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!((driver.0.usleep)(NOBODY, 50_000), 0);
        driver.inject(&packet(ACK, 1, first, b"hello"));
        let (read, at) = reader.join().expect("no panic");
        assert_eq!(read, Ok(b"hello".to_vec()));
        at
    });
    assert!((50_000..50_100).contains(&(read_at - begun)), "{} µs", read_at - begun);
    assert_eq!(driver.sniff_one().0.tcp.ack.raw(), 6);

    // Data goes out at the time of the call, and again by the timer, in virtual time.
    let written_at = driver.now_us();
    assert_eq!(driver.write(fd, &[7; 1500]), Ok(1500));
    let ((one, payload, at), (two, _, _)) = (driver.sniff_one(), driver.sniff_one());
    assert_eq!((payload.len(), one.tcp.seq, two.tcp.seq), (1000, first, first + 1000));
    assert!((0..100).contains(&(at - written_at)), "{} µs", at - written_at);
    let (again, _, again_at) = driver.sniff_one();
    assert!(again.tcp.seq == first && again_at - at >= 200_000, "{again:?} after {} µs", again_at - at);
    driver.inject(&packet(ACK, 6, first + 1500, &[]));

    // Options: known, kept, unknown.
    assert_eq!(driver.set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1), Ok(()));
    assert_eq!(driver.set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1), Ok(()));
    assert_eq!(driver.set(fd, libc::IPPROTO_TCP, libc::TCP_ULP, 1), Err(libc::ENOPROTOOPT));
    let mut info = [0_u8; 300];
    let mut len = info.len() as socklen_t;
    // SAFETY: room of that length.
    let got = unsafe {
        (driver.0.getsockopt)(
            NOBODY,
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    assert_eq!((got, len, info[0]), (0, 300, 1), "established");

    // The end, both ways.
    driver.inject(&packet(ACK | FIN, 6, first + 1500, &[]));
    let mut acked = driver.sniff_one().0;
    while acked.tcp.ack.raw() != 7 {
        acked = driver.sniff_one().0;
    }
    assert_eq!(driver.read(fd, 100), Ok(Vec::new()));
    assert_eq!((driver.0.close)(NOBODY, fd), 0);
    let (fin, _, _) = driver.sniff_one();
    assert!(fin.tcp.flags.contains(FIN) && fin.tcp.seq == first + 1500);
    driver.inject(&packet(ACK, 7, first + 1501, &[]));
    assert_eq!(driver.read(fd, 1), Err(libc::EBADF));
    assert!(driver.sniff().is_none(), "nothing is left to send");
    assert_eq!((driver.0.close)(NOBODY, listener), 0);
}

/// What `cookies.rs` says is what the stack gives, as long as a script runs.
#[test]
fn the_cookies_of_the_scripts_are_those_of_the_stack() {
    for (local, remote, domain, expected) in [
        ("192.168.0.1", "192.0.2.1", libc::AF_INET, cookies::V4_KERNEL),
        ("fd3d:0a0b:17d6::1", "fd3d:fa7b:d17d::1", libc::AF_INET6, cookies::V6_KERNEL),
    ] {
        let (local, remote) = (
            Endpoint::new(local.parse().expect("an address"), 8080),
            Endpoint::new(remote.parse().expect("an address"), 5555),
        );
        let mut world = World::new(local.addr, 1500, Wants::new(None));
        assert!(world.persona.set("net.ipv4.tcp_fastopen", "0x70403"));
        let fd = OwnedFd::from(std::fs::File::open("/dev/null").expect("there is one"));
        let fd = world.socket(fd, domain, libc::SOCK_STREAM, 0).expect("a socket");
        world.bind(fd, local).expect("a fresh socket");
        world.listen(fd, 1).expect("a bound socket");
        let mut frame = vec![0; 4096];
        let options = TcpOptions { fast_open: Some(FastOpen::Request), ..TcpOptions::default() };
        let syn = SegmentRepr {
            link: &LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([2; 6]), vlan: None },
            tuple: FourTuple { local: remote, remote: local },
            ecn: 0,
            tcp: TcpRepr {
                seq: SeqNum::new(0),
                ack: SeqNum::default(),
                flags: SYN,
                window: 30_000,
                urgent: 0,
            },
            options: &options,
        };
        let start = emit(&syn, &mut frame, 256..256, ChecksumMode::Software);
        world.receive(&frame[start + 14..256]);
        let (_, answer) = world.take_sent().expect("a SYN/ACK");
        let mut frame = vec![0; 14];
        frame[12..].copy_from_slice(if domain == libc::AF_INET { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        frame.extend(answer);
        let Ok(Parsed::Tcp(answer)) = parse(&frame, ChecksumMode::Software) else { panic!("a good packet") };
        let Some(FastOpen::Cookie(cookie)) = answer.options.fast_open else {
            panic!("no cookie: {answer:?}")
        };
        assert_eq!(cookie.bytes(), expected, "for {remote:?}");
        world.close(fd).expect("a socket");
    }
}
