//! The only clock of the process.

use crate::base::Instant;

/// Gives the time since it was made, as the core's [`Instant`]. Copies agree with each other.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    #[allow(clippy::disallowed_methods)] // This is where time enters; everything else takes it as an argument.
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// The time.
    #[allow(clippy::disallowed_methods)] // As above.
    pub fn now(&self) -> Instant {
        let elapsed = std::time::Instant::now().saturating_duration_since(self.origin);
        Instant::ZERO + elapsed.into()
    }
}

/// The time since the beginning of 1970, for dates in reports. It may jump: nothing is measured with it.
#[allow(clippy::disallowed_methods)] // As above.
pub fn since_epoch() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
