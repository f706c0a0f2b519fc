//! The client's end of a test: asks a server for it, opens the data connections, ends it, compares results.

use crate::app::perf::control::{Control, Event, Interrupt, Role, events};
use crate::app::perf::cpu::CpuMeter;
use crate::app::perf::error::PerfError;
use crate::app::perf::net::{Connection, Net};
use crate::app::perf::parameters::{Direction, Parameters};
use crate::app::perf::payload::{Sink, Source};
use crate::app::perf::protocol::{Cookie, State, Violation};
use crate::app::perf::random_cookie;
use crate::app::perf::report::{End, Report, Start, StreamEnd};
use crate::app::perf::results::{CpuUse, Results};
use crate::app::perf::run::{Run, SENDERS_HASTE, SENDERS_PATIENCE, Timing, Wake, prefer_control, wait};
use crate::app::perf::stream_task::Work;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::runtime::Clock;
use crate::runtime::clock::since_epoch;
use crossbeam::channel::Receiver;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// How long a server may take from one step of the protocol to the next.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take for its results when it first reads all that is still under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);

/// Which addresses of a server's name to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Whatever there is, in the resolver's order.
    #[default]
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What to test, and with whom.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The server: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which of its addresses.
    pub family: Family,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// What is asked of it.
    pub parameters: Parameters,
    /// The file to send, or in reverse to write to.
    pub file: Option<PathBuf>,
    /// Reports and patience.
    pub timing: Timing,
}

/// Runs one test and reports it.
///
/// # Errors
/// Why there was none, or why it ended before its time. What was measured until then has been reported.
pub fn run(
    net: &Net,
    options: &ClientOptions,
    clock: Clock,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), PerfError> {
    let remotes = resolve(options)?;
    report.note(&format!("Connecting to host {}, port {}", options.host, options.port))?;
    let cookie = random_cookie();
    let first = cookie.to_bytes();
    let (connection, remote) = connect_any(net, &remotes, &first, options.connect_timeout)?;
    connection
        .write_first(&first, clock, clock.now() + STEP_TIMEOUT)
        .map_err(|source| PerfError::control("server", "take the control connection", source))?;
    let (sender, receiver) = events();
    let mut control = Control::new(connection, Role::Client, clock);
    control.start_reader(sender.clone())?;
    let client =
        Client { net, options, clock, interrupt, remote, cookie, control: &control, events: &receiver };

    client.await_state(State::ParameterExchange)?;
    control.send_json(&options.parameters.to_json())?;
    client.await_state(State::CreateStreams)?;
    let streams = client.open_streams()?;
    client.await_state(State::TestStart)?;
    client.await_state(State::TestRunning)?;

    let cpu = CpuMeter::start(clock.now());
    let began = clock.now();
    let mut run =
        Run::start(net, clock, &options.parameters, Role::Client, options.timing, streams, &sender)?;
    let result = client.drive(&mut run, began, cpu, report);
    if let Err(error) = &result {
        client.give_up(error, &mut run, cpu, report)?;
    }
    result
}

fn resolve(options: &ClientOptions) -> Result<Vec<SocketAddr>, PerfError> {
    let failed = |source| PerfError::Resolve { host: options.host.clone(), source };
    let wanted = |addr: &SocketAddr| match options.family {
        Family::Any => true,
        Family::V4 => addr.is_ipv4(),
        Family::V6 => addr.is_ipv6(),
    };
    let all = (options.host.as_str(), options.port).to_socket_addrs().map_err(failed)?;
    let remotes: Vec<SocketAddr> = all.filter(wanted).collect();
    if remotes.is_empty() {
        return Err(failed(std::io::Error::other("it has no address of that family")));
    }
    Ok(remotes)
}

