//! The table: for each term, what bends the scene so that this term alone refuses.

use ligand_protocol::NEVER;
use ligand_storage::{Value, Write, params};

/// One statement, the parameters with which it does something in the scene, and its terms.
pub struct Statement {
    pub name: &'static str,
    /// What the scene lacks for it.
    pub prepare: Vec<&'static str>,
    pub params: Vec<Value>,
    pub cases: Vec<Case>,
}

/// One term, and the state in which it alone refuses.
pub struct Case {
    pub term: &'static str,
    /// Changes to the rows.
    pub rows: Vec<&'static str>,
    /// Other parameters, by number.
    pub params: Vec<(usize, Value)>,
}

/// Statements whose guard cannot be seen from outside, and why.
pub const EXEMPT: [(&str, &str); 4] = [
    ("changes::NEXT", "its table has one row, by a check of the schema"),
    // The engines number messages, so that no case can name one; `outbox` has the cases.
    ("outbox::CLAIM", "each term has its case in `a_claim_is_by_id_and_attempts`"),
    ("outbox::POSTPONE", "each term has its case in `a_settlement_is_by_id_and_attempts`"),
    ("outbox::SETTLE", "each term has its case in `a_settlement_is_by_id_and_attempts`"),
];

pub const DUMP: [&str; 12] = [
    "SELECT * FROM sessions ORDER BY session_id",
    "SELECT * FROM users ORDER BY id",
    "SELECT * FROM devices ORDER BY user_id, device_id",
    "SELECT * FROM uia_sessions ORDER BY id_hash",
    "SELECT * FROM registration_tokens ORDER BY token_hash",
    "SELECT * FROM login_tokens ORDER BY token_hash",
    "SELECT * FROM openid_tokens ORDER BY token_hash",
    "SELECT * FROM changes ORDER BY seq",
    "SELECT * FROM meta ORDER BY key",
    "SELECT * FROM validations ORDER BY id",
    "SELECT * FROM threepids ORDER BY medium, address",
    "SELECT * FROM outbox ORDER BY id",
];

const SESSION: [u8; 16] = [0x11; 16];
const NOBODY: [u8; 16] = [0x99; 16];
const LEAST: [u8; 16] = [0; 16];
const GREATEST: [u8; 16] = [0xff; 16];
const REFRESH: [u8; 32] = [0xb4; 32];
const REFRESH_BEFORE: [u8; 32] = [0xb3; 32];
const ACCESS: [u8; 32] = [0xa4; 32];
const ACCESS_BEFORE: [u8; 32] = [0xa3; 32];
const OTHER: [u8; 32] = [0xee; 32];
const NEW: [u8; 32] = [0xc5; 32];
const NAME: [u8; 32] = [0x77; 32];
const NOW: i64 = 1_000;

