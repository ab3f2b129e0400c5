//! HTTP at the edge: every URL and its handler, and the work in the background.
//!
//! A request is a sentence: load what the rule needs, ask the rule (`ligand-protocol`), commit what
//! it answered (`ligand-storage`), reply. [`routes::router`] is the whole public surface;
//! [`serve::serve`] owns the listener; [`upkeep::start`] the jobs beside it.

pub mod app;
pub mod application_services;
pub mod captcha;
pub mod client_server;
pub mod clock;
pub mod config;
pub mod error;
pub mod extract;
pub mod identity;
pub mod keys;
pub mod limiters;
pub mod logging;
pub mod mail;
pub mod metrics;
pub mod middleware;
pub mod openapi;
pub mod outgoing;
pub mod pages;
pub mod passwords;
pub mod phone;
pub mod routes;
pub mod run;
pub mod serve;
pub mod standing;
pub mod tokens;
pub mod upkeep;
