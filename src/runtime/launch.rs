//! [`Runtime`]: everything running.

use super::config::RuntimeConfig;
use super::error::StartError;
use super::handle::ControlHandle;
use crate::base::FramePool;
use std::sync::Arc;

/// A running Braid: attached NICs, workers, control. Any thread may use it; dropping it shuts it down.
#[derive(Debug)]
pub struct Runtime {
    control: ControlHandle,
    pool: Arc<FramePool>,
}

impl Runtime {
    /// Attaches to the NICs and starts the threads.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn start(config: RuntimeConfig) -> Result<Runtime, StartError> {
        let _ = config;
        todo!("lands with the control loop")
    }

    /// The frames that all NICs and connections share.
    pub fn pool(&self) -> &Arc<FramePool> {
        &self.pool
    }

    /// The way to the control thread.
    pub fn control(&self) -> &ControlHandle {
        &self.control
    }

    /// Ends all connections with notice to their peers, then the threads; detaches from the NICs.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.control.shutdown();
    }
}
