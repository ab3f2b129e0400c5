//! The table: for each term, what bends the scene so that this term alone refuses.

use ligand_storage::{Value, params};

/// Sets the scene, whatever was there. User 1 is as every statement likes it and user 2 is a
/// bystander; session 11… has an unused head. Times are small numbers; now is 1000.
pub const SCENE: [&str; 16] = [
    "DELETE FROM sessions",
    "DELETE FROM users",
    "DELETE FROM devices",
    "DELETE FROM uia_sessions",
    "DELETE FROM registration_tokens",
    "DELETE FROM changes",
    "DELETE FROM meta",
    "INSERT INTO users (id, localpart, password_hash, epoch, created_at, password_changed_at) \
     VALUES (1, 'alice', 'hash', 3, 0, 50), (2, 'bob', 'hash', 3, 0, 50)",
    "INSERT INTO devices (user_id, device_id, created_at) VALUES (1, 'A', 0)",
    "INSERT INTO sessions (session_id, user_id, user_epoch, device_id, api, gen, acked_gen, head_at, rt_hash, \
        rt_prev_hash, sealed, rt_exp, session_exp, at_hash, at_exp, at_prev_hash, at_prev_exp, created_at, last_seen) \
     SELECT token_hash, 1, 3, 'A', 0, 4, 3, 0, token_hash, token_hash, token_hash, 2000, 9000, token_hash, 2000, \
        token_hash, 2000, 0, 0 FROM registration_tokens",
    "INSERT INTO meta (key, value) VALUES ('floor', 10)",
    "INSERT INTO changes (seq, kind, user_id, at) VALUES (1, 2, 1, 10)",
    "SELECT 1",
    "SELECT 1",
    "SELECT 1",
    "SELECT 1",
];
