//! The OpenAPI description: served whole, true to the routes and to itself. That every answer fits it, `harness::Description` watches in all other tests.

mod examples;
mod routes;
mod served;
