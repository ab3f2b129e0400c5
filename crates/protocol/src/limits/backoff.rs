//! Failed sign-ins of one account: some are free, then each makes the next wait longer, up to a
//! bearable limit. Never a lock: a stranger's failures must not shut the owner out.
//!
//! An attempt is counted when it is admitted, not when it has failed, so that parallel attempts
//! cannot all pass on the same count. Whether a known device passes without asking is decided by
//! the server.

use super::rate::RetryAfterMs;
use super::{ACCOUNT_DELAY_MS_MAX, ACCOUNT_DELAY_MS_MIN, ACCOUNT_FAILURES_FREE, ACCOUNT_FORGET_MS};
use crate::UnixMs;

/// Failures after which the delay grows no more; also the most that is remembered.
const FAILURES_MAX: i64 = {
    let mut failures = ACCOUNT_FAILURES_FREE as i64 + 1;
    let mut delay = ACCOUNT_DELAY_MS_MIN;
    while delay < ACCOUNT_DELAY_MS_MAX {
        delay *= 2;
        failures += 1;
    }
    failures
};

/// What an account's failures have added up to. The default is none.
///
/// Over any time `t`, at most `FAILURES_MAX + t / ACCOUNT_FORGET_MS` attempts (21 and four an
/// hour) are admitted without a success between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountBackoff {
    /// When the last of the failures will be forgotten; they fade one by one until then.
    forgotten_at: UnixMs,
    /// No attempt before this time.
    next_at: UnixMs,
}

impl AccountBackoff {
    /// Admits an attempt and counts it as a failure until [`AccountBackoff::succeeded`] or
    /// [`AccountBackoff::cancelled`] says otherwise.
    ///
    /// # Errors
    /// The wait, never more than [`ACCOUNT_DELAY_MS_MAX`].
    pub fn admit(&mut self, now: UnixMs) -> Result<(), RetryAfterMs> {
        // A clock that jumped back must not turn a delay into a lock.
        self.next_at = self.next_at.min(now.saturating_add(ACCOUNT_DELAY_MS_MAX));
        if self.next_at > now {
            return Err(self.next_at - now);
        }
        let failures = (self.failures(now) + 1).min(FAILURES_MAX);
        let faded_ms = self.forgotten_at.max(now).saturating_add(ACCOUNT_FORGET_MS);
        self.forgotten_at = faded_ms.min(now.saturating_add(FAILURES_MAX * ACCOUNT_FORGET_MS));
        self.next_at = now.saturating_add(delay_ms(failures));
        Ok(())
    }

    /// The right password: everything is forgotten.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The attempt admitted last came to no verdict (queue full, storage trouble): it is not held
    /// against the account.
    pub fn cancelled(&mut self, now: UnixMs) {
        self.forgotten_at = self.forgotten_at.saturating_sub(ACCOUNT_FORGET_MS);
        self.next_at = now;
    }

    /// When this state equals none at all.
    #[must_use]
    pub fn forgotten_at(&self) -> UnixMs {
        self.forgotten_at.max(self.next_at)
    }

    /// Failures remembered: those begun to be forgotten count in full.
    fn failures(self, now: UnixMs) -> i64 {
        let left_ms = self.forgotten_at.saturating_sub(now).max(0);
        (left_ms / ACCOUNT_FORGET_MS + i64::from(left_ms % ACCOUNT_FORGET_MS > 0)).min(FAILURES_MAX)
    }
}

/// The delay that follows the given failure, counted from 1.
fn delay_ms(failures: i64) -> i64 {
    match failures - i64::from(ACCOUNT_FAILURES_FREE) {
        free if free <= 0 => 0,
        paid => (ACCOUNT_DELAY_MS_MIN << (paid - 1).min(32)).min(ACCOUNT_DELAY_MS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMs = 1_700_000_000_000;

    #[test]
    fn ten_are_free_then_the_delay_doubles_to_a_quarter_of_an_hour() {
        let (mut account, mut now) = (AccountBackoff::default(), NOW);
        for _ in 0..=ACCOUNT_FAILURES_FREE {
            assert_eq!(account.admit(now), Ok(()));
        }
        for wait_s in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900] {
            assert_eq!(account.admit(now), Err(wait_s * 1_000));
            assert_eq!(account.admit(now + wait_s * 1_000 - 1), Err(1));
            now += wait_s * 1_000;
            // Failures fade while the delays grow long; hold the fading still to see the table.
            account.forgotten_at += wait_s * 1_000;
            assert_eq!(account.admit(now), Ok(()));
        }
    }

    #[test]
    fn a_success_resets_and_a_cancelled_attempt_costs_nothing() {
        let mut account = AccountBackoff::default();
        for _ in 0..100 {
            assert_eq!(account.admit(NOW), Ok(()));
            account.cancelled(NOW);
        }
        for _ in 0..=ACCOUNT_FAILURES_FREE {
            assert_eq!(account.admit(NOW), Ok(()));
        }
        assert!(account.admit(NOW).is_err());
        account.succeeded();
        assert_eq!(account, AccountBackoff::default());
        assert_eq!(account.admit(NOW), Ok(()));
    }

    #[test]
    fn failures_are_forgotten_by_morning() {
        let (mut account, mut now) = (AccountBackoff::default(), NOW);
        for _ in 0..50 {
            now += account.admit(now).err().unwrap_or(0);
        }
        let morning = now + FAILURES_MAX * ACCOUNT_FORGET_MS;
        assert!(account.forgotten_at() <= morning);
        for _ in 0..=ACCOUNT_FAILURES_FREE {
            assert_eq!(account.admit(morning), Ok(()));
        }
    }

    #[test]
    fn a_clock_that_jumps_back_makes_no_lock() {
        let mut account = AccountBackoff::default();
        while account.admit(NOW).is_ok() {}
        let earlier = NOW - 30 * 86_400_000;
        assert_eq!(account.admit(earlier), Err(ACCOUNT_DELAY_MS_MAX));
        assert_eq!(account.admit(earlier + ACCOUNT_DELAY_MS_MAX), Ok(()));
    }

    proptest! {
        #[test]
        fn a_patient_guesser_gains_nothing(
            pauses in prop::collection::vec(prop_oneof![0i64..5_000, 0i64..2_000_000], 1..400),
        ) {
            let (mut account, mut now) = (AccountBackoff::default(), NOW);
            let mut admitted: Vec<UnixMs> = Vec::new();
            for pause in pauses {
                now += pause;
                match account.admit(now) {
                    Ok(()) => admitted.push(now),
                    Err(wait) => {
                        prop_assert!((1..=ACCOUNT_DELAY_MS_MAX).contains(&wait));
                        prop_assert!(account.admit(now + wait - 1).is_err());
                        prop_assert!(account.clone().admit(now + wait).is_ok());
                    }
                }
                for (i, since) in admitted.iter().enumerate() {
                    let count = i64::try_from(admitted.len() - i).unwrap();
                    prop_assert!(count <= FAILURES_MAX + (now - since) / ACCOUNT_FORGET_MS + 1);
                }
            }
        }

        #[test]
        fn no_clock_overflows(times in prop::collection::vec(any::<i64>(), 1..50)) {
            let mut account = AccountBackoff::default();
            for now in times {
                let _ = account.admit(now);
                account.cancelled(now);
                let _ = account.admit(now);
                let _ = account.forgotten_at();
            }
        }
    }
}
