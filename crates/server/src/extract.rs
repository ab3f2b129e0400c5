//! Extractors that mean something: who calls, under which contract, with which session, saying what.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ligand_protocol::UnixMs;
use ligand_protocol::limits::{BODY_BYTES_MAX, BODY_READ_MS_MAX, USER_AGENT_BYTES_MAX};
use ligand_storage::audit::AuditEvent;
use ligand_storage::live::LiveSession;
use ligand_storage::sessions::Seen;
use serde_json::{Map, Value};

use crate::app::App;
use crate::application_services::ApplicationService;
use crate::config::Network;
use crate::error::ApiError;
use crate::standing::{self, Serves};
use crate::tokens::{self, Locked};

/// Which contract a path stands for (digest §5: the path picks the contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `api/v1`, `v2_alpha`: the API of 2015.
    Old,
    /// `r0`: both of its meanings.
    R0,
    /// `v3`, `v1`, `unstable`: today's.
    Today,
}

impl Surface {
    #[must_use]
    pub fn of(path: &str) -> Self {
        let rest = path.strip_prefix("/_matrix/client/").unwrap_or_default();
        match rest.split('/').next() {
            Some("api" | "v2_alpha") => Self::Old,
            Some("r0") => Self::R0,
            _ => Self::Today,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Surface {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts.uri.path()))
    }
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Caller {
    pub address: IpAddr,
    /// Shortened to what is stored.
    pub user_agent: Option<String>,
}

impl Caller {
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            address: client_address(headers, peer.to_canonical(), trusted),
            user_agent: user_agent
                .map(|text| text[..text.floor_char_boundary(USER_AGENT_BYTES_MAX)].to_owned()),
        }
    }

    /// What a session row remembers of the caller.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { ip: Some(self.address.to_string()), user_agent: self.user_agent.clone() }
    }

    /// An audit event by this caller.
    #[must_use]
    pub fn event(&self, action: &'static str, at: UnixMs) -> AuditEvent {
        AuditEvent {
            address: Some(self.address.to_string()),
            user_agent: self.user_agent.clone(),
            ..AuditEvent::new(action, at)
        }
    }
}

/// The rightmost address of `X-Forwarded-For` that no trusted proxy has; the peer's own, if the
/// peer is not a trusted proxy or the header says nothing usable. What stands further left was
/// written by strangers.
#[must_use]
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer;
    let hops = headers.get_all("x-forwarded-for").iter().rev();
    // By bytes: one that is no UTF-8 spoils its own hop, not those that proxies appended to it.
    for hop in hops.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        if !is_trusted(address) {
            break;
        }
        match std::str::from_utf8(hop).ok().and_then(|hop| forwarded_address(hop.trim())) {
            Some(next) => address = next.to_canonical(),
            // A proxy we trust wrote something that is no address: believe no further.
            None => break,
        }
    }
    address
}

/// An address with or without port or brackets, as proxies write them.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip())).or_else(|| {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok()
    })
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let peer = peer.ok_or_else(|| ApiError::unavailable("a request without a peer address"))?;
        Ok(Self::of(&parts.headers, peer, &app.config.http.trusted_proxies))
    }
}

/// A live session, by the access token of the request; guests are refused, and application services.
/// `standing` has the extractors that serve fewer; where application services are served too, and
/// guests, `identity` has them.
pub struct Authenticated(pub Arc<LiveSession>);

impl FromRequestParts<App> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let session = authenticate(parts, app).await?;
        standing::permit(app, session, Serves::Members).await.map(Self)
    }
}

/// As [`Authenticated`], where an access token is not needed. One that is given must be good.
pub struct IfAuthenticated(pub Option<Arc<LiveSession>>);

impl FromRequestParts<App> for IfAuthenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let in_query = query_params(parts.uri.query(), "access_token").next().is_some();
        if !in_query && !parts.headers.contains_key(AUTHORIZATION) {
            return Ok(Self(None));
        }
        let Authenticated(session) = Authenticated::from_request_parts(parts, app).await?;
        Ok(Self(Some(session)))
    }
}

