//! The server: accepts connections, tells control connections from data connections by their cookies, and runs every
//! test in a thread of its own, so that neither a second client nor a silent one has to wait for another.

use crate::app::perf::control::{Control, Interrupt, Role};
use crate::app::perf::error::PerfError;
use crate::app::perf::net::{Connection, Net};
use crate::app::perf::protocol::{COOKIE_BYTES, Cookie, State};
use crate::app::perf::report::{Output, Report, print};
use crate::app::perf::run::Timing;
use crate::app::perf::session::Session;
use crate::base::time::Duration;
use crate::runtime::Clock;
use crossbeam::channel::{Sender, bounded};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

/// Tests that run at the same time; one more client is told to try again later.
const TESTS_MAX: usize = 64;
/// Connections whose cookie has not come yet; one more is refused.
const STRANGERS_MAX: usize = 256;
/// How long a cookie may take.
const COOKIE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server looks whether it is to end.
const ACCEPT_SLICE: Duration = Duration::from_millis(200);
/// How long the server waits after an error of accept: out of descriptors, most likely.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How to serve.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Only at this address.
    pub bind: Option<IpAddr>,
    /// The port; 0: any, and it is told.
    pub port: u16,
    /// Serve one test, then end.
    pub one_off: bool,
    /// The file that received bytes are written to, and that is sent in reverse.
    pub file: Option<PathBuf>,
    /// Report in JSON.
    pub json: bool,
    /// Reports and patience.
    pub timing: Timing,
}

/// A data connection that told its cookie.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Its place in the order of all connections.
    pub order: u64,
    /// The connection.
    pub connection: Connection,
}

/// What the threads of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What it serves over.
    pub net: Net,
    /// How.
    pub options: ServerOptions,
    /// The time.
    pub clock: Clock,
    /// Tells all tests to end.
    pub interrupt: Interrupt,
    /// Running tests, and where their data connections go, as long as they want any.
    tests: Mutex<HashMap<Cookie, Option<Sender<Arrived>>>>,
    /// Connections whose cookie has not come yet.
    strangers: AtomicUsize,
    /// The one test of a server that serves one has begun.
    claimed: AtomicBool,
    /// How that test ended.
    outcome: Mutex<Option<Result<(), PerfError>>>,
    /// Numbers the tests that run beside others.
    beside: AtomicUsize,
    file_in_use: AtomicBool,
}

/// The right to write to the server's file.
#[derive(Debug)]
pub(super) struct FileLease<'a>(&'a AtomicBool);

