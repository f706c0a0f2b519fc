//! Waking a thread that sleeps in poll(2).

use crate::base::time::Duration;
use crate::stack::stream::Wake;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// An eventfd: whoever polls it returns once it is woken, before or after it began to poll.
#[derive(Debug, Clone)]
pub(super) struct WakeFd(Arc<OwnedFd>);

impl WakeFd {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Forgets past wakes.
    pub(super) fn drain(&self) {
        // Nothing to read is as good as a count.
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for WakeFd {
    fn wake(&self) {
        // It fails only when the counter is about to overflow, and then the sleeper is awake.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// Sleeps until one of `fds` is readable or `timeout` has passed; for ever without one.
pub(super) fn sleep(fds: &mut [PollFd<'_>], timeout: Option<Duration>) {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(std::time::Duration::from(timeout)).ok());
    // An error is an interruption by a signal: the caller looks at everything again anyway.
    let _ = poll(fds, timeout.as_ref());
}

/// An entry for [`sleep`].
pub(super) fn readable<'a>(fd: &'a impl AsFd) -> PollFd<'a> {
    PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)
}
