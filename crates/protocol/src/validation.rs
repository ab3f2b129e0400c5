//! Validating an e-mail address or a phone number: the rules of `requestToken` and of the code that
//! its message carries (Client-Server API, "Adding Account Administrative Contact Information";
//! Identity Service API, "Establishing associations").
//!
//! A code is not stored. It is derived from a key that only key files hold, the validation and the
//! number of the message, so that what waits in the outbox, and the database, can validate nothing.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

use crate::UnixMs;
use crate::ids::ValidationId;
use crate::limits::CODE_FAILURES_MAX;
use crate::token::TagKeys;

/// What an address is validated for; the proof counts for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    Register,
    AccountPassword,
    AccountThreepid,
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::Register, Self::AccountPassword, Self::AccountThreepid];

    /// The name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::AccountPassword => "account_password",
            Self::AccountThreepid => "account_3pid",
        }
    }

    /// Reads the name that is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// Kinds of third-party identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Medium {
    Email,
    Msisdn,
}

impl Medium {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Msisdn => "msisdn",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Email, Self::Msisdn].into_iter().find(|medium| medium.as_str() == text)
    }
}

/// The code of one message: 32 characters behind a link, eight digits in a text message. It cannot
/// be printed by accident.
#[derive(ZeroizeOnDrop)]
pub struct Code(String);

impl Code {
    /// The code of the message with this number (from 1) of a validation.
    #[must_use]
    pub fn derive(keys: &TagKeys, id: ValidationId, message: u32, medium: Medium) -> Self {
        Self(code_of(&keys.derive(label(&id, message).as_slice()), medium))
    }

    /// The text, for the one message it is made for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a person presents the code of that message. In constant time; during a change of
    /// keys that of the previous key counts too.
    #[must_use]
    pub fn is(keys: &TagKeys, id: ValidationId, message: u32, medium: Medium, presented: &str) -> bool {
        keys.derive_all(label(&id, message).as_slice()).any(|derived| {
            bool::from(code_of(&derived, medium).as_bytes().ct_eq(presented.trim().as_bytes()))
        })
    }
}

fn label(id: &ValidationId, message: u32) -> Vec<u8> {
    [b"validation".as_slice(), &id.0, &message.to_be_bytes()].concat()
}

fn code_of(derived: &[u8; 32], medium: Medium) -> String {
    match medium {
        Medium::Email => BASE64URL_NOPAD.encode(&derived[..24]),
        Medium::Msisdn => {
            let mut number = [0; 8];
            number.copy_from_slice(&derived[..8]);
            format!("{:08}", u64::from_be_bytes(number) % 100_000_000)
        }
    }
}

/// A validation as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    pub id: ValidationId,
    /// SHA-256 of the client's secret.
    pub secret_hash: [u8; 32],
    pub purpose: Purpose,
    pub medium: Medium,
    pub address: String,
    pub send_attempt: i64,
    /// Messages so far.
    pub sent: u32,
    /// Wrong codes since the last message.
    pub failures: u32,
    pub next_link: Option<String>,
    pub expires_at: UnixMs,
    pub validated_at: Option<UnixMs>,
}

/// What a presented code leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// Record it.
    Validated,
    /// It was recorded before.
    Already,
    /// Count it.
    Wrong,
    /// Too old, or guessed at too often: the person asks for a new message.
    Expired,
}

impl Validation {
    /// Whether a request for a message sends one: only a higher `send_attempt` does.
    #[must_use]
    pub const fn sends(&self, send_attempt: i64) -> bool {
        send_attempt > self.send_attempt
    }

    /// Judges a code.
    #[must_use]
    pub fn submit(&self, keys: &TagKeys, presented: &str, now: UnixMs) -> Submitted {
        if now >= self.expires_at || self.failures >= CODE_FAILURES_MAX {
            return Submitted::Expired;
        }
        if !Code::is(keys, self.id, self.sent, self.medium, presented) {
            return Submitted::Wrong;
        }
        if self.validated_at.is_some() { Submitted::Already } else { Submitted::Validated }
    }

    /// Whether it proves, to who holds the secret, that the address is theirs.
    #[must_use]
    pub fn proves(&self, purpose: Purpose, medium: Medium, secret: &str, now: UnixMs) -> bool {
        self.validated_at.is_some()
            && now < self.expires_at
            && self.purpose == purpose
            && self.medium == medium
            && self.is_of(secret)
    }

    /// Whether this is the client that asked for it.
    #[must_use]
    pub fn is_of(&self, secret: &str) -> bool {
        secret_hash(secret).ct_eq(&self.secret_hash).into()
    }
}

/// What is stored of a `client_secret`.
#[must_use]
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether a text has the grammar of a `client_secret` or a `sid`: `[0-9a-zA-Z.=_-]{1,255}`.
#[must_use]
pub fn is_opaque(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".=_-".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(legal)
}

