//! The session: one device's standing permission, and the state machine of its tokens.
//!
//! A session is one row. Its *head* is the newest pair of tokens, with generation `g`; the head is
//! *acknowledged* once a token of it has been used. This module judges what somebody presents
//! ([`Session::refresh`], [`Session::check`]) and says what the row becomes ([`Session::rotated`],
//! [`Session::acknowledged`], [`Session::resealed`], [`Session::ended`]). `storage` writes those
//! changes guarded by what was read; `server` words the answers.
//!
//! | event | acknowledged head g | unacknowledged head g |
//! |---|---|---|
//! | refresh(R_g) at `/refresh` or the grant | mint g+1, unacknowledged, sealed | acknowledges g, then the same |
//! | refresh(R_g) at `/tokenrefresh` | mint g+1, acknowledged, no seal; R_g, A_g, A_{g−1} dead at once | the same; R_{g−1} dies too |
//! | refresh(R_{g−1}) at `/refresh` or the grant | in the retry window: same pair; in the leeway: refuse; else end the family | same pair |
//! | refresh(R_{g−1}) at `/tokenrefresh` | refuse | still valid: burn it and its unused successors, mint the next |
//! | refresh(R_{g−2}) at `/refresh` or the grant | within the leeway of the head's minting: refuse; else end the family | the same |
//! | refresh(older) | end the family; at `/tokenrefresh` refuse | the same |
//! | refresh token of generation g or g−1, another hash | refuse, alarm "lost commit" | the same |
//! | any token of a generation above g | refuse, alarm "lost commit" | the same |
//! | use(A_g) | ok | acknowledge durably, then ok; R_{g−1} dead, A_{g−1} lives 30 s more at most |
//! | use(A_{g−1}) | ok until its end | the same |
//! | use(older or expired) | 401 soft; ends nothing | the same |
//!
//! Before every cell stand the gates: status, owner, `session_exp`, client and API, lock. (An access
//! token is `Locked` only if it is good otherwise, so that signing out may trust the verdict.)

use crate::ids::{SessionId, UserKey};
use crate::token::{Presented, TokenHash, TokenKind};
use crate::{NEVER, UnixMs};

/// How long the access token before the head may outlive the head's first use: long enough for
/// requests already under way, short enough to forget.
pub const PREVIOUS_ACCESS_TOKEN_GRACE_MS: i64 = 30_000;

/// Which API a session belongs to; the two are mutually incompatible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Legacy = 0,
    OAuth = 1,
}

/// Where a refresh token is presented. The door decides the contract, however the head was minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// `POST /refresh`: the old token stays good until the new pair is used.
    Refresh,
    /// `POST /tokenrefresh` of 2015: single use, dead at once.
    TokenRefresh,
    /// `grant_type=refresh_token`.
    Grant,
}

impl Door {
    const fn api(self) -> Api {
        match self {
            Self::Refresh | Self::TokenRefresh => Api::Legacy,
            Self::Grant => Api::OAuth,
        }
    }
}

/// Why a session ended. Stored as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    Logout = 1,
    LogoutAll = 2,
    DeviceDeleted = 3,
    PasswordChanged = 4,
    Deactivated = 5,
    /// A newer sign-in on the same device.
    Replaced = 6,
    /// A refresh token that was dead already was presented.
    Reuse = 7,
    /// Ended by an administrator.
    Admin = 8,
    /// It reached its absolute end.
    Expired = 9,
}

impl EndReason {
    pub const ALL: [Self; 9] = [
        Self::Logout,
        Self::LogoutAll,
        Self::DeviceDeleted,
        Self::PasswordChanged,
        Self::Deactivated,
        Self::Replaced,
        Self::Reuse,
        Self::Admin,
        Self::Expired,
    ];

    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as i64 == code)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LogoutAll => "logout_all",
            Self::DeviceDeleted => "device_deleted",
            Self::PasswordChanged => "password_changed",
            Self::Deactivated => "deactivated",
            Self::Replaced => "replaced",
            Self::Reuse => "reuse",
            Self::Admin => "admin",
            Self::Expired => "expired",
        }
    }

    /// Whether the device outlived the session, so that its owner may sign in again and go on.
    const fn keeps_device(self) -> bool {
        matches!(self, Self::Replaced | Self::Reuse | Self::Expired)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Live,
    Ended(EndReason),
}

