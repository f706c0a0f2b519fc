//! What application threads hold of the control thread: a channel of requests and the means to wake it.

use super::asks::AskError;
use super::clock::Clock;
use super::ctl::protocol::{Answer, CtlRequest, Refusal};
use super::departures::{Departure, Departures};
use super::error::{ConnectError, ListenError};
use super::info::ConnectionStatus;
use super::reserve::Reservation;
use crate::base::WorkerId;
use crate::base::time::Duration;
use crate::cc::CongestionAlgorithm;
use crate::mptcp::{Path, SchedulerKind, SubflowId};
use crate::pm::SubflowRequest;
use crate::stack::{AcceptQueue, Command, ConnectOptions, Doorbell, ListenOptions, ListenerId, StreamShared};
use crate::wire::FourTuple;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Requests that may wait for the control thread; who comes later waits at the channel.
const REQUESTS_MAX: usize = 256;

/// How long a listener's end is waited for. Workers hear of it within a turn.
const UNLISTEN_TIMEOUT: Duration = Duration::from_secs(1);

/// What application threads ask of the control thread.
#[derive(Debug)]
pub(super) enum Request {
    /// Open a connection.
    Connect {
        remote: SocketAddr,
        options: ConnectOptions,
        timeout: Duration,
        reply: Sender<Result<Opening, ConnectError>>,
    },
    /// A connection was opened without control: from now on the port is its.
    Opened { tuple: FourTuple, reservation: Reservation, stream: Arc<StreamShared> },
    /// Give a worker a command that its ring had no room for.
    Forward { worker: WorkerId, command: Command },
    /// Listen.
    Listen { local: SocketAddr, options: ListenOptions, reply: Sender<Result<Bound, ListenError>> },
    /// Listen no more; `done` is dropped once that is so.
    Unlisten { id: ListenerId, done: Sender<()> },
    /// Tell all that there is to say about the connection whose first subflow has these ends.
    Status { first: FourTuple, reply: Sender<Result<ConnectionStatus, AskError>> },
    /// Do something to its paths.
    Manage { first: FourTuple, action: Action, reply: Sender<Result<(), AskError>> },
    /// Carry out a request that came through the control socket.
    Ctl { request: CtlRequest, reply: Sender<Answer> },
    /// End all connections, then the threads.
    Shutdown,
}

/// What can be done to a connection, and its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Use one more local address.
    AddAddress(IpAddr),
    /// Use a local address no more.
    RemoveAddress(IpAddr),
    /// Open a subflow.
    AddSubflow(SubflowRequest),
    /// Reset a subflow.
    RemoveSubflow(SubflowId),
    /// Use a subflow only as a backup, or again as any other.
    SetBackup(SubflowId, bool),
    /// Spread data by this scheduler.
    SetScheduler(SchedulerKind),
    /// Hold the subflows' windows by this algorithm.
    SetCongestion(CongestionAlgorithm),
}

/// A connection whose SYN is about to leave.
#[derive(Debug)]
pub struct Opening {
    /// The application's side.
    pub stream: Arc<StreamShared>,
    /// The ends of the first subflow.
    pub tuple: FourTuple,
}

impl Opening {
    /// What its worker is told: the SYN leaves over `path`.
    pub(super) fn command(&self, path: Path, options: ConnectOptions) -> Command {
        Command::Connect { tuple: self.tuple, path, options, stream: Arc::clone(&self.stream) }
    }
}

/// A listener.
#[derive(Debug)]
pub struct Bound {
    /// Its name.
    pub id: ListenerId,
    /// Where it listens.
    pub local: SocketAddr,
    /// Where connections arrive.
    pub accept: Arc<AcceptQueue>,
}

/// The way to the control thread. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    clock: Clock,
    requests: Sender<Request>,
    doorbell: Arc<Doorbell>,
    departures: Arc<Departures>,
}

impl ControlHandle {
    /// A handle, and the control thread's end of it.
    pub(super) fn new(
        clock: Clock,
        doorbell: Arc<Doorbell>,
        departures: Arc<Departures>,
    ) -> (Self, Receiver<Request>) {
        let (requests, receiver) = bounded(REQUESTS_MAX);
        (Self { clock, requests, doorbell, departures }, receiver)
    }

