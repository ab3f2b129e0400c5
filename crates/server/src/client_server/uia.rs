//! User-interactive authentication on the wire: the 401 with flows, the `auth` member, the checks
//! of the stages. Which stage is due and what a try leads to, `ligand_protocol::uia` decides.
//! Stages that are completed on a page of this server, or by the API of 2015, are in `page`; what
//! the terms and the captcha need is in `stages`.

pub mod page;
pub(super) mod stages;

use axum::http::StatusCode;
use data_encoding::BASE64URL_NOPAD;
use ligand_protocol::NEVER;
use ligand_protocol::UnixMs;
use ligand_protocol::registration::{RegistrationToken, RegistrationTokenState};
use ligand_protocol::session::{Refusal as SessionRefusal, Status};
use ligand_protocol::uia::{
    Advance, Attempt, Failure, Flows, Judgement, Operation, Proof, Refusal, Request, Stage, UNBOUND_FIELDS,
    UiaSession, request_hash,
};
use ligand_protocol::validation::{Medium, Purpose};
use ligand_storage::live::LiveSession;
use ligand_storage::sessions::{Asked, Verified};
use ligand_storage::uia::UiaRow;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::login::{self, Identifier, is_wrong_password};
use super::request_token;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object};
use crate::middleware::RequestId;

/// A request that asks for proofs.
pub struct Protected<'a> {
    pub app: &'a App,
    pub flows: Flows,
    pub operation: Operation,
    /// The session that asks; none at registration.
    pub asking: Option<&'a LiveSession>,
    pub body: &'a Object,
    /// What the path names, such as the device in `DELETE /devices/{deviceId}`.
    pub path: Option<&'a str>,
    pub caller: &'a Caller,
    pub request_id: RequestId,
}

/// All stages are done: carry the request out, and with it, in one commit, close the session.
pub struct Passed {
    /// The stored session and the revision it must still have; none if it was never stored.
    pub close: Option<([u8; 32], i64)>,
    pub session: UiaSession,
    name: Option<String>,
}

/// An authentication session as the client knows it.
struct Named {
    name: String,
    session: UiaSession,
    stored: bool,
}