/// What a session needs to know of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Grows whenever all sessions of the user end at once.
    pub epoch: i64,
    pub state: AccountState,
}

/// Stored as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountState {
    Active = 0,
    Locked = 1,
    Deactivated = 2,
}

impl AccountState {
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::Active, Self::Locked, Self::Deactivated].into_iter().find(|state| *state as i64 == code)
    }
}

/// The windows in which a dead refresh token is not yet taken for a theft. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// After the successor's first use, how long a retry at `/refresh` still gets the same pair.
    pub legacy_retry_ms: i64,
    /// The same at the grant: two processes of one app race in the wild.
    pub oauth_retry_ms: i64,
    /// How long reuse at the legacy doors is refused without ending the family.
    pub reuse_leeway_ms: i64,
    /// Whether reuse at `/tokenrefresh` ends the family as it does at `/refresh`.
    pub tokenrefresh_reuse_ends_session: bool,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            legacy_retry_ms: 0,
            oauth_retry_ms: 30_000,
            reuse_leeway_ms: 30_000,
            tokenrefresh_reuse_ends_session: false,
        }
    }
}

impl Windows {
    /// The retry window of an API, in milliseconds.
    #[must_use]
    pub const fn retry_ms(&self, api: Api) -> i64 {
        match api {
            Api::Legacy => self.legacy_retry_ms,
            Api::OAuth => self.oauth_retry_ms,
        }
    }
}

/// The part of a session row that the rules look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    pub id: SessionId,
    pub user: UserKey,
    pub user_epoch: i64,
    pub client_id: Option<String>,
    pub api: Api,
    pub status: Status,
    /// Generation of the head; the first pair is 1.
    pub generation: u32,
    /// The newest generation of which a token has been used; `generation` or one less.
    pub acked_generation: u32,
    pub acked_at: Option<UnixMs>,
    pub head_at: UnixMs,
    /// Absent in a session without refresh tokens.
    pub rt_hash: Option<TokenHash>,
    pub rt_prev_hash: Option<TokenHash>,
    pub sealed: Option<Vec<u8>>,
    pub rt_exp: UnixMs,
    pub session_exp: UnixMs,
    pub at_hash: TokenHash,
    pub at_exp: UnixMs,
    pub at_prev_hash: Option<TokenHash>,
    pub at_prev_exp: Option<UnixMs>,
}

/// Why a token is refused. Which status and code that is, the surface decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not a token of this session, client or API.
    Unknown,
    /// The session has ended.
    Ended(EndReason),
    /// The session reached its absolute end.
    SessionExpired,
    /// This token reached its end; the session lives.
    Expired,
    /// A refresh token already replaced, inside the leeway.
    Spent,
    /// The account is locked; nothing is consumed.
    Locked,
    /// The database knows less than the token: an acknowledged commit is missing (I24).
    LostCommit,
}

impl Refusal {
    /// Whether the client keeps its device and may sign in again on it (`soft_logout`).
    #[must_use]
    pub const fn soft_logout(self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Ended(reason) => reason.keeps_device(),
            Self::SessionExpired | Self::Expired | Self::Spent | Self::Locked | Self::LostCommit => true,
        }
    }
}

/// What follows from presenting a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshVerdict {
    /// Mint the next generation; the row must still have the presented token where it was.
    Mint(Spending),
    /// Open the seal: the answer is the pair that the first request got.
    SamePair,
    /// As [`Self::SamePair`], but its access token has expired: mint that alone anew, seal again.
    SamePairResealed,
    Refuse(Refusal),
    /// A dead token outside every window: somebody holds a copy.
    EndFamily,
}

/// Which token a new generation is minted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spending {
    /// The head's refresh token.
    Head,
    /// The one before an unacknowledged head, at `/tokenrefresh` only.
    Predecessor,
}

/// What follows from using an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckVerdict {
    Ok,
    /// Good, once the head's acknowledgement is durable.
    OkAfterAcknowledging,
    Refuse(Refusal),
}

/// The hashes and expiries of a new head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub rt_hash: TokenHash,
    pub at_hash: TokenHash,
    pub rt_exp: UnixMs,
    pub at_exp: UnixMs,
    /// The pair sealed under the token it replaces; none at `/tokenrefresh`.
    pub sealed: Option<Vec<u8>>,
}

