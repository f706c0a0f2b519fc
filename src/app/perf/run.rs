//! The part of a test that client and server have in common: streams that run, intervals that end, events that come.

use crate::app::perf::control::{Event, Interrupt, Role};
use crate::app::perf::error::PerfError;
use crate::app::perf::interval::{Meter, Sample, Totals};
use crate::app::perf::net::{Connection, Multipath, Net};
use crate::app::perf::parameters::Parameters;
use crate::app::perf::protocol::stream_id;
use crate::app::perf::report::{ConnectionReport, Report};
use crate::app::perf::results::{Results, StreamResult};
use crate::app::perf::stall_notes::StallNotes;
use crate::app::perf::stream_task::{Shared, StreamTask, Work};
use crate::base::Instant;
use crate::base::time::Duration;
use crate::runtime::Clock;
use crate::stack::stream::FastOpenUse;
use crossbeam::channel::{Receiver, Sender, after, never, select};
use std::sync::Arc;

/// How long senders may take to hand over their last block, and, where they half-close, to see it acknowledged.
pub const SENDERS_PATIENCE: Duration = Duration::from_secs(2);
/// The same when a test ends before its time.
pub const SENDERS_HASTE: Duration = Duration::from_millis(150);

/// How often the NICs are looked at.
const STALLS_EVERY: Duration = Duration::from_secs(1);

/// Why [`Run::wait`] returned.
#[derive(Debug)]
pub enum Wake {
    /// Something happened.
    Event(Event),
    /// The deadline has passed.
    Deadline,
    /// The process is asked to end.
    Interrupted,
}

/// Waits for an event, an interrupt, or the deadline.
pub fn wait(
    events: &Receiver<Event>,
    interrupt: &Interrupt,
    clock: Clock,
    deadline: Option<Instant>,
) -> Wake {
    let timeout = deadline.map_or_else(never, |deadline| after(deadline.since(clock.now()).into()));
    select! {
        recv(events) -> event => event.map_or(Wake::Interrupted, Wake::Event),
        recv(interrupt.channel()) -> _ => Wake::Interrupted,
        recv(timeout) -> _ => Wake::Deadline,
    }
}

/// How long a peer's last word may take behind the end of its streams.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A broken stream is often the first that is seen of a peer that goes; its control connection says more. Waits a moment
/// for an event that `tells` picks; otherwise gives `error` back.
pub fn prefer_control(
    error: PerfError,
    events: &Receiver<Event>,
    interrupt: &Interrupt,
    clock: Clock,
    tells: impl Fn(&Event) -> bool,
) -> Result<Event, PerfError> {
    let deadline = clock.now() + LAST_WORD;
    loop {
        match wait(events, interrupt, clock, Some(deadline)) {
            Wake::Event(Event::StreamEnded { .. }) => {}
            Wake::Event(event) if tells(&event) => return Ok(event),
            Wake::Event(_) | Wake::Deadline | Wake::Interrupted => return Err(error),
        }
    }
}

/// A test whose data flows.
#[derive(Debug)]
pub struct Run {
    clock: Clock,
    shared: Arc<Shared>,
    tasks: Vec<StreamTask>,
    meter: Meter,
    stalls: StallNotes,
    idle_timeout: Duration,
    /// Bytes over all streams when they last moved, and when that was.
    moved: (u64, Instant),
    /// The figures of the end, once the test is over.
    totals: Option<Totals>,
}

