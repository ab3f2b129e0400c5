-- E-mail addresses and phone numbers: those of accounts, those being validated, and the messages
-- that wait to be sent. No code that validates is kept: it is derived from a key file.

create table threepids (
  medium       text not null,                       -- email, msisdn
  address      text not null,                       -- in its canonical form
  user_id      integer not null,
  validated_at integer not null,
  added_at     integer not null,
  primary key (medium, address)
) strict, without rowid;
create index threepids_user on threepids (user_id);

create table validations (
  id           blob primary key not null,           -- the sid
  secret_hash  blob not null,                       -- SHA-256 of the client_secret
  purpose      text not null,                       -- register, account_password, account_3pid
  medium       text not null,
  address      text not null,
  send_attempt integer not null,
  sent         integer not null default 0,          -- messages so far: the code is derived from it
  failures     integer not null default 0,          -- wrong codes since the last message
  next_link    text,
  created_at   integer not null,
  expires_at   integer not null,
  validated_at integer,
  unique (purpose, medium, address, secret_hash)
) strict, without rowid;
create index validations_expiry on validations (expires_at);

create table outbox (
  id         integer primary key autoincrement,
  medium     text not null,                         -- email, msisdn
  recipient  text not null,
  template   text not null,
  params     text not null,                         -- JSON for the template; never a code
  attempts   integer not null default 0,
  created_at integer not null,
  due_at     integer not null,
  expires_at integer not null                       -- afterwards nobody wants it any more
) strict;
create index outbox_due on outbox (due_at);
