//! [`XdpSteering`]: the flow map of the steering program.

use crate::base::WorkerId;
use crate::port::{PinError, Steering};
use crate::wire::FourTuple;

/// A worker's hand on the flow map. Clones are of the same map.
#[derive(Debug, Clone)]
pub struct XdpSteering {}

impl Steering for XdpSteering {
    fn pin(&mut self, tuple: FourTuple, worker: WorkerId) -> Result<(), PinError> {
        let _ = (tuple, worker);
        todo!()
    }
    fn unpin(&mut self, tuple: FourTuple) {
        let _ = tuple;
        todo!()
    }
}
