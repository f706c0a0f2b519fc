//! Questions to workers that wait for their answers: what a connection is, what was counted. A worker answers within a
//! turn; one that does not is not waited for.

use super::ctl::protocol::{Answer, CONNECTIONS_MAX};
use super::info::ConnectionStatus;
use super::local_ports::Key;
use crate::base::time::Duration;
use crate::base::{Instant, WorkerId};
use crate::mptcp::ConnectionDetails;
use crate::pm::RequestError;
use crate::stack::WorkerCounters;
use crossbeam::channel::Sender;
use std::collections::BTreeMap;

/// How long workers have to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that wait at a time.
const ASKS_MAX: usize = 64;
/// Bits of a ticket that say which part of a question is answered.
const PART_BITS: u32 = 16;

const _: () = assert!(CONNECTIONS_MAX <= 1 << PART_BITS);

/// Why a question about a connection, or a wish for it, came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It has ended, or its handshake is not done.
    #[error("the connection is not there any more, or not yet")]
    NoConnection,
    /// The path manager cannot do it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Too much is asked at once.
    #[error("too many questions at once; try again")]
    Busy,
    /// The worker has not answered.
    #[error("the connection's worker has not answered in time; try again")]
    Late,
    /// The runtime is shutting down.
    #[error("the runtime is shut down")]
    ShutDown,
}

/// Who waits.
#[derive(Debug)]
pub(super) enum Reply {
    /// A library user, for one connection.
    Status(Sender<Result<ConnectionStatus, AskError>>),
    /// A user of the control socket, for connections; so many there are in all.
    Connections(Sender<Answer>, usize),
    /// For counters, of all workers together.
    Counters(Sender<Answer>),
    /// For those of each worker.
    Workers(Sender<Answer>),
}

/// A question, and what of its answer has come.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) reply: Reply,
    /// The connections that it is about, by part.
    pub(super) keys: Vec<Key>,
    pub(super) connections: Vec<(Key, ConnectionDetails)>,
    /// Of each worker that has told them.
    pub(super) counters: BTreeMap<WorkerId, Box<WorkerCounters>>,
    waiting: usize,
    deadline: Instant,
}

impl Ask {
    /// The counts of all workers that have told them, together.
    pub(super) fn all_counters(&self) -> WorkerCounters {
        let mut all = WorkerCounters::default();
        self.counters.values().for_each(|counters| all.add(counters));
        all
    }
}

/// All questions that wait.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: u64,
    waiting: BTreeMap<u64, Ask>,
}

impl Asks {
    /// A question of so many parts. Gives the ticket of its first part; the others follow. `None`: there are too many,
    /// and `reply` is dropped.
    pub(super) fn begin(&mut self, now: Instant, reply: Reply, keys: Vec<Key>, parts: usize) -> Option<u64> {
        if self.waiting.len() >= ASKS_MAX {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let (connections, counters) = (Vec::new(), BTreeMap::new());
        let deadline = now + ANSWER_TIMEOUT;
        self.waiting.insert(number, Ask { reply, keys, connections, counters, waiting: parts, deadline });
        Some(number << PART_BITS)
    }

    /// A worker has described a connection, or said that there is none. Gives the question once it is answered.
    pub(super) fn handle_described(
        &mut self,
        ticket: u64,
        details: Option<Box<ConnectionDetails>>,
    ) -> Option<Ask> {
        let part = (ticket & ((1 << PART_BITS) - 1)) as usize;
        let ask = self.waiting.get_mut(&(ticket >> PART_BITS))?;
        if let (Some(key), Some(details)) = (ask.keys.get(part), details) {
            ask.connections.push((*key, *details));
        }
        self.settle(ticket)
    }

    /// A worker has told its counts.
    pub(super) fn handle_counted(
        &mut self,
        ticket: u64,
        worker: WorkerId,
        counters: Box<WorkerCounters>,
    ) -> Option<Ask> {
        self.waiting.get_mut(&(ticket >> PART_BITS))?.counters.insert(worker, counters);
        self.settle(ticket)
    }

    fn settle(&mut self, ticket: u64) -> Option<Ask> {
        let number = ticket >> PART_BITS;
        let ask = self.waiting.get_mut(&number)?;
        ask.waiting -= 1;
        if ask.waiting > 0 {
            return None;
        }
        self.waiting.remove(&number)
    }

    /// A question whose time is over.
    pub(super) fn poll_late(&mut self, now: Instant) -> Option<Ask> {
        let number = *self.waiting.iter().find(|(_, ask)| ask.deadline <= now)?.0;
        self.waiting.remove(&number)
    }

    /// When the next one's is.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|ask| ask.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::ConnectionId;
    use crossbeam::channel::bounded;

    fn counters(received: u64) -> Box<WorkerCounters> {
        let mut counters = Box::new(WorkerCounters::default());
        counters.stack.received = received;
        counters
    }

    #[test]
    fn a_question_is_answered_when_all_workers_have_or_when_its_time_is_over() {
        let (reply, _answer) = bounded(1);
        let mut asks = Asks::default();
        let now = Instant::from_millis(5);
        let ticket = asks.begin(now, Reply::Counters(reply.clone()), Vec::new(), 2).expect("there is room");
        // Workers answer in any order.
        assert!(asks.handle_counted(ticket + 1, WorkerId(1), counters(1)).is_none());
        let done = asks.handle_counted(ticket, WorkerId(0), counters(2)).expect("all have answered");
        let each: Vec<_> = done.counters.iter().map(|(worker, it)| (worker.0, it.stack.received)).collect();
        assert_eq!(each, [(0, 2), (1, 1)]);
        assert_eq!(done.all_counters().stack.received, 3);
        assert!(asks.handle_counted(ticket, WorkerId(0), counters(2)).is_none(), "it is forgotten");

        let ticket = asks.begin(now, Reply::Counters(reply), Vec::new(), 2).expect("there is room");
        assert!(asks.handle_counted(ticket, WorkerId(0), counters(1)).is_none());
        let deadline = asks.poll_timeout().expect("it waits");
        assert!(asks.poll_late(now).is_none());
        let late = asks.poll_late(deadline).expect("its time is over");
        assert_eq!((late.counters.len(), late.all_counters().stack.received), (1, 1));
        assert_eq!(asks.poll_timeout(), None);
    }

    #[test]
    fn connections_that_are_gone_are_left_out() {
        let (reply, _answer) = bounded(1);
        let mut asks = Asks::default();
        let keys = vec![(WorkerId(0), ConnectionId::default()); 2];
        let ticket = asks.begin(Instant::ZERO, Reply::Connections(reply, 2), keys, 2).expect("room");
        assert!(asks.handle_described(ticket, None).is_none());
        let done = asks.handle_described(ticket + 1, None).expect("all have answered");
        assert!(done.connections.is_empty());
    }

    #[test]
    fn no_more_questions_wait_than_the_limit() {
        let (reply, _answer) = bounded(1);
        let mut asks = Asks::default();
        let mut begin = || asks.begin(Instant::ZERO, Reply::Counters(reply.clone()), Vec::new(), 1).is_some();
        assert_eq!((0..ASKS_MAX + 5).filter(|_| begin()).count(), ASKS_MAX);
    }
}
