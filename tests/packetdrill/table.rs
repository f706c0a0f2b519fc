//! The table of functions that packetdrill calls. With `preload.rs` this is the only unsafe code of the shim: it turns C's
//! pointers into slices and numbers, and does nothing else.
//!
//! `preload.rs` has what packetdrill's calls to the C library find when the shim is preloaded.
//!
//! packetdrill's side of the interface: the struct has `userdata` and 32 functions, in this order, and every function takes
//! `userdata` first. There is one world in a process, so `userdata` is not used.

#![allow(unsafe_code)]

use crate::kernel::{Kernel, Until};
use crate::sockets::{AGAIN, Errno, Outcome, in_domain, on_the_wire, unspecified};
use crate::wants::Wants;
use crate::world::World;
use braid::wire::Endpoint;
use libc::{
    c_char, c_int, c_long, c_longlong, c_short, c_uint, c_ulong, c_void, epoll_event, iovec, msghdr, nfds_t,
    pollfd, sockaddr, sockaddr_in, sockaddr_in6, socklen_t, ssize_t, timeval,
};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The first argument of every function of the table.
pub type Data = *mut c_void;

/// The struct that packetdrill wants filled.
#[repr(C)]
#[derive(Debug)]
pub struct Interface {
    pub userdata: Data,
    pub free: extern "C" fn(Data),
    pub socket: extern "C" fn(Data, c_int, c_int, c_int) -> c_int,
    pub bind: unsafe extern "C" fn(Data, c_int, *const sockaddr, socklen_t) -> c_int,
    pub listen: extern "C" fn(Data, c_int, c_int) -> c_int,
    pub accept: unsafe extern "C" fn(Data, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    pub connect: unsafe extern "C" fn(Data, c_int, *const sockaddr, socklen_t) -> c_int,
    pub read: unsafe extern "C" fn(Data, c_int, *mut c_void, usize) -> ssize_t,
    pub readv: unsafe extern "C" fn(Data, c_int, *const iovec, c_int) -> ssize_t,
    pub recv: unsafe extern "C" fn(Data, c_int, *mut c_void, usize, c_int) -> ssize_t,
    pub recvfrom: unsafe extern "C" fn(
        Data,
        c_int,
        *mut c_void,
        usize,
        c_int,
        *mut sockaddr,
        *mut socklen_t,
    ) -> ssize_t,
    pub recvmsg: unsafe extern "C" fn(Data, c_int, *mut msghdr, c_int) -> ssize_t,
    pub write: unsafe extern "C" fn(Data, c_int, *const c_void, usize) -> ssize_t,
    pub writev: unsafe extern "C" fn(Data, c_int, *const iovec, c_int) -> ssize_t,
    pub send: unsafe extern "C" fn(Data, c_int, *const c_void, usize, c_int) -> ssize_t,
    pub sendto:
        unsafe extern "C" fn(Data, c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> ssize_t,
    pub sendmsg: unsafe extern "C" fn(Data, c_int, *const msghdr, c_int) -> ssize_t,
    // C's prototypes of these two end in `...`. On the ABIs of Linux on x86-64 and AArch64 the one further argument of
    // pointer size stands where a fixed one would.
    pub fcntl: extern "C" fn(Data, c_int, c_int, c_long) -> c_int,
    pub ioctl: unsafe extern "C" fn(Data, c_int, c_ulong, *mut c_int) -> c_int,
    pub close: extern "C" fn(Data, c_int) -> c_int,
    pub shutdown: extern "C" fn(Data, c_int, c_int) -> c_int,
    pub getsockopt: unsafe extern "C" fn(Data, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    pub setsockopt: unsafe extern "C" fn(Data, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    pub poll: unsafe extern "C" fn(Data, *mut pollfd, nfds_t, c_int) -> c_int,
    pub netdev_send: unsafe extern "C" fn(Data, *const c_void, usize) -> c_int,
    pub netdev_receive: unsafe extern "C" fn(Data, *mut c_void, *mut usize, *mut c_longlong) -> c_int,
    pub usleep: extern "C" fn(Data, c_uint) -> c_int,
    pub gettimeofday: unsafe extern "C" fn(Data, *mut timeval, *mut c_void) -> c_int,
    pub epoll_create: extern "C" fn(Data, c_int) -> c_int,
    pub epoll_ctl: unsafe extern "C" fn(Data, c_int, c_int, c_int, *mut epoll_event) -> c_int,
    pub epoll_wait: unsafe extern "C" fn(Data, c_int, *mut epoll_event, c_int, c_int) -> c_int,
    pub pipe: unsafe extern "C" fn(Data, *mut c_int) -> c_int,
    pub splice: unsafe extern "C" fn(Data, c_int, *mut c_void, c_int, *mut c_void, usize, c_uint) -> ssize_t,
}

/// What the shim was told by `--so_flags`: `local=ADDRESS,mtu=BYTES,control=PATH,wants=PATH`.
#[derive(Debug)]
struct Flags {
    local: IpAddr,
    mtu: u16,
    control: Option<PathBuf>,
    wants: Option<PathBuf>,
}

impl Flags {
    fn parse(text: &str) -> Self {
        let mut flags = Self { local: Ipv4Addr::LOCALHOST.into(), mtu: 1500, control: None, wants: None };
        for (name, value) in text.split(',').filter_map(|word| word.split_once('=')) {
            match name {
                "local" => flags.local = value.parse().unwrap_or(flags.local),
                "mtu" => flags.mtu = value.parse().unwrap_or(flags.mtu),
                "control" => flags.control = Some(value.into()),
                "wants" => flags.wants = Some(value.into()),
                _ => eprintln!("the shim knows no flag {name}"),
            }
        }
        flags
    }
}

struct Shim {
    kernel: Kernel,
    local: IpAddr,
}

static SHIM: OnceLock<Shim> = OnceLock::new();
/// Descriptors of ours, apart from the world's lock: whoever closes a descriptor asks, and the world does so itself.
static OURS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// The descriptors that stand for something of ours.
pub fn ours() -> std::sync::MutexGuard<'static, BTreeSet<RawFd>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shim() -> &'static Shim {
    SHIM.get().expect("packetdrill_interface_init comes first")
}

/// Does `act`, and ends the process when it panics: no panic may cross into C, and no script goes on after one.
fn guarded<T>(act: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        eprintln!("the shim or the stack has panicked");
        std::process::abort()
    })
}

/// A result as C has it: a number, or -1 and `errno`.
pub fn to_c<T: TryInto<c_long>>(outcome: Outcome<T>) -> c_long {
    let Errno(errno) = match outcome {
        Ok(value) => return value.try_into().unwrap_or(c_long::MAX),
        Err(errno) => errno,
    };
    // SAFETY: the address of the calling thread's own errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn to_int<T: TryInto<c_long>>(outcome: Outcome<T>) -> c_int {
    to_c(outcome) as c_int
}

/// `len` bytes that C gave to be read.
///
/// # Safety
/// `bytes` is null or points to `len` bytes that nobody writes to while the slice lives.
pub unsafe fn bytes<'a>(bytes: *const c_void, len: usize) -> Outcome<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: not null, and the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), len) })
}

/// `len` bytes that C gave to be written to.
///
/// # Safety
/// `bytes` is null or points to `len` initialised bytes that are nobody else's while the slice lives.
pub unsafe fn bytes_mut<'a>(bytes: *mut c_void, len: usize) -> Outcome<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if bytes.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: not null, and the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(bytes.cast(), len) })
}

