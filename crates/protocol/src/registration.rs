//! Registration: which user names a person may choose, who may register, and (in a file of their
//! own) the tokens that let them.
//!
//! What may exist at all is `ids::Localpart`; this is the narrower rule for names that are asked
//! for. Whether a name is taken, or belongs to an application service, only the database can say.

mod token;

use std::fmt;

pub use token::{RegistrationToken, RegistrationTokenState, TokenUnusable};

use crate::ids::{IdError, Localpart};
use crate::uia::{Flows, Stage};

/// Digits of a generated localpart: a draw meets one of a million users once in ten billion.
const GENERATED_DIGITS: usize = 16;

/// Names that strangers would take for the server's voice, or that mail standards (RFC 2142) give
/// to its operator. Compared without `.`, `_`, `-`, `=`, `/` and `+`.
const RESERVED: [&str; 42] = [
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "admins",
    "billing",
    "bot",
    "contact",
    "daemon",
    "everyone",
    "guest",
    "help",
    "helpdesk",
    "homeserver",
    "hostmaster",
    "info",
    "ligand",
    "localhost",
    "mailerdaemon",
    "matrix",
    "moderator",
    "moderators",
    "nobody",
    "noc",
    "noreply",
    "notices",
    "null",
    "official",
    "operator",
    "owner",
    "postmaster",
    "room",
    "root",
    "security",
    "server",
    "serveradmin",
    "servernotices",
    "staff",
    "support",
    "system",
    "webmaster",
];

/// Why a wanted user name is refused; `Display` is the public sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRefused {
    Empty,
    /// The whole user ID would exceed 255 bytes.
    TooLong,
    /// Outside `a-z0-9._=/+-`, capitals apart; a full user ID too.
    IllegalCharacter,
    /// Digits alone are what the server generates.
    OnlyDigits,
    /// A leading `_`, by custom the mark of application services.
    LeadingUnderscore,
    /// A name that only the operator may give.
    Reserved,
}

impl NameRefused {
    /// The `errcode` of the 400 answer.
    #[must_use]
    pub const fn errcode(self) -> &'static str {
        match self {
            Self::LeadingUnderscore => "M_EXCLUSIVE",
            _ => "M_INVALID_USERNAME",
        }
    }
}

impl fmt::Display for NameRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "A user name must not be empty.",
            Self::TooLong => "This user name is too long.",
            Self::IllegalCharacter => {
                "A user name may only hold the letters a to z, digits and the marks . _ = / + -"
            }
            Self::OnlyDigits => "A user name must not consist of digits only.",
            Self::LeadingUnderscore => "User names that begin with _ are kept for application services.",
            Self::Reserved => "This user name is reserved.",
        })
    }
}

impl std::error::Error for NameRefused {}

impl From<IdError> for NameRefused {
    fn from(error: IdError) -> Self {
        match error {
            IdError::Empty => Self::Empty,
            IdError::TooLong => Self::TooLong,
            IdError::IllegalCharacter | IdError::NotLocal => Self::IllegalCharacter,
        }
    }
}

/// Judges the `username` of a registration. ASCII capitals become small letters, since people
/// type their names so; every other character outside the grammar is refused, not mapped, since
/// a person must know what they are called.
///
/// # Errors
/// The first rule the name breaks.
pub fn requested_name(
    text: &str,
    server_name: &str,
    allow_leading_underscore: bool,
) -> Result<Localpart, NameRefused> {
    let localpart = operator_name(text, server_name)?;
    let name = localpart.as_str();
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameRefused::OnlyDigits);
    }
    if name.starts_with('_') && !allow_leading_underscore {
        return Err(NameRefused::LeadingUnderscore);
    }
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if bare.is_empty() || RESERVED.contains(&bare.as_str()) {
        return Err(NameRefused::Reserved);
    }
    Ok(localpart)
}

/// Judges a name that the operator or an application service gives: the grammar and the length
/// only, capitals mapped as in [`requested_name`].
///
/// # Errors
/// [`NameRefused::Empty`], [`NameRefused::TooLong`] or [`NameRefused::IllegalCharacter`].
pub fn operator_name(text: &str, server_name: &str) -> Result<Localpart, NameRefused> {
    Ok(Localpart::parse(&text.to_ascii_lowercase(), server_name)?)
}

