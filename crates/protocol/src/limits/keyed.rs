//! One limiter state per key, in bounded memory.
//!
//! A state that has faded is the same as none, so it is dropped whenever room is needed. If a
//! flood of keys fills the table with live states, those nearest to fading go first: who fills
//! the table with fresh addresses pushes out other fresh addresses, never a worn-out one.
//! A sorted map, not a hash map: keys are chosen by strangers, and its order is never random.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::AccountBackoff;
use super::rate::{LeakyBucket, RateLimit, RetryAfterMs};
use crate::UnixMs;

/// A limiter state that time turns back into the default.
pub trait Fading: Default {
    /// From this time on the state equals the default.
    fn faded_at(&self) -> UnixMs;
}

impl Fading for LeakyBucket {
    fn faded_at(&self) -> UnixMs {
        self.empty_at()
    }
}

impl Fading for AccountBackoff {
    fn faded_at(&self) -> UnixMs {
        self.forgotten_at()
    }
}

/// States by key, never more than the capacity.
#[derive(Debug)]
pub struct Keyed<K, S> {
    states: BTreeMap<K, S>,
    keys_max: usize,
}

/// Buckets by key.
pub type KeyedLimiter<K> = Keyed<K, LeakyBucket>;
/// Account delays by key. Key by what was typed, whether the account exists or not, or the delay
/// tells which accounts exist.
pub type KeyedBackoff<K> = Keyed<K, AccountBackoff>;

impl<K: Ord, S: Fading> Keyed<K, S> {
    /// An empty table for at most `keys_max` keys (at least 1).
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self { states: BTreeMap::new(), keys_max: keys_max.max(1) }
    }

    /// The state of a key, made if it is not there. Room is made when the table is full: one pass
    /// that frees at least an eighth, so an insertion costs a constant on average.
    pub fn state(&mut self, key: K, now: UnixMs) -> &mut S {
        if self.states.len() >= self.keys_max && !self.states.contains_key(&key) {
            self.make_room(now);
        }
        self.states.entry(key).or_default()
    }

    /// The state of a key if there is one.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&S> {
        self.states.get(key)
    }

    /// The state of a key if there is one, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut S> {
        self.states.get_mut(key)
    }

    /// Drops a key.
    pub fn remove(&mut self, key: &K) {
        self.states.remove(key);
    }

    /// Drops every state that has faded; upkeep may call it, correctness does not need it.
    pub fn drop_faded(&mut self, now: UnixMs) {
        self.states.retain(|_, state| state.faded_at() > now);
    }

    /// Keys remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn make_room(&mut self, now: UnixMs) {
        self.drop_faded(now);
        let keep = self.keys_max - self.keys_max.div_ceil(8);
        let mut excess = self.states.len().saturating_sub(keep);
        if excess == 0 {
            return;
        }
        let mut times: Vec<UnixMs> = self.states.values().map(Fading::faded_at).collect();
        let threshold = *times.select_nth_unstable(excess - 1).1;
        // Below the threshold all go; at it, as many as are still too many.
        let mut at_threshold = excess - times.iter().filter(|time| **time < threshold).count();
        self.states.retain(|_, state| {
            let time = state.faded_at();
            let drop = time < threshold || (time == threshold && at_threshold > 0);
            if drop {
                excess -= 1;
                at_threshold -= usize::from(time == threshold);
            }
            !drop
        });
        debug_assert_eq!(excess, 0);
    }
}

impl<K: Ord> KeyedLimiter<K> {
    /// [`LeakyBucket::take`] for a key.
    ///
    /// # Errors
    /// As [`LeakyBucket::take`].
    pub fn take(&mut self, key: K, limit: RateLimit, now: UnixMs) -> Result<(), RetryAfterMs> {
        self.state(key, now).take(limit, now)
    }

    /// [`LeakyBucket::peek`] for a key; remembers nothing.
    ///
    /// # Errors
    /// As [`LeakyBucket::take`].
    pub fn peek(&self, key: &K, limit: RateLimit, now: UnixMs) -> Result<(), RetryAfterMs> {
        self.get(key).copied().unwrap_or_default().peek(limit, now)
    }
}

impl<K: Ord> KeyedBackoff<K> {
    /// [`AccountBackoff::admit`] for a key.
    ///
    /// # Errors
    /// As [`AccountBackoff::admit`].
    pub fn admit(&mut self, key: K, now: UnixMs) -> Result<(), RetryAfterMs> {
        self.state(key, now).admit(now)
    }

    /// [`AccountBackoff::succeeded`] for a key.
    pub fn succeeded(&mut self, key: &K) {
        self.remove(key);
    }

    /// [`AccountBackoff::cancelled`] for a key.
    pub fn cancelled(&mut self, key: &K, now: UnixMs) {
        if let Some(state) = self.get_mut(key) {
            state.cancelled(now);
        }
    }
}

/// What an address counts as: an IPv4 address whole, an IPv6 address by its first 64 bits, since
/// a household or a rented machine has at least that many to itself. IPv4 written as IPv6
/// (`::ffff:192.0.2.1`) counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKey {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> AddressKey {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_fold() {
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("::"), key("0.0.0.0"));
    }

    #[test]
    fn a_flood_of_addresses_does_not_free_a_worn_out_one() {
        let limit = RateLimit::one_in_ms(6_000, 10);
        let mut limiter = KeyedLimiter::new(64);
        while limiter.take(0, limit, 0).is_ok() {}
        for address in 1..10_000 {
            assert_eq!(limiter.take(address, limit, 1), Ok(()));
            assert!(limiter.len() <= 64);
        }
        assert!(limiter.take(0, limit, 1).is_err());
    }

    #[test]
    fn faded_states_make_room_before_live_ones() {
        let limit = RateLimit::one_in_ms(1_000, 4);
        let mut limiter = KeyedLimiter::new(8);
        for address in 0..7 {
            limiter.take(address, limit, 0).unwrap();
        }
        limiter.take(100, limit, 999).unwrap();
        limiter.take(101, limit, 1_000).unwrap();
        assert_eq!(limiter.len(), 2);
        assert!(limiter.get(&100).is_some());
        limiter.drop_faded(2_000);
        assert!(limiter.is_empty());
    }

    #[test]
    fn accounts_are_kept_apart() {
        let mut accounts = KeyedBackoff::new(8);
        while accounts.admit("victim", 0).is_ok() {}
        assert_eq!(accounts.admit("other", 0), Ok(()));
        accounts.cancelled(&"other", 0);
        accounts.succeeded(&"victim");
        assert_eq!(accounts.admit("victim", 0), Ok(()));
    }

    proptest! {
        #[test]
        fn bounded_and_never_kinder_than_alone(
            keys_max in 1usize..20,
            calls in prop::collection::vec((0u8..40, 0i64..500), 1..400),
        ) {
            // As long as no live state is pushed out, a key fares as if it were alone.
            let limit = RateLimit::one_in_ms(700, 3);
            let (mut limiter, mut now) = (KeyedLimiter::new(keys_max), 0i64);
            let mut alone: BTreeMap<u8, LeakyBucket> = BTreeMap::new();
            let mut pushed_out = false;
            for (key, step) in calls {
                now += step;
                let live = alone.values().filter(|bucket| bucket.empty_at() > now).count();
                pushed_out |= live >= keys_max - keys_max.div_ceil(8);
                let together = limiter.take(key, limit, now);
                let single = alone.entry(key).or_default().take(limit, now);
                prop_assert!(limiter.len() <= keys_max);
                if !pushed_out {
                    prop_assert_eq!(together, single);
                }
            }
        }
    }
}
