//! JSON Schemas: whether a body fits.

use octelium_actors::router::{
    Route,
    plugins::{JsonSchema, Plugin},
};

use crate::proxy::{
    body,
    exchange::Exchange,
    respond::{Code, Rejection},
};

/// Reads the body whole, and compares it.
///
/// # Errors
/// It can't be read, isn't JSON, has a key twice or doesn't fit.
pub(super) async fn check(
    exchange: &mut Exchange,
    route: &Route,
    plugin: &Plugin,
    JsonSchema { schema, refusal }: &JsonSchema,
) -> Result<(), Rejection> {
    body::fits(exchange, route, schema).await?.map_err(|cause| {
        exchange.own_answer = Some((refusal.clone(), None));
        Rejection::new(Code::BodyMismatch, format!("plugin `{}`: {cause}", plugin.name))
    })
}
