//! What a completed stage established, and how that is stored.

use data_encoding::HEXLOWER;

use super::Stage;
use crate::UnixMs;
use crate::ids::{UserKey, ValidationId};

/// A completed stage: what was established, never the secret that established it (I21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The password of this user was given. It counts while the account's epoch and the moment of
    /// its last password change are still these: the request may come later than the proof.
    Password {
        user: UserKey,
        epoch: i64,
        changed_at: Option<UnixMs>,
    },
    Dummy,
    /// A registration token that could be used then. Completion must count the use, and may find
    /// that it cannot any more: [`super::Failure::RegistrationToken`].
    RegistrationToken {
        token_hash: [u8; 32],
    },
    /// An e-mail address that was validated; the validation says which.
    EmailIdentity {
        validation: ValidationId,
    },
    /// The same for a phone number.
    Msisdn {
        validation: ValidationId,
    },
    Terms,
    Recaptcha,
}

impl Proof {
    /// The stage this completes.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Password { .. } => Stage::Password,
            Self::Dummy => Stage::Dummy,
            Self::RegistrationToken { .. } => Stage::RegistrationToken,
            Self::EmailIdentity { .. } => Stage::EmailIdentity,
            Self::Msisdn { .. } => Stage::Msisdn,
            Self::Terms => Stage::Terms,
            Self::Recaptcha => Stage::Recaptcha,
        }
    }

    /// Writes proofs for storage: one a line, the stage's type, then its value if it has one.
    #[must_use]
    pub fn to_text(proofs: &[Self]) -> String {
        let line = |proof: &Self| {
            let stage = proof.stage().as_str();
            match proof {
                Self::Password { user, epoch, changed_at } => {
                    let changed_at = changed_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
                    format!("{stage} {} {epoch} {changed_at}\n", user.0)
                }
                Self::Dummy | Self::Terms | Self::Recaptcha => format!("{stage}\n"),
                Self::RegistrationToken { token_hash } => {
                    format!("{stage} {}\n", HEXLOWER.encode(token_hash))
                }
                Self::EmailIdentity { validation } | Self::Msisdn { validation } => {
                    format!("{stage} {}\n", HEXLOWER.encode(&validation.0))
                }
            }
        };
        proofs.iter().map(line).collect()
    }

    /// Reads what [`Proof::to_text`] wrote; `None` if any line is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Vec<Self>> {
        text.lines()
            .map(|line| {
                let (stage, value) =
                    line.split_once(' ').map_or((line, None), |(stage, value)| (stage, Some(value)));
                match (Stage::parse(stage)?, value) {
                    (Stage::Password, Some(account)) => password(account),
                    (Stage::Dummy, None) => Some(Self::Dummy),
                    (Stage::Terms, None) => Some(Self::Terms),
                    (Stage::Recaptcha, None) => Some(Self::Recaptcha),
                    (Stage::RegistrationToken, Some(hash)) => {
                        Some(Self::RegistrationToken { token_hash: bytes(hash)? })
                    }
                    (Stage::EmailIdentity, Some(id)) => {
                        Some(Self::EmailIdentity { validation: ValidationId(bytes(id)?) })
                    }
                    (Stage::Msisdn, Some(id)) => Some(Self::Msisdn { validation: ValidationId(bytes(id)?) }),
                    _ => None,
                }
            })
            .collect()
    }
}

fn password(account: &str) -> Option<Proof> {
    let mut parts = account.split(' ');
    let (user, epoch, changed_at) = (parts.next()?, parts.next()?, parts.next()?);
    let changed_at = if changed_at == "never" { None } else { Some(changed_at.parse().ok()?) };
    let proof = Proof::Password { user: UserKey(user.parse().ok()?), epoch: epoch.parse().ok()?, changed_at };
    parts.next().is_none().then_some(proof)
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}
