//! Items that were refused wait, each by itself, while the rest goes on.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::CallError;

/// The first wait; it doubles with each refusal.
const FIRST: Duration = Duration::from_secs(2);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// Refusals older than this are forgotten, so that nothing is kept for what nobody asks for any more.
const FORGET: Duration = Duration::from_secs(3600);

/// A lane's id and an item's id in it.
type Key = (String, String);

/// Refused items, by lane and item.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    held: HashMap<Key, Held>,
    /// The same by time of refusal, to forget the oldest first.
    order: BTreeMap<(Duration, u64), Key>,
    serial: u64,
}

#[derive(Clone, Debug)]
struct Held {
    refusals: u32,
    until: Duration,
    at: (Duration, u64),
    error: CallError,
}

impl Quarantine {
    /// Why an item must wait, and until when; `None`: it may go.
    #[must_use]
    pub fn holds(&self, lane: &str, item: &str, now: Duration) -> Option<(&CallError, Duration)> {
        let held = self.held.get(&(lane.to_owned(), item.to_owned()))?;
        (now < held.until).then_some((&held.error, held.until))
    }

    /// An item was refused; it waits for about twice as long as the time before. `jitter` is from 0 to 1. Returns until
    /// when.
    pub fn refused(&mut self, lane: &str, item: &str, error: CallError, now: Duration, jitter: f64) -> Duration {
        self.forget(now);
        let key = (lane.to_owned(), item.to_owned());
        let refusals = self.held.get(&key).map_or(0, |h| h.refusals) + 1;
        let base = FIRST.saturating_mul(1 << (refusals - 1).min(10)).min(LONGEST);
        let until = now + base.mul_f64(1.0 + 0.2 * jitter.clamp(0.0, 1.0));
        self.serial += 1;
        let at = (now, self.serial);
        let held = Held { refusals, until, at, error };
        if let Some(before) = self.held.insert(key.clone(), held) {
            self.order.remove(&before.at);
        }
        self.order.insert(at, key);
        until
    }

    /// An item was accepted.
    pub fn accepted(&mut self, lane: &str, item: &str) {
        if self.held.is_empty() {
            return;
        }
        if let Some(held) = self.held.remove(&(lane.to_owned(), item.to_owned())) {
            self.order.remove(&held.at);
        }
    }

    /// How many wait or have waited lately.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn forget(&mut self, now: Duration) {
        while let Some(entry) = self.order.first_entry() {
            if now.saturating_sub(entry.key().0) < FORGET {
                break;
            }
            let key = entry.remove();
            self.held.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::ErrorKind;

    fn error() -> CallError {
        CallError {
            kind: ErrorKind::Invalid,
            whole: false,
            action: "Register",
            code: "InvalidParameter".into(),
            message: "no".into(),
            request_id: None,
        }
    }

    #[test]
    fn waits_double_to_a_limit_and_end_with_a_success() {
        let mut q = Quarantine::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let until = q.refused("lb", "a", error(), now, 0.0);
            waits.push((until - now).as_secs());
            assert!(q.holds("lb", "a", now).is_some());
            assert!(q.holds("lb", "b", now).is_none());
            assert!(q.holds("lb", "a", until).is_none());
            now = until;
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        q.accepted("lb", "a");
        assert!(q.is_empty());
        assert_eq!(q.refused("lb", "a", error(), now, 0.0) - now, Duration::from_secs(2));
    }

    #[test]
    fn forgets_what_nobody_asks_for() {
        let mut q = Quarantine::default();
        for n in 0..100 {
            q.refused("lb", &n.to_string(), error(), Duration::from_secs(n), 0.5);
        }
        q.refused("lb", "late", error(), Duration::from_secs(3600 + 49), 0.5);
        assert_eq!(q.len(), 51);
    }
}
