//! Passwords before they are hashed: one spelling, a length, and no well-known ones.
//!
//! **Spelling.** A password is normalised to Unicode NFKC exactly once, when it arrives, both when
//! it is set and when it is checked, so that "é" typed as one code point on a phone and as two on
//! a desktop is the same password. NFKC is also what Synapse hashes, so hashes taken over from it
//! keep working. Nothing is trimmed or case-folded, and unassigned code points pass unchanged.
//!
//! **Policy.** Length is counted in characters (code points) after normalising. Composition rules
//! ("one digit, one capital") do not exist here; NIST SP 800-63B asks for a length and a
//! block-list instead. Policy holds for new passwords only: what is already set must keep working.
//! Hashing and its waiting line belong to the server.

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::limits::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};

/// Characters that may follow a common password, or surround a name, without making it a good one.
const DECORATION_CHARS_MAX: usize = 4;
/// Longest unit whose mere repetition is refused: "aaaaaaaa", "abababab", "abcdabcd".
const REPEATED_UNIT_CHARS_MAX: usize = 4;

const COMMON: &str = include_str!("common_passwords.txt");
/// Rows that fingers and children run along, in either direction and around the end.
const ROWS: [&str; 13] = [
    "0123456789",
    "1234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiop",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiop",
    "azertyuiopqsdfghjklmwxcvbn",
    "йцукенгшщзхъфывапролджэячсмитьбю",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// A password in NFKC. It has no `Debug` and no `Display`, and its memory is wiped when dropped.
pub struct NormalisedPassword(Zeroizing<String>);

/// The text is longer than any password can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordTooLong;

/// Whose password it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub localpart: &'a str,
    pub server_name: &'a str,
}

/// Why a new password is refused (400 `M_WEAK_PASSWORD`); `Display` is the public sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeakPassword {
    TooShort,
    TooLong,
    /// On the list of common passwords, or a plain run or repetition.
    Common,
    /// The user name, the server name or the user ID, with little added.
    ResemblesName,
}

impl fmt::Display for WeakPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => {
                write!(f, "This password is too short: use at least {PASSWORD_CHARS_MIN} characters.")
            }
            Self::TooLong => {
                write!(f, "This password is too long: use at most {PASSWORD_CHARS_MAX} characters.")
            }
            Self::Common => f.write_str("This password is easy to guess: choose a less common one."),
            Self::ResemblesName => {
                f.write_str("This password is too close to the name of the account or of the server.")
            }
        }
    }
}

impl std::error::Error for WeakPassword {}

impl NormalisedPassword {
    /// Normalises a password that is to be checked against a hash. No policy: a short or common
    /// password that is set already still signs in.
    ///
    /// The copy made here is wiped when dropped. The caller's text, and the few characters that
    /// normalising holds at a time, are not this type's to wipe.
    ///
    /// # Errors
    /// When no password can be so long; to a client that is a wrong password like any other.
    pub fn presented(text: &str) -> Result<Self, PasswordTooLong> {
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordTooLong);
        }
        // Full capacity at once: growing would leave copies behind.
        let mut normal = Zeroizing::new(String::with_capacity(PASSWORD_CHARS_MAX * char::MAX.len_utf8()));
        for (count, character) in text.nfkc().enumerate() {
            if count == PASSWORD_CHARS_MAX {
                return Err(PasswordTooLong);
            }
            normal.push(character);
        }
        Ok(Self(normal))
    }

    /// Normalises a new password and holds it against the policy.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn chosen(text: &str, owner: Owner<'_>) -> Result<Self, WeakPassword> {
        let password = Self::presented(text).map_err(|PasswordTooLong| WeakPassword::TooLong)?;
        // As typed too: one character can become eighteen under NFKC and is one keystroke all the same.
        if text.chars().count() < PASSWORD_CHARS_MIN {
            return Err(WeakPassword::TooShort);
        }
        password.judge(owner)?;
        Ok(password)
    }

    /// The bytes to hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn judge(&self, owner: Owner<'_>) -> Result<(), WeakPassword> {
        if self.0.chars().count() < PASSWORD_CHARS_MIN {
            return Err(WeakPassword::TooShort);
        }
        let folded = Zeroizing::new(self.0.to_lowercase());
        if resembles_name(&folded, owner) {
            return Err(WeakPassword::ResemblesName);
        }
        if is_common(&folded) || is_repetition(&folded) || is_run(&folded) {
            return Err(WeakPassword::Common);
        }
        Ok(())
    }
}

