//! A token bucket whose rate follows what the cloud lets through (additive increase, multiplicative decrease).

use std::time::Duration;

use super::ActionLimits;

/// A token bucket. Times are since some fixed point, and never go back.
#[derive(Clone, Debug)]
pub struct Bucket {
    limits: ActionLimits,
    rate: f64,
    tokens: f64,
    at: Duration,
    /// No second decrease for throttles of calls that were under way when the first was heard of.
    decreased: Option<Duration>,
}

/// However often it is throttled, it tries so many times a second.
const LEAST_RATE: f64 = 0.5;
/// What a throttle leaves of the rate, at most once a second. With [`INCREASE`], the rate holds where three calls in ten are
/// refused whatever it is, and comes down where that depends on it.
const DECREASE: f64 = 0.8;
/// What a success adds, as a share of the full rate.
const INCREASE: f64 = 0.02;

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(limits: ActionLimits, now: Duration) -> Self {
        Self { limits, rate: limits.rate, tokens: limits.burst.max(1.0), at: now, decreased: None }
    }

    /// Takes a token; else says when there will be one.
    ///
    /// # Errors
    /// How long until the next token.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.limits.burst.max(1.0));
        // A sleep is exact to the nanosecond, a sum of floats is not.
        if self.tokens >= 1.0 - 1e-6 {
            self.tokens = (self.tokens - 1.0).max(0.0);
            Ok(())
        } else {
            let wait = (1.0 - self.tokens) / self.rate;
            Err(Duration::from_secs_f64(wait).max(Duration::from_micros(1)))
        }
    }

    /// The cloud let a call through.
    pub fn succeeded(&mut self) {
        self.rate = (self.rate + self.limits.rate * INCREASE).min(self.limits.rate);
    }

    /// The cloud refused a call for there being too many. The bucket is empty afterwards.
    pub fn throttled(&mut self, now: Duration) {
        self.tokens = 0.0;
        self.at = self.at.max(now);
        if self.decreased.is_none_or(|d| now.saturating_sub(d) >= Duration::from_secs(1)) {
            self.decreased = Some(now);
            self.rate = (self.rate * DECREASE).max(LEAST_RATE.min(self.limits.rate));
        }
    }

    /// Calls per second at present.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ActionLimits = ActionLimits { rate: 20.0, burst: 2.0, batch: 1 };

    fn run(bucket: &mut Bucket, from: Duration, for_: Duration) -> usize {
        let (mut now, mut n) = (from, 0);
        while now < from + for_ {
            match bucket.take(now) {
                Ok(()) => n += 1,
                Err(wait) => now += wait,
            }
        }
        n
    }

    #[test]
    fn lets_through_its_rate_and_one_burst() {
        let mut bucket = Bucket::new(LIMITS, Duration::ZERO);
        let n = run(&mut bucket, Duration::ZERO, Duration::from_secs(10));
        assert!((200..=202).contains(&n), "{n}");
    }

    #[test]
    fn a_pause_saves_up_no_more_than_the_burst() {
        let mut bucket = Bucket::new(LIMITS, Duration::ZERO);
        let n = run(&mut bucket, Duration::from_secs(1000), Duration::from_millis(49));
        assert_eq!(n, 2);
    }

    #[test]
    fn throttles_lower_the_rate_once_a_second_and_successes_raise_it_to_the_limit() {
        let mut bucket = Bucket::new(LIMITS, Duration::ZERO);
        bucket.throttled(Duration::from_secs(1));
        bucket.throttled(Duration::from_millis(1500));
        assert!((bucket.rate() - 16.0).abs() < 1e-9);
        bucket.throttled(Duration::from_secs(2));
        assert!((bucket.rate() - 12.8).abs() < 1e-9);
        (0..1000).for_each(|n| bucket.throttled(Duration::from_secs(2 + n)));
        assert!((bucket.rate() - LEAST_RATE).abs() < 1e-9);
        (0..60).for_each(|_| bucket.succeeded());
        assert!((bucket.rate() - LIMITS.rate).abs() < 1e-9);
    }
}
