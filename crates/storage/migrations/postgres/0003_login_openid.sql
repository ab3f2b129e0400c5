-- Tokens for one purpose, each bound to its account as it was: a login token signs in once, an OpenID
-- token tells a third party whose it is.

create table login_tokens (
  token_hash          bytea primary key,
  user_id             bigint not null,
  user_epoch          bigint not null,
  password_changed_at bigint,
  expires_at          bigint not null
);
create index login_tokens_expiry on login_tokens (expires_at);

create table openid_tokens (
  token_hash bytea primary key,
  user_id    bigint not null,
  user_epoch bigint not null,
  expires_at bigint not null
);
create index openid_tokens_expiry on openid_tokens (expires_at);
