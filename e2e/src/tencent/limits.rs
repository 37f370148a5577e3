//! How often actions may be called, and deletions happen.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::error::ApiError;

/// Within this time no more than so many load balancers are deleted.
const WINDOW: Duration = Duration::from_secs(300);
const DELETIONS: usize = 30;

/// A bucket of tokens for each action, as full at first as it gets.
#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: BTreeMap<&'static str, (f64, Duration)>,
}

impl Rates {
    pub(super) fn take(&mut self, action: &'static str, rate: u32, now: Duration) -> Result<(), ApiError> {
        let rate = f64::from(rate);
        let (tokens, at) = self.buckets.entry(action).or_insert((rate, now));
        *tokens = rate.min(*tokens + now.saturating_sub(*at).as_secs_f64() * rate);
        *at = now;
        // Less than a whole token by rounding alone is a whole one.
        if *tokens < 1.0 - 1e-9 {
            let message = format!("more than {rate} requests in a second for {action}");
            return Err(ApiError::new("RequestLimitExceeded", message));
        }
        *tokens -= 1.0;
        Ok(())
    }
}

/// When load balancers were deleted.
#[derive(Debug, Default)]
pub(super) struct Deletions(VecDeque<Duration>);

impl Deletions {
    pub(super) fn allow(&mut self, more: usize, now: Duration) -> Result<(), ApiError> {
        while self.0.front().is_some_and(|at| *at + WINDOW <= now) {
            self.0.pop_front();
        }
        if self.0.len() + more > DELETIONS {
            let message = format!("more than {DELETIONS} load balancers deleted in 5 minutes");
            return Err(ApiError::new("FailedOperation.FrequencyCheckRisk", message));
        }
        Ok(())
    }

    pub(super) fn record(&mut self, count: usize, now: Duration) {
        self.0.extend(std::iter::repeat_n(now, count));
    }
}
