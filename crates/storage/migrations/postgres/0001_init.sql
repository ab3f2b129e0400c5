-- The first schema. The same tables and columns as on SQLite; instants are milliseconds since
-- 1970, flags are 0 and 1, "no limit" is 2^63-1. Keys sort by their bytes, as they do on SQLite.

create table meta (
  key   text collate "C" primary key,
  value bigint not null
);

create table users (
  id                  bigint primary key,           -- random, chosen by the program
  localpart           text collate "C" not null unique,
  password_hash       text,
  admin               bigint not null default 0,
  state               bigint not null default 0,    -- 0 active, 1 locked, 2 deactivated
  suspended           bigint not null default 0,
  guest               bigint not null default 0,
  epoch               bigint not null default 0,    -- a session of an older epoch is over
  created_at          bigint not null,
  deactivated_at      bigint,
  erased              bigint not null default 0,
  password_changed_at bigint,
  last_sign_in_at     bigint
);

create table devices (
  user_id      bigint not null,
  device_id    text collate "C" not null,
  display_name text,
  created_at   bigint not null,
  primary key (user_id, device_id)
);

create table sessions (
  session_id   bytea primary key,
  user_id      bigint not null,
  user_epoch   bigint not null,
  device_id    text collate "C",
  client_id    text collate "C",
  api          bigint not null,                     -- 0 legacy, 1 OAuth
  scope        text,
  status       bigint not null default 0,           -- 0 live, 1 ended
  end_reason   bigint,
  gen          bigint not null,
  acked_gen    bigint not null,
  acked_at     bigint,
  head_at      bigint not null,
  rt_hash      bytea,
  rt_prev_hash bytea,
  sealed       bytea,
  rt_exp       bigint not null,
  session_exp  bigint not null,
  at_hash      bytea not null,
  at_exp       bigint not null,
  at_prev_hash bytea,
  at_prev_exp  bigint,
  created_at   bigint not null,
  ended_at     bigint,
  last_seen    bigint not null,
  ip           text,
  user_agent   text,
  dpop_jkt     text
) with (fillfactor = 70);                           -- room for a refresh to stay on its page

-- No index on a column that a refresh changes.
create unique index sessions_live on sessions (user_id, device_id) where status = 0;
create index sessions_user on sessions (user_id);
create index sessions_ended on sessions (ended_at) where status = 1;

create table imported_tokens (
  hash       bytea primary key,
  session_id bytea not null,
  kind       bigint not null
);

-- Changes that take a token away, numbered by the one row of feed.
create table changes (
  seq        bigint primary key,
  kind       bigint not null,
  session_id bytea,
  user_id    bigint,
  at         bigint not null
);

create table feed (
  id  bigint primary key check (id = 1),
  seq bigint not null
);
insert into feed (id, seq) values (1, 0);

create table audit (
  id         bigint generated always as identity primary key,
  at         bigint not null,
  actor      text,
  action     text not null,
  user_id    bigint,
  session_id bytea,
  generation bigint,
  address    text,
  user_agent text,
  detail     text
);
create index audit_user on audit (user_id, at);

create function audit_refuse() returns trigger language plpgsql as $$
begin
  raise exception 'audit rows cannot be changed or deleted';
end $$;
create trigger audit_append_only before update or delete on audit
  for each row execute function audit_refuse();
create trigger audit_no_truncate before truncate on audit
  for each statement execute function audit_refuse();

create table uia_sessions (
  id_hash      bytea primary key,
  user_id      bigint,
  operation    text not null,
  request_hash bytea not null,
  completed    text not null,                       -- proofs, one a line
  created_at   bigint not null,
  expires_at   bigint not null,
  revision     bigint not null default 0
);
create index uia_sessions_expiry on uia_sessions (expires_at);

create table registration_tokens (
  token_hash   bytea primary key,
  name         text not null,                       -- the first characters, for listing
  uses_allowed bigint,
  used         bigint not null default 0,
  expires_at   bigint,
  created_at   bigint not null,
  revoked_at   bigint
);
