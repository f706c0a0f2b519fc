//! The calls of two threads into one world: packetdrill's main thread, which moves the clock, and the thread in which it
//! makes system calls that block. A thread that blocks really sleeps, as packetdrill looks at its state. When it is woken
//! the clock stands still until it has asked for the time, or sleeps again: packetdrill compares that time.

use crate::sockets::{AGAIN, Outcome};
use crate::world::World;
use braid::base::Instant;
use braid::base::time::Duration;
use libc::c_short;
use std::os::fd::RawFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration as RealDuration;

/// Virtual time that passes at most while somebody waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(400);
/// Real time without a call of the main thread after which a sleeper moves the clock itself: the main thread waits for
/// it. packetdrill gives up after a second.
const MAIN_IS_IDLE: RealDuration = RealDuration::from_millis(300);
/// Real time that the main thread gives a thread that it has woken.
const WAKING: RealDuration = RealDuration::from_secs(5);
/// Real time that a thread has to end its system call, once it has asked for the time.
const ARRIVING: RealDuration = RealDuration::from_millis(2);
/// Events at one point in time. More means that a timer fires and nothing comes of it.
const EVENTS_MAX: usize = 10_000;

/// What a thread waits for.
#[derive(Debug, Clone)]
pub enum Until {
    /// One of these events at one of these descriptors; errors always count.
    Events(Vec<(RawFd, c_short)>),
    /// An entry of this epoll instance.
    Epoll(RawFd),
}

#[derive(Debug)]
struct Sleeper {
    thread: ThreadId,
    until: Until,
    deadline: Option<Instant>,
    woken: bool,
}

#[derive(Debug)]
struct Inner {
    world: World,
    sleepers: Vec<Sleeper>,
    /// Woken, and not yet back with a question for the time.
    awake: Vec<ThreadId>,
    /// One of them has asked, and has yet to take packetdrill's lock, which the main thread gives away only while it sleeps.
    arrived: bool,
    /// Calls of the main thread.
    calls: u64,
    /// How often the clock was stepped to where it stood already.
    standing: usize,
}

/// The world behind its lock.
#[derive(Debug)]
pub struct Kernel {
    inner: Mutex<Inner>,
    changed: Condvar,
    main: ThreadId,
}

impl Kernel {
    /// `world`, whose clock the calling thread moves.
    pub fn new(world: World) -> Self {
        let inner =
            Inner { world, sleepers: Vec::new(), awake: Vec::new(), arrived: false, calls: 0, standing: 0 };
        Self { inner: Mutex::new(inner), changed: Condvar::new(), main: std::thread::current().id() }
    }

