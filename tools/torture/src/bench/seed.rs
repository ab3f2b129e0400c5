//! Sessions by the million, put straight into the database before the server starts: accounts with
//! four devices each, every device with a live session and genuine tokens.

use std::path::Path;

use anyhow::{Context as _, Result};
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use futures_util::SinkExt as _;
use ligand_protocol::ids::SessionId;
use ligand_protocol::token::{Minted, Secret, TEXT_CHARS, TagKeys, TokenHash, TokenKind};
use rusqlite::{Connection, params};

use crate::rng::Rng;

/// The password of every seeded account.
pub const PASSWORD: &str = "a long enough secret";
/// A token's text, kept without a heap of its own: there are millions.
pub type Text = [u8; TEXT_CHARS];

const DEVICES_PER_USER: usize = 4;
/// A session was signed in a week ago and refreshed a few times since.
const GENERATION: u32 = 5;
const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
const NEVER: i64 = i64::MAX;
const SEALED_BYTES: usize = 104;

/// Whether the newest pair of each session has been used yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// Used: a check has nothing to write.
    Acknowledged,
    /// Just refreshed, as every session is between two refreshes of a load without checks.
    Unacknowledged,
}

/// A seeded session, as the load needs it.
pub struct Seeded {
    pub id: SessionId,
    pub access: Text,
    pub refresh: Text,
    access_hash: TokenHash,
    pub refresh_hash: TokenHash,
}

/// Mints `count` sessions, in the order of their ids, which is the order of the table.
pub fn mint(count: usize, keys: &TagKeys, rng: &mut Rng) -> Vec<Seeded> {
    let mut ids: Vec<[u8; 16]> = (0..count).map(|_| bytes(rng)).collect();
    ids.sort_unstable();
    let ids = ids.into_iter().map(SessionId);
    ids.map(|id| {
        let mut token = |kind| Minted::new(kind, id, GENERATION, &Secret(bytes(rng)), keys);
        let (access, refresh) = (token(TokenKind::Access), token(TokenKind::Refresh));
        Seeded {
            id,
            access: text_of(access.text.expose()),
            refresh: text_of(refresh.text.expose()),
            access_hash: access.hash,
            refresh_hash: refresh.hash,
        }
    })
    .collect()
}

