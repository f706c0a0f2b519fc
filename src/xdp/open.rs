//! Opening NICs: program, memory, sockets, in this order; and all of it undone by dropping, when something fails.

use crate::base::pool::{PACKET_MAX, RX_PACKET_MAX};
use crate::base::{PortId, WorkerId};
use crate::stack::owner::home;
use crate::wire::ethernet::HEADER_MAX;
use crate::xdp::ethtool::{Nic, nic_names};
use crate::xdp::program::{Constants, Hook, PORTS_MAX, Program};
use crate::xdp::socket::{BindError, Place, QueueSocket};
use crate::xdp::umem::SharedUmem;
use crate::xdp::{Mode, PortInfo, Refusal, Xdp, XdpConfig, XdpError, XdpPort, ZeroCopy, privilege, probe};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

/// The most workers, and the most queues of a NIC, that we work with.
const WORKERS_MAX: usize = 64;
const QUEUES_MAX: usize = 256;
/// The fewest frames with which anything moves, and the most that are sensible (64 GiB).
const FRAMES_MIN: usize = 256;
const FRAMES_MAX: usize = 1 << 24;
/// How many frames wait in each fill ring, given a large pool: enough for a few milliseconds in which a worker does
/// not run, few enough that the frames in turn stay in the processor's cache.
const FILL_TARGET: usize = 1024;

pub(crate) fn open(config: &XdpConfig) -> Result<Xdp, XdpError> {
    check(config)?;
    let mut ports = Vec::new();
    for (number, name) in config.nics.iter().enumerate() {
        ports.push(look_up(PortId(number as u16), name, config)?);
    }
    privilege::require("open NICs for AF_XDP")?;
    privilege::raise_memlock();

    let constants = Constants {
        workers: config.workers,
        queues: ports.iter().map(|port| port.queues).max().unwrap_or(1),
        ifindexes: ports.iter().map(|port| port.ifindex).collect(),
    };
    let mut program = Program::load(crate::xdp::program::Which::Steer, constants)?;
    for port in &mut ports {
        port.native = program.attach(&port.name, port.ifindex)? == Hook::Native;
    }
    let (umem, sockets) = bind(config, &mut ports)?;
    let workers = hand_out(config, &ports, &umem, sockets, Arc::new(program))?;
    Ok(workers)
}

fn check(config: &XdpConfig) -> Result<(), XdpError> {
    let in_range = |what, value, min, max| {
        if (min..=max).contains(&value) {
            Ok(())
        } else {
            Err(XdpError::OutOfRange { what, value, min, max })
        }
    };
    in_range("the number of network interfaces", config.nics.len(), 1, PORTS_MAX)?;
    in_range("the number of workers", config.workers, 1, WORKERS_MAX)?;
    in_range("the number of queues", config.queues.unwrap_or(1), 1, QUEUES_MAX)?;
    in_range("the number of frames", config.frames, FRAMES_MIN, FRAMES_MAX)?;
    let mut seen = HashSet::new();
    match config.nics.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(XdpError::Repeated(name.clone())),
        None => Ok(()),
    }
}

/// Asks the kernel for all that is known of a NIC before it is opened.
fn look_up(id: PortId, name: &str, config: &XdpConfig) -> Result<PortInfo, XdpError> {
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => {
            XdpError::NoSuchNic { name: name.to_owned(), present: nic_names() }
        }
        _ => XdpError::kernel(format!("look up {name}"), error),
    };
    let nic = Nic::new(name).map_err(failed)?;
    let queues = nic.receive_queues().min(config.queues.unwrap_or(QUEUES_MAX)).min(QUEUES_MAX);
    Ok(PortInfo {
        id,
        name: name.to_owned(),
        ifindex: nic.ifindex().map_err(failed)?,
        mac: nic.mac().map_err(failed)?,
        mtu: nic.mtu().map_err(failed)?,
        mtu_most: RX_PACKET_MAX - HEADER_MAX,
        driver: nic.driver().unwrap_or_else(|_| "unknown".to_owned()),
        mode: Mode::Copy(Refusal::switched_off()),
        native: false,
        queues,
        checksum: config.checksum,
    })
}

/// By NIC, queue and worker.
type Sockets = Vec<Vec<Vec<QueueSocket>>>;

