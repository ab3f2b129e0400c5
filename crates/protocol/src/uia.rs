//! User-interactive authentication (Client-Server API, "User-Interactive Authentication API"): the
//! proofs a person gives, one stage after another, before a protected request is carried out.
//!
//! Values in, values out. [`UiaSession::attempt`] says which check must be made now; the server
//! makes it and hands the verdict to [`Check::judged`], which says what becomes of the session.
//! `storage` keeps sessions and lets every change through once only: an update or a removal is
//! guarded by the revision in [`Advance::guard`], so that of parallel requests one wins (I20).
//!
//! | session | no `type` (a poll) | next stage of a flow | stage completed already | other stage |
//! |---|---|---|---|---|
//! | expired, or its stages fit no flow any more | gone | gone | gone | gone |
//! | of another user or operation | not yours | not yours | not yours | not yours |
//! | of another request, something proved | not yours | not yours | not yours | not yours |
//! | stages left | continue | check | continue | out of order |
//! | all stages completed | complete | (there is none) | complete | out of order |
//!
//! | verdict of the check | stages left | last stage |
//! |---|---|---|
//! | proof | continue, revision + 1 | complete |
//! | failure, or a proof of something else | failed, nothing changes | failed, nothing changes |
//!
//! How the cases meet: without `auth`, [`UiaSession::open`], store, 401. `auth` without `session`:
//! open one and attempt at once; it is stored only if the answer is a 401. An unknown session ID
//! is [`Refusal::Gone`]. A request that fails for its own reasons after "complete" is not
//! committed, so the session stays as it was and the person can mend the request.
//!
//! A session binds to its request when the first stage is *proved*, not when it is opened: clients
//! open one with an empty body to learn the flows and send the real request with the first stage.
//! A stage that is completed on a page of the server comes without a request: see
//! [`UiaSession::request_on_a_page`].

mod flows;
mod proof;

use std::fmt;

use sha2::{Digest, Sha256};

pub use flows::{Flow, Flows, Stage};
pub use proof::Proof;

use crate::ids::{UserKey, ValidationId};
use crate::limits::AUTH_SESSION_LIFETIME_MS;
use crate::{UnixMs, expiry};

/// Members of a request body that are no part of what a session is bound to: `auth` changes with
/// every stage, and a hash of a password is not to be stored (I21).
pub const UNBOUND_FIELDS: [&str; 3] = ["auth", "password", "new_password"];

/// The request of proofs that were given before there was one.
const UNBOUND: [u8; 32] = [0; 32];

/// The requests that user-interactive authentication protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Register,
    AccountPassword,
    AccountDeactivate,
    DeleteDevice,
    DeleteDevices,
    AddThreepid,
    LoginToken,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Register,
        Self::AccountPassword,
        Self::AccountDeactivate,
        Self::DeleteDevice,
        Self::DeleteDevices,
        Self::AddThreepid,
        Self::LoginToken,
    ];

    /// The name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::AccountPassword => "account_password",
            Self::AccountDeactivate => "account_deactivate",
            Self::DeleteDevice => "delete_device",
            Self::DeleteDevices => "delete_devices",
            Self::AddThreepid => "account_3pid_add",
            Self::LoginToken => "login_get_token",
        }
    }

    /// Reads the name that is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }
}

/// What a client wants done: what a session is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The owner of the access token; `None` where there is none, as in a registration.
    pub user: Option<UserKey>,
    pub operation: Operation,
    /// From [`request_hash`].
    pub hash: [u8; 32],
}

/// Hashes a request by its fields: the members of its body, each value in one canonical spelling,
/// and what its path names (the device in `DELETE devices/{deviceId}`). [`UNBOUND_FIELDS`] are
/// left out and the order does not matter.
pub fn request_hash<'a>(
    operation: Operation,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> [u8; 32] {
    let mut fields: Vec<_> = fields.into_iter().filter(|(name, _)| !UNBOUND_FIELDS.contains(name)).collect();
    fields.sort_unstable();
    let mut hash = Sha256::new();
    for part in
        [operation.as_str()].into_iter().chain(fields.into_iter().flat_map(|(name, value)| [name, value]))
    {
        // Lengths before texts: no two lists of fields run together into the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// One authentication session. Its ID is the storage key and is not repeated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiaSession {
    pub user: Option<UserKey>,
    pub operation: Operation,
    /// Of the request that the proofs were given for; of no importance while there is none.
    pub request_hash: [u8; 32],
    /// In the order in which they were given.
    pub completed: Vec<Proof>,
    pub created_at: UnixMs,
    pub expires_at: UnixMs,
    /// Counts changes.
    pub revision: i64,
}

/// What to do with an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Make the check of [`Check::stage`], then ask [`Check::judged`].
    Check(Check),
    /// Nothing to check: 401 with flows and completed.
    Continue,
    /// Carry the request out and remove the session, in one commit.
    Complete(Advance),
    Refused(Refusal),
}

