//! A bound on how often: tokens of a bucket, as one number (the generic cell rate algorithm, ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a bucket holds, unless told otherwise: so much may come at once after a pause.
const BURST: Duration = Duration::from_secs(1);

/// A bucket of tokens that come at a steady rate. It is full at the start.
#[derive(Debug)]
pub struct Bucket {
    origin: Instant,
    /// The nanoseconds in which one token comes.
    interval: u64,
    /// Those in which it fills.
    burst: u64,
    /// When, in nanoseconds since the origin, it is full again.
    full_at: AtomicU64,
}

impl Bucket {
    /// A bucket of `per_second` tokens, at least one, which come in a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval = (nanos(Duration::from_secs(1)) / u64::from(per_second.max(1))).max(1);
        let (origin, burst, full_at) = (Instant::now(), nanos(BURST), AtomicU64::new(0));
        Self { origin, interval, burst, full_at }
    }

    /// A bucket of `burst` tokens, at least one, of which `per_second` come in a second.
    #[must_use]
    pub fn with_burst(per_second: u32, burst: u32) -> Self {
        let bucket = Self::new(per_second);
        Self { burst: bucket.interval.saturating_mul(u64::from(burst.max(1))), ..bucket }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; so long it takes until there is one.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = nanos(now.saturating_duration_since(self.origin));
        let latest = now.saturating_add(self.burst);
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let after = full_at.max(now).saturating_add(self.interval);
                (after <= latest).then_some(after)
            })
            .map(|_| ())
            .map_err(|full_at| {
                let after = full_at.max(now).saturating_add(self.interval);
                Duration::from_nanos(after.saturating_sub(latest))
            })
    }

    /// Whether it is full: forgetting it changes nothing.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.load(Ordering::Relaxed) <= nanos(now.saturating_duration_since(self.origin))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_what_it_holds_and_then_says_how_long_to_wait() {
        let bucket = Bucket::new(10);
        let start = bucket.origin;
        assert!(bucket.is_full(start));
        assert!((0..10).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert!(!bucket.is_full(start));
        let later = start + Duration::from_millis(150);
        assert_eq!(bucket.take(later), Ok(()));
        assert_eq!(bucket.take(later), Err(Duration::from_millis(50)));
        assert!(bucket.is_full(start + Duration::from_millis(1100)));
    }

    #[test]
    fn a_bucket_may_hold_more_than_comes_in_a_second() {
        let bucket = Bucket::with_burst(10, 100);
        let start = bucket.origin;
        assert!((0..100).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_secs(5);
        assert!((0..50).all(|_| bucket.take(later).is_ok()));
        assert!(bucket.take(later).is_err() && !bucket.is_full(later));
        assert!(bucket.is_full(later + Duration::from_secs(10)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_burst(
            rate in 1_u32..1000, pauses in proptest::collection::vec(0_u64..20, 1..500)
        ) {
            let bucket = Bucket::new(rate);
            let mut now = bucket.origin;
            let mut taken = 0_u64;
            for pause in pauses {
                now += Duration::from_millis(pause);
                taken += u64::from(bucket.take(now).is_ok());
            }
            let seconds = (now - bucket.origin).as_secs_f64() + BURST.as_secs_f64();
            prop_assert!(taken as f64 <= f64::from(rate) * seconds + 1.0);
        }

        #[test]
        fn who_waits_as_long_as_was_said_gets_one(rate in 1_u32..100_000) {
            let bucket = Bucket::new(rate);
            let mut now = bucket.origin;
            for _ in 0..3 {
                while bucket.take(now).is_ok() {}
                now += bucket.take(now).unwrap_err();
                prop_assert_eq!(bucket.take(now), Ok(()));
            }
        }
    }
}
