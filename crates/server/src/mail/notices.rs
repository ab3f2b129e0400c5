//! What the owner of an account is told by e-mail, whoever did it.
//!
//! A notice goes with the audit event of a commit, and storage adds it to the outbox for every
//! address of the account. `None` where nobody would be told.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::DeviceId;
use ligand_protocol::limits::NOTICE_LIFETIME_MS;
use ligand_protocol::validation::Medium;
use ligand_storage::outbox::Notice;
use serde_json::{Value, json};

use crate::config::Config;
use crate::extract::Caller;

/// Somebody signed in on a device that the account did not have.
#[must_use]
pub fn sign_in(
    config: &Config,
    localpart: &str,
    device: (&DeviceId, Option<&str>),
    caller: &Caller,
    now: UnixMs,
) -> Option<Notice> {
    let (device_id, device_name) = device;
    let params = json!({
        "user_id": user_id(config, localpart),
        "device_id": device_id.as_str(),
        "device_name": device_name,
        "address": caller.address.to_string(),
        "user_agent": caller.user_agent,
        "at": now,
    });
    notice(config, "notice_sign_in", params, now)
}

/// The password was set; no address when an operator did it.
#[must_use]
pub fn password(config: &Config, localpart: &str, caller: Option<&Caller>, now: UnixMs) -> Option<Notice> {
    let address = caller.map(|caller| caller.address.to_string());
    let params = json!({"user_id": user_id(config, localpart), "address": address, "at": now});
    notice(config, "notice_password", params, now)
}

/// A session was ended because a token of it was used twice.
#[must_use]
pub fn reuse(config: &Config, localpart: &str, device_id: Option<&DeviceId>, now: UnixMs) -> Option<Notice> {
    let device_id = device_id.map(DeviceId::as_str);
    let params = json!({"user_id": user_id(config, localpart), "device_id": device_id, "at": now});
    notice(config, "notice_reuse", params, now)
}

/// An address was added to the account or removed from it.
#[must_use]
pub fn threepid(
    config: &Config,
    localpart: &str,
    medium: Medium,
    added: bool,
    now: UnixMs,
) -> Option<Notice> {
    let params = json!({
        "user_id": user_id(config, localpart),
        "medium": medium.as_str(),
        "added_or_removed": if added { "added" } else { "removed" },
        "at": now,
    });
    notice(config, "notice_3pid", params, now)
}

fn notice(config: &Config, template: &'static str, params: Value, now: UnixMs) -> Option<Notice> {
    let wanted = config.email.host.is_some() && config.email.notices;
    wanted.then(|| Notice { template, params: params.to_string(), expires_at: now + NOTICE_LIFETIME_MS })
}

fn user_id(config: &Config, localpart: &str) -> String {
    format!("@{localpart}:{}", config.server_name)
}