/// Random bytes; not for secrets that protect anything.
pub fn bytes<const N: usize>(rng: &mut Rng) -> [u8; N] {
    let mut out = [0; N];
    for chunk in out.chunks_mut(8) {
        let word = rng.next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    out
}

fn text_of(text: &str) -> Text {
    let mut out = [0; TEXT_CHARS];
    out.copy_from_slice(text.as_bytes());
    out
}

/// Name of the account with this number.
pub fn localpart(user: usize) -> String {
    format!("user{user:07}")
}

/// One row of `sessions`, in the order of [`COLUMNS`].
struct Row {
    session_id: [u8; 16],
    user_id: i64,
    device_id: String,
    acked_gen: u32,
    acked_at: Option<i64>,
    rt_hash: [u8; 32],
    rt_prev_hash: [u8; 32],
    sealed: Option<[u8; SEALED_BYTES]>,
    at_hash: [u8; 32],
    at_prev_hash: [u8; 32],
}

const COLUMNS: &str = "session_id, user_id, device_id, acked_gen, acked_at, rt_hash, rt_prev_hash, sealed, \
     at_hash, at_prev_hash, user_epoch, api, status, gen, head_at, rt_exp, session_exp, at_exp, at_prev_exp, \
     created_at, last_seen, ip, user_agent";

/// What all rows have in common, as SQL, for the columns from `user_epoch` on.
fn common(now: i64) -> String {
    format!(
        "0, 0, 0, {GENERATION}, {now}, {NEVER}, {NEVER}, {NEVER}, {NEVER}, {}, {now}, '127.0.0.1', '{}'",
        now - WEEK_MS,
        super::clients::USER_AGENT
    )
}

fn row(number: usize, seeded: &Seeded, heads: Heads, now: i64, rng: &mut Rng) -> Row {
    let used = heads == Heads::Acknowledged;
    Row {
        session_id: seeded.id.0,
        user_id: user_id(number / DEVICES_PER_USER),
        device_id: format!("DEVICE{:04}", number % DEVICES_PER_USER),
        acked_gen: if used { GENERATION } else { GENERATION - 1 },
        acked_at: used.then_some(now),
        rt_hash: seeded.refresh_hash.0,
        rt_prev_hash: bytes(rng),
        sealed: (!used).then(|| bytes(rng)),
        at_hash: seeded.access_hash.0,
        at_prev_hash: bytes(rng),
    }
}

fn user_id(user: usize) -> i64 {
    1 + i64::try_from(user).unwrap_or(i64::MAX - 1)
}

/// How many accounts that many sessions belong to; at least as many as sign-in uses.
fn users(sessions: usize) -> usize {
    sessions.div_ceil(DEVICES_PER_USER).max(SIGN_IN_USERS)
}

/// Accounts that exist even without a session.
pub const SIGN_IN_USERS: usize = 64;

pub fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Fills a SQLite file that `ligand database migrate` has made and nobody has open.
pub fn sqlite(file: &Path, sessions: &[Seeded], heads: Heads, rng: &mut Rng) -> Result<()> {
    let mut connection = Connection::open(file)?;
    // Until it is filled there is nothing to lose.
    connection
        .execute_batch("pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -262144;")?;
    let now = now_ms();
    let hash = password_hash()?;
    let transaction = connection.transaction()?;
    {
        let mut user = transaction.prepare(
            "insert into users (id, localpart, password_hash, created_at, password_changed_at) values (?1, ?2, ?3, ?4, ?4)",
        )?;
        for number in 0..users(sessions.len()) {
            user.execute(params![user_id(number), localpart(number), hash, now])?;
        }
        let mut device = transaction
            .prepare("insert into devices (user_id, device_id, created_at) values (?1, ?2, ?3)")?;
        let mut session = transaction.prepare(&format!(
            "insert into sessions ({COLUMNS}) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, {})",
            common(now)
        ))?;
        for (number, seeded) in sessions.iter().enumerate() {
            let row = row(number, seeded, heads, now, rng);
            device.execute(params![row.user_id, row.device_id, now])?;
            session.execute(params![
                row.session_id,
                row.user_id,
                row.device_id,
                row.acked_gen,
                row.acked_at,
                row.rt_hash,
                row.rt_prev_hash,
                row.sealed,
                row.at_hash,
                row.at_prev_hash
            ])?;
        }
    }
    transaction.commit()?;
    connection.execute_batch("pragma optimize")?;
    drop(connection);
    // What is written back later would be charged to whoever commits first.
    std::fs::File::open(file)?.sync_all()?;
    Ok(())
}

/// Fills a PostgreSQL database that `ligand database migrate` has prepared.
pub async fn postgres(
    client: &tokio_postgres::Client,
    sessions: &[Seeded],
    heads: Heads,
    rng: &mut Rng,
) -> Result<()> {
    let now = now_ms();
    let hash = password_hash()?;
    let users = (0..users(sessions.len()))
        .map(|number| format!("{}\t{}\t{hash}\t{now}\t{now}\n", user_id(number), localpart(number)));
    copy(client, "users (id, localpart, password_hash, created_at, password_changed_at)", users).await?;
    let devices = (0..sessions.len()).map(|number| {
        let user = user_id(number / DEVICES_PER_USER);
        format!("{user}\tDEVICE{:04}\t{now}\n", number % DEVICES_PER_USER)
    });
    copy(client, "devices (user_id, device_id, created_at)", devices).await?;
    let common = common(now).replace(", ", "\t").replace('\'', "");
    let rows = sessions.iter().enumerate().map(|(number, seeded)| {
        let row = row(number, seeded, heads, now, rng);
        let acked_at = row.acked_at.map_or("\\N".to_owned(), |at| at.to_string());
        let sealed = row.sealed.map_or("\\N".to_owned(), |sealed| bytea(&sealed));
        format!(
            "{}\t{}\t{}\t{}\t{acked_at}\t{}\t{}\t{sealed}\t{}\t{}\t{common}\n",
            bytea(&row.session_id),
            row.user_id,
            row.device_id,
            row.acked_gen,
            bytea(&row.rt_hash),
            bytea(&row.rt_prev_hash),
            bytea(&row.at_hash),
            bytea(&row.at_prev_hash),
        )
    });
    copy(client, &format!("sessions ({COLUMNS})"), rows).await?;
    // Vacuum cannot be one of several statements sent at once.
    client.batch_execute("vacuum analyze users, devices, sessions").await?;
    Ok(client.batch_execute("checkpoint").await?)
}

fn bytea(bytes: &[u8]) -> String {
    format!("\\\\x{}", HEXLOWER.encode(bytes))
}

async fn copy(
    client: &tokio_postgres::Client,
    table: &str,
    rows: impl Iterator<Item = String>,
) -> Result<()> {
    let sink = client.copy_in(&format!("copy {table} from stdin")).await;
    let sink = sink.with_context(|| format!("copying into {table}"))?;
    let mut sink = std::pin::pin!(sink);
    let mut chunk = String::new();
    for row in rows {
        chunk.push_str(&row);
        if chunk.len() > 1 << 20 {
            sink.send(bytes::Bytes::from(std::mem::take(&mut chunk))).await?;
        }
    }
    sink.send(bytes::Bytes::from(chunk)).await?;
    sink.finish().await?;
    Ok(())
}

/// The server's own parameters; one hash for all accounts.
pub fn argon2() -> Result<Argon2<'static>> {
    use ligand_server::passwords::{LANES, MEMORY_KIB, PASSES};
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32));
    let params = params.map_err(|error| anyhow::anyhow!("Argon2id: {error}"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn password_hash() -> Result<String> {
    use ligand_server::passwords::{LANES, MEMORY_KIB, PASSES};
    let salt = b"sixteen bytes of";
    let mut out = [0; 32];
    let hashed = argon2()?.hash_password_into(PASSWORD.as_bytes(), salt, &mut out);
    hashed.map_err(|error| anyhow::anyhow!("Argon2id: {error}"))?;
    let (salt, hash) = (BASE64_NOPAD.encode(salt), BASE64_NOPAD.encode(&out));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
}
