//! Devices: Client-Server API, "Device management".

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ligand_protocol::ids::DeviceId;
use ligand_protocol::limits::{DELETE_DEVICES_MAX, DISPLAY_NAME_CHARS_MAX};
use ligand_protocol::session::EndReason;
use ligand_protocol::uia::{Flows, Operation, Stage};
use ligand_storage::audit::AuditEvent;
use ligand_storage::devices::{Device, NewDevice};
use ligand_storage::live::LiveSession;
use serde::Serialize;
use serde_json::{Value, json};

use super::uia;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object, OptionalObject};
use crate::identity::{Asserted, GuestsToo, Identity};
use crate::middleware::RequestId;

/// A device on the wire.
#[derive(Serialize)]
pub struct DeviceBody {
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ts: Option<i64>,
}

impl From<Device> for DeviceBody {
    fn from(device: Device) -> Self {
        Self {
            device_id: device.device_id,
            display_name: device.display_name,
            last_seen_ip: device.last_seen_ip,
            last_seen_ts: device.last_seen,
        }
    }
}

/// `GET /devices`.
pub async fn list(State(app): State<App>, GuestsToo(identity): GuestsToo) -> Result<Json<Value>, ApiError> {
    let devices = app.store.devices_of(identity.user()).await?;
    let devices: Vec<DeviceBody> = devices.into_iter().map(Into::into).collect();
    Ok(Json(json!({"devices": devices})))
}

/// `GET /devices/{deviceId}`.
pub async fn get(
    State(app): State<App>,
    GuestsToo(identity): GuestsToo,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DeviceBody>, ApiError> {
    let id = in_path(id).ok_or_else(no_such_device)?;
    let device = app.store.find_device(identity.user(), &id).await?;
    device.map(|device| Json(device.into())).ok_or_else(no_such_device)
}

/// `PUT /devices/{deviceId}`: renames. For an application service it also creates.
pub async fn put(
    State(app): State<App>,
    GuestsToo(identity): GuestsToo,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
    body: Object,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let id = in_path(id).ok_or_else(no_such_device)?;
    let user = identity.user();
    let name = body.text("display_name")?.map(display_name).transpose()?;
    let known = match &name {
        Some(name) => app.store.rename_device(user, &id, Some(name)).await?,
        // Not given: the name is unchanged, but the device must exist.
        None => app.store.find_device(user, &id).await?.is_some(),
    };
    let status = match identity {
        _ if known => StatusCode::OK,
        Identity::Session(_) => return Err(no_such_device()),
        Identity::Asserted(asserted) => create(&app, &asserted, &id, name, &caller).await?,
    };
    Ok((status, Json(json!({}))))
}

/// A device without a session, which only an application service can use. Of two requests at once
/// one has created it, and the other finds it there.
async fn create(
    app: &App,
    asserted: &Asserted,
    id: &DeviceId,
    name: Option<String>,
    caller: &Caller,
) -> Result<StatusCode, ApiError> {
    let now = app.clock.now();
    app.limiters.service(&asserted.service, now)?;
    let user = asserted.user.key;
    let event = asserted.event("device_created", caller, now);
    match app.store.create_device(user, id, name.as_deref(), &event).await? {
        NewDevice::Created => Ok(StatusCode::CREATED),
        NewDevice::Exists => {
            if name.is_some() {
                app.store.rename_device(user, id, name.as_deref()).await?;
            }
            Ok(StatusCode::OK)
        }
        NewDevice::NoSuchUser => Err(ApiError::user_deactivated()),
    }
}

/// `DELETE /devices/{deviceId}`. A device that is gone already is no error.
pub async fn delete(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
    OptionalObject(body): OptionalObject,
) -> Result<Json<Value>, ApiError> {
    let device = in_path(id);
    let session = match identity {
        Identity::Session(session) => session,
        Identity::Asserted(asserted) => {
            return forget_unasked(&app, &asserted, device.as_slice(), &caller).await;
        }
    };
    let path = device.as_ref().map_or("", DeviceId::as_str);
    let protected =
        protected(&app, Operation::DeleteDevice, &session, &body, Some(path), &caller, request_id)?;
    forget(&protected, &session, device.as_slice()).await
}

/// `POST /delete_devices`.
pub async fn delete_several(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    identity: Identity,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    let devices = match body.0.get("devices") {
        Some(Value::Array(devices)) if devices.len() <= DELETE_DEVICES_MAX => devices,
        Some(Value::Array(_)) => {
            return Err(ApiError::invalid_param(format!("devices may name {DELETE_DEVICES_MAX} at most.")));
        }
        Some(_) => return Err(ApiError::invalid_param("devices must be a list.")),
        None => return Err(ApiError::missing_param("devices")),
    };
    let text = |device: &Value| device.as_str().map(ToOwned::to_owned);
    let devices: Option<Vec<String>> = devices.iter().map(text).collect();
    let devices = devices.ok_or_else(|| ApiError::invalid_param("devices must be a list of strings."))?;
    let mut devices: Vec<DeviceId> = devices.iter().filter_map(|id| DeviceId::parse(id).ok()).collect();
    devices.sort_unstable();
    devices.dedup();
    let session = match identity {
        Identity::Session(session) => session,
        Identity::Asserted(asserted) => return forget_unasked(&app, &asserted, &devices, &caller).await,
    };
    let protected = protected(&app, Operation::DeleteDevices, &session, &body, None, &caller, request_id)?;
    forget(&protected, &session, &devices).await
}

fn protected<'a>(
    app: &'a App,
    operation: Operation,
    session: &'a LiveSession,
    body: &'a Object,
    path: Option<&'a str>,
    caller: &'a Caller,
    request_id: RequestId,
) -> Result<uia::Protected<'a>, ApiError> {
    super::legacy_only(session)?;
    let asking = Some(session);
    Ok(uia::Protected {
        app,
        flows: Flows::one(Stage::Password),
        operation,
        asking,
        body,
        path,
        caller,
        request_id,
    })
}

