//! The control socket's thread: accepts clients, reads their requests, writes responses and events. A client that does
//! not read holds up nobody: no more of its requests are read while its responses wait, and events that find no room
//! are counted and told later.

use super::events::EventQueue;
use super::protocol::{Answer, CtlRequest, REQUEST_MAX, Refusal, read_request, write_line, write_response};
use super::socket::BoundSocket;
use crate::runtime::wake::WakeFd;
use crate::stack::stream::Wake;
use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Clients at a time. One more is told so, and turned away.
pub(super) const CLIENTS_MAX: usize = 64;
/// Bytes that wait for a client: above it no request of its is read, and no event is added.
pub(super) const OUTPUT_MAX: usize = 256 << 10;
/// Bytes read at a time.
const READ: usize = 16 << 10;

/// A client.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It wants events.
    watches: bool,
    /// Events that found no room, and that it has not been told of.
    lost: u64,
    /// It gets what waits for it, and then no more.
    closing: bool,
    gone: bool,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            watches: false,
            lost: 0,
            closing: false,
            gone: false,
        }
    }

    /// Whether more of its requests can be read.
    fn is_open(&self) -> bool {
        !self.closing && self.output.len() < OUTPUT_MAX
    }

    fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.is_open());
        flags.set(PollFlags::OUT, !self.output.is_empty());
        flags
    }

    /// Reads what has come.
    fn read(&mut self) {
        let mut buffer = [0; READ];
        while self.is_open() && self.input.len() <= REQUEST_MAX {
            match self.stream.read(&mut buffer) {
                // The rest of a line without an end is no request.
                Ok(0) => return self.closing = true,
                Ok(len) => self.input.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.gone = true,
            }
        }
    }

    /// The next whole line that has come.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) if end <= REQUEST_MAX => {
                let rest = self.input.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.input, rest);
                line.truncate(end);
                Some(line)
            }
            None if self.input.len() <= REQUEST_MAX => None,
            Some(_) | None => {
                let refusal = Refusal::new(format!("a request has at most {REQUEST_MAX} bytes"));
                self.output.extend(write_response(Value::Null, Err(refusal)));
                self.input.clear();
                self.closing = true;
                None
            }
        }
    }

    /// Adds an event, or counts it as lost.
    fn tell(&mut self, event: &[u8]) {
        if self.output.len() + event.len() > OUTPUT_MAX {
            self.lost += 1;
        } else {
            self.output.extend_from_slice(event);
        }
    }

    fn write(&mut self) {
        let mut written = 0;
        while written < self.output.len() && !self.gone {
            match self.stream.write(&self.output[written..]) {
                Ok(0) => self.gone = true,
                Ok(len) => written += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
        self.output.drain(..written);
        if self.lost > 0 && self.output.len() < OUTPUT_MAX / 2 {
            let lost = std::mem::take(&mut self.lost);
            self.output.extend(write_line(&json!({"event": "LOST", "count": lost})));
        }
    }

    fn is_over(&self) -> bool {
        self.gone || (self.closing && self.output.is_empty())
    }
}

/// What the thread runs on.
#[derive(Debug)]
pub(super) struct Server {
    socket: BoundSocket,
    clients: Vec<Client>,
    events: Arc<EventQueue>,
    wake: WakeFd,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// A server that ends once `stop` is set and `wake` woken.
    pub(super) fn new(
        socket: BoundSocket,
        events: Arc<EventQueue>,
        wake: WakeFd,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { socket, clients: Vec::new(), events, wake, stop }
    }

    /// Serves. `handle` carries out a request; while it does, all wait.
    pub(super) fn run(mut self, mut handle: impl FnMut(CtlRequest) -> Answer) {
        while !self.stop.load(Ordering::SeqCst) {
            let (accepts, ready) = self.sleep();
            self.wake.drain();
            for (client, flags) in self.clients.iter_mut().zip(ready) {
                if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    client.read();
                }
            }
            for client in &mut self.clients {
                serve(client, &mut handle);
            }
            if accepts {
                self.accept();
            }
            self.hand_on_events();
            self.clients.iter_mut().for_each(Client::write);
            self.clients.retain(|client| !client.is_over());
            self.events.set_watchers(self.clients.iter().filter(|client| client.watches).count());
        }
    }

    /// Waits for something to do. Gives whether a client waits to be accepted, and what each client is ready for.
    fn sleep(&self) -> (bool, Vec<PollFlags>) {
        let listener = PollFd::new(self.socket.listener(), PollFlags::IN);
        let wake = PollFd::new(&self.wake, PollFlags::IN);
        let clients = self.clients.iter().map(|client| PollFd::new(&client.stream, client.interest()));
        let mut fds: Vec<PollFd<'_>> = [listener, wake].into_iter().chain(clients).collect();
        // A line that has come whole already is not announced again.
        let timeout = self.clients.iter().any(|client| client.is_open() && client.input.contains(&b'\n'));
        crate::runtime::wake::sleep(&mut fds, timeout.then_some(crate::base::time::Duration::ZERO));
        (!fds[0].revents().is_empty(), fds[2..].iter().map(PollFd::revents).collect())
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.socket.listener().accept() {
            // A descriptor that cannot be set so would hold up all.
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut client = Client::new(stream);
            if self.clients.len() >= CLIENTS_MAX {
                let refusal = Refusal::new(format!("{CLIENTS_MAX} clients are the most; try again later"));
                client.output.extend(write_response(Value::Null, Err(refusal)));
                client.write();
                continue;
            }
            self.clients.push(client);
        }
    }

    fn hand_on_events(&mut self) {
        let lost = self.events.take_lost();
        self.clients.iter_mut().filter(|client| client.watches).for_each(|client| client.lost += lost);
        while let Some(event) = self.events.pop() {
            let line = write_line(&event.to_json());
            self.clients.iter_mut().filter(|client| client.watches).for_each(|client| client.tell(&line));
        }
    }
}

/// Carries out the requests of a client that have come, as long as there is room for the responses.
fn serve(client: &mut Client, handle: &mut impl FnMut(CtlRequest) -> Answer) {
    while client.output.len() < OUTPUT_MAX
        && let Some(line) = client.next_line()
    {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (tag, request) = read_request(&line);
        let watches = request == Ok(CtlRequest::Monitor {});
        let answer = request.and_then(&mut *handle);
        client.watches |= watches && answer.is_ok();
        client.output.extend(write_response(tag, answer));
    }
}

/// A running server. Dropping it ends it, and removes the socket.
#[derive(Debug)]
pub(in crate::runtime) struct CtlThread {
    stop: Arc<AtomicBool>,
    wake: WakeFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl CtlThread {
    /// Starts it.
    pub(super) fn start(
        socket: BoundSocket,
        events: Arc<EventQueue>,
        wake: WakeFd,
        handle: impl FnMut(CtlRequest) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server::new(socket, events, wake.clone(), Arc::clone(&stop));
        let thread =
            std::thread::Builder::new().name("braid-ctl".to_owned()).spawn(move || server.run(handle))?;
        Ok(Self { stop, wake, thread: Some(thread) })
    }
}

impl Drop for CtlThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            // It ends at once; a panic of its has been told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
