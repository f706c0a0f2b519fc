//! How much processor time this process uses.

use crate::app::perf::results::CpuUse;
use crate::base::Instant;

/// Clock ticks in a second of /proc/self/stat: the kernel's USER_HZ, 100 on every architecture that Linux has now.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct CpuMeter {
    began: Instant,
    user: f64,
    system: f64,
}

impl CpuMeter {
    /// Begins now.
    pub fn start(now: Instant) -> Self {
        let (user, system) = used();
        Self { began: now, user, system }
    }

    /// The use since then, in percent of one processor.
    pub fn usage(&self, now: Instant) -> CpuUse {
        let seconds = now.since(self.began).as_secs_f64();
        if seconds <= 0.0 {
            return CpuUse::default();
        }
        let (user, system) = used();
        let percent = |part: f64| 100.0 * part.max(0.0) / seconds;
        let (user, system) = (percent(user - self.user), percent(system - self.system));
        CpuUse { total: user + system, user, system }
    }
}

/// Seconds that this process has spent in the program and in the kernel; zeroes without /proc.
fn used() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    parse(&stat).unwrap_or((0.0, 0.0))
}

/// proc(5): the name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
fn parse(stat: &str) -> Option<(f64, f64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user / TICKS_PER_SECOND, system / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "1 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 175 0 0 20 0";
        assert_eq!(parse(stat), Some((2.5, 1.75)));
        assert_eq!(parse(""), None);
        assert!(used().0 >= 0.0);
    }
}