impl Session {
    /// Judges a refresh token presented at a door by a client (`None` on the legacy API).
    #[must_use]
    pub fn refresh(
        &self,
        owner: Owner,
        presented: &Presented,
        door: Door,
        client_id: Option<&str>,
        windows: &Windows,
        now: UnixMs,
    ) -> RefreshVerdict {
        use RefreshVerdict::{EndFamily, Mint, Refuse, SamePair, SamePairResealed};

        debug_assert!(presented.kind == TokenKind::Refresh && presented.session_id == self.id);
        if let Some(refusal) = self.gates(owner, now) {
            return Refuse(refusal);
        }
        if self.api != door.api() || self.client_id.as_deref() != client_id || self.rt_hash.is_none() {
            return Refuse(Refusal::Unknown);
        }
        if owner.state == AccountState::Locked && door != Door::Grant {
            return Refuse(Refusal::Locked);
        }

        let head = self.generation;
        let acknowledged = self.acked_generation == head;
        let Some(age) = head.checked_sub(presented.generation) else {
            return Refuse(Refusal::LostCommit);
        };
        match age {
            0 if self.rt_hash != Some(presented.hash) => Refuse(Refusal::LostCommit),
            0 if self.rt_exp <= now => Refuse(Refusal::Expired),
            0 => Mint(Spending::Head),

            // An acknowledged head that was minted at `/tokenrefresh` remembers no predecessor.
            1 if self.rt_prev_hash != Some(presented.hash)
                && !(acknowledged && self.rt_prev_hash.is_none()) =>
            {
                Refuse(Refusal::LostCommit)
            }
            1 if !acknowledged => match door {
                _ if self.rt_exp <= now => Refuse(Refusal::Expired),
                Door::TokenRefresh => Mint(Spending::Predecessor),
                Door::Refresh | Door::Grant if self.at_exp <= now => SamePairResealed,
                Door::Refresh | Door::Grant => SamePair,
            },
            1 => {
                let since_use = now.saturating_sub(self.acked_at.unwrap_or(self.head_at));
                // No window is none even to a clock that stepped back behind the head's first use.
                let retry_ms = windows.retry_ms(self.api);
                let in_window = retry_ms > 0 && since_use < retry_ms;
                if in_window && door != Door::TokenRefresh && self.sealed.is_some() && self.rt_exp > now {
                    return if self.at_exp <= now { SamePairResealed } else { SamePair };
                }
                // The grant's only leeway for the immediate predecessor is its retry window.
                let leeway = match door {
                    Door::Grant => windows.oauth_retry_ms,
                    Door::Refresh | Door::TokenRefresh => {
                        windows.legacy_retry_ms.max(windows.reuse_leeway_ms)
                    }
                };
                self.reused(door, windows, since_use < leeway)
            }

            2 => self.reused(door, windows, now.saturating_sub(self.head_at) < windows.reuse_leeway_ms),
            _ => match door {
                Door::TokenRefresh if !windows.tokenrefresh_reuse_ends_session => Refuse(Refusal::Spent),
                _ => EndFamily,
            },
        }
    }

    fn reused(&self, door: Door, windows: &Windows, within_leeway: bool) -> RefreshVerdict {
        let refuses_only = door == Door::TokenRefresh && !windows.tokenrefresh_reuse_ends_session;
        if refuses_only || within_leeway {
            RefreshVerdict::Refuse(Refusal::Spent)
        } else {
            RefreshVerdict::EndFamily
        }
    }

    /// Judges an access token.
    #[must_use]
    pub fn check(&self, owner: Owner, presented: &Presented, now: UnixMs) -> CheckVerdict {
        use CheckVerdict::{Ok, OkAfterAcknowledging, Refuse};

        debug_assert!(presented.kind == TokenKind::Access && presented.session_id == self.id);
        if let Some(refusal) = self.gates(owner, now) {
            return Refuse(refusal);
        }
        let verdict = match self.generation.checked_sub(presented.generation) {
            None => Refuse(Refusal::LostCommit),
            Some(0) if self.at_hash == presented.hash && self.at_exp > now => {
                if self.acked_generation == self.generation { Ok } else { OkAfterAcknowledging }
            }
            Some(1)
                if self.at_prev_hash == Some(presented.hash)
                    && self.at_prev_exp.is_some_and(|exp| exp > now) =>
            {
                Ok
            }
            Some(_) => Refuse(Refusal::Expired),
        };
        match verdict {
            Ok | OkAfterAcknowledging if owner.state == AccountState::Locked => Refuse(Refusal::Locked),
            verdict => verdict,
        }
    }