/// Makes the memory and binds all sockets: with zero-copy if that is wanted and all NICs can, else in copy mode unless
/// that is ruled out. One UMEM has one mode, that of the first socket on it.
///
/// Packets in several frames are asked for where a NIC has such, and given up where it refuses (before Linux 6.6, and with many
/// drivers in zero-copy mode): what is sent and received is shorter then.
fn bind(config: &XdpConfig, ports: &mut [PortInfo]) -> Result<(SharedUmem, Sockets), XdpError> {
    let refusal = match why_not_zero_copy(config, ports) {
        Some(refusal) => refusal,
        None => match bind_in_mode(config, ports, true)? {
            Ok(bound) => {
                ports.iter_mut().for_each(|port| port.mode = Mode::ZeroCopy);
                return Ok(bound);
            }
            Err((port, queue, error)) if error.refuses_zero_copy() => {
                Refusal::at_queue(&ports[port].name, &ports[port].driver, queue, error.errno())
            }
            Err((port, queue, error)) => return Err(error.explain(&ports[port].name, queue)),
        },
    };
    match config.zero_copy {
        ZeroCopy::Require => return Err(XdpError::ZeroCopyRefused(Box::new(refusal))),
        ZeroCopy::Prefer | ZeroCopy::Off => {}
    }
    let bound = bind_in_mode(config, ports, false)?
        .map_err(|(port, queue, error)| error.explain(&ports[port].name, queue))?;
    for port in ports {
        port.mode = Mode::Copy(refusal.seen_from(&port.name));
    }
    Ok(bound)
}

