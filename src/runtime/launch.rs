//! [`Runtime`]: everything running.

use super::clock::Clock;
use super::config::RuntimeConfig;
use super::control::{Control, ControlParts};
use super::ctl::{CtlError, CtlPath, CtlSocket, CtlThread};
use super::departures::Departures;
use super::error::StartError;
use super::handle::ControlHandle;
use super::network::Network;
use super::pace::Pace;
use super::paths::PathConfig;
use super::reserve;
use super::stalls::Stalls;
use super::thread::WorkerThread;
use super::wake::WakeFd;
use crate::base::time::Duration;
use crate::base::{FramePool, PoolCache, PortId, WorkerId};
use crate::pm::{Limits, Manager, PmConfig};
use crate::stack::Doorbell;
use crate::worker::{Worker, WorkerConfig, WorkerHandle};
use crate::xdp::{PortInfo, Xdp, XdpConfig};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How long a worker spins before it sleeps: longer than a packet takes to a host nearby and back. So an exchange of small
/// messages finds it awake, and costs neither end a sleep and what ends it: a write to an eventfd or an interrupt for the
/// other core, and that core's way out of its halt.
const IDLE_SPELL: Duration = Duration::from_micros(50);

/// A running Braid: attached NICs, workers, control. Any thread may use it; dropping it shuts it down.
#[derive(Debug)]
pub struct Runtime {
    control: ControlHandle,
    xdp: Arc<Xdp>,
    stalls: Stalls,
    ctl: Result<Option<PathBuf>, CtlError>,
    /// Ends before the control thread, which answers it.
    ctl_thread: Option<CtlThread>,
    threads: Vec<JoinHandle<()>>,
}

impl Runtime {
    /// Attaches to the NICs and starts the threads.
    ///
    /// # Errors
    /// What is missing, in words. Nothing stays attached then.
    pub fn start(config: RuntimeConfig) -> Result<Runtime, StartError> {
        check(&config)?;
        // First: it is the likeliest to be refused, and costs nothing.
        let ctl = match &config.ctl {
            CtlPath::None => Ok(None),
            CtlPath::At(path) => Ok(Some(CtlSocket::open(Some(path))?)),
            CtlPath::Default => CtlSocket::open(None).map(Some),
        };
        let mut network = Network::new().map_err(StartError::Netlink)?;
        let nics = network.choose(&config.nics)?;
        let mut xdp = Xdp::open(&XdpConfig {
            nics,
            workers: config.workers,
            queues: config.queues,
            frames: config.frames,
            zero_copy: config.zero_copy,
            checksum: config.checksum,
        })?;
        let mtu_most = xdp.ports().iter().map(|port| port.mtu_most).min().unwrap_or_default();
        let changes = network
            .attach(xdp.ports().iter().map(|port| port.ifindex).collect(), mtu_most as u32)
            .map_err(StartError::Netlink)?;

        let seed = getrandom::u64().map_err(|error| StartError::Thread(io::Error::other(error)))?;
        let clock = Clock::start();
        reserve::allow_many();
        let stop = Arc::new(AtomicBool::new(false));
        let wake = WakeFd::new().map_err(StartError::Thread)?;
        let doorbell = Arc::new(Doorbell::new(1, Box::new(wake.clone())));
        let mut workers = Vec::new();
        for place in 0..config.workers {
            workers.push(make_worker(&config, place, seed, &mut xdp, clock, &doorbell, &stop)?);
        }
        let handles: Vec<WorkerHandle> = workers.iter().map(|thread| thread.handle.clone()).collect();
        let departures = Arc::new(Departures::new(handles.clone()));
        let (control, requests) = ControlHandle::new(clock, Arc::clone(&doorbell), Arc::clone(&departures));
        let xdp = Arc::new(xdp);
        let limits = Limits {
            subflows: config.paths.subflows,
            add_addr_accepted: config.paths.add_addr_accepted,
            connections: config.max_connections.saturating_mul(config.workers),
        };
        let stalls = Stalls::new(xdp.ports().len());
        let parts = ControlParts {
            clock,
            requests,
            wake,
            doorbell,
            network,
            manager: Manager::new(manager_config(&config, limits, xdp.ports())?, seed),
            stalls: stalls.clone(),
            workers: handles,
            departures,
            xdp: Arc::clone(&xdp),
            accept_backlog: config.backlog,
            events: ctl.as_ref().ok().and_then(Option::as_ref).map(|ctl| Arc::clone(&ctl.events)),
            stop: Arc::clone(&stop),
        };
        let mut thread = Control::new(parts);
        thread.open_endpoints(&config.paths.endpoints)?;
        let (ctl, socket) = match ctl {
            Ok(Some(socket)) => (Ok(Some(socket.path())), Some(socket)),
            Ok(None) => (Ok(None), None),
            Err(error) => (Err(error), None),
        };
        let mut runtime = Runtime { control, xdp, stalls, ctl, ctl_thread: None, threads: Vec::new() };
        for (place, worker) in workers.into_iter().enumerate() {
            let core = core_of(&config, place);
            runtime.spawn(&stop, format!("braid-worker-{place}"), move || {
                if let Some(core) = core {
                    // Where the process may not run there, the scheduler's choice is as good as any.
                    core_affinity::set_for_current(core);
                }
                worker.run();
            })?;
        }
        runtime.spawn(&stop, "braid-control".to_owned(), move || thread.run(changes))?;
        if let Some(socket) = socket {
            let control = runtime.control.clone();
            let thread = socket.serve(move |request| control.ctl(request)).map_err(StartError::Thread)?;
            runtime.ctl_thread = Some(thread);
        }
        Ok(runtime)
    }

