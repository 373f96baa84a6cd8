//! JSON Schemas: whether a body fits.

use octelium_actors::router::{
    Route,
    plugins::{JsonSchema, Plugin},
};

use crate::proxy::{
    body,
    exchange::Exchange,
    json_body,
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
    let schema = schema.clone();
    let fits = body::looked_into(exchange, route, move |bytes| schema.check(&json_body::value(bytes)?)).await?;
    fits.map_err(|cause| {
        exchange.refusal = Some((refusal.clone(), None));
        Rejection::new(Code::BodyMismatch, format!("plugin `{}`: {cause}", plugin.name))
    })
}
