-- Tokens for one purpose, each bound to its account as it was: a login token signs in once, an OpenID
-- token tells a third party whose it is.

create table login_tokens (
  token_hash          blob primary key not null,
  user_id             integer not null,
  user_epoch          integer not null,
  password_changed_at integer,
  expires_at          integer not null
) strict, without rowid;
create index login_tokens_expiry on login_tokens (expires_at);

create table openid_tokens (
  token_hash blob primary key not null,
  user_id    integer not null,
  user_epoch integer not null,
  expires_at integer not null
) strict, without rowid;
create index openid_tokens_expiry on openid_tokens (expires_at);