/// The session whose token a request bears, whatever its standing. An application service is refused.
///
/// # Errors
/// 401 as the token deserves; 403; 503.
pub(crate) async fn authenticate(parts: &Parts, app: &App) -> Result<Arc<LiveSession>, ApiError> {
    match bearer(parts, app, Locked::Refused).await? {
        Bearer::Session(session) => Ok(session),
        Bearer::Service(_) => Err(ApiError::forbidden("Application services cannot do this.")),
    }
}

/// Whose token a request bears.
pub enum Bearer {
    Session(Arc<LiveSession>),
    Service(Arc<ApplicationService>),
}

/// Judges the token of a request.
///
/// # Errors
/// 401 as the token deserves; 503.
pub async fn bearer(parts: &Parts, app: &App, locked: Locked) -> Result<Bearer, ApiError> {
    let result = match access_token(parts, app.config.compat.query_access_token) {
        Ok(token) => owner(app, &token, locked).await,
        Err(error) => Err(error),
    };
    // In 2015 the first version of the API used 403 where later ones use 401.
    let old_status =
        app.config.compat.legacy_v1_403 && parts.uri.path().starts_with("/_matrix/client/api/v1/");
    result.map_err(|error| match error.status() {
        StatusCode::UNAUTHORIZED if old_status => error.with_status(StatusCode::FORBIDDEN),
        _ => error,
    })
}

async fn owner(app: &App, token: &str, locked: Locked) -> Result<Bearer, ApiError> {
    match app.application_services.of_token(token) {
        Some(service) => Ok(Bearer::Service(Arc::clone(service))),
        None => tokens::check(app, token, locked).await.map(Bearer::Session),
    }
}

/// The token of an application service, for what it does in its own name. Judged only when asked
/// for, since the same URLs serve people who have none.
pub struct ServiceToken(Result<String, ApiError>);

impl FromRequestParts<App> for ServiceToken {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(access_token(parts, app.config.compat.query_access_token)))
    }
}

impl ServiceToken {
    /// The service that bears it.
    ///
    /// # Errors
    /// 401 for no token, or one that is nobody's; 403 for a person's (digest §5 C1).
    pub async fn service(self, app: &App) -> Result<Arc<ApplicationService>, ApiError> {
        match owner(app, &self.0?, Locked::Refused).await? {
            Bearer::Service(service) => Ok(service),
            Bearer::Session(_) => Err(ApiError::forbidden("Only application services can do this.")),
        }
    }
}

/// The access token, from the header, or from the query where that is still served.
fn access_token(parts: &Parts, query_everywhere: bool) -> Result<String, ApiError> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let header = match (headers.next(), headers.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err(ApiError::missing_token()),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| ApiError::missing_token())?;
            let (scheme, token) = text.split_once(' ').ok_or_else(ApiError::missing_token)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(ApiError::missing_token());
            }
            Some(token.trim().to_owned())
        }
    };
    let served = query_everywhere || Surface::of(parts.uri.path()) != Surface::Today;
    let given = query_params(parts.uri.query(), "access_token").filter(|_| served);
    let query = match given.collect::<Vec<_>>().as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => return Err(ApiError::missing_token()),
    };
    match (header, query) {
        (Some(header), Some(query)) if header != query => Err(ApiError::missing_token()),
        (Some(token), _) | (None, Some(token)) => Ok(token),
        (None, None) => Err(ApiError::missing_token()),
    }
}

/// The first value of a query parameter, decoded.
#[must_use]
pub fn query_param(query: Option<&str>, name: &str) -> Option<String> {
    query_params(query, name).next()
}

fn query_params<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter_map(move |(key, value)| (key == name).then(|| value.into_owned()))
}

/// A request body that is one JSON object. The content type does not matter: clients need not
/// send one.
#[derive(Debug, Default, Clone)]
pub struct Object(pub Map<String, Value>);

impl<S: Sync> FromRequest<S> for Object {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Self::parse(&read_body(request).await?)
    }
}

/// As [`Object`], where an empty body counts as `{}` (DELETE requests).
pub struct OptionalObject(pub Object);

impl<S: Sync> FromRequest<S> for OptionalObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request).await?;
        if bytes.is_empty() { Ok(Self(Object::default())) } else { Object::parse(&bytes).map(Self) }
    }
}