/// In one mode, first with packets in several frames where there are such. What the ports take of a packet is noted.
fn bind_in_mode(
    config: &XdpConfig,
    ports: &mut [PortInfo],
    zero_copy: bool,
) -> Result<Result<(SharedUmem, Sockets), NotBound>, XdpError> {
    let limit = |ports: &mut [PortInfo], packet: usize| {
        for port in ports {
            port.mtu_most = packet - HEADER_MAX;
            port.mtu = port.mtu.min(port.mtu_most);
        }
    };
    if ports.iter().any(|port| port.mtu > RX_PACKET_MAX - HEADER_MAX) {
        let umem = SharedUmem::new(config.frames)?;
        match bind_all(config, ports, &umem, (zero_copy, true)) {
            Ok(sockets) => {
                limit(ports, PACKET_MAX);
                return Ok(Ok((umem, sockets)));
            }
            Err((_, _, BindError::Refused(_))) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    let umem = SharedUmem::new(config.frames)?;
    let bound = bind_all(config, ports, &umem, (zero_copy, false));
    if bound.is_ok() {
        limit(ports, RX_PACKET_MAX);
    }
    Ok(bound.map(|sockets| (umem, sockets)))
}

/// Which NIC, which queue, why.
type NotBound = (usize, u32, BindError);

/// Why zero-copy is not even tried.
fn why_not_zero_copy(config: &XdpConfig, ports: &[PortInfo]) -> Option<Refusal> {
    match config.zero_copy {
        ZeroCopy::Off => return Some(Refusal::switched_off()),
        ZeroCopy::Prefer | ZeroCopy::Require => {}
    }
    ports.iter().find_map(|port| {
        if !port.native {
            Some(Refusal::not_native(&port.name, &port.driver))
        } else if probe::offers_zero_copy(port.ifindex) == probe::Answer::No {
            Some(Refusal::not_offered(&port.name, &port.driver))
        } else {
            None
        }
    })
}

fn bind_all(
    config: &XdpConfig,
    ports: &[PortInfo],
    umem: &SharedUmem,
    (zero_copy, scattered): (bool, bool),
) -> Result<Sockets, NotBound> {
    let queues: usize = ports.iter().map(|port| port.queues).sum();
    // At most half of a small pool waits for packets; the rest is for sending, and for what was received.
    let fill_target = FILL_TARGET.min((config.frames / 2 / queues).max(1));
    let mut sockets = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let mut of_port = Vec::new();
        for queue in 0..port.queues as u32 {
            let place = Place { nic: &port.name, queue, zero_copy, scattered, fill_target };
            let all = QueueSocket::open_all(umem, place, config.workers);
            of_port.push(all.map_err(|error| (number, queue, error))?);
        }
        sockets.push(of_port);
    }
    Ok(sockets)
}

/// Tells the program of homes and sockets, and gives each worker its own.
fn hand_out(
    config: &XdpConfig,
    ports: &[PortInfo],
    umem: &SharedUmem,
    sockets: Sockets,
    program: Arc<Program>,
) -> Result<Xdp, XdpError> {
    let told = |error| XdpError::kernel("tell the steering program of a socket", error);
    let mut workers: Vec<Vec<XdpPort>> = (0..config.workers).map(|_| Vec::new()).collect();
    for (port, of_port) in ports.iter().zip(sockets) {
        let number = port.id.index();
        let mut of_workers: Vec<(Vec<QueueSocket>, Vec<bool>)> = vec![];
        of_workers.resize_with(config.workers, Default::default);
        for (queue, of_queue) in of_port.into_iter().enumerate() {
            let home = home(number, queue, config.workers);
            program.set_home(number, queue, home.index()).map_err(told)?;
            for (worker, socket) in of_queue.into_iter().enumerate() {
                program.set_socket(number, queue, worker, socket.raw_fd()).map_err(told)?;
                let (sockets, is_guest) = &mut of_workers[worker];
                sockets.push(socket);
                is_guest.push(worker != home.index());
            }
        }
        for (worker, (sockets, is_guest)) in of_workers.into_iter().enumerate() {
            let transmitter = transmitter(number, port.queues, worker, config.workers);
            workers[worker].push(XdpPort::new(
                port.id,
                config.checksum,
                sockets,
                is_guest,
                transmitter,
                umem.layout,
                Arc::clone(&program),
            ));
        }
    }
    Ok(Xdp {
        workers: Mutex::new(workers.into_iter().map(Some).collect()),
        ports: ports.to_vec(),
        pool: Arc::clone(&umem.pool),
        program,
    })
}

/// The queue that a worker transmits at: one whose home it is, or one that it shares with as few as may be.
fn transmitter(port: usize, queues: usize, worker: usize, workers: usize) -> usize {
    let is_home = |queue: &usize| home(port, *queue, workers) == WorkerId(worker as u16);
    (0..queues).find(is_home).unwrap_or(worker % queues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ChecksumMode;

    fn config(nics: &[&str]) -> XdpConfig {
        XdpConfig {
            nics: nics.iter().map(|name| (*name).to_owned()).collect(),
            workers: 1,
            queues: None,
            frames: 4096,
            zero_copy: ZeroCopy::Prefer,
            checksum: ChecksumMode::Software,
        }
    }

    #[test]
    fn a_missing_nic_is_named_together_with_those_there_are() {
        let error = Xdp::open(&config(&["nosuchnic0"])).expect_err("there is none");
        assert!(error.to_string().contains("nosuchnic0"), "{error}");
        assert!(error.to_string().contains("lo"), "{error}");
    }

    #[test]
    fn a_senseless_configuration_is_refused_before_anything_is_touched() {
        let refused = |config: XdpConfig| Xdp::open(&config).expect_err("it is senseless").to_string();
        assert!(refused(config(&[])).contains("network interfaces is 0"));
        assert!(refused(config(&["lo", "lo"])).contains("lo is named twice"));
        assert!(refused(XdpConfig { workers: 0, ..config(&["lo"]) }).contains("workers is 0"));
        assert!(refused(XdpConfig { frames: 1, ..config(&["lo"]) }).contains("frames is 1"));
        assert!(refused(XdpConfig { queues: Some(0), ..config(&["lo"]) }).contains("queues is 0"));
    }

    #[test]
    fn a_worker_transmits_at_home_where_it_has_one() {
        for (port, queues, workers) in [(0, 1, 1), (1, 1, 2), (0, 4, 2), (1, 2, 4), (3, 8, 3)] {
            for worker in 0..workers {
                let queue = transmitter(port, queues, worker, workers);
                let homes = (0..queues).filter(|q| home(port, *q, workers).index() == worker).count();
                assert!(queue < queues);
                assert!(homes == 0 || home(port, queue, workers).index() == worker);
            }
        }
    }
}