impl Drop for FileLease<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Serves until interrupted, or, one-off, until one test is over.
///
/// # Errors
/// It cannot listen; or the one test failed.
pub fn serve(net: Net, options: ServerOptions, clock: Clock, interrupt: Interrupt) -> Result<(), PerfError> {
    let listener = net.listen(options.bind, options.port)?;
    let shared = Shared {
        net,
        options,
        clock,
        interrupt,
        tests: Mutex::default(),
        strangers: AtomicUsize::new(0),
        claimed: AtomicBool::new(false),
        outcome: Mutex::new(None),
        beside: AtomicUsize::new(0),
        file_in_use: AtomicBool::new(false),
    };
    if !shared.options.json {
        let port = listener.local_addr().map_or(shared.options.port, |addr| addr.port());
        let rule = "-".repeat(59);
        print(&format!("{rule}\nServer listening on {port}, {}\n{rule}\n", shared.net.name()))?;
    }
    std::thread::scope(|scope| {
        let mut order = 0;
        while !shared.is_done() {
            match listener.accept(ACCEPT_SLICE) {
                Ok(Some(connection)) => {
                    shared.greet(scope, order, connection);
                    order += 1;
                }
                Ok(None) => {}
                Err(error) => {
                    complain(&format!("cannot accept a connection: {error}"));
                    std::thread::sleep(ACCEPT_RETRY.into());
                }
            }
        }
    });
    let outcome = shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.unwrap_or(Ok(()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks protect is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line on standard error; where even that is closed, there is nobody to tell.
fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "braid server: {line}");
}

impl Shared {
    fn is_done(&self) -> bool {
        self.interrupt.is_raised() || lock(&self.outcome).is_some()
    }

    /// The right to write to the file.
    pub fn lease_file(&self) -> Result<FileLease<'_>, PerfError> {
        if self.file_in_use.swap(true, Ordering::AcqRel) {
            return Err(PerfError::FileBusy);
        }
        Ok(FileLease(&self.file_in_use))
    }

    /// A connection has come: a thread finds out what it is.
    fn greet<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        order: u64,
        connection: Connection,
    ) {
        if self.strangers.fetch_add(1, Ordering::AcqRel) >= STRANGERS_MAX {
            self.strangers.fetch_sub(1, Ordering::AcqRel);
            self.turn_away(&connection);
            return;
        }
        let thread = std::thread::Builder::new().name("connection".to_owned());
        let started = thread.spawn_scoped(scope, move || self.receive(order, connection));
        if let Err(error) = started {
            self.strangers.fetch_sub(1, Ordering::AcqRel);
            complain(&format!("cannot start a thread for a connection: {error}"));
        }
    }

    fn turn_away(&self, connection: &Connection) {
        let deadline = self.clock.now() + Duration::from_secs(1);
        // It is refused either way.
        let _ = connection.write_all(&[State::AccessDenied.to_byte()], self.clock, deadline);
    }

    /// A data connection goes to its test; anything else with a cookie is a new client.
    fn receive(&self, order: u64, connection: Connection) {
        let cookie = self.read_cookie(&connection);
        self.strangers.fetch_sub(1, Ordering::AcqRel);
        let Some(cookie) = cookie else {
            self.turn_away(&connection);
            return;
        };
        let test = lock(&self.tests).get(&cookie).cloned();
        match test {
            Some(Some(test)) => {
                if let Err(refused) = test.try_send(Arrived { order, connection }) {
                    self.turn_away(&refused.into_inner().connection);
                }
            }
            // A stream more than was agreed.
            Some(None) => self.turn_away(&connection),
            None => self.run_test(cookie, connection),
        }
    }

    fn read_cookie(&self, connection: &Connection) -> Option<Cookie> {
        let deadline = self.clock.now() + COOKIE_TIMEOUT;
        let mut bytes = [0; COOKIE_BYTES];
        connection.read_exact(&mut bytes, self.clock, deadline, || !self.is_done()).ok()?;
        Cookie::from_bytes(bytes).ok()
    }

    /// Makes room for a test; `None` when there is none. The number says how many others there are.
    fn admit(&self, cookie: Cookie, arrivals: Sender<Arrived>) -> Option<usize> {
        let mut tests = lock(&self.tests);
        let others = tests.len();
        if others >= TESTS_MAX || tests.contains_key(&cookie) {
            return None;
        }
        tests.insert(cookie, Some(arrivals));
        Some(others)
    }

    /// A test has all of its data connections.
    pub fn close_arrivals(&self, cookie: Cookie) {
        if let Some(arrivals) = lock(&self.tests).get_mut(&cookie) {
            *arrivals = None;
        }
    }

    fn run_test(&self, cookie: Cookie, connection: Connection) {
        if self.options.one_off && self.claimed.load(Ordering::Acquire) {
            self.turn_away(&connection);
            return;
        }
        // As many as a test can have.
        let (sender, arrivals) = bounded(2 * crate::app::perf::protocol::STREAMS_MAX as usize);
        let Some(others) = self.admit(cookie, sender) else {
            self.turn_away(&connection);
            return;
        };
        let peer = connection.peer_addr();
        let session = Session { server: self, cookie, arrivals };
        let mut control = Control::new(connection, Role::Server, self.clock);
        let tag = match others {
            _ if self.options.json => String::new(),
            0 => String::new(),
            _ => format!("({}) ", self.beside.fetch_add(1, Ordering::Relaxed) + 2),
        };
        let result = self.run_session(&session, &mut control, tag);
        lock(&self.tests).remove(&cookie);
        match result {
            Ok(()) => {}
            Err(error) => complain(&format!("test of {peer}: {error}")),
        }
    }

    fn run_session(
        &self,
        session: &Session<'_>,
        control: &mut Control,
        tag: String,
    ) -> Result<(), PerfError> {
        let parameters = session.negotiate(control)?;
        if self.options.one_off && self.claimed.swap(true, Ordering::AcqRel) {
            // Another client was faster.
            return control.send_state(State::AccessDenied);
        }
        let mut report = Report::new(self.options.json, Output::of_server(tag));
        let result = session.run(control, &parameters, &mut report);
        let told = report.finish(result.as_ref().err());
        if self.options.one_off {
            // The error is the command's: it says it.
            *lock(&self.outcome) = Some(result);
            return told;
        }
        result.and(told)
    }
}
