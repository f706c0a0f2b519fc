//! The steering program: loading it, attaching it to NICs, and its maps.

use crate::stack::owner::{FlowKey, Locals, Reason, local_key};
use crate::wire::Endpoint;
use crate::xdp::{XdpError, privilege};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, libbpf_sys};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[allow(missing_docs, missing_debug_implementations, unused_imports, dead_code)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

/// The most NICs: `PORTS_MAX` of `bpf/maps.h`.
pub(crate) const PORTS_MAX: usize = 16;

/// Which of the programs in `bpf/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The steering program.
    Steer,
    /// The one that gives everything to the queue's first socket, for measuring.
    TakeAll,
}

/// The constants of the program.
#[derive(Debug, Clone)]
pub(crate) struct Constants {
    pub(crate) workers: usize,
    /// Of the NIC that has most.
    pub(crate) queues: usize,
    /// The kernel's number of each NIC.
    pub(crate) ifindexes: Vec<u32>,
}

impl Constants {
    /// Where a socket stands in the program's map.
    pub(crate) fn slot(&self, port: usize, queue: usize, worker: usize) -> usize {
        (port * self.queues + queue) * self.workers + worker
    }
}

/// A program in the kernel. It is detached from all NICs when this is dropped, or when the process ends, however.
#[derive(Debug)]
pub(crate) struct Program {
    /// Each link holds the program on one NIC, until its file descriptor is closed.
    links: Vec<OwnedFd>,
    program: OwnedFd,
    /// What of each port is ours, and ends that are ours at one address; `Locals` says what stands in them.
    ports: MapHandle,
    ends: MapHandle,
    locals: Mutex<Locals>,
    flows: Arc<FlowMap>,
    homes: MapHandle,
    sockets: MapHandle,
    counters: MapHandle,
    constants: Constants,
}

/// How a NIC runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// In its driver.
    Native,
    /// In the kernel's generic hook, behind the driver: slower, and never zero-copy.
    Generic,
}

impl Program {
    pub(crate) fn load(which: Which, constants: Constants) -> Result<Self, XdpError> {
        // libbpf writes to stderr by itself; what it returns is enough for our errors.
        libbpf_rs::set_print(None);
        let failed = |error: libbpf_rs::Error| load_error(&error);
        let mut object = MaybeUninit::uninit();
        let mut open = skel::SteerSkelBuilder::default().open(&mut object).map_err(failed)?;
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.workers = constants.workers as u32;
            rodata.queues = constants.queues as u32;
            rodata.ports = constants.ifindexes.len() as u32;
            for (to, from) in rodata.ifindexes.iter_mut().zip(&constants.ifindexes) {
                *to = *from;
            }
        }
        open.progs.steer.set_autoload(which == Which::Steer);
        open.progs.take_all.set_autoload(which == Which::TakeAll);
        let places = constants.ifindexes.len() * constants.queues;
        open.maps.homes.set_max_entries(places as u32).map_err(failed)?;
        open.maps.xsks.set_max_entries((places * constants.workers) as u32).map_err(failed)?;
        let skel = open.load().map_err(failed)?;
        let program = match which {
            Which::Steer => skel.progs.steer.as_fd(),
            Which::TakeAll => skel.progs.take_all.as_fd(),
        };
        let program =
            program.try_clone_to_owned().map_err(|error| XdpError::kernel("keep the program", error))?;
        Ok(Self {
            links: Vec::new(),
            program,
            ports: MapHandle::try_from(&skel.maps.local_ports).map_err(failed)?,
            ends: MapHandle::try_from(&skel.maps.local_map).map_err(failed)?,
            locals: Mutex::default(),
            flows: Arc::new(FlowMap {
                flows: MapHandle::try_from(&skel.maps.flow_map).map_err(failed)?,
                any: MapHandle::try_from(&skel.maps.pinned_any).map_err(failed)?,
                is_told: AtomicBool::new(false),
            }),
            homes: MapHandle::try_from(&skel.maps.homes).map_err(failed)?,
            sockets: MapHandle::try_from(&skel.maps.xsks).map_err(failed)?,
            counters: MapHandle::try_from(&skel.maps.counters).map_err(failed)?,
            constants,
        })
    }

    /// Puts the program on a NIC, into its driver if that can.
    pub(crate) fn attach(&mut self, name: &str, ifindex: u32) -> Result<Hook, XdpError> {
        let native = self.link(ifindex, libbpf_sys::XDP_FLAGS_DRV_MODE);
        let (link, hook) = match native {
            Ok(link) => (link, Hook::Native),
            Err(error) if is_occupied(&error) => return Err(occupied(name, ifindex)),
            // A driver without XDP says EOPNOTSUPP; one that can't do it with this MTU or these offloads, EINVAL
            // or ERANGE; one that lacks queues or memory for it, others.
            Err(_) => match self.link(ifindex, libbpf_sys::XDP_FLAGS_SKB_MODE) {
                Ok(link) => (link, Hook::Generic),
                Err(error) if is_occupied(&error) => return Err(occupied(name, ifindex)),
                Err(error) => {
                    return Err(XdpError::kernel(format!("attach the program to {name}"), error));
                }
            },
        };
        self.links.push(link);
        Ok(hook)
    }

    fn link(&self, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
        let options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
            flags,
            ..Default::default()
        };
        // SAFETY: a valid program, and options of the size that they say they have.
        let fd = unsafe {
            libbpf_sys::bpf_link_create(
                self.program.as_raw_fd(),
                ifindex as i32,
                libbpf_sys::BPF_XDP,
                &options,
            )
        };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: the call gave us a new descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub(crate) fn set_home(&self, port: usize, queue: usize, worker: usize) -> io::Result<()> {
        set(&self.homes, port * self.constants.queues + queue, worker as u32)
    }

    pub(crate) fn set_socket(&self, port: usize, queue: usize, worker: usize, fd: RawFd) -> io::Result<()> {
        set(&self.sockets, self.constants.slot(port, queue, worker), fd as u32)
    }

    pub(crate) fn steer_local(&self, local: Endpoint, mptcp_only: bool) -> Result<(), XdpError> {
        let mut locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        locals.steer(local, mptcp_only);
        self.publish(&locals, local).inspect_err(|_| {
            locals.unsteer(local);
            // What could not be added is not there to be taken away.
            let _ = self.publish(&locals, local);
        })
    }

    pub(crate) fn unsteer_local(&self, local: Endpoint) {
        let mut locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        locals.unsteer(local);
        // Nothing is added, so nothing can be full; one that is not there is as good as removed.
        let _ = self.publish(&locals, local);
    }

    /// Lets the maps say of `local` what `locals` says.
    fn publish(&self, locals: &Locals, local: Endpoint) -> Result<(), XdpError> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => XdpError::LocalFull(self.ends.max_entries() as usize),
            _ => XdpError::kernel("steer a local address and port", error),
        };
        if !local.addr.is_unspecified() {
            let key = local_key(local);
            match locals.at_one_address(local) {
                Some(flags) => update(&self.ends, &key, &flags.to_ne_bytes()).map_err(failed)?,
                None => drop(self.ends.delete(&key)),
            }
        }
        set(&self.ports, local.port.into(), locals.kinds(local.port)).map_err(failed)
    }

    /// The map of pinned flows.
    pub(crate) fn flows(&self) -> Arc<FlowMap> {
        Arc::clone(&self.flows)
    }

    pub(crate) fn counter(&self, reason: Reason) -> u64 {
        let counts = self.counters.lookup_percpu(&(reason as u32).to_ne_bytes(), MapFlags::ANY);
        let counts = counts.ok().flatten().unwrap_or_default();
        counts.iter().filter_map(|count| count.first_chunk()).map(|count| u64::from_ne_bytes(*count)).sum()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Closing a link detaches it only when it has no other descriptor; a child that was just forked and has not
        // yet started its program has copies of all of ours.
        for link in &self.links {
            // SAFETY: an open link.
            unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) };
        }
    }
}