    /// Prepares a connection: route, neighbour, local port. The worker then sends the SYN.
    ///
    /// # Errors
    /// No way there, or no port.
    pub fn open(
        &self,
        remote: SocketAddr,
        options: ConnectOptions,
        timeout: Duration,
    ) -> Result<Opening, ConnectError> {
        if let Some(departure) = self.departures.prepare(self.clock.now(), remote, options) {
            return self.depart(departure).ok_or(ConnectError::ShutDown);
        }
        let (reply, answer) = bounded(1);
        self.send(Request::Connect { remote, options, timeout, reply }).ok_or(ConnectError::ShutDown)?;
        answer.recv().unwrap_or(Err(ConnectError::ShutDown))
    }

    /// Opens a connection without waiting for control, which is told of it first but not woken: it need not know before it
    /// hears of the connection from its worker.
    fn depart(&self, departure: Departure) -> Option<Opening> {
        let Departure { worker, command, reservation, opening } = departure;
        let Opening { tuple, stream } = &opening;
        let opened = Request::Opened { tuple: *tuple, reservation, stream: Arc::clone(stream) };
        match self.requests.try_send(opened) {
            Ok(()) => {}
            Err(TrySendError::Full(opened)) => {
                self.doorbell.nudge();
                self.send(opened)?;
            }
            Err(TrySendError::Disconnected(_)) => return None,
        }
        if let Err(command) = self.departures.launch(worker, command) {
            self.send(Request::Forward { worker: WorkerId(worker as u16), command })?;
        }
        Some(opening)
    }

    /// Makes a listener.
    ///
    /// # Errors
    /// The port is in use, or the address is not ours.
    pub fn listen(&self, local: SocketAddr, options: ListenOptions) -> Result<Bound, ListenError> {
        let (reply, answer) = bounded(1);
        self.send(Request::Listen { local, options, reply }).ok_or(ListenError::ShutDown)?;
        answer.recv().unwrap_or(Err(ListenError::ShutDown))
    }

    /// Ends a listener, and waits until its port can be used again. Its connections stay, and keep the port.
    pub fn unlisten(&self, id: ListenerId) {
        let (done, answer) = bounded(1);
        // A runtime that is shut down has no listeners any more.
        if self.send(Request::Unlisten { id, done }).is_some() {
            let _ = answer.recv_timeout(UNLISTEN_TIMEOUT.into());
        }
    }

    /// What is known of the connection whose first subflow has these ends.
    ///
    /// # Errors
    /// It has ended; or nobody answers.
    pub fn status(&self, first: FourTuple) -> Result<ConnectionStatus, AskError> {
        let (reply, answer) = bounded(1);
        self.send(Request::Status { first, reply }).ok_or(AskError::ShutDown)?;
        answer.recv().unwrap_or(Err(AskError::ShutDown))
    }

    /// Does something to the paths of the connection whose first subflow has these ends.
    ///
    /// # Errors
    /// Why it cannot be done. What comes of it later shows in [`ControlHandle::status`].
    pub fn manage(&self, first: FourTuple, action: Action) -> Result<(), AskError> {
        let (reply, answer) = bounded(1);
        self.send(Request::Manage { first, action, reply }).ok_or(AskError::ShutDown)?;
        answer.recv().unwrap_or(Err(AskError::ShutDown))
    }

    /// Carries out a request of the control socket.
    pub(super) fn ctl(&self, request: CtlRequest) -> Answer {
        let (reply, answer) = bounded(1);
        let shut_down = || Refusal::new(AskError::ShutDown);
        self.send(Request::Ctl { request, reply }).ok_or_else(shut_down)?;
        answer.recv().unwrap_or_else(|_| Err(shut_down()))
    }

    /// A handle that leads nowhere.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        let doorbell = Arc::new(Doorbell::new(1, Box::new(crate::stack::stream::NobodySleeps)));
        Self::new(Clock::start(), doorbell, Arc::new(Departures::new(Vec::new()))).0
    }

    /// Asks the control thread to end everything.
    pub(super) fn shutdown(&self) {
        let _ = self.send(Request::Shutdown);
    }

    fn send(&self, request: Request) -> Option<()> {
        self.requests.send(request).ok()?;
        self.doorbell.nudge();
        Some(())
    }
}
