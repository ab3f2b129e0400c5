//! Registration tokens: what they look like, and when one lets somebody in.

use sha2::{Digest, Sha256};

use crate::{NEVER, UnixMs};

/// Longest registration token (specification, "Token-authenticated registration").
const REGISTRATION_TOKEN_CHARS_MAX: usize = 64;

/// A registration token as a person holds it; only its hash is stored. No `Debug`, no `Display`.
pub struct RegistrationToken(String);

impl RegistrationToken {
    /// Reads a token: 1 to 64 characters of `A-Za-z0-9._~-`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let fits = (1..=REGISTRATION_TOKEN_CHARS_MAX).contains(&text.len());
        (fits && text.bytes().all(legal)).then(|| Self(text.to_owned()))
    }

    /// A new token of 128 random bits: 26 small letters and digits, easy to read out and safe as
    /// an argument.
    #[must_use]
    pub fn generate(random: [u8; 16]) -> Self {
        let text = data_encoding::BASE32_NOPAD.encode(&random);
        Self(text.to_ascii_lowercase())
    }

    /// The text, to show once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored and looked up: SHA-256 of the text. Tokens that an operator makes up are
    /// only as safe against a stolen database as they are hard to guess.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// What is known of a registration token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationTokenState {
    /// Registrations that it may let in altogether; `i64::MAX` for no limit.
    pub uses_max: i64,
    /// Registrations that were completed with it.
    pub uses: i64,
    /// No longer good from this time on; [`NEVER`] for no end.
    pub expires_at: UnixMs,
    /// Taken back by the operator.
    pub revoked: bool,
}

/// Why a registration token lets nobody in. For the command line and the log: clients are told
/// the same as for an unknown token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUnusable {
    Revoked,
    Expired,
    UsedUp,
}

impl RegistrationTokenState {
    /// A token without any limit, not used yet.
    pub const UNLIMITED: Self = Self { uses_max: i64::MAX, uses: 0, expires_at: NEVER, revoked: false };

    /// Whether it lets one more registration in. A use is counted when a registration completes,
    /// by an update guarded with this same rule, not when the stage is passed: a person who gives
    /// up half-way wastes none, and two who finish at once cannot share the last.
    ///
    /// # Errors
    /// Why not.
    pub const fn usable(&self, now: UnixMs) -> Result<(), TokenUnusable> {
        if self.revoked {
            Err(TokenUnusable::Revoked)
        } else if self.expires_at != NEVER && self.expires_at <= now {
            Err(TokenUnusable::Expired)
        } else if self.uses >= self.uses_max {
            Err(TokenUnusable::UsedUp)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_follows_the_grammar() {
        for text in ["a", "fBVFdqVE", "A-z_0.9~", &"x".repeat(64)] {
            assert!(RegistrationToken::parse(text).is_some(), "{text}");
        }
        for text in ["", " a", "a b", "é", "a/b", "a\n", &"x".repeat(65)] {
            assert!(RegistrationToken::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_token_is_good_until_it_is_not() {
        let token = RegistrationTokenState { uses_max: 2, uses: 1, expires_at: 1_000, revoked: false };
        for (state, now, expected) in [
            (token, 999, Ok(())),
            (token, 1_000, Err(TokenUnusable::Expired)),
            (RegistrationTokenState { uses: 2, ..token }, 0, Err(TokenUnusable::UsedUp)),
            (RegistrationTokenState { uses: 3, ..token }, 0, Err(TokenUnusable::UsedUp)),
            (RegistrationTokenState { uses_max: 0, uses: 0, ..token }, 0, Err(TokenUnusable::UsedUp)),
            (RegistrationTokenState { revoked: true, ..token }, 0, Err(TokenUnusable::Revoked)),
            (RegistrationTokenState::UNLIMITED, i64::MAX, Ok(())),
        ] {
            assert_eq!(state.usable(now), expected, "{state:?} at {now}");
        }
    }

    proptest! {
        #[test]
        fn generated_tokens_are_tokens(random in any::<[u8; 16]>(), other in any::<[u8; 16]>()) {
            let token = RegistrationToken::generate(random);
            let read = RegistrationToken::parse(token.expose()).expect("a generated token is a token");
            prop_assert_eq!(token.expose().len(), 26);
            prop_assert_eq!(token.hash(), read.hash());
            prop_assert_eq!(token.hash() == RegistrationToken::generate(other).hash(), random == other);
        }
    }
}
