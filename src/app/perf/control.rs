//! The control connection of a test, and the one queue into which all that happens to a test goes: states of the
//! peer, ends of streams, Ctrl-C.

use crate::app::perf::error::PerfError;
use crate::app::perf::net::Connection;
use crate::app::perf::protocol::{
    RESULTS_MAX, SERVER_ERROR_BYTES, ServerError, State, Violation, frame_json, frame_length,
};
use crate::base::Instant;
use crate::base::time::Duration;
use crate::runtime::Clock;
use crossbeam::channel::{Receiver, Sender, bounded, never};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How long a write on the control connection may take, and the reading of one message once it has begun.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the reading thread waits before it looks whether it is still wanted.
const READ_SLICE: Duration = Duration::from_millis(100);
/// Events that may wait; who has more to say waits.
const EVENTS_MAX: usize = 512;

/// Which end of a test we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that asks for a test.
    Client,
    /// The end that runs it for others.
    Server,
}

impl Role {
    /// What to call the other end in an error.
    pub fn peer(self) -> &'static str {
        match self {
            Role::Client => "server",
            Role::Server => "client",
        }
    }
}

/// What happens to a test.
#[derive(Debug)]
pub enum Event {
    /// The peer named a state.
    State(State),
    /// The peer's results, not yet parsed.
    Results(Vec<u8>),
    /// The server's refusal.
    Refused(ServerError),
    /// The control connection is over.
    Lost(PerfError),
    /// A stream has come to its end: the file's, the peer's, the number of bytes; or it broke.
    StreamEnded {
        /// Its place in the list of streams.
        index: usize,
        /// How, when it broke.
        result: Result<(), PerfError>,
    },
}

/// The queue of events.
pub fn events() -> (Sender<Event>, Receiver<Event>) {
    bounded(EVENTS_MAX)
}

/// Tells all who hold it that the process was asked to end. It tells by being closed, so that nobody misses it.
#[derive(Debug, Clone)]
pub struct Interrupt(Receiver<()>);

impl Interrupt {
    /// An interrupt, and what triggers it when it is dropped.
    pub fn new() -> (Sender<()>, Interrupt) {
        let (sender, receiver) = bounded(0);
        (sender, Interrupt(receiver))
    }

    /// An interrupt that never comes.
    pub fn never() -> Interrupt {
        Interrupt(never())
    }

    /// Ready (with an error) once it has come.
    pub fn channel(&self) -> &Receiver<()> {
        &self.0
    }

    /// Whether it has come.
    pub fn is_raised(&self) -> bool {
        matches!(self.0.try_recv(), Err(crossbeam::channel::TryRecvError::Disconnected))
    }
}

