-- E-mail addresses and phone numbers: those of accounts, those being validated, and the messages
-- that wait to be sent. No code that validates is kept: it is derived from a key file.

create table threepids (
  medium       text collate "C" not null,           -- email, msisdn
  address      text collate "C" not null,           -- in its canonical form
  user_id      bigint not null,
  validated_at bigint not null,
  added_at     bigint not null,
  primary key (medium, address)
);
create index threepids_user on threepids (user_id);

create table validations (
  id           bytea primary key,                   -- the sid
  secret_hash  bytea not null,                      -- SHA-256 of the client_secret
  purpose      text collate "C" not null,           -- register, account_password, account_3pid
  medium       text collate "C" not null,
  address      text collate "C" not null,
  send_attempt bigint not null,
  sent         bigint not null default 0,           -- messages so far: the code is derived from it
  failures     bigint not null default 0,           -- wrong codes since the last message
  next_link    text,
  created_at   bigint not null,
  expires_at   bigint not null,
  validated_at bigint,
  unique (purpose, medium, address, secret_hash)
);
create index validations_expiry on validations (expires_at);

create table outbox (
  id         bigint generated always as identity primary key,
  medium     text collate "C" not null,             -- email, msisdn
  recipient  text not null,
  template   text not null,
  params     text not null,                         -- JSON for the template; never a code
  attempts   bigint not null default 0,
  created_at bigint not null,
  due_at     bigint not null,
  expires_at bigint not null                        -- afterwards nobody wants it any more
);
create index outbox_due on outbox (due_at);