impl Protected<'_> {
    /// Lets a request pass that has proved enough.
    ///
    /// # Errors
    /// 401 with flows; 403 for another request's session; what the checks say.
    pub async fn require(&self) -> Result<Passed, ApiError> {
        let now = self.app.clock.now();
        let request = self.request();
        let Some(auth) = self.body.object("auth")? else {
            let opened = self.open(&request, now).await?;
            return Err(self.challenge(&opened, None, false));
        };
        let named = match auth.text("session")? {
            Some(name) => match find(self.app, name).await? {
                Some(named) => named,
                None => return Err(self.begin_again().await?),
            },
            // Some clients send the first stage at once: open a session and judge it.
            None => {
                Named { name: new_name(self.app)?, session: UiaSession::open(&request, now), stored: false }
            }
        };
        match named.session.attempt(&self.flows, &request, auth.text("type")?, now) {
            Attempt::Complete(advance) => Ok(self.passed(named, advance)),
            Attempt::Continue => {
                self.keep(&named).await?;
                Err(self.challenge(&named, None, true))
            }
            Attempt::Refused(Refusal::Gone) => Err(self.begin_again().await?),
            Attempt::Refused(refusal @ Refusal::NotYours) => {
                Err(ApiError::new(StatusCode::FORBIDDEN, refusal.errcode(), refusal.to_string()))
            }
            Attempt::Refused(refusal @ Refusal::OutOfOrder) => {
                self.keep(&named).await?;
                Err(self.challenge(&named, Some((refusal.errcode(), refusal.to_string())), true))
            }
            Attempt::Check(check) => {
                let verdict = match check.stage() {
                    // A first request that agrees at once was shown nothing.
                    Stage::Terms if !named.stored => Err(Failure::TermsNotShown),
                    stage => self.check(stage, &auth, now).await?,
                };
                match check.judged(&self.flows, verdict) {
                    Judgement::Complete(advance) => Ok(self.passed(named, advance)),
                    Judgement::Continue(advance) => Err(self.advance(named, advance).await?),
                    Judgement::Failed(failure) => {
                        self.keep(&named).await?;
                        Err(self.challenge(&named, Some((failure.errcode(), failure.to_string())), true))
                    }
                }
            }
        }
    }

    /// The 401 for a proof that was good when it was given and is not any more.
    pub async fn spent(&self, passed: Passed, failure: Failure) -> Result<ApiError, ApiError> {
        let named = Named {
            name: match passed.name {
                Some(name) => name,
                None => new_name(self.app)?,
            },
            session: UiaSession::open(&self.request(), self.app.clock.now()),
            stored: passed.close.is_some(),
        };
        // What was proved falls with it: the same session goes on from its beginning.
        match passed.close {
            Some((id_hash, revision)) => {
                self.app.store.advance_uia(id_hash, revision, "", [0; 32]).await?;
            }
            None => self.keep(&named).await?,
        }
        Ok(self.challenge(&named, Some((failure.errcode(), failure.to_string())), true))
    }

    /// The 401 that opens a new session where the old one has ended.
    pub async fn begin_again(&self) -> Result<ApiError, ApiError> {
        let opened = self.open(&self.request(), self.app.clock.now()).await?;
        Ok(self.challenge(&opened, Some((Refusal::Gone.errcode(), Refusal::Gone.to_string())), true))
    }

    /// The answer when what the request was allowed by was no longer so at the commit: the
    /// session that asked has ended, the password is another one, or the proof was used already.
    pub async fn overtaken(&self) -> Result<ApiError, ApiError> {
        if let Some(asking) = self.asking {
            let now = self.app.store.load_session(asking.id).await?.map(|loaded| loaded.session.status);
            match now {
                Some(Status::Live) => {}
                Some(Status::Ended(reason)) => return Ok(ApiError::refused(SessionRefusal::Ended(reason))),
                None => return Ok(ApiError::refused(SessionRefusal::Unknown)),
            }
        }
        self.begin_again().await
    }

    fn request(&self) -> Request {
        let body = self.body.0.iter().filter(|(name, _)| !UNBOUND_FIELDS.contains(&name.as_str()));
        let mut fields: Vec<(String, String)> =
            body.map(|(name, value)| (format!("body.{name}"), value.to_string())).collect();
        fields.extend(self.path.map(|path| ("path".to_owned(), path.to_owned())));
        let hash =
            request_hash(self.operation, fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Request { user: self.asking.map(|session| session.user.key), operation: self.operation, hash }
    }

    async fn check(
        &self,
        stage: Stage,
        auth: &Object,
        now: UnixMs,
    ) -> Result<Result<Proof, Failure>, ApiError> {
        match stage {
            Stage::Dummy => Ok(Ok(Proof::Dummy)),
            Stage::Password => self.check_password(auth, now).await,
            Stage::RegistrationToken => self.check_registration_token(auth, now).await,
            Stage::EmailIdentity | Stage::Msisdn => self.check_address(stage, auth).await,
            Stage::Terms => Ok(Ok(Proof::Terms)),
            Stage::Recaptcha => stages::check_captcha(self.app, auth, self.caller, now).await,
        }
    }

    async fn check_password(&self, auth: &Object, now: UnixMs) -> Result<Result<Proof, Failure>, ApiError> {
        self.app.limiters.login(self.caller.address, now)?;
        let named = match (login::named(auth)?, self.asking) {
            (Some(named), _) => named,
            // The owner of the token, where the client does not repeat who that is.
            (None, Some(asking)) => Identifier::User(asking.user.localpart.to_string()),
            (None, None) => return Err(ApiError::missing_param("auth.identifier")),
        };
        let password = auth.required_text("password")?;
        match login::verify(self.app, &named, password, self.caller, self.request_id, now).await {
            Ok((user, _)) => {
                let Verified { epoch, password_changed_at } = user.verified();
                Ok(Ok(Proof::Password { user: user.key, epoch, changed_at: password_changed_at }))
            }
            Err(error) if is_wrong_password(&error) => Ok(Err(Failure::Password)),
            Err(error) => Err(error),
        }
    }

    async fn check_registration_token(
        &self,
        auth: &Object,
        now: UnixMs,
    ) -> Result<Result<Proof, Failure>, ApiError> {
        self.app.limiters.lookup(self.caller.address, now)?;
        let token = auth.required_text("token")?;
        Ok(match usable_token(self.app, token, now).await? {
            Some(token_hash) => Ok(Proof::RegistrationToken { token_hash }),
            None => Err(Failure::RegistrationToken),
        })
    }

    /// The address that a validation proves, if it is done. The proof is used up at the end.
    async fn check_address(&self, stage: Stage, auth: &Object) -> Result<Result<Proof, Failure>, ApiError> {
        let purpose = match self.operation {
            Operation::Register => Purpose::Register,
            Operation::AccountPassword => Purpose::AccountPassword,
            _ => return Ok(Err(Failure::ThirdParty)),
        };
        let credentials = threepid_credentials(auth)?;
        let proved = request_token::proved(self.app, &credentials, purpose).await?;
        Ok(match (stage, proved.map(|proved| (proved.medium, proved.id))) {
            (Stage::EmailIdentity, Some((Medium::Email, validation))) => {
                Ok(Proof::EmailIdentity { validation })
            }
            (Stage::Msisdn, Some((Medium::Msisdn, validation))) => Ok(Proof::Msisdn { validation }),
            _ => Err(Failure::ThirdParty),
        })
    }

    async fn open(&self, request: &Request, now: UnixMs) -> Result<Named, ApiError> {
        let named =
            Named { name: new_name(self.app)?, session: UiaSession::open(request, now), stored: false };
        self.keep(&named).await?;
        Ok(named)
    }

    /// Stores a session that was not stored yet.
    async fn keep(&self, named: &Named) -> Result<(), ApiError> {
        if named.stored { Ok(()) } else { store(self.app, named, self.caller).await }
    }

    /// Stores a further proof; the answer either way is where the session now stands.
    async fn advance(&self, named: Named, advance: Advance) -> Result<ApiError, ApiError> {
        let Named { name, stored, .. } = named;
        let after = Named { name, session: advance.session, stored };
        if stored {
            let completed = Proof::to_text(&after.session.completed);
            let advanced = self
                .app
                .store
                .advance_uia(
                    id_hash(self.app, &after.name),
                    advance.guard,
                    &completed,
                    after.session.request_hash,
                )
                .await?;
            if !advanced && let Some(now) = find(self.app, &after.name).await? {
                return Ok(self.challenge(&now, None, true));
            }
        } else {
            self.keep(&after).await?;
        }
        Ok(self.challenge(&after, None, true))
    }

    fn challenge(&self, named: &Named, failed: Option<(&'static str, String)>, tried: bool) -> ApiError {
        challenge(self.app, &self.flows, named, failed, tried)
    }

    fn passed(&self, named: Named, advance: Advance) -> Passed {
        let id_hash = id_hash(self.app, &named.name);
        Passed {
            close: named.stored.then_some((id_hash, advance.guard)),
            session: advance.session,
            name: named.stored.then_some(named.name),
        }
    }
}

/// The 401. `completed` is in every answer to a try, even when it is empty.
fn challenge(
    app: &App,
    flows: &Flows,
    named: &Named,
    failed: Option<(&'static str, String)>,
    tried: bool,
) -> ApiError {
    let listed: Vec<Value> = flows
        .iter()
        .map(|flow| json!({"stages": flow.stages().iter().map(|stage| stage.as_str()).collect::<Vec<_>>()}))
        .collect();
    let mut body = Map::new();
    body.insert("flows".to_owned(), listed.into());
    body.insert("params".to_owned(), stages::params(app, flows));
    body.insert("session".to_owned(), named.name.as_str().into());
    if tried {
        let completed: Vec<&str> = named.session.completed_stages().map(Stage::as_str).collect();
        body.insert("completed".to_owned(), completed.into());
    }
    ApiError::challenge(body, failed)
}

impl Passed {
    /// What the commit is to be guarded by, for a request of this session: the account as it was
    /// when its password was verified. None without a password.
    #[must_use]
    pub fn asked(&self, session: &LiveSession) -> Option<Asked> {
        let verified = self.session.completed.iter().find_map(|proof| match proof {
            Proof::Password { epoch, changed_at, .. } => {
                Some(Verified { epoch: *epoch, password_changed_at: *changed_at })
            }
            _ => None,
        });
        Some(Asked { session: session.id, verified: verified?, uia: self.close })
    }
}

/// `threepid_creds`, and its spellings of 2015: a list of one, and in capitals.
fn threepid_credentials(auth: &Object) -> Result<Object, ApiError> {
    let named = ["threepid_creds", "threepidCreds"].into_iter().find_map(|key| auth.0.get(key));
    let first = match named {
        Some(Value::Array(several)) => several.first(),
        one => one,
    };
    match first {
        Some(Value::Object(credentials)) => Ok(Object(credentials.clone())),
        _ => Err(ApiError::missing_param("auth.threepid_creds")),
    }
}

/// The hash of a registration token that can be used now.
///
/// # Errors
/// 503.
pub(super) async fn usable_token(app: &App, text: &str, now: UnixMs) -> Result<Option<[u8; 32]>, ApiError> {
    let Some(token) = RegistrationToken::parse(text) else { return Ok(None) };
    let hash = token.hash();
    let found = app.store.find_registration_token(hash).await?;
    Ok(found.and_then(|token| {
        let state = RegistrationTokenState {
            uses_max: token.uses_allowed.unwrap_or(i64::MAX),
            uses: token.used,
            expires_at: token.expires_at.unwrap_or(NEVER),
            revoked: token.revoked_at.is_some(),
        };
        state.usable(now).is_ok().then_some(hash)
    }))
}

fn new_name(app: &App) -> Result<String, ApiError> {
    Ok(BASE64URL_NOPAD.encode(&app.random::<18>()?))
}

/// The key a session is stored under. The versions of the terms are part of it: a session shows
/// the same terms from its beginning to its end, and has ended when they are others.
fn id_hash(app: &App, name: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    for policy in &app.config.registration.terms {
        // A byte that no text has, so that no two lists run together.
        for part in [&policy.id, &policy.version] {
            hash.update([0xff]);
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().into()
}

async fn find(app: &App, name: &str) -> Result<Option<Named>, ApiError> {
    let row = app.store.find_uia(id_hash(app, name)).await?;
    Ok(row.and_then(from_row).map(|session| Named { name: name.to_owned(), session, stored: true }))
}

/// Stores a new session.
async fn store(app: &App, named: &Named, caller: &Caller) -> Result<(), ApiError> {
    // Each is a row that a stranger can cause.
    app.limiters.lookup(caller.address, app.clock.now())?;
    Ok(app.store.open_uia(&to_row(app, named)).await?)
}

fn to_row(app: &App, named: &Named) -> UiaRow {
    let session = &named.session;
    UiaRow {
        id_hash: id_hash(app, &named.name),
        user: session.user,
        operation: session.operation.as_str().to_owned(),
        request_hash: session.request_hash,
        completed: Proof::to_text(&session.completed),
        created_at: session.created_at,
        expires_at: session.expires_at,
        revision: session.revision,
    }
}

/// `None` for a row that this version cannot read: then the person begins again.
fn from_row(row: UiaRow) -> Option<UiaSession> {
    Some(UiaSession {
        user: row.user,
        operation: Operation::parse(&row.operation)?,
        request_hash: row.request_hash,
        completed: Proof::from_text(&row.completed)?,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revision: row.revision,
    })
}
