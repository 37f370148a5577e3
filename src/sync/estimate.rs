//! How long a cloud's tasks take, learned from the tasks seen: a poll too early is a call for nothing, one too late is time
//! lost.

use std::{collections::VecDeque, time::Duration};

/// So many tasks are remembered: if tasks get slower, that is noticed after as many.
const REMEMBERED: usize = 16;
/// Every so many tasks, the first poll comes earlier than what is known, to learn whether tasks have got faster.
const TRY_EARLIER: u32 = 8;
/// How much earlier; as long as that goes well, it is tried again at once, and more boldly.
const EARLIER: f64 = 0.93;
/// How bold it gets.
const BOLDEST: f64 = 0.5;

/// What is known of how long tasks take.
#[derive(Clone, Debug)]
pub struct Estimate {
    hint: Duration,
    recent: VecDeque<Duration>,
    /// How many tasks until an earlier poll is tried.
    patience: u32,
    boldness: f64,
    /// The earlier poll that is being tried.
    trying: Option<Duration>,
}

impl Estimate {
    /// Nothing is known but the provider's `hint`.
    #[must_use]
    pub const fn new(hint: Duration) -> Self {
        Self { hint, recent: VecDeque::new(), patience: TRY_EARLIER, boldness: EARLIER, trying: None }
    }

    /// The shortest time after which a task was lately seen to be done.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        self.recent.iter().min().copied().unwrap_or(self.hint)
    }

    /// When to ask for a task first, from its start.
    pub fn first(&mut self) -> Duration {
        let known = self.shortest();
        self.patience = self.patience.saturating_sub(1);
        if self.patience > 0 || self.trying.is_some() {
            return known;
        }
        let earlier = known.mul_f64(self.boldness);
        self.trying = Some(earlier);
        earlier
    }

    /// How long to wait before asking again, the first time; it grows from there.
    #[must_use]
    pub fn step(&self) -> Duration {
        (self.shortest() / 10).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }

    /// A task was found done so long after its start.
    pub fn learned(&mut self, took: Duration) {
        if let Some(tried) = self.trying.take() {
            // A poll is never exactly at its time.
            if took <= tried + Duration::from_millis(5) {
                self.boldness = (self.boldness * self.boldness).max(BOLDEST);
                self.patience = 0;
            } else {
                self.boldness = EARLIER;
                self.patience = TRY_EARLIER;
            }
        }
        self.recent.push_back(took);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls a task of this length as the engine does; returns when it was found done, and after how many polls.
    fn task(e: &mut Estimate, takes: Duration) -> (Duration, u32) {
        let (mut at, mut step, mut polls) = (e.first(), e.step(), 1);
        while at < takes {
            at += step;
            step = step.mul_f64(1.3);
            polls += 1;
        }
        e.learned(at);
        (at, polls)
    }

    #[test]
    fn comes_close_to_what_tasks_take_with_few_polls() {
        for takes in [50, 700, 1000, 3000].map(Duration::from_millis) {
            let mut e = Estimate::new(Duration::from_secs(1));
            (0..60).for_each(|_| _ = task(&mut e, takes));
            let (mut polls, mut late) = (0, Duration::ZERO);
            for _ in 0..40 {
                let (at, n) = task(&mut e, takes);
                polls += n;
                late += at - takes;
            }
            assert!(polls <= 50, "{takes:?}: {polls} polls for 40 tasks");
            assert!(late / 40 <= takes / 8 + Duration::from_millis(20), "{takes:?}: {:?} late", late / 40);
        }
    }

    #[test]
    fn follows_tasks_that_get_slower() {
        let mut e = Estimate::new(Duration::from_millis(200));
        (0..20).for_each(|_| _ = task(&mut e, Duration::from_millis(200)));
        (0..20).for_each(|_| _ = task(&mut e, Duration::from_secs(4)));
        assert!(e.shortest() >= Duration::from_secs(4));
    }
}
