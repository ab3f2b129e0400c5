//! Stages that are completed apart from the protected request: on a fallback page of this server,
//! or one by one as in the API of 2015. What is proved is kept in the session; the client's next
//! request, which need not repeat anything but the session, finds it there.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::UserKey;
use ligand_protocol::uia::{
    Advance, Attempt, Failure, Flows, Judgement, Operation, Proof, Refusal, Request, Stage, UiaSession,
};

use super::{Named, Protected, challenge, find, id_hash, new_name, store};
use crate::app::App;
use crate::client_server::{password, register};
use crate::error::ApiError;
use crate::extract::{Caller, Object};
use crate::middleware::RequestId;

/// An authentication session under way.
pub struct OnPage<'a> {
    app: &'a App,
    flows: Flows,
    named: Named,
}

/// How a stage stands in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be completed now.
    Due,
    Completed,
    /// Another one comes first, or it is in no flow.
    OutOfOrder,
    /// The session has ended.
    Gone,
}

impl<'a> OnPage<'a> {
    /// The session of this name; `None` if there is none, or none that could be gone on with.
    ///
    /// # Errors
    /// 503.
    pub async fn find(app: &'a App, name: &str) -> Result<Option<Self>, ApiError> {
        let Some(named) = find(app, name).await? else { return Ok(None) };
        Ok(flows(app, &named.session).map(|flows| Self { app, flows, named }))
    }

    /// A new session for a registration that is yet to be described.
    ///
    /// # Errors
    /// 403 where registration is closed; 429; 503.
    pub async fn open(app: &'a App, caller: &Caller) -> Result<Self, ApiError> {
        let flows = register::flows(app)?;
        let request = Request { user: None, operation: Operation::Register, hash: [0; 32] };
        let session = UiaSession::open(&request, app.clock.now());
        let mut named = Named { name: new_name(app)?, session, stored: false };
        store(app, &named, caller).await?;
        named.stored = true;
        Ok(Self { app, flows, named })
    }

    /// The session's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.named.name
    }

    /// What all this is for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.named.session.operation
    }

    /// Whose session it is; nobody's at registration.
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.named.session.user
    }

    /// The stages of which any may come next; none when all are done.
    #[must_use]
    pub fn next_stages(&self) -> Vec<Stage> {
        self.named.session.next_stages(&self.flows)
    }

    /// The 401 that tells where the session stands, with the failure of the last try.
    #[must_use]
    pub fn challenge(&self, failed: Option<(&'static str, String)>) -> ApiError {
        challenge(self.app, &self.flows, &self.named, failed, true)
    }

    /// How this stage stands.
    #[must_use]
    pub fn standing(&self, stage: Stage, now: UnixMs) -> Standing {
        match self.attempt(stage, now) {
            Attempt::Check(_) => Standing::Due,
            Attempt::Continue | Attempt::Complete(_) => Standing::Completed,
            Attempt::Refused(Refusal::OutOfOrder) => Standing::OutOfOrder,
            Attempt::Refused(Refusal::Gone | Refusal::NotYours) => Standing::Gone,
        }
    }

    /// Checks a stage with what was given for it, as the `auth` of a request would have it. How it
    /// stands afterwards: completed, if it was completed before too.
    ///
    /// # Errors
    /// What the checks say: 429, 503, 400 for a member of another type.
    pub async fn complete(
        &mut self,
        stage: Stage,
        auth: &Object,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<Result<Standing, Failure>, ApiError> {
        let now = self.app.clock.now();
        let Attempt::Check(check) = self.attempt(stage, now) else {
            return Ok(Ok(self.standing(stage, now)));
        };
        let body = Object::default();
        let protected = Protected {
            app: self.app,
            flows: self.flows.clone(),
            operation: self.operation(),
            asking: None,
            body: &body,
            path: None,
            caller,
            request_id,
        };
        let verdict = protected.check(stage, auth, now).await?;
        match check.judged(&self.flows, verdict) {
            Judgement::Failed(failure) => Ok(Err(failure)),
            // Complete or not, it is kept: the request that asked for it is yet to come.
            Judgement::Continue(advance) | Judgement::Complete(advance) => {
                self.keep(stage, advance).await.map(Ok)
            }
        }
    }

    async fn keep(&mut self, stage: Stage, advance: Advance) -> Result<Standing, ApiError> {
        let Advance { session, guard } = advance;
        let id_hash = id_hash(self.app, &self.named.name);
        let completed = Proof::to_text(&session.completed);
        if self.app.store.advance_uia(id_hash, guard, &completed, session.request_hash).await? {
            self.named.session = session;
            return Ok(Standing::Completed);
        }
        // Somebody was faster, with this stage or with the whole request.
        let Some(named) = find(self.app, &self.named.name).await? else { return Ok(Standing::Gone) };
        self.named = named;
        Ok(self.standing(stage, self.app.clock.now()))
    }

    fn attempt(&self, stage: Stage, now: UnixMs) -> Attempt {
        let session = &self.named.session;
        session.attempt(&self.flows, &session.request_on_a_page(), Some(stage.as_str()), now)
    }
}

/// The flows of the request that opened a session.
fn flows(app: &App, session: &UiaSession) -> Option<Flows> {
    match session.operation {
        Operation::Register => register::flows(app).ok(),
        // Nobody is signed in: the password was forgotten.
        Operation::AccountPassword if session.user.is_none() => password::ways_to_prove_an_address(app),
        Operation::AccountPassword
        | Operation::AccountDeactivate
        | Operation::DeleteDevice
        | Operation::DeleteDevices
        | Operation::AddThreepid
        | Operation::LoginToken => Some(Flows::one(Stage::Password)),
    }
}
