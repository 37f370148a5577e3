//! The one place that reads a clock.

use std::{sync::Arc, time::Duration};

use crate::model::Time;

/// Tells the time. Under tokio's paused clock it goes with the virtual time, so that a test can let hours pass.
#[derive(Clone, Debug)]
pub struct Clock {
    started: tokio::time::Instant,
    at_start: Time,
}

impl Clock {
    /// A clock that starts at the system's time.
    #[must_use]
    pub fn system() -> Self {
        #[allow(clippy::disallowed_methods)] // The one place.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::starting_at(Time(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A clock that starts at `time`.
    #[must_use]
    pub fn starting_at(time: Time) -> Self {
        #[allow(clippy::disallowed_methods)] // The one place.
        let started = tokio::time::Instant::now();
        Self { started, at_start: time }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.at_start.plus(self.started.elapsed())
    }

    /// Time since the clock was made. It never goes back, and is finer than [`Clock::now`].
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The same as a function, for modules that want no more than that.
    #[must_use]
    pub fn as_fn(&self) -> Arc<dyn Fn() -> Time + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}
