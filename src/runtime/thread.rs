//! A worker's thread: turns while there is work, and sleeps in poll(2) when there has been none for a while.

use super::clock::Clock;
use super::pace::{Next, Pace};
use super::wake::{WakeFd, readable, sleep};
use crate::base::Instant;
use crate::base::time::Duration;
use crate::stack::Doorbell;
use crate::worker::{Turn, Worker, WorkerHandle};
use crate::xdp::{XdpPort, XdpSteering};
use rustix::event::{PollFd, PollFlags};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How soon to look at transmissions that have not completed: their completion wakes nobody.
const RECLAIM: Duration = Duration::from_millis(1);

/// How long reports that nobody waits for may wait for others: where connections are many and short each would wake
/// control several times, which costs more than all the rest that control does for them.
const REPORT_DELAY: Duration = Duration::from_millis(1);
/// So many of them do not wait: a quarter of what the ring holds.
const REPORTS_WAITING: usize = 1024;
/// How exactly the kernel ends a nap, in nanoseconds; its default is as long as the nap.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

/// What a worker's thread runs on.
#[derive(Debug)]
pub(super) struct WorkerThread {
    pub(super) worker: Worker<XdpPort, XdpSteering>,
    pub(super) handle: WorkerHandle,
    /// What the worker's doorbell rings.
    pub(super) wake: WakeFd,
    /// The control thread's doorbell, rung after reports.
    pub(super) control: Arc<Doorbell>,
    pub(super) clock: Clock,
    /// What it does between turns.
    pub(super) pace: Pace,
    /// Set when it is time to end.
    pub(super) stop: Arc<AtomicBool>,
}

impl WorkerThread {
    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let mut reported_since: Option<Instant> = None;
        // Naps get longer where the kernel refuses.
        let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS));
        while !self.stop.load(Ordering::SeqCst) {
            let now = self.clock.now();
            let turn = self.worker.turn(now);
            reported_since = self.tell_control(now, reported_since);
            let due = reported_since.map(|since| since + REPORT_DELAY);
            let turn = Turn { next: turn.next.into_iter().chain(due).min(), ..turn };
            match self.pace.after(now, &turn) {
                Next::Turn => {}
                Next::Spin => std::hint::spin_loop(),
                Next::Yield => std::thread::yield_now(),
                Next::Nap(time) => std::thread::sleep(time.into()),
                Next::Rest => self.rest(turn.next),
            }
        }
        self.worker.clear(self.clock.now());
    }

    /// Wakes control for reports: at once for one that it is waited for, and otherwise for all of a while together. Takes and
    /// gives since when some wait.
    fn tell_control(&mut self, now: Instant, since: Option<Instant>) -> Option<Instant> {
        let urgent = self.worker.take_urgent();
        let waiting = self.handle.reports.len();
        if waiting == 0 {
            return None;
        }
        let since = since.unwrap_or(now);
        if urgent || now.since(since) >= REPORT_DELAY || waiting >= REPORTS_WAITING {
            self.control.nudge();
            return None;
        }
        Some(since)
    }

    /// Sleeps until a packet, a command, the application or the next timer.
    fn rest(&mut self, next: Option<Instant>) {
        let mut rung = false;
        self.handle.doorbell.prepare_sleep();
        if self.worker.is_quiet() && !self.stop.load(Ordering::SeqCst) {
            let next = next.map(|at| at.since(self.clock.now()));
            let timeout = next.into_iter().chain(self.worker.reclaim_within(RECLAIM)).min();
            let sockets = self.worker.ports().iter().flat_map(XdpPort::poll_fds);
            let mut fds: Vec<PollFd<'_>> =
                sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
            fds.push(readable(&self.wake));
            sleep(&mut fds, timeout);
            rung = fds.last().is_some_and(|wake| !wake.revents().is_empty());
        }
        self.handle.doorbell.awake();
        if rung {
            self.wake.drain();
        }
    }
}
