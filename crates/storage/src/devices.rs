//! Device rows: what outlives a session. A soft logout keeps the device and its name.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, UserKey};

use crate::audit::{self, AuditEvent};
use crate::{Committed, Row, Store, StoreError, Write, params};

/// A device as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub device_id: String,
    pub display_name: Option<String>,
    /// From the newest session of the device, if one lives.
    pub last_seen: Option<UnixMs>,
    pub last_seen_ip: Option<String>,
}

/// How creating a device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewDevice {
    Created,
    /// It is there already, and is left as it is.
    Exists,
    /// The account is gone, locked or deactivated.
    NoSuchUser,
}

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT d.device_id, d.display_name, s.last_seen, s.ip FROM devices d \
             LEFT JOIN sessions s ON s.user_id = d.user_id AND s.device_id = d.device_id AND s.status = 0 \
             WHERE d.user_id = $1 ", $condition
        )
    };
}

const LIST: &str = select!("ORDER BY d.created_at, d.device_id");
const FIND: &str = select!("AND d.device_id = $2");
const RENAME: &str = "UPDATE devices SET display_name = $3 WHERE user_id = $1 AND device_id = $2";

/// Takes the row lock that comes first in the order, while the account is in use.
const IN_USE: &str = "UPDATE users SET epoch = epoch WHERE id = $1 AND state = 0";
const CREATE: &str = "INSERT INTO devices (user_id, device_id, display_name, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (user_id, device_id) DO NOTHING";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[("RENAME", RENAME), ("IN_USE", IN_USE)];

impl Store {
    /// # Errors
    /// Storage trouble.
    pub async fn devices_of(&self, user: UserKey) -> Result<Vec<Device>, StoreError> {
        self.read(LIST, params![user]).await?.iter().map(device).collect()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn find_device(&self, user: UserKey, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        self.read(FIND, params![user, id.as_str()]).await?.first().map(device).transpose()
    }

    /// `false` if there is no such device.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn rename_device(
        &self,
        user: UserKey,
        id: &DeviceId,
        display_name: Option<&str>,
    ) -> Result<bool, StoreError> {
        let write = Write::one(RENAME, params![user, id.as_str(), display_name]);
        Ok(matches!(self.commit(vec![write], Vec::new()).await?, Committed::Done(_)))
    }

    /// Creates a device that no session is on.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn create_device(
        &self,
        user: UserKey,
        id: &DeviceId,
        display_name: Option<&str>,
        event: &AuditEvent,
    ) -> Result<NewDevice, StoreError> {
        let batch = vec![
            Write::one(IN_USE, params![user]),
            Write::one(CREATE, params![user, id.as_str(), display_name, event.at]),
            audit::write(event),
        ];
        Ok(match self.commit(batch, Vec::new()).await? {
            Committed::Done(_) => NewDevice::Created,
            Committed::Conflict { at: 0 } => NewDevice::NoSuchUser,
            Committed::Conflict { .. } => NewDevice::Exists,
        })
    }
}

fn device(row: &Row) -> Result<Device, StoreError> {
    Ok(Device {
        device_id: row.text(0)?.to_owned(),
        display_name: row.opt_text(1)?.map(ToOwned::to_owned),
        last_seen: row.opt_int(2)?,
        last_seen_ip: row.opt_text(3)?.map(ToOwned::to_owned),
    })
}