async fn forget(
    protected: &uia::Protected<'_>,
    session: &LiveSession,
    devices: &[DeviceId],
) -> Result<Json<Value>, ApiError> {
    let passed = protected.require().await?;
    let app = protected.app;
    let now = app.clock.now();
    let event = AuditEvent {
        actor: Some(session.user.localpart.to_string()),
        user: Some(session.user.key),
        session: Some(session.id),
        detail: Some(format!("{} devices", devices.len())),
        ..protected.caller.event(EndReason::DeviceDeleted.as_str(), now)
    };
    let Some(asked) = passed.asked(session) else { return Err(protected.begin_again().await?) };
    if !app.store.delete_devices(session.user.key, devices, Some(&asked), &event).await? {
        return Err(protected.overtaken().await?);
    }
    app.metrics.ended(EndReason::DeviceDeleted);
    Ok(Json(json!({})))
}

/// For an application service, which has nothing to prove but its token (since v1.17).
async fn forget_unasked(
    app: &App,
    asserted: &Asserted,
    devices: &[DeviceId],
    caller: &Caller,
) -> Result<Json<Value>, ApiError> {
    let event = AuditEvent {
        detail: Some(format!("{} devices", devices.len())),
        ..asserted.event(EndReason::DeviceDeleted.as_str(), caller, app.clock.now())
    };
    app.store.delete_devices(asserted.user.key, devices, None, &event).await?;
    app.metrics.ended(EndReason::DeviceDeleted);
    Ok(Json(json!({})))
}

/// A display name within bounds.
///
/// # Errors
/// 400 when it is too long, or holds the one character that PostgreSQL cannot store.
pub(super) fn display_name(text: &str) -> Result<String, ApiError> {
    if text.chars().count() > DISPLAY_NAME_CHARS_MAX {
        return Err(ApiError::invalid_param(format!(
            "A device's name may have {DISPLAY_NAME_CHARS_MAX} characters at most."
        )));
    }
    if text.contains('\0') {
        return Err(ApiError::invalid_param("A device's name may not hold U+0000."));
    }
    Ok(text.to_owned())
}

/// The device that a path names; none if it cannot be the ID of any.
fn in_path(id: Result<Path<String>, PathRejection>) -> Option<DeviceId> {
    id.ok().and_then(|Path(id)| DeviceId::parse(&id).ok())
}

fn no_such_device() -> ApiError {
    ApiError::not_found("There is no such device.")
}