/// A check to be made: there is no way to a verdict but through [`UiaSession::attempt`].
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    session: UiaSession,
    stage: Stage,
}

/// What becomes of a session after a check.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Store the session, then 401 with flows and completed.
    Continue(Advance),
    /// Carry the request out and remove the session, in one commit. Where the stage was completed
    /// on a page of its own, store the session instead: the client's next poll completes it.
    Complete(Advance),
    /// Change nothing; 401 with flows, completed and the failure.
    Failed(Failure),
}

/// A step that may be taken once.
#[derive(Debug, PartialEq, Eq)]
pub struct Advance {
    /// The session after the step.
    pub session: UiaSession,
    /// The revision that the stored session must still have when it is updated or removed. If it
    /// has not, somebody else was first: load it and attempt again.
    pub guard: i64,
}

/// Why an attempt is refused before any check; `Display` is the public sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Expired, or its stages belong to flows that are no longer offered. Answer 401 with a new
    /// session, so that the client can begin again.
    Gone,
    /// Opened by another user, or for another operation or request. 403: no further stage mends it.
    NotYours,
    /// Not the next stage of any flow. 401 with flows and completed.
    OutOfOrder,
}

/// Why a stage was not passed; the answer is a 401. `Display` is the public sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Wrong password, an unknown user, or another user than the one who asks.
    Password,
    /// Unknown, used up, expired or revoked; also when it was used up between the stage and the
    /// end of the registration.
    RegistrationToken,
    /// The e-mail address or phone number is not validated (yet): clients poll with this.
    ThirdParty,
    /// The answer to the captcha is missing.
    CaptchaNeeded,
    /// The captcha's provider does not accept the answer.
    CaptchaInvalid,
    /// Nothing was shown in this session that could have been agreed to.
    TermsNotShown,
}

impl Refusal {
    /// The `errcode` that goes with the answer.
    #[must_use]
    pub const fn errcode(self) -> &'static str {
        "M_FORBIDDEN"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "This authentication session has ended. Please begin again.",
            Self::NotYours => "This authentication session was opened for another request.",
            Self::OutOfOrder => "This is not the next stage of authentication.",
        })
    }
}

impl Failure {
    /// The `errcode` that goes with the 401.
    #[must_use]
    pub const fn errcode(self) -> &'static str {
        match self {
            Self::Password | Self::RegistrationToken | Self::TermsNotShown => "M_FORBIDDEN",
            // What clients take for "not yet" while they poll.
            Self::ThirdParty => "M_UNAUTHORIZED",
            Self::CaptchaNeeded => "M_CAPTCHA_NEEDED",
            Self::CaptchaInvalid => "M_CAPTCHA_INVALID",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password => "Invalid user name or password.",
            Self::RegistrationToken => "This registration token is not valid.",
            Self::ThirdParty => "This address has not been verified yet.",
            Self::CaptchaNeeded => "Please solve the captcha.",
            Self::CaptchaInvalid => "The captcha was not solved. Please try again.",
            Self::TermsNotShown => "Please read the terms and agree to them.",
        })
    }
}

impl UiaSession {
    /// A new session for this request. It lives [`AUTH_SESSION_LIFETIME_MS`], whatever happens in it.
    #[must_use]
    pub fn open(request: &Request, now: UnixMs) -> Self {
        Self {
            user: request.user,
            operation: request.operation,
            request_hash: request.hash,
            completed: Vec::new(),
            created_at: now,
            expires_at: expiry(now, Some(AUTH_SESSION_LIFETIME_MS)),
            revision: 0,
        }
    }