/// The map of pinned flows, for all workers.
#[derive(Debug)]
pub(crate) struct FlowMap {
    flows: MapHandle,
    /// Tells the program that it has to look.
    any: MapHandle,
    is_told: AtomicBool,
}

impl FlowMap {
    /// Pins a flow. From the first one on the program looks for them, for good: to tell it that the last is gone could cross
    /// with another worker's first.
    pub(crate) fn pin(&self, key: &FlowKey, worker: u32) -> io::Result<()> {
        update(&self.flows, key, &worker.to_ne_bytes())?;
        if !self.is_told.load(Ordering::Relaxed) {
            set(&self.any, 0, 1)?;
            self.is_told.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Forgets a flow; one that is not there is as good as forgotten.
    pub(crate) fn unpin(&self, key: &FlowKey) {
        let _ = self.flows.delete(key);
    }
}

/// The id of the XDP program on a NIC.
pub(crate) fn attached(ifindex: u32) -> Option<u32> {
    query(ifindex).ok().map(|answer| answer.prog_id).filter(|id| *id != 0)
}

/// What the kernel says of XDP on a NIC: programs, and features of its driver.
pub(crate) fn query(ifindex: u32) -> io::Result<libbpf_sys::bpf_xdp_query_opts> {
    let mut answer = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as _,
        ..Default::default()
    };
    // SAFETY: the structure has the size that it says.
    match unsafe { libbpf_sys::bpf_xdp_query(ifindex as i32, 0, &mut answer) } {
        0 => Ok(answer),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

fn occupied(name: &str, ifindex: u32) -> XdpError {
    XdpError::ProgramAttached { name: name.to_owned(), program: attached(ifindex) }
}

fn set(map: &MapHandle, key: usize, value: u32) -> io::Result<()> {
    update(map, &(key as u32).to_ne_bytes(), &value.to_ne_bytes())
}

fn update(map: &MapHandle, key: &[u8], value: &[u8]) -> io::Result<()> {
    // Not through MapCore::update: it hides the error's number, by which we tell a full map from other failures.
    assert!(key.len() == map.key_size() as usize && value.len() == map.value_size() as usize);
    // SAFETY: key and value have the sizes of the map's, checked above.
    let answer = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_fd().as_raw_fd(),
            key.as_ptr().cast(),
            value.as_ptr().cast(),
            libbpf_sys::BPF_ANY.into(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-answer)) }
}

fn load_error(error: &libbpf_rs::Error) -> XdpError {
    let missing = privilege::missing();
    if error.kind() == libbpf_rs::ErrorKind::PermissionDenied && !missing.is_empty() {
        return XdpError::NoPrivilege { doing: "load the steering program", missing };
    }
    let doing = "load the steering program (it needs Linux 5.18 or later)";
    XdpError::kernel(doing, io::Error::other(error.to_string()))
}
