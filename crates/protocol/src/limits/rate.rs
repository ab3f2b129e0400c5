//! A leaky bucket in one number, exact to the microsecond.
//!
//! A bucket drains at a steady rate and each admission pours one measure in; what does not fit is
//! refused. Instead of a level and the time it was seen, the bucket remembers when it will be
//! empty: the two say the same, and one number cannot disagree with itself.

use crate::UnixMs;

/// After how many milliseconds the same request would be admitted; at least 1.
pub type RetryAfterMs = i64;

/// The slowest rate is one in a year: nothing overflows, and nobody means a slower one.
const YEAR_MS: i64 = 366 * 86_400_000;

/// How fast a bucket drains and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Time in which one measure drains, in microseconds; at least 1.
    interval_us: i64,
    /// Measures that fit, at least 1: admissions in a row after a rest.
    burst: u32,
}

impl RateLimit {
    /// One admission in so many milliseconds (taken as 1 to a year) after a burst (at least 1).
    #[must_use]
    pub const fn one_in_ms(interval_ms: i64, burst: u32) -> Self {
        let interval_ms = match interval_ms {
            ..1 => 1,
            1..=YEAR_MS => interval_ms,
            _ => YEAR_MS,
        };
        Self { interval_us: interval_ms * 1_000, burst: if burst == 0 { 1 } else { burst } }
    }

    /// From the configuration's `per_second` and `burst`. The interval is rounded to whole
    /// microseconds, at least 1. `None` when the rate is no number between one in a year and a
    /// million a second, or the burst is 0.
    #[must_use]
    pub fn per_second(per_second: f64, burst: u32) -> Option<Self> {
        let interval_us = (1e6 / per_second).round();
        let year_us = YEAR_MS as f64 * 1e3;
        // Not a number lies in no range.
        let sane = (1.0..=year_us).contains(&interval_us) && per_second <= 1e6 && burst > 0;
        sane.then_some(Self { interval_us: interval_us as i64, burst })
    }

    /// The rate as the configuration writes it.
    #[must_use]
    pub fn as_per_second(self) -> f64 {
        1e6 / self.interval_us as f64
    }

    /// Admissions in a row after a rest.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Time in which a full bucket drains, in microseconds.
    fn capacity_us(self) -> i64 {
        self.interval_us.saturating_mul(i64::from(self.burst))
    }
}

/// The state of one key under a [`RateLimit`]. The default is an empty bucket.
///
/// `now` may be any clock in milliseconds, best one that never steps back. While a clock stands
/// still nothing drains; when it jumps back, the bucket counts as full at most, so nobody waits
/// longer than one interval for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeakyBucket {
    /// When the bucket is empty, in microseconds of the clock.
    empty_at_us: i64,
}

impl LeakyBucket {
    /// Admits and pours one measure in, or refuses and changes nothing.
    ///
    /// # Errors
    /// The shortest wait after which this call succeeds if nothing else is admitted meanwhile.
    pub fn take(&mut self, limit: RateLimit, now: UnixMs) -> Result<(), RetryAfterMs> {
        self.empty_at_us = self.after_one_more(limit, now)?;
        Ok(())
    }

    /// Whether [`LeakyBucket::take`] would admit, without pouring: for limits that only count what
    /// turns out bad, which the caller then takes.
    ///
    /// # Errors
    /// As [`LeakyBucket::take`].
    pub fn peek(&self, limit: RateLimit, now: UnixMs) -> Result<(), RetryAfterMs> {
        self.after_one_more(limit, now).map(|_| ())
    }

    fn after_one_more(self, limit: RateLimit, now: UnixMs) -> Result<i64, RetryAfterMs> {
        let now_us = now.saturating_mul(1_000);
        let full_us = now_us.saturating_add(limit.capacity_us());
        let empty_at_us = self.empty_at_us.clamp(now_us, full_us).saturating_add(limit.interval_us);
        match empty_at_us - full_us {
            over_us if over_us > 0 => Err((over_us + 999) / 1_000),
            _ => Ok(empty_at_us),
        }
    }

