//! The emulator's clock: tokio's, so that tests can pause it.

use std::time::Duration;

use tokio::time::Instant;

/// Counts from the emulator's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    begun: Instant,
    start: u64,
}

impl Clock {
    pub(super) fn new(start: u64) -> Self {
        #[allow(clippy::disallowed_methods)] // The emulator's one clock.
        Self { begun: Instant::now(), start }
    }

    /// Since the start.
    pub(super) fn now(self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) const fn put_forward(&mut self, seconds: u64) {
        self.start += seconds;
    }

    /// The Unix seconds of a moment.
    pub(super) fn unix(self, at: Duration) -> u64 {
        self.start + at.as_secs()
    }
}

/// Year, month and day of a moment in Unix seconds.
pub(super) fn civil(unix: u64) -> (u64, u64, u64) {
    // Days since the first of March of the year 0, in eras of 400 years: leap days come last in a year then.
    let days = unix / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// The vendor writes times like `2026-01-31 12:00:00`, in its own time zone, UTC+8.
pub(super) fn written(unix: u64) -> String {
    let local = unix + 8 * 3_600;
    let (year, month, day) = civil(local);
    let second = local % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}