    /// The NICs: driver, zero-copy or not, queues, checksums.
    pub fn ports(&self) -> &[PortInfo] {
        self.xdp.ports()
    }

    /// Which of the NICs give nothing back, now and later.
    pub fn stalls(&self) -> &Stalls {
        &self.stalls
    }

    /// What the steering program did, by reason: how many packets since the start.
    pub fn steering_counters(&self) -> Vec<(&'static str, u64)> {
        self.xdp.counters()
    }

    /// The frames that all NICs and connections share.
    pub fn pool(&self) -> &Arc<FramePool> {
        self.xdp.pool()
    }

    /// Where the control socket is; `None`: none was wanted.
    ///
    /// # Errors
    /// Why there is none where the default one could not be opened.
    pub fn ctl(&self) -> Result<Option<&Path>, &CtlError> {
        self.ctl.as_ref().map(Option::as_deref)
    }

    /// The way to the control thread.
    pub fn control(&self) -> &ControlHandle {
        &self.control
    }

    /// Ends all connections with notice to their peers, then the threads; detaches from the NICs.
    pub fn shutdown(self) {
        drop(self);
    }

    /// Starts a thread. A thread that panics takes the process with it: the connections of a worker are lost with
    /// it, and those who wait for them would wait for ever.
    fn spawn(
        &mut self,
        stop: &Arc<AtomicBool>,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let abort = move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
                std::process::abort();
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(abort).map_err(|error| {
            // The control thread, which would tell the workers to end, doesn't run yet.
            stop.store(true, Ordering::SeqCst);
            StartError::Thread(error)
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.ctl_thread.take());
        self.control.shutdown();
        for thread in self.threads.drain(..) {
            // It has not panicked: see `spawn`.
            let _ = thread.join();
        }
    }
}

/// What the path manager is told, with the NICs by their numbers.
fn manager_config(
    config: &RuntimeConfig,
    limits: Limits,
    ports: &[PortInfo],
) -> Result<PmConfig, StartError> {
    let number = |name: &String| {
        let place = ports.iter().position(|port| port.name == *name);
        place.map(|place| PortId(place as u16)).ok_or_else(|| StartError::NoSuchNic {
            name: name.clone(),
            others: ports.iter().map(|port| port.name.clone()).collect(),
        })
    };
    let PathConfig { policy, dual_stack, backup, .. } = &config.paths;
    let backup = backup.iter().map(number).collect::<Result<Vec<PortId>, StartError>>()?;
    Ok(PmConfig { policy: *policy, dual_stack: *dual_stack, limits, backup })
}

/// Numbers that make no sense, before anything is attached.
fn check(config: &RuntimeConfig) -> Result<(), StartError> {
    let limits = [
        ("workers", config.workers, 1, usize::from(u16::MAX)),
        ("paths.subflows", config.paths.subflows, 0, Limits::SUBFLOWS_MAX),
        ("paths.add_addr_accepted", config.paths.add_addr_accepted, 0, Limits::ADD_ADDR_ACCEPTED_MAX),
        ("max_connections", config.max_connections, 1, 1 << 24),
    ];
    for (what, value, min, max) in limits {
        if !(min..=max).contains(&value) {
            return Err(StartError::OutOfRange { what, value, min, max });
        }
    }
    Ok(())
}

fn make_worker(
    config: &RuntimeConfig,
    place: usize,
    seed: u64,
    xdp: &mut Xdp,
    clock: Clock,
    control: &Arc<Doorbell>,
    stop: &Arc<AtomicBool>,
) -> Result<WorkerThread, StartError> {
    let id = WorkerId(place as u16);
    let wake = WakeFd::new().map_err(StartError::Thread)?;
    let handle = WorkerHandle::new(Box::new(wake.clone()));
    let mut cache = PoolCache::new(Arc::clone(xdp.pool()));
    let io = xdp.take_worker(id, &mut cache);
    let mut worker_config = WorkerConfig::new(id, config.workers, seed);
    worker_config.max_connections = config.max_connections;
    let mtu = |port: &PortInfo| u16::try_from(port.mtu).unwrap_or(u16::MAX);
    worker_config.mtus = xdp.ports().iter().map(mtu).collect();
    let worker = Worker::new(worker_config, io.ports, io.steering, cache, handle.clone());
    let idle_spell = config.idle_spell.unwrap_or(IDLE_SPELL);
    Ok(WorkerThread {
        worker,
        handle,
        wake,
        control: Arc::clone(control),
        clock,
        pace: Pace::new(config.spin, idle_spell, !has_cores_to_spare(config)),
        stop: Arc::clone(stop),
    })
}

/// The core to pin a worker to. Without a choice of the user's, workers are pinned only where twice as many cores
/// are left over for the kernel and the application; on a small machine the scheduler does better.
fn core_of(config: &RuntimeConfig, place: usize) -> Option<core_affinity::CoreId> {
    if !config.cores.is_empty() {
        return Some(core_affinity::CoreId { id: config.cores[place % config.cores.len()] });
    }
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    // The first core gets most interrupts.
    has_cores_to_spare(config).then(|| cores[1 + place])
}

/// Whether each worker can have a core, with twice as many left over for the kernel and the application.
fn has_cores_to_spare(config: &RuntimeConfig) -> bool {
    core_affinity::get_core_ids().unwrap_or_default().len() >= 3 * config.workers
}