/// The canonical form of an e-mail address: case folded (MSC2265), its domain in ASCII letters
/// untouched otherwise. `None` for what no mail can be sent to: this checks the shape only, since
/// the message itself is the proof.
#[must_use]
pub fn canonical_email(text: &str) -> Option<String> {
    const BYTES_MAX: usize = 254; // RFC 5321, 4.5.3.1.3, less the angle brackets
    const LOCAL_BYTES_MAX: usize = 64;
    let text = text.trim();
    let (local, domain) = text.rsplit_once('@')?;
    let local_is_sound = !local.is_empty()
        && local.len() <= LOCAL_BYTES_MAX
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    let label_is_sound = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let domain_is_sound = domain.split('.').all(label_is_sound);
    (text.len() <= BYTES_MAX && local_is_sound && domain_is_sound).then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ValidationId = ValidationId([3; 16]);

    fn keys() -> TagKeys {
        TagKeys::new(&[1; 32], None)
    }

    fn validation() -> Validation {
        Validation {
            id: ID,
            secret_hash: secret_hash("s3cret"),
            purpose: Purpose::Register,
            medium: Medium::Email,
            address: "alice@example.org".to_owned(),
            send_attempt: 1,
            sent: 1,
            failures: 0,
            next_link: None,
            expires_at: 100,
            validated_at: None,
        }
    }

    #[test]
    fn a_code_is_of_one_validation_one_message_and_one_key() {
        let code = Code::derive(&keys(), ID, 1, Medium::Email);
        assert_eq!(code.expose().len(), 32);
        let is = |keys: &TagKeys, id, message| Code::is(keys, id, message, Medium::Email, code.expose());
        assert!(is(&keys(), ID, 1));
        assert!(!is(&keys(), ID, 2));
        assert!(!is(&keys(), ValidationId([4; 16]), 1));
        assert!(!is(&TagKeys::new(&[2; 32], None), ID, 1));
        assert!(is(&TagKeys::new(&[2; 32], Some(&[1; 32])), ID, 1), "during a change of keys");
    }

    #[test]
    fn a_text_message_has_eight_digits() {
        for id in 0..50 {
            let code = Code::derive(&keys(), ValidationId([id; 16]), 1, Medium::Msisdn);
            assert!(code.expose().len() == 8 && code.expose().bytes().all(|b| b.is_ascii_digit()));
        }
    }

    #[test]
    fn the_table_of_submissions() {
        let right = Code::derive(&keys(), ID, 1, Medium::Email);
        let of = |validation: &Validation, code: &str, now| validation.submit(&keys(), code, now);
        assert_eq!(of(&validation(), right.expose(), 99), Submitted::Validated);
        assert_eq!(of(&validation(), "wrong", 99), Submitted::Wrong);
        assert_eq!(of(&validation(), right.expose(), 100), Submitted::Expired);
        let done = Validation { validated_at: Some(5), ..validation() };
        assert_eq!(of(&done, right.expose(), 99), Submitted::Already);
        let guessed_at = Validation { failures: CODE_FAILURES_MAX, ..validation() };
        assert_eq!(of(&guessed_at, right.expose(), 99), Submitted::Expired);
        let sent_again = Validation { sent: 2, ..validation() };
        assert_eq!(of(&sent_again, right.expose(), 99), Submitted::Wrong);
    }

    #[test]
    fn a_validation_proves_one_thing_to_one_client() {
        let done = Validation { validated_at: Some(5), ..validation() };
        assert!(done.proves(Purpose::Register, Medium::Email, "s3cret", 99));
        assert!(!done.proves(Purpose::AccountPassword, Medium::Email, "s3cret", 99));
        assert!(!done.proves(Purpose::Register, Medium::Msisdn, "s3cret", 99));
        assert!(!done.proves(Purpose::Register, Medium::Email, "other", 99));
        assert!(!done.proves(Purpose::Register, Medium::Email, "s3cret", 100));
        assert!(!validation().proves(Purpose::Register, Medium::Email, "s3cret", 99));
    }

    #[test]
    fn only_a_higher_attempt_sends() {
        assert!(!validation().sends(1) && !validation().sends(0) && validation().sends(2));
    }

    #[test]
    fn e_mail_addresses_have_one_form() {
        let form = |text| canonical_email(text);
        assert_eq!(form(" Alice.B@Example.ORG "), Some("alice.b@example.org".to_owned()));
        assert_eq!(form("ÄRGER@example.org"), Some("ärger@example.org".to_owned()));
        assert_eq!(form("alice@localhost"), Some("alice@localhost".to_owned()));
        for wrong in [
            "",
            "alice",
            "@example.org",
            "alice@",
            "a b@example.org",
            "a@b@c..d",
            "a@-b.org",
            ".a@b.org",
            "a\r\nb@c.org",
        ] {
            assert_eq!(form(wrong), None, "{wrong:?}");
        }
        assert_eq!(form(&format!("{}@example.org", "a".repeat(65))), None);
    }

    #[test]
    fn secrets_have_a_grammar() {
        assert!(is_opaque("aZ0.=_-"));
        assert!(!is_opaque("") && !is_opaque("a b") && !is_opaque(&"a".repeat(256)));
    }
}
