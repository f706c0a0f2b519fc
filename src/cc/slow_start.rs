//! Slow start (RFC 5681 §3.1), common to all algorithms that begin with it.

use crate::cc::{AckSample, Window};

/// Grows the window by what was acknowledged, up to the threshold. Returns the acknowledged bytes that are left for
/// congestion avoidance.
///
/// RFC 5681 §3.1 takes at most one segment for each ACK, against peers that acknowledge a byte at a time; counting
/// bytes (RFC 3465) defends just as well, and our peers may acknowledge a whole batch at once.
pub(super) fn grow(window: &mut Window, sample: &AckSample) -> u64 {
    if !window.is_used(sample.flight_bytes) {
        return 0;
    }
    let step = sample.growth_bytes.min(window.ssthresh() - window.cwnd());
    window.grow(step);
    sample.growth_bytes - step
}