    /// A call that never waits.
    pub fn call<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut inner = self.lock();
        let result = act(&mut inner.world);
        drop(self.wake_sleepers(inner));
        result
    }

    /// A call that waits `until` it is worth another attempt, for `timeout_us` at most, unless it must not.
    pub fn wait_for<T>(
        &self,
        may_wait: bool,
        timeout_us: Option<u64>,
        until: impl Fn() -> Until,
        mut attempt: impl FnMut(&mut World) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut inner = self.lock();
        let deadline = timeout_us.map(|micros| inner.world.now() + Duration::from_micros(micros));
        loop {
            let result = attempt(&mut inner.world);
            inner = self.wake_sleepers(inner);
            if !may_wait || !matches!(result, Err(AGAIN)) {
                return result;
            }
            let ready;
            (inner, ready) = self.sleep(inner, until(), deadline);
            if !ready {
                return Err(AGAIN);
            }
        }
    }

    /// Lets time pass.
    pub fn pass(&self, micros: u64) {
        let mut inner = self.lock();
        if self.is_main() && std::mem::take(&mut inner.arrived) {
            drop(inner);
            std::thread::sleep(ARRIVING);
            inner = self.lock();
        }
        let target = inner.world.now() + Duration::from_micros(micros);
        while inner.step(Some(target)) {
            inner = self.wake_sleepers(inner);
        }
        drop(self.wake_sleepers(inner));
    }

    /// The time. A thread that was woken has arrived when it asks for it.
    pub fn time(&self) -> (i64, i64) {
        let mut inner = self.lock();
        let time = inner.world.tick();
        let thread = std::thread::current().id();
        if inner.awake.contains(&thread) {
            inner.awake.retain(|awake| *awake != thread);
            inner.arrived = true;
            self.changed.notify_all();
            return time;
        }
        drop(self.wake_sleepers(inner));
        time
    }

    /// The next packet that the host sends, when it sends it; `None` when none comes.
    pub fn next_sent(&self) -> Option<(i64, Vec<u8>)> {
        let mut inner = self.lock();
        let limit = inner.world.now() + PATIENCE;
        loop {
            if let Some(sent) = inner.world.take_sent() {
                return Some(sent);
            }
            if inner.next_event().is_none_or(|at| at > limit) {
                return None;
            }
            inner.step(Some(limit));
            inner = self.wake_sleepers(inner);
        }
    }

    fn is_main(&self) -> bool {
        std::thread::current().id() == self.main
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock ends the process: see `table.rs`.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_main() {
            inner.calls += 1;
        }
        inner
    }

    /// Wakes those who have what they wait for. The main thread then waits for them.
    fn wake_sleepers<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        loop {
            inner.mark_ready();
            if inner.awake.is_empty() || !self.is_main() {
                return inner;
            }
            self.changed.notify_all();
            let (next, waited) =
                self.changed.wait_timeout(inner, WAKING).unwrap_or_else(PoisonError::into_inner);
            inner = next;
            if waited.timed_out() {
                eprintln!("a thread that was woken does not come back");
                inner.awake.clear();
            }
        }
    }

    /// Sleeps. False when the deadline has passed, or nothing will ever come.
    fn sleep<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        until: Until,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, Inner>, bool) {
        let thread = std::thread::current().id();
        let limit = deadline.unwrap_or(inner.world.now() + PATIENCE);
        if self.is_main() {
            // Nobody else moves the clock.
            while !inner.is_ready(&until) {
                if !inner.step(Some(limit)) {
                    let ready = inner.is_ready(&until);
                    return (inner, ready);
                }
                inner = self.wake_sleepers(inner);
            }
            return (inner, true);
        }
        inner.awake.retain(|awake| *awake != thread);
        inner.sleepers.push(Sleeper { thread, until: until.clone(), deadline, woken: false });
        let mut calls = inner.calls;
        loop {
            self.changed.notify_all();
            let (next, waited) =
                self.changed.wait_timeout(inner, MAIN_IS_IDLE).unwrap_or_else(PoisonError::into_inner);
            inner = next;
            if waited.timed_out() && calls == inner.calls {
                inner.run_for(&until, limit);
            }
            calls = inner.calls;
            inner.mark_ready();
            if inner.sleepers.iter().any(|sleeper| sleeper.thread == thread && sleeper.woken) {
                inner.sleepers.retain(|sleeper| sleeper.thread != thread);
                let ready = inner.is_ready(&until);
                return (inner, ready);
            }
        }
    }
}

impl Inner {
    fn is_ready(&self, until: &Until) -> bool {
        match until {
            Until::Events(wanted) => wanted.iter().any(|(fd, events)| {
                self.world.events(*fd) & (events | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
            }),
            Until::Epoll(epfd) => {
                let watched = self.world.sockets.peek_epoll(*epfd).map(|epoll| epoll.watched());
                watched.unwrap_or_default().iter().any(|fd| self.world.epoll_ready(*epfd, *fd).is_some())
            }
        }
    }

    fn mark_ready(&mut self) {
        let now = self.world.now();
        for place in 0..self.sleepers.len() {
            let sleeper = &self.sleepers[place];
            let due = sleeper.deadline.is_some_and(|deadline| deadline <= now);
            if !sleeper.woken && (due || self.is_ready(&sleeper.until)) {
                let thread = sleeper.thread;
                self.sleepers[place].woken = true;
                self.awake.push(thread);
            }
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let deadlines = self.sleepers.iter().filter(|sleeper| !sleeper.woken).filter_map(|it| it.deadline);
        deadlines.chain(self.world.next_event()).min()
    }

    /// Goes to the next event, but not beyond `limit`. False when the limit is reached.
    fn step(&mut self, limit: Option<Instant>) -> bool {
        let before = self.world.now();
        match (self.next_event(), limit) {
            (Some(at), limit) if limit.is_none_or(|limit| at < limit) => self.world.advance(at),
            (_, Some(limit)) => {
                self.world.advance(limit);
                return false;
            }
            (_, None) => return false,
        }
        self.standing = if self.world.now() == before { self.standing + 1 } else { 0 };
        assert!(self.standing < EVENTS_MAX, "timers fire for ever at {before}");
        true
    }

    /// The main thread waits for a sleeper, and moves no clock: the sleeper does.
    fn run_for(&mut self, until: &Until, limit: Instant) {
        while !self.is_ready(until) && self.step(Some(limit)) {
            self.mark_ready();
        }
    }
}
