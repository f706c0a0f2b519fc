//! Time as the core sees it: nanoseconds since an origin that the caller chose (process start, or the start of a
//! simulation). There is no way to ask for the current time here: it is an input.
//!
//! A [`Duration`] is eight bytes, half of the standard library's, and so is an `Option<Instant>`: a connection has some
//! eighty of them, and rests most of its life.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Div, Mul, Sub, SubAssign};

/// A span of time, in nanoseconds. 584 years are the most: what is longer is that long, and means "never".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

/// Nanoseconds in a whole microsecond.
const MICROSECOND: u64 = 1000;

/// As a number, in nanoseconds, for people. Where it is written down to take little room, in microseconds and with a last bit of
/// 0 if it is so many whole ones: a connection that rests has some fifteen such spans, which are its settings.
impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_u64(self.0);
        }
        let number = match self.0.is_multiple_of(MICROSECOND) {
            true => u128::from(self.0 / MICROSECOND) << 1,
            false => u128::from(self.0) << 1 | 1,
        };
        serializer.serialize_u128(number)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let number = u128::deserialize(deserializer)?;
        let unit = if number & 1 == 0 { MICROSECOND } else { 1 };
        let nanos = u64::try_from(number >> 1).ok().and_then(|number| number.checked_mul(unit));
        nanos.map(Self).ok_or_else(|| D::Error::custom("a span of more than 584 years"))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);
    /// The longest.
    pub const MAX: Duration = Duration(u64::MAX);

    /// So many nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// So many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// So many seconds; none if `secs` is negative or not a number.
    pub const fn from_secs_f64(secs: f64) -> Self {
        // `as` saturates at both ends.
        Self((secs * 1e9) as u64)
    }

    /// In nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// In whole microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// In whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// In whole seconds.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// In seconds.
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// So many times as long.
    pub const fn mul_f64(self, by: f64) -> Self {
        Self((self.0 as f64 * by) as u64)
    }

    /// The sum, or the longest.
    pub const fn saturating_add(self, other: Duration) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or nothing.
    pub const fn saturating_sub(self, other: Duration) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times as long, or the longest.
    pub const fn saturating_mul(self, by: u32) -> Self {
        Self(self.0.saturating_mul(by as u64))
    }

    /// How far apart the two are.
    pub const fn abs_diff(self, other: Duration) -> Self {
        Self(self.0.abs_diff(other.0))
    }
}

impl Add for Duration {
    type Output = Duration;
    fn add(self, other: Duration) -> Duration {
        self.saturating_add(other)
    }
}

impl AddAssign for Duration {
    fn add_assign(&mut self, other: Duration) {
        *self = *self + other;
    }
}

impl Sub for Duration {
    type Output = Duration;
    /// The caller knows which is longer: see [`Duration::saturating_sub`].
    fn sub(self, other: Duration) -> Duration {
        debug_assert!(self >= other, "{self:?} less {other:?}");
        self.saturating_sub(other)
    }
}

impl SubAssign for Duration {
    fn sub_assign(&mut self, other: Duration) {
        *self = *self - other;
    }
}

impl Mul<u32> for Duration {
    type Output = Duration;
    fn mul(self, by: u32) -> Duration {
        self.saturating_mul(by)
    }
}

impl Mul<Duration> for u32 {
    type Output = Duration;
    fn mul(self, by: Duration) -> Duration {
        by * self
    }
}

impl Div<u32> for Duration {
    type Output = Duration;
    fn div(self, by: u32) -> Duration {
        Duration(self.0 / u64::from(by))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_nanos(duration.0)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&std::time::Duration::from(*self), f)
    }
}

/// A point in time, in nanoseconds since the caller's origin.
// One more than that, so that zero is left to say `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant::from_nanos(0);

    /// `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.as_nanos() / 1_000
    }

    /// Whole milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// So much earlier; the origin if that would be before it.
    pub const fn back(self, by: Duration) -> Instant {
        Self::from_nanos(self.as_nanos().saturating_sub(by.0))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, by: Duration) -> Instant {
        // 584 years of nanoseconds: only a caller's absurd duration gets near, and it then means "never".
        Instant(self.0.saturating_add(by.0))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub for Instant {
    type Output = Duration;
    /// Like [`Instant::since`].
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.as_nanos();
        write!(f, "{}.{:09}s", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_down_and_read_back() {
        let spans = [0, 1, 999, 1000, 1001, 200_000_000, 1_000_000_000, u64::MAX - 615, u64::MAX];
        for nanos in spans {
            let span = Duration::from_nanos(nanos);
            let bytes = postcard::to_allocvec(&span).expect("written");
            assert_eq!(postcard::from_bytes::<Duration>(&bytes), Ok(span));
            assert_eq!(serde_json::to_value(span).expect("written"), nanos);
            assert_eq!(serde_json::from_value::<Duration>(nanos.into()).expect("read"), span);
        }
        assert_eq!(postcard::to_allocvec(&Duration::from_millis(200)).map(|bytes| bytes.len()), Ok(3));
        let too_long = postcard::to_allocvec(&(u128::from(u64::MAX) << 1)).expect("written");
        assert!(postcard::from_bytes::<Duration>(&too_long).is_err());
    }

    #[test]
    fn both_are_eight_bytes_and_so_is_no_instant() {
        assert_eq!((size_of::<Duration>(), size_of::<Instant>(), size_of::<Option<Instant>>()), (8, 8, 8));
        assert_eq!(Instant::ZERO.as_nanos(), 0);
    }

    #[test]
    fn what_is_too_long_is_the_longest() {
        assert_eq!(Duration::from_secs(u64::MAX), Duration::MAX);
        assert_eq!((Duration::MAX + Duration::MAX, Duration::MAX * 2), (Duration::MAX, Duration::MAX));
        assert_eq!(Duration::from(std::time::Duration::MAX), Duration::MAX);
        let never = Instant::ZERO + Duration::MAX;
        assert!(
            never == never + Duration::from_secs(1) && never > Instant::from_millis(u64::MAX / 1_000_001)
        );
        assert_eq!(Instant::from_millis(1).back(Duration::from_secs(1)), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(never), Duration::ZERO);
    }

    #[test]
    fn fractions_are_those_of_the_standard_library() {
        for secs in [0.0, 0.000_000_25, 1.5, 86_400.0, -1.0, f64::NAN] {
            let standard = std::time::Duration::try_from_secs_f64(secs).unwrap_or_default();
            assert!(Duration::from_secs_f64(secs).abs_diff(standard.into()) <= Duration::from_nanos(1));
        }
        assert_eq!(Duration::from_millis(10).mul_f64(1.25), Duration::from_micros(12_500));
        assert_eq!(format!("{:?}", Duration::from_micros(1500)), "1.5ms");
    }
}
