//! One test at the server: from the client's parameters to the exchange of results.

use crate::app::perf::client::{end_of, set_options};
use crate::app::perf::control::{Control, Event, Interrupt, Role, events};
use crate::app::perf::cpu::CpuMeter;
use crate::app::perf::error::PerfError;
use crate::app::perf::net::Connection;
use crate::app::perf::parameters::Parameters;
use crate::app::perf::payload::{Sink, Source};
use crate::app::perf::protocol::{Cookie, PARAMETERS_MAX, ServerError, State, Violation};
use crate::app::perf::report::{Report, Start};
use crate::app::perf::results::Results;
use crate::app::perf::run::{Run, SENDERS_HASTE, SENDERS_PATIENCE, Timing, Wake, prefer_control, wait};
use crate::app::perf::server::{Arrived, FileLease, Shared};
use crate::app::perf::stream_task::Work;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::runtime::Clock;
use crate::runtime::clock::since_epoch;
use crossbeam::channel::{Receiver, select};

/// How long a client may take from one step of the protocol to the next.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than it was to take a test may take.
const GRACE: Duration = Duration::from_secs(40);
/// After the end of a test of so many bytes, those that are still under way have so long to move on.
const TAIL: Duration = Duration::from_secs(1);

/// One test at the server.
#[derive(Debug)]
pub(super) struct Session<'a> {
    /// What all sessions share.
    pub server: &'a Shared,
    /// The client's name for it.
    pub cookie: Cookie,
    /// Where its data connections arrive.
    pub arrivals: Receiver<Arrived>,
}

impl Session<'_> {
    fn clock(&self) -> Clock {
        self.server.clock
    }

    fn interrupt(&self) -> &Interrupt {
        &self.server.interrupt
    }

    fn deadline(&self) -> Instant {
        self.clock().now() + STEP_TIMEOUT
    }

    /// Asks for the parameters and checks them; tells the client what is wrong with them.
    pub fn negotiate(&self, control: &Control) -> Result<Parameters, PerfError> {
        control.send_state(State::ParameterExchange)?;
        let text = match control.read_message(PARAMETERS_MAX, self.deadline(), self.interrupt()) {
            Ok(text) => text,
            Err(error) => {
                if matches!(error, PerfError::Violation { .. }) {
                    self.refuse(control, 114);
                }
                return Err(error);
            }
        };
        Parameters::parse(&text).map_err(|error| {
            self.refuse(control, error.code());
            PerfError::Unacceptable(error)
        })
    }

    fn refuse(&self, control: &Control, code: i32) {
        // The client may be gone; there is nothing more to tell it then.
        let _ = control.send_error(ServerError { code, errno: 0 });
    }

    /// Runs the test and reports it.
    pub fn run(
        &self,
        control: &mut Control,
        parameters: &Parameters,
        report: &mut Report,
    ) -> Result<(), PerfError> {
        if parameters.get_server_output {
            report.keep_record();
        }
        let peer = control.connection().peer_addr();
        report.note(&format!("Accepted connection from {}, port {}", peer.ip(), peer.port()))?;
        let (works, lease) = match self.prepare(parameters) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.refuse(control, 14);
                return Err(error);
            }
        };
        let (sender, receiver) = events();
        control.start_reader(sender.clone())?;
        control.send_state(State::CreateStreams)?;
        let connections = self.gather(&receiver, parameters)?;
        for connection in &connections {
            if let Err(error) = set_options(connection, parameters) {
                self.refuse(control, 134);
                return Err(error);
            }
        }
        control.send_state(State::TestStart)?;
        let cpu = CpuMeter::start(self.clock().now());
        let streams = connections.into_iter().zip(works).collect();
        let timing = self.server.options.timing;
        let mut run =
            Run::start(&self.server.net, self.clock(), parameters, Role::Server, timing, streams, &sender)?;
        control.send_state(State::TestRunning)?;
        report.start(self.start_report(parameters, &run, (peer.ip().to_string(), peer.port()), timing))?;
        let test = Test { session: self, parameters, control, events: &receiver };
        let result = test.drive(&mut run, cpu, report);
        if let Err(error) = &result {
            test.give_up(error, &mut run, cpu, report)?;
        }
        drop(lease);
        result
    }

    /// What each stream is to do. A file is written to by one stream of one test at a time.
    fn prepare(&self, parameters: &Parameters) -> Result<(Vec<Work>, Option<FileLease<'_>>), PerfError> {
        let file = self.server.options.file.as_deref();
        let receiving = (0..parameters.streams()).filter(|index| parameters.client_sends(*index)).count();
        let lease = match file {
            Some(_) if receiving > 1 => return Err(PerfError::FileBusy),
            Some(_) if receiving == 1 => Some(self.server.lease_file()?),
            _ => None,
        };
        let works = (0..parameters.streams()).map(|index| {
            Ok(if parameters.client_sends(index) {
                Work::Receive(file.map(Sink::create).transpose()?)
            } else {
                Work::Send(file.map(Source::open).transpose()?)
            })
        });
        Ok((works.collect::<Result<_, PerfError>>()?, lease))
    }

    /// Waits for the data connections.
    fn gather(
        &self,
        events: &Receiver<Event>,
        parameters: &Parameters,
    ) -> Result<Vec<Connection>, PerfError> {
        let mut arrived: Vec<Arrived> = Vec::with_capacity(parameters.streams());
        let timeout = crossbeam::channel::after(STEP_TIMEOUT.into());
        while arrived.len() < parameters.streams() {
            select! {
                recv(self.arrivals) -> connection => match connection {
                    Ok(connection) => arrived.push(connection),
                    Err(_) => return Err(PerfError::Interrupted),
                },
                recv(events) -> event => return Err(event.map_or(PerfError::Interrupted, unexpected)),
                recv(self.interrupt().channel()) -> _ => return Err(PerfError::Interrupted),
                recv(timeout) -> _ => {
                    return Err(PerfError::Silent { peer: "client", action: "open its data connections" });
                }
            }
        }
        self.server.close_arrivals(self.cookie);
        // Cookies are read by threads, in any order; streams have their names from the order in which they came.
        arrived.sort_by_key(|connection| connection.order);
        Ok(arrived.into_iter().map(|arrived| arrived.connection).collect())
    }

    fn start_report(&self, parameters: &Parameters, run: &Run, peer: (String, u16), timing: Timing) -> Start {
        Start {
            role: Role::Server,
            transport: self.server.net.name(),
            ports: self.server.net.ports().to_vec(),
            peer,
            cookie: self.cookie,
            parameters: parameters.clone(),
            date_secs: since_epoch().as_secs(),
            connections: run.connections(),
            file: self.server.options.file.clone(),
            interval_secs: timing.interval.map_or(0.0, |interval| interval.as_secs_f64()),
        }
    }
}

