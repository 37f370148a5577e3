//! What goes wrong, and when: decided by a seed.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use super::error::ApiError;

/// SplitMix64's output function: a good mixer of 64 bits.
pub fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64: a tiny deterministic generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        let out = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        out
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        // 53 bits: what a double holds. Drawn also for p = 0, so that one rate does not shift the others' draws.
        ((self.next() >> 11) as f64) / ((1_u64 << 53) as f64) < p
    }

    /// Less than `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        let r = self.next();
        if n == 0 { 0 } else { r % n }
    }

    /// A duration in the range, to the microsecond.
    pub fn between(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let span = range.end().saturating_sub(*range.start()).as_micros() as u64;
        *range.start() + Duration::from_micros(self.below(span + 1))
    }
}

/// Rates (probabilities, 0 to 1) of all that may go wrong. All zero: a perfect server.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Decides everything.
    pub seed: u64,
    /// How long a request takes.
    pub latency: RangeInclusive<Duration>,
    /// Refused unexecuted: 429, 500, 503 or 504.
    pub error: f64,
    /// A write is refused with 409 Conflict.
    pub conflict: f64,
    /// The connection fails before the server saw the request.
    pub refused: f64,
    /// The request is executed, and its answer lost.
    pub lost_reply: f64,
    /// No answer for [`Faults::hang_for`], then the connection fails; half of these are executed.
    pub hang: f64,
    /// How long a hang lasts.
    pub hang_for: Duration,
    /// A list that accepts any version (`resourceVersion=0`) is answered from an older one.
    pub stale_list: f64,
    /// Lists that come back empty, by path.
    pub empty_list: fn(path: &str) -> bool,
    /// How many changes old, at most.
    pub stale_changes: u64,
    /// A watch ends early: cleanly, in the middle of a line, or by a connection error.
    pub watch_drop: f64,
    /// A watch is told 410 Gone.
    pub watch_gone: f64,
    /// A watch goes silent, until long after its timeout.
    pub watch_stall: f64,
    /// How long after its start at most a watch meets its fate.
    pub watch_fate_within: Duration,
    /// How late a watch tells of a change.
    pub watch_lag: RangeInclusive<Duration>,
    /// Requests that nothing happens to.
    pub exempt: fn(verb: &str, path: &str) -> bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            latency: Duration::ZERO..=Duration::ZERO,
            error: 0.0,
            conflict: 0.0,
            refused: 0.0,
            lost_reply: 0.0,
            hang: 0.0,
            hang_for: Duration::from_secs(30),
            stale_list: 0.0,
            empty_list: |_| false,
            stale_changes: 20,
            watch_drop: 0.0,
            watch_gone: 0.0,
            watch_stall: 0.0,
            watch_fate_within: Duration::from_secs(120),
            watch_lag: Duration::ZERO..=Duration::ZERO,
            exempt: |_, _| false,
        }
    }
}

impl Faults {
    /// A server that is only slow, as a healthy one is.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            latency: Duration::from_millis(1)..=Duration::from_millis(20),
            watch_lag: Duration::from_millis(1)..=Duration::from_millis(50),
            ..Self::default()
        }
    }

    /// A server on a very bad day: everything happens, often.
    pub fn rough(seed: u64) -> Self {
        Self {
            error: 0.05,
            conflict: 0.05,
            refused: 0.03,
            lost_reply: 0.03,
            hang: 0.005,
            stale_list: 0.3,
            watch_drop: 0.4,
            watch_gone: 0.2,
            watch_stall: 0.05,
            latency: Duration::from_millis(1)..=Duration::from_millis(500),
            watch_lag: Duration::from_millis(1)..=Duration::from_millis(800),
            ..Self::calm(seed)
        }
    }
}

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Refused with this answer, unexecuted.
    Refuse(Box<ApiError>),
    /// The connection fails before the server saw the request.
    Disconnect,
    /// Executed; then the connection fails.
    LoseReply,
    /// No answer for this long, then the connection fails.
    Hang {
        /// How long.
        wait: Duration,
        /// Whether it is executed.
        executed: bool,
    },
    /// Executed, later.
    Delay(Duration),
}

