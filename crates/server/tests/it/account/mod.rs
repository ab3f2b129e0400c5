//! `/account/...`

mod deactivate;
mod password;
mod whoami;