/// Whether the password is a name of the account with at most four characters around it.
fn resembles_name(folded: &str, owner: Owner<'_>) -> bool {
    let user_id = format!("@{}:{}", owner.localpart, owner.server_name);
    let chars = folded.chars().count();
    [owner.localpart, owner.server_name, &user_id].into_iter().any(|name| {
        let name = name.to_lowercase();
        folded.contains(&name) && chars - name.chars().count() <= DECORATION_CHARS_MAX
    })
}

/// Whether the password is on the list, as it is or without up to four digits or marks at its end.
fn is_common(folded: &str) -> bool {
    let mut stems = [""; DECORATION_CHARS_MAX + 1];
    let mut stem = folded;
    for slot in &mut stems {
        *slot = stem;
        match stem.char_indices().next_back() {
            Some((cut, last)) if !last.is_alphabetic() => stem = &stem[..cut],
            _ => break,
        }
    }
    common_passwords().any(|common| stems.contains(&common))
}

/// The lines of the list. Some hundred microseconds to walk through, beside a hash that takes
/// a hundred times as long.
fn common_passwords() -> impl Iterator<Item = &'static str> {
    COMMON.lines().filter(|line| !line.starts_with('#'))
}

/// Whether the password is a unit of at most four characters, over and over.
fn is_repetition(folded: &str) -> bool {
    let chars = Zeroizing::new(folded.chars().collect::<Vec<char>>());
    (1..=REPEATED_UNIT_CHARS_MAX).any(|unit| {
        chars.len() >= 2 * unit && chars.iter().skip(unit).eq(chars.iter().take(chars.len() - unit))
    })
}

/// Whether the password runs along one row, forwards or backwards, around the end if need be.
fn is_run(folded: &str) -> bool {
    ROWS.into_iter().any(|row| follows(row.chars(), folded) || follows(row.chars().rev(), folded))
}