impl Run {
    /// Starts all streams: connections, in the order in which they were opened, with what they do.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(
        net: &Net,
        clock: Clock,
        parameters: &Parameters,
        role: Role,
        timing: Timing,
        streams: Vec<(Connection, Work)>,
        events: &Sender<Event>,
    ) -> Result<Self, PerfError> {
        let now = clock.now();
        let shared = Shared::new(parameters, role, clock);
        let directions: Vec<(u32, bool)> = streams
            .iter()
            .enumerate()
            .map(|(index, (_, work))| (stream_id(index), matches!(work, Work::Send(_))))
            .collect();
        let omit = Duration::from_secs(u64::from(parameters.omit_secs));
        let mut run = Self {
            clock,
            shared: Arc::clone(&shared),
            tasks: Vec::with_capacity(streams.len()),
            meter: Meter::new(now, omit, timing.interval, directions),
            stalls: StallNotes::new(net),
            idle_timeout: timing.idle_timeout,
            moved: (0, now),
            totals: None,
        };
        for (index, (connection, work)) in streams.into_iter().enumerate() {
            run.tasks.push(StreamTask::start(index, stream_id(index), connection, work, &shared, events)?);
        }
        Ok(run)
    }

    /// Waits for what comes first: an event, an interrupt, `deadline`. Reports intervals meanwhile.
    ///
    /// # Errors
    /// No data moved for the idle time-out, or nobody reads the report any more.
    pub fn wait(
        &mut self,
        events: &Receiver<Event>,
        interrupt: &Interrupt,
        deadline: Option<Instant>,
        report: &mut Report,
    ) -> Result<Wake, PerfError> {
        loop {
            let now = self.clock.now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(Wake::Deadline);
            }
            self.handle_timeout(now, report)?;
            let own = [self.moved.1 + self.idle_timeout, now + STALLS_EVERY];
            let own = self.meter.poll_timeout().into_iter().chain(own);
            let next = own.chain(deadline).min();
            match wait(events, interrupt, self.clock, next) {
                Wake::Deadline => {}
                wake => return Ok(wake),
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant, report: &mut Report) -> Result<(), PerfError> {
        if self.meter.poll_timeout().is_some_and(|deadline| now >= deadline) {
            let omitting = self.meter.is_omitting();
            let interval = self.meter.handle_timeout(now, &self.samples());
            if omitting && !self.meter.is_omitting() {
                self.shared.start_counting();
            }
            if let Some(interval) = interval {
                report.interval(&interval)?;
            }
        }
        for line in self.stalls.changes() {
            report.warn(&line)?;
        }
        let bytes = self.bytes();
        if bytes != self.moved.0 {
            self.moved = (bytes, now);
        } else if now.since(self.moved.1) >= self.idle_timeout {
            return Err(PerfError::Idle { secs: self.idle_timeout.as_secs() });
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.tasks.iter().map(|task| task.progress.bytes()).sum()
    }

    fn samples(&self) -> Vec<Sample> {
        let sample =
            |task: &StreamTask| Sample { bytes: task.progress.bytes(), subflows: task.connection.subflows() };
        self.tasks.iter().map(sample).collect()
    }

    /// The streams' connections, for a report.
    pub fn connections(&self) -> Vec<ConnectionReport> {
        self.tasks
            .iter()
            .map(|task| ConnectionReport {
                id: task.id,
                sender: task.sender,
                local: task.connection.local_addr(),
                peer: task.connection.peer_addr(),
                multipath: task.connection.multipath(),
            })
            .collect()
    }

    /// Whether all streams of ours that send (or receive) have come to their end.
    pub fn have_ended(&self, sender: bool) -> bool {
        self.tasks.iter().filter(|task| task.sender == sender).all(|task| task.progress.has_ended())
    }

    /// Whether all that this direction was to receive is there.
    pub fn is_received(&self) -> bool {
        self.have_ended(false) || self.shared.receiving().is_reached()
    }

    /// When bytes last moved, as far as [`Run::wait`] has seen.
    pub fn last_moved(&mut self) -> Instant {
        let bytes = self.bytes();
        if bytes != self.moved.0 {
            self.moved = (bytes, self.clock.now());
        }
        self.moved.1
    }

    /// The test is over: nothing counts from here on, and senders end. They have `patience` to hand over what they
    /// have begun with, which still counts.
    ///
    /// # Errors
    /// Nobody reads the report any more.
    pub fn stop(&mut self, patience: Duration, report: &mut Report) -> Result<(), PerfError> {
        if self.totals.is_some() {
            return Ok(());
        }
        let now = self.clock.now();
        self.shared.stop();
        while !self.have_ended(true) && self.clock.now().since(now) < patience {
            std::thread::sleep(Duration::from_millis(1).into());
        }
        let (last, totals) = self.meter.finish(now, &self.samples());
        self.totals = Some(totals);
        last.map_or(Ok(()), |interval| report.interval(&interval))
    }

    /// Closes the streams' connections and waits for their threads. Digests are complete after this.
    pub fn close(&mut self) {
        self.shared.close();
        self.tasks.iter_mut().for_each(StreamTask::join);
    }

    /// What we tell the peer.
    pub fn results(&self) -> Results {
        let Some(totals) = &self.totals else { return Results::default() };
        let streams = self.tasks.iter().zip(&totals.streams).map(|(task, total)| StreamResult {
            id: task.id,
            bytes: total.figures.bytes,
            retransmits: total.figures.retransmits.filter(|_| task.sender),
            start_secs: 0.0,
            end_secs: totals.seconds,
            file_sha256: task.progress.digest().map(str::to_owned),
        });
        let streams: Vec<StreamResult> = streams.collect();
        let mut sending = self.tasks.iter().zip(&totals.streams).filter(|(task, _)| task.sender).peekable();
        let known =
            sending.peek().is_some().then(|| sending.all(|(_, total)| total.figures.retransmits.is_some()));
        Results { sender_has_retransmits: known, streams, ..Results::default() }
    }

    /// The figures of the end.
    pub fn totals(&self) -> Option<&Totals> {
        self.totals.as_ref()
    }

    /// SHA-256 of the `index`-th stream's file at our end.
    pub fn digest(&self, index: usize) -> Option<&str> {
        self.tasks.get(index).and_then(|task| task.progress.digest())
    }

    /// Whether the `index`-th stream is MPTCP.
    pub fn multipath(&self, index: usize) -> Multipath {
        self.tasks.get(index).map_or(Multipath::Unknown, |task| task.connection.multipath())
    }

    /// Whether data went with the SYN of the `index`-th stream.
    pub fn fast_open(&self, index: usize) -> Option<FastOpenUse> {
        self.tasks.get(index).and_then(|task| task.connection.fast_open())
    }

    /// Bytes of the `index`-th stream that were sent once more on another subflow.
    pub fn reinjected_bytes(&self, index: usize) -> Option<u64> {
        self.tasks.get(index).and_then(|task| task.connection.reinjected_bytes())
    }

    /// The congestion control of the first stream.
    pub fn congestion(&self) -> Option<String> {
        self.tasks.first().and_then(|task| task.connection.congestion())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.close();
    }
}

/// How often a test reports, and when it gives up.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often; `None`: only at the end.
    pub interval: Option<Duration>,
    /// A test in which no data moves for so long is over.
    pub idle_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(1)), idle_timeout: Duration::from_secs(40) }
    }
}