/// The control connection.
#[derive(Debug)]
pub struct Control {
    connection: Arc<Connection>,
    role: Role,
    clock: Clock,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Control {
    /// Over this connection, on which we are `role`.
    pub fn new(connection: Connection, role: Role, clock: Clock) -> Self {
        connection.send_at_once();
        Self {
            connection: Arc::new(connection),
            role,
            clock,
            stop: Arc::new(AtomicBool::new(false)),
            reader: None,
        }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn send(&self, bytes: &[u8]) -> Result<(), PerfError> {
        let deadline = self.clock.now() + MESSAGE_TIMEOUT;
        self.connection
            .write_all(bytes, self.clock, deadline)
            .map_err(|source| PerfError::control(self.role.peer(), "take our message", source))
    }

    /// Tells the peer a state.
    ///
    /// # Errors
    /// The connection is over, or stuck.
    pub fn send_state(&self, state: State) -> Result<(), PerfError> {
        self.send(&[state.to_byte()])
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is over, or stuck.
    pub fn send_json(&self, value: &serde_json::Value) -> Result<(), PerfError> {
        self.send(&frame_json(value))
    }

    /// Tells a client why there will be no test.
    ///
    /// # Errors
    /// The connection is over, or stuck.
    pub fn send_error(&self, error: ServerError) -> Result<(), PerfError> {
        let mut bytes = vec![State::ServerError.to_byte()];
        bytes.extend_from_slice(&error.to_bytes());
        self.send(&bytes)
    }

    /// Waits for a message. Only before [`Control::start_reader`].
    ///
    /// # Errors
    /// The connection is over, the message too long, or late; or the process is asked to end.
    pub fn read_message(
        &self,
        limit: usize,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<Vec<u8>, PerfError> {
        let peer = self.role.peer();
        let read = |buffer: &mut [u8]| {
            self.connection
                .read_exact(buffer, self.clock, deadline, || !interrupt.is_raised())
                .map_err(|source| PerfError::control(peer, "send its message", source))
        };
        let mut header = [0; 4];
        read(&mut header)?;
        let length =
            frame_length(header, limit).map_err(|violation| PerfError::Violation { peer, violation })?;
        let mut text = vec![0; length];
        read(&mut text)?;
        Ok(text)
    }

    /// From now on a thread reads, and puts what the peer says into `events`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start_reader(&mut self, events: Sender<Event>) -> Result<(), PerfError> {
        let reader = Reader {
            connection: Arc::clone(&self.connection),
            role: self.role,
            clock: self.clock,
            stop: Arc::clone(&self.stop),
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || reader.run(&events))
            .map_err(PerfError::Thread)?;
        self.reader = Some(thread);
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.connection.linger();
        self.connection.close();
        if let Some(reader) = self.reader.take() {
            // It cannot panic, and if it did there would be nothing to save.
            let _ = reader.join();
        }
    }
}

/// Reads the control connection, in a thread of its own.
struct Reader {
    connection: Arc<Connection>,
    role: Role,
    clock: Clock,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(&self, events: &Sender<Event>) {
        loop {
            let event = match self.next() {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    // The test may be over and gone.
                    let _ = events.send(Event::Lost(error));
                    return;
                }
            };
            let results_follow = matches!(
                (self.role, &event),
                (Role::Client, Event::State(State::ExchangeResults))
                    | (Role::Server, Event::State(State::TestEnd))
            );
            if events.send(event).is_err() {
                return;
            }
            if results_follow && !self.pass_results(events) {
                return;
            }
        }
    }

    /// The next thing that the peer says; `None` when nobody wants to know any more.
    fn next(&self) -> Result<Option<Event>, PerfError> {
        let Some(byte) = self.wait_byte()? else { return Ok(None) };
        let peer = self.role.peer();
        let state = State::from_byte(byte).map_err(|violation| PerfError::Violation { peer, violation })?;
        if state != State::ServerError {
            return Ok(Some(Event::State(state)));
        }
        if self.role == Role::Server {
            return Err(PerfError::Violation { peer, violation: Violation::UnexpectedState(state) });
        }
        let mut bytes = [0; SERVER_ERROR_BYTES];
        let deadline = self.clock.now() + MESSAGE_TIMEOUT;
        self.connection
            .read_exact(&mut bytes, self.clock, deadline, || self.is_wanted())
            .map_err(|source| PerfError::control(peer, "say what is wrong", source))?;
        Ok(Some(Event::Refused(ServerError::from_bytes(bytes))))
    }

    /// After the state that announces them: the peer's results, whenever they come.
    fn pass_results(&self, events: &Sender<Event>) -> bool {
        let peer = self.role.peer();
        let result = || -> Result<Option<Event>, PerfError> {
            let Some(first) = self.wait_byte()? else { return Ok(None) };
            let deadline = self.clock.now() + MESSAGE_TIMEOUT;
            let read = |buffer: &mut [u8]| {
                self.connection
                    .read_exact(buffer, self.clock, deadline, || self.is_wanted())
                    .map_err(|source| PerfError::control(peer, "send its results", source))
            };
            let mut header = [first, 0, 0, 0];
            read(&mut header[1..])?;
            let length = frame_length(header, RESULTS_MAX)
                .map_err(|violation| PerfError::Violation { peer, violation })?;
            let mut text = vec![0; length];
            read(&mut text)?;
            Ok(Some(Event::Results(text)))
        };
        match result() {
            Ok(Some(event)) => events.send(event).is_ok(),
            Ok(None) => false,
            Err(error) => {
                let _ = events.send(Event::Lost(error));
                false
            }
        }
    }

    fn is_wanted(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    fn wait_byte(&self) -> Result<Option<u8>, PerfError> {
        let mut byte = [0];
        loop {
            if !self.is_wanted() {
                return Ok(None);
            }
            let error = match self.connection.read(&mut byte, Some(READ_SLICE)) {
                Ok(None) => continue,
                Ok(Some(0)) => io::Error::from(ErrorKind::UnexpectedEof),
                Ok(Some(_)) => return Ok(Some(byte[0])),
                Err(error) => error,
            };
            return Err(PerfError::ControlLost { peer: self.role.peer(), source: error });
        }
    }
}