/// A name for a person who asked for none: sixteen digits from fresh random bytes, out of reach of
/// [`requested_name`]. Draw again if it is taken.
///
/// # Errors
/// [`NameRefused::TooLong`] when the server's name leaves no room.
pub fn generated_name(random: [u8; 8], server_name: &str) -> Result<Localpart, NameRefused> {
    let number = u64::from_be_bytes(random) % 10_u64.pow(16);
    Ok(Localpart::parse(&format!("{number:0width$}", width = GENERATED_DIGITS), server_name)?)
}

/// Who may register, `[registration] mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistrationMode {
    /// Nobody.
    #[default]
    Closed,
    /// Who holds a registration token.
    Token,
    /// Everybody.
    Open,
}

impl RegistrationMode {
    /// Every mode, for messages that list them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Token, Self::Open];

    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Token => "token",
            Self::Open => "open",
        }
    }

    /// Reads the name used in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

/// Whether a registration asks for an e-mail address, `[registration] email`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistrationEmail {
    /// It does not.
    #[default]
    Off,
    /// It offers to take one.
    Optional,
    /// It takes nobody without.
    Required,
}

impl RegistrationEmail {
    /// Every choice, for messages that list them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Optional, Self::Required];

    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }

    /// Reads the name used in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == text)
    }
}

/// What a registration is asked to show, as the operator composed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegistrationRules {
    pub mode: RegistrationMode,
    pub captcha: bool,
    pub terms: bool,
    pub email: RegistrationEmail,
}

impl RegistrationRules {
    /// The flows: `None` when nobody may register (403 `M_FORBIDDEN`).
    ///
    /// The captcha comes first, so that no program tries registration tokens or has mails sent;
    /// e-mail last, since it makes a person leave the form. Without any stage, the dummy.
    #[must_use]
    pub fn flows(self) -> Option<Flows> {
        let token = match self.mode {
            RegistrationMode::Closed => return None,
            RegistrationMode::Token => true,
            RegistrationMode::Open => false,
        };
        let wanted = [
            (self.captcha, Stage::Recaptcha),
            (token, Stage::RegistrationToken),
            (self.terms, Stage::Terms),
            (self.email == RegistrationEmail::Required, Stage::EmailIdentity),
        ];
        let mut stages: Vec<Stage> =
            wanted.into_iter().filter_map(|(wanted, stage)| wanted.then_some(stage)).collect();
        let with_email = [&stages[..], &[Stage::EmailIdentity]].concat();
        if stages.is_empty() {
            stages.push(Stage::Dummy);
        }
        let mut lists = vec![stages];
        if self.email == RegistrationEmail::Optional {
            lists.push(with_email);
        }
        Flows::new(lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Result<String, NameRefused> {
        requested_name(text, "example.org", false).map(|localpart| localpart.to_string())
    }

    #[test]
    fn capitals_are_mapped_and_the_rest_is_refused() {
        assert_eq!(name("Cheeky_Monkey").as_deref(), Ok("cheeky_monkey"));
        assert_eq!(name("a.b_c=d/e+f-9").as_deref(), Ok("a.b_c=d/e+f-9"));
        assert_eq!(name(""), Err(NameRefused::Empty));
        for text in [
            "@monkey:example.org",
            "@monkey",
            "mon key",
            "mönkey",
            "monkey\n",
            "ＭＯＮＫＥＹ",
            "\u{212a}",
            "a:b",
        ] {
            assert_eq!(name(text), Err(NameRefused::IllegalCharacter), "{text}");
        }
        let room = 255 - "@:example.org".len();
        assert!(name(&"m".repeat(room)).is_ok());
        assert_eq!(name(&"m".repeat(room + 1)), Err(NameRefused::TooLong));
    }

    #[test]
    fn some_names_are_not_for_everybody() {
        for text in ["admin", "Admin", "ad.min", "root-", "server_notices", "...", "-", "post-master"] {
            assert_eq!(name(text), Err(NameRefused::Reserved), "{text}");
            assert!(operator_name(text, "example.org").is_ok(), "{text}");
        }
        assert_eq!(name("12345"), Err(NameRefused::OnlyDigits));
        assert!(name("agent007").is_ok());
        assert!(name("badminton").is_ok());
        assert_eq!(name("_irc_monkey"), Err(NameRefused::LeadingUnderscore));
        assert!(requested_name("_irc_monkey", "example.org", true).is_ok());
        assert_eq!(requested_name("_admin", "example.org", true), Err(NameRefused::Reserved));
        assert_eq!(operator_name("@root", "example.org"), Err(NameRefused::IllegalCharacter));
    }

    #[test]
    fn every_reserved_name_is_spelled_bare_once_and_in_order() {
        assert!(RESERVED.is_sorted_by(|a, b| a < b));
        assert!(RESERVED.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())));
    }