/// The scene, whatever was there before. User 1 is as every statement likes it, on device A with
/// an unused head of generation 4; user 2 stands by. Now is 1000.
pub fn scene() -> Vec<Write> {
    const EMPTY: [&str; 12] = [
        "DELETE FROM sessions",
        "DELETE FROM users",
        "DELETE FROM devices",
        "DELETE FROM uia_sessions",
        "DELETE FROM registration_tokens",
        "DELETE FROM login_tokens",
        "DELETE FROM openid_tokens",
        "DELETE FROM changes",
        "DELETE FROM meta",
        "DELETE FROM validations",
        "DELETE FROM threepids",
        "DELETE FROM outbox",
    ];
    const USERS: &str = "INSERT INTO users (id, localpart, password_hash, epoch, created_at, password_changed_at) \
        VALUES (1, 'alice', 'hash', 3, 0, 50), (2, 'bob', 'hash', 3, 0, 50)";
    const DEVICES: &str = "INSERT INTO devices (user_id, device_id, created_at) VALUES (1, 'A', 0)";
    const SESSIONS: &str = "INSERT INTO sessions (session_id, user_id, user_epoch, device_id, api, gen, acked_gen, \
        head_at, rt_hash, rt_prev_hash, sealed, rt_exp, session_exp, at_hash, at_exp, at_prev_hash, at_prev_exp, \
        created_at, last_seen) VALUES ($1, $2, 3, 'A', 0, 4, 3, 0, $3, $4, $5, 2000, $6, $7, 2000, $8, 2000, 0, 0)";
    const UIA: &str = "INSERT INTO uia_sessions (id_hash, operation, request_hash, completed, created_at, \
        expires_at, revision) VALUES ($1, 'op', $1, '[]', 0, 2000, 6)";
    const TOKEN: &str = "INSERT INTO registration_tokens (token_hash, name, uses_allowed, used, expires_at, \
        created_at) VALUES ($1, 'name', 5, 4, 2000, 0)";
    const VALIDATION: &str = "INSERT INTO validations (id, secret_hash, purpose, medium, address, send_attempt, \
        sent, failures, created_at, expires_at) VALUES ($1, $2, 'register', 'email', 'a@b', 1, 1, 2, 0, 2000)";
    const LOGIN_TOKEN: &str = "INSERT INTO login_tokens (token_hash, user_id, user_epoch, expires_at) \
        VALUES ($1, 1, 3, 2000)";
    const OPENID_TOKEN: &str = "INSERT INTO openid_tokens (token_hash, user_id, user_epoch, expires_at) \
        VALUES ($1, 1, 3, 2000)";
    const ADDRESS: &str = "INSERT INTO threepids (medium, address, user_id, validated_at, added_at) \
        VALUES ('email', 'alice@example.org', 1, 0, 0)";
    const MAIL: &str = "INSERT INTO outbox (medium, recipient, template, params, created_at, due_at, expires_at) \
        VALUES ('email', 'alice@example.org', 'test', '{}', 0, 0, 2000)";
    let mut scene: Vec<Write> = EMPTY.iter().map(|sql| Write::any(sql, Vec::new())).collect();
    scene.extend([
        Write::any(USERS, Vec::new()),
        Write::any(DEVICES, Vec::new()),
        Write::any(
            SESSIONS,
            params![SESSION, 1, REFRESH, REFRESH_BEFORE, [5; 104], 9_000, ACCESS, ACCESS_BEFORE],
        ),
        Write::any(SESSIONS, params![[0x22; 16], 2, OTHER, OTHER, [5; 104], NEVER, OTHER, OTHER]),
        Write::any(UIA, params![NAME]),
        Write::any(TOKEN, params![NAME]),
        Write::any(LOGIN_TOKEN, params![NAME]),
        Write::any(OPENID_TOKEN, params![NAME]),
        Write::any("INSERT INTO changes (seq, kind, user_id, at) VALUES (1, 2, 1, 10)", Vec::new()),
        Write::any("INSERT INTO meta (key, value) VALUES ('floor', 10)", Vec::new()),
        Write::any(VALIDATION, params![SESSION, OTHER]),
        Write::any(ADDRESS, Vec::new()),
        Write::any(MAIL, Vec::new()),
    ]);
    scene
}

fn row(term: &'static str, sql: &'static str) -> Case {
    Case { term, rows: vec![sql], params: Vec::new() }
}

fn param(term: &'static str, number: usize, value: impl Into<Value>) -> Case {
    Case { term, rows: Vec::new(), params: vec![(number, value.into())] }
}

impl Case {
    fn and_param(mut self, number: usize, value: impl Into<Value>) -> Self {
        self.params.push((number, value.into()));
        self
    }
}

fn live() -> Case {
    row("status = 0", "UPDATE sessions SET status = 1, end_reason = 1, ended_at = 1 WHERE user_id = 1")
}

fn this_session() -> Case {
    param("session_id = $1", 1, NOBODY)
}