fn connect_any(
    net: &Net,
    remotes: &[SocketAddr],
    first: &[u8],
    timeout: Duration,
) -> Result<(Connection, SocketAddr), PerfError> {
    let mut failure = None;
    for remote in remotes {
        match net.connect(*remote, first, timeout) {
            Ok(connection) => return Ok((connection, *remote)),
            // The first one is the address that the user most likely meant.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or(PerfError::AccessDenied))
}

struct Client<'a> {
    net: &'a Net,
    options: &'a ClientOptions,
    clock: Clock,
    interrupt: &'a Interrupt,
    remote: SocketAddr,
    cookie: Cookie,
    control: &'a Control,
    events: &'a Receiver<Event>,
}

/// An event that ends a test before its time, as the error it is.
fn unexpected(event: Event) -> PerfError {
    match event {
        Event::State(State::AccessDenied) => PerfError::AccessDenied,
        Event::State(State::ServerTerminate) => PerfError::ServerTerminated,
        Event::State(state) => {
            PerfError::Violation { peer: "server", violation: Violation::UnexpectedState(state) }
        }
        Event::Refused(error) => PerfError::Server(error),
        Event::Lost(error) => error,
        Event::Results(_) => PerfError::Violation {
            peer: "server",
            violation: Violation::Malformed("results out of turn".to_owned()),
        },
        Event::StreamEnded { result: Err(error), .. } => error,
        Event::StreamEnded { .. } => PerfError::ServerTerminated,
    }
}

impl Client<'_> {
    /// Before the data flows: waits for the server's next step.
    fn await_state(&self, wanted: State) -> Result<(), PerfError> {
        let deadline = self.clock.now() + STEP_TIMEOUT;
        match wait(self.events, self.interrupt, self.clock, Some(deadline)) {
            Wake::Event(Event::State(state)) if state == wanted => Ok(()),
            Wake::Event(event) => Err(unexpected(event)),
            Wake::Deadline => Err(PerfError::Silent { peer: "server", action: "begin the test" }),
            Wake::Interrupted => {
                // It may be gone already, and we go anyway.
                let _ = self.control.send_state(State::ClientTerminate);
                Err(PerfError::Interrupted)
            }
        }
    }

    fn open_streams(&self) -> Result<Vec<(Connection, Work)>, PerfError> {
        let parameters = &self.options.parameters;
        let mut streams = Vec::with_capacity(parameters.streams());
        for index in 0..parameters.streams() {
            let first = self.cookie.to_bytes();
            let connection = self.net.connect(self.remote, &first, self.options.connect_timeout)?;
            set_options(&connection, parameters)?;
            let deadline = self.clock.now() + STEP_TIMEOUT;
            connection
                .write_first(&first, self.clock, deadline)
                .map_err(|source| PerfError::control("server", "take a data connection", source))?;
            let file = self.options.file.as_deref();
            let work = if parameters.client_sends(index) {
                Work::Send(file.map(Source::open).transpose()?)
            } else {
                Work::Receive(file.map(Sink::create).transpose()?)
            };
            streams.push((connection, work));
        }
        Ok(streams)
    }

    /// From the first byte of data to the last byte of the protocol.
    fn drive(
        &self,
        run: &mut Run,
        began: Instant,
        cpu: CpuMeter,
        report: &mut Report,
    ) -> Result<(), PerfError> {
        let options = self.options;
        report.start(Start {
            role: Role::Client,
            transport: self.net.name(),
            ports: self.net.ports().to_vec(),
            peer: (options.host.clone(), options.port),
            cookie: self.cookie,
            parameters: options.parameters.clone(),
            date_secs: since_epoch().as_secs(),
            connections: run.connections(),
            file: options.file.clone(),
            interval_secs: options.timing.interval.map_or(0.0, |interval| interval.as_secs_f64()),
        })?;
        self.run_until_end(run, began, report)?;
        run.stop(SENDERS_PATIENCE, report)?;
        let cpu = cpu.usage(self.clock.now());
        self.control.send_state(State::TestEnd)?;
        self.await_closing(State::ExchangeResults)?;
        let congestion = self.congestion(run);
        let ours = Results { cpu, congestion_used: congestion.clone(), ..run.results() };
        self.control.send_json(&ours.to_json())?;
        let remote = self.await_results()?;
        self.await_closing(State::DisplayResults)?;
        run.close();
        report.end(end_of(run, cpu, congestion, Some(remote)))?;
        // The server may have gone already: it has told all that it had to.
        let _ = self.control.send_state(State::Done);
        Ok(())
    }

    fn run_until_end(&self, run: &mut Run, began: Instant, report: &mut Report) -> Result<(), PerfError> {
        let parameters = &self.options.parameters;
        let limit = u64::from(parameters.omit_secs) + u64::from(parameters.time_secs);
        let deadline = (parameters.time_secs != 0).then(|| began + Duration::from_secs(limit));
        loop {
            match run.wait(self.events, self.interrupt, deadline, report)? {
                Wake::Deadline => return Ok(()),
                Wake::Interrupted => return Err(PerfError::Interrupted),
                Wake::Event(Event::StreamEnded { result: Ok(()), .. }) => {
                    if self.is_over(run) {
                        return Ok(());
                    }
                }
                // A server that goes closes everything at once.
                Wake::Event(Event::StreamEnded { result: Err(error @ PerfError::Stream { .. }), .. }) => {
                    let tells = |event: &Event| {
                        matches!(
                            event,
                            Event::Lost(_) | Event::Refused(_) | Event::State(State::ServerTerminate)
                        )
                    };
                    let event = prefer_control(error, self.events, self.interrupt, self.clock, tells)?;
                    return Err(unexpected(event));
                }
                Wake::Event(event) => return Err(unexpected(event)),
            }
        }
    }

    fn is_over(&self, run: &Run) -> bool {
        match self.options.parameters.direction {
            Direction::Forward => run.have_ended(true),
            Direction::Reverse => run.is_received(),
            Direction::Bidirectional => run.have_ended(true) && run.is_received(),
        }
    }

    /// After the end of the test: waits for the server's next step; streams end as they like.
    fn await_closing(&self, wanted: State) -> Result<(), PerfError> {
        match self.next_closing_event()? {
            Event::State(state) if state == wanted => Ok(()),
            event => Err(unexpected(event)),
        }
    }

    fn await_results(&self) -> Result<Results, PerfError> {
        match self.next_closing_event()? {
            Event::Results(text) => {
                Results::parse(&text).map_err(|violation| PerfError::Violation { peer: "server", violation })
            }
            event => Err(unexpected(event)),
        }
    }

    fn next_closing_event(&self) -> Result<Event, PerfError> {
        let patience = if self.options.parameters.half_close { DRAIN_TIMEOUT } else { STEP_TIMEOUT };
        let deadline = self.clock.now() + patience;
        loop {
            match wait(self.events, self.interrupt, self.clock, Some(deadline)) {
                Wake::Event(Event::StreamEnded { .. }) => {}
                Wake::Event(event) => return Ok(event),
                Wake::Deadline => {
                    return Err(PerfError::Silent { peer: "server", action: "send its results" });
                }
                Wake::Interrupted => return Err(PerfError::Interrupted),
            }
        }
    }

    fn congestion(&self, run: &Run) -> Option<String> {
        run.congestion().or_else(|| self.net.congestion().map(str::to_owned))
    }

    /// The test ended before its time: tells the server, and reports what there is.
    fn give_up(
        &self,
        error: &PerfError,
        run: &mut Run,
        cpu: CpuMeter,
        report: &mut Report,
    ) -> Result<(), PerfError> {
        if !matches!(error, PerfError::ControlLost { .. }) {
            // It may be gone; we are going.
            let _ = self.control.send_state(State::ClientTerminate);
        }
        run.stop(SENDERS_HASTE, report)?;
        let cpu = cpu.usage(self.clock.now());
        let congestion = self.congestion(run);
        run.close();
        report.end(end_of(run, cpu, congestion, None))
    }
}

/// The kernel's options that a test asks for.
pub(super) fn set_options(connection: &Connection, parameters: &Parameters) -> Result<(), PerfError> {
    let Connection::Kernel(stream) = connection else { return Ok(()) };
    let failed = |option| move |source| PerfError::Option { option, source };
    if parameters.nodelay {
        stream.set_nodelay().map_err(failed("TCP_NODELAY"))?;
    }
    if parameters.window != 0 {
        stream.set_window(parameters.window).map_err(failed("socket buffers"))?;
    }
    if let Some(name) = &parameters.congestion {
        stream.set_congestion(name).map_err(failed("congestion control"))?;
    }
    Ok(())
}

/// What a report says at the end.
pub(super) fn end_of(run: &Run, cpu: CpuUse, congestion: Option<String>, remote: Option<Results>) -> End {
    let totals = run.totals().cloned().unwrap_or_default();
    let streams = (0..totals.streams.len())
        .map(|index| StreamEnd {
            multipath: run.multipath(index),
            fast_open: run.fast_open(index),
            reinjected_bytes: run.reinjected_bytes(index),
            local_sha256: run.digest(index).map(str::to_owned),
        })
        .collect();
    End { totals, streams, cpu, congestion, remote }
}
