//! [`XdpSteering`]: the flow map of the steering program.

use crate::base::WorkerId;
use crate::port::{PinError, Steering};
use crate::stack::owner::flow_key;
use crate::wire::FourTuple;
use crate::xdp::program::FlowMap;
use std::sync::Arc;

/// A worker's hand on the flow map. Clones are of the same map.
#[derive(Debug, Clone)]
pub struct XdpSteering {
    flows: Arc<FlowMap>,
}

impl XdpSteering {
    pub(crate) fn new(flows: Arc<FlowMap>) -> Self {
        Self { flows }
    }
}

impl Steering for XdpSteering {
    fn pin(&mut self, tuple: FourTuple, worker: WorkerId) -> Result<(), PinError> {
        self.flows.pin(&flow_key(tuple), worker.0.into()).map_err(|error| {
            match error.raw_os_error() {
                // A hash map that is full says E2BIG; one whose elements are all being freed, ENOMEM.
                Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM) => PinError::Full,
                errno => PinError::Kernel(errno.unwrap_or(0)),
            }
        })
    }

    fn unpin(&mut self, tuple: FourTuple) {
        self.flows.unpin(&flow_key(tuple));
    }
}
