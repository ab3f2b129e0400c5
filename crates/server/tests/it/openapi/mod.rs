//! The OpenAPI description: served whole, true to the routes, to the specification's files and to
//! itself. That every answer fits it, `harness::Description` watches in all other tests.

mod contract;
mod difference;
mod examples;
mod routes;
mod served;
mod specification;
