//! What the stages `m.login.terms` and `m.login.recaptcha` need: their `params`, the check of a
//! captcha, and the words for the audit table.

use ligand_protocol::UnixMs;
use ligand_protocol::limits::CAPTCHA_RESPONSE_BYTES_MAX;
use ligand_protocol::uia::{Failure, Flows, Proof, Stage, UiaSession};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::captcha::{self, Verdict};
use crate::error::ApiError;
use crate::extract::{Caller, Object};

/// The `params` of every stage in the flows that has some.
pub fn params(app: &App, flows: &Flows) -> Value {
    let mut params = Map::new();
    for stage in flows.iter().flat_map(|flow| flow.stages()) {
        let of_stage = match stage {
            Stage::Terms => json!({"policies": policies(app)}),
            Stage::Recaptcha => json!({"public_key": app.config.captcha.site_key}),
            _ => continue,
        };
        params.insert(stage.as_str().to_owned(), of_stage);
    }
    params.into()
}

/// The policies in the specification's shape: languages stand beside `version`.
fn policies(app: &App) -> Value {
    let policies = app.config.registration.terms.iter().map(|policy| {
        let mut body = Map::new();
        body.insert("version".to_owned(), policy.version.as_str().into());
        for (language, text) in &policy.texts {
            body.insert(language.clone(), json!({"name": text.name, "url": text.url}));
        }
        (policy.id.clone(), Value::Object(body))
    });
    Value::Object(policies.collect())
}

/// What a new account has agreed to, for the audit table.
#[must_use]
pub fn agreed(app: &App, session: &UiaSession) -> Option<String> {
    if !session.completed.contains(&Proof::Terms) {
        return None;
    }
    let policies = app.config.registration.terms.iter();
    let named: Vec<String> = policies.map(|policy| format!("{} {}", policy.id, policy.version)).collect();
    Some(format!("agreed to: {}", named.join(", ")))
}

/// Has the provider judge the answer to a captcha.
///
/// # Errors
/// 429; 503 when the provider cannot be asked: that is never a pass.
pub(super) async fn check_captcha(
    app: &App,
    auth: &Object,
    caller: &Caller,
    now: UnixMs,
) -> Result<Result<Proof, Failure>, ApiError> {
    let Some(response) = auth.text("response")?.filter(|response| !response.is_empty()) else {
        return Ok(Err(Failure::CaptchaNeeded));
    };
    app.limiters.captcha(caller.address, now)?;
    if response.len() > CAPTCHA_RESPONSE_BYTES_MAX {
        return Ok(Err(Failure::CaptchaInvalid));
    }
    match captcha::verify(app, response, caller.address).await {
        Verdict::Solved => Ok(Ok(Proof::Recaptcha)),
        Verdict::NotSolved => Ok(Err(Failure::CaptchaInvalid)),
        Verdict::Unknown(cause) => Err(ApiError::unavailable(format!("captcha: {cause}"))),
    }
}