    #[test]
    fn refusals_have_a_code_and_a_sentence() {
        assert_eq!(NameRefused::Reserved.errcode(), "M_INVALID_USERNAME");
        assert_eq!(NameRefused::LeadingUnderscore.errcode(), "M_EXCLUSIVE");
        assert_eq!(NameRefused::Reserved.to_string(), "This user name is reserved.");
    }

    #[test]
    fn modes_have_names() {
        assert_eq!(RegistrationMode::default(), RegistrationMode::Closed);
        for mode in RegistrationMode::ALL {
            assert_eq!(RegistrationMode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(RegistrationMode::parse("Open"), None);
        for choice in RegistrationEmail::ALL {
            assert_eq!(RegistrationEmail::parse(choice.as_str()), Some(choice));
        }
        assert_eq!(RegistrationEmail::parse("yes"), None);
    }

    #[test]
    fn rules_make_the_flows() {
        use Stage::{Dummy, EmailIdentity, Recaptcha, RegistrationToken, Terms};
        let open = RegistrationRules { mode: RegistrationMode::Open, ..RegistrationRules::default() };
        let token = RegistrationRules { mode: RegistrationMode::Token, ..open };
        let optional = RegistrationEmail::Optional;
        for (rules, flows) in [
            (open, vec![vec![Dummy]]),
            (token, vec![vec![RegistrationToken]]),
            (RegistrationRules { email: RegistrationEmail::Required, ..open }, vec![vec![EmailIdentity]]),
            (RegistrationRules { email: optional, ..open }, vec![vec![Dummy], vec![EmailIdentity]]),
            (
                RegistrationRules { email: optional, ..token },
                vec![vec![RegistrationToken, Dummy], vec![RegistrationToken, EmailIdentity]],
            ),
            (
                RegistrationRules { captcha: true, terms: true, email: RegistrationEmail::Required, ..token },
                vec![vec![Recaptcha, RegistrationToken, Terms, EmailIdentity]],
            ),
        ] {
            assert_eq!(rules.flows(), Flows::new(flows), "{rules:?}");
        }
    }

    #[test]
    fn only_closed_has_no_flows() {
        for mode in RegistrationMode::ALL {
            for email in RegistrationEmail::ALL {
                for (captcha, terms) in [(false, false), (false, true), (true, false), (true, true)] {
                    let rules = RegistrationRules { mode, captcha, terms, email };
                    assert_eq!(rules.flows().is_none(), mode == RegistrationMode::Closed, "{rules:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn generated_names_exist_but_cannot_be_asked_for(random in any::<[u8; 8]>()) {
            let generated = generated_name(random, "example.org").unwrap();
            prop_assert_eq!(generated.as_str().len(), GENERATED_DIGITS);
            prop_assert_eq!(name(generated.as_str()), Err(NameRefused::OnlyDigits));
        }

        #[test]
        fn an_accepted_name_is_a_fixed_point(text in "\\PC{0,30}", any_case in "[A-Za-z0-9._=/+-]{1,30}") {
            for text in [text, any_case] {
                if let Ok(accepted) = name(&text) {
                    prop_assert_eq!(&accepted, &text.to_ascii_lowercase());
                    prop_assert_eq!(name(&accepted), Ok(accepted));
                }
            }
        }
    }
}
