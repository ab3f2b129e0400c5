//! The one clock: wall time that never runs back and does not believe a sudden jump.
//!
//! A backward step of the wall clock revives nothing: time goes on by the monotonic clock (the one
//! that counts while the machine sleeps). A forward step of more than [`STEP_MS_MAX`] against it
//! expires nothing until it has stood for [`CONFIRM_MS`] (I17). At start the time is not before
//! the floor that the database remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ligand_protocol::UnixMs;
use parking_lot::Mutex;

/// More than this between wall and monotonic clock is a step, not drift.
pub const STEP_MS_MAX: i64 = 5_000;
/// A forward step is believed after standing this long: a clock set right at boot stays; a
/// mistaken one is usually corrected by then.
pub const CONFIRM_MS: i64 = 60_000;

/// Where readings come from.
#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<Hands>),
}

/// The hands of a clock that a test turns.
#[derive(Debug, Default)]
pub struct Hands {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl Hands {
    /// Lets time pass: both clocks advance.
    pub fn pass(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.monotonic.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock forth or back while no time passes.
    pub fn step(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// A moment on our timeline, and the monotonic reading that belongs to it.
    at: UnixMs,
    monotonic: i64,
    last: UnixMs,
    /// Since when, by the monotonic clock, the wall clock has been ahead by how much.
    step: Option<(i64, i64)>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    state: Arc<Mutex<State>>,
}

impl Clock {
    /// The system's clock, not before `floor`.
    #[must_use]
    pub fn system(floor: UnixMs) -> Self {
        Self::new(Source::System, floor)
    }

    /// A clock for tests, starting at a wall time.
    #[must_use]
    pub fn manual(start: UnixMs) -> (Self, Arc<Hands>) {
        let hands = Arc::new(Hands::default());
        hands.wall.store(start, Ordering::SeqCst);
        (Self::new(Source::Manual(Arc::clone(&hands)), 0), hands)
    }

    fn new(source: Source, floor: UnixMs) -> Self {
        let (wall, monotonic) = source.read();
        let at = wall.max(floor);
        if floor > wall.saturating_add(STEP_MS_MAX) {
            tracing::warn!(
                behind_ms = floor - wall,
                "the system clock is behind the time this installation has already seen; going on from there"
            );
        }
        Self { source, state: Arc::new(Mutex::new(State { at, monotonic, last: at, step: None })) }
    }

    /// The time. Never less than any time it gave before.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        let (wall, monotonic) = self.source.read();
        let mut state = self.state.lock();
        let expected = state.at.saturating_add(monotonic.saturating_sub(state.monotonic));
        let ahead = wall.saturating_sub(expected);
        let now = if ahead.abs() <= STEP_MS_MAX {
            state.step = None;
            wall
        } else if ahead > 0 {
            if state.stepped(ahead, monotonic) { wall } else { expected }
        } else {
            state.step = None;
            expected
        };
        if now == wall {
            state.at = wall;
            state.monotonic = monotonic;
        }
        state.last = state.last.max(now);
        state.last
    }
}

impl State {
    /// Whether a forward step has stood long enough to be believed.
    fn stepped(&mut self, ahead: i64, monotonic: i64) -> bool {
        match self.step {
            Some((since, by)) if (ahead - by).abs() <= STEP_MS_MAX => {
                if monotonic.saturating_sub(since) < CONFIRM_MS {
                    return false;
                }
                tracing::warn!(
                    ahead_ms = ahead,
                    "the system clock stepped forward and stayed there; following it"
                );
                self.step = None;
                true
            }
            _ => {
                tracing::warn!(
                    ahead_ms = ahead,
                    "the system clock stepped forward; expiring nothing by it until it has stood for a minute"
                );
                self.step = Some((monotonic, ahead));
                false
            }
        }
    }
}

impl Source {
    fn read(&self) -> (UnixMs, i64) {
        match self {
            Self::System => {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
                let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let monotonic = boot.tv_sec.saturating_mul(1_000).saturating_add(boot.tv_nsec / 1_000_000);
                (i64::try_from(wall).unwrap_or(i64::MAX), monotonic)
            }
            Self::Manual(hands) => {
                (hands.wall.load(Ordering::SeqCst), hands.monotonic.load(Ordering::SeqCst))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMs = 1_700_000_000_000;

    #[test]
    fn it_follows_time_and_small_corrections() {
        let (clock, hands) = Clock::manual(START);
        hands.pass(10_000);
        assert_eq!(clock.now(), START + 10_000);
        hands.step(3_000);
        assert_eq!(clock.now(), START + 13_000);
        hands.step(-2_000);
        assert_eq!(clock.now(), START + 13_000, "never back");
        hands.pass(2_500);
        assert_eq!(clock.now(), START + 13_500);
    }

    #[test]
    fn a_backward_step_revives_nothing_and_time_goes_on() {
        let (clock, hands) = Clock::manual(START);
        hands.step(-3_600_000);
        assert_eq!(clock.now(), START);
        hands.pass(1_000);
        assert_eq!(clock.now(), START + 1_000);
        hands.pass(600_000);
        assert_eq!(clock.now(), START + 601_000);
    }

    #[test]
    fn a_forward_step_expires_nothing_until_it_has_stood() {
        let (clock, hands) = Clock::manual(START);
        let years = 10 * 365 * 86_400_000;
        hands.step(years);
        assert_eq!(clock.now(), START);
        hands.pass(CONFIRM_MS - 1);
        assert_eq!(clock.now(), START + CONFIRM_MS - 1);
        hands.pass(1);
        assert_eq!(clock.now(), START + CONFIRM_MS + years);
    }

    #[test]
    fn a_forward_step_taken_back_was_nothing() {
        let (clock, hands) = Clock::manual(START);
        hands.step(3_600_000);
        assert_eq!(clock.now(), START);
        hands.pass(30_000);
        hands.step(-3_600_000);
        assert_eq!(clock.now(), START + 30_000);
        hands.pass(CONFIRM_MS);
        assert_eq!(clock.now(), START + 30_000 + CONFIRM_MS);
    }

    #[test]
    fn it_starts_no_earlier_than_the_floor() {
        let hands = Arc::new(Hands::default());
        hands.wall.store(START, Ordering::SeqCst);
        let clock = Clock::new(Source::Manual(Arc::clone(&hands)), START + 3_600_000);
        assert_eq!(clock.now(), START + 3_600_000);
        hands.pass(500);
        assert_eq!(clock.now(), START + 3_600_500);
    }
}
