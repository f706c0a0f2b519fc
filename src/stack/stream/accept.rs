//! Where accepted connections wait for their application.

use crate::stack::stream::StreamShared;
use crate::stack::stream::waiter::Waiter;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Accepted connections that no application has taken yet.
#[derive(Debug)]
pub struct AcceptQueue {
    queue: ArrayQueue<Arc<StreamShared>>,
    closed: AtomicBool,
    waiter: Waiter,
}

impl AcceptQueue {
    /// A queue for at most `backlog` connections. At each worker as many again may be in their handshakes (the SYN queue).
    /// Full: SYNs are dropped, which their senders repeat, and a connection whose handshake ends meanwhile is reset. A full
    /// SYN queue: SYNs are answered with cookies.
    pub fn new(backlog: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(backlog),
            closed: AtomicBool::new(false),
            waiter: Waiter::default(),
        })
    }

    /// The worker: a connection is established. Whether an application has waited for one.
    ///
    /// # Errors
    /// The connection back when the queue is full or closed.
    pub fn push(&self, stream: Arc<StreamShared>) -> Result<bool, Arc<StreamShared>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(stream);
        }
        self.queue.push(stream)?;
        Ok(self.waiter.wake())
    }

    /// How many connections it takes.
    pub fn backlog(&self) -> usize {
        self.queue.capacity()
    }

    /// Whether it would take no more now.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// The application: the next connection, if there is one.
    pub fn pop(&self) -> Option<Arc<StreamShared>> {
        self.queue.pop()
    }

    /// Whether no connection waits. Cheaper than a [`AcceptQueue::pop`] in vain.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The application: the next connection, for which it waits; `None` when `timeout` passed first or the queue is closed.
    pub fn wait(&self, timeout: Option<std::time::Duration>) -> Option<Arc<StreamShared>> {
        let next = || match self.queue.pop() {
            Some(stream) => Some(Some(stream)),
            None => self.closed.load(Ordering::Acquire).then_some(None),
        };
        self.waiter.wait(timeout, next).flatten()
    }

    /// Nothing is accepted any more; those who wait return.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiter.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::stream::{Doorbell, NobodySleeps};
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    #[test]
    fn threads_that_accept_side_by_side_each_wait_for_a_connection_of_their_own() {
        const CONNECTIONS: usize = 5000;
        let doorbell = Arc::new(Doorbell::new(1, Box::new(NobodySleeps)));
        let (queue, taken) = (AcceptQueue::new(16), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while queue.wait(None).is_some() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..CONNECTIONS {
                let mut stream = StreamShared::new(Arc::clone(&doorbell));
                while let Err(full) = queue.push(stream) {
                    stream = full;
                    thread::yield_now();
                }
            }
            while !queue.is_empty() {
                thread::yield_now();
            }
            queue.close();
        });
        assert_eq!(taken.into_inner(), CONNECTIONS);
        assert!(queue.wait(None).is_none(), "closed");
    }
}
