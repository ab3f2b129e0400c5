-- The first schema. The same tables and columns as on PostgreSQL; instants are milliseconds since
-- 1970, flags are 0 and 1, "no limit" is 2^63-1.

create table meta (
  key   text primary key not null,
  value integer not null
) strict, without rowid;

create table users (
  id                  integer primary key not null, -- random, chosen by the program
  localpart           text not null unique,
  password_hash       text,
  admin               integer not null default 0,
  state               integer not null default 0,   -- 0 active, 1 locked, 2 deactivated
  suspended           integer not null default 0,
  guest               integer not null default 0,
  epoch               integer not null default 0,   -- a session of an older epoch is over
  created_at          integer not null,
  deactivated_at      integer,
  erased              integer not null default 0,
  password_changed_at integer,
  last_sign_in_at     integer
) strict;

create table devices (
  user_id      integer not null,
  device_id    text not null,
  display_name text,
  created_at   integer not null,
  primary key (user_id, device_id)
) strict, without rowid;

create table sessions (
  session_id   blob primary key not null,
  user_id      integer not null,
  user_epoch   integer not null,
  device_id    text,
  client_id    text,
  api          integer not null,                    -- 0 legacy, 1 OAuth
  scope        text,
  status       integer not null default 0,          -- 0 live, 1 ended
  end_reason   integer,
  gen          integer not null,
  acked_gen    integer not null,
  acked_at     integer,
  head_at      integer not null,
  rt_hash      blob,
  rt_prev_hash blob,
  sealed       blob,
  rt_exp       integer not null,
  session_exp  integer not null,
  at_hash      blob not null,
  at_exp       integer not null,
  at_prev_hash blob,
  at_prev_exp  integer,
  created_at   integer not null,
  ended_at     integer,
  last_seen    integer not null,
  ip           text,
  user_agent   text,
  dpop_jkt     text
) strict, without rowid;

-- No index on a column that a refresh changes.
create unique index sessions_live on sessions (user_id, device_id) where status = 0;
create index sessions_user on sessions (user_id);
create index sessions_ended on sessions (ended_at) where status = 1;

create table imported_tokens (
  hash       blob primary key not null,
  session_id blob not null,
  kind       integer not null
) strict, without rowid;

-- Changes that take a token away, numbered by the one row of feed.
create table changes (
  seq        integer primary key not null,
  kind       integer not null,
  session_id blob,
  user_id    integer,
  at         integer not null
) strict;

create table feed (
  id  integer primary key not null check (id = 1),
  seq integer not null
) strict;
insert into feed (id, seq) values (1, 0);

create table audit (
  id         integer primary key autoincrement,
  at         integer not null,
  actor      text,
  action     text not null,
  user_id    integer,
  session_id blob,
  generation integer,
  address    text,
  user_agent text,
  detail     text
) strict;
create index audit_user on audit (user_id, at);

create trigger audit_no_update before update on audit
begin select raise(abort, 'audit rows cannot be changed'); end;
create trigger audit_no_delete before delete on audit
begin select raise(abort, 'audit rows cannot be deleted'); end;

create table uia_sessions (
  id_hash      blob primary key not null,
  user_id      integer,
  operation    text not null,
  request_hash blob not null,
  completed    text not null,                       -- proofs, one a line
  created_at   integer not null,
  expires_at   integer not null,
  revision     integer not null default 0
) strict, without rowid;
create index uia_sessions_expiry on uia_sessions (expires_at);

create table registration_tokens (
  token_hash   blob primary key not null,
  name         text not null,                       -- the first characters, for listing
  uses_allowed integer,
  used         integer not null default 0,
  expires_at   integer,
  created_at   integer not null,
  revoked_at   integer
) strict, without rowid;