/// Whether the text follows the row from where its first character stands. No row has one twice.
fn follows(row: impl Iterator<Item = char> + Clone, text: &str) -> bool {
    let first = text.chars().next();
    let start = row.clone().position(|character| Some(character) == first);
    start.is_some_and(|start| row.cycle().skip(start).zip(text.chars()).all(|(a, b)| a == b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWNER: Owner<'static> = Owner { localpart: "monkey", server_name: "example.org" };

    fn verdict(text: &str) -> Option<WeakPassword> {
        NormalisedPassword::chosen(text, OWNER).err()
    }

    #[test]
    fn length_is_counted_in_characters_after_normalising() {
        assert_eq!(verdict("zK4!pq_"), Some(WeakPassword::TooShort));
        assert_eq!(verdict("zK4!pq_7"), None);
        assert_eq!(verdict("żółwik₂ß"), None);
        // Seven characters, though fourteen code points arrive.
        assert_eq!(
            verdict("a\u{301}e\u{301}i\u{301}o\u{301}u\u{301}y\u{301}n\u{301}"),
            Some(WeakPassword::TooShort)
        );
        let longest = "kq7 ".repeat(127) + "xyz!";
        assert_eq!(longest.chars().count(), PASSWORD_CHARS_MAX);
        assert_eq!(verdict(&longest), None);
        assert_eq!(verdict(&(longest + "!")), Some(WeakPassword::TooLong));
        assert_eq!(verdict(&"é".repeat(PASSWORD_BYTES_MAX / 2 + 1)), Some(WeakPassword::TooLong));
    }

    #[test]
    fn every_accepted_password_may_arrive_decomposed() {
        // Three code points of two bytes each for one of two; Gurung Khema takes the most, twelve.
        for composed in ["\u{390}", "\u{1f82}", "각", "\u{16128}"] {
            let text = composed.repeat(PASSWORD_CHARS_MAX);
            let apart: String = text.nfkd().collect();
            let password = NormalisedPassword::presented(&apart).expect("fits");
            assert_eq!(password.as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn one_password_however_it_is_typed() {
        let [composed, apart, wide] = ["Café12 ﬁn", "Cafe\u{301}12 ﬁn", "Ｃａｆé１２ fin"]
            .map(|text| NormalisedPassword::presented(text).expect("fits").as_bytes().to_vec());
        assert_eq!(composed, apart);
        assert_eq!(composed, wide);
        assert_eq!(composed, "Café12 fin".as_bytes());
    }

    #[test]
    fn what_is_set_already_is_not_judged() {
        for text in ["", "a", "password", " lead and trail "] {
            assert_eq!(NormalisedPassword::presented(text).expect("fits").as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn common_passwords_and_their_families_are_refused() {
        for text in [
            "password",
            "PassWord",
            "password1",
            "Password2024",
            "password!!",
            "iloveyou",
            "Trustno1",
            "ｐａｓｓｗｏｒｄ",
            "aaaaaaaa",
            "1212121212",
            "abcabcabc",
            "wxyzwxyz",
            "12345678",
            "87654321",
            "90123456",
            "abcdefghij",
            "zyxwvuts",
            "qwertyui",
            "poiuytrewq",
            "hjklasdf",
            "QWERTZUIOP",
            "йцукенгш",
            "1q2w3e4r",
            "changeme",
            "matrix123",
            "homeserver",
            "correcthorsebatterystaple",
            "контроль!!!!????",
        ] {
            let expected = (text != "контроль!!!!????").then_some(WeakPassword::Common);
            assert_eq!(verdict(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_refused_with_little_around_them() {
        for text in
            ["monkey12", "Monkey2024", "12monkey34", "example.org", "@monkey:example.org", "EXAMPLE.ORG!"]
        {
            assert_eq!(verdict(text), Some(WeakPassword::ResemblesName), "{text}");
        }
        assert_eq!(verdict("monkey eats five ripe pears"), None);
        let short = Owner { localpart: "a", server_name: "x" };
        assert!(NormalisedPassword::chosen("kaT9!mxq", short).is_ok());
    }

    #[test]
    fn good_passwords_pass() {
        for text in [
            "Tr0ub4dor&3",
            "seven small otters",
            "8c5f0be2d1",
            "パスワードではない合言葉",
            "        z       9",
        ] {
            assert_eq!(verdict(text), None, "{text}");
        }
    }

    #[test]
    fn the_list_is_sorted_folded_and_has_no_line_that_another_rule_covers() {
        let lines: Vec<&str> = common_passwords().collect();
        assert!(lines.len() > 10_000);
        assert!(lines.is_sorted_by(|a, b| a < b));
        for line in lines {
            assert!(line.chars().count() >= PASSWORD_CHARS_MIN, "{line}");
            assert_eq!(line, line.nfkc().collect::<String>().to_lowercase());
            assert!(!is_repetition(line) && !is_run(line), "{line}");
        }
    }

    #[test]
    fn a_sentence_names_the_cause() {
        assert!(WeakPassword::TooShort.to_string().contains("at least 8 characters"));
        assert!(WeakPassword::TooLong.to_string().contains("at most 512 characters"));
    }

    proptest! {
        #[test]
        fn normalising_is_idempotent_and_bounded(text in ".{0,600}") {
            if let Ok(once) = NormalisedPassword::presented(&text) {
                let again = NormalisedPassword::presented(std::str::from_utf8(once.as_bytes()).unwrap());
                prop_assert!(once.as_bytes().len() <= PASSWORD_CHARS_MAX * 4);
                prop_assert!(again.expect("fits").as_bytes() == once.as_bytes());
            }
        }

        #[test]
        fn judging_never_panics(text in "\\PC{0,40}", localpart in "[a-z0-9._=/+-]{0,20}", server_name in "[a-z.:0-9]{0,20}") {
            let _ = NormalisedPassword::chosen(&text, Owner { localpart: &localpart, server_name: &server_name });
        }

        #[test]
        fn a_random_password_is_accepted(text in "[a-zA-Z0-9]{16,64}") {
            prop_assert!(NormalisedPassword::chosen(&text, OWNER).is_ok());
        }
    }
}