/// The entries of an I/O vector.
///
/// # Safety
/// `vector` is null or points to `count` entries.
unsafe fn entries<'a>(vector: *const iovec, count: usize) -> Outcome<&'a [iovec]> {
    if vector.is_null() {
        return if count == 0 { Ok(&[]) } else { Err(Errno(libc::EFAULT)) };
    }
    // SAFETY: not null, and the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(vector, count) })
}

/// An address and port that C gave; `None` for `AF_UNSPEC`.
///
/// # Safety
/// `addr` is null or points to `len` bytes.
unsafe fn endpoint(addr: *const sockaddr, len: socklen_t) -> Outcome<Option<Endpoint>> {
    if addr.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: every sockaddr begins with its family.
    let family = c_int::from(unsafe { (*addr).sa_family });
    match family {
        libc::AF_UNSPEC => Ok(None),
        libc::AF_INET if len as usize >= size_of::<sockaddr_in>() => {
            // SAFETY: the family and the length say that it is one.
            let v4 = unsafe { addr.cast::<sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Ok(Some(Endpoint::new(ip.into(), u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 if len as usize >= size_of::<sockaddr_in6>() => {
            // SAFETY: as above.
            let v6 = unsafe { addr.cast::<sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Ok(Some(Endpoint::new(on_the_wire(ip.into()), u16::from_be(v6.sin6_port))))
        }
        libc::AF_INET | libc::AF_INET6 => Err(Errno(libc::EINVAL)),
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// Writes an address where C wants it.
///
/// # Safety
/// `addr` and `len` are null, or `addr` points to `*len` bytes.
unsafe fn put_endpoint(end: Endpoint, domain: c_int, addr: *mut sockaddr, len: *mut socklen_t) {
    if addr.is_null() || len.is_null() {
        return;
    }
    // SAFETY: not null, and the caller's promise.
    let room = unsafe { *len } as usize;
    match in_domain(end.addr, domain) {
        IpAddr::V4(v4) if room >= size_of::<sockaddr_in>() => {
            let value = sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: end.port.to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: there is room for it.
            unsafe {
                addr.cast::<sockaddr_in>().write_unaligned(value);
                *len = size_of::<sockaddr_in>() as socklen_t;
            }
        }
        IpAddr::V6(v6) if room >= size_of::<sockaddr_in6>() => {
            let value = sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: end.port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: there is room for it.
            unsafe {
                addr.cast::<sockaddr_in6>().write_unaligned(value);
                *len = size_of::<sockaddr_in6>() as socklen_t;
            }
        }
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
}

/// A real descriptor that stands for something of ours.
fn descriptor() -> Outcome<OwnedFd> {
    let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
        .map_err(|error| Errno(error.raw_os_error()))?;
    ours().insert(std::os::fd::AsRawFd::as_raw_fd(&fd));
    Ok(fd)
}

/// Fills packetdrill's table.
///
/// # Safety
/// `flags` is null or a C string, `interface` points to the struct of packetdrill.h.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, interface: *mut Interface) {
    let flags = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so a C string.
        unsafe { CStr::from_ptr(flags) }.to_string_lossy().into_owned()
    };
    guarded(|| start(&flags));
    // SAFETY: it points to such a struct, whatever is in it.
    unsafe { interface.write(TABLE) };
}

/// Makes the world, once in a process.
fn start(flags: &str) {
    let Flags { local, mtu, control, wants } = Flags::parse(flags);
    let kernel = Kernel::new(World::new(local, mtu, Wants::new(wants)));
    let shim = SHIM.get_or_init(|| Shim { kernel, local });
    // The commands of scripts need no shim.
    // SAFETY: packetdrill's other thread sleeps until the script begins, and reads no environment.
    unsafe { std::env::remove_var("LD_PRELOAD") };
    if let Some(path) = control
        && let Err(error) = crate::stubs::serve(&path, &shim.kernel)
    {
        eprintln!("the stubs of commands get no answers: {}: {error}", path.display());
    }
}

const TABLE: Interface = Interface {
    userdata: std::ptr::null_mut(),
    free,
    socket,
    bind,
    listen,
    accept,
    connect,
    read,
    readv,
    recv,
    recvfrom,
    recvmsg,
    write,
    writev,
    send,
    sendto,
    sendmsg,
    fcntl,
    ioctl,
    close: close_in_table,
    shutdown,
    getsockopt: getsockopt_in_table,
    setsockopt,
    poll,
    netdev_send,
    netdev_receive,
    usleep,
    gettimeofday,
    epoll_create,
    epoll_ctl,
    epoll_wait,
    pipe,
    splice,
};

extern "C" fn free(_: Data) {}

extern "C" fn socket(_: Data, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    guarded(|| {
        let made =
            descriptor().and_then(|fd| shim().kernel.call(|world| world.socket(fd, domain, kind, protocol)));
        to_int(made)
    })
}

unsafe extern "C" fn bind(_: Data, fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: C gives an address of that length.
    let local = unsafe { endpoint(addr, len) };
    guarded(|| {
        let bound = local.and_then(|local| {
            let local = local.ok_or(Errno(libc::EAFNOSUPPORT))?;
            shim().kernel.call(|world| world.bind(fd, local)).map(|()| 0)
        });
        to_int(bound)
    })
}

extern "C" fn listen(_: Data, fd: c_int, backlog: c_int) -> c_int {
    guarded(|| to_int(shim().kernel.call(|world| world.listen(fd, backlog)).map(|()| 0)))
}

unsafe extern "C" fn accept(_: Data, fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let accepted = guarded(|| {
        let kernel = &shim().kernel;
        let (may_wait, timeout) = kernel.call(|world| world.receive_patience(fd));
        let until = || Until::Events(vec![(fd, libc::POLLIN)]);
        kernel.wait_for(may_wait, timeout, until, |world| world.accept(fd, descriptor))
    });
    if let Ok((_, remote, domain)) = accepted {
        // SAFETY: C gives room for an address, or nothing.
        unsafe { put_endpoint(remote, domain, addr, len) };
    }
    to_int(accepted.map(|(fd, ..)| fd))
}

unsafe extern "C" fn connect(_: Data, fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: C gives an address of that length; AF_UNSPEC needs no more than its family.
    let remote = unsafe { endpoint(addr, len) };
    guarded(|| {
        let Shim { kernel, local } = shim();
        let connected = remote.and_then(|remote| {
            let Some(remote) = remote else { return kernel.call(|world| world.disconnect(fd)) };
            let local = local_for(remote, *local);
            let (may_wait, timeout) = kernel.call(|world| world.send_patience(fd));
            let first = kernel.call(|world| world.connect(fd, remote, local));
            if !may_wait || !matches!(first, Err(Errno(libc::EINPROGRESS | libc::EALREADY))) {
                return first;
            }
            wait_connected(fd, remote, local, timeout)
        });
        to_int(connected.map(|()| 0))
    })
}

/// Our address on the way to `remote`.
fn local_for(remote: Endpoint, local: IpAddr) -> IpAddr {
    match local.is_ipv4() == remote.addr.is_ipv4() {
        true => local,
        false => unspecified(if remote.addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }),
    }
}

/// Waits until a connection that has begun is there.
fn wait_connected(fd: c_int, remote: Endpoint, local: IpAddr, timeout: Option<u64>) -> Outcome<()> {
    let until = || Until::Events(vec![(fd, libc::POLLOUT)]);
    let connected =
        shim().kernel.wait_for(true, timeout, until, |world| match world.connect(fd, remote, local) {
            Err(Errno(libc::EALREADY)) => Err(AGAIN),
            other => other,
        });
    // Linux: a connect() that ran out of time goes on on its own.
    connected.map_err(|error| if error == AGAIN { Errno(libc::EINPROGRESS) } else { error })
}

/// `read` and its kin, into several buffers.
fn receive(fd: c_int, mut buffers: Vec<&mut [u8]>, flags: c_int) -> Outcome<usize> {
    let kernel = &shim().kernel;
    if flags & libc::MSG_ERRQUEUE != 0 {
        kernel.call(|world| world.wants.add("MSG_ERRQUEUE"));
        return Err(AGAIN);
    }
    let (may_wait, timeout) = kernel.call(|world| world.receive_patience(fd));
    let may_wait = may_wait && flags & libc::MSG_DONTWAIT == 0;
    let until = || Until::Events(vec![(fd, libc::POLLIN)]);
    let peek = flags & libc::MSG_PEEK != 0;
    let mut total = 0;
    for buffer in &mut buffers {
        if buffer.is_empty() {
            continue;
        }
        // The first byte may be waited for, and all of them with MSG_WAITALL.
        let wait = may_wait && (total == 0 || flags & libc::MSG_WAITALL != 0);
        let mut filled = 0;
        loop {
            let wait = wait && (filled == 0 || flags & libc::MSG_WAITALL != 0);
            let rest = &mut buffer[filled..];
            match kernel.wait_for(wait, timeout, until, |world| world.read(fd, rest, peek)) {
                Ok(0) => return Ok(total + filled),
                Ok(len) => filled += len,
                Err(_) if total + filled > 0 => return Ok(total + filled),
                Err(error) => return Err(error),
            }
            if filled == buffer.len() || flags & libc::MSG_WAITALL == 0 {
                break;
            }
        }
        total += filled;
        if filled < buffer.len() || peek {
            break;
        }
    }
    Ok(total)
}

unsafe extern "C" fn read(data: Data, fd: c_int, buffer: *mut c_void, len: usize) -> ssize_t {
    // SAFETY: the same promises.
    unsafe { recv(data, fd, buffer, len, 0) }
}

unsafe extern "C" fn readv(_: Data, fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: C gives so many entries, each with its buffer.
    let buffers = unsafe { entries(vector, count.max(0) as usize).and_then(|all| buffers_of(all)) };
    guarded(|| to_c(buffers.and_then(|buffers| receive(fd, buffers, 0)))) as ssize_t
}

/// The buffers of an I/O vector, to be written to.
///
/// # Safety
/// Each entry has its bytes, and they are nobody else's.
unsafe fn buffers_of<'a>(all: &[iovec]) -> Outcome<Vec<&'a mut [u8]>> {
    // SAFETY: the caller's promise.
    all.iter().map(|entry| unsafe { bytes_mut(entry.iov_base, entry.iov_len) }).collect()
}

unsafe extern "C" fn recv(_: Data, fd: c_int, buffer: *mut c_void, len: usize, flags: c_int) -> ssize_t {
    if flags & libc::MSG_TRUNC != 0 {
        // Linux's TCP takes the bytes and copies none.
        let mut scratch = vec![0; len];
        return guarded(|| to_c(receive(fd, vec![&mut scratch], flags))) as ssize_t;
    }
    // SAFETY: C gives a buffer of that length, or null.
    let buffer = unsafe { bytes_mut(buffer, len) };
    guarded(|| to_c(buffer.and_then(|buffer| receive(fd, vec![buffer], flags)))) as ssize_t
}

unsafe extern "C" fn recvfrom(
    data: Data,
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
    _addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    if !addr_len.is_null() {
        // SAFETY: not null. TCP tells no address here.
        unsafe { *addr_len = 0 };
    }
    // SAFETY: the same promises.
    unsafe { recv(data, fd, buffer, len, flags) }
}

unsafe extern "C" fn recvmsg(_: Data, fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if message.is_null() {
        return to_c::<c_int>(Err(Errno(libc::EFAULT))) as ssize_t;
    }
    // SAFETY: not null, and C gives a whole message with its entries and their buffers.
    let (message, buffers) = unsafe {
        let message = &mut *message;
        let all = entries(message.msg_iov, message.msg_iovlen);
        (message, all.and_then(|all| buffers_of(all)))
    };
    guarded(|| {
        let received = buffers.and_then(|buffers| receive(fd, buffers, flags));
        (message.msg_flags, message.msg_controllen, message.msg_namelen) = (0, 0, 0);
        to_c(received)
    }) as ssize_t
}

/// `write` and its kin, of several buffers. `to`: where a connection is to be opened to, with MSG_FASTOPEN.
fn transmit(fd: c_int, buffers: &[&[u8]], flags: c_int, to: Option<Endpoint>) -> Outcome<usize> {
    let Shim { kernel, local } = shim();
    if flags & libc::MSG_OOB != 0 {
        kernel.call(|world| world.wants.add("MSG_OOB"));
        return Err(Errno(libc::EOPNOTSUPP));
    }
    for (flag, name) in [(libc::MSG_ZEROCOPY, "MSG_ZEROCOPY"), (libc::MSG_EOR, "MSG_EOR")] {
        if flags & flag != 0 {
            kernel.call(|world| world.wants.add(format!("{name} (has no effect)")));
        }
    }
    let (may_wait, timeout) = kernel.call(|world| world.send_patience(fd));
    let may_wait = may_wait && flags & libc::MSG_DONTWAIT == 0;
    let until = || Until::Events(vec![(fd, libc::POLLOUT)]);
    let all: Vec<u8> = buffers.concat();
    let more = flags & libc::MSG_MORE != 0;
    let mut written = 0;
    if let Some(remote) = kernel.call(|world| world.opens(fd, flags & libc::MSG_FASTOPEN != 0, to))? {
        let local = local_for(remote, *local);
        written = kernel.call(|world| world.open_with(fd, remote, local, &all))?;
        match may_wait {
            true => wait_connected(fd, remote, local, timeout)?,
            false if written == 0 => return Err(Errno(libc::EINPROGRESS)),
            false => return Ok(written),
        }
        if written == all.len() {
            return Ok(written);
        }
    }
    loop {
        let rest = &all[written..];
        match kernel.wait_for(may_wait, timeout, until, |world| world.write(fd, rest, more)) {
            Ok(len) => written += len,
            Err(_) if written > 0 => return Ok(written),
            Err(error) => return Err(error),
        }
        if written == all.len() || !may_wait {
            return Ok(written);
        }
    }
}

unsafe extern "C" fn write(data: Data, fd: c_int, buffer: *const c_void, len: usize) -> ssize_t {
    // SAFETY: the same promises.
    unsafe { send(data, fd, buffer, len, 0) }
}

unsafe extern "C" fn writev(_: Data, fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: C gives so many entries, each with its bytes.
    let buffers = unsafe { entries(vector, count.max(0) as usize).and_then(|all| contents_of(all)) };
    guarded(|| to_c(buffers.and_then(|buffers| transmit(fd, &buffers, 0, None)))) as ssize_t
}

/// The buffers of an I/O vector, to be read.
///
/// # Safety
/// Each entry has its bytes, and nobody writes to them.
unsafe fn contents_of<'a>(all: &[iovec]) -> Outcome<Vec<&'a [u8]>> {
    // SAFETY: the caller's promise.
    all.iter().map(|entry| unsafe { bytes(entry.iov_base, entry.iov_len) }).collect()
}

unsafe extern "C" fn send(_: Data, fd: c_int, buffer: *const c_void, len: usize, flags: c_int) -> ssize_t {
    // SAFETY: C gives so many bytes, or null.
    let buffer = unsafe { bytes(buffer, len) };
    guarded(|| to_c(buffer.and_then(|buffer| transmit(fd, &[buffer], flags, None)))) as ssize_t
}

/// The address of a message; it matters only where a connection is to be opened.
///
/// # Safety
/// `addr` is null or points to `len` bytes.
unsafe fn addressee(addr: *const sockaddr, len: socklen_t) -> Outcome<Option<Endpoint>> {
    if addr.is_null() || len == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { endpoint(addr, len) }
}

unsafe extern "C" fn sendto(
    _: Data,
    fd: c_int,
    buffer: *const c_void,
    len: usize,
    flags: c_int,
    addr: *const sockaddr,
    addr_len: socklen_t,
) -> ssize_t {
    // SAFETY: C gives so many bytes, or null, and an address of that length, or null.
    let (buffer, to) = unsafe { (bytes(buffer, len), addressee(addr, addr_len)) };
    guarded(|| to_c(buffer.and_then(|buffer| transmit(fd, &[buffer], flags, to?)))) as ssize_t
}

unsafe extern "C" fn sendmsg(_: Data, fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if message.is_null() {
        return to_c::<c_int>(Err(Errno(libc::EFAULT))) as ssize_t;
    }
    // SAFETY: not null, and C gives a whole message with its address, its entries and their bytes.
    let (buffers, to) = unsafe {
        let message = &*message;
        let buffers = entries(message.msg_iov, message.msg_iovlen).and_then(|all| contents_of(all));
        (buffers, addressee(message.msg_name.cast(), message.msg_namelen))
    };
    guarded(|| to_c(buffers.and_then(|buffers| transmit(fd, &buffers, flags, to?)))) as ssize_t
}

extern "C" fn fcntl(_: Data, fd: c_int, command: c_int, argument: c_long) -> c_int {
    guarded(|| {
        let done = shim().kernel.call(|world| {
            let socket = world.sockets.socket(fd)?;
            match command {
                libc::F_GETFL => Ok(libc::O_RDWR | if socket.nonblocking { libc::O_NONBLOCK } else { 0 }),
                libc::F_SETFL => {
                    socket.nonblocking = argument as c_int & libc::O_NONBLOCK != 0;
                    Ok(0)
                }
                _ => {
                    world.wants.add(format!("fcntl {command}"));
                    Err(Errno(libc::EINVAL))
                }
            }
        });
        to_int(done)
    })
}

unsafe extern "C" fn ioctl(_: Data, fd: c_int, request: c_ulong, value: *mut c_int) -> c_int {
    let answer = guarded(|| shim().kernel.call(|world| world.queue_length(fd, request)));
    if let (Ok(answer), false) = (answer, value.is_null()) {
        // SAFETY: not null, so it points to an int.
        unsafe { *value = answer };
    }
    to_int(answer.map(|_| 0))
}

/// Closes a descriptor of ours.
pub fn close_ours(fd: c_int) -> c_int {
    guarded(|| {
        let closed = shim().kernel.call(|world| world.close(fd));
        // First no longer ours: dropping it comes back through `close`.
        ours().remove(&fd);
        to_int(closed.map(|descriptor| {
            drop(descriptor);
            0
        }))
    })
}

extern "C" fn close_in_table(_: Data, fd: c_int) -> c_int {
    if ours().contains(&fd) { close_ours(fd) } else { close_really(fd) }
}

/// close(2), whoever has taken the name `close`.
pub fn close_really(fd: c_int) -> c_int {
    // SAFETY: close(2) of whatever the caller wanted closed; past the C library, whose `close` may be the one below.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

extern "C" fn shutdown(_: Data, fd: c_int, how: c_int) -> c_int {
    guarded(|| to_int(shim().kernel.call(|world| world.shutdown(fd, how)).map(|()| 0)))
}

/// The table's `getsockopt`.
///
/// # Safety
/// As getsockopt(2).
pub unsafe extern "C" fn getsockopt_in_table(
    _: Data,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if len.is_null() {
        return to_int::<c_int>(Err(Errno(libc::EFAULT)));
    }
    // SAFETY: not null; the value has as much room as it says.
    let room = unsafe { bytes_mut(value, *len as usize) };
    let got = guarded(|| {
        let room = room?;
        let option = shim().kernel.call(|world| world.get_option(fd, level, name))?;
        let copied = option.len().min(room.len());
        room[..copied].copy_from_slice(&option[..copied]);
        Ok(copied)
    });
    if let Ok(copied) = got {
        // SAFETY: not null.
        unsafe { *len = copied as socklen_t };
    }
    to_int(got.map(|_| 0))
}

unsafe extern "C" fn setsockopt(
    _: Data,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: C gives a value of that length.
    let value = unsafe { bytes(value, len as usize) };
    guarded(|| {
        let set = value.and_then(|value| {
            shim().kernel.call(|world| world.set_option(fd, level, name, value)).map(|()| 0)
        });
        to_int(set)
    })
}

/// Milliseconds of poll(2) and epoll_wait(2); less than none is for ever.
fn patience(millis: c_int) -> Option<u64> {
    u64::try_from(millis).ok().map(|millis| millis * 1000)
}

unsafe extern "C" fn poll(_: Data, fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    if fds.is_null() && count > 0 {
        return to_int::<c_int>(Err(Errno(libc::EFAULT)));
    }
    let entries: &mut [pollfd] = match count {
        0 => &mut [],
        // SAFETY: C gives so many entries.
        count => unsafe { std::slice::from_raw_parts_mut(fds, count as usize) },
    };
    guarded(|| {
        let wanted: Vec<(RawFd, c_short)> = entries.iter().map(|entry| (entry.fd, entry.events)).collect();
        let always = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
        let until = || Until::Events(wanted.clone());
        let result = shim().kernel.wait_for(timeout != 0, patience(timeout), until, |world| {
            let mut ready = 0;
            for entry in entries.iter_mut() {
                entry.revents = world.events(entry.fd) & (entry.events | always);
                ready += c_int::from(entry.revents != 0);
            }
            if ready == 0 { Err(AGAIN) } else { Ok(ready) }
        });
        to_int(result.or_else(|error| if error == AGAIN { Ok(0) } else { Err(error) }))
    })
}

unsafe extern "C" fn netdev_send(_: Data, packet: *const c_void, len: usize) -> c_int {
    // SAFETY: C gives a packet of that length.
    let packet = unsafe { bytes(packet, len) };
    guarded(|| to_int(packet.map(|packet| shim().kernel.call(|world| world.receive(packet))).map(|()| 0)))
}

unsafe extern "C" fn netdev_receive(
    _: Data,
    buffer: *mut c_void,
    count: *mut usize,
    time_us: *mut c_longlong,
) -> c_int {
    if count.is_null() || time_us.is_null() {
        return to_int::<c_int>(Err(Errno(libc::EFAULT)));
    }
    // SAFETY: not null; the buffer has as many bytes as `count` says.
    let room = unsafe { bytes_mut(buffer, *count) };
    let (copied, at) = guarded(|| match (room, shim().kernel.next_sent()) {
        (Ok(room), Some((at, packet))) => {
            let copied = packet.len().min(room.len());
            room[..copied].copy_from_slice(&packet[..copied]);
            (copied, at)
        }
        // A count of nothing ends the script with an error.
        (_, None) | (Err(_), _) => {
            eprintln!("no packet leaves the stack any more");
            (0, 0)
        }
    });
    // SAFETY: not null.
    unsafe { (*count, *time_us) = (copied, at) };
    0
}

extern "C" fn usleep(_: Data, micros: c_uint) -> c_int {
    guarded(|| shim().kernel.pass(u64::from(micros)));
    0
}

unsafe extern "C" fn gettimeofday(_: Data, time: *mut timeval, _zone: *mut c_void) -> c_int {
    let (tv_sec, tv_usec) = guarded(|| shim().kernel.time());
    if !time.is_null() {
        // SAFETY: not null.
        unsafe { *time = timeval { tv_sec, tv_usec } };
    }
    0
}

extern "C" fn epoll_create(_: Data, _size: c_int) -> c_int {
    guarded(|| {
        let made = descriptor().map(|fd| shim().kernel.call(|world| world.epoll_create(fd)));
        to_int(made)
    })
}

unsafe extern "C" fn epoll_ctl(_: Data, epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    let (events, data) = if event.is_null() {
        (0, 0)
    } else {
        // SAFETY: not null. It may be packed: it is copied.
        let event = unsafe { event.read_unaligned() };
        (event.events, event.u64)
    };
    guarded(|| {
        let done = shim().kernel.call(|world| world.epoll_ctl(epfd, op, fd, events, data)).map(|()| 0);
        to_int(done)
    })
}

unsafe extern "C" fn epoll_wait(
    _: Data,
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: c_int,
) -> c_int {
    let taken = guarded(|| {
        let until = || Until::Epoll(epfd);
        let max = usize::try_from(max).map_err(|_| Errno(libc::EINVAL))?;
        shim().kernel.wait_for(timeout != 0, patience(timeout), until, |world| {
            let taken = world.epoll_take(epfd, max)?;
            if taken.is_empty() { Err(AGAIN) } else { Ok(taken) }
        })
    });
    let taken = taken.or_else(|error| if error == AGAIN { Ok(Vec::new()) } else { Err(error) });
    if let (Ok(taken), false) = (&taken, events.is_null()) {
        for (place, (ready, data)) in taken.iter().enumerate() {
            // SAFETY: C gives room for `max` of them, and there are no more. They may be packed.
            unsafe { events.add(place).write_unaligned(epoll_event { events: *ready, u64: *data }) };
        }
    }
    to_int(taken.map(|taken| taken.len()))
}

unsafe extern "C" fn pipe(_: Data, ends: *mut c_int) -> c_int {
    // SAFETY: C gives room for two descriptors; they are the kernel's own.
    unsafe { libc::pipe(ends) }
}

unsafe extern "C" fn splice(
    _: Data,
    _from: c_int,
    _from_offset: *mut c_void,
    _to: c_int,
    _to_offset: *mut c_void,
    _len: usize,
    _flags: c_uint,
) -> ssize_t {
    guarded(|| shim().kernel.call(|world| world.wants.add("splice")));
    to_c::<c_int>(Err(Errno(libc::EINVAL))) as ssize_t
}