    /// When the bucket will be empty, and so forgettable; rounded up.
    #[must_use]
    pub fn empty_at(&self) -> UnixMs {
        self.empty_at_us.saturating_add(999).div_euclid(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_burst_then_one_an_interval() {
        let limit = RateLimit::one_in_ms(6_000, 10);
        let mut bucket = LeakyBucket::default();
        for _ in 0..10 {
            assert_eq!(bucket.take(limit, 1_000_000), Ok(()));
        }
        assert_eq!(bucket.take(limit, 1_000_000), Err(6_000));
        assert_eq!(bucket.take(limit, 1_005_999), Err(1));
        assert_eq!(bucket.peek(limit, 1_006_000), Ok(()));
        assert_eq!(bucket.take(limit, 1_006_000), Ok(()));
        assert_eq!(bucket.take(limit, 1_006_000), Err(6_000));
    }

    #[test]
    fn microseconds_count() {
        let limit = RateLimit { interval_us: 1_001, burst: 1 };
        let mut bucket = LeakyBucket::default();
        assert_eq!(bucket.take(limit, 0), Ok(()));
        assert_eq!(bucket.take(limit, 1), Err(1));
        assert_eq!(bucket.take(limit, 2), Ok(()));
    }

    #[test]
    fn a_clock_that_jumps_back_delays_one_interval_at_most() {
        let limit = RateLimit::one_in_ms(6_000, 2);
        let mut bucket = LeakyBucket::default();
        assert_eq!(bucket.take(limit, 3_600_000), Ok(()));
        assert_eq!(bucket.take(limit, 0), Err(6_000));
        assert_eq!(bucket.take(limit, 6_000), Err(6_000), "a refusal stores nothing");
        assert_eq!(bucket.take(limit, 3_600_000), Ok(()));
    }

    #[test]
    fn configured_rates_are_checked() {
        assert_eq!(RateLimit::per_second(2.0, 120), Some(RateLimit::one_in_ms(500, 120)));
        assert_eq!(RateLimit::per_second(1.0 / 1200.0, 3), Some(RateLimit::one_in_ms(1_200_000, 3)));
        let read_back = |rate: RateLimit| RateLimit::per_second(rate.as_per_second(), rate.burst());
        assert_eq!(read_back(RateLimit::one_in_ms(1_200_000, 3)), Some(RateLimit::one_in_ms(1_200_000, 3)));
        for wrong in [0.0, -1.0, 1e-9, 1e7, f64::NAN, f64::INFINITY] {
            assert_eq!(RateLimit::per_second(wrong, 1), None);
        }
        assert_eq!(RateLimit::per_second(1.0, 0), None);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate_times_time(
            interval_us in 1i64..5_000_000, burst in 1u32..50,
            steps in prop::collection::vec(0i64..4_000, 1..300),
        ) {
            let limit = RateLimit { interval_us, burst };
            let (mut bucket, mut now) = (LeakyBucket::default(), 1_000i64);
            let mut admitted: Vec<i64> = Vec::new();
            for step in steps {
                now += step;
                if bucket.take(limit, now).is_ok() {
                    admitted.push(now);
                }
                // Over every window that ends now, not only over the whole history.
                for (i, since) in admitted.iter().enumerate() {
                    let count = i64::try_from(admitted.len() - i).unwrap();
                    prop_assert!((count - i64::from(burst)) * interval_us <= (now - since) * 1_000);
                }
            }
        }

        #[test]
        fn retry_after_is_the_shortest_wait_that_succeeds(
            per_second in 0.0001f64..5_000.0, burst in 1u32..50,
            steps in prop::collection::vec(0i64..2_000, 1..200),
        ) {
            let limit = RateLimit::per_second(per_second, burst).unwrap();
            let (mut bucket, mut now) = (LeakyBucket::default(), 0i64);
            for step in steps {
                now += step;
                if let Err(wait) = bucket.take(limit, now) {
                    prop_assert!(wait >= 1);
                    prop_assert!(bucket.peek(limit, now + wait).is_ok());
                    prop_assert!(bucket.peek(limit, now + wait - 1).is_err());
                }
            }
        }

        #[test]
        fn no_clock_and_no_limit_overflows(now in any::<i64>(), then in any::<i64>(), interval in any::<i64>(), burst in any::<u32>()) {
            let limit = RateLimit::one_in_ms(interval, burst);
            let mut bucket = LeakyBucket::default();
            let _ = bucket.take(limit, now);
            let _ = bucket.take(limit, then);
            let _ = bucket.empty_at();
        }
    }
}