/// An event that ends a test before its time, as the error it is.
fn unexpected(event: Event) -> PerfError {
    match event {
        Event::State(State::ClientTerminate) => PerfError::ClientTerminated,
        Event::State(state) => {
            PerfError::Violation { peer: "client", violation: Violation::UnexpectedState(state) }
        }
        Event::Lost(error) | Event::StreamEnded { result: Err(error), .. } => error,
        Event::Results(_) | Event::Refused(_) | Event::StreamEnded { result: Ok(()), .. } => {
            PerfError::Violation {
                peer: "client",
                violation: Violation::Malformed("a message out of turn".to_owned()),
            }
        }
    }
}

/// A test whose streams run.
struct Test<'a> {
    session: &'a Session<'a>,
    parameters: &'a Parameters,
    control: &'a Control,
    events: &'a Receiver<Event>,
}

impl Test<'_> {
    fn drive(&self, run: &mut Run, cpu: CpuMeter, report: &mut Report) -> Result<(), PerfError> {
        let session = self.session;
        let results_early = self.run_until_end(run, report)?;
        run.stop(SENDERS_PATIENCE, report)?;
        run.close();
        let cpu = cpu.usage(session.clock().now());
        self.control.send_state(State::ExchangeResults)?;
        let text = match results_early {
            Some(text) => text,
            None => self.await_results()?,
        };
        let remote =
            Results::parse(&text).map_err(|violation| PerfError::Violation { peer: "client", violation })?;
        let congestion = self.congestion(run);
        report.end(end_of(run, cpu, congestion.clone(), Some(remote)))?;
        let server_output_text = report.record().map(str::to_owned);
        let ours = Results { cpu, congestion_used: congestion, server_output_text, ..run.results() };
        self.control.send_json(&ours.to_json())?;
        self.control.send_state(State::DisplayResults)?;
        self.await_goodbye();
        Ok(())
    }

    /// Until the client ends the test, and what it sent for certain is here. Returns its results if they are here,
    /// too.
    fn run_until_end(&self, run: &mut Run, report: &mut Report) -> Result<Option<Vec<u8>>, PerfError> {
        let session = self.session;
        let seconds = u64::from(self.parameters.time_secs) + u64::from(self.parameters.omit_secs);
        let watchdog = (self.parameters.time_secs != 0)
            .then(|| session.clock().now() + Duration::from_secs(seconds) + GRACE);
        loop {
            match run.wait(self.events, session.interrupt(), watchdog, report)? {
                Wake::Event(Event::State(State::TestEnd)) => return self.drain(run, report),
                // The end of a stream is no end of the test: that is for the client to say.
                Wake::Event(Event::StreamEnded { result: Ok(()), .. }) => {}
                // The client may close its data connections in one go with the control connection: wait for that.
                Wake::Event(Event::StreamEnded { result: Err(error @ PerfError::Stream { .. }), .. }) => {
                    let tells = |event: &Event| {
                        matches!(event, Event::Lost(_) | Event::State(State::ClientTerminate))
                    };
                    let (interrupt, clock) = (session.interrupt(), session.clock());
                    let event = prefer_control(error, self.events, interrupt, clock, tells)?;
                    return Err(unexpected(event));
                }
                Wake::Event(event) => return Err(unexpected(event)),
                Wake::Deadline => return Err(PerfError::Overdue),
                Wake::Interrupted => return Err(PerfError::Interrupted),
            }
        }
    }

    /// Reads what is still under way: up to the end of every stream where the client half-closes them, up to the
    /// number of bytes where it named one. In a test of so many seconds the rest does not matter.
    fn drain(&self, run: &mut Run, report: &mut Report) -> Result<Option<Vec<u8>>, PerfError> {
        let session = self.session;
        let patience = match (self.parameters.half_close, self.parameters.target_bytes()) {
            (true, _) => session.server.options.timing.idle_timeout,
            (false, Some(_)) => TAIL,
            (false, None) => return Ok(None),
        };
        let mut results = None;
        loop {
            let complete = if self.parameters.half_close { run.have_ended(false) } else { run.is_received() };
            let now = session.clock().now();
            let give_up = run.last_moved() + patience;
            if complete || now >= give_up {
                return Ok(results);
            }
            // Bytes announce themselves to nobody: look every few milliseconds.
            let look = (now + Duration::from_millis(5)).min(give_up);
            match run.wait(self.events, session.interrupt(), Some(look), report)? {
                Wake::Deadline | Wake::Event(Event::StreamEnded { .. }) => {}
                Wake::Event(Event::Results(text)) => results = Some(text),
                Wake::Event(event) => return Err(unexpected(event)),
                Wake::Interrupted => return Err(PerfError::Interrupted),
            }
        }
    }

    fn await_results(&self) -> Result<Vec<u8>, PerfError> {
        let session = self.session;
        let deadline = session.deadline();
        loop {
            match wait(self.events, session.interrupt(), session.clock(), Some(deadline)) {
                Wake::Event(Event::StreamEnded { .. }) => {}
                Wake::Event(Event::Results(text)) => return Ok(text),
                Wake::Event(event) => return Err(unexpected(event)),
                Wake::Deadline => {
                    return Err(PerfError::Silent { peer: "client", action: "send its results" });
                }
                Wake::Interrupted => return Err(PerfError::Interrupted),
            }
        }
    }

    /// The client says good bye, or just goes: either will do, and neither matters.
    fn await_goodbye(&self) {
        let session = self.session;
        let deadline = session.deadline();
        loop {
            match wait(self.events, session.interrupt(), session.clock(), Some(deadline)) {
                Wake::Event(Event::StreamEnded { .. }) => {}
                Wake::Event(_) | Wake::Deadline | Wake::Interrupted => return,
            }
        }
    }

    fn congestion(&self, run: &Run) -> Option<String> {
        run.congestion().or_else(|| self.session.server.net.congestion().map(str::to_owned))
    }

    /// The test ended before its time: tells the client, and reports what there is.
    fn give_up(
        &self,
        error: &PerfError,
        run: &mut Run,
        cpu: CpuMeter,
        report: &mut Report,
    ) -> Result<(), PerfError> {
        if !matches!(error, PerfError::ControlLost { .. } | PerfError::ClientTerminated) {
            // It may be gone.
            let _ = self.control.send_state(State::ServerTerminate);
        }
        run.stop(SENDERS_HASTE, report)?;
        run.close();
        let cpu = cpu.usage(self.session.clock().now());
        let congestion = self.congestion(run);
        report.end(end_of(run, cpu, congestion, None))
    }
}