    /// Whether no later state of this row can take a refusal of an access token back: an end is
    /// absorbing, expiries only pass, generations only grow.
    #[must_use]
    pub fn refuses_for_good(&self, presented: &Presented, refusal: Refusal) -> bool {
        match refusal {
            Refusal::Ended(_) | Refusal::SessionExpired => true,
            Refusal::Expired => {
                presented.generation.saturating_add(1) < self.generation
                    || (presented.generation == self.generation && presented.hash == self.at_hash)
            }
            Refusal::Unknown | Refusal::Spent | Refusal::Locked | Refusal::LostCommit => false,
        }
    }

    /// What ends every question before the table is consulted.
    fn gates(&self, owner: Owner, now: UnixMs) -> Option<Refusal> {
        if let Status::Ended(reason) = self.status {
            return Some(Refusal::Ended(reason));
        }
        if owner.state == AccountState::Deactivated {
            return Some(Refusal::Ended(EndReason::Deactivated));
        }
        if self.user_epoch < owner.epoch {
            return Some(Refusal::Ended(EndReason::LogoutAll));
        }
        (self.session_exp <= now).then_some(Refusal::SessionExpired)
    }

    /// The row after minting a new head. At `/tokenrefresh` the head is born acknowledged and
    /// everything before it is dead.
    #[must_use]
    pub fn rotated(&self, head: Head, door: Door, now: UnixMs) -> Self {
        let strict = door == Door::TokenRefresh;
        let next = self.generation + 1;
        Self {
            generation: next,
            acked_generation: if strict { next } else { self.generation },
            acked_at: strict.then_some(now),
            head_at: now,
            rt_prev_hash: if strict { None } else { self.rt_hash },
            at_prev_hash: (!strict).then_some(self.at_hash),
            at_prev_exp: (!strict).then_some(self.at_exp),
            rt_hash: Some(head.rt_hash),
            at_hash: head.at_hash,
            sealed: head.sealed,
            rt_exp: head.rt_exp.min(self.session_exp),
            at_exp: head.at_exp.min(self.session_exp),
            ..self.clone()
        }
    }

    /// The row after the head's first use. The seal goes at once unless a retry window keeps it.
    #[must_use]
    pub fn acknowledged(&self, windows: &Windows, now: UnixMs) -> Self {
        let grace = now.saturating_add(PREVIOUS_ACCESS_TOKEN_GRACE_MS);
        Self {
            acked_generation: self.generation,
            acked_at: Some(now),
            sealed: if windows.retry_ms(self.api) > 0 { self.sealed.clone() } else { None },
            at_prev_exp: self.at_prev_exp.map(|exp| exp.min(grace)),
            ..self.clone()
        }
    }

    /// The row after the head's expired access token was minted anew for a retry.
    #[must_use]
    pub fn resealed(&self, at_hash: TokenHash, at_exp: UnixMs, sealed: Vec<u8>) -> Self {
        Self { at_hash, at_exp: at_exp.min(self.session_exp), sealed: Some(sealed), ..self.clone() }
    }

    /// The row after its end: absorbing, whatever comes later (I12).
    #[must_use]
    pub fn ended(&self, reason: EndReason) -> Self {
        match self.status {
            Status::Ended(_) => self.clone(),
            Status::Live => Self { status: Status::Ended(reason), sealed: None, ..self.clone() },
        }
    }

    /// What remains of the head's access token, in milliseconds; `None` if it does not expire.
    #[must_use]
    pub fn access_token_remaining_ms(&self, now: UnixMs) -> Option<i64> {
        remaining_ms(self.at_exp, now)
    }
}

/// `expires_in_ms` of an expiry: what remains, or `None` for [`NEVER`].
#[must_use]
pub fn remaining_ms(exp: UnixMs, now: UnixMs) -> Option<i64> {
    (exp != NEVER).then(|| exp.saturating_sub(now).max(0))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