/// The fields of a form that a page sent, each as text.
pub struct Form(pub Object);

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request).await?;
        let fields = form_urlencoded::parse(&bytes);
        Ok(Self(Object(fields.map(|(name, value)| (name.into_owned(), value.into())).collect())))
    }
}

async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "The body is too large.");
    let declared = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let wait = Duration::from_millis(BODY_READ_MS_MAX.unsigned_abs());
    let Ok(body) = tokio::time::timeout(wait, body).await else {
        return Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "M_UNKNOWN",
            "The body did not come in time.",
        ));
    };
    match body {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if is_length_limit(error.as_ref()) => Err(too_large()),
        Err(_) => Err(ApiError::not_json()),
    }
}

fn is_length_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_length_limit)
}

impl Object {
    /// # Errors
    /// `M_NOT_JSON`, or `M_BAD_JSON` for JSON that is no object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::bad_json("The body must be a JSON object.")),
            Err(_) => Err(ApiError::not_json()),
        }
    }

    /// A member that is a string, if it is there. `null` counts as absent.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for another type.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid_param(format!("{key} must be a string."))),
        }
    }

    /// A member that has to be there.
    ///
    /// # Errors
    /// `M_MISSING_PARAM`, or as [`Object::text`].
    pub fn required_text(&self, key: &str) -> Result<&str, ApiError> {
        self.text(key)?.ok_or_else(|| ApiError::missing_param(key))
    }

    /// A member that is true or false, if it is there.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(ApiError::invalid_param(format!("{key} must be true or false."))),
        }
    }

    /// A member that is itself an object, if it is there.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for another type.
    pub fn object(&self, key: &str) -> Result<Option<Self>, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self(map.clone()))),
            Some(_) => Err(ApiError::invalid_param(format!("{key} must be an object."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(forwarded: &[&str], peer: &str) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        client_address(&headers, peer.parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_hop_counts() {
        assert_eq!(address(&[], "127.0.0.1"), "127.0.0.1");
        assert_eq!(address(&["203.0.113.7"], "127.0.0.1"), "203.0.113.7");
        assert_eq!(address(&["198.51.100.1, 203.0.113.7"], "127.0.0.1"), "203.0.113.7");
        assert_eq!(address(&["198.51.100.1, 203.0.113.7, 10.1.2.3"], "127.0.0.1"), "203.0.113.7");
        assert_eq!(address(&["198.51.100.1", "203.0.113.7"], "127.0.0.1"), "203.0.113.7");
        assert_eq!(address(&["10.9.9.9, 10.1.2.3"], "127.0.0.1"), "10.9.9.9");
    }

    #[test]
    fn a_stranger_may_write_what_it_likes() {
        assert_eq!(address(&["198.51.100.1"], "203.0.113.9"), "203.0.113.9");
        assert_eq!(address(&["garbage"], "127.0.0.1"), "127.0.0.1");
        assert_eq!(address(&["198.51.100.1, garbage"], "127.0.0.1"), "127.0.0.1");
        assert_eq!(address(&["[2001:db8::1]:443"], "127.0.0.1"), "2001:db8::1");
        assert_eq!(address(&["203.0.113.7:5"], "127.0.0.1"), "203.0.113.7");
        assert_eq!(address(&["::ffff:203.0.113.7"], "127.0.0.1"), "203.0.113.7");
        let mut headers = HeaderMap::new();
        headers
            .append("x-forwarded-for", axum::http::HeaderValue::from_bytes(b"caf\xe9, 203.0.113.7").unwrap());
        let trusted = ["127.0.0.1".parse().unwrap()];
        let seen = client_address(&headers, "127.0.0.1".parse().unwrap(), &trusted);
        assert_eq!(seen.to_string(), "203.0.113.7");
    }

    #[test]
    fn the_path_picks_the_contract() {
        assert_eq!(Surface::of("/_matrix/client/api/v1/login"), Surface::Old);
        assert_eq!(Surface::of("/_matrix/client/v2_alpha/register"), Surface::Old);
        assert_eq!(Surface::of("/_matrix/client/r0/login"), Surface::R0);
        for path in ["/_matrix/client/v3/login", "/_matrix/client/unstable/login", "/health"] {
            assert_eq!(Surface::of(path), Surface::Today);
        }
    }
}