    /// The request that a stage completed on a page of the server counts for. A registration may
    /// still be described by whoever holds the session; anything else is the request that opened
    /// the session, which is what the page tells the person.
    #[must_use]
    pub fn request_on_a_page(&self) -> Request {
        let open = self.operation == Operation::Register && self.completed.is_empty();
        let hash = if open { UNBOUND } else { self.request_hash };
        Request { user: self.user, operation: self.operation, hash }
    }

    /// The stages of which any may be completed next; none when all are done.
    #[must_use]
    pub fn next_stages(&self, flows: &Flows) -> Vec<Stage> {
        let completed: Vec<Stage> = self.completed_stages().collect();
        flows.next(&completed).collect()
    }

    /// The completed stages, in order, as the `completed` of an answer.
    pub fn completed_stages(&self) -> impl Iterator<Item = Stage> + '_ {
        self.completed.iter().map(|proof| proof.stage())
    }

    /// Judges what a client presents with this session: the `type` in its `auth`, or none.
    #[must_use]
    pub fn attempt(&self, flows: &Flows, request: &Request, kind: Option<&str>, now: UnixMs) -> Attempt {
        let completed: Vec<Stage> = self.completed_stages().collect();
        if now >= self.expires_at || !flows.begin_with(&completed) {
            return Attempt::Refused(Refusal::Gone);
        }
        if self.is_bound_elsewhere(request) {
            return Attempt::Refused(Refusal::NotYours);
        }
        let stage = kind.map(Stage::parse);
        match stage {
            Some(Some(stage)) if flows.next(&completed).any(|next| next == stage) => {
                // A copy bound to this request, of which nothing is kept unless the check is passed.
                let session = Self { request_hash: request.hash, ..self.clone() };
                Attempt::Check(Check { session, stage })
            }
            Some(stage) if !stage.is_some_and(|stage| completed.contains(&stage)) => {
                Attempt::Refused(Refusal::OutOfOrder)
            }
            _ if flows.end_with(&completed) => {
                Attempt::Complete(Advance { session: self.clone(), guard: self.revision })
            }
            _ => Attempt::Continue,
        }
    }

    /// The user whose password was proved.
    #[must_use]
    pub fn password_user(&self) -> Option<UserKey> {
        self.completed.iter().find_map(|proof| match proof {
            Proof::Password { user, .. } => Some(*user),
            _ => None,
        })
    }

    /// The registration token whose use the completion must count, by its hash.
    #[must_use]
    pub fn registration_token(&self) -> Option<[u8; 32]> {
        self.completed.iter().find_map(|proof| match proof {
            Proof::RegistrationToken { token_hash } => Some(*token_hash),
            _ => None,
        })
    }

    /// The validations of addresses that the completion must use up.
    pub fn validations(&self) -> impl Iterator<Item = ValidationId> + '_ {
        self.completed.iter().filter_map(|proof| match proof {
            Proof::EmailIdentity { validation } | Proof::Msisdn { validation } => Some(*validation),
            _ => None,
        })
    }

    fn is_bound_elsewhere(&self, request: &Request) -> bool {
        self.user != request.user
            || self.operation != request.operation
            || (!self.completed.is_empty()
                && self.request_hash != UNBOUND
                && self.request_hash != request.hash)
    }
}

impl Check {
    /// The stage whose check must be made.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Takes the verdict of the check. A proof of another stage, or of another user's password
    /// than the one who asks, is a failure.
    #[must_use]
    pub fn judged(self, flows: &Flows, verdict: Result<Proof, Failure>) -> Judgement {
        let proof = match verdict {
            Ok(proof) if self.accepts(proof) => proof,
            Ok(_) => return Judgement::Failed(Failure::Password),
            Err(failure) => return Judgement::Failed(failure),
        };
        let mut session = self.session;
        let guard = session.revision;
        session.completed.push(proof);
        session.revision += 1;
        let completed: Vec<Stage> = session.completed_stages().collect();
        let done = flows.end_with(&completed);
        let advance = Advance { session, guard };
        if done { Judgement::Complete(advance) } else { Judgement::Continue(advance) }
    }

    fn accepts(&self, proof: Proof) -> bool {
        let owner = match proof {
            Proof::Password { user, .. } => self.session.user.is_none_or(|owner| owner == user),
            _ => true,
        };
        owner && proof.stage() == self.stage
    }
}

#[cfg(test)]
mod tests;
