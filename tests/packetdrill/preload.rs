//! What packetdrill's calls to the C library find when the shim is preloaded, beside being loaded: packetdrill closes our
//! descriptors with `close` at its end, its `%{ }%` lines ask `getsockopt`, and its MPTCP tree computes hashes by AF_ALG
//! sockets, which this machine's kernel may not have. Whatever is not for us goes to the kernel as it is.

#![allow(unsafe_code)]

use crate::hashes::Hashes;
use crate::sockets::Errno;
use crate::table::{bytes, bytes_mut, close_ours, close_really, getsockopt_in_table, ours, to_c};
use libc::{c_char, c_int, c_long, c_void, sockaddr, socklen_t, ssize_t};
use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

static HASHES: Mutex<Hashes> = Mutex::new(Hashes::new());

fn hashes() -> MutexGuard<'static, Hashes> {
    HASHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's answer, `errno` included.
///
/// # Safety
/// The arguments are right for the system call.
macro_rules! kernel {
    ($number:ident, $($argument:expr),*) => {
        libc::syscall(libc::$number, $($argument),*)
    };
}

/// A hash's descriptor. It needs no content: a real one keeps its number from others.
fn placeholder() -> c_long {
    // SAFETY: eventfd2(2) has no pointers.
    unsafe { kernel!(SYS_eventfd2, 0, 0) }
}

/// `close` for all of the process.
#[unsafe(no_mangle)]
pub extern "C" fn close(fd: c_int) -> c_int {
    if ours().contains(&fd) {
        return close_ours(fd);
    }
    hashes().remove(fd);
    close_really(fd)
}

/// `getsockopt` for all of the process.
///
/// # Safety
/// As getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if ours().contains(&fd) {
        // SAFETY: the same promises.
        return unsafe { getsockopt_in_table(std::ptr::null_mut(), fd, level, name, value, len) };
    }
    // SAFETY: the same promises.
    unsafe { kernel!(SYS_getsockopt, fd, level, name, value, len) as c_int }
}

/// `socket` for all of the process: a hash where the kernel has none.
#[unsafe(no_mangle)]
pub extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: socket(2) has no pointers.
    let fd = unsafe { kernel!(SYS_socket, domain, kind, protocol) as c_int };
    if fd >= 0 || domain != libc::AF_ALG {
        return fd;
    }
    let fd = placeholder() as c_int;
    if fd >= 0 {
        hashes().add(fd);
    }
    fd
}

/// `bind` for all of the process.
///
/// # Safety
/// As bind(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    if !hashes().has(fd) {
        // SAFETY: the same promises.
        return unsafe { kernel!(SYS_bind, fd, addr, len) as c_int };
    }
    /// Where the name stands in `struct sockaddr_alg`, and how long it may be.
    const NAME: std::ops::Range<usize> = 24..88;
    // SAFETY: bind(2) reads so many bytes.
    let name =
        unsafe { bytes(addr.cast(), len as usize) }.ok().and_then(|addr| addr.get(NAME)).unwrap_or(&[]);
    let name = CStr::from_bytes_until_nul(name).unwrap_or_default().to_string_lossy();
    let bound = hashes().bind(fd, &name);
    to_c(if bound { Ok(0) } else { Err(Errno(libc::ENOENT)) }) as c_int
}

/// `setsockopt` for all of the process.
///
/// # Safety
/// As setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_char,
    len: socklen_t,
) -> c_int {
    if level != libc::SOL_ALG || !hashes().has(fd) {
        // SAFETY: the same promises.
        return unsafe { kernel!(SYS_setsockopt, fd, level, name, value, len) as c_int };
    }
    // SAFETY: setsockopt(2) reads so many bytes.
    let key = unsafe { bytes(value.cast(), len as usize) };
    let set = key.is_ok_and(|key| hashes().set_key(fd, key));
    to_c(if set { Ok(0) } else { Err(Errno(libc::EINVAL)) }) as c_int
}

/// `accept` for all of the process.
///
/// # Safety
/// As accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    if !hashes().has(fd) {
        // SAFETY: the same promises.
        return unsafe { kernel!(SYS_accept4, fd, addr, len, 0) as c_int };
    }
    let new = placeholder() as c_int;
    let accepted = new >= 0 && hashes().accept(fd, new);
    to_c(if accepted { Ok(new) } else { Err(Errno(libc::EINVAL)) }) as c_int
}

/// `send` for all of the process.
///
/// # Safety
/// As send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(fd: c_int, buffer: *const c_void, len: usize, flags: c_int) -> ssize_t {
    if !hashes().has(fd) {
        // SAFETY: the same promises.
        return unsafe {
            kernel!(SYS_sendto, fd, buffer, len, flags, std::ptr::null::<sockaddr>(), 0) as ssize_t
        };
    }
    // SAFETY: send(2) reads so many bytes.
    let more = unsafe { bytes(buffer, len) };
    let taken = more.is_ok_and(|more| hashes().update(fd, more));
    to_c(if taken { Ok(len) } else { Err(Errno(libc::EINVAL)) }) as ssize_t
}

/// `recv` for all of the process.
///
/// # Safety
/// As recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, buffer: *mut c_void, len: usize, flags: c_int) -> ssize_t {
    if !hashes().has(fd) {
        let nobody = std::ptr::null_mut::<c_void>();
        // SAFETY: the same promises.
        return unsafe { kernel!(SYS_recvfrom, fd, buffer, len, flags, nobody, nobody) as ssize_t };
    }
    // SAFETY: recv(2) writes so many bytes at most.
    let room = unsafe { bytes_mut(buffer, len) };
    let digest = hashes().digest(fd).ok_or(Errno(libc::EINVAL));
    let received = room.and_then(|room| {
        let digest = digest?;
        let copied = digest.len().min(room.len());
        room[..copied].copy_from_slice(&digest[..copied]);
        Ok(copied)
    });
    to_c(received) as ssize_t
}
