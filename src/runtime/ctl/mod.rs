//! The control socket: users ask and change what the path manager does, and look on, by lines of JSON over a Unix
//! socket. `protocol.rs` says what the lines are; `server.rs` serves; `socket.rs` knows about the file.

pub(super) mod counters;
pub(super) mod events;
pub mod protocol;
mod server;
mod socket;

pub(super) use server::CtlThread;
pub use socket::{CtlError, CtlPath, FOLDER, live_sockets};

use super::wake::WakeFd;
use events::EventQueue;
use protocol::{Answer, CtlRequest};
use socket::BoundSocket;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A control socket that is open, before anybody is served.
#[derive(Debug)]
pub(super) struct CtlSocket {
    socket: BoundSocket,
    wake: WakeFd,
    pub(super) events: Arc<EventQueue>,
}

impl CtlSocket {
    /// Opens it at a path, or by the process's id.
    pub(super) fn open(path: Option<&std::path::Path>) -> Result<Self, CtlError> {
        let socket = match path {
            Some(path) => BoundSocket::open(path)?,
            None => BoundSocket::open_default()?,
        };
        let wake =
            WakeFd::new().map_err(|source| CtlError::Kernel { path: socket.path().to_owned(), source })?;
        let events = Arc::new(EventQueue::new(wake.clone()));
        Ok(Self { socket, wake, events })
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.socket.path().to_owned()
    }

    /// Serves from now on.
    pub(super) fn serve(
        self,
        handle: impl FnMut(CtlRequest) -> Answer + Send + 'static,
    ) -> io::Result<CtlThread> {
        CtlThread::start(self.socket, self.events, self.wake, handle)
    }
}