/// How a watch ends before its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The stream ends.
    Close,
    /// The stream ends in the middle of a line.
    Truncate,
    /// The connection fails.
    Reset,
    /// The stream tells 410 Gone.
    Gone,
    /// Silence.
    Stall,
}

/// All that the seed decides for one request.
pub struct Luck {
    /// Before the server sees the request.
    pub latency: Duration,
    /// On the answer's way back.
    pub return_latency: Duration,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// For a list: how many changes old it is.
    pub stale: u64,
    /// For a list: it comes back empty.
    pub empty: bool,
    /// For a watch: when after its start, and how, it ends early.
    pub fate: Option<(Duration, Fate)>,
    /// For a watch: its own generator, for the lag.
    pub rng: Rng,
}

/// Draws [`Luck`]. A request's luck depends on the seed, on what it asks and on how often that was asked before; not
/// on what other requests came between, so that an unrelated change of order does not reshuffle a run.
#[derive(Default)]
pub struct Dice {
    asked: HashMap<u64, u64>,
}

impl Dice {
    /// The luck of the next request `verb path`.
    pub fn draw(&mut self, faults: &Faults, verb: &str, path: &str) -> Luck {
        let key = verb
            .bytes()
            .chain(path.bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let count = self.asked.entry(key).or_default();
        *count += 1;
        let mut rng = Rng::new(mix(faults.seed ^ mix(key ^ mix(*count))));
        if (faults.exempt)(verb, path) {
            let zero = Duration::ZERO;
            return Luck { latency: zero, return_latency: zero, fault: None, stale: 0, empty: false, fate: None, rng };
        }
        let total = rng.between(&faults.latency);
        let latency = total.mul_f64(rng.below(1001) as f64 / 1000.0);
        let write = !matches!(verb, "get" | "list" | "watch");
        let mut fault = None;
        if rng.chance(faults.refused) {
            fault = Some(Fault::Disconnect);
        }
        if rng.chance(faults.lost_reply) {
            fault = Some(Fault::LoseReply);
        }
        if rng.chance(faults.hang) {
            fault = Some(Fault::Hang { wait: faults.hang_for, executed: rng.chance(0.5) });
        }
        if rng.chance(faults.conflict) && write && verb != "create" {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            fault = Some(Fault::Refuse(Box::new(ApiError::new(409, "Conflict", why))));
        }
        if rng.chance(faults.error) {
            fault = Some(Fault::Refuse(Box::new(server_error(&mut rng))));
        }
        let stale = if rng.chance(faults.stale_list) { 1 + rng.below(faults.stale_changes) } else { 0 };
        let fates = [
            (faults.watch_drop, [Fate::Close, Fate::Truncate, Fate::Reset][rng.below(3) as usize]),
            (faults.watch_gone, Fate::Gone),
            (faults.watch_stall, Fate::Stall),
        ];
        let when = rng.between(&(Duration::ZERO..=faults.watch_fate_within));
        let fate = fates.into_iter().filter(|(p, _)| rng.chance(*p)).last().map(|(_, fate)| (when, fate));
        let empty = (faults.empty_list)(path);
        Luck { latency, return_latency: total - latency, fault, stale, empty, fate, rng }
    }
}

fn server_error(rng: &mut Rng) -> ApiError {
    let wait = Some(Duration::from_secs(1));
    match rng.below(4) {
        0 => ApiError {
            retry_after: wait,
            ..ApiError::new(429, "TooManyRequests", "too many requests, please try again later")
        },
        1 => ApiError::new(500, "InternalError", "Internal error occurred: etcdserver: leader changed"),
        2 => ApiError { retry_after: wait, ..ApiError::new(503, "ServiceUnavailable", "apiserver is shutting down") },
        _ => ApiError::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout"),
    }
}