const OTHER_EPOCH: &str = "UPDATE users SET epoch = 4 WHERE id = 1";
const NO_USER: &str = "DELETE FROM users WHERE id = 1";
const LOCKED: &str = "UPDATE users SET state = 1 WHERE id = 1";
const GUEST: &str = "UPDATE users SET guest = 1 WHERE id = 1";
const SUSPENDED: &str = "UPDATE users SET suspended = 1 WHERE id = 1";
const DEACTIVATED: &str = "UPDATE users SET state = 2 WHERE id = 1";
const USED: &str = "UPDATE sessions SET acked_gen = gen, acked_at = 100 WHERE user_id = 1";

#[rustfmt::skip]
pub fn statements() -> Vec<Statement> {
    let plain = |name, params, cases| Statement { name, prepare: Vec::new(), params, cases };
    let after = |prepare, name, params, cases| Statement { name, prepare: vec![prepare], params, cases };
    vec![
        plain(
            "sessions::ROTATE",
            params![
                SESSION, REFRESH, None::<&str>, 0, NOW, [6; 104], NEW, NEW, 5_000, 5_000, 0, 0, "ip", "agent"
            ],
            vec![
                this_session(),
                live(),
                param("rt_hash = $2", 2, REFRESH_BEFORE),
                row("rt_exp > $5", "UPDATE sessions SET rt_exp = 1000 WHERE user_id = 1"),
                row("session_exp > $5", "UPDATE sessions SET session_exp = 1000 WHERE user_id = 1"),
                param("client_id IS NOT DISTINCT FROM $3", 3, "app"),
                param("api = $12", 12, 1),
                row(
                    "user_epoch >= (SELECT epoch FROM users WHERE users.id = sessions.user_id AND \
                     (state = 0 OR (state = 1 AND CAST($11 AS bigint) = 1)))",
                    OTHER_EPOCH,
                ),
                row("users.id = sessions.user_id", NO_USER),
                row("(state = 0 OR (state = 1 AND CAST($11 AS bigint) = 1))", DEACTIVATED),
                row("state = 1", DEACTIVATED).and_param(11, 1),
                row("CAST($11 AS bigint) = 1", LOCKED),
            ],
        ),
        plain(
            "sessions::BURN",
            params![SESSION, REFRESH_BEFORE, NOW, NEW, NEW, 5_000, 5_000, "ip", "agent"],
            vec![
                this_session(),
                live(),
                param("rt_prev_hash = $2", 2, REFRESH),
                row("acked_gen = gen - 1", USED),
                row("rt_exp > $3", "UPDATE sessions SET rt_exp = 1000 WHERE user_id = 1"),
                row("session_exp > $3", "UPDATE sessions SET session_exp = 1000 WHERE user_id = 1"),
                row("api = 0", "UPDATE sessions SET api = 1 WHERE user_id = 1"),
                row("client_id IS NULL", "UPDATE sessions SET client_id = 'app' WHERE user_id = 1"),
                row(
                    "user_epoch >= (SELECT epoch FROM users WHERE users.id = sessions.user_id AND state = 0)",
                    OTHER_EPOCH,
                ),
                row("users.id = sessions.user_id", NO_USER),
                row("state = 0", LOCKED),
            ],
        ),
        plain(
            "sessions::ACKNOWLEDGE",
            params![SESSION, ACCESS, NOW, 0, 31_000],
            vec![
                this_session(),
                live(),
                row("acked_gen = gen - 1", USED),
                param("at_hash = $2", 2, ACCESS_BEFORE),
            ],
        ),
        plain(
            "sessions::RESEAL",
            params![SESSION, ACCESS, NEW, [6; 104], 5_000],
            vec![
                this_session(),
                live(),
                param("at_hash = $2", 2, ACCESS_BEFORE),
                row("sealed IS NOT NULL", "UPDATE sessions SET sealed = NULL WHERE user_id = 1"),
            ],
        ),
        plain("sessions::END", params![SESSION, 7, NOW], vec![this_session(), live()]),
        plain(
            "sessions::END_DEVICE",
            params![1, "A", 6, NOW],
            vec![param("user_id = $1", 1, 9), param("device_id = $2", 2, "Z"), live()],
        ),
        plain(
            "sessions::END_ALL_OF",
            params![1, 2, NOW, LEAST],
            vec![param("user_id = $1", 1, 9), live(), param("session_id <> $4", 4, SESSION)],
        ),
        plain(
            "sessions::VERIFIED",
            params![1, 3, 50, NOW, "rehashed"],
            vec![
                param("id = $1", 1, 9),
                param("epoch = $2", 2, 2),
                param("password_changed_at IS NOT DISTINCT FROM $3", 3, None::<i64>),
                row("state = 0", LOCKED),
            ],
        ),
        plain(
            "sessions::DELETE_DEVICE",
            params![1, "A"],
            vec![param("user_id = $1", 1, 2), param("device_id = $2", 2, "Z")],
        ),
        plain(
            "sessions::BUMP_EPOCH",
            params![1, 3],
            vec![param("id = $1", 1, 9), param("epoch = $2", 2, 2)],
        ),
        plain("sessions::LOCK_USER", params![1], vec![param("id = $1", 1, 9)]),
        plain(
            "sessions::AS_VERIFIED",
            params![1, 3, 50],
            vec![
                param("id = $1", 1, 9),
                param("epoch = $2", 2, 2),
                param("password_changed_at IS NOT DISTINCT FROM $3", 3, None::<i64>),
                row("state = 0", LOCKED),
            ],
        ),
        plain("sessions::STILL_LIVES", params![SESSION], vec![this_session(), live()]),
        plain(
            "sessions::FORGET_DEVICES",
            params![1, ""],
            vec![param("user_id = $1", 1, 2), param("device_id <> $2", 2, "A")],
        ),
        after(
            GUEST,
            "users::UPGRADE",
            params![1, "new", NOW],
            vec![param("id = $1", 1, 9), row("guest = 1", "UPDATE users SET guest = 0 WHERE id = 1")],
        ),
        plain(
            "users::SET_PASSWORD",
            params![1, 3, 50, "new", NOW, 1],
            vec![
                param("id = $1", 1, 9),
                param("epoch = $2", 2, 2),
                param("password_changed_at IS NOT DISTINCT FROM $3", 3, 51),
                row("state <> 2", DEACTIVATED),
            ],
        ),
        plain("users::KEEP_SESSION", params![SESSION, 4], vec![this_session(), live()]),
        plain(
            "users::DEACTIVATE",
            params![1, 3, NOW, 1],
            vec![param("id = $1", 1, 9), param("epoch = $2", 2, 2), row("state <> 2", DEACTIVATED)],
        ),
        plain("users::LOCK", params![1], vec![param("id = $1", 1, 9), row("state = 0", DEACTIVATED)]),
        after(
            LOCKED,
            "users::UNLOCK",
            params![1],
            vec![param("id = $1", 1, 9), row("state = 1", DEACTIVATED)],
        ),
        plain(
            "users::SUSPEND",
            params![1, 1],
            vec![param("id = $1", 1, 9), param("suspended <> $2", 2, 0), row("state <> 2", DEACTIVATED)],
        ),
        plain("users::SET_ADMIN", params![1, 1], vec![param("id = $1", 1, 9), param("admin <> $2", 2, 0)]),
        plain(
            "users::NO_ADMIN",
            params![1],
            vec![param("id = $1", 1, 9), row("admin = 0", "UPDATE users SET admin = 1 WHERE id = 1")],
        ),
        plain(
            "devices::RENAME",
            params![1, "A", "new"],
            vec![param("user_id = $1", 1, 2), param("device_id = $2", 2, "Z")],
        ),
        plain("devices::IN_USE", params![1], vec![param("id = $1", 1, 9), row("state = 0", LOCKED)]),
        plain(
            "uia::ADVANCE",
            params![NAME, 6, "[1]", NEW],
            vec![param("id_hash = $1", 1, OTHER), param("revision = $2", 2, 5)],
        ),
        plain(
            "uia::CLOSE",
            params![NAME, 6],
            vec![param("id_hash = $1", 1, OTHER), param("revision = $2", 2, 7)],
        ),
        plain(
            "validations::SEND_AGAIN",
            params![SESSION, 1, 2, None::<&str>, 3_000],
            vec![
                param("id = $1", 1, NOBODY),
                param("sent = $2", 2, 3),
                row("validated_at IS NULL", "UPDATE validations SET validated_at = 5"),
            ],
        ),
        plain(
            "validations::DROP_EXPIRED",
            params![SESSION, 2_000],
            vec![param("id = $1", 1, NOBODY), param("expires_at <= $2", 2, NOW)],
        ),
        plain(
            "validations::VALIDATE",
            params![SESSION, 1, 2, NOW],
            vec![
                param("id = $1", 1, NOBODY),
                param("sent = $2", 2, 3),
                param("failures = $3", 3, 0),
                row("validated_at IS NULL", "UPDATE validations SET validated_at = 5"),
            ],
        ),
        plain(
            "validations::COUNT_FAILURE",
            params![SESSION, 1, 2],
            vec![param("id = $1", 1, NOBODY), param("sent = $2", 2, 3), param("failures = $3", 3, 0)],
        ),
        after(
            "UPDATE validations SET validated_at = 5",
            "validations::CONSUME",
            params![SESSION, NOW],
            vec![
                param("id = $1", 1, NOBODY),
                row("validated_at IS NOT NULL", "UPDATE validations SET validated_at = NULL"),
                param("expires_at > $2", 2, 2_000),
            ],
        ),
        plain(
            "threepids::REMOVE",
            params!["email", "alice@example.org", 1],
            vec![
                param("medium = $1", 1, "msisdn"),
                param("address = $2", 2, "c@d"),
                param("user_id = $3", 3, 2),
            ],
        ),
        plain(
            "threepids::STILL_OWNED",
            params!["email", "alice@example.org", 1],
            vec![
                param("medium = $1", 1, "msisdn"),
                param("address = $2", 2, "c@d"),
                param("user_id = $3", 3, 2),
            ],
        ),
        plain("threepids::REMOVE_ALL", params![1], vec![param("user_id = $1", 1, 2)]),
        plain(
            "threepids::ACTIVE",
            params![1],
            vec![param("id = $1", 1, 9), row("state <> 2", "UPDATE users SET state = 2")],
        ),
        plain(
            "expired::DELETE_VALIDATIONS",
            params![3_000, 10],
            vec![
                param("id IN (SELECT id FROM validations WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)", 2, 0),
                param("expires_at < $1", 1, 2_000),
            ],
        ),
        plain(
            "registration_tokens::USE_UP",
            params![NAME, NOW],
            vec![
                param("token_hash = $1", 1, OTHER),
                row("revoked_at IS NULL", "UPDATE registration_tokens SET revoked_at = 5"),
                param("(expires_at IS NULL OR expires_at > $2)", 2, 2_000),
                row("(uses_allowed IS NULL OR used < uses_allowed)", "UPDATE registration_tokens SET used = 5"),
            ],
        ),
        plain(
            "registration_tokens::REVOKE",
            params![NAME, NOW],
            vec![
                param("token_hash = $1", 1, OTHER),
                row("revoked_at IS NULL", "UPDATE registration_tokens SET revoked_at = 5"),
            ],
        ),
        after(
            "UPDATE sessions SET status = 1, end_reason = 1, ended_at = 500 WHERE user_id = 1",
            "expired::DELETE_ENDED",
            params![900, 10],
            vec![
                param(
                    "session_id IN (SELECT session_id FROM sessions WHERE status = 1 AND ended_at < $1 \
                     ORDER BY ended_at LIMIT $2)",
                    2,
                    0,
                ),
                row("status = 1", "UPDATE sessions SET status = 0 WHERE user_id = 1"),
                param("ended_at < $1", 1, 500),
            ],
        ),
        plain(
            "expired::DELETE_UIA",
            params![3_000, 10],
            vec![
                param(
                    "id_hash IN (SELECT id_hash FROM uia_sessions WHERE expires_at < $1 \
                     ORDER BY expires_at LIMIT $2)",
                    2,
                    0,
                ),
                param("expires_at < $1", 1, 2_000),
            ],
        ),
        plain(
            "login_tokens::SPEND",
            params![NAME, NOW],
            vec![param("token_hash = $1", 1, OTHER), param("expires_at > $2", 2, 2_000)],
        ),
        plain(
            "expired::DELETE_LOGIN_TOKENS",
            params![2_000, 10],
            vec![
                param(
                    "token_hash IN (SELECT token_hash FROM login_tokens WHERE expires_at <= $1 \
                     ORDER BY expires_at LIMIT $2)",
                    2,
                    0,
                ),
                param("expires_at <= $1", 1, 1_999),
            ],
        ),
        plain(
            "openid_tokens::INSERT",
            params![NEW, 1, 5_000],
            vec![
                row("id = $2", "DELETE FROM users WHERE id = 2").and_param(2, 9),
                row("state = 0", LOCKED),
                row("suspended = 0", SUSPENDED),
            ],
        ),
        plain(
            "expired::DELETE_OPENID_TOKENS",
            params![2_000, 10],
            vec![
                param(
                    "token_hash IN (SELECT token_hash FROM openid_tokens WHERE expires_at <= $1 \
                     ORDER BY expires_at LIMIT $2)",
                    2,
                    0,
                ),
                param("expires_at <= $1", 1, 1_999),
            ],
        ),
        after(
            USED,
            "expired::ERASE_SEALS",
            params![LEAST, GREATEST, 50, 100],
            vec![
                param("session_id > $1", 1, SESSION),
                param("session_id <= $2", 2, [0x10; 16]),
                live(),
                row("sealed IS NOT NULL", "UPDATE sessions SET sealed = NULL WHERE user_id = 1"),
                row("acked_gen = gen", "UPDATE sessions SET acked_gen = gen - 1 WHERE user_id = 1"),
                param("acked_at <= CASE WHEN api = 1 THEN CAST($3 AS bigint) ELSE CAST($4 AS bigint) END", 4, 99),
            ],
        ),
        after(
            USED,
            "expired::ERASE_SEAL",
            params![SESSION, 4],
            vec![
                this_session(),
                live(),
                row("acked_gen = gen", "UPDATE sessions SET acked_gen = gen - 1 WHERE user_id = 1"),
                param("gen = $2", 2, 3),
            ],
        ),
        plain(
            "expired::EXPIRE",
            params![LEAST, GREATEST, 9_001, 9],
            vec![
                param("session_id > $1", 1, SESSION),
                param("session_id <= $2", 2, [0x10; 16]),
                live(),
                param("session_exp < CAST($3 AS bigint)", 3, 9_000),
            ],
        ),
        plain(
            "expired::RAISE_META",
            params!["floor", 20],
            vec![param("meta.value < excluded.value", 2, 5)],
        ),
        plain(
            "expired::DELETE_MAIL",
            params![2_000, 10],
            vec![
                param("id IN (SELECT id FROM outbox WHERE expires_at <= $1 ORDER BY id LIMIT $2)", 2, 0),
                param("expires_at <= $1", 1, 1_999),
            ],
        ),
        plain(
            "outbox::TO_OWNER",
            params![1, "template", "{}", NOW, 2_000, ""],
            vec![
                param("t.user_id = $1", 1, 2),
                row("t.medium = 'email'", "UPDATE threepids SET medium = 'msisdn'"),
                param("d.device_id IS NULL", 6, "A"),
            ],
        ),
        plain("changes::TRIM", params![100], vec![param("at < $1", 1, 10)]),
    ]
}
